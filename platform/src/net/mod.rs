//! The network: Ethernet to sockets, on smoltcp's wire formats and its TCP.

mod packet;
pub mod tcp;

pub(crate) use packet::{IpError, IpErrorKind, IpOutput, IpPacket};
pub use tcp::{TcpCounters, TcpLimits, TcpListener, TcpStream};
