//! Where connections come from.

use core::future::Future;
use std::io;
use std::net::SocketAddr;

use futures_io::{AsyncRead, AsyncWrite};

use crate::net::{TcpListener, TcpStream};

/// Accepts connections. Dropped, it takes no more.
pub trait Listener {
    /// A connection's bytes. Closing it ends our direction only; dropping it gives it up, within a time of its own.
    type Stream: AsyncRead + AsyncWrite + Unpin + 'static;

    /// Waits for the next connection. Given up before it is done, it loses none.
    ///
    /// # Errors
    /// When no more connections will come.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr)>>;

    /// Whether what the streams carry is encrypted on the wire.
    fn encrypted(&self) -> bool {
        false
    }
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        TcpListener::accept(self).await
    }
}
