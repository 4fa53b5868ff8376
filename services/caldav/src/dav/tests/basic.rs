//! Discovery, resources, collections and their properties.

use super::*;

#[test]
fn discovery_leads_from_the_root_to_the_collections() {
    let server = Server::new();
    let redirect = server.send("PROPFIND", "/.well-known/caldav", &[], "");
    assert_eq!((redirect.status, redirect.header("location")), (307, "/"));
    let answer = server.propfind("/", "0", "<D:current-user-principal/><D:resourcetype/>");
    let principal = answer.part("/").href_in("current-user-principal");
    assert_eq!(principal, "/principals/alice/");
    let answer = server.propfind(
        &principal,
        "0",
        "<C:calendar-home-set/><R:addressbook-home-set/><C:calendar-user-address-set/><D:displayname/><D:principal-URL/>",
    );
    let part = answer.part(&principal);
    assert_eq!(part.href_in("calendar-home-set"), "/calendars/alice/");
    assert_eq!(part.href_in("addressbook-home-set"), "/contacts/alice/");
    assert_eq!(part.href_in("calendar-user-address-set"), "mailto:alice@example.org");
    assert_eq!(part.value("displayname"), "alice Example");
    let answer = server.propfind(
        "/calendars/alice/",
        "1",
        "<D:resourcetype/><D:displayname/><S:getctag/><D:sync-token/>",
    );
    assert_eq!(answer.hrefs(), ["/calendars/alice/", "/calendars/alice/default/"]);
    let calendar = answer.part("/calendars/alice/default/");
    assert!(calendar.property("resourcetype").1.child(xml::CALDAV, "calendar").is_some());
    assert_eq!(calendar.value("displayname"), "Calendar");
    assert!(!calendar.value("getctag").is_empty());
    let answer = server.propfind("/contacts/alice/default", "0", "<D:resourcetype/>");
    assert!(
        answer
            .part("/contacts/alice/default/")
            .property("resourcetype")
            .1
            .child(xml::CARDDAV, "addressbook")
            .is_some()
    );
}

#[test]
fn options_say_what_there_is() {
    let server = Server::new();
    let answer = server.send("OPTIONS", "/calendars/alice/default/", &[], "");
    assert_eq!(answer.status, 200);
    let classes: Vec<_> = answer.header("dav").split(", ").collect();
    for class in ["1", "3", "access-control", "calendar-access", "addressbook", "extended-mkcol"] {
        assert!(classes.contains(&class), "{class}");
    }
    assert!(!classes.contains(&"2"));
    assert!(answer.header("allow").contains("MKCALENDAR"));
}

#[test]
fn a_resource_comes_back_as_it_was_put() {
    let server = Server::new();
    let path = "/calendars/alice/default/x%20y.ics";
    let body = event("1", "Grüße <&>");
    let put = server.send(
        "PUT",
        path,
        &[("if-none-match", "*"), ("content-type", "text/calendar; charset=\"utf-8\"")],
        body.clone(),
    );
    assert_eq!(put.status, 201);
    let get = server.get(path);
    assert_eq!((get.status, get.text()), (200, body.as_str()));
    assert_eq!(get.header("etag"), put.header("etag"));
    assert_eq!(get.header("content-type"), "text/calendar; charset=utf-8; component=VEVENT");
    let head = server.send("HEAD", path, &[], "");
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), body.len().to_string());
    assert_eq!(server.send("GET", path, &[("if-none-match", put.header("etag"))], "").status, 304);
    let listed = server.propfind(
        "/calendars/alice/default/",
        "1",
        "<D:getetag/><D:getcontenttype/><D:getcontentlength/>",
    );
    let part = listed.part(path);
    assert_eq!(part.value("getetag"), put.header("etag"));
    assert_eq!(part.value("getcontentlength"), body.len().to_string());
}

#[test]
fn conditions_are_checked_where_the_change_is_made() {
    let server = Server::new();
    let path = "/calendars/alice/default/1.ics";
    let first = server.put(path, &event("1", "a"));
    assert_eq!(server.send("PUT", path, &[("if-none-match", "*")], event("1", "b")).status, 412);
    assert_eq!(server.send("PUT", path, &[("if-match", "\"0000\"")], event("1", "b")).status, 412);
    assert_eq!(server.send("DELETE", path, &[("if-match", "\"0000\"")], "").status, 412);
    let second = server.send("PUT", path, &[("if-match", first.header("etag"))], event("1", "b"));
    assert_eq!(second.status, 204);
    assert_ne!(first.header("etag"), second.header("etag"));
    assert_eq!(
        server.send("PUT", "/calendars/alice/default/2.ics", &[("if-match", "*")], event("2", "b")).status,
        412
    );
    assert_eq!(server.send("DELETE", path, &[("if-match", second.header("etag"))], "").status, 204);
    assert_eq!(server.get(path).status, 404);
    assert_eq!(server.send("DELETE", path, &[], "").status, 404);
}

