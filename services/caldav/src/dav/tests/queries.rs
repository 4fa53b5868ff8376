//! `calendar-query`, `free-busy-query` and `addressbook-query`.

use super::*;

const CALENDAR: &str = "/calendars/alice/default/";
const BOOK: &str = "/contacts/alice/default/";

/// A daily event at nine in New York with one instance moved: the shape of RFC 4791, appendix B.
const RECURRING: &str = "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nBEGIN:VTIMEZONE\r\nTZID:US/Eastern\r\nBEGIN:DAYLIGHT\r\nDTSTART:20000404T020000\r\nRRULE:FREQ=YEARLY;BYDAY=1SU;BYMONTH=4\r\nTZNAME:EDT\r\nTZOFFSETFROM:-0500\r\nTZOFFSETTO:-0400\r\nEND:DAYLIGHT\r\nBEGIN:STANDARD\r\nDTSTART:20001026T020000\r\nRRULE:FREQ=YEARLY;BYDAY=-1SU;BYMONTH=10\r\nTZNAME:EST\r\nTZOFFSETFROM:-0400\r\nTZOFFSETTO:-0500\r\nEND:STANDARD\r\nEND:VTIMEZONE\r\nBEGIN:VEVENT\r\nDTSTAMP:20060206T001121Z\r\nDTSTART;TZID=US/Eastern:20060102T120000\r\nDURATION:PT1H\r\nRRULE:FREQ=DAILY;COUNT=5\r\nSUMMARY:Event #2\r\nUID:00959BC664CA650E933C892C@example.com\r\nEND:VEVENT\r\nBEGIN:VEVENT\r\nDTSTAMP:20060206T001121Z\r\nDTSTART;TZID=US/Eastern:20060104T140000\r\nDURATION:PT1H\r\nRECURRENCE-ID;TZID=US/Eastern:20060104T120000\r\nSUMMARY:Event #2 bis\r\nUID:00959BC664CA650E933C892C@example.com\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n";

const TODO: &str = "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nBEGIN:VTODO\r\nDTSTAMP:20060205T235335Z\r\nDUE;VALUE=DATE:20060104\r\nSTATUS:NEEDS-ACTION\r\nSUMMARY:Task #1\r\nUID:DDDEEB7915FA61233B861457@example.com\r\nBEGIN:VALARM\r\nACTION:AUDIO\r\nTRIGGER;RELATED=START:-PT10M\r\nEND:VALARM\r\nEND:VTODO\r\nEND:VCALENDAR\r\n";

fn server() -> Server {
    let server = Server::new();
    for (name, body) in
        [("recurring.ics", RECURRING), ("todo.ics", TODO), ("plain.ics", &event("plain", "Lunch with Zoë"))]
    {
        assert_eq!(server.put(&format!("{CALENDAR}{name}"), body).status, 201, "{name}");
    }
    server
}

fn query(server: &Server, prop: &str, filter: &str) -> Answer {
    let body = format!(
        "<C:calendar-query xmlns:D=\"DAV:\" xmlns:C=\"urn:ietf:params:xml:ns:caldav\"><D:prop><D:getetag/>{prop}</D:prop><C:filter><C:comp-filter name=\"VCALENDAR\">{filter}</C:comp-filter></C:filter></C:calendar-query>"
    );
    server.send("REPORT", CALENDAR, &[("depth", "1")], body)
}

fn names(answer: &Answer) -> Vec<String> {
    answer.hrefs().iter().map(|href| href.rsplit('/').next().unwrap().to_owned()).collect()
}

#[test]
fn by_component_and_time() {
    let server = server();
    assert_eq!(
        names(&query(&server, "", "<C:comp-filter name=\"VEVENT\"/>")),
        ["plain.ics", "recurring.ics"]
    );
    assert_eq!(names(&query(&server, "", "<C:comp-filter name=\"VTODO\"/>")), ["todo.ics"]);
    let at = |component: &str, start: &str, end: &str| {
        let filter = format!(
            "<C:comp-filter name=\"{component}\"><C:time-range start=\"{start}\" end=\"{end}\"/></C:comp-filter>"
        );
        names(&query(&server, "", &filter))
    };
    // 12:00 in New York is 17:00 UTC; the third instance was moved by two hours.
    assert_eq!(at("VEVENT", "20060103T170000Z", "20060103T173000Z"), ["recurring.ics"]);
    assert_eq!(at("VEVENT", "20060104T170000Z", "20060104T180000Z"), [""; 0]);
    assert_eq!(at("VEVENT", "20060104T190000Z", "20060104T193000Z"), ["recurring.ics"]);
    assert_eq!(at("VEVENT", "20060107T000000Z", "20060108T000000Z"), [""; 0]);
    assert_eq!(at("VTODO", "20060103T000000Z", "20060105T000000Z"), ["todo.ics"]);
}

