//! Objects as clients make them: validation, instances, filters, expansion, free-busy.

use proptest::prelude::*;

use super::time::DateTime;
use super::*;
use crate::contentline::ParseError;
use crate::contentline::matching::{Collation, MatchType, ParameterCondition, ParameterFilter, TextMatch};
use crate::index::{Component, Span};

fn object(lines: &str) -> String {
    format!("BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//x//y//EN\r\n{lines}END:VCALENDAR\r\n")
        .replace("\r\n", "\n")
}

fn event(lines: &str) -> String {
    object(&format!("BEGIN:VEVENT\nUID:u\nDTSTAMP:20240101T000000Z\n{lines}END:VEVENT\n"))
}

fn instant(text: &str) -> i64 {
    DateTime::parse(text).unwrap().local
}

fn range(start: &str, end: &str) -> TimeRange {
    TimeRange { start: Some(instant(start)), end: Some(instant(end)) }
}

/// A filter for a component, with what is asked of it.
fn filter(
    name: &str,
    time_range: Option<TimeRange>,
    properties: Vec<PropertyFilter>,
    components: Vec<ComponentFilter>,
) -> Filter {
    let inner = ComponentFilter {
        name: name.into(),
        condition: ComponentCondition::Defined { time_range, properties, components },
    };
    Filter {
        calendar: ComponentFilter {
            name: "VCALENDAR".into(),
            condition: ComponentCondition::Defined {
                time_range: None,
                properties: vec![],
                components: vec![inner],
            },
        },
    }
}

fn text(text: &str) -> Option<TextMatch> {
    Some(TextMatch {
        text: text.into(),
        collation: Collation::AsciiCasemap,
        match_type: MatchType::Contains,
        negate: false,
    })
}

fn property(name: &str, text: Option<TextMatch>, parameters: Vec<ParameterFilter>) -> PropertyFilter {
    PropertyFilter {
        name: name.into(),
        condition: PropertyCondition::Defined { time_range: None, text, parameters },
    }
}

/// Whether an object overlaps a range; the index must not say otherwise.
fn overlaps(object: &str, name: &str, range: TimeRange) -> bool {
    let filter = filter(name, Some(range), vec![], vec![]);
    let matches = filter.matches(object.as_bytes(), &Zone::Utc);
    let preliminary = filter.preliminary(&validate(object.as_bytes()).unwrap());
    assert!(!matches || preliminary == Preliminary::Look, "{object} {range:?}");
    matches
}

#[test]
fn nasty_but_legal_objects_are_understood() {
    let bytes = b"\xef\xbb\xbfbegin:vcalendar\nversion:2.0\nBEGIN:X-THING\nX:1\nEND:X-THING\n\
        BEGIN:VEVENT\nuid:a\\,b\nDTSTART;X-Y=\"a:b;c\";TZID=\"Europe/Berlin\":20240101T100000\n\
        SUMMARY:\xc3\n \xbcber\n  here\nBEGIN:VAVAILABILITY\nEND:vavailability\nEND:VEVENT\n\nEND:VCALENDAR";
    let summary = validate(bytes).unwrap();
    assert_eq!(
        (summary.component, summary.uid.as_str(), summary.recurring),
        (Component::Event, "a,b", false)
    );
    assert!(
        summary.span.start <= instant("20240101T090000Z") && summary.span.end >= instant("20240101T090000Z")
    );
    let found = filter("VEVENT", None, vec![property("SUMMARY", text("\u{fc}BER here"), vec![])], vec![]);
    assert!(found.matches(bytes, &Zone::Utc));
    assert_eq!(CalendarData::default().apply(bytes, &Zone::Utc).unwrap(), bytes);
}

