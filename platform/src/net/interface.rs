//! Addresses and routes: which addresses are ours, where a packet goes next, and where it comes from.
//!
//! Reading: RFC 1122 (3.3.1), RFC 4861 (5.2, conceptual sending), RFC 6724 (source address selection), RFC 4862 (5.5.4).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::address::{Cidr, common_prefix, is_group, solicited_node};
use crate::device::Instant;

/// Addresses of an interface, at most: a router that announces a prefix a second must not grow the list for ever.
const MAX_ADDRESSES: usize = 32;
/// Routes of an interface, at most: each packet to a new destination looks through them.
const MAX_ROUTES: usize = 64;

/// How far an address can be used (RFC 4862, 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressState {
    /// Its uniqueness is being verified; nothing is sent from it.
    Tentative,
    /// In use.
    Preferred,
    /// Still in use by what uses it, not to be chosen for anything new.
    Deprecated,
    /// Another node on the link has it; not used.
    Duplicate,
}

/// Who gave us an address or a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The configuration.
    Static,
    /// DHCPv4.
    Dhcp,
    /// The link-local address, made without asking.
    LinkLocal,
    /// A router advertisement.
    Router,
}

/// An address of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AssignedAddress {
    /// The address and its network's prefix.
    pub cidr: Cidr,
    /// How far it can be used.
    pub state: AddressState,
    /// Who gave it to us.
    pub origin: Origin,
}

/// Where packets to a network go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The network.
    pub destination: Cidr,
    /// The router; `None` if the network is on the link.
    pub gateway: Option<IpAddr>,
    /// Of routes with equally long prefixes the smallest metric wins.
    pub metric: u32,
    /// Who gave it to us.
    pub origin: Origin,
}

/// Where a packet goes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hop {
    /// It is for ourselves.
    Local,
    /// To this neighbour, or group on the link.
    Neighbor(IpAddr),
    /// Nowhere.
    NoRoute,
}

/// What a destination address of a received packet is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Destination {
    Unicast,
    /// A broadcast or a multicast group that we are in.
    Group,
    /// Somebody else's.
    Other,
}

/// Addresses and routes of a network device.
pub(super) struct Interface {
    addresses: Vec<AssignedAddress>,
    /// Longest prefix first, then smallest metric.
    routes: Vec<Route>,
    /// When something last changed, as a number that grows.
    pub generation: u64,
}

impl Interface {
    pub(super) fn new() -> Self {
        Self { addresses: Vec::new(), routes: Vec::new(), generation: 0 }
    }

    pub(super) fn addresses(&self) -> &[AssignedAddress] {
        &self.addresses
    }

    pub(super) fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// Adds an address, or changes state and origin of one that is there. Returns whether it is there now.
    pub(super) fn assign(&mut self, cidr: Cidr, state: AddressState, origin: Origin) -> bool {
        let assigned = AssignedAddress { cidr, state, origin };
        self.generation += 1;
        let full = self.addresses.len() >= MAX_ADDRESSES;
        match self.addresses.iter_mut().find(|known| known.cidr.address() == cidr.address()) {
            Some(known) => *known = assigned,
            None if full => return false,
            None => self.addresses.push(assigned),
        }
        true
    }

    pub(super) fn set_state(&mut self, address: IpAddr, state: AddressState) {
        for known in self.addresses.iter_mut().filter(|known| known.cidr.address() == address) {
            if known.state != state {
                known.state = state;
                self.generation += 1;
            }
        }
    }

    pub(super) fn remove(&mut self, address: IpAddr) {
        self.generation += 1;
        self.addresses.retain(|known| known.cidr.address() != address);
    }

    pub(super) fn remove_origin(&mut self, origin: Origin, ipv4: bool) {
        self.generation += 1;
        self.addresses.retain(|known| known.origin != origin || known.cidr.address().is_ipv4() != ipv4);
        self.routes.retain(|known| known.origin != origin || known.destination.address().is_ipv4() != ipv4);
    }

