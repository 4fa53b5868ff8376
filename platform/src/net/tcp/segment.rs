//! TCP segments: reading the headers that this module decides by, and writing segments that no smoltcp socket sends.
//!
//! Reading: RFC 9293 clause 3.1.

use core::net::{IpAddr, SocketAddr};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    HardwareAddress, IpAddress, IpProtocol, IpRepr, TcpControl, TcpOption, TcpPacket, TcpRepr, TcpSeqNumber,
    checksum,
};

use super::demux::FlowKey;
use super::sequence::Sequence;
use crate::device::{Checksum, Frame};
use crate::net::IpPacket;

/// The Protocol number of TCP.
pub(super) const PROTOCOL: u8 = 6;
/// Where the checksum lies in a TCP header.
pub(super) const CHECKSUM_OFFSET: usize = 16;
const OPTION_END: u8 = 0;
const OPTION_NONE: u8 = 1;
pub(super) const OPTION_MSS: u8 = 2;
pub(super) const OPTION_SCALE: u8 = 3;
const ACK_OFFSET: usize = 8;
const WINDOW_OFFSET: usize = 14;
/// Segment size of a peer that does not say (RFC 9293 3.7.1).
pub(super) const DEFAULT_MSS: u16 = 536;

/// A received segment's header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub(super) sequence: Sequence,
    /// The acknowledgment number, if the ACK flag is set.
    pub(super) acknowledgment: Option<Sequence>,
    pub(super) control: Control,
    /// The window field, not scaled.
    pub(super) window: u16,
    /// Bytes of data.
    pub(super) payload: usize,
    header_length: usize,
}

/// The flags that exclude each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Control {
    None,
    Syn,
    Fin,
    Reset,
}

/// What a SYN says in its options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SynOptions {
    pub(super) mss: u16,
    /// The shift of RFC 7323, at most 14; `None` if the peer does not scale.
    pub(super) scale: Option<u8>,
    pub(super) sack: bool,
}

impl Segment {
    /// Reads and verifies the segment in `packet`. `None` if it is malformed: a wrong length, a wrong checksum, port 0
    /// or flags that contradict each other.
    pub(super) fn parse(packet: &IpPacket) -> Option<(Self, FlowKey)> {
        let bytes = packet.frame.bytes().get(packet.header_length..)?;
        let header = TcpPacket::new_checked(bytes).ok()?;
        if header.src_port() == 0 || header.dst_port() == 0 {
            return None;
        }
        let control = match (header.syn(), header.fin(), header.rst()) {
            (false, false, false) => Control::None,
            (true, false, false) => Control::Syn,
            (false, true, false) => Control::Fin,
            (false, false, true) => Control::Reset,
            _ => return None,
        };
        if packet.frame.offload.checksum == Checksum::Complete
            && !header.verify_checksum(&packet.source.into(), &packet.destination.into())
        {
            return None;
        }
        let header_length = usize::from(header.header_len());
        let segment = Self {
            sequence: sequence(header.seq_number()),
            acknowledgment: header.ack().then(|| sequence(header.ack_number())),
            control,
            window: header.window_len(),
            payload: bytes.len() - header_length,
            header_length,
        };
        let flow = FlowKey {
            local: SocketAddr::new(packet.destination, header.dst_port()),
            remote: SocketAddr::new(packet.source, header.src_port()),
        };
        Some((segment, flow))
    }

    /// A segment without a packet.
    #[cfg(test)]
    pub(super) fn for_test(
        control: Control,
        sequence: Sequence,
        acknowledgment: Option<Sequence>,
        payload: usize,
    ) -> Self {
        Self { sequence, acknowledgment, control, window: 1000, payload, header_length: 20 }
    }

    /// The options of a SYN; those that are malformed count as absent.
    pub(super) fn syn_options(&self, packet: &IpPacket) -> SynOptions {
        let start = packet.header_length + smoltcp::wire::TCP_HEADER_LEN;
        let mut rest = &packet.frame.bytes()[start..packet.header_length + self.header_length];
        let mut options = SynOptions { mss: DEFAULT_MSS, scale: None, sack: false };
        while let Ok((next, option)) = TcpOption::parse(rest) {
            match option {
                TcpOption::EndOfList => break,
                TcpOption::MaxSegmentSize(mss) if mss != 0 => options.mss = mss,
                TcpOption::WindowScale(shift) => options.scale = Some(shift.min(14)),
                TcpOption::SackPermitted => options.sack = true,
                _ => {}
            }
            rest = next;
        }
        options
    }

