//! What can go wrong, by who is at fault.

use core::fmt;

/// Why the store refused or failed.
#[derive(Debug)]
pub enum Error {
    /// Peer: the name of a collection or resource cannot be stored.
    Name(NameError),
    /// Peer: there is no such collection.
    NoCollection,
    /// Peer: there is no such resource.
    NoResource,
    /// Peer: a collection of this name is there already.
    CollectionExists,
    /// Peer: another resource of the collection, named here, has this UID (`no-uid-conflict`, RFC 4791 clause 5.3.2.1
    /// and RFC 6352 clause 6.3.2.1).
    UidConflict(String),
    /// Peer: the collection does not take this component (`supported-calendar-component`).
    UnsupportedComponent,
    /// Peer: larger than [`MAX_RESOURCE_BYTES`](super::MAX_RESOURCE_BYTES) or
    /// [`MAX_PROPERTIES_BYTES`](super::MAX_PROPERTIES_BYTES).
    TooLarge,
    /// Peer: more than [`MAX_COLLECTIONS`](super::MAX_COLLECTIONS).
    TooManyCollections,
    /// Peer: a sync-token that this repository never gave for this collection (`valid-sync-token`, RFC 6578).
    UnknownToken,
    /// Caller: [`prepare`](super::prepare) was not called, or a user's name is unfit.
    Misuse(&'static str),
    /// Device: what is stored does not hold together.
    Corrupt(String),
    /// Device: the database failed.
    Storage(Box<redb::Error>),
}

/// Why a name is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    /// It is empty.
    Empty,
    /// It is longer than [`MAX_NAME_BYTES`](super::MAX_NAME_BYTES).
    TooLong,
    /// It has a slash or a control character.
    Character,
    /// It is `.`, `..`, or a name that git or a file system takes for `.git`.
    Reserved,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the name is empty",
            Self::TooLong => "the name is longer than 255 bytes",
            Self::Character => "the name has a slash or a control character",
            Self::Reserved => "the name is reserved by git (., .., .git and what file systems take for it)",
        })
    }
}

impl std::error::Error for NameError {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(error) => error.fmt(f),
            Self::NoCollection => f.write_str("there is no such collection"),
            Self::NoResource => f.write_str("there is no such resource"),
            Self::CollectionExists => f.write_str("there is a collection of this name already"),
            Self::UidConflict(name) => write!(f, "the resource {name:?} of this collection has the same UID"),
            Self::UnsupportedComponent => f.write_str("the collection does not take this component"),
            Self::TooLarge => f.write_str("the resource or the collection's properties are too large"),
            Self::TooManyCollections => f.write_str("the home has its largest number of collections"),
            Self::UnknownToken => f.write_str("the sync-token is not one of this collection"),
            Self::Misuse(what) => write!(f, "misuse of the store: {what}"),
            Self::Corrupt(what) => write!(f, "the stored repository is damaged: {what}"),
            Self::Storage(error) => write!(f, "the database failed: {error}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<NameError> for Error {
    fn from(error: NameError) -> Self {
        Self::Name(error)
    }
}

impl From<redb::StorageError> for Error {
    fn from(error: redb::StorageError) -> Self {
        Self::Storage(Box::new(error.into()))
    }
}

impl From<redb::TableError> for Error {
    fn from(error: redb::TableError) -> Self {
        match error {
            redb::TableError::TableDoesNotExist(_) => {
                Self::Misuse("prepare() was not called on this database")
            }
            error => Self::Storage(Box::new(error.into())),
        }
    }
}
