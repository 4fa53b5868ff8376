//! Which physical memory is RAM, and which of that is free.
//!
//! Maps come from many loaders and change between their versions, so nothing is expected of them: entries may overlap,
//! repeat, stand in any order, or be of unknown kinds.

/// Bytes in a page.
pub(crate) const PAGE: u64 = 4096;

/// Most ranges that a map keeps. A PC's map has about ten entries; what is beyond the limit is memory left unused.
const LIMIT: usize = 48;

/// Addresses from `start` up to but not including `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Range {
    pub(crate) start: u64,
    pub(crate) end: u64,
}

impl Range {
    pub(crate) const EMPTY: Self = Self { start: 0, end: 0 };

    /// A range of `length` bytes, cut off at the end of the address space.
    pub(crate) fn new(start: u64, length: u64) -> Self {
        Self { start, end: start.saturating_add(length) }
    }

    pub(crate) const fn length(self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    pub(crate) const fn contains(self, address: u64) -> bool {
        self.start <= address && address < self.end
    }

    pub(crate) const fn covers(self, other: Self) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    /// The whole pages within.
    pub(crate) fn inner_pages(self) -> Self {
        let start = self.start.checked_next_multiple_of(PAGE).unwrap_or(!(PAGE - 1));
        Self { start, end: (self.end & !(PAGE - 1)).max(start) }
    }

    /// The pages that it touches.
    pub(crate) fn outer_pages(self) -> Self {
        let end = self.end.checked_next_multiple_of(PAGE).unwrap_or(!(PAGE - 1));
        Self { start: self.start & !(PAGE - 1), end }
    }

    /// Cuts `length` bytes off the front, if there are as many.
    pub(crate) fn take_front(&mut self, length: u64) -> Option<Self> {
        let taken = Self::new(self.start, length);
        self.covers(taken).then(|| {
            self.start = taken.end;
            taken
        })
    }
}

/// A set of ranges, apart from each other and in order.
#[derive(Clone, Debug)]
pub(crate) struct MemoryMap {
    ranges: [Range; LIMIT],
    count: usize,
}

impl MemoryMap {
    pub(crate) const fn new() -> Self {
        Self { ranges: [Range::EMPTY; LIMIT], count: 0 }
    }

    pub(crate) fn ranges(&self) -> &[Range] {
        &self.ranges[..self.count]
    }

    /// The largest range.
    pub(crate) fn largest(&self) -> Range {
        self.ranges().iter().copied().max_by_key(|range| range.length()).unwrap_or_default()
    }

    /// Takes `length` bytes, in whole pages, from the smallest range below `limit` that has them: the largest stays whole.
    pub(crate) fn take(&mut self, length: u64, limit: u64) -> Option<Range> {
        let fits = |range: &&Range| range.end <= limit && range.length() >= length;
        let mut range = *self.ranges().iter().filter(fits).min_by_key(|range| range.length())?;
        let taken = range.take_front(length)?;
        self.remove(taken);
        Some(taken)
    }

    /// Sum of all lengths in bytes.
    pub(crate) fn total(&self) -> u64 {
        self.ranges().iter().map(|range| range.length()).sum()
    }

    /// Adds the whole pages of `range`.
    pub(crate) fn add(&mut self, range: Range) {
        let mut range = range.inner_pages();
        if range.length() == 0 {
            return;
        }
        let mut kept = Self::new();
        for &other in self.ranges() {
            if other.end < range.start || range.end < other.start {
                kept.push(other);
            } else {
                range = Range { start: range.start.min(other.start), end: range.end.max(other.end) };
            }
        }
        kept.push(range);
        let count = kept.count;
        kept.ranges[..count].sort_unstable_by_key(|range| range.start);
        *self = kept;
    }

    /// Removes every page that `range` touches.
    pub(crate) fn remove(&mut self, range: Range) {
        let range = range.outer_pages();
        if range.length() == 0 {
            return;
        }
        let mut kept = Self::new();
        for &other in self.ranges() {
            kept.push(Range { start: other.start, end: other.end.min(range.start) });
            kept.push(Range { start: other.start.max(range.end), end: other.end });
        }
        *self = kept;
    }

    fn push(&mut self, range: Range) {
        if range.end > range.start && self.count < LIMIT {
            self.ranges[self.count] = range;
            self.count += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range(start: u64, end: u64) -> Range {
        Range { start: start * PAGE, end: end * PAGE }
    }

    #[test]
    fn overlapping_entries_become_one() {
        let mut map = MemoryMap::new();
        for (start, end) in [(8, 10), (0, 4), (3, 6), (10, 12)] {
            map.add(range(start, end));
        }
        assert_eq!(map.ranges(), [range(0, 6), range(8, 12)]);
        assert_eq!(map.total(), 10 * PAGE);
    }

    #[test]
    fn partial_pages_are_not_memory_but_are_taken_away() {
        let mut map = MemoryMap::new();
        map.add(Range { start: 1, end: 4 * PAGE + 5 });
        assert_eq!(map.ranges(), [range(1, 4)]);
        map.remove(Range { start: 2 * PAGE + 1, end: 2 * PAGE + 2 });
        assert_eq!(map.ranges(), [range(1, 2), range(3, 4)]);
    }

    #[test]
    fn takes_from_the_smallest_range_that_fits() {
        let mut map = MemoryMap::new();
        for (start, end) in [(0, 2), (10, 14), (20, 90), (100, 103)] {
            map.add(range(start, end));
        }
        assert_eq!(map.take(3 * PAGE, 99 * PAGE), Some(range(10, 13)));
        assert_eq!(map.take(3 * PAGE, u64::MAX), Some(range(100, 103)));
        assert_eq!(map.take(3 * PAGE, 99 * PAGE), Some(range(20, 23)));
        assert_eq!(map.take(99 * PAGE, u64::MAX), None);
        assert_eq!(map.ranges(), [range(0, 2), range(13, 14), range(23, 90)]);
    }

    proptest! {
        #[test]
        fn holds_exactly_what_was_added_and_not_removed(
            steps in proptest::collection::vec((any::<bool>(), 0_u64..64, 0_u64..16), 0..24),
        ) {
            let mut map = MemoryMap::new();
            let mut model = [false; 96];
            for (add, start, length) in steps {
                let change = range(start, start + length);
                if add { map.add(change) } else { map.remove(change) }
                model[start as usize..(start + length) as usize].fill(add);
            }
            for (page, &expected) in model.iter().enumerate() {
                let held = map.ranges().iter().any(|range| range.contains(page as u64 * PAGE));
                prop_assert_eq!(held, expected, "page {}", page);
            }
        }

        #[test]
        fn extreme_addresses_do_no_harm(entries: Vec<(u64, u64)>) {
            let mut map = MemoryMap::new();
            for (start, length) in entries {
                map.add(Range::new(start, length));
                map.remove(Range::new(length, start));
            }
            prop_assert!(map.ranges().iter().all(|range| range.start < range.end));
        }
    }
}
