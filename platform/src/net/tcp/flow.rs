//! One connection: its smoltcp socket while there is something to do, and what is known of it otherwise.
//!
//! **Folding.** A socket with its buffers takes nine kilobytes, and most connections of a server are idle. When nothing is
//! in flight or unread, all that TCP has to remember is a handful of numbers: the two next sequence numbers, the peer's
//! window and what its SYN said. So the socket of an idle connection is dropped, and made again when a segment or the
//! application comes: a new socket listens, is given a SYN one below the peer's next sequence number by an interface seeded
//! for one below ours, its SYN-ACK goes nowhere, and the last acknowledgment and window establish it. The same staging
//! **grows** buffers, which smoltcp cannot: at a moment when nothing is in flight or unread, the socket is staged
//! anew with larger ones. It also makes a connection out of a **SYN cookie**.

mod recovery;
mod staging;

use core::task::Waker;
use core::time::Duration;
use std::io;
use std::rc::Rc;

use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp::{self, State};
use smoltcp::wire::IpListenEndpoint;

use super::demux::FlowKey;
use super::device::{FlowDevice, Interfaces, Wire, endpoint, interface, platform_time, smoltcp_time};
use super::limits::{
    CHALLENGE_INTERVAL, FOLD_AFTER, KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, LINGER, LONGEST_LINGER,
    LONGEST_RETRANSMISSION, MINIMUM_MTU_V4, MINIMUM_MTU_V6, MTU_STEP, SMALL_BUFFER, STUCK_AFTER, TIME_WAIT,
    USER_TIMEOUT,
};
use super::listener::SharedBacklog;
use super::segment::{Control, ControlSegment, DEFAULT_MSS, PROTOCOL, Segment, SynOptions, seal};
use super::sequence::{Sequence, seed_for};
use super::shared::{BufferShare, FlowId, Shared};
use super::validate::{Verdict, View, judge};
use crate::device::Instant;
use crate::executor::TimerKey;
use crate::net::{IpOutput, IpPacket};

/// A smoltcp socket alone in its set.
pub(super) struct Socket {
    set: SocketSet<'static>,
    handle: SocketHandle,
    _share: BufferShare,
}

impl Socket {
    fn new(shared: &Rc<Shared>, sizes: Sizes, nodelay: bool) -> Self {
        let mut socket = tcp::Socket::new(
            tcp::SocketBuffer::new(vec![0; sizes.receive]),
            tcp::SocketBuffer::new(vec![0; sizes.send]),
        );
        socket.set_congestion_control(tcp::CongestionControl::Cubic);
        socket.set_timeout(Some(USER_TIMEOUT.into()));
        socket.set_nagle_enabled(!nodelay);
        let mut set = SocketSet::new(Vec::with_capacity(1));
        let handle = set.add(socket);
        Self { set, handle, _share: BufferShare::take(shared, sizes.receive + sizes.send) }
    }

    pub(super) fn tcp(&self) -> &tcp::Socket<'static> {
        self.set.get(self.handle)
    }

    pub(super) fn tcp_mut(&mut self) -> &mut tcp::Socket<'static> {
        self.set.get_mut(self.handle)
    }
}

/// Sizes of a socket's buffers in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    pub(super) receive: usize,
    pub(super) send: usize,
}

impl Sizes {
    const SMALL: Self = Self { receive: SMALL_BUFFER, send: SMALL_BUFFER };
}

/// Where a connection is.
pub(super) enum Phase {
    /// `connect` was called; the SYN goes out with the next poll.
    Opening,
    /// smoltcp has it.
    Active(Socket),
    /// ESTABLISHED and idle.
    Folded,
    /// Both sides have closed; late segments are answered from the numbers alone.
    TimeWait { until: Instant },
    /// Over. [`Flow::error`] says how.
    Closed,
}

/// What the engine lends to a flow.
pub(super) struct Context<'a> {
    pub(super) shared: &'a Rc<Shared>,
    pub(super) interfaces: &'a mut Interfaces,
    pub(super) now: Instant,
    pub(super) out: &'a mut dyn IpOutput,
}

