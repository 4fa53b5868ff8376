//! Time: a monotonic clock for deadlines and a wall clock for dates.

use core::cell::Cell;
use core::fmt;
use core::ops::{Add, AddAssign, Sub};
use core::time::Duration;

/// A point on the monotonic clock: nanoseconds since the image started.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(u64);

impl Instant {
    /// The moment the image started.
    pub const START: Self = Self(0);

    /// The instant `nanos` nanoseconds after start.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the image started.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Time since `earlier`, zero if that lies ahead.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl Sub for Instant {
    type Output = Duration;
    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}s", self.0 / 1_000_000_000, self.0 % 1_000_000_000)
    }
}

/// A date: time since 1970-01-01T00:00:00Z, without leap seconds (POSIX time).
pub type WallTime = Duration;

/// Monotonic and wall-clock time. Reading either costs no system call.
pub trait Clock {
    /// Now on the monotonic clock. Never goes back.
    fn now(&self) -> Instant;

    /// Now on the wall clock, as disciplined by [`Clock::set_wall`].
    fn wall(&self) -> WallTime;

    /// Sets the wall clock (from SNTP); the monotonic clock is not touched.
    fn set_wall(&self, now: WallTime);
}

/// A clock that moves only when told to: the clock of simulations and unit tests.
#[derive(Debug, Default)]
pub struct ManualClock {
    now: Cell<Instant>,
    wall_at_start: Cell<WallTime>,
}

impl ManualClock {
    /// A clock that stands at [`Instant::START`], which is `wall_at_start` on the wall.
    #[must_use]
    pub fn new(wall_at_start: WallTime) -> Self {
        Self { now: Cell::new(Instant::START), wall_at_start: Cell::new(wall_at_start) }
    }

    /// Moves the clock on to `instant`; does nothing if that is past.
    pub fn advance_to(&self, instant: Instant) {
        self.now.set(self.now.get().max(instant));
    }

    /// Moves the clock on by `duration`.
    pub fn advance(&self, duration: Duration) {
        self.now.set(self.now.get() + duration);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Instant {
        self.now.get()
    }

    fn wall(&self) -> WallTime {
        self.wall_at_start.get() + self.now.get().since(Instant::START)
    }

    fn set_wall(&self, now: WallTime) {
        self.wall_at_start.set(now.saturating_sub(self.now.get().since(Instant::START)));
    }
}
