//! Time zones: the VTIMEZONE of an object (RFC 5545 clause 3.6.5), else the bundled IANA database.

use std::cell::RefCell;
use std::rc::Rc;

use jiff::tz::{TimeZone, TimeZoneDatabase};

use super::expansion::Expansion;
use super::rule::Rule;
use super::time::{DAY, DateTime, civil_from_days, date_list, days_from_civil};
use crate::contentline::{Component, decode, parse};
use crate::repository::CollectionProperties;

/// A clock on a wall.
#[derive(Clone, Debug)]
pub enum Zone {
    /// UTC.
    Utc,
    /// A zone of the IANA database.
    Iana(TimeZone),
    /// The rules an object brought with it.
    Rules(Rc<Observances>),
}

impl Zone {
    /// The zone in which floating times and dates of a collection are read: its `calendar-timezone`, else its
    /// `calendar-timezone-id`, else UTC.
    #[must_use]
    pub fn of_collection(properties: &CollectionProperties) -> Self {
        if let Some(timezone) = &properties.timezone
            && let Some(zone) = Self::of_object(timezone)
        {
            return zone;
        }
        properties.timezone_id.as_deref().and_then(Self::of_name).unwrap_or(Self::Utc)
    }

    /// The zone of an iCalendar object with one VTIMEZONE, as `calendar-timezone` has it. `None` if it has none.
    #[must_use]
    pub fn of_object(text: &str) -> Option<Self> {
        let text = decode(text.as_bytes()).ok()?;
        let calendars = parse(&text).ok()?;
        let definition = calendars.first()?.components.iter().find(|component| component.is("VTIMEZONE"))?;
        Self::of_definition(definition).or_else(|| Self::of_name(&definition.property("TZID")?.text()))
    }

    /// A zone of the IANA database by its name. Names with a prefix, as some clients make them
    /// (`/example.org/20240101/Europe/Berlin`), are found by their end.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        let database = TimeZoneDatabase::bundled();
        let name = name.trim_matches([' ', '"', '/']);
        if matches!(name.to_ascii_uppercase().as_str(), "UTC" | "ETC/UTC" | "GMT" | "Z") {
            return Some(Self::Utc);
        }
        let mut rest = name;
        loop {
            if let Ok(zone) = database.get(rest) {
                return Some(Self::Iana(zone));
            }
            rest = rest.split_once('/')?.1;
            // A lone city would find zones by chance.
            rest.contains('/').then_some(())?;
        }
    }

    /// The zone that a VTIMEZONE defines; `None` if it has no usable observance.
    #[must_use]
    pub fn of_definition(definition: &Component<'_>) -> Option<Self> {
        let list: Vec<Observance> = definition
            .components
            .iter()
            .filter(|component| component.is("STANDARD") || component.is("DAYLIGHT"))
            .take(MAX_OBSERVANCES)
            .filter_map(Observance::parse)
            .collect();
        let first = list.iter().min_by_key(|observance| observance.start)?.from;
        Some(Self::Rules(Rc::new(Observances { list, first, known: RefCell::default() })))
    }

    /// The instant of a local time. One that occurs twice is the first; one that is skipped is read with the offset
    /// before the gap (clause 3.3.5).
    #[must_use]
    pub fn instant(&self, local: i64) -> i64 {
        match self {
            Self::Utc => local,
            Self::Iana(zone) => {
                let instant =
                    civil(local).and_then(|civil| zone.to_ambiguous_timestamp(civil).compatible().ok());
                instant.map_or(local, jiff::Timestamp::as_second)
            }
            // Both sides of a transition: see `Transition`.
            Self::Rules(rules) => local - rules.offset(local, |t| t.instant + t.from.max(t.to)),
        }
    }

    /// The local time at an instant.
    #[must_use]
    pub fn local(&self, instant: i64) -> i64 {
        match self {
            Self::Utc => instant,
            Self::Iana(zone) => {
                let timestamp = jiff::Timestamp::from_second(instant);
                timestamp
                    .map_or(instant, |timestamp| instant + i64::from(zone.to_offset(timestamp).seconds()))
            }
            Self::Rules(rules) => instant + rules.offset(instant, |t| t.instant),
        }
    }
}

fn civil(local: i64) -> Option<jiff::civil::DateTime> {
    let (year, month, day) = civil_from_days(local.div_euclid(DAY));
    let second = i32::try_from(local.rem_euclid(DAY)).ok()?;
    let small = |number: i32| i8::try_from(number).ok();
    jiff::civil::DateTime::new(
        i16::try_from(year).ok()?,
        small(month)?,
        small(day)?,
        small(second / 3600)?,
        small(second / 60 % 60)?,
        small(second % 60)?,
        0,
    )
    .ok()
}

