//! A hierarchical timer wheel: setting, cancelling and firing a timer cost the same with ten timers or a million.
//!
//! Reading: Varghese and Lauck, "Hashed and Hierarchical Timing Wheels" (1987), scheme 6.

use slab::Slab;

use crate::device::Instant;

/// A tick is 2^20 ns, a little over a millisecond.
const TICK_SHIFT: u32 = 20;
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
/// Seven levels of 64 slots reach 2^42 ticks: over a hundred years.
const LEVELS: usize = 7;
/// The list after those of the levels: timers that were due when they were set.
const DUE: usize = LEVELS * SLOTS;
const NONE: u32 = u32::MAX;

/// Names a timer while it is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimerKey {
    index: u32,
    serial: u64,
}

struct Entry<T> {
    value: T,
    tick: u64,
    serial: u64,
    list: u32,
    previous: u32,
    next: u32,
}

/// Timers that each carry a `T`. Never early; at most two ticks late.
pub struct TimerWheel<T> {
    entries: Slab<Entry<T>>,
    heads: Box<[u32; DUE + 1]>,
    /// For each level, a bit for each slot that has timers.
    occupied: [u64; LEVELS],
    /// All timers up to this tick have fired.
    elapsed: u64,
    serial: u64,
}

impl<T> TimerWheel<T> {
    /// A wheel without timers that starts at `now`.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            entries: Slab::new(),
            heads: Box::new([NONE; DUE + 1]),
            occupied: [0; LEVELS],
            elapsed: now.as_nanos() >> TICK_SHIFT,
            serial: 0,
        }
    }

    /// How many timers are set.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no timer is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Sets a timer.
    ///
    /// # Panics
    /// With 2^32 timers set.
    pub fn insert(&mut self, deadline: Instant, value: T) -> TimerKey {
        let tick = deadline.as_nanos().div_ceil(1 << TICK_SHIFT);
        self.serial += 1;
        let entry = Entry { value, tick, serial: self.serial, list: 0, previous: NONE, next: NONE };
        let index = u32::try_from(self.entries.insert(entry)).expect("fewer than 2^32 timers");
        self.link(index);
        TimerKey { index, serial: self.serial }
    }

    /// Cancels a timer and returns what it carried, unless it has fired.
    pub fn remove(&mut self, key: TimerKey) -> Option<T> {
        self.get_mut(key)?;
        self.unlink(key.index);
        Some(self.entries.remove(key.index as usize).value)
    }

    /// What a timer carries, unless it has fired.
    pub fn get_mut(&mut self, key: TimerKey) -> Option<&mut T> {
        let entry = self.entries.get_mut(key.index as usize).filter(|entry| entry.serial == key.serial)?;
        Some(&mut entry.value)
    }

    /// A time at or before the earliest deadline, for the idle point to sleep until; `None` without timers. For a timer
    /// far ahead it may be early, at most once for each level.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.heads[DUE] != NONE {
            return Some(Instant::from_nanos(self.elapsed << TICK_SHIFT));
        }
        let (_, _, tick) = self.next_slot()?;
        Some(Instant::from_nanos(tick.saturating_mul(1 << TICK_SHIFT)))
    }

    /// Fires every timer whose deadline is at or before `now`, in the order of their ticks.
    pub fn expire(&mut self, now: Instant, mut fire: impl FnMut(T)) {
        self.fire_list(DUE, &mut fire);
        let target = now.as_nanos() >> TICK_SHIFT;
        while let Some((level, slot, tick)) = self.next_slot() {
            if tick > target {
                break;
            }
            self.elapsed = tick;
            let list = level * SLOTS + slot;
            if level == 0 {
                self.fire_list(list, &mut fire);
            } else {
                self.cascade(list);
                self.fire_list(DUE, &mut fire);
            }
        }
        self.elapsed = self.elapsed.max(target);
    }

    /// The first slot with timers after `elapsed`: its level, number and first tick. Timers on a level lie before those
    /// on the levels above.
    fn next_slot(&self) -> Option<(usize, usize, u64)> {
        let level = self.occupied.iter().position(|slots| *slots != 0)?;
        let shift = SLOT_BITS * u32::try_from(level).ok()?;
        let current = (self.elapsed >> shift) & (SLOTS as u64 - 1);
        let ahead = self.occupied[level].rotate_right(u32::try_from(current).ok()?).trailing_zeros();
        let slot = (current + u64::from(ahead)) & (SLOTS as u64 - 1);
        let lap = (self.elapsed >> shift >> SLOT_BITS) + u64::from(slot < current);
        Some((level, usize::try_from(slot).ok()?, ((lap << SLOT_BITS) | slot) << shift))
    }

    fn list_for(&self, tick: u64) -> usize {
        if tick <= self.elapsed {
            return DUE;
        }
        let highest = 63 - ((self.elapsed ^ tick) | (SLOTS as u64 - 1)).leading_zeros();
        let level = ((highest / SLOT_BITS) as usize).min(LEVELS - 1);
        let slot = (tick >> (SLOT_BITS as usize * level)) as usize & (SLOTS - 1);
        level * SLOTS + slot
    }

    fn link(&mut self, index: u32) {
        let list = self.list_for(self.entries[index as usize].tick);
        let head = self.heads[list];
        let entry = &mut self.entries[index as usize];
        (entry.list, entry.previous, entry.next) = (list as u32, NONE, head);
        if head != NONE {
            self.entries[head as usize].previous = index;
        }
        self.heads[list] = index;
        if list < DUE {
            self.occupied[list / SLOTS] |= 1 << (list % SLOTS);
        }
    }

    fn unlink(&mut self, index: u32) {
        let Entry { list, previous, next, .. } = self.entries[index as usize];
        if next != NONE {
            self.entries[next as usize].previous = previous;
        }
        if previous != NONE {
            self.entries[previous as usize].next = next;
            return;
        }
        let list = list as usize;
        self.heads[list] = next;
        if next == NONE && list < DUE {
            self.occupied[list / SLOTS] &= !(1 << (list % SLOTS));
        }
    }

    fn take_list(&mut self, list: usize) -> u32 {
        if list < DUE {
            self.occupied[list / SLOTS] &= !(1 << (list % SLOTS));
        }
        core::mem::replace(&mut self.heads[list], NONE)
    }

    /// Moves a slot's timers to the levels below, now that `elapsed` has reached it.
    fn cascade(&mut self, list: usize) {
        let mut index = self.take_list(list);
        while index != NONE {
            let next = self.entries[index as usize].next;
            self.link(index);
            index = next;
        }
    }

    fn fire_list(&mut self, list: usize, fire: &mut impl FnMut(T)) {
        // Lists are last in, first out; timers of one tick fire in the order they were set.
        let mut last = self.take_list(list);
        while last != NONE && self.entries[last as usize].next != NONE {
            last = self.entries[last as usize].next;
        }
        while last != NONE {
            let entry = self.entries.remove(last as usize);
            last = entry.previous;
            fire(entry.value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;
    use proptest::prelude::*;

    fn at(ms: u64) -> Instant {
        Instant::START + Duration::from_millis(ms)
    }

    #[test]
    fn fires_in_order_and_never_early() {
        let mut wheel = TimerWheel::new(at(5));
        for deadline in [900_000, 20, 70, 4_000, 20] {
            wheel.insert(at(deadline), deadline);
        }
        let mut fired = Vec::new();
        while let Some(next) = wheel.next_deadline() {
            wheel.expire(next, |deadline| {
                assert!(next >= at(deadline), "{deadline} fired at {next:?}");
                fired.push(deadline);
            });
        }
        assert_eq!(fired, [20, 20, 70, 4_000, 900_000]);
    }

    #[test]
    fn a_timer_set_for_the_past_is_due_at_once() {
        let mut wheel = TimerWheel::new(at(1_000));
        wheel.insert(at(3), "late");
        assert!(wheel.next_deadline().is_some_and(|next| next <= at(1_000)));
        let mut fired = 0;
        wheel.expire(at(1_000), |_| fired += 1);
        assert_eq!(fired, 1);
    }

    proptest! {
        /// Against a sorted list: each timer fires once, in its window, unless it was cancelled.
        #[test]
        fn agrees_with_a_sorted_list(
            steps in proptest::collection::vec((0u64..200_000, 0u64..3_000, any::<bool>()), 1..200),
        ) {
            let mut wheel = TimerWheel::new(Instant::START);
            let mut model = std::collections::BTreeMap::new();
            let mut now = 0;
            for (number, (delay, step, cancel)) in steps.into_iter().enumerate() {
                let key = wheel.insert(at(now + delay), number);
                if cancel {
                    prop_assert_eq!(wheel.remove(key), Some(number));
                    prop_assert_eq!(wheel.remove(key), None);
                } else {
                    model.insert(number, now + delay);
                }
                now += step;
                let mut fired = Vec::new();
                wheel.expire(at(now), |number| fired.push(number));
                for number in fired {
                    let deadline = model.remove(&number);
                    prop_assert!(deadline.is_some_and(|deadline| deadline <= now), "{number} early or twice");
                }
                prop_assert!(model.values().all(|deadline| deadline + 3 > now), "a timer is overdue");
                prop_assert_eq!(wheel.len(), model.len());
                let earliest = model.values().min();
                let next = wheel.next_deadline();
                prop_assert_eq!(next.is_some(), earliest.is_some());
                prop_assert!(next.zip(earliest).is_none_or(|(next, earliest)| next <= at(earliest + 2)));
            }
        }
    }
}
