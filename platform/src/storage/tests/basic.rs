//! Opening, writing, opening again.

use super::*;

#[test]
fn what_was_written_is_there_after_a_clean_close() {
    let disk = MemoryDisk::new(4 << 20);
    simulate({
        let disk = disk.clone();
        async move |handle| {
            let storage = Storage::open(&handle, Box::new(disk), &options()).await.expect("a blank disk");
            put(&storage, 1, b"one").await.expect("there is room");
            assert_eq!(get(&storage, 1).as_deref(), Some(&b"one"[..]));
            storage.close().await.expect("the disk works");
            assert_eq!(put(&storage, 2, b"two").await.map_err(|_| ()), Err(()));
        }
    });
    simulate(async move |handle| {
        let storage = Storage::open(&handle, Box::new(disk), &options()).await.expect("its own disk");
        assert_eq!(all(&storage), [(1, b"one".to_vec())].into());
    });
}

#[test]
fn a_dropped_storage_closes_itself() {
    let disk = MemoryDisk::new(4 << 20);
    simulate({
        let disk = disk.clone();
        async move |handle| {
            let tasks = handle.tasks();
            let storage = Storage::open(&handle, Box::new(disk), &options()).await.expect("a blank disk");
            let write = put(&storage, 1, b"one");
            drop((write, storage));
            while handle.tasks() > tasks {
                handle.yield_now().await;
            }
        }
    });
    simulate(async move |handle| {
        let report = check(&handle, Box::new(disk.clone())).await.expect("a storage");
        assert_eq!(report.integrity, Integrity::Sound);
        let storage = Storage::open(&handle, Box::new(disk), &options()).await.expect("its own disk");
        assert_eq!(all(&storage), [(1, b"one".to_vec())].into());
    });
}

#[test]
fn everything_is_refused_after_closing() {
    simulate(async move |handle| {
        let disk = MemoryDisk::new(4 << 20);
        let storage = Storage::open(&handle, Box::new(disk), &options()).await.expect("a blank disk");
        let queued = put(&storage, 1, b"one");
        storage.close().await.expect("the disk works");
        assert!(queued.await.is_ok(), "what was queued before is made");
        let closed = |error| matches!(error, WriteError::Storage(StorageError::Closed));
        assert_eq!(put(&storage, 2, b"two").await.map_err(closed), Err(true));
        assert_eq!(storage.read(|_| ()), Err(StorageError::Closed));
        assert_eq!(storage.close().await, Ok(()));
    });
}
