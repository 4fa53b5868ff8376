//! The network device (virtio 1.2, 5.1).
//!
//! A received frame lies in the buffer that the device filled, with the virtio header in its headroom; a transmitted one
//! goes out of the buffer it was made in, with the header pushed before it. The one copy is of received packets larger
//! than a buffer, which `MRG_RXBUF` spreads over several: they are made one large frame.

use core::cell::{Cell, RefCell};
use core::fmt;
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use std::collections::VecDeque;
use std::rc::Rc;

use super::queue::{Nonsense, Queue, Segment, Used};
use super::transport::{Transport, TransportError};
use super::{Attachment, feature};
use crate::device::{
    Checksum, Clock, Frame, FramePool, Instant, Net, NetProperties, Offload, OffloadSupport, SegmentationKind,
};
use crate::host::guest::EventSource;
use crate::host::virtio_header;

/// Features of the network device (5.1.3).
mod net_feature {
    pub(super) const CSUM: u64 = 1 << 0;
    pub(super) const GUEST_CSUM: u64 = 1 << 1;
    pub(super) const MTU: u64 = 1 << 3;
    pub(super) const MAC: u64 = 1 << 5;
    pub(super) const GUEST_TSO4: u64 = 1 << 7;
    pub(super) const GUEST_TSO6: u64 = 1 << 8;
    pub(super) const HOST_TSO4: u64 = 1 << 11;
    pub(super) const HOST_TSO6: u64 = 1 << 12;
    pub(super) const MRG_RXBUF: u64 = 1 << 15;
    pub(super) const STATUS: u64 = 1 << 16;
}

const RECEIVE: u16 = 0;
const TRANSMIT: u16 = 1;

/// Descriptors in the receive queue, and buffers in it: 512 KiB, or seven packets of 64 KiB.
const RECEIVE_QUEUE: u16 = 256;

/// Descriptors in the transmit queue. More in flight only adds delay.
const TRANSMIT_QUEUE: u16 = 256;

/// Buffers in the receive queue when each has to hold a jumbo frame: 2 MiB.
const LARGE_BUFFERS: u16 = 32;

/// Frames with large buffers that the device may have to send, 2 MiB of them: a peer that reads slowly must not make it
/// hold a good part of a small image's memory.
const LARGE_IN_FLIGHT: u16 = 32;

/// Ethernet header with a VLAN tag.
const LINK_HEADER: u16 = 18;

/// What a small receive buffer holds.
const SMALL_CAPACITY: usize = Frame::SMALL - Frame::HEADROOM;

/// MTU where the device does not say.
const DEFAULT_MTU: u16 = 1500;

/// The least that IPv4 allows (RFC 791).
const MINIMUM_MTU: u16 = 68;

/// How old what we know of the link may be: reading it leaves the virtual machine.
const LINK_AGE: Duration = Duration::from_secs(1);

/// Offsets in the configuration (5.1.4).
const CONFIG_MAC: usize = 0;
const CONFIG_STATUS: usize = 6;
const CONFIG_MTU: usize = 10;
const STATUS_LINK_UP: u64 = 1;

/// A network device. Clones of its state serve it at the idle point.
pub(crate) struct VirtioNet {
    state: Rc<RefCell<State>>,
    properties: NetProperties,
    pool: FramePool,
    link: Cell<(Instant, bool)>,
}

struct State {
    attachment: Attachment,
    receive: Receiver,
    transmit: Transmitter,
}

/// The form of the header (5.1.6).
#[derive(Clone, Copy)]
struct HeaderForm {
    /// With `num_buffers` at its end: modern devices, and legacy ones with `MRG_RXBUF`.
    length: usize,
    /// Whether the header has to be in a descriptor of its own (7.4.2, legacy).
    split: bool,
}

