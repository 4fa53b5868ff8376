//! ICMP for both families: echo, errors that we send, errors that we get.
//!
//! Reading: RFC 792, RFC 1122 (3.2.2), RFC 1812 (4.3.2, when not to send), RFC 4443, RFC 5927 (attacks).

use core::time::Duration;
use smoltcp::wire::Ipv4Packet;
use std::net::IpAddr;

use super::egress::Egress;
use super::interface::Destination;
use super::ndp::ICMPV6;
use super::{IpError, IpErrorKind, IpOutput, IpPacket, checksum, ipv4, ipv6};
use crate::device::{Instant, Offload};

/// IPv4's Protocol of ICMP.
pub(super) const ICMPV4: u8 = 1;
/// Length of the fixed part of every message.
pub(super) const HEADER_LENGTH: usize = 8;
/// Errors per second, at most, and in a burst. RFC 4443 (2.4 f) asks for a limit; Linux's are 1,000 and 50.
const ERRORS_PER_SECOND: u32 = 500;
const ERROR_BURST: u32 = 100;
/// Echo replies per second, at most, and in a burst: enough for `ping -f`, too few to be worth reflecting from.
const ECHOES_PER_SECOND: u32 = 20_000;
const ECHO_BURST: u32 = 1_000;
/// Bytes that an ICMPv4 error quotes: the whole message stays within 576 (RFC 1812, 4.3.2.3).
const QUOTE_V4: usize = 576 - ipv4::HEADER_LENGTH - HEADER_LENGTH;
/// Bytes that an ICMPv6 error quotes: the whole message stays within the minimum MTU (RFC 4443, 3).
const QUOTE_V6: usize = 1280 - ipv6::HEADER_LENGTH - HEADER_LENGTH;

/// An error that we report to a sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Report {
    /// Nobody listens on the UDP port.
    PortUnreachable,
    /// Nobody speaks the transport protocol.
    ProtocolUnreachable {
        /// Where the field is that names the protocol (ICMPv6).
        pointer: u32,
    },
    /// A datagram did not become whole in time.
    ReassemblyTimeExceeded,
    /// A header that we do not take (ICMPv6).
    ParameterProblem { code: u8, pointer: u32, to_multicast: bool },
}

/// A bucket of tokens that fills with time.
#[derive(Debug)]
struct Bucket {
    tokens: u32,
    burst: u32,
    interval: Duration,
    filled: Instant,
}

impl Bucket {
    fn new(per_second: u32, burst: u32) -> Self {
        Self { tokens: burst, burst, interval: Duration::from_secs(1) / per_second, filled: Instant::START }
    }

    fn take(&mut self, now: Instant, cost: u32) -> bool {
        let intervals = now.since(self.filled).as_nanos() / self.interval.as_nanos();
        if intervals >= u128::from(self.burst) {
            (self.tokens, self.filled) = (self.burst, now);
        } else if let Ok(new @ 1..) = u32::try_from(intervals) {
            self.tokens = self.burst.min(self.tokens + new);
            self.filled += self.interval * new;
        }
        match self.tokens.checked_sub(cost) {
            Some(left) => {
                self.tokens = left;
                true
            }
            None => false,
        }
    }
}

/// Limits on what we send because others sent something.
#[derive(Debug)]
pub(super) struct IcmpLimits {
    errors: Bucket,
    echoes: Bucket,
}

impl IcmpLimits {
    pub(super) fn new() -> Self {
        Self {
            errors: Bucket::new(ERRORS_PER_SECOND, ERROR_BURST),
            echoes: Bucket::new(ECHOES_PER_SECOND, ECHO_BURST),
        }
    }

    /// An error costs one to three tokens, by chance: else the limit, which all senders share, would tell an outsider how
    /// many errors we sent to others (CVE-2020-25705).
    fn allow_error(&mut self, egress: &Egress) -> bool {
        let cost = 1 + u32::from(egress.random_u16() % 3);
        self.errors.take(egress.now, cost)
    }
}

