//! Who a server is: a certificate chain and its key, read from PEM, in use until the next is put in its place.

use core::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_cert::der::Decode;

use super::provider;
use crate::device::WallTime;

/// A certificate chain with its key.
#[derive(Clone, Debug)]
pub struct Identity {
    certified: Arc<CertifiedKey>,
    begins: WallTime,
    expires: WallTime,
}

impl Identity {
    /// Reads a chain (the server's certificate first) and its key, both PEM. `chain_file` and `key_file` are their names for
    /// errors.
    ///
    /// # Errors
    /// [`IdentityError`], which names the file and what would be right.
    pub fn from_pem(
        chain_file: &str,
        chain: &[u8],
        key_file: &str,
        key: &[u8],
    ) -> Result<Self, IdentityError> {
        let error = |file: &str, reason: String| IdentityError { file: file.to_owned(), reason };
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<_, _>>()
            .map_err(|reason| error(chain_file, format!("this is not PEM: {reason}")))?;
        let Some(first) = certificates.first() else {
            let reason = "there is no certificate; it should begin with -----BEGIN CERTIFICATE-----";
            return Err(error(chain_file, reason.to_owned()));
        };
        let (begins, expires) = validity(first)
            .map_err(|reason| error(chain_file, format!("the first certificate: {reason}")))?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| {
            let reason =
                "there is no private key; it should begin with -----BEGIN PRIVATE KEY-----, unencrypted";
            error(key_file, reason.to_owned())
        })?;
        let key = provider().key_provider.load_private_key(key).map_err(|_| {
            error(
                key_file,
                "this kind of key is not supported: ECDSA P-256 or P-384, Ed25519 or RSA are".to_owned(),
            )
        })?;
        let certified = CertifiedKey::new(certificates, key);
        if let Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) =
            certified.keys_match()
        {
            return Err(error(
                key_file,
                format!("this is not the key of the first certificate in {chain_file}"),
            ));
        }
        Ok(Self { certified: Arc::new(certified), begins, expires })
    }

    /// When the certificate becomes valid.
    #[must_use]
    pub fn begins(&self) -> WallTime {
        self.begins
    }

    /// When the certificate expires.
    #[must_use]
    pub fn expires(&self) -> WallTime {
        self.expires
    }

    /// The server's own certificate, as DER.
    #[must_use]
    pub fn certificate(&self) -> &[u8] {
        self.certified.cert.first().map_or(&[], |certificate| certificate)
    }
}

fn validity(certificate: &[u8]) -> Result<(WallTime, WallTime), String> {
    let certificate = x509_cert::Certificate::from_der(certificate).map_err(|error| error.to_string())?;
    let validity = certificate.tbs_certificate().validity();
    Ok((validity.not_before.to_unix_duration(), validity.not_after.to_unix_duration()))
}

/// Configuration: a certificate or its key cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityError {
    file: String,
    reason: String,
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file, self.reason)
    }
}

impl std::error::Error for IdentityError {}

/// The identity that is shown to new connections. Clones share it; replacing it needs no restart and disturbs no connection.
#[derive(Clone, Debug)]
pub struct Identities {
    current: Arc<Current>,
}

/// Under a lock because rustls wants to share it between threads; there is one thread, so it is never contended.
#[derive(Debug)]
struct Current(Mutex<Identity>);

impl Current {
    fn get(&self) -> Identity {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.get().certified)
    }
}

impl Identities {
    /// Shows `identity` at first.
    #[must_use]
    pub fn new(identity: Identity) -> Self {
        Self { current: Arc::new(Current(Mutex::new(identity))) }
    }

    /// Shows `identity` to all connections from now on. Sessions begun under the one before stay resumable.
    pub fn replace(&self, identity: Identity) {
        *self.current.0.lock().unwrap_or_else(PoisonError::into_inner) = identity;
    }

    /// The identity in use.
    #[must_use]
    pub fn current(&self) -> Identity {
        self.current.get()
    }

    pub(super) fn resolver(&self) -> Arc<dyn ResolvesServerCert> {
        Arc::clone(&self.current) as Arc<dyn ResolvesServerCert>
    }
}
