//! Every limit and timeout of the HTTP server, named once.

use core::time::Duration;

/// What one peer, and all of them together, may use. [`Limits::default`] suits a service in 32 MiB of memory.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at once, from everybody. One more is closed as soon as it is accepted.
    pub connections: usize,
    /// Connections at once from one IPv4 address, or from one IPv6 /64 (what one household has).
    pub connections_per_client: usize,
    /// Requests on one connection, after which it is closed in good order.
    pub requests_per_connection: u64,
    /// Bytes of a request's head: the request line and all header fields. At least 8,192.
    pub head_bytes: usize,
    /// Header fields in a request.
    pub header_fields: usize,
    /// Bytes of a request's body, whatever the handler would take.
    pub body_bytes: u64,
    /// From the first byte of a request, or from the start of the connection, to the end of the head. On TLS the handshake
    /// counts: a client that connects has something to say.
    pub head_time: Duration,
    /// How long a connection may stay open with no request running.
    pub idle_time: Duration,
    /// How long a connection may live. Then it is closed in good order after the running request.
    pub connection_time: Duration,
    /// The window in which a request body that is waited for, or a response that is being written, must move at least
    /// [`Limits::progress_bytes`].
    pub progress_time: Duration,
    /// See [`Limits::progress_time`].
    pub progress_bytes: u64,
    /// Idle for so long, a connection gives its buffers back (17 KiB of them) and keeps only its stream.
    pub park_time: Duration,
    /// After the last response, how long to read and discard what the client still sends, so that a reset does not
    /// destroy a response on its way (RFC 9112, 9.6).
    pub linger_time: Duration,
    /// At shutdown, how long running requests have to finish.
    pub drain_time: Duration,
    /// HTTP/2 streams at once on a connection (`SETTINGS_MAX_CONCURRENT_STREAMS`).
    pub streams: u32,
    /// HTTP/2 flow-control window of a stream, in bytes: what a peer may make us hold per stream.
    pub stream_window: u32,
    /// HTTP/2 flow-control window of a connection, in bytes.
    pub connection_window: u32,
    /// HTTP/2 bytes of responses held per stream until the peer takes them.
    pub send_buffer: usize,
    /// HTTP/2 streams that the peer opened and reset before we looked at them (CVE-2023-44487, "rapid reset"). One more
    /// ends the connection.
    pub reset_streams: usize,
    /// HTTP/2 streams that we reset for the peer's faults (CVE-2025-8671, "MadeYouReset"). One more ends the connection.
    pub faulty_streams: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 20_000,
            connections_per_client: 1_000,
            requests_per_connection: 1_000_000,
            head_bytes: 16 * 1024,
            header_fields: 100,
            body_bytes: 16 << 20,
            head_time: Duration::from_secs(15),
            idle_time: Duration::from_secs(75),
            connection_time: Duration::from_secs(24 * 60 * 60),
            progress_time: Duration::from_secs(20),
            progress_bytes: 2 * 1024,
            park_time: Duration::from_secs(1),
            linger_time: Duration::from_secs(2),
            drain_time: Duration::from_secs(10),
            streams: 100,
            stream_window: 64 * 1024,
            connection_window: 256 * 1024,
            send_buffer: 64 * 1024,
            reset_streams: 20,
            faulty_streams: 100,
        }
    }
}