#[test]
fn what_cannot_be_stored_is_refused_with_its_reason() {
    let todo = "BEGIN:VTODO\nUID:u\nEND:VTODO\n";
    let bad = |component: &str, property| Invalid::Property { component: component.into(), property };
    for (text, error) in [
        (String::new(), Invalid::NotOneCalendar),
        ("BEGIN:VCARD\nEND:VCARD".into(), Invalid::NotOneCalendar),
        (object("").repeat(2), Invalid::NotOneCalendar),
        ("BEGIN:VCALENDAR\nVERSION:1.0\nEND:VCALENDAR".into(), Invalid::NotOneCalendar),
        (
            "BEGIN:VCALENDAR\n".into(),
            Invalid::Syntax(ParseError::End { line: 2, expected: "VCALENDAR".into() }),
        ),
        (object("METHOD:REQUEST\n"), Invalid::Method),
        (object(""), Invalid::UnsupportedComponent),
        (object("BEGIN:X-FOO\nUID:u\nEND:X-FOO\n"), Invalid::UnsupportedComponent),
        (object("BEGIN:VTODO\nEND:VTODO\n"), Invalid::Uid),
        (object(&format!("{todo}BEGIN:VTODO\nUID:v\nRECURRENCE-ID:20240101\nEND:VTODO\n")), Invalid::Uid),
        (object(&todo.repeat(2)), Invalid::MixedComponents),
        (object(&format!("{todo}BEGIN:VJOURNAL\nUID:u\nEND:VJOURNAL\n")), Invalid::MixedComponents),
        (event(""), bad("VEVENT", "DTSTART")),
        (event("DTSTART:yesterday\n"), bad("VEVENT", "DTSTART")),
        (event("DTSTART:20240101\nDTSTART:20240102\n"), bad("VEVENT", "DTSTART")),
        (event("DTSTART:20240101\nRRULE:FREQ=SOMETIMES\n"), bad("VEVENT", "RRULE")),
        (event("DTSTART:20240101\nDURATION:long\n"), bad("VEVENT", "DURATION")),
        (event("DTSTART:20240101\nRRULE:FREQ=DAILY;COUNT=1000000\n"), Invalid::TooManyInstances),
        ("x".repeat(crate::repository::MAX_RESOURCE_BYTES + 1), Invalid::TooLarge),
    ] {
        assert_eq!(validate(text.as_bytes()), Err(error), "{}", &text[..text.len().min(300)]);
    }
}

/// The table for VEVENT in RFC 4791 clause 9.9.
#[test]
fn events_overlap_as_the_table_says() {
    let day = |from: &str, to: &str| range(&format!("20240110T{from}Z"), &format!("20240110T{to}Z"));
    for (lines, start, end, expected) in [
        ("DTSTART:20240110T100000Z\nDTEND:20240110T110000Z\n", "110000", "120000", false),
        ("DTSTART:20240110T100000Z\nDTEND:20240110T110000Z\n", "105959", "120000", true),
        ("DTSTART:20240110T100000Z\nDTEND:20240110T110000Z\n", "090000", "100000", false),
        ("DTSTART:20240110T100000Z\nDURATION:PT1H\n", "105959", "120000", true),
        ("DTSTART:20240110T100000Z\nDURATION:PT0S\n", "100000", "110000", true),
        ("DTSTART:20240110T100000Z\nDURATION:PT0S\n", "090000", "100000", false),
        ("DTSTART:20240110T100000Z\n", "100000", "110000", true),
        ("DTSTART:20240110T100000Z\n", "100001", "110000", false),
        ("DTSTART;VALUE=DATE:20240110\n", "235959", "235959", true),
        ("DTSTART;VALUE=DATE:20240109\n", "000000", "100000", false),
        ("DTSTART;VALUE=DATE:20240108\nDTEND;VALUE=DATE:20240111\n", "100000", "110000", true),
        ("DTSTART;VALUE=DATE:20240108\nDTEND;VALUE=DATE:20240110\n", "000000", "110000", false),
        ("DTSTART;TZID=America/New_York:20240110T100000\nDURATION:PT1H\n", "150000", "153000", true),
        ("DTSTART;TZID=America/New_York:20240110T100000\nDURATION:PT1H\n", "140000", "150000", false),
    ] {
        let mut asked = day(start, end);
        if start == end {
            asked.end = asked.end.map(|end| end + 1);
        }
        assert_eq!(overlaps(&event(lines), "VEVENT", asked), expected, "{lines} {start} {end}");
    }
}

