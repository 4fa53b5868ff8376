//! The local times that a recurrence rule makes (RFC 5545 clause 3.3.10), lazily and in order.
//!
//! A rule is walked period by period (a year, a month, ... a second). Each period has a list of days and lists of hours,
//! minutes and seconds; its set of instances is their product, which is never written out, so a rule that names every
//! second of a year costs no memory.
//!
//! Where the RFC leaves a choice: parts that are missing are taken from DTSTART (also the day of the week where there
//! is only BYWEEKNO), and a week belongs to the year in which the day lies, as in python-dateutil.

use super::rule::{Frequency, Rule};
use super::time::{DAY, LAST, civil_from_days, days_from_civil, days_in_month, is_leap, weekday};

/// Most periods walked and candidates looked at for one expansion. A daily rule reaches 270 years, and the worst rule
/// costs a few milliseconds; after that a rule is taken to have ended.
pub const MAX_STEPS: u32 = 100_000;

/// The instances of a rule for a start, as local times.
#[derive(Debug)]
pub struct Expansion<'r> {
    rule: &'r Rule,
    /// DTSTART.
    start: i64,
    /// The last local time admitted.
    last: i64,
    /// Instances before this one need not come.
    floor: i64,
    /// Which period is next, in units of the frequency since the one of `start`.
    next_period: i64,
    /// How many instances `COUNT` still admits.
    left: u32,
    steps: u32,
    set: Set,
}

/// The product of days and times of one period, and where the walk through it is.
#[derive(Debug, Default)]
struct Set {
    /// Days since 1970, in order.
    days: Vec<i64>,
    hours: Vec<i64>,
    minutes: Vec<i64>,
    seconds: Vec<i64>,
    /// With BYSETPOS: the positions wanted, in order.
    positions: Option<Vec<i64>>,
    next: i64,
}

impl Set {
    fn times(&self) -> i64 {
        length(&self.hours) * length(&self.minutes) * length(&self.seconds)
    }

    fn len(&self) -> i64 {
        length(&self.days) * self.times()
    }

    /// The local time at a position of the product.
    fn at(&self, position: i64) -> Option<i64> {
        let times = self.times();
        if times == 0 {
            return None;
        }
        let (day, time) = (position.div_euclid(times), position.rem_euclid(times));
        let (minutes, seconds) = (length(&self.minutes), length(&self.seconds));
        let pick = |list: &[i64], index: i64| list.get(usize::try_from(index).ok()?).copied();
        Some(
            pick(&self.days, day)? * DAY
                + pick(&self.hours, time / (minutes * seconds))? * 3600
                + pick(&self.minutes, time / seconds % minutes)? * 60
                + pick(&self.seconds, time % seconds)?,
        )
    }

    fn next(&mut self) -> Option<i64> {
        let position = match &self.positions {
            Some(positions) => *positions.get(usize::try_from(self.next).ok()?)?,
            None => self.next,
        };
        let time = self.at(position)?;
        self.next += 1;
        Some(time)
    }

    /// Skips whole days before the one of `floor`.
    fn seek(&mut self, floor: i64) {
        if self.positions.is_none() {
            let day = floor.div_euclid(DAY);
            let before = self.days.partition_point(|&other| other < day);
            self.next = i64::try_from(before).unwrap_or(i64::MAX).saturating_mul(self.times());
        }
    }
}

/// A day, taken apart.
struct Date {
    day: i64,
    year: i32,
    month: i32,
    month_day: i32,
    weekday: u8,
}

fn length(list: &[i64]) -> i64 {
    i64::try_from(list.len()).unwrap_or(i64::MAX)
}

impl<'r> Expansion<'r> {
    /// The instances from `start` (which comes only if the rule makes it) to `last`.
    #[must_use]
    pub fn new(rule: &'r Rule, start: i64, last: Option<i64>) -> Self {
        Self {
            rule,
            start,
            last: last.unwrap_or(LAST).min(LAST),
            floor: start,
            next_period: 0,
            left: rule.count.unwrap_or(u32::MAX),
            steps: 0,
            set: Set::default(),
        }
    }

