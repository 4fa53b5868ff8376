//! What TCP counts, for metrics.

/// Counters since start, and two gauges at the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpCounters {
    /// Connections that peers opened.
    pub accepted: u64,
    /// Connections that this side opened.
    pub connected: u64,
    /// SYNs dropped for a limit: connections, backlog or buffers.
    pub refused: u64,
    /// SYN-ACKs sent that keep no state here.
    pub cookies_sent: u64,
    /// Handshakes completed by such a cookie.
    pub cookies_accepted: u64,
    /// Challenge ACKs sent (RFC 5961).
    pub challenge_acks: u64,
    /// Segments sent again.
    pub retransmitted: u64,
    /// Resets sent.
    pub resets_sent: u64,
    /// Connections ended by a peer's reset.
    pub resets_received: u64,
    /// Connections ended by a timeout.
    pub timed_out: u64,
    /// Segments that were malformed or had a wrong checksum.
    pub malformed: u64,
    /// ICMP errors about TCP that did not name anything in flight (RFC 5927).
    pub icmp_ignored: u64,
    /// Times that a connection gave its buffers back for idleness.
    pub folded: u64,
    /// Gauge: connections that exist now, TIME-WAIT included.
    pub flows: u64,
    /// Gauge: bytes of socket buffers now.
    pub buffer_bytes: u64,
}