/// One connection.
pub(super) struct Flow {
    pub(super) id: FlowId,
    pub(super) phase: Phase,
    pub(super) wire: Wire,
    sizes: Sizes,
    /// The sequence number of the next byte that the application writes.
    send_user: Sequence,
    /// The sequence number of the next byte that the application reads.
    receive_user: Sequence,
    /// The end of the data seen so far, in order or not.
    receive_highest: Sequence,
    peer: SynOptions,
    /// How far the peer lets us send. It never goes back: a segment that says less was overtaken on the way, or its sender
    /// shrinks its window, which RFC 9293 3.8.6 has it not do and us be robust against.
    peer_window_end: Sequence,
    /// The largest window that the peer announced, in bytes.
    peer_window_largest: u32,
    /// A keepalive probe went out after a long silence, and no answer has come: it does not fold then, so that smoltcp's
    /// timeout can end it.
    probing: bool,
    /// When the peer is probed next, while there is a socket.
    probe_at: Instant,
    /// Since when the socket has had data to send and no plan to.
    stuck_since: Option<Instant>,
    /// Bytes received since the receive buffer last grew.
    received: usize,
    /// The application filled the send buffer: it is to grow as soon as it is empty.
    pub(super) wants_room: bool,
    pub(super) nodelay: bool,
    round_trip: Duration,
    opened: Instant,
    last_activity: Instant,
    last_challenge: Option<Instant>,
    /// When an unfinished handshake, or the lingering of a connection that nobody holds, ends.
    pub(super) deadline: Option<Instant>,
    /// The listener that this connection came to, until it is established.
    pub(super) backlog: Option<SharedBacklog>,
    /// The application writes no more.
    closing: bool,
    /// Nobody holds the stream any more.
    pub(super) detached: bool,
    detached_at: Instant,
    /// The engine has it in its list of those in TIME-WAIT.
    pub(super) remembered: bool,
    reset_received: bool,
    aborted: bool,
    pub(super) error: Option<io::ErrorKind>,
    /// What was received and not read when the socket went.
    leftover: Vec<u8>,
    /// The timer of a flow that is busy.
    pub(super) timer: Option<(TimerKey, Instant)>,
    /// The timer of a flow that is folded. It stays set while the flow is busy again, which it is every few messages.
    pub(super) idle_timer: Option<(TimerKey, Instant)>,
    pub(super) queued: bool,
    pub(super) read_waker: Option<Waker>,
    pub(super) write_waker: Option<Waker>,
}

impl Flow {
    fn new(id: FlowId, key: FlowKey, first: Sequence, shared: &Shared, mtu: u16, now: Instant) -> Self {
        let wire = Wire {
            key,
            mtu: mtu - mtu % MTU_STEP,
            peer_mss: DEFAULT_MSS,
            send_next: first,
            acknowledged: None,
            window_end: Sequence(0),
            announced_scale: scale_for(shared.limits.receive_buffer),
            socket_scale: 0,
            scaling: false,
            retransmitted: 0,
        };
        Self {
            id,
            phase: Phase::Opening,
            wire,
            sizes: Sizes::SMALL,
            send_user: first + 1,
            receive_user: Sequence(0),
            receive_highest: Sequence(0),
            peer: SynOptions { mss: DEFAULT_MSS, scale: None, sack: false },
            peer_window_end: first + 1,
            peer_window_largest: 0,
            probing: false,
            probe_at: now + KEEPALIVE_INTERVAL,
            stuck_since: None,
            received: 0,
            wants_room: false,
            nodelay: true,
            round_trip: Duration::ZERO,
            opened: now,
            last_activity: now,
            last_challenge: None,
            deadline: None,
            backlog: None,
            closing: false,
            detached: false,
            detached_at: now,
            remembered: false,
            reset_received: false,
            aborted: false,
            error: None,
            leftover: Vec::new(),
            timer: None,
            idle_timer: None,
            queued: false,
            read_waker: None,
            write_waker: None,
        }
    }

    /// A connection that we open. Nothing happens until [`Self::service`].
    pub(super) fn opening(
        id: FlowId,
        key: FlowKey,
        shared: &Shared,
        now: Instant,
        deadline: Instant,
    ) -> Self {
        let first = shared.initial.sequence(&key, now);
        let mut flow = Self::new(id, key, first, shared, 0, now);
        flow.deadline = Some(deadline);
        flow
    }