#[test]
fn what_cannot_be_stored_is_refused_with_its_precondition() {
    let server = Server::with_limits(Limits { resource_bytes: 1000, ..Limits::default() });
    let path = "/calendars/alice/default/1.ics";
    assert_eq!(server.put(path, "not a calendar").condition(), "valid-calendar-data");
    assert_eq!(server.put("/contacts/alice/default/1.vcf", "not a card").condition(), "valid-address-data");
    assert_eq!(server.put(path, &event("1", &"x".repeat(1000))).condition(), "max-resource-size");
    let html = server.send("PUT", path, &[("content-type", "text/html")], event("1", "a"));
    assert_eq!(html.condition(), "supported-calendar-data");
    assert_eq!(server.put(path, &event("1", "a")).status, 201);
    let conflict = server.put("/calendars/alice/default/2.ics", &event("1", "a"));
    assert_eq!((conflict.status, conflict.condition().as_str()), (403, "no-uid-conflict"));
    let href = conflict.xml().children().next().unwrap().child(DAV, "href").unwrap().text();
    assert_eq!(href, path);
    assert_eq!(server.put("/calendars/alice/nowhere/1.ics", &event("9", "a")).status, 409);
    assert_eq!(server.put("/calendars/alice/default/", &event("9", "a")).status, 403);
    assert_eq!(server.put("/principals/alice/", &event("9", "a")).status, 405);
    assert_eq!(server.send("PUT", path, &[("content-range", "bytes 0-1/2")], event("1", "a")).status, 400);
}

#[test]
fn users_do_not_see_each_other() {
    let mut server = Server::new();
    server.put("/calendars/alice/default/1.ics", &event("1", "a"));
    server.log_in("bob");
    for path in [
        "/principals/alice/",
        "/calendars/alice/",
        "/calendars/alice/default/",
        "/calendars/alice/default/1.ics",
        "/calendars/alice/nowhere/",
        "/contacts/alice/default/",
    ] {
        for method in [
            "GET",
            "HEAD",
            "PUT",
            "DELETE",
            "PROPFIND",
            "PROPPATCH",
            "REPORT",
            "MKCALENDAR",
            "MKCOL",
            "COPY",
            "MOVE",
        ] {
            let answer = server.send(method, path, &[("depth", "0")], "");
            assert_eq!(answer.status, 403, "{method} {path}");
        }
    }
    assert_eq!(server.put("/calendars/bob/default/1.ics", &event("1", "b")).status, 201);
    let stolen = server.send(
        "COPY",
        "/calendars/bob/default/1.ics",
        &[("destination", "/calendars/alice/default/2.ics")],
        "",
    );
    assert_eq!(stolen.status, 403);
    let report = "<C:calendar-multiget xmlns:C=\"urn:ietf:params:xml:ns:caldav\" xmlns:D=\"DAV:\"><D:prop><D:getetag/></D:prop><D:href>/calendars/alice/default/1.ics</D:href></C:calendar-multiget>";
    let answer = server.send("REPORT", "/calendars/bob/default/", &[], report);
    assert_eq!(answer.part("/calendars/alice/default/1.ics").status(), Some(404));
    for path in ["/", "/principals/", "/calendars/", "/contacts/"] {
        let answer = server.propfind(path, "1", "<D:displayname/>");
        assert!(!answer.text().contains("alice"), "{path}");
    }
}

#[test]
fn infinite_depth_is_refused() {
    let server = Server::new();
    for headers in [&[("depth", "infinity")][..], &[]] {
        let answer = server.send("PROPFIND", "/calendars/alice/", headers, "");
        assert_eq!((answer.status, answer.condition().as_str()), (403, "propfind-finite-depth"));
    }
    assert_eq!(server.send("PROPFIND", "/", &[("depth", "2")], "").status, 400);
}

