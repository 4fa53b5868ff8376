//! A connection in the application's hands.

use core::cell::RefCell;
use core::future::Future;
use core::net::SocketAddr;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use std::io;
use std::rc::Rc;

use futures_io::{AsyncRead, AsyncWrite};

use super::flow::Flow;
use super::shared::Shared;

/// A TCP connection, to read and write bytes.
///
/// Dropped, it closes in the background: what was written is still sent and a FIN after it, for at most a minute. If
/// received data was left unread, the peer gets a reset instead, as it would otherwise believe that it was read.
pub struct TcpStream {
    flow: Rc<RefCell<Flow>>,
    shared: Rc<Shared>,
}

impl TcpStream {
    pub(super) fn new(flow: Rc<RefCell<Flow>>, shared: Rc<Shared>) -> Self {
        Self { flow, shared }
    }

    /// Lends received bytes to `read`, straight from the receive buffer; `read` returns how many of them it took. The
    /// result is that number; 0 with received data at hand means that it took none, or that the peer has closed (then
    /// `read` was not called).
    ///
    /// `read` must not use this same stream.
    ///
    /// # Errors
    /// `ConnectionReset`, `TimedOut`, or `ConnectionAborted` after [`Self::abort`].
    pub fn poll_read_with(
        &mut self,
        context: &mut Context<'_>,
        read: impl FnOnce(&[u8]) -> usize,
    ) -> Poll<io::Result<usize>> {
        core::task::ready!(self.shared.handle.poll_budget(context));
        let mut flow = self.flow.borrow_mut();
        if let Some(kind) = flow.error {
            return Poll::Ready(Err(kind.into()));
        }
        if flow.readable() {
            let taken = flow.read_with(read).unwrap_or(0);
            self.shared.touch(&mut flow);
            return Poll::Ready(Ok(taken));
        }
        if flow.reached_end() {
            return Poll::Ready(Ok(0));
        }
        register(&mut flow.read_waker, context);
        Poll::Pending
    }

    /// Lends free space of the send buffer to `write`, which fills the front of it and returns how many bytes. `length` is
    /// how many it has: a hint of how large a buffer pays.
    ///
    /// `write` must not use this same stream.
    ///
    /// # Errors
    /// `BrokenPipe` after [`Self::shutdown`], else as [`Self::poll_read_with`].
    pub fn poll_write_with(
        &mut self,
        context: &mut Context<'_>,
        length: usize,
        write: impl FnOnce(&mut [u8]) -> usize,
    ) -> Poll<io::Result<usize>> {
        self.poll_send(context, length, |flow| flow.write_with(write))
    }

    fn poll_send(
        &mut self,
        context: &mut Context<'_>,
        length: usize,
        send: impl FnOnce(&mut Flow) -> Option<usize>,
    ) -> Poll<io::Result<usize>> {
        core::task::ready!(self.shared.handle.poll_budget(context));
        let now = self.shared.handle.now();
        let mut flow = self.flow.borrow_mut();
        if let Some(kind) = flow.error {
            return Poll::Ready(Err(kind.into()));
        }
        if !flow.may_send() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        flow.unfold(&self.shared, now);
        if !flow.is_growing_send(&self.shared, length, now)
            && let Some(sent) = send(&mut flow)
        {
            self.shared.touch(&mut flow);
            return Poll::Ready(Ok(sent));
        }
        if let Some(kind) = flow.error {
            return Poll::Ready(Err(kind.into()));
        }
        register(&mut flow.write_waker, context);
        Poll::Pending
    }

    /// Sends a FIN after all that was written: the peer reads the end. Reading goes on.
    pub fn shutdown(&mut self) {
        let mut flow = self.flow.borrow_mut();
        if flow.error.is_none() {
            flow.close(&self.shared, self.shared.handle.now());
            self.shared.touch(&mut flow);
        }
    }

    /// Ends the connection at once: what is unsent is discarded, and the peer gets a reset.
    pub fn abort(&mut self) {
        let mut flow = self.flow.borrow_mut();
        flow.unfold(&self.shared, self.shared.handle.now());
        flow.abort();
        self.shared.touch(&mut flow);
    }

    /// Whether small writes go out at once (the default) instead of waiting for the acknowledgment of the last (Nagle's
    /// algorithm, RFC 896), which costs a round trip wherever an answer is written in more than one piece.
    pub fn set_nodelay(&mut self, nodelay: bool) {
        self.flow.borrow_mut().set_nodelay(nodelay);
    }

    /// The peer's address.
    #[must_use]
    pub fn peer_addr(&self) -> SocketAddr {
        self.flow.borrow().wire.key.remote
    }

    /// Our address.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.flow.borrow().wire.key.local
    }
}

fn register(slot: &mut Option<Waker>, context: &Context<'_>) {
    match slot {
        Some(waker) => waker.clone_from(context.waker()),
        None => *slot = Some(context.waker().clone()),
    }
}

impl AsyncRead for TcpStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_read_with(context, |bytes| {
            let length = bytes.len().min(buffer.len());
            buffer[..length].copy_from_slice(&bytes[..length]);
            length
        })
    }
}

impl AsyncWrite for TcpStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.get_mut().poll_send(context, bytes.len(), |flow| flow.write_slice(bytes))
    }

    /// Does nothing: what was written is sent without being asked.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// [`TcpStream::shutdown`]; does not wait for the peer.
    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().shutdown();
        Poll::Ready(Ok(()))
    }
}

impl Drop for TcpStream {
    fn drop(&mut self) {
        let mut flow = self.flow.borrow_mut();
        flow.detach(&self.shared, self.shared.handle.now());
        self.shared.touch(&mut flow);
    }
}

/// A connection being opened; dropped, the attempt ends. Made by [`TcpEngine::connect`](super::TcpEngine::connect).
pub struct Connect {
    stream: Option<io::Result<TcpStream>>,
}

impl Connect {
    pub(super) fn new(stream: io::Result<TcpStream>) -> Self {
        Self { stream: Some(stream) }
    }
}

impl Future for Connect {
    type Output = io::Result<TcpStream>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(attempt) = self.stream.take() else {
            // Polled after it completed.
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        let stream = match attempt {
            Ok(stream) => stream,
            Err(error) => return Poll::Ready(Err(error)),
        };
        let mut flow = stream.flow.borrow_mut();
        if let Some(kind) = flow.error {
            return Poll::Ready(Err(kind.into()));
        }
        if flow.is_established() {
            drop(flow);
            return Poll::Ready(Ok(stream));
        }
        register(&mut flow.write_waker, context);
        drop(flow);
        self.stream = Some(Ok(stream));
        Poll::Pending
    }
}
