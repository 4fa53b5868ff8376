//! Recurrence rules as written (RFC 5545 clause 3.3.10).

use super::time::{DAY, DateTime, Form};
use super::zone::Zone;

/// `FREQ`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Frequency {
    /// Every so many years.
    Yearly,
    /// Every so many months.
    Monthly,
    /// Every so many weeks.
    Weekly,
    /// Every so many days.
    Daily,
    /// Every so many hours.
    Hourly,
    /// Every so many minutes.
    Minutely,
    /// Every so many seconds.
    Secondly,
}

/// A parsed rule. Lists are sorted and without repetition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// `FREQ`.
    pub frequency: Frequency,
    /// `INTERVAL`, at least 1.
    pub interval: i64,
    /// `COUNT`.
    pub count: Option<u32>,
    /// `UNTIL`.
    pub until: Option<DateTime>,
    /// `BYSECOND`, 0 to 59 (60 is taken for 59).
    pub by_second: Vec<i64>,
    /// `BYMINUTE`.
    pub by_minute: Vec<i64>,
    /// `BYHOUR`.
    pub by_hour: Vec<i64>,
    /// `BYDAY`: the number before (0 for none) and the day, 0 for Monday.
    pub by_day: Vec<(i32, u8)>,
    /// `BYMONTHDAY`.
    pub by_month_day: Vec<i32>,
    /// `BYYEARDAY`.
    pub by_year_day: Vec<i32>,
    /// `BYWEEKNO`.
    pub by_week_number: Vec<i32>,
    /// `BYMONTH`.
    pub by_month: Vec<i32>,
    /// `BYSETPOS`.
    pub by_set_position: Vec<i32>,
    /// `WKST`, 0 for Monday.
    pub week_start: u8,
}

/// Why a rule cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleError {
    /// It is not a rule of RFC 5545.
    Malformed,
    /// It is of a calendar other than the Gregorian, or moves invalid dates (`RSCALE`, `SKIP` of RFC 7529). Such a rule
    /// is stored; the server sees only the first instance.
    Unsupported,
}

/// Longest interval read. Longer ones have no second instance before the year 9999 but for those of seconds.
const MAX_INTERVAL: i64 = 1_000_000_000;

impl Rule {
    /// Reads the value of RRULE.
    ///
    /// # Errors
    /// See [`RuleError`].
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        let mut frequency = None;
        let mut rule = Self {
            frequency: Frequency::Yearly,
            interval: 1,
            count: None,
            until: None,
            by_second: Vec::new(),
            by_minute: Vec::new(),
            by_hour: Vec::new(),
            by_day: Vec::new(),
            by_month_day: Vec::new(),
            by_year_day: Vec::new(),
            by_week_number: Vec::new(),
            by_month: Vec::new(),
            by_set_position: Vec::new(),
            week_start: 0,
        };
        let mut unsupported = false;
        // Clients are found that end a rule with a semicolon.
        for part in text.trim_ascii().split(';').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').ok_or(RuleError::Malformed)?;
            let value = value.trim_ascii();
            match name.trim_ascii().to_ascii_uppercase().as_str() {
                "FREQ" => frequency = Some(parse_frequency(value).ok_or(RuleError::Malformed)?),
                "INTERVAL" => {
                    let interval: i64 = value.parse().map_err(|_| RuleError::Malformed)?;
                    if interval < 1 {
                        return Err(RuleError::Malformed);
                    }
                    rule.interval = interval.min(MAX_INTERVAL);
                }
                "COUNT" => {
                    let count: u64 = value.parse().map_err(|_| RuleError::Malformed)?;
                    rule.count = Some(u32::try_from(count).unwrap_or(u32::MAX));
                }
                "UNTIL" => rule.until = Some(DateTime::parse(value).ok_or(RuleError::Malformed)?),
                "BYSECOND" => {
                    rule.by_second =
                        list(value, 0..=60)?.into_iter().map(|second| second.min(59).into()).collect();
                    rule.by_second.dedup();
                }
                "BYMINUTE" => rule.by_minute = list(value, 0..=59)?.into_iter().map(i64::from).collect(),
                "BYHOUR" => rule.by_hour = list(value, 0..=23)?.into_iter().map(i64::from).collect(),
                "BYDAY" => {
                    let days = value.split(',').map(|day| parse_day(day.trim_ascii()));
                    rule.by_day = days.collect::<Option<Vec<_>>>().ok_or(RuleError::Malformed)?;
                    rule.by_day.sort_unstable();
                    rule.by_day.dedup();
                }
                "BYMONTHDAY" => rule.by_month_day = signed_list(value, 31)?,
                "BYYEARDAY" => rule.by_year_day = signed_list(value, 366)?,
                "BYWEEKNO" => rule.by_week_number = signed_list(value, 53)?,
                "BYMONTH" => match list(value, 1..=12) {
                    Ok(months) => rule.by_month = months,
                    // `5L` is a leap month of another calendar.
                    Err(error) if !value.contains(['L', 'l']) => return Err(error),
                    Err(_) => unsupported = true,
                },
                "BYSETPOS" => rule.by_set_position = signed_list(value, 366)?,
                "WKST" => rule.week_start = parse_weekday(value).ok_or(RuleError::Malformed)?,
                "RSCALE" => unsupported |= !value.eq_ignore_ascii_case("GREGORIAN"),
                "SKIP" => unsupported |= !value.eq_ignore_ascii_case("OMIT"),
                // Clause 3.1: what an implementation does not know it ignores.
                _ => {}
            }
        }
        rule.frequency = frequency.ok_or(RuleError::Malformed)?;
        if rule.count == Some(0) {
            return Err(RuleError::Malformed);
        }
        if unsupported { Err(RuleError::Unsupported) } else { Ok(rule) }
    }

    /// The last local time that `UNTIL` admits, for a start in `zone`.
    #[must_use]
    pub fn last(&self, zone: &Zone) -> Option<i64> {
        self.until.map(|until| match until.form {
            // A date after a start with a time: clients mean the whole day, though the RFC has no such form.
            Form::Date => until.local + DAY - 1,
            Form::Floating => until.local,
            Form::Utc => zone.local(until.local),
        })
    }
}

