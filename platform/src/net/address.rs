//! Addresses with prefixes, and what kinds of address there are.

use core::fmt;
use core::str::FromStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address and the length of its network's prefix, as in `192.0.2.1/24` or `2001:db8::1/64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    address: IpAddr,
    prefix_length: u8,
}

impl Cidr {
    /// `address/prefix_length`; `None` if the length exceeds the address's bits.
    #[must_use]
    pub fn new(address: IpAddr, prefix_length: u8) -> Option<Self> {
        (prefix_length <= bits(address)).then_some(Self { address, prefix_length })
    }

    /// The network of one address.
    #[must_use]
    pub fn host(address: IpAddr) -> Self {
        Self { address, prefix_length: bits(address) }
    }

    /// `0.0.0.0/0` or `::/0`: the destination of a default route of the family of `address`.
    #[must_use]
    pub fn default_for(address: IpAddr) -> Self {
        let any = match address {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        Self { address: any, prefix_length: 0 }
    }

    /// The address.
    #[must_use]
    pub fn address(self) -> IpAddr {
        self.address
    }

    /// Length of the prefix in bits.
    #[must_use]
    pub fn prefix_length(self) -> u8 {
        self.prefix_length
    }

    /// Whether `address` is in this network.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_)) => {
                common_prefix(self.address, address) >= u32::from(self.prefix_length)
            }
            _ => false,
        }
    }

    /// The directed broadcast address of an IPv4 network that has one (RFC 919; not /31, RFC 3021, and not /32).
    #[must_use]
    pub fn broadcast(self) -> Option<Ipv4Addr> {
        match self.address {
            IpAddr::V4(address) if self.prefix_length < 31 => {
                Some(Ipv4Addr::from_bits(address.to_bits() | (u32::MAX >> self.prefix_length)))
            }
            _ => None,
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_length)
    }
}

/// Text that is not an address with a prefix length. Configuration is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseCidrError;

impl fmt::Display for ParseCidrError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an address with a prefix length, such as 192.0.2.1/24 or 2001:db8::1/64")
    }
}

impl std::error::Error for ParseCidrError {}

impl FromStr for Cidr {
    type Err = ParseCidrError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (address, length) = text.split_once('/').ok_or(ParseCidrError)?;
        let address = address.parse().map_err(|_| ParseCidrError)?;
        let length = length.parse().map_err(|_| ParseCidrError)?;
        Self::new(address, length).ok_or(ParseCidrError)
    }
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// How many leading bits two addresses of one family have in common; 0 for different families.
pub(super) fn common_prefix(left: IpAddr, right: IpAddr) -> u32 {
    match (left, right) {
        (IpAddr::V4(left), IpAddr::V4(right)) => (left.to_bits() ^ right.to_bits()).leading_zeros(),
        (IpAddr::V6(left), IpAddr::V6(right)) => (left.to_bits() ^ right.to_bits()).leading_zeros(),
        _ => 0,
    }
}

/// Whether a packet to `address` is for more than one host, whatever the network: multicast or limited broadcast.
pub(super) fn is_group(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_multicast() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_multicast(),
    }
}

/// Whether `address` may name one host on a link: not unspecified, loopback, multicast or reserved.
pub(super) fn is_host(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let first = address.octets()[0];
            first != 0 && first != 127 && first < 224
        }
        IpAddr::V6(address) => {
            let mapped = address.to_ipv4_mapped().is_some();
            !(address.is_unspecified() || address.is_loopback() || address.is_multicast() || mapped)
        }
    }
}

/// The solicited-node multicast address of `address` (RFC 4291, 2.7.1).
pub(super) fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]))
}

/// All nodes on the link, `ff02::1` (RFC 4291, 2.7.1).
pub(super) const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// All routers on the link, `ff02::2` (RFC 4291, 2.7.1).
pub(super) const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// All MLDv2-capable routers, `ff02::16` (RFC 3810, 5.2.14).
pub(super) const ALL_MLD_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_contain_their_addresses() {
        let cidr: Cidr = "192.0.2.130/25".parse().unwrap();
        assert!(cidr.contains("192.0.2.255".parse().unwrap()));
        assert!(!cidr.contains("192.0.2.1".parse().unwrap()));
        assert!(!cidr.contains("::1".parse().unwrap()));
        assert_eq!(cidr.broadcast(), Some(Ipv4Addr::new(192, 0, 2, 255)));
        let all: Cidr = "0.0.0.0/0".parse().unwrap();
        assert!(all.contains("8.8.8.8".parse().unwrap()));
        assert_eq!(all.broadcast(), Some(Ipv4Addr::BROADCAST));
        let point: Cidr = "2001:db8::1/127".parse().unwrap();
        assert!(
            point.contains("2001:db8::".parse().unwrap()) && !point.contains("2001:db8::2".parse().unwrap())
        );
    }

    #[test]
    fn what_is_no_prefix_is_refused() {
        for text in ["192.0.2.1", "192.0.2.1/33", "::/129", "a/8", "192.0.2.1/-1", ""] {
            assert_eq!(text.parse::<Cidr>(), Err(ParseCidrError), "{text}");
        }
    }

    #[test]
    fn solicited_node_addresses_end_in_24_bits_of_the_address() {
        let group = solicited_node("2001:db8::1:2:1ff3:4567".parse().unwrap());
        assert_eq!(group, "ff02::1:fff3:4567".parse::<Ipv6Addr>().unwrap());
    }
}
