//! Linux's clocks, read through the vDSO: no system call where the kernel's clock source allows it.

use core::cell::Cell;
use core::time::Duration;

use crate::device::{Clock, Instant, WallTime};

/// CLOCK_MONOTONIC since start, and CLOCK_REALTIME with an offset if SNTP has set the wall clock.
pub(super) struct ProcessClock {
    start: Duration,
    /// What SNTP found the host's clock to be off by, as (behind, ahead); one of them is zero.
    correction: Cell<(Duration, Duration)>,
}

impl ProcessClock {
    pub(super) fn new() -> Self {
        Self { start: read(libc::CLOCK_MONOTONIC), correction: Cell::default() }
    }
}

impl Clock for ProcessClock {
    fn now(&self) -> Instant {
        Instant::START + read(libc::CLOCK_MONOTONIC).saturating_sub(self.start)
    }

    fn wall(&self) -> WallTime {
        let (behind, ahead) = self.correction.get();
        (read(libc::CLOCK_REALTIME) + behind).saturating_sub(ahead)
    }

    fn set_wall(&self, now: WallTime) {
        let host = read(libc::CLOCK_REALTIME);
        self.correction.set((now.saturating_sub(host), host.saturating_sub(now)));
    }
}

fn read(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid timespec to write; both clocks always exist.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_nsec).unwrap_or(0))
}
