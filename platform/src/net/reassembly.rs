//! Fragments put together, for IPv4 and IPv6 by one set of rules.
//!
//! Reading: RFC 791 (3.2), RFC 815, RFC 1122 (3.3.2), RFC 8200 (4.5), RFC 5722 (overlaps), RFC 1858 and RFC 3128 (attacks).
//!
//! A datagram any of whose fragments overlap is dropped whole, together with what still comes of it; only an exact
//! copy of a fragment is a duplicate and ignored. Memory is counted by the buffers that fragments hold, not by their bytes: a
//! thousand tiny fragments are a thousand buffers.

use core::time::Duration;
use std::collections::VecDeque;
use std::net::IpAddr;

use super::ipv4::Fragment;
use crate::device::{Frame, FramePool, Instant};

/// Limits of reassembly.
#[derive(Clone, Copy, Debug)]
pub struct ReassemblyLimits {
    /// Bytes of buffers that incomplete datagrams may hold.
    pub bytes: usize,
    /// Incomplete datagrams.
    pub datagrams: usize,
    /// Of these, from one source.
    pub datagrams_per_source: usize,
    /// How long a datagram may take to become whole.
    pub timeout: Duration,
}

impl Default for ReassemblyLimits {
    /// 1 MiB, 64 datagrams, 8 from a source (a few large answers at a time); 30 s as most hosts have it, less than
    /// RFC 1122's 60 s: on today's networks the rest comes within milliseconds or never.
    fn default() -> Self {
        Self { bytes: 1024 * 1024, datagrams: 64, datagrams_per_source: 8, timeout: Duration::from_secs(30) }
    }
}

/// Fragments of a datagram, at most: one of 65,535 bytes takes 45 on Ethernet and 55 at IPv6's minimum MTU.
const MAX_FRAGMENTS: usize = 64;
/// Longest payload of a datagram.
const MAX_PAYLOAD: usize = 65_535;

/// Names a datagram (RFC 791, 3.2; RFC 8200, 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub identification: u32,
    /// IPv4's Protocol; 0 for IPv6, where it does not count.
    pub protocol: u8,
}

/// A fragment: its packet, whose payload starts at `payload_at`, and what its headers say.
pub(super) struct Piece {
    pub frame: Frame,
    pub payload_at: usize,
    pub fragment: Fragment,
}

/// A datagram that has become whole: the first fragment as it came, with the whole payload behind its headers. Its
/// headers still speak of the fragment.
pub(super) struct Whole {
    pub frame: Frame,
    /// Where the payload starts: where it started in the first fragment.
    pub payload_at: usize,
}

/// What came of a fragment.
pub(super) enum Progress {
    Waiting,
    Whole(Whole),
    /// It was dropped, and with it what was there of its datagram.
    Failed,
}

struct Datagram {
    key: Key,
    deadline: Instant,
    /// In the order of their offsets, without overlap.
    pieces: Vec<Piece>,
    /// Length of the payload, once the last fragment has come.
    total: Option<usize>,
    /// Whether fragments overlapped: whatever comes is dropped until the deadline.
    poisoned: bool,
}

/// Datagrams in the making.
pub(super) struct Reassembly {
    limits: ReassemblyLimits,
    /// In the order of their deadlines, as all have the same time.
    datagrams: VecDeque<Datagram>,
    bytes: usize,
}

impl Reassembly {
    pub(super) fn new(limits: ReassemblyLimits) -> Self {
        Self { limits, datagrams: VecDeque::new(), bytes: 0 }
    }

    /// Bytes of buffers held.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes a fragment.
    pub(super) fn receive(&mut self, now: Instant, key: Key, piece: Piece, pool: &FramePool) -> Progress {
        let length = piece.frame.len() - piece.payload_at;
        let end = piece.fragment.offset + length;
        // Only the last may end off a boundary of 8, and none may be empty or go past the longest datagram.
        let aligned = !piece.fragment.more || length.is_multiple_of(8);
        if length == 0 || !aligned || piece.payload_at + end > MAX_PAYLOAD {
            return Progress::Failed;
        }
        let index = match self.datagrams.iter().position(|datagram| datagram.key == key) {
            Some(index) => index,
            None => {
                self.make_room(key.source);
                let deadline = now + self.limits.timeout;
                let datagram = Datagram { key, deadline, pieces: Vec::new(), total: None, poisoned: false };
                self.datagrams.push_back(datagram);
                self.datagrams.len() - 1
            }
        };
        let held = piece.frame.buffer().len();
        match self.datagrams[index].insert(piece) {
            Insertion::Duplicate => return Progress::Waiting,
            Insertion::Conflict => {
                self.poison(index);
                return Progress::Failed;
            }
            Insertion::Done => self.bytes += held,
        }
        if self.datagrams[index].is_whole() {
            let Some(datagram) = self.datagrams.remove(index) else { return Progress::Failed };
            self.bytes -= datagram.held();
            return datagram.assemble(pool).map_or(Progress::Failed, Progress::Whole);
        }
        while self.bytes > self.limits.bytes && self.drop_front().is_some() {}
        Progress::Waiting
    }

