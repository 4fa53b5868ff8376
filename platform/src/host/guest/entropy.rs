//! Randomness in a guest: the processor's own source and virtio-rng, mixed into a ChaCha20 generator.
//!
//! There is one generator, and it is seeded before anything asks it: by RDSEED or RDRAND at boot, or else by virtio-rng
//! as soon as that device is found. Whoever asks an unseeded generator ends the image.

use core::arch::asm;

use super::power::refuse;
use super::processor;
use crate::boot::BootCell;
use crate::device::Entropy;
use crate::device::drbg::{Drbg, SEED};

/// The randomness of a guest. All of them are the same generator.
#[derive(Clone, Copy, Debug, Default)]
pub struct GuestEntropy;

impl Entropy for GuestEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        fill(bytes);
    }
}

struct Pool {
    generator: Drbg,
    seeded: bool,
}

static POOL: BootCell<Pool> = BootCell::new(Pool { generator: Drbg::unseeded(), seeded: false });

/// Mixes in bytes from a true source: a virtio-rng device. Thirty-two or more of them make an unseeded generator ready.
pub fn add(bytes: &[u8]) {
    // SAFETY: The one thread is here, and nothing below comes back.
    let pool = unsafe { POOL.get_mut() };
    pool.generator.reseed(bytes);
    pool.seeded |= bytes.len() >= SEED;
}

/// Whether a true source has been heard.
#[must_use]
pub fn is_seeded() -> bool {
    // SAFETY: The one thread is here.
    unsafe { POOL.get() }.seeded
}

/// Ends the image unless a true source has been heard. To be called when all devices have been found.
pub fn require_source() {
    if !is_seeded() {
        refuse(format_args!(
            "no source of randomness: give the machine a processor with RDRAND (-cpu max, -cpu host) or a virtio-rng device"
        ));
    }
}

/// Fills `bytes` with random data.
pub(crate) fn fill(bytes: &mut [u8]) {
    require_source();
    // SAFETY: The one thread is here, and nothing below comes back.
    let pool = unsafe { POOL.get_mut() };
    if pool.generator.wants_seed()
        && let Some(seed) = processor_seed()
    {
        pool.generator.reseed(&seed);
    }
    pool.generator.fill(bytes);
}

/// Seeds the generator from the processor, if it has a source.
pub(crate) fn seed_from_processor() {
    if let Some(seed) = processor_seed() {
        add(&seed);
    }
}

/// Bytes for glibc's stack canary and pointer guard, which it takes before any device can be found: from the generator
/// if that is seeded, and else from the time stamp counter, which an attacker can guess.
pub(crate) fn early_bytes() -> [u8; 16] {
    let mut bytes = [0; 16];
    if is_seeded() {
        fill(&mut bytes);
    } else {
        let mut generator = Drbg::unseeded();
        generator.reseed(&processor::time_stamp().to_le_bytes());
        generator.fill(&mut bytes);
    }
    bytes
}

/// A seed from RDSEED, or from RDRAND, which stretches the same source.
fn processor_seed() -> Option<[u8; SEED]> {
    const RDRAND: u32 = 1 << 30;
    const RDSEED: u32 = 1 << 18;
    let has_rdseed = processor::identify(7, 0).ebx & RDSEED != 0;
    let has_rdrand = processor::identify(1, 0).ecx & RDRAND != 0;
    has_rdseed.then(|| gather(rdseed)).flatten().or_else(|| has_rdrand.then(|| gather(rdrand)).flatten())
}

fn gather(source: fn() -> Option<u64>) -> Option<[u8; SEED]> {
    /// RDRAND may fail under load; ten attempts are Intel's advice, and RDSEED may need more (Intel, "Digital Random Number
    /// Generator Software Implementation Guide", 5.2.1 and 5.3.1).
    const ATTEMPTS: usize = 100;
    let mut words = [0; SEED / 8];
    for word in &mut words {
        *word = (0..ATTEMPTS).find_map(|_| source())?;
    }
    // Some processors lose their source after sleep and give the same word for ever.
    if words.iter().all(|word| *word == words[0]) {
        return None;
    }
    let mut seed = [0; SEED];
    for (bytes, word) in seed.chunks_exact_mut(8).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    Some(seed)
}

fn rdseed() -> Option<u64> {
    let (value, valid): (u64, u8);
    // SAFETY: The processor has the instruction (checked by the caller).
    unsafe { asm!("rdseed {}", "setc {}", out(reg) value, out(reg_byte) valid, options(nomem, nostack)) };
    (valid != 0).then_some(value)
}

fn rdrand() -> Option<u64> {
    let (value, valid): (u64, u8);
    // SAFETY: The processor has the instruction (checked by the caller).
    unsafe { asm!("rdrand {}", "setc {}", out(reg) value, out(reg_byte) valid, options(nomem, nostack)) };
    (valid != 0).then_some(value)
}
