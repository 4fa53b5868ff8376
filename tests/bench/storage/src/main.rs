//! Measures storage on a disk in memory, where only the processor counts.
//!
//!     cargo run --profile quick -p bench-storage

mod counting;

use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use platform::device::{CrashDisk, Loss, ManualClock, MemoryDisk};
use platform::executor::{Executor, Handle};
use platform::host::SimulatedHost;
use platform::storage::{Storage, StorageOptions};
use redb::{ReadableTable, TableDefinition};

const TABLE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("events");
const WRITERS: u64 = 16;
const VALUE: usize = 1024;

fn main() {
    group_commit();
    println!();
    open_after_crash();
    println!();
    memory();
    println!();
    read_misses();
}

/// The real clock: this is the host's side, where a bench may look at it.
#[expect(clippy::disallowed_methods, reason = "a bench runs on the host and measures its time")]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}

fn simulate<T: 'static, F: Future<Output = T> + 'static>(main: impl FnOnce(Handle) -> F) -> T {
    let clock = Rc::new(ManualClock::new(Duration::ZERO));
    let host = SimulatedHost::new(Rc::clone(&clock));
    let executor = Executor::new(clock);
    let main = main(executor.handle());
    executor.run(&host, main).expect("the bench does not panic")
}

fn options() -> StorageOptions {
    StorageOptions::new("bench", 32 << 20)
}

/// A value that no compression or sharing makes cheap.
fn value(key: u64) -> Vec<u8> {
    (0..VALUE as u64).map(|index| (key.wrapping_mul(0x9E37_79B9) >> (index % 32)) as u8).collect()
}

/// A blank disk whose memory the kernel has already provided, so that its page faults are not measured.
fn touched_disk(capacity: usize) -> MemoryDisk {
    let mut content = vec![1; capacity];
    std::hint::black_box(&mut content).fill(0);
    MemoryDisk::with_content(content)
}

