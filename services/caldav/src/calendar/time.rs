//! Dates, times, durations and periods of iCalendar (RFC 5545 clauses 3.3.4 to 3.3.9), as numbers.
//!
//! A **local** time is the number of seconds since 1970-01-01T00:00:00 on the clock of its zone; an **instant** is POSIX
//! time. Both are `i64`. Years are 1 to 9999, so sums of parsed values never overflow.

use std::fmt::Write;

use crate::contentline::Property;

/// Seconds in a day.
pub const DAY: i64 = 86_400;

/// The first local time there is: the beginning of the year 1.
pub(super) const FIRST: i64 = -62_135_596_800;

/// The last local time there is: the end of the year 9999.
pub(super) const LAST: i64 = 253_402_300_799;

/// A range of instants as filters give it: from `start` to before `end`; `None` is unbounded (RFC 4791 clause 9.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeRange {
    /// First second.
    pub start: Option<i64>,
    /// First second after.
    pub end: Option<i64>,
}

impl TimeRange {
    /// All time.
    pub const ALWAYS: Self = Self { start: None, end: None };

    /// Reads the attributes `start` and `end`: date-times in UTC. `None` if one is not, if both are missing, or if the
    /// range is empty.
    #[must_use]
    pub fn parse(start: Option<&str>, end: Option<&str>) -> Option<Self> {
        let instant = |text: Option<&str>| match text.map(DateTime::parse) {
            None => Some(None),
            Some(Some(DateTime { local, form: Form::Utc })) => Some(Some(local)),
            Some(_) => None,
        };
        let range = Self { start: instant(start)?, end: instant(end)? };
        let sound = match (range.start, range.end) {
            (None, None) => false,
            (Some(start), Some(end)) => start < end,
            _ => true,
        };
        sound.then_some(range)
    }

    /// The first second, or one before all others.
    #[must_use]
    pub fn first(self) -> i64 {
        self.start.unwrap_or(i64::MIN)
    }

    /// The first second after, or one after all others.
    #[must_use]
    pub fn after(self) -> i64 {
        self.end.unwrap_or(i64::MAX)
    }

    /// The range with room on both sides.
    #[must_use]
    pub fn widened(self, before: i64, after: i64) -> Self {
        Self {
            start: self.start.map(|start| start.saturating_sub(before)),
            end: self.end.map(|end| end.saturating_add(after)),
        }
    }
}

/// How a date or time is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A whole day.
    Date,
    /// On the clock of whoever looks.
    Floating,
    /// In UTC.
    Utc,
}

/// A date or date-time as written; its TZID, if any, is a parameter of its property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DateTime {
    /// Local seconds; for a date, its midnight.
    pub local: i64,
    /// How to read them.
    pub form: Form,
}

impl DateTime {
    /// Reads `YYYYMMDD`, `YYYYMMDDTHHMMSS` or `YYYYMMDDTHHMMSSZ`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.trim_ascii().as_bytes();
        let (date, rest) = bytes.split_at_checked(8)?;
        let days = days_from_civil(number(&date[..4])?, number(&date[4..6])?, number(&date[6..])?)?;
        if rest.is_empty() {
            return Some(Self { local: days * DAY, form: Form::Date });
        }
        let (rest, form) = match rest.strip_suffix(b"Z").or_else(|| rest.strip_suffix(b"z")) {
            Some(rest) => (rest, Form::Utc),
            None => (rest, Form::Floating),
        };
        let time = rest.strip_prefix(b"T").or_else(|| rest.strip_prefix(b"t"))?;
        if time.len() != 6 {
            return None;
        }
        let (hour, minute, second) = (number(&time[..2])?, number(&time[2..4])?, number(&time[4..])?);
        if hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        // A leap second is taken for the one before it (RFC 5545 clause 3.3.12).
        let local = days * DAY + i64::from(hour) * 3600 + i64::from(minute) * 60 + i64::from(second.min(59));
        Some(Self { local, form })
    }

    /// Writes it as RFC 5545 does.
    #[must_use]
    pub fn text(self) -> String {
        let (year, month, day) = civil_from_days(self.local.div_euclid(DAY));
        let mut text = format!("{year:04}{month:02}{day:02}");
        if self.form != Form::Date {
            let second = self.local.rem_euclid(DAY);
            // Writing to a String cannot fail.
            let _ = write!(text, "T{:02}{:02}{:02}", second / 3600, second / 60 % 60, second % 60);
            if self.form == Form::Utc {
                text.push('Z');
            }
        }
        text
    }
}

