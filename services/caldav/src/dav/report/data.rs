//! The data of resources inside reports: `calendar-data` (RFC 4791, section 9.6) and `address-data` (RFC 6352, section
//! 10.4).

use std::borrow::Cow;

use http::StatusCode;

use super::filter;
use crate::calendar::{CalendarData, ComponentData, DataError, PropertyData, TimeRange, Zone};
use crate::contact::AddressData;
use crate::contentline;
use crate::dav::error::{Failure, Refusal};
use crate::dav::multistatus::{Property, Selection, WriteData};
use crate::dav::properties::{CollectionFacts, Resource};
use crate::dav::xml::{CALDAV, CARDDAV, Element, Writer};
use crate::repository::Home;

/// A request for data.
#[derive(Debug, Clone)]
pub(super) enum DataRequest {
    /// Of calendar objects.
    Calendar(CalendarData),
    /// Of cards.
    Card(AddressData),
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
            calendar_data(element).map(DataRequest::Calendar).map(Some)
        }
        Home::Contacts if element.name.is(CARDDAV, "address-data") => {
            let content_type = element.attribute("content-type").unwrap_or("text/vcard");
            // Cards are given as they were stored, whatever the version: nothing is converted.
            if !content_type.eq_ignore_ascii_case("text/vcard") {
                return Err(Failure::forbidden("CR:supported-address-data"));
            }
            Ok(Some(DataRequest::Card(address_data(element)?)))
        }
        _ => Ok(None),
    }
}

fn calendar_data(element: &Element) -> Result<CalendarData, Failure> {
    let range = |local: &str| -> Result<Option<TimeRange>, Failure> {
        let Some(element) = element.child(CALDAV, local) else { return Ok(None) };
        let range = filter::range(element)?;
        if range.start.is_none() || range.end.is_none() {
            return Err(malformed("expand and its siblings have a start and an end"));
        }
        Ok(Some(range))
    };
    Ok(CalendarData {
        component: element.child(CALDAV, "comp").map(component_data).transpose()?,
        expand: range("expand")?,
        limit_recurrence_set: range("limit-recurrence-set")?,
        limit_freebusy_set: range("limit-freebusy-set")?,
    })
}

fn component_data(element: &Element) -> Result<ComponentData, Failure> {
    let named = |local: &'static str| element.children().filter(move |child| child.name.is(CALDAV, local));
    let all_properties = element.child(CALDAV, "allprop").is_some();
    let all_components = element.child(CALDAV, "allcomp").is_some();
    let properties = named("prop").map(|property| {
        Ok(PropertyData { name: name(property)?, no_value: property.attribute("novalue") == Some("yes") })
    });
    Ok(ComponentData {
        name: name(element)?,
        properties: if all_properties { None } else { Some(properties.collect::<Result<_, Failure>>()?) },
        components: if all_components {
            None
        } else {
            Some(named("comp").map(component_data).collect::<Result<_, _>>()?)
        },
    })
}

fn address_data(element: &Element) -> Result<AddressData, Failure> {
    let properties: Vec<_> = element.children().filter(|child| child.name.is(CARDDAV, "prop")).collect();
    if properties.is_empty() || element.child(CARDDAV, "allprop").is_some() {
        return Ok(AddressData::default());
    }
    let properties = properties
        .into_iter()
        .map(|property| Ok((name(property)?, property.attribute("novalue") == Some("yes"))));
    Ok(AddressData { properties: Some(properties.collect::<Result<_, Failure>>()?) })
}

fn name(element: &Element) -> Result<String, Failure> {
    element.attribute("name").map(str::to_owned).ok_or_else(|| malformed("comp and prop have a name"))
}

fn malformed(reason: &'static str) -> Failure {
    Failure::status(StatusCode::BAD_REQUEST).because(reason)
}

/// What a report gives of each resource: its data, or only its properties.
pub(super) struct Rendering<'s> {
    wanted: Option<&'s DataRequest>,
}

impl<'s> Rendering<'s> {
    /// The rendering that a selection asks for.
    pub(super) fn of(selection: &'s Selection<DataRequest>) -> Self {
        let wanted = match selection {
            Selection::These(properties) | Selection::All(properties) => {
                properties.iter().find_map(|property| match property {
                    Property::Data(wanted) => Some(wanted),
                    Property::Live(_) | Property::Other(_) => None,
                })
            }
            Selection::Names => None,
        };
        Self { wanted }
    }

    /// Whether the bytes of resources are needed at all.
    pub(super) const fn reads(&self) -> bool {
        self.wanted.is_some()
    }

    /// The data of a resource as asked for.
    pub(super) fn render<'b>(
        &self,
        bytes: &'b [u8],
        facts: &CollectionFacts,
    ) -> Result<Cow<'b, str>, Refusal> {
        match self.wanted {
            Some(DataRequest::Calendar(data)) if !data.is_whole() => {
                let zone = Zone::of_collection(&facts.properties);
                let part = data.apply(bytes, &zone).map_err(|error| match error {
                    DataError::TooManyInstances => {
                        Failure::forbidden("D:number-of-matches-within-limits").because(error.to_string())
                    }
                    DataError::Syntax(_) => Failure::forbidden("C:valid-calendar-data"),
                })?;
                Ok(Cow::Owned(text(&part).into_owned()))
            }
            Some(DataRequest::Card(data)) if data.properties.is_some() => {
                let part = data.apply(bytes).map_err(|_| Failure::forbidden("CR:valid-address-data"))?;
                Ok(Cow::Owned(text(&part).into_owned()))
            }
            _ => Ok(text(bytes)),
        }
    }
}

/// Stored bytes as text. A client may have folded a line inside a character; XML cannot carry such bytes, so the lines
/// come unfolded then, which means the same (RFC 5545, section 3.1).
fn text(bytes: &[u8]) -> Cow<'_, str> {
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
            Self::Calendar(_) => "C:calendar-data",
            Self::Card(_) => "CR:address-data",
        }
    }
}
