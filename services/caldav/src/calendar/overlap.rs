//! When an instance overlaps a time range: the tables of RFC 4791 clause 9.9.

use std::ops::ControlFlow;

use super::TimeRange;
use super::object::{Instance, Moment, Object};
use super::time::{DAY, DateTime, Duration, Form};
use crate::contentline::Component;

/// Most repetitions of an alarm that are looked at: more than a day of minutes.
const MAX_REPEAT: i64 = 2000;

/// Whether an instance of a component of this name overlaps.
pub(super) fn overlaps(
    object: &Object<'_>,
    name: &str,
    instance: &Instance<'_, '_>,
    range: TimeRange,
) -> bool {
    let (start, end) = (range.first(), range.after());
    let instant = |property| {
        instance.component.property(property).and_then(|property| object.moment(property)).map(|m| m.instant)
    };
    match name.to_ascii_uppercase().as_str() {
        "VEVENT" => match (instance.start, instance.end) {
            // DTEND that is not after DTSTART is treated as a duration of zero.
            (Some(from), Some(to)) if to.instant > from.instant => start < to.instant && end > from.instant,
            (Some(from), None) if from.form == Form::Date => start < from.instant + DAY && end > from.instant,
            (Some(from), _) => start <= from.instant && end > from.instant,
            (None, _) => false,
        },
        "VTODO" => match (instance.start, instance.end) {
            (Some(from), Some(to)) => {
                let (from, to) = (from.instant, to.instant);
                let by_duration = instance.component.property("DUE").is_none();
                let begins = start <= to && by_duration || start < to || start <= from;
                begins && (end > from || end >= to)
            }
            (Some(from), None) => start <= from.instant && end > from.instant,
            (None, Some(due)) => start < due.instant && end >= due.instant,
            (None, None) => match (instant("COMPLETED"), instant("CREATED")) {
                (Some(completed), Some(created)) => {
                    (start <= created || start <= completed) && (end >= created || end >= completed)
                }
                (Some(completed), None) => start <= completed && end >= completed,
                (None, Some(created)) => end > created,
                (None, None) => true,
            },
        },
        "VJOURNAL" => match instance.start {
            Some(from) if from.form == Form::Date => start < from.instant + DAY && end > from.instant,
            Some(from) => start <= from.instant && end > from.instant,
            None => false,
        },
        "VFREEBUSY" => match (instance.start, instance.end) {
            (Some(from), Some(to)) => start <= to.instant && end > from.instant,
            _ => {
                let mut periods = instance.component.all("FREEBUSY").flat_map(|p| object.periods(p));
                periods.any(|(from, to)| start < to && end > from)
            }
        },
        // RFC 7953 clause 7.2.2: as VEVENT, and without bounds where they are missing.
        "VAVAILABILITY" => {
            let from = instance.start.map_or(i64::MIN, |from| from.instant);
            let to = instance.end.map_or(i64::MAX, |to| to.instant);
            start < to && end > from
        }
        _ => false,
    }
}

/// Whether an alarm goes off in a range for any instance of the component it is in, which is of this name.
pub(super) fn alarm_overlaps(
    object: &Object<'_>,
    name: &str,
    parent: &Component<'_>,
    alarm: &Component<'_>,
    range: TimeRange,
) -> bool {
    let Some(trigger) = alarm.property("TRIGGER") else { return false };
    let repeat: i64 =
        alarm.property("REPEAT").and_then(|repeat| repeat.value.trim_ascii().parse().ok()).unwrap_or(0);
    let pause = alarm.property("DURATION").and_then(|pause| Duration::parse(pause.value));
    let (repeat, pause) = match pause.map(Duration::nominal_seconds) {
        Some(pause) if pause > 0 => (repeat.clamp(0, MAX_REPEAT), pause),
        _ => (0, 0),
    };
    let goes_off = |first: i64| {
        (0..=repeat)
            .map(|time| first.saturating_add(time * pause))
            .any(|time| range.first() <= time && range.after() > time)
    };
    if DateTime::parse(trigger.value).is_some() {
        return object.moment(trigger).is_some_and(|moment| goes_off(moment.instant));
    }
    let Some(offset) = Duration::parse(trigger.value).map(Duration::nominal_seconds) else { return false };
    let from_end = trigger.parameter("RELATED").is_some_and(|related| related.eq_ignore_ascii_case("END"));
    let goes_off_for = |instance: &Instance<'_, '_>| {
        let (start, end) = (instance.start, instance.end);
        let base: Option<Moment> = if from_end { end.or(start) } else { start.or(end) };
        base.is_some_and(|base| goes_off(base.instant + offset))
    };
    if let Some(instance) = object.only_instance(parent) {
        return goes_off_for(&instance);
    }
    // Instances that far off can have an alarm in the range.
    let searched = range.widened(offset.max(0) + repeat * pause + DAY, (-offset).max(0) + DAY);
    object
        .visit(name, searched, &mut |instance| {
            if std::ptr::eq(instance.component, parent) && goes_off_for(&instance) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })
        .is_break()
}
