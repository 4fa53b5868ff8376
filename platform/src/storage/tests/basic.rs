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
