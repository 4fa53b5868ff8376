//! Two engines and the link between them, under a virtual clock: the same seed is the same run.

use core::cell::{Cell, RefCell};
use core::future::Future;
use core::net::IpAddr;
use core::time::Duration;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io;
use std::rc::Rc;

use super::engine::TcpEngine;
use super::{Connect, TcpCounters, TcpLimits, TcpListener};
use crate::device::{Checksum, Clock, Entropy, FramePool, Instant, ManualClock, OffloadSupport};
use crate::executor::{Executor, Handle};
use crate::net::{IpError, IpErrorKind, IpOutput, IpPacket};

/// What the link does to packets. Probabilities are in parts per thousand.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// Time from end to end.
    pub latency: Duration,
    /// How much later than that a packet may come, at random: larger than the time between packets, it reorders them.
    pub jitter: Duration,
    /// Packets that vanish.
    pub loss: u16,
    /// Packets that arrive twice.
    pub duplication: u16,
    /// Largest packet at the ends.
    pub mtu: u16,
    /// Largest packet in the middle; larger ones are lost and the sender is told so.
    pub path_mtu: u16,
    /// Whether the ends leave checksums and the cutting of large segments to their devices. They are then cut on the link.
    pub offload: bool,
}

impl Default for Link {
    /// A good link of one millisecond.
    fn default() -> Self {
        Self {
            latency: Duration::from_millis(1),
            jitter: Duration::ZERO,
            loss: 0,
            duplication: 0,
            mtu: 1500,
            path_mtu: 1500,
            offload: false,
        }
    }
}

/// A generator for simulations: SplitMix64, seeded, not secret.
pub struct SeededEntropy(Cell<u64>);

impl SeededEntropy {
    /// The generator of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Cell::new(seed))
    }

    /// True `thousandth` times in a thousand.
    fn chance(&self, thousandth: u16) -> bool {
        thousandth > 0 && self.next_u64() % 1000 < u64::from(thousandth)
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
            self.0.set(state);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            chunk.copy_from_slice(&(mixed ^ (mixed >> 31)).to_le_bytes()[..chunk.len()]);
        }
    }
}

/// One end.
#[derive(Clone)]
pub struct Node {
    engine: TcpEngine,
    address: IpAddr,
}

impl Node {
    /// Its address.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Listens on a port.
    ///
    /// # Errors
    /// If the port has a listener.
    pub fn listen(&self, port: u16, backlog: usize) -> io::Result<TcpListener> {
        self.engine.listen((self.address, port).into(), backlog)
    }

    /// Opens a connection to the other end.
    pub fn connect(&self, peer: &Self, port: u16) -> Connect {
        self.engine.connect((self.address, 0).into(), (peer.address, port).into())
    }

    /// What it has counted.
    #[must_use]
    pub fn counters(&self) -> TcpCounters {
        self.engine.counters()
    }
}

struct Arrival {
    packet: IpPacket,
    to: usize,
}

/// The packets on the link, and what arrived in what order.
struct Wire {
    clock: Rc<ManualClock>,
    random: SeededEntropy,
    link: Link,
    pool: FramePool,
    queue: BinaryHeap<Reverse<(Instant, u64)>>,
    arrivals: HashMap<u64, Arrival>,
    serial: u64,
    too_big: Vec<(usize, Vec<u8>)>,
    /// Called for each packet that enters the link: false loses it.
    filter: Option<Filter>,
    packets: u64,
}

type Filter = Box<dyn FnMut(&[u8], usize) -> bool>;

struct End<'a> {
    wire: &'a mut Wire,
    from: usize,
    source: IpAddr,
}

impl IpOutput for End<'_> {
    fn send(&mut self, packet: IpPacket) {
        self.wire.enter(packet, self.from);
    }

    fn path_mtu(&self, _: IpAddr) -> u16 {
        self.wire.link.mtu
    }

    fn source_for(&self, _: IpAddr) -> Option<IpAddr> {
        Some(self.source)
    }

    fn offload(&self) -> OffloadSupport {
        let offload = self.wire.link.offload;
        OffloadSupport {
            transmit_checksum: offload,
            transmit_tcp4: offload,
            transmit_tcp6: offload,
            receive: offload,
        }
    }

    fn pool(&self) -> &FramePool {
        &self.wire.pool
    }
}

