//! Passwords as they are stored: argon2id in the PHC string format.
//!
//! Before working on this file read RFC 9106 and the PHC string format specification.

use core::fmt;

use argon2::password_hash::PasswordHasher;
use argon2::password_hash::phc;
use argon2::{Algorithm, Argon2, Block, Params, Version};
use platform::device::Entropy;

/// Memory of a new hash in KiB. With [`ITERATIONS`] the least-memory choice of those that OWASP's password storage cheat
/// sheet calls equal; the smallest image has 32 MiB.
pub const MEMORY_KIB: u32 = 7 * 1024;
/// Passes of a new hash over its memory.
pub const ITERATIONS: u32 = 5;
/// The most memory that a hash in the configuration may ask for, in KiB. One verification runs at a time, so this is
/// also all that passwords ever take.
pub const MAX_MEMORY_KIB: u32 = 64 * 1024;
/// The most block passes (memory in KiB times iterations) that a hash may ask for: about half a second of an image that
/// serves nobody else meanwhile.
pub const MAX_WORK: u32 = 256 * 1024;
/// The longest password that is looked at, in bytes. Longer ones are refused before any work.
pub const MAX_PASSWORD: usize = 1024;

/// A hash of a password with everything that checking one needs.
#[derive(Clone)]
pub struct StoredPassword {
    hash: phc::PasswordHash,
    params: Params,
    version: Version,
}

/// Why a stored password is not one: the configuration's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoredPasswordError {
    /// Not a PHC string with a salt and a hash.
    Format,
    /// Another algorithm than argon2id.
    Algorithm,
    /// Parameters that argon2id does not have, or that ask for too much.
    Parameters,
}

impl fmt::Display for StoredPasswordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format => f.write_str(
                "not a PHC string such as $argon2id$v=19$m=7168,t=5,p=1$SALT$HASH; deploy/passwd.sh makes one",
            ),
            Self::Algorithm => f.write_str("not argon2id; deploy/passwd.sh makes such a hash"),
            Self::Parameters => write!(
                f,
                "the parameters are not argon2id's, or ask for more than m={MAX_MEMORY_KIB} or m*t={MAX_WORK}"
            ),
        }
    }
}

impl std::error::Error for StoredPasswordError {}

/// There was not enough memory to check a password. The request can be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfMemory;

impl StoredPassword {
    /// Reads a PHC string.
    ///
    /// # Errors
    ///
    /// See [`StoredPasswordError`].
    pub fn parse(text: &str) -> Result<Self, StoredPasswordError> {
        let hash = phc::PasswordHash::new(text).map_err(|_| StoredPasswordError::Format)?;
        if Algorithm::try_from(hash.algorithm.as_str()) != Ok(Algorithm::Argon2id) {
            return Err(StoredPasswordError::Algorithm);
        }
        if hash.salt.is_none() || hash.hash.is_none() {
            return Err(StoredPasswordError::Format);
        }
        let version = match hash.version {
            Some(version) => Version::try_from(version).map_err(|_| StoredPasswordError::Parameters)?,
            None => Version::default(),
        };
        let params = Params::try_from(&hash).map_err(|_| StoredPasswordError::Parameters)?;
        let within =
            params.m_cost() <= MAX_MEMORY_KIB && params.m_cost().saturating_mul(params.t_cost()) <= MAX_WORK;
        if within { Ok(Self { hash, params, version }) } else { Err(StoredPasswordError::Parameters) }
    }