    /// What it takes of the sequence space: its data, SYN and FIN.
    pub(super) fn length(&self) -> usize {
        self.payload + usize::from(matches!(self.control, Control::Syn | Control::Fin))
    }

    /// The sequence number after it.
    pub(super) fn end(&self) -> Sequence {
        self.sequence + self.length()
    }

    /// Replaces the acknowledgment number, here and in the packet. The checksum is not looked at again.
    pub(super) fn set_acknowledgment(&mut self, packet: &mut IpPacket, number: Sequence) {
        self.acknowledgment = Some(number);
        let field = packet.header_length + ACK_OFFSET;
        packet.frame.bytes_mut()[field..field + 4].copy_from_slice(&number.0.to_be_bytes());
    }

    /// Replaces the window, here and in the packet.
    pub(super) fn set_window(&mut self, packet: &mut IpPacket, window: u16) {
        self.window = window;
        let field = packet.header_length + WINDOW_OFFSET;
        packet.frame.bytes_mut()[field..field + 2].copy_from_slice(&window.to_be_bytes());
    }

    /// Cuts the data, here and in the packet, down to `length` bytes, and with it what came after: a FIN.
    pub(super) fn trim(&mut self, packet: &mut IpPacket, length: usize) {
        let total = packet.header_length + self.header_length + length;
        packet.frame.truncate(total);
        self.payload = length;
        if self.control == Control::Fin {
            self.control = Control::None;
        }
        let header_length = packet.header_length;
        let bytes = packet.frame.bytes_mut();
        // FIN is the lowest bit of the fourteenth byte.
        bytes[header_length + 13] &= !1;
        match packet.source {
            IpAddr::V4(_) => bytes[2..4].copy_from_slice(&(total as u16).to_be_bytes()),
            IpAddr::V6(_) => bytes[4..6].copy_from_slice(&((total - 40) as u16).to_be_bytes()),
        }
    }
}

/// A segment to send that is only a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ControlSegment {
    pub(super) control: Control,
    pub(super) sequence: Sequence,
    pub(super) acknowledgment: Option<Sequence>,
    pub(super) window: u16,
    /// The options of a SYN.
    pub(super) options: Option<SynOptions>,
}

impl ControlSegment {
    /// The reset that answers `segment`, which belongs to no connection (RFC 9293 3.10.7.1). Nothing answers a reset.
    pub(super) fn reset_for(segment: &Segment) -> Option<Self> {
        if segment.control == Control::Reset {
            return None;
        }
        let (sequence, acknowledgment) = match segment.acknowledgment {
            Some(number) => (number, None),
            None => (Sequence(0), Some(segment.end())),
        };
        Some(Self { control: Control::Reset, sequence, acknowledgment, window: 0, options: None })
    }

    fn repr(&self, source_port: u16, destination_port: u16) -> TcpRepr<'static> {
        TcpRepr {
            src_port: source_port,
            dst_port: destination_port,
            control: match self.control {
                Control::None => TcpControl::None,
                Control::Syn => TcpControl::Syn,
                Control::Fin => TcpControl::Fin,
                Control::Reset => TcpControl::Rst,
            },
            seq_number: TcpSeqNumber(self.sequence.0.cast_signed()),
            ack_number: self.acknowledgment.map(|number| TcpSeqNumber(number.0.cast_signed())),
            window_len: self.window,
            window_scale: self.options.and_then(|options| options.scale),
            max_seg_size: self.options.map(|options| options.mss),
            sack_permitted: self.options.is_some_and(|options| options.sack),
            sack_ranges: [None; 3],
            timestamp: None,
            payload: &[],
        }
    }

    /// Length of the IP packet that [`Self::emit`] writes.
    pub(super) fn packet_length(&self, source: SocketAddr, destination: SocketAddr) -> usize {
        let tcp = self.repr(source.port(), destination.port());
        IpRepr::new(source.ip().into(), destination.ip().into(), IpProtocol::Tcp, tcp.buffer_len(), HOP_LIMIT)
            .buffer_len()
    }

    /// Writes the IP packet into `buffer`, without TCP's checksum. Returns the length of the IP header.
    pub(super) fn emit(&self, source: SocketAddr, destination: SocketAddr, buffer: &mut [u8]) -> usize {
        let tcp = self.repr(source.port(), destination.port());
        let (from, to): (IpAddress, IpAddress) = (source.ip().into(), destination.ip().into());
        let ip = IpRepr::new(from, to, IpProtocol::Tcp, tcp.buffer_len(), HOP_LIMIT);
        let mut capabilities = ChecksumCapabilities::default();
        capabilities.tcp = smoltcp::phy::Checksum::None;
        ip.emit(&mut *buffer, &capabilities);
        let header_length = ip.header_len();
        tcp.emit(&mut TcpPacket::new_unchecked(&mut buffer[header_length..]), &from, &to, &capabilities);
        header_length
    }
}

