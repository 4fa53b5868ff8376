//! Who failed lately, and how long they wait for it. Bounded tables: a flood of names and addresses pushes out the oldest.

use core::net::IpAddr;
use core::time::Duration;
use std::collections::BTreeMap;

use platform::device::Instant;

/// How many failures from one address, and at one name, are free: a person mistypes, and a client with several accounts
/// or connections fails once in each.
const FREE_PER_ADDRESS: u32 = 10;
/// More than for an address, since a stranger can fail at anybody's name.
const FREE_PER_USER: u32 = 50;
/// The first wait past the free failures. Each further failure doubles it.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait. A stranger can keep a user whose client is not remembered out for this long, not longer.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// After this long without a failure all is forgotten.
const FORGOTTEN: Duration = Duration::from_mins(15);
/// How many addresses, and how many names, are kept track of.
const MAX_TRACKED: usize = 1024;
/// How much of a name is kept: longer ones share a record.
const MAX_NAME: usize = 64;

/// Failures by address and by name.
#[derive(Default)]
pub(super) struct Failures {
    by_address: BTreeMap<IpAddr, Record>,
    by_user: BTreeMap<String, Record>,
}

#[derive(Clone, Copy)]
struct Record {
    count: u32,
    last: Instant,
}

impl Failures {
    /// How long this address and name have to wait, if they do.
    pub(super) fn wait(&self, user: &str, address: IpAddr, now: Instant) -> Option<Duration> {
        let of_address = self.by_address.get(&network(address)).and_then(|r| r.wait(FREE_PER_ADDRESS, now));
        let of_user = self.by_user.get(key(user)).and_then(|r| r.wait(FREE_PER_USER, now));
        of_address.max(of_user)
    }

    /// Takes note of a failure.
    pub(super) fn failed(&mut self, user: &str, address: IpAddr, now: Instant) {
        count(&mut self.by_address, network(address), now);
        count(&mut self.by_user, key(user).to_owned(), now);
    }

    /// Takes note of a success: whoever is behind this address is no guesser. The name's record stays, for others may be
    /// guessing at it from elsewhere.
    pub(super) fn succeeded(&mut self, address: IpAddr) {
        self.by_address.remove(&network(address));
    }
}

impl Record {
    fn wait(&self, free: u32, now: Instant) -> Option<Duration> {
        let over = self.count.checked_sub(free)?;
        let wait = FIRST_WAIT.saturating_mul(1 << over.min(16)).min(LONGEST_WAIT);
        let left = wait.saturating_sub(now.since(self.last));
        (!left.is_zero()).then_some(left)
    }
}

fn count<K: Ord + Clone>(records: &mut BTreeMap<K, Record>, key: K, now: Instant) {
    if !records.contains_key(&key) && records.len() >= MAX_TRACKED {
        records.retain(|_, record| now.since(record.last) < FORGOTTEN);
        if records.len() >= MAX_TRACKED
            && let Some(oldest) =
                records.iter().min_by_key(|(_, record)| record.last).map(|(key, _)| key.clone())
        {
            records.remove(&oldest);
        }
    }
    let record = records.entry(key).or_insert(Record { count: 0, last: now });
    if now.since(record.last) >= FORGOTTEN {
        record.count = 0;
    }
    record.count = record.count.saturating_add(1);
    record.last = now;
}

/// What one peer can take addresses from: an IPv4 address, an IPv6 network of 64 bits.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !u128::from(u64::MAX)).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

fn key(user: &str) -> &str {
    &user[..user.floor_char_boundary(MAX_NAME)]
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(core::net::Ipv4Addr::new(192, 0, 2, 1));

    #[test]
    fn waits_double_up_to_the_longest_and_are_forgotten() {
        let mut failures = Failures::default();
        let mut now = Instant::START;
        for _ in 0..FREE_PER_ADDRESS {
            assert_eq!(failures.wait("alice", HERE, now), None);
            failures.failed("alice", HERE, now);
        }
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            let wait = Duration::from_secs(seconds);
            assert_eq!(failures.wait("bob", HERE, now), Some(wait));
            assert_eq!(failures.wait("bob", HERE, now + wait), None);
            now += wait;
            failures.failed("alice", HERE, now);
        }
        assert_eq!(failures.wait("alice", "192.0.2.2".parse().unwrap(), now), None);
        now += FORGOTTEN;
        failures.failed("alice", HERE, now);
        assert_eq!(failures.wait("alice", HERE, now), None);
    }

    #[test]
    fn a_name_is_slowed_down_whatever_the_address() {
        let mut failures = Failures::default();
        for last in 0..FREE_PER_USER {
            failures.failed("alice", IpAddr::V6(u128::from(last).rotate_left(80).into()), Instant::START);
        }
        assert!(failures.wait("alice", HERE, Instant::START).is_some());
        assert_eq!(failures.wait("bob", HERE, Instant::START), None);
    }

    #[test]
    fn an_ipv6_network_is_one_peer() {
        let mut failures = Failures::default();
        for last in 0..FREE_PER_ADDRESS {
            failures.failed(
                "a",
                IpAddr::V6((0x2001_0db8_u128 << 96 | u128::from(last)).into()),
                Instant::START,
            );
        }
        assert!(failures.wait("b", "2001:db8::ffff".parse().unwrap(), Instant::START).is_some());
        assert_eq!(failures.wait("b", "2001:db8:0:1::".parse().unwrap(), Instant::START), None);
    }

    #[test]
    fn the_tables_are_bounded_and_a_success_clears_the_address() {
        let mut failures = Failures::default();
        for number in 0..3 * MAX_TRACKED as u32 {
            failures.failed(
                &format!("user{number}"),
                IpAddr::V4(number.into()),
                Instant::from_nanos(number.into()),
            );
        }
        assert_eq!(failures.by_address.len(), MAX_TRACKED);
        assert_eq!(failures.by_user.len(), MAX_TRACKED);
        for _ in 0..FREE_PER_ADDRESS {
            failures.failed("x", HERE, Instant::from_nanos(u64::from(u32::MAX)));
        }
        failures.succeeded(HERE);
        assert_eq!(failures.wait("y", HERE, Instant::from_nanos(u64::from(u32::MAX))), None);
    }
}