    /// Adds a route; a route to the same network by the same gateway is replaced. Returns whether there was room.
    pub(super) fn add_route(&mut self, route: Route) -> bool {
        self.remove_route(route.destination, route.gateway);
        if self.routes.len() >= MAX_ROUTES {
            return false;
        }
        let key = |route: &Route| (core::cmp::Reverse(route.destination.prefix_length()), route.metric);
        let at = self.routes.partition_point(|known| key(known) <= key(&route));
        self.routes.insert(at, route);
        self.generation += 1;
        true
    }

    pub(super) fn remove_route(&mut self, destination: Cidr, gateway: Option<IpAddr>) {
        self.routes.retain(|known| known.destination != destination || known.gateway != gateway);
        self.generation += 1;
    }

    /// Where a packet to `destination` goes next. Of several gateways equally good by prefix and metric, one that
    /// `is_reachable` is preferred (RFC 4861, 6.3.6).
    pub(super) fn next_hop(&self, destination: IpAddr, is_reachable: impl Fn(IpAddr) -> bool) -> Hop {
        if self.is_local(destination) {
            return Hop::Local;
        }
        if self.is_group(destination) {
            return Hop::Neighbor(destination);
        }
        if is_link_local(destination) {
            return Hop::Neighbor(destination);
        }
        for known in &self.addresses {
            // An IPv6 prefix is on the link only if a router or the configuration says so, by a route.
            let usable = matches!(known.state, AddressState::Preferred | AddressState::Deprecated);
            if usable && destination.is_ipv4() && known.cidr.contains(destination) {
                return self.more_specific(known.cidr, destination, &is_reachable);
            }
        }
        self.route(destination, 0, &is_reachable)
    }

    /// A route longer than the prefix of the connected network takes precedence over it.
    fn more_specific(
        &self,
        network: Cidr,
        destination: IpAddr,
        is_reachable: &impl Fn(IpAddr) -> bool,
    ) -> Hop {
        match self.route(destination, network.prefix_length() + 1, is_reachable) {
            Hop::NoRoute => Hop::Neighbor(destination),
            hop => hop,
        }
    }

    fn route(&self, destination: IpAddr, shortest: u8, is_reachable: &impl Fn(IpAddr) -> bool) -> Hop {
        let mut first: Option<&Route> = None;
        for route in self.routes.iter().filter(|route| route.destination.contains(destination)) {
            let length = route.destination.prefix_length();
            let rank = (length, route.metric);
            if length < shortest
                || first.is_some_and(|first| rank != (first.destination.prefix_length(), first.metric))
            {
                break;
            }
            match route.gateway {
                None => return Hop::Neighbor(destination),
                Some(gateway) if is_reachable(gateway) => return Hop::Neighbor(gateway),
                Some(_) => first = first.or(Some(route)),
            }
        }
        first.and_then(|route| route.gateway).map_or(Hop::NoRoute, Hop::Neighbor)
    }

    /// Whether packets to `address` are ours without a wire: our own unicast addresses and loopback.
    pub(super) fn is_local(&self, address: IpAddr) -> bool {
        address.is_loopback() || self.usable(address).is_some()
    }

    /// The address, if it is ours and can be used.
    fn usable(&self, address: IpAddr) -> Option<&AssignedAddress> {
        self.addresses.iter().find(|known| {
            known.cidr.address() == address
                && matches!(known.state, AddressState::Preferred | AddressState::Deprecated)
        })
    }

    /// The address, if it is ours in whatever state.
    pub(super) fn find(&self, address: IpAddr) -> Option<&AssignedAddress> {
        self.addresses.iter().find(|known| known.cidr.address() == address)
    }

    /// Whether `address` is limited or directed broadcast, or multicast.
    pub(super) fn is_group(&self, address: IpAddr) -> bool {
        is_group(address) || matches!(address, IpAddr::V4(address) if self.is_directed_broadcast(address))
    }

    pub(super) fn is_directed_broadcast(&self, address: Ipv4Addr) -> bool {
        self.addresses.iter().any(|known| known.cidr.broadcast() == Some(address))
    }

    /// What the destination of a received packet is to us.
    pub(super) fn classify(&self, destination: IpAddr) -> Destination {
        if self.usable(destination).is_some() {
            return Destination::Unicast;
        }
        let member = match destination {
            IpAddr::V4(group) => {
                group.is_broadcast()
                    || group == Ipv4Addr::new(224, 0, 0, 1)
                    || self.is_directed_broadcast(group)
            }
            IpAddr::V6(group) => self.is_member(group),
        };
        if member { Destination::Group } else { Destination::Other }
    }

