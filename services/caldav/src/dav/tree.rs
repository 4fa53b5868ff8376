//! Finding in the store what a path names.

use http::StatusCode;

use super::error::{Failure, Refusal};
use super::path::CollectionPath;
use super::properties::CollectionFacts;
use crate::repository::{Collection, Home, Snapshot, Tables};

/// 404.
pub(super) fn not_found() -> Refusal {
    Refusal::Peer(Failure::status(StatusCode::NOT_FOUND))
}

/// The collection at a path, or 404.
pub(super) fn collection<'s, 't, T: Tables>(
    snapshot: &'s Snapshot<'t, T>,
    path: &CollectionPath,
) -> Result<Collection<'s, 't, T>, Refusal> {
    snapshot.collection(path.home, &path.name)?.ok_or_else(not_found)
}

/// What properties need of a collection.
pub(super) fn facts<T: Tables>(
    snapshot: &Snapshot<'_, T>,
    collection: &Collection<'_, '_, T>,
    path: &CollectionPath,
) -> Result<CollectionFacts, Refusal> {
    Ok(CollectionFacts {
        path: path.clone(),
        properties: collection.properties()?,
        ctag: collection.ctag(),
        sync_token: snapshot.sync_token(),
    })
}

/// The paths of all collections of a home.
pub(super) fn collections<T: Tables>(
    snapshot: &Snapshot<'_, T>,
    home: Home,
    user: &str,
) -> Result<Vec<CollectionPath>, Refusal> {
    let names = snapshot.collections(home)?;
    Ok(names.into_iter().map(|name| CollectionPath { home, user: user.to_owned(), name }).collect())
}
