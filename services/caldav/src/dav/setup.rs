//! What a user finds at the first log-in: a calendar and an address book.

use redb::WriteTransaction;

use super::Session;
use crate::repository::{Change, CollectionProperties, Error, Home, Snapshot, Tables};

/// What is made, and its name for people.
const DEFAULTS: [(Home, &str); 2] = [(Home::Calendars, "Calendar"), (Home::Contacts, "Contacts")];
/// The segment of what is made.
const SEGMENT: &str = "default";

/// Whether the user has ever stored anything. A user who deleted the last calendar does not get another.
///
/// # Errors
///
/// The store failed.
pub fn is_set_up<T: Tables>(transaction: &T, user: &str) -> Result<bool, Error> {
    Ok(Snapshot::open(transaction, user)?.head().is_some())
}

/// Makes the first calendar and address book of a user who has never stored anything; does nothing for others.
///
/// # Errors
///
/// The store failed.
pub fn set_up(transaction: &WriteTransaction, session: &Session) -> Result<(), Error> {
    let mut change = Change::begin(transaction, &session.user)?;
    if change.snapshot().head().is_some() {
        return Ok(());
    }
    for (home, displayname) in DEFAULTS {
        let properties = CollectionProperties {
            displayname: Some(displayname.to_owned()),
            ..CollectionProperties::default()
        };
        change.create_collection(home, SEGMENT, &properties)?;
    }
    session.author(|author| change.commit(author, "Make the first calendar and address book"))?;
    Ok(())
}
