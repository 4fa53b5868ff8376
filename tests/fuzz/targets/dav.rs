//! Requests of an authenticated user against a store with something in it: the first line is method, path and depth,
//! the second another header, the rest the body.
#![no_main]

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use caldav::dav::{Dav, Limits, Session, set_up};
use caldav::repository;
use caldav::users::{StoredPassword, User};
use http::{Method, Request};
use libfuzzer_sys::fuzz_target;
use redb::backends::InMemoryBackend;
use redb::{Database, ReadableDatabase};

const EVENT: &str = "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//f//EN\r\nBEGIN:VEVENT\r\nUID:f@f\r\n\
    DTSTAMP:20260101T000000Z\r\nDTSTART:20260302T090000Z\r\nRRULE:FREQ=DAILY;COUNT=5\r\nSUMMARY:f\r\nEND:VEVENT\r\n\
    END:VCALENDAR\r\n";

/// Never checked here: the user has been let in.
const HASH: &str = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";

thread_local! {
    static DATABASE: RefCell<Option<Database>> = const { RefCell::new(None) };
}

fn session() -> Session {
    Session {
        user: "alice".into(),
        profile: Rc::new(User {
            password: StoredPassword::parse(HASH).expect("a hash"),
            display_name: String::new(),
            mail: Vec::new(),
        }),
        now: Duration::from_secs(1_800_000_000),
    }
}

fn open() -> Database {
    let database = Database::builder().create_with_backend(InMemoryBackend::new()).expect("memory");
    let transaction = database.begin_write().expect("memory");
    repository::prepare(&transaction).expect("empty");
    set_up(&transaction, &session()).expect("empty");
    let put = Request::builder()
        .method("PUT")
        .uri("/calendars/alice/default/f.ics")
        .header("content-type", "text/calendar")
        .body(Bytes::from_static(EVENT.as_bytes()))
        .expect("a request");
    let call = Dav::new(Limits::default()).accept(session(), put).expect("a call");
    call.write(&transaction).expect("stored");
    transaction.commit().expect("memory");
    database
}

fn request(bytes: &[u8]) -> Option<Request<Bytes>> {
    let mut parts = bytes.splitn(3, |byte| *byte == b'\n');
    let line = std::str::from_utf8(parts.next()?).ok()?;
    let mut words = line.split(' ');
    let request = Request::builder()
        .method(Method::from_bytes(words.next()?.as_bytes()).ok()?)
        .uri(words.next()?)
        .header("depth", words.next().unwrap_or("0"))
        .header("content-type", "text/calendar");
    let header = std::str::from_utf8(parts.next()?).ok()?;
    let (name, value) = header.split_once(": ")?;
    request.header(name, value).body(Bytes::copy_from_slice(parts.next()?)).ok()
}

fuzz_target!(|bytes: &[u8]| {
    let Some(request) = request(bytes) else { return };
    DATABASE.with_borrow_mut(|database| {
        let database = database.get_or_insert_with(open);
        let Ok(call) = Dav::new(Limits::default()).accept(session(), request) else { return };
        if call.writes() {
            // Never committed: every input meets the same store.
            let transaction = database.begin_write().expect("memory");
            let response = call.write(&transaction).expect("the store is sound");
            assert_ne!(response.status(), 500);
            transaction.abort().expect("memory");
        } else {
            let transaction = database.begin_read().expect("memory");
            let response = call.read(&transaction).expect("the store is sound");
            assert_ne!(response.status(), 500);
        }
    });
});
