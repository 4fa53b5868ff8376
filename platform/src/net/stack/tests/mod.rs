//! Whole stacks on simulated links, and against scripted peers.

use super::*;
use crate::device::{
    FaultInjector, FaultRates, LinkEnd, LinkProperties, ManualClock, OffloadSupport, SeededEntropy, link,
};
use crate::executor::Executor;
use crate::host::SimulatedHost;
use crate::net::{Ipv4Configuration, Ipv6Configuration, StaticAddresses};
use core::time::Duration;
use futures_util::{AsyncReadExt, AsyncWriteExt};

fn simulate<T: 'static, F: Future<Output = T> + 'static>(main: impl FnOnce(Handle) -> F) -> T {
    let clock = Rc::new(ManualClock::default());
    let executor = Executor::new(clock.clone());
    let main = main(executor.handle());
    executor.run(&SimulatedHost::new(clock), main).expect("main does not panic")
}

fn static_node(handle: &Handle, end: impl Net + 'static, addresses: &[&str], gateways: &[&str]) -> Stack {
    let family = |ipv4: bool| StaticAddresses {
        addresses: addresses
            .iter()
            .map(|text| text.parse::<crate::net::Cidr>().unwrap())
            .filter(|cidr| cidr.address().is_ipv4() == ipv4)
            .collect(),
        gateways: gateways
            .iter()
            .map(|text| text.parse::<std::net::IpAddr>().unwrap())
            .filter(|gateway| gateway.is_ipv4() == ipv4)
            .collect(),
        routes: Vec::new(),
    };
    let configuration = StackConfiguration {
        ipv4: Ipv4Configuration::Static(family(true)),
        ipv6: Ipv6Configuration::Static(family(false)),
        ..StackConfiguration::default()
    };
    let entropy = Rc::new(SeededEntropy::new(u64::from(end.properties().mac[5])));
    Stack::new(handle, entropy, Box::new(end), &configuration)
}

fn pair(handle: &Handle, seed: u64, properties: LinkProperties) -> (Stack, Stack) {
    let (left, right) = link(handle, seed, properties);
    (
        static_node(handle, left, &["10.0.0.1/24", "2001:db8::1/64"], &["10.0.0.2"]),
        static_node(handle, right, &["10.0.0.2/24", "2001:db8::2/64"], &["10.0.0.1"]),
    )
}

/// A node without a stack, that a test writes frames for.
struct Scripted {
    net: LinkEnd,
}

impl Scripted {
    async fn receive(&mut self) -> Vec<u8> {
        let mut frames = Vec::new();
        poll_fn(|context| self.net.poll_receive(context, &mut frames, 1)).await;
        frames[0].bytes().to_vec()
    }

    /// The next frame that `accept` makes something of.
    async fn expect<T>(&mut self, accept: impl Fn(&[u8]) -> Option<T>) -> T {
        loop {
            if let Some(found) = accept(&self.receive().await) {
                return found;
            }
        }
    }

