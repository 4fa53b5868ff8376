//! A deterministic random bit generator: ChaCha20 with fast key erasure.
//!
//! Each refill of the buffer makes the next key first and forgets the one it came from, and bytes are erased as they are
//! handed out: whoever reads the memory later learns nothing of what was generated before (Bernstein, "Fast-key-erasure
//! random-number generators", 2017). It has the security of its seed: see [`host`](crate::host) for the sources.

use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit, StreamCipher};

/// Bytes of a key, and of a seed that fills one.
pub const SEED: usize = 32;

/// Bytes made at a time: sixteen ChaCha blocks, less the next key.
const BUFFER: usize = 16 * 64 - SEED;

/// Output after which new seed is wanted. Far below any limit of the cipher: it is how often the true source is heard.
const RESEED_INTERVAL: usize = 1024 * 1024;

/// The generator. Wipe it by dropping: nothing that it gave can be computed from what it holds.
pub struct Drbg {
    key: [u8; SEED],
    buffer: [u8; BUFFER],
    /// Where the bytes not yet handed out begin.
    next: usize,
    since_seed: usize,
}

impl Drbg {
    /// A generator without a seed. [`Drbg::reseed`] it before use.
    #[must_use]
    pub const fn unseeded() -> Self {
        Self { key: [0; SEED], buffer: [0; BUFFER], next: BUFFER, since_seed: 0 }
    }

    /// A generator with the entropy of `seed`.
    #[must_use]
    pub fn new(seed: &[u8; SEED]) -> Self {
        let mut generator = Self::unseeded();
        generator.reseed(seed);
        generator
    }

    /// Mixes in more entropy. What there was is kept: a bad or hostile `seed` does no harm.
    pub fn reseed(&mut self, seed: &[u8]) {
        for chunk in seed.chunks(SEED) {
            for (key, byte) in self.key.iter_mut().zip(chunk) {
                *key ^= byte;
            }
            let mut next = [0; SEED];
            keystream(&self.key, &mut next);
            self.key = next;
        }
        // What was made before the new entropy came is not handed out after.
        self.buffer.fill(0);
        self.next = BUFFER;
        self.since_seed = 0;
    }

    /// Whether so much has been generated that the source should be asked for new seed.
    #[must_use]
    pub fn wants_seed(&self) -> bool {
        self.since_seed >= RESEED_INTERVAL
    }

    /// Fills `bytes` with random data.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        self.since_seed = self.since_seed.saturating_add(bytes.len());
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.next == BUFFER {
                self.refill();
            }
            let length = rest.len().min(BUFFER - self.next);
            let (now, later) = rest.split_at_mut(length);
            let source = &mut self.buffer[self.next..self.next + length];
            now.copy_from_slice(source);
            source.fill(0);
            self.next += length;
            rest = later;
        }
    }

    fn refill(&mut self) {
        let old = self.key;
        let mut cipher = ChaCha20::new(&old.into(), &NONCE.into());
        self.key.fill(0);
        cipher.apply_keystream(&mut self.key);
        self.buffer.fill(0);
        cipher.apply_keystream(&mut self.buffer);
        self.next = 0;
    }
}

/// A key is used for one refill, so its nonce may be fixed.
const NONCE: [u8; 12] = [0; 12];

fn keystream(key: &[u8; SEED], bytes: &mut [u8]) {
    ChaCha20::new(&(*key).into(), &NONCE.into()).apply_keystream(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(generator: &mut Drbg, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        generator.fill(&mut bytes);
        bytes
    }

    #[test]
    fn output_is_the_key_stream_after_the_next_key() {
        // The seed is folded into the zero key and hashed to a first key; its stream gives the second key, then output.
        let mut first = [0; SEED];
        keystream(&[7; SEED], &mut first);
        let mut stream = [0; SEED + BUFFER];
        keystream(&first, &mut stream);
        assert_eq!(take(&mut Drbg::new(&[7; SEED]), BUFFER), stream[SEED..]);
    }

    #[test]
    fn pieces_are_the_same_as_the_whole() {
        let whole = take(&mut Drbg::new(&[1; SEED]), 5000);
        let mut generator = Drbg::new(&[1; SEED]);
        let pieces: Vec<u8> =
            [1, 2, 957, 40, 4000].into_iter().flat_map(|n| take(&mut generator, n)).collect();
        assert_eq!(pieces, whole);
        assert!(
            whole.chunks_exact(16).collect::<std::collections::HashSet<_>>().len() > 300,
            "it repeats itself"
        );
    }

    #[test]
    fn bytes_handed_out_are_erased() {
        let mut generator = Drbg::new(&[3; SEED]);
        take(&mut generator, 100);
        assert!(generator.buffer[..100].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn new_seed_changes_everything_and_forgets_nothing() {
        let (mut one, mut other) = (Drbg::new(&[1; SEED]), Drbg::new(&[2; SEED]));
        take(&mut one, 8);
        take(&mut other, 8);
        one.reseed(b"the same");
        other.reseed(b"the same");
        let (from_one, from_other) = (take(&mut one, 32), take(&mut other, 32));
        assert_ne!(from_one, from_other);
        let mut again = Drbg::new(&[1; SEED]);
        take(&mut again, 8);
        assert_ne!(from_one, take(&mut again, 32));
    }

    #[test]
    fn asks_for_seed_after_a_megabyte() {
        let mut generator = Drbg::new(&[1; SEED]);
        take(&mut generator, RESEED_INTERVAL - 1);
        assert!(!generator.wants_seed());
        take(&mut generator, 1);
        assert!(generator.wants_seed());
        generator.reseed(&[0; SEED]);
        assert!(!generator.wants_seed());
    }
}
