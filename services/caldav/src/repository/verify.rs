//! Checking all repositories: what `git fsck` would, and the index.

use std::collections::BTreeSet;

use redb::{ReadableTable, TableDefinition, WriteTransaction};

use super::export::visit_reachable;
use super::objects::{id_of, kind_of};
use super::rebuild::rebuild_index;
use super::tables::{MAIN, OBJECTS, REFERENCES, RESOURCES, UIDS, prepare};
use super::{Error, ObjectId, Snapshot};

/// Findings that are told, at most: where there are more, the rest is of the same kind.
const MAX_FINDINGS: usize = 100;

/// Says what is wrong in all repositories: objects whose bytes are not those of their names, references from which an
/// object is missing, resources that are not valid, an index that is not the one git's trees give. The transaction is not
/// to be committed: the index is made again in it.
#[must_use]
pub fn verify(transaction: &WriteTransaction) -> Vec<String> {
    let mut findings = Vec::new();
    if let Err(error) = examine(transaction, &mut findings) {
        findings.push(error.to_string());
    }
    findings.truncate(MAX_FINDINGS);
    findings
}

fn examine(transaction: &WriteTransaction, findings: &mut Vec<String>) -> Result<(), Error> {
    // A disk on which the service never got this far has no tables.
    prepare(transaction)?;
    let owners = examine_objects(transaction, findings)?;
    let users = examine_references(transaction, findings)?;
    findings.extend(owners.difference(&users).map(|user| format!("repository of {user}: {MAIN} is missing")));
    let before = index(transaction)?;
    for user in users {
        let reachable = Snapshot::open(transaction, &user)
            .and_then(|snapshot| visit_reachable::<_, Error>(&snapshot, |_, _, _| Ok(())));
        let refused = match reachable.and_then(|()| rebuild_index(transaction, &user)) {
            Ok(refused) => refused,
            Err(error) => {
                findings.push(format!("repository of {user}: {error}"));
                continue;
            }
        };
        findings.extend(refused.iter().map(|path| format!("repository of {user}: {path} is not valid")));
    }
    compare(&before, &index(transaction)?, findings);
    Ok(())
}

/// Each object against its name, reachable or not. Returns the users who have any.
fn examine_objects(
    transaction: &WriteTransaction,
    findings: &mut Vec<String>,
) -> Result<BTreeSet<String>, Error> {
    let mut owners = BTreeSet::new();
    for row in transaction.open_table(OBJECTS)?.iter()? {
        let (key, value) = row?;
        let (Some((user, id)), Some((kind, bytes))) = (split_key(key.value()), value.value().split_first())
        else {
            findings.push(format!("{} is not an object", key.value().escape_ascii()));
            continue;
        };
        if !owners.contains(user) {
            owners.insert(user.to_owned());
        }
        let named = ObjectId::try_from(id).ok();
        let computed = kind_of(*kind).and_then(|kind| id_of(kind, bytes).ok());
        if (named.is_none() || named != computed) && findings.len() < MAX_FINDINGS {
            let named = named.map_or_else(|| id.escape_ascii().to_string(), |id| id.to_string());
            findings.push(format!("repository of {user}: object {named} has other bytes"));
        }
    }
    Ok(owners)
}

/// The users who have a repository.
fn examine_references(
    transaction: &WriteTransaction,
    findings: &mut Vec<String>,
) -> Result<BTreeSet<String>, Error> {
    let mut users = BTreeSet::new();
    for row in transaction.open_table(REFERENCES)?.iter()? {
        let (key, _) = row?;
        match split_key(key.value()) {
            Some((user, reference)) if reference == MAIN.as_bytes() => {
                users.insert(user.to_owned());
            }
            _ => findings.push(format!("{} is not a reference", key.value().escape_ascii())),
        }
    }
    Ok(users)
}

/// A user's name, and what comes after it.
fn split_key(key: &[u8]) -> Option<(&str, &[u8])> {
    let end = key.iter().position(|&byte| byte == 0)?;
    Some((std::str::from_utf8(&key[..end]).ok()?, &key[end + 1..]))
}

type Row = (Vec<u8>, Vec<u8>);

