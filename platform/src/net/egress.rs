//! The way down: route, neighbour, fragments, Ethernet header, transmit queue.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv6Addr};
use std::rc::Rc;

use smoltcp::wire::{EthernetAddress, EthernetFrame, EthernetProtocol};

use super::address::is_group;
use super::counters::Counters;
use super::interface::{Hop, Interface};
use super::ipv4::Fragment;
use super::neighbor::{Mac, NeighborCache};
use super::path_mtu::PathMtus;
use super::{IpOutput, IpPacket, arp, checksum, ipv4, ipv6, ndp};
use crate::device::{Checksum, Entropy, Frame, FramePool, Instant, NetProperties, OffloadSupport};

/// Frames that wait for the device, at most. More than a device's ring, so that a burst of one turn fits.
const MAX_QUEUED_FRAMES: usize = 2048;
/// Bytes of buffers that wait for the device, at most: with segmentation offload a frame may be 64 KiB.
const MAX_QUEUED_BYTES: usize = 8 * 1024 * 1024;
/// Packets to ourselves that wait to be received, at most.
const MAX_LOCAL_PACKETS: usize = 1024;
/// Length of an Ethernet header.
pub(super) const ETHERNET_HEADER_LENGTH: usize = 14;
/// The Ethernet broadcast address.
pub(super) const BROADCAST: Mac = [0xff; 6];
/// The MTU of packets to ourselves: the longest IP packet.
const LOCAL_MTU: u16 = u16::MAX;

/// Everything below the transports that sending needs.
pub(super) struct Egress {
    pub properties: NetProperties,
    /// The IPv4 MTU of the link, if a DHCP server named a smaller one (RFC 2132, 5.1).
    pub ipv4_mtu: u16,
    /// The IPv6 MTU of the link, if a router announced a smaller one (RFC 4861, 6.3.4).
    pub ipv6_mtu: u16,
    /// The Hop Limit and TTL of what we send.
    pub hop_limit: u8,
    pub interface: Interface,
    pub neighbors: NeighborCache,
    pub path_mtus: PathMtus,
    pub counters: Counters,
    /// Frames for the device.
    pub queue: VecDeque<Frame>,
    queued_bytes: usize,
    /// Packets for ourselves.
    pub local: VecDeque<IpPacket>,
    /// The time of this turn.
    pub now: Instant,
    pool: FramePool,
    entropy: Rc<dyn Entropy>,
}

impl Egress {
    pub(super) fn new(properties: NetProperties, pool: FramePool, entropy: Rc<dyn Entropy>) -> Self {
        Self {
            properties,
            ipv4_mtu: properties.mtu,
            ipv6_mtu: properties.mtu,
            hop_limit: 64,
            interface: Interface::new(),
            neighbors: NeighborCache::new(),
            path_mtus: PathMtus::default(),
            counters: Counters::default(),
            queue: VecDeque::new(),
            queued_bytes: 0,
            local: VecDeque::new(),
            now: Instant::START,
            pool,
            entropy,
        }
    }

    pub(super) fn entropy(&self) -> &Rc<dyn Entropy> {
        &self.entropy
    }

    pub(super) fn random_u16(&self) -> u16 {
        let [a, b, ..] = self.entropy.next_u64().to_ne_bytes();
        u16::from_ne_bytes([a, b])
    }

    pub(super) fn random_u32(&self) -> u32 {
        let [a, b, c, d, ..] = self.entropy.next_u64().to_ne_bytes();
        u32::from_ne_bytes([a, b, c, d])
    }

    /// Whether there is room for a whole packet of a socket: the sender waits otherwise.
    pub(super) fn has_room(&self) -> bool {
        self.queue.len() < MAX_QUEUED_FRAMES / 2 && self.queued_bytes < MAX_QUEUED_BYTES / 2
    }

    /// Where a packet to `destination` goes next.
    pub(super) fn next_hop(&self, destination: IpAddr) -> Hop {
        self.interface.next_hop(destination, |gateway| self.neighbors.is_reachable(gateway))
    }

    /// Puts a frame in the queue for the device.
    pub(super) fn transmit(&mut self, frame: Frame) {
        let held = frame.buffer().len();
        if self.queue.len() >= MAX_QUEUED_FRAMES || self.queued_bytes + held > MAX_QUEUED_BYTES {
            self.counters.transmit_queue_full += 1;
            return;
        }
        self.queued_bytes += held;
        self.counters.frames_sent += 1;
        self.counters.bytes_sent += frame.len() as u64;
        self.queue.push_back(frame);
    }

    /// To be called after the device has taken frames from the queue.
    pub(super) fn recount(&mut self) {
        self.queued_bytes = self.queue.iter().map(|frame| frame.buffer().len()).sum();
    }