#[test]
fn collections_are_made_with_their_properties() {
    let server = Server::new();
    let body = r#"<?xml version="1.0" encoding="utf-8" ?>
   <C:mkcalendar xmlns:D="DAV:" xmlns:C="urn:ietf:params:xml:ns:caldav">
     <D:set><D:prop>
         <D:displayname>Lisa's Events</D:displayname>
         <C:calendar-description xml:lang="en">Calendar restricted to events.</C:calendar-description>
         <C:supported-calendar-component-set><C:comp name="VEVENT"/></C:supported-calendar-component-set>
         <C:calendar-timezone><![CDATA[BEGIN:VCALENDAR
PRODID:-//Example Corp.//CalDAV Client//EN
VERSION:2.0
BEGIN:VTIMEZONE
TZID:US-Eastern
LAST-MODIFIED:19870101T000000Z
BEGIN:STANDARD
DTSTART:19671029T020000
RRULE:FREQ=YEARLY;BYDAY=-1SU;BYMONTH=10
TZOFFSETFROM:-0400
TZOFFSETTO:-0500
TZNAME:Eastern Standard Time (US & Canada)
END:STANDARD
END:VTIMEZONE
END:VCALENDAR
]]></C:calendar-timezone>
     </D:prop></D:set>
   </C:mkcalendar>"#;
    let path = "/calendars/alice/events/";
    assert_eq!(server.send("MKCALENDAR", path, &[], body).status, 201);
    let again = server.send("MKCALENDAR", path, &[], body);
    assert_eq!((again.status, again.condition().as_str()), (405, "resource-must-be-null"));
    let answer = server.propfind(path, "0", "<D:displayname/><C:calendar-description/><C:supported-calendar-component-set/><C:calendar-timezone/>");
    let part = answer.part(path);
    assert_eq!(part.value("displayname"), "Lisa's Events");
    assert!(part.value("calendar-timezone").contains("TZNAME:Eastern Standard Time (US & Canada)"));
    let components = part.property("supported-calendar-component-set").1;
    assert_eq!(components.children().filter_map(|c| c.attribute("name")).collect::<Vec<_>>(), ["VEVENT"]);

    let body = r#"<D:mkcol xmlns:D="DAV:" xmlns:C="urn:ietf:params:xml:ns:carddav"><D:set><D:prop>
        <D:resourcetype><D:collection/><C:addressbook/></D:resourcetype><D:displayname>Lisa's Contacts</D:displayname>
        <C:addressbook-description xml:lang="en">My primary address book.</C:addressbook-description></D:prop></D:set></D:mkcol>"#;
    assert_eq!(
        server.send("MKCOL", "/contacts/alice/lisa", &[("content-type", "application/xml")], body).status,
        201
    );
    let answer = server.propfind("/contacts/alice/lisa/", "0", "<R:addressbook-description/>");
    assert_eq!(
        answer.part("/contacts/alice/lisa/").value("addressbook-description"),
        "My primary address book."
    );
    let wrong = server.send("MKCOL", "/calendars/alice/lisa", &[], body);
    assert_eq!(wrong.condition(), "valid-resourcetype");
    assert_eq!(
        server.send("MKCALENDAR", "/contacts/alice/x", &[], "").condition(),
        "calendar-collection-location-ok"
    );
    assert_eq!(
        server.send("MKCALENDAR", "/calendars/alice/default/x", &[], "").condition(),
        "calendar-collection-location-ok"
    );
    assert_eq!(server.send("MKCOL", "/calendars/alice/plain", &[], "").status, 201);
    assert_eq!(
        server.send("MKCOL", "/calendars/alice/typed", &[("content-type", "text/plain")], "x").status,
        415
    );
    assert_eq!(server.send("DELETE", path, &[("depth", "0")], "").status, 400);
    assert_eq!(server.send("DELETE", path, &[], "").status, 204);
    assert_eq!(server.propfind(path, "0", "<D:displayname/>").status, 404);
    assert_eq!(server.send("DELETE", "/calendars/alice/", &[], "").status, 403);
}

#[test]
fn a_collection_with_a_property_that_cannot_be_set_is_not_made() {
    let server = Server::new();
    let set = "<D:set><D:prop><D:displayname>x</D:displayname><D:getetag>1</D:getetag></D:prop></D:set>";
    let body = format!(
        "<C:mkcalendar xmlns:D=\"DAV:\" xmlns:C=\"urn:ietf:params:xml:ns:caldav\">{set}</C:mkcalendar>"
    );
    let answer = server.send("MKCALENDAR", "/calendars/alice/x/", &[], body);
    let part = answer.part("/calendars/alice/x/");
    assert_eq!((part.property("getetag").0, part.property("displayname").0), (403, 424));
    let answer = server.send(
        "MKCOL",
        "/calendars/alice/x/",
        &[],
        format!("<D:mkcol xmlns:D=\"DAV:\">{set}</D:mkcol>"),
    );
    assert_eq!((answer.status, &*answer.xml().name.local), (424, "mkcol-response"));
    assert_eq!(server.propfind("/calendars/alice/x/", "0", "<D:displayname/>").status, 404);
}

