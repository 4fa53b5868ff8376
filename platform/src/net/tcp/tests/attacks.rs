//! What strangers can and cannot do to a connection, and to the engine.

use core::cell::RefCell;
use core::net::{Ipv4Addr, SocketAddr};
use core::time::Duration;
use std::rc::Rc;

use futures_util::future::join;

use super::segment::{Control, ControlSegment, SynOptions, seal};
use super::sequence::Sequence;
use super::*;
use crate::device::{Entropy, FramePool};

/// What an eavesdropper would know of a connection: the numbers of the last segment that the client sent.
#[derive(Clone, Copy)]
struct Overheard {
    client: SocketAddr,
    server: SocketAddr,
    /// The client's next sequence number, which the server expects.
    next: u32,
    acknowledgment: u32,
}

impl Overheard {
    fn listen(pair: &Pair) -> Rc<RefCell<Option<Self>>> {
        let overheard = Rc::new(RefCell::new(None));
        let kept = Rc::clone(&overheard);
        let addresses = (pair.client.address(), pair.server.address());
        pair.set_filter(move |packet, from| {
            let start = if packet[0] >> 4 == 4 { 20 } else { 40 };
            let header = smoltcp::wire::TcpPacket::new_unchecked(&packet[start..]);
            if from == 0 {
                let length = header.segment_len();
                *kept.borrow_mut() = Some(Self {
                    client: (addresses.0, header.src_port()).into(),
                    server: (addresses.1, header.dst_port()).into(),
                    next: header.seq_number().0.cast_unsigned().wrapping_add(length as u32),
                    acknowledgment: header.ack_number().0.cast_unsigned(),
                });
            }
            true
        });
        overheard
    }

    /// A segment as if from the client.
    fn forge(&self, control: Control, ahead: i64, acknowledgment: Option<u32>) -> Vec<u8> {
        let sequence = Sequence((i64::from(self.next) + ahead) as u32);
        forge(self.client, self.server, control, sequence, acknowledgment.map(Sequence), &[])
    }
}

fn forge(
    from: SocketAddr,
    to: SocketAddr,
    control: Control,
    sequence: Sequence,
    acknowledgment: Option<Sequence>,
    payload: &[u8],
) -> Vec<u8> {
    let options = (control == Control::Syn).then_some(SynOptions { mss: 1460, scale: Some(7), sack: true });
    let segment = ControlSegment { control, sequence, acknowledgment, window: 1000, options };
    let length = segment.packet_length(from, to);
    let mut frame = FramePool::default().frame(length + payload.len());
    let header_length = segment.emit(from, to, frame.append(length));
    frame.append(payload.len()).copy_from_slice(payload);
    let total = frame.len();
    let bytes = frame.bytes_mut();
    if from.is_ipv4() {
        bytes[2..4].copy_from_slice(&(total as u16).to_be_bytes());
        smoltcp::wire::Ipv4Packet::new_unchecked(&mut *bytes).fill_checksum();
    } else {
        bytes[4..6].copy_from_slice(&((total - 40) as u16).to_be_bytes());
    }
    seal(&mut frame, from.ip(), to.ip(), header_length, false);
    frame.bytes().to_vec()
}

/// An established connection and what was overheard of it.
fn overheard_connection(seed: u64) -> (Pair, TcpStream, TcpStream, Overheard) {
    let pair = pair(seed, Link::default());
    let overheard = Overheard::listen(&pair);
    let listener = pair.server.listen(80, 16).unwrap();
    let connect = pair.client.connect(&pair.server, 80);
    let (client, server) = pair.run(async move {
        let (mut client, mut server) = connected(connect, &listener).await;
        client.write_all(b"hello").await.unwrap();
        server.read_exact(&mut [0; 5]).await.unwrap();
        (client, server)
    });
    pair.run_for(Duration::from_secs(1));
    let overheard = overheard.borrow().unwrap();
    (pair, client, server, overheard)
}

#[test]
fn a_reset_in_the_window_is_challenged_and_an_exact_one_ends_the_connection() {
    for seed in [0, 1] {
        let (pair, mut client, mut server, overheard) = overheard_connection(seed);
        for ahead in [1, 10, 4000] {
            pair.inject(&overheard.forge(Control::Reset, ahead, None), 1);
            pair.run_for(Duration::from_secs(1));
        }
        assert_eq!(pair.server.counters().challenge_acks, 3);
        for outside in [-1, -1000, 100_000, 1 << 31] {
            pair.inject(&overheard.forge(Control::Reset, outside, None), 1);
            pair.run_for(Duration::from_secs(1));
        }
        assert_eq!(pair.server.counters().challenge_acks, 3);
        let (_client, mut server) = pair.run(async move {
            client.write_all(b"x").await.unwrap();
            server.read_exact(&mut [0]).await.unwrap();
            (client, server)
        });
        pair.inject(&overheard.forge(Control::Reset, 1, None), 1);
        let error = pair.run(async move { server.read(&mut [0]).await.err().map(|error| error.kind()) });
        assert_eq!(error, Some(io::ErrorKind::ConnectionReset));
        assert_eq!(pair.server.counters().resets_received, 1);
    }
}

