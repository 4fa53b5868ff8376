//! What can go wrong, and whose fault it is.

use core::fmt;

use super::superblock::DATA_OFFSET;
use crate::device::{BlockError, Operation};

/// Why a device was not opened as storage.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenError {
    /// Configuration: the device refuses writes.
    ReadOnly,
    /// Configuration: the device is smaller than any storage.
    TooSmall {
        /// Its capacity in bytes.
        capacity: u64,
        /// The least capacity in bytes.
        needed: u64,
    },
    /// Configuration: the device is smaller than it was when it was last written; its end is missing.
    Shrunk {
        /// Its capacity in bytes.
        capacity: u64,
        /// What it was before.
        needed: u64,
    },
    /// Configuration: the device is blank, and there is nothing to check.
    Blank,
    /// Configuration: the device holds data that is not a storage of this project, and formatting was not allowed.
    Foreign,
    /// Configuration: the device holds the storage of another service, and formatting was not allowed.
    OtherService {
        /// Whose storage it is.
        found: String,
        /// Who wanted to open it.
        expected: String,
    },
    /// Configuration: the storage was formatted by another version, whose layout this one does not know.
    OtherVersion {
        /// The version of the layout.
        found: u32,
    },
    /// Device: both copies of the superblock are damaged, and formatting was not allowed.
    DamagedSuperblock,
    /// Device: the database on it is damaged.
    DamagedDatabase(String),
    /// Device: a request failed.
    Device {
        /// What was asked of it.
        operation: Operation,
        /// What it answered.
        error: BlockError,
    },
    /// Caller: the name of the service is empty or longer than the superblock has room for.
    ServiceName,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReadOnly => f.write_str("the storage device is read-only: attach it writable"),
            Self::TooSmall { capacity, needed } => {
                write!(f, "the storage device has {capacity} bytes; at least {needed} are needed")
            }
            Self::Shrunk { capacity, needed } => write!(
                f,
                "the storage device has {capacity} bytes but had {needed} when it was last written: its end is missing"
            ),
            Self::Blank => f.write_str("the storage device is blank: no service has used it yet"),
            Self::Foreign => f.write_str(
                "the storage device is not blank and was not formatted by this project: attach the right device, or \
                 give --format to overwrite what is on it",
            ),
            Self::OtherService { found, expected } => write!(
                f,
                "the storage device belongs to the service {found:?}, not to {expected:?}: attach the right device, \
                 or give --format to overwrite what is on it"
            ),
            Self::OtherVersion { found } => write!(
                f,
                "the storage device has layout version {found}, which this image does not know: run the version that \
                 formatted it"
            ),
            Self::DamagedSuperblock => f.write_str(
                "both superblocks of the storage device are damaged: restore it from a backup, or give --format to \
                 overwrite what is on it",
            ),
            Self::DamagedDatabase(reason) => {
                write!(f, "the database on the storage device is damaged: {reason}: restore it from a backup")
            }
            Self::Device { operation, error } => {
                write!(f, "the storage device failed to {}: {error}", verb(*operation))
            }
            Self::ServiceName => f.write_str("the name of a service has 1 to 64 bytes"),
        }
    }
}

impl std::error::Error for OpenError {}

/// Why an open storage did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StorageError {
    /// Configuration: the device has no room for the change. Everything stored is readable and can be deleted.
    Full {
        /// Capacity of the device in bytes.
        capacity: u64,
    },
    /// Device: it failed before. Nothing more is written. After a failed write or flush everything can be read; after a
    /// read that failed several times the database refuses that, too.
    Failed {
        /// What was asked of the device.
        operation: Operation,
        /// What it answered.
        error: BlockError,
    },
    /// Device or database: the database refused.
    Database(String),
    /// Caller: the storage has been closed.
    Closed,
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { capacity } => write!(
                f,
                "the storage is full: the device has {} bytes for data; enlarge it or delete something",
                capacity.saturating_sub(DATA_OFFSET)
            ),
            Self::Failed { operation, error } => write!(
                f,
                "the storage takes no changes since its device failed to {}: {error}; replace it and restart",
                verb(*operation)
            ),
            Self::Database(reason) => write!(f, "the database refused: {reason}"),
            Self::Closed => f.write_str("the storage is closed"),
        }
    }
}

impl std::error::Error for StorageError {}

/// Why a change was not made. Nothing of it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteError<E> {
    /// The storage could not; see there.
    Storage(StorageError),
    /// The change itself returned this error.
    Rejected(E),
}

impl<E: fmt::Display> fmt::Display for WriteError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Storage(error) => error.fmt(f),
            Self::Rejected(error) => error.fmt(f),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> std::error::Error for WriteError<E> {}

fn verb(operation: Operation) -> &'static str {
    match operation {
        Operation::Read => "read",
        Operation::Write => "write",
        Operation::Flush => "flush",
    }
}
