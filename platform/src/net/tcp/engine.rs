//! The engine: finds the connection of each segment, opens and forgets connections, and lets time act on them.

use core::cell::RefCell;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::task::Waker;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::rc::Rc;

use slab::Slab;
use smoltcp::socket::tcp::State;

use super::counters::TcpCounters;
use super::demux::FlowKey;
use super::device::Interfaces;
use super::flow::{Context, Flow, Phase, send_control};
use super::hash::HashKey;
use super::limits::{
    BURST, CONNECT_TIMEOUT, COOKIES_VALID, HANDSHAKE_TIMEOUT, PATIENCE, PORT_ATTEMPTS, RESETS_PER_SECOND,
    TcpLimits,
};
use super::listener::{Backlog, SharedBacklog, TcpListener};
use super::segment::{Control, ControlSegment, Segment, SynOptions};
use super::sequence::{Initial, Sequence};
use super::shared::{FlowId, Shared};
use super::stream::{Connect, TcpStream};
use crate::device::{Entropy, Instant};
use crate::executor::{Handle, TimerWheel};
use crate::net::{IpError, IpErrorKind, IpOutput, IpPacket};

/// The transport control protocol for one stack. Clones lead to the same engine.
#[derive(Clone)]
pub(crate) struct TcpEngine {
    shared: Rc<Shared>,
    core: Rc<RefCell<Core>>,
}

struct Core {
    flows: Slab<Rc<RefCell<Flow>>>,
    by_key: HashMap<FlowKey, FlowId, HashKey>,
    listeners: HashMap<SocketAddr, SharedBacklog>,
    timers: TimerWheel<Alarm>,
    interfaces: Interfaces,
    /// Flows in TIME-WAIT, oldest first; some may have gone since.
    time_wait: VecDeque<FlowKey>,
    resets: Allowance,
    entropy: Rc<dyn Entropy>,
}

/// What a timer is for.
struct Alarm {
    flow: FlowId,
    /// It is the timer of an idle flow, [`Flow::idle_timer`].
    idle: bool,
}

/// So many events per second, and a burst of as many.
struct Allowance {
    left: u32,
    second: u64,
}

impl Allowance {
    fn take(&mut self, now: Instant) -> bool {
        let second = now.as_nanos() / 1_000_000_000;
        if second != self.second {
            (self.second, self.left) = (second, RESETS_PER_SECOND);
        }
        self.left.checked_sub(1).map(|left| self.left = left).is_some()
    }
}

impl TcpEngine {
    /// An engine without connections.
    pub(crate) fn new(handle: &Handle, entropy: Rc<dyn Entropy>, limits: TcpLimits) -> Self {
        let initial = Initial::new(&*entropy);
        let core = Core {
            flows: Slab::new(),
            by_key: HashMap::with_hasher(HashKey::random(&*entropy)),
            listeners: HashMap::new(),
            timers: TimerWheel::new(handle.now()),
            interfaces: Interfaces::default(),
            time_wait: VecDeque::new(),
            resets: Allowance { left: 0, second: u64::MAX },
            entropy,
        };
        let shared = Rc::new(Shared::new(handle.clone(), limits, initial));
        Self { shared, core: Rc::new(RefCell::new(core)) }
    }

    /// Takes a received packet. Call [`Self::poll`] after the last of a batch.
    pub(crate) fn receive(&self, now: Instant, packet: IpPacket, out: &mut dyn IpOutput) {
        self.core.borrow_mut().receive(&self.shared, now, packet, out);
    }

    /// Takes an ICMP error about a segment that we sent. What follows from it happens in [`Self::poll`].
    pub(crate) fn error(&self, error: &IpError<'_>) {
        self.core.borrow_mut().error(&self.shared, error);
    }

    /// Sends what is due: for connections that received something or that the application touched, and by timers. A
    /// connection with more to send than its share stays in line; the waker is then woken.
    pub(crate) fn poll(&self, now: Instant, out: &mut dyn IpOutput) {
        self.core.borrow_mut().poll(&self.shared, now, out);
        if self.shared.dirty() > 0 {
            self.shared.wake();
        }
    }

