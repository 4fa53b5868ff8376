//! DELETE of a resource or a collection (RFC 4918, section 9.6).

use bytes::Bytes;
use http::{Response, StatusCode};
use redb::WriteTransaction;

use super::error::{Failure, Refusal};
use super::path::Path;
use super::precondition::{self, State};
use super::{Depth, Envelope, tree};
use crate::repository::Change;

/// Checks what can be told without the store.
pub(super) fn check(request: &Envelope) -> Result<(), Failure> {
    match &request.path {
        Path::Object(..) => Ok(()),
        // RFC 4918, section 9.6.1: a collection goes as a whole.
        Path::Collection(_) if matches!(request.depth()?, None | Some(Depth::Infinity)) => Ok(()),
        Path::Collection(_) => {
            Err(Failure::status(StatusCode::BAD_REQUEST)
                .because("a collection is deleted with Depth: infinity"))
        }
        _ => Err(Failure::status(StatusCode::FORBIDDEN).because("homes and principals stay")),
    }
}

/// Deletes. The history keeps what was deleted.
pub(super) fn run(request: &Envelope, transaction: &WriteTransaction) -> Result<Response<Bytes>, Refusal> {
    let mut change = Change::begin(transaction, &request.session.user)?;
    let message = match &request.path {
        Path::Object(path, name) => {
            let entry =
                tree::collection(change.snapshot(), path)?.entry(name)?.ok_or_else(tree::not_found)?;
            let id = entry.etag.to_string();
            let state = State { exists: true, etag: Some(&id) };
            precondition::check(&request.headers, &request.path, state, false)?;
            change.delete(path.home, &path.name, name)?;
            format!("Delete {}/{}/{name}", path.home.folder(), path.name)
        }
        Path::Collection(path) => {
            tree::collection(change.snapshot(), path)?;
            let state = State { exists: true, etag: None };
            precondition::check(&request.headers, &request.path, state, false)?;
            change.delete_collection(path.home, &path.name)?;
            format!("Delete {}/{}", path.home.folder(), path.name)
        }
        _ => return Err(tree::not_found()),
    };
    request.session.author(|author| change.commit(author, &message))?;
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}
