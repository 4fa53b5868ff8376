//! Git objects in a table: made and parsed by gix-object, named by gix-hash.

use gix_hash::{Kind as HashKind, ObjectId, oid};
use gix_object::bstr::ByteSlice;
use gix_object::tree::EntryMode;
use gix_object::{CommitRef, Data, Kind, TreeRefIter};
use redb::{AccessGuard, ReadableTable};

use super::Error;
use super::tables::object_key;

/// The objects of one user.
pub(super) struct Objects<'a, T> {
    pub(super) table: &'a T,
    pub(super) user: &'a str,
}

/// An object in the table's own memory.
pub(super) struct Stored<'a> {
    pub(super) kind: Kind,
    guard: AccessGuard<'a, &'static [u8]>,
}

impl Stored<'_> {
    /// The object's bytes, without header.
    pub(super) fn bytes(&self) -> &[u8] {
        self.guard.value().get(1..).unwrap_or_default()
    }
}

/// The byte before an object in its table.
pub(super) const fn kind_byte(kind: Kind) -> u8 {
    match kind {
        Kind::Blob => b'b',
        Kind::Tree => b't',
        Kind::Commit => b'c',
        Kind::Tag => b'g',
    }
}

pub(super) const fn kind_of(byte: u8) -> Option<Kind> {
    Some(match byte {
        b'b' => Kind::Blob,
        b't' => Kind::Tree,
        b'c' => Kind::Commit,
        b'g' => Kind::Tag,
        _ => return None,
    })
}

/// The id of an object.
pub(super) fn id_of(kind: Kind, bytes: &[u8]) -> Result<ObjectId, Error> {
    gix_object::compute_hash(HashKind::Sha1, kind, bytes)
        .map_err(|error| Error::Corrupt(format!("SHA-1 collision attack in the bytes to store: {error}")))
}

impl<'a, T: ReadableTable<&'static [u8], &'static [u8]>> Objects<'a, T> {
    /// Looks an object up; `None` if the repository has none of this id.
    pub(super) fn find(&self, id: &oid) -> Result<Option<Stored<'a>>, Error> {
        let Some(guard) = self.table.get(object_key(self.user, id).as_slice())? else { return Ok(None) };
        let kind = guard.value().first().copied().and_then(kind_of);
        let kind = kind.ok_or_else(|| Error::Corrupt(format!("object {id} has no kind")))?;
        Ok(Some(Stored { kind, guard }))
    }

    /// An object that must be there and of this kind.
    pub(super) fn get(&self, id: &oid, kind: Kind) -> Result<Stored<'a>, Error> {
        match self.find(id)? {
            Some(stored) if stored.kind == kind => Ok(stored),
            Some(stored) => Err(Error::Corrupt(format!("object {id} is a {} and not a {kind}", stored.kind))),
            None => Err(Error::Corrupt(format!("{kind} {id} is missing"))),
        }
    }

    /// The tree of a commit.
    pub(super) fn tree_of(&self, commit: &oid) -> Result<ObjectId, Error> {
        let stored = self.get(commit, Kind::Commit)?;
        let parsed = CommitRef::from_bytes(stored.bytes(), HashKind::Sha1);
        parsed
            .map(|parsed| parsed.tree())
            .map_err(|error| Error::Corrupt(format!("commit {commit}: {error}")))
    }

    /// The entry of this name in a tree.
    pub(super) fn entry(&self, tree: &oid, name: &str) -> Result<Option<(EntryMode, ObjectId)>, Error> {
        if tree.is_empty_tree() {
            return Ok(None);
        }
        let stored = self.get(tree, Kind::Tree)?;
        for entry in TreeRefIter::from_bytes(stored.bytes(), HashKind::Sha1) {
            let entry = entry.map_err(|error| Error::Corrupt(format!("tree {tree}: {error}")))?;
            if entry.filename == name.as_bytes().as_bstr() {
                return Ok(Some((entry.mode, entry.oid.to_owned())));
            }
        }
        Ok(None)
    }

    /// All entries of a tree, in git's order.
    pub(super) fn entries(&self, tree: &oid) -> Result<Vec<(EntryMode, String, ObjectId)>, Error> {
        if tree.is_empty_tree() {
            return Ok(Vec::new());
        }
        let stored = self.get(tree, Kind::Tree)?;
        let mut entries = Vec::new();
        for entry in TreeRefIter::from_bytes(stored.bytes(), HashKind::Sha1) {
            let entry = entry.map_err(|error| Error::Corrupt(format!("tree {tree}: {error}")))?;
            let name = entry.filename.to_str();
            let name =
                name.map_err(|_| Error::Corrupt(format!("tree {tree} has a name that is not UTF-8")))?;
            entries.push((entry.mode, name.to_owned(), entry.oid.to_owned()));
        }
        Ok(entries)
    }

    /// Follows folders down from a tree; `None` where one is missing.
    pub(super) fn descend(&self, tree: ObjectId, folders: &[&str]) -> Result<Option<ObjectId>, Error> {
        let mut tree = tree;
        for folder in folders {
            match self.entry(&tree, folder)? {
                Some((mode, id)) if mode.is_tree() => tree = id,
                _ => return Ok(None),
            }
        }
        Ok(Some(tree))
    }
}

impl<T: ReadableTable<&'static [u8], &'static [u8]>> gix_object::Find for Objects<'_, T> {
    fn try_find<'b>(&self, id: &oid, buffer: &'b mut Vec<u8>) -> gix_error::Result<Option<Data<'b>>> {
        let Some(stored) = self.find(id).map_err(gix_error::Error::from_error)? else { return Ok(None) };
        buffer.clear();
        buffer.extend_from_slice(stored.bytes());
        Ok(Some(Data::new(buffer, stored.kind, HashKind::Sha1)))
    }
}