    /// Sends an IP packet to an Ethernet address, with no regard to routes.
    pub(super) fn send_to_mac(&mut self, mut packet: IpPacket, mac: Mac) {
        let protocol = if packet.source.is_ipv4() { EthernetProtocol::Ipv4 } else { EthernetProtocol::Ipv6 };
        let shift = u16::try_from(ETHERNET_HEADER_LENGTH).unwrap_or(0);
        if let Checksum::Partial { start, .. } = &mut packet.frame.offload.checksum {
            *start += shift;
        }
        if let Some(segmentation) = &mut packet.frame.offload.segmentation {
            segmentation.header_length += shift;
        }
        self.send_ethernet(packet.frame, mac, protocol);
    }

    /// Adds the Ethernet header and queues the frame.
    pub(super) fn send_ethernet(&mut self, mut frame: Frame, mac: Mac, protocol: EthernetProtocol) {
        let mut header = EthernetFrame::new_unchecked(frame.prepend(ETHERNET_HEADER_LENGTH));
        header.set_dst_addr(EthernetAddress(mac));
        header.set_src_addr(EthernetAddress(self.properties.mac));
        header.set_ethertype(protocol);
        self.transmit(frame);
    }

    /// Sends what the neighbour cache has to send: questions, and packets whose neighbour is known now.
    pub(super) fn drain_neighbors(&mut self) {
        while let Some(question) = self.neighbors.solicitations.pop_front() {
            match question.target {
                IpAddr::V4(target) => arp::send_request(self, target, question.to),
                IpAddr::V6(target) => ndp::send_solicitation(self, target, question.to),
            }
        }
        while let Some((packet, mac)) = self.neighbors.resolved.pop_front() {
            self.send_to_mac(packet, mac);
        }
    }

    fn send_to_neighbor(&mut self, packet: IpPacket, next: IpAddr) {
        if let Some(mac) = self.group_mac(next) {
            self.send_to_mac(packet, mac);
            return;
        }
        match self.neighbors.lookup(self.now, next) {
            Some(mac) => self.send_to_mac(packet, mac),
            None => self.neighbors.wait_for(self.now, next, packet),
        }
        if !self.neighbors.solicitations.is_empty() {
            self.drain_neighbors();
        }
    }

    /// The Ethernet address of a group (RFC 1112, 6.4; RFC 2464, 7).
    fn group_mac(&self, address: IpAddr) -> Option<Mac> {
        match address {
            IpAddr::V4(group) if group.is_multicast() => {
                let [_, b, c, d] = group.octets();
                Some([0x01, 0x00, 0x5e, b & 0x7f, c, d])
            }
            IpAddr::V4(group) if group.is_broadcast() || self.interface.is_directed_broadcast(group) => {
                Some(BROADCAST)
            }
            IpAddr::V6(group) if group.is_multicast() => {
                let [.., a, b, c, d] = group.octets();
                Some([0x33, 0x33, a, b, c, d])
            }
            IpAddr::V4(_) | IpAddr::V6(_) => None,
        }
    }

    fn send_local(&mut self, mut packet: IpPacket) {
        if self.local.len() >= MAX_LOCAL_PACKETS {
            self.counters.transmit_queue_full += 1;
            return;
        }
        // It crosses no wire: nobody has to compute or verify anything.
        packet.frame.offload.checksum = Checksum::Verified;
        self.local.push_back(packet);
    }

    /// Cuts a packet without offloads into fragments that the path takes (RFC 791, 3.2; RFC 8200, 4.5).
    fn fragment(&mut self, packet: &IpPacket, mtu: u16, next: IpAddr) {
        let unfragmentable = if packet.source.is_ipv4() { packet.header_length } else { ipv6::HEADER_LENGTH };
        let extra = if packet.source.is_ipv4() { 0 } else { ipv6::FRAGMENT_HEADER_LENGTH };
        let size = (usize::from(mtu) - unfragmentable - extra) & !7;
        let (headers, payload) = packet.frame.bytes().split_at(unfragmentable);
        let identification = self.random_u32();
        let count = payload.len().div_ceil(size);
        for (index, chunk) in payload.chunks(size).enumerate() {
            let fragment = Fragment { identification, offset: index * size, more: index + 1 < count };
            let mut frame = self.pool.frame(unfragmentable + extra + chunk.len());
            frame.append(unfragmentable).copy_from_slice(headers);
            if packet.source.is_ipv4() {
                let [a, b, ..] = identification.to_ne_bytes();
                let total = unfragmentable + chunk.len();
                ipv4::rewrite(
                    frame.bytes_mut(),
                    total,
                    u16::from_ne_bytes([a, b]),
                    fragment.offset,
                    fragment.more,
                );
            } else {
                frame.bytes_mut()[6] = ipv6::FRAGMENT;
                ipv6::set_payload_length(frame.bytes_mut(), extra + chunk.len());
                ipv6::emit_fragment_header(frame.append(extra), packet.protocol, fragment);
            }
            frame.append(chunk.len()).copy_from_slice(chunk);
            let header_length = unfragmentable + extra;
            self.send_to_neighbor(IpPacket { header_length, frame, ..*packet }, next);
        }
    }