#[test]
fn properties_are_set_and_removed_all_or_none() {
    let server = Server::new();
    let path = "/calendars/alice/default/";
    let patch = |actions: &str| {
        let body = format!(
            "<D:propertyupdate xmlns:D=\"DAV:\" xmlns:A=\"http://apple.com/ns/ical/\" xmlns:X=\"urn:x\" xml:lang=\"de\">{actions}</D:propertyupdate>"
        );
        server.send("PROPPATCH", path, &[], body)
    };
    let answer = patch(
        "<D:set><D:prop><D:displayname>Büro &amp; mehr</D:displayname><A:calendar-color>#FF0000FF</A:calendar-color><X:thing a=\"1\"><X:in>2</X:in></X:thing></D:prop></D:set>",
    );
    assert_eq!(answer.part(path).property("thing").0, 200);
    let found = server.propfind(path, "0", "<D:displayname/><A:calendar-color/><X:thing/><X:other/>");
    let part = found.part(path);
    assert_eq!(part.value("displayname"), "Büro & mehr");
    assert_eq!(part.value("calendar-color"), "#FF0000FF");
    let (status, thing) = part.property("thing");
    assert_eq!((status, thing.language(), thing.prefix.as_str()), (200, Some("de"), "X"));
    assert_eq!(thing.child("urn:x", "in").unwrap().text(), "2");
    assert_eq!(part.property("other").0, 404);

    let answer = patch(
        "<D:remove><D:prop><X:thing/></D:prop></D:remove><D:set><D:prop><D:getetag>x</D:getetag></D:prop></D:set>",
    );
    assert_eq!((answer.part(path).property("thing").0, answer.part(path).property("getetag").0), (424, 403));
    assert_eq!(server.propfind(path, "0", "<X:thing/>").part(path).property("thing").0, 200);
    assert_eq!(patch("<D:remove><D:prop><X:thing/></D:prop></D:remove>").part(path).property("thing").0, 200);
    assert_eq!(server.propfind(path, "0", "<X:thing/>").part(path).property("thing").0, 404);
    assert_eq!(patch("").status, 400);
    let minimal = server.send("PROPPATCH", path, &[("prefer", "return=minimal")], "<D:propertyupdate xmlns:D=\"DAV:\"><D:set><D:prop><D:displayname>y</D:displayname></D:prop></D:set></D:propertyupdate>");
    assert_eq!(
        (minimal.status, minimal.header("preference-applied"), minimal.body.len()),
        (200, "return=minimal", 0)
    );
}

#[test]
fn resources_are_copied_and_moved() {
    let server = Server::new();
    server.send("MKCALENDAR", "/calendars/alice/other/", &[], "");
    let (a, b, c) =
        ("/calendars/alice/default/a.ics", "/calendars/alice/default/b.ics", "/calendars/alice/other/c.ics");
    server.put(a, &event("1", "a"));
    let copy = server.send("COPY", a, &[("destination", b)], "");
    assert_eq!(copy.condition(), "no-uid-conflict");
    assert_eq!(server.send("COPY", a, &[("destination", c)], "").status, 201);
    assert_eq!(server.send("COPY", a, &[("destination", c), ("overwrite", "F")], "").status, 412);
    assert_eq!(server.send("COPY", a, &[("destination", c)], "").status, 204);
    assert_eq!(
        server
            .send("MOVE", a, &[("destination", "https://elsewhere:1/calendars/alice/default/b.ics")], "")
            .status,
        201
    );
    assert_eq!((server.get(a).status, server.get(b).text()), (404, event("1", "a").as_str()));
    // The UID went along.
    assert_eq!(server.put(a, &event("1", "a")).status, 403);
    assert_eq!(server.send("MOVE", b, &[("destination", c)], "").status, 204);
    assert_eq!(server.put(a, &event("1", "a")).status, 201);
    assert_eq!(server.send("MOVE", a, &[("destination", a)], "").status, 403);
    assert_eq!(server.send("MOVE", a, &[("destination", "/contacts/alice/default/a.vcf")], "").status, 403);
    assert_eq!(server.send("MOVE", a, &[("destination", "/calendars/alice/nowhere/a.ics")], "").status, 409);
    assert_eq!(server.send("MOVE", a, &[], "").status, 400);
    assert_eq!(
        server.send("MOVE", "/calendars/alice/default/none.ics", &[("destination", b)], "").status,
        404
    );
}

#[test]
fn methods_that_are_not_here() {
    let server = Server::new();
    for method in ["LOCK", "UNLOCK", "POST", "ACL"] {
        assert_eq!(server.send(method, "/calendars/alice/default/", &[], "").status, 405, "{method}");
    }
    assert_eq!(server.send("BREW", "/", &[], "").status, 501);
    assert_eq!(server.send("GET", "/favicon.ico", &[], "").status, 404);
    for method in ["PUT", "MKCOL", "MKCALENDAR"] {
        assert_eq!(server.send(method, "/calendars/alice/a/b/c", &[], "").status, 409, "{method}");
    }
    assert_eq!(server.send("GET", "/calendars/alice/%00/", &[], "").status, 400);
    assert_eq!(server.get("/calendars/alice/").status, 200);
    assert_eq!(server.send("PROPFIND", "/", &[("depth", "0")], "<x").status, 400);
}