    /// Whether we are in an IPv6 group: all nodes, or the solicited-node group of an address of ours.
    pub(super) fn is_member(&self, group: Ipv6Addr) -> bool {
        group == super::address::ALL_NODES || self.groups().any(|known| known == group)
    }

    /// The IPv6 groups to report to multicast routers: all that we are in but all-nodes (RFC 3810, 6).
    pub(super) fn groups(&self) -> impl Iterator<Item = Ipv6Addr> {
        self.addresses.iter().filter(|known| known.state != AddressState::Duplicate).filter_map(|known| {
            match known.cidr.address() {
                IpAddr::V6(address) => Some(solicited_node(address)),
                IpAddr::V4(_) => None,
            }
        })
    }

    /// The address to send from to `destination`, whose next hop is `hop` (RFC 6724, 5; for IPv4 the rules that apply).
    pub(super) fn source_for(&self, destination: IpAddr, hop: Hop) -> Option<IpAddr> {
        if destination.is_loopback() {
            return Some(destination);
        }
        let next = match hop {
            Hop::Local => return Some(destination),
            Hop::Neighbor(next) => next,
            Hop::NoRoute => return None,
        };
        self.addresses
            .iter()
            .filter(|known| matches!(known.state, AddressState::Preferred | AddressState::Deprecated))
            .filter(|known| known.cidr.address().is_ipv4() == destination.is_ipv4())
            .max_by_key(|known| {
                let source = known.cidr.address();
                (
                    core::cmp::Reverse(scope_distance(source, destination)),
                    known.state == AddressState::Preferred,
                    label(source) == label(destination),
                    // IPv4, and rule 5.5: the address from whose network the next hop is.
                    known.cidr.contains(next),
                    common_prefix(source, destination).min(u32::from(known.cidr.prefix_length())),
                )
            })
            .map(|known| known.cidr.address())
    }
}

/// Rules 2: a source of the destination's scope is best, then a larger one, the nearest first; a smaller one is worst.
fn scope_distance(source: IpAddr, destination: IpAddr) -> u8 {
    let (source, destination) = (scope(source), scope(destination));
    if source >= destination { source - destination } else { 16 + destination - source }
}

/// RFC 6724, 3.1: link-local is 2, global 14; multicast addresses say it themselves.
fn scope(address: IpAddr) -> u8 {
    match address {
        IpAddr::V6(address) if address.is_multicast() => address.octets()[1] & 0xf,
        address if is_link_local(address) || address.is_loopback() => 2,
        IpAddr::V4(_) | IpAddr::V6(_) => 14,
    }
}

/// The labels of the default policy table (RFC 6724, 2.1) as far as they are still in use.
fn label(address: IpAddr) -> u8 {
    match address {
        IpAddr::V6(address) if address.segments()[0] == 0x2002 => 2,
        IpAddr::V6(address) if address.segments()[..2] == [0x2001, 0] => 5,
        IpAddr::V6(address) if address.is_unique_local() => 13,
        IpAddr::V6(_) => 1,
        IpAddr::V4(_) => 4,
    }
}

/// Whether `address` is IPv6 link-local unicast, which is on the link always.
pub(super) fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

