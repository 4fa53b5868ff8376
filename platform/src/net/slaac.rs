//! What routers announce: default routes, prefixes, addresses, name servers.
//!
//! Reading: RFC 4861 (6.3), RFC 4862 (5.5), RFC 4191 (router preference), RFC 7217 (identifiers), RFC 7559 (patience),
//! RFC 8106 (name servers), RFC 6104 and RFC 6980 (rogue announcements; the table sizes below bound what they can do).

use core::time::Duration;
use std::net::{IpAddr, Ipv6Addr};

use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit, StreamCipher};
use smoltcp::wire::{Icmpv6Packet, NdiscOption, NdiscOptionType, NdiscPrefixInfoFlags};

use super::IpPacket;
use super::address::Cidr;
use super::configuration::InterfaceIdentifier;
use super::counters::Discard;
use super::dad::Verification;
use super::egress::Egress;
use super::interface::{AddressState, Origin, Route, earliest, is_link_local};
use super::ipv6::MINIMUM_MTU;
use super::ndp::{self, Options};
use super::neighbor::{Claim, Mac};
use crate::device::Instant;

/// Routers, on-link prefixes, addresses of ours, and name servers that are kept, each at most. Networks have one or two.
const MAX_ROUTERS: usize = 8;
const MAX_PREFIXES: usize = 16;
const MAX_ADDRESSES: usize = 8;
const MAX_NAME_SERVERS: usize = 8;
/// Other identifiers that are tried when an address turns out to be taken (RFC 7217, 6, IDGEN_RETRIES).
const IDENTIFIER_RETRIES: u8 = 3;
/// First and longest time between solicitations (RFC 7559, 2).
const SOLICITATION_INTERVAL: Duration = Duration::from_secs(4);
const LONGEST_SOLICITATION_INTERVAL: Duration = Duration::from_secs(3600);
/// Up to so long before the first, by chance; see the delay of duplicate address detection.
const SOLICITATION_DELAY: Duration = Duration::from_millis(100);
/// An announcement without authentication cannot make the rest of an address's life shorter than this (RFC 4862, 5.5.3 e).
const TWO_HOURS: Duration = Duration::from_secs(7200);
/// Option types that smoltcp does not know (RFC 8106, 5.1).
const RECURSIVE_DNS_SERVER: u8 = 25;
/// Length of the fixed part of a router advertisement.
const HEADER_LENGTH: usize = 16;
const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0);
/// All of our prefixes for addresses are 64 bits long (RFC 4862, 5.5.3 d; RFC 4291, 2.5.1).
const PREFIX_LENGTH: u8 = 64;

struct Address {
    cidr: Cidr,
    preferred_until: Instant,
    valid_until: Instant,
    /// How many identifiers turned out to be taken before this one.
    retries: u8,
}

/// What routers have announced, and the search for them.
pub(super) struct Autoconfiguration {
    identifier: InterfaceIdentifier,
    /// Whether announcements are taken; without, there is just the link-local address.
    listens: bool,
    routers: Vec<(Ipv6Addr, Instant)>,
    prefixes: Vec<(Cidr, Instant)>,
    addresses: Vec<Address>,
    name_servers: Vec<(Ipv6Addr, Instant)>,
    link_local_retries: u8,
    /// The next solicitation, and the interval after it.
    solicitation: Option<(Instant, Duration)>,
}

impl Autoconfiguration {
    pub(super) fn new(identifier: InterfaceIdentifier, listens: bool) -> Self {
        Self {
            identifier,
            listens,
            routers: Vec::new(),
            prefixes: Vec::new(),
            addresses: Vec::new(),
            name_servers: Vec::new(),
            link_local_retries: 0,
            solicitation: None,
        }
    }

    /// Begins with the link-local address and the search for routers. The search does not wait for the address to be
    /// verified (RFC 4861, 6.3.7, lets it come from no address): that saves a second.
    pub(super) fn start(&mut self, egress: &mut Egress, verification: &mut Verification) {
        let cidr = self.address_in(LINK_LOCAL, egress.properties.mac, self.link_local_retries);
        verification.start(egress, cidr, Origin::LinkLocal);
        if self.listens && self.solicitation.is_none() {
            let delay = SOLICITATION_DELAY * u32::from(egress.random_u16()) / 0x1_0000;
            self.solicitation = Some((egress.now + delay, SOLICITATION_INTERVAL));
        }
    }

