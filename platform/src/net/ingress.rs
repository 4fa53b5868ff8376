//! The way up: Ethernet header, IP header, reassembly, then whose packet it is.
//!
//! Reading: RFC 1122 (3.2, 3.3.6), RFC 6890 (addresses that no packet on a wire has), RFC 4443, RFC 8200.

use std::net::{IpAddr, Ipv6Addr};

use smoltcp::wire::{EthernetFrame, EthernetProtocol};

use super::address::is_host;
use super::counters::Discard;
use super::egress::ETHERNET_HEADER_LENGTH;
use super::engine::Engine;
use super::icmp::{self, ICMPV4, Report};
use super::interface::Destination;
use super::ipv6::Refusal;
use super::ndp::{self, ICMPV6};
use super::neighbor::Mac;
use super::reassembly::{Key, Piece, Progress, Whole};
use super::udp::{self, Delivery};
use super::{IpError, IpErrorKind, IpOutput, IpPacket, arp, checksum, dhcp, ipv4, ipv6};
use crate::device::{Checksum, Frame, Offload};

/// IP's number of TCP.
const TCP: u8 = 6;
/// Next Header of nothing (RFC 8200, 4.7).
const NO_NEXT_HEADER: u8 = 59;

/// What the lower layers say of a packet.
#[derive(Clone, Copy)]
struct Arrival {
    /// The Ethernet address that it came from.
    from: Mac,
    /// Whether it was for several hosts, on the link or by its IP destination.
    group: bool,
    /// Whether it came in fragments.
    fragmented: bool,
}

impl Engine {
    /// Takes a frame from the device.
    pub(super) fn receive_frame(&mut self, frame: Frame) {
        self.egress.counters.frames_received += 1;
        self.egress.counters.bytes_received += frame.len() as u64;
        if let Err(reason) = self.receive_ethernet(frame) {
            self.egress.counters.discard(reason);
        }
    }

    /// Takes a packet that we sent to ourselves.
    pub(super) fn receive_local(&mut self, packet: IpPacket) {
        let arrival = Arrival { from: self.egress.properties.mac, group: false, fragmented: false };
        if let Err(reason) = self.dispatch(packet, arrival) {
            self.egress.counters.discard(reason);
        }
    }

    fn receive_ethernet(&mut self, mut frame: Frame) -> Result<(), Discard> {
        let header = EthernetFrame::new_checked(frame.bytes()).map_err(|_| Discard::Malformed)?;
        let (to, from, protocol) = (header.dst_addr(), header.src_addr().0, header.ethertype());
        if from == self.egress.properties.mac || from[0] & 1 != 0 {
            return Err(Discard::Martian);
        }
        if to.is_unicast() && to.0 != self.egress.properties.mac {
            return Err(Discard::NotForUs);
        }
        frame.trim_front(ETHERNET_HEADER_LENGTH);
        frame.offload = without_ethernet(frame.offload)?;
        let arrival = Arrival { from, group: !to.is_unicast(), fragmented: false };
        match protocol {
            EthernetProtocol::Ipv4 => self.receive_ipv4(frame, arrival),
            EthernetProtocol::Ipv6 => self.receive_ipv6(frame, arrival),
            EthernetProtocol::Arp => {
                let conflict = arp::receive(&mut self.egress, frame.bytes())?;
                conflict.into_iter().for_each(|address| self.conflict(address.into()));
                Ok(())
            }
            EthernetProtocol::Unknown(_) => Err(Discard::Unsupported),
        }
    }

