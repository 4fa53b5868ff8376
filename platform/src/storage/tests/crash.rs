//! A crash at every moment of a run: what was acknowledged is there, and nothing is there by half.

use std::collections::BTreeMap;

use core::cell::RefCell;

use super::*;
use crate::device::{CrashDisk, Loss};

/// Each version of a key is written to three tables, so that half a transaction shows.
const COPIES: [TableDefinition<'_, u64, &[u8]>; 3] =
    [TableDefinition::new("first"), TableDefinition::new("second"), TableDefinition::new("third")];

/// Tasks that write at the same time, each to keys of its own.
const WRITERS: u64 = 4;
const KEYS_PER_WRITER: u64 = 3;

/// The moment at which a refused change is acknowledged.
const NEVER: usize = usize::MAX;

/// One version of one key, and when it was given and acknowledged.
struct Written {
    key: u64,
    version: u64,
    submitted: usize,
    acknowledged: usize,
}

/// A value that names its version and has a length of its own, some longer than a page.
fn value(key: u64, version: u64) -> Vec<u8> {
    let length = 8 + (key * 7919 + version * 104_729) % 6000;
    let mut value = vec![version as u8; length as usize];
    value[..8].copy_from_slice(&version.to_le_bytes());
    value
}

/// Runs writers on a disk; a crash may come at any moment of it.
fn record(seed: u64, disk: MemoryDisk, clean_close: bool) -> (CrashDisk, Vec<Written>) {
    simulate(async move |handle| {
        let disk = disk.with_latency(handle.clone(), Duration::from_micros(300), Duration::from_millis(3));
        let disk = CrashDisk::new(disk);
        // Every third seed commits in two phases; every other has so little memory that transactions are written out
        // before their end.
        let memory = if seed % 2 == 1 { 32 << 10 } else { 1 << 20 };
        let options = StorageOptions {
            cache_bytes: memory,
            pending_bytes: memory,
            quick_repair: seed % 3 == 1,
            ..options()
        };
        let storage = Storage::open(&handle, Box::new(disk.clone()), &options).await.expect("a good disk");
        let log = Rc::new(RefCell::new(Vec::new()));
        let writers = (0..WRITERS).map(|writer| {
            handle.spawn(write_versions(
                handle.clone(),
                storage.clone(),
                disk.clone(),
                Rc::clone(&log),
                seed,
                writer,
            ))
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await.expect("a writer does not panic");
        }
        if clean_close {
            storage.close().await.expect("the disk works");
        }
        assert_eq!(storage.statistics().stalls > 0, seed % 2 == 1);
        let log = log.take();
        (disk, log)
    })
}

async fn write_versions(
    handle: Handle,
    storage: Storage,
    disk: CrashDisk,
    log: Rc<RefCell<Vec<Written>>>,
    seed: u64,
    writer: u64,
) {
    let mut random = Random(seed * WRITERS + writer);
    for version in 1..=5 {
        handle.sleep(Duration::from_micros(random.below(8000))).await;
        let key = writer * KEYS_PER_WRITER + random.below(KEYS_PER_WRITER);
        let submitted = disk.moment();
        let write = storage.write::<(), redb::Error>(move |transaction| {
            for table in COPIES {
                transaction.open_table(table)?.insert(key, value(key, version).as_slice())?;
            }
            Ok(())
        });
        let acknowledged = match write.await {
            Ok(()) => disk.moment(),
            Err(WriteError::Storage(StorageError::Full { .. })) => NEVER,
            Err(other) => panic!("{other}"),
        };
        log.borrow_mut().push(Written { key, version, submitted, acknowledged });
    }
}

/// What a reopened storage holds: of each key the version, the same in all three tables.
fn versions(storage: &Storage) -> BTreeMap<u64, u64> {
    let [first, second, third] = COPIES.map(|table| {
        let read = storage.read(|transaction| {
            let Ok(table) = transaction.open_table(table) else { return BTreeMap::new() };
            let entries = table.iter().expect("readable").map(|entry| entry.expect("readable"));
            entries.map(|(key, value)| (key.value(), value.value().to_vec())).collect()
        });
        read.expect("readable")
    });
    assert!(first == second && second == third, "half a transaction");
    let version = |value: &[u8]| u64::from_le_bytes(value[..8].try_into().expect("eight bytes"));
    for (&key, found) in &first {
        assert_eq!(found, &value(key, version(found)), "a value nobody wrote");
    }
    first.iter().map(|(&key, value)| (key, version(value))).collect()
}

/// Checks the disk that a crash left: the report, then what a service finds on it.
fn verify(disk: MemoryDisk, log: Vec<(u64, u64, bool)>, moment: usize, loss: Loss) -> MemoryDisk {
    simulate({
        let disk = disk.clone();
        async move |handle| {
            match check(&handle, Box::new(disk.clone())).await {
                Ok(report) => assert!(report.is_sound(), "at {moment}, {loss:?}:\n{report}"),
                Err(OpenError::Blank) => assert!(log.iter().all(|&(_, _, acknowledged)| !acknowledged)),
                Err(error) => panic!("at {moment}, {loss:?}: {error}"),
            }
            let storage = Storage::open(&handle, Box::new(disk.clone()), &options()).await;
            let storage = storage.unwrap_or_else(|error| panic!("at {moment}, {loss:?}: {error}"));
            let found = versions(&storage);
            for &(key, version, acknowledged) in &log {
                let found = found.get(&key).copied().unwrap_or(0);
                assert!(
                    !acknowledged || found >= version,
                    "at {moment}, {loss:?}: key {key} {found} < {version}"
                );
            }
            for (&key, &found) in &found {
                let given = log.iter().any(|&(other, version, _)| (other, version) == (key, found));
                assert!(given, "at {moment}, {loss:?}: key {key} has version {found} from the future");
            }
            put(&storage, 1, b"after").await.expect("the storage goes on");
            storage.close().await.expect("the disk works");
            let report = check(&handle, Box::new(disk)).await.expect("a storage");
            assert_eq!(report.integrity, Integrity::Sound);
        }
    });
    disk
}

/// Of each change given by `moment`: key, version, whether acknowledged by then.
fn known(log: &[Written], moment: usize) -> Vec<(u64, u64, bool)> {
    log.iter()
        .filter(|written| written.submitted <= moment)
        .map(|written| (written.key, written.version, written.acknowledged <= moment))
        .collect()
}

#[test]
fn a_crash_at_any_moment_loses_nothing_acknowledged() {
    for seed in 0..seeds(2) {
        let (disk, log) = record(seed, MemoryDisk::new(2 << 20), seed.is_multiple_of(2));
        assert!(disk.moment() > 50, "the run is worth crashing: {} events", disk.moment());
        for moment in 0..=disk.moment() {
            for loss in [Loss::None, Loss::All, Loss::Some(seed * 1000 + moment as u64)] {
                verify(disk.crash(moment, loss), known(&log, moment), moment, loss);
            }
        }
    }
}

#[test]
fn a_crash_at_the_end_of_the_device_loses_nothing() {
    for seed in 0..seeds(2) {
        let nearly_full = nearly_full_disk(seed);
        let (disk, log) = record(seed, nearly_full, false);
        assert!(log.iter().any(|written| written.acknowledged == NEVER), "the device was full");
        assert!(log.iter().any(|written| written.acknowledged != NEVER), "but not at once");
        for moment in 0..=disk.moment() {
            for loss in [Loss::None, Loss::All, Loss::Some(seed * 1000 + moment as u64)] {
                let crashed = disk.crash(moment, loss);
                make_room(&crashed);
                verify(crashed, known(&log, moment), moment, loss);
            }
        }
    }
}

/// A disk of the least size with room for a few values more.
fn nearly_full_disk(seed: u64) -> MemoryDisk {
    let disk = MemoryDisk::new(MINIMUM_CAPACITY);
    simulate({
        let disk = disk.clone();
        async move |handle| {
            let storage = Storage::open(&handle, Box::new(disk), &options()).await.expect("blank");
            for key in 0..125 + seed % 8 {
                put(&storage, key, &[9; 3000]).await.expect("there is room");
            }
            storage.close().await.expect("the disk works");
        }
    });
    disk
}

/// Lets a full disk grow, so that a test that needs room on it finds some.
fn make_room(disk: &MemoryDisk) {
    disk.grow(2 * MINIMUM_CAPACITY);
}

#[test]
fn a_crash_while_recovering_from_a_crash_loses_nothing() {
    for seed in 0..seeds(2) {
        let (disk, log) = record(seed, MemoryDisk::new(2 << 20), false);
        let mut random = Random(seed);
        for _ in 0..4 {
            let moment = random.below(disk.moment() as u64 + 1) as usize;
            let crashed = disk.crash(moment, Loss::Some(random.below(1 << 30)));
            let (second, _) = recover(crashed);
            for again in 0..=second.moment() {
                let loss = Loss::Some(random.below(1 << 30));
                verify(second.crash(again, loss), known(&log, moment), moment, loss);
            }
        }
    }
}

/// Opens and closes a storage, recording it.
fn recover(disk: MemoryDisk) -> (CrashDisk, ()) {
    simulate(async move |handle| {
        let disk = CrashDisk::new(disk);
        let storage =
            Storage::open(&handle, Box::new(disk.clone()), &options()).await.expect("a crashed disk");
        storage.close().await.expect("the disk works");
        (disk, ())
    })
}

#[test]
fn a_disk_that_lies_about_flushes_is_noticed() {
    // The proof that these tests can fail.
    let (disk, log) = record(0, MemoryDisk::new(2 << 20), false);
    let noticed = (0..=disk.moment()).any(|moment| {
        let loss = Loss::Lying(moment as u64);
        let (lost, log) = (disk.crash(moment, loss), known(&log, moment));
        // redb may meet pages here that no honest crash leaves, and panics on some: each in a process of its own would
        // be better, but it is enough to look at the disk without opening it.
        simulate(async move |handle| match check(&handle, Box::new(lost)).await {
            Ok(report) => !report.is_sound(),
            Err(_) => log.iter().any(|&(_, _, acknowledged)| acknowledged),
        })
    });
    assert!(noticed);
}
