//! A certificate for a server that was given none, made on its first start.

use core::time::Duration;

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};

use crate::device::WallTime;
use crate::observe::CivilTime;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How long it is valid: the longest that Apple's clients accept of a certificate trusted by hand.
const VALIDITY: Duration = Duration::from_secs(825 * DAY.as_secs());

/// How long before now its validity begins: clients' clocks go wrong.
const BEFORE: Duration = DAY;

/// 2026-01-01T00:00:00Z. A clock before this has not been set.
const EARLIEST: WallTime = Duration::from_secs(1_767_225_600);

/// A self-signed certificate and its key, to be kept in storage: whoever trusts the certificate trusts it until it expires.
pub struct SelfSigned {
    /// The certificate.
    pub certificate_pem: String,
    /// The key: ECDSA on P-256, PKCS #8.
    pub key_pem: String,
}

impl SelfSigned {
    /// Makes a certificate for `names` (DNS names and IP addresses, the first of them its common name), valid from a day before
    /// `now` for 825 days. The key comes from the system's generator, which the platform seeds.
    ///
    /// # Errors
    /// Configuration: a name that is neither; the text says which.
    pub fn generate(names: &[String], now: WallTime) -> Result<Self, String> {
        let explain = |error: rcgen::Error| format!("a certificate for {}: {error}", names.join(", "));
        let mut parameters = CertificateParams::new(names).map_err(explain)?;
        if let Some(name) = names.first() {
            parameters.distinguished_name.remove(DnType::CommonName);
            parameters.distinguished_name.push(DnType::CommonName, name.as_str());
        }
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let begins = now.max(EARLIEST) - BEFORE;
        let midnight = |wall| {
            let date = CivilTime::from_wall(wall);
            rcgen::date_time_ymd(i32::try_from(date.year).unwrap_or(i32::MAX), date.month, date.day)
        };
        parameters.not_before = midnight(begins);
        parameters.not_after = midnight(begins + VALIDITY);
        let key = KeyPair::generate().map_err(explain)?;
        let certificate = parameters.self_signed(&key).map_err(explain)?;
        Ok(Self { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }
}
