//! The protocols of one network device, together: frames and `now` in, frames and the next deadline out.

use core::task::Waker;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use super::address::Cidr;
use super::configuration::{Ipv4Configuration, StackConfiguration, StaticAddresses};
use super::egress::Egress;
use super::icmp::{self, IcmpLimits, Report};
use super::interface::{AddressState, Origin, Route, earliest};
use super::ping::Pings;
use super::reassembly::{Piece, Reassembly};
use super::udp::{self, UdpTable};
use super::{IpOutput, IpPacket, arp, ipv4, ipv6};
use crate::device::{Entropy, FramePool, Instant, NetProperties};

/// Everything of a stack but its device.
pub(super) struct Engine {
    pub egress: Egress,
    pub udp: UdpTable,
    pub reassembly: Reassembly,
    pub icmp: IcmpLimits,
    pub pings: Pings,
    /// Where the field is that named the transport of the packet in hand, for ICMPv6's Parameter Problem.
    pub next_header_at: usize,
    /// Tasks that wait for room in the transmit queue.
    waiting_for_room: Vec<Waker>,
    /// Tasks that wait for a change of addresses, and the interface's generation that they know.
    watchers: Vec<Waker>,
    announced: u64,
}

impl Engine {
    pub(super) fn new(
        configuration: &StackConfiguration,
        properties: NetProperties,
        pool: FramePool,
        entropy: Rc<dyn Entropy>,
        now: Instant,
    ) -> Self {
        let mut egress = Egress::new(properties, pool, entropy);
        egress.now = now;
        let mut engine = Self {
            egress,
            udp: UdpTable::default(),
            reassembly: Reassembly::new(configuration.limits.reassembly),
            icmp: IcmpLimits::new(),
            pings: Pings::default(),
            next_header_at: 0,
            waiting_for_room: Vec::new(),
            watchers: Vec::new(),
            announced: 0,
        };
        engine.configure(configuration);
        engine
    }

    fn configure(&mut self, configuration: &StackConfiguration) {
        if let Ipv4Configuration::Static(addresses) = &configuration.ipv4 {
            self.add_static(addresses);
            for cidr in &addresses.addresses {
                self.egress.interface.assign(*cidr, AddressState::Preferred, Origin::Static);
                if let IpAddr::V4(address) = cidr.address() {
                    arp::send_announcement(&mut self.egress, address);
                }
            }
        }
    }

    /// Adds the routes of a static configuration.
    fn add_static(&mut self, addresses: &StaticAddresses) {
        for gateway in &addresses.gateways {
            let destination = Cidr::default_for(*gateway);
            let route = Route { destination, gateway: Some(*gateway), metric: 0, origin: Origin::Static };
            self.egress.interface.add_route(route);
        }
        for route in &addresses.routes {
            self.egress.interface.add_route((*route).into());
        }
    }

    /// Does what has come due.
    pub(super) fn poll(&mut self, now: Instant) {
        self.egress.now = now;
        self.egress.neighbors.poll(now);
        self.egress.drain_neighbors();
        while let Some(packet) = self.egress.neighbors.failed.pop_front() {
            self.undeliverable(&packet);
        }
        while let Some(expired) = self.reassembly.expire(now) {
            self.egress.counters.reassembly_failed += 1;
            if let Some(piece) = expired {
                self.report_incomplete(piece);
            }
        }
        if self.egress.interface.generation != self.announced {
            self.announced = self.egress.interface.generation;
            self.watchers.drain(..).for_each(Waker::wake);
        }
    }

    /// When [`Engine::poll`] next has something to do.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        earliest([self.egress.neighbors.next_deadline(), self.reassembly.next_deadline()])
    }

    /// Sends a UDP datagram.
    pub(super) fn send_udp(
        &mut self,
        now: Instant,
        from: Option<IpAddr>,
        port: u16,
        to: SocketAddr,
        payload: &[u8],
    ) -> io::Result<()> {
        self.egress.now = now;
        let source = match from {
            Some(from) if self.egress.interface.is_local(from) && from.is_ipv4() == to.is_ipv4() => from,
            Some(_) => return Err(io::ErrorKind::AddrNotAvailable.into()),
            None => self.egress.source_for(to.ip()).ok_or(io::ErrorKind::NetworkUnreachable)?,
        };
        let length = udp::HEADER_LENGTH + payload.len();
        let packet = self.egress.packet(source, to.ip(), udp::PROTOCOL, length, |bytes| {
            udp::emit(bytes, port, to.port(), payload);
        });
        let Some(mut packet) = packet else { return Err(io::ErrorKind::InvalidInput.into()) };
        self.egress.finish_checksum(&mut packet, udp::CHECKSUM_OFFSET);
        self.egress.counters.udp_sent += 1;
        self.egress.send(packet);
        Ok(())
    }

    /// Somebody else on the link claims an address of ours.
    pub(super) fn conflict(&mut self, _address: IpAddr) {
        self.egress.counters.address_conflicts += 1;
    }

    /// Wakes `waker` once there is room in the transmit queue.
    pub(super) fn wait_for_room(&mut self, waker: &Waker) {
        if !self.waiting_for_room.iter().any(|known| known.will_wake(waker)) {
            self.waiting_for_room.push(waker.clone());
        }
    }

    /// Wakes `waker` once addresses or routes have changed.
    pub(super) fn watch(&mut self, waker: &Waker) {
        if !self.watchers.iter().any(|known| known.will_wake(waker)) {
            self.watchers.push(waker.clone());
        }
    }

    /// To be called after the device has taken frames.
    pub(super) fn transmitted(&mut self) {
        self.egress.recount();
        if self.egress.has_room() {
            self.waiting_for_room.drain(..).for_each(Waker::wake);
        }
    }

    /// RFC 1122 (3.3.2), RFC 8200 (4.5): the sender is told, if the first fragment came.
    fn report_incomplete(&mut self, piece: Piece) {
        let bytes = piece.frame.bytes();
        let addresses = match bytes[0] >> 4 {
            4 => ipv4::parse(bytes)
                .ok()
                .map(|header| (header.source.into(), header.destination.into(), header.protocol)),
            _ => ipv6::parse(bytes)
                .ok()
                .map(|header| (header.source.into(), header.destination.into(), header.next_header)),
        };
        let Some((source, destination, protocol)) = addresses else { return };
        let group = self.egress.interface.is_group(destination);
        let about =
            IpPacket { source, destination, protocol, header_length: piece.payload_at, frame: piece.frame };
        icmp::report(&mut self.egress, &mut self.icmp, &about, group, Report::ReassemblyTimeExceeded);
    }
}
