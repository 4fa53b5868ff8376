//! Listening: the queue of connections that have been established and wait for `accept`.

use core::cell::RefCell;
use core::net::SocketAddr;
use core::task::{Context, Poll, Waker};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

use super::flow::Flow;
use super::shared::Shared;
use super::stream::TcpStream;
use crate::device::Instant;

/// A listener's state, shared by its socket, the engine and the connections on their way.
pub(super) struct Backlog {
    pub(super) local: SocketAddr,
    /// Most connections in `queue`.
    limit: usize,
    queue: VecDeque<Rc<RefCell<Flow>>>,
    /// Handshakes that have state here.
    pub(super) half_open: usize,
    /// Until when a bare ACK may be the answer to a cookie.
    pub(super) cookies_until: Option<Instant>,
    waiting: Vec<Waker>,
    closed: bool,
}

pub(super) type SharedBacklog = Rc<RefCell<Backlog>>;

impl Backlog {
    pub(super) fn new(local: SocketAddr, limit: usize) -> SharedBacklog {
        Rc::new(RefCell::new(Self {
            local,
            limit: limit.max(1),
            queue: VecDeque::new(),
            half_open: 0,
            cookies_until: None,
            waiting: Vec::new(),
            closed: false,
        }))
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(super) fn is_full(&self) -> bool {
        self.queue.len() >= self.limit
    }

    pub(super) fn push(&mut self, flow: Rc<RefCell<Flow>>) {
        self.queue.push_back(flow);
        self.waiting.drain(..).for_each(Waker::wake);
    }
}

/// Accepts connections. Dropped, it stops listening and resets those that nobody has accepted.
pub struct TcpListener {
    backlog: SharedBacklog,
    shared: Rc<Shared>,
}

impl TcpListener {
    pub(super) fn new(backlog: SharedBacklog, shared: Rc<Shared>) -> Self {
        Self { backlog, shared }
    }

    /// The next connection, and the peer's address.
    ///
    /// # Errors
    /// `NotConnected` once the listener is closed.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        core::future::poll_fn(|context| self.poll_accept(context)).await
    }

    /// [`Self::accept`], as a poll. Several tasks may wait.
    ///
    /// # Errors
    /// `NotConnected` once the listener is closed.
    pub fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        let mut backlog = self.backlog.borrow_mut();
        // What has died in the queue is passed over.
        while backlog.queue.front().is_some_and(|flow| flow.borrow().error.is_some()) {
            backlog.queue.pop_front();
        }
        if !backlog.queue.is_empty() {
            core::task::ready!(self.shared.handle.poll_budget(context));
        }
        if let Some(flow) = backlog.queue.pop_front() {
            let stream = TcpStream::new(flow, Rc::clone(&self.shared));
            let peer = stream.peer_addr();
            return Poll::Ready(Ok((stream, peer)));
        }
        if backlog.closed {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        }
        if !backlog.waiting.iter().any(|waker| waker.will_wake(context.waker())) {
            backlog.waiting.push(context.waker().clone());
        }
        Poll::Pending
    }

    /// The address and port that it listens on.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.backlog.borrow().local
    }

    /// Stops listening: SYNs are refused from now on, waiting `accept`s fail, and connections not yet accepted are reset.
    pub fn close(&self) {
        let mut backlog = self.backlog.borrow_mut();
        backlog.closed = true;
        backlog.waiting.drain(..).for_each(Waker::wake);
        for flow in backlog.queue.drain(..) {
            let mut flow = flow.borrow_mut();
            flow.unfold(&self.shared, self.shared.handle.now());
            flow.abort();
            flow.detached = true;
            self.shared.touch(&mut flow);
        }
    }
}

impl Drop for TcpListener {
    fn drop(&mut self) {
        self.close();
    }
}
