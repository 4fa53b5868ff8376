//! What a connection knows of itself: shared by its stream, its requests and its responses, all on one thread.

use core::cell::{Cell, RefCell};
use core::task::{Poll, Waker};
use std::io;
use std::rc::Rc;

use super::progress::Progress;
use super::{Limits, Statistics};
use crate::device::Instant;
use crate::executor::Handle;

/// What the server wants of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wish {
    /// Go on.
    #[default]
    Serve,
    /// Finish the running requests, take no more.
    Finish,
    /// End now.
    End,
}

pub(super) struct ConnectionState {
    pub(super) handle: Handle,
    pub(super) statistics: Rc<Statistics>,
    /// Requests whose responses are not yet handed over in full.
    active: Cell<u32>,
    /// Responses that are begun and not yet handed over in full.
    responses: Cell<u32>,
    /// Requests taken.
    requests: Cell<u64>,
    /// No request has been active since then.
    idle_since: Cell<Instant>,
    /// When the first byte of a head came that is not yet complete.
    head_since: Cell<Option<Instant>>,
    /// Whether the peer has said that it will send no more.
    ended: Cell<bool>,
    /// The peer's taking of what we write.
    writing: RefCell<Progress>,
    /// When bytes last went out, or a response was begun: HTTP/2 streams may stall without the connection stalling.
    moved_out: Cell<Instant>,
    /// Responses that wait for their handler to make more, and so not for the peer.
    waiting_for_handler: Cell<u32>,
    wish: Cell<Wish>,
    waker: RefCell<Option<Waker>>,
}

impl ConnectionState {
    pub(super) fn new(handle: &Handle, limits: &Limits, statistics: &Rc<Statistics>) -> Rc<Self> {
        let now = handle.now();
        Rc::new(Self {
            handle: handle.clone(),
            statistics: Rc::clone(statistics),
            active: Cell::new(0),
            responses: Cell::new(0),
            requests: Cell::new(0),
            idle_since: Cell::new(now),
            head_since: Cell::new(Some(now)),
            ended: Cell::new(false),
            writing: RefCell::new(Progress::new(limits)),
            moved_out: Cell::new(now),
            waiting_for_handler: Cell::new(0),
            wish: Cell::default(),
            waker: RefCell::default(),
        })
    }

    /// `length` bytes came from the peer.
    pub(super) fn received(&self, length: usize) {
        if length == 0 {
            self.ended.set(true);
        } else if self.active.get() == 0 && self.head_since.get().is_none() {
            self.head_since.set(Some(self.handle.now()));
        }
    }

    /// The stream took bytes, or would not.
    pub(super) fn written(&self, written: &Poll<io::Result<usize>>) {
        match written {
            Poll::Ready(Ok(length)) => self.writing.borrow_mut().advance(*length, || self.handle.now()),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.writing.borrow_mut().wait(self.handle.now()),
        }
    }

    /// A request's head is complete. Returns how many there have been.
    pub(super) fn request_begins(&self) -> u64 {
        self.active.set(self.active.get() + 1);
        self.head_since.set(None);
        let requests = self.requests.get() + 1;
        self.requests.set(requests);
        requests
    }

    /// The handler has answered.
    pub(super) fn response_begins(&self) {
        self.responses.set(self.responses.get() + 1);
        self.moved_out.set(self.handle.now());
    }

    /// A response has been handed over in full, or given up.
    pub(super) fn response_ends(&self) {
        self.responses.set(self.responses.get().saturating_sub(1));
        self.moved_out.set(self.handle.now());
    }

    /// A request's response has ended, or its handler was given up.
    pub(super) fn request_ends(&self) {
        self.active.set(self.active.get().saturating_sub(1));
        self.idle_since.set(self.handle.now());
    }

    /// Some of a response has been handed over.
    pub(super) fn response_moves(&self) {
        self.moved_out.set(self.handle.now());
    }

    /// A response begins or ceases to wait for its handler.
    pub(super) fn response_waits(&self, waits: bool) {
        let count = self.waiting_for_handler.get();
        self.waiting_for_handler.set(if waits { count + 1 } else { count.saturating_sub(1) });
        self.response_moves();
    }

    /// Whether no request runs and nothing waits to be written.
    pub(super) fn is_idle(&self) -> bool {
        self.active.get() == 0 && self.writing.borrow().deadline().is_none()
    }

    pub(super) fn requests(&self) -> u64 {
        self.requests.get()
    }

    pub(super) fn idle_since(&self) -> Instant {
        self.idle_since.get()
    }

    pub(super) fn head_since(&self) -> Option<Instant> {
        self.head_since.get().filter(|_| self.active.get() == 0)
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.get()
    }

    /// When the peer will have taken too little of what we write.
    pub(super) fn write_deadline(&self, limits: &Limits) -> Option<Instant> {
        let stream = self.writing.borrow().deadline();
        let stalled = self.responses.get() > self.waiting_for_handler.get();
        let responses = stalled.then(|| self.moved_out.get() + limits.progress_time);
        stream.into_iter().chain(responses).min()
    }

    pub(super) fn wish(&self) -> Wish {
        self.wish.get()
    }

    /// Tells the connection what the server wants, if that is more than it wanted before.
    pub(super) fn set_wish(&self, wish: Wish) {
        if wish > self.wish.get() {
            self.wish.set(wish);
            if let Some(waker) = self.waker.borrow_mut().take() {
                waker.wake();
            }
        }
    }

    /// Remembers whom to wake. Returns whether that is somebody new.
    pub(super) fn set_waker(&self, waker: &Waker) -> bool {
        let mut stored = self.waker.borrow_mut();
        match stored.as_ref() {
            Some(known) if known.will_wake(waker) => false,
            _ => {
                *stored = Some(waker.clone());
                true
            }
        }
    }
}