    /// An address of ours is taken: another identifier is tried, if there are others (RFC 7217, 6; RFC 4862, 5.4.5).
    pub(super) fn duplicate(
        &mut self,
        egress: &mut Egress,
        verification: &mut Verification,
        address: IpAddr,
    ) {
        if self.identifier == InterfaceIdentifier::Eui64 {
            return;
        }
        if is_link_local(address) {
            if self.link_local_retries < IDENTIFIER_RETRIES {
                self.link_local_retries += 1;
                egress.interface.remove(address);
                self.start(egress, verification);
            }
            return;
        }
        let Some(index) = self.addresses.iter().position(|known| known.cidr.address() == address) else {
            return;
        };
        let retries = self.addresses[index].retries + 1;
        if let IpAddr::V6(network) = address
            && retries <= IDENTIFIER_RETRIES
        {
            let cidr = self.address_in(network, egress.properties.mac, retries);
            egress.interface.remove(address);
            verification.start(egress, cidr, Origin::Router);
            let known = &mut self.addresses[index];
            (known.cidr, known.retries) = (cidr, retries);
        }
    }

    /// The name servers that routers have announced.
    pub(super) fn name_servers(&self) -> impl Iterator<Item = IpAddr> {
        self.name_servers.iter().map(|(server, _)| IpAddr::V6(*server))
    }

    /// Takes a router advertisement whose checksum, code and hop limit are right.
    pub(super) fn receive(
        &mut self,
        egress: &mut Egress,
        verification: &mut Verification,
        packet: &IpPacket,
        from: Mac,
    ) -> Result<(), Discard> {
        let bytes = &packet.frame.bytes()[packet.header_length..];
        let IpAddr::V6(router) = packet.source else { return Err(Discard::Malformed) };
        if !router.is_unicast_link_local() || bytes.len() < HEADER_LENGTH {
            return Err(Discard::Malformed);
        }
        let message = Icmpv6Packet::new_checked(bytes).map_err(|_| Discard::Malformed)?;
        let options = Options::new(&bytes[HEADER_LENGTH..])?;
        if !self.listens {
            return Ok(());
        }
        let now = egress.now;
        let lifetime = Duration::from(message.router_lifetime());
        self.set_router(egress, router, lifetime, bytes[5]);
        if !lifetime.is_zero() {
            self.solicitation = None;
        }
        if message.current_hop_limit() != 0 {
            egress.hop_limit = message.current_hop_limit();
        }
        let mac = options.ethernet_address(NdiscOptionType::SourceLinkLayerAddr).unwrap_or(from);
        if mac[0] & 1 == 0 {
            egress.neighbors.learn(now, router.into(), mac, Claim::Question);
        }
        for option in options.iter() {
            match option.option_type() {
                NdiscOptionType::Mtu if option.data_len() == 1 => {
                    let mtu = u16::try_from(option.mtu()).unwrap_or(u16::MAX);
                    if mtu >= MINIMUM_MTU {
                        egress.ipv6_mtu = mtu.min(egress.properties.mtu);
                    }
                }
                NdiscOptionType::PrefixInformation if option.data_len() == 4 => {
                    self.receive_prefix(egress, verification, &option);
                }
                NdiscOptionType::Unknown(RECURSIVE_DNS_SERVER) => self.receive_name_servers(now, &option),
                _ => {}
            }
        }
        egress.drain_neighbors();
        Ok(())
    }

    /// RFC 4861, 6.3.4; the preference is RFC 4191's.
    fn set_router(&mut self, egress: &mut Egress, router: Ipv6Addr, lifetime: Duration, flags: u8) {
        let destination = Cidr::default_for(router.into());
        let gateway = Some(IpAddr::V6(router));
        self.routers.retain(|(known, _)| *known != router);
        if lifetime.is_zero() {
            egress.interface.remove_route(destination, gateway);
            return;
        }
        if self.routers.len() >= MAX_ROUTERS {
            return;
        }
        // High, medium, low; the reserved value counts as medium (RFC 4191, 2.1).
        let metric = match (flags >> 3) & 3 {
            1 => 100,
            3 => 300,
            _ => 200,
        };
        let route = Route { destination, gateway, metric, origin: Origin::Router };
        let known = egress.interface.routes().contains(&route);
        if known || egress.interface.add_route(route) {
            self.routers.push((router, egress.now + lifetime));
        }
    }

