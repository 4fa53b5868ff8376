//! The store against git itself and against a model.
#![allow(clippy::disallowed_types, reason = "tests run git and write an export to a folder")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;
use redb::backends::InMemoryBackend;
use redb::{Database, ReadableDatabase};

use super::export::export;
use super::*;
use crate::index::{Component, Span, Summary};

const AUTHOR: Author<'static> = Author { name: "Ada <>\n", email: "ada@example.org", now: 1_700_000_000 };

fn database() -> Database {
    let database = Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
    let transaction = database.begin_write().unwrap();
    prepare(&transaction).unwrap();
    transaction.commit().unwrap();
    database
}

fn event(uid: &str) -> Summary {
    Summary {
        component: Component::Event,
        uid: uid.into(),
        recurring: false,
        span: Span { start: 10, end: 20 },
    }
}

/// Makes one change and commits it, in git and in the database.
fn change(
    database: &Database,
    edit: impl FnOnce(&mut Change<'_>) -> Result<(), Error>,
) -> Result<ObjectId, Error> {
    let transaction = database.begin_write().unwrap();
    let mut change = Change::begin(&transaction, "ada")?;
    edit(&mut change)?;
    let id = change.commit(&AUTHOR, "test")?;
    transaction.commit().unwrap();
    Ok(id)
}

fn with_work() -> Database {
    let database = database();
    change(&database, |change| {
        change.create_collection(Home::Calendars, "work", &CollectionProperties::default())
    })
    .unwrap();
    database
}

/// A folder that is removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("skerry-export-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn git(&self, arguments: &[&str]) -> String {
        let output = Command::new("git").arg("--git-dir").arg(&self.0).args(arguments).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "git {arguments:?}: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        text
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn exported(database: &Database) -> Folder {
    let folder = Folder::new();
    let transaction = database.begin_read().unwrap();
    let snapshot = Snapshot::open(&transaction, "ada").unwrap();
    std::fs::create_dir_all(folder.0.join("refs/heads")).unwrap();
    std::fs::create_dir_all(folder.0.join("objects")).unwrap();
    export(&snapshot, |path, bytes| {
        let path = folder.0.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
        Ok::<_, Error>(())
    })
    .unwrap();
    folder
}

#[test]
fn what_is_put_is_got_and_git_reads_it() {
    let database = with_work();
    let bytes = b"BEGIN:VCALENDAR\r\n\xc3\xbc\r\n".repeat(5000);
    let etag = change(&database, |change| {
        change.put(Home::Calendars, "work", "Tee \u{fc}.ics", &bytes, &event("u1")).map(|_| ())
    })
    .map(|_| {
        let transaction = database.begin_read().unwrap();
        let snapshot = Snapshot::open(&transaction, "ada").unwrap();
        assert_eq!(snapshot.collections(Home::Calendars).unwrap(), ["work"]);
        let work = snapshot.collection(Home::Calendars, "work").unwrap().unwrap();
        let (entry, read) = work.get("Tee \u{fc}.ics").unwrap().unwrap();
        assert_eq!(read, bytes);
        assert_eq!(entry.size as usize, bytes.len());
        assert_eq!(work.find_uid("u1").unwrap().as_deref(), Some("Tee \u{fc}.ics"));
        assert_eq!(
            work.resources().unwrap().collect::<Result<Vec<_>, _>>().unwrap(),
            std::slice::from_ref(&entry)
        );
        entry.etag
    })
    .unwrap();
    let folder = exported(&database);
    folder.git(&["fsck", "--strict", "--full"]);
    assert_eq!(
        folder.git(&["log", "--format=%an <%ae> %at %s", "-1"]),
        "Ada <ada@example.org> 1700000000 test\n"
    );
    let listing = folder.git(&["-c", "core.quotepath=off", "ls-tree", "-r", "HEAD"]);
    assert!(listing.contains(&format!("{etag}\tcalendars/work/")), "{listing}");
    assert_eq!(folder.git(&["cat-file", "blob", &etag.to_string()]).as_bytes(), bytes);
}

#[test]
fn a_change_that_is_dropped_or_refused_leaves_nothing() {
    let database = with_work();
    let transaction = database.begin_write().unwrap();
    let head = Snapshot::open(&transaction, "ada").unwrap().head();
    {
        let mut change = Change::begin(&transaction, "ada").unwrap();
        change.put(Home::Calendars, "work", "a.ics", b"a", &event("a")).unwrap();
    }
    let snapshot = Snapshot::open(&transaction, "ada").unwrap();
    assert_eq!(snapshot.head(), head);
    let work = snapshot.collection(Home::Calendars, "work").unwrap().unwrap();
    assert_eq!(work.entry("a.ics").unwrap(), None);
    assert_eq!(work.find_uid("a").unwrap(), None);
}

#[test]
fn what_changes_nothing_makes_no_commit() {
    let database = with_work();
    let put = || {
        change(&database, |change| {
            change.put(Home::Calendars, "work", "a.ics", b"a", &event("a")).map(|_| ())
        })
    };
    let first = put().unwrap();
    assert_eq!(put().unwrap(), first);
    assert_eq!(exported(&database).git(&["rev-list", "--count", "main"]), "2\n");
}

#[test]
fn refusals_name_their_reason() {
    let database = with_work();
    let put = |collection: &str, name: &str, uid: &str| {
        change(&database, |change| {
            change.put(Home::Calendars, collection, name, uid.as_bytes(), &event(uid)).map(|_| ())
        })
    };
    put("work", "a.ics", "a").unwrap();
    assert!(matches!(put("work", "b.ics", "a"), Err(Error::UidConflict(name)) if name == "a.ics"));
    assert!(matches!(put("home", "b.ics", "b"), Err(Error::NoCollection)));
    assert!(matches!(put("work", "x/y", "b"), Err(Error::Name(NameError::Character))));
    // A resource may change its UID; the old one is free then.
    put("work", "a.ics", "c").unwrap();
    put("work", "b.ics", "a").unwrap();
    let again = change(&database, |change| {
        change.create_collection(Home::Calendars, "work", &CollectionProperties::default())
    });
    assert!(matches!(again, Err(Error::CollectionExists)));
    let todo = change(&database, |change| {
        let tasks = CollectionProperties { components: vec!["VTODO".into()], ..Default::default() };
        change.set_properties(Home::Calendars, "work", &tasks)
    });
    todo.unwrap();
    assert!(matches!(put("work", "c.ics", "d"), Err(Error::UnsupportedComponent)));
    let gone = change(&database, |change| change.delete(Home::Calendars, "work", "none.ics"));
    assert!(matches!(gone, Err(Error::NoResource)));
}

#[test]
fn a_deleted_collection_is_gone_from_tree_and_index_but_not_its_neighbour() {
    let database = with_work();
    for name in ["work2", "wor"] {
        change(&database, |change| {
            change.create_collection(Home::Calendars, name, &CollectionProperties::default())
        })
        .unwrap();
    }
    for collection in ["work", "work2", "wor"] {
        change(&database, |change| {
            change.put(Home::Calendars, collection, "a.ics", b"a", &event("a")).map(|_| ())
        })
        .unwrap();
    }
    change(&database, |change| change.delete_collection(Home::Calendars, "work")).unwrap();
    let transaction = database.begin_read().unwrap();
    let snapshot = Snapshot::open(&transaction, "ada").unwrap();
    assert_eq!(snapshot.collections(Home::Calendars).unwrap(), ["wor", "work2"]);
    for name in ["wor", "work2"] {
        let collection = snapshot.collection(Home::Calendars, name).unwrap().unwrap();
        assert_eq!(collection.find_uid("a").unwrap().as_deref(), Some("a.ics"));
    }
    let transaction = database.begin_write().unwrap();
    let mut change = Change::begin(&transaction, "ada").unwrap();
    change.create_collection(Home::Calendars, "work", &CollectionProperties::default()).unwrap();
    change.commit(&AUTHOR, "again").unwrap();
    let snapshot = Snapshot::open(&transaction, "ada").unwrap();
    let work = snapshot.collection(Home::Calendars, "work").unwrap().unwrap();
    assert_eq!(work.resources().unwrap().count(), 0);
    assert_eq!(work.find_uid("a").unwrap(), None);
}

#[test]
fn the_index_made_again_is_the_index_that_was_kept() {
    let database = with_work();
    let text = |uid: &str, day: u8| {
        format!(
            "BEGIN:VCALENDAR\nVERSION:2.0\nBEGIN:VEVENT\nUID:{uid}\nDTSTART:202401{day:02}T100000Z\nEND:VEVENT\nEND:VCALENDAR\n"
        )
    };
    for (name, uid, day) in
        [("a.ics", "a", 1), ("b.ics", "b", 2), ("a.ics", "c", 3), ("c.ics", "a", 4), ("d.ics", "d", 5)]
    {
        let bytes = text(uid, day).into_bytes();
        let summary = crate::calendar::validate(&bytes).unwrap();
        change(&database, |change| change.put(Home::Calendars, "work", name, &bytes, &summary).map(|_| ()))
            .unwrap();
    }
    change(&database, |change| change.delete(Home::Calendars, "work", "d.ics")).unwrap();
    let dump = || {
        let transaction = database.begin_read().unwrap();
        let snapshot = Snapshot::open(&transaction, "ada").unwrap();
        let work = snapshot.collection(Home::Calendars, "work").unwrap().unwrap();
        let entries: Vec<_> = work.resources().unwrap().map(Result::unwrap).collect();
        let uids: Vec<_> = ["a", "b", "c", "d"].iter().map(|uid| work.find_uid(uid).unwrap()).collect();
        (entries, uids)
    };
    let kept = dump();
    assert_eq!(kept.1, [Some("c.ics".into()), Some("b.ics".into()), Some("a.ics".into()), None]);
    let transaction = database.begin_write().unwrap();
    assert!(rebuild_index(&transaction, "ada").unwrap().is_empty());
    transaction.commit().unwrap();
    assert_eq!(dump(), kept);
    // What is no calendar object is not served again, and named.
    change(&database, |change| change.put(Home::Calendars, "work", "x.ics", b"x", &event("x")).map(|_| ()))
        .unwrap();
    let transaction = database.begin_write().unwrap();
    assert_eq!(rebuild_index(&transaction, "ada").unwrap(), ["calendars/work/x.ics"]);
    transaction.commit().unwrap();
    assert_eq!(dump(), kept);
}

#[test]
fn users_do_not_see_each_other() {
    let database = with_work();
    let transaction = database.begin_read().unwrap();
    for other in ["ad", "adaa", "bob"] {
        let snapshot = Snapshot::open(&transaction, other).unwrap();
        assert_eq!(snapshot.head(), None);
        assert!(snapshot.collections(Home::Calendars).unwrap().is_empty());
    }
    assert!(matches!(Snapshot::open(&transaction, "a\0b"), Err(Error::Misuse(_))));
}

#[test]
fn tokens_that_were_never_given_are_refused() {
    let database = with_work();
    let before = change(&database, |change| {
        change.create_collection(Home::Calendars, "late", &CollectionProperties::default())
    });
    let transaction = database.begin_read().unwrap();
    let snapshot = Snapshot::open(&transaction, "ada").unwrap();
    let work = snapshot.collection(Home::Calendars, "work").unwrap().unwrap();
    let token = |text: &str| text.parse::<SyncToken>();
    for text in ["", "x", "1-2", "1-2-3", &"0".repeat(64), &format!("{0}-{0}", before.unwrap())] {
        assert!(matches!(token(text), Err(Error::UnknownToken)), "{text}");
    }
    let unknown = [
        "0".repeat(40),
        ObjectId::empty_tree(gix_hash::Kind::Sha1).to_string(),
        work.ctag().to_string(),
        format!("{0}-{0}-1", work.ctag()),
    ];
    for text in unknown {
        let token = token(&text).unwrap();
        assert!(matches!(work.changes(Some(&token), 10), Err(Error::UnknownToken)), "{text}");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8, u8),
    Delete(u8),
    Rename,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..12_u8, any::<u8>()).prop_map(|(name, content)| Step::Put(name, content)),
        2 => (0..12_u8).prop_map(Step::Delete),
        1 => Just(Step::Rename),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// A client that syncs now and then, with any limit, always ends with what the server has.
    #[test]
    fn a_client_that_syncs_has_what_the_server_has(
        steps in proptest::collection::vec((step(), proptest::option::of(1..4_usize)), 1..40),
    ) {
        let database = with_work();
        let mut client: BTreeMap<String, ObjectId> = BTreeMap::new();
        let mut server: BTreeMap<String, ObjectId> = BTreeMap::new();
        let mut token: Option<SyncToken> = None;
        let mut renames = 0;
        for (step, sync) in steps {
            match step {
                Step::Put(name, content) => {
                    let (name, uid) = (format!("{name}.ics"), format!("uid-{name}"));
                    change(&database, |change| {
                        let etag = change.put(Home::Calendars, "work", &name, &[content], &event(&uid))?;
                        server.insert(name.clone(), etag);
                        Ok(())
                    }).unwrap();
                }
                Step::Delete(name) => {
                    let name = format!("{name}.ics");
                    let result = change(&database, |change| change.delete(Home::Calendars, "work", &name));
                    prop_assert_eq!(result.is_ok(), server.remove(&name).is_some());
                }
                Step::Rename => {
                    renames += 1;
                    let properties = CollectionProperties {
                        displayname: Some(format!("Work {renames}")),
                        ..CollectionProperties::default()
                    };
                    change(&database, |change| change.set_properties(Home::Calendars, "work", &properties)).unwrap();
                }
            }
            let transaction = database.begin_read().unwrap();
            let snapshot = Snapshot::open(&transaction, "ada").unwrap();
            let work = snapshot.collection(Home::Calendars, "work").unwrap().unwrap();
            if let Some(limit) = sync {
                // One answer only: what is left over goes on at the next sync, after more changes.
                let changes = work.changes(token.as_ref(), limit).unwrap();
                prop_assert!(changes.changed.len() + changes.removed.len() <= limit);
                client.extend(changes.changed);
                changes.removed.iter().for_each(|name| { client.remove(name); });
                token = Some(changes.token.to_string().parse().unwrap());
            }
            let listed: BTreeMap<_, _> =
                work.resources().unwrap().map(|entry| entry.map(|e| (e.name, e.etag)).unwrap()).collect();
            prop_assert_eq!(&listed, &server);
        }
        let transaction = database.begin_read().unwrap();
        let snapshot = Snapshot::open(&transaction, "ada").unwrap();
        let work = snapshot.collection(Home::Calendars, "work").unwrap().unwrap();
        loop {
            let changes = work.changes(token.as_ref(), 3).unwrap();
            let empty = changes.changed.is_empty() && changes.removed.is_empty();
            client.extend(changes.changed);
            changes.removed.iter().for_each(|name| { client.remove(name); });
            token = Some(changes.token);
            if !changes.truncated && empty {
                break;
            }
        }
        prop_assert_eq!(&client, &server);
        exported(&database).git(&["fsck", "--strict", "--full"]);
    }
}
