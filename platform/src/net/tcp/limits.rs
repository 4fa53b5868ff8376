//! Every limit and timeout of TCP, once, with its reason.

use core::time::Duration;

/// How much of everything TCP may use. The defaults suit an image of 32 MiB.
#[derive(Clone, Copy, Debug)]
pub struct TcpLimits {
    /// Connections that exist at one time, in whatever state. One more is not answered.
    pub connections: usize,
    /// Handshakes that one listener keeps state for. Past that it answers with SYN cookies (RFC 4987), which need none.
    pub half_open: usize,
    /// Bytes of socket buffers, of all connections together, up to which buffers grow. Past it connections still have their
    /// small buffers while something is in flight or unread, but fold at once when not, and SYNs are answered with cookies:
    /// so the most there can be is 8 KiB for each of `connections`, if all of them are stuck.
    pub buffer_memory: usize,
    /// Largest receive buffer of one connection, in bytes: what it can receive in a round trip.
    pub receive_buffer: usize,
    /// Largest send buffer of one connection, in bytes.
    pub send_buffer: usize,
    /// Closed connections that are remembered in TIME-WAIT. Past that the oldest is forgotten early.
    pub time_wait: usize,
}

impl Default for TcpLimits {
    fn default() -> Self {
        Self {
            connections: 32_768,
            half_open: 256,
            buffer_memory: 8 << 20,
            receive_buffer: 256 << 10,
            send_buffer: 256 << 10,
            time_wait: 4096,
        }
    }
}

/// First size of either buffer: a request and a small answer fit, and thousands of busy connections fit in RAM.
pub(super) const SMALL_BUFFER: usize = 4096;

/// How much larger the next size of a buffer is. 4 KiB, 32 KiB, 256 KiB: two steps from idle to bulk.
pub(super) const GROWTH: usize = 8;

/// A connection on which nothing has happened for so long gives its buffers back. Long enough that a conversation is not
/// folded between its messages, short enough that a burst of visitors does not hold memory.
pub(super) const FOLD_AFTER: Duration = Duration::from_secs(2);

/// How long a peer may take to complete a handshake that it began. Four SYN-ACKs are sent in that time.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);

/// How long `connect` tries. Four SYNs are sent in that time.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a peer that owes an acknowledgement may be silent (RFC 9293 3.8.3, R2: at least 100 seconds).
pub(super) const USER_TIMEOUT: Duration = Duration::from_secs(120);

/// Interval of keepalive probes on a connection that has buffers: enough of them are lost within [`USER_TIMEOUT`] to
/// mean that the peer is gone.
pub(super) const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);

/// A folded connection is probed after so long without a segment. RFC 1122 4.2.3.6 would have two hours; address
/// translators forget a connection after a few minutes, and a server should not keep connections to the dead that long.
pub(super) const KEEPALIVE_IDLE: Duration = Duration::from_secs(300);

/// How long the peer of a connection that nobody holds any more may be silent while the last data and the FIN are
/// delivered, and how long it may take to send its own FIN after that (Linux: `tcp_fin_timeout`).
pub(super) const LINGER: Duration = Duration::from_secs(60);

/// How long such a connection may last, with whatever progress: a full send buffer at 1 KB/s.
pub(super) const LONGEST_LINGER: Duration = Duration::from_secs(300);

/// TIME-WAIT: RFC 9293 has twice a maximum segment lifetime of two minutes; Linux has 60 s. Retransmissions end well
/// within 30 s, and a new SYN beyond the old sequence numbers may end it at once (RFC 9293 3.6.1).
pub(super) const TIME_WAIT: Duration = Duration::from_secs(30);

/// At least so long between two challenge ACKs on one connection (RFC 5961 clause 7). There is no limit over all
/// connections: a shared counter lets an attacker measure others' connections (CVE-2016-5696).
pub(super) const CHALLENGE_INTERVAL: Duration = Duration::from_millis(500);

/// RSTs for segments that belong to no connection, per second: enough for honest clients to learn quickly, too few to make
/// this host an amplifier or to tell a scanner much.
pub(super) const RESETS_PER_SECOND: u32 = 100;

/// Packets that one connection may send in one round of `poll` before the others have their turn.
pub(super) const BURST: usize = 32;

/// How long listener state says "cookies have been sent": twice their period, then ACKs out of nothing are refused again.
pub(super) const COOKIES_VALID: Duration = Duration::from_secs(128);

/// Least path MTU believed for IPv4: as Linux, below what any link of today has, and too large to make us send floods of
/// tiny packets.
pub(super) const MINIMUM_MTU_V4: u16 = 552;

/// IPv6 has no link with a smaller MTU (RFC 8200 clause 5).
pub(super) const MINIMUM_MTU_V6: u16 = 1280;

/// Path MTUs are rounded down to a multiple of this: connections of one MTU share an interface of smoltcp.
pub(super) const MTU_STEP: u16 = 8;

/// How long to leave a connection alone that says it has something to send and then does not send it.
pub(super) const PATIENCE: Duration = Duration::from_millis(10);

/// Attempts at a random port before `connect` gives up.
pub(super) const PORT_ATTEMPTS: usize = 64;

/// smoltcp's longest retransmission timeout and interval of window probes, and a little.
pub(super) const LONGEST_RETRANSMISSION: Duration = Duration::from_secs(61);

/// How long data may lie in a socket that has no plan to send it.
pub(super) const STUCK_AFTER: Duration = Duration::from_secs(1);
