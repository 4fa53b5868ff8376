//! What others on the link may send, and what it may cost us.

use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;
use crate::device::{Checksum, FramePool, Instant, NetProperties};
use crate::net::dhcp::{Action, DhcpClient};
use crate::net::engine::Engine;
use crate::net::neighbor::{MAX_INCOMPLETE, MAX_NEIGHBORS};
use crate::net::{IpOutput, checksum, ipv4, ipv6, udp};

const OURS: [u8; 6] = [2, 0, 0, 0, 0, 1];
const THEIRS: [u8; 6] = [2, 0, 0, 0, 0, 2];

fn engine() -> (Engine, FramePool) {
    let configuration = StackConfiguration {
        ipv4: Ipv4Configuration::Static(StaticAddresses {
            addresses: vec!["10.0.0.1/8".parse().unwrap()],
            ..StaticAddresses::default()
        }),
        ..StackConfiguration::default()
    };
    let pool = FramePool::default();
    let properties = NetProperties { mac: OURS, mtu: 1500, offload: OffloadSupport::default() };
    let executor = Executor::new(Rc::new(ManualClock::default()));
    let handle = executor.handle();
    let mut engine =
        Engine::new(&configuration, properties, pool.clone(), Rc::new(SeededEntropy::new(1)), &handle);
    // Past duplicate address detection.
    for seconds in 0..4 {
        engine.poll(Instant::from_nanos(seconds * 1_000_000_000));
    }
    engine.egress.queue.clear();
    engine.egress.recount();
    (engine, pool)
}

fn ethernet(destination: [u8; 6], protocol: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = destination.to_vec();
    bytes.extend(THEIRS);
    bytes.extend(protocol.to_be_bytes());
    bytes.extend(payload);
    bytes
}

fn arp(kind: u8, source: Ipv4Addr, target: Ipv4Addr, mac: [u8; 6]) -> Vec<u8> {
    let mut payload = vec![0, 1, 8, 0, 6, 4, 0, kind];
    payload.extend(mac);
    payload.extend(source.octets());
    payload.extend(OURS);
    payload.extend(target.octets());
    ethernet(OURS, 0x0806, &payload)
}

fn udp_frame(source: Ipv4Addr, destination: Ipv4Addr, port: u16) -> Vec<u8> {
    let mut bytes = vec![0; 28];
    let repr = ipv4::Repr {
        source,
        destination,
        protocol: 17,
        payload_length: 8,
        hop_limit: 64,
        dont_fragment: true,
        identification: 0,
    };
    repr.emit(&mut bytes);
    udp::emit(&mut bytes[20..], 1000, port, &[]);
    let sum = checksum::transport(source.into(), destination.into(), 17, &bytes[20..]);
    bytes[26..].copy_from_slice(&sum.to_be_bytes());
    ethernet(OURS, 0x0800, &bytes)
}

#[test]
fn a_lan_cannot_exhaust_the_neighbor_cache() {
    let (mut engine, pool) = engine();
    let ours = Ipv4Addr::new(10, 0, 0, 1);
    let gateway = Ipv4Addr::new(10, 255, 0, 1);
    engine.receive_frame(pool.copy_of(&arp(1, gateway, ours, THEIRS)));
    for number in 0..100_000_u32 {
        let source = Ipv4Addr::from_bits(0x0a01_0000 + number);
        engine.egress.now = Instant::from_nanos(5_000_000_000 + u64::from(number) * 1000);
        // Questions and claims, and packets that make us ask.
        engine.receive_frame(pool.copy_of(&arp(1, source, ours, THEIRS)));
        engine.receive_frame(pool.copy_of(&arp(2, source, ours, THEIRS)));
        let stranger = Ipv4Addr::from_bits(0x0a80_0000 + number);
        engine.receive_frame(pool.copy_of(&udp_frame(stranger, ours, 9)));
        engine.poll(engine.egress.now);
        engine.egress.queue.clear();
        engine.egress.recount();
    }
    assert!(engine.egress.neighbors.len() <= MAX_NEIGHBORS);
    assert!(engine.egress.neighbors.waiting_bytes() <= MAX_INCOMPLETE * 4 * 600);
    let counters = engine.egress.counters;
    assert!(counters.icmp_errors_sent < 300, "{counters:?}");
    // A stranger whom we have to ask for is still found.
    let friend = Ipv4Addr::new(10, 200, 0, 1);
    engine.send_udp(engine.egress.now, None, 5, (friend, 5).into(), b"hello").unwrap();
    engine.receive_frame(pool.copy_of(&arp(2, friend, ours, THEIRS)));
    assert!(engine.egress.queue.iter().any(|frame| frame.bytes().ends_with(b"hello")));
}