    /// Hashes a new password with a salt from `entropy`.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`], also for a password longer than [`MAX_PASSWORD`], which no caller can use.
    pub fn create(password: &str, entropy: &dyn Entropy) -> Result<Self, OutOfMemory> {
        let mut salt = [0; 16];
        entropy.fill(&mut salt);
        let params = Params::new(MEMORY_KIB, ITERATIONS, 1, None).map_err(|_| OutOfMemory)?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::default(), params);
        let hash = argon2.hash_password_with_salt(password.as_bytes(), &salt).map_err(|_| OutOfMemory)?;
        Self::parse(&hash.to_string()).map_err(|_| OutOfMemory)
    }

    /// A hash that no password has, as costly to check as [`StoredPassword::create`]'s: what a name without a user is
    /// checked against, so that an answer's time does not tell which names exist.
    #[must_use]
    pub fn decoy(entropy: &dyn Entropy) -> Option<Self> {
        let mut random = [0; 48];
        entropy.fill(&mut random);
        let (salt, output) = random.split_at(16);
        let params = Params::new(MEMORY_KIB, ITERATIONS, 1, Some(32)).ok()?;
        let hash = phc::PasswordHash {
            algorithm: Algorithm::Argon2id.ident(),
            version: Some(Version::default().into()),
            params: phc::ParamsString::try_from(&params).ok()?,
            salt: Some(phc::Salt::new(salt).ok()?),
            hash: Some(phc::Output::new(output).ok()?),
        };
        Some(Self { hash, params, version: Version::default() })
    }

    /// Whether `password` is the one. Takes as long as the hash was made to take, whatever the password.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`].
    pub fn verify(&self, password: &str) -> Result<bool, OutOfMemory> {
        let (Some(salt), Some(expected)) = (&self.hash.salt, &self.hash.hash) else { return Ok(false) };
        let blocks = self.params.block_count();
        let mut memory = Vec::new();
        memory.try_reserve_exact(blocks).map_err(|_| OutOfMemory)?;
        memory.resize(blocks, Block::new());
        let mut output = [0; phc::Output::MAX_LENGTH];
        let Some(output) = output.get_mut(..expected.len()) else { return Ok(false) };
        let argon2 = Argon2::new(Algorithm::Argon2id, self.version, self.params.clone());
        if argon2.hash_password_into_with_memory(password.as_bytes(), salt, output, &mut memory[..]).is_err()
        {
            return Ok(false);
        }
        // `Output` compares in constant time.
        Ok(phc::Output::new(output).is_ok_and(|output| output == *expected))
    }
}

impl fmt::Display for StoredPassword {
    /// The PHC string.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.hash.fmt(f)
    }
}

impl fmt::Debug for StoredPassword {
    /// Says nothing that a log should not have.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoredPassword")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counting(core::cell::Cell<u8>);

    impl Entropy for Counting {
        fn fill(&self, bytes: &mut [u8]) {
            for byte in bytes {
                *byte = self.0.replace(self.0.get().wrapping_add(1));
            }
        }
    }

    #[test]
    fn a_new_password_verifies_and_another_does_not() {
        let stored = StoredPassword::create("grüße", &Counting(0.into())).unwrap();
        let again = StoredPassword::parse(&stored.to_string()).unwrap();
        assert!(stored.to_string().starts_with("$argon2id$v=19$m=7168,t=5,p=1$"), "{stored}");
        assert_eq!(again.verify("grüße"), Ok(true));
        assert_eq!(again.verify("grüsse"), Ok(false));
        assert_eq!(StoredPassword::decoy(&Counting(0.into())).unwrap().verify(""), Ok(false));
    }

    #[test]
    fn hashes_made_elsewhere() {
        // printf password | argon2 somesalt -id -t 2 -k 256 -p 1 -l 32 (a vector of the reference implementation).
        let stored = StoredPassword::parse(
            "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
        );
        assert_eq!(stored.unwrap().verify("password"), Ok(true));
    }

    #[test]
    fn what_is_refused() {
        for (text, error) in [
            ("", StoredPasswordError::Format),
            ("secret", StoredPasswordError::Format),
            ("$argon2id$v=19$m=256,t=2,p=1", StoredPasswordError::Format),
            (
                "$argon2i$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
                StoredPasswordError::Algorithm,
            ),
            (
                "$argon2id$v=19$m=999999,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
                StoredPasswordError::Parameters,
            ),
            (
                "$argon2id$v=19$m=7168,t=4000000000,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
                StoredPasswordError::Parameters,
            ),
        ] {
            assert_eq!(StoredPassword::parse(text).map(|_| ()), Err(error), "{text}");
        }
    }
}
