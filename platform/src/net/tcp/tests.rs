//! Whole connections in simulation.

mod attacks;
mod lifecycle;
mod transfers;

use std::io;

use futures_util::{AsyncReadExt, AsyncWriteExt};

pub(super) use super::simulation::SeededEntropy;
use super::simulation::{Link, Pair};
use super::*;

/// Bytes that differ at every offset and from flow to flow.
fn pattern(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    crate::device::Entropy::fill(&SeededEntropy::new(seed), &mut bytes);
    bytes
}

fn pair(seed: u64, link: Link) -> Pair {
    Pair::new(seed, link, seed % 2 == 1, TcpLimits::default())
}

/// A connection of the pair: the client's stream and the server's.
async fn connected(connect: Connect, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let client = connect.await.expect("connects");
    let (server, _) = listener.accept().await.expect("accepts");
    (client, server)
}

/// Writes everything in pieces and closes.
async fn send_all(mut stream: TcpStream, bytes: Vec<u8>) -> TcpStream {
    for piece in bytes.chunks(10_000) {
        stream.write_all(piece).await.expect("writes");
    }
    stream.shutdown();
    stream
}

async fn read_all(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await?;
    Ok(bytes)
}
