//! MKCALENDAR (RFC 4791, section 5.3.1) and MKCOL, plain and extended (RFC 5689).

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use redb::WriteTransaction;

use super::Envelope;
use super::error::{Failure, Refusal, XML_TYPE};
use super::multistatus::Multistatus;
use super::path::{CollectionPath, Path};
use super::precondition::{self, State};
use super::proppatch::{self, Instruction};
use super::xml::{self, CALDAV, CARDDAV, DAV, Element, Writer};
use crate::repository::{self, Change, CollectionProperties, Error, Home};

/// A collection to make.
#[derive(Debug)]
pub(super) struct Make {
    instructions: Vec<Instruction>,
    mkcalendar: bool,
}

impl Make {
    /// Reads MKCALENDAR.
    pub(super) fn read_mkcalendar(request: &Envelope, body: &Bytes) -> Result<Self, Failure> {
        let path = place(request)?;
        if path.home != Home::Calendars {
            return Err(Failure::forbidden("C:calendar-collection-location-ok"));
        }
        let Some(root) = read_body(body)? else {
            return Ok(Self { instructions: Vec::new(), mkcalendar: true });
        };
        if !root.name.is(CALDAV, "mkcalendar") {
            return Err(Failure::status(StatusCode::BAD_REQUEST).because("the body is no CALDAV:mkcalendar"));
        }
        let instructions = proppatch::instructions(&root)?;
        Ok(Self { instructions, mkcalendar: true })
    }

    /// Reads MKCOL. Without a body it makes what belongs where it is asked for.
    pub(super) fn read_mkcol(request: &Envelope, body: &Bytes) -> Result<Self, Failure> {
        let path = place(request)?;
        if body.is_empty() {
            return Ok(Self { instructions: Vec::new(), mkcalendar: false });
        }
        let is_xml = request.headers.get(CONTENT_TYPE).is_none_or(|value| {
            let value = String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
            let media = value.split(';').next().unwrap_or_default().trim().to_owned();
            matches!(media.as_str(), "application/xml" | "text/xml" | "")
        });
        // RFC 4918, section 9.3.1.
        if !is_xml {
            return Err(Failure::status(StatusCode::UNSUPPORTED_MEDIA_TYPE));
        }
        let Some(root) = read_body(body)? else {
            return Ok(Self { instructions: Vec::new(), mkcalendar: false });
        };
        if !root.name.is(DAV, "mkcol") {
            return Err(
                Failure::status(StatusCode::UNSUPPORTED_MEDIA_TYPE).because("the body is no DAV:mkcol")
            );
        }
        let instructions = proppatch::instructions(&root)?;
        for asked in instructions.iter().filter_map(Instruction::resource_type) {
            let calendar = asked.child(CALDAV, "calendar").is_some();
            let addressbook = asked.child(CARDDAV, "addressbook").is_some();
            let fits = match path.home {
                Home::Calendars => !addressbook,
                Home::Contacts => !calendar,
            };
            let known = asked.children().all(|child| {
                child.name.is(DAV, "collection")
                    || child.name.is(CALDAV, "calendar")
                    || child.name.is(CARDDAV, "addressbook")
            });
            if !fits || !known {
                return Err(Failure::forbidden("D:valid-resourcetype"));
            }
        }
        Ok(Self { instructions, mkcalendar: false })
    }

    /// Makes the collection with all its properties, or nothing.
    pub(super) fn run(
        &self,
        request: &Envelope,
        transaction: &WriteTransaction,
    ) -> Result<Response<Bytes>, Refusal> {
        let path = place(request)?;
        let mut change = Change::begin(transaction, &request.session.user)?;
        let exists = change.snapshot().collection(path.home, &path.name)?.is_some();
        precondition::check(&request.headers, &request.path, State { exists, etag: None }, false)?;
        if exists {
            return Err(Error::CollectionExists.into());
        }
        let mut properties = CollectionProperties::default();
        let outcomes = proppatch::apply(&self.instructions, path.home, true, &mut properties);
        if outcomes.iter().any(Result::is_err) {
            return Ok(self.not_made(request, &outcomes));
        }
        change.create_collection(path.home, &path.name, &properties)?;
        let message = format!("Make {}/{}", path.home.folder(), path.name);
        request.session.author(|author| change.commit(author, &message))?;
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = StatusCode::CREATED;
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        Ok(response)
    }

    /// RFC 4791, section 5.3.1, wants a multi-status; RFC 5689, section 3, a 424 with a body of its own.
    fn not_made(&self, request: &Envelope, outcomes: &proppatch::Outcomes) -> Response<Bytes> {
        if self.mkcalendar {
            let mut answer = Multistatus::new(request.viewer(), false, 0);
            answer.writer.open("D:response");
            answer.writer.href(&request.path.encode());
            proppatch::write_outcomes(&self.instructions, outcomes, &mut answer.writer);
            answer.writer.close("D:response");
            return answer.finish();
        }
        let mut writer = Writer::document("mkcol-response", 0);
        proppatch::write_outcomes(&self.instructions, outcomes, &mut writer);
        let mut response = Response::new(Bytes::from(writer.finish("mkcol-response")));
        *response.status_mut() = StatusCode::FAILED_DEPENDENCY;
        response.headers_mut().insert(CONTENT_TYPE, XML_TYPE);
        response
    }
}

/// Where a collection can be made: directly in a home.
fn place(request: &Envelope) -> Result<&CollectionPath, Failure> {
    match &request.path {
        Path::Collection(path) => {
            repository::check_collection_name(&path.name)
                .map_err(|error| Failure::status(StatusCode::FORBIDDEN).because(error.to_string()))?;
            Ok(path)
        }
        // RFC 4791, section 5.3.1.1: calendars do not lie in calendars.
        Path::Object(path, _) => Err(Failure::forbidden(match path.home {
            Home::Calendars => "C:calendar-collection-location-ok",
            Home::Contacts => "CR:addressbook-collection-location-ok",
        })),
        _ => Err(Failure::forbidden("D:resource-must-be-null").with_status(StatusCode::METHOD_NOT_ALLOWED)),
    }
}

fn read_body(body: &Bytes) -> Result<Option<Element>, Failure> {
    if body.iter().all(u8::is_ascii_whitespace) { Ok(None) } else { Ok(Some(xml::parse(body)?)) }
}
