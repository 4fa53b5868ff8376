//! SipHash-2-4, the keyed hash behind the flow table, the initial sequence numbers and the SYN cookies.
//!
//! Reading: Aumasson and Bernstein, "SipHash: a fast short-input PRF" (2012). A peer chooses what is hashed, so the hash
//! must be unpredictable without the key: for the table against collisions, for the rest against forgery.

use core::hash::{BuildHasher, Hasher};

use crate::device::Entropy;

/// A key. Cheap to copy; as a [`BuildHasher`] it makes hash tables that peers cannot unbalance.
#[derive(Clone, Copy)]
pub(super) struct HashKey(u64, u64);

impl HashKey {
    pub(super) fn random(entropy: &dyn Entropy) -> Self {
        Self(entropy.next_u64(), entropy.next_u64())
    }
}

impl BuildHasher for HashKey {
    type Hasher = SipHasher;

    fn build_hasher(&self) -> SipHasher {
        SipHasher {
            state: [
                self.0 ^ 0x736f_6d65_7073_6575,
                self.1 ^ 0x646f_7261_6e64_6f6d,
                self.0 ^ 0x6c79_6765_6e65_7261,
                self.1 ^ 0x7465_6462_7974_6573,
            ],
            tail: 0,
            length: 0,
        }
    }
}

pub(super) struct SipHasher {
    state: [u64; 4],
    tail: u64,
    length: usize,
}

impl SipHasher {
    fn round(&mut self) {
        let [a, b, c, d] = &mut self.state;
        *a = a.wrapping_add(*b);
        *b = b.rotate_left(13) ^ *a;
        *a = a.rotate_left(32);
        *c = c.wrapping_add(*d);
        *d = d.rotate_left(16) ^ *c;
        *a = a.wrapping_add(*d);
        *d = d.rotate_left(21) ^ *a;
        *c = c.wrapping_add(*b);
        *b = b.rotate_left(17) ^ *c;
        *c = c.rotate_left(32);
    }

    fn compress(&mut self, word: u64) {
        self.state[3] ^= word;
        self.round();
        self.round();
        self.state[0] ^= word;
    }

    /// Takes in the low `bytes` bytes of `value`, as if they had been written one by one.
    fn push(&mut self, value: u64, bytes: usize) {
        let held = self.length % 8;
        self.length += bytes;
        self.tail |= value << (8 * held);
        if held + bytes >= 8 {
            self.compress(self.tail);
            self.tail = if held == 0 { 0 } else { value >> (8 * (8 - held)) };
        }
    }
}

impl Hasher for SipHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.push(u64::from_le_bytes(*word), 8);
        }
        for byte in rest {
            self.push(u64::from(*byte), 1);
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.push(u64::from(value), 1);
    }

    fn write_u16(&mut self, value: u16) {
        self.push(u64::from(value), 2);
    }

    fn write_u32(&mut self, value: u32) {
        self.push(u64::from(value), 4);
    }

    fn write_u64(&mut self, value: u64) {
        self.push(value, 8);
    }

    fn finish(&self) -> u64 {
        let mut end = Self { state: self.state, tail: 0, length: 0 };
        end.compress(self.tail | (self.length as u64) << 56);
        end.state[2] ^= 0xff;
        (0..4).for_each(|_| end.round());
        end.state.into_iter().fold(0, |all, part| all ^ part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> HashKey {
        HashKey(0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908)
    }

    /// The first of the authors' test vectors, and the one in the paper's appendix.
    #[test]
    fn it_is_siphash_2_4() {
        let vectors: [(u8, u64); 4] = [
            (0, 0x726f_db47_dd0e_0e31),
            (1, 0x74f8_39c5_93dc_67fd),
            (8, 0x93f5_f579_9a93_2462),
            (15, 0xa129_ca61_49be_45e5),
        ];
        for (length, expected) in vectors {
            let mut hasher = key().build_hasher();
            hasher.write(&(0..length).collect::<Vec<u8>>());
            assert_eq!(hasher.finish(), expected, "{length} bytes");
        }
    }

    #[test]
    fn pieces_hash_as_the_whole() {
        let mut whole = key().build_hasher();
        whole.write(&[1, 2, 0, 3, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 5, 6, 7]);
        let mut pieces = key().build_hasher();
        pieces.write_u8(1);
        pieces.write_u16(2);
        pieces.write_u32(3);
        pieces.write_u64(4);
        pieces.write(&[5, 6, 7]);
        assert_eq!(pieces.finish(), whole.finish());
    }
}
