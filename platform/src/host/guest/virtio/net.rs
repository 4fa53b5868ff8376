//! The network device (virtio 1.2, 5.1).
//!
//! A received frame lies in the buffer that the device filled, with the virtio header in its headroom; a transmitted one
//! goes out of the buffer it was made in, with the header pushed before it. The one copy is of received packets larger
//! than a buffer, which `MRG_RXBUF` spreads over several: they are made one large frame.

mod receive;
mod transmit;

use core::cell::{Cell, RefCell};
use core::fmt;
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use std::collections::VecDeque;
use std::rc::Rc;

use super::transport::{Transport, TransportError};
use super::{Attachment, feature};
use crate::device::{Clock, Frame, FramePool, Instant, Net, NetProperties, OffloadSupport};
use crate::host::guest::EventSource;
use receive::Receiver;
use transmit::Transmitter;

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

        let mut receive = Receiver::new(&mut attachment, HeaderForm { length, split: split && !merge }, mtu)?;
        let transmit = Transmitter::new(&mut attachment, HeaderForm { length, split }, properties.offload)?;
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

fn none_of(count: u16) -> Vec<Option<Frame>> {
    (0..count).map(|_| None).collect()
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
