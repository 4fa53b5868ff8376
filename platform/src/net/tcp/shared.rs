//! What the engine and its sockets share.

use core::cell::{Cell, RefCell};
use core::task::Waker;
use std::collections::VecDeque;
use std::rc::Rc;

use super::counters::TcpCounters;
use super::flow::Flow;
use super::limits::TcpLimits;
use super::sequence::Initial;
use crate::executor::Handle;

/// Names a flow while it is in the table; may name another after.
pub(super) type FlowId = usize;

pub(super) struct Shared {
    pub(super) handle: Handle,
    pub(super) limits: TcpLimits,
    pub(super) initial: Initial,
    counters: Cell<TcpCounters>,
    buffer_bytes: Cell<usize>,
    /// Flows that `poll` has to look at, first come first served.
    dirty: RefCell<VecDeque<FlowId>>,
    waker: RefCell<Option<Waker>>,
}

impl Shared {
    pub(super) fn new(handle: Handle, limits: TcpLimits, initial: Initial) -> Self {
        Self {
            handle,
            limits,
            initial,
            counters: Cell::default(),
            buffer_bytes: Cell::new(0),
            dirty: RefCell::default(),
            waker: RefCell::default(),
        }
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut TcpCounters)) {
        let mut counters = self.counters.get();
        change(&mut counters);
        self.counters.set(counters);
    }

    pub(super) fn counters(&self) -> TcpCounters {
        TcpCounters { buffer_bytes: self.buffer_bytes.get() as u64, ..self.counters.get() }
    }

    /// Has `poll` look at a flow. For the engine itself, which `poll` follows.
    pub(super) fn enqueue(&self, flow: &mut Flow) {
        if !core::mem::replace(&mut flow.queued, true) {
            self.dirty.borrow_mut().push_back(flow.id);
        }
    }

    /// Has `poll` look at a flow soon. For sockets.
    pub(super) fn touch(&self, flow: &mut Flow) {
        self.enqueue(flow);
        self.wake();
    }

    /// Asks for `poll`.
    pub(super) fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    pub(super) fn next_dirty(&self) -> Option<FlowId> {
        self.dirty.borrow_mut().pop_front()
    }

    pub(super) fn dirty(&self) -> usize {
        self.dirty.borrow().len()
    }

    pub(super) fn set_waker(&self, waker: &Waker) {
        let mut stored = self.waker.borrow_mut();
        match &mut *stored {
            Some(stored) => stored.clone_from(waker),
            None => *stored = Some(waker.clone()),
        }
    }

    /// Whether buffers have reached their limit.
    pub(super) fn is_short(&self) -> bool {
        self.buffer_bytes.get() > self.limits.buffer_memory
    }

    /// Whether buffers may grow by so much.
    pub(super) fn may_grow(&self, bytes: usize) -> bool {
        self.buffer_bytes.get() + bytes <= self.limits.buffer_memory
    }
}

/// Accounts for the buffers of one socket as long as it lives.
pub(super) struct BufferShare {
    shared: Rc<Shared>,
    bytes: usize,
}

impl BufferShare {
    pub(super) fn take(shared: &Rc<Shared>, bytes: usize) -> Self {
        shared.buffer_bytes.set(shared.buffer_bytes.get() + bytes);
        Self { shared: Rc::clone(shared), bytes }
    }
}

impl Drop for BufferShare {
    fn drop(&mut self) {
        self.shared.buffer_bytes.set(self.shared.buffer_bytes.get() - self.bytes);
    }
}
