//! A calendar object resource: its components, and the instances that recurrence makes of them.
//!
//! Instances are visited lazily and only near a time asked for (RFC 5545 clauses 3.8.4.4 and 3.8.5). DTSTART is always
//! the first instance, also where the rule does not make it. EXRULE, which RFC 5545 removed, is not read.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::ops::ControlFlow;

use super::TimeRange;
use super::expansion::Expansion;
use super::rule::Rule;
use super::time::{self, DAY, DateTime, Duration, Form, PeriodEnd, date_list};
use super::zone::Zone;
use crate::contentline::{Component, ParseError, Property, parse};

/// Most RRULEs read in one component. RFC 5545 says that there should be no more than one.
const MAX_RULES: usize = 4;

/// Room for a change of the clocks between an instant and the local times near it, in seconds.
const CLOCK_ROOM: i64 = 2 * 3600;

/// A date or time with its place on the line of instants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Seconds on the clock of its zone.
    pub local: i64,
    /// As it was written.
    pub form: Form,
    /// POSIX time.
    pub instant: i64,
}

/// One instance of a component.
#[derive(Clone, Copy, Debug)]
pub struct Instance<'o, 'a> {
    /// The component: the master, or an override.
    pub component: &'o Component<'a>,
    /// Its start; to-dos and journals may have none.
    pub start: Option<Moment>,
    /// Its end or due time; `None` where neither that nor a duration is given.
    pub end: Option<Moment>,
    /// Its start before any override, for an object that recurs.
    pub id: Option<Moment>,
}

/// A parsed calendar object, with the zone for what floats.
#[derive(Debug)]
pub struct Object<'a> {
    calendar: Component<'a>,
    floating: &'a Zone,
    zones: RefCell<Vec<(String, Zone)>>,
    floated: Cell<bool>,
}

/// How long an instance is.
#[derive(Clone, Copy, Debug)]
enum Length {
    Unknown,
    /// DTEND or DUE: "the same exact duration will apply" (clause 3.8.5.3).
    Exact(i64),
    /// DURATION, or the days from date to date.
    Nominal(Duration),
}

/// A component with a RECURRENCE-ID.
struct Override<'o, 'a> {
    component: &'o Component<'a>,
    id: Moment,
    this_and_future: bool,
}

impl<'a> Object<'a> {
    /// Parses a decoded text that has one VCALENDAR; floating times are read in `floating`.
    ///
    /// # Errors
    /// [`ParseError`]; also for a text that is not one VCALENDAR.
    pub fn parse(text: &'a str, floating: &'a Zone) -> Result<Self, ParseError> {
        let mut components = parse(text)?;
        match (components.pop(), components.is_empty()) {
            (Some(calendar), true) if calendar.is("VCALENDAR") => {
                Ok(Self { calendar, floating, zones: RefCell::default(), floated: Cell::new(false) })
            }
            _ => Err(ParseError::Outside { line: 1 }),
        }
    }

