//! Storage against a map in memory: random changes, rejections, reopenings.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    /// Changes given at the same time.
    Group(Vec<Change>),
    /// Close and open.
    Reopen,
}

#[derive(Clone, Debug)]
enum Change {
    Put(u64, usize),
    Remove(u64),
    /// Writes, then fails.
    Reject(u64),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        6 => (0..40u64, 0..9000usize).prop_map(|(key, length)| Change::Put(key, length)),
        2 => (0..40u64).prop_map(Change::Remove),
        1 => (0..40u64).prop_map(Change::Reject),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => prop::collection::vec(change(), 1..80).prop_map(Step::Group),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..12)
}

fn submit(storage: &Storage, change: Change) -> Write<(), String> {
    storage.write(move |transaction| {
        let mut table = transaction.open_table(TABLE).map_err(|error| error.to_string())?;
        let done = match change {
            Change::Put(key, length) => table.insert(key, vec![key as u8; length].as_slice()).map(drop),
            Change::Remove(key) => table.remove(key).map(drop),
            Change::Reject(key) => {
                table.insert(key, b"never seen".as_slice()).map_err(|error| error.to_string())?;
                return Err("rejected".to_owned());
            }
        };
        done.map_err(|error| error.to_string())
    })
}

async fn run(handle: Handle, steps: Vec<Step>, cache_bytes: usize, device: (u32, usize)) {
    let options = StorageOptions { cache_bytes, pending_bytes: 256 << 10, ..options() };
    let disk = MemoryDisk::new(4 << 20)
        .with_properties(|properties| (properties.sector_size, properties.queue_depth) = device)
        .with_latency(handle.clone(), Duration::from_micros(100), Duration::from_millis(2));
    let mut model = BTreeMap::new();
    let mut storage = Storage::open(&handle, Box::new(disk.clone()), &options).await.expect("blank");
    for step in steps {
        match step {
            Step::Group(changes) => {
                let writes =
                    changes.iter().cloned().map(|change| submit(&storage, change)).collect::<Vec<_>>();
                // Reads that miss every cache, beside writes in flight, must not disturb them.
                handle.yield_now().await;
                all(&storage);
                for (change, write) in changes.into_iter().zip(writes) {
                    let result = write.await;
                    match change {
                        Change::Put(key, length) => drop(model.insert(key, vec![key as u8; length])),
                        Change::Remove(key) => drop(model.remove(&key)),
                        Change::Reject(_) => {
                            assert_eq!(result, Err(WriteError::Rejected("rejected".to_owned())));
                            continue;
                        }
                    }
                    assert_eq!(result, Ok(()));
                }
            }
            Step::Reopen => {
                storage.close().await.expect("the disk works");
                storage = Storage::open(&handle, Box::new(disk.clone()), &options).await.expect("its own");
            }
        }
        assert_eq!(all(&storage), model);
    }
    storage.close().await.expect("the disk works");
    let report = check(&handle, Box::new(disk)).await.expect("a storage");
    assert_eq!(report.integrity, Integrity::Sound);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: seeds(24) as u32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn storage_does_as_a_map_does(
        steps in steps(),
        cache_bytes in prop_oneof![Just(0), Just(1 << 20)],
        device in prop_oneof![Just((512, 1)), Just((4096, 2)), Just((512, 128))],
    ) {
        simulate(async move |handle| run(handle, steps, cache_bytes, device).await);
    }
}

#[test]
fn a_panicking_change_panics_at_its_caller_and_nowhere_else() {
    simulate(async move |handle| {
        let storage =
            Storage::open(&handle, Box::new(MemoryDisk::new(2 << 20)), &options()).await.expect("blank");
        let before = put(&storage, 1, b"one");
        let panicking = handle.spawn(storage.write::<(), ()>(|transaction| {
            let mut table = transaction.open_table(TABLE).expect("a new table");
            table.insert(2, b"two".as_slice()).expect("there is room");
            panic!("a bug in a service");
        }));
        let after = put(&storage, 3, b"three");
        before.await.expect("not concerned");
        assert!(panicking.await.is_err());
        after.await.expect("not concerned");
        assert_eq!(all(&storage).into_keys().collect::<Vec<_>>(), [1, 3]);
        storage.close().await.expect("the disk works");
    });
}

#[test]
fn changes_given_together_share_a_flush() {
    simulate(async move |handle| {
        let disk = MemoryDisk::new(4 << 20).with_latency(
            handle.clone(),
            Duration::from_micros(100),
            Duration::from_millis(2),
        );
        let storage = Storage::open(&handle, Box::new(disk), &options()).await.expect("blank");
        let before = storage.statistics();
        let writes = (0..64).map(|key| put(&storage, key, &[0; 100])).collect::<Vec<_>>();
        for write in writes {
            write.await.expect("there is room");
        }
        let after = storage.statistics();
        assert_eq!((after.groups - before.groups, after.changes - before.changes), (1, 64));
        // One for the commit, and one for each time that the new file grew under it.
        assert!(after.flushes - before.flushes <= 3, "{} flushes", after.flushes - before.flushes);
        assert_eq!(after.flush_latency.iter().sum::<u64>(), after.flushes);
    });
}