    /// When [`Self::poll`] has to be called at the latest.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        if self.shared.dirty() > 0 {
            return Some(self.shared.handle.now());
        }
        self.core.borrow().timers.next_deadline()
    }

    /// Keeps `waker`, to be woken whenever a socket has made work for [`Self::poll`].
    pub(crate) fn register_waker(&self, waker: &Waker) {
        self.shared.set_waker(waker);
    }

    /// Listens on a port of one address, or of all: `0.0.0.0` means those of IPv4, `::` all. At most `backlog` connections
    /// wait to be accepted.
    ///
    /// # Errors
    /// `InvalidInput` for port 0, `AddrInUse` if there is such a listener.
    pub(crate) fn listen(&self, local: SocketAddr, backlog: usize) -> io::Result<TcpListener> {
        if local.port() == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "cannot listen on port 0"));
        }
        let mut core = self.core.borrow_mut();
        if core.listeners.get(&local).is_some_and(|listener| !listener.borrow().is_closed()) {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, format!("{local} has a listener")));
        }
        let backlog = Backlog::new(local, backlog);
        core.listeners.insert(local, Rc::clone(&backlog));
        Ok(TcpListener::new(backlog, Rc::clone(&self.shared)))
    }

    /// Opens a connection from `local`, an address of ours; port 0 stands for a random one (RFC 6056 3.3.1).
    ///
    /// # Errors
    /// `ConnectionRefused`, `TimedOut`, `HostUnreachable`, `AddrInUse` if the four numbers are taken, `AddrNotAvailable`
    /// if no port is free, `OutOfMemory` at the limit of connections, `InvalidInput` for addresses that cannot be.
    pub(crate) fn connect(&self, local: SocketAddr, remote: SocketAddr) -> Connect {
        Connect::new(self.open(local, remote))
    }

    fn open(&self, local: SocketAddr, remote: SocketAddr) -> io::Result<TcpStream> {
        let impossible = local.is_ipv4() != remote.is_ipv4()
            || local.ip().is_unspecified()
            || remote.ip().is_unspecified()
            || remote.ip().is_multicast()
            || remote.port() == 0;
        if impossible {
            let message = format!("no connection can go from {local} to {remote}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let mut core = self.core.borrow_mut();
        if core.flows.len() >= self.shared.limits.connections {
            return Err(io::Error::new(io::ErrorKind::OutOfMemory, "the limit of connections is reached"));
        }
        let key = core.choose_port(FlowKey::new(local, remote))?;
        let now = self.shared.handle.now();
        let shared = &self.shared;
        let flow = core.insert(key, |id| Some(Flow::opening(id, key, shared, now, now + CONNECT_TIMEOUT)));
        let flow = flow.ok_or(io::ErrorKind::Other)?;
        self.shared.touch(&mut flow.borrow_mut());
        Ok(TcpStream::new(flow, Rc::clone(&self.shared)))
    }

    /// What has been counted.
    pub(crate) fn counters(&self) -> TcpCounters {
        let flows = self.core.borrow().flows.len() as u64;
        TcpCounters { flows, ..self.shared.counters() }
    }

    /// Connections that nobody holds any more but that still deliver data or their FIN. An image that shuts down waits
    /// until there are none.
    pub(crate) fn closing(&self) -> usize {
        let core = self.core.borrow();
        let closing = core.flows.iter().filter(|(_, flow)| {
            let flow = flow.borrow();
            flow.detached && !matches!(flow.phase, Phase::TimeWait { .. })
        });
        closing.count()
    }
}

impl FlowKey {
    /// Without IPv6 flow labels and scopes, which do not name a connection.
    fn new(local: SocketAddr, remote: SocketAddr) -> Self {
        let plain = |address: SocketAddr| SocketAddr::new(address.ip(), address.port());
        Self { local: plain(local), remote: plain(remote) }
    }
}

/// Where ports for connections that we open begin: more of them than RFC 6335's dynamic ports, as RFC 6056 clause 3.2 has
/// it, for a guess to be harder, and above those that services listen on.
const FIRST_EPHEMERAL: u16 = 16_384;

impl Core {
    fn choose_port(&self, key: FlowKey) -> io::Result<FlowKey> {
        if key.local.port() != 0 {
            return match self.by_key.contains_key(&key) {
                true => Err(io::ErrorKind::AddrInUse.into()),
                false => Ok(key),
            };
        }
        for _ in 0..PORT_ATTEMPTS {
            let offset = self.entropy.next_u64() % u64::from(u16::MAX - FIRST_EPHEMERAL + 1);
            let port = FIRST_EPHEMERAL + offset as u16;
            let key = FlowKey { local: SocketAddr::new(key.local.ip(), port), ..key };
            if !self.by_key.contains_key(&key) {
                return Ok(key);
            }
        }
        Err(io::ErrorKind::AddrNotAvailable.into())
    }

    fn insert(
        &mut self,
        key: FlowKey,
        make: impl FnOnce(FlowId) -> Option<Flow>,
    ) -> Option<Rc<RefCell<Flow>>> {
        let entry = self.flows.vacant_entry();
        let id = entry.key();
        let flow = Rc::new(RefCell::new(make(id)?));
        entry.insert(Rc::clone(&flow));
        self.by_key.insert(key, id);
        Some(flow)
    }

    fn remove(&mut self, flow: &mut Flow) {
        for timer in [&mut flow.timer, &mut flow.idle_timer] {
            if let Some((timer, _)) = timer.take() {
                self.timers.remove(timer);
            }
        }
        if let Some(backlog) = flow.backlog.take() {
            backlog.borrow_mut().half_open -= 1;
        }
        if self.by_key.get(&flow.wire.key) == Some(&flow.id) {
            self.by_key.remove(&flow.wire.key);
            self.flows.try_remove(flow.id);
        }
    }

    /// The listener for a connection to `local`: on the address itself, on all of its family, or on all.
    fn listener(&self, local: SocketAddr) -> Option<SharedBacklog> {
        let port = local.port();
        let family = match local.ip() {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let candidates = [local, SocketAddr::new(family, port), (Ipv6Addr::UNSPECIFIED, port).into()];
        let mut open = candidates.iter().filter_map(|address| self.listeners.get(address));
        open.find(|listener| !listener.borrow().is_closed()).cloned()
    }

    fn receive(&mut self, shared: &Rc<Shared>, now: Instant, mut packet: IpPacket, out: &mut dyn IpOutput) {
        if packet.source.is_multicast()
            || packet.source.is_unspecified()
            || packet.destination.is_multicast()
            || matches!(packet.source, IpAddr::V4(address) if address.is_broadcast())
        {
            return;
        }
        let Some((segment, key)) = Segment::parse(&packet) else {
            shared.count(|counters| counters.malformed += 1);
            return;
        };
        drop_extension_headers(&mut packet);
        let known = self.by_key.get(&key).and_then(|id| self.flows.get(*id)).cloned();
        let Some(flow) = known else {
            return self.receive_unknown(shared, now, &segment, key, packet, out);
        };
        let mut borrowed = flow.borrow_mut();
        if borrowed.yields_to(&segment) && self.listener(key.local).is_some() {
            self.remove(&mut borrowed);
            drop(borrowed);
            return self.receive_unknown(shared, now, &segment, key, packet, out);
        }
        if borrowed.backlog.as_ref().is_some_and(|backlog| backlog.borrow().is_full())
            && segment.control != Control::Reset
        {
            // It stays half open until there is room; the peer sends its ACK again with its data.
            return;
        }
        let mut context = Context { shared, interfaces: &mut self.interfaces, now, out };
        let opening = !borrowed.is_established();
        borrowed.receive(&mut context, segment, packet);
        if opening && borrowed.backlog.is_none() && borrowed.state() == State::Established {
            borrowed.deadline = None;
            shared.count(|counters| counters.connected += 1);
        }
        self.after_receive(shared, &flow, &mut borrowed, now);
    }

    fn after_receive(
        &mut self,
        shared: &Rc<Shared>,
        flow: &Rc<RefCell<Flow>>,
        borrowed: &mut Flow,
        now: Instant,
    ) {
        self.establish(shared, flow, borrowed);
        borrowed.settle(shared, now);
        shared.enqueue(borrowed);
    }

    /// Hands a connection whose handshake is done to its listener.
    fn establish(&mut self, shared: &Rc<Shared>, flow: &Rc<RefCell<Flow>>, borrowed: &mut Flow) {
        if !borrowed.is_established() || borrowed.is_over() {
            return;
        }
        let Some(backlog) = borrowed.backlog.take() else {
            return;
        };
        borrowed.deadline = None;
        shared.count(|counters| counters.accepted += 1);
        let mut backlog = backlog.borrow_mut();
        backlog.half_open -= 1;
        if backlog.is_closed() {
            borrowed.abort();
            borrowed.detached = true;
        } else {
            backlog.push(Rc::clone(flow));
        }
    }

    /// A segment of no connection: the first of one, or an error.
    fn receive_unknown(
        &mut self,
        shared: &Rc<Shared>,
        now: Instant,
        segment: &Segment,
        key: FlowKey,
        packet: IpPacket,
        out: &mut dyn IpOutput,
    ) {
        let Some(backlog) = self.listener(key.local) else {
            return self.refuse(shared, now, segment, &key, out);
        };
        match (segment.control, segment.acknowledgment) {
            (Control::Reset, _) => {}
            (Control::Syn, None) => self.receive_syn(shared, now, segment, key, &packet, &backlog, out),
            (Control::None | Control::Fin, Some(number)) => {
                let expected = backlog.borrow().cookies_until.is_some_and(|until| now < until);
                let peer = segment.sequence - 1;
                let mss = shared.initial.open(&key, peer, number - 1, now).filter(|_| expected);
                match mss {
                    Some(mss) => self.receive_cookie(shared, now, *segment, key, packet, &backlog, mss, out),
                    None => self.refuse(shared, now, segment, &key, out),
                }
            }
            _ => self.refuse(shared, now, segment, &key, out),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "what a SYN touches")]
    fn receive_syn(
        &mut self,
        shared: &Rc<Shared>,
        now: Instant,
        segment: &Segment,
        key: FlowKey,
        packet: &IpPacket,
        backlog: &SharedBacklog,
        out: &mut dyn IpOutput,
    ) {
        let full = backlog.borrow().is_full() || self.flows.len() >= shared.limits.connections;
        if full {
            // In silence: the peer tries again, by when there may be room.
            shared.count(|counters| counters.refused += 1);
            return;
        }
        if backlog.borrow().half_open >= shared.limits.half_open || shared.is_short() {
            let peer = segment.syn_options(packet);
            let mss = maximum_segment_size(&key, out);
            let reply = ControlSegment {
                control: Control::Syn,
                sequence: shared.initial.cookie(&key, segment.sequence, peer.mss, now),
                acknowledgment: Some(segment.sequence + 1),
                // Window scale and SACK have no room in a cookie.
                window: super::limits::SMALL_BUFFER as u16,
                options: Some(SynOptions { mss, scale: None, sack: false }),
            };
            backlog.borrow_mut().cookies_until = Some(now + COOKIES_VALID);
            shared.count(|counters| counters.cookies_sent += 1);
            send_control(out, &reply, &key);
            return;
        }
        let mut interfaces = core::mem::take(&mut self.interfaces);
        let mut context = Context { shared, interfaces: &mut interfaces, now, out };
        let flow = self.insert(key, |id| {
            let deadline = now + HANDSHAKE_TIMEOUT;
            let backlog = Rc::clone(backlog);
            Some(Flow::accepting(id, key, segment, packet, backlog, &mut context, deadline))
        });
        self.interfaces = interfaces;
        backlog.borrow_mut().half_open += 1;
        if let Some(flow) = flow {
            shared.enqueue(&mut flow.borrow_mut());
        }
    }

    #[expect(clippy::too_many_arguments, reason = "what a cookie touches")]
    fn receive_cookie(
        &mut self,
        shared: &Rc<Shared>,
        now: Instant,
        segment: Segment,
        key: FlowKey,
        packet: IpPacket,
        backlog: &SharedBacklog,
        mss: u16,
        out: &mut dyn IpOutput,
    ) {
        if backlog.borrow().is_full() || self.flows.len() >= shared.limits.connections {
            shared.count(|counters| counters.refused += 1);
            return;
        }
        let mut interfaces = core::mem::take(&mut self.interfaces);
        let mut context = Context { shared, interfaces: &mut interfaces, now, out };
        let flow = self
            .insert(key, |id| Flow::from_cookie(id, key, &segment, mss, Rc::clone(backlog), &mut context));
        if let Some(flow) = flow {
            backlog.borrow_mut().half_open += 1;
            shared.count(|counters| counters.cookies_accepted += 1);
            let mut borrowed = flow.borrow_mut();
            borrowed.receive(&mut context, segment, packet);
            self.interfaces = interfaces;
            self.after_receive(shared, &flow, &mut borrowed, now);
        } else {
            self.interfaces = interfaces;
        }
    }

    /// Answers a segment that belongs to nothing with a reset, if there is one left this second.
    fn refuse(
        &mut self,
        shared: &Shared,
        now: Instant,
        segment: &Segment,
        key: &FlowKey,
        out: &mut dyn IpOutput,
    ) {
        if let Some(reset) = ControlSegment::reset_for(segment)
            && self.resets.take(now)
        {
            shared.count(|counters| counters.resets_sent += 1);
            send_control(out, &reset, key);
        }
    }

    /// RFC 5927: an error counts only if it quotes a segment that is in flight. Then a smaller MTU is believed, and a
    /// refusal ends an attempt to connect; an established connection outlives all else (clause 5.2).
    fn error(&mut self, shared: &Rc<Shared>, error: &IpError<'_>) {
        let Some(&[source_high, source_low, port_high, port_low, a, b, c, d]) = error.transport.first_chunk()
        else {
            return;
        };
        let key = FlowKey {
            local: SocketAddr::new(error.source, u16::from_be_bytes([source_high, source_low])),
            remote: SocketAddr::new(error.destination, u16::from_be_bytes([port_high, port_low])),
        };
        let number = Sequence(u32::from_be_bytes([a, b, c, d]));
        let known = self.by_key.get(&key).and_then(|id| self.flows.get(*id)).cloned();
        let Some(flow) = known.filter(|flow| flow.borrow().is_in_flight(number)) else {
            shared.count(|counters| counters.icmp_ignored += 1);
            return;
        };
        let mut flow = flow.borrow_mut();
        match error.kind {
            IpErrorKind::TooBig { mtu } => {
                let mtu = match mtu {
                    // A router older than RFC 1191 does not say: the next lower usual MTU (clause 7.1).
                    0 => plateau_below(flow.mtu()),
                    mtu => mtu.min(u32::from(u16::MAX)) as u16,
                };
                if flow.lower_mtu(mtu) {
                    shared.enqueue(&mut flow);
                }
            }
            IpErrorKind::PortUnreachable | IpErrorKind::Unreachable => {
                if !flow.is_established() && flow.backlog.is_none() {
                    let kind = match error.kind {
                        IpErrorKind::PortUnreachable => io::ErrorKind::ConnectionRefused,
                        _ => io::ErrorKind::HostUnreachable,
                    };
                    flow.fail(kind);
                    shared.enqueue(&mut flow);
                }
            }
            IpErrorKind::TimeExceeded => {}
        }
    }

    fn poll(&mut self, shared: &Rc<Shared>, now: Instant, out: &mut dyn IpOutput) {
        let flows = &self.flows;
        self.timers.expire(now, |alarm| {
            if let Some(flow) = flows.get(alarm.flow) {
                let mut flow = flow.borrow_mut();
                *if alarm.idle { &mut flow.idle_timer } else { &mut flow.timer } = None;
                shared.enqueue(&mut flow);
            }
        });
        for _ in 0..shared.dirty() {
            let Some(id) = shared.next_dirty() else { break };
            let Some(flow) = self.flows.get(id).cloned() else { continue };
            self.service(shared, &flow, now, out);
        }
    }

    fn service(
        &mut self,
        shared: &Rc<Shared>,
        flow: &Rc<RefCell<Flow>>,
        now: Instant,
        out: &mut dyn IpOutput,
    ) {
        let mut borrowed = flow.borrow_mut();
        borrowed.queued = false;
        let mut context = Context { shared, interfaces: &mut self.interfaces, now, out };
        let more = borrowed.service(&mut context, BURST);
        if borrowed.is_over() {
            self.remove(&mut borrowed);
            return;
        }
        let deadline = borrowed.next_deadline(&mut context);
        if more {
            shared.enqueue(&mut borrowed);
        } else if let Some(deadline) = deadline {
            let deadline = if deadline <= now { now + PATIENCE } else { deadline };
            self.set_timer(&mut borrowed, deadline);
        }
        if matches!(borrowed.phase, Phase::TimeWait { .. }) && !borrowed.remembered {
            borrowed.remembered = true;
            let key = borrowed.wire.key;
            drop(borrowed);
            self.remember_time_wait(shared, key);
        }
    }

    /// Has `poll` look at the flow then. A timer that is early is left: it costs one look when it fires, moving it costs
    /// one now. An idle flow's timer is left while the flow is busy, as what a busy one sets is gone long before.
    fn set_timer(&mut self, flow: &mut Flow, deadline: Instant) {
        let idle = matches!(flow.phase, Phase::Folded);
        if idle && let Some((timer, _)) = flow.timer.take() {
            self.timers.remove(timer);
        }
        let timer = if idle { &mut flow.idle_timer } else { &mut flow.timer };
        if timer.is_none_or(|(_, set)| deadline < set) {
            if let Some((timer, _)) = timer.take() {
                self.timers.remove(timer);
            }
            *timer = Some((self.timers.insert(deadline, Alarm { flow: flow.id, idle }), deadline));
        }
    }

    fn remember_time_wait(&mut self, shared: &Shared, key: FlowKey) {
        self.time_wait.push_back(key);
        while self.time_wait.len() > shared.limits.time_wait {
            let Some(oldest) = self.time_wait.pop_front() else { break };
            let Some(flow) = self.by_key.get(&oldest).and_then(|id| self.flows.get(*id)).cloned() else {
                continue;
            };
            let mut flow = flow.borrow_mut();
            if matches!(flow.phase, Phase::TimeWait { .. }) {
                flow.phase = Phase::Closed;
                self.remove(&mut flow);
            }
        }
    }
}

/// The MSS to announce to a peer: what its path carries, without the smallest headers (RFC 6691).
fn maximum_segment_size(key: &FlowKey, out: &dyn IpOutput) -> u16 {
    let headers = if key.local.is_ipv4() { 40 } else { 60 };
    out.path_mtu(key.remote.ip()).saturating_sub(headers)
}

/// The largest usual MTU below `mtu` (RFC 1191 clause 7.1).
fn plateau_below(mtu: u16) -> u16 {
    const PLATEAUS: [u16; 8] = [32_000, 17_914, 8166, 4352, 2002, 1492, 1006, 508];
    PLATEAUS.into_iter().find(|plateau| *plateau < mtu).unwrap_or(508)
}

/// Moves an IPv6 header right before its TCP header: the extension headers between have been dealt with.
fn drop_extension_headers(packet: &mut IpPacket) {
    const HEADER: usize = 40;
    let extra = packet.header_length - HEADER.min(packet.header_length);
    if packet.source.is_ipv4() || extra == 0 {
        return;
    }
    packet.frame.bytes_mut().copy_within(..HEADER, extra);
    packet.frame.trim_front(extra);
    packet.header_length = HEADER;
    let length = (packet.frame.len() - HEADER) as u16;
    let header = packet.frame.bytes_mut();
    header[4..6].copy_from_slice(&length.to_be_bytes());
    header[6] = super::segment::PROTOCOL;
}
