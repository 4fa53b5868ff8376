//! The data of resources inside reports: `calendar-data` (RFC 4791, section 9.6) and `address-data` (RFC 6352, section
//! 10.4).

use std::borrow::Cow;

use crate::contentline;
use crate::dav::error::Failure;
use crate::dav::multistatus::{Property, Selection, WriteData};
use crate::dav::properties::Resource;
use crate::dav::xml::{CALDAV, CARDDAV, Element, Writer};
use crate::repository::Home;

/// A request for data.
#[derive(Debug, Clone)]
pub(super) enum DataRequest {
    /// Of calendar objects.
    Calendar,
    /// Of cards.
    Card,
}

/// Recognises a request for data in a report about `home`.
pub(super) fn read(element: &Element, home: Home) -> Result<Option<DataRequest>, Failure> {
    match home {
        Home::Calendars if element.name.is(CALDAV, "calendar-data") => {
            let content_type = element.attribute("content-type").unwrap_or("text/calendar");
            let version = element.attribute("version").unwrap_or("2.0");
            if !content_type.eq_ignore_ascii_case("text/calendar") || version != "2.0" {
                return Err(Failure::forbidden("C:supported-calendar-data"));
            }
            Ok(Some(DataRequest::Calendar))
        }
        Home::Contacts if element.name.is(CARDDAV, "address-data") => {
            let content_type = element.attribute("content-type").unwrap_or("text/vcard");
            // Cards are given as they were stored, whatever the version: nothing is converted.
            if !content_type.eq_ignore_ascii_case("text/vcard") {
                return Err(Failure::forbidden("CR:supported-address-data"));
            }
            Ok(Some(DataRequest::Card))
        }
        _ => Ok(None),
    }
}

/// Whether a selection asks for data.
pub(super) fn is_wanted(selection: &Selection<DataRequest>) -> bool {
    match selection {
        Selection::These(properties) | Selection::All(properties) => {
            properties.iter().any(|property| matches!(property, Property::Data(_)))
        }
        Selection::Names => false,
    }
}

/// Stored bytes as text. A client may have folded a line inside a character; XML cannot carry such bytes, so the lines
/// come unfolded then, which means the same (RFC 5545, section 3.1).
pub(super) fn text(bytes: &[u8]) -> Cow<'_, str> {
    match core::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => contentline::decode(bytes).unwrap_or_else(|_| String::from_utf8_lossy(bytes)),
    }
}

impl WriteData for DataRequest {
    fn write(&self, _: &Resource<'_>, data: Option<&str>, writer: &mut Writer) -> bool {
        let Some(data) = data else { return false };
        writer.element(self.tag(), data);
        true
    }

    fn tag(&self) -> &'static str {
        match self {
            Self::Calendar => "C:calendar-data",
            Self::Card => "CR:address-data",
        }
    }
}