/// Answers an echo request, in its own buffer.
pub(super) fn reply_to_echo(
    egress: &mut Egress,
    limits: &mut IcmpLimits,
    mut request: IpPacket,
    group: bool,
) {
    // RFC 1122 (3.2.2.6): an echo to a broadcast may be dropped. RFC 4443 (4.2) has groups answered: from a unicast address.
    if group && request.source.is_ipv4() {
        return;
    }
    let source = if group { egress.source_for(request.source) } else { Some(request.destination) };
    let Some(source) = source else { return };
    if !limits.echoes.take(egress.now, 1) {
        egress.counters.icmp_rate_limited += 1;
        return;
    }
    let (destination, protocol) = (request.source, request.protocol);
    let payload = request.frame.len() - request.header_length;
    // Options and extension headers do not go back.
    let header_length = if source.is_ipv4() { ipv4::HEADER_LENGTH } else { ipv6::HEADER_LENGTH };
    request.frame.trim_front(request.header_length - header_length);
    request.frame.offload = Offload::default();
    let (header, message) = request.frame.bytes_mut().split_at_mut(header_length);
    message[0] = if source.is_ipv4() { 0 } else { 129 };
    message[2..4].fill(0);
    let sum = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let (hop_limit, payload_length) = (egress.hop_limit, payload);
            // May be fragmented like the request, hence not "don't fragment".
            let identification = egress.random_u16();
            let repr = ipv4::Repr {
                source,
                destination,
                protocol,
                payload_length,
                hop_limit,
                dont_fragment: false,
                identification,
            };
            repr.emit(header);
            checksum::plain(message)
        }
        (IpAddr::V6(v6_source), IpAddr::V6(v6_destination)) => {
            ipv6::emit(header, v6_source, v6_destination, protocol, payload, egress.hop_limit);
            checksum::transport(source, destination, protocol, message)
        }
        _ => return,
    };
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    egress.counters.echo_replies += 1;
    egress.send(IpPacket { source, destination, header_length, ..request });
}

/// Reports an error about a packet that we received, where that is allowed (RFC 1122, 3.2.2; RFC 4443, 2.4 e).
pub(super) fn report(
    egress: &mut Egress,
    limits: &mut IcmpLimits,
    about: &IpPacket,
    group: bool,
    report: Report,
) {
    let to_group_allowed = matches!(report, Report::ParameterProblem { to_multicast: true, .. });
    if group && !to_group_allowed || !is_single_host(egress, about.source) || is_icmp_error(about) {
        return;
    }
    let source = if group { egress.source_for(about.source) } else { Some(about.destination) };
    let Some(source) = source else { return };
    if !limits.allow_error(egress) {
        egress.counters.icmp_rate_limited += 1;
        return;
    }
    let v4 = source.is_ipv4();
    let (kind, code, word) = match report {
        Report::PortUnreachable => {
            if v4 {
                (3, 3, 0)
            } else {
                (1, 4, 0)
            }
        }
        Report::ProtocolUnreachable { pointer } => {
            if v4 {
                (3, 2, 0)
            } else {
                (4, 1, pointer)
            }
        }
        Report::ReassemblyTimeExceeded => {
            if v4 {
                (11, 1, 0)
            } else {
                (3, 1, 0)
            }
        }
        Report::ParameterProblem { code, pointer, .. } => {
            if v4 {
                return;
            } else {
                (4, code, pointer)
            }
        }
    };
    let quoted = about.frame.bytes();
    let quoted = &quoted[..quoted.len().min(if v4 { QUOTE_V4 } else { QUOTE_V6 })];
    let protocol = if v4 { ICMPV4 } else { ICMPV6 };
    let destination = about.source;
    let packet = egress.packet(source, destination, protocol, HEADER_LENGTH + quoted.len(), |message| {
        message[..4].copy_from_slice(&[kind, code, 0, 0]);
        message[4..8].copy_from_slice(&word.to_be_bytes());
        message[8..].copy_from_slice(quoted);
        let sum = if v4 {
            checksum::plain(message)
        } else {
            checksum::transport(source, destination, protocol, message)
        };
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    });
    if let Some(packet) = packet {
        egress.counters.icmp_errors_sent += 1;
        egress.send(packet);
    }
}

