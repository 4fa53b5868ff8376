//! The time, from a server: an SNTP client that sets the wall clock.
//!
//! Reading: RFC 5905 (7.3, 8, 14), RFC 4330 (3, 5), RFC 8633 (practice), draft-ietf-ntp-data-minimization.

use core::cell::Cell;
use core::time::Duration;
use std::io;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};

use super::Stack;
use super::configuration::NtpServer;
use super::stack::Shared;
use crate::device::{Instant, WallTime};

const PORT: u16 = 123;
/// Length of a message without authentication (RFC 5905, 7.3).
const MESSAGE_LENGTH: usize = 48;
/// Between the NTP era's start, 1900, and 1970.
const UNIX_EPOCH: u64 = 2_208_988_800;
/// How long a server has to answer; an answer that took longer tells little.
const TIMEOUT: Duration = Duration::from_secs(2);
/// After a failure, the next try: first and longest.
const FIRST_RETRY: Duration = Duration::from_secs(4);
const LONGEST_RETRY: Duration = Duration::from_secs(1024);
/// Between two questions that are answered: RFC 5905's poll exponent 10. A crystal drifts by 50 ms in it.
const INTERVAL: Duration = Duration::from_secs(1024);
/// The most that a usable server's distance to its own source may be (RFC 5905, 11.2.1, MAXDIST, and 7.3).
const MAX_ROOT_DISTANCE: Duration = Duration::from_secs(1);
/// Messages that are not the answer, after which the question is given up.
const MAX_STRAYS: usize = 8;

/// What the last answer of a time server said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeStatus {
    /// When it came.
    pub at: Instant,
    /// The way to the server and back.
    pub delay: Duration,
    /// How far the server is from a reference clock, 1 to 15.
    pub stratum: u8,
    /// How far the wall clock was off, and whether it was ahead.
    pub correction: (Duration, bool),
}

/// Why a message is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// Not an answer to our question.
    Stray,
    /// The server's clock is not set, or too far from its source.
    Unsynchronized,
    /// The server asks us to go away or to come less often (RFC 5905, 7.4).
    KissOfDeath,
}

/// A server's time, as its answer has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ServerTime {
    received: WallTime,
    transmitted: WallTime,
    stratum: u8,
}

/// The question: nothing but version, mode, and a random number where our time would be, which the answer returns.
fn question(nonce: u64) -> [u8; MESSAGE_LENGTH] {
    let mut message = [0; MESSAGE_LENGTH];
    message[0] = (4 << 3) | 3;
    message[40..].copy_from_slice(&nonce.to_be_bytes());
    message
}

/// Reads and checks an answer (RFC 5905, 8, the packet sanity tests).
fn read(message: &[u8], nonce: u64) -> Result<ServerTime, Refusal> {
    let message: &[u8; MESSAGE_LENGTH] = message.first_chunk().ok_or(Refusal::Stray)?;
    let (leap, version, mode) = (message[0] >> 6, (message[0] >> 3) & 7, message[0] & 7);
    let number = |at: usize| u64::from_be_bytes(message[at..at + 8].try_into().unwrap_or_default());
    if mode != 4 || !(3..=4).contains(&version) || number(24) != nonce {
        return Err(Refusal::Stray);
    }
    let stratum = message[1];
    if stratum == 0 {
        return Err(Refusal::KissOfDeath);
    }
    let short = |at: usize| {
        let fixed = u32::from_be_bytes(message[at..at + 4].try_into().unwrap_or_default());
        Duration::from_nanos((u64::from(fixed) * 1_000_000_000) >> 16)
    };
    let distance = short(4) / 2 + short(8);
    let (received, transmitted) = (number(32), number(40));
    if leap == 3 || stratum > 15 || distance > MAX_ROOT_DISTANCE || received == 0 || transmitted == 0 {
        return Err(Refusal::Unsynchronized);
    }
    Ok(ServerTime { received: wall(received), transmitted: wall(transmitted), stratum })
}

/// The seconds wrap in 2036 (RFC 5905, 6). What would be before 1970 is of the next era, up to 2106.
fn wall(timestamp: u64) -> WallTime {
    let era = if timestamp >> 32 >= UNIX_EPOCH { 0 } else { 1 << 32 };
    let seconds = (timestamp >> 32) + era - UNIX_EPOCH;
    let nanos = ((timestamp & 0xffff_ffff) * 1_000_000_000) >> 32;
    Duration::from_secs(seconds) + Duration::from_nanos(nanos)
}

/// The time at the end of an exchange that took us `round_trip`: half of the way after the server sent it.
fn now_at_end(server: ServerTime, round_trip: Duration) -> (WallTime, Duration) {
    let inside = server.transmitted.saturating_sub(server.received);
    let delay = round_trip.saturating_sub(inside);
    (server.transmitted + delay / 2, delay)
}

/// What the client and the stack share.
#[derive(Default)]
pub(super) struct TimeKeeper {
    status: Cell<Option<TimeStatus>>,
}

impl TimeKeeper {
    pub(super) fn status(&self) -> Option<TimeStatus> {
        self.status.get()
    }
}

