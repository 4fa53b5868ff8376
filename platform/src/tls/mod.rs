//! TLS 1.2 and 1.3: rustls over the platform's streams.
//!
//! [`Acceptor`] makes servers and [`Connector`] clients; both give a [`TlsStream`], which is a stream again. The server's
//! certificate is an [`Identity`]; [`Identities`] holds the one in use and swaps it without a restart. Where there is none in the
//! configuration, [`SelfSigned::generate`] makes one.
//!
//! Reading: RFC 8446 (TLS 1.3), RFC 5246 (TLS 1.2), RFC 7301 (ALPN).

mod acceptor;
mod clock;
mod connector;
mod identity;
mod self_signed;
mod stream;

pub use acceptor::{Acceptor, Listener};
pub use connector::{Connector, ConnectorError};
pub use identity::{Identities, Identity, IdentityError};
pub use self_signed::SelfSigned;
pub use stream::TlsStream;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

/// The cryptography that everything here stands on; the one place that names it.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

#[cfg(test)]
mod tests;
