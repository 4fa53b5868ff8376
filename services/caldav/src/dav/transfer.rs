//! COPY and MOVE of calendar objects and cards (RFC 4918, sections 9.8 and 9.9).

use bytes::Bytes;
use http::header::ETAG;
use http::{Response, StatusCode};
use redb::WriteTransaction;

use super::error::{Failure, Refusal};
use super::path::{CollectionPath, Path};
use super::precondition::{self, State};
use super::{Envelope, get, put, tree};
use crate::repository::{Change, Error};

/// A resource's way to another place.
#[derive(Debug)]
pub(super) struct Transfer {
    destination: (CollectionPath, String),
    overwrite: bool,
    moves: bool,
}

impl Transfer {
    /// Reads `Destination` and `Overwrite`.
    pub(super) fn read(request: &Envelope, moves: bool) -> Result<Self, Failure> {
        let Path::Object(source, _) = &request.path else {
            return Err(Failure::status(StatusCode::FORBIDDEN).because("collections are not copied or moved"));
        };
        let destination = request.headers.get("destination").and_then(|value| value.to_str().ok());
        let destination = destination.and_then(|destination| Path::parse_href(destination).ok());
        let Some(destination) = destination else {
            return Err(Failure::status(StatusCode::BAD_REQUEST)
                .because("Destination is missing or no path of this server"));
        };
        let Path::Object(collection, name) = destination else {
            return Err(Failure::status(StatusCode::FORBIDDEN)
                .because("a resource goes into a calendar or address book"));
        };
        if collection.user != source.user || collection.home != source.home {
            return Err(Failure::status(StatusCode::FORBIDDEN).because("resources stay in their home"));
        }
        if request.path == Path::Object(collection.clone(), name.clone()) {
            // RFC 4918, sections 9.8.5 and 9.9.4.
            return Err(Failure::status(StatusCode::FORBIDDEN).because("source and destination are the same"));
        }
        let overwrite =
            request.headers.get("overwrite").is_none_or(|value| !value.as_bytes().eq_ignore_ascii_case(b"f"));
        Ok(Self { destination: (collection, name), overwrite, moves })
    }

    /// Copies or moves: 201 to a new place, 204 over what was there.
    pub(super) fn run(
        &self,
        request: &Envelope,
        transaction: &WriteTransaction,
    ) -> Result<Response<Bytes>, Refusal> {
        let Path::Object(path, name) = &request.path else { return Err(tree::not_found()) };
        let (to_path, to_name) = &self.destination;
        let mut change = Change::begin(transaction, &request.session.user)?;
        let source = tree::collection(change.snapshot(), path)?;
        let entry = source.entry(name)?.ok_or_else(tree::not_found)?;
        let id = entry.etag.to_string();
        precondition::check(&request.headers, &request.path, State { exists: true, etag: Some(&id) }, false)?;
        let target = change.snapshot().collection(to_path.home, &to_path.name)?.ok_or(Error::NoCollection)?;
        let replaces = target.entry(to_name)?.is_some();
        if replaces && !self.overwrite {
            return Err(Failure::status(StatusCode::PRECONDITION_FAILED)
                .because("there is a resource already")
                .into());
        }
        let stored = if self.moves {
            change.move_resource(path.home, (&path.name, name), (&to_path.name, to_name))
        } else {
            let bytes = source.bytes(&entry)?;
            change.put(to_path.home, &to_path.name, to_name, &bytes, &entry.summary)
        };
        let id = stored.map_err(|error| put::refused(error, to_path))?;
        let verb = if self.moves { "Move" } else { "Copy" };
        let folder = path.home.folder();
        let message = format!("{verb} {folder}/{}/{name} to {folder}/{}/{to_name}", path.name, to_path.name);
        request.session.author(|author| change.commit(author, &message))?;
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = if replaces { StatusCode::NO_CONTENT } else { StatusCode::CREATED };
        response.headers_mut().insert(ETAG, get::etag(&id));
        Ok(response)
    }
}
