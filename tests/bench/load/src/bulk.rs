//! Bytes in bulk over one connection, and many connections with none.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::Failure;

/// RFC 862 to 864's ports: what reads and throws away, and what sends without end.
const DISCARD: u16 = 9;
const CHARGEN: u16 = 19;
const CHUNK: usize = 256 * 1024;

/// Reads so many bytes.
pub(crate) fn pull(server: &str, bytes: &str) -> Result<String, Failure> {
    let bytes: u64 = bytes.parse()?;
    let mut stream = TcpStream::connect(server)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut chunk = vec![0; CHUNK];
    let (start, mut done) = (Instant::now(), 0);
    while done < bytes {
        match stream.read(&mut chunk)? {
            0 => return Err(format!("closed after {done} bytes").into()),
            length => done += length as u64,
        }
    }
    Ok(rate(done, start.elapsed()))
}

/// Writes so many bytes, and waits until the other side has them all: it closes when we do.
pub(crate) fn push(server: &str, bytes: &str) -> Result<String, Failure> {
    let bytes: u64 = bytes.parse()?;
    let mut stream = TcpStream::connect(server)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let chunk = vec![b'x'; CHUNK];
    let (start, mut done) = (Instant::now(), 0);
    while done < bytes {
        stream.write_all(&chunk)?;
        done += chunk.len() as u64;
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut rest = [0; 16];
    while stream.read(&mut rest)? > 0 {}
    Ok(rate(done, start.elapsed()))
}

fn rate(bytes: u64, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64();
    format!("bytes={bytes} seconds={seconds:.3} mbit_per_second={:.1}", bytes as f64 * 8e-6 / seconds)
}

/// Opens connections, and holds them until standard input ends.
pub(crate) fn idle(server: &str, connections: &str) -> Result<String, Failure> {
    let wanted: usize = connections.parse()?;
    let start = Instant::now();
    let mut open = Vec::with_capacity(wanted);
    for number in 0..wanted {
        let stream = TcpStream::connect(server).map_err(|error| format!("connection {number}: {error}"))?;
        open.push(stream);
    }
    println!("open={} seconds={:.3}", open.len(), start.elapsed().as_secs_f64());
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    let closed = open
        .iter()
        .filter(|stream| {
            let mut byte = [0];
            let quiet = stream.set_nonblocking(true).is_ok();
            let alive = matches!(stream.peek(&mut byte), Err(error) if error.kind() == ErrorKind::WouldBlock);
            !(quiet && alive)
        })
        .count();
    Ok(format!("closed_by_server={closed}"))
}

/// The peer on Linux's own TCP.
pub(crate) fn serve(address: &str) -> Result<String, Failure> {
    let chargen = TcpListener::bind((address, CHARGEN))?;
    let discard = TcpListener::bind((address, DISCARD))?;
    println!("ready {address}");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let chunk = vec![b'x'; CHUNK];
            for mut stream in chargen.incoming().flatten() {
                while stream.write_all(&chunk).is_ok() {}
            }
        });
        let mut chunk = vec![0; CHUNK];
        for mut stream in discard.incoming().flatten() {
            while stream.read(&mut chunk).is_ok_and(|length| length > 0) {}
        }
    });
    Ok(String::new())
}