    /// Leaves out instances before `floor` without walking through them, where the rule has no COUNT. Some before it
    /// may still come.
    #[must_use]
    pub fn from(mut self, floor: i64) -> Self {
        if floor <= self.start || self.rule.count.is_some() {
            return self;
        }
        let unit = match self.rule.frequency {
            Frequency::Yearly => {
                i64::from(civil_from_days(floor.div_euclid(DAY)).0)
                    - i64::from(civil_from_days(self.start.div_euclid(DAY)).0)
            }
            Frequency::Monthly => month_number(floor) - month_number(self.start),
            Frequency::Weekly => (floor - self.start) / (7 * DAY),
            Frequency::Daily => (floor - self.start) / DAY,
            Frequency::Hourly => (floor - self.start) / 3600,
            Frequency::Minutely => (floor - self.start) / 60,
            Frequency::Secondly => floor - self.start,
        };
        // One period of room: a period begins before its first instance.
        self.next_period = (unit / self.rule.interval - 1).max(0);
        self.floor = floor;
        self
    }

    /// Loads the next period; `None` after the last.
    fn load(&mut self) -> Option<()> {
        let rule = self.rule;
        let ahead = self.next_period.checked_mul(rule.interval)?;
        let (start_day, start_time) = (self.start.div_euclid(DAY), self.start.rem_euclid(DAY));
        self.next_period += 1;
        self.set.days.clear();
        self.set.next = 0;
        let or = |list: &Vec<i64>, default: i64| if list.is_empty() { vec![default] } else { list.clone() };
        if rule.frequency <= Frequency::Daily && self.set.seconds.is_empty() {
            self.set.hours = or(&rule.by_hour, start_time / 3600);
            self.set.minutes = or(&rule.by_minute, start_time / 60 % 60);
            self.set.seconds = or(&rule.by_second, start_time % 60);
        }
        match rule.frequency {
            Frequency::Yearly => {
                let year = i64::from(civil_from_days(start_day).0).checked_add(ahead)?;
                let year = i32::try_from(year).ok()?;
                if days_from_civil(year, 1, 1)? * DAY > self.last {
                    return None;
                }
                let months = if !rule.by_month.is_empty() {
                    rule.by_month.clone()
                } else if self.needs_date() {
                    vec![civil_from_days(start_day).1]
                } else {
                    (1..=12).collect()
                };
                for month in months {
                    self.load_month(year, month);
                }
            }
            Frequency::Monthly => {
                let month = month_number(self.start).checked_add(ahead)?;
                let year = i32::try_from(month.div_euclid(12)).ok()?;
                let month = i32::try_from(month.rem_euclid(12)).ok()? + 1;
                if days_from_civil(year, month, 1)? * DAY > self.last {
                    return None;
                }
                if rule.by_month.is_empty() || rule.by_month.contains(&month) {
                    self.load_month(year, month);
                }
            }
            Frequency::Weekly => {
                let into_week = (i64::from(weekday(start_day)) + 7 - i64::from(rule.week_start)) % 7;
                let first = (start_day - into_week).checked_add(ahead.checked_mul(7)?)?;
                if first * DAY > self.last {
                    return None;
                }
                let start_weekday = weekday(start_day);
                for day in first..first + 7 {
                    let wanted = !self.needs_date() || weekday(day) == start_weekday;
                    if wanted && self.admits_day(day) {
                        self.set.days.push(day);
                    }
                }
            }
            Frequency::Daily => {
                let day = start_day.checked_add(ahead)?;
                if day * DAY > self.last {
                    return None;
                }
                if self.admits_day(day) {
                    self.set.days.push(day);
                }
            }
            Frequency::Hourly | Frequency::Minutely | Frequency::Secondly => {
                let unit = match rule.frequency {
                    Frequency::Hourly => 3600,
                    Frequency::Minutely => 60,
                    _ => 1,
                };
                let time = self.start.checked_add(ahead.checked_mul(unit)?)?;
                let (day, second) = (time.div_euclid(DAY), time.rem_euclid(DAY));
                if time > self.last {
                    return None;
                }
                let (hour, minute) = (second / 3600, second / 60 % 60);
                let admits = |list: &[i64], value: i64| list.is_empty() || list.contains(&value);
                // A long way to the next day, hour or minute that is admitted is taken in one step.
                let next = if !self.admits_day(day) {
                    Some((day + 1) * DAY)
                } else if !admits(&rule.by_hour, hour) {
                    Some(day * DAY + (hour + 1) * 3600)
                } else if unit < 3600 && !admits(&rule.by_minute, minute) {
                    Some(day * DAY + second / 60 * 60 + 60)
                } else if unit < 60 && !admits(&rule.by_second, second % 60) {
                    Some(time + 1)
                } else {
                    self.set.days.push(day);
                    None
                };
                if let Some(next) = next {
                    let period = rule.interval.checked_mul(unit)?;
                    let units = (next - self.start).checked_add(period - 1)? / period;
                    self.next_period = self.next_period.max(units);
                    return Some(());
                }
                let set = &mut self.set;
                set.hours = vec![hour];
                set.minutes = if unit == 3600 { or(&rule.by_minute, minute) } else { vec![minute] };
                set.seconds = if unit == 1 { vec![second % 60] } else { or(&rule.by_second, second % 60) };
            }
        }
        self.pick_positions();
        Some(())
    }

