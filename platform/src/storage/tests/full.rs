//! The end of the device: a clear error, everything stored still there, room again after deleting or growing.

use super::*;

fn delete(storage: &Storage, keys: core::ops::Range<u64>) -> Write<(), redb::Error> {
    storage.reclaim(move |transaction| {
        let mut table = transaction.open_table(TABLE)?;
        for key in keys.clone() {
            table.remove(key)?;
        }
        Ok(())
    })
}

/// Puts values until the storage is full; returns how many there are then, keys counted from `from`.
async fn fill(storage: &Storage, from: u64, length: usize) -> u64 {
    for key in from.. {
        match put(storage, key, &vec![key as u8; length]).await {
            Ok(()) => {}
            Err(WriteError::Storage(StorageError::Full { .. })) => return key,
            Err(other) => panic!("at {key}: {other}"),
        }
    }
    unreachable!("no device is endless")
}

fn assert_filled(storage: &Storage, keys: core::ops::Range<u64>, length: usize) {
    let found = all(storage);
    assert!(found.keys().copied().eq(keys), "{:?}", found.keys());
    assert!(found.iter().all(|(&key, value)| *value == vec![key as u8; length]));
}

#[test]
fn a_full_device_refuses_clearly_keeps_everything_and_recovers_by_deleting() {
    for length in [400, 1000, 10_000] {
        let disk = MemoryDisk::new(2 << 20);
        let count = simulate({
            let disk = disk.clone();
            async move |handle| {
                let storage = Storage::open(&handle, Box::new(disk), &options()).await.expect("blank");
                let count = fill(&storage, 0, length).await;
                let stored = count * length as u64;
                // redb rounds a value of 10,000 bytes up to 16 KiB.
                assert!(stored > 1_000_000, "{length}: full at {stored} bytes of {}", 2 << 20);
                assert_filled(&storage, 0..count, length);
                for _ in 0..20 {
                    assert!(put(&storage, count, &vec![0; length]).await.is_err());
                }
                assert_eq!(storage.statistics().recoveries, 0, "being full costs no repair");
                delete(&storage, 0..count / 2).await.expect("deleting works on a full device");
                assert_filled(&storage, count / 2..count, length);
                let again = fill(&storage, count, length).await;
                assert!(again > count + count / 4, "{length}: {count} then {again}");
                assert_filled(&storage, count / 2..again, length);
                again
            }
        });
        simulate(async move |handle| {
            let report = check(&handle, Box::new(disk.clone())).await.expect("a storage");
            assert!(report.is_sound(), "{report}");
            let storage = Storage::open(&handle, Box::new(disk), &options()).await.expect("its own");
            assert_eq!(all(&storage).len() as u64, count - (count_before(&storage)));
            delete(&storage, 0..count).await.expect("deleting works");
            storage.close().await.expect("good");
        });
    }
}

/// How many keys were deleted from the front.
fn count_before(storage: &Storage) -> u64 {
    all(storage).keys().next().copied().unwrap_or(0)
}

#[test]
fn a_group_that_is_too_much_keeps_what_fits() {
    simulate(async move |handle| {
        let disk = MemoryDisk::new(2 << 20);
        let storage = Storage::open(&handle, Box::new(disk), &options()).await.expect("blank");
        let writes = (0..40).map(|key| put(&storage, key, &[1; 100_000])).collect::<Vec<_>>();
        let mut kept = 0;
        for write in writes {
            match write.await {
                Ok(()) => kept += 1,
                Err(WriteError::Storage(StorageError::Full { .. })) => {}
                Err(other) => panic!("{other}"),
            }
        }
        assert!((8..20).contains(&kept), "{kept} of 100,000 bytes kept");
        assert_eq!(all(&storage).len(), kept);
    });
}

#[test]
fn a_change_larger_than_memory_and_device_is_refused_without_harm() {
    simulate(async move |handle| {
        let disk = MemoryDisk::new(2 << 20);
        let small = StorageOptions { cache_bytes: 64 << 10, pending_bytes: 128 << 10, ..options() };
        let storage = Storage::open(&handle, Box::new(disk), &small).await.expect("blank");
        put(&storage, 0, b"before").await.expect("there is room");
        let huge = storage.write::<(), redb::Error>(|transaction| {
            let mut table = transaction.open_table(TABLE)?;
            for key in 1..4000 {
                table.insert(key, [2; 1000].as_slice())?;
            }
            Ok(())
        });
        let full =
            huge.await.map_err(|error| matches!(error, WriteError::Storage(StorageError::Full { .. })));
        assert_eq!(full, Err(true));
        assert_eq!(all(&storage), [(0, b"before".to_vec())].into());
        put(&storage, 1, b"after").await.expect("there is room for this one");
    });
}

#[test]
fn a_device_that_grows_gives_room_without_a_restart() {
    let disk = MemoryDisk::new(1 << 20);
    let count = simulate({
        let disk = disk.clone();
        async move |handle| {
            let storage = Storage::open(&handle, Box::new(disk.clone()), &options()).await.expect("blank");
            let count = fill(&storage, 0, 1000).await;
            disk.grow(3 << 20);
            let more = fill(&storage, count, 1000).await;
            assert!(more > 2 * count, "{count} then {more}");
            assert_filled(&storage, 0..more, 1000);
            assert_eq!(storage.statistics().recoveries, 0);
            more
        }
    });
    disk.grow(4 << 20);
    simulate(async move |handle| {
        let storage = Storage::open(&handle, Box::new(disk), &options()).await.expect("its own, grown");
        let more = fill(&storage, count, 1000).await;
        assert!(more > count + count / 5, "{count} then {more}");
        assert_filled(&storage, 0..more, 1000);
    });
}
