//! IPv4 headers.
//!
//! Reading: RFC 791, RFC 1122 (3.2.1), RFC 6864 (the identification field).

use smoltcp::wire::{IpProtocol, Ipv4Packet};
use std::net::Ipv4Addr;

use super::counters::Discard;

/// Length of a header without options.
pub(super) const HEADER_LENGTH: usize = 20;
/// What a sender must assume every link to carry (RFC 791, 3.2), with room for the oldest of them (as Linux's
/// `min_pmtu`): smaller values in ICMP errors are lies or errors.
pub(super) const MINIMUM_PATH_MTU: u16 = 552;

/// Options that route by the sender's wish (RFC 791, 3.1). RFC 7126 (4.3, 4.4): drop.
const LOOSE_SOURCE_ROUTE: u8 = 131;
const STRICT_SOURCE_ROUTE: u8 = 137;

/// Where a fragment belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fragment {
    pub identification: u32,
    /// Bytes of payload before this one's.
    pub offset: usize,
    pub more: bool,
}

/// A header that has been verified.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    pub protocol: u8,
    pub header_length: usize,
    pub total_length: usize,
    pub fragment: Option<Fragment>,
}

/// Reads and verifies the header at the start of `bytes`.
pub(super) fn parse(bytes: &[u8]) -> Result<Header, Discard> {
    let packet = Ipv4Packet::new_checked(bytes).map_err(|_| Discard::Malformed)?;
    let header_length = usize::from(packet.header_len());
    let total_length = usize::from(packet.total_len());
    if packet.version() != 4
        || header_length < HEADER_LENGTH
        || total_length < header_length
        || total_length > bytes.len()
    {
        return Err(Discard::Malformed);
    }
    if !packet.verify_checksum() {
        return Err(Discard::Checksum);
    }
    if is_source_routed(&bytes[HEADER_LENGTH..header_length])? {
        return Err(Discard::Unsupported);
    }
    let offset = usize::from(packet.frag_offset());
    let more = packet.more_frags();
    Ok(Header {
        source: packet.src_addr(),
        destination: packet.dst_addr(),
        protocol: packet.next_header().into(),
        header_length,
        total_length,
        fragment: (more || offset > 0).then(|| Fragment {
            identification: u32::from(packet.ident()),
            offset,
            more,
        }),
    })
}

/// Walks the options (RFC 791, 3.1).
fn is_source_routed(mut options: &[u8]) -> Result<bool, Discard> {
    while let [kind, rest @ ..] = options {
        match *kind {
            0 => break,
            1 => options = rest,
            LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE => return Ok(true),
            _ => {
                let length = usize::from(*rest.first().ok_or(Discard::Malformed)?);
                if length < 2 {
                    return Err(Discard::Malformed);
                }
                options = options.get(length..).ok_or(Discard::Malformed)?;
            }
        }
    }
    Ok(false)
}

/// What goes into the header of a packet that we send.
#[derive(Clone, Copy, Debug)]
pub(super) struct Repr {
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    pub protocol: u8,
    pub payload_length: usize,
    pub hop_limit: u8,
    pub dont_fragment: bool,
    /// Needs to be unique only for packets that may be fragmented (RFC 6864, 4).
    pub identification: u16,
}

impl Repr {
    /// Writes the header into the first [`HEADER_LENGTH`] bytes.
    pub(super) fn emit(&self, bytes: &mut [u8]) {
        bytes[..HEADER_LENGTH].fill(0);
        let mut packet = Ipv4Packet::new_unchecked(&mut bytes[..HEADER_LENGTH]);
        packet.set_version(4);
        packet.set_header_len(20);
        packet.set_total_len(u16::try_from(HEADER_LENGTH + self.payload_length).unwrap_or(u16::MAX));
        packet.set_ident(self.identification);
        packet.set_dont_frag(self.dont_fragment);
        packet.set_hop_limit(self.hop_limit);
        packet.set_next_header(IpProtocol::from(self.protocol));
        packet.set_src_addr(self.source);
        packet.set_dst_addr(self.destination);
        packet.fill_checksum();
    }
}

/// Makes the fields for fragmentation and length of a header what they are to be, and its checksum right.
pub(super) fn rewrite(bytes: &mut [u8], total_length: usize, identification: u16, offset: usize, more: bool) {
    let mut packet = Ipv4Packet::new_unchecked(bytes);
    packet.set_total_len(u16::try_from(total_length).unwrap_or(u16::MAX));
    packet.set_ident(identification);
    packet.clear_flags();
    packet.set_more_frags(more);
    packet.set_frag_offset(u16::try_from(offset).unwrap_or(0));
    packet.fill_checksum();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(options: &[u8]) -> Vec<u8> {
        let header = HEADER_LENGTH + options.len();
        let mut bytes = vec![0; header + 8];
        let repr = Repr {
            source: Ipv4Addr::new(192, 0, 2, 1),
            destination: Ipv4Addr::new(192, 0, 2, 2),
            protocol: 17,
            payload_length: options.len() + 8,
            hop_limit: 64,
            dont_fragment: true,
            identification: 7,
        };
        repr.emit(&mut bytes);
        bytes[HEADER_LENGTH..header].copy_from_slice(options);
        let mut view = Ipv4Packet::new_unchecked(&mut bytes);
        view.set_header_len(u8::try_from(header).unwrap());
        view.fill_checksum();
        bytes
    }

    #[test]
    fn what_is_written_is_read() {
        let header = parse(&packet(&[])).unwrap();
        assert_eq!((header.header_length, header.total_length, header.protocol), (20, 28, 17));
        assert_eq!(header.fragment, None);
        let mut bytes = packet(&[]);
        rewrite(&mut bytes, 28, 9, 1480, true);
        let fragment = parse(&bytes).unwrap().fragment;
        assert_eq!(fragment, Some(Fragment { identification: 9, offset: 1480, more: true }));
    }

    #[test]
    fn source_routes_and_broken_headers_are_refused() {
        assert_eq!(parse(&packet(&[1, 1, 1, 131])).unwrap_err(), Discard::Unsupported);
        assert_eq!(parse(&packet(&[7, 0, 0, 0])).unwrap_err(), Discard::Malformed);
        assert_eq!(parse(&packet(&[7, 9, 0, 0])).unwrap_err(), Discard::Malformed);
        assert!(parse(&packet(&[7, 4, 0, 0])).is_ok());
        let mut bytes = packet(&[]);
        bytes[8] ^= 1;
        assert_eq!(parse(&bytes).unwrap_err(), Discard::Checksum);
        assert_eq!(parse(&packet(&[])[..27]).unwrap_err(), Discard::Malformed);
    }
}
