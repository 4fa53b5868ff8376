//! Randomness, of the quality that keys need.

/// A cryptographically secure generator, seeded by the host's true sources before the image starts.
pub trait Entropy {
    /// Fills `bytes` with random data. Cannot fail: an image without a true source does not start.
    fn fill(&self, bytes: &mut [u8]);

    /// A random 64-bit number.
    fn next_u64(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_ne_bytes(bytes)
    }
}
