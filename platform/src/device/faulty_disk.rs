//! A disk that fails when it is told to.

use core::cell::RefCell;
use core::task::{Context, Poll, Waker};
use std::collections::VecDeque;
use std::rc::Rc;

use super::{Block, BlockError, BlockProperties, Completion, Operation, Request, RequestId};

/// A block device whose requests fail on command. Clones share the command and the device.
#[derive(Clone)]
pub struct FaultyDisk<B> {
    inner: B,
    shared: Rc<RefCell<Shared>>,
}

#[derive(Default)]
struct Shared {
    faults: Vec<Fault>,
    failed: VecDeque<Completion>,
    failures: u64,
    waker: Option<Waker>,
}

struct Fault {
    operation: Operation,
    skip: u64,
    count: u64,
}

impl<B: Block> FaultyDisk<B> {
    /// A device that does as `inner` until told otherwise.
    pub fn new(inner: B) -> Self {
        Self { inner, shared: Rc::default() }
    }

    /// Lets `count` requests of a kind fail after `skip` more that do not.
    pub fn fail(&self, operation: Operation, skip: u64, count: u64) {
        self.shared.borrow_mut().faults.push(Fault { operation, skip, count });
    }
}

impl Shared {
    /// Whether the next request of a kind fails.
    fn strikes(&mut self, operation: Operation) -> bool {
        let mut strikes = false;
        for fault in self.faults.iter_mut().filter(|fault| fault.operation == operation) {
            if fault.skip > 0 {
                fault.skip -= 1;
            } else if fault.count > 0 {
                fault.count -= 1;
                strikes = true;
            }
        }
        strikes
    }
}

impl<B: Block> Block for FaultyDisk<B> {
    fn properties(&self) -> BlockProperties {
        self.inner.properties()
    }

    fn submit(&mut self, request: Request) -> Result<RequestId, (BlockError, Request)> {
        let mut shared = self.shared.borrow_mut();
        if !shared.strikes(request.operation) {
            drop(shared);
            return self.inner.submit(request);
        }
        shared.failures += 1;
        // From the end of the numbers: the inner device counts from their beginning.
        let id = RequestId(u64::MAX - shared.failures);
        let result = Err(BlockError::Device);
        shared.failed.push_back(Completion { id, result, buffer: request.buffer });
        if let Some(waker) = shared.waker.take() {
            waker.wake();
        }
        Ok(id)
    }

    fn poll_complete(&mut self, context: &mut Context<'_>) -> Poll<Completion> {
        let mut shared = self.shared.borrow_mut();
        if let Some(completion) = shared.failed.pop_front() {
            return Poll::Ready(completion);
        }
        shared.waker = Some(context.waker().clone());
        drop(shared);
        self.inner.poll_complete(context)
    }

    fn wait_complete(&mut self) -> Option<Completion> {
        let failed = self.shared.borrow_mut().failed.pop_front();
        failed.or_else(|| self.inner.wait_complete())
    }
}
