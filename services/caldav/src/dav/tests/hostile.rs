//! Whatever comes in, an answer goes out.

use proptest::prelude::*;

use super::*;

const METHODS: [&str; 12] = [
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
    "OPTIONS",
];

const PATHS: [&str; 12] = [
    "/",
    "/principals/",
    "/principals/alice/",
    "/calendars/alice/",
    "/contacts/alice/",
    "/calendars/alice/default/",
    "/calendars/alice/default/1.ics",
    "/calendars/alice/default/new.ics",
    "/calendars/alice/none/1.ics",
    "/contacts/alice/default/",
    "/contacts/alice/default/1.vcf",
    "/calendars/bob/default/",
];

/// Names that requests are made of, and that nest where they should and where they should not.
const ELEMENTS: [&str; 44] = [
    "D:propfind",
    "D:prop",
    "D:allprop",
    "D:propname",
    "D:include",
    "D:propertyupdate",
    "D:set",
    "D:remove",
    "D:mkcol",
    "D:resourcetype",
    "D:displayname",
    "D:getetag",
    "D:href",
    "D:sync-collection",
    "D:sync-token",
    "D:sync-level",
    "D:limit",
    "D:nresults",
    "D:expand-property",
    "D:property",
    "D:principal-property-search",
    "D:property-search",
    "D:match",
    "C:mkcalendar",
    "C:calendar-query",
    "C:calendar-multiget",
    "C:free-busy-query",
    "C:calendar-data",
    "C:filter",
    "C:comp-filter",
    "C:prop-filter",
    "C:param-filter",
    "C:text-match",
    "C:time-range",
    "C:is-not-defined",
    "C:comp",
    "C:expand",
    "C:calendar-timezone",
    "C:supported-calendar-component-set",
    "R:addressbook-query",
    "R:addressbook-multiget",
    "R:address-data",
    "R:filter",
    "X:other",
];

fn document() -> impl Strategy<Value = String> {
    let attribute = prop_oneof![
        Just(String::new()),
        prop::sample::select(&["VCALENDAR", "VEVENT", "SUMMARY", ""][..])
            .prop_map(|name| format!(" name=\"{name}\"")),
        Just(" start=\"20060104T140000Z\" end=\"20060105T220000Z\"".to_owned()),
        Just(" start=\"99999999T999999Z\"".to_owned()),
        "[a-z-]{1,8}".prop_map(|value| format!(" test=\"{value}\" collation=\"{value}\" namespace=\"DAV:\"")),
    ];
    let text = prop_oneof![
        Just("/calendars/alice/default/1.ics".to_owned()),
        Just("data:,0123456789012345678901234567890123456789".to_owned()),
        "[ -;=?-~]{0,12}".prop_map(|text| text.replace('&', "&amp;")),
    ];
    let leaf = (prop::sample::select(&ELEMENTS[..]), attribute.clone(), text)
        .prop_map(|(name, attribute, text)| format!("<{name}{attribute}>{text}</{name}>"));
    leaf.prop_recursive(5, 40, 5, move |inner| {
        (prop::sample::select(&ELEMENTS[..]), attribute.clone(), prop::collection::vec(inner, 0..5))
            .prop_map(|(name, attribute, inner)| format!("<{name}{attribute}>{}</{name}>", inner.concat()))
    })
    .prop_map(|inside| {
        // The root declares what the names inside use.
        let (name, rest) = inside[1..].split_at(inside.find([' ', '>']).unwrap_or(1) - 1);
        format!(
            "<{name} xmlns:D=\"DAV:\" xmlns:C=\"urn:ietf:params:xml:ns:caldav\" xmlns:R=\"urn:ietf:params:xml:ns:carddav\" xmlns:X=\"urn:x\"{rest}"
        )
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_document_gets_an_answer(
        method in prop::sample::select(&METHODS[..]),
        path in prop::sample::select(&PATHS[..]),
        depth in prop::sample::select(&["0", "1", "infinity", "x"][..]),
        body in document(),
    ) {
        let server = Server::new();
        server.put("/calendars/alice/default/1.ics", &event("1", "a"));
        server.put("/contacts/alice/default/1.vcf", &card("1", "a"));
        let headers = [("depth", depth), ("destination", "/calendars/alice/default/2.ics")];
        let answer = server.send(method, path, &headers, body.clone());
        prop_assert!((200..600).contains(&answer.status) && answer.status != 500, "{} for {}", answer.status, body);
        // What was there is still there, or was deleted on purpose.
        let after = server.get("/calendars/alice/default/1.ics").status;
        prop_assert!(after == 200 || matches!(method, "DELETE" | "MOVE" | "PUT"), "{method} {path} {after}");
    }

    #[test]
    fn any_headers_get_an_answer(
        method in prop::sample::select(&METHODS[..]),
        path in prop::sample::select(&PATHS[..]),
        name in prop::sample::select(&["depth", "destination", "overwrite", "if", "if-match", "if-none-match", "content-type", "prefer"][..]),
        value in "[ -~]{0,40}",
        body in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let server = Server::new();
        let answer = server.send(method, path, &[(name, &value)], body);
        prop_assert!((200..600).contains(&answer.status) && answer.status != 500, "{}", answer.status);
    }

    #[test]
    fn any_path_gets_an_answer(method in prop::sample::select(&METHODS[..]), path in "/[a-z0-9%./~:@!-]{0,40}") {
        prop_assume!(path.parse::<http::Uri>().is_ok());
        let server = Server::new();
        let answer = server.send(method, &path, &[("depth", "0")], "");
        prop_assert!((200..600).contains(&answer.status) && answer.status != 500, "{}", answer.status);
    }
}
