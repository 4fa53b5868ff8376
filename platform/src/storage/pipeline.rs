//! Drives the [overlay](super::overlay) to the device, an epoch at a time: all its writes, then a flush.
//!
//! Two callers move it: a task, whenever the device has something to say ([`Pipeline::poll`]), and the database, when it
//! needs a block that no cache holds ([`Pipeline::read`]) or has written more than the overlay may hold. The latter two
//! hold up the image; the statistics count them.

use core::task::{Context, Poll, Waker};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use super::error::StorageError;
use super::overlay::{BLOCK_SIZE, Overlay};
use super::read_ahead::{READ_AHEAD, ReadAhead};
use super::statistics::Statistics;
use super::superblock::{DATA_OFFSET, Superblock};
use crate::device::{Block, BlockError, Clock, Completion, Instant, Operation, Request, RequestId};

/// Longest run of blocks written by one request, in bytes: long enough that its own cost does not count, short enough
/// for every device.
const RUN_LIMIT: usize = 128 * 1024;
/// How often a failed read is tried again: a disk may be slow to remap a sector, or a path to it to come back.
const READ_ATTEMPTS: u32 = 3;

const BLOCK: u64 = BLOCK_SIZE as u64;

/// What the front epoch is waiting for.
enum Stage {
    /// There is none.
    Idle,
    /// Its writes.
    Writing { to_submit: VecDeque<Request>, in_flight: usize },
    /// Its flush, which may still have to be submitted.
    Flushing { id: Option<RequestId>, since: Instant },
}

/// What the database's backend was asked to do wrongly or could not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A read or a write past the end of the file.
    PastEnd,
    /// A write past what the device has room for.
    Full,
    /// The device failed.
    Device(Operation, BlockError),
}

/// A device and what is yet to be written to it.
pub(super) struct Pipeline {
    device: Box<dyn Block>,
    clock: Rc<dyn Clock>,
    overlay: Overlay,
    stage: Stage,
    /// The superblock as it is on the device.
    published: Superblock,
    /// The superblock that the front epoch writes.
    publishing: Option<Superblock>,
    /// Epochs that are durable.
    durable_count: u64,
    /// Most bytes in the overlay before the database's writes are held up.
    limit: usize,
    failure: Option<(Operation, BlockError)>,
    driver: Option<Waker>,
    waiting: Vec<Waker>,
    read_ahead: ReadAhead,
    /// Nothing is ever written to the device.
    inspecting: bool,
    stopped: bool,
    pub(super) statistics: Statistics,
}

impl Pipeline {
    pub(super) fn new(
        device: Box<dyn Block>,
        clock: Rc<dyn Clock>,
        published: Superblock,
        limit: usize,
    ) -> Self {
        let overlay = Overlay::new(published.length);
        Self {
            device,
            clock,
            overlay,
            stage: Stage::Idle,
            published,
            publishing: None,
            durable_count: 0,
            limit,
            failure: None,
            driver: None,
            waiting: Vec::new(),
            read_ahead: ReadAhead::default(),
            inspecting: false,
            stopped: false,
            statistics: Statistics::default(),
        }
    }

    /// A pipeline that writes nothing to the device, but keeps all of it in memory.
    pub(super) fn inspecting(device: Box<dyn Block>, clock: Rc<dyn Clock>, published: Superblock) -> Self {
        Self { inspecting: true, ..Self::new(device, clock, published, usize::MAX) }
    }

    // ---- The database's file ----

    /// Length of the file in bytes.
    pub(super) fn length(&self) -> u64 {
        self.overlay.length()
    }

    /// Longest file that the device has room for now, in bytes.
    pub(super) fn room(&self) -> u64 {
        let data = self.device.properties().capacity.saturating_sub(DATA_OFFSET);
        data - data % BLOCK
    }

    /// Capacity of the device in bytes.
    pub(super) fn capacity(&self) -> u64 {
        self.device.properties().capacity
    }

    /// Whether the file has been made longer than [`Pipeline::room`]. Allowed, since the database takes a refusal for a
    /// failed disk and refuses everything from then on: whoever runs a transaction asks before it is committed.
    pub(super) fn overflowed(&self) -> bool {
        self.length() > self.room()
    }

    /// Sets the length of the file. Blocks added hold whatever the device held; redb writes each page before it reads it.
    pub(super) fn set_length(&mut self, length: u64) {
        self.overlay.set_length(length);
    }