#[test]
fn a_claim_does_not_take_over_a_neighbor_that_answers() {
    let (mut engine, pool) = engine();
    let ours = Ipv4Addr::new(10, 0, 0, 1);
    let friend = Ipv4Addr::new(10, 0, 0, 2);
    let thief = [2, 0, 0, 0, 0, 66];
    engine.send_udp(engine.egress.now, None, 5, (friend, 5).into(), b"1").unwrap();
    engine.receive_frame(pool.copy_of(&arp(2, friend, ours, THEIRS)));
    let destination = |engine: &mut Engine| {
        engine.egress.queue.clear();
        engine.egress.recount();
        engine.send_udp(engine.egress.now, None, 5, (friend, 5).into(), b"2").unwrap();
        let last = engine.egress.queue.iter().find(|frame| frame.bytes().ends_with(b"2"));
        last.map(|frame| frame.bytes()[..6].to_vec())
    };
    assert_eq!(destination(&mut engine), Some(THEIRS.to_vec()));
    engine.receive_frame(pool.copy_of(&arp(1, friend, friend, thief)));
    assert_eq!(destination(&mut engine), Some(THEIRS.to_vec()));
    // The true owner answers the probe; a silent one would be given up.
    engine.receive_frame(pool.copy_of(&arp(2, friend, ours, THEIRS)));
    for seconds in 4..20 {
        engine.poll(Instant::from_nanos(seconds * 1_000_000_000));
    }
    assert_eq!(destination(&mut engine), Some(THEIRS.to_vec()));
}

#[test]
fn martians_are_dropped_and_not_answered() {
    let (mut engine, pool) = engine();
    let ours = Ipv4Addr::new(10, 0, 0, 1);
    let sources =
        ["127.0.0.1", "0.0.0.0", "255.255.255.255", "224.0.0.1", "10.255.255.255", "10.0.0.1", "240.0.0.1"];
    for source in sources {
        engine.receive_frame(pool.copy_of(&udp_frame(source.parse().unwrap(), ours, 9)));
    }
    assert_eq!(engine.egress.counters.martians, sources.len() as u64);
    let friend = Ipv4Addr::new(10, 0, 0, 2);
    for destination in ["127.0.0.1", "0.0.0.0"] {
        engine.receive_frame(pool.copy_of(&udp_frame(friend, destination.parse().unwrap(), 9)));
    }
    assert_eq!(engine.egress.counters.martians, sources.len() as u64 + 2);
    engine.receive_frame(pool.copy_of(&udp_frame(friend, Ipv4Addr::new(10, 0, 0, 3), 9)));
    assert_eq!(engine.egress.counters.not_for_us, 1);
    // A group's port is nobody's fault.
    engine.receive_frame(pool.copy_of(&udp_frame(friend, Ipv4Addr::BROADCAST, 9)));
    assert_eq!(engine.egress.counters.udp_no_port, 1);
    assert!(engine.egress.queue.is_empty() && engine.egress.neighbors.len() == 0);
}

