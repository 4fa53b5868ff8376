//! A file, or a host's block device, as the image's block device.
//!
//! Reads and writes go to the page cache and are done when they are submitted. A flush (fdatasync) can take long, and
//! would hold up everything; so a second process, forked at start and locked down to three system calls, does nothing
//! but flush when it is told to through a pipe.

use core::task::{Context, Poll};
use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::path::Path;
use std::rc::Rc;

use super::{ProcessError, Readiness, filter, system};
use crate::device::{
    Block, BlockError, BlockProperties, Completion, Operation, Request, RequestId, validate_block_request,
};

/// Offsets and lengths are multiples of this.
const SECTOR: u32 = 512;
/// Requests in flight; all but flushes complete at once, so it bounds the completions not yet taken.
const QUEUE_DEPTH: usize = 64;

/// A block device in a file.
pub(super) struct FileBlock {
    descriptor: RawFd,
    capacity: u64,
    read_only: bool,
    flusher: RawFd,
    readiness: Rc<Readiness>,
    next: u64,
    completed: VecDeque<Completion>,
    /// Flushes asked for and not yet confirmed, oldest first: the flusher answers in order.
    flushing: VecDeque<Completion>,
}

impl FileBlock {
    pub(super) fn open(path: &Path) -> Result<(Self, (RawFd, Rc<Readiness>)), ProcessError> {
        let (descriptor, read_only) = match system::open(path, libc::O_RDWR) {
            Ok(descriptor) => (descriptor, false),
            Err(error) => (system::open(path, libc::O_RDONLY).map_err(|_| error)?, true),
        };
        system::lock_exclusively(descriptor, path)?;
        let capacity = system::size(descriptor)? / u64::from(SECTOR) * u64::from(SECTOR);
        let flusher = spawn_flusher(descriptor)?;
        let readiness = Rc::new(Readiness::default());
        let device = Self {
            descriptor,
            capacity,
            read_only,
            flusher,
            readiness: Rc::clone(&readiness),
            next: 0,
            completed: VecDeque::new(),
            flushing: VecDeque::new(),
        };
        Ok((device, (flusher, readiness)))
    }

    fn transfer(&self, request: &mut Request) -> Result<(), BlockError> {
        let mut done = 0;
        while done < request.buffer.len() {
            let offset = request.offset + done as u64;
            let rest = &mut request.buffer[done..];
            let result = match request.operation {
                Operation::Read => system::read_at(self.descriptor, rest, offset),
                Operation::Write | Operation::Flush => system::write_at(self.descriptor, rest, offset),
            };
            match result {
                Ok(0) => return Err(BlockError::Device),
                Ok(length) => done += length,
                Err(error) if system::would_block(&error) => {}
                Err(error) => {
                    log::error!("{:?} of {} bytes at {offset}: {error}", request.operation, rest.len());
                    return Err(BlockError::Device);
                }
            }
        }
        Ok(())
    }

    /// Takes the flusher's answers: a byte for each flush, the error's number or zero.
    fn take_flushed(&mut self) {
        let mut answers = [0; QUEUE_DEPTH];
        let answered = match system::read(self.flusher, &mut answers) {
            Ok(length) if length > 0 => &answers[..length],
            Err(error) if system::would_block(&error) => return,
            // Without the flusher nothing can be promised any more.
            Ok(_) | Err(_) => {
                log::error!("the process that flushes the disk has gone");
                &[u8::MAX; QUEUE_DEPTH][..self.flushing.len()]
            }
        };
        for answer in answered {
            let Some(mut completion) = self.flushing.pop_front() else { return };
            if *answer != 0 {
                log::error!("flushing: {}", std::io::Error::from_raw_os_error(i32::from(*answer)));
                completion.result = Err(BlockError::Device);
            }
            self.completed.push_back(completion);
        }
    }
}

impl Block for FileBlock {
    fn properties(&self) -> BlockProperties {
        BlockProperties {
            sector_size: SECTOR,
            capacity: self.capacity,
            read_only: self.read_only,
            durable_flush: true,
            queue_depth: QUEUE_DEPTH,
        }
    }

    fn submit(&mut self, mut request: Request) -> Result<RequestId, (BlockError, Request)> {
        if let Err(error) = validate_block_request(&self.properties(), &request) {
            return Err((error, request));
        }
        if self.completed.len() + self.flushing.len() >= QUEUE_DEPTH {
            return Err((BlockError::Busy, request));
        }
        let id = RequestId(self.next);
        if request.operation == Operation::Flush {
            if system::write(self.flusher, &[0]).is_err() {
                return Err((BlockError::Device, request));
            }
            self.flushing.push_back(Completion { id, result: Ok(()), buffer: request.buffer });
        } else {
            let result = self.transfer(&mut request);
            self.completed.push_back(Completion { id, result, buffer: request.buffer });
        }
        self.next += 1;
        Ok(id)
    }

    fn poll_complete(&mut self, context: &mut Context<'_>) -> Poll<Completion> {
        if self.completed.is_empty() && !self.flushing.is_empty() {
            self.take_flushed();
        }
        if let Some(completion) = self.completed.pop_front() {
            return Poll::Ready(completion);
        }
        self.readiness.wait_readable(context.waker());
        Poll::Pending
    }

    fn wait_complete(&mut self) -> Option<Completion> {
        loop {
            if let Some(completion) = self.completed.pop_front() {
                return Some(completion);
            }
            if self.flushing.is_empty() {
                return None;
            }
            let mut ready = [libc::pollfd { fd: self.flusher, events: libc::POLLIN, revents: 0 }];
            system::poll(&mut ready, None);
            self.take_flushed();
        }
    }
}

/// Forks the process that flushes `disk`. Returns our end of a socket pair: a byte written there is a flush asked for,
/// a byte read its result.
fn spawn_flusher(disk: RawFd) -> Result<RawFd, ProcessError> {
    let (ours, theirs) = system::socket_pair()?;
    if system::fork()? {
        system::close(theirs);
        system::set_nonblocking(ours)?;
        return Ok(ours);
    }
    system::close_all_but(&[disk, theirs]);
    if filter::install_for_flusher().is_ok() {
        let mut order = [0];
        while let Ok(1) = system::read(theirs, &mut order) {
            let answer = match system::flush(disk) {
                Ok(()) => 0,
                Err(error) => {
                    error.raw_os_error().and_then(|number| u8::try_from(number).ok()).unwrap_or(u8::MAX)
                }
            };
            if system::write(theirs, &[answer]).is_err() {
                break;
            }
        }
    }
    system::exit(0)
}
