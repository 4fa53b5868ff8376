//! Whose device it is: blank, foreign, another service's, damaged, too small, shrunk, read-only.

use super::*;

async fn open(handle: &Handle, disk: &MemoryDisk, options: &StorageOptions) -> Result<Storage, OpenError> {
    Storage::open(handle, Box::new(disk.clone()), options).await
}

fn formatting() -> StorageOptions {
    StorageOptions { format: true, ..options() }
}

/// Opens a disk as `options` say, and returns the error it is refused with.
fn refusal(disk: &MemoryDisk, options: StorageOptions) -> OpenError {
    let (before, disk_again) = (disk.content(), disk.clone());
    let error = simulate(async move |handle| open(&handle, &disk_again, &options).await.map(drop));
    assert!(disk.content() == before, "a refused device is not written to");
    error.expect_err("it is to be refused")
}

/// A disk with one entry in the storage of the service `test`.
fn used_disk() -> MemoryDisk {
    let disk = MemoryDisk::new(2 << 20);
    simulate({
        let disk = disk.clone();
        async move |handle| {
            let storage = open(&handle, &disk, &options()).await.expect("a blank disk");
            put(&storage, 1, b"kept").await.expect("there is room");
            storage.close().await.expect("the disk works");
        }
    });
    disk
}

fn content_after(disk: &MemoryDisk, options: StorageOptions) -> std::collections::BTreeMap<u64, Vec<u8>> {
    let disk = disk.clone();
    simulate(async move |handle| all(&open(&handle, &disk, &options).await.expect("it is to be opened")))
}

#[test]
fn a_foreign_disk_is_refused_unless_it_may_be_formatted() {
    for offset in [0, 511, 4096, 600_000, (2 << 20) - 600_000, (2 << 20) - 1] {
        let mut content = vec![0; 2 << 20];
        content[offset] = 1;
        let disk = MemoryDisk::with_content(content);
        assert_eq!(refusal(&disk, options()), OpenError::Foreign, "a mark at {offset}");
        assert_eq!(content_after(&disk, formatting()), [].into());
    }
}

#[test]
fn what_lay_on_a_formatted_disk_is_never_taken_for_data() {
    // redb's own pages among it: the old database lies where the new one will.
    let mut content = used_disk().content();
    content[..8192].fill(0xAA);
    let mut random = Random(7);
    content[600_000..].fill_with(|| random.below(256) as u8);
    let disk = MemoryDisk::with_content(content);
    simulate(async move |handle| {
        let storage = open(&handle, &disk, &formatting()).await.expect("it may be formatted");
        assert_eq!(all(&storage), [].into());
        for key in 0..300 {
            put(&storage, key, &[key as u8; 3000]).await.expect("there is room");
        }
        storage.close().await.expect("the disk works");
        let report = check(&handle, Box::new(disk)).await.expect("a storage");
        assert_eq!(report.integrity, Integrity::Sound);
    });
}

#[test]
fn the_storage_of_another_service_is_refused() {
    let disk = used_disk();
    let other = StorageOptions { service: "other".to_owned(), ..options() };
    let expected = OpenError::OtherService { found: "test".to_owned(), expected: "other".to_owned() };
    assert_eq!(refusal(&disk, other.clone()), expected);
    assert_eq!(content_after(&disk, StorageOptions { format: true, ..other }), [].into());
    assert!(matches!(refusal(&disk, options()), OpenError::OtherService { .. }), "the old copy is gone");
}

#[test]
fn its_own_storage_is_never_formatted_again() {
    assert_eq!(content_after(&used_disk(), formatting()), [(1, b"kept".to_vec())].into());
}