    fn receive_ipv4(&mut self, mut frame: Frame, mut arrival: Arrival) -> Result<(), Discard> {
        let header = ipv4::parse(frame.bytes())?;
        frame.truncate(header.total_length);
        let (source, destination) = (IpAddr::V4(header.source), IpAddr::V4(header.destination));
        self.check_source(source)?;
        if destination.is_loopback() || header.destination.is_unspecified() {
            return Err(Discard::Martian);
        }
        match self.egress.interface.classify(destination) {
            Destination::Group => arrival.group = true,
            // RFC 1122 (3.3.6): what came as a link broadcast must be for a group.
            Destination::Unicast if arrival.group => return Err(Discard::Martian),
            Destination::Unicast => {}
            // A DHCP server may send to the address that it is about to give us (RFC 2131, 4.1).
            Destination::Other if self.dhcp.is_some() && is_dhcp(&header, &frame) => {}
            Destination::Other => return Err(Discard::NotForUs),
        }
        let (header_length, protocol) = (header.header_length, header.protocol);
        let Some(fragment) = header.fragment else {
            return self.dispatch(IpPacket { source, destination, protocol, header_length, frame }, arrival);
        };
        let key = Key { source, destination, identification: fragment.identification, protocol };
        let piece = Piece { frame, payload_at: header_length, fragment };
        let Some(Whole { mut frame, payload_at }) = self.reassemble(key, piece) else { return Ok(()) };
        let total_length = frame.len();
        ipv4::rewrite(frame.bytes_mut(), total_length, 0, 0, false);
        let packet = IpPacket { source, destination, protocol, header_length: payload_at, frame };
        self.dispatch(packet, Arrival { fragmented: true, ..arrival })
    }

    fn receive_ipv6(&mut self, mut frame: Frame, mut arrival: Arrival) -> Result<(), Discard> {
        let header = ipv6::parse(frame.bytes())?;
        frame.truncate(header.total_length);
        let (source, destination) = (IpAddr::V6(header.source), IpAddr::V6(header.destination));
        // A probe for an address comes from none (RFC 4862, 5.4.3).
        if !header.source.is_unspecified() {
            self.check_source(source)?;
        }
        match self.egress.interface.classify(destination) {
            Destination::Group => arrival.group = true,
            Destination::Unicast if arrival.group => return Err(Discard::Martian),
            Destination::Unicast => {}
            Destination::Other => return Err(Discard::NotForUs),
        }
        let whole = IpPacket { source, destination, protocol: 0, header_length: ipv6::HEADER_LENGTH, frame };
        self.walk_ipv6(whole, arrival)
    }

    fn walk_ipv6(&mut self, packet: IpPacket, arrival: Arrival) -> Result<(), Discard> {
        let IpPacket { source, destination, mut frame, .. } = packet;
        let chain = match ipv6::walk(frame.bytes()) {
            Ok(chain) => chain,
            Err(Refusal::Discard(reason)) => return Err(reason),
            Err(Refusal::Problem(ipv6::Problem { code, pointer, to_multicast })) => {
                let report = Report::ParameterProblem { code, pointer, to_multicast };
                let about = IpPacket { frame, ..packet };
                icmp::report(&mut self.egress, &mut self.icmp, &about, arrival.group, report);
                return Err(Discard::Unsupported);
            }
        };
        let (protocol, header_length) = (chain.protocol, chain.header_length);
        let Some((fragment, at)) = chain.fragment else {
            let fragmented = arrival.fragmented || chain.had_fragment_header;
            self.next_header_at = chain.next_header_at;
            let packet = IpPacket { source, destination, protocol, header_length, frame };
            return self.dispatch(packet, Arrival { fragmented, ..arrival });
        };
        if arrival.fragmented {
            return Err(Discard::Malformed);
        }
        // The fragment header goes: the header before it announces what it announced (RFC 8200, 4.5).
        let next_header = frame.bytes()[at.start];
        let bytes = frame.bytes_mut();
        bytes[at.announced_at] = next_header;
        bytes.copy_within(..at.start, ipv6::FRAGMENT_HEADER_LENGTH);
        frame.trim_front(ipv6::FRAGMENT_HEADER_LENGTH);
        let key = Key { source, destination, identification: fragment.identification, protocol: 0 };
        let piece = Piece { frame, payload_at: at.start, fragment };
        let Some(Whole { mut frame, .. }) = self.reassemble(key, piece) else { return Ok(()) };
        let payload_length = frame.len() - ipv6::HEADER_LENGTH;
        ipv6::set_payload_length(frame.bytes_mut(), payload_length);
        let packet = IpPacket { source, destination, protocol: 0, header_length: ipv6::HEADER_LENGTH, frame };
        self.walk_ipv6(packet, Arrival { fragmented: true, ..arrival })
    }