#[test]
fn a_syn_in_a_connection_is_challenged_and_the_challenges_are_few() {
    let (pair, _client, mut server, overheard) = overheard_connection(0);
    for _ in 0..100 {
        pair.inject(&overheard.forge(Control::Syn, 5, None), 1);
    }
    pair.run_for(Duration::from_millis(100));
    assert_eq!(pair.server.counters().challenge_acks, 1);
    let nothing =
        pair.run(async move { futures_util::poll!(core::pin::pin!(server.read(&mut [0]))).is_pending() });
    assert!(nothing);
}

#[test]
fn data_with_an_acknowledgment_from_nowhere_is_not_taken() {
    let (pair, _client, mut server, overheard) = overheard_connection(0);
    for guess in [1u32, 1000, 1 << 30, 1 << 31, 3 << 30] {
        let acknowledgment = Sequence(overheard.acknowledgment.wrapping_add(guess));
        let evil = forge(
            overheard.client,
            overheard.server,
            Control::None,
            Sequence(overheard.next),
            Some(acknowledgment),
            b"evil",
        );
        pair.inject(&evil, 1);
        pair.run_for(Duration::from_secs(1));
    }
    let nothing =
        pair.run(async move { futures_util::poll!(core::pin::pin!(server.read(&mut [0; 4]))).is_pending() });
    assert!(nothing);
}

fn ipv4(address: core::net::IpAddr) -> Ipv4Addr {
    match address {
        core::net::IpAddr::V4(address) => address,
        core::net::IpAddr::V6(_) => unreachable!("the pair was made with IPv4"),
    }
}

#[test]
fn a_flood_of_syns_costs_bounded_memory_and_real_clients_get_in() {
    let limits = TcpLimits { half_open: 64, ..TcpLimits::default() };
    let pair = Pair::new(0, Link::default(), false, limits);
    let client = pair.client.address();
    // The forged addresses belong to nobody who would answer.
    pair.set_filter(move |packet, from| from == 0 || packet[16..20] == ipv4(client).octets());
    let listener = Rc::new(pair.server.listen(80, 64).unwrap());
    let target = SocketAddr::new(pair.server.address(), 80);
    let random = SeededEntropy::new(5);
    let flood = |count: usize| {
        for _ in 0..count {
            let number = random.next_u64();
            let from =
                SocketAddr::new(Ipv4Addr::from(0x0a00_0000 | number as u32 >> 8).into(), number as u16 | 1);
            pair.inject(&forge(from, target, Control::Syn, Sequence((number >> 32) as u32), None, &[]), 1);
        }
        pair.run_for(Duration::from_millis(100));
    };
    flood(5000);
    let counters = pair.server.counters();
    assert!(counters.flows <= 64, "{counters:?}");
    assert!(counters.cookies_sent >= 4900, "{counters:?}");
    for round in 0..20 {
        flood(200);
        let connect = pair.client.connect(&pair.server, 80);
        let bytes = pattern(round, 50_000);
        let expected = bytes.clone();
        let accepted = listener.clone();
        let (received, _server) = pair.run(async move {
            let (client, mut server) = connected(connect, &accepted).await;
            let (_client, received) = join(send_all(client, bytes), read_all(&mut server)).await;
            (received.unwrap(), server)
        });
        assert!(received == expected);
    }
    let counters = pair.server.counters();
    assert!(counters.cookies_accepted >= 1, "{counters:?}");
    // Without the flood the half-open ones go away.
    pair.run_for(limits::HANDSHAKE_TIMEOUT + Duration::from_secs(1));
    pair.run_for(limits::TIME_WAIT);
    assert_eq!(pair.server.counters().flows, 0);
}

#[test]
fn bare_acknowledgments_out_of_nothing_are_refused_at_a_bounded_rate() {
    let pair = pair(0, Link::default());
    let _listener = pair.server.listen(80, 64).unwrap();
    for port in 1..2000 {
        let from = SocketAddr::new(pair.client.address(), port);
        let to = SocketAddr::new(pair.server.address(), if port % 2 == 0 { 80 } else { 81 });
        let bytes = forge(from, to, Control::None, Sequence(1), Some(Sequence(u32::from(port))), b"x");
        pair.inject(&bytes, 1);
    }
    pair.run_for(Duration::from_millis(500));
    let counters = pair.server.counters();
    assert_eq!(counters.resets_sent, u64::from(limits::RESETS_PER_SECOND));
    // The client does not answer resets with resets.
    assert_eq!((counters.flows, pair.client.counters().resets_sent), (0, 0));
}

