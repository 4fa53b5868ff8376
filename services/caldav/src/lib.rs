#![forbid(unsafe_code)]
//! Calendars and contacts over CalDAV and CardDAV, kept in git.
//!
//! | module | what it is |
//! |---|---|
//! | [`repository`] | one git repository per user in redb tables: snapshots, changes, synchronisation, export |
//! | [`index`] | what queries need to know of a resource without reading it |
//! | [`calendar`] | iCalendar: validation, time zones, recurrence, filters |
//! | [`contact`] | vCard: validation and filters |
//! | [`contentline`] | the lines that iCalendar and vCard are made of |

pub mod calendar;
pub mod contact;
pub mod contentline;
pub mod index;
pub mod repository;
