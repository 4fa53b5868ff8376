#![forbid(unsafe_code)]
//! Calendars and contacts over CalDAV and CardDAV, kept in git.
//!
//! | module | what it is |
//! |---|---|
//! | [`service`] | requests and answers between the platform and the protocol |
//! | [`certificate`] | the operator's certificate, or one of our own making |
//! | [`dav`] | the protocol: a request and a transaction in, an answer out |
//! | [`configuration`] | what an operator decides |
//! | [`users`] | passwords, who has given the right one, and who is guessing |
//! | [`repository`] | one git repository per user in redb tables: snapshots, changes, synchronisation, export |
//! | [`index`] | what queries need to know of a resource without reading it |
//! | [`calendar`] | iCalendar: validation, time zones, recurrence, filters |
//! | [`contact`] | vCard: validation and filters |
//! | [`contentline`] | the lines that iCalendar and vCard are made of |

pub mod calendar;
pub mod certificate;
pub mod configuration;
pub mod contact;
pub mod contentline;
pub mod dav;
pub mod index;
pub mod reload;
pub mod repository;
pub mod service;
pub mod users;