/// Most STANDARD and DAYLIGHT parts of a zone. A full history of the most changed zone has about 250.
const MAX_OBSERVANCES: usize = 512;

/// Most onsets made of one observance for one window of years: two a year for the widest window.
const MAX_ONSETS: usize = 1000;

/// The rules of a VTIMEZONE, and the transitions worked out so far.
#[derive(Debug)]
pub struct Observances {
    list: Vec<Observance>,
    /// The offset before every transition.
    first: i64,
    known: RefCell<Known>,
}

/// The transitions in order, complete from the beginning of the year `from` to the end of the year `to`.
#[derive(Debug, Default)]
struct Known {
    years: Option<(i32, i32)>,
    transitions: Vec<Transition>,
}

/// A STANDARD or DAYLIGHT part.
#[derive(Debug)]
struct Observance {
    /// First onset, on the clock before it.
    start: i64,
    /// Offset before and after, in seconds.
    from: i64,
    to: i64,
    rules: Vec<Rule>,
    dates: Vec<i64>,
}

/// A change of the clock from one offset to another.
///
/// On the clock, it lies at `instant + from` for those who come from before and at `instant + to` for those who look
/// back. A skipped local time lies between the two and is read with `from`, and so is one that occurs twice: in both
/// cases `to` holds from the later of the two on.
#[derive(Clone, Copy, Debug)]
struct Transition {
    instant: i64,
    from: i64,
    to: i64,
}

impl Observance {
    fn parse(component: &Component<'_>) -> Option<Self> {
        let value = |name| component.property(name).map(|property| property.value);
        Some(Self {
            start: DateTime::parse(value("DTSTART")?)?.local,
            from: parse_offset(value("TZOFFSETFROM")?)?,
            to: parse_offset(value("TZOFFSETTO")?)?,
            rules: component.all("RRULE").filter_map(|rule| Rule::parse(rule.value).ok()).collect(),
            dates: component
                .all("RDATE")
                .flat_map(date_list)
                .flatten()
                .map(|(date, _)| date.local)
                .take(MAX_ONSETS)
                .collect(),
        })
    }

    /// All onsets of the years `from` to `to`, and the last before.
    fn onsets(&self, from: i32, to: i32, transitions: &mut Vec<Transition>) {
        let mut push = |local: i64| {
            transitions.push(Transition { instant: local - self.from, from: self.from, to: self.to });
        };
        push(self.start);
        self.dates.iter().for_each(|date| push(*date));
        let end = days_from_civil(to.clamp(1, 9998) + 1, 1, 1).unwrap_or(0) * DAY;
        for rule in &self.rules {
            // UNTIL is in UTC, and the clock that counts is the one before the onset.
            let last = rule.until.map(|until| match until.form {
                super::time::Form::Utc => until.local + self.from,
                _ => until.local,
            });
            // From one period before the window, or before the rule's end if that is earlier: the last onset before it.
            let years = i32::try_from(rule.interval).unwrap_or(9999).min(9999);
            let mut floor = days_from_civil((from - years).clamp(1, 9999), 1, 1).unwrap_or(0) * DAY;
            if let Some(last) = last {
                floor = floor.min(last - i64::from(years) * 366 * DAY);
            }
            Expansion::new(rule, self.start, last)
                .from(floor)
                .take(MAX_ONSETS)
                .take_while(|onset| *onset < end)
                .for_each(&mut push);
        }
    }
}

impl Observances {
    /// The offset at a time, where `at` says when a transition is on the same clock.
    fn offset(&self, time: i64, at: impl Fn(&Transition) -> i64) -> i64 {
        let year = civil_from_days(time.div_euclid(DAY)).0;
        let mut known = self.known.borrow_mut();
        if !known.years.is_some_and(|(from, to)| (from..=to).contains(&year)) {
            // Years are asked for in clusters, mostly forward.
            let (from, to) = (year - 1, year + 3);
            known.transitions.clear();
            for observance in &self.list {
                observance.onsets(from, to, &mut known.transitions);
            }
            known.years = Some((from, to));
            known.transitions.sort_by_key(|transition| transition.instant);
        }
        let after = known.transitions.partition_point(|transition| at(transition) <= time);
        match after.checked_sub(1).and_then(|last| known.transitions.get(last)) {
            Some(transition) => transition.to,
            None => self.first,
        }
    }
}

