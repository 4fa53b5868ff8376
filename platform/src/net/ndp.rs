//! Neighbour discovery messages: who has an IPv6 address on the link.
//!
//! Reading: RFC 4861 (4, 7), RFC 4862 (5.4), RFC 6980 (no fragments).

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, Icmpv6Message, Icmpv6Packet, Icmpv6Repr, NdiscNeighborFlags, NdiscOption,
    NdiscOptionType, NdiscRepr,
};
use std::net::{IpAddr, Ipv6Addr};

use super::IpPacket;
use super::address::{ALL_NODES, ALL_ROUTERS, is_host, solicited_node};
use super::counters::Discard;
use super::egress::Egress;
use super::interface::{AddressState, Hop};
use super::neighbor::{Claim, Mac};

/// IPv6's Next Header of ICMPv6.
pub(super) const ICMPV6: u8 = 58;
/// The Hop Limit of a packet that no router has forwarded: what all of these messages must have (RFC 4861, 6.1, 7.1).
pub(super) const HOP_LIMIT: u8 = 255;

/// The options of a message, each checked for its length.
pub(super) struct Options<'a>(&'a [u8]);

impl<'a> Options<'a> {
    /// Reads all options once, so that one bad length refuses the message (RFC 4861, 4.6).
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, Discard> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let length = usize::from(*rest.get(1).ok_or(Discard::Malformed)?) * 8;
            if length == 0 {
                return Err(Discard::Malformed);
            }
            rest = rest.get(length..).ok_or(Discard::Malformed)?;
        }
        Ok(Self(bytes))
    }

    /// The Ethernet address in the first option of this type.
    pub(super) fn ethernet_address(&self, kind: NdiscOptionType) -> Option<Mac> {
        let option = self.iter().find(|option| option.option_type() == kind)?;
        (option.data_len() == 1).then(|| option.into_inner()[2..8].try_into().ok()).flatten()
    }

    /// The options; those too short for their type are left out.
    pub(super) fn iter(&self) -> impl Iterator<Item = NdiscOption<&'a [u8]>> {
        let mut rest = self.0;
        core::iter::from_fn(move || {
            let length = usize::from(*rest.get(1)?) * 8;
            let (option, after) = rest.split_at_checked(length)?;
            rest = after;
            Some(option)
        })
        .filter_map(|option| NdiscOption::new_checked(option).ok())
    }
}

/// Handles a neighbour solicitation or advertisement whose checksum, code and hop limit are right. Returns the address of
/// ours that its sender claims, if it does.
pub(super) fn receive(
    egress: &mut Egress,
    packet: &IpPacket,
    from: Mac,
) -> Result<Option<Ipv6Addr>, Discard> {
    let (IpAddr::V6(source), IpAddr::V6(destination)) = (packet.source, packet.destination) else {
        return Err(Discard::Malformed);
    };
    let bytes = &packet.frame.bytes()[packet.header_length..];
    let message = Icmpv6Packet::new_checked(bytes).map_err(|_| Discard::Malformed)?;
    if bytes.len() < 24 || message.target_addr().is_multicast() {
        return Err(Discard::Malformed);
    }
    let target = message.target_addr();
    let options = Options::new(&bytes[24..])?;
    if message.msg_type() == Icmpv6Message::NeighborSolicit {
        let mac = options.ethernet_address(NdiscOptionType::SourceLinkLayerAddr);
        solicited(egress, source, destination, target, mac)
    } else {
        let flags = message.neighbor_flags();
        if destination.is_multicast() && flags.contains(NdiscNeighborFlags::SOLICITED) {
            return Err(Discard::Malformed);
        }
        let mac = options.ethernet_address(NdiscOptionType::TargetLinkLayerAddr);
        Ok(advertised(egress, target, flags, mac.unwrap_or(from)))
    }
}

/// RFC 4861, 7.2.3 and 7.2.4; RFC 4862, 5.4.3.
fn solicited(
    egress: &mut Egress,
    source: Ipv6Addr,
    destination: Ipv6Addr,
    target: Ipv6Addr,
    mac: Option<Mac>,
) -> Result<Option<Ipv6Addr>, Discard> {
    if source.is_unspecified() && (destination != solicited_node(target) || mac.is_some()) {
        return Err(Discard::Malformed);
    }
    let Some(state) = egress.interface.find(target.into()).map(|known| known.state) else { return Ok(None) };
    match state {
        // Somebody else verifies the same address.
        AddressState::Tentative => return Ok(source.is_unspecified().then_some(target)),
        AddressState::Duplicate => return Ok(None),
        AddressState::Preferred | AddressState::Deprecated => {}
    }
    if source.is_unspecified() {
        send_advertisement(egress, target, ALL_NODES, None);
    } else {
        if let Some(mac) = mac.filter(|mac| is_unicast(*mac) && is_host(source.into())) {
            egress.neighbors.learn(egress.now, source.into(), mac, Claim::Question);
        }
        send_advertisement(egress, target, source, mac);
    }
    egress.drain_neighbors();
    Ok(None)
}

