//! What passes between the IP layer and the transports above it.

use std::net::IpAddr;

use crate::device::{Frame, FramePool, OffloadSupport};

/// An IP packet, its header read and (when received) verified.
pub(crate) struct IpPacket {
    /// Source address, as in the header.
    pub source: IpAddr,
    /// Destination address, as in the header.
    pub destination: IpAddr,
    /// The transport protocol: IPv4's Protocol, or IPv6's last Next Header.
    pub protocol: u8,
    /// Where the transport header starts: bytes of IP header and extension headers at the front of `frame`.
    pub header_length: usize,
    /// The packet. It starts with the IP header and ends with the IP payload (no Ethernet padding); offsets in
    /// `frame.offload` count from there.
    pub frame: Frame,
}

/// What an ICMP error message says of a packet that we sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IpErrorKind {
    /// Fragmentation needed (RFC 1191) or Packet Too Big (RFC 8201), with the MTU of the next hop.
    TooBig {
        /// In bytes; 0 from routers older than RFC 1191.
        mtu: u32,
    },
    /// Port or protocol unreachable.
    PortUnreachable,
    /// Host, net or route unreachable, or administratively prohibited.
    Unreachable,
    /// The hop limit or the time for reassembly ran out.
    TimeExceeded,
}

/// An ICMP error about a packet of ours, with as much of that packet as it quotes.
pub(crate) struct IpError<'a> {
    pub kind: IpErrorKind,
    /// Source of the packet that was refused: an address of ours.
    pub source: IpAddr,
    /// Destination of the packet that was refused.
    pub destination: IpAddr,
    pub protocol: u8,
    /// The start of its transport header, at least 8 bytes.
    pub transport: &'a [u8],
}

/// The way down for a transport.
pub(crate) trait IpOutput {
    /// Sends a packet: finds the route and the neighbour, and adds the link header. A packet whose neighbour is not yet
    /// known waits for it, within limits; one without a route is dropped.
    fn send(&mut self, packet: IpPacket);

    /// The MTU of the path to `destination` as far as known: at most the link's.
    fn path_mtu(&self, destination: IpAddr) -> u16;

    /// The address to send from to `destination` (RFC 6724), if there is a route.
    fn source_for(&self, destination: IpAddr) -> Option<IpAddr>;

    /// Which offloads packets may use.
    fn offload(&self) -> OffloadSupport;

    /// Where frames for `send` come from. They need 18 bytes of headroom left for Ethernet, and 12 for the driver.
    fn pool(&self) -> &FramePool;
}
