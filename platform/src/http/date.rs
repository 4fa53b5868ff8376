//! The `Date` field (RFC 9110, 6.6.1), made once a second for all responses.

use core::cell::{Cell, RefCell};
use core::time::Duration;

use bytes::Bytes;
use http::HeaderValue;

use crate::device::WallTime;
use crate::observe::CivilTime;

/// 2020-01-01T00:00:00Z. A wall clock before this has not been set, and a server without a clock sends no `Date`.
const CLOCK_IS_SET: Duration = Duration::from_secs(1_577_836_800);

/// The `Date` of the running second.
#[derive(Default)]
pub(super) struct Date {
    second: Cell<u64>,
    value: RefCell<Option<HeaderValue>>,
}

impl Date {
    /// The field's value at `wall`, unless the clock is not set.
    pub(super) fn value(&self, wall: WallTime) -> Option<HeaderValue> {
        if wall < CLOCK_IS_SET {
            return None;
        }
        if self.second.replace(wall.as_secs()) != wall.as_secs() {
            let text = CivilTime::from_wall(wall).http_date();
            *self.value.borrow_mut() = HeaderValue::from_maybe_shared(Bytes::from(text)).ok();
        }
        self.value.borrow().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_with_the_second_and_waits_for_the_clock() {
        let date = Date::default();
        assert_eq!(date.value(Duration::from_secs(17)), None);
        let now = Duration::from_millis(1_795_448_400_900);
        assert_eq!(date.value(now).unwrap(), "Mon, 23 Nov 2026 15:40:00 GMT");
        assert_eq!(date.value(now + Duration::from_millis(99)).unwrap(), "Mon, 23 Nov 2026 15:40:00 GMT");
        assert_eq!(date.value(now + Duration::from_millis(100)).unwrap(), "Mon, 23 Nov 2026 15:40:01 GMT");
    }
}
