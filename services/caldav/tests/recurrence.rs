//! Recurrence rules against python-dateutil: see `data/recurrence/generate.py`.

use caldav::calendar::expansion::Expansion;
use caldav::calendar::rule::Rule;
use caldav::calendar::time::{DateTime, Form};
use caldav::calendar::zone::Zone;

fn text(local: i64) -> String {
    DateTime { local, form: Form::Floating }.text()
}

#[test]
fn rules_make_the_times_that_dateutil_makes() {
    let mut wrong = Vec::new();
    for line in include_str!("data/recurrence/rules.txt").lines() {
        let mut words = line.split(' ');
        let start = DateTime::parse(words.next().unwrap()).unwrap().local;
        let rule = Rule::parse(words.next().unwrap()).unwrap();
        let mut expected: Vec<&str> = words.collect();
        let more = expected.last() == Some(&"...");
        if more {
            expected.pop();
        }
        let most = expected.len() + usize::from(!more);
        let made: Vec<String> =
            Expansion::new(&rule, start, rule.last(&Zone::Utc)).take(most).map(text).collect();
        if made != expected {
            wrong.push(format!("{line}\n  made {made:?}"));
            continue;
        }
        // From anywhere, the rest is the same.
        if rule.count.is_none() && !expected.is_empty() {
            let middle = expected.len() / 2;
            let floor = DateTime::parse(expected[middle]).unwrap().local;
            let rest: Vec<String> = Expansion::new(&rule, start, rule.last(&Zone::Utc))
                .from(floor)
                .filter(|time| *time >= floor)
                .take(most - middle)
                .map(text)
                .collect();
            if rest != expected[middle..] {
                wrong.push(format!("{line}\n  from {} made {rest:?}", expected[middle]));
            }
        }
    }
    assert_eq!(include_str!("data/recurrence/rules.txt").lines().count(), 800);
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}
