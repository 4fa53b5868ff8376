#![forbid(unsafe_code)]
//! A test image: echo (RFC 862), discard (RFC 863) and a character generator (RFC 864) over TCP, for benches of
//! connections.

use std::io;

use futures_util::io::{AsyncReadExt, AsyncWriteExt};
use platform::image::{Failure, Image};
use platform::net::{Stack, TcpStream};

/// Connections that may wait to be accepted on each port.
const BACKLOG: usize = 1024;
/// Bytes written at once by the generator and read at once by the others.
const CHUNK: usize = 64 * 1024;
/// Bytes that echo reads at once: it holds them for each of many connections.
const ECHO_CHUNK: usize = 1024;

platform::image!(include_str!("../image.toml"), serve);

async fn serve(mut image: Image) -> Result<(), Failure> {
    let stack = image.network("service")?;
    stack.ready().await;
    listen(&image, &stack, 7, echo)?;
    listen(&image, &stack, 9, discard)?;
    listen(&image, &stack, 19, generate)?;
    let addresses: Vec<_> = stack.addresses().iter().map(|assigned| assigned.cidr.to_string()).collect();
    image.ready(&addresses.join(" "));
    image.shutdown().requested().await;
    Ok(())
}

fn listen<F>(image: &Image, stack: &Stack, port: u16, serve: fn(TcpStream) -> F) -> io::Result<()>
where
    F: Future<Output = io::Result<()>> + 'static,
{
    let listener = stack.listen(port, BACKLOG)?;
    let handle = image.handle().clone();
    image.handle().spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            handle.spawn(serve(stream));
        }
    });
    Ok(())
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut chunk = [0; ECHO_CHUNK];
    loop {
        match stream.read(&mut chunk).await? {
            0 => return stream.close().await,
            length => stream.write_all(&chunk[..length]).await?,
        }
    }
}

async fn discard(mut stream: TcpStream) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    while stream.read(&mut chunk).await? > 0 {}
    stream.close().await
}

async fn generate(mut stream: TcpStream) -> io::Result<()> {
    let chunk = vec![b'x'; CHUNK];
    loop {
        stream.write_all(&chunk).await?;
    }
}