/// RFC 1122 (3.2.2): never to a source that is not one host.
fn is_single_host(egress: &Egress, source: IpAddr) -> bool {
    !source.is_unspecified()
        && egress.interface.classify(source) != Destination::Group
        && !egress.interface.is_group(source)
}

/// Whether a packet is ICMP but not a question: no error is reported about those.
fn is_icmp_error(packet: &IpPacket) -> bool {
    let kind = packet.frame.bytes().get(packet.header_length);
    match packet.protocol {
        ICMPV4 => !matches!(kind, Some(8 | 13 | 15 | 17)),
        ICMPV6 => kind.is_none_or(|kind| kind & 0x80 == 0 || *kind == 137),
        _ => false,
    }
}

/// Reads an ICMP error whose checksum is right. `None` if it is none, or about nothing that we sent.
pub(super) fn parse_error<'a>(egress: &Egress, packet: &'a IpPacket) -> Option<IpError<'a>> {
    let message = packet.frame.bytes().get(packet.header_length..)?;
    let (header, quoted) = message.split_at_checked(HEADER_LENGTH)?;
    let word = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
    let kind = if packet.source.is_ipv4() { kind_v4(header, word)? } else { kind_v6(header, word)? };
    let (source, destination, protocol, transport_at) = if packet.source.is_ipv4() {
        let ip = Ipv4Packet::new_unchecked(quoted.get(..ipv4::HEADER_LENGTH)?);
        if ip.version() != 4 || ip.header_len() < 20 || ip.frag_offset() != 0 {
            return None;
        }
        let at = usize::from(ip.header_len());
        (IpAddr::V4(ip.src_addr()), IpAddr::V4(ip.dst_addr()), ip.next_header().into(), at)
    } else {
        let ip = smoltcp::wire::Ipv6Packet::new_unchecked(quoted.get(..ipv6::HEADER_LENGTH)?);
        let chain = ipv6::walk(quoted).ok()?;
        if ip.version() != 6 || chain.fragment.is_some_and(|(fragment, _)| fragment.offset != 0) {
            return None;
        }
        (IpAddr::V6(ip.src_addr()), IpAddr::V6(ip.dst_addr()), chain.protocol, chain.header_length)
    };
    let transport = quoted.get(transport_at..).filter(|transport| transport.len() >= 8)?;
    egress.interface.is_local(source).then_some(IpError { kind, source, destination, protocol, transport })
}

fn kind_v4(header: &[u8], word: u32) -> Option<IpErrorKind> {
    Some(match (header[0], header[1]) {
        (3, 4) => IpErrorKind::TooBig { mtu: word & 0xffff },
        (3, 2 | 3) => IpErrorKind::PortUnreachable,
        (3, _) => IpErrorKind::Unreachable,
        (11, _) => IpErrorKind::TimeExceeded,
        _ => return None,
    })
}

fn kind_v6(header: &[u8], word: u32) -> Option<IpErrorKind> {
    Some(match (header[0], header[1]) {
        (1, 4) | (4, 1) => IpErrorKind::PortUnreachable,
        (1, _) => IpErrorKind::Unreachable,
        (2, _) => IpErrorKind::TooBig { mtu: word },
        (3, _) => IpErrorKind::TimeExceeded,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_rate_and_no_more() {
        let mut bucket = Bucket::new(10, 5);
        let mut now = Instant::START;
        let mut taken = 0;
        for _ in 0..1000 {
            taken += u32::from(bucket.take(now, 1));
            now += Duration::from_millis(10);
        }
        assert_eq!(taken, 5 + 99);
    }
}
