//! Making the index again from git: after a repair, or when commits came from elsewhere.

use gix_object::Kind;
use redb::WriteTransaction;

use super::properties::FILE;
use super::tables::{collection_key, end_of, reference_key};
use super::{Error, Home, ObjectId, Snapshot};
use crate::index::Row;
use crate::{calendar, contact};

/// Makes the index of a user's repository again from the tree of its newest commit. Returns the paths of files that are
/// not valid resources, and so are not served.
///
/// # Errors
/// [`Error::Misuse`], [`Error::Storage`], [`Error::Corrupt`].
pub fn rebuild_index(transaction: &WriteTransaction, user: &str) -> Result<Vec<String>, Error> {
    let mut snapshot = Snapshot::open(transaction, user)?;
    // A key with nothing after the user's name and its NUL: the beginning of all of the user's keys.
    let first = reference_key(user, "");
    let end = end_of(&first);
    for table in [&mut snapshot.resources, &mut snapshot.uids] {
        table.retain_in(first.as_slice()..end.as_slice(), |_, _| false)?;
    }
    let mut refused = Vec::new();
    for home in [Home::Calendars, Home::Contacts] {
        for collection in snapshot.collections(home)? {
            for (name, blob) in files(&snapshot, home, &collection)? {
                let stored = snapshot.objects().get(&blob, Kind::Blob)?;
                let bytes = stored.bytes();
                let summary = match home {
                    Home::Calendars => calendar::validate(bytes).ok(),
                    Home::Contacts => contact::validate(bytes).ok(),
                };
                let (Some(summary), Ok(size)) = (summary, u32::try_from(bytes.len())) else {
                    refused.push(format!("{}/{collection}/{name}", home.folder()));
                    continue;
                };
                drop(stored);
                if !summary.uid.is_empty() {
                    let key = collection_key(user, home, &collection, &summary.uid);
                    snapshot.uids.insert(key.as_slice(), name.as_bytes())?;
                }
                let key = collection_key(user, home, &collection, &name);
                snapshot.resources.insert(key.as_slice(), Row { blob, size, summary }.encode().as_slice())?;
            }
        }
    }
    Ok(refused)
}

/// The names and blobs of the files below the two levels of folders of a collection.
fn files(
    snapshot: &Snapshot<'_, WriteTransaction>,
    home: Home,
    collection: &str,
) -> Result<Vec<(String, ObjectId)>, Error> {
    let objects = snapshot.objects();
    let Some(tree) = objects.descend(snapshot.root, &[home.folder(), collection])? else {
        return Ok(Vec::new());
    };
    let mut files = Vec::new();
    for (mode, name, first) in objects.entries(&tree)? {
        if !mode.is_tree() || name == FILE {
            continue;
        }
        for (_, _, second) in objects.entries(&first)?.into_iter().filter(|(mode, ..)| mode.is_tree()) {
            let entries = objects.entries(&second)?.into_iter();
            files.extend(entries.filter(|(mode, ..)| mode.is_blob()).map(|(_, name, id)| (name, id)));
        }
    }
    Ok(files)
}
