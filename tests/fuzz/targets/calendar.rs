//! Calendar objects: what is accepted can be expanded, in bounded time.
#![no_main]

use std::ops::ControlFlow;

use caldav::calendar::object::Object;
use caldav::calendar::{TimeRange, Zone, validate};
use caldav::contentline;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let valid = validate(bytes).is_ok();
    let parsed = contentline::decode(bytes);
    let Ok(text) = parsed else {
        assert!(!valid, "what was found valid can be decoded");
        return;
    };
    let zone = Zone::Utc;
    let Ok(object) = Object::parse(&text, &zone) else {
        assert!(!valid, "what was found valid can be parsed");
        return;
    };
    let Some(range) = TimeRange::parse(Some("20200101T000000Z"), Some("20300101T000000Z")) else { return };
    let mut instances = 0;
    for name in ["VEVENT", "VTODO", "VJOURNAL"] {
        let _ = object.visit(name, range, &mut |_| {
            instances += 1;
            if instances < 10_000 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
    }
});
