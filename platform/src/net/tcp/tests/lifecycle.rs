//! How connections begin, idle and end.

use core::cell::Cell;
use core::time::Duration;
use std::rc::Rc;

use futures_util::future::join;

use super::*;

#[test]
fn a_connection_is_made_and_carries_bytes() {
    for seed in [0, 1] {
        let pair = pair(seed, Link::default());
        let listener = pair.server.listen(80, 16).unwrap();
        let server = pair.handle().spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 5];
            stream.read_exact(&mut request).await.unwrap();
            assert_eq!(&request, b"hello");
            stream.write_all(b"world").await.unwrap();
        });
        let connect = pair.client.connect(&pair.server, 80);
        pair.run(async move {
            let mut stream = connect.await.unwrap();
            stream.write_all(b"hello").await.unwrap();
            assert_eq!(read_all(&mut stream).await.unwrap(), b"world");
            server.await.unwrap();
        });
        assert_eq!(pair.server.counters().accepted, 1);
        assert_eq!(pair.client.counters().connected, 1);
        // The server closed first and is in TIME-WAIT; the client has forgotten.
        pair.run_for(Duration::from_secs(1));
        assert_eq!((pair.client.counters().flows, pair.server.counters().flows), (0, 1));
        pair.run_for(limits::TIME_WAIT);
        assert_eq!(pair.server.counters().flows, 0);
    }
}

#[test]
fn a_closed_port_refuses() {
    let pair = pair(0, Link::default());
    let connect = pair.client.connect(&pair.server, 81);
    let error = pair.run(async move { connect.await.err().map(|error| error.kind()) });
    assert_eq!(error, Some(io::ErrorKind::ConnectionRefused));
    assert_eq!(pair.server.counters().resets_sent, 1);
    assert_eq!(pair.client.counters().flows, 0);
}

#[test]
fn a_silent_peer_times_out() {
    let pair = pair(0, Link { loss: 1000, ..Link::default() });
    let connect = pair.client.connect(&pair.server, 80);
    let handle = pair.handle();
    let (error, took) = pair.run(async move {
        let error = connect.await.err().map(|error| error.kind());
        (error, handle.now())
    });
    assert_eq!(error, Some(io::ErrorKind::TimedOut));
    assert!(took < crate::device::Instant::START + limits::CONNECT_TIMEOUT + Duration::from_secs(1));
}

#[test]
fn two_listeners_on_one_port_are_an_error() {
    let pair = pair(0, Link::default());
    let listener = pair.server.listen(80, 16).unwrap();
    let second = pair.server.listen(80, 16).err().map(|error| error.kind());
    assert_eq!(second, Some(io::ErrorKind::AddrInUse));
    drop(listener);
    assert!(pair.server.listen(80, 16).is_ok());
}

#[test]
fn a_full_backlog_makes_clients_wait_and_loses_nobody() {
    let pair = pair(0, Link::default());
    let listener = pair.server.listen(80, 2).unwrap();
    let clients: Vec<_> = (0..6)
        .map(|number: u8| {
            let connect = pair.client.connect(&pair.server, 80);
            pair.handle().spawn(async move {
                let mut stream = connect.await.unwrap();
                stream.write_all(&[number]).await.unwrap();
                let mut answer = [0];
                stream.read_exact(&mut answer).await.unwrap();
                answer[0]
            })
        })
        .collect();
    let handle = pair.handle();
    pair.run(async move {
        for _ in 0..6 {
            handle.sleep(Duration::from_millis(500)).await;
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut byte = [0];
            stream.read_exact(&mut byte).await.unwrap();
            stream.write_all(&byte).await.unwrap();
        }
        for (number, client) in clients.into_iter().enumerate() {
            assert_eq!(client.await, Ok(number as u8));
        }
    });
}

#[test]
fn closing_a_listener_resets_those_that_wait() {
    let pair = pair(0, Link::default());
    let listener = pair.server.listen(80, 2).unwrap();
    let connect = pair.client.connect(&pair.server, 80);
    let handle = pair.handle();
    let error = pair.run(async move {
        let mut stream = connect.await.unwrap();
        handle.sleep(Duration::from_secs(1)).await;
        listener.close();
        assert!(listener.accept().await.is_err());
        read_all(&mut stream).await.err().map(|error| error.kind())
    });
    assert_eq!(error, Some(io::ErrorKind::ConnectionReset));
}

