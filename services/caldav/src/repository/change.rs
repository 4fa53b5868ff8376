//! Changing a repository: edits are gathered, then written as one commit.

use std::collections::BTreeMap;

use gix_hash::Kind as HashKind;
use gix_object::bstr::{BStr, BString, ByteSlice};
use gix_object::tree::{Editor, EntryKind};
use gix_object::{Commit, Kind, Tree, TreeRef, WriteTo};
use redb::WriteTransaction;

use super::name::fan_out;
use super::objects::{Objects, id_of, kind_byte};
use super::properties::FILE;
use super::tables::{MAIN, collection_key, end_of, object_key, reference, reference_key};
use super::{
    CollectionProperties, Error, Home, MAX_COLLECTIONS, MAX_PROPERTIES_BYTES, MAX_RESOURCE_BYTES, ObjectId,
    Snapshot, check_collection_name, check_resource_name,
};
use crate::index::{Component, Row, Summary};

/// Who makes a change, and when.
#[derive(Clone, Copy, Debug)]
pub struct Author<'a> {
    /// The user's name as people read it.
    pub name: &'a str,
    /// An address; `user@host` will do.
    pub email: &'a str,
    /// POSIX time in seconds.
    pub now: i64,
}

/// A change being made. Dropped without [`Change::commit`] it leaves nothing behind.
pub struct Change<'t> {
    snapshot: Snapshot<'t, WriteTransaction>,
    /// Files and folders by path: an id to put there, or `None` to remove what is there.
    edits: BTreeMap<Vec<String>, Option<(EntryKind, ObjectId)>>,
    objects: Vec<(ObjectId, Kind, Vec<u8>)>,
    index: Vec<IndexEdit>,
}

/// An edit of the index, by key of the resources' table.
enum IndexEdit {
    Put { home: Home, collection: String, name: String, row: Row },
    Delete { home: Home, collection: String, name: String, uid: String },
    DeleteCollection { home: Home, collection: String },
}

impl<'t> Change<'t> {
    /// Begins a change in the repository of `user`, which is made by its first commit.
    ///
    /// # Errors
    /// [`Error::Misuse`], [`Error::Storage`], [`Error::Corrupt`].
    pub fn begin(transaction: &'t WriteTransaction, user: &str) -> Result<Self, Error> {
        Ok(Self {
            snapshot: Snapshot::open(transaction, user)?,
            edits: BTreeMap::new(),
            objects: Vec::new(),
            index: Vec::new(),
        })
    }