/// The tables for VTODO, VJOURNAL and VFREEBUSY in RFC 4791 clause 9.9.
#[test]
fn the_other_components_overlap_as_their_tables_say() {
    let part = |name: &str, lines: &str| object(&format!("BEGIN:{name}\nUID:u\n{lines}END:{name}\n"));
    let (start, due) = ("DTSTART:20240110T100000Z\n", "DUE:20240110T120000Z\n");
    let (completed, created) = ("COMPLETED:20240110T100000Z\n", "CREATED:20240105T100000Z\n");
    for (name, lines, from, to, expected) in [
        ("VTODO", format!("{start}{due}"), "20240110T120000Z", "20240110T130000Z", false),
        ("VTODO", format!("{start}{due}"), "20240110T110000Z", "20240110T130000Z", true),
        ("VTODO", format!("{start}DURATION:PT2H\n"), "20240110T120000Z", "20240110T130000Z", true),
        ("VTODO", start.to_owned(), "20240110T100000Z", "20240110T110000Z", true),
        ("VTODO", start.to_owned(), "20240110T100001Z", "20240110T110000Z", false),
        ("VTODO", due.to_owned(), "20240110T110000Z", "20240110T120000Z", true),
        ("VTODO", due.to_owned(), "20240110T120000Z", "20240110T130000Z", false),
        ("VTODO", format!("{completed}{created}"), "20240107T000000Z", "20240108T000000Z", true),
        ("VTODO", format!("{completed}{created}"), "20240111T000000Z", "20240112T000000Z", false),
        ("VTODO", completed.to_owned(), "20240110T100000Z", "20240111T000000Z", true),
        ("VTODO", completed.to_owned(), "20240107T000000Z", "20240108T000000Z", false),
        ("VTODO", created.to_owned(), "20300101T000000Z", "20300102T000000Z", true),
        ("VTODO", created.to_owned(), "20240101T000000Z", "20240102T000000Z", false),
        ("VTODO", String::new(), "19000101T000000Z", "19000102T000000Z", true),
        ("VJOURNAL", start.to_owned(), "20240110T100000Z", "20240110T100001Z", true),
        (
            "VJOURNAL",
            "DTSTART;VALUE=DATE:20240110\n".to_owned(),
            "20240110T230000Z",
            "20240111T000000Z",
            true,
        ),
        ("VJOURNAL", String::new(), "20240110T100000Z", "20240110T100001Z", false),
        (
            "VFREEBUSY",
            format!("{start}DTEND:20240110T120000Z\n"),
            "20240110T120000Z",
            "20240110T130000Z",
            true,
        ),
        (
            "VFREEBUSY",
            "FREEBUSY:20240110T100000Z/PT1H,20240112T100000Z/20240112T110000Z\n".to_owned(),
            "20240112T103000Z",
            "20240112T120000Z",
            true,
        ),
        (
            "VFREEBUSY",
            "FREEBUSY:20240110T100000Z/PT1H\n".to_owned(),
            "20240110T110000Z",
            "20240110T120000Z",
            false,
        ),
        ("VFREEBUSY", String::new(), "20240110T110000Z", "20240110T120000Z", false),
    ] {
        assert_eq!(
            overlaps(&part(name, &lines), name, range(from, to)),
            expected,
            "{name} {lines} {from} {to}"
        );
    }
}