    /// Reads from the file, holding up the image if the device must be asked.
    pub(super) fn read(&mut self, offset: u64, out: &mut [u8]) -> Result<(), Fault> {
        self.check_range(offset, out.len())?;
        let mut position = 0;
        while position < out.len() {
            let at = offset + position as u64;
            let (block, within) = (at / BLOCK, (at % BLOCK) as usize);
            let rest = &mut out[position..];
            if let Some(content) = self.overlay.get(block) {
                let length = rest.len().min(BLOCK_SIZE - within);
                rest[..length].copy_from_slice(&content[within..within + length]);
                position += length;
                continue;
            }
            let blocks = (within + rest.len()).div_ceil(BLOCK_SIZE) as u64;
            let missing =
                (1..blocks).find(|&next| self.overlay.get(block + next).is_some()).unwrap_or(blocks);
            let wanted = rest.len().min(missing as usize * BLOCK_SIZE - within);
            position += self.read_device(block * BLOCK + within as u64, &mut rest[..wanted])?;
        }
        Ok(())
    }

    /// Writes to the file: into the overlay.
    pub(super) fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), Fault> {
        self.check_range(offset, data.len())?;
        let mut position = 0;
        while position < data.len() {
            let at = offset + position as u64;
            let (block, within) = (at / BLOCK, (at % BLOCK) as usize);
            let length = (data.len() - position).min(BLOCK_SIZE - within);
            let part = &data[position..position + length];
            if length == BLOCK_SIZE {
                self.overlay.put(block, part.into());
            } else if let Some(content) = self.overlay.get_open_mut(block) {
                content[within..within + length].copy_from_slice(part);
            } else {
                let mut content = vec![0; BLOCK_SIZE].into_boxed_slice();
                self.read(block * BLOCK, &mut content)?;
                content[within..within + length].copy_from_slice(part);
                self.overlay.put(block, content);
            }
            position += length;
        }
        // A database that is opened again over a failed device needs a little room for that.
        let limit = if self.failure.is_some() { self.limit.saturating_mul(2) } else { self.limit };
        if self.overlay.bytes() > limit { self.write_out() } else { Ok(()) }
    }

    /// Ends an epoch.
    ///
    /// # Errors
    /// [`Fault::Full`] if the epoch has written past the device's room. It is then still open.
    pub(super) fn sync(&mut self) -> Result<(), Fault> {
        if self.writes_past_room() {
            return Err(Fault::Full);
        }
        self.overlay.close();
        self.wake_driver();
        Ok(())
    }

    /// How many epochs have ended. What was written before is durable once [`Pipeline::is_durable`] says so of them.
    pub(super) fn closed_count(&self) -> u64 {
        self.overlay.closed_count()
    }

    /// Forgets what was written since the last sync.
    pub(super) fn discard_unsynced(&mut self) {
        self.overlay.discard_open();
    }

    fn writes_past_room(&self) -> bool {
        self.overflowed()
            && self.overlay.last_open_block().is_some_and(|block| (block + 1) * BLOCK > self.room())
    }

    /// Holds back changes of the file's length from the superblock while the database in it is not complete, or lets
    /// them through, after everything written so far.
    pub(super) fn hold_length(&mut self, held: bool) {
        self.overlay.close();
        self.overlay.hold_length(held);
    }

    fn check_range(&self, offset: u64, length: usize) -> Result<(), Fault> {
        match offset.checked_add(length as u64) {
            Some(end) if end <= self.overlay.length() => Ok(()),
            _ => Err(Fault::PastEnd),
        }
    }

    // ---- Durability ----

    /// Whether the first `count` epochs are durable.
    ///
    /// # Errors
    /// [`StorageError::Failed`] if they will never be.
    pub(super) fn is_durable(&self, count: u64) -> Result<bool, StorageError> {
        if self.durable_count >= count {
            return Ok(true);
        }
        self.check()?;
        if self.stopped { Err(StorageError::Closed) } else { Ok(false) }
    }

    /// Wakes `waker` when an epoch becomes durable or the device fails.
    pub(super) fn wait(&mut self, waker: &Waker) {
        if !self.waiting.iter().any(|waiting| waiting.will_wake(waker)) {
            self.waiting.push(waker.clone());
        }
    }

    /// # Errors
    /// [`StorageError::Failed`] if the device has failed.
    pub(super) fn check(&self) -> Result<(), StorageError> {
        self.failure.map_or(Ok(()), |(operation, error)| Err(StorageError::Failed { operation, error }))
    }

    /// Bytes written by the database that are not durable yet.
    pub(super) fn pending_bytes(&self) -> usize {
        self.overlay.bytes()
    }

    /// Ends [`Pipeline::poll`].
    pub(super) fn stop(&mut self) {
        self.stopped = true;
        self.wake_driver();
        self.wake_waiting();
    }

    // ---- The device ----

    /// Moves on as far as the device lets it; ready when stopped.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.driver = Some(context.waker().clone());
        loop {
            self.advance();
            if self.stopped {
                return Poll::Ready(());
            }
            match self.device.poll_complete(context) {
                Poll::Ready(completion) => self.complete(&completion),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Submits what may be submitted.
    fn advance(&mut self) {
        while self.failure.is_none() && !self.inspecting {
            match &mut self.stage {
                Stage::Idle => match self.begin_epoch() {
                    Some(stage) => self.stage = stage,
                    None => return,
                },
                Stage::Writing { .. } => {
                    if !self.submit_writes() {
                        return;
                    }
                    self.stage = Stage::Flushing { id: None, since: self.clock.now() };
                }
                Stage::Flushing { id, .. } => {
                    if id.is_some() {
                        return;
                    }
                    let flush = Request { operation: Operation::Flush, offset: 0, buffer: Vec::new() };
                    match self.device.submit(flush) {
                        Ok(submitted) => *id = Some(submitted),
                        Err((BlockError::Busy, _)) => {}
                        Err((error, _)) => self.fail(Operation::Flush, error),
                    }
                    return;
                }
            }
        }
    }

    /// Submits what the current stage writes. Returns whether all of that is done.
    fn submit_writes(&mut self) -> bool {
        let Stage::Writing { to_submit, in_flight } = &mut self.stage else { return true };
        while let Some(request) = to_submit.pop_front() {
            let length = request.buffer.len() as u64;
            match self.device.submit(request) {
                Ok(_) => {
                    *in_flight += 1;
                    self.statistics.bytes_written += length;
                }
                Err((BlockError::Busy, request)) => {
                    to_submit.push_front(request);
                    return false;
                }
                Err((error, _)) => {
                    self.fail(Operation::Write, error);
                    return false;
                }
            }
        }
        *in_flight == 0
    }

    fn begin_epoch(&mut self) -> Option<Stage> {
        let epoch = self.overlay.oldest()?;
        let mut to_submit = runs(&epoch.blocks);
        let publish = epoch.publish
            && (epoch.length != self.published.length || self.capacity() != self.published.capacity);
        self.publishing = publish.then(|| Superblock {
            service: self.published.service.clone(),
            generation: self.published.generation + 1,
            length: epoch.length,
            capacity: self.capacity(),
        });
        if let Some(superblock) = &self.publishing {
            let (offset, buffer) = (superblock.offset(), superblock.encode());
            to_submit.push_back(Request { operation: Operation::Write, offset, buffer });
        }
        Some(Stage::Writing { to_submit, in_flight: 0 })
    }

    fn complete(&mut self, completion: &Completion) {
        match &mut self.stage {
            Stage::Writing { in_flight, .. } => {
                *in_flight -= 1;
                if let Err(error) = completion.result {
                    self.fail(Operation::Write, error);
                }
            }
            Stage::Flushing { since, .. } => match completion.result {
                Err(error) => self.fail(Operation::Flush, error),
                Ok(()) => {
                    let latency = self.clock.now() - *since;
                    if let Some(superblock) = self.publishing.take() {
                        self.published = superblock;
                    }
                    self.stage = Stage::Idle;
                    let retired = self.overlay.retire_oldest();
                    self.read_ahead.forget(retired.keys().copied());
                    self.durable_count += 1;
                    self.statistics.flushed(latency);
                    self.wake_waiting();
                }
            },
            // A read that was given up, after a failure.
            Stage::Idle => {}
        }
    }

    /// Writes everything in the overlay to the device, holding up the image: all closed epochs to their flush, and the
    /// blocks of the open one, whose order is still free.
    fn write_out(&mut self) -> Result<(), Fault> {
        if self.writes_past_room() {
            return Err(Fault::Full);
        }
        self.statistics.stalls += 1;
        loop {
            self.advance();
            if matches!(self.stage, Stage::Idle) {
                break;
            }
            self.wait_for_write()?;
        }
        let blocks = self.overlay.take_open_blocks();
        self.read_ahead.forget(blocks.keys().copied());
        self.stage = Stage::Writing { to_submit: runs(&blocks), in_flight: 0 };
        drop(blocks);
        while !self.submit_writes() {
            self.wait_for_write()?;
        }
        self.stage = Stage::Idle;
        Ok(())
    }

    fn wait_for_write(&mut self) -> Result<(), Fault> {
        if let Some((operation, error)) = self.failure {
            return Err(Fault::Device(operation, error));
        }
        match self.device.wait_complete() {
            Some(completion) => {
                self.complete(&completion);
                Ok(())
            }
            None => Err(self.fault(Operation::Write, BlockError::Device)),
        }
    }

    /// Reads from the device what the overlay does not hold, at least one byte. Returns how many bytes.
    fn read_device(&mut self, offset: u64, out: &mut [u8]) -> Result<usize, Fault> {
        if offset + out.len() as u64 > self.room() {
            return Err(Fault::PastEnd);
        }
        if out.len() < READ_AHEAD {
            let start = offset - offset % READ_AHEAD as u64;
            if !self.read_ahead.holds(offset) {
                let length = (self.room() - start).min(READ_AHEAD as u64);
                let window = self.read_retrying(start, length as usize)?;
                self.read_ahead.keep(start, window);
            }
            if let Some(length) = self.read_ahead.copy(offset, out) {
                return Ok(length);
            }
        }
        let (start, within) = (offset - offset % BLOCK, (offset % BLOCK) as usize);
        let content = self.read_retrying(start, (within + out.len()).next_multiple_of(BLOCK_SIZE))?;
        out.copy_from_slice(&content[within..within + out.len()]);
        Ok(out.len())
    }

    fn read_retrying(&mut self, offset: u64, length: usize) -> Result<Vec<u8>, Fault> {
        self.statistics.reads += 1;
        let mut attempt = 1;
        loop {
            match self.read_once(DATA_OFFSET + offset, length) {
                Ok(content) => return Ok(content),
                Err(_) if attempt < READ_ATTEMPTS => attempt += 1,
                Err(error) => return Err(self.fault(Operation::Read, error)),
            }
        }
    }

    fn read_once(&mut self, offset: u64, length: usize) -> Result<Vec<u8>, BlockError> {
        let mut request = Request { operation: Operation::Read, offset, buffer: vec![0; length] };
        let id = loop {
            match self.device.submit(request) {
                Ok(id) => break id,
                Err((BlockError::Busy, back)) => {
                    request = back;
                    let completion = self.device.wait_complete().ok_or(BlockError::Device)?;
                    self.complete(&completion);
                    self.wake_driver();
                }
                Err((error, _)) => return Err(error),
            }
        };
        loop {
            let completion = self.device.wait_complete().ok_or(BlockError::Device)?;
            if completion.id == id {
                return completion.result.map(|()| completion.buffer);
            }
            self.complete(&completion);
            self.wake_driver();
        }
    }

    fn fault(&mut self, operation: Operation, error: BlockError) -> Fault {
        self.fail(operation, error);
        Fault::Device(operation, error)
    }

    fn fail(&mut self, operation: Operation, error: BlockError) {
        if self.failure.is_none() {
            self.failure = Some((operation, error));
            log::error!("{}", StorageError::Failed { operation, error });
        }
        self.wake_waiting();
    }

    fn wake_driver(&mut self) {
        if let Some(driver) = self.driver.take() {
            driver.wake();
        }
    }

    fn wake_waiting(&mut self) {
        self.waiting.drain(..).for_each(Waker::wake);
    }
}

/// Requests that write blocks of the file, neighbours together.
fn runs(blocks: &BTreeMap<u64, Box<[u8]>>) -> VecDeque<Request> {
    let mut requests = VecDeque::new();
    let mut rest = blocks.iter().peekable();
    while let Some(&(&first, _)) = rest.peek() {
        let limit = first + (RUN_LIMIT / BLOCK_SIZE) as u64;
        let end = (first..limit).find(|block| !blocks.contains_key(block)).unwrap_or(limit);
        let mut buffer = Vec::with_capacity((end - first) as usize * BLOCK_SIZE);
        while let Some((_, content)) = rest.next_if(|&(&block, _)| block < end) {
            buffer.extend_from_slice(content);
        }
        let offset = DATA_OFFSET + first * BLOCK;
        requests.push_back(Request { operation: Operation::Write, offset, buffer });
    }
    requests
}