    /// A connection that a peer opens with the SYN in `packet`.
    pub(super) fn accepting(
        id: FlowId,
        key: FlowKey,
        segment: &Segment,
        packet: &IpPacket,
        backlog: SharedBacklog,
        context: &mut Context<'_>,
        deadline: Instant,
    ) -> Self {
        let now = context.now;
        let first = context.shared.initial.sequence(&key, now);
        let mtu = context.out.path_mtu(key.remote.ip());
        let mut flow = Self::new(id, key, first, context.shared, mtu, now);
        flow.deadline = Some(deadline);
        flow.backlog = Some(backlog);
        flow.note_peer(segment, packet);
        let mut socket = Socket::new(context.shared, flow.sizes, flow.nodelay);
        let listening = socket.tcp_mut().listen(flow.listen_endpoint());
        debug_assert!(listening.is_ok(), "a new socket listens on any port but 0");
        let mut device = FlowDevice::network(context.out, &mut flow.wire, 0).with_input(packet.frame.bytes());
        let mut seeded = interface(&mut device, seed_for(first), now);
        seeded.poll_ingress_single(smoltcp_time(now), &mut device, &mut socket.set);
        flow.phase = Phase::Active(socket);
        flow
    }

    /// A connection whose handshake was remembered by nobody but the peer: `segment` acknowledges our cookie.
    pub(super) fn from_cookie(
        id: FlowId,
        key: FlowKey,
        segment: &Segment,
        mss: u16,
        backlog: SharedBacklog,
        context: &mut Context<'_>,
    ) -> Option<Self> {
        let now = context.now;
        let next = segment.acknowledgment?;
        let mtu = context.out.path_mtu(key.remote.ip());
        let mut flow = Self::new(id, key, next - 1, context.shared, mtu, now);
        flow.backlog = Some(backlog);
        flow.peer = SynOptions { mss, scale: None, sack: false };
        flow.wire.peer_mss = mss;
        flow.receive_user = segment.sequence;
        flow.receive_highest = segment.sequence;
        flow.note_window(next, u32::from(segment.window));
        flow.wire.send_next = next;
        flow.wire.acknowledged = Some(segment.sequence);
        flow.wire.window_end = segment.sequence + flow.sizes.receive;
        flow.stage(context.shared, flow.sizes, now).then_some(flow)
    }

    fn listen_endpoint(&self) -> IpListenEndpoint {
        let local = self.wire.key.local;
        IpListenEndpoint { addr: Some(local.ip().into()), port: local.port() }
    }

    /// Keeps what the peer's SYN says.
    fn note_peer(&mut self, segment: &Segment, packet: &IpPacket) {
        self.peer = segment.syn_options(packet);
        self.wire.peer_mss = self.peer.mss;
        self.receive_user = segment.sequence + 1;
        self.receive_highest = self.receive_user;
        self.wire.scaling = self.peer.scale.is_some();
        self.wire.socket_scale = if self.wire.scaling { scale_for(self.sizes.receive) } else { 0 };
        self.note_window(self.send_user, u32::from(segment.window));
    }

    fn note_window(&mut self, acknowledgment: Sequence, window: u32) {
        self.peer_window_end = self.peer_window_end.max(acknowledgment + window as usize);
        self.peer_window_largest = self.peer_window_largest.max(window);
    }

    /// The state by its name in RFC 9293.
    pub(super) fn state(&self) -> State {
        match &self.phase {
            Phase::Opening => State::SynSent,
            Phase::Active(socket) => socket.tcp().state(),
            Phase::Folded => State::Established,
            Phase::TimeWait { .. } => State::TimeWait,
            Phase::Closed => State::Closed,
        }
    }

    /// RCV.NXT
    pub(super) fn receive_next(&self) -> Sequence {
        match &self.phase {
            Phase::Active(socket) => {
                self.receive_user + socket.tcp().recv_queue() + usize::from(peer_closed(self.state()))
            }
            _ => self.receive_user,
        }
    }

    fn unacknowledged(&self) -> usize {
        match &self.phase {
            Phase::Active(socket) => socket.tcp().send_queue(),
            _ => 0,
        }
    }

