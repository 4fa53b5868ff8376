//! REPORT.

use super::*;

const CALENDAR: &str = "/calendars/alice/default/";

fn multiget(hrefs: &[&str]) -> String {
    let hrefs: String = hrefs.iter().map(|href| format!("<D:href>{href}</D:href>")).collect();
    format!(
        "<C:calendar-multiget xmlns:D=\"DAV:\" xmlns:C=\"urn:ietf:params:xml:ns:caldav\"><D:prop><D:getetag/><C:calendar-data/></D:prop>{hrefs}</C:calendar-multiget>"
    )
}

fn sync(token: &str, limit: Option<u32>) -> String {
    let limit = limit.map_or(String::new(), |n| format!("<D:limit><D:nresults>{n}</D:nresults></D:limit>"));
    format!(
        "<D:sync-collection xmlns:D=\"DAV:\"><D:sync-token>{token}</D:sync-token><D:sync-level>1</D:sync-level>{limit}<D:prop><D:getetag/></D:prop></D:sync-collection>"
    )
}

fn token(answer: &Answer) -> String {
    answer.xml().child(DAV, "sync-token").unwrap().text()
}

#[test]
fn multiget_gives_what_is_there_and_says_what_is_not() {
    let server = Server::new();
    let body = event("1", "a<b & c");
    let etag = server.put(&format!("{CALENDAR}1.ics"), &body).header("etag").to_owned();
    let answer = server.send(
        "REPORT",
        CALENDAR,
        &[("depth", "1")],
        multiget(&[
            "/calendars/alice/default/1.ics",
            "/calendars/alice/default/2.ics",
            "http://h/calendars/alice/default/%31.ics",
            "::",
            "/contacts/alice/default/1.vcf",
        ]),
    );
    let part = answer.part("/calendars/alice/default/1.ics");
    assert_eq!(part.value("getetag"), etag);
    // The XML reader of a client gives back each carriage return, too.
    assert_eq!(part.value("calendar-data"), body);
    assert_eq!(answer.part("/calendars/alice/default/2.ics").status(), Some(404));
    assert_eq!(answer.part("::").status(), Some(404));
    assert_eq!(answer.part("/contacts/alice/default/1.vcf").status(), Some(404));
    assert_eq!(answer.responses().len(), 5);
    let wrong = server.send("REPORT", "/contacts/alice/default/", &[], multiget(&[]));
    assert_eq!(wrong.condition(), "supported-report");
    let limited = Server::with_limits(Limits { results: 1, ..Limits::default() });
    let refused = limited.send("REPORT", CALENDAR, &[], multiget(&["/a", "/b"]));
    assert_eq!(refused.condition(), "number-of-matches-within-limits");
}

#[test]
fn a_client_keeps_in_step_by_synchronising() {
    let server = Server::new();
    for number in 0..5 {
        server.put(&format!("{CALENDAR}{number}.ics"), &event(&number.to_string(), "a"));
    }
    let all = server.send("REPORT", CALENDAR, &[("depth", "0")], sync("", None));
    assert_eq!(all.responses().len(), 5);
    let known = server.propfind(CALENDAR, "0", "<D:sync-token/>").part(CALENDAR).value("sync-token");
    assert_eq!(token(&all), known);
    assert_eq!(server.send("REPORT", CALENDAR, &[], sync(&known, None)).responses().len(), 0);

    server.send("DELETE", &format!("{CALENDAR}0.ics"), &[], "");
    server.put(&format!("{CALENDAR}1.ics"), &event("1", "changed"));
    let changes = server.send("REPORT", CALENDAR, &[], sync(&known, None));
    assert_eq!(changes.part(&format!("{CALENDAR}0.ics")).status(), Some(404));
    assert!(changes.part(&format!("{CALENDAR}1.ics")).value("getetag").starts_with('"'));
    assert_eq!(changes.responses().len(), 2);

    for bad in ["data:,0000", "x", "data:,ffffffffffffffffffffffffffffffffffffffff"] {
        let answer = server.send("REPORT", CALENDAR, &[], sync(bad, None));
        assert_eq!((answer.status, answer.condition().as_str()), (403, "valid-sync-token"), "{bad}");
    }
}

