//! How connections begin and end.

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
    }
}