/// A deadline among several, if any.
pub(super) fn earliest(deadlines: impl IntoIterator<Item = Option<Instant>>) -> Option<Instant> {
    deadlines.into_iter().flatten().min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn interface(addresses: &[&str], routes: &[(&str, Option<&str>, u32)]) -> Interface {
        let mut interface = Interface::new();
        for address in addresses {
            interface.assign(address.parse().unwrap(), AddressState::Preferred, Origin::Static);
        }
        for (destination, gateway, metric) in routes {
            let destination = destination.parse().unwrap();
            let gateway = gateway.map(ip);
            interface.add_route(Route { destination, gateway, metric: *metric, origin: Origin::Static });
        }
        interface
    }

    #[test]
    fn the_longest_prefix_wins_and_then_the_metric() {
        let interface = interface(
            &["10.0.0.5/24"],
            &[
                ("0.0.0.0/0", Some("10.0.0.1"), 10),
                ("0.0.0.0/0", Some("10.0.0.2"), 5),
                ("192.168.0.0/16", Some("10.0.0.3"), 50),
                ("192.168.7.0/24", Some("10.0.0.4"), 50),
                ("10.0.0.128/25", Some("10.0.0.6"), 0),
            ],
        );
        let hop = |to| interface.next_hop(ip(to), |_| true);
        assert_eq!(hop("8.8.8.8"), Hop::Neighbor(ip("10.0.0.2")));
        assert_eq!(hop("192.168.1.1"), Hop::Neighbor(ip("10.0.0.3")));
        assert_eq!(hop("192.168.7.1"), Hop::Neighbor(ip("10.0.0.4")));
        assert_eq!(hop("10.0.0.77"), Hop::Neighbor(ip("10.0.0.77")));
        assert_eq!(hop("10.0.0.177"), Hop::Neighbor(ip("10.0.0.6")));
        assert_eq!(hop("10.0.0.5"), Hop::Local);
        assert_eq!(hop("127.1.2.3"), Hop::Local);
        assert_eq!(hop("2001:db8::1"), Hop::NoRoute);
    }

    #[test]
    fn a_dead_gateway_yields_to_its_equal() {
        let interface = interface(
            &["10.0.0.5/24"],
            &[
                ("0.0.0.0/0", Some("10.0.0.1"), 0),
                ("0.0.0.0/0", Some("10.0.0.2"), 0),
                ("0.0.0.0/0", Some("10.0.0.3"), 1),
            ],
        );
        let alive = |gateway: &'static str| move |candidate| candidate == ip(gateway);
        assert_eq!(interface.next_hop(ip("8.8.8.8"), alive("10.0.0.2")), Hop::Neighbor(ip("10.0.0.2")));
        assert_eq!(interface.next_hop(ip("8.8.8.8"), alive("10.0.0.3")), Hop::Neighbor(ip("10.0.0.1")));
    }

    #[test]
    fn sources_follow_scope_state_and_prefix() {
        let mut interface = interface(
            &["fe80::1/64", "2001:db8:1::1/64", "2001:db8:2::1/64", "fd00::1/64"],
            &[("::/0", Some("fe80::99"), 0), ("2001:db8:1::/64", None, 0)],
        );
        let from =
            |interface: &Interface, to| interface.source_for(ip(to), interface.next_hop(ip(to), |_| true));
        assert_eq!(from(&interface, "fe80::5"), Some(ip("fe80::1")));
        assert_eq!(from(&interface, "2001:db8:2::9"), Some(ip("2001:db8:2::1")));
        assert_eq!(from(&interface, "2001:db8:1::9"), Some(ip("2001:db8:1::1")));
        assert_eq!(from(&interface, "fd00:1::9"), Some(ip("fd00::1")));
        assert_eq!(from(&interface, "::1"), Some(ip("::1")));
        interface.set_state(ip("2001:db8:2::1"), AddressState::Deprecated);
        assert_eq!(from(&interface, "2001:db8:2::9"), Some(ip("2001:db8:1::1")));
        interface.set_state(ip("2001:db8:1::1"), AddressState::Tentative);
        assert_ne!(from(&interface, "2001:db8:1::9"), Some(ip("2001:db8:1::1")));
    }

    #[test]
    fn destinations_are_told_apart() {
        let interface = interface(&["10.0.0.5/24", "2001:db8::5/64"], &[]);
        for (address, what) in [
            ("10.0.0.5", Destination::Unicast),
            ("10.0.0.6", Destination::Other),
            ("10.0.0.255", Destination::Group),
            ("255.255.255.255", Destination::Group),
            ("224.0.0.1", Destination::Group),
            ("224.0.0.251", Destination::Other),
            ("127.0.0.1", Destination::Other),
            ("ff02::1", Destination::Group),
            ("ff02::1:ff00:5", Destination::Group),
            ("ff02::1:ff00:6", Destination::Other),
        ] {
            assert_eq!(interface.classify(ip(address)), what, "{address}");
        }
    }
}
