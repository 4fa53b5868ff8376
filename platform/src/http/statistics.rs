//! What the server counts, for metrics and the log.

use core::cell::Cell;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Count(Cell<u64>);

impl Count {
    /// The number.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.get()
    }

    pub(super) fn increment(&self) {
        self.0.set(self.0.get() + 1);
    }
}

/// Counts of a server since it started.
#[derive(Debug, Default)]
pub struct Statistics {
    /// Connections open now.
    pub connections: Cell<u64>,
    /// Connections accepted.
    pub accepted: Count,
    /// Connections closed at once, because there were too many.
    pub refused: Count,
    /// Requests handled.
    pub requests: Count,
    /// Responses by the first digit of their status, from 1xx to 5xx.
    pub responses: [Count; 5],
    /// Handlers that panicked. Their requests were answered with 500.
    pub panics: Count,
    /// Connections ended because a request's head did not come in time.
    pub slow_heads: Count,
    /// Connections ended because the peer did not take a response in time.
    pub slow_readers: Count,
    /// Connections closed because no request came.
    pub idle: Count,
    /// Connections ended by an error of the peer: bad framing, a reset, a TLS failure.
    pub broken: Count,
}

impl Statistics {
    pub(super) fn response(&self, status: http::StatusCode) {
        let class = usize::from(status.as_u16() / 100).wrapping_sub(1);
        if let Some(count) = self.responses.get(class) {
            count.increment();
        }
    }
}
