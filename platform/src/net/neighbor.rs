//! Neighbours: which Ethernet address an IP address on the link has, for ARP and NDP alike.
//!
//! Reading: RFC 826, RFC 4861 (7.2, 7.3), RFC 1122 (2.3.2), RFC 6583 (exhaustion of the cache by scanning), RFC 5227.
//!
//! The states are RFC 4861's without DELAY: a stale entry is used at once and probed at once. Two rules keep a LAN from
//! taking us over: an entry that is known to be reachable is not overwritten by a claim that nobody asked for, but the
//! old owner is probed and the claimant believed only if it is silent; and what others send us makes entries only where
//! there is room.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use super::IpPacket;
use crate::device::Instant;

/// An Ethernet address.
pub(super) type Mac = [u8; 6];

/// Neighbours known or asked for, at most. A /24 has 254.
pub(super) const MAX_NEIGHBORS: usize = 1024;
/// Of these, addresses that nobody has answered for yet. An outsider who scans our network through us, or sends from
/// invented addresses on it, fills these only.
pub(super) const MAX_INCOMPLETE: usize = 64;
/// Packets that wait for one neighbour. RFC 1122 (2.3.2.2) asks for one at least; a burst of a new flow is a few.
const MAX_WAITING: usize = 4;
/// Bytes of all packets that wait, at most; with segmentation offload one packet may be 64 KiB.
const MAX_WAITING_BYTES: usize = 512 * 1024;
/// How long a neighbour that answered counts as reachable (RFC 4861, REACHABLE_TIME).
const REACHABLE_TIME: Duration = Duration::from_secs(30);
/// Between two solicitations (RFC 4861, RETRANS_TIMER).
const RETRANSMIT_TIME: Duration = Duration::from_secs(1);
/// Solicitations without an answer, after which a neighbour counts as gone (MAX_MULTICAST_SOLICIT, MAX_UNICAST_SOLICIT).
const MAX_SOLICITATIONS: u8 = 3;
/// How long an entry that nobody uses stays.
const UNUSED_TIME: Duration = Duration::from_secs(600);

/// A question to be asked on the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Solicitation {
    pub target: IpAddr,
    /// Whom to ask: one host to be probed, or everybody.
    pub to: Option<Mac>,
}

/// What a packet on the link said of a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// It answered a question of ours (an ARP reply to us, a solicited NA).
    Answer {
        /// NA without the override flag does not change a known address (RFC 4861, 7.2.5).
        overrides: bool,
    },
    /// It asked us something, so we shall likely need it.
    Question,
    /// Nobody asked.
    Announcement,
}

enum State {
    Incomplete { asked: u8, waiting: VecDeque<IpPacket> },
    Reachable(Mac),
    Stale(Mac),
    Probe { mac: Mac, asked: u8 },
}

struct Entry {
    state: State,
    used: Instant,
    deadline: Instant,
}

/// The neighbours of an interface. Sans-IO: what is to be asked, sent or given up lies in its queues.
pub(super) struct NeighborCache {
    entries: BTreeMap<IpAddr, Entry>,
    deadlines: BTreeSet<(Instant, IpAddr)>,
    incomplete: usize,
    waiting_bytes: usize,
    /// Questions to be asked.
    pub solicitations: VecDeque<Solicitation>,
    /// Packets whose neighbour has become known.
    pub resolved: VecDeque<(IpPacket, Mac)>,
    /// Packets whose neighbour did not answer.
    pub failed: VecDeque<IpPacket>,
}

