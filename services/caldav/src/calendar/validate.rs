//! What a calendar object must be to be stored (RFC 4791 clauses 4.1 and 5.3.2.1), and its summary for the index.

use std::fmt;
use std::ops::ControlFlow;

use super::object::Object;
use super::rule::{Rule, RuleError};
use super::time::{DAY, DateTime, Duration};
use super::zone::Zone;
use super::{MAX_INSTANCES, TimeRange};
use crate::contentline::{Component, ParseError, decode};
use crate::index::{self, Span, Summary};
use crate::repository::MAX_RESOURCE_BYTES;

/// Longest UID in bytes: it is a key of the index. RFC 7986 asks for at most 255 octets; some systems make more.
pub const MAX_UID_BYTES: usize = 1000;

/// Most overrides of one object: what a query does with them grows faster than their number. Forty years of weeks.
const MAX_OVERRIDES: usize = 2000;

/// Why a calendar object cannot be stored. All are the peer's fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invalid {
    /// Larger than [`MAX_RESOURCE_BYTES`] (`max-resource-size`).
    TooLarge,
    /// Not iCalendar (`valid-calendar-data`).
    Syntax(ParseError),
    /// Not one VCALENDAR of version 2.0 (`valid-calendar-data`).
    NotOneCalendar,
    /// A property is missing or malformed (`valid-calendar-data`).
    Property {
        /// In which component.
        component: String,
        /// Which property.
        property: &'static str,
    },
    /// It has a METHOD (`valid-calendar-object-resource`).
    Method,
    /// It has components of different types, or two masters (`valid-calendar-object-resource`).
    MixedComponents,
    /// A component has no UID, or another than its siblings (`valid-calendar-object-resource`).
    Uid,
    /// It has no component that the server knows (`supported-calendar-component`).
    UnsupportedComponent,
    /// It has more than [`MAX_INSTANCES`] instances, or more than 2,000 overrides (`max-instances`).
    TooManyInstances,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => write!(f, "the object has more than {MAX_RESOURCE_BYTES} bytes"),
            Self::Syntax(error) => error.fmt(f),
            Self::NotOneCalendar => f.write_str("the object is not one VCALENDAR of version 2.0"),
            Self::Property { component, property } => {
                write!(f, "{component} has no {property}, or one that is malformed")
            }
            Self::Method => f.write_str("a stored calendar object has no METHOD"),
            Self::MixedComponents => f.write_str("the object has components of several types or series"),
            Self::Uid => f.write_str("the components do not have one and the same UID"),
            Self::UnsupportedComponent => f.write_str("the object has no component that this server stores"),
            Self::TooManyInstances => write!(f, "the object has more than {MAX_INSTANCES} instances"),
        }
    }
}

impl std::error::Error for Invalid {}

impl From<ParseError> for Invalid {
    fn from(error: ParseError) -> Self {
        Self::Syntax(error)
    }
}

/// Checks a calendar object to be stored, and sums it up for the index.
///
/// # Errors
/// See [`Invalid`].
pub fn validate(bytes: &[u8]) -> Result<Summary, Invalid> {
    if bytes.len() > MAX_RESOURCE_BYTES {
        return Err(Invalid::TooLarge);
    }
    let text = decode(bytes)?;
    let object = Object::parse(&text, &Zone::Utc).map_err(|error| match error {
        ParseError::Outside { line: 1 } => Invalid::NotOneCalendar,
        error => Invalid::Syntax(error),
    })?;
    let calendar = object.calendar();
    if calendar.property("VERSION").is_some_and(|version| version.value.trim_ascii() != "2.0") {
        return Err(Invalid::NotOneCalendar);
    }
    if calendar.property("METHOD").is_some() {
        return Err(Invalid::Method);
    }

    let mut found: Option<(index::Component, String)> = None;
    let (mut masters, mut parts_of_series) = (0, 0);
    for part in &calendar.components {
        let Some(kind) = index::Component::of_name(part.name) else { continue };
        let uid = uid(part)?;
        match &found {
            None => found = Some((kind, uid)),
            Some((other, _)) if *other != kind => return Err(Invalid::MixedComponents),
            Some((_, other)) if *other != uid => return Err(Invalid::Uid),
            Some(_) => {}
        }
        parts_of_series += 1;
        masters += usize::from(part.property("RECURRENCE-ID").is_none());
        check_properties(kind, part)?;
    }
    let (component, uid) = found.ok_or(Invalid::UnsupportedComponent)?;
    if masters > 1 {
        return Err(Invalid::MixedComponents);
    }
    if parts_of_series > MAX_OVERRIDES {
        return Err(Invalid::TooManyInstances);
    }
    let (span, recurring) = span(&object, component)?;
    Ok(Summary { component, uid, recurring, span })
}

fn uid(component: &Component<'_>) -> Result<String, Invalid> {
    let mut uids = component.all("UID");
    let uid = uids.next().ok_or(Invalid::Uid)?.text();
    let sound = !uid.is_empty() && uid.len() <= MAX_UID_BYTES && !uid.chars().any(char::is_control);
    if sound && uids.next().is_none() { Ok(uid.into_owned()) } else { Err(Invalid::Uid) }
}

