//! The protocols of one network device, together: frames and `now` in, frames and the next deadline out.

use core::task::Waker;
use core::time::Duration;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;

use smoltcp::wire::UdpPacket;

use super::address::Cidr;
use super::configuration::{
    InterfaceIdentifier, Ipv4Configuration, Ipv6Configuration, StackConfiguration, StaticAddresses,
};
use super::counters::Discard;
use super::dad::Verification;
use super::dhcp::{self, Action, DhcpClient, Lease};
use super::egress::{BROADCAST, Egress};
use super::icmp::{self, IcmpLimits, Report};
use super::interface::{AddressState, Origin, Route, earliest};
use super::mld::Listener;
use super::neighbor::Mac;
use super::ping::Pings;
use super::reassembly::{Piece, Reassembly};
use super::slaac::Autoconfiguration;
use super::tcp::{Connect, TcpEngine};
use super::udp::{self, UdpTable};
use super::{IpOutput, IpPacket, arp, ipv4, ipv6};
use crate::device::{Entropy, FramePool, Instant, NetProperties};
use crate::executor::Handle;

/// Between two defences of an address, at least (RFC 5227, 1.1, DEFEND_INTERVAL).
const DEFEND_INTERVAL: Duration = Duration::from_secs(10);
/// Metric of the first default gateway from DHCP: after those of the configuration.
const DHCP_METRIC: u32 = 100;

/// Everything of a stack but its device.
pub(super) struct Engine {
    pub egress: Egress,
    pub udp: UdpTable,
    pub reassembly: Reassembly,
    pub icmp: IcmpLimits,
    pub pings: Pings,
    pub tcp: TcpEngine,
    pub dhcp: Option<DhcpClient>,
    verification: Verification,
    autoconfiguration: Option<Autoconfiguration>,
    listener: Listener,
    configured_name_servers: Vec<IpAddr>,
    /// When a DHCP server gave us a new address, and when we last defended an address.
    leased_at: Option<Instant>,
    defended_at: Option<Instant>,
    /// Where the field is that named the transport of the packet in hand, for ICMPv6's Parameter Problem.
    pub next_header_at: usize,
    /// Tasks that wait for room in the transmit queue.
    waiting_for_room: Vec<Waker>,
    /// Tasks that wait for a change of addresses, and the interface's generation that they know.
    watchers: Vec<Waker>,
    announced: u64,
    /// The interface's generation whose groups have been reported.
    listened: u64,
}

impl Engine {
    pub(super) fn new(
        configuration: &StackConfiguration,
        properties: NetProperties,
        pool: FramePool,
        entropy: Rc<dyn Entropy>,
        handle: &Handle,
    ) -> Self {
        let mut egress = Egress::new(properties, pool, Rc::clone(&entropy));
        egress.now = handle.now();
        let mut engine = Self {
            egress,
            udp: UdpTable::default(),
            reassembly: Reassembly::new(configuration.limits.reassembly),
            icmp: IcmpLimits::new(),
            pings: Pings::default(),
            tcp: TcpEngine::new(handle, entropy, configuration.limits.tcp),
            dhcp: None,
            verification: Verification::default(),
            autoconfiguration: None,
            listener: Listener::default(),
            configured_name_servers: configuration.dns_servers.clone(),
            leased_at: None,
            defended_at: None,
            next_header_at: 0,
            waiting_for_room: Vec::new(),
            watchers: Vec::new(),
            announced: 0,
            listened: 0,
        };
        engine.configure(configuration);
        engine
    }

    fn configure(&mut self, configuration: &StackConfiguration) {
        match &configuration.ipv4 {
            Ipv4Configuration::Disabled => {}
            Ipv4Configuration::Dhcp => {
                let mac = self.egress.properties.mac;
                self.dhcp = Some(DhcpClient::new(self.egress.now, mac, configuration.hostname.clone()));
            }
            Ipv4Configuration::Static(addresses) => self.add_static(addresses),
        }
        let (identifier, listens, addresses) = match &configuration.ipv6 {
            Ipv6Configuration::Disabled => return,
            Ipv6Configuration::Slaac { identifier, additional } => (identifier.clone(), true, additional),
            Ipv6Configuration::Static(addresses) => (InterfaceIdentifier::default(), false, addresses),
        };
        let mut autoconfiguration = Autoconfiguration::new(identifier, listens);
        autoconfiguration.start(&mut self.egress, &mut self.verification);
        self.autoconfiguration = Some(autoconfiguration);
        self.add_static(addresses);
    }

