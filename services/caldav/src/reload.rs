//! A configuration that replaces the one before while the service runs: users, certificate, limits and the rest, all or
//! nothing. Connections and what is stored stay as they are.

use core::fmt;
use std::rc::Rc;

use platform::config::{Bundle, ConfigurationError};
use platform::device::{Entropy, WallTime};
use platform::storage::Storage;
use platform::tls::{Identities, Identity};

use crate::certificate::{self, CertificateError};
use crate::configuration::Configuration;
use crate::service::{FirstUser, Service, StartError};

/// Reads configurations, and puts them in the place of the one before.
pub struct Configurator {
    /// Memory of the image in bytes: what limits are held to.
    pub memory: usize,
    /// The names in a certificate that the image makes itself.
    pub names: Vec<String>,
    /// Keeps the certificate that the image makes itself, and the first user.
    pub storage: Storage,
}

/// Why a configuration is not taken. The one before goes on.
#[derive(Debug)]
pub enum ReloadError {
    /// Configuration: a file is wrong.
    Configuration(ConfigurationError),
    /// Configuration or device: there is no certificate to serve with.
    Certificate(CertificateError),
    /// Device: there are no users in it, and the first one cannot be found.
    FirstUser(StartError),
}

impl fmt::Display for ReloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configuration(error) => error.fmt(f),
            Self::Certificate(error) => error.fmt(f),
            Self::FirstUser(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ReloadError {}

impl From<ConfigurationError> for ReloadError {
    fn from(error: ConfigurationError) -> Self {
        Self::Configuration(error)
    }
}

impl From<CertificateError> for ReloadError {
    fn from(error: CertificateError) -> Self {
        Self::Certificate(error)
    }
}

impl Configurator {
    /// Reads the service's part of a bundle.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn read(bundle: &Bundle, memory: usize) -> Result<Configuration, ConfigurationError> {
        let mut configuration = Configuration::of_bundle(bundle)?;
        configuration.limits = configuration.limits.within_memory(memory);
        Ok(configuration)
    }

    /// The certificate to serve with: the configuration's, or the image's own.
    ///
    /// # Errors
    /// See [`CertificateError`].
    pub async fn identity(&self, bundle: &Bundle, now: WallTime) -> Result<Identity, CertificateError> {
        match certificate::configured(bundle)? {
            Some(identity) => Ok(identity),
            None => certificate::self_signed(&self.storage, &self.names, now).await,
        }
    }

    /// Puts a bundle in the place of the one before. Returns the first user where one was made now, to be shown once.
    ///
    /// # Errors
    /// Why everything stays as it was.
    pub async fn replace(
        &self,
        bundle: &Bundle,
        service: &Rc<Service>,
        identities: &Identities,
        entropy: &dyn Entropy,
        now: WallTime,
    ) -> Result<Option<FirstUser>, ReloadError> {
        let configuration = Self::read(bundle, self.memory)?;
        let identity = self.identity(bundle, now).await?;
        let first_user =
            service.replace_configuration(configuration, entropy).await.map_err(ReloadError::FirstUser)?;
        identities.replace(identity);
        Ok(first_user)
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use platform::device::{ManualClock, MemoryDisk, SeededEntropy};
    use platform::executor::Executor;
    use platform::host::SimulatedHost;
    use platform::memory::MemoryUse;
    use platform::observe::Metrics;
    use platform::storage::StorageOptions;
    use platform::tls::SelfSigned;

    use super::*;

    const MEMORY: usize = 32 << 20;

    /// A header of POSIX's "ustar" and what follows it.
    fn entry(name: &str, content: &str) -> Vec<u8> {
        let mut bytes = vec![0; 512];
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        bytes[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
        bytes[156] = b'0';
        bytes[257..263].copy_from_slice(b"ustar\0");
        bytes[148..156].fill(b' ');
        let sum: u32 = bytes.iter().map(|byte| u32::from(*byte)).sum();
        bytes[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        bytes.extend_from_slice(content.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }

    fn bundle(files: &[(&str, &str)]) -> Bundle {
        let mut bytes: Vec<u8> = files.iter().flat_map(|(name, content)| entry(name, content)).collect();
        bytes.resize(bytes.len() + 1024, 0);
        Bundle::read(&bytes, "caldav.toml").unwrap()
    }

    fn pair(now: Duration) -> SelfSigned {
        SelfSigned::generate(&["localhost".to_owned()], now).unwrap()
    }

    #[test]
    fn all_of_a_bundle_is_taken_or_nothing() {
        let clock = Rc::new(ManualClock::new(Duration::from_secs(1_800_000_000)));
        let host = SimulatedHost::new(Rc::clone(&clock));
        let executor = Executor::new(clock);
        let handle = executor.handle();
        let test = async move {
            let disk = Box::new(MemoryDisk::new(16 << 20));
            let storage = Storage::open(&handle, disk, &StorageOptions::new("caldav", MEMORY)).await.unwrap();
            let metrics = Metrics::of_image(&handle, || MemoryUse { allocated: 1, limit: 2 });
            let entropy = SeededEntropy::new(1);
            let (service, _) =
                Service::open(&handle, storage.clone(), Configuration::default(), &metrics, &entropy)
                    .await
                    .unwrap();
            let configurator = Configurator { memory: MEMORY, names: vec!["localhost".to_owned()], storage };
            let now = handle.wall();
            let own = configurator.identity(&Bundle::default(), now).await.unwrap();
            let identities = Identities::new(own.clone());
            let replace = async |bundle: &Bundle| {
                let replaced = configurator.replace(bundle, &service, &identities, &entropy, now).await;
                replaced.map_err(|error| error.to_string())
            };

            let (one, other) = (pair(now), pair(now));
            let certified = bundle(&[
                ("caldav.toml", "plain = true\n"),
                ("certificate.pem", &one.certificate_pem),
                ("key.pem", &one.key_pem),
            ]);
            assert!(replace(&certified).await.unwrap().is_none());
            let current = identities.current();
            assert_ne!(current.certificate(), own.certificate());

            let mismatched =
                bundle(&[("certificate.pem", &other.certificate_pem), ("key.pem", &one.key_pem)]);
            let error = replace(&mismatched).await.err().unwrap();
            assert!(error.starts_with("key.pem: "), "{error}");
            let wrong = bundle(&[
                ("caldav.toml", "plain = true\nplian = true\n"),
                ("certificate.pem", &other.certificate_pem),
                ("key.pem", &other.key_pem),
            ]);
            let error = replace(&wrong).await.err().unwrap();
            assert!(error.starts_with("caldav.toml, line 2: "), "{error}");
            assert_eq!(identities.current().certificate(), current.certificate());

            replace(&Bundle::default()).await.unwrap();
            assert_eq!(identities.current().certificate(), own.certificate());
        };
        executor.run(&host, test).unwrap();
    }
}
