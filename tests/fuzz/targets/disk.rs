//! A disk that somebody gave the image: whatever its superblocks say, it is refused or opened, and nothing else. The input
//! is a flag and patches to the first two blocks of a disk that the storage has written itself: an offset of 16 bits, a
//! length of 8 bits, and the bytes. With an odd flag the checksums are put right. (What is behind them is redb's matter,
//! which has checksums of its own.)
#![no_main]

use std::cell::OnceCell;
use std::rc::Rc;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use platform::device::{ManualClock, MemoryDisk};
use platform::executor::{Executor, Handle};
use platform::host::SimulatedHost;
use platform::storage::{Storage, StorageOptions, check};
use redb::TableDefinition;

const CAPACITY: u64 = 1 << 20;
const TABLE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("table");
/// The two copies of the superblock, each with its fields in the first sector.
const BLOCK: usize = 4096;
const SECTOR: usize = 512;

thread_local! {
    static GOOD: OnceCell<Vec<u8>> = const { OnceCell::new() };
}

fn simulate<T: 'static, F: Future<Output = T> + 'static>(main: impl FnOnce(Handle) -> F) -> T {
    let clock = Rc::new(ManualClock::default());
    let executor = Executor::new(clock.clone());
    let main = main(executor.handle());
    executor.run(&SimulatedHost::new(clock), main).expect("no panic")
}

fn options() -> StorageOptions {
    StorageOptions::new("fuzz", 4 << 20)
}

/// A disk on which something has been stored.
fn write() -> Vec<u8> {
    let disk = MemoryDisk::new(CAPACITY);
    simulate({
        let disk = disk.clone();
        async move |handle| {
            let storage = Storage::open(&handle, Box::new(disk), &options()).await.expect("a blank disk");
            let write = storage.write::<(), redb::Error>(|transaction| {
                transaction.open_table(TABLE)?.insert(1, [7; 5000].as_slice())?;
                Ok(())
            });
            write.await.expect("there is room");
            storage.close().await.expect("the disk works");
        }
    });
    disk.content()
}

/// CRC-32 as in Ethernet.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ (0xedb8_8320 & 0_u32.wrapping_sub(crc & 1)))
    })
}

fn patch(content: &mut [u8], bytes: &[u8]) {
    let Some((&flag, mut rest)) = bytes.split_first() else { return };
    while let Some((&[high, low, length], after)) = rest.split_first_chunk() {
        let (data, next) = after.split_at(usize::from(length).min(after.len()));
        let offset = usize::from(u16::from_be_bytes([high, low])) % (2 * BLOCK);
        content[offset..offset + data.len()].copy_from_slice(data);
        rest = next;
    }
    if flag & 1 != 0 {
        for copy in content.chunks_mut(BLOCK).take(2) {
            copy[20..24].fill(0);
            let checksum = crc32(&copy[..SECTOR]);
            copy[20..24].copy_from_slice(&checksum.to_le_bytes());
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut content = GOOD.with(|good| good.get_or_init(write).clone());
    patch(&mut content, bytes);
    simulate(async move |handle| {
        let _ = check(&handle, Box::new(MemoryDisk::with_content(content.clone()))).await;
        let disk = Box::new(MemoryDisk::with_content(content));
        if let Ok(storage) = Storage::open(&handle, disk, &options()).await {
            let _ = storage.close().await;
        }
        handle.sleep(Duration::from_secs(1)).await;
    });
});
