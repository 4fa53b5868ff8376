//! The Internet checksum (RFC 1071) of transports, over their pseudo-header.

use smoltcp::wire::IpProtocol;
use smoltcp::wire::checksum::{combine, data, pseudo_header as wire_pseudo_header};
use std::net::IpAddr;

use super::IpPacket;
use crate::device::Checksum;

/// The sum of the pseudo-header of `length` bytes of `protocol`, not complemented: what a field with
/// [`Checksum::Partial`] holds.
pub(super) fn pseudo_header(source: IpAddr, destination: IpAddr, protocol: u8, length: usize) -> u16 {
    debug_assert_eq!(source.is_ipv4(), destination.is_ipv4());
    match (source, destination) {
        (IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_)) => wire_pseudo_header(
            &source.into(),
            &destination.into(),
            IpProtocol::from(protocol),
            u32::try_from(length).unwrap_or(0),
        ),
        _ => 0,
    }
}

/// The checksum of a transport packet whose checksum field is zero.
pub(super) fn transport(source: IpAddr, destination: IpAddr, protocol: u8, transport: &[u8]) -> u16 {
    !combine(&[pseudo_header(source, destination, protocol, transport.len()), data(transport)])
}

/// Whether the transport checksum of a received packet is right, or vouched for by the device.
pub(super) fn is_valid(packet: &IpPacket) -> bool {
    match packet.frame.offload.checksum {
        Checksum::Verified | Checksum::Partial { .. } => true,
        Checksum::Complete => {
            let bytes = &packet.frame.bytes()[packet.header_length..];
            transport(packet.source, packet.destination, packet.protocol, bytes) == 0
        }
    }
}

/// The checksum of bytes whose checksum field is zero, without a pseudo-header (IPv4's header, ICMPv4, MLD's never).
pub(super) fn plain(bytes: &[u8]) -> u16 {
    !data(bytes)
}