impl VirtioNet {
    /// Brings up the device. Frames come from `pool`.
    ///
    /// # Errors
    /// The device does not work as the specification says.
    pub(crate) fn new(
        transport: Box<dyn Transport>,
        clock: &Rc<dyn Clock>,
        pool: &FramePool,
    ) -> Result<Self, TransportError> {
        use net_feature::{
            CSUM, GUEST_CSUM, GUEST_TSO4, GUEST_TSO6, HOST_TSO4, HOST_TSO6, MAC, MRG_RXBUF, MTU, STATUS,
        };
        let offload = CSUM | GUEST_CSUM | GUEST_TSO4 | GUEST_TSO6 | HOST_TSO4 | HOST_TSO6;
        let wanted = offload | MRG_RXBUF | MAC | MTU | STATUS | feature::ANY_LAYOUT | feature::EVENT_IDX;
        let mut transport = transport;
        // Large packets can be received into mergeable buffers only; what depends on a feature must not be accepted
        // without it (5.1.3.1).
        let offered = transport.device_features();
        let mut accepted = wanted;
        if offered & CSUM == 0 {
            accepted &= !(HOST_TSO4 | HOST_TSO6);
        }
        if offered & MRG_RXBUF == 0 || offered & GUEST_CSUM == 0 {
            accepted &= !(GUEST_TSO4 | GUEST_TSO6);
        }
        let mut attachment = Attachment::new(transport, Rc::clone(clock), accepted)?;
        let merge = attachment.has(MRG_RXBUF);
        let legacy = attachment.is_legacy();
        let length = if merge || !legacy { 12 } else { 10 };
        let split = legacy && !attachment.has(feature::ANY_LAYOUT);

        let mtu = if attachment.has(MTU) {
            (attachment.config(CONFIG_MTU, 2) as u16).max(MINIMUM_MTU)
        } else {
            DEFAULT_MTU
        };
        let mac = if attachment.has(MAC) {
            let mut mac = [0; 6];
            attachment.transport.read_config(CONFIG_MAC, 1, &mut mac);
            mac
        } else {
            local_mac(attachment.transport.location())
        };
        let properties = NetProperties {
            mac,
            mtu,
            offload: OffloadSupport {
                transmit_checksum: attachment.has(CSUM),
                transmit_tcp4: attachment.has(HOST_TSO4),
                transmit_tcp6: attachment.has(HOST_TSO6),
                receive: attachment.has(GUEST_CSUM),
            },
        };

        let small = merge || usize::from(mtu) + usize::from(LINK_HEADER) <= SMALL_CAPACITY;
        let queue = attachment.queue(RECEIVE, RECEIVE_QUEUE)?;
        let mut receive = Receiver {
            frames: none_of(queue.size()),
            queue,
            header: HeaderForm { length, split: split && !merge },
            merge,
            checksums: attachment.has(GUEST_CSUM),
            capacity: if small { SMALL_CAPACITY } else { usize::from(mtu) + usize::from(LINK_HEADER) },
            limit: if small { RECEIVE_QUEUE } else { LARGE_BUFFERS },
            posted: 0,
            assembly: None,
            waker: None,
            dropped: 0,
        };
        let queue = attachment.queue(TRANSMIT, TRANSMIT_QUEUE)?;
        let transmit = Transmitter {
            frames: none_of(queue.size()),
            queue,
            header: HeaderForm { length, split },
            support: properties.offload,
            large: 0,
            waker: None,
            dropped: 0,
        };
        attachment.start();
        receive.refill(pool);
        attachment.kick(RECEIVE, &mut receive.queue);
        log::info!(
            "{}: network device, {}, MTU {mtu}, features {:#x}",
            attachment.transport.location(),
            Mac(mac),
            attachment.features
        );
        let net = Self {
            state: Rc::new(RefCell::new(State { attachment, receive, transmit })),
            properties,
            pool: pool.clone(),
            link: Cell::new((Instant::START, true)),
        };
        net.read_link();
        Ok(net)
    }

    /// The device's part at the idle point.
    pub(crate) fn events(&self) -> Rc<dyn EventSource> {
        Rc::clone(&self.state) as Rc<dyn EventSource>
    }

    fn read_link(&self) -> bool {
        let mut state = self.state.borrow_mut();
        let attachment = &mut state.attachment;
        let up = !attachment.stopped
            && (!attachment.has(net_feature::STATUS)
                || attachment.config(CONFIG_STATUS, 2) & STATUS_LINK_UP != 0);
        self.link.set((attachment.now(), up));
        up
    }
}

impl Net for VirtioNet {
    fn properties(&self) -> NetProperties {
        self.properties
    }

    fn pool(&self) -> &FramePool {
        &self.pool
    }

    fn poll_receive(
        &mut self,
        context: &mut Context<'_>,
        frames: &mut Vec<Frame>,
        limit: usize,
    ) -> Poll<usize> {
        let State { attachment, receive, .. } = &mut *self.state.borrow_mut();
        if attachment.stopped {
            return Poll::Pending;
        }
        receive.waker = None;
        receive.queue.disable_notifications();
        let before = frames.len();
        let taken = receive.take(frames, limit, &self.pool);
        receive.refill(&self.pool);
        attachment.kick(RECEIVE, &mut receive.queue);
        match taken {
            Err(nonsense) => {
                if !attachment.stop(&nonsense) {
                    receive.leak();
                }
            }
            Ok(0) => receive.waker = Some(context.waker().clone()),
            // There were packets, none of them fit to be handed up. Others may run before the next.
            Ok(_) if frames.len() == before => context.waker().wake_by_ref(),
            Ok(_) => {}
        }
        match frames.len() - before {
            0 => Poll::Pending,
            count => Poll::Ready(count),
        }
    }

