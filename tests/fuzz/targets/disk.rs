//! A disk that somebody gave the image: whatever is on its first sectors, it is refused or opened, and nothing else.
#![no_main]

use std::rc::Rc;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use platform::device::{ManualClock, MemoryDisk};
use platform::executor::Executor;
use platform::host::SimulatedHost;
use platform::storage::{Storage, StorageOptions, check};

const CAPACITY: usize = 2 << 20;

fuzz_target!(|bytes: &[u8]| {
    let clock = Rc::new(ManualClock::default());
    let executor = Executor::new(clock.clone());
    let handle = executor.handle();
    let mut content = bytes.to_vec();
    content.resize(CAPACITY, 0);
    let main = {
        let handle = handle.clone();
        async move {
            let _ = check(&handle, Box::new(MemoryDisk::with_content(content.clone()))).await;
            let options = StorageOptions::new("fuzz", 16 << 20);
            let disk = Box::new(MemoryDisk::with_content(content));
            if let Ok(storage) = Storage::open(&handle, disk, &options).await {
                let _ = storage.close().await;
            }
            handle.sleep(Duration::from_secs(1)).await;
        }
    };
    executor.run(&SimulatedHost::new(clock), main).expect("no panic");
});
