//! Handshakes, ends and swaps over a stream in memory, on the simulated clock.

use core::future::Future;
use core::time::Duration;
use std::io;
use std::rc::Rc;

use futures_util::{AsyncReadExt, AsyncWriteExt};
use rustls::pki_types::CertificateDer;

use super::*;
use crate::device::{ManualClock, Pipe};
use crate::executor::{Executor, Handle};
use crate::host::SimulatedHost;

/// 2026-11-23T15:40:00Z.
const WALL: Duration = Duration::from_secs(1_795_448_400);
const DAY: Duration = Duration::from_secs(86_400);

fn simulate<T: 'static, F: Future<Output = T> + 'static>(main: impl FnOnce(Handle) -> F) -> T {
    let clock = Rc::new(ManualClock::new(WALL));
    let executor = Executor::new(clock.clone());
    let main = main(executor.handle());
    executor.run(&SimulatedHost::new(clock), main).expect("the test does not panic")
}

fn identity(names: &[&str]) -> Identity {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let made = SelfSigned::generate(&names, WALL).unwrap();
    Identity::from_pem("c.pem", made.certificate_pem.as_bytes(), "k.pem", made.key_pem.as_bytes()).unwrap()
}

fn connector(handle: &Handle, trusted: &Identity) -> Connector {
    let root = CertificateDer::from(trusted.certificate());
    Connector::new(handle, [root], &[b"h2", b"http/1.1"]).unwrap()
}

/// A client and a server that have shaken hands, and the server's identities.
async fn pair(handle: &Handle) -> (TlsStream<Pipe>, TlsStream<Pipe>) {
    let identity = identity(&["cal.example", "192.0.2.1"]);
    let acceptor = Acceptor::http(handle, &Identities::new(identity.clone()));
    let (near, far) = Pipe::pair(4096);
    let server = handle.spawn(async move { acceptor.accept(far).await });
    let client = connector(handle, &identity).connect("cal.example", near).await.unwrap();
    (client, server.await.unwrap().unwrap())
}

#[test]
fn bytes_pass_both_ways_and_end_in_good_order() {
    simulate(|handle| async move {
        let (mut client, mut server) = pair(&handle).await;
        assert_eq!(client.alpn_protocol(), Some(&b"h2"[..]));
        assert_eq!(server.connection().protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
        // More than the pipe and rustls hold at once.
        let sent: Vec<u8> = (0..300_000u32).map(|n| n as u8).collect();
        let expected = sent.clone();
        let writer = handle.spawn(async move {
            client.write_all(&sent).await.unwrap();
            client.close().await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            answer
        });
        let mut received = Vec::new();
        server.read_to_end(&mut received).await.unwrap();
        assert!(received == expected);
        server.write_all(b"thanks").await.unwrap();
        server.close().await.unwrap();
        assert_eq!(writer.await.unwrap(), "thanks");
    });
}

#[test]
fn a_stream_cut_off_is_not_an_end() {
    simulate(|handle| async move {
        let (mut client, mut server) = pair(&handle).await;
        client.write_all(b"half a mess").await.unwrap();
        client.flush().await.unwrap();
        // The attacker closes the stream below TLS: there is no close_notify.
        let (attacked, _) = Pipe::pair(1);
        let mut below = core::mem::replace(client.stream_mut(), attacked);
        below.close().await.unwrap();
        let mut received = Vec::new();
        let error = server.read_to_end(&mut received).await.unwrap_err();
        assert_eq!((received.as_slice(), error.kind()), (&b"half a mess"[..], io::ErrorKind::UnexpectedEof));
    });
}

#[test]
fn a_certificate_is_replaced_without_a_restart() {
    simulate(|handle| async move {
        let (old, new) = (identity(&["cal.example"]), identity(&["cal.example"]));
        let identities = Identities::new(old.clone());
        let acceptor = Rc::new(Acceptor::http(&handle, &identities));
        let connect = async |trusted: &Identity| {
            let (near, far) = Pipe::pair(4096);
            let acceptor = Rc::clone(&acceptor);
            handle.spawn(async move { acceptor.accept(far).await.map(drop) });
            connector(&handle, trusted).connect("cal.example", near).await
        };
        let running = connect(&old).await.unwrap();
        assert!(connect(&new).await.is_err());
        identities.replace(new.clone());
        assert!(connect(&new).await.is_ok());
        assert!(connect(&old).await.is_err());
        drop(running);
    });
}

#[test]
fn a_client_that_does_not_shake_hands_is_given_up() {
    simulate(|handle| async move {
        let acceptor = Acceptor::http(&handle, &Identities::new(identity(&["cal.example"])));
        let (_near, far) = Pipe::pair(4096);
        let error = acceptor.accept(far).await.map(drop).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(handle.now().as_nanos() / 1_000_000_000, 10);
    });
}

#[test]
fn what_is_not_tls_is_answered_with_an_alert() {
    simulate(|handle| async move {
        let acceptor = Acceptor::http(&handle, &Identities::new(identity(&["cal.example"])));
        let (mut near, far) = Pipe::pair(4096);
        near.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let error = acceptor.accept(far).await.map(drop).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let mut alert = [0; 7];
        near.read_exact(&mut alert).await.unwrap();
        assert_eq!((alert[0], alert[5]), (21, 2), "not a fatal alert record");
    });
}

#[test]
fn tls_1_2_is_spoken_too() {
    simulate(|handle| async move {
        let identity = identity(&["cal.example"]);
        let acceptor = Acceptor::http(&handle, &Identities::new(identity.clone()));
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from(identity.certificate())).unwrap();
        let time = clock::LastLook::new();
        time.look(&**handle.clock());
        let configuration = rustls::ClientConfig::builder_with_details(provider(), time)
            .with_protocol_versions(&[&rustls::version::TLS12])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = "cal.example".try_into().unwrap();
        let connection = rustls::ClientConnection::new(configuration.into(), name).unwrap();
        let (near, far) = Pipe::pair(4096);
        let server = handle.spawn(async move { acceptor.accept(far).await });
        let mut client = TlsStream::new(near, connection);
        client.write_all(b"hello").await.unwrap();
        client.close().await.unwrap();
        let mut server = server.await.unwrap().unwrap();
        assert_eq!(server.connection().protocol_version(), Some(rustls::ProtocolVersion::TLSv1_2));
        let mut received = String::new();
        server.read_to_string(&mut received).await.unwrap();
        assert_eq!(received, "hello");
    });
}

