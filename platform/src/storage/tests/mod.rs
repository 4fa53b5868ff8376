//! Storage on simulated disks: with crashes, faults, full and foreign.

mod basic;
mod crash;
mod faults;
mod full;
mod model;
mod recognition;

use core::future::Future;
use core::time::Duration;
use std::rc::Rc;

use redb::{ReadableTable, TableDefinition};

use super::*;
use crate::device::{ManualClock, MemoryDisk};
use crate::executor::Executor;
use crate::host::SimulatedHost;

/// The table that tests write to.
const TABLE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("table");

/// Runs a test under a virtual clock.
fn simulate<T: 'static, F: Future<Output = T> + 'static>(main: impl FnOnce(Handle) -> F) -> T {
    let clock = Rc::new(ManualClock::new(Duration::ZERO));
    let host = SimulatedHost::new(Rc::clone(&clock));
    let executor = Executor::new(clock);
    let main = main(executor.handle());
    executor.run(&host, main).expect("the test does not panic")
}

/// How many seeds a randomised test runs: `SKERRY_SEEDS`, or a few.
fn seeds(few: u64) -> u64 {
    std::env::var("SKERRY_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(few)
}

/// A sequence of numbers that a seed determines.
struct Random(u64);

impl Random {
    /// A number below `bound`.
    fn below(&mut self, bound: u64) -> u64 {
        // A linear congruential generator; its upper bits are good enough to vary a test.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

fn options() -> StorageOptions {
    StorageOptions::new("test", 8 << 20)
}

fn put(storage: &Storage, key: u64, value: &[u8]) -> Write<(), redb::Error> {
    let value = value.to_vec();
    storage.write(move |transaction| {
        transaction.open_table(TABLE)?.insert(key, value.as_slice())?;
        Ok(())
    })
}

fn get(storage: &Storage, key: u64) -> Option<Vec<u8>> {
    let found = storage.read(|transaction| {
        let Ok(table) = transaction.open_table(TABLE) else { return None };
        table.get(key).expect("the table is readable").map(|value| value.value().to_vec())
    });
    found.expect("the storage is readable")
}

fn all(storage: &Storage) -> std::collections::BTreeMap<u64, Vec<u8>> {
    let found = storage.read(|transaction| {
        let Ok(table) = transaction.open_table(TABLE) else { return Default::default() };
        let entries = table.iter().expect("the table is readable");
        entries
            .map(|entry| entry.expect("the entry is readable"))
            .map(|(key, value)| (key.value(), value.value().to_vec()))
            .collect()
    });
    found.expect("the storage is readable")
}