    /// Drops what has not become whole in time. Returns the first fragment of the next such datagram, if it had come, for
    /// a Time Exceeded to its sender; `None` when there is no more to drop.
    pub(super) fn expire(&mut self, now: Instant) -> Option<Option<Piece>> {
        if self.datagrams.front()?.deadline > now {
            return None;
        }
        let datagram = self.drop_front()?;
        Some(datagram.pieces.into_iter().next().filter(|piece| piece.fragment.offset == 0))
    }

    /// When [`Reassembly::expire`] next has something to do.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.datagrams.front().map(|datagram| datagram.deadline)
    }

    fn make_room(&mut self, source: IpAddr) {
        let from_source = |datagram: &Datagram| datagram.key.source == source;
        if self.datagrams.iter().filter(|datagram| from_source(datagram)).count()
            >= self.limits.datagrams_per_source
            && let Some(index) = self.datagrams.iter().position(from_source)
            && let Some(datagram) = self.datagrams.remove(index)
        {
            self.bytes -= datagram.held();
        }
        if self.datagrams.len() >= self.limits.datagrams {
            self.drop_front();
        }
    }

    fn drop_front(&mut self) -> Option<Datagram> {
        let datagram = self.datagrams.pop_front()?;
        self.bytes -= datagram.held();
        Some(datagram)
    }

    fn poison(&mut self, index: usize) {
        let datagram = &mut self.datagrams[index];
        self.bytes -= datagram.held();
        datagram.pieces.clear();
        datagram.poisoned = true;
    }
}

enum Insertion {
    Done,
    Duplicate,
    Conflict,
}

impl Piece {
    fn payload(&self) -> &[u8] {
        &self.frame.bytes()[self.payload_at..]
    }

    fn end(&self) -> usize {
        self.fragment.offset + self.payload().len()
    }
}

impl Datagram {
    fn held(&self) -> usize {
        self.pieces.iter().map(|piece| piece.frame.buffer().len()).sum()
    }

    fn insert(&mut self, piece: Piece) -> Insertion {
        if self.poisoned {
            return Insertion::Conflict;
        }
        let (start, end) = (piece.fragment.offset, piece.end());
        let at = self.pieces.partition_point(|known| known.fragment.offset < start);
        if let Some(known) = self.pieces.get(at)
            && known.fragment == piece.fragment
            && known.payload() == piece.payload()
        {
            return Insertion::Duplicate;
        }
        let before = at.checked_sub(1).and_then(|index| self.pieces.get(index)).map_or(0, Piece::end);
        let after = self.pieces.get(at).map_or(usize::MAX, |next| next.fragment.offset);
        let last = self.pieces.last().map_or(0, Piece::end);
        let beyond = self.total.is_some_and(|total| end > total || !piece.fragment.more);
        let cut = !piece.fragment.more && last > end;
        if before > start || end > after || beyond || cut || self.pieces.len() >= MAX_FRAGMENTS {
            return Insertion::Conflict;
        }
        if !piece.fragment.more {
            self.total = Some(end);
        }
        self.pieces.insert(at, piece);
        Insertion::Done
    }

    fn is_whole(&self) -> bool {
        let sum: usize = self.pieces.iter().map(|piece| piece.payload().len()).sum();
        self.total == Some(sum)
    }