fn group_commit() {
    const ROUNDS: u64 = 2000;
    simulate(async |handle| {
        let storage = Storage::open(&handle, Box::new(touched_disk(256 << 20)), &options()).await;
        let storage = storage.expect("a blank disk");
        let in_changes = Rc::new(Cell::new(Duration::ZERO));
        let before = storage.statistics();
        let start = now();
        let writers = (0..WRITERS).map(|writer| {
            let (storage, in_changes) = (storage.clone(), Rc::clone(&in_changes));
            handle.spawn(async move {
                for round in 0..ROUNDS {
                    let key = (writer * ROUNDS + round).wrapping_mul(0x9E37_79B9_7F4A_7C15);
                    let (value, in_changes) = (value(key), Rc::clone(&in_changes));
                    let write = storage.write::<(), redb::Error>(move |transaction| {
                        let start = now();
                        transaction.open_table(TABLE)?.insert(key, value.as_slice())?;
                        in_changes.set(in_changes.get() + start.elapsed());
                        Ok(())
                    });
                    write.await.expect("there is room");
                }
            })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await.expect("no panic");
        }
        let elapsed = start.elapsed();
        let after = storage.statistics();
        let (groups, changes) = (after.groups - before.groups, after.changes - before.changes);
        println!("group commit, {WRITERS} writers, values of {VALUE} bytes at random keys");
        println!("  groups per second      {:>10.0}", groups as f64 / elapsed.as_secs_f64());
        println!("  changes per second     {:>10.0}", changes as f64 / elapsed.as_secs_f64());
        println!("  changes per group      {:>10.1}", changes as f64 / groups as f64);
        println!(
            "  written per change     {:>10.0} bytes",
            (after.bytes_written - before.bytes_written) as f64 / changes as f64
        );
        println!(
            "  flushes per group      {:>10.2}",
            (after.flushes - before.flushes) as f64 / groups as f64
        );
        println!("  reads from the device  {:>10}", after.reads - before.reads);
        let per_group = |duration: Duration| duration.as_secs_f64() * 1e6 / groups as f64;
        println!("  time per group         {:>10.1} us", per_group(elapsed));
        println!("    in the changes       {:>10.1} us", per_group(in_changes.get()));
        println!("    commit and device    {:>10.1} us", per_group(elapsed - in_changes.get()));
    });
}

/// A disk with so many events on it, not shut down cleanly.
fn crashed_disk(events: u64) -> MemoryDisk {
    simulate(async move |handle| {
        let disk = CrashDisk::new(MemoryDisk::new(512 << 20));
        let storage = Storage::open(&handle, Box::new(disk.clone()), &options()).await.expect("a blank disk");
        for batch in 0..events / 1000 {
            let write = storage.write::<(), redb::Error>(move |transaction| {
                let mut table = transaction.open_table(TABLE)?;
                for key in batch * 1000..(batch + 1) * 1000 {
                    table.insert(key.wrapping_mul(0x9E37_79B9_7F4A_7C15), value(key).as_slice())?;
                }
                Ok(())
            });
            write.await.expect("there is room");
        }
        disk.crash(disk.moment(), Loss::All)
    })
}

fn open_after_crash() {
    println!("opening after a crash");
    for events in [1000, 10_000, 50_000] {
        let disk = crashed_disk(events);
        simulate(async move |handle| {
            let start = now();
            let storage = Storage::open(&handle, Box::new(disk), &options()).await.expect("a crashed disk");
            let (elapsed, statistics) = (start.elapsed(), storage.statistics());
            let length = statistics.length >> 20;
            println!("  {events:>6} values, {length:>3} MiB {elapsed:>12.1?}, {} reads", statistics.reads);
        });
    }
}

/// How much memory storage takes, with the options of an image of 32 MiB, for a database many times as large.
fn memory() {
    println!("memory, options for an image of 32 MiB");
    let disk = touched_disk(256 << 20);
    let before = counting::reset();
    simulate({
        let disk = disk.clone();
        async move |handle| {
            let storage = Storage::open(&handle, Box::new(disk), &options()).await.expect("a blank disk");
            for batch in 0..50u64 {
                let write = storage.write::<(), redb::Error>(move |transaction| {
                    let mut table = transaction.open_table(TABLE)?;
                    for key in batch * 1000..(batch + 1) * 1000 {
                        table.insert(key.wrapping_mul(0x9E37_79B9_7F4A_7C15), value(key).as_slice())?;
                    }
                    Ok(())
                });
                write.await.expect("there is room");
            }
            let statistics = storage.statistics();
            println!(
                "  50,000 values in transactions of 1 MiB: {} MiB of file, {} stalls",
                statistics.length >> 20,
                statistics.stalls
            );
        }
    });
    println!("    most memory          {:>10} KiB", (counting::peak() - before) >> 10);
    let before = counting::reset();
    simulate(async move |handle| {
        let storage = Storage::open(&handle, Box::new(disk), &options()).await.expect("its own disk");
        let count = storage.read(|transaction| {
            transaction.open_table(TABLE).expect("it is there").iter().expect("readable").count()
        });
        println!("  opened again without having been closed, {} values read", count.expect("readable"));
    });
    println!("    most memory          {:>10} KiB", (counting::peak() - before) >> 10);
}

fn read_misses() {
    const READS: u64 = 20_000;
    let disk = crashed_disk(10_000);
    simulate(async move |handle| {
        println!("reading 10,000 values");
        for cache_bytes in [0, 1 << 20, 64 << 20] {
            let options = StorageOptions { cache_bytes, ..options() };
            let storage =
                Storage::open(&handle, Box::new(disk.clone()), &options).await.expect("its own disk");
            let before = storage.statistics().reads;
            let start = now();
            for read in 0..READS {
                let key = (read.wrapping_mul(7919) % 10_000).wrapping_mul(0x9E37_79B9_7F4A_7C15);
                let found = storage.read(|transaction| {
                    let table = transaction.open_table(TABLE).expect("it is there");
                    table.get(key).expect("readable").is_some()
                });
                assert!(found.expect("readable"), "value {read}");
            }
            let at_random = start.elapsed() / READS as u32;
            let random_reads = storage.statistics().reads - before;
            let start = now();
            let count = storage.read(|transaction| {
                transaction.open_table(TABLE).expect("it is there").iter().expect("readable").count()
            });
            let scan = start.elapsed();
            let scan_reads = storage.statistics().reads - before - random_reads;
            assert_eq!(count, Ok(10_000));
            println!(
                "  cache {:>5} KiB: at random {at_random:>8.1?} each, {:.2} device reads; in order {scan:>8.1?}, {scan_reads} device reads",
                cache_bytes >> 10,
                random_reads as f64 / READS as f64
            );
            storage.close().await.expect("the disk works");
        }
    });
}