/// Everything in the index, in the order of each table.
fn index(transaction: &WriteTransaction) -> Result<[BTreeSet<Row>; 2], Error> {
    let read = |definition: TableDefinition<'static, &'static [u8], &'static [u8]>| {
        let table = transaction.open_table(definition)?;
        let rows = table.iter()?.map(|row| {
            let (key, value) = row?;
            Ok((key.value().to_vec(), value.value().to_vec()))
        });
        rows.collect::<Result<_, Error>>()
    };
    Ok([read(RESOURCES)?, read(UIDS)?])
}

fn compare(stored: &[BTreeSet<Row>; 2], rebuilt: &[BTreeSet<Row>; 2], findings: &mut Vec<String>) {
    for (stored, rebuilt) in stored.iter().zip(rebuilt) {
        // Where git cannot be read the index was not made again, and is the same.
        let wrong: BTreeSet<_> = stored.symmetric_difference(rebuilt).map(|(key, _)| key).collect();
        let wrong = wrong.into_iter().take(MAX_FINDINGS);
        findings.extend(wrong.map(|key| format!("the index is wrong at {}", key.escape_ascii())));
    }
}

#[cfg(test)]
mod tests {
    use redb::backends::InMemoryBackend;
    use redb::{Database, ReadableDatabase};

    use super::*;
    use crate::repository::{Author, Change, CollectionProperties, Home};

    const EVENT: &[u8] = b"BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//x//EN\r\nBEGIN:VEVENT\r\nUID:u\r\n\
        DTSTAMP:20240101T000000Z\r\nDTSTART:20240102T100000Z\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n";

    fn database() -> Database {
        let database = Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
        let transaction = database.begin_write().unwrap();
        prepare(&transaction).unwrap();
        let author = Author { name: "Ada", email: "ada@example.org", now: 1 };
        let mut change = Change::begin(&transaction, "ada").unwrap();
        change.create_collection(Home::Calendars, "work", &CollectionProperties::default()).unwrap();
        change.commit(&author, "make").unwrap();
        let mut change = Change::begin(&transaction, "ada").unwrap();
        let summary = crate::calendar::validate(EVENT).unwrap();
        change.put(Home::Calendars, "work", "a.ics", EVENT, &summary).unwrap();
        change.commit(&author, "put").unwrap();
        transaction.commit().unwrap();
        database
    }

    #[test]
    fn what_the_service_wrote_is_sound() {
        assert_eq!(verify(&database().begin_write().unwrap()), [""; 0]);
        let empty = Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
        assert_eq!(verify(&empty.begin_write().unwrap()), [""; 0]);
    }

    /// What is found after each row of a table, in turn, has been removed or has lost its last byte.
    fn findings(definition: TableDefinition<'static, &'static [u8], &'static [u8]>) -> Vec<Vec<String>> {
        let database = database();
        let transaction = database.begin_read().unwrap();
        let table = transaction.open_table(definition).unwrap();
        let rows = table.iter().unwrap().map(Result::unwrap);
        let rows = rows.map(|(key, value)| (key.value().to_vec(), value.value().to_vec()));
        let damage = |(key, value): (Vec<u8>, Vec<u8>)| {
            [None, Some(&value[..value.len() - 1])].map(|value| {
                let transaction = database.begin_write().unwrap();
                {
                    let mut table = transaction.open_table(definition).unwrap();
                    match value {
                        None => drop(table.remove(key.as_slice()).unwrap()),
                        Some(value) => drop(table.insert(key.as_slice(), value).unwrap()),
                    }
                }
                verify(&transaction)
            })
        };
        rows.flat_map(damage).collect()
    }

    #[test]
    fn damage_anywhere_is_found() {
        for (definition, rows) in [(OBJECTS, 8), (REFERENCES, 1), (RESOURCES, 1), (UIDS, 1)] {
            let findings = findings(definition);
            assert!(findings.len() >= 2 * rows, "{definition}: {}", findings.len());
            for found in &findings {
                assert!(!found.is_empty(), "{definition}: {findings:?}");
            }
        }
        assert!(findings(OBJECTS).iter().any(|found| found.iter().any(|text| text.contains("is missing"))));
        assert!(
            findings(UIDS)
                .iter()
                .all(|found| found == &["the index is wrong at ada\\x00calendars/work\\x00u"])
        );
    }
}
