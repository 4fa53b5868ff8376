//! Multicast listener reports: switches that snoop send us what our solicited-node groups get only if we ask for it.
//!
//! Reading: RFC 3810, RFC 3590 (reports before there is an address), RFC 9777 (its successor). Queries of MLDv1 are
//! answered in version 2.

use core::time::Duration;
use std::net::{IpAddr, Ipv6Addr};

use super::address::ALL_MLD_ROUTERS;
use super::egress::Egress;
use super::interface::{Hop, is_link_local};
use super::ndp::ICMPV6;
use super::{IpPacket, checksum};
use crate::device::Instant;

/// How often a change is reported, for some get lost (RFC 3810, 9.1, Robustness Variable).
const ROBUSTNESS: u8 = 2;
/// Between two reports of a change, at most (RFC 3810, 9.11, Unsolicited Report Interval).
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Hop-by-hop options: a router alert for MLD (RFC 2711), and padding.
const ROUTER_ALERT: [u8; 8] = [ICMPV6, 0, 5, 2, 0, 0, 1, 0];
/// Next Header of the hop-by-hop options.
const HOP_BY_HOP: u8 = 0;
const REPORT_V2: u8 = 143;
/// Record types (RFC 3810, 5.2.12): what is, and what has changed.
const MODE_IS_EXCLUDE: u8 = 2;
const CHANGE_TO_EXCLUDE: u8 = 4;

/// What is still to be reported.
#[derive(Default)]
pub(super) struct Listener {
    reported: Vec<Ipv6Addr>,
    changes_left: u8,
    change_due: Option<Instant>,
    answer_due: Option<Instant>,
}

impl Listener {
    /// Takes a query (RFC 3810, 5.1, 6.2) whose checksum is right.
    pub(super) fn receive_query(&mut self, egress: &Egress, packet: &IpPacket) {
        let bytes = packet.frame.bytes();
        let message = &bytes[packet.header_length..];
        if !is_link_local(packet.source) || bytes[7] != 1 || message.len() < 24 || self.answer_due.is_some() {
            return;
        }
        let code = u16::from_be_bytes([message[4], message[5]]);
        let exponential = || u64::from(code & 0x0fff | 0x1000) << (((code >> 12) & 7) + 3);
        let most = if code < 0x8000 { u64::from(code) } else { exponential() };
        let delay = most * u64::from(egress.random_u16()) / 0x1_0000;
        self.answer_due = Some(egress.now + Duration::from_millis(delay));
    }

    /// Sends the reports that are due.
    pub(super) fn poll(&mut self, egress: &mut Egress) {
        let now = egress.now;
        let groups: Vec<Ipv6Addr> = egress.interface.groups().collect();
        if groups.iter().any(|group| !self.reported.contains(group)) {
            self.changes_left = ROBUSTNESS;
            self.change_due = Some(now);
        }
        self.reported = groups;
        if self.change_due.is_some_and(|due| due <= now) {
            send_report(egress, &self.reported, CHANGE_TO_EXCLUDE);
            self.changes_left -= 1;
            let delay = REPORT_INTERVAL * u32::from(egress.random_u16()) / 0x1_0000;
            self.change_due = (self.changes_left > 0).then(|| now + delay);
        }
        if self.answer_due.is_some_and(|due| due <= now) {
            self.answer_due = None;
            send_report(egress, &self.reported, MODE_IS_EXCLUDE);
        }
    }

    /// When [`Listener::poll`] next has something to do, but for a change of addresses.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.change_due.into_iter().chain(self.answer_due).min()
    }
}

fn send_report(egress: &mut Egress, groups: &[Ipv6Addr], kind: u8) {
    if groups.is_empty() {
        return;
    }
    let routers = IpAddr::V6(ALL_MLD_ROUTERS);
    // From the link-local address, or from none while there is none (RFC 3590).
    let source = egress
        .interface
        .source_for(routers, Hop::Neighbor(routers))
        .filter(|source| is_link_local(*source))
        .unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    let length = ROUTER_ALERT.len() + 8 + 20 * groups.len();
    let packet = egress.packet(source, routers, HOP_BY_HOP, length, |bytes| {
        bytes.fill(0);
        let (alert, message) = bytes.split_at_mut(ROUTER_ALERT.len());
        alert.copy_from_slice(&ROUTER_ALERT);
        message[0] = REPORT_V2;
        message[6..8].copy_from_slice(&u16::try_from(groups.len()).unwrap_or(0).to_be_bytes());
        for (record, group) in message[8..].chunks_exact_mut(20).zip(groups) {
            record[0] = kind;
            record[4..].copy_from_slice(&group.octets());
        }
        let sum = checksum::transport(source, routers, ICMPV6, message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    });
    let Some(mut packet) = packet else { return };
    packet.frame.bytes_mut()[7] = 1;
    let mac = egress.multicast_mac(ALL_MLD_ROUTERS);
    egress.send_to_mac(packet, mac);
}
