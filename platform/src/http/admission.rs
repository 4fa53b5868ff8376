//! Who may connect: counts of connections, in total and by client.

use core::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::rc::Rc;

use slab::Slab;

use super::Limits;
use super::state::{ConnectionState, Wish};

/// The open connections of a server.
#[derive(Default)]
pub(super) struct Admission {
    table: RefCell<Table>,
}

#[derive(Default)]
struct Table {
    connections: Slab<Rc<ConnectionState>>,
    by_client: HashMap<IpAddr, usize>,
}

/// An admitted connection's place. Dropped, it is free again.
pub(super) struct Place {
    admission: Rc<Admission>,
    key: usize,
    client: IpAddr,
}

/// One client: an IPv4 address, or the /64 of an IPv6 address, within which a host picks addresses as it likes.
fn client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
    }
}

impl Admission {
    /// A place for a connection from `address`, if there is one.
    pub(super) fn admit(
        self: &Rc<Self>,
        limits: &Limits,
        address: IpAddr,
        state: &Rc<ConnectionState>,
    ) -> Option<Place> {
        let mut table = self.table.borrow_mut();
        let client = client(address);
        let of_client = table.by_client.get(&client).copied().unwrap_or(0);
        if table.connections.len() >= limits.connections || of_client >= limits.connections_per_client {
            return None;
        }
        table.by_client.insert(client, of_client + 1);
        let key = table.connections.insert(Rc::clone(state));
        state.statistics.connections.set(table.connections.len() as u64);
        Some(Place { admission: Rc::clone(self), key, client })
    }

    /// Tells every connection what the server wants. Returns how many there are.
    pub(super) fn wish(&self, wish: Wish) -> usize {
        let table = self.table.borrow();
        table.connections.iter().for_each(|(_, state)| state.set_wish(wish));
        table.connections.len()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.admission.table.borrow_mut();
        if let Some(state) = table.connections.try_remove(self.key) {
            state.statistics.connections.set(table.connections.len() as u64);
        }
        if let Some(count) = table.by_client.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                table.by_client.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_household_is_one_client() {
        let same = |left: &str, right: &str| client(left.parse().unwrap()) == client(right.parse().unwrap());
        assert!(same("2001:db8:0:1::1", "2001:db8:0:1:ffff::2"));
        assert!(!same("2001:db8:0:1::1", "2001:db8:0:2::1"));
        assert!(same("192.0.2.1", "::ffff:192.0.2.1"));
        assert!(!same("192.0.2.1", "192.0.2.2"));
    }
}