/// Hop limit of what we send (the IANA's recommendation, and smoltcp's default).
const HOP_LIMIT: u8 = 64;

/// Sets the checksum of the segment in `frame`, a whole IP packet: in full, or so much of it as the device wants.
pub(super) fn seal(
    frame: &mut Frame,
    source: IpAddr,
    destination: IpAddr,
    header_length: usize,
    device: bool,
) {
    let segment = &mut frame.bytes_mut()[header_length..];
    let length = segment.len() as u32;
    let pseudo = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            checksum::pseudo_header_v4(&source, &destination, IpProtocol::Tcp, length)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            checksum::pseudo_header_v6(&source, &destination, IpProtocol::Tcp, length)
        }
        _ => return,
    };
    let field = CHECKSUM_OFFSET..CHECKSUM_OFFSET + 2;
    if device {
        segment[field].copy_from_slice(&pseudo.to_be_bytes());
        frame.offload.checksum =
            Checksum::Partial { start: header_length as u16, offset: CHECKSUM_OFFSET as u16 };
    } else {
        segment[field.clone()].fill(0);
        let sum = !checksum::combine(&[pseudo, checksum::data(segment)]);
        segment[field].copy_from_slice(&sum.to_be_bytes());
        frame.offload.checksum = Checksum::Complete;
    }
}

/// What is read of, and corrected in, a segment that smoltcp wrote.
pub(super) struct Outgoing<'a> {
    pub(super) bytes: &'a mut [u8],
}

impl Outgoing<'_> {
    fn packet(&self) -> TcpPacket<&[u8]> {
        TcpPacket::new_unchecked(&*self.bytes)
    }

    pub(super) fn sequence(&self) -> Sequence {
        sequence(self.packet().seq_number())
    }

    pub(super) fn end(&self) -> Sequence {
        self.sequence() + self.packet().segment_len()
    }

    pub(super) fn acknowledgment(&self) -> Option<Sequence> {
        let packet = self.packet();
        packet.ack().then(|| sequence(packet.ack_number()))
    }

    pub(super) fn is_syn(&self) -> bool {
        self.packet().syn()
    }

    pub(super) fn is_reset(&self) -> bool {
        self.packet().rst()
    }

    pub(super) fn header_length(&self) -> usize {
        usize::from(self.packet().header_len())
    }

    pub(super) fn window(&self) -> u16 {
        self.packet().window_len()
    }

    pub(super) fn set_sequence(&mut self, number: Sequence) {
        self.bytes[4..8].copy_from_slice(&number.0.to_be_bytes());
    }

    pub(super) fn set_window(&mut self, window: u16) {
        self.bytes[WINDOW_OFFSET..WINDOW_OFFSET + 2].copy_from_slice(&window.to_be_bytes());
    }

    /// Sets the value of an option that smoltcp wrote; does nothing if it is not there.
    pub(super) fn set_option_of_syn(&mut self, kind: u8, value: &[u8]) {
        let end = self.header_length();
        let mut at = smoltcp::wire::TCP_HEADER_LEN;
        while at + 1 < end && self.bytes[at] != OPTION_END {
            let length =
                if self.bytes[at] == OPTION_NONE { 1 } else { usize::from(self.bytes[at + 1]).max(2) };
            if self.bytes[at] == kind && length == value.len() + 2 {
                self.bytes[at + 2..at + length].copy_from_slice(value);
                return;
            }
            at += length;
        }
    }
}

fn sequence(number: TcpSeqNumber) -> Sequence {
    Sequence(number.0.cast_unsigned())
}

/// The link address of an interface without a link.
pub(super) const NO_LINK: HardwareAddress = HardwareAddress::Ip;