impl NeighborCache {
    pub(super) fn new() -> Self {
        Self {
            entries: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            incomplete: 0,
            waiting_bytes: 0,
            solicitations: VecDeque::new(),
            resolved: VecDeque::new(),
            failed: VecDeque::new(),
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of packets that wait for neighbours.
    #[cfg(test)]
    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// The Ethernet address of `address`, if it is known.
    pub(super) fn lookup(&mut self, now: Instant, address: IpAddr) -> Option<Mac> {
        let entry = self.entries.get_mut(&address)?;
        entry.used = now;
        match entry.state {
            State::Reachable(mac) | State::Probe { mac, .. } => Some(mac),
            State::Stale(mac) => {
                self.probe(now, address, mac);
                Some(mac)
            }
            State::Incomplete { .. } => None,
        }
    }

    /// Whether a packet to `address` would likely arrive: it is not known to be silent.
    pub(super) fn is_reachable(&self, address: IpAddr) -> bool {
        self.entries.get(&address).is_some_and(|entry| match entry.state {
            State::Reachable(_) | State::Stale(_) => true,
            State::Probe { asked, .. } => asked < MAX_SOLICITATIONS,
            State::Incomplete { .. } => false,
        })
    }

    /// Lets `packet` wait for `address`, which [`NeighborCache::lookup`] did not know. What has waited longest makes room.
    pub(super) fn wait_for(&mut self, now: Instant, address: IpAddr, packet: IpPacket) {
        if !self.entries.contains_key(&address) {
            if self.incomplete >= MAX_INCOMPLETE {
                self.drop_oldest_incomplete();
            }
            self.make_room();
            self.solicitations.push_back(Solicitation { target: address, to: None });
            self.incomplete += 1;
            let state = State::Incomplete { asked: 1, waiting: VecDeque::new() };
            self.insert(now, address, state, now + RETRANSMIT_TIME);
        }
        let Some(Entry { state: State::Incomplete { waiting, .. }, .. }) = self.entries.get_mut(&address)
        else {
            return;
        };
        self.waiting_bytes += packet.frame.len();
        waiting.push_back(packet);
        while waiting.len() > MAX_WAITING || self.waiting_bytes > MAX_WAITING_BYTES {
            let Some(oldest) = waiting.pop_front() else { break };
            self.waiting_bytes -= oldest.frame.len();
            self.failed.push_back(oldest);
        }
    }

    /// Learns from a packet on the link that `address` claims to be at `mac`.
    pub(super) fn learn(&mut self, now: Instant, address: IpAddr, mac: Mac, claim: Claim) {
        let Some(entry) = self.entries.get_mut(&address) else {
            // What others send makes no room for itself.
            if claim == Claim::Question && self.entries.len() < MAX_NEIGHBORS {
                self.insert(now, address, State::Stale(mac), now + UNUSED_TIME);
            }
            return;
        };
        match (&mut entry.state, claim) {
            (State::Incomplete { waiting, .. }, _) => {
                for packet in core::mem::take(waiting) {
                    self.waiting_bytes -= packet.frame.len();
                    self.resolved.push_back((packet, mac));
                }
                self.incomplete -= 1;
                match claim {
                    Claim::Answer { .. } => self.set(address, State::Reachable(mac), now + REACHABLE_TIME),
                    Claim::Question | Claim::Announcement => {
                        self.set(address, State::Stale(mac), now + UNUSED_TIME);
                    }
                }
            }
            (State::Probe { mac: known, .. }, Claim::Answer { overrides }) if overrides || *known == mac => {
                self.set(address, State::Reachable(mac), now + REACHABLE_TIME);
            }
            (State::Stale(known), Claim::Answer { .. }) if *known == mac => {
                self.set(address, State::Reachable(mac), now + REACHABLE_TIME);
            }
            (State::Reachable(known), _) if *known == mac => {
                if matches!(claim, Claim::Answer { .. }) {
                    self.set(address, State::Reachable(mac), now + REACHABLE_TIME);
                }
            }
            (State::Stale(known), _) => *known = mac,
            // Somebody else claims a reachable neighbour's address: ask the one we know.
            (State::Reachable(known), _) => {
                let known = *known;
                self.probe(now, address, known);
            }
            (State::Probe { .. }, _) => {}
        }
    }

    /// Handles what has come due: asks again, gives up, forgets.
    pub(super) fn poll(&mut self, now: Instant) {
        while let Some((_, address)) =
            self.deadlines.first().copied().filter(|(deadline, _)| *deadline <= now)
        {
            let Some(entry) = self.entries.get_mut(&address) else { break };
            let unused = now.since(entry.used) >= UNUSED_TIME;
            match &mut entry.state {
                State::Incomplete { asked, .. } if *asked < MAX_SOLICITATIONS => {
                    *asked += 1;
                    self.solicitations.push_back(Solicitation { target: address, to: None });
                    self.reschedule(address, now + RETRANSMIT_TIME);
                }
                State::Probe { mac, asked } if *asked < MAX_SOLICITATIONS => {
                    *asked += 1;
                    let to = Some(*mac);
                    self.solicitations.push_back(Solicitation { target: address, to });
                    self.reschedule(address, now + RETRANSMIT_TIME);
                }
                State::Incomplete { .. } | State::Probe { .. } => self.remove(address),
                State::Reachable(mac) => {
                    let mac = *mac;
                    self.set(address, State::Stale(mac), now + UNUSED_TIME);
                }
                State::Stale(_) if unused => self.remove(address),
                State::Stale(_) => {
                    let deadline = entry.used + UNUSED_TIME;
                    self.reschedule(address, deadline.max(now + RETRANSMIT_TIME));
                }
            }
        }
    }

    /// When [`NeighborCache::poll`] next has something to do.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    fn probe(&mut self, now: Instant, address: IpAddr, mac: Mac) {
        self.solicitations.push_back(Solicitation { target: address, to: Some(mac) });
        self.set(address, State::Probe { mac, asked: 1 }, now + RETRANSMIT_TIME);
    }

    fn insert(&mut self, now: Instant, address: IpAddr, state: State, deadline: Instant) {
        self.entries.insert(address, Entry { state, used: now, deadline });
        self.deadlines.insert((deadline, address));
    }

    fn set(&mut self, address: IpAddr, state: State, deadline: Instant) {
        if let Some(entry) = self.entries.get_mut(&address) {
            entry.state = state;
        }
        self.reschedule(address, deadline);
    }

    fn reschedule(&mut self, address: IpAddr, deadline: Instant) {
        if let Some(entry) = self.entries.get_mut(&address) {
            self.deadlines.remove(&(entry.deadline, address));
            entry.deadline = deadline;
            self.deadlines.insert((deadline, address));
        }
    }

    fn remove(&mut self, address: IpAddr) {
        let Some(entry) = self.entries.remove(&address) else { return };
        self.deadlines.remove(&(entry.deadline, address));
        if let State::Incomplete { waiting, .. } = entry.state {
            self.incomplete -= 1;
            self.waiting_bytes -= waiting.iter().map(|packet| packet.frame.len()).sum::<usize>();
            self.failed.extend(waiting);
        }
    }

    fn drop_oldest_incomplete(&mut self) {
        let oldest = self
            .entries
            .iter()
            .filter(|(_, entry)| matches!(entry.state, State::Incomplete { .. }))
            .min_by_key(|(_, entry)| entry.used)
            .map(|(address, _)| *address);
        oldest.into_iter().for_each(|address| self.remove(address));
    }

    /// Forgets the neighbour used longest ago, one in use the last.
    fn make_room(&mut self) {
        if self.entries.len() < MAX_NEIGHBORS {
            return;
        }
        let oldest = self
            .entries
            .iter()
            .min_by_key(|(_, entry)| (!matches!(entry.state, State::Stale(_)), entry.used))
            .map(|(address, _)| *address);
        oldest.into_iter().for_each(|address| self.remove(address));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::FramePool;

    const MAC: Mac = [2, 0, 0, 0, 0, 9];

    fn friend(number: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, number])
    }

