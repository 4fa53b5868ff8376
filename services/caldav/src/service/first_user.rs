//! The user of an image that nobody configured: made at its first start, with a password shown once.

use core::fmt;

use platform::device::Entropy;
use platform::storage::Storage;
use redb::{ReadTransaction, TableDefinition, TableError, WriteTransaction};

use super::StartError;
use crate::repository;
use crate::users::{StoredPassword, User};

/// The name of the user.
const NAME: &str = "skerry";
/// The user's name to the hash of the password.
const FIRST_USER: TableDefinition<'static, &'static str, &'static str> =
    TableDefinition::new("caldav.first-user");
/// Letters and digits that are not taken for each other: 32, so a byte's five lowest bits choose one evenly.
const ALPHABET: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz123456789";
/// A hundred bits, in groups that can be typed.
const GROUPS: usize = 5;
const GROUP_LETTERS: usize = 4;

/// A user who was made now.
pub struct FirstUser {
    /// The name.
    pub name: &'static str,
    /// The password. Only its hash is kept.
    pub password: String,
}

impl fmt::Display for FirstUser {
    /// The console's line, which tools look for.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "first start user={} password={}", self.name, self.password)
    }
}

/// Finds the first user in the storage, or makes one.
pub(super) async fn find_or_make(
    storage: &Storage,
    entropy: &dyn Entropy,
) -> Result<(String, User, Option<FirstUser>), StartError> {
    let found = storage.read(find).map_err(StartError::Storage)?.map_err(StartError::Repository)?;
    if let Some(password) = found {
        return Ok((NAME.to_owned(), user(password), None));
    }
    let password = random_password(entropy);
    let stored = StoredPassword::create(&password, entropy).map_err(|_| StartError::OutOfMemory)?;
    let hash = stored.to_string();
    storage.write(move |transaction| keep(transaction, &hash)).await?;
    Ok((NAME.to_owned(), user(stored), Some(FirstUser { name: NAME, password })))
}

fn user(password: StoredPassword) -> User {
    User { password, display_name: String::new(), mail: Vec::new() }
}

fn find(transaction: &ReadTransaction) -> Result<Option<StoredPassword>, repository::Error> {
    let table = match transaction.open_table(FIRST_USER) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let Some(hash) = table.get(NAME)? else { return Ok(None) };
    let parsed = StoredPassword::parse(hash.value());
    parsed
        .map(Some)
        .map_err(|error| repository::Error::Corrupt(format!("the first user's password: {error}")))
}

fn keep(transaction: &WriteTransaction, hash: &str) -> Result<(), repository::Error> {
    transaction.open_table(FIRST_USER)?.insert(NAME, hash)?;
    Ok(())
}

fn random_password(entropy: &dyn Entropy) -> String {
    let mut bytes = [0; GROUPS * GROUP_LETTERS];
    entropy.fill(&mut bytes);
    let letters = bytes.map(|byte| char::from(ALPHABET[usize::from(byte) % ALPHABET.len()]));
    let groups: Vec<String> = letters.chunks(GROUP_LETTERS).map(|group| group.iter().collect()).collect();
    groups.join("-")
}
