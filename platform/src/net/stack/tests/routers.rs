//! SLAAC against a scripted router.

use std::net::Ipv6Addr;

use smoltcp::wire::{EthernetFrame, EthernetProtocol, Ipv6Packet};

use super::*;
use crate::device::Instant;
use crate::net::{InterfaceIdentifier, Origin, checksum, ipv6};

const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x99);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// An ICMPv6 message in an Ethernet frame to the node.
fn icmpv6(source: Ipv6Addr, destination: Ipv6Addr, mut message: Vec<u8>) -> Vec<u8> {
    let sum = checksum::transport(source.into(), destination.into(), 58, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut bytes = vec![0x33, 0x33, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd];
    bytes.resize(14 + ipv6::HEADER_LENGTH, 0);
    ipv6::emit(&mut bytes[14..], source, destination, 58, message.len(), 255);
    bytes.extend(message);
    bytes
}

struct Advertisement {
    lifetime: u16,
    prefix: &'static str,
    valid: u32,
    preferred: u32,
    server_lifetime: u32,
}

const USUAL: Advertisement = Advertisement {
    lifetime: 1800,
    prefix: "2001:db8:5::",
    valid: 86_400,
    preferred: 14_400,
    server_lifetime: 600,
};

impl Advertisement {
    fn frame(&self) -> Vec<u8> {
        let mut message = vec![134, 0, 0, 0, 64, 0];
        message.extend(self.lifetime.to_be_bytes());
        message.extend([0; 8]);
        message.extend([1, 1, 2, 0, 0, 0, 0, 2]);
        message.extend([5, 1, 0, 0]);
        message.extend(1400_u32.to_be_bytes());
        message.extend([3, 4, 64, 0xc0]);
        message.extend(self.valid.to_be_bytes());
        message.extend(self.preferred.to_be_bytes());
        message.extend([0; 4]);
        message.extend(self.prefix.parse::<Ipv6Addr>().unwrap().octets());
        message.extend([25, 3, 0, 0]);
        message.extend(self.server_lifetime.to_be_bytes());
        message.extend("2001:db8:5::53".parse::<Ipv6Addr>().unwrap().octets());
        icmpv6(ROUTER, ALL_NODES, message)
    }
}

/// Type, source, and target or first octets of an ICMPv6 message that the node sent.
fn sent(frame: &[u8]) -> Option<(u8, Ipv6Addr, Vec<u8>)> {
    let frame = EthernetFrame::new_checked(frame).ok()?;
    if frame.ethertype() != EthernetProtocol::Ipv6 {
        return None;
    }
    let packet = Ipv6Packet::new_checked(frame.payload()).unwrap();
    let chain = ipv6::walk(frame.payload()).unwrap();
    let message = &frame.payload()[chain.header_length..];
    let (source, destination) = (packet.src_addr().into(), packet.dst_addr().into());
    assert_eq!(chain.protocol, 58);
    assert_eq!(checksum::transport(source, destination, 58, message), 0, "checksum");
    Some((message[0], packet.src_addr(), message[4..].to_vec()))
}

fn of_type(kind: u8) -> impl Fn(&[u8]) -> Option<(Ipv6Addr, Vec<u8>)> {
    move |frame| sent(frame).filter(|(found, ..)| *found == kind).map(|(_, source, rest)| (source, rest))
}

fn node(handle: &Handle, identifier: InterfaceIdentifier) -> (Stack, Scripted) {
    let (left, right) = link(handle, 1, LinkProperties::default());
    let configuration = StackConfiguration {
        ipv4: Ipv4Configuration::Disabled,
        ipv6: Ipv6Configuration::Slaac { identifier, additional: StaticAddresses::default() },
        ..StackConfiguration::default()
    };
    let stack = Stack::new(handle, Rc::new(SeededEntropy::new(5)), Box::new(left), &configuration);
    (stack, Scripted { net: right })
}

fn address(stack: &Stack, origin: Origin) -> Option<(String, AddressState)> {
    let found = stack.addresses().into_iter().find(|known| known.origin == origin)?;
    Some((found.cidr.to_string(), found.state))
}

#[test]
fn a_router_gives_addresses_routes_and_name_servers_and_takes_them_back() {
    simulate(|handle| async move {
        let (stack, mut router) = node(&handle, InterfaceIdentifier::Eui64);
        let (source, report) = router.expect(of_type(143)).await;
        assert_eq!(source, Ipv6Addr::UNSPECIFIED);
        assert_eq!(report[4..8], [4, 0, 0, 0], "joins a group");
        let (source, probe) = router.expect(of_type(135)).await;
        assert_eq!(source, Ipv6Addr::UNSPECIFIED);
        assert_eq!(probe[4..20], "fe80::ff:fe00:1".parse::<Ipv6Addr>().unwrap().octets());
        router.send(&USUAL.frame()).await;
        stack.ready().await;
        let started = handle.now();
        assert_eq!(
            address(&stack, Origin::Router),
            Some((
                "2001:db8:5:0:0:ff:fe00:1/64".parse::<crate::net::Cidr>().unwrap().to_string(),
                AddressState::Preferred
            ))
        );
        assert_eq!(stack.name_servers(), ["2001:db8:5::53".parse::<IpAddr>().unwrap()]);
        let routes: Vec<_> =
            stack.routes().iter().map(|route| (route.destination.to_string(), route.gateway)).collect();
        assert_eq!(routes, [("2001:db8:5::/64".to_owned(), None), ("::/0".to_owned(), Some(ROUTER.into()))]);
        // Nobody announces again: each goes in its time.
        handle.sleep(Duration::from_secs(601)).await;
        assert_eq!(stack.name_servers(), [] as [IpAddr; 0]);
        handle.sleep(Duration::from_secs(1300)).await;
        assert_eq!(stack.routes().len(), 1);
        handle.sleep(Duration::from_secs(13_000)).await;
        assert_eq!(address(&stack, Origin::Router).unwrap().1, AddressState::Deprecated);
        handle.sleep(Duration::from_secs(86_400)).await;
        assert_eq!(address(&stack, Origin::Router), None);
        assert_eq!(stack.routes(), []);
        assert!(handle.now().since(started) > Duration::from_secs(86_400));
    });
}

#[test]
fn routers_are_asked_at_once_and_then_with_patience() {
    simulate(|handle| async move {
        let (_stack, mut router) = node(&handle, InterfaceIdentifier::Eui64);
        let (source, options) = router.expect(of_type(133)).await;
        assert_eq!((source, options.len()), (Ipv6Addr::UNSPECIFIED, 4));
        assert!(handle.now() < Instant::START + Duration::from_millis(150));
        let mut before = handle.now();
        for expected in [4, 8, 16, 32, 64] {
            let (source, options) = router.expect(of_type(133)).await;
            assert_eq!((source, options[4]), ("fe80::ff:fe00:1".parse().unwrap(), 1));
            let gap = handle.now().since(before).as_secs_f64() / f64::from(expected);
            assert!((0.89..1.11).contains(&gap), "{gap}");
            before = handle.now();
        }
    });
}

#[test]
fn a_rogue_announcement_cannot_end_an_address_at_once() {
    simulate(|handle| async move {
        let (stack, mut router) = node(&handle, InterfaceIdentifier::Eui64);
        router.send(&USUAL.frame()).await;
        stack.ready().await;
        router.send(&Advertisement { valid: 1, preferred: 0, ..USUAL }.frame()).await;
        handle.sleep(Duration::from_secs(60)).await;
        assert_eq!(address(&stack, Origin::Router).unwrap().1, AddressState::Deprecated);
        handle.sleep(Duration::from_secs(7200)).await;
        assert_eq!(address(&stack, Origin::Router), None);
    });
}

#[test]
fn announcements_are_bounded_and_bad_ones_ignored() {
    simulate(|handle| async move {
        let (stack, mut router) = node(&handle, InterfaceIdentifier::Eui64);
        handle.sleep(Duration::from_secs(3)).await;
        let good = USUAL.frame();
        let mut forwarded = good.clone();
        forwarded[14 + 7] = 254;
        router.send(&forwarded).await;
        router.send(&icmpv6("2001:db8::1".parse().unwrap(), ALL_NODES, good[54..].to_vec())).await;
        let mut option = good[54..].to_vec();
        option[17] = 0;
        router.send(&icmpv6(ROUTER, ALL_NODES, option)).await;
        handle.sleep(Duration::from_secs(1)).await;
        assert_eq!(stack.routes(), []);
        for number in 0..1000_u16 {
            let source = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 1, number);
            let mut message = good[54..].to_vec();
            message[2..4].fill(0);
            message[32 + 16 + 4..32 + 16 + 6].copy_from_slice(&number.to_be_bytes());
            router.send(&icmpv6(source, ALL_NODES, message)).await;
            handle.sleep(Duration::from_millis(1)).await;
        }
        assert!(stack.addresses().len() <= 10, "{}", stack.addresses().len());
        assert!(stack.routes().len() <= 30, "{}", stack.routes().len());
        assert!(!stack.routes().is_empty());
    });
}

#[test]
fn a_taken_address_is_not_used_and_another_is_tried() {
    let secret = [9; 32];
    for identifier in [InterfaceIdentifier::Eui64, InterfaceIdentifier::StablePrivacy { secret }] {
        let retries = identifier != InterfaceIdentifier::Eui64;
        simulate(move |handle| async move {
            let (stack, mut other) = node(&handle, identifier);
            let (_, probe) = other.expect(of_type(135)).await;
            let target = Ipv6Addr::from_octets(probe[4..20].try_into().unwrap());
            let mut claim = vec![136, 0, 0, 0, 0x20, 0, 0, 0];
            claim.extend(target.octets());
            claim.extend([2, 1, 2, 0, 0, 0, 0, 2]);
            other.send(&icmpv6(target, ALL_NODES, claim)).await;
            handle.sleep(Duration::from_secs(3)).await;
            let (now, state) = address(&stack, Origin::LinkLocal).unwrap();
            if retries {
                assert_ne!(now, format!("{target}/64"));
                assert_eq!(state, AddressState::Preferred);
            } else {
                assert_eq!((now, state), (format!("{target}/64"), AddressState::Duplicate));
            }
        });
    }
}