#[test]
fn data_left_unread_resets_the_peer() {
    let pair = pair(0, Link::default());
    let listener = pair.server.listen(80, 2).unwrap();
    let connect = pair.client.connect(&pair.server, 80);
    let handle = pair.handle();
    let error = pair.run(async move {
        let (mut client, server) = connected(connect, &listener).await;
        client.write_all(b"nobody reads this").await.unwrap();
        handle.sleep(Duration::from_secs(1)).await;
        drop(server);
        read_all(&mut client).await.err().map(|error| error.kind())
    });
    assert_eq!(error, Some(io::ErrorKind::ConnectionReset));
}

#[test]
fn what_was_written_arrives_after_the_stream_is_dropped() {
    let pair = pair(0, Link { loss: 50, ..Link::default() });
    let listener = pair.server.listen(80, 2).unwrap();
    let connect = pair.client.connect(&pair.server, 80);
    let bytes = pattern(3, 100_000);
    let expected = bytes.clone();
    let received = pair.run(async move {
        let (mut client, mut server) = connected(connect, &listener).await;
        let write = async move {
            client.write_all(&bytes).await.unwrap();
            drop(client);
        };
        join(write, read_all(&mut server)).await.1.unwrap()
    });
    assert!(received == expected);
}

#[test]
fn half_closed_connections_carry_the_other_direction() {
    let pair = pair(0, Link::default());
    let listener = pair.server.listen(80, 2).unwrap();
    let connect = pair.client.connect(&pair.server, 80);
    let handle = pair.handle();
    pair.run(async move {
        let (mut client, mut server) = connected(connect, &listener).await;
        client.write_all(b"ask").await.unwrap();
        client.shutdown();
        assert_eq!(client.write_all(b"more").await.err().map(|e| e.kind()), Some(io::ErrorKind::BrokenPipe));
        assert_eq!(read_all(&mut server).await.unwrap(), b"ask");
        // Longer than any timer of a connection that nobody holds.
        handle.sleep(Duration::from_secs(900)).await;
        server.write_all(b"answer").await.unwrap();
        drop(server);
        assert_eq!(read_all(&mut client).await.unwrap(), b"answer");
    });
}

#[test]
fn a_reader_that_pauses_closes_the_window_and_opens_it_again() {
    let pair = pair(1, Link::default());
    let listener = pair.server.listen(80, 2).unwrap();
    let connect = pair.client.connect(&pair.server, 80);
    let bytes = pattern(3, 300_000);
    let expected = bytes.clone();
    let handle = pair.handle();
    pair.run(async move {
        let (client, mut server) = connected(connect, &listener).await;
        let sender = handle.spawn(send_all(client, bytes));
        handle.sleep(Duration::from_secs(1200)).await;
        assert!(read_all(&mut server).await.unwrap() == expected);
        sender.await.unwrap();
    });
}

#[test]
fn idle_connections_give_their_memory_back_and_live_on() {
    const CONNECTIONS: usize = 2000;
    // A cookie's answer that finds the backlog full is lost for good unless the client speaks first, so leave room.
    let limits = TcpLimits { half_open: CONNECTIONS, buffer_memory: 1 << 30, ..TcpLimits::default() };
    let pair = Pair::new(0, Link::default(), false, limits);
    let listener = pair.server.listen(80, CONNECTIONS).unwrap();
    let server = pair.handle().spawn(async move {
        let mut streams = Vec::new();
        for _ in 0..CONNECTIONS {
            streams.push(listener.accept().await.unwrap().0);
        }
        streams
    });
    let connects: Vec<_> = (0..CONNECTIONS).map(|_| pair.client.connect(&pair.server, 80)).collect();
    let handle = pair.handle();
    let (mut clients, mut servers) = pair.run(async move {
        let mut clients = Vec::new();
        for connect in connects {
            clients.push(connect.await.unwrap());
        }
        let servers = server.await.unwrap();
        handle.sleep(Duration::from_secs(5)).await;
        (clients, servers)
    });
    assert_eq!(pair.server.counters().buffer_bytes, 0);
    assert_eq!(pair.client.counters().buffer_bytes, 0);
    // Keepalives: a few packets for each in a quarter of an hour, and nothing is lost.
    let before = pair.packets();
    pair.run_for(Duration::from_secs(900));
    let packets = pair.packets() - before;
    assert!(packets < 20 * CONNECTIONS as u64, "{packets} packets");
    pair.run(async move {
        for (client, server) in clients.iter_mut().zip(&mut servers) {
            client.write_all(b"still here").await.unwrap();
            let mut received = [0; 10];
            server.read_exact(&mut received).await.unwrap();
        }
    });
}