/// A weekly meeting in Berlin over a change of the clocks, with an exception, an override and an addition.
const WEEKLY: &str = "BEGIN:VEVENT\nUID:u\nDTSTART;TZID=Europe/Berlin:20240318T100000\nDTEND;TZID=Europe/Berlin:20240318T110000\n\
    RRULE:FREQ=WEEKLY;UNTIL=20240422T080000Z\nEXDATE;TZID=Europe/Berlin:20240325T100000\nRDATE;TZID=Europe/Berlin:20240320T120000\n\
    SUMMARY:Weekly\nBEGIN:VALARM\nTRIGGER:-PT30M\nACTION:DISPLAY\nEND:VALARM\nEND:VEVENT\n\
    BEGIN:VEVENT\nUID:u\nRECURRENCE-ID;TZID=Europe/Berlin:20240408T100000\nDTSTART;TZID=Europe/Berlin:20240409T150000\n\
    DTEND;TZID=Europe/Berlin:20240409T160000\nSUMMARY:Moved\nEND:VEVENT\n";

/// The starts of an expansion.
fn starts(object: &str, from: &str, to: &str) -> Vec<String> {
    let data = CalendarData { expand: Some(range(from, to)), ..CalendarData::default() };
    let expanded = String::from_utf8(data.apply(object.as_bytes(), &Zone::Utc).unwrap()).unwrap();
    assert!(!expanded.contains("RRULE") && !expanded.contains("VTIMEZONE"), "{expanded}");
    expanded
        .lines()
        .filter_map(|line| line.strip_prefix("DTSTART"))
        .map(|line| line.trim_start_matches([':', ';']).to_owned())
        .collect()
}

#[test]
fn a_series_is_expanded_with_its_exceptions() {
    let weekly = object(WEEKLY);
    assert_eq!(
        starts(&weekly, "20240101T000000Z", "20250101T000000Z"),
        [
            "20240318T090000Z",
            "20240320T110000Z",
            "20240401T080000Z",
            "20240409T130000Z",
            "20240415T080000Z",
            "20240422T080000Z",
        ]
    );
    assert_eq!(
        starts(&weekly, "20240402T000000Z", "20240416T000000Z"),
        ["20240409T130000Z", "20240415T080000Z"]
    );
    for (from, to, expected) in [
        ("20240325T080000Z", "20240325T120000Z", false),
        ("20240408T070000Z", "20240408T120000Z", false),
        ("20240409T133000Z", "20240409T140000Z", true),
        ("20240422T083000Z", "20240422T120000Z", true),
        ("20240429T000000Z", "20250422T120000Z", false),
        ("20240318T100000Z", "20240320T110000Z", false),
    ] {
        assert_eq!(overlaps(&weekly, "VEVENT", range(from, to)), expected, "{from} {to}");
    }
}

#[test]
fn this_and_future_shifts_what_follows() {
    let series = object(
        "BEGIN:VEVENT\nUID:u\nDTSTART:20240101T100000Z\nDURATION:PT1H\nRRULE:FREQ=DAILY;COUNT=5\nEND:VEVENT\n\
         BEGIN:VEVENT\nUID:u\nRECURRENCE-ID;RANGE=THISANDFUTURE:20240103T100000Z\nDTSTART:20240103T140000Z\nDURATION:PT2H\nEND:VEVENT\n",
    );
    assert_eq!(
        starts(&series, "20240101T000000Z", "20250101T000000Z"),
        ["20240101T100000Z", "20240102T100000Z", "20240103T140000Z", "20240104T140000Z", "20240105T140000Z"]
    );
    assert!(overlaps(&series, "VEVENT", range("20240105T153000Z", "20240105T160000Z")));
    assert!(!overlaps(&series, "VEVENT", range("20240105T100000Z", "20240105T110000Z")));
}