    fn view(&self) -> View {
        let state = self.state();
        let closed = usize::from(matches!(state, State::FinWait2 | State::TimeWait));
        let send_unacknowledged = match self.phase {
            Phase::Active(_) => self.send_user - self.unacknowledged() + closed,
            _ => self.wire.send_next,
        };
        View {
            state,
            receive_next: self.receive_next(),
            window_end: self.wire.window_end,
            send_unacknowledged,
            send_next: self.wire.send_next,
            largest_window: self.peer_window_largest,
        }
    }

    /// Bytes that the receive buffer has room for.
    fn room(&self) -> usize {
        match &self.phase {
            Phase::Active(socket) => socket.tcp().recv_capacity() - socket.tcp().recv_queue(),
            Phase::Folded => self.sizes.receive,
            _ => 0,
        }
    }

    /// Takes a segment for this connection.
    pub(super) fn receive(&mut self, context: &mut Context<'_>, mut segment: Segment, mut packet: IpPacket) {
        if self.state() == State::SynSent {
            // Only a SYN that acknowledges ours, or that crosses it, says who the peer is.
            let crossed = segment.acknowledgment.is_none_or(|number| number == self.send_user);
            if segment.control == Control::Syn && crossed {
                self.note_peer(&segment, &packet);
                self.round_trip = context.now.since(self.opened);
            }
        }
        let view = self.view();
        match judge(&view, &segment) {
            Verdict::Accept => {}
            Verdict::AcceptData => segment.set_acknowledgment(&mut packet, view.send_unacknowledged),
            Verdict::Drop => return,
            Verdict::Challenge => return self.challenge(context),
        }
        if let Phase::TimeWait { until } = &mut self.phase {
            if segment.control == Control::Reset {
                // RFC 1337: a reset does not cut TIME-WAIT short.
                return;
            }
            if segment.length() > 0 {
                *until = context.now + TIME_WAIT;
                self.acknowledge(context);
            }
            return;
        }
        if segment.control == Control::Reset {
            self.reset_received = true;
        }
        let now = context.now;
        if self.unfold(context.shared, now).is_none() {
            return;
        }
        self.probing = false;
        self.probe_at = now + KEEPALIVE_INTERVAL;
        let clipped = self.clip(&mut segment, &mut packet);
        self.note_segment(&mut segment, &mut packet, &view, now);

        let Phase::Active(socket) = &mut self.phase else { return };
        let before = socket.tcp().recv_queue();
        let mut device = FlowDevice::network(context.out, &mut self.wire, 0).with_input(packet.frame.bytes());
        let interface = context.interfaces.get(&mut device, now);
        interface.poll_ingress_single(smoltcp_time(now), &mut device, &mut socket.set);
        self.received += socket.tcp().recv_queue().saturating_sub(before);
        if clipped {
            self.acknowledge(context);
        }
    }

    /// Cuts off what lies beyond the receive buffer: a window that was announced in larger units than the socket's own
    /// may promise more than there is. True if something was cut off.
    fn clip(&self, segment: &mut Segment, packet: &mut IpPacket) -> bool {
        if self.state() == State::SynSent || segment.control == Control::Reset || segment.payload == 0 {
            return false;
        }
        let limit = self.receive_next() + self.room();
        let beyond = (segment.sequence + segment.payload).ahead_of(limit);
        if beyond <= 0 {
            return false;
        }
        let left = segment.payload.saturating_sub(beyond as usize);
        segment.trim(packet, left);
        true
    }

    fn note_segment(&mut self, segment: &mut Segment, packet: &mut IpPacket, view: &View, now: Instant) {
        if view.state == State::SynSent || segment.control == Control::Syn {
            return;
        }
        if view.state == State::SynReceived {
            self.round_trip = now.since(self.opened);
        }
        if let Some(number) = segment.acknowledgment {
            self.note_window(number, u32::from(segment.window) << self.peer.scale.unwrap_or(0));
            let field = self.window_field(number);
            if field > segment.window {
                segment.set_window(packet, field);
            }
        }
        // Only what falls into the window can be waiting there.
        let end = segment.sequence + segment.payload;
        if segment.payload > 0 && end <= view.receive_next + self.room() {
            self.receive_highest = self.receive_highest.max(end);
        }
    }

    /// Sends an ACK with the present numbers, unless it did so a moment ago (RFC 5961 clause 7).
    fn challenge(&mut self, context: &mut Context<'_>) {
        if self.last_challenge.is_some_and(|last| context.now.since(last) < CHALLENGE_INTERVAL) {
            return;
        }
        self.last_challenge = Some(context.now);
        context.shared.count(|counters| counters.challenge_acks += 1);
        self.acknowledge(context);
    }

