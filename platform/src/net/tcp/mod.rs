//! The transmission control protocol: smoltcp's sockets behind a table of connections, and what a server needs around
//! them.
//!
//! Reading: RFC 9293, 5961 (blind attacks), 6528 (initial sequence numbers), 4987 (SYN floods), 5927 (ICMP attacks).
//!
//! smoltcp gives the state machine, retransmission, Cubic, reassembly and window scaling. Its interface searches its
//! sockets one after the other, so each connection here has a socket set of its own, and a hash table leads from a
//! segment's four numbers to it. Interfaces are shared: one for each path MTU.
//!
//! | file | its subject |
//! |---|---|
//! | `engine` | the table: which connection a segment belongs to, new ones, errors, the order of work |
//! | `flow` | one connection: its socket, how it folds when idle and grows when busy |
//! | `validate` | which segments are believed (RFC 5961) |
//! | `sequence` | initial sequence numbers and SYN cookies |
//! | `device` | from smoltcp's tokens to frames, with checksum and segmentation offload |
//! | `segment` | reading and writing headers |
//! | `listener`, `stream` | what applications hold |
//! | `limits`, `counters` | every number, and what is counted |
//! | `simulation` | two engines and a bad link between, for tests and benches |
//!
//! The order of work: the stack gives a batch of packets to [`TcpEngine::receive`], then calls [`TcpEngine::poll`], which
//! sends for the connections that received something, that an application touched, or whose timer is due, a bounded number
//! of packets for each.
//!
//! What smoltcp 0.14 does not do, and this module cannot add from outside: a sender does not use SACK, so several losses in
//! one window cost a retransmission timeout (of at least a second); timestamps (RFC 7323) are not sent, so sequence numbers
//! are not protected against wrapping; there is no ECN. The initial congestion window is two segments. After an ICMP "too
//! big" the segments in flight are cut anew by the retransmission timeout, not at once.
//!
//! What it does wrong, and where that is put right (each was found by the simulation): bare ACKs with a rewound sequence
//! number (`device`, `Wire::pass`); IPv6 packets for segmentation offload dropped (`device`, `interface_mtu`); keepalives
//! with a byte that may pass for data (`flow::recovery`); windows that overtaken segments close again (`flow`,
//! `peer_window_end`); window updates ignored in LAST-ACK (`flow`, `close_socket`); data beyond the window, or a FIN, that no
//! timer remembers (`flow::recovery`).

mod counters;
mod demux;
mod device;
mod engine;
mod flow;
mod hash;
mod limits;
mod listener;
mod segment;
mod sequence;
mod shared;
pub mod simulation;
mod stream;
mod validate;

pub use counters::TcpCounters;
pub(crate) use engine::TcpEngine;
pub use limits::TcpLimits;
pub use listener::TcpListener;
pub use stream::{Connect, TcpStream};

#[cfg(test)]
mod tests;