/// A duration: days are of the calendar, seconds are exact (RFC 5545 clause 3.3.6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Duration {
    /// Nominal days.
    pub days: i64,
    /// Exact seconds.
    pub seconds: i64,
}

impl Duration {
    /// Longest duration read, in days: longer than all years there are.
    const MAX_DAYS: i64 = 10_000 * 366;

    /// Reads `[+-]P[nW][nD][T[nH][nM][nS]]`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim_ascii();
        let (text, sign) = match text.strip_prefix('-') {
            Some(rest) => (rest, -1),
            None => (text.strip_prefix('+').unwrap_or(text), 1),
        };
        let mut rest = text.strip_prefix(['P', 'p'])?;
        let mut duration = Self::default();
        let (mut time, mut any) = (false, false);
        while !rest.is_empty() {
            if !time && let Some(after) = rest.strip_prefix(['T', 't']) {
                (time, rest) = (true, after);
                continue;
            }
            let end = rest.find(|c: char| !c.is_ascii_digit()).filter(|&end| (1..=9).contains(&end))?;
            let count: i64 = rest[..end].parse().ok()?;
            match (rest.as_bytes()[end].to_ascii_uppercase(), time) {
                (b'W', false) => duration.days += count * 7,
                (b'D', false) => duration.days += count,
                (b'H', true) => duration.seconds += count * 3600,
                (b'M', true) => duration.seconds += count * 60,
                (b'S', true) => duration.seconds += count,
                _ => return None,
            }
            if duration.days > Self::MAX_DAYS || duration.seconds > Self::MAX_DAYS * DAY {
                return None;
            }
            any = true;
            rest = &rest[end + 1..];
        }
        any.then_some(Self { days: duration.days * sign, seconds: duration.seconds * sign })
    }

    /// Its length where every day has 24 hours.
    #[must_use]
    pub fn nominal_seconds(self) -> i64 {
        self.days * DAY + self.seconds
    }
}

/// The dates of a property that holds a list of them (EXDATE, RDATE), as `(value, end of period)`.
pub(super) fn date_list(
    property: &Property<'_>,
) -> impl Iterator<Item = Option<(DateTime, Option<PeriodEnd>)>> {
    property.value.split(',').map(|text| match text.split_once('/') {
        None => DateTime::parse(text).map(|start| (start, None)),
        Some((start, end)) => {
            let end = match DateTime::parse(end) {
                Some(end) => PeriodEnd::At(end),
                None => PeriodEnd::After(Duration::parse(end)?),
            };
            Some((DateTime::parse(start)?, Some(end)))
        }
    })
}

/// The end of a period (RFC 5545 clause 3.3.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PeriodEnd {
    At(DateTime),
    After(Duration),
}

fn number(digits: &[u8]) -> Option<i32> {
    digits
        .iter()
        .try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + i32::from(digit - b'0')))
}

