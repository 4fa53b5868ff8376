//! Chance for simulations: reproducible from a seed, and no secret.

use core::cell::Cell;
use core::time::Duration;

use super::Entropy;

/// Marsaglia's xorshift64*.
#[derive(Clone, Debug)]
pub(super) struct Xorshift(u64);

impl Xorshift {
    pub(super) fn new(seed: u64) -> Self {
        // Zero is the one state that it never leaves; a spread seed keeps neighbouring seeds apart.
        Self(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// True `rate` times in 65,536.
    pub(super) fn happens(&mut self, rate: u16) -> bool {
        rate > 0 && self.next() >> 48 < u64::from(rate)
    }

    /// A duration from zero to `most`.
    pub(super) fn up_to(&mut self, most: Duration) -> Duration {
        match u64::try_from(most.as_nanos()).unwrap_or(u64::MAX) {
            0 => Duration::ZERO,
            most => Duration::from_nanos(self.next() % most),
        }
    }

    /// A number below `bound`, which is not 0.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % (bound as u64)).unwrap_or(0)
    }
}

/// Entropy for simulations and unit tests, **never for an image**: every run of a seed gives the same bytes.
#[derive(Debug)]
pub struct SeededEntropy(Cell<u64>);

impl SeededEntropy {
    /// A generator that starts from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Cell::new(seed))
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        let mut random = Xorshift::new(self.0.get());
        self.0.set(random.next());
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&random.next().to_ne_bytes()[..chunk.len()]);
        }
    }
}
