//! PUT of a calendar object (RFC 4791, section 5.3.2) or a card (RFC 6352, section 6.3.2).

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, ETAG};
use http::{Response, StatusCode};
use redb::WriteTransaction;

use super::error::{Failure, Refusal};
use super::path::{CollectionPath, Path};
use super::precondition::{self, State};
use super::{Envelope, get, tree};
use crate::index::Summary;
use crate::repository::{self, Change, Error, Home};
use crate::{calendar, contact};

/// A resource to store, found valid.
#[derive(Debug)]
pub(super) struct Put {
    body: Bytes,
    summary: Summary,
}

impl Put {
    /// Checks the bytes by themselves.
    pub(super) fn read(request: &Envelope, body: &Bytes) -> Result<Self, Failure> {
        let Path::Object(collection, name) = &request.path else {
            let inside_home = matches!(request.path, Path::Collection(_));
            let status = if inside_home { StatusCode::FORBIDDEN } else { StatusCode::METHOD_NOT_ALLOWED };
            return Err(Failure::status(status).because("a resource is stored in a calendar or address book"));
        };
        repository::check_resource_name(name)
            .map_err(|error| Failure::status(StatusCode::FORBIDDEN).because(error.to_string()))?;
        // RFC 9110, section 14.5: a part must not be stored as if it were the whole.
        if request.headers.contains_key(CONTENT_RANGE) {
            return Err(Failure::status(StatusCode::BAD_REQUEST).because("only whole resources are stored"));
        }
        let encoded = request.headers.get(CONTENT_ENCODING);
        if encoded.is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
            return Err(
                Failure::status(StatusCode::UNSUPPORTED_MEDIA_TYPE).because("Content-Encoding is not read")
            );
        }
        check_content_type(request, collection.home)?;
        if body.len() > request.limits.resource_bytes {
            return Err(Failure::forbidden(match collection.home {
                Home::Calendars => "C:max-resource-size",
                Home::Contacts => "CR:max-resource-size",
            }));
        }
        let summary = match collection.home {
            Home::Calendars => calendar::validate(body).map_err(|invalid| {
                use calendar::Invalid;
                Failure::forbidden(match &invalid {
                    Invalid::TooLarge => "C:max-resource-size",
                    Invalid::Syntax(_) | Invalid::NotOneCalendar | Invalid::Property { .. } => {
                        "C:valid-calendar-data"
                    }
                    Invalid::Method | Invalid::MixedComponents | Invalid::Uid => {
                        "C:valid-calendar-object-resource"
                    }
                    Invalid::UnsupportedComponent => "C:supported-calendar-component",
                    Invalid::TooManyInstances => "C:max-instances",
                })
                .because(invalid.to_string())
            })?,
            Home::Contacts => contact::validate(body).map_err(|invalid| {
                use contact::Invalid;
                Failure::forbidden(match &invalid {
                    Invalid::TooLarge => "CR:max-resource-size",
                    Invalid::Version => "CR:supported-address-data",
                    Invalid::Syntax(_) | Invalid::NotOneCard | Invalid::Uid => "CR:valid-address-data",
                })
                .because(invalid.to_string())
            })?,
        };
        Ok(Self { body: body.clone(), summary })
    }

    /// Stores it: 201 if it is new, 204 if there was one, and its `ETag`, since it is stored octet by octet.
    pub(super) fn run(
        &self,
        request: &Envelope,
        transaction: &WriteTransaction,
    ) -> Result<Response<Bytes>, Refusal> {
        let Path::Object(path, name) = &request.path else { return Err(tree::not_found()) };
        let mut change = Change::begin(transaction, &request.session.user)?;
        let existing = match change.snapshot().collection(path.home, &path.name)? {
            Some(collection) => collection.entry(name)?,
            None => return Err(Error::NoCollection.into()),
        };
        let old = existing.as_ref().map(|entry| entry.etag.to_string());
        let state = State { exists: existing.is_some(), etag: old.as_deref() };
        precondition::check(&request.headers, &request.path, state, false)?;
        let id = change
            .put(path.home, &path.name, name, &self.body, &self.summary)
            .map_err(|error| refused(error, path))?;
        let verb = if existing.is_some() { "Change" } else { "Add" };
        let message = format!("{verb} {}/{}/{name}", path.home.folder(), path.name);
        request.session.author(|author| change.commit(author, &message))?;
        let mut response = Response::new(Bytes::new());
        *response.status_mut() =
            if existing.is_some() { StatusCode::NO_CONTENT } else { StatusCode::CREATED };
        response.headers_mut().insert(ETAG, get::etag(&id));
        Ok(response)
    }
}

/// A refusal of the store in the terms of the collection's RFC.
pub(super) fn refused(error: Error, path: &CollectionPath) -> Refusal {
    let calendar = path.home == Home::Calendars;
    match error {
        Error::UidConflict(other) => {
            let condition = if calendar { "C:no-uid-conflict" } else { "CR:no-uid-conflict" };
            Failure::forbidden(condition).at(Path::Object(path.clone(), other).encode()).into()
        }
        Error::UnsupportedComponent if !calendar => Failure::forbidden("CR:supported-address-data").into(),
        Error::TooLarge => {
            Failure::forbidden(if calendar { "C:max-resource-size" } else { "CR:max-resource-size" }).into()
        }
        error => error.into(),
    }
}

/// RFC 4791, section 5.3.2.1, `supported-calendar-data`. Clients that do not say what they send, or say only that it is
/// text or bytes, are believed; the bytes are checked anyway.
fn check_content_type(request: &Envelope, home: Home) -> Result<(), Failure> {
    let Some(value) = request.headers.get(CONTENT_TYPE) else { return Ok(()) };
    let value = String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
    let mut parts = value.split(';').map(str::trim);
    let media = parts.next().unwrap_or_default();
    let (expected, condition): (&[&str], _) = match home {
        Home::Calendars => (&["text/calendar"], "C:supported-calendar-data"),
        Home::Contacts => (&["text/vcard", "text/x-vcard", "text/directory"], "CR:supported-address-data"),
    };
    let known = expected.contains(&media) || matches!(media, "" | "text/plain" | "application/octet-stream");
    let charset =
        parts.find_map(|part| part.strip_prefix("charset=")).map(|charset| charset.trim_matches('"'));
    let readable = charset.is_none_or(|charset| matches!(charset, "utf-8" | "utf8" | "us-ascii"));
    if known && readable {
        Ok(())
    } else {
        Err(Failure::forbidden(condition).because("the media type is not stored here"))
    }
}