impl Wire {
    fn enter(&mut self, packet: IpPacket, from: usize) {
        self.packets += 1;
        if let Some(filter) = &mut self.filter
            && !filter(packet.frame.bytes(), from)
        {
            return;
        }
        let carried = match packet.frame.offload.segmentation {
            Some(segmentation) => {
                usize::from(segmentation.header_length) + usize::from(segmentation.segment_size)
            }
            None => packet.frame.len(),
        };
        assert!(carried <= usize::from(self.link.mtu), "a packet of {carried} bytes exceeds the MTU");
        if carried > usize::from(self.link.path_mtu) {
            let quoted = packet.frame.bytes()[packet.header_length..][..8].to_vec();
            self.too_big.push((from, quoted));
            return;
        }
        if self.random.chance(self.link.loss) {
            return;
        }
        if self.random.chance(self.link.duplication) {
            let mut frame = self.pool.copy_of(packet.frame.bytes());
            frame.offload = packet.frame.offload;
            self.carry(IpPacket { frame, ..packet_like(&packet) }, from);
        }
        self.carry(packet, from);
    }

    fn carry(&mut self, packet: IpPacket, from: usize) {
        let jitter = self.link.jitter.as_nanos() as u64;
        let late = if jitter == 0 { 0 } else { self.random.next_u64() % jitter };
        let at = self.clock.now() + self.link.latency + Duration::from_nanos(late);
        self.serial += 1;
        self.queue.push(Reverse((at, self.serial)));
        self.arrivals.insert(self.serial, Arrival { packet, to: 1 - from });
    }

    fn next(&mut self, now: Instant) -> Option<Arrival> {
        let Reverse((at, serial)) = *self.queue.peek()?;
        if at > now {
            return None;
        }
        self.queue.pop();
        self.arrivals.remove(&serial)
    }
}

fn packet_like(packet: &IpPacket) -> IpPacket {
    IpPacket {
        source: packet.source,
        destination: packet.destination,
        protocol: packet.protocol,
        header_length: packet.header_length,
        frame: FramePool::default().frame(0),
    }
}

/// Two nodes, the link, the clock and an executor for what uses them.
pub struct Pair {
    /// The end that connects.
    pub client: Node,
    /// The end that listens.
    pub server: Node,
    clock: Rc<ManualClock>,
    executor: Executor,
    wire: Rc<RefCell<Wire>>,
}

impl Pair {
    /// Two nodes with addresses of IPv4 or IPv6.
    #[must_use]
    pub fn new(seed: u64, link: Link, version6: bool, limits: TcpLimits) -> Self {
        let clock = Rc::new(ManualClock::default());
        let executor = Executor::new(clock.clone());
        let addresses: [IpAddr; 2] = if version6 {
            [[0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into(), [0x2001, 0xdb8, 0, 0, 0, 0, 0, 2].into()]
        } else {
            [[192, 0, 2, 1].into(), [192, 0, 2, 2].into()]
        };
        let node = |number: u64, address| {
            let entropy = Rc::new(SeededEntropy::new(seed.wrapping_mul(3).wrapping_add(number)));
            Node { engine: TcpEngine::new(&executor.handle(), entropy, limits), address }
        };
        let (client, server) = (node(1, addresses[0]), node(2, addresses[1]));
        let wire = Wire {
            clock: Rc::clone(&clock),
            random: SeededEntropy::new(seed),
            link,
            pool: FramePool::default(),
            queue: BinaryHeap::new(),
            arrivals: HashMap::new(),
            serial: 0,
            too_big: Vec::new(),
            filter: None,
            packets: 0,
        };
        Self { client, server, clock, executor, wire: Rc::new(RefCell::new(wire)) }
    }

    /// To spawn tasks and sleep.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.executor.handle()
    }

    /// Shows each packet that enters the link to `filter`, with the number of its sender (0 is the client); what it
    /// returns false for is lost.
    pub fn set_filter(&self, filter: impl FnMut(&[u8], usize) -> bool + 'static) {
        self.wire.borrow_mut().filter = Some(Box::new(filter));
    }

    /// Changes the link.
    pub fn set_link(&self, change: impl FnOnce(&mut Link)) {
        change(&mut self.wire.borrow_mut().link);
    }

