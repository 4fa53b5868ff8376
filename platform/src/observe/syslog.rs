//! The log to a collector: syslog (RFC 5424) over UDP (RFC 5426).
//!
//! What is logged while the network is slow waits in a short queue; the oldest gives way. So the log never waits for the
//! network, and logging from within the network stack is no loop.

use core::cell::{Cell, RefCell};
use core::future::poll_fn;
use core::task::{Poll, Waker};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;

use ::log::Level;

use super::CivilTime;
use super::log::Sink;
use crate::executor::Handle;
use crate::net::UdpSocket;

/// Messages that wait to be sent: a burst at start, of some 200 bytes each.
const QUEUE: usize = 256;

/// Facility 3, "system daemons" (RFC 5424, 6.2.1).
const FACILITY: u8 = 3;

/// Longest message in bytes: what every collector should take (RFC 5426, 3.2).
const LONGEST: usize = 2048;

struct Queue {
    hostname: String,
    application: String,
    waiting: RefCell<VecDeque<Vec<u8>>>,
    lost: Cell<u64>,
    sender: RefCell<Option<Waker>>,
}

/// Sends events to a collector. A [`Sink`] of the log.
pub struct Syslog {
    queue: Rc<Queue>,
}

impl Syslog {
    /// Sends from `socket` to `collector`, as `application` on `hostname`, in a task of its own.
    #[must_use]
    pub fn start(
        handle: &Handle,
        socket: UdpSocket,
        collector: SocketAddr,
        hostname: &str,
        application: &str,
    ) -> Self {
        let queue = Rc::new(Queue {
            hostname: field(hostname),
            application: field(application),
            waiting: RefCell::default(),
            lost: Cell::new(0),
            sender: RefCell::default(),
        });
        let source = Rc::clone(&queue);
        handle.spawn(async move {
            loop {
                let message = source.next().await;
                // Syslog over UDP is not acknowledged: what cannot be sent is lost, as what is lost on the way.
                if socket.send_to(&message, collector).await.is_err() {
                    source.lost.set(source.lost.get() + 1);
                }
            }
        });
        Self { queue }
    }

    /// Events that could not be sent, or gave way to newer ones.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.queue.lost.get()
    }
}

impl Sink for Syslog {
    fn event(&self, time: CivilTime, level: Level, target: &str, text: &str) {
        let Queue { hostname, application, .. } = &*self.queue;
        self.queue.push(message(time, level, hostname, application, target, text));
    }
}

impl Queue {
    fn push(&self, message: Vec<u8>) {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.len() >= QUEUE {
            waiting.pop_front();
            self.lost.set(self.lost.get() + 1);
        }
        waiting.push_back(message);
        if let Some(sender) = self.sender.borrow_mut().take() {
            sender.wake();
        }
    }

    async fn next(&self) -> Vec<u8> {
        poll_fn(|context| match self.waiting.borrow_mut().pop_front() {
            Some(message) => Poll::Ready(message),
            None => {
                *self.sender.borrow_mut() = Some(context.waker().clone());
                Poll::Pending
            }
        })
        .await
    }
}

/// A header field: printable ASCII without spaces, `-` if there is none (RFC 5424, 6).
fn field(text: &str) -> String {
    let text: String = text.chars().filter(char::is_ascii_graphic).take(48).collect();
    if text.is_empty() { "-".to_owned() } else { text }
}

/// A message (RFC 5424, 6). No process, no message id, no structured data.
fn message(
    time: CivilTime,
    level: Level,
    hostname: &str,
    application: &str,
    target: &str,
    text: &str,
) -> Vec<u8> {
    let severity = match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    };
    let priority = FACILITY * 8 + severity;
    // The byte order mark says that what follows is UTF-8 (RFC 5424, 6.4).
    let mut line = format!("<{priority}>1 {time} {hostname} {application} - - - \u{feff}{target}: {text}");
    if line.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|end| line.is_char_boundary(*end)).unwrap_or(0);
        line.truncate(end);
    }
    line.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;
    use futures_util::FutureExt;

    fn queue() -> Rc<Queue> {
        Rc::new(Queue {
            hostname: field("cal.example"),
            application: field("cal dav"),
            waiting: RefCell::default(),
            lost: Cell::new(0),
            sender: RefCell::default(),
        })
    }

    #[test]
    fn a_message_is_as_the_rfc_has_it() {
        let syslog = Syslog { queue: queue() };
        let time = CivilTime::from_wall(Duration::from_millis(1_795_448_400_123));
        syslog.event(time, Level::Warn, "http", "caf\u{e9}");
        let sent = syslog.queue.next().now_or_never().unwrap();
        assert_eq!(
            String::from_utf8(sent).unwrap(),
            "<28>1 2026-11-23T15:40:00.123Z cal.example caldav - - - \u{feff}http: caf\u{e9}"
        );
        assert!(message(time, Level::Info, "a", "b", "c", &"\u{e9}".repeat(4_000)).len() <= LONGEST);
    }

    #[test]
    fn the_oldest_gives_way_when_nobody_takes() {
        let syslog = Syslog { queue: queue() };
        for number in 0..QUEUE + 10 {
            syslog.queue.push(number.to_string().into_bytes());
        }
        assert_eq!(syslog.lost(), 10);
        assert_eq!(syslog.queue.next().now_or_never().unwrap(), b"10");
    }
}
