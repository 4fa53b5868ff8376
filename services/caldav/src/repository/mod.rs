//! The store: one git repository per user, its objects and references in redb tables.
//!
//! Before working on this folder read git's own `gitformat-*` pages, RFC 4791 (clause 5.3.4), RFC 6578 and RFC 6352.
//!
//! What WebDAV asks of a store falls out of git:
//!
//! | WebDAV | git |
//! |---|---|
//! | strong `ETag` of a resource | id of its blob |
//! | `getctag` of a collection | id of its tree |
//! | sync-token | id of a commit; the report is the difference between two trees |
//! | PUT, DELETE, PROPPATCH, MKCALENDAR | a commit, with author and message |
//!
//! The bytes of clients are stored as they came. The layout of a tree:
//!
//! ```text
//! calendars/work/collection.toml      properties (see `properties`)
//! calendars/work/3/f/meeting.ics      a resource
//! contacts/friends/0/a/ada.vcf
//! ```
//!
//! The two letters are the first two hexadecimal digits of the SHA-1 of the resource's name
//! (`printf %s meeting.ics | sha1sum`). They are always there, so a path never depends on how full a collection is;
//! and a change in a collection of 10,000 rewrites 4 KB of trees instead of 700 KB.
//!
//! Everything here is done inside transactions that the caller opens and commits, and can be run again from the start.
//! Reading works in read and write transactions alike ([`Tables`]). Beside the git objects each transaction keeps an
//! index of the present state (resource names to blob ids and summaries, UIDs to names); git is the truth, the index
//! can be made again from it ([`rebuild_index`]).

mod change;
mod error;
pub mod export;
mod name;
mod objects;
mod properties;
mod rebuild;
mod snapshot;
mod synchronisation;
mod tables;
#[cfg(test)]
mod tests;
mod verify;

pub use change::{Author, Change};
pub use error::{Error, NameError};
pub use name::{MAX_NAME_BYTES, check_collection_name, check_resource_name};
pub use properties::{CollectionProperties, DeadProperty, MAX_PROPERTIES_BYTES};
pub use rebuild::rebuild_index;
pub use snapshot::{Collection, Entry, Snapshot};
pub use synchronisation::{Changes, SyncToken};
pub use tables::{Tables, prepare};
pub use verify::verify;

/// The id of a git object: 20 bytes, written as 40 hexadecimal digits.
pub use gix_hash::ObjectId;

/// Largest resource stored, in bytes (`max-resource-size` of RFC 4791 clause 5.2.5): a contact with a photograph or an
/// event with a small attachment fits, and sixteen of them at once fit the smallest image's memory.
pub const MAX_RESOURCE_BYTES: usize = 1024 * 1024;

/// Most collections in one home. A user has a handful; each costs an entry in one tree and a lookup in each listing.
pub const MAX_COLLECTIONS: usize = 1000;

/// The two homes of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Home {
    /// Calendar collections (RFC 4791).
    Calendars,
    /// Address book collections (RFC 6352).
    Contacts,
}

impl Home {
    /// The folder in the repository.
    #[must_use]
    pub const fn folder(self) -> &'static str {
        match self {
            Self::Calendars => "calendars",
            Self::Contacts => "contacts",
        }
    }
}
