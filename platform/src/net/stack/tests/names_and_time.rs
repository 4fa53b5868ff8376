//! The resolver against a scripted name server, the time client against a scripted time server.

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::*;
use crate::device::{Instant, WallTime};
use crate::net::{NtpServer, TcpStream};

/// A client whose only name server is the other node.
fn client(handle: &Handle, ntp: Option<NtpServer>) -> (Stack, Stack) {
    let (left, right) = link(handle, 1, LinkProperties::default());
    let configuration = StackConfiguration {
        ipv4: Ipv4Configuration::Static(StaticAddresses {
            addresses: vec!["10.0.0.1/24".parse().unwrap()],
            ..StaticAddresses::default()
        }),
        ipv6: Ipv6Configuration::Disabled,
        dns_servers: vec!["10.0.0.9".parse().unwrap(), "10.0.0.2".parse().unwrap()],
        ntp,
        ..StackConfiguration::default()
    };
    let left = Stack::new(handle, Rc::new(SeededEntropy::new(5)), Box::new(left), &configuration);
    (left, static_node(handle, right, &["10.0.0.2/24"], &[]))
}

fn answer(query: &Message) -> Message {
    let mut answer = query.clone();
    answer.metadata.message_type = MessageType::Response;
    answer
}

/// Has both addresses of `calendar.example`.
fn zone(query: &Message) -> Message {
    let mut answer = answer(query);
    let name = query.queries[0].name.clone();
    if name != Name::from_ascii("calendar.example.").unwrap() {
        answer.metadata.response_code = ResponseCode::NXDomain;
        return answer;
    }
    let data = match query.queries[0].query_type {
        RecordType::A => RData::A(A::new(192, 0, 2, 1)),
        _ => RData::AAAA(AAAA("2001:db8::5".parse().unwrap())),
    };
    answer.add_answer(Record::from_rdata(name, 60, data));
    answer
}

#[test]
fn names_are_resolved_and_remembered() {
    simulate(|handle| async move {
        let (client, server) = client(&handle, None);
        let asked = Rc::new(core::cell::Cell::new(0));
        let count = Rc::clone(&asked);
        let socket = server.bind_udp(53).unwrap();
        handle.spawn(async move {
            while let Ok(datagram) = socket.receive().await {
                count.set(count.get() + 1);
                let query = Message::from_vec(datagram.payload()).unwrap();
                // First a forgery with another identifier.
                let mut forged = zone(&query);
                forged.metadata.id ^= 0x55;
                forged.answers.clear();
                socket.reply(&datagram, &forged.to_vec().unwrap()).await.unwrap();
                socket.reply(&datagram, &zone(&query).to_vec().unwrap()).await.unwrap();
            }
        });
        // The route decides which family comes first.
        let expected = ["192.0.2.1", "2001:db8::5"].map(|text| text.parse::<IpAddr>().unwrap());
        client.shared.core.borrow_mut().egress.interface.add_route(Route {
            destination: "0.0.0.0/0".parse().unwrap(),
            gateway: Some("10.0.0.2".parse().unwrap()),
            metric: 0,
            origin: crate::net::Origin::Static,
        });
        assert_eq!(client.resolve("Calendar.example").await.unwrap(), expected);
        assert_eq!(client.resolve("calendar.example.").await.unwrap(), expected);
        assert_eq!(asked.get(), 2);
        handle.sleep(Duration::from_secs(61)).await;
        assert_eq!(client.resolve("calendar.example").await.unwrap(), expected);
        assert_eq!(asked.get(), 4);
        assert_eq!(client.resolve("nobody.example").await.unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(client.resolve("").await.unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(client.resolve("192.0.2.7").await.unwrap(), ["192.0.2.7".parse::<IpAddr>().unwrap()]);
        assert_eq!(client.resolve("localhost").await.unwrap().len(), 2);
    });
}

#[test]
fn a_truncated_answer_is_asked_for_over_tcp() {
    simulate(|handle| async move {
        let (client, server) = client(&handle, None);
        let socket = server.bind_udp(53).unwrap();
        handle.spawn(async move {
            while let Ok(datagram) = socket.receive().await {
                let mut truncated = answer(&Message::from_vec(datagram.payload()).unwrap());
                truncated.metadata.truncation = true;
                socket.reply(&datagram, &truncated.to_vec().unwrap()).await.unwrap();
            }
        });
        async fn serve(mut stream: TcpStream) -> io::Result<()> {
            let mut length = [0; 2];
            stream.read_exact(&mut length).await?;
            let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut query).await?;
            let answer = zone(&Message::from_vec(&query).unwrap()).to_vec().unwrap();
            stream.write_all(&u16::try_from(answer.len()).unwrap().to_be_bytes()).await?;
            stream.write_all(&answer).await?;
            stream.close().await
        }
        let listener = server.listen(53, 8).unwrap();
        let spawner = handle.clone();
        handle.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                spawner.spawn(serve(stream));
            }
        });
        assert_eq!(client.resolve("calendar.example").await.unwrap().len(), 2);
    });
}

#[test]
fn silence_ends_in_bounded_time() {
    simulate(|handle| async move {
        let (client, _server) = client(&handle, None);
        let started = handle.now();
        assert!(client.resolve("calendar.example").await.is_err());
        assert!(handle.now().since(started) < Duration::from_secs(10));
    });
}

#[test]
fn the_clock_is_set_by_a_server() {
    simulate(|handle| async move {
        let (client, server) = client(&handle, Some(NtpServer::host("10.0.0.2")));
        let socket = server.bind_udp(123).unwrap();
        // The simulation's wall clock starts in 1970; the server's in 2026.
        let ahead = Duration::from_secs(1_780_000_000);
        let clock = handle.clone();
        handle.spawn(async move {
            while let Ok(datagram) = socket.receive().await {
                let now = ahead + clock.now().since(Instant::START);
                let stamp = |at: WallTime| {
                    let fraction = (u64::from(at.subsec_nanos()) << 32) / 1_000_000_000;
                    (at.as_secs() + 2_208_988_800) << 32 | fraction
                };
                let mut message = [0; 48];
                (message[0], message[1]) = ((4 << 3) | 4, 2);
                message[24..32].copy_from_slice(&datagram.payload()[40..48]);
                message[32..40].copy_from_slice(&stamp(now).to_be_bytes());
                message[40..48].copy_from_slice(&stamp(now).to_be_bytes());
                socket.reply(&datagram, &message).await.unwrap();
            }
        });
        handle.sleep(Duration::from_secs(30)).await;
        let status = client.time_status().unwrap();
        assert_eq!(status.stratum, 2);
        let expected = ahead + handle.now().since(Instant::START);
        assert!(handle.wall().abs_diff(expected) < Duration::from_millis(3), "{:?}", handle.wall());
    });
}