    fn transmit(&mut self, context: &mut Context<'_>, frames: &mut VecDeque<Frame>) {
        let State { attachment, transmit, .. } = &mut *self.state.borrow_mut();
        transmit.waker = None;
        transmit.queue.disable_notifications();
        transmit.reclaim(attachment);
        if attachment.stopped {
            // As on a cut cable.
            frames.clear();
            return;
        }
        transmit.push_all(frames, &self.pool);
        attachment.kick(TRANSMIT, &mut transmit.queue);
        if !frames.is_empty() {
            transmit.waker = Some(context.waker().clone());
        }
    }

    fn link_up(&self) -> bool {
        let (read, up) = self.link.get();
        let now = self.state.borrow().attachment.now();
        if now.since(read) < LINK_AGE { up } else { self.read_link() }
    }
}

impl EventSource for RefCell<State> {
    fn deliver(&self) -> bool {
        let mut state = self.borrow_mut();
        let State { attachment, receive, transmit } = &mut *state;
        attachment.transport.acknowledge();
        let received = receive.waker.take_if(|_| !attachment.stopped && receive.queue.has_used());
        // Buffers go back to the pool also when nothing more is sent.
        let reclaimed = transmit.reclaim(attachment) > 0;
        let transmitted = transmit.waker.take_if(|_| reclaimed || attachment.stopped);
        drop(state);
        let woken = received.is_some() || transmitted.is_some();
        received.into_iter().chain(transmitted).for_each(Waker::wake);
        woken
    }

    fn arm(&self) -> bool {
        let State { attachment, receive, transmit } = &mut *self.borrow_mut();
        if attachment.stopped {
            return false;
        }
        let received = receive.waker.is_some() && receive.queue.enable_notifications();
        let transmitted = transmit.waker.is_some() && transmit.queue.enable_notifications_late();
        received || transmitted
    }
}

impl Drop for State {
    fn drop(&mut self) {
        if !self.attachment.quiesce() {
            self.receive.leak();
            self.transmit.leak();
        }
    }
}

/// The receive queue and its buffers.
struct Receiver {
    queue: Queue,
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
    waker: Option<Waker>,
    /// Packets thrown away because their header made no sense.
    dropped: u64,
}

struct Assembly {
    frame: Frame,
    /// Buffers still to come.
    remaining: u16,
}

impl Receiver {
    /// Where the device writes in a buffer: the header ends where the data starts.
    fn start(&self) -> usize {
        Frame::HEADROOM - self.header.length
    }

    /// Takes up to `limit` packets and returns how many there were, those thrown away included.
    fn take(&mut self, frames: &mut Vec<Frame>, limit: usize, pool: &FramePool) -> Result<usize, Nonsense> {
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
    fn refill(&mut self, pool: &FramePool) {
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
    fn leak(&mut self) {
        core::mem::forget(core::mem::take(&mut self.frames));
    }
}

/// The transmit queue and the frames in it.
struct Transmitter {
    queue: Queue,
    frames: Vec<Option<Frame>>,
    header: HeaderForm,
    support: OffloadSupport,
    /// How many of `frames` have large buffers.
    large: u16,
    waker: Option<Waker>,
    /// Frames thrown away because the device cannot do what they ask for.
    dropped: u64,
}

impl Transmitter {
    /// Takes back the frames that have been sent, whose buffers return to the pool, and returns how many there were.
    /// A device that talks nonsense is stopped.
    fn reclaim(&mut self, attachment: &mut Attachment) -> usize {
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

    fn push_all(&mut self, frames: &mut VecDeque<Frame>, pool: &FramePool) {
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
    fn leak(&mut self) {
        core::mem::forget(core::mem::take(&mut self.frames));
    }
}

fn is_large(frame: &Frame) -> bool {
    frame.buffer().len() > Frame::SMALL
}

fn none_of(count: u16) -> Vec<Option<Frame>> {
    (0..count).map(|_| None).collect()
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

/// A locally administered address for a device without one, the same at each start in the same place (FNV-1a of it).
fn local_mac(location: &str) -> [u8; 6] {
    let hash = location.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let bytes = hash.to_be_bytes();
    [bytes[0] & 0xfc | 0x02, bytes[1], bytes[2], bytes[3], bytes[4], bytes[5]]
}

struct Mac([u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, byte) in self.0.iter().enumerate() {
            let colon = if position > 0 { ":" } else { "" };
            write!(f, "{colon}{byte:02x}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