    /// Whether the date within the year comes from DTSTART.
    fn needs_date(&self) -> bool {
        let rule = self.rule;
        rule.by_day.is_empty()
            && rule.by_month_day.is_empty()
            && rule.by_year_day.is_empty()
            && rule.by_week_number.is_empty()
    }

    fn load_month(&mut self, year: i32, month: i32) {
        let Some(first) = days_from_civil(year, month, 1) else { return };
        let start_day = self.start.div_euclid(DAY);
        if self.needs_date() {
            let day = civil_from_days(start_day).2;
            if day <= days_in_month(year, month) {
                self.set.days.push(first + i64::from(day) - 1);
            }
            return;
        }
        // Only BYWEEKNO: the day of the week comes from DTSTART.
        let rule = self.rule;
        let only_week = !rule.by_week_number.is_empty()
            && rule.by_day.is_empty()
            && rule.by_month_day.is_empty()
            && rule.by_year_day.is_empty();
        let (mut date, start_weekday) =
            (Date { day: first, year, month, month_day: 1, weekday: weekday(first) }, weekday(start_day));
        while date.month_day <= days_in_month(year, month) {
            if (!only_week || date.weekday == start_weekday) && self.admits(&date) {
                self.set.days.push(date.day);
            }
            date.day += 1;
            date.month_day += 1;
            date.weekday = (date.weekday + 1) % 7;
        }
    }

    /// Whether all the parts about days admit a day.
    fn admits_day(&self, day: i64) -> bool {
        if self.needs_date() && self.rule.by_month.is_empty() {
            return true;
        }
        let (year, month, month_day) = civil_from_days(day);
        self.admits(&Date { day, year, month, month_day, weekday: weekday(day) })
    }

    /// Whether all the parts about days admit a date.
    fn admits(&self, date: &Date) -> bool {
        let rule = self.rule;
        let Date { day, year, month, month_day, weekday } = *date;
        if !rule.by_day.is_empty()
            && !rule.by_day.iter().any(|&(ordinal, on)| on == weekday && self.admits_ordinal(date, ordinal))
        {
            return false;
        }
        if !rule.by_month.is_empty() && !rule.by_month.contains(&month) {
            return false;
        }
        if !rule.by_month_day.is_empty() {
            let from_end = month_day - days_in_month(year, month) - 1;
            if !rule.by_month_day.iter().any(|&wanted| wanted == month_day || wanted == from_end) {
                return false;
            }
        }
        if !rule.by_year_day.is_empty() {
            let year_day = year_day(day, year);
            let from_end = year_day - days_in_year(year) - 1;
            if !rule.by_year_day.iter().any(|&wanted| wanted == year_day || wanted == from_end) {
                return false;
            }
        }
        if !rule.by_week_number.is_empty() {
            let (week, weeks) = week_of(day, year, rule.week_start);
            if !rule.by_week_number.iter().any(|&wanted| wanted == week || wanted == week - weeks - 1) {
                return false;
            }
        }
        true
    }

