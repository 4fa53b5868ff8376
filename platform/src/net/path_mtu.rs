//! What ICMP has told of paths narrower than the link.
//!
//! Reading: RFC 1191, RFC 8201, RFC 5927 (7, whom to believe).

use core::time::Duration;
use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{ipv4, ipv6};
use crate::device::Instant;

/// Destinations remembered, at most: each can be put there by an ICMP message.
const MAX_PATHS: usize = 256;
/// How long a path counts as narrow (RFC 8201, 5.3; RFC 1191, 6.3): then the link's MTU is tried again.
const LIFETIME: Duration = Duration::from_secs(600);

/// Path MTUs that are less than the link's.
#[derive(Default)]
pub(super) struct PathMtus {
    paths: BTreeMap<IpAddr, (u16, Instant)>,
}

impl PathMtus {
    /// Notes a report that packets to `destination` may be `mtu` bytes long at most. A report can only narrow, and no
    /// further than the family's minimum.
    pub(super) fn reduce(&mut self, now: Instant, destination: IpAddr, mtu: u32, link: u16) {
        let least = if destination.is_ipv4() { ipv4::MINIMUM_PATH_MTU } else { ipv6::MINIMUM_MTU };
        let mtu = u16::try_from(mtu).unwrap_or(u16::MAX).max(least);
        if mtu >= self.get(now, destination, link) {
            return;
        }
        if self.paths.len() >= MAX_PATHS && !self.paths.contains_key(&destination) {
            self.paths.retain(|_, (_, until)| *until > now);
            if self.paths.len() >= MAX_PATHS
                && let Some(oldest) =
                    self.paths.iter().min_by_key(|(_, (_, until))| *until).map(|(key, _)| *key)
            {
                self.paths.remove(&oldest);
            }
        }
        self.paths.insert(destination, (mtu, now + LIFETIME));
    }

    /// The MTU of the path to `destination`: at most `link`.
    pub(super) fn get(&self, now: Instant, destination: IpAddr, link: u16) -> u16 {
        if self.paths.is_empty() {
            return link;
        }
        match self.paths.get(&destination) {
            Some((mtu, until)) if *until > now => link.min(*mtu),
            _ => link,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_only_narrow_and_widen_again_with_time() {
        let mut paths = PathMtus::default();
        let to: IpAddr = "192.0.2.1".parse().unwrap();
        let now = Instant::START;
        paths.reduce(now, to, 1400, 1500);
        paths.reduce(now, to, 1450, 1500);
        assert_eq!(paths.get(now, to, 1500), 1400);
        paths.reduce(now, to, 0, 1500);
        assert_eq!(paths.get(now, to, 1500), 552);
        assert_eq!(paths.get(now + LIFETIME, to, 1500), 1500);
        let to: IpAddr = "2001:db8::1".parse().unwrap();
        paths.reduce(now, to, 68, 1500);
        assert_eq!(paths.get(now, to, 1500), 1280);
    }

    #[test]
    fn liars_cannot_grow_the_table() {
        let mut paths = PathMtus::default();
        for number in 0..10_000_u32 {
            let to = IpAddr::V4(std::net::Ipv4Addr::from_bits(number));
            paths.reduce(Instant::from_nanos(u64::from(number)), to, 600, 1500);
        }
        assert_eq!(paths.paths.len(), MAX_PATHS);
    }
}
