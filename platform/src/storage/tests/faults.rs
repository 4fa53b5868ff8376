//! A device that fails: nothing is acknowledged that it did not keep, and what can be read is served.

use super::*;
use crate::device::{BlockError, FaultyDisk, Operation};

#[test]
fn after_a_failed_write_or_flush_nothing_is_acknowledged_and_reads_go_on() {
    for operation in [Operation::Write, Operation::Flush] {
        for skip in 0..4 {
            let disk = MemoryDisk::new(4 << 20);
            let kept = simulate({
                let disk = disk.clone();
                async move |handle| {
                    let faulty = FaultyDisk::new(disk);
                    let storage =
                        Storage::open(&handle, Box::new(faulty.clone()), &options()).await.expect("good");
                    put(&storage, 0, b"before").await.expect("good so far");
                    faulty.fail(operation, skip, 1);
                    let mut kept = 1;
                    let error = loop {
                        match put(&storage, kept, b"value").await {
                            Ok(()) => kept += 1,
                            Err(WriteError::Storage(error)) => break error,
                            Err(other) => panic!("{other}"),
                        }
                    };
                    let expected = StorageError::Failed { operation, error: BlockError::Device };
                    assert_eq!(error, expected);
                    let refused = put(&storage, 99, b"later").await.map_err(|error| error.to_string());
                    assert_eq!(
                        refused,
                        Err(expected.to_string()),
                        "the device works again, the order is lost"
                    );
                    assert_eq!(storage.flush().await, Err(expected.clone()));
                    assert_eq!(get(&storage, 0).as_deref(), Some(&b"before"[..]));
                    assert!(storage.close().await.is_err());
                    kept
                }
            });
            simulate(async move |handle| {
                let storage = Storage::open(&handle, Box::new(disk), &options()).await.expect("repairable");
                let found = all(&storage);
                assert!(
                    (0..kept).all(|key| found.contains_key(&key)),
                    "{kept} acknowledged, found {found:?}"
                );
                assert!(!found.contains_key(&99));
            });
        }
    }
}

#[test]
fn a_device_that_fails_while_it_is_opened_is_an_error() {
    for (operation, skip) in
        [(Operation::Read, 0), (Operation::Write, 0), (Operation::Write, 3), (Operation::Flush, 2)]
    {
        let error = simulate(async move |handle| {
            let faulty = FaultyDisk::new(MemoryDisk::new(2 << 20));
            faulty.fail(operation, skip, 1);
            Storage::open(&handle, Box::new(faulty), &options()).await.map(drop)
        });
        assert_eq!(error, Err(OpenError::Device { operation, error: BlockError::Device }));
    }
}

#[test]
fn a_read_that_fails_for_a_moment_is_tried_again() {
    simulate(async move |handle| {
        let faulty = FaultyDisk::new(MemoryDisk::new(4 << 20));
        let small = StorageOptions { cache_bytes: 0, ..options() };
        let storage = Storage::open(&handle, Box::new(faulty.clone()), &small).await.expect("good");
        put(&storage, 1, b"one").await.expect("good");
        storage.flush().await.expect("good");
        faulty.fail(Operation::Read, 0, 2);
        assert_eq!(get(&storage, 1).as_deref(), Some(&b"one"[..]));
        assert!(storage.statistics().reads > 0, "the value came from the device");
    });
}

#[test]
fn a_page_that_cannot_be_read_is_an_error_and_no_panic() {
    simulate(async move |handle| {
        let faulty = FaultyDisk::new(MemoryDisk::new(4 << 20));
        let small = StorageOptions { cache_bytes: 0, ..options() };
        let storage = Storage::open(&handle, Box::new(faulty.clone()), &small).await.expect("good");
        put(&storage, 1, b"one").await.expect("good");
        storage.flush().await.expect("good");
        faulty.fail(Operation::Read, 0, u64::MAX);
        let read =
            storage.read(|transaction| transaction.open_table(TABLE).map(|table| table.get(1).is_err()));
        assert!(matches!(read, Ok(Err(_) | Ok(true)) | Err(_)), "{read:?}");
        let failed = StorageError::Failed { operation: Operation::Read, error: BlockError::Device };
        let refused = put(&storage, 2, b"two").await.map_err(|error| error.to_string());
        assert_eq!(refused, Err(failed.to_string()));
        assert!(storage.close().await.is_err());
    });
}

#[test]
fn a_device_that_fails_under_a_large_change_keeps_what_was_before() {
    for skip in [0, 1, 5] {
        let disk = MemoryDisk::new(8 << 20);
        simulate({
            let disk = disk.clone();
            async move |handle| {
                let faulty = FaultyDisk::new(disk);
                let small = StorageOptions { cache_bytes: 64 << 10, pending_bytes: 128 << 10, ..options() };
                let storage = Storage::open(&handle, Box::new(faulty.clone()), &small).await.expect("good");
                put(&storage, 0, b"before").await.expect("good so far");
                faulty.fail(Operation::Write, skip, u64::MAX);
                let large = storage.write::<(), redb::Error>(|transaction| {
                    let mut table = transaction.open_table(TABLE)?;
                    for key in 1..1000 {
                        table.insert(key, [2; 1000].as_slice())?;
                    }
                    Ok(())
                });
                let failed = StorageError::Failed { operation: Operation::Write, error: BlockError::Device };
                let refused = large.await.map_err(|error| error.to_string());
                assert_eq!(refused, Err(failed.to_string()));
                assert_eq!(all(&storage), [(0, b"before".to_vec())].into(), "reads go on");
                assert!(storage.statistics().stalls > 0);
            }
        });
        simulate(async move |handle| {
            let storage = Storage::open(&handle, Box::new(disk), &options()).await.expect("repairable");
            assert_eq!(all(&storage), [(0, b"before".to_vec())].into());
        });
    }
}
