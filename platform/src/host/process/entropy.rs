//! Randomness of the process: the kernel's, which seeds the generator once.

use super::ProcessError;
use crate::device::{Drbg, Entropy};

/// A generator seeded by getrandom(2).
pub(super) fn seeded() -> Result<Drbg, ProcessError> {
    let mut seed = [0; 32];
    // SAFETY: the seed is valid for writes of its length. Up to 256 bytes come whole once the kernel is seeded, which
    // the call waits for.
    let length = unsafe { libc::getrandom(seed.as_mut_ptr().cast(), seed.len(), 0) };
    if length != seed.len() as isize {
        return Err(ProcessError::system("the kernel gives no randomness"));
    }
    Ok(Drbg::new(seed))
}

/// A random Ethernet address: unicast, locally administered.
pub(super) fn random_mac(entropy: &dyn Entropy) -> [u8; 6] {
    let mut mac = [0; 6];
    entropy.fill(&mut mac);
    mac[0] = mac[0] & 0xfc | 0x02;
    mac
}