    async fn send(&mut self, bytes: &[u8]) {
        let mut frames = std::collections::VecDeque::from([self.net.pool().copy_of(bytes)]);
        poll_fn(|context| {
            self.net.transmit(context, &mut frames);
            if frames.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// Answers every datagram with itself.
async fn echo(socket: UdpSocket) {
    while let Ok(datagram) = socket.receive().await {
        socket.reply(&datagram, datagram.payload()).await.unwrap();
    }
}

#[test]
fn nodes_ping_each_other() {
    simulate(|handle| async move {
        let (left, _right) = pair(&handle, 1, LinkProperties::default());
        left.ready().await;
        let first = left.ping("10.0.0.2".parse().unwrap(), 56).await.unwrap();
        let second = left.ping("10.0.0.2".parse().unwrap(), 1400).await.unwrap();
        assert!(first >= Duration::from_micros(400), "with ARP before it: {first:?}");
        assert!(second < Duration::from_millis(5), "{second:?}");
        let local = left.ping("10.0.0.1".parse().unwrap(), 9000).await.unwrap();
        assert_eq!(local, Duration::ZERO);
        left.ping("127.0.0.1".parse().unwrap(), 56).await.unwrap();
        let nobody =
            handle.timeout(Duration::from_secs(9), left.ping("10.0.0.77".parse().unwrap(), 56)).await;
        assert!(nobody.is_err());
    });
}

async fn exchange(socket: &UdpSocket, to: &str, lengths: &[usize]) {
    let to: SocketAddr = to.parse().unwrap();
    for length in lengths {
        let payload: Vec<u8> = (0..*length).map(|index| u8::try_from(index % 251).unwrap()).collect();
        socket.send_to(&payload, to).await.unwrap();
        let datagram = socket.receive().await.unwrap();
        assert_eq!(datagram.payload(), payload);
        assert_eq!(datagram.source, to);
    }
}

#[test]
fn udp_echoes_in_both_families_with_fragments_and_offloads() {
    for transmit_checksum in [false, true] {
        simulate(move |handle| async move {
            let offload = OffloadSupport { transmit_checksum, receive: true, ..OffloadSupport::default() };
            let (left, right) = pair(&handle, 1, LinkProperties { offload, ..LinkProperties::default() });
            handle.spawn(echo(right.bind_udp(7).unwrap()));
            let socket = left.bind_udp(0).unwrap();
            exchange(&socket, "10.0.0.2:7", &[0, 1, 1472, 1473, 9000, 65_507]).await;
            verified(&left).await;
            verified(&right).await;
            exchange(&socket, "[2001:db8::2]:7", &[0, 1, 1452, 1453, 9000, 65_487]).await;
            assert_eq!(right.counters().reassembled, 6);
            assert_eq!(right.counters().reassembly_failed, 0);
            assert_eq!(right.counters().checksum_errors, 0);
            handle.spawn(echo(left.bind_udp(7).unwrap()));
            exchange(&socket, "127.0.0.1:7", &[0, 9000]).await;
            exchange(&socket, "[2001:db8::1]:7", &[0, 9000]).await;
        });
    }
}

/// Completes once no address is tentative.
async fn verified(stack: &Stack) {
    while stack.addresses().iter().any(|known| known.state == AddressState::Tentative) {
        stack.shared.handle.sleep(Duration::from_millis(10)).await;
    }
}

#[test]
fn nodes_ping_each_other_over_ipv6() {
    simulate(|handle| async move {
        let (left, right) = pair(&handle, 1, LinkProperties::default());
        verified(&left).await;
        verified(&right).await;
        for to in ["2001:db8::2", "fe80::ff:fe00:2", "2001:db8::1", "::1"] {
            left.ping(to.parse().unwrap(), 1400).await.unwrap();
        }
        left.ping("2001:db8::2".parse().unwrap(), 30_000).await.unwrap();
    });
}

#[test]
fn the_same_address_twice_on_a_link_is_noticed() {
    simulate(|handle| async move {
        let (left, right) = link(&handle, 1, LinkProperties::default());
        let left = static_node(&handle, left, &["2001:db8::1/64", "10.0.0.1/24"], &[]);
        verified(&left).await;
        let right = static_node(&handle, right, &["2001:db8::1/64", "10.0.0.1/24"], &[]);
        handle.sleep(Duration::from_secs(3)).await;
        let state = |stack: &Stack| {
            let ours = |known: &&AssignedAddress| known.cidr.to_string() == "2001:db8::1/64";
            stack.addresses().iter().find(ours).map(|known| known.state)
        };
        assert_eq!(state(&left), Some(AddressState::Preferred));
        assert_eq!(state(&right), Some(AddressState::Duplicate));
        assert!(left.counters().address_conflicts > 0);
    });
}

#[test]
fn unreachable_ports_and_hosts_are_reported() {
    simulate(|handle| async move {
        let (left, _right) = pair(&handle, 1, LinkProperties::default());
        let socket = left.bind_udp(0).unwrap();
        for (to, error) in [
            ("10.0.0.2:9", io::ErrorKind::ConnectionRefused),
            ("10.0.0.77:9", io::ErrorKind::HostUnreachable),
        ] {
            let to = to.parse().unwrap();
            socket.connect(to);
            socket.send_to(b"?", to).await.unwrap();
            assert_eq!(socket.receive().await.unwrap_err().kind(), error);
        }
        let none = socket.send_to(b"?", "[2001:db8:1::1]:9".parse().unwrap()).await;
        assert_eq!(none.unwrap_err().kind(), io::ErrorKind::NetworkUnreachable);
        assert_eq!(left.bind_udp(socket.local().port()).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    });
}

#[test]
fn a_bad_link_loses_datagrams_and_corrupts_none() {
    let mut total = 0;
    for seed in 0..300 {
        total += simulate(move |handle| async move {
            let properties = LinkProperties {
                loss: 6_000,
                duplication: 3_000,
                jitter: Duration::from_millis(3),
                ..LinkProperties::default()
            };
            let (left, right) = pair(&handle, seed, properties);
            handle.spawn(echo(right.bind_udp(7).unwrap()));
            let socket = left.bind_udp(0).unwrap();
            let mut answered = 0;
            for number in 0..30_u16 {
                let payload = number.to_be_bytes().repeat(1 + usize::from(number) * 50);
                socket.send_to(&payload, "10.0.0.2:7".parse().unwrap()).await.unwrap();
                while let Ok(datagram) = handle.timeout(Duration::from_millis(10), socket.receive()).await {
                    let datagram = datagram.unwrap();
                    let [a, b, ..] = datagram.payload() else { panic!("too short") };
                    let number = u16::from_be_bytes([*a, *b]);
                    assert_eq!(datagram.payload(), number.to_be_bytes().repeat(1 + usize::from(number) * 50));
                    answered += 1;
                }
            }
            answered
        });
    }
    assert!(total > 300 * 8, "{total} of 9,000");
}

/// Writes `length` bytes to a TCP port that echoes, and checks what comes back.
async fn exchange_stream(stack: &Stack, to: &str, length: usize) {
    // On a bad link the few questions and segments of an attempt may all be lost.
    let lost = [io::ErrorKind::TimedOut, io::ErrorKind::HostUnreachable];
    let mut attempt = stack.connect(to.parse().unwrap()).await;
    while matches!(&attempt, Err(error) if lost.contains(&error.kind())) {
        attempt = stack.connect(to.parse().unwrap()).await;
    }
    let (mut reader, mut writer) = attempt.unwrap().split();
    let data: Rc<Vec<u8>> = Rc::new((0..length).map(|index| u8::try_from(index % 251).unwrap()).collect());
    let sent = Rc::clone(&data);
    let writing = stack.shared.handle.spawn(async move {
        writer.write_all(&sent).await.unwrap();
        writer.close().await.unwrap();
    });
    let mut received = Vec::new();
    reader.read_to_end(&mut received).await.unwrap();
    assert!(received == *data, "{} of {length} bytes", received.len());
    writing.await.unwrap();
}

async fn echo_streams(listener: TcpListener, handle: Handle) {
    while let Ok((stream, _)) = listener.accept().await {
        handle.spawn(async move {
            let (reader, mut writer) = stream.split();
            futures_util::io::copy(reader, &mut writer).await.unwrap();
            writer.close().await.unwrap();
        });
    }
}

#[test]
fn tcp_streams_cross_whole_stacks() {
    let all =
        OffloadSupport { transmit_checksum: true, transmit_tcp4: true, transmit_tcp6: true, receive: true };
    for (seed, offload) in [(1, OffloadSupport::default()), (2, all)] {
        simulate(move |handle| async move {
            let (left, right) = pair(&handle, seed, LinkProperties { offload, ..LinkProperties::default() });
            verified(&left).await;
            verified(&right).await;
            handle.spawn(echo_streams(right.listen(7, 8).unwrap(), handle.clone()));
            handle.spawn(echo_streams(left.listen(7, 8).unwrap(), handle.clone()));
            for to in ["10.0.0.2:7", "[2001:db8::2]:7", "127.0.0.1:7", "[2001:db8::1]:7"] {
                for length in [0, 1, 100_000] {
                    exchange_stream(&left, to, length).await;
                }
            }
            let refused = left.connect("10.0.0.2:8".parse().unwrap()).await;
            assert_eq!(refused.err().map(|error| error.kind()), Some(io::ErrorKind::ConnectionRefused));
            let silent = left.connect("10.0.0.77:8".parse().unwrap()).await;
            assert_eq!(silent.err().map(|error| error.kind()), Some(io::ErrorKind::HostUnreachable));
            assert_eq!((left.counters().checksum_errors, right.counters().checksum_errors), (0, 0));
        });
    }
}

#[test]
fn tcp_streams_cross_bad_links_whole() {
    for seed in 0..100 {
        simulate(move |handle| async move {
            let properties = LinkProperties {
                loss: 2_000,
                duplication: 1_000,
                jitter: Duration::from_millis(2),
                latency: Duration::from_millis(5),
                ..LinkProperties::default()
            };
            let (left, right) = link(&handle, seed, properties);
            let rates = FaultRates { corrupt: 1_000, truncate: 500, ..FaultRates::default() };
            let left = static_node(&handle, FaultInjector::new(left, rates, seed), &["10.0.0.1/24"], &[]);
            let right = static_node(&handle, right, &["10.0.0.2/24"], &[]);
            handle.spawn(echo_streams(right.listen(7, 8).unwrap(), handle.clone()));
            exchange_stream(&left, "10.0.0.2:7", 60_000).await;
        });
    }
}

#[test]
fn corrupted_frames_are_never_taken_for_good_ones() {
    for seed in 0..100 {
        simulate(move |handle| async move {
            let (left, right) = link(&handle, seed, LinkProperties::default());
            let rates = FaultRates { drop: 2_000, corrupt: 12_000, truncate: 6_000 };
            let left = FaultInjector::new(left, rates, seed);
            let left = static_node(&handle, left, &["10.0.0.1/24"], &[]);
            let right = static_node(&handle, right, &["10.0.0.2/24"], &[]);
            handle.spawn(echo(right.bind_udp(7).unwrap()));
            let socket = left.bind_udp(0).unwrap();
            for _ in 0..30 {
                socket.send_to(&[7; 2000], "10.0.0.2:7".parse().unwrap()).await.unwrap();
                while let Ok(datagram) = handle.timeout(Duration::from_millis(50), socket.receive()).await {
                    assert_eq!(datagram.unwrap().payload(), [7; 2000]);
                }
            }
        });
    }
}

mod dhcp;
mod hostile;
mod names_and_time;
mod routers;
