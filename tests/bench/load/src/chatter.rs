//! Short messages over many connections, and what each costs the server.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::Failure;

/// Bytes in a message.
const LENGTH: usize = 64;
/// Messages under way at one time.
const WINDOW: usize = 8;
/// An echo that takes so long has failed the bench.
const PATIENCE: Duration = Duration::from_secs(60);
/// Before it is measured each connection has had, on average, this many messages.
const WARM_UP: usize = 2;

/// Opens connections to an echo server and sends messages over them in random order, the same number on each on average.
/// The server is the process `server_pid` of this machine, whose time on the processor is what a message costs.
pub(crate) fn chatter(
    server: &str,
    connections: &str,
    seconds: &str,
    server_pid: &str,
) -> Result<String, Failure> {
    let wanted: usize = connections.parse()?;
    let duration = Duration::from_secs(seconds.parse()?);
    if wanted < WINDOW {
        return Err(format!("at least {WINDOW} connections are needed").into());
    }
    let mut streams = Vec::with_capacity(wanted);
    for number in 0..wanted {
        let stream = TcpStream::connect(server).map_err(|error| format!("connection {number}: {error}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        streams.push(stream);
    }
    let mut random = Random(1);
    let mut sent = 0;
    while sent < WARM_UP * wanted {
        sent += exchange(&mut streams, &mut random)?;
    }
    let (start, before) = (Instant::now(), processor_time(server_pid)?);
    let mut messages = 0;
    while start.elapsed() < duration {
        messages += exchange(&mut streams, &mut random)?;
    }
    let elapsed = start.elapsed().as_secs_f64();
    let used = processor_time(server_pid)? - before;
    Ok(format!(
        "connections={wanted} messages={messages} messages_per_second={:.0} server_ns_per_message={:.0}",
        messages as f64 / elapsed,
        used.as_nanos() as f64 / messages as f64
    ))
}

/// Sends a message on each of a few connections, then waits for all echoes.
fn exchange(streams: &mut [TcpStream], random: &mut Random) -> Result<usize, Failure> {
    for place in 0..WINDOW {
        let chosen = place + random.below(streams.len() - place);
        streams.swap(place, chosen);
    }
    let message = [b'm'; LENGTH];
    let mut echo = [0; LENGTH];
    for stream in &mut streams[..WINDOW] {
        stream.write_all(&message)?;
    }
    for stream in &mut streams[..WINDOW] {
        stream.read_exact(&mut echo)?;
        if echo != message {
            return Err("an echo differs from its message".into());
        }
    }
    Ok(WINDOW)
}

/// How long a process has been on a processor, in its own code and in the kernel's.
fn processor_time(pid: &str) -> Result<Duration, Failure> {
    let statistics = fs::read_to_string(format!("/proc/{pid}/schedstat"))?;
    let nanoseconds = statistics.split_whitespace().next().ok_or("schedstat is empty")?;
    Ok(Duration::from_nanos(nanoseconds.parse()?))
}

/// `SplitMix64`: the same order in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}