/// An ICMP error about a datagram that we sent from `port`.
fn too_big(mtu: u16, port: u16, to: Ipv4Addr) -> Vec<u8> {
    let ours = Ipv4Addr::new(10, 0, 0, 1);
    let repr = |source, destination, protocol, payload_length| ipv4::Repr {
        source,
        destination,
        protocol,
        payload_length,
        hop_limit: 64,
        dont_fragment: true,
        identification: 0,
    };
    let mut message = vec![3, 4, 0, 0, 0, 0];
    message.extend(mtu.to_be_bytes());
    message.resize(8 + 20 + 8, 0);
    repr(ours, to, 17, 8).emit(&mut message[8..]);
    udp::emit(&mut message[28..], port, 53, &[]);
    let sum = checksum::plain(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut bytes = vec![0; 20];
    repr(Ipv4Addr::new(10, 0, 0, 9), ours, 1, message.len()).emit(&mut bytes);
    bytes.extend(message);
    ethernet(OURS, 0x0800, &bytes)
}

#[test]
fn a_path_narrows_only_for_who_sends_along_it() {
    let (mut engine, pool) = engine();
    let to = Ipv4Addr::new(10, 0, 0, 2);
    let mtu = |engine: &Engine| engine.egress.path_mtu(to.into());
    engine.receive_frame(pool.copy_of(&too_big(1300, 5000, to)));
    assert_eq!(mtu(&engine), 1500, "nobody sends from that port");
    let entropy = SeededEntropy::new(1);
    let _socket = engine.udp.bind(5000.into(), 100_000, &entropy).unwrap();
    engine.receive_frame(pool.copy_of(&too_big(1300, 5000, to)));
    assert_eq!(mtu(&engine), 1300);
    engine.receive_frame(pool.copy_of(&too_big(1, 5000, to)));
    assert_eq!(mtu(&engine), 552);
    // What is larger goes in fragments that fit.
    engine.receive_frame(pool.copy_of(&arp(1, to, Ipv4Addr::new(10, 0, 0, 1), THEIRS)));
    engine.egress.queue.clear();
    engine.egress.recount();
    engine.send_udp(engine.egress.now, None, 5000, (to, 53).into(), &[7; 1200]).unwrap();
    let lengths: Vec<_> = engine.egress.queue.iter().map(Frame::len).filter(|length| *length > 100).collect();
    assert_eq!(lengths.len(), 3);
    assert!(lengths.iter().all(|length| *length <= 552 + 14));
}

/// Frames that are right in parts, so that chance gets past the first checks.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let ipv4 = (any::<[u8; 4]>(), prop_oneof![Just(1_u8), Just(6), Just(17), any::<u8>()], payload())
        .prop_map(|(source, protocol, payload)| {
            let mut bytes = vec![0; 20];
            let repr = ipv4::Repr {
                source: source.into(),
                destination: Ipv4Addr::new(10, 0, 0, 1),
                protocol,
                payload_length: payload.len(),
                hop_limit: 64,
                dont_fragment: false,
                identification: 0,
            };
            repr.emit(&mut bytes);
            bytes.extend(payload);
            ethernet(OURS, 0x0800, &bytes)
        });
    let next =
        prop_oneof![Just(0_u8), Just(43), Just(44), Just(60), Just(58), Just(17), Just(6), any::<u8>()];
    let ipv6 =
        (any::<u16>(), next, payload(), any::<bool>()).prop_map(|(source, next, mut payload, group)| {
            let source = std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, source);
            let ours = "fe80::ff:fe00:1".parse::<std::net::Ipv6Addr>().unwrap();
            let destination = if group { "ff02::1".parse().unwrap() } else { ours };
            if next == 58 && payload.len() > 4 {
                payload[2..4].fill(0);
                let sum = checksum::transport(source.into(), destination.into(), 58, &payload);
                payload[2..4].copy_from_slice(&sum.to_be_bytes());
            }
            let mut bytes = vec![0; 40];
            ipv6::emit(&mut bytes, source, destination, next, payload.len(), 255);
            bytes.extend(payload);
            ethernet(if group { [0x33, 0x33, 0, 0, 0, 1] } else { OURS }, 0x86dd, &bytes)
        });
    let arp = payload().prop_map(|payload| ethernet([0xff; 6], 0x0806, &payload));
    let noise = proptest::collection::vec(any::<u8>(), 0..200);
    prop_oneof![ipv4, ipv6, arp, noise]
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    let kinds = [0_u8, 1, 2, 3, 4, 8, 11, 128, 129, 130, 133, 134, 135, 136, 137, 143];
    let start = prop_oneof![proptest::sample::select(kinds.to_vec()), any::<u8>()];
    (start, any::<bool>(), proptest::collection::vec(any::<u8>(), 0..120)).prop_map(|(kind, code, rest)| {
        let mut bytes = vec![kind, u8::from(code), 0, 0];
        bytes.extend(rest);
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn no_answer_panics_the_dhcp_client(
        options in proptest::collection::vec((any::<u8>(), proptest::collection::vec(any::<u8>(), 0..12)), 0..12),
        kind in 1_u8..9,
        noise in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut client = DhcpClient::new(Instant::START, OURS, Some("skerry".to_owned()));
        let mut now = Instant::START;
        for _ in 0..20 {
            let mut message = match client.poll(now, 7) {
                Some(Action::Broadcast(message) | Action::FromLease(message, _)) => message,
                Some(Action::Configure(lease)) => {
                    prop_assert!(lease.renew_at <= lease.rebind_at && lease.rebind_at <= lease.expires_at);
                    prop_assert!(lease.renew_at > now, "a lease that is extended at once");
                    continue;
                }
                Some(Action::Deconfigure) => continue,
                None => {
                    now = now.max(client.next_deadline());
                    continue;
                }
            };
            message.truncate(240);
            message[0] = 2;
            message[16..20].copy_from_slice(&[10, 0, 0, 50]);
            message.extend([53, 1, kind, 54, 4, 10, 0, 0, 1, 51, 4, 0, 0, 0, 1]);
            for (kind, data) in &options {
                message.extend([*kind, u8::try_from(data.len()).unwrap()]);
                message.extend(data);
            }
            message.push(255);
            for (at, byte) in &noise {
                let at = at.index(message.len());
                message[at] = *byte;
            }
            client.receive(now, &message);
            message[242] = 2;
            client.receive(now, &message);
            message[242] = 5;
            client.receive(now, &message);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_frame_panics_and_none_makes_us_grow(
        frames in proptest::collection::vec((frames(), any::<bool>(), any::<(u16, u16)>()), 1..20),
    ) {
        let (mut engine, pool) = engine();
        for (bytes, partial, (start, offset)) in frames {
            let mut frame = pool.copy_of(&bytes);
            if partial {
                frame.offload.checksum = Checksum::Partial { start, offset };
            }
            engine.receive_frame(frame);
            while let Some(packet) = engine.egress.local.pop_front() {
                engine.receive_local(packet);
            }
            engine.poll(engine.egress.now + Duration::from_millis(700));
        }
        for frame in &engine.egress.queue {
            prop_assert!(frame.len() <= 1514);
        }
    }
}