#[test]
fn an_expansion_is_in_utc_with_recurrence_ids() {
    let data = CalendarData {
        expand: Some(range("20240409T000000Z", "20240416T000000Z")),
        ..CalendarData::default()
    };
    let expanded = String::from_utf8(data.apply(object(WEEKLY).as_bytes(), &Zone::Utc).unwrap()).unwrap();
    assert_eq!(
        expanded,
        "BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:-//x//y//EN\n\
         BEGIN:VEVENT\nUID:u\nDTSTART:20240409T130000Z\nDTEND:20240409T140000Z\nSUMMARY:Moved\nRECURRENCE-ID:20240408T080000Z\nEND:VEVENT\n\
         BEGIN:VEVENT\nUID:u\nDTSTART:20240415T080000Z\nDTEND:20240415T090000Z\nSUMMARY:Weekly\n\
         BEGIN:VALARM\nTRIGGER:-PT30M\nACTION:DISPLAY\nEND:VALARM\nRECURRENCE-ID:20240415T080000Z\nEND:VEVENT\nEND:VCALENDAR\n"
            .replace('\n', "\r\n")
            // Properties come before components.
            .replace("BEGIN:VALARM\r\nTRIGGER:-PT30M\r\nACTION:DISPLAY\r\nEND:VALARM\r\nRECURRENCE-ID:20240415T080000Z\r\n",
                "RECURRENCE-ID:20240415T080000Z\r\nBEGIN:VALARM\r\nTRIGGER:-PT30M\r\nACTION:DISPLAY\r\nEND:VALARM\r\n")
    );
    let days = event("DTSTART;VALUE=DATE:20240101\nRRULE:FREQ=DAILY;COUNT=2\n");
    assert_eq!(
        starts(&days, "20240101T000000Z", "20250101T000000Z"),
        ["VALUE=DATE:20240101", "VALUE=DATE:20240102"]
    );
}

#[test]
fn parts_of_an_object() {
    let data = CalendarData {
        component: Some(ComponentData {
            name: "VCALENDAR".into(),
            properties: Some(vec![PropertyData { name: "version".into(), no_value: false }]),
            components: Some(vec![ComponentData {
                name: "VEVENT".into(),
                properties: Some(vec![
                    PropertyData { name: "SUMMARY".into(), no_value: true },
                    PropertyData { name: "UID".into(), no_value: false },
                ]),
                components: Some(vec![]),
            }]),
        }),
        limit_recurrence_set: Some(range("20240415T000000Z", "20240416T000000Z")),
        ..CalendarData::default()
    };
    assert_eq!(
        String::from_utf8(data.apply(object(WEEKLY).as_bytes(), &Zone::Utc).unwrap()).unwrap(),
        "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nBEGIN:VEVENT\r\nUID:u\r\nSUMMARY:\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
    );
    let busy = object(
        "BEGIN:VFREEBUSY\nUID:u\nFREEBUSY:20240101T100000Z/PT1H,20240102T100000Z/PT1H\nEND:VFREEBUSY\n",
    );
    let data = CalendarData {
        limit_freebusy_set: Some(range("20240102T000000Z", "20240103T000000Z")),
        ..CalendarData::default()
    };
    let limited = String::from_utf8(data.apply(busy.as_bytes(), &Zone::Utc).unwrap()).unwrap();
    assert!(
        limited.contains("FREEBUSY:20240102T100000Z/PT1H\r\n") && !limited.contains("20240101T10"),
        "{limited}"
    );
}

#[test]
fn alarms_go_off_before_each_instance() {
    let alarm = |from, to| {
        let inner = ComponentFilter {
            name: "VALARM".into(),
            condition: ComponentCondition::Defined {
                time_range: Some(range(from, to)),
                properties: vec![],
                components: vec![],
            },
        };
        filter("VEVENT", None, vec![], vec![inner]).matches(object(WEEKLY).as_bytes(), &Zone::Utc)
    };
    assert!(alarm("20240318T083000Z", "20240318T083001Z"));
    assert!(alarm("20240415T073000Z", "20240415T080000Z"));
    assert!(!alarm("20240415T073001Z", "20240415T090000Z"));
    assert!(!alarm("20240325T000000Z", "20240326T000000Z"));
    // The override has no alarm.
    assert!(!alarm("20240408T000000Z", "20240410T000000Z"));
}