#[test]
fn by_text() {
    let server = server();
    let filter = |text: &str| {
        format!(
            "<C:comp-filter name=\"VEVENT\"><C:prop-filter name=\"SUMMARY\">{text}</C:prop-filter></C:comp-filter>"
        )
    };
    let find = |text: &str| names(&query(&server, "", &filter(text)));
    assert_eq!(find("<C:text-match>LUNCH</C:text-match>"), ["plain.ics"]);
    assert_eq!(find("<C:text-match collation=\"i;octet\">LUNCH</C:text-match>"), [""; 0]);
    assert_eq!(find("<C:text-match collation=\"i;unicode-casemap\">ZOË</C:text-match>"), ["plain.ics"]);
    assert_eq!(find("<C:text-match negate-condition=\"yes\">lunch</C:text-match>"), ["recurring.ics"]);
    assert_eq!(find("<C:is-not-defined/>"), [""; 0]);
    let uid = "<C:comp-filter name=\"VEVENT\"><C:prop-filter name=\"UID\"><C:text-match collation=\"i;octet\">plain</C:text-match></C:prop-filter></C:comp-filter>";
    assert_eq!(names(&query(&server, "", uid)), ["plain.ics"]);
    assert_eq!(
        query(&server, "", &filter("<C:text-match collation=\"i;x\">a</C:text-match>")).condition(),
        "supported-collation"
    );
}

#[test]
fn filters_that_are_none() {
    let server = server();
    for filter in [
        "<C:comp-filter/>",
        "<C:comp-filter name=\"VEVENT\"><C:time-range/></C:comp-filter>",
        "<C:comp-filter name=\"VEVENT\"><C:time-range start=\"2006\"/></C:comp-filter>",
        "<C:comp-filter name=\"VEVENT\"><C:time-range start=\"20060104T000000\" end=\"20060105T000000\"/></C:comp-filter>",
        "<C:comp-filter name=\"VEVENT\"><C:prop-filter name=\"X\"><C:text-match negate-condition=\"maybe\"/></C:prop-filter></C:comp-filter>",
    ] {
        let answer = query(&server, "", filter);
        assert_eq!((answer.status, answer.condition().as_str()), (403, "valid-filter"), "{filter}");
    }
    let none =
        server.send("REPORT", CALENDAR, &[], "<C:calendar-query xmlns:C=\"urn:ietf:params:xml:ns:caldav\"/>");
    assert_eq!(none.condition(), "valid-filter");
    let wrong = "<C:calendar-query xmlns:C=\"urn:ietf:params:xml:ns:caldav\"><C:filter><C:comp-filter name=\"VEVENT\"/></C:filter></C:calendar-query>";
    assert_eq!(server.send("REPORT", CALENDAR, &[], wrong).condition(), "valid-filter");
}

#[test]
fn data_comes_whole_in_parts_or_expanded() {
    let server = server();
    let events = "<C:comp-filter name=\"VEVENT\"/>";
    let path = format!("{CALENDAR}recurring.ics");
    let data = |prop: &str| query(&server, prop, events).part(&path).value("calendar-data");
    assert_eq!(data("<C:calendar-data/>"), RECURRING);
    let part = data(
        "<C:calendar-data><C:comp name=\"VCALENDAR\"><C:prop name=\"VERSION\"/><C:comp name=\"VEVENT\"><C:prop name=\"SUMMARY\"/><C:prop name=\"UID\" novalue=\"yes\"/></C:comp></C:comp></C:calendar-data>",
    );
    assert_eq!(
        part,
        "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nBEGIN:VEVENT\r\nSUMMARY:Event #2\r\nUID:\r\nEND:VEVENT\r\nBEGIN:VEVENT\r\nSUMMARY:Event #2 bis\r\nUID:\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
    );
    let expanded = data(
        "<C:calendar-data><C:expand start=\"20060103T000000Z\" end=\"20060105T000000Z\"/></C:calendar-data>",
    );
    for line in [
        "DTSTART:20060103T170000Z\r\n",
        "RECURRENCE-ID:20060103T170000Z\r\n",
        "DTSTART:20060104T190000Z\r\n",
        "RECURRENCE-ID:20060104T170000Z\r\n",
    ] {
        assert!(expanded.contains(line), "{line} in {expanded}");
    }
    assert!(!expanded.contains("RRULE") && !expanded.contains("VTIMEZONE"), "{expanded}");
    let jcal = query(&server, "<C:calendar-data content-type=\"application/calendar+json\"/>", events);
    assert_eq!(jcal.condition(), "supported-calendar-data");
    let endless =
        query(&server, "<C:calendar-data><C:expand start=\"20060103T000000Z\"/></C:calendar-data>", events);
    assert_eq!(endless.status, 400);
}

