//! Reading the present state of a repository.

use gix_object::Kind;
use redb::{AccessGuard, ReadableTable};

use super::objects::Objects;
use super::properties::FILE;
use super::tables::{
    MAIN, OBJECTS, REFERENCES, RESOURCES, UIDS, check_user, collection_key, end_of, reference,
};
use super::{CollectionProperties, Error, Home, ObjectId, SyncToken, Tables};
use crate::index::{Row, Summary};

/// A user's repository as one transaction sees it.
pub struct Snapshot<'t, T: Tables + 't> {
    pub(super) user: String,
    pub(super) objects: T::Table<'t>,
    pub(super) references: T::Table<'t>,
    pub(super) resources: T::Table<'t>,
    pub(super) uids: T::Table<'t>,
    pub(super) head: Option<ObjectId>,
    /// The tree of `head`; the empty tree without one.
    pub(super) root: ObjectId,
}

/// A resource of a collection, without its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The last segment of its URL.
    pub name: String,
    /// The id of its blob: its strong `ETag`.
    pub etag: ObjectId,
    /// Its length in bytes.
    pub size: u32,
    /// What the index knows of it.
    pub summary: Summary,
}

impl<'t, T: Tables> Snapshot<'t, T> {
    /// Opens the repository of `user`; one that has never been written is empty.
    ///
    /// # Errors
    /// [`Error::Misuse`], [`Error::Storage`], [`Error::Corrupt`].
    pub fn open(transaction: &'t T, user: &str) -> Result<Self, Error> {
        check_user(user)?;
        let objects = transaction.table(OBJECTS)?;
        let references = transaction.table(REFERENCES)?;
        let head = reference(&references, user, MAIN)?;
        let root = match head {
            Some(head) => Objects { table: &objects, user }.tree_of(&head)?,
            None => ObjectId::empty_tree(gix_hash::Kind::Sha1),
        };
        Ok(Self {
            user: user.to_owned(),
            objects,
            references,
            resources: transaction.table(RESOURCES)?,
            uids: transaction.table(UIDS)?,
            head,
            root,
        })
    }

    /// The commit this snapshot shows; `None` for a user who never stored anything.
    #[must_use]
    pub fn head(&self) -> Option<ObjectId> {
        self.head
    }

    /// The sync-token of every collection in this snapshot (RFC 6578).
    #[must_use]
    pub fn sync_token(&self) -> Option<SyncToken> {
        self.head.map(SyncToken::of)
    }

    /// The names of the collections of a home, in order.
    ///
    /// # Errors
    /// [`Error::Storage`], [`Error::Corrupt`].
    pub fn collections(&self, home: Home) -> Result<Vec<String>, Error> {
        let objects = self.objects();
        let Some(tree) = objects.descend(self.root, &[home.folder()])? else { return Ok(Vec::new()) };
        let entries = objects.entries(&tree)?;
        Ok(entries.into_iter().filter(|(mode, ..)| mode.is_tree()).map(|(_, name, _)| name).collect())
    }

    /// A collection, or `None` if there is none of this name.
    ///
    /// # Errors
    /// [`Error::Storage`], [`Error::Corrupt`].
    pub fn collection(&self, home: Home, name: &str) -> Result<Option<Collection<'_, 't, T>>, Error> {
        let tree = self.objects().descend(self.root, &[home.folder(), name])?;
        Ok(tree.map(|tree| Collection { snapshot: self, home, name: name.to_owned(), tree }))
    }

    pub(super) fn objects(&self) -> Objects<'_, T::Table<'t>> {
        Objects { table: &self.objects, user: &self.user }
    }
}

/// A collection in a snapshot.
pub struct Collection<'s, 't, T: Tables> {
    pub(super) snapshot: &'s Snapshot<'t, T>,
    pub(super) home: Home,
    pub(super) name: String,
    pub(super) tree: ObjectId,
}

impl<'s, 't, T: Tables> Collection<'s, 't, T> {
    /// Which home it is in.
    #[must_use]
    pub fn home(&self) -> Home {
        self.home
    }

