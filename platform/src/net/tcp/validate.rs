//! Whether a segment is believed: RFC 9293 3.10.7.4 with RFC 5961's answers to those who guess.
//!
//! smoltcp closes a connection on any RST within the window and ignores a SYN there. Here, in front of it, an RST must hit
//! the next expected number exactly, a SYN is answered with an ACK, and an acknowledgment must be of something recent.

use smoltcp::socket::tcp::State;

use super::segment::{Control, Segment};
use super::sequence::Sequence;

/// A connection's variables, by their names in RFC 9293 3.3.1.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    pub(super) state: State,
    /// RCV.NXT
    pub(super) receive_next: Sequence,
    /// RCV.NXT + RCV.WND, the largest that was announced.
    pub(super) window_end: Sequence,
    /// SND.UNA
    pub(super) send_unacknowledged: Sequence,
    /// SND.NXT
    pub(super) send_next: Sequence,
    /// MAX.SND.WND (RFC 5961 5.2): the largest window that the peer announced, in bytes.
    pub(super) largest_window: u32,
}

/// What to do with a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It goes to the socket.
    Accept,
    /// It carries data, but its acknowledgment is an old one: the socket would drop both.
    AcceptData,
    /// It is dropped.
    Drop,
    /// It is dropped, and an ACK asks the peer to prove itself.
    Challenge,
}

/// Judges a segment for a connection that has left LISTEN.
pub(super) fn judge(view: &View, segment: &Segment) -> Verdict {
    if view.state == State::SynSent {
        // Only an acknowledgment of our SYN counts here, which smoltcp checks.
        return Verdict::Accept;
    }
    match segment.control {
        Control::Reset => judge_reset(view, segment),
        // A repeated SYN of the handshake that is going on: our SYN-ACK is repeated by its own timer.
        Control::Syn if view.state == State::SynReceived && segment.end() == view.receive_next => {
            // But a SYN-ACK may answer ours, if both sides opened at once (RFC 9293 3.5).
            if segment.acknowledgment.is_some() { Verdict::Accept } else { Verdict::Drop }
        }
        // RFC 5961 4.2
        Control::Syn => Verdict::Challenge,
        Control::None | Control::Fin => judge_acknowledgment(view, segment),
    }
}

/// RFC 5961 3.2
fn judge_reset(view: &View, segment: &Segment) -> Verdict {
    if segment.sequence == view.receive_next {
        Verdict::Accept
    } else if segment.sequence > view.receive_next && segment.sequence < view.window_end {
        Verdict::Challenge
    } else {
        Verdict::Drop
    }
}

/// RFC 5961 5.2
fn judge_acknowledgment(view: &View, segment: &Segment) -> Verdict {
    let Some(number) = segment.acknowledgment else { return Verdict::Drop };
    if view.state == State::SynReceived {
        // smoltcp takes the exact number and resets all others, as RFC 9293 3.10.7.4 has it.
        return Verdict::Accept;
    }
    let oldest = view.send_unacknowledged - view.largest_window as usize;
    if number > view.send_next || number < oldest {
        return Verdict::Challenge;
    }
    if number < view.send_unacknowledged {
        return if segment.length() > 0 { Verdict::AcceptData } else { Verdict::Drop };
    }
    Verdict::Accept
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIEW: View = View {
        state: State::Established,
        receive_next: Sequence(1000),
        window_end: Sequence(5000),
        send_unacknowledged: Sequence(100),
        send_next: Sequence(300),
        largest_window: 500,
    };

    fn judged(control: Control, sequence: u32, acknowledgment: Option<u32>, payload: usize) -> Verdict {
        judge(&VIEW, &Segment::for_test(control, Sequence(sequence), acknowledgment.map(Sequence), payload))
    }

    #[test]
    fn a_reset_must_be_exact() {
        assert_eq!(judged(Control::Reset, 1000, None, 0), Verdict::Accept);
        assert_eq!(judged(Control::Reset, 1001, None, 0), Verdict::Challenge);
        assert_eq!(judged(Control::Reset, 4999, None, 0), Verdict::Challenge);
        assert_eq!(judged(Control::Reset, 5000, None, 0), Verdict::Drop);
        assert_eq!(judged(Control::Reset, 999, None, 0), Verdict::Drop);
    }

    #[test]
    fn a_syn_is_challenged_wherever_it_falls() {
        for sequence in [0, 999, 1000, 1001, 6000] {
            assert_eq!(judged(Control::Syn, sequence, None, 0), Verdict::Challenge);
        }
    }

    #[test]
    fn a_repeated_syn_of_the_handshake_is_dropped() {
        let view = View { state: State::SynReceived, ..VIEW };
        let syn = |sequence| Segment::for_test(Control::Syn, Sequence(sequence), None, 0);
        assert_eq!(judge(&view, &syn(999)), Verdict::Drop);
        assert_eq!(judge(&view, &syn(1000)), Verdict::Challenge);
    }

    #[test]
    fn an_acknowledgment_must_be_recent() {
        assert_eq!(judged(Control::None, 1000, None, 5), Verdict::Drop);
        assert_eq!(judged(Control::None, 1000, Some(100), 5), Verdict::Accept);
        assert_eq!(judged(Control::None, 1000, Some(300), 0), Verdict::Accept);
        assert_eq!(judged(Control::None, 1000, Some(301), 0), Verdict::Challenge);
        assert_eq!(judged(Control::None, 1000, Some(99), 0), Verdict::Drop);
        assert_eq!(judged(Control::None, 1000, Some(99), 5), Verdict::AcceptData);
        let oldest = 100u32.wrapping_sub(500);
        assert_eq!(judged(Control::Fin, 1000, Some(oldest), 0), Verdict::AcceptData);
        assert_eq!(judged(Control::None, 1000, Some(oldest.wrapping_sub(1)), 5), Verdict::Challenge);
    }
}
