//! Sequence numbers: comparing them, choosing the first (RFC 6528), making smoltcp use it, and hiding a handshake in
//! it (SYN cookies, RFC 4987).

use core::cmp::Ordering;
use core::hash::{BuildHasher, Hash, Hasher};
use core::ops::{Add, Sub};

use super::demux::FlowKey;
use super::hash::HashKey;
use crate::device::{Entropy, Instant};

/// A sequence number: 32 bits that wrap (RFC 9293 3.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sequence(pub(super) u32);

impl Sequence {
    /// How far `self` lies ahead of `other`; negative when behind.
    pub(super) fn ahead_of(self, other: Self) -> i32 {
        self.0.wrapping_sub(other.0).cast_signed()
    }

    pub(super) fn max(self, other: Self) -> Self {
        if self > other { self } else { other }
    }
}

impl PartialOrd for Sequence {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.ahead_of(*other).cmp(&0))
    }
}

impl Add<usize> for Sequence {
    type Output = Self;
    fn add(self, length: usize) -> Self {
        Self(self.0.wrapping_add(length as u32))
    }
}

impl Sub<usize> for Sequence {
    type Output = Self;
    fn sub(self, length: usize) -> Self {
        Self(self.0.wrapping_sub(length as u32))
    }
}

/// Chooses initial sequence numbers.
pub(super) struct Initial {
    clock_key: HashKey,
    cookie_key: HashKey,
}

/// A cookie's period.
const PERIOD_SHIFT: u32 = 36; // 2^36 ns: 69 seconds
/// Bits of a cookie: 5 of the period's number, 3 of the MSS, 24 of the keyed hash, as in RFC 4987's appendix.
const HASH_BITS: u32 = 24;
/// The segment sizes that three bits can name: what links of today announce. The peer's is rounded down.
const COOKIE_MSS: [u16; 8] = [216, 536, 1024, 1220, 1360, 1420, 1440, 1460];

impl Initial {
    pub(super) fn new(entropy: &dyn Entropy) -> Self {
        Self { clock_key: HashKey::random(entropy), cookie_key: HashKey::random(entropy) }
    }

    /// RFC 6528 clause 3: a clock of 4 microseconds plus a keyed hash of the connection.
    pub(super) fn sequence(&self, flow: &FlowKey, now: Instant) -> Sequence {
        let ticks = (now.as_nanos() / 4000) as u32;
        Sequence(ticks.wrapping_add(self.clock_key.hash_one(flow) as u32))
    }

    /// The sequence number for a SYN-ACK of which nothing is kept.
    pub(super) fn cookie(&self, flow: &FlowKey, peer: Sequence, mss: u16, now: Instant) -> Sequence {
        let period = now.as_nanos() >> PERIOD_SHIFT;
        let size = COOKIE_MSS.iter().rposition(|size| *size <= mss).unwrap_or(0) as u64;
        Sequence(self.seal(flow, peer, period, size))
    }

    /// What a cookie says of its handshake: the peer's MSS. `None` unless it was made here for this flow and this
    /// initial sequence number of the peer, in this period or the one before.
    pub(super) fn open(&self, flow: &FlowKey, peer: Sequence, cookie: Sequence, now: Instant) -> Option<u16> {
        let current = now.as_nanos() >> PERIOD_SHIFT;
        let age = current.wrapping_sub(u64::from(cookie.0 >> (HASH_BITS + 3))) & 31;
        let period = current.checked_sub(age).filter(|_| age <= 1)?;
        let size = u64::from(cookie.0 >> HASH_BITS) & 7;
        (self.seal(flow, peer, period, size) == cookie.0).then(|| COOKIE_MSS[size as usize])
    }

    fn seal(&self, flow: &FlowKey, peer: Sequence, period: u64, size: u64) -> u32 {
        let mut hasher = self.cookie_key.build_hasher();
        flow.hash(&mut hasher);
        hasher.write_u32(peer.0);
        hasher.write_u64(period);
        hasher.write_u64(size);
        let sealed = hasher.finish() as u32 & ((1 << HASH_BITS) - 1);
        ((period as u32 & 31) << (HASH_BITS + 3)) | ((size as u32) << HASH_BITS) | sealed
    }
}

