//! The least that must move while one side waits for the other.

use core::time::Duration;

use super::Limits;
use crate::device::Instant;

/// Measures the time spent waiting for a peer against the bytes that it moved. Time in which nobody waited for the peer
/// (a handler at work) does not count against it.
pub(super) struct Progress {
    window: Duration,
    least: u64,
    /// Waited in the running window, not counting since `waiting_since`.
    waited: Duration,
    waiting_since: Option<Instant>,
    /// Bytes moved in the running window.
    moved: u64,
}

impl Progress {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            window: limits.progress_time,
            least: limits.progress_bytes,
            waited: Duration::ZERO,
            waiting_since: None,
            moved: 0,
        }
    }

    /// The peer is being waited for from now on, or still.
    pub(super) fn wait(&mut self, now: Instant) {
        self.waiting_since.get_or_insert(now);
    }

    /// The peer moved `bytes`. It may have to be waited for again.
    pub(super) fn advance(&mut self, bytes: usize, now: impl FnOnce() -> Instant) {
        if let Some(since) = self.waiting_since.take() {
            self.waited += now().since(since);
        }
        self.moved += bytes as u64;
        if self.moved >= self.least {
            (self.moved, self.waited) = (0, Duration::ZERO);
        }
    }

    /// When the peer will have been too slow, while it is waited for.
    pub(super) fn deadline(&self) -> Option<Instant> {
        Some(self.waiting_since? + self.window.saturating_sub(self.waited))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::START + Duration::from_secs(seconds)
    }

    fn progress() -> Progress {
        let (progress_time, progress_bytes) = (Duration::from_secs(10), 100);
        Progress::new(&Limits { progress_time, progress_bytes, ..Limits::default() })
    }

    #[test]
    fn drops_of_bytes_do_not_buy_time() {
        let mut progress = progress();
        for second in 0..9 {
            progress.wait(at(second));
            assert_eq!(progress.deadline(), Some(at(10)));
            progress.advance(1, || at(second + 1));
        }
        progress.wait(at(9));
        progress.advance(91, || at(9));
        assert_eq!(progress.deadline(), None);
        progress.wait(at(9));
        assert_eq!(progress.deadline(), Some(at(19)));
    }

    #[test]
    fn time_in_which_nobody_waited_is_free() {
        let mut progress = progress();
        progress.wait(at(0));
        progress.advance(1, || at(4));
        progress.wait(at(1_000));
        assert_eq!(progress.deadline(), Some(at(1_006)));
    }
}