    /// The VCALENDAR.
    #[must_use]
    pub fn calendar(&self) -> &Component<'a> {
        &self.calendar
    }

    /// Whether any time read so far was read in the floating zone.
    pub(super) fn floated(&self) -> bool {
        self.floated.get()
    }

    /// The zone of a property's times.
    fn zone(&self, property: &Property<'_>, form: Form) -> Zone {
        let named = match form {
            Form::Utc => return Zone::Utc,
            Form::Date => None,
            Form::Floating => property.parameter("TZID"),
        };
        if let Some(name) = named {
            if let Some((_, zone)) = self.zones.borrow().iter().find(|(known, _)| *known == name) {
                return zone.clone();
            }
            let defined = self.calendar.components.iter().find(|component| {
                component.is("VTIMEZONE") && component.property("TZID").is_some_and(|id| id.text() == name)
            });
            let zone = defined.and_then(Zone::of_definition).or_else(|| Zone::of_name(&name));
            if let Some(zone) = zone {
                self.zones.borrow_mut().push((name.into_owned(), zone.clone()));
                return zone;
            }
        }
        self.floated.set(true);
        self.floating.clone()
    }

    /// Reads a property whose value is one date or time.
    #[must_use]
    pub fn moment(&self, property: &Property<'_>) -> Option<Moment> {
        let time = DateTime::parse(property.value)?;
        Some(self.place(time, &self.zone(property, time.form)))
    }

    fn place(&self, time: DateTime, zone: &Zone) -> Moment {
        Moment { local: time.local, form: time.form, instant: zone.instant(time.local) }
    }

    /// The periods of a property that holds a list of them (FREEBUSY), as instants.
    pub(super) fn periods(&self, property: &Property<'_>) -> Vec<(i64, i64)> {
        date_list(property)
            .flatten()
            .filter_map(|(start, end)| {
                let zone = self.zone(property, start.form);
                let start = self.place(start, &zone);
                Some((start.instant, self.period_end(start, end?, &zone).instant))
            })
            .collect()
    }

    fn period_end(&self, start: Moment, end: PeriodEnd, zone: &Zone) -> Moment {
        match end {
            PeriodEnd::At(time) => self.place(time, if time.form == Form::Utc { &Zone::Utc } else { zone }),
            PeriodEnd::After(duration) => after(start, duration, zone),
        }
    }

    /// Visits the instances of the components of this name that may overlap `range`; some that do not may come too.
    /// Returns `Break` if `visit` did.
    pub fn visit<'o>(
        &'o self,
        name: &str,
        range: TimeRange,
        visit: &mut dyn FnMut(Instance<'o, 'a>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let mut masters = Vec::new();
        let mut overrides = Vec::new();
        for component in self.calendar.components.iter().filter(|component| component.is(name)) {
            let id = component.property("RECURRENCE-ID");
            match id.and_then(|property| Some((property, self.moment(property)?))) {
                Some((property, id)) => {
                    let range = property.parameter("RANGE");
                    let this_and_future =
                        range.is_some_and(|range| range.eq_ignore_ascii_case("THISANDFUTURE"));
                    overrides.push(Override { component, id, this_and_future });
                }
                None => masters.push(component),
            }
        }
        overrides.sort_by_key(|changed| changed.id.instant);
        for changed in &overrides {
            visit(self.single(changed.component, Some(changed.id)))?;
        }
        for master in masters {
            self.visit_master(master, &overrides, range, visit)?;
        }
        ControlFlow::Continue(())
    }

    /// The only instance of an override that changes nothing but that; `None` for every other component.
    pub(super) fn only_instance<'o>(&self, component: &'o Component<'a>) -> Option<Instance<'o, 'a>> {
        let property = component.property("RECURRENCE-ID").filter(|id| id.parameter("RANGE").is_none())?;
        let id = self.moment(property)?;
        Some(self.single(component, Some(id)))
    }

    /// The instance of a component by itself.
    fn single<'o>(&self, component: &'o Component<'a>, id: Option<Moment>) -> Instance<'o, 'a> {
        let Some((start, zone)) = self.start(component) else {
            let end = component.property("DUE").or_else(|| component.property("DTEND"));
            return Instance { component, start: None, end: end.and_then(|end| self.moment(end)), id };
        };
        let end = end_of(start, self.length(component, start), &zone);
        Instance { component, start: Some(start), end, id }
    }

    fn start(&self, component: &Component<'_>) -> Option<(Moment, Zone)> {
        let property = component.property("DTSTART")?;
        let time = DateTime::parse(property.value)?;
        let zone = self.zone(property, time.form);
        Some((self.place(time, &zone), zone))
    }

    fn length(&self, component: &Component<'_>, start: Moment) -> Length {
        let end = component.property("DTEND").or_else(|| component.property("DUE"));
        if let Some(end) = end.and_then(|end| self.moment(end)) {
            return match (start.form, end.form) {
                (Form::Date, Form::Date) => {
                    Length::Nominal(Duration { days: (end.local - start.local) / DAY, seconds: 0 })
                }
                _ => Length::Exact(end.instant - start.instant),
            };
        }
        let duration = component.property("DURATION").and_then(|duration| Duration::parse(duration.value));
        duration.map_or(Length::Unknown, Length::Nominal)
    }

    fn visit_master<'o>(
        &self,
        master: &'o Component<'a>,
        overrides: &[Override<'o, 'a>],
        range: TimeRange,
        visit: &mut dyn FnMut(Instance<'o, 'a>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let rules: Vec<Rule> =
            master.all("RRULE").take(MAX_RULES).filter_map(|rule| Rule::parse(rule.value).ok()).collect();
        let Some((start, zone)) = self.start(master) else { return visit(self.single(master, None)) };
        let length = self.length(master, start);
        let recurs = !rules.is_empty() || master.property("RDATE").is_some();
        let futures = overrides.iter().filter(|changed| changed.this_and_future).collect();
        let series = Series { object: self, master, overrides, futures, recurs, length };
        let excluded = self.exclusions(master);

        let mut once = HashSet::new();
        if !excluded.contains(start) {
            once.insert(start.instant);
            series.visit(start, length, &zone, visit)?;
        }
        for property in master.all("RDATE") {
            for (time, end) in date_list(property).flatten() {
                let zone = self.zone(property, time.form);
                let moment = self.place(time, &zone);
                let length = end.map_or(length, |end| {
                    Length::Exact(self.period_end(moment, end, &zone).instant - moment.instant)
                });
                if !excluded.contains(moment) && once.insert(moment.instant) {
                    series.visit(moment, length, &zone, visit)?;
                }
            }
        }
        let (before, later) = series.reach(start.form);
        let local = |instant: i64| zone.local(instant.clamp(time::FIRST, time::LAST));
        let floor = range.start.map_or(i64::MIN, |start| local(start.saturating_sub(before)) - CLOCK_ROOM);
        let ceiling = range.end.map_or(i64::MAX, |end| local(end.saturating_add(later)) + CLOCK_ROOM);
        for rule in &rules {
            let expansion = Expansion::new(rule, start.local, rule.last(&zone)).from(floor);
            for local in expansion.take_while(|local| *local <= ceiling) {
                if local < floor {
                    continue;
                }
                let moment = Moment { local, form: start.form, instant: zone.instant(local) };
                if !excluded.contains(moment) && !once.contains(&moment.instant) {
                    series.visit(moment, length, &zone, visit)?;
                }
            }
        }
        ControlFlow::Continue(())
    }

    fn exclusions(&self, master: &Component<'_>) -> Exclusions {
        let mut exclusions = Exclusions::default();
        for property in master.all("EXDATE") {
            for (time, _) in date_list(property).flatten() {
                if time.form == Form::Date {
                    exclusions.days.insert(time.local);
                } else {
                    exclusions.instants.insert(self.place(time, &self.zone(property, time.form)).instant);
                }
            }
        }
        exclusions
    }
}