/// Checks the properties that instances are made of. The values of EXDATE and RDATE that cannot be read are left out
/// later: clients leave empty ones behind.
fn check_properties(kind: index::Component, component: &Component<'_>) -> Result<(), Invalid> {
    let bad = |property| Invalid::Property { component: component.name.to_ascii_uppercase(), property };
    for name in ["DTSTART", "DTEND", "DUE", "RECURRENCE-ID"] {
        let mut all = component.all(name);
        if all.next().is_some_and(|property| DateTime::parse(property.value).is_none())
            || all.next().is_some()
        {
            return Err(bad(name));
        }
    }
    if component.property("DURATION").is_some_and(|property| Duration::parse(property.value).is_none()) {
        return Err(bad("DURATION"));
    }
    let starts = component.property("DTSTART").is_some();
    if kind == index::Component::Event && !starts {
        return Err(bad("DTSTART"));
    }
    for property in component.all("RRULE") {
        match Rule::parse(property.value) {
            Err(RuleError::Malformed) => return Err(bad("RRULE")),
            Ok(_) | Err(RuleError::Unsupported) if !starts => return Err(bad("DTSTART")),
            Ok(rule) if rule.count.is_some_and(|count| count > MAX_INSTANCES) => {
                return Err(Invalid::TooManyInstances);
            }
            Ok(_) | Err(RuleError::Unsupported) => {}
        }
    }
    Ok(())
}

/// Room for what floats: offsets from UTC go from -12 to +14 hours, and what is a day long is one in its zone.
const FLOATING_ROOM: i64 = DAY + 2 * 3600;

/// A span that holds all instances, and whether there can be several.
fn span(object: &Object<'_>, kind: index::Component) -> Result<(Span, bool), Invalid> {
    let parts = || object.calendar().components.iter().filter(|part| part.is(kind.name()));
    let recurring = parts()
        .any(|part| ["RRULE", "RDATE", "RECURRENCE-ID"].iter().any(|name| part.property(name).is_some()));
    let has = |part: &Component<'_>, name| part.property(name).is_some();
    let bounded = match kind {
        index::Component::Event => true,
        // To-dos without dates are matched by when they were made or done, or always (RFC 4791 clause 9.9).
        index::Component::Todo => parts().all(|part| has(part, "DTSTART") || has(part, "DUE")),
        index::Component::Journal => parts().all(|part| has(part, "DTSTART")),
        index::Component::FreeBusy => {
            parts().all(|part| has(part, "DTSTART") && has(part, "DTEND") && !has(part, "FREEBUSY"))
        }
        index::Component::Availability | index::Component::Card => false,
    };
    if !bounded {
        return Ok((Span::ALWAYS, recurring));
    }

    let rules: Vec<Rule> =
        parts().flat_map(|part| part.all("RRULE")).filter_map(|rule| Rule::parse(rule.value).ok()).collect();
    let endless = rules.iter().any(|rule| rule.count.is_none() && rule.until.is_none());
    // A rule with UNTIL is not walked through: its end is known. COUNT is at most MAX_INSTANCES.
    let until = rules
        .iter()
        .filter(|rule| rule.count.is_none())
        .filter_map(|rule| rule.until)
        .map(|until| until.local)
        .max();
    let walked = if endless || until.is_some() {
        // The starts that do not come from rules, and the first of each rule.
        TimeRange { start: None, end: Some(i64::MIN) }
    } else {
        TimeRange::ALWAYS
    };
    let mut span = Span { start: i64::MAX, end: i64::MIN };
    let mut longest = 0;
    let mut instances = 0;
    let visited = object.visit(kind.name(), walked, &mut |instance| {
        let start = instance.start.or(instance.end).map_or(i64::MIN, |moment| moment.instant);
        let end = instance.end.or(instance.start).map_or(i64::MAX, |moment| moment.instant);
        // Without an end, a date lasts a day.
        let end = if instance.end.is_none() { end.saturating_add(DAY) } else { end };
        span.start = span.start.min(start).min(end);
        span.end = span.end.max(end).max(start);
        longest = longest.max(end.saturating_sub(start));
        instances += 1;
        if instances > MAX_INSTANCES { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    if visited.is_break() {
        return Err(Invalid::TooManyInstances);
    }
    if let Some(until) = until {
        // UNTIL may be local or a date: room for both, and for overrides that shift what follows them.
        span.end =
            span.end.max(until.saturating_add(2 * DAY).saturating_add(longest).saturating_add(FLOATING_ROOM));
    }
    // Also where EXDATE takes DTSTART out, what the rule makes comes after it.
    for start in parts().filter_map(|part| object.moment(part.property("DTSTART")?)) {
        span.start = span.start.min(start.instant);
    }
    if endless || rules.len() > 1 || span.start > span.end {
        span.end = i64::MAX;
    }
    if has_this_and_future(object, kind) || span.start == i64::MAX {
        span = Span::ALWAYS;
    }
    if object.floated() {
        span.start = span.start.saturating_sub(FLOATING_ROOM);
        span.end = span.end.saturating_add(FLOATING_ROOM);
    }
    Ok((span, recurring))
}

/// Whether an override changes all that follow: rare, and its shifts are not worth an exact span.
fn has_this_and_future(object: &Object<'_>, kind: index::Component) -> bool {
    object
        .calendar()
        .components
        .iter()
        .filter(|part| part.is(kind.name()))
        .any(|part| part.property("RECURRENCE-ID").is_some_and(|id| id.parameter("RANGE").is_some()))
}
