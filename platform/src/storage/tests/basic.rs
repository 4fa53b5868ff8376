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

/// How many changes there are to a group when `callers` write again and again, each half a millisecond after it was
/// told, to a disk that flushes in eight.
fn changes_to_a_group(callers: u64) -> f64 {
    const ROUNDS: u64 = 20;
    simulate(async move |handle| {
        let (transfer, flush) = (Duration::from_micros(50), Duration::from_millis(8));
        let disk = MemoryDisk::new(16 << 20).with_latency(handle.clone(), transfer, flush);
        let storage = Storage::open(&handle, Box::new(disk), &options()).await.expect("a blank disk");
        let before = storage.statistics();
        let tasks: Vec<_> = (0..callers)
            .map(|caller| {
                let (handle, storage) = (handle.clone(), storage.clone());
                handle.clone().spawn(async move {
                    // Not all at once: two groups, unless they are brought together.
                    handle.sleep(Duration::from_millis(caller % 2 * 4)).await;
                    for round in 0..ROUNDS {
                        put(&storage, caller * ROUNDS + round, b"value").await.expect("there is room");
                        handle.sleep(Duration::from_micros(500)).await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("no caller panics");
        }
        let after = storage.statistics();
        (after.changes - before.changes) as f64 / (after.groups - before.groups) as f64
    })
}

#[test]
fn callers_that_come_back_at_once_share_a_flush() {
    assert!(changes_to_a_group(16) > 12.0, "{}", changes_to_a_group(16));
}

#[test]
fn a_caller_that_is_alone_is_not_waited_for() {
    let elapsed = simulate(async move |handle| {
        let (transfer, flush) = (Duration::from_micros(50), Duration::from_millis(8));
        let disk = MemoryDisk::new(16 << 20).with_latency(handle.clone(), transfer, flush);
        let storage = Storage::open(&handle, Box::new(disk), &options()).await.expect("a blank disk");
        put(&storage, 0, b"value").await.expect("there is room");
        let start = handle.now();
        for round in 0..20 {
            put(&storage, round, b"value").await.expect("there is room");
        }
        handle.now() - start
    });
    assert!(elapsed < Duration::from_millis(20 * 11), "{elapsed:?}");
}