fn parse_frequency(text: &str) -> Option<Frequency> {
    Some(match text.to_ascii_uppercase().as_str() {
        "YEARLY" => Frequency::Yearly,
        "MONTHLY" => Frequency::Monthly,
        "WEEKLY" => Frequency::Weekly,
        "DAILY" => Frequency::Daily,
        "HOURLY" => Frequency::Hourly,
        "MINUTELY" => Frequency::Minutely,
        "SECONDLY" => Frequency::Secondly,
        _ => return None,
    })
}

fn parse_weekday(text: &str) -> Option<u8> {
    let position =
        ["MO", "TU", "WE", "TH", "FR", "SA", "SU"].iter().position(|day| day.eq_ignore_ascii_case(text))?;
    u8::try_from(position).ok()
}

fn parse_day(text: &str) -> Option<(i32, u8)> {
    let start = text.len().checked_sub(2).filter(|&start| text.is_char_boundary(start))?;
    let (ordinal, day) = text.split_at(start);
    let day = parse_weekday(day)?;
    if ordinal.is_empty() {
        return Some((0, day));
    }
    let ordinal: i32 = ordinal.parse().ok()?;
    (ordinal != 0 && (-53..=53).contains(&ordinal)).then_some((ordinal, day))
}

fn list(text: &str, range: std::ops::RangeInclusive<i32>) -> Result<Vec<i32>, RuleError> {
    let mut numbers = Vec::new();
    for number in text.split(',') {
        let number: i32 = number.trim_ascii().parse().map_err(|_| RuleError::Malformed)?;
        if !range.contains(&number) {
            return Err(RuleError::Malformed);
        }
        numbers.push(number);
    }
    numbers.sort_unstable();
    numbers.dedup();
    Ok(numbers)
}

/// A list of numbers from `-most` to `most` without 0.
fn signed_list(text: &str, most: i32) -> Result<Vec<i32>, RuleError> {
    let numbers = list(text, -most..=most)?;
    if numbers.contains(&0) { Err(RuleError::Malformed) } else { Ok(numbers) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rules_are_read_in_any_order_and_case() {
        let rule = Rule::parse("wkst=su;byday=-1mo,TU,2FR;COUNT=3;INTERVAL=2;FREQ=monthly;X-Y=1;").unwrap();
        assert_eq!(rule.frequency, Frequency::Monthly);
        assert_eq!((rule.interval, rule.count, rule.week_start), (2, Some(3), 6));
        assert_eq!(rule.by_day, [(-1, 0), (0, 1), (2, 4)]);
    }

    #[test]
    fn what_is_not_a_rule_is_refused() {
        for bad in [
            "",
            "COUNT=1",
            "FREQ=NEVER",
            "FREQ=DAILY;INTERVAL=0",
            "FREQ=DAILY;INTERVAL=-1",
            "FREQ=DAILY;COUNT=0",
            "FREQ=DAILY;BYHOUR=24",
            "FREQ=DAILY;BYDAY=0MO",
            "FREQ=DAILY;BYDAY=\u{fc}",
            "FREQ=DAILY;BYMONTHDAY=0",
            "FREQ=DAILY;BYMONTHDAY=32",
            "FREQ=DAILY;UNTIL=soon",
            "FREQ=DAILY;BYMONTH=13",
            "FREQ",
            "FREQ=DAILY;BYDAY=",
        ] {
            assert_eq!(Rule::parse(bad), Err(RuleError::Malformed), "{bad}");
        }
        for other in [
            "RSCALE=CHINESE;FREQ=YEARLY",
            "FREQ=YEARLY;RSCALE=HEBREW;BYMONTH=5L",
            "FREQ=YEARLY;SKIP=FORWARD;RSCALE=GREGORIAN",
        ] {
            assert_eq!(Rule::parse(other), Err(RuleError::Unsupported), "{other}");
        }
        assert!(Rule::parse("RSCALE=GREGORIAN;FREQ=YEARLY;SKIP=OMIT").is_ok());
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "(FREQ=(DAILY|YEARLY))?(;[A-Z]{2,10}=[-+A-Z0-9,]{0,9}){0,4}.{0,4}") {
            let _ = Rule::parse(&text);
        }
    }
}
