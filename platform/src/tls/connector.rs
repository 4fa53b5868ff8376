//! The client's side.

use core::fmt;
use core::time::Duration;
use std::io;
use std::sync::Arc;

use futures_io::{AsyncRead, AsyncWrite};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::clock::LastLook;
use super::{TlsStream, provider};
use crate::executor::Handle;

/// How long a handshake may take.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);

/// Makes TLS clients of streams.
pub struct Connector {
    configuration: Arc<ClientConfig>,
    time: Arc<LastLook>,
    handle: Handle,
}

/// Configuration: a root certificate cannot be used.
#[derive(Debug)]
pub struct ConnectorError(String);

impl fmt::Display for ConnectorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a root certificate cannot be used: {}", self.0)
    }
}

impl std::error::Error for ConnectorError {}

impl Connector {
    /// A connector that trusts `roots` alone, and offers `alpn` in this order.
    ///
    /// # Errors
    /// If a root is no certificate.
    pub fn new<'r>(
        handle: &Handle,
        roots: impl IntoIterator<Item = CertificateDer<'r>>,
        alpn: &[&[u8]],
    ) -> Result<Self, ConnectorError> {
        let mut store = RootCertStore::empty();
        for root in roots {
            store.add(root).map_err(|error| ConnectorError(error.to_string()))?;
        }
        let time = LastLook::new();
        let mut configuration = ClientConfig::builder_with_details(provider(), time.clone())
            .with_protocol_versions(rustls::ALL_VERSIONS)
            .expect("the provider speaks TLS 1.2 and 1.3")
            .with_root_certificates(store)
            .with_no_client_auth();
        configuration.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(Self { configuration: Arc::new(configuration), time, handle: handle.clone() })
    }

    /// A client on `stream` of the server called `name`, with its handshake done.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] if `name` is neither a DNS name nor an address; those of [`TlsStream::handshake`];
    /// [`io::ErrorKind::TimedOut`] after 10 seconds.
    pub async fn connect<S>(&self, name: &str, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.time.look(&**self.handle.clock());
        let name = ServerName::try_from(name.to_owned())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let connection =
            ClientConnection::new(Arc::clone(&self.configuration), name).map_err(io::Error::other)?;
        let mut stream = TlsStream::new(stream, connection);
        match self.handle.timeout(HANDSHAKE_TIME, stream.handshake()).await {
            Ok(result) => result.map(|()| stream),
            Err(elapsed) => Err(io::Error::new(io::ErrorKind::TimedOut, elapsed)),
        }
    }
}