    /// RFC 1122 (3.2.1.3): no packet comes from a group, from nobody, or from ourselves.
    fn check_source(&self, source: IpAddr) -> Result<(), Discard> {
        let interface = &self.egress.interface;
        if is_host(source) && !interface.is_local(source) && !interface.is_group(source) {
            Ok(())
        } else {
            Err(Discard::Martian)
        }
    }

    fn reassemble(&mut self, key: Key, piece: Piece) -> Option<Whole> {
        self.egress.counters.fragments += 1;
        match self.reassembly.receive(self.egress.now, key, piece, self.egress.pool()) {
            Progress::Waiting => None,
            Progress::Failed => {
                self.egress.counters.reassembly_failed += 1;
                None
            }
            Progress::Whole(whole) => {
                self.egress.counters.reassembled += 1;
                Some(whole)
            }
        }
    }

    /// Hands a packet to its transport.
    fn dispatch(&mut self, packet: IpPacket, arrival: Arrival) -> Result<(), Discard> {
        match (packet.protocol, packet.source) {
            (TCP, _) => {
                if arrival.group {
                    return Err(Discard::Martian);
                }
                verify(&packet)?;
                self.tcp.receive(self.egress.now, packet, &mut self.egress);
                Ok(())
            }
            (udp::PROTOCOL, _) => self.receive_udp(packet, arrival),
            (ICMPV4, IpAddr::V4(_)) => self.receive_icmpv4(packet, arrival),
            (ICMPV6, IpAddr::V6(source)) => self.receive_icmpv6(packet, source, arrival),
            (NO_NEXT_HEADER, IpAddr::V6(_)) => Ok(()),
            _ => {
                let pointer = u32::try_from(self.next_header_at).unwrap_or(0);
                let report = Report::ProtocolUnreachable { pointer };
                icmp::report(&mut self.egress, &mut self.icmp, &packet, arrival.group, report);
                Err(Discard::Unsupported)
            }
        }
    }

    fn receive_udp(&mut self, packet: IpPacket, arrival: Arrival) -> Result<(), Discard> {
        let transport = &packet.frame.bytes()[packet.header_length..];
        let header = transport.get(..udp::HEADER_LENGTH).ok_or(Discard::Malformed)?;
        // Without a checksum in IPv4 (RFC 768); IPv6 has no such thing (RFC 8200, 8.1).
        let unchecked = header[udp::CHECKSUM_OFFSET..] == [0, 0] && packet.source.is_ipv4();
        if !unchecked {
            // The checksum covers the length that UDP's header gives, which may be less than IP's.
            verify_length(&packet, usize::from(u16::from_be_bytes([header[4], header[5]])))?;
        }
        if self.receive_dhcp(&packet) {
            return Ok(());
        }
        match self.udp.receive(packet) {
            Delivery::Done => self.egress.counters.udp_received += 1,
            Delivery::QueueFull => self.egress.counters.udp_queue_full += 1,
            Delivery::Malformed => return Err(Discard::Malformed),
            Delivery::NoPort(packet) => {
                self.egress.counters.udp_no_port += 1;
                let report = Report::PortUnreachable;
                icmp::report(&mut self.egress, &mut self.icmp, &packet, arrival.group, report);
            }
        }
        Ok(())
    }

    fn receive_icmpv4(&mut self, packet: IpPacket, arrival: Arrival) -> Result<(), Discard> {
        let message = &packet.frame.bytes()[packet.header_length..];
        if message.len() < icmp::HEADER_LENGTH {
            return Err(Discard::Malformed);
        }
        if packet.frame.offload.checksum == Checksum::Complete && checksum::plain(message) != 0 {
            return Err(Discard::Checksum);
        }
        match message[0] {
            8 => icmp::reply_to_echo(&mut self.egress, &mut self.icmp, packet, arrival.group),
            0 => self.pings.receive(&packet),
            3 | 11 if !arrival.group => self.receive_error(&packet),
            _ => return Err(Discard::Unsupported),
        }
        Ok(())
    }

