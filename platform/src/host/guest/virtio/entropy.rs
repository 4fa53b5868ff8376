//! The entropy device (virtio 1.2, 5.4): a true source, for seeding.

use core::fmt;
use core::time::Duration;
use std::rc::Rc;

use super::queue::{Nonsense, Queue, Segment, Used};
use super::transport::{Transport, TransportError};
use super::{Attachment, feature};
use crate::device::{Clock, Instant};

const REQUESTS: u16 = 0;

/// One request at a time.
const QUEUE: u16 = 2;

/// How long a read may take. Hosts limit the rate of some sources, but a seed is small.
const READ_TIME: Duration = Duration::from_secs(5);

/// Why there is no randomness from the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntropyError {
    /// Device: it did not answer in time.
    TimedOut,
    /// Device: it broke the protocol, now or before.
    Broken,
}

impl fmt::Display for EntropyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut => write!(f, "the entropy device did not answer within {READ_TIME:?}"),
            Self::Broken => f.write_str("the entropy device does not work"),
        }
    }
}

impl std::error::Error for EntropyError {}

/// An entropy device. It is polled, for it is read at start, before there is an idle point.
pub(crate) struct VirtioEntropy {
    attachment: Attachment,
    queue: Queue,
    buffer: Box<[u8; Self::CHUNK]>,
}

impl VirtioEntropy {
    /// Bytes asked for at once.
    const CHUNK: usize = 64;

    /// Brings up the device.
    ///
    /// # Errors
    /// The device does not work as the specification says.
    pub(crate) fn new(transport: Box<dyn Transport>, clock: &Rc<dyn Clock>) -> Result<Self, TransportError> {
        let mut attachment = Attachment::new(transport, Rc::clone(clock), feature::EVENT_IDX)?;
        let queue = attachment.queue(REQUESTS, QUEUE)?;
        attachment.start();
        log::info!("{}: entropy device", attachment.transport.location());
        Ok(Self { attachment, queue, buffer: Box::new([0; Self::CHUNK]) })
    }

    /// Fills `bytes` with randomness from the host, waiting for it.
    ///
    /// # Errors
    /// The device does not answer or does not work; `bytes` may be filled in part.
    pub(crate) fn fill(&mut self, bytes: &mut [u8]) -> Result<(), EntropyError> {
        let deadline = self.attachment.now() + READ_TIME;
        let mut rest = bytes;
        while !rest.is_empty() {
            let written = self.read(rest.len().min(Self::CHUNK), deadline)?;
            let (filled, after) = rest.split_at_mut(written);
            filled.copy_from_slice(&self.buffer[..written]);
            // What has been handed out is not kept.
            self.buffer.fill(0);
            rest = after;
        }
        Ok(())
    }

    /// Reads up to `length` bytes into the buffer, and returns how many.
    fn read(&mut self, length: usize, deadline: Instant) -> Result<usize, EntropyError> {
        if self.attachment.stopped {
            return Err(EntropyError::Broken);
        }
        let segment = Segment::writable(self.buffer.as_mut_ptr(), length as u32);
        // SAFETY: the buffer is not touched until the chain is back; when it does not come back the device is stopped,
        // and the buffer leaked if it would not be.
        let pushed = unsafe { self.queue.push(&[segment]) };
        debug_assert!(pushed.is_some(), "there is one request at a time");
        self.attachment.kick(REQUESTS, &mut self.queue);
        loop {
            match self.queue.pop() {
                Ok(Some(Used { written: 0, .. })) => {
                    self.stop(&Nonsense::Content("answers with no bytes"));
                    return Err(EntropyError::Broken);
                }
                Ok(Some(used)) => return Ok(used.written as usize),
                Ok(None) if self.attachment.now() < deadline => core::hint::spin_loop(),
                Ok(None) => {
                    self.stop(&EntropyError::TimedOut);
                    return Err(EntropyError::TimedOut);
                }
                Err(nonsense) => {
                    self.stop(&nonsense);
                    return Err(EntropyError::Broken);
                }
            }
        }
    }

    fn stop(&mut self, reason: &dyn fmt::Display) {
        if !self.attachment.stop(reason) {
            core::mem::forget(core::mem::replace(&mut self.buffer, Box::new([0; Self::CHUNK])));
        }
    }
}

impl Drop for VirtioEntropy {
    fn drop(&mut self) {
        // Nothing is in flight between calls.
        self.attachment.quiesce();
    }
}

#[cfg(test)]
mod tests;