#[test]
fn a_limited_synchronisation_goes_on_where_it_stopped() {
    let server = Server::new();
    for number in 0..7 {
        server.put(&format!("{CALENDAR}{number}.ics"), &event(&number.to_string(), "a"));
    }
    let (mut seen, mut at) = (Vec::new(), String::new());
    loop {
        let answer = server.send("REPORT", CALENDAR, &[], sync(&at, Some(3)));
        at = token(&answer);
        let more =
            answer.responses().iter().any(|part| part.href() == CALENDAR && part.status() == Some(507));
        seen.extend(answer.hrefs().into_iter().filter(|href| href != CALENDAR));
        if !more {
            break;
        }
        assert!(seen.len() < 20);
    }
    seen.sort();
    assert_eq!(seen, (0..7).map(|number| format!("{CALENDAR}{number}.ics")).collect::<Vec<_>>());
}

#[test]
fn properties_are_expanded_where_they_lead() {
    let server = Server::new();
    let body = "<D:expand-property xmlns:D=\"DAV:\"><D:property name=\"current-user-principal\"><D:property name=\"displayname\"/><D:property name=\"calendar-home-set\" namespace=\"urn:ietf:params:xml:ns:caldav\"><D:property name=\"resourcetype\"/></D:property></D:property><D:property name=\"nothing\" namespace=\"urn:x\"/></D:expand-property>";
    let answer = server.send("REPORT", "/", &[], body);
    let principal = answer.part("/").property("current-user-principal").1;
    let inner = Part(principal.child(DAV, "response").unwrap().clone());
    assert_eq!(
        (inner.href().as_str(), inner.value("displayname").as_str()),
        ("/principals/alice/", "alice Example")
    );
    let home = inner.property("calendar-home-set").1;
    assert_eq!(Part(home.child(DAV, "response").unwrap().clone()).href(), "/calendars/alice/");
    assert_eq!(answer.part("/").property("nothing").0, 404);
    let deep = "<D:property xmlns:D=\"DAV:\" name=\"owner\">".repeat(8) + &"</D:property>".repeat(8);
    let answer = server.send(
        "REPORT",
        "/",
        &[],
        format!("<D:expand-property xmlns:D=\"DAV:\">{deep}</D:expand-property>"),
    );
    assert_eq!(answer.status, 400);
}

#[test]
fn users_find_themselves_and_nobody_else() {
    let server = Server::new();
    let search = |text: &str| {
        let body = format!(
            "<D:principal-property-search xmlns:D=\"DAV:\"><D:property-search><D:prop><D:displayname/></D:prop><D:match>{text}</D:match></D:property-search><D:prop><D:displayname/></D:prop></D:principal-property-search>"
        );
        server.send("REPORT", "/principals/", &[("depth", "0")], body).hrefs()
    };
    assert_eq!(search("ALICE"), ["/principals/alice/"]);
    assert!(search("bob").is_empty());
    let set =
        server.send("REPORT", "/principals/", &[], "<D:principal-search-property-set xmlns:D=\"DAV:\"/>");
    assert_eq!((set.status, &*set.xml().name.local), (200, "principal-search-property-set"));
    let matched = server.send(
        "REPORT",
        "/principals/",
        &[],
        "<D:principal-match xmlns:D=\"DAV:\"><D:self/></D:principal-match>",
    );
    assert_eq!(matched.hrefs(), ["/principals/alice/"]);
    assert_eq!(
        server.send("REPORT", "/", &[], "<D:version-tree xmlns:D=\"DAV:\"/>").condition(),
        "supported-report"
    );
}

#[test]
fn every_report_that_is_announced_is_answered() {
    let server = Server::new();
    for collection in [CALENDAR, "/contacts/alice/default/"] {
        let set = server
            .propfind(collection, "0", "<D:supported-report-set/>")
            .part(collection)
            .property("supported-report-set")
            .1;
        for report in
            set.children().map(|supported| supported.child(DAV, "report").unwrap().children().next().unwrap())
        {
            let answer = server.send("REPORT", collection, &[], report.to_xml(""));
            assert!(answer.status != 403 || answer.condition() != "supported-report", "{}", report.name);
        }
    }
}