#[test]
fn one_superblock_may_be_damaged_but_not_both() {
    let content = used_disk().content();
    for copy in [0, 4096] {
        let mut damaged = content.clone();
        damaged[copy + 40] ^= 1;
        // The other copy may be older, but its length was right for a file that has only grown since.
        let disk = MemoryDisk::with_content(damaged);
        simulate(async move |handle| {
            let report = check(&handle, Box::new(disk)).await.expect("one copy is sound");
            assert_eq!(report.superblocks.iter().filter(|&&sound| sound).count(), 1);
        });
    }
    let mut damaged = content;
    damaged[40] ^= 1;
    damaged[4096 + 40] ^= 1;
    assert_eq!(refusal(&MemoryDisk::with_content(damaged), options()), OpenError::DamagedSuperblock);
}

#[test]
fn a_device_that_cannot_be_storage_is_refused() {
    let small = MemoryDisk::new(MINIMUM_CAPACITY - 512);
    let expected = OpenError::TooSmall { capacity: MINIMUM_CAPACITY - 512, needed: MINIMUM_CAPACITY };
    assert_eq!(refusal(&small, options()), expected);
    let read_only = MemoryDisk::new(2 << 20).with_properties(|properties| properties.read_only = true);
    assert_eq!(refusal(&read_only, options()), OpenError::ReadOnly);
    let mut content = used_disk().content();
    content.truncate(3 << 19);
    let expected = OpenError::Shrunk { capacity: 3 << 19, needed: 2 << 20 };
    assert_eq!(refusal(&MemoryDisk::with_content(content), options()), expected);
    let nameless = StorageOptions { service: String::new(), ..options() };
    assert_eq!(refusal(&MemoryDisk::new(2 << 20), nameless), OpenError::ServiceName);
}

#[test]
fn the_least_device_works() {
    let disk = MemoryDisk::new(MINIMUM_CAPACITY)
        .with_properties(|properties| (properties.sector_size, properties.queue_depth) = (4096, 1));
    simulate(async move |handle| {
        let storage = open(&handle, &disk, &options()).await.expect("the least device");
        for key in 0..50 {
            put(&storage, key, &[7; 1000]).await.expect("there is room");
        }
        assert_eq!(all(&storage).len(), 50);
    });
}

#[test]
fn a_check_finds_damage_and_changes_nothing() {
    let disk = used_disk();
    let content = disk.content();
    let page = content.windows(4).position(|window| window == b"kept").expect("the value is on the disk");
    let mut damaged = content.clone();
    damaged[page] ^= 1;
    for (content, sound) in [(content, true), (damaged, false)] {
        let disk = MemoryDisk::with_content(content.clone())
            .with_properties(|properties| properties.read_only = true);
        let report = simulate({
            let disk = disk.clone();
            async move |handle| check(&handle, Box::new(disk)).await.expect("a storage")
        });
        assert_eq!(report.is_sound(), sound, "{report}");
        assert_eq!(report.integrity == Integrity::Sound, sound);
        assert!(disk.content() == content);
        if sound {
            assert_eq!(report.tables, ["table"]);
            assert!(report.used_bytes > report.stored_bytes && report.stored_bytes >= 12, "{report}");
        }
    }
}

#[test]
fn what_the_service_finds_is_in_the_report_and_what_it_writes_is_forgotten() {
    let disk = MemoryDisk::new(MINIMUM_CAPACITY);
    let report = simulate({
        let disk = disk.clone();
        async move |handle| {
            let storage = Storage::open(&handle, Box::new(disk.clone()), &options()).await.expect("blank");
            put(&storage, 1, b"kept").await.expect("there is room");
            storage.close().await.expect("the disk works");
            let before = disk.content();
            let inspect = |transaction: &redb::WriteTransaction| {
                let mut table = transaction.open_table(TABLE).expect("readable");
                let removed = table.remove(1).expect("writable").map(|value| value.value().to_vec());
                vec![format!("{removed:?}")]
            };
            let report = check_content(&handle, Box::new(disk.clone()), inspect).await.expect("a storage");
            assert!(disk.content() == before);
            report
        }
    });
    assert_eq!(report.findings, [format!("{:?}", Some(b"kept"))]);
    assert!(!report.is_sound() && report.integrity == Integrity::Sound);
    assert!(report.to_string().contains("content      DAMAGED: Some"), "{report}");
}