#[test]
fn a_self_signed_certificate_has_its_names_and_dates() {
    let identity = identity(&["cal.example", "192.0.2.1", "2001:db8::1"]);
    assert!(identity.begins() < WALL && WALL - identity.begins() < DAY * 2);
    assert!(identity.expires() <= identity.begins() + DAY * 825);
    assert!(identity.expires() > WALL + DAY * 800);
    simulate(|handle| async move {
        for name in ["cal.example", "192.0.2.1", "2001:db8::1"] {
            let acceptor = Acceptor::http(&handle, &Identities::new(identity.clone()));
            let (near, far) = Pipe::pair(4096);
            handle.spawn(async move { acceptor.accept(far).await.map(drop) });
            assert!(connector(&handle, &identity).connect(name, near).await.is_ok(), "{name}");
        }
    });
}

#[test]
fn errors_name_the_file_and_what_would_be_right() {
    let (one, other) = (
        SelfSigned::generate(&["a.example".to_owned()], WALL).unwrap(),
        SelfSigned::generate(&["a.example".to_owned()], WALL).unwrap(),
    );
    let error = |chain: &str, key: &str| {
        Identity::from_pem("chain.pem", chain.as_bytes(), "key.pem", key.as_bytes()).unwrap_err().to_string()
    };
    assert_eq!(
        error("", &one.key_pem),
        "chain.pem: there is no certificate; it should begin with -----BEGIN CERTIFICATE-----"
    );
    assert_eq!(
        error(&one.certificate_pem, ""),
        "key.pem: there is no private key; it should begin with -----BEGIN PRIVATE KEY-----, unencrypted"
    );
    assert_eq!(
        error(&one.certificate_pem, &other.key_pem),
        "key.pem: this is not the key of the first certificate in chain.pem"
    );
}

#[test]
fn http_is_served_over_tls() {
    simulate(|handle| async move {
        let identity = identity(&["cal.example"]);
        let acceptor = Acceptor::http(&handle, &Identities::new(identity.clone()));
        let (near, far) = Pipe::pair(4096);
        let server = crate::http::Server::new(
            &handle,
            crate::http::Limits::default(),
            |_, peer: crate::http::Peer| async move {
                crate::http::text(crate::http::StatusCode::OK, format!("encrypted: {}", peer.encrypted))
            },
        );
        let far = acceptor.wrap(far).unwrap();
        handle.spawn(async move { server.serve_connection(far, "192.0.2.7:1".parse().unwrap(), true).await });
        let mut client = connector(&handle, &identity).connect("cal.example", near).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("\r\n\r\nencrypted: true"), "{answer}");
    });
}