    /// Adds the addresses and routes of a static configuration.
    fn add_static(&mut self, addresses: &StaticAddresses) {
        for cidr in &addresses.addresses {
            match cidr.address() {
                IpAddr::V4(address) => {
                    self.egress.interface.assign(*cidr, AddressState::Preferred, Origin::Static);
                    arp::send_announcement(&mut self.egress, address);
                }
                IpAddr::V6(address) => {
                    self.verification.start(&mut self.egress, *cidr, Origin::Static);
                    // The network of a configured address is on the link.
                    let network = Ipv6Addr::from_bits(network_bits(address, cidr.prefix_length()));
                    if let Some(destination) = Cidr::new(network.into(), cidr.prefix_length()) {
                        let route = Route { destination, gateway: None, metric: 0, origin: Origin::Static };
                        self.egress.interface.add_route(route);
                    }
                }
            }
        }
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
        self.tcp.poll(now, &mut self.egress);
        self.poll_dhcp();
        self.poll_autoconfiguration();
        if self.egress.interface.generation != self.announced {
            self.announced = self.egress.interface.generation;
            self.watchers.drain(..).for_each(Waker::wake);
        }
    }

    /// When [`Engine::poll`] next has something to do.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        earliest([
            self.egress.neighbors.next_deadline(),
            self.reassembly.next_deadline(),
            self.tcp.next_deadline(),
            self.dhcp.as_ref().map(DhcpClient::next_deadline),
            self.autoconfiguration_deadline(),
        ])
    }

    /// Opens a TCP connection from the address that the routes choose.
    pub(super) fn connect(&mut self, now: Instant, to: SocketAddr) -> io::Result<Connect> {
        self.egress.now = now;
        let source = self.egress.source_for(to.ip()).ok_or(io::ErrorKind::NetworkUnreachable)?;
        Ok(self.tcp.connect(SocketAddr::new(source, 0), to))
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
    pub(super) fn conflict(&mut self, address: IpAddr) {
        let now = self.egress.now;
        self.egress.counters.address_conflicts += 1;
        if self.verification.conflict(&mut self.egress, address) {
            if let Some(autoconfiguration) = &mut self.autoconfiguration {
                autoconfiguration.duplicate(&mut self.egress, &mut self.verification, address);
            }
            return;
        }
        // RFC 5227 (2.4 b): an address in use is defended once in a while; a leased one that is claimed again, or at once,
        // is given back. A claim to an IPv6 address in use changes nothing.
        let IpAddr::V4(ours) = address else { return };
        let recent = |since: Option<Instant>| since.is_some_and(|since| now.since(since) < DEFEND_INTERVAL);
        let leased = self.egress.interface.find(address).is_some_and(|known| known.origin == Origin::Dhcp);
        if leased && (recent(self.leased_at) || recent(self.defended_at)) {
            self.dhcp.iter_mut().for_each(|client| client.decline(now));
        } else if !recent(self.defended_at) {
            self.defended_at = Some(now);
            arp::send_announcement(&mut self.egress, ours);
        }
    }

    /// Takes a datagram if it is for the DHCP client.
    pub(super) fn receive_dhcp(&mut self, packet: &IpPacket) -> bool {
        let Some(client) = &mut self.dhcp else { return false };
        let transport = &packet.frame.bytes()[packet.header_length..];
        let Ok(header) = UdpPacket::new_checked(transport) else { return false };
        if header.dst_port() != dhcp::CLIENT_PORT || header.src_port() != dhcp::SERVER_PORT {
            return false;
        }
        client.receive(self.egress.now, header.payload());
        true
    }

    /// Takes a multicast listener query.
    pub(super) fn receive_listener_query(&mut self, packet: &IpPacket) {
        self.listener.receive_query(&self.egress, packet);
    }

    /// Takes a router advertisement.
    pub(super) fn receive_router_advertisement(
        &mut self,
        packet: &IpPacket,
        from: Mac,
    ) -> Result<(), Discard> {
        match &mut self.autoconfiguration {
            Some(autoconfiguration) => {
                autoconfiguration.receive(&mut self.egress, &mut self.verification, packet, from)
            }
            None => Ok(()),
        }
    }

    /// The name servers: those of the configuration, then those that the network has told us of.
    pub(super) fn name_servers(&self) -> Vec<IpAddr> {
        let lease = self.dhcp.as_ref().and_then(DhcpClient::lease);
        let leased = lease.into_iter().flat_map(|lease| lease.name_servers.iter().copied().map(IpAddr::V4));
        let announced = self.autoconfiguration.iter().flat_map(Autoconfiguration::name_servers);
        let mut servers = self.configured_name_servers.clone();
        for server in leased.chain(announced) {
            if !servers.contains(&server) {
                servers.push(server);
            }
        }
        servers
    }

    /// What a DHCP server has given us.
    pub(super) fn lease(&self) -> Option<&Lease> {
        self.dhcp.as_ref().and_then(DhcpClient::lease)
    }

    fn poll_dhcp(&mut self) {
        while self.dhcp.as_ref().is_some_and(|client| client.next_deadline() <= self.egress.now) {
            let random = self.egress.random_u32();
            let Some(action) = self.dhcp.as_mut().and_then(|client| client.poll(self.egress.now, random))
            else {
                continue;
            };
            match action {
                Action::Broadcast(message) => self.send_dhcp(Ipv4Addr::UNSPECIFIED, None, &message),
                Action::FromLease(message, server) => {
                    let source = self.egress.interface.addresses().iter().find_map(|known| {
                        match (known.origin, known.cidr.address()) {
                            (Origin::Dhcp, IpAddr::V4(address)) => Some(address),
                            _ => None,
                        }
                    });
                    self.send_dhcp(source.unwrap_or(Ipv4Addr::UNSPECIFIED), server, &message);
                }
                Action::Configure(lease) => self.configure_lease(&lease),
                Action::Deconfigure => self.egress.interface.remove_origin(Origin::Dhcp, true),
            }
        }
    }

    fn send_dhcp(&mut self, source: Ipv4Addr, server: Option<Ipv4Addr>, message: &[u8]) {
        let length = udp::HEADER_LENGTH + message.len();
        let destination = server.unwrap_or(Ipv4Addr::BROADCAST);
        let packet = self.egress.packet(source.into(), destination.into(), udp::PROTOCOL, length, |bytes| {
            udp::emit(bytes, dhcp::CLIENT_PORT, dhcp::SERVER_PORT, message);
        });
        let Some(mut packet) = packet else { return };
        self.egress.finish_checksum(&mut packet, udp::CHECKSUM_OFFSET);
        match server {
            Some(_) => self.egress.send(packet),
            None => self.egress.send_to_mac(packet, BROADCAST),
        }
    }

    fn configure_lease(&mut self, lease: &Lease) {
        let interface = &mut self.egress.interface;
        let renewed =
            interface.find(lease.address.address()).is_some_and(|known| known.cidr == lease.address);
        interface.remove_origin(Origin::Dhcp, true);
        interface.assign(lease.address, AddressState::Preferred, Origin::Dhcp);
        let default = Cidr::default_for(lease.address.address());
        for (metric, gateway) in (DHCP_METRIC..).zip(&lease.gateways) {
            let gateway = Some(IpAddr::V4(*gateway));
            interface.add_route(Route { destination: default, gateway, metric, origin: Origin::Dhcp });
        }
        for (destination, gateway) in &lease.routes {
            let gateway = (!gateway.is_unspecified()).then_some(IpAddr::V4(*gateway));
            let route =
                Route { destination: *destination, gateway, metric: DHCP_METRIC, origin: Origin::Dhcp };
            interface.add_route(route);
        }
        self.egress.ipv4_mtu = lease.mtu.unwrap_or(u16::MAX).min(self.egress.properties.mtu);
        if let (false, IpAddr::V4(address)) = (renewed, lease.address.address()) {
            // The address is used at once, for most servers have looked whether it is free. Who has it all the same
            // answers this question, and we decline.
            self.leased_at = Some(self.egress.now);
            arp::send_probe(&mut self.egress, address);
            arp::send_announcement(&mut self.egress, address);
        }
    }

    fn poll_autoconfiguration(&mut self) {
        let changed = self.egress.interface.generation != self.listened;
        if !changed && self.autoconfiguration_deadline().is_none_or(|deadline| deadline > self.egress.now) {
            return;
        }
        self.verification.poll(&mut self.egress);
        if let Some(autoconfiguration) = &mut self.autoconfiguration {
            autoconfiguration.poll(&mut self.egress, &mut self.verification);
            // A report before the first probe, so that a snooping switch lets the answer through (RFC 4862, 5.4.2).
            self.listener.poll(&mut self.egress);
        }
        self.listened = self.egress.interface.generation;
    }

    fn autoconfiguration_deadline(&self) -> Option<Instant> {
        let autoconfiguration = self.autoconfiguration.as_ref();
        earliest([
            self.verification.next_deadline(),
            self.listener.next_deadline(),
            autoconfiguration.and_then(|known| known.next_deadline(&self.egress)),
        ])
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

fn network_bits(address: Ipv6Addr, prefix_length: u8) -> u128 {
    address.to_bits() & u128::MAX.checked_shl(128 - u32::from(prefix_length)).unwrap_or(0)
}
