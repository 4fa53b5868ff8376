//! A stream of the platform, as hyper wants it, and what the connection needs to know of it.

use core::cell::RefCell;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::io;
use std::rc::Rc;

use bytes::{Buf, Bytes};
use futures_io::{AsyncRead, AsyncWrite};
use hyper::rt::ReadBufCursor;

use super::state::ConnectionState;

/// Bytes read from a stream at once, for all connections of a server together: there is one thread, and what was read is
/// passed on before the next read. It spares each connection a zeroed buffer per read.
const SCRATCH: usize = 16 * 1024;

/// The buffer that every connection of a server reads into first.
#[derive(Clone)]
pub(super) struct Scratch(Rc<RefCell<Box<[u8]>>>);

impl Scratch {
    pub(super) fn new() -> Self {
        Self(Rc::new(RefCell::new(vec![0; SCRATCH].into_boxed_slice())))
    }
}

/// A stream for hyper. It tells the connection's state of every byte that moves or does not.
pub(super) struct Stream<S> {
    stream: S,
    /// Bytes that were read before hyper was there to read them.
    before: Bytes,
    scratch: Scratch,
    state: Rc<ConnectionState>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream<S> {
    pub(super) fn new(stream: S, scratch: Scratch, state: Rc<ConnectionState>) -> Self {
        Self { stream, before: Bytes::new(), scratch, state }
    }

    /// Puts back bytes that were read, to be read again first.
    pub(super) fn put_back(&mut self, bytes: Bytes) {
        debug_assert!(self.before.is_empty(), "bytes put back twice");
        self.before = bytes;
    }

    /// Whether the peer has said that it will send no more.
    pub(super) fn has_ended(&self) -> bool {
        self.state.has_ended()
    }

    /// Reads some bytes and passes them to `take`. Returns how many; 0 is the end.
    pub(super) fn poll_with<T>(
        &mut self,
        context: &mut Context<'_>,
        limit: usize,
        take: impl FnOnce(&[u8]) -> T,
    ) -> Poll<io::Result<T>> {
        if !self.before.is_empty() {
            let length = limit.min(self.before.len());
            self.state.received(length);
            let taken = take(&self.before[..length]);
            self.before.advance(length);
            if self.before.is_empty() {
                self.before = Bytes::new();
            }
            return Poll::Ready(Ok(taken));
        }
        let mut scratch = self.scratch.0.borrow_mut();
        let limit = limit.min(scratch.len());
        let polled = Pin::new(&mut self.stream).poll_read(context, &mut scratch[..limit]);
        polled.map_ok(|length| {
            self.state.received(length);
            take(&scratch[..length])
        })
    }

    pub(super) fn poll_close_stream(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(context)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> hyper::rt::Read for Stream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        self.get_mut().poll_with(context, cursor.remaining(), |bytes| cursor.put_slice(bytes))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> hyper::rt::Write for Stream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.state.written(&written);
        written
    }

    /// Goes on from slice to slice as far as the stream takes them: one that knows no vectored writes takes one at a time.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut total = 0;
        while !slices.is_empty() {
            let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
            self.state.written(&written);
            let mut length = match written {
                Poll::Ready(Ok(length)) => length,
                // What went before counts; this will come again.
                _ if total > 0 => break,
                other => return other,
            };
            total += length;
            while let Some(first) = slices.first().filter(|first| first.len() <= length) {
                length -= first.len();
                slices = &slices[1..];
            }
            if length > 0 || total == 0 {
                break;
            }
        }
        Poll::Ready(Ok(total))
    }

    /// Head and body of a response go to the stream in one call, and so into one segment, without a copy before.
    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    /// hyper's wish to close does not reach the stream: the connection closes it, and lingers.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A stream lent to hyper's HTTP/2, which does not give back what it is given.
pub(super) struct Lent<S>(Rc<RefCell<Stream<S>>>);

impl<S> Lent<S> {
    /// The stream, and what is lent of it. Once that is dropped the stream can be taken out again.
    pub(super) fn new(stream: Stream<S>) -> (Rc<RefCell<Stream<S>>>, Self) {
        let stream = Rc::new(RefCell::new(stream));
        (Rc::clone(&stream), Self(stream))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> hyper::rt::Read for Lent<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_read(context, cursor)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> hyper::rt::Write for Lent<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.borrow().is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_shutdown(context)
    }
}
