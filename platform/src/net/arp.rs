//! ARP: who has an IPv4 address on the link.
//!
//! Reading: RFC 826, RFC 1122 (2.3.2), RFC 5227 (probes, announcements and conflicts).

use smoltcp::wire::{ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetProtocol};
use std::net::{IpAddr, Ipv4Addr};

use super::IpOutput;
use super::address::is_host;
use super::counters::Discard;
use super::egress::{BROADCAST, Egress};
use super::interface::{AddressState, Hop};
use super::neighbor::{Claim, Mac};

/// Handles an ARP packet. Returns the address of ours that its sender claims, if it does.
pub(super) fn receive(egress: &mut Egress, bytes: &[u8]) -> Result<Option<Ipv4Addr>, Discard> {
    let packet = ArpPacket::new_checked(bytes).map_err(|_| Discard::Malformed)?;
    let ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr: EthernetAddress(mac),
        source_protocol_addr: source,
        target_protocol_addr: target,
        ..
    } = ArpRepr::parse(&packet).map_err(|_| Discard::Unsupported)?
    else {
        return Err(Discard::Unsupported);
    };
    if mac == egress.properties.mac {
        return Err(Discard::Martian);
    }
    if mac[0] & 1 != 0 || mac == [0; 6] {
        return Err(Discard::Malformed);
    }
    if is_mine(egress, source) {
        return Ok(Some(source));
    }
    // Somebody probes for the address that we are probing for (RFC 5227, 2.1.1).
    if source.is_unspecified() && is_tentative(egress, target) {
        return Ok(Some(target));
    }
    if operation == ArpOperation::Request && is_mine(egress, target) {
        if is_neighbor(egress, source) {
            egress.neighbors.learn(egress.now, source.into(), mac, Claim::Question);
        }
        send(egress, ArpOperation::Reply, target, (mac, source), mac);
    } else if is_neighbor(egress, source) {
        let claim = match operation {
            ArpOperation::Reply if is_mine(egress, target) => Claim::Answer { overrides: true },
            _ => Claim::Announcement,
        };
        egress.neighbors.learn(egress.now, source.into(), mac, claim);
    }
    egress.drain_neighbors();
    Ok(None)
}

/// Asks for the Ethernet address of `target`.
pub(super) fn send_request(egress: &mut Egress, target: Ipv4Addr, to: Option<Mac>) {
    let next = Hop::Neighbor(target.into());
    let Some(IpAddr::V4(source)) = egress.interface.source_for(target.into(), next) else { return };
    send(egress, ArpOperation::Request, source, ([0; 6], target), to.unwrap_or(BROADCAST));
}

/// Asks whether anybody has `address`, which is to become ours (RFC 5227, 2.1.1).
pub(super) fn send_probe(egress: &mut Egress, address: Ipv4Addr) {
    send(egress, ArpOperation::Request, Ipv4Addr::UNSPECIFIED, ([0; 6], address), BROADCAST);
}

/// Tells everybody that `address` is ours (RFC 5227, 2.3).
pub(super) fn send_announcement(egress: &mut Egress, address: Ipv4Addr) {
    send(egress, ArpOperation::Request, address, ([0; 6], address), BROADCAST);
}

fn send(egress: &mut Egress, operation: ArpOperation, source: Ipv4Addr, target: (Mac, Ipv4Addr), to: Mac) {
    let repr = ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr: EthernetAddress(egress.properties.mac),
        source_protocol_addr: source,
        target_hardware_addr: EthernetAddress(target.0),
        target_protocol_addr: target.1,
    };
    let mut frame = egress.pool().frame(repr.buffer_len());
    repr.emit(&mut ArpPacket::new_unchecked(frame.append(repr.buffer_len())));
    egress.send_ethernet(frame, to, EthernetProtocol::Arp);
}

fn is_mine(egress: &Egress, address: Ipv4Addr) -> bool {
    egress.interface.find(address.into()).is_some_and(|known| known.state != AddressState::Duplicate)
}

fn is_tentative(egress: &Egress, address: Ipv4Addr) -> bool {
    egress.interface.find(address.into()).is_some_and(|known| known.state == AddressState::Tentative)
}

/// Whether `address` belongs to a host that is, by our routes, on the link: nothing is learned of others.
fn is_neighbor(egress: &Egress, address: Ipv4Addr) -> bool {
    is_host(address.into())
        && !egress.interface.is_directed_broadcast(address)
        && (egress.next_hop(address.into()) == Hop::Neighbor(address.into())
            || egress.interface.routes().iter().any(|route| route.gateway == Some(address.into())))
}