#[test]
fn a_peer_that_vanished_is_noticed() {
    let pair = pair(0, Link::default());
    let listener = pair.server.listen(80, 2).unwrap();
    let connect = pair.client.connect(&pair.server, 80);
    let (_client, mut server) = pair.run(async move { connected(connect, &listener).await });
    pair.set_link(|link| link.loss = 1000);
    let handle = pair.handle();
    let (error, at) = pair.run(async move {
        let error = read_all(&mut server).await.err().map(|error| error.kind());
        (error, handle.now())
    });
    assert_eq!(error, Some(io::ErrorKind::TimedOut));
    let latest = limits::KEEPALIVE_IDLE + limits::USER_TIMEOUT + Duration::from_secs(5);
    assert!(at < crate::device::Instant::START + latest, "at {at:?}");
    assert_eq!(pair.server.counters().flows, 0);
}

/// A keepalive probe that carried a byte would be taken for data by a peer that the true byte there has not reached.
#[test]
fn probes_of_a_silent_peer_carry_no_byte_that_was_not_written() {
    let pair = pair(0, Link::default());
    let listener = pair.server.listen(80, 2).unwrap();
    let connect = pair.client.connect(&pair.server, 80);
    let bytes = pattern(7, 3000);
    let (probes, expected) = (Rc::new(Cell::new(0)), bytes.clone());
    let (counted, mut first) = (Rc::clone(&probes), None);
    pair.set_filter(move |packet, from| {
        let segment = &packet[20..];
        let start = *first.get_or_insert(u32::from_be_bytes(*segment[4..].first_chunk().unwrap()) + 1);
        if from != 0 {
            return true;
        }
        let offset = u32::from_be_bytes(*segment[4..].first_chunk().unwrap()).wrapping_sub(start);
        let payload = &segment[usize::from(segment[12] >> 4) * 4..];
        if !payload.is_empty() {
            assert_eq!(payload, &expected[offset as usize..][..payload.len()], "at {offset}");
        }
        counted.set(counted.get() + u32::from(payload.is_empty() && offset == u32::MAX));
        true
    });
    let (mut client, mut server) = pair.run(async move { connected(connect, &listener).await });
    probes.set(0);
    pair.set_link(|link| link.loss = 1000);
    let written = bytes.clone();
    let client = pair.run(async move {
        client.write_all(&written).await.unwrap();
        client
    });
    pair.run_for(Duration::from_secs(70));
    assert_eq!(probes.get(), 2);
    pair.set_link(|link| link.loss = 0);
    let received = pair.run(async move {
        let mut client = client;
        client.shutdown();
        read_all(&mut server).await.unwrap()
    });
    assert!(received == bytes);
}

#[test]
fn time_wait_is_bounded_and_yields_to_a_new_connection() {
    let limits = TcpLimits { time_wait: 10, ..TcpLimits::default() };
    let pair = Pair::new(0, Link::default(), false, limits);
    let listener = pair.server.listen(80, 64).unwrap();
    let connects: Vec<_> = (0..50).map(|_| pair.client.connect(&pair.server, 80)).collect();
    let handle = pair.handle();
    pair.run(async move {
        for connect in connects {
            let (client, mut server) = connected(connect, &listener).await;
            drop(client);
            assert_eq!(read_all(&mut server).await.unwrap(), b"");
        }
        handle.sleep(Duration::from_secs(1)).await;
    });
    assert_eq!(pair.client.counters().flows, 10);
    assert_eq!(pair.server.counters().flows, 0);
}

#[test]
fn the_limit_of_connections_holds() {
    let limits = TcpLimits { connections: 5, ..TcpLimits::default() };
    let pair = Pair::new(0, Link::default(), false, limits);
    let _listener = pair.server.listen(80, 64).unwrap();
    let connects: Vec<_> = (0..6).map(|_| pair.client.connect(&pair.server, 80)).collect();
    let last = pair.run(async move {
        let mut kept = Vec::new();
        let mut last = Ok(());
        for connect in connects {
            match connect.await {
                Ok(stream) => kept.push(stream),
                Err(error) => last = Err(error.kind()),
            }
        }
        (kept.len(), last)
    });
    assert_eq!(last, (5, Err(io::ErrorKind::OutOfMemory)));
}
