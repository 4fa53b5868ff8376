//! The block device (virtio 1.2, 5.2).
//!
//! Each request is a chain of its header, the caller's buffer as it is, and a byte for the status: as many are in flight
//! as the queue holds.

use core::cell::{Cell, RefCell, UnsafeCell};
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use std::collections::VecDeque;
use std::rc::Rc;

use super::queue::{Nonsense, Queue, Segment};
use super::transport::{Transport, TransportError};
use super::{Attachment, feature};
use crate::device::{
    Block, BlockError, BlockProperties, Clock, Completion, Instant, Operation, Request, RequestId,
    validate_block_request,
};
use crate::host::guest::EventSource;

/// Features of the block device (5.2.3).
mod block_feature {
    pub(super) const READ_ONLY: u64 = 1 << 5;
    pub(super) const BLOCK_SIZE: u64 = 1 << 6;
    pub(super) const FLUSH: u64 = 1 << 9;
}

const REQUESTS: u16 = 0;

/// Descriptors in the queue, three of which make a request.
const QUEUE: u16 = 256;
const DESCRIPTORS_PER_REQUEST: u16 = 3;

/// The unit of the capacity and of positions, whatever the block size (5.2.4).
const SECTOR: u64 = 512;
const LARGEST_SECTOR: u32 = 4096;

/// How long [`Block::wait_complete`] waits for the device; as long as Linux does before it resets a disk.
const WAIT_TIME: Duration = Duration::from_secs(30);

/// How old what we know of the capacity may be: reading it leaves the virtual machine.
const CAPACITY_AGE: Duration = Duration::from_secs(1);

/// Offsets in the configuration (5.2.4).
const CONFIG_CAPACITY: usize = 0;
const CONFIG_BLOCK_SIZE: usize = 20;

const TYPE_READ: u32 = 0;
const TYPE_WRITE: u32 = 1;
const TYPE_FLUSH: u32 = 4;

const STATUS_OK: u8 = 0;
/// What the status byte holds until the device writes it: no status of the specification.
const STATUS_NONE: u8 = 0xff;

/// A block device. Clones of its state serve it at the idle point.
pub(crate) struct VirtioBlock {
    state: Rc<RefCell<State>>,
    properties: Cell<BlockProperties>,
    read: Cell<Instant>,
}

struct State {
    attachment: Attachment,
    queue: Queue,
    /// What the device reads and writes besides the buffers, by the head of the chain. Leaked if the device cannot be
    /// stopped.
    slots: Box<[Slot]>,
    /// What is in flight, by the head of the chain.
    requests: Vec<Option<InFlight>>,
    done: VecDeque<Completion>,
    waker: Option<Waker>,
    next_id: u64,
}

/// Header and status of a request.
#[repr(C)]
struct Slot {
    kind: UnsafeCell<[u8; 16]>,
    status: UnsafeCell<u8>,
}

struct InFlight {
    id: RequestId,
    buffer: Vec<u8>,
}

