//! Which connection a segment belongs to.

use core::hash::{Hash, Hasher};
use core::net::{IpAddr, SocketAddr};

/// The four numbers that name a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FlowKey {
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
}

/// The fewest words that tell flows apart: the hash of this is taken for each segment.
impl Hash for FlowKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for address in [self.local.ip(), self.remote.ip()] {
            match address {
                IpAddr::V4(address) => state.write_u32(address.to_bits()),
                IpAddr::V6(address) => state.write(&address.octets()),
            }
        }
        state.write_u32(u32::from(self.local.port()) << 16 | u32::from(self.remote.port()));
    }
}
