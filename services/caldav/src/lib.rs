#![forbid(unsafe_code)]
//! Calendars and contacts over CalDAV and CardDAV, kept in git.

pub mod dav;
pub mod users;
pub mod repository { #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)] pub enum Home { Calendars, Contacts } impl Home { pub const fn folder(self) -> &'static str { match self { Self::Calendars => "calendars", Self::Contacts => "contacts" } } } }