impl VirtioBlock {
    /// Brings up the device.
    ///
    /// # Errors
    /// The device does not work as the specification says.
    pub(crate) fn new(transport: Box<dyn Transport>, clock: &Rc<dyn Clock>) -> Result<Self, TransportError> {
        use block_feature::{BLOCK_SIZE, FLUSH, READ_ONLY};
        let wanted = READ_ONLY | BLOCK_SIZE | FLUSH | feature::ANY_LAYOUT | feature::EVENT_IDX;
        let mut attachment = Attachment::new(transport, Rc::clone(clock), wanted)?;
        let sector_size = match attachment
            .has(BLOCK_SIZE)
            .then(|| attachment.config(CONFIG_BLOCK_SIZE, 4) as u32)
        {
            Some(size) if size.is_power_of_two() && (SECTOR as u32..=LARGEST_SECTOR).contains(&size) => size,
            _ => SECTOR as u32,
        };
        let queue = attachment.queue(REQUESTS, QUEUE)?;
        if queue.size() < DESCRIPTORS_PER_REQUEST {
            return Err(TransportError::Layout(format!("a queue of {} descriptors", queue.size())));
        }
        let properties = BlockProperties {
            sector_size,
            capacity: read_capacity(&mut attachment, sector_size),
            read_only: attachment.has(READ_ONLY),
            durable_flush: attachment.has(FLUSH),
            queue_depth: usize::from(queue.size() / DESCRIPTORS_PER_REQUEST),
        };
        attachment.start();
        log::info!(
            "{}: block device, {} bytes in sectors of {sector_size}{}{}, {} requests in flight, features {:#x}",
            attachment.transport.location(),
            properties.capacity,
            if properties.read_only { ", read-only" } else { "" },
            if properties.durable_flush { "" } else { ", without flush" },
            properties.queue_depth,
            attachment.features,
        );
        let size = queue.size();
        let read = Cell::new(attachment.now());
        let slots = (0..size)
            .map(|_| Slot { kind: UnsafeCell::new([0; 16]), status: UnsafeCell::new(STATUS_NONE) })
            .collect();
        let state = State {
            attachment,
            queue,
            slots,
            requests: (0..size).map(|_| None).collect(),
            done: VecDeque::new(),
            waker: None,
            next_id: 0,
        };
        Ok(Self { state: Rc::new(RefCell::new(state)), properties: Cell::new(properties), read })
    }

    /// The device's part at the idle point.
    pub(crate) fn events(&self) -> Rc<dyn EventSource> {
        Rc::clone(&self.state) as Rc<dyn EventSource>
    }
}

impl Block for VirtioBlock {
    /// The capacity is at most a second old.
    fn properties(&self) -> BlockProperties {
        let mut state = self.state.borrow_mut();
        let mut properties = self.properties.get();
        let now = state.attachment.now();
        if !state.attachment.stopped && now.since(self.read.get()) >= CAPACITY_AGE {
            properties.capacity = read_capacity(&mut state.attachment, properties.sector_size);
            self.properties.set(properties);
            self.read.set(now);
        }
        properties
    }

    fn submit(&mut self, request: Request) -> Result<RequestId, (BlockError, Request)> {
        let properties = self.properties.get();
        if let Err(error) = validate_block_request(&properties, &request) {
            return Err((error, request));
        }
        let Ok(length) = u32::try_from(request.buffer.len()) else {
            return Err((BlockError::OutOfRange, request));
        };
        let state = &mut *self.state.borrow_mut();
        if state.attachment.stopped {
            return Err((BlockError::Device, request));
        }
        if state.queue.free() < DESCRIPTORS_PER_REQUEST {
            return Err((BlockError::Busy, request));
        }
        let id = RequestId(state.next_id);
        state.next_id += 1;
        if request.operation == Operation::Flush && !properties.durable_flush {
            // There is nothing to flush to: the properties say so.
            state.done.push_back(Completion { id, result: Ok(()), buffer: request.buffer });
            if let Some(waker) = state.waker.take() {
                waker.wake();
            }
            return Ok(id);
        }
        state.start(id, request, length);
        Ok(id)
    }

