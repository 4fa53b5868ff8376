//! What a stack is told before it starts.

use std::net::IpAddr;

use super::address::Cidr;
use super::interface::{Origin, Route};
use super::reassembly::ReassemblyLimits;
use super::resolver::ServerName;
use super::tcp::TcpLimits;

/// How a stack gets its addresses and whom it asks.
#[derive(Clone, Debug, Default)]
pub struct StackConfiguration {
    /// The name that DHCP servers are told.
    pub hostname: Option<String>,
    /// IPv4.
    pub ipv4: Ipv4Configuration,
    /// IPv6.
    pub ipv6: Ipv6Configuration,
    /// Name servers, asked in this order before those that DHCP and router advertisements name.
    pub dns_servers: Vec<IpAddr>,
    /// Where the time comes from: with a server, the wall clock is set by it.
    pub ntp: Option<NtpServer>,
    /// Limits on memory that others can make us use.
    pub limits: Limits,
}

/// Where IPv4 addresses come from.
#[derive(Clone, Debug, Default)]
pub enum Ipv4Configuration {
    /// There are none.
    Disabled,
    /// From a DHCP server.
    #[default]
    Dhcp,
    /// From here.
    Static(StaticAddresses),
}

/// Where IPv6 addresses come from. Unless it is disabled there is a link-local address always.
#[derive(Clone, Debug)]
pub enum Ipv6Configuration {
    /// There are none.
    Disabled,
    /// From router advertisements (RFC 4862), and those given here.
    Slaac {
        /// How the lower half of an address is made.
        identifier: InterfaceIdentifier,
        /// Further addresses and routes.
        additional: StaticAddresses,
    },
    /// From here; router advertisements are ignored.
    Static(StaticAddresses),
}

impl Default for Ipv6Configuration {
    fn default() -> Self {
        Self::Slaac { identifier: InterfaceIdentifier::Eui64, additional: StaticAddresses::default() }
    }
}

/// Addresses and routes of one family.
#[derive(Clone, Debug, Default)]
pub struct StaticAddresses {
    /// The addresses, each with its network's prefix length.
    pub addresses: Vec<Cidr>,
    /// Default gateways. The first is used as long as it answers.
    pub gateways: Vec<IpAddr>,
    /// Further routes.
    pub routes: Vec<StaticRoute>,
}

/// A route from the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StaticRoute {
    /// The network.
    pub destination: Cidr,
    /// The router; `None` if the network is on the link.
    pub gateway: Option<IpAddr>,
    /// Of routes with equally long prefixes the smallest metric wins.
    pub metric: u32,
}

impl From<StaticRoute> for Route {
    fn from(route: StaticRoute) -> Self {
        let StaticRoute { destination, gateway, metric } = route;
        Self { destination, gateway, metric, origin: Origin::Static }
    }
}

/// How the lower 64 bits of an IPv6 address are made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum InterfaceIdentifier {
    /// From the Ethernet address (RFC 4291, appendix A). The default: a server's address must be the same after a restart, and
    /// the image keeps no secret across one by itself.
    #[default]
    Eui64,
    /// From a secret and the prefix (RFC 7217): tells nothing of the hardware, and differs from network to network. The
    /// secret must be kept across restarts for the address to stay.
    StablePrivacy {
        /// Random bytes.
        secret: [u8; 32],
    },
}

/// Where the time comes from.
#[derive(Clone, Debug)]
pub enum NtpServer {
    /// This address.
    Address(IpAddr),
    /// This name, to be resolved.
    Name(ServerName),
    /// The one that DHCP names, if it does.
    FromDhcp,
}

impl NtpServer {
    /// A host, by name or address. Who calls this has the resolver in the image.
    #[must_use]
    pub fn host(name: &str) -> Self {
        name.parse().map_or_else(|_| Self::Name(ServerName::new(name)), Self::Address)
    }
}

/// Limits on memory that others can make us use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Incomplete datagrams.
    pub reassembly: ReassemblyLimits,
    /// Bytes of buffers that the queue of one UDP socket may hold: with buffers of 2 KiB, an eighth of it is small queries.
    pub udp_queue: usize,
    /// Connections and their buffers.
    pub tcp: TcpLimits,
}

impl Default for Limits {
    /// 512 KiB for a UDP socket: 256 datagrams, 25 ms at 10,000 a second.
    fn default() -> Self {
        Self { reassembly: ReassemblyLimits::default(), udp_queue: 512 * 1024, tcp: TcpLimits::default() }
    }
}