#[test]
fn filters_ask_for_properties_parameters_and_absence() {
    let meeting = event(
        "DTSTART:20240101T100000Z\nSUMMARY:Tea \\, cake\nATTENDEE;PARTSTAT=NEEDS-ACTION:mailto:a@example.org\n",
    );
    let matches = |filter: &Filter| filter.matches(meeting.as_bytes(), &Zone::Utc);
    let part = |name: &str, part| ParameterFilter {
        name: name.into(),
        condition: ParameterCondition::Text(text(part).unwrap()),
    };
    let none = |name: &str| PropertyFilter { name: name.into(), condition: PropertyCondition::NotDefined };
    for (properties, expected) in [
        (vec![property("summary", text("TEA , C"), vec![])], true),
        (vec![property("summary", text("coffee"), vec![])], false),
        (vec![property("ATTENDEE", text("A@EXAMPLE"), vec![part("PARTSTAT", "needs")])], true),
        (vec![property("ATTENDEE", None, vec![part("PARTSTAT", "accepted")])], false),
        (vec![none("STATUS"), property("UID", None, vec![])], true),
        (vec![none("UID")], false),
    ] {
        assert_eq!(matches(&filter("VEVENT", None, properties.clone(), vec![])), expected, "{properties:?}");
    }
    let dated = |from, to| PropertyFilter {
        name: "DTSTAMP".into(),
        condition: PropertyCondition::Defined {
            time_range: Some(range(from, to)),
            text: None,
            parameters: vec![],
        },
    };
    assert!(matches(&filter("VEVENT", None, vec![dated("20240101T000000Z", "20240101T000001Z")], vec![])));
    assert!(!matches(&filter("VEVENT", None, vec![dated("20240101T000001Z", "20240102T000000Z")], vec![])));
    let absent =
        |name: &str| ComponentFilter { name: name.into(), condition: ComponentCondition::NotDefined };
    let without = |name: &str| Filter {
        calendar: ComponentFilter {
            name: "VCALENDAR".into(),
            condition: ComponentCondition::Defined {
                time_range: None,
                properties: vec![],
                components: vec![absent(name)],
            },
        },
    };
    let summary = validate(meeting.as_bytes()).unwrap();
    for (filter, expected) in [
        (filter("VEVENT", None, vec![], vec![]), Preliminary::Yes),
        (filter("VTODO", None, vec![], vec![]), Preliminary::No),
        (without("VEVENT"), Preliminary::No),
        (without("VTODO"), Preliminary::Yes),
        (without("VTIMEZONE"), Preliminary::Look),
        (filter("VEVENT", None, vec![none("UID")], vec![]), Preliminary::Look),
    ] {
        assert_eq!(filter.preliminary(&summary), expected, "{filter:?}");
        if expected != Preliminary::Look {
            assert_eq!(matches(&filter), expected == Preliminary::Yes);
        }
    }
    assert!(matches(&filter("VEVENT", None, vec![], vec![absent("VALARM")])));
}

#[test]
fn floating_times_are_read_in_the_zone_of_the_collection() {
    let floating = event("DTSTART:20240110T100000\nDURATION:PT1H\n");
    let asked = filter("VEVENT", Some(range("20240110T090000Z", "20240110T093000Z")), vec![], vec![]);
    let properties = crate::repository::CollectionProperties {
        timezone_id: Some("Europe/Berlin".into()),
        ..Default::default()
    };
    assert!(asked.matches(floating.as_bytes(), &Zone::of_collection(&properties)));
    assert!(!asked.matches(floating.as_bytes(), &Zone::Utc));
}

