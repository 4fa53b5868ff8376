//! Randomness of the process: the kernel's, which seeds the generator.

use core::cell::RefCell;

use super::ProcessError;
use crate::device::Entropy;
use crate::device::drbg::{Drbg, SEED};

/// A generator seeded by getrandom(2), and again whenever it wants to be.
pub(super) struct KernelSeeded(RefCell<Drbg>);

/// The generator of a process.
pub(super) fn seeded() -> Result<KernelSeeded, ProcessError> {
    let seed = kernel_seed().ok_or_else(|| ProcessError::system("the kernel gives no randomness"))?;
    Ok(KernelSeeded(RefCell::new(Drbg::new(&seed))))
}

fn kernel_seed() -> Option<[u8; SEED]> {
    let mut seed = [0; SEED];
    // SAFETY: the seed is valid for writes of its length. Up to 256 bytes come whole once the kernel is seeded, which
    // the call waits for.
    let length = unsafe { libc::getrandom(seed.as_mut_ptr().cast(), seed.len(), 0) };
    (length == seed.len() as isize).then_some(seed)
}

impl Entropy for KernelSeeded {
    fn fill(&self, bytes: &mut [u8]) {
        let mut generator = self.0.borrow_mut();
        if generator.wants_seed()
            && let Some(seed) = kernel_seed()
        {
            generator.reseed(&seed);
        }
        generator.fill(bytes);
    }
}

/// A random Ethernet address: unicast, locally administered.
pub(super) fn random_mac(entropy: &dyn Entropy) -> [u8; 6] {
    let mut mac = [0; 6];
    entropy.fill(&mut mac);
    mac[0] = mac[0] & 0xfc | 0x02;
    mac
}
