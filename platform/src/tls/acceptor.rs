//! The server's side: handshakes with the identity that is in use now.

use core::time::Duration;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use futures_io::{AsyncRead, AsyncWrite};
use rustls::server::ServerSessionMemoryCache;
use rustls::{ServerConfig, ServerConnection};

use super::clock::LastLook;
use super::{Identities, TlsStream, provider};
use crate::executor::Handle;
use crate::http;

/// Sessions kept for resumption, some 500 bytes each. They are kept here and not in tickets, so there is no ticket key whose
/// theft would open recorded traffic.
const SESSIONS: usize = 512;

/// Encrypted bytes held for a peer that does not take them.
const BUFFER: usize = 32 * 1024;

/// How long a handshake may take. Two round trips and a signature: seconds even on a bad line.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);

/// Makes TLS servers of streams.
pub struct Acceptor {
    configuration: Arc<ServerConfig>,
    time: Arc<LastLook>,
    handle: Handle,
}

impl Acceptor {
    /// An acceptor that shows the identity in `identities`, and agrees on the first of `alpn` that the client offers.
    #[must_use]
    pub fn new(handle: &Handle, identities: &Identities, alpn: &[&[u8]]) -> Self {
        let time = LastLook::new();
        // rustls refuses only a provider without the cipher suites of a version, and ring has them for both.
        let mut configuration = ServerConfig::builder_with_details(provider(), time.clone())
            .with_protocol_versions(rustls::ALL_VERSIONS)
            .expect("the provider speaks TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_cert_resolver(identities.resolver());
        configuration.session_storage = ServerSessionMemoryCache::new(SESSIONS);
        configuration.send_tls13_tickets = 1;
        configuration.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Self { configuration: Arc::new(configuration), time, handle: handle.clone() }
    }

    /// An acceptor for HTTP: `h2`, then `http/1.1`.
    #[must_use]
    pub fn http(handle: &Handle, identities: &Identities) -> Self {
        Self::new(handle, identities, &[b"h2", b"http/1.1"])
    }

    /// A server on `stream` whose handshake begins with the first read or write. Who uses it sets the time.
    ///
    /// # Errors
    /// [`io::ErrorKind::Other`] if rustls refuses its configuration, which this one does not give it cause to.
    pub fn wrap<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> io::Result<TlsStream<S>> {
        self.time.look(&**self.handle.clock());
        let mut connection =
            ServerConnection::new(Arc::clone(&self.configuration)).map_err(io::Error::other)?;
        connection.set_buffer_limit(Some(BUFFER));
        Ok(TlsStream::new(stream, connection))
    }

    /// A server on `stream`, with its handshake done.
    ///
    /// # Errors
    /// Those of [`TlsStream::handshake`], and [`io::ErrorKind::TimedOut`] after 10 seconds.
    pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> io::Result<TlsStream<S>> {
        let mut stream = self.wrap(stream)?;
        match self.handle.timeout(HANDSHAKE_TIME, stream.handshake()).await {
            Ok(result) => result?,
            Err(elapsed) => return Err(io::Error::new(io::ErrorKind::TimedOut, elapsed)),
        }
        Ok(stream)
    }
}

/// A listener for HTTP whose connections are under TLS. The handshake runs in the connection's own task, so a client that
/// dawdles delays nobody, and counts against [`http::Limits::head_time`].
pub struct Listener<L> {
    listener: L,
    acceptor: Rc<Acceptor>,
}

impl<L> Listener<L> {
    /// TLS on the connections of `listener`.
    #[must_use]
    pub fn new(listener: L, acceptor: Rc<Acceptor>) -> Self {
        Self { listener, acceptor }
    }
}

impl<L: http::Listener> http::Listener for Listener<L> {
    type Stream = TlsStream<L::Stream>;

    async fn accept(&mut self) -> io::Result<(Self::Stream, SocketAddr)> {
        let (stream, peer) = self.listener.accept().await?;
        Ok((self.acceptor.wrap(stream)?, peer))
    }

    fn encrypted(&self) -> bool {
        true
    }
}
