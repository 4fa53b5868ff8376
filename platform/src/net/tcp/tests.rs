//! Whole connections in simulation.

use core::time::Duration;

use futures_util::{AsyncReadExt, AsyncWriteExt};

pub(super) use super::simulation::SeededEntropy;
use super::simulation::{Link, Pair};
use super::*;

#[test]
fn a_connection_is_made_and_carries_bytes() {
    for version6 in [false, true] {
        let pair = Pair::new(1, Link::default(), version6, TcpLimits::default());
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
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.unwrap();
            assert_eq!(answer, b"world");
            server.await.unwrap();
        });
    }
}