/// What EXDATE takes out. A date takes out what begins on it, as clients mean it.
#[derive(Default)]
struct Exclusions {
    instants: HashSet<i64>,
    days: HashSet<i64>,
}

impl Exclusions {
    fn contains(&self, moment: Moment) -> bool {
        (!self.instants.is_empty() && self.instants.contains(&moment.instant))
            || (!self.days.is_empty() && self.days.contains(&(moment.local.div_euclid(DAY) * DAY)))
    }
}

/// What the instances of one master share.
struct Series<'s, 'o, 'a> {
    object: &'s Object<'a>,
    master: &'o Component<'a>,
    overrides: &'s [Override<'o, 'a>],
    /// Those of the overrides that change what follows, too.
    futures: Vec<&'s Override<'o, 'a>>,
    recurs: bool,
    length: Length,
}

impl<'o, 'a> Series<'_, 'o, 'a> {
    fn visit(
        &self,
        moment: Moment,
        length: Length,
        zone: &Zone,
        visit: &mut dyn FnMut(Instance<'o, 'a>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let before = self.overrides.partition_point(|changed| changed.id.instant < moment.instant);
        if self.overrides.get(before).is_some_and(|changed| changed.id.instant == moment.instant) {
            return ControlFlow::Continue(());
        }
        let id = self.recurs.then_some(moment);
        let (component, start, length) = match self.future(moment) {
            None => (self.master, moment, length),
            Some(changed) => match self.object.start(changed.component) {
                None => (changed.component, moment, length),
                Some((start, _)) => {
                    // The clock's difference, so that the time of day stays over a change of the clocks.
                    let local = moment.local + (start.local - changed.id.local);
                    let moved = Moment { local, form: moment.form, instant: zone.instant(local) };
                    (changed.component, moved, self.object.length(changed.component, start))
                }
            },
        };
        visit(Instance { component, start: Some(start), end: end_of(start, length, zone), id })
    }

    /// The last override up to a start that changes what follows.
    fn future(&self, moment: Moment) -> Option<&Override<'o, 'a>> {
        let before = self.futures.partition_point(|changed| changed.id.instant <= moment.instant);
        self.futures.get(before.checked_sub(1)?).copied()
    }

    /// How far an instance may lie after the start that the rule gives it, with its length; and how far before.
    fn reach(&self, form: Form) -> (i64, i64) {
        // Without an end, a date lasts a day.
        let seconds = |length| if form == Form::Date { seconds(length).max(DAY) } else { seconds(length) };
        let mut after = seconds(self.length).max(0);
        let mut before = 0;
        for changed in &self.futures {
            if let Some((start, _)) = self.object.start(changed.component) {
                let shift = start.local - changed.id.local;
                let length = seconds(self.object.length(changed.component, start)).max(0);
                after = after.max(shift.saturating_add(length));
                before = before.max(-shift);
            }
        }
        (after, before)
    }
}

fn seconds(length: Length) -> i64 {
    match length {
        Length::Unknown => 0,
        Length::Exact(seconds) => seconds,
        Length::Nominal(duration) => duration.nominal_seconds() + CLOCK_ROOM,
    }
}

fn end_of(start: Moment, length: Length, zone: &Zone) -> Option<Moment> {
    match length {
        Length::Unknown => None,
        Length::Exact(seconds) => {
            let instant = start.instant + seconds;
            Some(Moment { local: zone.local(instant), form: start.form, instant })
        }
        Length::Nominal(duration) => Some(after(start, duration, zone)),
    }
}

/// Days on the clock, then exact seconds.
fn after(start: Moment, duration: Duration, zone: &Zone) -> Moment {
    let instant = zone.instant(start.local + duration.days * DAY) + duration.seconds;
    let form = if duration.seconds != 0 && start.form == Form::Date { Form::Floating } else { start.form };
    Moment { local: zone.local(instant), form, instant }
}