/// Asks `server` again and again and sets the clock, for as long as the stack lives.
pub(super) async fn keep_time(shared: Weak<Shared>, server: NtpServer) {
    let mut retry = FIRST_RETRY;
    loop {
        let Some(stack) = shared.upgrade().map(|shared| Stack { shared }) else { return };
        stack.ready().await;
        let pause = match ask(&stack, &server).await {
            Ok(status) => {
                stack.shared.time.status.set(Some(status));
                retry = FIRST_RETRY;
                INTERVAL
            }
            Err(_) => {
                let pause = retry;
                retry = LONGEST_RETRY.min(retry * 2);
                pause
            }
        };
        let handle = stack.shared.handle.clone();
        drop(stack);
        handle.sleep(pause).await;
    }
}

async fn ask(stack: &Stack, server: &NtpServer) -> io::Result<TimeStatus> {
    let address = match server {
        NtpServer::Address(address) => Some(*address),
        NtpServer::Name(name) => name.resolve(stack).await?.first().copied(),
        NtpServer::FromDhcp => {
            stack.lease().and_then(|lease| lease.time_servers.first().copied()).map(Into::into)
        }
    };
    let address = SocketAddr::new(address.ok_or(io::ErrorKind::NotFound)?, PORT);
    let handle = &stack.shared.handle;
    let nonce = stack.shared.core.borrow().egress.entropy().next_u64();
    let socket = stack.bind_udp(0)?;
    socket.connect(address);
    let asked = handle.now();
    socket.send_to(&question(nonce), address).await?;
    let answer = async {
        for _ in 0..MAX_STRAYS {
            match read(socket.receive().await?.payload(), nonce) {
                Err(Refusal::Stray) => {}
                Err(Refusal::Unsynchronized) => return Err(io::Error::other("the time server has no time")),
                Err(Refusal::KissOfDeath) => {
                    return Err(io::Error::other("the time server wants no questions"));
                }
                Ok(time) => return Ok(time),
            }
        }
        Err(io::ErrorKind::InvalidData.into())
    };
    let time = handle.timeout(TIMEOUT, answer).await.map_err(|_| io::ErrorKind::TimedOut)??;
    let at = handle.now();
    let (now, delay) = now_at_end(time, at.since(asked));
    let before = handle.wall();
    handle.clock().set_wall(now);
    let correction = (before.abs_diff(now), before > now);
    Ok(TimeStatus { at, delay, stratum: time.stratum, correction })
}

/// Starts the client on a stack.
pub(super) fn start(shared: &Rc<Shared>, server: NtpServer) {
    shared.handle.spawn(keep_time(Rc::downgrade(shared), server));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn answer(nonce: u64, received: u64, transmitted: u64) -> [u8; MESSAGE_LENGTH] {
        let mut message = [0; MESSAGE_LENGTH];
        message[0] = (4 << 3) | 4;
        message[1] = 2;
        message[24..32].copy_from_slice(&nonce.to_be_bytes());
        message[32..40].copy_from_slice(&received.to_be_bytes());
        message[40..48].copy_from_slice(&transmitted.to_be_bytes());
        message
    }

    #[test]
    fn eras_meet_in_2036() {
        assert_eq!(wall(UNIX_EPOCH << 32), Duration::ZERO);
        assert_eq!(wall(u64::MAX).as_secs(), 2_085_978_495);
        assert_eq!(wall(0).as_secs(), 2_085_978_496);
        assert_eq!(wall((UNIX_EPOCH << 32) - 1).as_secs(), u64::from(u32::MAX));
        assert_eq!(wall((UNIX_EPOCH + 5) << 32 | 0x8000_0000), Duration::from_millis(5500));
    }

    #[test]
    fn half_of_the_way_is_added() {
        let second = |seconds: u64| (UNIX_EPOCH + seconds) << 32;
        let time = read(&answer(7, second(100), second(102)), 7).unwrap();
        let (now, delay) = now_at_end(time, Duration::from_secs(6));
        assert_eq!((now, delay), (Duration::from_secs(104), Duration::from_secs(4)));
    }

    #[test]
    fn answers_that_prove_nothing_are_refused() {
        let good = answer(7, 1 << 63, 1 << 63);
        assert!(read(&good, 7).is_ok());
        assert_eq!(read(&good, 8), Err(Refusal::Stray));
        assert_eq!(read(&good[..47], 7), Err(Refusal::Stray));
        let change = |at: usize, value: u8| {
            let mut message = good;
            message[at] = value;
            read(&message, 7)
        };
        assert_eq!(change(0, (4 << 3) | 3), Err(Refusal::Stray));
        assert_eq!(change(0, 0xc0 | (4 << 3) | 4), Err(Refusal::Unsynchronized));
        assert_eq!(change(1, 0), Err(Refusal::KissOfDeath));
        assert_eq!(change(1, 16), Err(Refusal::Unsynchronized));
        assert_eq!(change(8, 1), Err(Refusal::Unsynchronized));
        assert_eq!(read(&answer(7, 1 << 63, 0), 7), Err(Refusal::Unsynchronized));
    }

    proptest! {
        #[test]
        fn no_message_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = read(&bytes, 0);
            if bytes.len() >= MESSAGE_LENGTH {
                bytes[0] = (4 << 3) | 4;
                bytes[24..32].fill(0);
                if let Ok(time) = read(&bytes, 0) {
                    now_at_end(time, Duration::from_secs(1));
                }
            }
        }
    }
}