    /// Sends an ACK with the present numbers.
    fn acknowledge(&mut self, context: &mut Context<'_>) {
        let segment = self.acknowledgment();
        send_control(context.out, &segment, &self.wire.key);
        self.wire.acknowledged = segment.acknowledgment;
        let window = usize::from(segment.window) << self.announced_scale();
        self.wire.window_end = self.wire.window_end.max(self.receive_next() + window);
    }

    /// The ACK that says how things stand.
    fn acknowledgment(&self) -> ControlSegment {
        ControlSegment {
            control: Control::None,
            sequence: self.wire.send_next,
            acknowledgment: Some(self.receive_next()),
            window: (self.room() >> self.announced_scale()).min(usize::from(u16::MAX)) as u16,
            options: None,
        }
    }

    fn announced_scale(&self) -> u8 {
        if self.wire.scaling { self.wire.announced_scale } else { 0 }
    }

    /// Sends what there is to send, at most `budget` packets, and lets time act. Returns whether there is more to send at
    /// once.
    pub(super) fn service(&mut self, context: &mut Context<'_>, budget: usize) -> bool {
        let now = context.now;
        if matches!(self.phase, Phase::Opening) {
            self.open(context);
        }
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            self.expire(context.shared, now);
        }
        if matches!(self.phase, Phase::Folded) {
            if now < self.last_activity + KEEPALIVE_IDLE {
                return false;
            }
            self.unfold(context.shared, now);
            self.probing = true;
            self.probe_at = now;
        }
        self.probe(context);
        self.unstick(context);
        let update = self.grow_receive(context.shared, now);
        self.close_socket();
        let mut more = false;
        if let Phase::Active(socket) = &mut self.phase {
            let mut device = FlowDevice::network(context.out, &mut self.wire, budget);
            let interface = context.interfaces.get(&mut device, now);
            while device.budget() > 0 {
                let left = device.budget();
                interface.poll_egress(smoltcp_time(now), &mut device, &mut socket.set);
                if device.budget() == left {
                    break;
                }
            }
            more = device.budget() == 0;
        }
        if update {
            self.acknowledge(context);
        }
        let retransmitted = core::mem::take(&mut self.wire.retransmitted);
        if retransmitted > 0 {
            context.shared.count(|counters| counters.retransmitted += retransmitted);
        }
        self.settle(context.shared, now);
        more
    }

    fn open(&mut self, context: &mut Context<'_>) {
        let now = context.now;
        let key = self.wire.key;
        let mtu = context.out.path_mtu(key.remote.ip());
        self.wire.mtu = mtu - mtu % MTU_STEP;
        let first = self.wire.send_next;
        let mut socket = Socket::new(context.shared, self.sizes, self.nodelay);
        let mut device = FlowDevice::stage(self.wire.mtu, context.out.offload());
        let mut seeded = interface(&mut device, seed_for(first), now);
        let connected = socket.tcp_mut().connect(seeded.context(), endpoint(key.remote), endpoint(key.local));
        if connected.is_err() {
            self.error = Some(io::ErrorKind::InvalidInput);
            self.phase = Phase::Closed;
            return;
        }
        self.phase = Phase::Active(socket);
    }

    /// The deadline has come.
    fn expire(&mut self, shared: &Shared, now: Instant) {
        self.deadline = None;
        match self.state() {
            // A peer that began a handshake and does not finish it is forgotten in silence.
            State::SynReceived if self.backlog.is_some() => self.phase = Phase::Closed,
            State::SynSent | State::SynReceived => {
                shared.count(|counters| counters.timed_out += 1);
                self.error = Some(io::ErrorKind::TimedOut);
                self.phase = Phase::Closed;
            }
            State::Closed | State::TimeWait => {}
            state if self.detached => {
                let longest = self.detached_at + LONGEST_LINGER;
                let extended = (self.last_activity + LINGER).min(longest);
                if extended > now && state != State::FinWait2 {
                    self.deadline = Some(extended);
                    return;
                }
                shared.count(|counters| counters.timed_out += 1);
                self.abort();
            }
            _ => {}
        }
    }

    /// Draws the consequences of what the socket has become, and wakes who waits for it.
    pub(super) fn settle(&mut self, shared: &Rc<Shared>, now: Instant) {
        if self.detached && self.readable() && !matches!(self.phase, Phase::TimeWait { .. } | Phase::Closed) {
            // Data that nobody will read: the peer has to know (RFC 1122 4.2.2.13).
            self.abort();
        }
        match self.state() {
            // smoltcp's socket is not needed to sit out the time, once our last ACK is out.
            State::TimeWait
                if matches!(self.phase, Phase::Active(_))
                    && self.wire.acknowledged == Some(self.receive_next()) =>
            {
                self.save_leftover();
                self.phase = Phase::TimeWait { until: now + TIME_WAIT };
            }
            State::Closed => self.close_down(shared),
            // smoltcp lets a socket whose handshake was reset listen again.
            State::Listen => self.phase = Phase::Closed,
            State::Established
                if self.is_quiet()
                    && !self.probing
                    && self.backlog.is_none()
                    && self.wire.acknowledged == Some(self.receive_user)
                    && (shared.is_short() || now >= self.last_activity + FOLD_AFTER) =>
            {
                shared.count(|counters| counters.folded += 1);
                self.phase = Phase::Folded;
            }
            _ => {}
        }
        if let Phase::TimeWait { until } = self.phase
            && until <= now
        {
            self.phase = Phase::Closed;
        }
        self.wake();
    }

    /// The socket is closed: finds out why. It stays as long as it has a reset to send.
    fn close_down(&mut self, shared: &Shared) {
        let Phase::Active(socket) = &self.phase else { return };
        if socket.tcp().remote_endpoint().is_some() {
            return;
        }
        if self.reset_received {
            shared.count(|counters| counters.resets_received += 1);
            // In SYN-SENT a reset is a refusal.
            let refused = self.wire.acknowledged.is_none();
            self.error =
                Some(if refused { io::ErrorKind::ConnectionRefused } else { io::ErrorKind::ConnectionReset });
        } else if self.aborted {
            shared.count(|counters| counters.resets_sent += 1);
            self.error = Some(io::ErrorKind::ConnectionAborted);
        } else if self.wire.send_next != self.send_user + 1 || self.unacknowledged() > 0 {
            // We did not close in peace, so smoltcp gave up, with a reset.
            shared.count(|counters| {
                counters.timed_out += 1;
                counters.resets_sent += 1;
            });
            self.error = Some(io::ErrorKind::TimedOut);
        } else {
            self.save_leftover();
        }
        self.phase = Phase::Closed;
    }

    fn save_leftover(&mut self) {
        let Phase::Active(socket) = &mut self.phase else { return };
        let waiting = socket.tcp().recv_queue();
        if waiting > 0 && !self.detached {
            let mut leftover = vec![0; waiting];
            let read = socket.tcp_mut().recv_slice(&mut leftover).unwrap_or(0);
            leftover.truncate(read);
            self.leftover = leftover;
        }
        // The FIN, and what was read just now.
        self.receive_user = self.receive_user + waiting + 1;
    }

    fn wake(&mut self) {
        if self.read_waker.is_some() && (self.readable() || self.reached_end()) {
            self.read_waker.take().into_iter().for_each(Waker::wake);
        }
        if self.write_waker.is_some() && self.writable() {
            self.write_waker.take().into_iter().for_each(Waker::wake);
        }
    }

    /// When [`Self::service`] has to be called next.
    pub(super) fn next_deadline(&mut self, context: &mut Context<'_>) -> Option<Instant> {
        let now = context.now;
        let own = self.deadline;
        let next = match &mut self.phase {
            Phase::Opening => Some(now),
            Phase::Folded => Some(self.last_activity + KEEPALIVE_IDLE),
            Phase::TimeWait { until } => Some(*until),
            Phase::Closed => None,
            Phase::Active(socket) => {
                let mut device = FlowDevice::network(context.out, &mut self.wire, 0);
                let interface = context.interfaces.get(&mut device, now);
                let at = interface.poll_at(smoltcp_time(now), &socket.set).map(platform_time);
                // No retransmission or probe of smoltcp's is ever further away than its longest timeout.
                let planned = at.is_some_and(|at| at <= now + LONGEST_RETRANSMISSION);
                self.stuck_since = match self.stuck_since {
                    _ if planned || !self.is_owed() => None,
                    since => Some(since.unwrap_or(now)),
                };
                let at =
                    [at, Some(self.probe_at.max(now)), self.stuck_since.map(|since| since + STUCK_AFTER)];
                let at = at.into_iter().flatten().min();
                let fold = self.last_activity + FOLD_AFTER;
                match at {
                    Some(at) if fold > now => Some(at.min(fold)),
                    None if fold > now => Some(fold),
                    at => at,
                }
            }
        };
        match (own, next) {
            (Some(own), Some(next)) => Some(own.min(next)),
            (own, next) => own.or(next),
        }
    }

    /// Reads: lends the next received bytes to `read`, which returns how many it took. `None` when there are none.
    pub(super) fn read_with(&mut self, read: impl FnOnce(&[u8]) -> usize) -> Option<usize> {
        if !self.leftover.is_empty() {
            let taken = read(&self.leftover).min(self.leftover.len());
            self.leftover.drain(..taken);
            return Some(taken);
        }
        let Phase::Active(socket) = &mut self.phase else { return None };
        if !socket.tcp().can_recv() {
            return None;
        }
        let taken = socket.tcp_mut().recv(|bytes| {
            let taken = read(bytes).min(bytes.len());
            (taken, taken)
        });
        let taken = taken.ok()?;
        self.receive_user = self.receive_user + taken;
        Some(taken)
    }

    /// Writes: lends free space of the send buffer to `write`, which returns how much it filled. `None` when there is none.
    pub(super) fn write_with(&mut self, write: impl FnOnce(&mut [u8]) -> usize) -> Option<usize> {
        let Phase::Active(socket) = &mut self.phase else { return None };
        if !socket.tcp().can_send() {
            return None;
        }
        let filled = socket.tcp_mut().send(|space| {
            let filled = write(space).min(space.len());
            (filled, filled)
        });
        let filled = filled.ok()?;
        self.send_user = self.send_user + filled;
        Some(filled)
    }

    /// Writes as much of `bytes` as there is space for. `None` when there is none.
    pub(super) fn write_slice(&mut self, bytes: &[u8]) -> Option<usize> {
        let Phase::Active(socket) = &mut self.phase else { return None };
        let sent = socket.tcp_mut().send_slice(bytes).ok().filter(|sent| *sent > 0)?;
        self.send_user = self.send_user + sent;
        Some(sent)
    }

    pub(super) fn set_nodelay(&mut self, nodelay: bool) {
        self.nodelay = nodelay;
        if let Phase::Active(socket) = &mut self.phase {
            socket.tcp_mut().set_nagle_enabled(!nodelay);
        }
    }

    /// Whether received data waits to be read.
    pub(super) fn readable(&self) -> bool {
        !self.leftover.is_empty()
            || matches!(&self.phase, Phase::Active(socket) if self.backlog.is_none() && socket.tcp().can_recv())
    }

    /// Whether nothing more will come.
    pub(super) fn reached_end(&self) -> bool {
        self.error.is_some() || peer_closed(self.state()) || self.state() == State::Closed
    }

    /// Whether a waiting writer should look again.
    fn writable(&self) -> bool {
        let Phase::Active(socket) = &self.phase else { return !matches!(self.phase, Phase::Opening) };
        let tcp = socket.tcp();
        match tcp.state() {
            State::SynSent | State::SynReceived => false,
            State::Established | State::CloseWait if self.wants_room => tcp.send_queue() == 0,
            // A quarter of the buffer: fewer, larger writes.
            State::Established | State::CloseWait => tcp.send_queue() <= tcp.send_capacity() / 4 * 3,
            _ => true,
        }
    }

    /// Whether the application may still write.
    pub(super) fn may_send(&self) -> bool {
        let open = [State::Established, State::CloseWait, State::SynSent, State::SynReceived];
        !self.closing && open.contains(&self.state())
    }

    /// Whether the handshake is done.
    pub(super) fn is_established(&self) -> bool {
        !matches!(self.state(), State::SynSent | State::SynReceived)
    }

    /// Sends a FIN after what is still to be sent.
    pub(super) fn close(&mut self, shared: &Rc<Shared>, now: Instant) {
        self.closing = true;
        self.unfold(shared, now);
        self.close_socket();
    }

    /// Has smoltcp send the FIN, once that is safe: in LAST-ACK its socket does not take in window updates, so what is left
    /// to send must fit into the window already.
    fn close_socket(&mut self) {
        let Phase::Active(socket) = &mut self.phase else { return };
        let fits = self.send_user < self.peer_window_end || socket.tcp().send_queue() == 0;
        if self.closing && (fits || socket.tcp().state() != State::CloseWait) {
            socket.tcp_mut().close();
        }
    }

    /// Ends an attempt to connect.
    pub(super) fn fail(&mut self, kind: io::ErrorKind) {
        self.error = Some(kind);
        self.phase = Phase::Closed;
    }

    /// Ends the connection at once, with a reset.
    pub(super) fn abort(&mut self) {
        self.aborted = true;
        match &mut self.phase {
            Phase::Active(socket) => socket.tcp_mut().abort(),
            Phase::Opening => self.phase = Phase::Closed,
            _ => {}
        }
    }

    /// The application let go of the connection: it ends in the background.
    pub(super) fn detach(&mut self, shared: &Rc<Shared>, now: Instant) {
        self.detached = true;
        self.leftover = Vec::new();
        self.detached_at = now;
        self.deadline = Some(now + LINGER);
        if !self.is_established() || self.readable() {
            self.unfold(shared, now);
            self.abort();
        } else {
            self.close(shared, now);
        }
    }

    /// An ICMP error quotes a segment of this connection with this sequence number. Returns whether it is believed.
    pub(super) fn is_in_flight(&self, number: Sequence) -> bool {
        let view = self.view();
        let start = match view.state {
            State::SynSent | State::SynReceived => self.send_user - 1,
            _ => view.send_unacknowledged,
        };
        number >= start && number < self.wire.send_next
    }

    /// The path has this MTU. True if that is less than thought.
    pub(super) fn lower_mtu(&mut self, mtu: u16) -> bool {
        let floor = if self.wire.key.local.is_ipv4() { MINIMUM_MTU_V4 } else { MINIMUM_MTU_V6 };
        let mtu = mtu.max(floor) / MTU_STEP * MTU_STEP;
        let lower = mtu < self.wire.mtu;
        self.wire.mtu = self.wire.mtu.min(mtu);
        lower
    }

    /// The MTU that segments are made for.
    pub(super) fn mtu(&self) -> u16 {
        self.wire.mtu
    }

    /// Whether the flow can go from the table.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    /// Whether a new SYN may take over the four numbers of a connection in TIME-WAIT (RFC 9293 3.10.7.4).
    pub(super) fn yields_to(&self, segment: &Segment) -> bool {
        matches!(self.phase, Phase::TimeWait { .. })
            && segment.control == Control::Syn
            && segment.acknowledgment.is_none()
            && segment.sequence > self.receive_user
    }
}