#[test]
fn bombs_are_bounded() {
    for rule in [
        "FREQ=SECONDLY",
        "FREQ=SECONDLY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=DAILY;COUNT=10000;BYMONTHDAY=31;BYMONTH=2",
        "FREQ=YEARLY;BYYEARDAY=366;BYDAY=MO;INTERVAL=399",
        "FREQ=MINUTELY;INTERVAL=1000000000000",
        "FREQ=SECONDLY;UNTIL=99991231T235959Z;BYSETPOS=366",
    ] {
        let bomb = event(&format!("DTSTART:19700101T000000Z\nRRULE:{rule}\n"));
        overlaps(&bomb, "VEVENT", range("20300101T000000Z", "20300102T000000Z"));
    }
    let secondly = event("DTSTART:19700101T000000Z\nRRULE:FREQ=SECONDLY\n");
    let data = CalendarData {
        expand: Some(range("20300101T000000Z", "20400101T000000Z")),
        ..CalendarData::default()
    };
    assert_eq!(data.apply(secondly.as_bytes(), &Zone::Utc), Err(DataError::TooManyInstances));
    let changed: String = (0..2001)
        .map(|n| {
            format!(
                "BEGIN:VEVENT\nUID:u\nRECURRENCE-ID:{}\nDTSTART:20240101\nEND:VEVENT\n",
                20_000_101 + n % 28
            )
        })
        .collect();
    assert_eq!(validate(object(&changed).as_bytes()), Err(Invalid::TooManyInstances));
}

#[test]
fn busy_times_are_merged_and_cut() {
    let mut busy = FreeBusy::new(range("20240101T100000Z", "20240103T000000Z"));
    for lines in [
        "DTSTART:20240101T090000Z\nDURATION:PT2H\n",
        "DTSTART:20240101T103000Z\nDURATION:PT1H\nRRULE:FREQ=DAILY\n",
        "DTSTART:20240101T120000Z\nDURATION:PT1H\nSTATUS:TENTATIVE\n",
        "DTSTART:20240101T130000Z\nDURATION:PT1H\nSTATUS:CANCELLED\n",
        "DTSTART:20240101T140000Z\nDURATION:PT1H\nTRANSP:TRANSPARENT\n",
    ] {
        busy.add(event(lines).as_bytes(), &Zone::Utc);
    }
    let answer = busy.finish(instant("20240101T000000Z"), "f");
    let periods: Vec<&str> = answer.lines().filter(|line| line.starts_with("FREEBUSY")).collect();
    assert_eq!(
        periods,
        [
            "FREEBUSY:20240101T100000Z/20240101T113000Z",
            "FREEBUSY:20240102T103000Z/20240102T113000Z",
            "FREEBUSY;FBTYPE=BUSY-TENTATIVE:20240101T120000Z/20240101T130000Z",
        ]
    );
    assert!(validate(answer.as_bytes()).is_ok());
}

fn lines() -> impl Strategy<Value = String> {
    let time =
        (0..4_u8, 2020..2028_u16, 1..13_u8, 1..29_u8, 0..24_u8).prop_map(|(form, year, month, day, hour)| {
            match form {
                0 => format!(";VALUE=DATE:{year}{month:02}{day:02}"),
                1 => format!(":{year}{month:02}{day:02}T{hour:02}3000Z"),
                2 => format!(";TZID=America/New_York:{year}{month:02}{day:02}T{hour:02}3000"),
                _ => format!(":{year}{month:02}{day:02}T{hour:02}3000"),
            }
        });
    let end = prop_oneof![
        Just(String::new()),
        Just("DURATION:P2DT3H\n".into()),
        time.clone().prop_map(|time| format!("DTEND{time}\n"))
    ];
    let rule = prop_oneof![
        Just(String::new()),
        Just("RRULE:FREQ=DAILY;COUNT=30\n".to_owned()),
        Just("RRULE:FREQ=WEEKLY;BYDAY=MO,TH\n".to_owned()),
        Just("RRULE:FREQ=MONTHLY;BYDAY=-1FR;UNTIL=20261231T000000Z\n".to_owned()),
        Just("RRULE:FREQ=YEARLY;UNTIL=20270101\n".to_owned()),
    ];
    let other = prop_oneof![
        Just(String::new()),
        time.clone().prop_map(|time| format!("EXDATE{time}\n")),
        time.clone().prop_map(|time| format!("RDATE{time}\n")),
        (time.clone(), time.clone()).prop_map(|(id, start)| {
            format!("END:VEVENT\nBEGIN:VEVENT\nUID:u\nRECURRENCE-ID{id}\nDTSTART{start}\n")
        }),
    ];
    (time, end, rule, other)
        .prop_map(|(start, end, rule, other)| format!("DTSTART{start}\n{end}{rule}{other}"))
}