/// The length of the largest packet that the client sends from now on.
fn largest_from_client(pair: &Pair) -> Rc<RefCell<usize>> {
    let largest = Rc::new(RefCell::new(0));
    let kept = Rc::clone(&largest);
    pair.set_filter(move |packet, from| {
        if from == 0 {
            let mut largest = kept.borrow_mut();
            *largest = (*largest).max(packet.len());
        }
        true
    });
    largest
}

#[test]
fn a_forged_packet_too_big_is_ignored_and_a_true_one_believed() {
    for seed in [0, 1] {
        let (pair, client, server, overheard) = overheard_connection(seed);
        let quote = |sequence: u32| {
            let mut quote = [0; 8];
            quote[..2].copy_from_slice(&overheard.client.port().to_be_bytes());
            quote[2..4].copy_from_slice(&overheard.server.port().to_be_bytes());
            quote[4..].copy_from_slice(&sequence.to_be_bytes());
            quote
        };
        // Nothing is in flight: whatever the number, it is forged.
        for sequence in [overheard.next, overheard.next.wrapping_sub(1), 0] {
            pair.too_big(&pair.client, &pair.server, &quote(sequence), 600);
        }
        assert_eq!(pair.client.counters().icmp_ignored, 3);
        let largest = largest_from_client(&pair);
        let bytes = pattern(1, 50_000);
        let (mut client, mut server) = pair.run(carry(client, server, bytes.clone()));
        assert_eq!(*largest.borrow(), 1496);
        // Now the path is narrow, and the link says so of what is in flight.
        pair.set_link(|link| link.path_mtu = 1280);
        (client, server) = pair.run(carry(client, server, bytes.clone()));
        let largest = largest_from_client(&pair);
        pair.run(carry(client, server, bytes));
        assert_eq!(*largest.borrow(), 1280);
    }
}

/// Sends bytes and checks that they arrive.
async fn carry(mut client: TcpStream, mut server: TcpStream, bytes: Vec<u8>) -> (TcpStream, TcpStream) {
    let mut received = vec![0; bytes.len()];
    let write = async { client.write_all(&bytes).await.unwrap() };
    join(write, async { server.read_exact(&mut received).await.unwrap() }).await;
    assert!(received == bytes);
    (client, server)
}

/// Segments of all kinds around the window, from someone who knows the connection: none may bring the engine down, and
/// memory stays within bounds.
#[test]
fn no_segment_brings_the_engine_down() {
    for seed in 0..200 {
        let (pair, client, server, overheard) = overheard_connection(seed);
        let random = SeededEntropy::new(seed);
        let below = |limit: u64| random.next_u64() % limit;
        for _ in 0..200 {
            let control =
                [Control::None, Control::None, Control::None, Control::Fin, Control::Syn, Control::Reset]
                    [below(6) as usize];
            let ahead = [below(20), below(5000), below(1 << 32)][below(3) as usize] as i64 - below(10) as i64;
            // An exact reset would end the test early.
            let ahead = if control == Control::Reset && ahead == 0 { 1 } else { ahead };
            let acknowledgment =
                overheard.acknowledgment.wrapping_add(below(3) as u32).wrapping_sub(below(3) as u32);
            let acknowledgment = (below(10) > 0).then_some(Sequence(acknowledgment));
            let payload =
                pattern(seed, [0, below(20), below(1400), below(60_000)][below(4) as usize] as usize);
            let sequence = Sequence((i64::from(overheard.next) + ahead) as u32);
            let segment =
                forge(overheard.client, overheard.server, control, sequence, acknowledgment, &payload);
            pair.inject(&segment, 1);
            if below(4) == 0 {
                pair.run_for(Duration::from_millis(below(3000)));
            }
        }
        pair.run_for(Duration::from_secs(600));
        assert!(pair.server.counters().buffer_bytes <= TcpLimits::default().buffer_memory as u64);
        drop((client, server));
    }
}

/// Bytes that are no segment at all.
#[test]
fn malformed_packets_are_counted_and_dropped() {
    let pair = pair(0, Link::default());
    let from = SocketAddr::new(pair.client.address(), 1000);
    let to = SocketAddr::new(pair.server.address(), 80);
    let good = forge(from, to, Control::Syn, Sequence(1), None, &[]);
    for length in 20..good.len() {
        pair.inject(&good[..length], 1);
    }
    for bit in 8 * 20..8 * good.len() {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        pair.inject(&bad, 1);
    }
    pair.run_for(Duration::from_secs(1));
    let all = (good.len() - 20) + 8 * (good.len() - 20);
    assert_eq!(pair.server.counters().malformed, all as u64);
    assert_eq!(pair.server.counters().flows, 0);
}