    /// RFC 4861, 6.3.4 (on-link) and RFC 4862, 5.5.3 (addresses).
    fn receive_prefix(
        &mut self,
        egress: &mut Egress,
        verification: &mut Verification,
        option: &NdiscOption<&[u8]>,
    ) {
        let prefix = option.prefix();
        let length = option.prefix_len();
        let (valid, preferred) =
            (Duration::from(option.valid_lifetime()), Duration::from(option.preferred_lifetime()));
        let Some(network) = network(prefix, length) else { return };
        if prefix.is_multicast() || prefix.is_unicast_link_local() || prefix.is_loopback() {
            return;
        }
        if option.prefix_flags().contains(NdiscPrefixInfoFlags::ON_LINK) && length > 0 {
            self.set_prefix(egress, network, valid);
        }
        if option.prefix_flags().contains(NdiscPrefixInfoFlags::ADDRCONF)
            && length == PREFIX_LENGTH
            && preferred <= valid
        {
            self.set_address(egress, verification, network, preferred, valid);
        }
    }

    fn set_prefix(&mut self, egress: &mut Egress, network: Cidr, valid: Duration) {
        let known = self.prefixes.iter().any(|(known, _)| *known == network);
        self.prefixes.retain(|(known, _)| *known != network);
        if valid.is_zero() {
            if known {
                egress.interface.remove_route(network, None);
            }
            return;
        }
        if self.prefixes.len() >= MAX_PREFIXES {
            return;
        }
        let route = Route { destination: network, gateway: None, metric: 0, origin: Origin::Router };
        if known || egress.interface.add_route(route) {
            self.prefixes.push((network, egress.now + valid));
        }
    }

    fn set_address(
        &mut self,
        egress: &mut Egress,
        verification: &mut Verification,
        network: Cidr,
        preferred: Duration,
        valid: Duration,
    ) {
        let now = egress.now;
        let known = self.addresses.iter_mut().find(|known| network.contains(known.cidr.address()));
        if let Some(known) = known {
            known.preferred_until = now + preferred;
            let remaining = known.valid_until.since(now);
            if valid > TWO_HOURS || valid > remaining {
                known.valid_until = now + valid;
            } else if remaining > TWO_HOURS {
                known.valid_until = now + TWO_HOURS;
            }
            let address = known.cidr.address();
            let usable = egress.interface.find(address).is_some_and(|address| {
                matches!(address.state, AddressState::Preferred | AddressState::Deprecated)
            });
            if usable {
                let state =
                    if preferred.is_zero() { AddressState::Deprecated } else { AddressState::Preferred };
                egress.interface.set_state(address, state);
            }
            return;
        }
        let IpAddr::V6(prefix) = network.address() else { return };
        if valid.is_zero() || self.addresses.len() >= MAX_ADDRESSES {
            return;
        }
        let cidr = self.address_in(prefix, egress.properties.mac, 0);
        if verification.start(egress, cidr, Origin::Router) {
            let (preferred_until, valid_until) = (now + preferred, now + valid);
            self.addresses.push(Address { cidr, preferred_until, valid_until, retries: 0 });
        }
    }

    /// RFC 8106, 5.1 and 6.1.
    fn receive_name_servers(&mut self, now: Instant, option: &NdiscOption<&[u8]>) {
        let Some((fixed, addresses)) = option.data().split_at_checked(6) else { return };
        let lifetime =
            Duration::from_secs(u64::from(u32::from_be_bytes([fixed[2], fixed[3], fixed[4], fixed[5]])));
        for octets in addresses.chunks_exact(16) {
            let Ok(octets) = <[u8; 16]>::try_from(octets) else { continue };
            let server = Ipv6Addr::from_octets(octets);
            match self.name_servers.iter().position(|(known, _)| *known == server) {
                Some(index) if lifetime.is_zero() => {
                    self.name_servers.remove(index);
                }
                Some(index) => self.name_servers[index].1 = now + lifetime,
                None if lifetime.is_zero() || self.name_servers.len() >= MAX_NAME_SERVERS => {}
                None => self.name_servers.push((server, now + lifetime)),
            }
        }
    }

    /// Lets go of what has expired, and asks for routers.
    pub(super) fn poll(&mut self, egress: &mut Egress, verification: &mut Verification) {
        let now = egress.now;
        self.routers.retain(|(router, until)| {
            let alive = *until > now;
            if !alive {
                egress.interface.remove_route(Cidr::default_for((*router).into()), Some((*router).into()));
            }
            alive
        });
        self.prefixes.retain(|(network, until)| {
            let alive = *until > now;
            if !alive {
                egress.interface.remove_route(*network, None);
            }
            alive
        });
        self.addresses.retain(|known| {
            let address = known.cidr.address();
            if known.valid_until <= now {
                egress.interface.remove(address);
                verification.cancel(address);
                return false;
            }
            let preferred = |state| state == AddressState::Preferred;
            if known.preferred_until <= now
                && egress.interface.find(address).is_some_and(|address| preferred(address.state))
            {
                egress.interface.set_state(address, AddressState::Deprecated);
            }
            true
        });
        self.name_servers.retain(|(_, until)| *until > now);
        self.solicit(egress);
    }

