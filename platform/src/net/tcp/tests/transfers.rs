//! What arrives is what was sent, whatever the link does.

use core::time::Duration;

use futures_util::future::join;
use futures_util::io::{ReadHalf, WriteHalf};

use super::*;
use crate::device::Entropy;

/// How many seeds to run: a few hundred, or as many as `SKERRY_SEEDS` says.
fn seeds() -> u64 {
    std::env::var("SKERRY_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(300)
}

/// A link that the seed chooses: up to five per cent loss, reordering, duplicates, small MTUs, both kinds of offload.
fn random_link(random: &SeededEntropy) -> Link {
    let below = |limit: u64| random.next_u64() % limit;
    let mtu = [1500, 1280, 9000, 1400][below(4) as usize];
    Link {
        latency: Duration::from_micros(50 + below(60_000)),
        jitter: Duration::from_micros(below(3) * below(20_000)),
        loss: [0, 0, 5, 20, 50][below(5) as usize],
        duplication: [0, 0, 10, 50][below(4) as usize],
        mtu,
        path_mtu: if below(4) == 0 { 1280 } else { mtu },
        offload: below(2) == 0,
    }
}

#[test]
fn both_directions_at_once_over_links_of_all_kinds() {
    let first = std::env::var("SKERRY_SEED").ok().and_then(|seed| seed.parse().ok());
    for seed in first.map_or(0..seeds(), |seed| seed..seed + 1) {
        let random = SeededEntropy::new(seed ^ 0x5eed);
        let link = random_link(&random);
        let length = |kind: u64| match kind % 4 {
            0 => 0,
            1 => (kind >> 8) as usize % 100,
            2 => (kind >> 8) as usize % 20_000,
            _ => (kind >> 8) as usize % 200_000,
        };
        let request = pattern(seed, length(random.next_u64()));
        let answer = pattern(!seed, length(random.next_u64()));
        let (expected_request, expected_answer) = (request.clone(), answer.clone());
        let pair = pair(seed, link);
        if first.is_some() {
            let h = pair.handle();
            pair.set_filter(move |p, f| {
                let t = if p[0] >> 4 == 4 { 20 } else { 40 };
                let tp = smoltcp::wire::TcpPacket::new_unchecked(&p[t..]);
                eprintln!("{:?} {} {} len {}", h.now(), f, tp, p.len());
                true
            });
        }
        let listener = pair.server.listen(80, 16).unwrap();
        let connect = pair.client.connect(&pair.server, 80);
        let handle = pair.handle();
        let passed = pair.run(async move {
            let both = async {
                // Both ends are kept until both are done: what lingering may cut off is another test's matter.
                let client = async {
                    let mut client = connect.await?.split();
                    exchange(&mut client, request).await.map(|received| (client, received))
                };
                let server = async {
                    let mut server = listener.accept().await?.0.split();
                    exchange(&mut server, answer).await.map(|received| (server, received))
                };
                join(client, server).await
            };
            handle.timeout(Duration::from_secs(3600), Box::pin(both)).await
        });
        let (at_client, at_server) = passed.unwrap_or_else(|_| panic!("seed {seed} hangs: {link:?}"));
        for (received, sent) in [(at_server, expected_request), (at_client, expected_answer)] {
            match received {
                Ok((_, received)) => {
                    let same = received.iter().zip(&sent).take_while(|(a, b)| a == b).count();
                    let (got, wanted) = (received.len(), sent.len());
                    assert!(
                        received == sent,
                        "seed {seed}: wrong from {same} of {wanted} (got {got}), {link:?}"
                    );
                }
                Err(error) => panic!("seed {seed}: {error}, {link:?}"),
            }
        }
    }
}

/// Sends all and reads all at the same time.
async fn exchange(
    (reader, writer): &mut (ReadHalf<TcpStream>, WriteHalf<TcpStream>),
    bytes: Vec<u8>,
) -> io::Result<Vec<u8>> {
    let write = async {
        for piece in bytes.chunks(10_000) {
            writer.write_all(piece).await?;
        }
        writer.close().await
    };
    let mut received = Vec::new();
    let (written, read) = join(write, reader.read_to_end(&mut received)).await;
    written?;
    read?;
    Ok(received)
}

#[test]
fn messages_to_and_fro_with_pauses_that_fold_the_connection() {
    for seed in 0..seeds() / 10 {
        let random = SeededEntropy::new(seed);
        let link = Link { loss: [0, 30][seed as usize % 2], offload: seed % 3 == 0, ..Link::default() };
        let pair = pair(seed, link);
        let listener = pair.server.listen(80, 16).unwrap();
        let connect = pair.client.connect(&pair.server, 80);
        let handle = pair.handle();
        pair.run(async move {
            let (mut client, mut server) = connected(connect, &listener).await;
            for round in 0..20 {
                let message = pattern(seed + round, 1 + random.next_u64() as usize % 9_000);
                client.write_all(&message).await.unwrap();
                let mut received = vec![0; message.len()];
                join(async { server.read_exact(&mut received).await.unwrap() }, async {}).await;
                assert!(received == message, "seed {seed}, round {round}");
                server.write_all(&received).await.unwrap();
                client.read_exact(&mut received).await.unwrap();
                assert!(received == message, "seed {seed}, round {round}, back");
                handle.sleep(Duration::from_millis(random.next_u64() % 5_000)).await;
            }
        });
        assert!(pair.server.counters().folded > 2, "{:?}", pair.server.counters());
    }
}

#[test]
fn a_bulk_transfer_grows_the_buffers_and_is_fast() {
    for offload in [false, true] {
        let link = Link { latency: Duration::from_millis(10), offload, ..Link::default() };
        let pair = pair(4, link);
        let listener = pair.server.listen(80, 16).unwrap();
        let connect = pair.client.connect(&pair.server, 80);
        let bytes = pattern(9, 20_000_000);
        let expected = bytes.clone();
        let handle = pair.handle();
        let (received, took) = pair.run(async move {
            let (client, mut server) = connected(connect, &listener).await;
            let start = handle.now();
            let (_client, received) = join(send_all(client, bytes), read_all(&mut server)).await;
            (received.unwrap(), handle.now().since(start))
        });
        assert!(received == expected);
        // A window of 256 KiB each 20 ms is 13 MB/s; with 4 KiB buffers it would take 100 seconds.
        assert!(took < Duration::from_secs(4), "took {took:?} with offload {offload}");
    }
}
