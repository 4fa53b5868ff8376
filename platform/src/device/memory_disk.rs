//! A block device in memory.

use core::cell::RefCell;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use std::collections::VecDeque;
use std::rc::Rc;

use super::block::validate_block_request;
use super::{Block, BlockError, BlockProperties, Completion, Operation, Request, RequestId};
use crate::executor::{Handle, Sleep};

/// A disk in memory. Clones are the same disk, so that a test can look at what an image's driver writes, let the disk
/// grow, and hand it to the next run.
#[derive(Clone)]
pub struct MemoryDisk {
    shared: Rc<RefCell<Shared>>,
}

struct Shared {
    properties: BlockProperties,
    content: Vec<u8>,
    latency: Option<Latency>,
    in_flight: VecDeque<InFlight>,
    next_id: u64,
    waker: Option<Waker>,
}

struct Latency {
    handle: Handle,
    transfer: Duration,
    flush: Duration,
}

struct InFlight {
    completion: Completion,
    due: Option<Sleep>,
}

impl MemoryDisk {
    /// A blank disk of `capacity` bytes in sectors of 512, with a queue of 128 requests that complete at once.
    #[must_use]
    pub fn new(capacity: u64) -> Self {
        Self::with_content(vec![0; usize::try_from(capacity).expect("a disk in memory fits into memory")])
    }

    /// A disk that holds `content`.
    #[must_use]
    pub fn with_content(content: Vec<u8>) -> Self {
        let properties = BlockProperties {
            sector_size: 512,
            capacity: content.len() as u64,
            read_only: false,
            durable_flush: true,
            queue_depth: 128,
        };
        let shared = Shared {
            properties,
            content,
            latency: None,
            in_flight: VecDeque::new(),
            next_id: 0,
            waker: None,
        };
        Self { shared: Rc::new(RefCell::new(shared)) }
    }

    /// Sets the sector size, the queue depth, or that writes are refused. The capacity stays.
    #[must_use]
    pub fn with_properties(self, change: impl FnOnce(&mut BlockProperties)) -> Self {
        {
            let mut shared = self.shared.borrow_mut();
            let capacity = shared.properties.capacity;
            change(&mut shared.properties);
            shared.properties.capacity = capacity;
        }
        self
    }

    /// Lets each transfer take `transfer` and each flush `flush`, by the timers of an executor. (A caller of
    /// [`Block::wait_complete`] does not wait: in a simulation nothing would move the clock.)
    #[must_use]
    pub fn with_latency(self, handle: Handle, transfer: Duration, flush: Duration) -> Self {
        self.shared.borrow_mut().latency = Some(Latency { handle, transfer, flush });
        self
    }

    /// Lets the disk grow to `capacity` bytes, as an operator may while an image runs.
    ///
    /// # Panics
    /// If it is larger already.
    pub fn grow(&self, capacity: u64) {
        let mut shared = self.shared.borrow_mut();
        assert!(capacity >= shared.properties.capacity, "a disk does not shrink");
        shared.content.resize(usize::try_from(capacity).expect("a disk in memory fits into memory"), 0);
        shared.properties.capacity = capacity;
    }

    /// What is on the disk.
    #[must_use]
    pub fn content(&self) -> Vec<u8> {
        self.shared.borrow().content.clone()
    }
}

impl Shared {
    fn perform(&mut self, request: &mut Request) {
        let start = usize::try_from(request.offset).expect("validated");
        match request.operation {
            Operation::Read => {
                let length = request.buffer.len();
                request.buffer.copy_from_slice(&self.content[start..start + length]);
            }
            Operation::Write => {
                self.content[start..start + request.buffer.len()].copy_from_slice(&request.buffer);
            }
            Operation::Flush => {}
        }
    }
}

impl Block for MemoryDisk {
    fn properties(&self) -> BlockProperties {
        self.shared.borrow().properties
    }

    fn submit(&mut self, mut request: Request) -> Result<RequestId, (BlockError, Request)> {
        let mut shared = self.shared.borrow_mut();
        if let Err(error) = validate_block_request(&shared.properties, &request) {
            return Err((error, request));
        }
        if shared.in_flight.len() >= shared.properties.queue_depth {
            return Err((BlockError::Busy, request));
        }
        shared.perform(&mut request);
        let id = RequestId(shared.next_id);
        shared.next_id += 1;
        let due = shared.latency.as_ref().map(|latency| {
            let flush = request.operation == Operation::Flush;
            latency.handle.sleep(if flush { latency.flush } else { latency.transfer })
        });
        let completion = Completion { id, result: Ok(()), buffer: request.buffer };
        shared.in_flight.push_back(InFlight { completion, due });
        if let Some(waker) = shared.waker.take() {
            waker.wake();
        }
        Ok(id)
    }

    fn poll_complete(&mut self, context: &mut Context<'_>) -> Poll<Completion> {
        let mut shared = self.shared.borrow_mut();
        let done = shared.in_flight.iter_mut().position(|request| match &mut request.due {
            Some(due) => Pin::new(due).poll(context).is_ready(),
            None => true,
        });
        match done.and_then(|index| shared.in_flight.remove(index)) {
            Some(request) => Poll::Ready(request.completion),
            None => {
                shared.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    fn wait_complete(&mut self) -> Option<Completion> {
        self.shared.borrow_mut().in_flight.pop_front().map(|request| request.completion)
    }
}