    /// Builds a packet: IP header and `length` bytes for the transport, to be filled by `fill`. Nothing is computed
    /// over the transport.
    pub(super) fn packet(
        &self,
        source: IpAddr,
        destination: IpAddr,
        protocol: u8,
        length: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> Option<IpPacket> {
        let header_length = match (source, destination) {
            (IpAddr::V4(_), IpAddr::V4(_)) => ipv4::HEADER_LENGTH,
            (IpAddr::V6(_), IpAddr::V6(_)) => ipv6::HEADER_LENGTH,
            _ => return None,
        };
        if header_length + length > usize::from(u16::MAX) {
            return None;
        }
        let mut frame = self.pool.frame(header_length + length);
        let header = frame.append(header_length);
        match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => ipv4::Repr {
                source,
                destination,
                protocol,
                payload_length: length,
                hop_limit: self.hop_limit,
                dont_fragment: true,
                identification: 0,
            }
            .emit(header),
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                ipv6::emit(header, source, destination, protocol, length, self.hop_limit);
            }
            _ => return None,
        }
        fill(frame.append(length));
        Some(IpPacket { source, destination, protocol, header_length, frame })
    }

    /// Completes the checksum of a transport whose field at `offset` is zero: by the device if it can, else here. Packets
    /// that are going to be fragmented need it here.
    pub(super) fn finish_checksum(&self, packet: &mut IpPacket, offset: usize) {
        let (source, destination, protocol) = (packet.source, packet.destination, packet.protocol);
        let start = packet.header_length;
        let mtu = usize::from(self.path_mtu(destination));
        let by_device = self.properties.offload.transmit_checksum && packet.frame.len() <= mtu;
        let transport = &mut packet.frame.bytes_mut()[start..];
        let sum = if by_device {
            checksum::pseudo_header(source, destination, protocol, transport.len())
        } else {
            match checksum::transport(source, destination, protocol, transport) {
                // UDP: 0 means that there is none (RFC 768).
                0 => 0xffff,
                sum => sum,
            }
        };
        transport[offset..offset + 2].copy_from_slice(&sum.to_be_bytes());
        if by_device {
            let (start, offset) = (u16::try_from(start).unwrap_or(0), u16::try_from(offset).unwrap_or(0));
            packet.frame.offload.checksum = Checksum::Partial { start, offset };
        }
    }

    /// The group address as the Ethernet destination of an IPv6 packet that is sent with no regard to routes.
    pub(super) fn multicast_mac(&self, group: Ipv6Addr) -> Mac {
        self.group_mac(group.into()).unwrap_or(BROADCAST)
    }
}

impl IpOutput for Egress {
    fn send(&mut self, packet: IpPacket) {
        // RFC 1122 (3.2.1.3), RFC 4291 (2.5.3): loopback never goes out.
        let next = match self.next_hop(packet.destination) {
            Hop::Local => return self.send_local(packet),
            Hop::Neighbor(next) if !packet.source.is_loopback() => next,
            Hop::Neighbor(_) | Hop::NoRoute => {
                self.counters.no_route += 1;
                return;
            }
        };
        let mtu = self.path_mtu(packet.destination);
        if packet.frame.len() > usize::from(mtu) && packet.frame.offload.segmentation.is_none() {
            if packet.frame.offload.checksum == Checksum::Complete {
                self.fragment(&packet, mtu, next);
            } else {
                self.counters.too_big += 1;
            }
            return;
        }
        self.send_to_neighbor(packet, next);
    }

    fn path_mtu(&self, destination: IpAddr) -> u16 {
        let link = match destination {
            _ if self.interface.is_local(destination) => return LOCAL_MTU,
            IpAddr::V4(_) => self.ipv4_mtu,
            IpAddr::V6(_) => self.ipv6_mtu,
        };
        if is_group(destination) { link } else { self.path_mtus.get(self.now, destination, link) }
    }

    fn source_for(&self, destination: IpAddr) -> Option<IpAddr> {
        self.interface.source_for(destination, self.next_hop(destination))
    }

    fn offload(&self) -> OffloadSupport {
        self.properties.offload
    }

    fn pool(&self) -> &FramePool {
        &self.pool
    }
}