    /// The state before this change: where preconditions are checked.
    #[must_use]
    pub fn snapshot(&self) -> &Snapshot<'t, WriteTransaction> {
        &self.snapshot
    }

    /// Stores a resource, new or in place of the one of this name. `summary` is what
    /// [`calendar::validate`](crate::calendar::validate) or [`contact::validate`](crate::contact::validate) found.
    /// Returns the new `ETag`.
    ///
    /// # Errors
    /// [`Error::Name`], [`Error::NoCollection`], [`Error::UidConflict`], [`Error::UnsupportedComponent`],
    /// [`Error::TooLarge`]; [`Error::Storage`], [`Error::Corrupt`].
    pub fn put(
        &mut self,
        home: Home,
        collection: &str,
        name: &str,
        bytes: &[u8],
        summary: &Summary,
    ) -> Result<ObjectId, Error> {
        self.put_moved(home, collection, name, bytes, summary, None)
    }

    /// Moves a resource to another name, another collection of the same home or both, over what is there.
    ///
    /// # Errors
    /// [`Error::NoResource`] and those of [`Change::put`].
    pub fn move_resource(
        &mut self,
        home: Home,
        (from_collection, from): (&str, &str),
        (collection, name): (&str, &str),
    ) -> Result<ObjectId, Error> {
        let source = self.snapshot.collection(home, from_collection)?.ok_or(Error::NoCollection)?;
        let (entry, bytes) = source.get(from)?.ok_or(Error::NoResource)?;
        if (from_collection, from) == (collection, name) {
            return Ok(entry.etag);
        }
        // Removed first: the index is edited in order, and the UID has to end at the new name.
        self.delete(home, from_collection, from)?;
        let moved = (from_collection == collection).then_some(from);
        self.put_moved(home, collection, name, &bytes, &entry.summary, moved)
    }

    /// [`Change::put`], where the resource `moved` of the same collection is on its way out.
    fn put_moved(
        &mut self,
        home: Home,
        collection: &str,
        name: &str,
        bytes: &[u8],
        summary: &Summary,
        moved: Option<&str>,
    ) -> Result<ObjectId, Error> {
        check_resource_name(name)?;
        let size = u32::try_from(bytes.len()).map_err(|_| Error::TooLarge)?;
        if bytes.len() > MAX_RESOURCE_BYTES {
            return Err(Error::TooLarge);
        }
        let existing = self.snapshot.collection(home, collection)?.ok_or(Error::NoCollection)?;
        let fits = match home {
            Home::Calendars => {
                summary.component != Component::Card && existing.properties()?.takes(summary.component.name())
            }
            Home::Contacts => summary.component == Component::Card,
        };
        if !fits {
            return Err(Error::UnsupportedComponent);
        }
        if !summary.uid.is_empty()
            && let Some(other) = existing.find_uid(&summary.uid)?
            && other != name
            && Some(other.as_str()) != moved
        {
            return Err(Error::UidConflict(other));
        }
        let old = existing.entry(name)?;
        let etag = id_of(Kind::Blob, bytes)?;
        if let Some(old) = old
            && !old.summary.uid.is_empty()
            && old.summary.uid != summary.uid
        {
            self.index.push(IndexEdit::Delete {
                home,
                collection: collection.to_owned(),
                name: name.to_owned(),
                uid: old.summary.uid,
            });
        }
        self.objects.push((etag, Kind::Blob, bytes.to_vec()));
        self.edits.insert(resource_path(home, collection, name), Some((EntryKind::Blob, etag)));
        self.index.push(IndexEdit::Put {
            home,
            collection: collection.to_owned(),
            name: name.to_owned(),
            row: Row { blob: etag, size, summary: summary.clone() },
        });
        Ok(etag)
    }

    /// Removes a resource.
    ///
    /// # Errors
    /// [`Error::NoCollection`], [`Error::NoResource`]; [`Error::Storage`], [`Error::Corrupt`].
    pub fn delete(&mut self, home: Home, collection: &str, name: &str) -> Result<(), Error> {
        let existing = self.snapshot.collection(home, collection)?.ok_or(Error::NoCollection)?;
        let entry = existing.entry(name)?.ok_or(Error::NoResource)?;
        self.edits.insert(resource_path(home, collection, name), None);
        self.index.push(IndexEdit::Delete {
            home,
            collection: collection.to_owned(),
            name: name.to_owned(),
            uid: entry.summary.uid,
        });
        Ok(())
    }

    /// Makes a collection.
    ///
    /// # Errors
    /// [`Error::Name`], [`Error::CollectionExists`], [`Error::TooManyCollections`], [`Error::TooLarge`];
    /// [`Error::Storage`], [`Error::Corrupt`].
    pub fn create_collection(
        &mut self,
        home: Home,
        name: &str,
        properties: &CollectionProperties,
    ) -> Result<(), Error> {
        check_collection_name(name)?;
        if self.snapshot.collection(home, name)?.is_some() {
            return Err(Error::CollectionExists);
        }
        if self.snapshot.collections(home)?.len() >= MAX_COLLECTIONS {
            return Err(Error::TooManyCollections);
        }
        self.write_properties(home, name, properties)
    }

    /// Replaces the properties of a collection.
    ///
    /// # Errors
    /// [`Error::NoCollection`], [`Error::TooLarge`]; [`Error::Storage`], [`Error::Corrupt`].
    pub fn set_properties(
        &mut self,
        home: Home,
        name: &str,
        properties: &CollectionProperties,
    ) -> Result<(), Error> {
        if self.snapshot.collection(home, name)?.is_none() {
            return Err(Error::NoCollection);
        }
        self.write_properties(home, name, properties)
    }

    /// Removes a collection and all in it. History keeps it.
    ///
    /// # Errors
    /// [`Error::NoCollection`]; [`Error::Storage`], [`Error::Corrupt`].
    pub fn delete_collection(&mut self, home: Home, name: &str) -> Result<(), Error> {
        if self.snapshot.collection(home, name)?.is_none() {
            return Err(Error::NoCollection);
        }
        self.edits.insert(vec![home.folder().to_owned(), name.to_owned()], None);
        self.index.push(IndexEdit::DeleteCollection { home, collection: name.to_owned() });
        Ok(())
    }

    /// Writes all edits as one commit on top of main and returns its id. Where nothing differs from before, nothing is
    /// written and the present commit is returned.
    ///
    /// # Errors
    /// [`Error::Storage`], [`Error::Corrupt`]: the transaction must then be aborted.
    pub fn commit(mut self, author: &Author<'_>, message: &str) -> Result<ObjectId, Error> {
        let root = self.write_trees()?;
        if let Some(head) = self.snapshot.head
            && root == self.snapshot.root
        {
            return Ok(head);
        }
        let commit = encode(&commit_object(root, self.snapshot.head, author, message))?;
        let id = id_of(Kind::Commit, &commit)?;
        self.objects.push((id, Kind::Commit, commit));

        let Snapshot { user, objects, references, resources, uids, head, .. } = &mut self.snapshot;
        for (id, kind, bytes) in &self.objects {
            let key = object_key(user, id);
            let mut value = objects.insert_reserve(key.as_slice(), bytes.len() + 1)?;
            if let Some((first, rest)) = value.as_mut().split_first_mut() {
                *first = kind_byte(*kind);
                rest.copy_from_slice(bytes);
            }
        }
        for edit in &self.index {
            edit.apply(user, resources, uids)?;
        }
        // Compare and swap: nobody else can have moved main inside this transaction, so a difference is a damage.
        if reference(references, user, MAIN)? != *head {
            return Err(Error::Misuse("main moved under a change: two changes in one transaction overlap"));
        }
        references.insert(reference_key(user, MAIN).as_slice(), id.as_slice())?;
        Ok(id)
    }

    fn write_properties(
        &mut self,
        home: Home,
        name: &str,
        properties: &CollectionProperties,
    ) -> Result<(), Error> {
        let bytes = properties.to_toml().into_bytes();
        if bytes.len() > MAX_PROPERTIES_BYTES {
            return Err(Error::TooLarge);
        }
        let id = id_of(Kind::Blob, &bytes)?;
        self.objects.push((id, Kind::Blob, bytes));
        let path = vec![home.folder().to_owned(), name.to_owned(), FILE.to_owned()];
        self.edits.insert(path, Some((EntryKind::Blob, id)));
        Ok(())
    }

    /// Makes the new trees of all edits; the new ones are queued, and the root's id returned.
    fn write_trees(&mut self) -> Result<ObjectId, Error> {
        let damaged = |error: gix_error::Error| Error::Corrupt(format!("a tree to change: {error}"));
        let objects = Objects { table: &self.snapshot.objects, user: &self.snapshot.user };
        let root: Tree = if self.snapshot.root.is_empty_tree() {
            Tree::empty()
        } else {
            let stored = objects.get(&self.snapshot.root, Kind::Tree)?;
            TreeRef::from_bytes(stored.bytes(), HashKind::Sha1).map_err(damaged)?.into()
        };
        let mut editor = Editor::new(root, &objects, HashKind::Sha1);
        for (path, edit) in &self.edits {
            let path = path.iter().map(|part| part.as_bytes().as_bstr());
            match edit {
                Some((kind, id)) => editor.upsert::<_, &BStr>(path, *kind, *id).map_err(damaged)?,
                None => editor.remove::<_, &BStr>(path).map_err(damaged)?,
            };
        }
        let written = &mut self.objects;
        editor.write(|tree| {
            let bytes = encode(tree)?;
            let id = id_of(Kind::Tree, &bytes)?;
            written.push((id, Kind::Tree, bytes));
            Ok(id)
        })
    }
}

