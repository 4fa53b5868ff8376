//! The certificate: the operator's, or one made at the first start and kept in the storage.

use core::fmt;
use core::time::Duration;

use platform::config::Bundle;
use platform::device::WallTime;
use platform::storage::{Storage, StorageError, WriteError};
use platform::tls::{Identity, IdentityError, SelfSigned};
use redb::{ReadTransaction, TableDefinition, TableError, WriteTransaction};

use crate::repository;

/// The operator's certificate chain in the configuration.
const CHAIN_FILE: &str = "certificate.pem";
/// The operator's key in the configuration.
const KEY_FILE: &str = "key.pem";
/// One row, [`ROW`]: the certificate and the key that were made, both PEM.
const SELF_SIGNED: TableDefinition<'static, &'static str, (&'static str, &'static str)> =
    TableDefinition::new("caldav.certificate");
const ROW: &str = "self-signed";
/// A certificate that was made is made anew at the first start this long before its end.
const RENEWAL: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Why there is no certificate to serve with.
#[derive(Debug)]
pub enum CertificateError {
    /// Configuration: one of the two files is missing.
    Alone {
        /// The file that is there.
        there: &'static str,
        /// The file that is not.
        missing: &'static str,
    },
    /// Configuration: a file cannot be used.
    File(IdentityError),
    /// Configuration: a name that no certificate can have.
    Name(String),
    /// Device: the storage failed.
    Storage(StorageError),
    /// Device: what is stored does not hold together.
    Stored(repository::Error),
}

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alone { there, missing } => {
                write!(f, "the configuration has {there} but no {missing}: give both or neither")
            }
            Self::File(error) => error.fmt(f),
            Self::Name(error) => f.write_str(error),
            Self::Storage(error) => error.fmt(f),
            Self::Stored(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for CertificateError {}

impl From<WriteError<repository::Error>> for CertificateError {
    fn from(error: WriteError<repository::Error>) -> Self {
        match error {
            WriteError::Storage(error) => Self::Storage(error),
            WriteError::Rejected(error) => Self::Stored(error),
        }
    }
}

/// The identity in the configuration, if there is one.
///
/// # Errors
///
/// Where the files cannot be used.
pub fn configured(bundle: &Bundle) -> Result<Option<Identity>, CertificateError> {
    match (bundle.file(CHAIN_FILE), bundle.file(KEY_FILE)) {
        (None, None) => Ok(None),
        (Some(chain), Some(key)) => {
            Identity::from_pem(CHAIN_FILE, chain, KEY_FILE, key).map(Some).map_err(CertificateError::File)
        }
        (Some(_), None) => Err(CertificateError::Alone { there: CHAIN_FILE, missing: KEY_FILE }),
        (None, Some(_)) => Err(CertificateError::Alone { there: KEY_FILE, missing: CHAIN_FILE }),
    }
}

/// The identity that was made at an earlier start, or one made now for `names`, kept for the next. Who has accepted it
/// by hand is asked again only when it nears its end.
///
/// # Errors
///
/// See [`CertificateError`].
pub async fn self_signed(
    storage: &Storage,
    names: &[String],
    now: WallTime,
) -> Result<Identity, CertificateError> {
    let read = |certificate: &str, key: &str| {
        Identity::from_pem("the stored certificate", certificate.as_bytes(), "the stored key", key.as_bytes())
            .map_err(CertificateError::File)
    };
    let kept = storage.read(find).map_err(CertificateError::Storage)?.map_err(CertificateError::Stored)?;
    if let Some((certificate, key)) = kept {
        let identity = read(&certificate, &key)?;
        if now + RENEWAL < identity.expires() {
            return Ok(identity);
        }
    }
    let made = SelfSigned::generate(names, now).map_err(CertificateError::Name)?;
    let identity = read(&made.certificate_pem, &made.key_pem)?;
    storage.write(move |transaction| keep(transaction, &made)).await?;
    Ok(identity)
}

fn find(transaction: &ReadTransaction) -> Result<Option<(String, String)>, repository::Error> {
    let table = match transaction.open_table(SELF_SIGNED) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    Ok(table.get(ROW)?.map(|row| {
        let (certificate, key) = row.value();
        (certificate.to_owned(), key.to_owned())
    }))
}

fn keep(transaction: &WriteTransaction, made: &SelfSigned) -> Result<(), repository::Error> {
    let row = (made.certificate_pem.as_str(), made.key_pem.as_str());
    transaction.open_table(SELF_SIGNED)?.insert(ROW, row)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use platform::device::{ManualClock, MemoryDisk};
    use platform::executor::Executor;
    use platform::host::SimulatedHost;
    use platform::storage::StorageOptions;

    use super::*;

    #[test]
    fn it_is_made_once_and_again_before_its_end() {
        let clock = Rc::new(ManualClock::new(Duration::ZERO));
        let host = SimulatedHost::new(Rc::clone(&clock));
        let executor = Executor::new(clock);
        let handle = executor.handle();
        let test = async move {
            let disk = Box::new(MemoryDisk::new(8 << 20));
            let storage =
                Storage::open(&handle, disk, &StorageOptions::new("caldav", 8 << 20)).await.unwrap();
            let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
            let now = Duration::from_secs(1_800_000_000);
            let first = self_signed(&storage, &names, now).await.unwrap();
            let second = self_signed(&storage, &names, now + RENEWAL).await.unwrap();
            assert_eq!(first.certificate(), second.certificate());
            let renewed = self_signed(&storage, &names, first.expires() - RENEWAL).await.unwrap();
            assert_ne!(first.certificate(), renewed.certificate());
            assert!(renewed.expires() > first.expires());
        };
        executor.run(&host, test).unwrap();
    }

    #[test]
    fn a_file_alone_is_an_error_that_names_the_other() {
        // The one file of a bundle that is no archive gets the name it is asked for by.
        let bundle = Bundle::read(b"x", CHAIN_FILE).unwrap();
        let error = configured(&bundle).unwrap_err().to_string();
        assert!(error.contains("no key.pem"), "{error}");
        assert!(configured(&Bundle::default()).unwrap().is_none());
    }
}
