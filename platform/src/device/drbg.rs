//! The image's random generator: ChaCha20 with fast key erasure.
//!
//! Reading: D. J. Bernstein, "Fast-key-erasure random-number generators" (2017). Each refill makes a block of key stream;
//! its first 32 bytes are the next key, the rest is given out and wiped as it goes. So what was given out cannot be
//! found from the state of the generator later.

use core::cell::RefCell;

use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit, StreamCipher};

use super::Entropy;

const KEY: usize = 32;
/// Key stream made at once, in bytes.
const BLOCK: usize = 1024;

struct State {
    block: [u8; BLOCK],
    /// Where the part of `block` not yet given out starts.
    next: usize,
}

/// A deterministic random bit generator with a secret seed.
pub struct Drbg {
    state: RefCell<State>,
}

impl Drbg {
    /// A generator with this seed, which must come from a true source of randomness, or from a test.
    #[must_use]
    pub fn new(seed: [u8; KEY]) -> Self {
        let mut state = State { block: [0; BLOCK], next: BLOCK };
        state.block[..KEY].copy_from_slice(&seed);
        Self { state: RefCell::new(state) }
    }

    /// Mixes more randomness in; the generator gets no worse by it, whatever its quality.
    pub fn reseed(&self, more: &[u8]) {
        let mut state = self.state.borrow_mut();
        for part in more.chunks(KEY) {
            state.block[..KEY].iter_mut().zip(part).for_each(|(key, byte)| *key ^= byte);
            state.refill();
        }
    }
}

impl State {
    fn refill(&mut self) {
        let mut key = [0; KEY];
        key.copy_from_slice(&self.block[..KEY]);
        self.block.fill(0);
        ChaCha20::new(&key.into(), &[0; 12].into()).apply_keystream(&mut self.block);
        self.next = KEY;
    }
}

impl Entropy for Drbg {
    fn fill(&self, mut bytes: &mut [u8]) {
        let mut state = self.state.borrow_mut();
        while !bytes.is_empty() {
            if state.next == BLOCK {
                state.refill();
            }
            let next = state.next;
            let length = bytes.len().min(BLOCK - next);
            let (now, later) = bytes.split_at_mut(length);
            let given = &mut state.block[next..next + length];
            now.copy_from_slice(given);
            given.fill(0);
            state.next += length;
            bytes = later;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_bytes_however_they_are_asked_for() {
        let (one, other) = (Drbg::new([7; 32]), Drbg::new([7; 32]));
        let (mut whole, mut parts) = ([0; 3000], [0; 3000]);
        one.fill(&mut whole);
        parts.chunks_mut(77).for_each(|part| other.fill(part));
        assert_eq!(whole, parts);
        assert!(whole.chunks(8).collect::<std::collections::HashSet<_>>().len() == 375, "no repetition");
    }

    #[test]
    fn reseeding_changes_what_comes() {
        let (one, other) = (Drbg::new([7; 32]), Drbg::new([7; 32]));
        other.reseed(b"more");
        assert_ne!(one.next_u64(), other.next_u64());
    }
}