/// Reads `(+|-)HHMM[SS]` (clause 3.3.14) as seconds.
fn parse_offset(text: &str) -> Option<i64> {
    let text = text.trim_ascii();
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if !matches!(digits.len(), 4 | 6) || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let number =
        |range: std::ops::Range<usize>| digits.get(range).map_or(Some(0), |text| text.parse::<i64>().ok());
    let seconds = number(0..2)? * 3600 + number(2..4)? * 60 + number(4..6)?;
    // No clock on Earth was ever further off.
    (seconds <= 26 * 3600).then_some(sign * seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A zone in the form that clients send for New York.
    const NEW_YORK: &str = "BEGIN:VCALENDAR\nBEGIN:VTIMEZONE\nTZID:X\n\
        BEGIN:STANDARD\nDTSTART:19671029T020000\nRRULE:FREQ=YEARLY;BYDAY=-1SU;BYMONTH=10;UNTIL=20061029T060000Z\n\
        TZOFFSETFROM:-0400\nTZOFFSETTO:-0500\nEND:STANDARD\n\
        BEGIN:DAYLIGHT\nDTSTART:19870405T020000\nRRULE:FREQ=YEARLY;BYDAY=1SU;BYMONTH=4;UNTIL=20060402T070000Z\n\
        TZOFFSETFROM:-0500\nTZOFFSETTO:-0400\nEND:DAYLIGHT\n\
        BEGIN:DAYLIGHT\nDTSTART:20070311T020000\nRRULE:FREQ=YEARLY;BYDAY=2SU;BYMONTH=3\n\
        TZOFFSETFROM:-0500\nTZOFFSETTO:-0400\nEND:DAYLIGHT\n\
        BEGIN:STANDARD\nDTSTART:20071104T020000\nRRULE:FREQ=YEARLY;BYDAY=1SU;BYMONTH=11\n\
        TZOFFSETFROM:-0400\nTZOFFSETTO:-0500\nEND:STANDARD\nEND:VTIMEZONE\nEND:VCALENDAR";

    #[test]
    fn the_rules_of_an_object_agree_with_the_database() {
        let rules = Zone::of_object(NEW_YORK).unwrap();
        let iana = Zone::of_name("America/New_York").unwrap();
        // Every seven and a bit hours from 1990 to 2045, both ways.
        let mut time = 631_152_000;
        while time < 2_366_841_600 {
            assert_eq!(rules.instant(time), iana.instant(time), "local {time}");
            assert_eq!(rules.local(time), iana.local(time), "instant {time}");
            time += 25_937;
        }
        // And far ones first.
        let rules = Zone::of_object(NEW_YORK).unwrap();
        for time in [16_725_225_600, 946_684_800, 4_102_444_800, 1_720_000_000] {
            assert_eq!(rules.local(time), iana.local(time));
        }
    }

    #[test]
    fn the_hours_of_change_are_read_as_the_rfc_says() {
        let local = |text| DateTime::parse(text).unwrap().local;
        for zone in [Zone::of_object(NEW_YORK).unwrap(), Zone::of_name("America/New_York").unwrap()] {
            // Clause 3.3.5: 2:30 on 2007-03-11 is 3:30 EDT; 1:30 on 2007-11-04 is the first, EDT.
            assert_eq!(zone.instant(local("20070311T023000")), local("20070311T073000"));
            assert_eq!(zone.instant(local("20071104T013000")), local("20071104T053000"));
            assert_eq!(zone.instant(local("20071104T020000")), local("20071104T070000"));
            assert_eq!(zone.instant(local("20070311T030000")), local("20070311T070000"));
        }
    }

    #[test]
    fn names_are_found_with_prefixes_and_not_by_chance() {
        for name in [
            "Europe/Berlin",
            "europe/berlin",
            "/freeassociation.sourceforge.net/Europe/Berlin",
            "/example.org/2024/America/Argentina/Salta",
        ] {
            assert!(matches!(Zone::of_name(name), Some(Zone::Iana(_))), "{name}");
        }
        assert!(matches!(Zone::of_name("Etc/UTC"), Some(Zone::Utc)));
        for name in ["", "Nowhere/Land", "W. Europe Standard Time", "/x/Cuba"] {
            assert!(Zone::of_name(name).is_none(), "{name}");
        }
    }

    #[test]
    fn a_zone_without_usable_observances_is_none() {
        for bad in [
            "BEGIN:VCALENDAR\nEND:VCALENDAR",
            "BEGIN:VCALENDAR\nBEGIN:VTIMEZONE\nTZID:X\nEND:VTIMEZONE\nEND:VCALENDAR",
            "BEGIN:VCALENDAR\nBEGIN:VTIMEZONE\nTZID:X\nBEGIN:STANDARD\nDTSTART:19700101T000000\nTZOFFSETFROM:+9999\nTZOFFSETTO:+0000\nEND:STANDARD\nEND:VTIMEZONE\nEND:VCALENDAR",
            "garbage",
        ] {
            assert!(Zone::of_object(bad).is_none(), "{bad}");
        }
    }
}
