//! What an operator would look for with `netstat -s`.

/// Why a received frame or packet was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Discard {
    Malformed,
    Checksum,
    Martian,
    NotForUs,
    Unsupported,
}

/// Events of a stack since it started. All counts of packets, unless a doc says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Ethernet frames received.
    pub frames_received: u64,
    /// Ethernet frames given to the device.
    pub frames_sent: u64,
    /// Bytes of the frames received.
    pub bytes_received: u64,
    /// Bytes of the frames sent.
    pub bytes_sent: u64,
    /// Received, dropped: a header that breaks its own rules.
    pub malformed: u64,
    /// Received, dropped: a wrong checksum.
    pub checksum_errors: u64,
    /// Received, dropped: a source or destination that no honest packet on a wire has.
    pub martians: u64,
    /// Received, dropped: for another host.
    pub not_for_us: u64,
    /// Received, dropped: a protocol or an option that is not spoken here.
    pub unsupported: u64,
    /// Sent, dropped: no route.
    pub no_route: u64,
    /// Sent, dropped: the transmit queue was full.
    pub transmit_queue_full: u64,
    /// Sent, dropped: the neighbour did not answer, or too many packets waited for it.
    pub neighbor_unreachable: u64,
    /// Sent, dropped: larger than the path takes and not to be fragmented.
    pub too_big: u64,
    /// Fragments received.
    pub fragments: u64,
    /// Datagrams put together from fragments.
    pub reassembled: u64,
    /// Datagrams whose fragments overlapped, did not fit the limits or did not all come in time.
    pub reassembly_failed: u64,
    /// Echo requests answered.
    pub echo_replies: u64,
    /// ICMP errors sent.
    pub icmp_errors_sent: u64,
    /// ICMP errors received.
    pub icmp_errors_received: u64,
    /// ICMP messages not sent because of the rate limit.
    pub icmp_rate_limited: u64,
    /// UDP datagrams received for a socket.
    pub udp_received: u64,
    /// UDP datagrams sent.
    pub udp_sent: u64,
    /// UDP datagrams to a port where nobody listens.
    pub udp_no_port: u64,
    /// UDP datagrams dropped because their socket's queue was full.
    pub udp_queue_full: u64,
    /// Claims by others to an address of ours.
    pub address_conflicts: u64,
}

impl Counters {
    pub(super) fn discard(&mut self, reason: Discard) {
        *match reason {
            Discard::Malformed => &mut self.malformed,
            Discard::Checksum => &mut self.checksum_errors,
            Discard::Martian => &mut self.martians,
            Discard::NotForUs => &mut self.not_for_us,
            Discard::Unsupported => &mut self.unsupported,
        } += 1;
    }
}