    fn assemble(self, pool: &FramePool) -> Option<Whole> {
        let total = self.total?;
        let first = self.pieces.first()?;
        let payload_at = first.payload_at;
        if payload_at + total > MAX_PAYLOAD {
            return None;
        }
        let mut frame = pool.frame(payload_at + total);
        frame.append(payload_at).copy_from_slice(&first.frame.bytes()[..payload_at]);
        for piece in &self.pieces {
            frame.append(piece.payload().len()).copy_from_slice(piece.payload());
        }
        Some(Whole { frame, payload_at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEADERS: usize = 20;

    fn key(number: u32) -> Key {
        let source = IpAddr::V4(std::net::Ipv4Addr::from_bits(number >> 8));
        Key { source, destination: source, identification: number & 0xff, protocol: 17 }
    }

    fn piece(pool: &FramePool, offset: usize, payload: &[u8], more: bool) -> Piece {
        let mut frame = pool.copy_of(&[0x45; HEADERS]);
        frame.append(payload.len()).copy_from_slice(payload);
        Piece { frame, payload_at: HEADERS, fragment: Fragment { identification: 0, offset, more } }
    }

    fn cut(pool: &FramePool, datagram: &[u8], size: usize) -> Vec<Piece> {
        let count = datagram.len().div_ceil(size);
        datagram
            .chunks(size)
            .enumerate()
            .map(|(index, chunk)| piece(pool, index * size, chunk, index + 1 < count))
            .collect()
    }

    proptest! {
        #[test]
        fn any_order_and_duplication_gives_the_datagram(
            datagram in proptest::collection::vec(any::<u8>(), 17..4000),
            units in 10_usize..100,
            order in proptest::collection::vec(any::<usize>(), 0..40),
        ) {
            let pool = FramePool::default();
            let mut reassembly = Reassembly::new(ReassemblyLimits::default());
            let mut pieces = cut(&pool, &datagram, units * 8);
            prop_assume!(pieces.len() > 1 && pieces.len() <= MAX_FRAGMENTS);
            for index in order {
                let length = pieces.len();
                pieces.swap(0, index % length);
                let copy = &pieces[0];
                let copy = piece(&pool, copy.fragment.offset, copy.payload(), copy.fragment.more);
                pieces.push(copy);
                pieces.swap(length, index % length);
            }
            let mut whole = None;
            for piece in pieces {
                match reassembly.receive(Instant::START, key(1), piece, &pool) {
                    Progress::Whole(done) => {
                        whole = Some(done);
                        break;
                    }
                    Progress::Waiting => {}
                    Progress::Failed => prop_assert!(false, "an honest datagram failed"),
                }
            }
            let whole = whole.expect("whole");
            prop_assert_eq!(&whole.frame.bytes()[whole.payload_at..], &datagram[..]);
            prop_assert_eq!(reassembly.bytes(), 0);
        }

        #[test]
        fn hostile_fragments_hold_bounded_memory(
            fragments in proptest::collection::vec((0_u32..2000, 0_usize..8200, 0_usize..200, any::<bool>()), 0..600),
        ) {
            let pool = FramePool::default();
            let limits = ReassemblyLimits { bytes: 100_000, ..ReassemblyLimits::default() };
            let mut reassembly = Reassembly::new(limits);
            for (number, offset, length, more) in fragments {
                let payload = vec![u8::try_from(number & 0xff).unwrap(); length];
                reassembly.receive(Instant::START, key(number), piece(&pool, offset * 8, &payload, more), &pool);
                prop_assert!(reassembly.bytes() <= limits.bytes);
                prop_assert!(reassembly.datagrams.len() <= limits.datagrams);
                let held: usize = reassembly.datagrams.iter().map(Datagram::held).sum();
                prop_assert_eq!(held, reassembly.bytes());
            }
            while reassembly.expire(Instant::START + limits.timeout).is_some() {}
            prop_assert_eq!(reassembly.bytes(), 0);
        }
    }

    #[test]
    fn an_overlap_drops_the_datagram_and_what_follows() {
        let pool = FramePool::default();
        let mut reassembly = Reassembly::new(ReassemblyLimits::default());
        let mut receive = |offset, payload: &[u8], more| {
            reassembly.receive(Instant::START, key(1), piece(&pool, offset, payload, more), &pool)
        };
        assert!(matches!(receive(0, &[1; 16], true), Progress::Waiting));
        assert!(matches!(receive(8, &[2; 16], true), Progress::Failed));
        assert!(matches!(receive(16, &[3; 4], false), Progress::Failed));
        assert!(matches!(receive(0, &[1; 16], true), Progress::Failed));
    }

    #[test]
    fn a_second_end_or_bytes_past_the_end_are_an_overlap() {
        for (offset, length, more) in [(24, 4, false), (24, 8, true), (0, 8, false)] {
            let pool = FramePool::default();
            let mut reassembly = Reassembly::new(ReassemblyLimits::default());
            let last = piece(&pool, 16, &[3; 4], false);
            assert!(matches!(reassembly.receive(Instant::START, key(1), last, &pool), Progress::Waiting));
            let other = piece(&pool, offset, &vec![0; length], more);
            assert!(matches!(reassembly.receive(Instant::START, key(1), other, &pool), Progress::Failed));
        }
    }

    #[test]
    fn a_datagram_that_stays_incomplete_is_dropped_in_time() {
        let pool = FramePool::default();
        let mut reassembly = Reassembly::new(ReassemblyLimits::default());
        reassembly.receive(Instant::START, key(1), piece(&pool, 0, &[1; 16], true), &pool);
        reassembly.receive(Instant::START, key(2), piece(&pool, 8, &[1; 16], true), &pool);
        let deadline = reassembly.next_deadline().unwrap();
        assert_eq!(deadline, Instant::START + Duration::from_secs(30));
        assert!(reassembly.expire(Instant::from_nanos(1)).is_none());
        assert!(matches!(reassembly.expire(deadline), Some(Some(_))), "the first had its first fragment");
        assert!(matches!(reassembly.expire(deadline), Some(None)), "the second had not");
        assert!(reassembly.expire(deadline).is_none());
    }
}