/// RFC 4861, 7.2.5; RFC 4862, 5.4.4.
fn advertised(
    egress: &mut Egress,
    target: Ipv6Addr,
    flags: NdiscNeighborFlags,
    mac: Mac,
) -> Option<Ipv6Addr> {
    if let Some(mine) = egress.interface.find(target.into()) {
        return (mine.state != AddressState::Duplicate).then_some(target);
    }
    if is_unicast(mac) && is_host(target.into()) {
        let claim = if flags.contains(NdiscNeighborFlags::SOLICITED) {
            Claim::Answer { overrides: flags.contains(NdiscNeighborFlags::OVERRIDE) }
        } else {
            Claim::Announcement
        };
        egress.neighbors.learn(egress.now, target.into(), mac, claim);
        egress.drain_neighbors();
    }
    None
}

fn is_unicast(mac: Mac) -> bool {
    mac[0] & 1 == 0 && mac != [0; 6]
}

/// Asks for the Ethernet address of `target`.
pub(super) fn send_solicitation(egress: &mut Egress, target: Ipv6Addr, to: Option<Mac>) {
    let Some(IpAddr::V6(source)) = egress.interface.source_for(target.into(), Hop::Neighbor(target.into()))
    else {
        return;
    };
    let lladdr = Some(EthernetAddress(egress.properties.mac).into());
    let repr = NdiscRepr::NeighborSolicit { target_addr: target, lladdr };
    let destination = if to.is_some() { target } else { solicited_node(target) };
    send(egress, source, destination, to, repr);
}

/// Asks whether anybody has `address`, which is to become ours (RFC 4862, 5.4.2).
pub(super) fn send_probe(egress: &mut Egress, address: Ipv6Addr) {
    let repr = NdiscRepr::NeighborSolicit { target_addr: address, lladdr: None };
    send(egress, Ipv6Addr::UNSPECIFIED, solicited_node(address), None, repr);
}

/// Tells `destination` that `address` is ours; it asked, unless it is all nodes.
pub(super) fn send_advertisement(
    egress: &mut Egress,
    address: Ipv6Addr,
    destination: Ipv6Addr,
    to: Option<Mac>,
) {
    let mut flags = NdiscNeighborFlags::OVERRIDE;
    if destination != ALL_NODES {
        flags |= NdiscNeighborFlags::SOLICITED;
    }
    let lladdr = Some(EthernetAddress(egress.properties.mac).into());
    send(egress, address, destination, to, NdiscRepr::NeighborAdvert { flags, target_addr: address, lladdr });
}

/// Asks the routers for their advertisements (RFC 4861, 6.3.7).
pub(super) fn send_router_solicitation(egress: &mut Egress, source: Ipv6Addr) {
    // Who has no address yet tells no Ethernet address either (RFC 4861, 4.1).
    let lladdr = (!source.is_unspecified()).then(|| EthernetAddress(egress.properties.mac).into());
    send(egress, source, ALL_ROUTERS, None, NdiscRepr::RouterSolicit { lladdr });
}

fn send(egress: &mut Egress, source: Ipv6Addr, destination: Ipv6Addr, to: Option<Mac>, repr: NdiscRepr<'_>) {
    let repr = Icmpv6Repr::Ndisc(repr);
    let packet = egress.packet(source.into(), destination.into(), ICMPV6, repr.buffer_len(), |bytes| {
        bytes.fill(0);
        let mut message = Icmpv6Packet::new_unchecked(bytes);
        repr.emit(&source, &destination, &mut message, &ChecksumCapabilities::default());
    });
    let Some(mut packet) = packet else { return };
    packet.frame.bytes_mut()[7] = HOP_LIMIT;
    match to {
        Some(mac) => egress.send_to_mac(packet, mac),
        None if destination.is_multicast() => {
            let mac = egress.multicast_mac(destination);
            egress.send_to_mac(packet, mac);
        }
        None => super::IpOutput::send(egress, packet),
    }
}
