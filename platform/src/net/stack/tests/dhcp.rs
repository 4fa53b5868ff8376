//! DHCP against a scripted server.

use std::net::Ipv4Addr;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, DhcpMessageType, DhcpOption, DhcpPacket, DhcpRepr, EthernetAddress,
    EthernetFrame, EthernetProtocol, EthernetRepr, IpProtocol, Ipv4Packet, Ipv4Repr, UdpPacket, UdpRepr,
};

use super::*;
use crate::net::Origin;

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const OFFERED: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 50);

/// What the client asked, as far as the tests look at it.
#[derive(Clone, Debug, PartialEq)]
struct Question {
    kind: DhcpMessageType,
    transaction: u32,
    mac: EthernetAddress,
    from: Ipv4Addr,
    to: Ipv4Addr,
    client: Ipv4Addr,
    requested: Option<Ipv4Addr>,
    hostname: Option<String>,
}

fn question(frame: &[u8]) -> Option<Question> {
    let frame = EthernetFrame::new_checked(frame).ok()?;
    let ip = Ipv4Packet::new_checked(frame.payload())
        .ok()
        .filter(|_| frame.ethertype() == EthernetProtocol::Ipv4)?;
    let udp = UdpPacket::new_checked(ip.payload()).ok().filter(|_| ip.next_header() == IpProtocol::Udp)?;
    assert!(udp.verify_checksum(&ip.src_addr().into(), &ip.dst_addr().into()));
    let dhcp = DhcpPacket::new_checked(udp.payload()).ok().filter(|_| udp.dst_port() == 67)?;
    let repr = DhcpRepr::parse(&dhcp).unwrap();
    let name = dhcp.options().find(|option| option.kind == 12);
    Some(Question {
        kind: repr.message_type,
        transaction: repr.transaction_id,
        mac: repr.client_hardware_address,
        from: ip.src_addr(),
        to: ip.dst_addr(),
        client: repr.client_ip,
        requested: repr.requested_ip,
        hostname: name.map(|option| String::from_utf8(option.data.to_vec()).unwrap()),
    })
}

/// An Ethernet frame with a UDP datagram from the server's port, sent to the client's.
fn answer(to: &Question, kind: DhcpMessageType, lease: u32, options: &[DhcpOption<'_>]) -> Vec<u8> {
    let repr = DhcpRepr {
        message_type: kind,
        transaction_id: to.transaction,
        secs: 0,
        client_hardware_address: to.mac,
        client_ip: Ipv4Addr::UNSPECIFIED,
        your_ip: OFFERED,
        server_ip: SERVER,
        router: Some(SERVER),
        subnet_mask: Some(Ipv4Addr::new(255, 255, 255, 0)),
        relay_agent_ip: Ipv4Addr::UNSPECIFIED,
        broadcast: false,
        requested_ip: None,
        client_identifier: None,
        server_identifier: Some(SERVER),
        parameter_request_list: None,
        dns_servers: None,
        max_size: None,
        lease_duration: Some(lease),
        renew_duration: None,
        rebind_duration: None,
        additional_options: options,
    };
    let udp = UdpRepr { src_port: 67, dst_port: 68 };
    let ip = Ipv4Repr {
        src_addr: SERVER,
        dst_addr: OFFERED,
        next_header: IpProtocol::Udp,
        payload_len: 8 + repr.buffer_len(),
        hop_limit: 64,
    };
    let mut bytes = vec![0; 14 + 20 + ip.payload_len];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes);
    let (src_addr, dst_addr) = (EthernetAddress([2, 0, 0, 0, 0, 2]), to.mac);
    EthernetRepr { src_addr, dst_addr, ethertype: EthernetProtocol::Ipv4 }.emit(&mut frame);
    let mut packet = Ipv4Packet::new_unchecked(frame.payload_mut());
    ip.emit(&mut packet, &ChecksumCapabilities::default());
    udp.emit(
        &mut UdpPacket::new_unchecked(packet.payload_mut()),
        &SERVER.into(),
        &OFFERED.into(),
        repr.buffer_len(),
        |payload| repr.emit(&mut DhcpPacket::new_unchecked(payload)).unwrap(),
        &ChecksumCapabilities::default(),
    );
    bytes
}

