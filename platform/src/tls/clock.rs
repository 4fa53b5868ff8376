//! The wall clock for rustls, which wants one that threads could share.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::sync::Arc;

use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;

use crate::device::Clock;

/// What the wall clock showed when a connection was last begun. A handshake has seconds, certificates and sessions count in
/// hours and days: so it is never wrong by an amount that matters.
#[derive(Debug, Default)]
pub(super) struct LastLook(AtomicU64);

impl LastLook {
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Looks at `clock`.
    pub(super) fn look(&self, clock: &dyn Clock) {
        self.0.store(clock.wall().as_secs(), Ordering::Relaxed);
    }
}

impl TimeProvider for LastLook {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0.load(Ordering::Relaxed))))
    }
}
