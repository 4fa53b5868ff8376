//! Filters out of XML: `CALDAV:filter` (RFC 4791, section 9.7) and `CARDDAV:filter` (RFC 6352, section 10.5).

use crate::calendar::{
    ComponentCondition, ComponentFilter, Filter, PropertyCondition, PropertyFilter, TimeRange,
};
use crate::contact;
use crate::contentline::matching::{Collation, MatchType, ParameterCondition, ParameterFilter, TextMatch};
use crate::dav::error::Failure;
use crate::dav::xml::{CALDAV, CARDDAV, Element};

/// A language of filters: the namespace of its elements, its defaults, its preconditions.
struct Dialect {
    namespace: &'static str,
    collation: Collation,
    invalid: &'static str,
    unsupported_collation: &'static str,
}

const CALENDAR: Dialect = Dialect {
    namespace: CALDAV,
    collation: Collation::AsciiCasemap,
    invalid: "C:valid-filter",
    unsupported_collation: "C:supported-collation",
};

const CONTACT: Dialect = Dialect {
    namespace: CARDDAV,
    collation: Collation::UnicodeCasemap,
    invalid: "CR:valid-filter",
    unsupported_collation: "CR:supported-collation",
};

/// Reads the filter of a `calendar-query`.
pub(super) fn calendar(report: &Element) -> Result<Filter, Failure> {
    let invalid = || CALENDAR.invalid("the filter is about one VCALENDAR");
    let filter = report.child(CALDAV, "filter").ok_or_else(invalid)?;
    let outer = filter.child(CALDAV, "comp-filter").ok_or_else(invalid)?;
    let calendar = component(outer)?;
    if calendar.name.eq_ignore_ascii_case("VCALENDAR") { Ok(Filter { calendar }) } else { Err(invalid()) }
}

/// Reads the filter of an `addressbook-query`.
pub(super) fn contact(report: &Element) -> Result<contact::Filter, Failure> {
    let Some(filter) = report.child(CARDDAV, "filter") else {
        return Err(CONTACT.invalid("there is no filter"));
    };
    let properties =
        named(filter, "prop-filter", &CONTACT).map(contact_property).collect::<Result<_, _>>()?;
    Ok(contact::Filter { test: test(filter)?, properties })
}

/// Reads a `time-range`, if there is one among the children of `parent`.
pub(super) fn time_range(parent: &Element) -> Result<Option<TimeRange>, Failure> {
    parent.child(CALDAV, "time-range").map(range).transpose()
}

/// Reads the `start` and `end` attributes of a time range: UTC, one of them at least (RFC 4791, section 9.9).
pub(super) fn range(element: &Element) -> Result<TimeRange, Failure> {
    TimeRange::parse(element.attribute("start"), element.attribute("end"))
        .ok_or_else(|| CALENDAR.invalid("a time range has a start or an end in UTC, in this order"))
}

fn component(element: &Element) -> Result<ComponentFilter, Failure> {
    let name = CALENDAR.name(element)?;
    let condition = if element.child(CALDAV, "is-not-defined").is_some() {
        ComponentCondition::NotDefined
    } else {
        ComponentCondition::Defined {
            time_range: time_range(element)?,
            properties: named(element, "prop-filter", &CALENDAR).map(property).collect::<Result<_, _>>()?,
            components: named(element, "comp-filter", &CALENDAR).map(component).collect::<Result<_, _>>()?,
        }
    };
    Ok(ComponentFilter { name, condition })
}

fn property(element: &Element) -> Result<PropertyFilter, Failure> {
    let name = CALENDAR.name(element)?;
    let condition = if element.child(CALDAV, "is-not-defined").is_some() {
        PropertyCondition::NotDefined
    } else {
        PropertyCondition::Defined {
            time_range: time_range(element)?,
            text: element.child(CALDAV, "text-match").map(|text| CALENDAR.text_match(text)).transpose()?,
            parameters: CALENDAR.parameters(element)?,
        }
    };
    Ok(PropertyFilter { name, condition })
}

fn contact_property(element: &Element) -> Result<contact::PropertyFilter, Failure> {
    let name = CONTACT.name(element)?;
    let condition = if element.child(CARDDAV, "is-not-defined").is_some() {
        contact::PropertyCondition::NotDefined
    } else {
        let texts = named(element, "text-match", &CONTACT);
        contact::PropertyCondition::Defined {
            test: test(element)?,
            texts: texts.map(|text| CONTACT.text_match(text)).collect::<Result<_, _>>()?,
            parameters: CONTACT.parameters(element)?,
        }
    };
    Ok(contact::PropertyFilter { name, condition })
}

fn test(element: &Element) -> Result<contact::Test, Failure> {
    match element.attribute("test") {
        None | Some("anyof") => Ok(contact::Test::AnyOf),
        Some("allof") => Ok(contact::Test::AllOf),
        Some(_) => Err(CONTACT.invalid("a test is anyof or allof")),
    }
}

fn named<'e>(parent: &'e Element, local: &'e str, dialect: &Dialect) -> impl Iterator<Item = &'e Element> {
    let namespace = dialect.namespace;
    parent.children().filter(move |child| child.name.is(namespace, local))
}

impl Dialect {
    fn invalid(&self, reason: &'static str) -> Failure {
        Failure::forbidden(self.invalid).because(reason)
    }

    fn name(&self, element: &Element) -> Result<String, Failure> {
        let name = element.attribute("name").filter(|name| !name.is_empty());
        name.map(str::to_owned).ok_or_else(|| self.invalid("a filter has a name"))
    }

    fn parameters(&self, element: &Element) -> Result<Vec<ParameterFilter>, Failure> {
        named(element, "param-filter", self)
            .map(|element| {
                let condition = match element.child(self.namespace, "text-match") {
                    _ if element.child(self.namespace, "is-not-defined").is_some() => {
                        ParameterCondition::NotDefined
                    }
                    Some(text) => ParameterCondition::Text(self.text_match(text)?),
                    None => ParameterCondition::Defined,
                };
                Ok(ParameterFilter { name: self.name(element)?, condition })
            })
            .collect()
    }

    fn text_match(&self, element: &Element) -> Result<TextMatch, Failure> {
        let collation = match element.attribute("collation") {
            None | Some("default") => self.collation,
            Some(name) => {
                Collation::of_name(name).ok_or_else(|| Failure::forbidden(self.unsupported_collation))?
            }
        };
        let match_type = match element.attribute("match-type") {
            None | Some("contains") => MatchType::Contains,
            Some("equals") => MatchType::Equals,
            Some("starts-with") => MatchType::StartsWith,
            Some("ends-with") => MatchType::EndsWith,
            Some(_) => return Err(self.invalid("a match-type is equals, contains, starts-with or ends-with")),
        };
        let negate = match element.attribute("negate-condition") {
            None | Some("no") => false,
            Some("yes") => true,
            Some(_) => return Err(self.invalid("a negate-condition is yes or no")),
        };
        Ok(TextMatch { text: element.text(), collation, match_type, negate })
    }
}