fn client(handle: &Handle) -> (Stack, Scripted) {
    let (left, right) = link(handle, 1, LinkProperties::default());
    let configuration = StackConfiguration {
        hostname: Some("skerry".to_owned()),
        ipv6: Ipv6Configuration::Disabled,
        ..StackConfiguration::default()
    };
    let stack = Stack::new(handle, Rc::new(SeededEntropy::new(5)), Box::new(left), &configuration);
    (stack, Scripted { net: right })
}

/// Offers and acknowledges; returns the request.
async fn serve(server: &mut Scripted, lease: u32, options: &[DhcpOption<'_>]) -> Question {
    let discover = server.expect(question).await;
    assert_eq!(discover.kind, DhcpMessageType::Discover);
    assert_eq!((discover.from, discover.to), (Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST));
    server.send(&answer(&discover, DhcpMessageType::Offer, lease, options)).await;
    let request = server.expect(question).await;
    assert_eq!((request.kind, request.requested), (DhcpMessageType::Request, Some(OFFERED)));
    server.send(&answer(&request, DhcpMessageType::Ack, lease, options)).await;
    request
}

#[test]
fn an_address_is_leased_with_everything_that_comes_with_it() {
    simulate(|handle| async move {
        let (stack, mut server) = client(&handle);
        let options = [
            DhcpOption { kind: 6, data: &[10, 0, 0, 3, 10, 0, 0, 4] },
            DhcpOption { kind: 42, data: &[10, 0, 0, 5] },
            DhcpOption { kind: 26, data: &[5, 120] },
            DhcpOption { kind: 12, data: b"given" },
            DhcpOption { kind: 121, data: &[16, 172, 16, 10, 0, 0, 9, 0, 10, 0, 0, 8] },
        ];
        let request = serve(&mut server, 3600, &options).await;
        assert_eq!(request.hostname.as_deref(), Some("skerry"));
        stack.ready().await;
        let addresses = stack.addresses();
        assert_eq!(addresses[0].cidr, "10.0.0.50/24".parse().unwrap());
        assert_eq!(addresses[0].origin, Origin::Dhcp);
        assert_eq!(
            stack.name_servers(),
            ["10.0.0.3", "10.0.0.4"].map(|text| text.parse::<IpAddr>().unwrap())
        );
        let lease = stack.lease().unwrap();
        assert_eq!(lease.time_servers, [Ipv4Addr::new(10, 0, 0, 5)]);
        assert_eq!((lease.mtu, lease.hostname.as_deref()), (Some(1400), Some("given")));
        // RFC 3442: the classless routes replace the router option.
        let routes: Vec<_> =
            stack.routes().iter().map(|route| (route.destination.to_string(), route.gateway)).collect();
        let gateway = |text: &str| Some(text.parse::<IpAddr>().unwrap());
        assert_eq!(
            routes,
            [
                ("172.16.0.0/16".to_owned(), gateway("10.0.0.9")),
                ("0.0.0.0/0".to_owned(), gateway("10.0.0.8"))
            ]
        );
    });
}

#[test]
fn the_search_goes_on_and_slows_down() {
    simulate(|handle| async move {
        let (_stack, mut server) = client(&handle);
        let mut times = Vec::new();
        for _ in 0..10 {
            server.expect(question).await;
            times.push(handle.now());
        }
        let gaps: Vec<_> = times.windows(2).map(|pair| pair[1].since(pair[0]).as_secs_f64()).collect();
        assert!((0.4..1.6).contains(&gaps[0]), "{gaps:?}");
        assert!(gaps[6..].iter().all(|gap| (62.0..66.0).contains(gap)), "{gaps:?}");
    });
}

#[test]
fn a_lease_is_renewed_then_rebound_then_given_up() {
    simulate(|handle| async move {
        let (stack, mut server) = client(&handle);
        serve(&mut server, 1000, &[]).await;
        stack.ready().await;
        let started = handle.now();
        // The server must be found before it can be asked.
        let renewal = loop {
            let frame = server.receive().await;
            if let Some(question) = question(&frame) {
                break question;
            }
            let ethernet = EthernetFrame::new_checked(&frame[..]).unwrap();
            if let Ok(ArpRepr::EthernetIpv4 {
                operation: ArpOperation::Request,
                target_protocol_addr: SERVER,
                ..
            }) = ArpPacket::new_checked(ethernet.payload()).and_then(|packet| ArpRepr::parse(&packet))
            {
                server.send(&arp_reply(SERVER, OFFERED)).await;
            }
        };
        assert_eq!((renewal.client, renewal.from, renewal.to), (OFFERED, OFFERED, SERVER));
        assert!((499..502).contains(&handle.now().since(started).as_secs()));
        server.send(&answer(&renewal, DhcpMessageType::Ack, 1000, &[])).await;
        handle.sleep(Duration::from_secs(1)).await;
        let renewed = handle.now();
        assert_eq!(stack.addresses().len(), 1);
        // From here on the server is silent.
        let rebinding = loop {
            let question = server.expect(question).await;
            if question.to == Ipv4Addr::BROADCAST {
                break question;
            }
        };
        assert_eq!((rebinding.client, rebinding.from), (OFFERED, OFFERED));
        assert!((870..880).contains(&handle.now().since(renewed).as_secs()));
        while !stack.addresses().is_empty() {
            handle.sleep(Duration::from_secs(1)).await;
        }
        assert!((995..1003).contains(&handle.now().since(renewed).as_secs()));
        assert_eq!(stack.routes(), []);
        assert_eq!(server.expect(question).await.kind, DhcpMessageType::Request, "the last to rebind");
    });
}

#[test]
fn a_refusal_ends_the_lease() {
    simulate(|handle| async move {
        let (stack, mut server) = client(&handle);
        let discover = server.expect(question).await;
        server.send(&answer(&discover, DhcpMessageType::Offer, 1000, &[])).await;
        let request = server.expect(question).await;
        server.send(&answer(&request, DhcpMessageType::Nak, 1000, &[])).await;
        assert_eq!(server.expect(question).await.kind, DhcpMessageType::Discover);
        assert_eq!(stack.addresses(), []);
    });
}

#[test]
fn an_address_that_somebody_has_is_declined() {
    simulate(|handle| async move {
        let (stack, mut server) = client(&handle);
        serve(&mut server, 1000, &[]).await;
        stack.ready().await;
        server.send(&arp_reply(OFFERED, OFFERED)).await;
        let decline = server.expect(question).await;
        assert_eq!((decline.kind, decline.requested), (DhcpMessageType::Decline, Some(OFFERED)));
        assert_eq!(stack.addresses(), []);
        let declined = handle.now();
        assert_eq!(server.expect(question).await.kind, DhcpMessageType::Discover);
        assert!(handle.now().since(declined) >= Duration::from_secs(9));
    });
}

/// Says that `owner` is at the scripted node's Ethernet address.
fn arp_reply(owner: Ipv4Addr, to: Ipv4Addr) -> Vec<u8> {
    let repr = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Reply,
        source_hardware_addr: EthernetAddress([2, 0, 0, 0, 0, 2]),
        source_protocol_addr: owner,
        target_hardware_addr: EthernetAddress([2, 0, 0, 0, 0, 1]),
        target_protocol_addr: to,
    };
    let mut bytes = vec![0; 14 + repr.buffer_len()];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes);
    let (src_addr, dst_addr) = (EthernetAddress([2, 0, 0, 0, 0, 2]), EthernetAddress([2, 0, 0, 0, 0, 1]));
    EthernetRepr { src_addr, dst_addr, ethertype: EthernetProtocol::Arp }.emit(&mut frame);
    repr.emit(&mut ArpPacket::new_unchecked(frame.payload_mut()));
    bytes
}