    /// Whether a day is the so-many-th of its weekday in its month, or in its year where the rule is yearly and names
    /// no months. In other rules the number has no meaning.
    fn admits_ordinal(&self, date: &Date, ordinal: i32) -> bool {
        if ordinal == 0 || self.rule.frequency > Frequency::Monthly {
            return true;
        }
        let in_year = self.rule.frequency == Frequency::Yearly && self.rule.by_month.is_empty();
        let (position, days) = if in_year {
            (year_day(date.day, date.year), days_in_year(date.year))
        } else {
            (date.month_day, days_in_month(date.year, date.month))
        };
        if ordinal > 0 { (position - 1) / 7 + 1 == ordinal } else { (days - position) / 7 + 1 == -ordinal }
    }

    /// Applies BYSETPOS.
    fn pick_positions(&mut self) {
        if self.rule.by_set_position.is_empty() {
            return;
        }
        let length = self.set.len();
        let mut positions: Vec<i64> = self
            .rule
            .by_set_position
            .iter()
            .map(|&position| i64::from(position))
            .map(|position| if position > 0 { position - 1 } else { length + position })
            .filter(|position| (0..length).contains(position))
            .collect();
        positions.sort_unstable();
        positions.dedup();
        self.set.positions = Some(positions);
    }
}

impl Iterator for Expansion<'_> {
    type Item = i64;

    fn next(&mut self) -> Option<i64> {
        while self.left > 0 && self.steps < MAX_STEPS {
            self.steps += 1;
            match self.set.next() {
                Some(time) if time > self.last => self.left = 0,
                Some(time) if time >= self.start => {
                    self.left -= 1;
                    return Some(time);
                }
                Some(_) => {}
                None if self.load().is_some() => self.set.seek(self.floor),
                None => self.left = 0,
            }
        }
        None
    }
}

/// Months since the year 0.
fn month_number(local: i64) -> i64 {
    let (year, month, _) = civil_from_days(local.div_euclid(DAY));
    i64::from(year) * 12 + i64::from(month) - 1
}

fn days_in_year(year: i32) -> i32 {
    if is_leap(year) { 366 } else { 365 }
}

/// 1 for the first of January.
fn year_day(day: i64, year: i32) -> i32 {
    let first = days_from_civil(year, 1, 1).unwrap_or(day);
    i32::try_from(day - first).unwrap_or(0) + 1
}

/// The number of the week a day is in, and how many weeks the week's year has. The first week of a year is the first
/// with at least four days of it.
fn week_of(day: i64, year: i32, week_start: u8) -> (i32, i32) {
    // The first day of the first week of a year, by arithmetic that also holds for the years 0 and 10000.
    let first_week = |year: i32| {
        let january =
            if year < 1 { -719_162 - 366 } else { days_from_civil(year, 1, 1).unwrap_or(2_932_897) };
        let into_week = (i64::from(weekday(january)) + 7 - i64::from(week_start)) % 7;
        if into_week <= 3 { january - into_week } else { january - into_week + 7 }
    };
    let (previous, this, next) = (first_week(year - 1), first_week(year), first_week(year + 1));
    let (first, end) = if day < this {
        (previous, this)
    } else if day >= next {
        (next, next + 52 * 7)
    } else {
        (this, next)
    };
    let weeks = |days: i64| i32::try_from(days.div_euclid(7)).unwrap_or(0);
    (weeks(day - first) + 1, weeks(end - first))
}
