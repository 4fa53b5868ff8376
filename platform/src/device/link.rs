//! A simulated link: two network devices and the wire between them, with its latency and its faults.
//!
//! Frames are delivered by the executor's timers and faults come from a seed: with a
//! [`ManualClock`](super::ManualClock) every run of a seed is the same run.

use core::cell::RefCell;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use super::random::Xorshift;
use super::{Frame, FramePool, Instant, Net, NetProperties, OffloadSupport};
use crate::executor::{Handle, Sleep};

/// How a link treats frames, each way alike. Rates are per 65,536 frames.
#[derive(Clone, Copy, Debug)]
pub struct LinkProperties {
    /// Largest IP packet, in bytes. Longer frames are lost.
    pub mtu: u16,
    /// Time from one end to the other.
    pub latency: Duration,
    /// Up to so much more, by chance for each frame: frames may overtake each other.
    pub jitter: Duration,
    /// Frames lost.
    pub loss: u16,
    /// Frames that arrive twice.
    pub duplication: u16,
    /// Bytes a second; `None` is without limit.
    pub bandwidth: Option<u64>,
    /// Bytes that wait for bandwidth, at most; more is lost.
    pub queue: usize,
    /// Offloads that both ends claim. Their work is then never done, as between two guests of a host.
    pub offload: OffloadSupport,
}

impl Default for LinkProperties {
    /// Plain Ethernet: 1500 bytes, 100 µs, without limit and without faults.
    fn default() -> Self {
        Self {
            mtu: 1500,
            latency: Duration::from_micros(100),
            jitter: Duration::ZERO,
            loss: 0,
            duplication: 0,
            bandwidth: None,
            queue: 256 * 1024,
            offload: OffloadSupport::default(),
        }
    }
}

/// One way of the wire.
#[derive(Default)]
struct Direction {
    /// In flight, by arrival and then by order of sending.
    frames: BTreeMap<(Instant, u64), Frame>,
    sent: u64,
    /// When the last frame will have left, with limited bandwidth.
    free_at: Instant,
    receiver: Option<Waker>,
}

struct Wire {
    handle: Handle,
    properties: LinkProperties,
    random: RefCell<Xorshift>,
    directions: [RefCell<Direction>; 2],
}

/// One end of a simulated link.
pub struct LinkEnd {
    wire: Rc<Wire>,
    end: usize,
    mac: [u8; 6],
    pool: FramePool,
    sleep: Sleep,
}

/// A link with two ends, whose faults follow from `seed`.
#[must_use]
pub fn link(handle: &Handle, seed: u64, properties: LinkProperties) -> (LinkEnd, LinkEnd) {
    let wire = Rc::new(Wire {
        handle: handle.clone(),
        properties,
        random: RefCell::new(Xorshift::new(seed)),
        directions: Default::default(),
    });
    let end = |end: u8| LinkEnd {
        wire: Rc::clone(&wire),
        end: usize::from(end),
        mac: [2, 0, 0, 0, 0, end + 1],
        pool: FramePool::default(),
        sleep: handle.sleep_until(handle.now()),
    };
    (end(0), end(1))
}

impl LinkEnd {
    fn send(&self, frame: Frame) {
        let Wire { handle, properties, random, directions } = &*self.wire;
        let mut random = random.borrow_mut();
        let mut direction = directions[1 - self.end].borrow_mut();
        let longest = usize::from(properties.mtu) + 14;
        let too_long = frame.len() > longest && frame.offload.segmentation.is_none();
        if too_long || random.happens(properties.loss) {
            return;
        }
        let mut leaves = handle.now();
        if let Some(bandwidth) = properties.bandwidth {
            leaves = leaves.max(direction.free_at);
            let waiting = leaves.since(handle.now()).as_nanos() * u128::from(bandwidth) / 1_000_000_000;
            if waiting > properties.queue as u128 {
                return;
            }
            leaves += Duration::from_nanos(frame.len() as u64 * 1_000_000_000 / bandwidth);
            direction.free_at = leaves;
        }
        let copies = 1 + usize::from(random.happens(properties.duplication));
        for copy in (1..copies).map(|_| duplicate(&self.pool, &frame)).collect::<Vec<_>>() {
            direction.deliver(leaves + properties.latency + random.up_to(properties.jitter), copy);
        }
        direction.deliver(leaves + properties.latency + random.up_to(properties.jitter), frame);
    }
}

fn duplicate(pool: &FramePool, frame: &Frame) -> Frame {
    let mut copy = pool.copy_of(frame.bytes());
    copy.offload = frame.offload;
    copy
}

impl Direction {
    fn deliver(&mut self, at: Instant, frame: Frame) {
        self.sent += 1;
        self.frames.insert((at, self.sent), frame);
        self.receiver.take().into_iter().for_each(Waker::wake);
    }
}

impl Net for LinkEnd {
    fn properties(&self) -> NetProperties {
        NetProperties { mac: self.mac, mtu: self.wire.properties.mtu, offload: self.wire.properties.offload }
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
        let mut direction = self.wire.directions[self.end].borrow_mut();
        let before = frames.len();
        loop {
            while frames.len() < before + limit
                && let Some(entry) = direction.frames.first_entry()
                && entry.key().0 <= self.wire.handle.now()
            {
                frames.push(entry.remove());
            }
            if frames.len() > before {
                return Poll::Ready(frames.len() - before);
            }
            direction.receiver = Some(context.waker().clone());
            let Some((arrival, _)) = direction.frames.keys().next() else { return Poll::Pending };
            self.sleep.reset(*arrival);
            if Pin::new(&mut self.sleep).poll(context).is_pending() {
                return Poll::Pending;
            }
        }
    }

    fn transmit(&mut self, _context: &mut Context<'_>, frames: &mut VecDeque<Frame>) {
        frames.drain(..).for_each(|frame| self.send(frame));
    }
}