/// Whether both sides know each other's sequence numbers and may still send (RFC 9293 3.3.2).
fn is_synchronized(state: State) -> bool {
    use State::{CloseWait, Closing, Established, FinWait1, FinWait2, LastAck};
    matches!(state, Established | FinWait1 | FinWait2 | CloseWait | Closing | LastAck)
}

/// Whether the peer's FIN has been received in order.
fn peer_closed(state: State) -> bool {
    matches!(state, State::CloseWait | State::Closing | State::LastAck | State::TimeWait)
}

/// The window scale that a buffer needs: what smoltcp computes for it.
fn scale_for(receive_buffer: usize) -> u8 {
    (usize::BITS - receive_buffer.leading_zeros()).saturating_sub(16).min(14) as u8
}

/// Sends a segment that no socket has written.
pub(super) fn send_control(out: &mut dyn IpOutput, segment: &ControlSegment, key: &FlowKey) {
    let length = segment.packet_length(key.local, key.remote);
    let mut frame = out.pool().frame(length);
    let header_length = segment.emit(key.local, key.remote, frame.append(length));
    let (source, destination) = (key.local.ip(), key.remote.ip());
    seal(&mut frame, source, destination, header_length, out.offload().transmit_checksum);
    out.send(IpPacket { source, destination, protocol: PROTOCOL, header_length, frame });
}
