//! The network: Ethernet to sockets, on smoltcp's wire formats and its TCP.
//!
//! A [`Stack`] drives one network device. Its task goes round three steps: take a batch of frames from the device, do
//! what is due, give everything that came of it to the device in one flush. In between lie, sans-IO:
//!
//! | file | what it is |
//! |---|---|
//! | `stack` | the public face and the task |
//! | `engine` | all protocols of one device: frames and `now` in, frames and the next deadline out |
//! | `ingress` | the way up: which packets are taken, and whose they are |
//! | `egress` | the way down: route, neighbour, fragments, transmit queue |
//! | `interface` | addresses, routes, the choice of a source |
//! | `neighbor`, `arp`, `ndp` | the Ethernet addresses of the neighbours, and the two protocols that find them |
//! | `ipv4`, `ipv6`, `reassembly`, `path_mtu` | the Internet layer |
//! | `icmp` | echo, and errors both ways |
//! | `udp` | sockets by port |
//! | `tcp` | connections, with a documentation of its own |
//! | `resolver`, `sntp` | names and the time |
//! | `dhcp` | the DHCPv4 client |
//! | `slaac`, `dad`, `mld` | IPv6 addresses: what routers announce, whether we are alone in having it, listener reports |
//!
//! Packets travel by ownership: a received frame loses its headers in place and ends in a socket's queue; a packet to
//! be sent is built once, behind room for the Ethernet and device headers.

mod address;
mod arp;
mod checksum;
mod configuration;
mod counters;
mod dad;
mod dhcp;
mod egress;
mod engine;
mod icmp;
mod ingress;
mod interface;
mod ipv4;
mod ipv6;
mod mld;
mod ndp;
mod neighbor;
mod packet;
mod path_mtu;
mod ping;
mod reassembly;
mod resolver;
mod slaac;
mod sntp;
mod stack;
pub mod tcp;
mod udp;

pub use address::{Cidr, ParseCidrError};
pub use configuration::{
    InterfaceIdentifier, Ipv4Configuration, Ipv6Configuration, Limits, NtpServer, StackConfiguration,
    StaticAddresses, StaticRoute,
};
pub use counters::Counters;
pub use dhcp::Lease;
pub use interface::{AddressState, AssignedAddress, Origin, Route};
pub use reassembly::ReassemblyLimits;
pub use resolver::ServerName;
pub use sntp::TimeStatus;
pub use stack::Stack;
pub use udp::{Datagram, Local, UdpSocket};

pub(crate) use packet::{IpError, IpErrorKind, IpOutput, IpPacket};
pub use tcp::{TcpCounters, TcpLimits, TcpListener, TcpStream};