    fn solicit(&mut self, egress: &mut Egress) {
        let Some((due, interval)) = self.solicitation.filter(|(due, _)| *due <= egress.now) else { return };
        let usable =
            egress.interface.addresses().iter().filter(|known| known.state == AddressState::Preferred);
        let source = usable.map(|known| known.cidr.address()).find(|address| is_link_local(*address));
        match source {
            Some(IpAddr::V6(source)) => ndp::send_router_solicitation(egress, source),
            _ => ndp::send_router_solicitation(egress, Ipv6Addr::UNSPECIFIED),
        }
        // A tenth more or less, by chance (RFC 7559, 2).
        let spread = interval / 5 * u32::from(egress.random_u16()) / 0x1_0000;
        let next = due.max(egress.now) + interval * 9 / 10 + spread;
        self.solicitation = Some((next, LONGEST_SOLICITATION_INTERVAL.min(interval * 2)));
    }

    /// When [`Autoconfiguration::poll`] next has something to do, but for a change of addresses.
    pub(super) fn next_deadline(&self, egress: &Egress) -> Option<Instant> {
        let addresses =
            self.addresses.iter().map(|known| match egress.interface.find(known.cidr.address()) {
                Some(assigned) if assigned.state == AddressState::Preferred => {
                    known.preferred_until.min(known.valid_until)
                }
                _ => known.valid_until,
            });
        earliest([
            self.solicitation.map(|(due, _)| due),
            self.routers.iter().map(|(_, until)| *until).min(),
            self.prefixes.iter().map(|(_, until)| *until).min(),
            self.name_servers.iter().map(|(_, until)| *until).min(),
            addresses.min(),
        ])
    }

    /// Our address in the network of `prefix`.
    fn address_in(&self, prefix: Ipv6Addr, mac: Mac, retries: u8) -> Cidr {
        let network = prefix.to_bits() >> 64 << 64;
        let identifier = match &self.identifier {
            InterfaceIdentifier::Eui64 => eui64(mac),
            InterfaceIdentifier::StablePrivacy { secret } => stable_privacy(secret, network, mac, retries),
        };
        let address = Ipv6Addr::from_bits(network | u128::from(identifier));
        Cidr::new(address.into(), PREFIX_LENGTH).unwrap_or(Cidr::host(address.into()))
    }
}

fn network(prefix: Ipv6Addr, length: u8) -> Option<Cidr> {
    let mask = u128::MAX.checked_shl(128_u32.checked_sub(length.into())?).unwrap_or(0);
    Cidr::new(Ipv6Addr::from_bits(prefix.to_bits() & mask).into(), length)
}

/// RFC 4291, appendix A.
fn eui64(mac: Mac) -> u64 {
    let [a, b, c, d, e, f] = mac;
    u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

/// RFC 7217, 5: F(prefix, interface, counter, secret). F is ChaCha20 twice: the secret keys a stream at the prefix and
/// counter; its first 32 bytes key one at the Ethernet address, whose first eight bytes are the identifier.
fn stable_privacy(secret: &[u8; 32], network: u128, mac: Mac, retries: u8) -> u64 {
    let mut first = [0; 12];
    first[..8].copy_from_slice(&network.to_be_bytes()[..8]);
    first[8] = retries;
    let mut second = [0; 12];
    second[..6].copy_from_slice(&mac);
    let mut key = [0; 32];
    ChaCha20::new(secret.into(), &first.into()).apply_keystream(&mut key);
    let mut identifier = [0; 8];
    ChaCha20::new(&key.into(), &second.into()).apply_keystream(&mut identifier);
    u64::from_be_bytes(identifier)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = [0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde];

    #[test]
    fn identifiers_follow_their_rules() {
        assert_eq!(eui64(MAC), 0x3656_78ff_fe9a_bcde);
        let stable = |network: u128, retries| stable_privacy(&[7; 32], network << 64, MAC, retries);
        assert_eq!(stable(1, 0), stable(1, 0));
        assert_ne!(stable(1, 0), stable(2, 0));
        assert_ne!(stable(1, 0), stable(1, 1));
        assert_ne!(stable(1, 0), stable_privacy(&[8; 32], 1 << 64, MAC, 0));
    }

    #[test]
    fn prefixes_are_masked() {
        let prefix = "2001:db8:1:2:3::".parse().unwrap();
        assert_eq!(network(prefix, 48), Some("2001:db8:1::/48".parse().unwrap()));
        assert_eq!(network(prefix, 0), Some("::/0".parse().unwrap()));
        assert_eq!(network(prefix, 129), None);
    }
}