    fn packet() -> IpPacket {
        let frame = FramePool::default().copy_of(&[0; 100]);
        IpPacket { source: friend(1), destination: friend(2), protocol: 17, header_length: 20, frame }
    }

    fn seconds(seconds: u64) -> Instant {
        Instant::START + Duration::from_secs(seconds)
    }

    fn questions(cache: &mut NeighborCache) -> Vec<Option<Mac>> {
        cache.solicitations.drain(..).map(|question| question.to).collect()
    }

    #[test]
    fn packets_wait_for_an_answer_and_fail_without_one() {
        let mut cache = NeighborCache::new();
        for _ in 0..6 {
            assert_eq!(cache.lookup(seconds(0), friend(2)), None);
            cache.wait_for(seconds(0), friend(2), packet());
        }
        assert_eq!(questions(&mut cache), [None]);
        assert_eq!(cache.failed.len(), 2, "four wait, the oldest give way");
        cache.learn(seconds(0), friend(2), MAC, Claim::Answer { overrides: true });
        assert_eq!(cache.resolved.len(), 4);
        assert_eq!(cache.waiting_bytes(), 0);
        cache.wait_for(seconds(0), friend(3), packet());
        for now in 1..=3 {
            cache.poll(seconds(now));
        }
        assert_eq!(questions(&mut cache), [None; 3]);
        assert_eq!(cache.failed.len(), 3);
        assert_eq!(cache.len(), 1);
    }

    #[test]
    fn a_neighbor_in_use_is_probed_and_forgotten_when_it_is_silent() {
        let mut cache = NeighborCache::new();
        cache.wait_for(seconds(0), friend(2), packet());
        cache.learn(seconds(0), friend(2), MAC, Claim::Answer { overrides: true });
        questions(&mut cache);
        cache.poll(seconds(31));
        assert_eq!(questions(&mut cache), [], "nobody asks before it is used again");
        assert_eq!(cache.lookup(seconds(40), friend(2)), Some(MAC));
        cache.poll(seconds(41));
        cache.poll(seconds(42));
        assert_eq!(questions(&mut cache), [Some(MAC); 3]);
        assert_eq!(cache.lookup(seconds(42), friend(2)), Some(MAC));
        cache.poll(seconds(43));
        assert_eq!(cache.lookup(seconds(43), friend(2)), None);
        assert!(cache.next_deadline().is_none());
    }

    #[test]
    fn an_unused_neighbor_is_forgotten() {
        let mut cache = NeighborCache::new();
        cache.learn(seconds(0), friend(2), MAC, Claim::Question);
        cache.learn(seconds(0), friend(3), MAC, Claim::Announcement);
        assert_eq!(cache.len(), 1, "announcements make no entries");
        cache.poll(seconds(600));
        assert_eq!(cache.len(), 0);
    }

    #[test]
    fn what_is_in_use_is_forgotten_last() {
        let mut cache = NeighborCache::new();
        cache.wait_for(seconds(0), friend(2), packet());
        cache.learn(seconds(0), friend(2), MAC, Claim::Answer { overrides: true });
        for number in 0..u32::try_from(MAX_NEIGHBORS).unwrap() {
            cache.learn(seconds(1), IpAddr::V4((0x0a01_0000 + number).into()), MAC, Claim::Question);
        }
        assert_eq!(cache.len(), MAX_NEIGHBORS);
        cache.wait_for(seconds(2), friend(3), packet());
        assert_eq!(cache.len(), MAX_NEIGHBORS);
        assert_eq!(cache.lookup(seconds(2), friend(2)), Some(MAC));
    }
}