/// The seed for smoltcp's `Config::random_seed` with which the next connection of a new interface starts at `first`.
///
/// smoltcp takes the initial sequence number from its own generator, PCG (`smoltcp/src/rand.rs`), of which
/// `Interface::new` draws once for an identification field of IPv4 (again if that is zero) and the socket once more.
/// A step of that generator is a bijection, so it can be run backwards: here from a state whose output is `first`. The
/// tests fail should a version of smoltcp draw differently, and a flow checks the SYN that it sends.
pub(super) fn seed_for(first: Sequence) -> u64 {
    const MULTIPLIER: u64 = 0xbb2e_fcec_3c39_611d;
    const INCREMENT: u64 = 0x7590_ef39;
    const INVERSE: u64 = inverse(MULTIPLIER);
    let back = |state: u64| state.wrapping_sub(INCREMENT).wrapping_mul(INVERSE);
    let output = |state: u64| (state >> (29 - (state >> 61))) as u32;
    // With the top three bits set the output is bits 22 to 53; the others are free, and one of the first few values of
    // them gives a first draw that is not zero.
    let mut drawn_before = (0..64).map(|free| back((7 << 61) | (u64::from(first.0) << 22) | free));
    let drawn_before = drawn_before.find(|state| {
        let word = output(*state);
        (word ^ (word >> 16)) as u16 != 0
    });
    back(drawn_before.unwrap_or_default())
}

/// The inverse of an odd number modulo 2^64, by Newton's iteration: each step doubles the bits that are right.
const fn inverse(odd: u64) -> u64 {
    let mut inverse = odd;
    let mut step = 0;
    while step < 6 {
        inverse = inverse.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(inverse)));
        step += 1;
    }
    inverse
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::tcp::tests::SeededEntropy;
    use core::time::Duration;

    fn flow(port: u16) -> FlowKey {
        FlowKey {
            local: "192.0.2.1:80".parse().unwrap(),
            remote: core::net::SocketAddr::new("192.0.2.2".parse().unwrap(), port),
        }
    }

    fn at(seconds: u64) -> Instant {
        Instant::START + Duration::from_secs(seconds)
    }

    #[test]
    fn sequences_wrap() {
        assert!(Sequence(1) > Sequence(u32::MAX));
        assert!(Sequence(u32::MAX) < Sequence(u32::MAX) + 1);
        assert_eq!(Sequence(3).max(Sequence(u32::MAX - 3)), Sequence(3));
        assert_eq!(Sequence(2) - 3, Sequence(u32::MAX));
    }

    #[test]
    fn initial_sequences_differ_by_flow_and_grow_with_time() {
        let initial = Initial::new(&SeededEntropy::new(1));
        let first = initial.sequence(&flow(1000), at(5));
        assert_eq!(initial.sequence(&flow(1000), at(6)).ahead_of(first), 250_000);
        assert_ne!(initial.sequence(&flow(1001), at(5)), first);
        let other = Initial::new(&SeededEntropy::new(2));
        assert_ne!(other.sequence(&flow(1000), at(5)), first);
    }

    #[test]
    fn cookies_open_for_their_flow_and_time_only() {
        let initial = Initial::new(&SeededEntropy::new(1));
        let cookie = initial.cookie(&flow(1), Sequence(77), 1460, at(1000));
        assert_eq!(initial.open(&flow(1), Sequence(77), cookie, at(1000)), Some(1460));
        assert_eq!(initial.open(&flow(1), Sequence(77), cookie, at(1060)), Some(1460));
        assert_eq!(initial.open(&flow(1), Sequence(77), cookie, at(1200)), None);
        assert_eq!(initial.open(&flow(2), Sequence(77), cookie, at(1000)), None);
        assert_eq!(initial.open(&flow(1), Sequence(78), cookie, at(1000)), None);
        for bit in 0..32 {
            let forged = Sequence(cookie.0 ^ (1 << bit));
            assert_eq!(initial.open(&flow(1), Sequence(77), forged, at(1000)), None, "bit {bit}");
        }
        let small = initial.cookie(&flow(1), Sequence(77), 1400, at(0));
        assert_eq!(initial.open(&flow(1), Sequence(77), small, at(0)), Some(1360));
        let tiny = initial.cookie(&flow(1), Sequence(77), 0, at(0));
        assert_eq!(initial.open(&flow(1), Sequence(77), tiny, at(0)), Some(216));
    }
}
