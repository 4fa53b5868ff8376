//! The redb tables, and reading them in both kinds of transaction.
//!
//! All keys begin with the user's name and a NUL, so a repository is one range of each table and can be dropped,
//! counted or copied alone. Objects are not shared between users.

use redb::{ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};

use super::{Error, Home, ObjectId};

type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// `user NUL id` to one byte of kind and the object's bytes, without git's loose header and without compression.
pub(super) const OBJECTS: Definition = TableDefinition::new("caldav.git.objects");
/// `user NUL reference` to the 20 bytes of a commit id.
pub(super) const REFERENCES: Definition = TableDefinition::new("caldav.git.references");
/// `user NUL home / collection NUL name` to an index row ([`crate::index`]).
pub(super) const RESOURCES: Definition = TableDefinition::new("caldav.index.resources");
/// `user NUL home / collection NUL UID` to the resource's name.
pub(super) const UIDS: Definition = TableDefinition::new("caldav.index.uids");

/// The one branch of a repository.
pub(super) const MAIN: &str = "refs/heads/main";

/// Makes the tables. Once, when a database is opened, before anything else here.
///
/// # Errors
/// [`Error::Storage`].
pub fn prepare(transaction: &WriteTransaction) -> Result<(), Error> {
    for definition in [OBJECTS, REFERENCES, RESOURCES, UIDS] {
        transaction.open_table(definition)?;
    }
    Ok(())
}

/// A transaction whose tables can be read: redb's read and write transactions.
pub trait Tables {
    /// An opened table of byte strings.
    type Table<'t>: ReadableTable<&'static [u8], &'static [u8]>
    where
        Self: 't;

    /// Opens a table. A write transaction opens each at most once at a time.
    ///
    /// # Errors
    /// [`Error::Misuse`] without [`prepare`], [`Error::Storage`].
    fn table(
        &self,
        definition: TableDefinition<'static, &'static [u8], &'static [u8]>,
    ) -> Result<Self::Table<'_>, Error>;
}

impl Tables for ReadTransaction {
    type Table<'t> = redb::ReadOnlyTable<&'static [u8], &'static [u8]>;

    fn table(&self, definition: Definition) -> Result<Self::Table<'_>, Error> {
        Ok(self.open_table(definition)?)
    }
}

impl Tables for WriteTransaction {
    type Table<'t> = redb::Table<'t, &'static [u8], &'static [u8]>;

    fn table(&self, definition: Definition) -> Result<Self::Table<'_>, Error> {
        Ok(self.open_table(definition)?)
    }
}

/// A user's name as the beginning of keys.
pub(super) fn check_user(user: &str) -> Result<(), Error> {
    if user.is_empty() || user.len() > super::MAX_NAME_BYTES || user.contains(['\0', '/']) {
        return Err(Error::Misuse("a user's name is 1 to 255 bytes without NUL and slash"));
    }
    Ok(())
}

pub(super) fn object_key(user: &str, id: &gix_hash::oid) -> Vec<u8> {
    let mut key = Vec::with_capacity(user.len() + 21);
    key.extend_from_slice(user.as_bytes());
    key.push(0);
    key.extend_from_slice(id.as_bytes());
    key
}

pub(super) fn reference_key(user: &str, reference: &str) -> Vec<u8> {
    [user.as_bytes(), &[0], reference.as_bytes()].concat()
}

/// The key of a name or UID in a collection; with an empty one, the beginning of all of them.
pub(super) fn collection_key(user: &str, home: Home, collection: &str, last: &str) -> Vec<u8> {
    let folder = home.folder();
    let mut key = Vec::with_capacity(user.len() + folder.len() + collection.len() + last.len() + 3);
    for part in [user, "\0", folder, "/", collection, "\0", last] {
        key.extend_from_slice(part.as_bytes());
    }
    key
}

/// The first key after all that begin with `prefix`, which ends in NUL.
pub(super) fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last = 1;
    }
    end
}

/// Reads a reference.
pub(super) fn reference(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    user: &str,
    reference: &str,
) -> Result<Option<ObjectId>, Error> {
    let Some(value) = table.get(reference_key(user, reference).as_slice())? else { return Ok(None) };
    ObjectId::try_from(value.value())
        .map(Some)
        .map_err(|_| Error::Corrupt(format!("{reference} of {user} is not an object id")))
}
