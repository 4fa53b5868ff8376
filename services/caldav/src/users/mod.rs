//! Who a request comes from: HTTP Basic (RFC 7617) against argon2id hashes.
//!
//! Checking a password costs tens of milliseconds during which this single thread does nothing else. So a success is
//! remembered, failures are slowed down, and a caller runs one check at a time ([`Verification`]). Nothing here waits or
//! knows a socket: time comes in, verdicts go out.

mod failures;
mod gate;
mod password;

use core::fmt;
use core::net::IpAddr;
use core::time::Duration;
use std::collections::BTreeMap;
use std::rc::Rc;

use blake2::Blake2bMac;
use blake2::digest::consts::U32;
use blake2::digest::{KeyInit, Mac};
use platform::device::{Entropy, Instant};

use failures::Failures;
pub use gate::{Enter, Gate, Pass};
pub use password::{
    ITERATIONS, MAX_MEMORY_KIB, MAX_PASSWORD, MAX_WORK, MEMORY_KIB, OutOfMemory, StoredPassword,
    StoredPasswordError,
};

/// How long a success is remembered. A password that the configuration takes away is forgotten at once, with the
/// [`Users`] that held it.
const REMEMBERED: Duration = Duration::from_hours(1);

/// What every user is to this service.
#[derive(Debug, Clone)]
pub struct User {
    /// The password's hash.
    pub password: StoredPassword,
    /// The name shown to people; empty for none.
    pub display_name: String,
    /// Mail addresses, for `calendar-user-address-set` and as the author of commits.
    pub mail: Vec<String>,
}

/// The user's name and password as a request gave them.
pub struct Credentials {
    user: String,
    password: String,
}

/// All users, what is remembered of them, and who failed lately.
pub struct Users {
    users: BTreeMap<Rc<str>, Known>,
    /// Keys the memory of successes; no password and no plain hash of one is kept.
    key: [u8; 32],
    decoy: Option<StoredPassword>,
    failures: Failures,
}

struct Known {
    user: Rc<User>,
    remembered: Option<(Digest, Instant)>,
}

type Digest = [u8; 32];

/// What to do about a request's credentials.
#[derive(Debug)]
pub enum Step {
    /// It is this user.
    Granted(Rc<str>),
    /// Run [`Verification::run`] and give the result to [`Users::finish`].
    Verify(Box<Verification>),
    /// Too many failures: answer 429 and say when to come again.
    Later(Duration),
}

/// A check of a password that is still to run.
pub struct Verification {
    credentials: Credentials,
    address: IpAddr,
    stored: Option<StoredPassword>,
}

impl Users {
    /// The users of a configuration.
    #[must_use]
    pub fn new(users: impl IntoIterator<Item = (String, User)>, entropy: &dyn Entropy) -> Self {
        let mut key = [0; 32];
        entropy.fill(&mut key);
        let known = |(name, user)| (Rc::from(name), Known { user: Rc::new(user), remembered: None });
        Self {
            users: users.into_iter().map(known).collect(),
            key,
            decoy: StoredPassword::decoy(entropy),
            failures: Failures::default(),
        }
    }

    /// Takes the users of another configuration in the place of these. Who keeps the password stays remembered, and
    /// failures stay counted.
    pub fn replace(&mut self, users: impl IntoIterator<Item = (String, User)>) {
        let mut before = core::mem::take(&mut self.users);
        let known = |(name, user): (String, User)| {
            let remembered = before
                .remove(name.as_str())
                .filter(|known| known.user.password.to_string() == user.password.to_string())
                .and_then(|known| known.remembered);
            (Rc::from(name), Known { user: Rc::new(user), remembered })
        };
        self.users = users.into_iter().map(known).collect();
    }

    /// Looks a user up.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Rc<User>> {
        self.users.get(name).map(|known| &known.user)
    }

    /// The names of all users.
    pub fn names(&self) -> impl Iterator<Item = &Rc<str>> {
        self.users.keys()
    }

    /// Judges credentials that came from `address`. Whoever is remembered is let in even while others fail at the same
    /// name or from the same address.
    #[must_use]
    pub fn begin(&self, credentials: Credentials, address: IpAddr, now: Instant) -> Step {
        let known = self.users.get_key_value(credentials.user.as_str());
        if let Some((name, Known { remembered: Some((digest, until)), .. })) = known
            && now < *until
            && self.mac(&credentials).is_some_and(|mac| mac.verify_slice(digest).is_ok())
        {
            return Step::Granted(name.clone());
        }
        if let Some(wait) = self.failures.wait(&credentials.user, address, now) {
            return Step::Later(wait);
        }
        let stored = known.map(|(_, known)| known.user.password.clone()).or_else(|| self.decoy.clone());
        Step::Verify(Box::new(Verification { credentials, address, stored }))
    }

    /// Takes note of how a check came out. Gives the user when the password was right.
    pub fn finish(&mut self, verification: &Verification, right: bool, now: Instant) -> Option<Rc<str>> {
        let credentials = &verification.credentials;
        let digest: Option<Digest> = self.mac(credentials).map(|mac| mac.finalize().into_bytes().into());
        let granted = right.then(|| self.users.get_key_value(credentials.user.as_str())).flatten();
        let Some(name) = granted.map(|(name, _)| name.clone()) else {
            self.failures.failed(&credentials.user, verification.address, now);
            return None;
        };
        self.failures.succeeded(verification.address);
        if let Some(known) = self.users.get_mut(&name) {
            known.remembered = digest.map(|digest| (digest, now + REMEMBERED));
        }
        Some(name)
    }

    fn mac(&self, credentials: &Credentials) -> Option<Blake2bMac<U32>> {
        let mut mac = <Blake2bMac<U32> as KeyInit>::new_from_slice(&self.key).ok()?;
        // The name has no colon, so the pair is unambiguous.
        mac.update(credentials.user.as_bytes());
        mac.update(b":");
        mac.update(credentials.password.as_bytes());
        Some(mac)
    }
}

impl Verification {
    /// Does the work: tens of milliseconds of CPU and as much memory as the hash asks for.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`]: answer 503.
    pub fn run(&self) -> Result<bool, OutOfMemory> {
        self.stored.as_ref().map_or(Ok(false), |stored| stored.verify(&self.credentials.password))
    }

    /// The credentials again, to be judged anew after others' checks have run.
    #[must_use]
    pub fn into_credentials(self) -> Credentials {
        self.credentials
    }
}

impl Credentials {
    /// Reads an `Authorization` header's value. `None` if it is not Basic, not well-formed, or too long to be looked at.
    #[must_use]
    pub fn from_header(value: &[u8]) -> Option<Self> {
        let value = core::str::from_utf8(value).ok()?.trim();
        let (scheme, encoded) = value.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") || encoded.len() > 4 * MAX_PASSWORD {
            return None;
        }
        let decoded = <base64ct::Base64 as base64ct::Encoding>::decode_vec(encoded.trim()).ok()?;
        let decoded = String::from_utf8(decoded).ok()?;
        let (user, password) = decoded.split_once(':')?;
        let fits = !user.is_empty() && user.len() <= MAX_PASSWORD && password.len() <= MAX_PASSWORD;
        fits.then(|| Self { user: user.to_owned(), password: password.to_owned() })
    }
}

impl fmt::Debug for Verification {
    /// Says nothing that a log should not have.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verification").field("user", &self.credentials.user).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
