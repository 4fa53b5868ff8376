//! The transmit queue: frames out, their buffers back.

use core::task::Waker;
use std::collections::VecDeque;

use super::super::queue::{Queue, Segment};
use super::super::transport::TransportError;
use super::{Attachment, HeaderForm, TRANSMIT, none_of};
use crate::device::{Checksum, Frame, FramePool, OffloadSupport, SegmentationKind};
use crate::host::virtio_header;

/// Descriptors in the transmit queue. More in flight only adds delay.
const TRANSMIT_QUEUE: u16 = 256;

/// Frames with large buffers that the device may have to send, 2 MiB of them: a peer that reads slowly must not make it
/// hold a good part of a small image's memory.
pub(super) const LARGE_IN_FLIGHT: u16 = 32;

/// The transmit queue and the frames in it.
pub(super) struct Transmitter {
    pub(super) queue: Queue,
    frames: Vec<Option<Frame>>,
    header: HeaderForm,
    support: OffloadSupport,
    /// How many of `frames` have large buffers.
    large: u16,
    pub(super) waker: Option<Waker>,
    /// Frames thrown away because the device cannot do what they ask for.
    pub(super) dropped: u64,
}

impl Transmitter {
    /// Makes the queue, for frames that ask for what `support` has.
    pub(super) fn new(
        attachment: &mut Attachment,
        header: HeaderForm,
        support: OffloadSupport,
    ) -> Result<Self, TransportError> {
        let queue = attachment.queue(TRANSMIT, TRANSMIT_QUEUE)?;
        let frames = none_of(queue.size());
        Ok(Self { queue, frames, header, support, large: 0, waker: None, dropped: 0 })
    }

    /// Takes back the frames that have been sent, whose buffers return to the pool, and returns how many there were.
    /// A device that talks nonsense is stopped.
    pub(super) fn reclaim(&mut self, attachment: &mut Attachment) -> usize {
        let mut count = 0;
        while !attachment.stopped {
            match self.queue.pop() {
                Ok(None) => break,
                Ok(Some(used)) => {
                    let frame = self.frames[usize::from(used.head)].take();
                    self.large -= u16::from(frame.is_some_and(|frame| is_large(&frame)));
                    count += 1;
                }
                Err(nonsense) => {
                    if !attachment.stop(&nonsense) {
                        self.leak();
                    }
                }
            }
        }
        count
    }

    pub(super) fn push_all(&mut self, frames: &mut VecDeque<Frame>, pool: &FramePool) {
        let needed = if self.header.split { 2 } else { 1 };
        while self.queue.free() >= needed && self.large < LARGE_IN_FLIGHT {
            let Some(frame) = frames.pop_front() else { break };
            match self.prepare(frame, pool) {
                Some(frame) => self.push(frame),
                None => self.dropped += 1,
            }
        }
    }

    /// Puts the virtio header before a frame. `None` if the device cannot send it.
    fn prepare(&self, mut frame: Frame, pool: &FramePool) -> Option<Frame> {
        match frame.offload.segmentation.map(|segmentation| segmentation.kind) {
            Some(SegmentationKind::Tcp4) if !self.support.transmit_tcp4 => return None,
            Some(SegmentationKind::Tcp6) if !self.support.transmit_tcp6 => return None,
            _ => {}
        }
        if let (false, Checksum::Partial { start, offset }) =
            (self.support.transmit_checksum, frame.offload.checksum)
        {
            complete_checksum(frame.bytes_mut(), start, offset)?;
            frame.offload.checksum = Checksum::Complete;
        }
        if frame.headroom() < self.header.length {
            let offload = frame.offload;
            frame = pool.copy_of(frame.bytes());
            frame.offload = offload;
        }
        let offload = frame.offload;
        virtio_header::write(offload, frame.prepend(self.header.length));
        Some(frame)
    }

    fn push(&mut self, frame: Frame) {
        let (header, data) = frame.bytes().split_at(self.header.length);
        let (header_length, data_length) = (header.len() as u32, data.len() as u32);
        // SAFETY: the frame stays in `frames`, unchanged, until its head is popped; after a reset that failed it is
        // leaked.
        let head = unsafe {
            if self.header.split {
                self.queue.push(&[
                    Segment::readable(header.as_ptr(), header_length),
                    Segment::readable(data.as_ptr(), data_length),
                ])
            } else {
                self.queue.push(&[Segment::readable(header.as_ptr(), header_length + data_length)])
            }
        };
        if let Some(head) = head {
            self.large += u16::from(is_large(&frame));
            self.frames[usize::from(head)] = Some(frame);
        }
    }

    /// Leaves the frames to a device that would not be stopped.
    pub(super) fn leak(&mut self) {
        core::mem::forget(core::mem::take(&mut self.frames));
    }
}

fn is_large(frame: &Frame) -> bool {
    frame.buffer().len() > Frame::SMALL
}

/// Does what [`Checksum::Partial`] leaves to the device, for a device that does not. `None` if the field is outside.
fn complete_checksum(frame: &mut [u8], start: u16, offset: u16) -> Option<()> {
    let covered = frame.get_mut(usize::from(start)..)?;
    let offset = usize::from(offset);
    if offset + 2 > covered.len() {
        return None;
    }
    let mut sum: u64 = 0;
    for pair in covered.chunks(2) {
        sum += u64::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    // Zero means "no checksum" to UDP and the same as ones to TCP (RFC 768).
    let checksum = match !(sum as u16) {
        0 => 0xffff,
        checksum => checksum,
    };
    covered[offset..offset + 2].copy_from_slice(&checksum.to_be_bytes());
    Some(())
}
