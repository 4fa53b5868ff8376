//! Requests against the whole protocol layer and an in-memory store.

mod basic;
mod hostile;
mod queries;
mod reports;

use std::rc::Rc;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use redb::backends::InMemoryBackend;
use redb::{Database, ReadableDatabase};

use super::xml::{self, DAV, Element};
use super::{Call, Dav, Limits, Session};
use crate::repository;
use crate::users::{StoredPassword, User};

/// A server with the users `alice` and `bob`.
pub(super) struct Server {
    database: Database,
    dav: Dav,
    user: &'static str,
}

/// What a client sees.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: http::HeaderMap,
    pub(super) body: Bytes,
}

impl Server {
    pub(super) fn new() -> Self {
        Self::with_limits(Limits::default())
    }

    pub(super) fn with_limits(limits: Limits) -> Self {
        let database = Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
        let server = Self { database, dav: Dav::new(limits), user: "alice" };
        let transaction = server.database.begin_write().unwrap();
        repository::prepare(&transaction).unwrap();
        for user in ["alice", "bob"] {
            assert!(!super::is_set_up(&transaction, user).unwrap());
            super::set_up(&transaction, &session(user)).unwrap();
            assert!(super::is_set_up(&transaction, user).unwrap());
        }
        transaction.commit().unwrap();
        server
    }

    /// The same server for another user.
    pub(super) fn log_in(&mut self, user: &'static str) -> &mut Self {
        self.user = user;
        self
    }

    pub(super) fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let mut request = Request::builder().method(Method::from_bytes(method.as_bytes()).unwrap()).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let call = match self.dav.accept(session(self.user), request.body(body.into()).unwrap()) {
            Ok(call) => call,
            Err(response) => return Answer::of(*response),
        };
        Answer::of(self.run(&call))
    }

    fn run(&self, call: &Call) -> http::Response<Bytes> {
        if !call.writes() {
            return call.read(&self.database.begin_read().unwrap()).unwrap();
        }
        // As the storage may do it: run once in vain, then again.
        let abandoned = self.database.begin_write().unwrap();
        let first = call.write(&abandoned).unwrap();
        abandoned.abort().unwrap();
        let transaction = self.database.begin_write().unwrap();
        let response = call.write(&transaction).unwrap();
        transaction.commit().unwrap();
        assert_eq!(first.status(), response.status());
        response
    }

    pub(super) fn put(&self, path: &str, body: &str) -> Answer {
        self.send("PUT", path, &[], body.to_owned())
    }

    pub(super) fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], "")
    }

    pub(super) fn propfind(&self, path: &str, depth: &str, properties: &str) -> Answer {
        let body = format!(
            "<D:propfind xmlns:D=\"DAV:\" xmlns:C=\"urn:ietf:params:xml:ns:caldav\" xmlns:R=\"urn:ietf:params:xml:ns:carddav\" xmlns:S=\"http://calendarserver.org/ns/\" xmlns:A=\"http://apple.com/ns/ical/\" xmlns:X=\"urn:x\"><D:prop>{properties}</D:prop></D:propfind>"
        );
        self.send("PROPFIND", path, &[("depth", depth)], body)
    }
}

pub(super) fn session(user: &str) -> Session {
    let password = StoredPassword::parse(
        "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
    );
    let profile = User {
        password: password.unwrap(),
        display_name: format!("{user} Example"),
        mail: vec![format!("{user}@example.org")],
    };
    Session {
        user: user.into(),
        profile: Rc::new(profile),
        now: core::time::Duration::from_secs(1_700_000_000),
    }
}

impl Answer {
    fn of(response: http::Response<Bytes>) -> Self {
        let (parts, body) = response.into_parts();
        let answer = Self { status: parts.status.as_u16(), headers: parts.headers, body };
        if answer.header("content-type").starts_with("application/xml") {
            // Whatever is sent as XML must be XML.
            answer.xml();
        }
        answer
    }

    pub(super) fn text(&self) -> &str {
        core::str::from_utf8(&self.body).unwrap()
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(super) fn xml(&self) -> Element {
        xml::parse(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The precondition that an error body names.
    pub(super) fn condition(&self) -> String {
        let root = self.xml();
        assert!(root.name.is(DAV, "error"), "{}", self.text());
        root.children().next().unwrap().name.local.to_string()
    }

    /// All responses of a multi-status.
    pub(super) fn responses(&self) -> Vec<Part> {
        assert_eq!(self.status, 207, "{}", self.text());
        self.xml().children().filter(|child| child.name.is(DAV, "response")).cloned().map(Part).collect()
    }

    /// The response for a path.
    pub(super) fn part(&self, href: &str) -> Part {
        let found = self.responses().into_iter().find(|part| part.href() == href);
        found.unwrap_or_else(|| panic!("no response for {href} in {}", self.text()))
    }

    pub(super) fn hrefs(&self) -> Vec<String> {
        self.responses().iter().map(Part::href).collect()
    }
}

/// One response of a multi-status.
pub(super) struct Part(pub(super) Element);

impl Part {
    pub(super) fn href(&self) -> String {
        self.0.child(DAV, "href").unwrap().text()
    }

    /// The status of the response itself.
    pub(super) fn status(&self) -> Option<u16> {
        self.0.child(DAV, "status").map(status)
    }

    /// A property and the status it came with.
    pub(super) fn property(&self, local: &str) -> (u16, Element) {
        for propstat in self.0.children().filter(|child| child.name.is(DAV, "propstat")) {
            let properties = propstat.child(DAV, "prop").unwrap();
            if let Some(property) = properties.children().find(|child| child.name.local == local) {
                return (status(propstat.child(DAV, "status").unwrap()), property.clone());
            }
        }
        panic!("no {local} in {}", self.0.to_xml(""));
    }

    /// The text of a property that must be there.
    pub(super) fn value(&self, local: &str) -> String {
        let (status, property) = self.property(local);
        assert_eq!(status, 200, "{local}");
        property.text()
    }

    /// The href in a property that must be there.
    pub(super) fn href_in(&self, local: &str) -> String {
        let (status, property) = self.property(local);
        assert_eq!(status, 200, "{local}");
        property.child(DAV, "href").unwrap().text()
    }
}

fn status(element: &Element) -> u16 {
    let line = element.text();
    let code =
        line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).unwrap_or_else(|| panic!("{line}"));
    StatusCode::from_bytes(code.as_bytes()).unwrap().as_u16()
}

/// An event.
pub(super) fn event(uid: &str, summary: &str) -> String {
    format!(
        "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//Example//EN\r\nBEGIN:VEVENT\r\nUID:{uid}\r\nDTSTAMP:20240101T000000Z\r\nDTSTART:20240102T100000Z\r\nDTEND:20240102T110000Z\r\nSUMMARY:{summary}\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
    )
}

/// A card.
pub(super) fn card(uid: &str, name: &str) -> String {
    format!("BEGIN:VCARD\r\nVERSION:3.0\r\nUID:{uid}\r\nFN:{name}\r\nN:{name};;;;\r\nEND:VCARD\r\n")
}
