//! OPTIONS, and where discovery begins (RFC 6764).

use bytes::Bytes;
use http::header::{ALLOW, LOCATION};
use http::{HeaderValue, Response, StatusCode};

use super::error::Failure;
use super::path::{Path, PathError};

/// What this service complies with (RFC 4918, section 10.1; RFC 4791, section 5.1; RFC 6352, section 6.1; RFC 3744,
/// section 7.2; RFC 5689, section 3.1). Not class 2: there are no locks.
pub(super) const COMPLIANCE: HeaderValue =
    HeaderValue::from_static("1, 3, access-control, calendar-access, addressbook, extended-mkcol");

/// The redirection of `/.well-known/caldav` and `/.well-known/carddav` (RFC 6764, section 5), which needs no user. Of the
/// statuses that the RFC names it is the one after which every client sends its body again.
#[must_use]
pub fn well_known(path: &str) -> Option<Response<Bytes>> {
    let path = path.strip_suffix('/').unwrap_or(path);
    if path != "/.well-known/caldav" && path != "/.well-known/carddav" {
        return None;
    }
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    response.headers_mut().insert(LOCATION, HeaderValue::from_static("/"));
    Some(response)
}

/// Answers OPTIONS, which says nothing that depends on a user.
#[must_use]
pub fn options(path: &str) -> Response<Bytes> {
    match Path::parse(path) {
        Ok(path) => of_path(&path),
        Err(PathError::Malformed) => Failure::status(StatusCode::BAD_REQUEST).into_response(),
        Err(PathError::Unknown) => Failure::status(StatusCode::NOT_FOUND).into_response(),
    }
}

fn of_path(path: &Path) -> Response<Bytes> {
    let allow = match path {
        Path::Root | Path::Principals | Path::Principal(_) | Path::Homes(_) | Path::Home(..) => {
            "OPTIONS, GET, HEAD, PROPFIND, PROPPATCH, REPORT"
        }
        Path::Collection(_) => {
            "OPTIONS, GET, HEAD, DELETE, COPY, MOVE, MKCALENDAR, MKCOL, PROPFIND, PROPPATCH, REPORT"
        }
        Path::Object(..) => "OPTIONS, GET, HEAD, PUT, DELETE, COPY, MOVE, PROPFIND, PROPPATCH, REPORT",
    };
    let mut response = Response::new(Bytes::new());
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    response.headers_mut().insert("dav", COMPLIANCE);
    response
}
