//! Making a connection's socket anew: when it unfolds, when its buffers grow, when a cookie comes back.

use std::io;
use std::rc::Rc;

use smoltcp::socket::tcp::State;

use super::super::device::{FlowDevice, interface, smoltcp_time};
use super::super::limits::{GROWTH, KEEPALIVE_INTERVAL, SMALL_BUFFER};
use super::super::segment::{Control, ControlSegment};
use super::super::sequence::{Sequence, seed_for};
use super::super::shared::Shared;
use super::{Flow, Phase, Sizes, Socket, scale_for};
use crate::device::{Instant, OffloadSupport};

impl Flow {
    /// The window field in which a peer that acknowledges this number announces all it ever did. Rounded up: with data in
    /// flight the window must not seem closed, as smoltcp would then probe behind that data and never repeat it.
    pub(super) fn window_field(&self, acknowledgment: Sequence) -> u16 {
        let window = self.peer_window_end.ahead_of(acknowledgment).max(0).cast_unsigned();
        window.div_ceil(1 << self.peer.scale.unwrap_or(0)).min(u32::from(u16::MAX)) as u16
    }

    /// Puts a new socket in place, established and with nothing in flight, at the sequence numbers of this connection.
    /// False if smoltcp did not follow, which ends the connection.
    pub(super) fn stage(&mut self, shared: &Rc<Shared>, sizes: Sizes, now: Instant) -> bool {
        self.phase = Phase::Closed;
        let key = self.wire.key;
        let first = self.send_user - 1;
        let receive_next = self.receive_user;
        let mut socket = Socket::new(shared, sizes, self.nodelay);
        if socket.tcp_mut().listen(self.listen_endpoint()).is_err() {
            return false;
        }
        // The SYN lies one round trip back, so that the socket's first measurement of it is right.
        let then = Instant::from_nanos(now.as_nanos().saturating_sub(self.round_trip.as_nanos() as u64));
        let mut device = FlowDevice::stage(self.wire.mtu, OffloadSupport::default());
        let mut interface = interface(&mut device, seed_for(first), then);

        let syn = ControlSegment {
            control: Control::Syn,
            sequence: receive_next - 1,
            acknowledgment: None,
            window: u16::MAX,
            options: Some(self.peer),
        };
        let mut buffer = [0; 128];
        let length = syn.packet_length(key.remote, key.local);
        syn.emit(key.remote, key.local, &mut buffer[..length]);
        device.set_input(&buffer[..length]);
        interface.poll_ingress_single(smoltcp_time(then), &mut device, &mut socket.set);
        interface.poll_egress(smoltcp_time(then), &mut device, &mut socket.set);
        if device.staged() != Some(first) {
            return false;
        }

        let field = self.window_field(self.send_user);
        let acknowledgment = ControlSegment {
            control: Control::None,
            sequence: receive_next,
            acknowledgment: Some(first + 1),
            window: field,
            options: None,
        };
        let mut buffer = [0; 128];
        let length = acknowledgment.packet_length(key.remote, key.local);
        acknowledgment.emit(key.remote, key.local, &mut buffer[..length]);
        device.set_input(&buffer[..length]);
        interface.poll_ingress_single(smoltcp_time(now), &mut device, &mut socket.set);
        if socket.tcp().state() != State::Established {
            return false;
        }
        self.probe_at = now + KEEPALIVE_INTERVAL;
        self.sizes = sizes;
        self.wire.socket_scale = if self.wire.scaling { scale_for(sizes.receive) } else { 0 };
        self.phase = Phase::Active(socket);
        true
    }

    /// The socket of a connection that has one or can have one again.
    pub(in crate::net::tcp) fn unfold(&mut self, shared: &Rc<Shared>, now: Instant) -> Option<&mut Socket> {
        if matches!(self.phase, Phase::Folded) {
            // A window once announced must be kept, if there is memory at all; the send buffer starts small again.
            let receive = if shared.is_short() { SMALL_BUFFER } else { self.sizes.receive };
            if !self.stage(shared, Sizes { receive, send: SMALL_BUFFER }, now) {
                self.error = Some(io::ErrorKind::ConnectionAborted);
            }
        }
        self.last_activity = now;
        match &mut self.phase {
            Phase::Active(socket) => Some(socket),
            _ => None,
        }
    }

    /// Whether a socket made anew at the next sequence numbers would lack nothing.
    pub(super) fn is_quiet(&self) -> bool {
        let Phase::Active(socket) = &self.phase else { return false };
        let tcp = socket.tcp();
        tcp.state() == State::Established
            && tcp.send_queue() == 0
            && tcp.recv_queue() == 0
            && self.wire.send_next == self.send_user
            && self.receive_highest <= self.receive_user
    }

    /// Grows the receive buffer of a peer that has more to say. True if it did: the peer has to be told.
    pub(super) fn grow_receive(&mut self, shared: &Rc<Shared>, now: Instant) -> bool {
        if self.received < 2 * self.sizes.receive || !self.is_quiet() || self.detached {
            return false;
        }
        self.received = 0;
        let receive = (self.sizes.receive * GROWTH).min(shared.limits.receive_buffer);
        if receive <= self.sizes.receive || !shared.may_grow(receive) {
            return false;
        }
        let staged = self.stage(shared, Sizes { receive, ..self.sizes }, now);
        if !staged {
            self.error = Some(io::ErrorKind::ConnectionAborted);
        }
        staged
    }

    /// Whether the send buffer is too small for an application that has `length` bytes, and can soon be made larger.
    pub(in crate::net::tcp) fn is_growing_send(
        &mut self,
        shared: &Rc<Shared>,
        length: usize,
        now: Instant,
    ) -> bool {
        let Phase::Active(socket) = &self.phase else { return false };
        let tcp = socket.tcp();
        let room = tcp.send_capacity() - tcp.send_queue();
        if length <= room && !self.wants_room {
            return false;
        }
        let larger = (self.sizes.send * GROWTH).min(shared.limits.send_buffer);
        if larger <= self.sizes.send || !shared.may_grow(larger) || tcp.state() != State::Established {
            self.wants_room = false;
            return false;
        }
        if !self.wants_room {
            // What fits is sent first; then the buffer is let run empty.
            self.wants_room = true;
            if room > 0 && tcp.send_queue() > 0 {
                return false;
            }
        }
        if tcp.send_queue() > 0 || self.wire.send_next != self.send_user {
            return true;
        }
        self.wants_room = false;
        if self.is_quiet() {
            let mut send = larger;
            while send < length && send < shared.limits.send_buffer {
                send = (send * GROWTH).min(shared.limits.send_buffer);
            }
            if !shared.may_grow(send) {
                send = larger;
            }
            if !self.stage(shared, Sizes { send, ..self.sizes }, now) {
                self.error = Some(io::ErrorKind::ConnectionAborted);
            }
        }
        false
    }
}