proptest! {
    /// What the index excludes never matches, in whatever zone floating times are read.
    #[test]
    fn the_span_holds_every_instance(lines in lines(), start in 1_560_000_000_i64..1_900_000_000, length in 1_i64..3_000_000) {
        let object = event(&lines);
        let summary = validate(object.as_bytes()).unwrap();
        let asked = filter("VEVENT", Some(TimeRange { start: Some(start), end: Some(start + length) }), vec![], vec![]);
        for zone in ["UTC", "Pacific/Kiritimati", "Pacific/Niue"] {
            let matches = asked.matches(object.as_bytes(), &Zone::of_name(zone).unwrap());
            prop_assert!(!matches || asked.preliminary(&summary) == Preliminary::Look, "{zone} {summary:?} {object}");
        }
    }

    /// A range matches exactly if expanding over it gives an instance.
    #[test]
    fn expansion_and_filter_agree(lines in lines(), start in 1_560_000_000_i64..1_900_000_000, length in 1_i64..3_000_000) {
        let object = event(&lines);
        let asked = TimeRange { start: Some(start), end: Some(start + length) };
        let data = CalendarData { expand: Some(asked), ..CalendarData::default() };
        let expanded = data.apply(object.as_bytes(), &Zone::Utc).unwrap();
        let any = String::from_utf8(expanded).unwrap().contains("BEGIN:VEVENT");
        prop_assert_eq!(any, filter("VEVENT", Some(asked), vec![], vec![]).matches(object.as_bytes(), &Zone::Utc));
    }

    #[test]
    fn no_bytes_make_validation_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = validate(&bytes);
    }

    #[test]
    fn no_values_make_anything_panic(
        values in proptest::collection::vec(("(DTSTART|DTEND|DURATION|RRULE|EXDATE|RDATE|TRIGGER|RECURRENCE-ID)", "(;TZID=[A-Z/]{0,4}|;VALUE=DATE|;RANGE=THISANDFUTURE)?", "([-+]?P?[0-9]{1,9}[DWTHMS]?([0-9]{0,6}Z?)|[0-9]{8}T[0-9]{6}Z?(/P[0-9]D)?|FREQ=(YEARLY|DAILY|SECONDLY);[A-Z]{3,10}=[-0-9,]{1,5})"), 0..6),
    ) {
        let lines: String = values.iter().map(|(name, parameters, value)| format!("{name}{parameters}:{value}\n")).collect();
        let object = event(&format!("{lines}BEGIN:VALARM\nTRIGGER:-PT5M\nEND:VALARM\n"));
        let _ = validate(object.as_bytes());
        let asked = range("20240101T000000Z", "20240201T000000Z");
        let alarm = ComponentFilter {
            name: "VALARM".into(),
            condition: ComponentCondition::Defined { time_range: Some(asked), properties: vec![], components: vec![] },
        };
        let _ = filter("VEVENT", Some(asked), vec![], vec![alarm]).matches(object.as_bytes(), &Zone::Utc);
        let data = CalendarData { expand: Some(asked), limit_recurrence_set: Some(asked), ..CalendarData::default() };
        let _ = data.apply(object.as_bytes(), &Zone::Utc);
    }
}

#[test]
fn the_span_of_an_ordinary_event_is_exact() {
    let summary = validate(event("DTSTART:20240110T100000Z\nDTEND:20240110T110000Z\n").as_bytes()).unwrap();
    assert_eq!(summary.span, Span { start: instant("20240110T100000Z"), end: instant("20240110T110000Z") });
}