#[test]
fn a_home_is_asked_about_all_of_its_calendars() {
    let server = server();
    server.send("MKCALENDAR", "/calendars/alice/other/", &[], "");
    server.put("/calendars/alice/other/x.ics", &event("x", "x"));
    let body = "<C:calendar-query xmlns:D=\"DAV:\" xmlns:C=\"urn:ietf:params:xml:ns:caldav\"><D:prop><D:getetag/></D:prop><C:filter><C:comp-filter name=\"VCALENDAR\"><C:comp-filter name=\"VEVENT\"/></C:comp-filter></C:filter></C:calendar-query>";
    let answer = server.send("REPORT", "/calendars/alice/", &[], body);
    assert_eq!(names(&answer), ["plain.ics", "recurring.ics", "x.ics"]);
    let one = server.send("REPORT", "/calendars/alice/other/x.ics", &[], body);
    assert_eq!(names(&one), ["x.ics"]);
}

#[test]
fn free_and_busy() {
    let server = server();
    let ask = |range: &str| {
        server.send(
            "REPORT",
            CALENDAR,
            &[("depth", "1")],
            format!(
                "<C:free-busy-query xmlns:C=\"urn:ietf:params:xml:ns:caldav\">{range}</C:free-busy-query>"
            ),
        )
    };
    let answer = ask("<C:time-range start=\"20060104T140000Z\" end=\"20060105T220000Z\"/>");
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (200, "text/calendar; charset=utf-8; component=VFREEBUSY")
    );
    assert!(answer.text().contains("FREEBUSY:20060104T190000Z/20060104T200000Z\r\n"), "{}", answer.text());
    assert!(answer.text().contains("FREEBUSY:20060105T170000Z/20060105T180000Z\r\n"), "{}", answer.text());
    assert_eq!(ask("").status, 400);
}

#[test]
fn contacts_by_text() {
    let server = Server::new();
    for (name, person) in [("1", "Ada Lovelace"), ("2", "Zoë Müller"), ("3", "Émile Zola")] {
        assert_eq!(server.put(&format!("{BOOK}{name}.vcf"), &card(name, person)).status, 201);
    }
    let query = |test: &str, filter: &str, limit: &str| {
        let body = format!(
            "<C:addressbook-query xmlns:D=\"DAV:\" xmlns:C=\"urn:ietf:params:xml:ns:carddav\"><D:prop><D:getetag/><C:address-data><C:prop name=\"FN\"/></C:address-data></D:prop><C:filter{test}>{filter}</C:filter>{limit}</C:addressbook-query>"
        );
        server.send("REPORT", BOOK, &[("depth", "1")], body)
    };
    let fn_has = |text: &str, kind: &str| {
        format!(
            "<C:prop-filter name=\"FN\"><C:text-match match-type=\"{kind}\">{text}</C:text-match></C:prop-filter>"
        )
    };
    let found = query("", &fn_has("ZO", "contains"), "");
    assert_eq!(names(&found), ["2.vcf", "3.vcf"]);
    let data = found.part(&format!("{BOOK}2.vcf")).value("address-data");
    assert_eq!(data, "BEGIN:VCARD\r\nVERSION:3.0\r\nFN:Zoë Müller\r\nEND:VCARD\r\n");
    assert_eq!(names(&query("", &fn_has("zo", "starts-with"), "")), ["2.vcf"]);
    let both = fn_has("zo", "contains") + &fn_has("émile", "contains");
    assert_eq!(names(&query(" test=\"allof\"", &both, "")), ["3.vcf"]);
    assert_eq!(names(&query(" test=\"anyof\"", &both, "")), ["2.vcf", "3.vcf"]);
    let limited = query("", "", "<C:limit><C:nresults>2</C:nresults></C:limit>");
    let statuses: Vec<_> = limited.responses().iter().map(Part::status).collect();
    assert_eq!(statuses, [None, None, Some(507)]);
    assert_eq!(query("", &fn_has("a", "sounds-like"), "").condition(), "valid-filter");
}

#[test]
fn too_many_results_are_refused_rather_than_cut() {
    let server = Server::with_limits(Limits { results: 2, ..Limits::default() });
    for number in 0..3 {
        server.put(&format!("{CALENDAR}{number}.ics"), &event(&number.to_string(), "a"));
    }
    let answer = query(&server, "", "<C:comp-filter name=\"VEVENT\"/>");
    assert_eq!((answer.status, answer.condition().as_str()), (403, "number-of-matches-within-limits"));
}