impl IndexEdit {
    fn apply(
        &self,
        user: &str,
        resources: &mut redb::Table<'_, &'static [u8], &'static [u8]>,
        uids: &mut redb::Table<'_, &'static [u8], &'static [u8]>,
    ) -> Result<(), Error> {
        match self {
            Self::Put { home, collection, name, row } => {
                let key = collection_key(user, *home, collection, name);
                resources.insert(key.as_slice(), row.encode().as_slice())?;
                if !row.summary.uid.is_empty() {
                    let key = collection_key(user, *home, collection, &row.summary.uid);
                    uids.insert(key.as_slice(), name.as_bytes())?;
                }
            }
            Self::Delete { home, collection, name, uid } => {
                resources.remove(collection_key(user, *home, collection, name).as_slice())?;
                if !uid.is_empty() {
                    uids.remove(collection_key(user, *home, collection, uid).as_slice())?;
                }
            }
            Self::DeleteCollection { home, collection } => {
                let first = collection_key(user, *home, collection, "");
                let end = end_of(&first);
                resources.retain_in(first.as_slice()..end.as_slice(), |_, _| false)?;
                uids.retain_in(first.as_slice()..end.as_slice(), |_, _| false)?;
            }
        }
        Ok(())
    }
}

fn resource_path(home: Home, collection: &str, name: &str) -> Vec<String> {
    let [first, second] = fan_out(name);
    [home.folder(), collection, first, second, name].map(str::to_owned).to_vec()
}

fn encode(object: &dyn WriteTo) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::with_capacity(usize::try_from(object.size()).unwrap_or(0));
    object.write_to(&mut bytes).map_err(|error| Error::Corrupt(format!("an object to write: {error}")))?;
    Ok(bytes)
}

fn commit_object(tree: ObjectId, parent: Option<ObjectId>, author: &Author<'_>, message: &str) -> Commit {
    let signature = gix_actor::Signature {
        name: token(author.name),
        email: token(author.email),
        time: gix_date::Time { seconds: author.now.max(0), offset: 0 },
    };
    // A commit's message is lines; a NUL would end it for git.
    let mut message = message.replace('\0', "\u{fffd}");
    message.push('\n');
    Commit {
        tree,
        parents: parent.into_iter().collect(),
        author: signature.clone(),
        committer: signature,
        encoding: None,
        message: message.into(),
        extra_headers: Vec::new(),
    }
}

/// A name or address that git can write: without the characters that end one.
fn token(text: &str) -> BString {
    let clean: String = text.chars().filter(|c| !c.is_control() && !matches!(c, '<' | '>')).collect();
    let clean = clean.trim().trim_matches([',', '.', ';', '"', '\'', ':', '\\']).trim();
    if clean.is_empty() { "unknown".into() } else { clean.into() }
}
