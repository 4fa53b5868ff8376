//! XML as WebDAV uses it: small request bodies read into elements, large answers written straight to bytes.

mod name;
mod read;
mod write;

pub(crate) use name::{APPLE, CALDAV, CALENDAR_SERVER, CARDDAV, DAV, Name};
pub(crate) use read::{Element, XmlError, parse};
pub(crate) use write::Writer;
