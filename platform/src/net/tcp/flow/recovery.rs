//! Getting on when nothing comes: keepalive probes, and what smoltcp's timers forget.

use smoltcp::socket::tcp::State;

use super::super::device::{FlowDevice, smoltcp_time};
use super::super::limits::{KEEPALIVE_INTERVAL, STUCK_AFTER};
use super::super::segment::{Control, ControlSegment};
use super::{Context, Flow, Phase, is_synchronized, send_control};

impl Flow {
    /// Asks a peer that has long been silent for an ACK (RFC 9293 3.8.4). Not by smoltcp's keepalive: that repeats a byte of
    /// its invention, which a peer takes for data if the true byte there has not reached it.
    pub(super) fn probe(&mut self, context: &mut Context<'_>) {
        if !matches!(self.phase, Phase::Active(_))
            || !is_synchronized(self.state())
            || context.now < self.probe_at
        {
            return;
        }
        self.probe_at = context.now + KEEPALIVE_INTERVAL;
        let segment =
            ControlSegment { sequence: self.view().send_unacknowledged - 1, ..self.acknowledgment() };
        send_control(context.out, &segment, &self.wire.key);
    }

    /// Has smoltcp send again what it forgot about. Its fast retransmission sends a whole segment even beyond the peer's
    /// window, and its probes of a closed window go behind that; then nothing remembers the data in between. Three
    /// duplicate ACKs remind it.
    pub(super) fn unstick(&mut self, context: &mut Context<'_>) {
        if !self
            .stuck_since
            .take_if(|since| context.now >= *since + STUCK_AFTER)
            .is_some_and(|_| self.is_owed())
        {
            return;
        }
        if self.is_fin_alone_owed() {
            // A fast retransmission that an ACK of all data overtakes makes smoltcp forget the FIN.
            let segment =
                ControlSegment { control: Control::Fin, sequence: self.send_user, ..self.acknowledgment() };
            context.shared.count(|counters| counters.retransmitted += 1);
            send_control(context.out, &segment, &self.wire.key);
            return;
        }
        let view = self.view();
        let segment = ControlSegment {
            control: Control::None,
            sequence: view.receive_next,
            acknowledgment: Some(view.send_unacknowledged),
            window: self.window_field(view.send_unacknowledged),
            options: None,
        };
        let key = self.wire.key;
        let mut buffer = [0; 128];
        let length = segment.packet_length(key.remote, key.local);
        segment.emit(key.remote, key.local, &mut buffer[..length]);
        let Phase::Active(socket) = &mut self.phase else { return };
        for _ in 0..4 {
            let mut device =
                FlowDevice::network(context.out, &mut self.wire, 0).with_input(&buffer[..length]);
            let interface = context.interfaces.get(&mut device, context.now);
            interface.poll_ingress_single(smoltcp_time(context.now), &mut device, &mut socket.set);
        }
    }

    /// Whether the peer owes the acknowledgment of data that its window has room for, or of our FIN.
    pub(super) fn is_owed(&self) -> bool {
        let view = self.view();
        let data = self.unacknowledged() > 0 && self.peer_window_end > view.send_unacknowledged;
        is_synchronized(view.state) && (data || self.is_fin_alone_owed())
    }

    pub(super) fn is_fin_alone_owed(&self) -> bool {
        matches!(self.state(), State::FinWait1 | State::Closing | State::LastAck)
            && self.unacknowledged() == 0
            && self.wire.send_next == self.send_user + 1
    }
}
