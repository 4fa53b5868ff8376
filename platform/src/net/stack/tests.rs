use super::*;
use crate::device::{LinkEnd, LinkProperties, ManualClock, SeededEntropy, link};
use crate::executor::Executor;
use crate::host::SimulatedHost;
use crate::net::{Ipv4Configuration, Ipv6Configuration, StaticAddresses};
use core::time::Duration;
use std::net::SocketAddr;

fn simulate<T: 'static, F: Future<Output = T> + 'static>(main: impl FnOnce(Handle) -> F) -> T {
    let clock = Rc::new(ManualClock::default());
    let executor = Executor::new(clock.clone());
    let main = main(executor.handle());
    executor.run(&SimulatedHost::new(clock), main).expect("main does not panic")
}

fn static_node(handle: &Handle, end: LinkEnd, addresses: &[&str], gateways: &[&str]) -> Stack {
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

#[test]
fn udp_echoes() {
    simulate(|handle| async move {
        let (left, right) = pair(&handle, 1, LinkProperties::default());
        handle.spawn(echo(right.bind_udp(7).unwrap()));
        let socket = left.bind_udp(0).unwrap();
        let to: SocketAddr = "10.0.0.2:7".parse().unwrap();
        for length in [0, 1, 1472, 1473, 9000, 65_507] {
            let payload = vec![u8::try_from(length & 0xff).unwrap(); length];
            socket.send_to(&payload, to).await.unwrap();
            let datagram = socket.receive().await.unwrap();
            assert_eq!(datagram.payload(), payload);
            assert_eq!(datagram.source, to);
        }
    });
}
