//! What a storage has done, in numbers.

use core::time::Duration;

/// Upper bounds of the buckets of [`Statistics::flush_latency`]: from a cache in memory to a disk that is dying.
pub const FLUSH_LATENCY_BOUNDS: [Duration; 10] = [
    Duration::from_micros(50),
    Duration::from_micros(200),
    Duration::from_millis(1),
    Duration::from_millis(2),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(2),
];

/// Counts since the storage was opened, and what is so now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Groups of changes committed, each in one transaction.
    pub groups: u64,
    /// Changes in them.
    pub changes: u64,
    /// Flushes that the device completed.
    pub flushes: u64,
    /// Bytes submitted to the device for writing.
    pub bytes_written: u64,
    /// Requests to read, each of which held up the image: the database's cache had missed.
    pub reads: u64,
    /// Times that the image was held up because the database had written more than may be kept in memory.
    pub stalls: u64,
    /// Times that the database was opened again because it had run into the end of the device or an error.
    pub recoveries: u64,
    /// Bytes that the database has written and the device has not flushed.
    pub pending_bytes: u64,
    /// Length of the database file, in bytes.
    pub length: u64,
    /// Flushes by their latency: of bucket `i`, those within [`FLUSH_LATENCY_BOUNDS`]`[i]` and not within the bound
    /// before; the last bucket counts the slower ones.
    pub flush_latency: [u64; FLUSH_LATENCY_BOUNDS.len() + 1],
    /// Sum of the latencies of all flushes.
    pub flush_latency_sum: Duration,
}

impl Statistics {
    pub(super) fn flushed(&mut self, latency: Duration) {
        let bucket = FLUSH_LATENCY_BOUNDS.partition_point(|&bound| bound < latency);
        self.flush_latency[bucket] += 1;
        self.flush_latency_sum += latency;
        self.flushes += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_falls_into_the_bucket_of_its_bound() {
        let mut statistics = Statistics::default();
        for latency in [0, 50, 51, 3_000_000] {
            statistics.flushed(Duration::from_micros(latency));
        }
        assert_eq!(statistics.flush_latency, [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!((statistics.flushes, statistics.flush_latency_sum), (4, Duration::from_micros(3_000_101)));
    }
}
