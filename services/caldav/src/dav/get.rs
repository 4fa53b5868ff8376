//! GET and HEAD.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG};
use http::{HeaderValue, Response, StatusCode};

use super::error::Refusal;
use super::path::{self, Path};
use super::precondition::{self, State, Verdict};
use super::properties::content_type;
use super::{Envelope, tree};
use crate::repository::{Home, ObjectId, Snapshot, Tables};

/// Gives a stored resource as it came. A collection gives a short listing for people with a browser.
pub(super) fn get<T: Tables>(request: &Envelope, transaction: &T) -> Result<Response<Bytes>, Refusal> {
    let snapshot = Snapshot::open(transaction, &request.session.user)?;
    let Path::Object(collection, name) = &request.path else {
        return listing(request, &snapshot);
    };
    let collection = tree::collection(&snapshot, collection)?;
    let entry = collection.entry(name)?.ok_or_else(tree::not_found)?;
    let id = entry.etag.to_string();
    let state = State { exists: true, etag: Some(&id) };
    let unchanged =
        precondition::check(&request.headers, &request.path, state, true)? == Verdict::NotModified;
    let mut response = if unchanged {
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        Response::new(collection.bytes(&entry)?.into())
    };
    let headers = response.headers_mut();
    headers.insert(ETAG, etag(&entry.etag));
    // What is private to a user is kept by no shared cache, and asked for again each time.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    if !unchanged {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type(entry.summary.component)));
    }
    Ok(response)
}

/// The `ETag` header of a stored resource.
pub(super) fn etag(id: &ObjectId) -> HeaderValue {
    // Forty hexadecimal digits in quotes are always a header.
    HeaderValue::from_str(&format!("\"{id}\"")).unwrap_or(HeaderValue::from_static("\"\""))
}

fn listing<T: Tables>(request: &Envelope, snapshot: &Snapshot<'_, T>) -> Result<Response<Bytes>, Refusal> {
    let user = &request.session.user;
    let mut lines =
        String::from("A CalDAV and CardDAV server. Give this address to a calendar or contacts program.\n\n");
    let mut line = |path: &str| {
        lines.push_str(path);
        lines.push('\n');
    };
    match &request.path {
        Path::Root => {
            line(&path::principal(user));
            line(&path::home_path(Home::Calendars, user));
            line(&path::home_path(Home::Contacts, user));
        }
        Path::Principals | Path::Principal(_) => line(&path::principal(user)),
        Path::Homes(home) => line(&path::home_path(*home, user)),
        Path::Home(home, _) => {
            tree::collections(snapshot, *home, user)?
                .iter()
                .for_each(|collection| line(&collection.encode()));
        }
        Path::Collection(collection) | Path::Object(collection, _) => {
            tree::collection(snapshot, collection)?;
            line(&collection.encode());
        }
    }
    let mut response = Response::new(lines.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    Ok(response)
}