    /// Packets that have entered the link.
    #[must_use]
    pub fn packets(&self) -> u64 {
        self.wire.borrow().packets
    }

    /// Puts a packet on the link that neither end has sent, on its way to the client (0) or the server (1).
    pub fn inject(&self, packet: &[u8], to: usize) {
        let (source, destination, header_length) = addresses_of(packet);
        let mut wire = self.wire.borrow_mut();
        let mut frame = wire.pool.copy_of(packet);
        frame.offload.checksum = Checksum::Complete;
        wire.carry(IpPacket { source, destination, protocol: 6, header_length, frame }, 1 - to);
    }

    /// Tells an end that a packet was too big for the path; `transport` quotes the packet.
    pub fn too_big(&self, node: &Node, peer: &Node, transport: &[u8], mtu: u32) {
        node.engine.error(&IpError {
            kind: IpErrorKind::TooBig { mtu },
            source: node.address,
            destination: peer.address,
            protocol: 6,
            transport,
        });
    }

    /// Runs tasks and packets until `main` is done.
    ///
    /// # Panics
    /// If `main` panics, or if everything waits for something that will not come.
    pub fn run<T: 'static>(&self, main: impl Future<Output = T> + 'static) -> T {
        let result = Rc::new(RefCell::new(None));
        let kept = Rc::clone(&result);
        let task = self.executor.handle().spawn(async move {
            let value = main.await;
            *kept.borrow_mut() = Some(value);
        });
        loop {
            while self.executor.turn() > 0 {
                self.work();
            }
            self.work();
            if let Some(value) = result.borrow_mut().take() {
                return value;
            }
            assert!(!task.is_finished(), "the task panicked");
            self.step();
        }
    }

    /// Runs tasks and packets for so long.
    pub fn run_for(&self, duration: Duration) {
        let handle = self.handle();
        self.run(async move { handle.sleep(duration).await });
    }

    /// Moves the clock to the next thing that happens.
    fn step(&self) {
        let arrival = self.wire.borrow().queue.peek().map(|Reverse((at, _))| *at);
        let engines = [&self.client, &self.server].map(|node| node.engine.next_deadline());
        let next = [arrival, engines[0], engines[1], self.executor.next_timer()].into_iter().flatten().min();
        // A timer that is due now may fire up to two ticks late: time must go on.
        let next = next.expect("everything waits for something that will not come");
        self.clock.advance_to(next.max(self.clock.now() + Duration::from_nanos(1)));
        self.executor.fire_timers();
        self.work();
    }

    /// Delivers what has arrived and lets both engines send.
    fn work(&self) {
        let now = self.clock.now();
        loop {
            let Some(Arrival { mut packet, to }) = self.wire.borrow_mut().next(now) else { break };
            let node = [&self.client, &self.server][to];
            if packet.frame.offload.checksum != Checksum::Complete {
                packet.frame.offload.checksum = Checksum::Verified;
            }
            let mut wire = self.wire.borrow_mut();
            node.engine.receive(now, packet, &mut End { wire: &mut wire, from: to, source: node.address });
        }
        for (from, node) in [&self.client, &self.server].into_iter().enumerate() {
            let mut wire = self.wire.borrow_mut();
            node.engine.poll(now, &mut End { wire: &mut wire, from, source: node.address });
        }
        let (quotes, mtu) = {
            let mut wire = self.wire.borrow_mut();
            (core::mem::take(&mut wire.too_big), wire.link.path_mtu)
        };
        for (from, quoted) in quotes {
            let nodes = [&self.client, &self.server];
            self.too_big(nodes[from], nodes[1 - from], &quoted, u32::from(mtu));
        }
    }
}

fn addresses_of(packet: &[u8]) -> (IpAddr, IpAddr, usize) {
    fn address<const N: usize>(bytes: &[u8]) -> [u8; N] {
        let mut address = [0; N];
        address.copy_from_slice(&bytes[..N]);
        address
    }
    if packet[0] >> 4 == 4 {
        (address::<4>(&packet[12..]).into(), address::<4>(&packet[16..]).into(), 20)
    } else {
        (address::<16>(&packet[8..]).into(), address::<16>(&packet[24..]).into(), 40)
    }
}
