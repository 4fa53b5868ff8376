//! The network: Ethernet to sockets, on smoltcp's wire formats and its TCP.

mod packet;

pub(crate) use packet::{IpError, IpErrorKind, IpOutput, IpPacket};
