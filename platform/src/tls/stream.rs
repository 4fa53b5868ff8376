//! A stream under TLS. The handshake is driven by whoever reads or writes first.

use core::future::poll_fn;
use core::pin::Pin;
use core::task::{Context, Poll, ready};
use std::io;

use futures_io::{AsyncRead, AsyncWrite};
use rustls::Connection;

/// TLS over a stream.
///
/// A peer that ends the stream without a `close_notify` may have been cut off by somebody else: reading then ends with
/// [`io::ErrorKind::UnexpectedEof`], never as if all had been said (RFC 8446, 6.1).
pub struct TlsStream<S> {
    stream: S,
    connection: Connection,
    closing: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream<S> {
    pub(super) fn new(stream: S, connection: impl Into<Connection>) -> Self {
        Self { stream, connection: connection.into(), closing: false }
    }

    /// Completes the handshake.
    ///
    /// # Errors
    /// The stream's, [`io::ErrorKind::InvalidData`] with rustls's reason, or [`io::ErrorKind::UnexpectedEof`].
    pub async fn handshake(&mut self) -> io::Result<()> {
        poll_fn(|context| {
            ready!(self.poll_handshake(context))?;
            // The last message of it may be ours, and the peer waits for it.
            self.poll_send(context)
        })
        .await
    }

    /// The protocol agreed on by ALPN, once the handshake is through.
    #[must_use]
    pub fn alpn_protocol(&self) -> Option<&[u8]> {
        self.connection.alpn_protocol()
    }

    /// The connection as rustls knows it.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    #[cfg(test)]
    pub(super) fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    fn poll_handshake(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.connection.is_handshaking() {
            // What we have to say comes first: the peer waits for it.
            ready!(self.poll_send(context))?;
            if self.connection.is_handshaking() {
                ready!(self.poll_receive(context))?;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Hands everything that is encrypted to the stream.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.connection.wants_write() {
            let mut port = Port { stream: &mut self.stream, context };
            if ready!(poll_of(self.connection.write_tls(&mut port)))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Takes in what the stream has, at least one byte of it. At the stream's end that is no error yet: rustls knows
    /// whether the peer had said so.
    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut port = Port { stream: &mut self.stream, context };
        let length = ready!(poll_of(self.connection.read_tls(&mut port)))?;
        if let Err(error) = self.connection.process_new_packets() {
            // The alert that says why. If it does not fit it is lost; the connection is over in any case.
            let _ = self.poll_send(context);
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
        }
        if length == 0 && self.connection.is_handshaking() {
            let error = io::Error::new(io::ErrorKind::UnexpectedEof, "the peer ended during the handshake");
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(()))
    }

    /// Has `write` give plain bytes to rustls, as much as its buffer takes, and sends what comes of it.
    fn poll_write_with(
        &mut self,
        context: &mut Context<'_>,
        mut write: impl FnMut(&mut rustls::Writer<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_handshake(context))?;
        let mut length = write(&mut self.connection.writer())?;
        if length == 0 {
            // The buffer is full of records that the stream would not take.
            ready!(self.poll_send(context))?;
            length = write(&mut self.connection.writer())?;
        }
        match self.poll_send(context) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            // What is pending is sent at the next write or flush.
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(length)),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        loop {
            match io::Read::read(&mut this.connection.reader(), buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read),
            }
            // The peer may wait for a part of the handshake, or for an answer to a key update.
            if let Poll::Ready(sent) = this.poll_send(context) {
                sent?;
            }
            ready!(this.poll_receive(context))?;
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.get_mut().poll_write_with(context, |writer| io::Write::write(writer, bytes))
    }

    /// All slices go into one record, if they fit one.
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if slices.iter().all(|slice| slice.is_empty()) {
            return Poll::Ready(Ok(0));
        }
        self.get_mut().poll_write_with(context, |writer| io::Write::write_vectored(writer, slices))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_send(context))?;
        Pin::new(&mut this.stream).poll_flush(context)
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.closing {
            this.closing = true;
            this.connection.send_close_notify();
        }
        ready!(this.poll_send(context))?;
        Pin::new(&mut this.stream).poll_close(context)
    }
}

/// A polled stream as rustls wants it: what is pending "would block".
struct Port<'p, 'c, S> {
    stream: &'p mut S,
    context: &'p mut Context<'c>,
}

fn result_of<T>(poll: Poll<io::Result<T>>) -> io::Result<T> {
    match poll {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

fn poll_of<T>(result: io::Result<T>) -> Poll<io::Result<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        result => Poll::Ready(result),
    }
}

impl<S: AsyncRead + Unpin> io::Read for Port<'_, '_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        result_of(Pin::new(&mut *self.stream).poll_read(self.context, buffer))
    }
}

impl<S: AsyncWrite + Unpin> io::Write for Port<'_, '_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        result_of(Pin::new(&mut *self.stream).poll_write(self.context, bytes))
    }

    fn write_vectored(&mut self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        result_of(Pin::new(&mut *self.stream).poll_write_vectored(self.context, slices))
    }

    fn flush(&mut self) -> io::Result<()> {
        result_of(Pin::new(&mut *self.stream).poll_flush(self.context))
    }
}
