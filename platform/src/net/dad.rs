//! Duplicate address detection: an IPv6 address is used once nobody else has been found to have it.
//!
//! Reading: RFC 4862 (5.4), RFC 7527 (looped probes; ours are known by their Ethernet source).

use core::time::Duration;

use std::net::{IpAddr, Ipv6Addr};

use super::address::Cidr;
use super::egress::Egress;
use super::interface::{AddressState, Origin};
use super::ndp;
use crate::device::Instant;

/// Probes for an address (RFC 4862, 5.1, DupAddrDetectTransmits).
const PROBES: u8 = 1;
/// How long an answer to a probe may take (RFC 4861, RETRANS_TIMER).
const ANSWER_TIME: Duration = Duration::from_secs(1);
/// Up to so long before the first probe, by chance, lest a rack of images that start at once speak at once. RFC 4862
/// (5.4.2) has a second; a tenth of it does not keep the users of one image waiting.
const START_DELAY: Duration = Duration::from_millis(100);

struct Pending {
    address: Ipv6Addr,
    probes_left: u8,
    deadline: Instant,
}

/// Addresses that are being verified.
#[derive(Default)]
pub(super) struct Verification {
    pending: Vec<Pending>,
}

impl Verification {
    /// Makes `cidr` an address of ours, tentative for now. Returns whether there was room for it.
    pub(super) fn start(&mut self, egress: &mut Egress, cidr: Cidr, origin: Origin) -> bool {
        let IpAddr::V6(address) = cidr.address() else { return false };
        if egress.interface.find(cidr.address()).is_some()
            || !egress.interface.assign(cidr, AddressState::Tentative, origin)
        {
            return false;
        }
        // Never at once: first the group of the address is joined.
        let delay = START_DELAY * (1 + u32::from(egress.random_u16())) / 0x1_0000;
        self.pending.push(Pending { address, probes_left: PROBES, deadline: egress.now + delay });
        true
    }

    /// Sends the probes that are due, and puts into use what nobody has claimed.
    pub(super) fn poll(&mut self, egress: &mut Egress) {
        let now = egress.now;
        while let Some(index) = self.pending.iter().position(|pending| pending.deadline <= now) {
            let pending = &mut self.pending[index];
            if let Some(left) = pending.probes_left.checked_sub(1) {
                pending.probes_left = left;
                pending.deadline = now + ANSWER_TIME;
                ndp::send_probe(egress, pending.address);
            } else {
                let address = self.pending.swap_remove(index).address;
                egress.interface.set_state(address.into(), AddressState::Preferred);
            }
        }
    }

    /// Somebody else has `address`. Returns whether it was being verified: then it is not going to be used.
    pub(super) fn conflict(&mut self, egress: &mut Egress, address: IpAddr) -> bool {
        let before = self.pending.len();
        self.pending.retain(|pending| IpAddr::V6(pending.address) != address);
        if self.pending.len() == before {
            return false;
        }
        egress.interface.set_state(address, AddressState::Duplicate);
        true
    }

    /// Forgets an address that is no longer wanted.
    pub(super) fn cancel(&mut self, address: IpAddr) {
        self.pending.retain(|pending| IpAddr::V6(pending.address) != address);
    }

    /// When [`Verification::poll`] next has something to do.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.pending.iter().map(|pending| pending.deadline).min()
    }
}