/// Days from 1970-01-01 to a date of the Gregorian calendar, years 1 to 9999; `None` if there is no such day.
pub(super) fn days_from_civil(year: i32, month: i32, day: i32) -> Option<i64> {
    if !(1..=9999).contains(&year)
        || !(1..=12).contains(&month)
        || day < 1
        || day > days_in_month(year, month)
    {
        return None;
    }
    // Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms": years begin in March, eras have 400 years.
    let year = i64::from(if month <= 2 { year - 1 } else { year });
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = i64::from((153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1);
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

/// The year, month and day of a number of days since 1970-01-01.
pub(super) fn civil_from_days(days: i64) -> (i32, i32, i32) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let small = |number: i64| i32::try_from(number).unwrap_or(i32::MAX);
    (small(year), small(month), small(day))
}

/// Whether a year has 366 days.
pub(super) const fn is_leap(year: i32) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// Days in a month of a year.
pub(super) const fn days_in_month(year: i32, month: i32) -> i32 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// The day of the week, 0 for Monday.
pub(super) fn weekday(days: i64) -> u8 {
    // 1970-01-01 was a Thursday.
    u8::try_from((days + 3).rem_euclid(7)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dates_and_times_of_the_rfc() {
        let parse = |text| DateTime::parse(text).map(|time| (time.local, time.form));
        assert_eq!(parse("19970714"), Some((868_838_400, Form::Date)));
        assert_eq!(parse("19980118T230000"), Some((885_164_400, Form::Floating)));
        assert_eq!(parse("19970714T173000Z"), Some((868_901_400, Form::Utc)));
        assert_eq!(parse("19970630T235960Z"), parse("19970630T235959Z"));
        for bad in [
            "",
            "1997071",
            "19970732",
            "19970229",
            "19971301",
            "00000101",
            "19970714T",
            "19970714T1730",
            "19970714T240000",
            "19970714T173000+0100",
            "199707\u{fc}",
            "1997071٣",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn durations_of_the_rfc() {
        let parse = |text| Duration::parse(text).map(|duration| (duration.days, duration.seconds));
        assert_eq!(parse("P15DT5H0M20S"), Some((15, 18_020)));
        assert_eq!(parse("P7W"), Some((49, 0)));
        assert_eq!(parse("-PT15M"), Some((0, -900)));
        assert_eq!(parse("+P1D"), Some((1, 0)));
        assert_eq!(parse("PT0S"), Some((0, 0)));
        for bad in ["", "P", "PT", "15M", "P1H", "PT1D", "P-1D", "P9999999999D", "PT1", "P1DT1H1X"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn ranges_are_in_utc_and_not_empty() {
        let (early, late) = ("20060101T000000Z", "20060102T000000Z");
        assert_eq!(
            TimeRange::parse(Some(early), Some(late)),
            Some(TimeRange { start: Some(1_136_073_600), end: Some(1_136_160_000) })
        );
        assert!(TimeRange::parse(None, Some(late)).is_some());
        for (start, end) in [
            (None, None),
            (Some(late), Some(early)),
            (Some(early), Some(early)),
            (Some("20060101T000000"), None),
            (Some("20060101"), Some(late)),
        ] {
            assert_eq!(TimeRange::parse(start, end), None);
        }
    }

    proptest! {
        #[test]
        fn days_and_dates_agree(days in -719_162_i64..=2_932_896) {
            let (year, month, day) = civil_from_days(days);
            prop_assert_eq!(days_from_civil(year, month, day), Some(days));
            let theirs = jiff::civil::date(1970, 1, 1) + jiff::Span::new().days(days);
            prop_assert_eq!((i32::from(theirs.year()), i32::from(theirs.month()), i32::from(theirs.day())), (year, month, day));
            prop_assert_eq!(theirs.weekday().to_monday_zero_offset(), i8::try_from(weekday(days)).unwrap());
        }

        #[test]
        fn no_text_makes_a_parser_panic(text in ".{0,20}") {
            let _ = (DateTime::parse(&text), Duration::parse(&text));
        }

        #[test]
        fn what_is_written_is_read(local in -62_135_596_800_i64..=253_402_300_799) {
            for form in [Form::Floating, Form::Utc] {
                let time = DateTime { local, form };
                prop_assert_eq!(DateTime::parse(&time.text()), Some(time));
            }
            let date = DateTime { local: local.div_euclid(DAY) * DAY, form: Form::Date };
            prop_assert_eq!(DateTime::parse(&date.text()), Some(date));
        }
    }
}