    /// The last segment of its URL.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The id of its tree, which changes with every change in it (`getctag`).
    #[must_use]
    pub fn ctag(&self) -> ObjectId {
        self.tree
    }

    /// Its properties.
    ///
    /// # Errors
    /// [`Error::Storage`], [`Error::Corrupt`].
    pub fn properties(&self) -> Result<CollectionProperties, Error> {
        let objects = self.snapshot.objects();
        match objects.entry(&self.tree, FILE)? {
            Some((_, id)) => CollectionProperties::from_toml(objects.get(&id, Kind::Blob)?.bytes()),
            None => Ok(CollectionProperties::default()),
        }
    }

    /// A resource without its bytes.
    ///
    /// # Errors
    /// [`Error::Storage`], [`Error::Corrupt`].
    pub fn entry(&self, name: &str) -> Result<Option<Entry>, Error> {
        let key = self.key(name);
        let Some(value) = self.snapshot.resources.get(key.as_slice())? else { return Ok(None) };
        entry(name, value.value()).map(Some)
    }

    /// A resource and its bytes.
    ///
    /// # Errors
    /// [`Error::Storage`], [`Error::Corrupt`].
    pub fn get(&self, name: &str) -> Result<Option<(Entry, Vec<u8>)>, Error> {
        let Some(entry) = self.entry(name)? else { return Ok(None) };
        let bytes = self.bytes(&entry)?;
        Ok(Some((entry, bytes)))
    }

    /// The bytes of a resource, as the client sent them.
    ///
    /// # Errors
    /// [`Error::Storage`], [`Error::Corrupt`].
    pub fn bytes(&self, entry: &Entry) -> Result<Vec<u8>, Error> {
        Ok(self.snapshot.objects().get(&entry.etag, Kind::Blob)?.bytes().to_vec())
    }

    /// Lends the bytes of a resource to `read`, without a copy: for queries over many.
    ///
    /// # Errors
    /// [`Error::Storage`], [`Error::Corrupt`].
    pub fn with_bytes<R>(&self, entry: &Entry, read: impl FnOnce(&[u8]) -> R) -> Result<R, Error> {
        Ok(read(self.snapshot.objects().get(&entry.etag, Kind::Blob)?.bytes()))
    }

    /// All resources, in the order of their names.
    ///
    /// # Errors
    /// [`Error::Storage`]; each item also [`Error::Corrupt`].
    pub fn resources(&self) -> Result<impl Iterator<Item = Result<Entry, Error>> + use<'s, 't, T>, Error> {
        let prefix = self.key("");
        let start = prefix.len();
        let range = self.snapshot.resources.range(prefix.as_slice()..end_of(&prefix).as_slice())?;
        Ok(range.map(move |item| {
            let (key, value): (AccessGuard<'_, &'static [u8]>, AccessGuard<'_, &'static [u8]>) = item?;
            let name = key.value().get(start..).and_then(|name| core::str::from_utf8(name).ok());
            let name = name.ok_or_else(|| Error::Corrupt("a key of the index is not UTF-8".into()))?;
            entry(name, value.value())
        }))
    }

    /// The name of the resource with this UID.
    ///
    /// # Errors
    /// [`Error::Storage`], [`Error::Corrupt`].
    pub fn find_uid(&self, uid: &str) -> Result<Option<String>, Error> {
        let key = collection_key(&self.snapshot.user, self.home, &self.name, uid);
        let Some(value) = self.snapshot.uids.get(key.as_slice())? else { return Ok(None) };
        let name = core::str::from_utf8(value.value()).map_err(|_| Error::Corrupt("a UID's row".into()))?;
        Ok(Some(name.to_owned()))
    }

    fn key(&self, name: &str) -> Vec<u8> {
        collection_key(&self.snapshot.user, self.home, &self.name, name)
    }
}

fn entry(name: &str, row: &[u8]) -> Result<Entry, Error> {
    let row = Row::decode(row).ok_or_else(|| Error::Corrupt(format!("the index row of {name:?}")))?;
    Ok(Entry { name: name.to_owned(), etag: row.blob, size: row.size, summary: row.summary })
}
