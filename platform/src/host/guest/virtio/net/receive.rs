//! The receive queue: buffers out, packets in.

use core::task::Waker;

use super::super::queue::{Nonsense, Queue, Segment, Used};
use super::super::transport::TransportError;
use super::{Attachment, HeaderForm, RECEIVE, net_feature, none_of};
use crate::device::{Checksum, Frame, FramePool, Offload};
use crate::host::virtio_header;

/// Descriptors in the receive queue, and buffers in it: 512 KiB, or seven packets of 64 KiB.
const RECEIVE_QUEUE: u16 = 256;

/// Buffers in the receive queue when each has to hold a jumbo frame: 2 MiB.
const LARGE_BUFFERS: u16 = 32;

/// Ethernet header with a VLAN tag.
const LINK_HEADER: u16 = 18;

/// What a small receive buffer holds.
const SMALL_CAPACITY: usize = Frame::SMALL - Frame::HEADROOM;

/// The receive queue and its buffers.
pub(super) struct Receiver {
    pub(super) queue: Queue,
    /// What the device has, by the head of the chain.
    frames: Vec<Option<Frame>>,
    header: HeaderForm,
    merge: bool,
    checksums: bool,
    /// Bytes that each buffer holds after the header.
    capacity: usize,
    /// Buffers to keep posted, at most.
    limit: u16,
    posted: u16,
    /// A packet of which some buffers are still to come.
    assembly: Option<Assembly>,
    pub(super) waker: Option<Waker>,
    /// Packets thrown away because their header made no sense.
    pub(super) dropped: u64,
}

struct Assembly {
    frame: Frame,
    /// Buffers still to come.
    remaining: u16,
}

impl Receiver {
    /// Makes the queue, for packets of up to `mtu` bytes and their link header.
    pub(super) fn new(
        attachment: &mut Attachment,
        header: HeaderForm,
        mtu: u16,
    ) -> Result<Self, TransportError> {
        let merge = attachment.has(net_feature::MRG_RXBUF);
        let longest = usize::from(mtu) + usize::from(LINK_HEADER);
        let small = merge || longest <= SMALL_CAPACITY;
        let queue = attachment.queue(RECEIVE, RECEIVE_QUEUE)?;
        Ok(Self {
            frames: none_of(queue.size()),
            queue,
            header,
            merge,
            checksums: attachment.has(net_feature::GUEST_CSUM),
            capacity: if small { SMALL_CAPACITY } else { longest },
            limit: if small { RECEIVE_QUEUE } else { LARGE_BUFFERS },
            posted: 0,
            assembly: None,
            waker: None,
            dropped: 0,
        })
    }

    /// Where the device writes in a buffer: the header ends where the data starts.
    fn start(&self) -> usize {
        Frame::HEADROOM - self.header.length
    }

    /// Takes up to `limit` packets and returns how many there were, those thrown away included.
    pub(super) fn take(
        &mut self,
        frames: &mut Vec<Frame>,
        limit: usize,
        pool: &FramePool,
    ) -> Result<usize, Nonsense> {
        let mut packets = 0;
        while packets < limit {
            let Some(used) = self.queue.pop()? else { break };
            if let Some(frame) = self.take_buffer(used, pool)? {
                packets += 1;
                match self.finish(frame) {
                    Some(frame) => frames.push(frame),
                    None => self.dropped += 1,
                }
            }
        }
        Ok(packets)
    }

    /// Takes a buffer that the device has filled; returns the packet once it is whole, its data starting with the
    /// virtio header.
    fn take_buffer(&mut self, used: Used, pool: &FramePool) -> Result<Option<Frame>, Nonsense> {
        self.posted -= 1;
        let mut frame =
            self.frames[usize::from(used.head)].take().ok_or(Nonsense::UnknownChain(u32::from(used.head)))?;
        let start = self.start();
        frame.set_range(start, start + used.written as usize);
        if let Some(mut assembly) = self.assembly.take() {
            if assembly.frame.tailroom() < frame.len() {
                return Err(Nonsense::Content("sends a packet longer than any can be"));
            }
            assembly.frame.append(frame.len()).copy_from_slice(frame.bytes());
            assembly.remaining -= 1;
            if assembly.remaining > 0 {
                self.assembly = Some(assembly);
                return Ok(None);
            }
            return Ok(Some(assembly.frame));
        }
        if frame.len() < self.header.length {
            return Err(Nonsense::Content("sends packets without a header"));
        }
        let buffers = if self.merge { u16::from_le_bytes([frame.bytes()[10], frame.bytes()[11]]) } else { 1 };
        match buffers {
            0 => Err(Nonsense::Content("sends a packet in no buffers")),
            1 => Ok(Some(frame)),
            _ => {
                let mut large = pool.frame(Frame::MAX_LENGTH);
                large.append(frame.len()).copy_from_slice(frame.bytes());
                self.assembly = Some(Assembly { frame: large, remaining: buffers - 1 });
                Ok(None)
            }
        }
    }

    /// Reads the header off a packet. `None` if the packet is of no use.
    fn finish(&self, mut frame: Frame) -> Option<Frame> {
        let mut header = [0; 10];
        header.copy_from_slice(&frame.bytes()[..10]);
        frame.trim_front(self.header.length);
        frame.offload =
            if self.checksums { read_offload(&header, frame.bytes())? } else { Offload::default() };
        (!frame.is_empty()).then_some(frame)
    }

    /// Gives the device buffers for what it will receive.
    pub(super) fn refill(&mut self, pool: &FramePool) {
        let needed = if self.header.split { 2 } else { 1 };
        while self.posted < self.limit && self.queue.free() >= needed {
            let mut frame = pool.frame(self.capacity);
            let length = self.header.length;
            let buffer = &mut frame.buffer_mut()[Frame::HEADROOM - length..][..length + self.capacity];
            let whole = buffer.len() as u32;
            let address = buffer.as_mut_ptr();
            let data = buffer[length..].as_mut_ptr();
            // SAFETY: the frame stays in `frames`, untouched, until its head is popped; after a reset that failed it
            // is leaked.
            let head = unsafe {
                if self.header.split {
                    self.queue.push(&[
                        Segment::writable(address, length as u32),
                        Segment::writable(data, whole - length as u32),
                    ])
                } else {
                    self.queue.push(&[Segment::writable(address, whole)])
                }
            };
            let Some(head) = head else { break };
            self.frames[usize::from(head)] = Some(frame);
            self.posted += 1;
        }
    }

    /// Leaves the buffers to a device that would not be stopped.
    pub(super) fn leak(&mut self) {
        core::mem::forget(core::mem::take(&mut self.frames));
    }
}

/// What a received header says of its frame (5.1.6.4). `None` if it says what cannot be.
fn read_offload(header: &[u8], frame: &[u8]) -> Option<Offload> {
    let mut offload = virtio_header::read(header)?;
    let mut tcp_header = None;
    if let Checksum::Partial { start, offset } = offload.checksum {
        if usize::from(start) + usize::from(offset) + 2 > frame.len() {
            return None;
        }
        tcp_header = Some(start);
    }
    if let Some(segmentation) = &mut offload.segmentation {
        // The header's own length field is a hint that need not be right (5.1.6.4.1): TCP knows.
        if let Some(start) = tcp_header {
            let data_offset = frame.get(usize::from(start) + 12)? >> 4;
            segmentation.header_length = start.checked_add(u16::from(data_offset) * 4)?;
        }
        if segmentation.segment_size == 0 || usize::from(segmentation.header_length) > frame.len() {
            return None;
        }
    }
    Some(offload)
}