    fn receive_icmpv6(
        &mut self,
        packet: IpPacket,
        source: Ipv6Addr,
        arrival: Arrival,
    ) -> Result<(), Discard> {
        let message = &packet.frame.bytes()[packet.header_length..];
        if message.len() < icmp::HEADER_LENGTH {
            return Err(Discard::Malformed);
        }
        verify(&packet)?;
        let on_link = packet.frame.bytes()[7] == ndp::HOP_LIMIT && message[1] == 0 && !arrival.fragmented;
        match message[0] {
            1..=4 => self.receive_error(&packet),
            128 if !source.is_unspecified() => {
                icmp::reply_to_echo(&mut self.egress, &mut self.icmp, packet, arrival.group);
            }
            129 => self.pings.receive(&packet),
            130 => self.receive_listener_query(&packet),
            134 if on_link => self.receive_router_advertisement(&packet, arrival.from)?,
            135 | 136 if on_link => {
                let conflict = ndp::receive(&mut self.egress, &packet, arrival.from)?;
                conflict.into_iter().for_each(|address| self.conflict(address.into()));
            }
            134..=136 => return Err(Discard::Malformed),
            _ => return Err(Discard::Unsupported),
        }
        Ok(())
    }

    fn receive_error(&mut self, packet: &IpPacket) {
        let Some(error) = icmp::parse_error(&self.egress, packet) else { return };
        self.egress.counters.icmp_errors_received += 1;
        self.transport_error(&error);
    }

    /// Tells the transport that sent a packet what became of it.
    pub(super) fn transport_error(&mut self, error: &IpError<'_>) {
        match error.protocol {
            TCP => self.tcp.error(error),
            udp::PROTOCOL => {
                if self.udp.error(error)
                    && let IpErrorKind::TooBig { mtu } = error.kind
                {
                    let link = self.egress.properties.mtu;
                    self.egress.path_mtus.reduce(self.egress.now, error.destination, mtu, link);
                }
            }
            _ => {}
        }
    }

    /// Tells the transport of a packet that found no neighbour to go to.
    pub(super) fn undeliverable(&mut self, packet: &IpPacket) {
        self.egress.counters.neighbor_unreachable += 1;
        let Some(transport) = packet.frame.bytes().get(packet.header_length..) else { return };
        if transport.len() >= 8 {
            let (source, destination, protocol) = (packet.source, packet.destination, packet.protocol);
            let kind = IpErrorKind::Unreachable;
            self.transport_error(&IpError { kind, source, destination, protocol, transport });
        }
    }
}

fn is_dhcp(header: &ipv4::Header, frame: &Frame) -> bool {
    let port = frame.bytes().get(header.header_length + 2..header.header_length + 4);
    header.protocol == udp::PROTOCOL
        && header.fragment.is_none()
        && port == Some(&dhcp::CLIENT_PORT.to_be_bytes())
}

/// Offsets that counted from the Ethernet header now count from the IP header.
fn without_ethernet(mut offload: Offload) -> Result<Offload, Discard> {
    let shift = |length: u16| length.checked_sub(14).ok_or(Discard::Malformed);
    if let Checksum::Partial { start, .. } = &mut offload.checksum {
        *start = shift(*start)?;
    }
    if let Some(segmentation) = &mut offload.segmentation {
        segmentation.header_length = shift(segmentation.header_length)?;
    }
    Ok(offload)
}

fn verify(packet: &IpPacket) -> Result<(), Discard> {
    if checksum::is_valid(packet) { Ok(()) } else { Err(Discard::Checksum) }
}

fn verify_length(packet: &IpPacket, length: usize) -> Result<(), Discard> {
    let transport = &packet.frame.bytes()[packet.header_length..];
    let transport =
        transport.get(..length).filter(|_| length >= udp::HEADER_LENGTH).ok_or(Discard::Malformed)?;
    match packet.frame.offload.checksum {
        Checksum::Verified | Checksum::Partial { .. } => Ok(()),
        Checksum::Complete => {
            let zero =
                checksum::transport(packet.source, packet.destination, packet.protocol, transport) == 0;
            if zero && transport[udp::CHECKSUM_OFFSET..udp::HEADER_LENGTH] != [0, 0] {
                Ok(())
            } else {
                Err(Discard::Checksum)
            }
        }
    }
}