    fn poll_complete(&mut self, context: &mut Context<'_>) -> Poll<Completion> {
        let state = &mut *self.state.borrow_mut();
        state.queue.disable_notifications();
        match state.take_completion() {
            Some(completion) => Poll::Ready(completion),
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    fn wait_complete(&mut self) -> Option<Completion> {
        let state = &mut *self.state.borrow_mut();
        let deadline = state.attachment.now() + WAIT_TIME;
        loop {
            if let Some(completion) = state.take_completion() {
                return Some(completion);
            }
            if state.queue.is_idle() || state.attachment.stopped {
                return None;
            }
            if state.attachment.now() >= deadline {
                state.fail(Nonsense::Content("has not answered for 30 seconds"));
            }
            core::hint::spin_loop();
        }
    }
}

impl State {
    fn start(&mut self, id: RequestId, mut request: Request, length: u32) {
        let kind = match request.operation {
            Operation::Read => TYPE_READ,
            Operation::Write => TYPE_WRITE,
            Operation::Flush => TYPE_FLUSH,
        };
        let sector = if request.operation == Operation::Flush { 0 } else { request.offset / SECTOR };
        let mut header = [0; 16];
        header[..4].copy_from_slice(&kind.to_le_bytes());
        header[8..].copy_from_slice(&sector.to_le_bytes());

        // The chain's head is the first free descriptor, and names the slot.
        let slot = &self.slots[usize::from(self.queue.next_head())];
        // SAFETY: no chain in flight has this head, so the device does not access the slot, and this thread is the only
        // one.
        unsafe {
            *slot.kind.get() = header;
            slot.status.get().write_volatile(STATUS_NONE);
        }
        let header = Segment::readable(slot.kind.get().cast(), 16);
        let status = Segment::writable(slot.status.get(), 1);
        let buffer = request.buffer.as_mut_ptr();
        // SAFETY: the slots live as long as the device has them. The buffer stays in `requests`, untouched, until its
        // head is popped. After a reset that failed both are leaked.
        let head = unsafe {
            match request.operation {
                Operation::Read => self.queue.push(&[header, Segment::writable(buffer, length), status]),
                Operation::Write => self.queue.push(&[header, Segment::readable(buffer, length), status]),
                Operation::Flush => self.queue.push(&[header, status]),
            }
        };
        let head = head.expect("there were enough free descriptors");
        self.requests[usize::from(head)] = Some(InFlight { id, buffer: request.buffer });
        self.attachment.kick(REQUESTS, &mut self.queue);
    }

    fn take_completion(&mut self) -> Option<Completion> {
        if self.done.is_empty() && !self.attachment.stopped {
            match self.queue.pop() {
                Ok(None) => {}
                Ok(Some(used)) => {
                    let head = usize::from(used.head);
                    let Some(InFlight { id, buffer }) = self.requests[head].take() else {
                        self.fail(Nonsense::UnknownChain(u32::from(used.head)));
                        return self.done.pop_front();
                    };
                    // SAFETY: the device has given the chain back; this thread is the only one.
                    let status = unsafe { self.slots[head].status.get().read_volatile() };
                    let result = if status == STATUS_OK { Ok(()) } else { Err(BlockError::Device) };
                    return Some(Completion { id, result, buffer });
                }
                Err(nonsense) => self.fail(nonsense),
            }
        }
        self.done.pop_front()
    }

    /// Takes the device out of service: every request in flight fails.
    fn fail(&mut self, nonsense: Nonsense) {
        let ours = self.attachment.stop(&nonsense);
        for InFlight { id, buffer } in self.requests.iter_mut().filter_map(Option::take) {
            let buffer = if ours {
                buffer
            } else {
                // The device may still write to it.
                let length = buffer.len();
                core::mem::forget(buffer);
                vec![0; length]
            };
            self.done.push_back(Completion { id, result: Err(BlockError::Device), buffer });
        }
        if !ours {
            self.leak();
        }
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Leaves everything lent to a device that would not be stopped.
    fn leak(&mut self) {
        core::mem::forget(core::mem::take(&mut self.slots));
        core::mem::forget(core::mem::take(&mut self.requests));
    }
}

impl Drop for State {
    fn drop(&mut self) {
        if !self.attachment.quiesce() {
            self.leak();
        }
    }
}

impl EventSource for RefCell<State> {
    fn deliver(&self) -> bool {
        let mut state = self.borrow_mut();
        let State { attachment, queue, done, waker, .. } = &mut *state;
        attachment.transport.acknowledge();
        let waker = waker.take_if(|_| !done.is_empty() || (!attachment.stopped && queue.has_used()));
        drop(state);
        let woken = waker.is_some();
        waker.into_iter().for_each(Waker::wake);
        woken
    }

    fn arm(&self) -> bool {
        let State { attachment, queue, waker, .. } = &mut *self.borrow_mut();
        waker.is_some() && !attachment.stopped && queue.enable_notifications()
    }
}

/// The capacity in bytes, in whole sectors.
fn read_capacity(attachment: &mut Attachment, sector_size: u32) -> u64 {
    let bytes = attachment.config(CONFIG_CAPACITY, 8).saturating_mul(SECTOR);
    bytes - bytes % u64::from(sector_size)
}

#[cfg(test)]
mod tests;
