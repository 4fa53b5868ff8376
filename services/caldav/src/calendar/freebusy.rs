//! When a calendar is busy: the answer to `free-busy-query` (RFC 4791 clause 7.10).

use std::ops::ControlFlow;

use super::object::{Instance, Object};
use super::overlap::overlaps;
use super::time::{DAY, DateTime, Form};
use super::{TimeRange, Zone};
use crate::contentline::{Writer, decode};

/// Most periods gathered, after which the answer is cut off: two years of minutes would be a million.
const MAX_PERIODS: usize = 20_000;

/// How a period is taken (FBTYPE, RFC 5545 clause 3.2.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Taken {
    Busy,
    Tentative,
    Unavailable,
}

/// Gathers the busy times of the objects of a calendar in a range.
#[derive(Debug)]
pub struct FreeBusy {
    range: TimeRange,
    periods: Vec<(Taken, i64, i64)>,
}

impl FreeBusy {
    /// Nothing is busy yet. Both bounds of the range are given.
    #[must_use]
    pub fn new(range: TimeRange) -> Self {
        Self { range, periods: Vec::new() }
    }

    /// Adds what a calendar object takes. What is transparent or cancelled takes nothing.
    pub fn add(&mut self, bytes: &[u8], floating: &Zone) {
        let Ok(text) = decode(bytes) else { return };
        let Ok(object) = Object::parse(&text, floating) else { return };
        let range = self.range;
        let mut add = |busy: Taken, from: i64, to: i64| {
            let (from, to) = (from.max(range.first()), to.min(range.after()));
            if from < to && self.periods.len() < MAX_PERIODS {
                self.periods.push((busy, from, to));
            }
        };
        // The closure never breaks, so both visits go to their end.
        let _ = object.visit("VEVENT", range, &mut |instance| {
            if overlaps(&object, "VEVENT", &instance, range)
                && let Some(busy) = busy(&instance)
                && let Some(from) = instance.start
            {
                let day = if from.form == Form::Date { DAY } else { 0 };
                add(busy, from.instant, instance.end.map_or(from.instant + day, |to| to.instant));
            }
            ControlFlow::Continue(())
        });
        let _ = object.visit("VFREEBUSY", range, &mut |instance| {
            for property in instance.component.all("FREEBUSY") {
                let busy = match property.parameter("FBTYPE").map(|kind| kind.to_ascii_uppercase()).as_deref()
                {
                    Some("FREE") => continue,
                    Some("BUSY-TENTATIVE") => Taken::Tentative,
                    Some("BUSY-UNAVAILABLE") => Taken::Unavailable,
                    _ => Taken::Busy,
                };
                object.periods(property).into_iter().for_each(|(from, to)| add(busy, from, to));
            }
            ControlFlow::Continue(())
        });
    }

    /// The answer: a VCALENDAR with one VFREEBUSY. `now` is POSIX time, `uid` any new UID.
    #[must_use]
    pub fn finish(mut self, now: i64, uid: &str) -> String {
        let utc = |instant| DateTime { local: instant, form: Form::Utc }.text();
        self.periods.sort_unstable();
        let mut merged: Vec<(Taken, i64, i64)> = Vec::new();
        for (busy, from, to) in self.periods {
            match merged.last_mut() {
                Some((last, _, end)) if *last == busy && from <= *end => *end = to.max(*end),
                _ => merged.push((busy, from, to)),
            }
        }
        let mut writer = Writer::default();
        for line in ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//Skerry//CalDAV//EN", "BEGIN:VFREEBUSY"] {
            writer.line(&[line]);
        }
        writer.line(&["UID:", uid]);
        writer.line(&["DTSTAMP:", &utc(now)]);
        for (name, bound) in [("DTSTART:", self.range.start), ("DTEND:", self.range.end)] {
            if let Some(bound) = bound {
                writer.line(&[name, &utc(bound)]);
            }
        }
        for (busy, from, to) in merged {
            let name = match busy {
                Taken::Busy => "FREEBUSY:",
                Taken::Tentative => "FREEBUSY;FBTYPE=BUSY-TENTATIVE:",
                Taken::Unavailable => "FREEBUSY;FBTYPE=BUSY-UNAVAILABLE:",
            };
            writer.line(&[name, &utc(from), "/", &utc(to)]);
        }
        writer.line(&["END:VFREEBUSY"]);
        writer.line(&["END:VCALENDAR"]);
        writer.finish()
    }
}

/// How an instance of an event takes its time (clause 7.10).
fn busy(instance: &Instance<'_, '_>) -> Option<Taken> {
    let value = |name| instance.component.property(name).map(|p| p.value.trim_ascii().to_ascii_uppercase());
    if value("TRANSP").as_deref() == Some("TRANSPARENT") {
        return None;
    }
    match value("STATUS").as_deref() {
        Some("CANCELLED") => None,
        Some("TENTATIVE") => Some(Taken::Tentative),
        _ => Some(Taken::Busy),
    }
}
