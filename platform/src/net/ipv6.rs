//! IPv6 headers and the chain of extension headers.
//!
//! Reading: RFC 8200, RFC 6946 (atomic fragments), RFC 7112 (the chain is whole in the first fragment), RFC 5095 (no
//! type 0 routing header), RFC 8504 (5.3, limits on extension headers).

use smoltcp::wire::{IpProtocol, Ipv6FragmentHeader, Ipv6Packet};
use std::net::Ipv6Addr;

use super::counters::Discard;
use super::ipv4::Fragment;

/// Length of the fixed header.
pub(super) const HEADER_LENGTH: usize = 40;
/// Length of a fragment header (RFC 8200, 4.5).
pub(super) const FRAGMENT_HEADER_LENGTH: usize = 8;
/// What every link carries (RFC 8200, 5).
pub(super) const MINIMUM_MTU: u16 = 1280;

/// Extension headers in a packet, at most: honest packets have one or two (RFC 8504, 5.3).
const MAX_EXTENSION_HEADERS: usize = 8;
/// Options in all of a packet's option headers, at most; padding counts (RFC 8504, 5.3).
const MAX_OPTIONS: usize = 16;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
/// Next Header of a fragment header.
pub(super) const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

/// A Parameter Problem to be reported to the sender (RFC 4443, 3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub code: u8,
    /// Offset of the offending byte in the packet.
    pub pointer: u32,
    /// Whether the report is also owed when the destination is a multicast group.
    pub to_multicast: bool,
}

/// Why a packet is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Discard(Discard),
    Problem(Problem),
}

impl From<Discard> for Refusal {
    fn from(reason: Discard) -> Self {
        Self::Discard(reason)
    }
}

/// The fixed header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub source: Ipv6Addr,
    pub destination: Ipv6Addr,
    pub next_header: u8,
    pub total_length: usize,
}

/// What the chain of extension headers leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    /// The header after the chain (the transport), or the one after the fragment header.
    pub protocol: u8,
    /// Where it starts, in bytes from the start of the packet.
    pub header_length: usize,
    /// Where the Next Header field that names `protocol` is.
    pub next_header_at: usize,
    /// The fragment that this packet is, with where its fragment header starts and the field that names it.
    pub fragment: Option<(Fragment, FragmentHeaderAt)>,
    /// Whether there was a fragment header at all, be it of an atomic fragment (RFC 6946).
    pub had_fragment_header: bool,
}

/// Where a fragment header is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FragmentHeaderAt {
    /// Where it starts.
    pub start: usize,
    /// Where the Next Header field is that announces it.
    pub announced_at: usize,
}

/// Reads the fixed header at the start of `bytes`. The payload may be shorter than `bytes`: Ethernet pads.
pub(super) fn parse(bytes: &[u8]) -> Result<Header, Discard> {
    let packet = Ipv6Packet::new_checked(bytes).map_err(|_| Discard::Malformed)?;
    if packet.version() != 6 {
        return Err(Discard::Malformed);
    }
    Ok(Header {
        source: packet.src_addr(),
        destination: packet.dst_addr(),
        next_header: packet.next_header().into(),
        total_length: packet.total_len(),
    })
}

/// Walks the extension headers of `packet`, which holds exactly the IPv6 packet.
pub(super) fn walk(packet: &[u8]) -> Result<Chain, Refusal> {
    let mut chain = Chain {
        protocol: packet[6],
        header_length: HEADER_LENGTH,
        next_header_at: 6,
        fragment: None,
        had_fragment_header: false,
    };
    let mut options_left = MAX_OPTIONS;
    for index in 0..=MAX_EXTENSION_HEADERS {
        let rest = &packet[chain.header_length..];
        let length = match chain.protocol {
            HOP_BY_HOP if index > 0 => return Err(problem(1, chain.next_header_at)),
            HOP_BY_HOP | DESTINATION_OPTIONS => {
                let length = extension_length(rest)?;
                check_options(&rest[2..length], chain.header_length + 2, &mut options_left)?;
                length
            }
            ROUTING => {
                let length = extension_length(rest)?;
                // Segments Left must be 0 at the last hop, and we are no router; type 0 is dead (RFC 5095).
                if rest[3] != 0 {
                    return Err(problem(0, chain.header_length + 2));
                }
                length
            }
            FRAGMENT => {
                let header = Ipv6FragmentHeader::new_checked(rest.get(2..8).ok_or(Discard::Malformed)?)
                    .map_err(|_| Discard::Malformed)?;
                let at = FragmentHeaderAt { start: chain.header_length, announced_at: chain.next_header_at };
                let offset = usize::from(header.frag_offset()) * 8;
                let more = header.more_frags();
                if chain.had_fragment_header {
                    return Err(Discard::Malformed.into());
                }
                chain.had_fragment_header = true;
                if more || offset > 0 {
                    let fragment = Fragment { identification: header.ident(), offset, more };
                    chain.fragment = Some((fragment, at));
                }
                if offset > 0 {
                    chain.protocol = rest[0];
                    chain.header_length += FRAGMENT_HEADER_LENGTH;
                    return Ok(chain);
                }
                FRAGMENT_HEADER_LENGTH
            }
            _ => return Ok(chain),
        };
        chain.protocol = rest[0];
        chain.next_header_at = chain.header_length;
        chain.header_length += length;
    }
    Err(Discard::Unsupported.into())
}

fn problem(code: u8, pointer: usize) -> Refusal {
    let pointer = u32::try_from(pointer).unwrap_or(0);
    Refusal::Problem(Problem { code, pointer, to_multicast: false })
}

fn extension_length(rest: &[u8]) -> Result<usize, Discard> {
    let units = rest.get(1).ok_or(Discard::Malformed)?;
    let length = (usize::from(*units) + 1) * 8;
    if length > rest.len() { Err(Discard::Malformed) } else { Ok(length) }
}

/// Checks the options of a hop-by-hop or destination options header (RFC 8200, 4.2). We know padding and the router
/// alert; what to do with the others is in the highest two bits of their type.
fn check_options(mut options: &[u8], mut at: usize, left: &mut usize) -> Result<(), Refusal> {
    while let [kind, rest @ ..] = options {
        *left = left.checked_sub(1).ok_or(Discard::Unsupported)?;
        let length = match (*kind, rest.first()) {
            (0, _) => 1,
            (_, None) => return Err(Discard::Malformed.into()),
            (kind, Some(length)) => {
                match kind {
                    1 | 5 => {}
                    _ if kind >> 6 == 0 => {}
                    _ if kind >> 6 == 1 => return Err(Discard::Unsupported.into()),
                    _ => {
                        let pointer = u32::try_from(at).unwrap_or(0);
                        return Err(Refusal::Problem(Problem {
                            code: 2,
                            pointer,
                            to_multicast: kind >> 6 == 2,
                        }));
                    }
                }
                2 + usize::from(*length)
            }
        };
        options = options.get(length..).ok_or(Discard::Malformed)?;
        at += length;
    }
    Ok(())
}

/// Writes a fixed header into the first [`HEADER_LENGTH`] bytes.
pub(super) fn emit(
    bytes: &mut [u8],
    source: Ipv6Addr,
    destination: Ipv6Addr,
    next_header: u8,
    payload_length: usize,
    hop_limit: u8,
) {
    bytes[..HEADER_LENGTH].fill(0);
    let mut packet = Ipv6Packet::new_unchecked(&mut bytes[..HEADER_LENGTH]);
    packet.set_version(6);
    packet.set_payload_len(u16::try_from(payload_length).unwrap_or(u16::MAX));
    packet.set_next_header(IpProtocol::from(next_header));
    packet.set_hop_limit(hop_limit);
    packet.set_src_addr(source);
    packet.set_dst_addr(destination);
}

/// Writes a fragment header (RFC 8200, 4.5).
pub(super) fn emit_fragment_header(bytes: &mut [u8], next_header: u8, fragment: Fragment) {
    bytes[..FRAGMENT_HEADER_LENGTH].fill(0);
    bytes[0] = next_header;
    let mut header = Ipv6FragmentHeader::new_unchecked(&mut bytes[2..FRAGMENT_HEADER_LENGTH]);
    header.clear_reserved();
    header.set_frag_offset(u16::try_from(fragment.offset / 8).unwrap_or(0));
    header.set_more_frags(fragment.more);
    header.set_ident(fragment.identification);
}

/// Sets the Payload Length.
pub(super) fn set_payload_length(bytes: &mut [u8], length: usize) {
    Ipv6Packet::new_unchecked(bytes).set_payload_len(u16::try_from(length).unwrap_or(u16::MAX));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(next_header: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_LENGTH];
        emit(&mut bytes, Ipv6Addr::LOCALHOST, Ipv6Addr::LOCALHOST, next_header, rest.len(), 64);
        bytes.extend_from_slice(rest);
        bytes
    }

    #[test]
    fn the_chain_leads_to_the_transport() {
        let chain = walk(&packet(0, &[60, 0, 5, 2, 0, 0, 1, 0, 17, 0, 1, 4, 0, 0, 0, 0, 9, 9])).unwrap();
        assert_eq!((chain.protocol, chain.header_length, chain.next_header_at), (17, 56, 48));
        assert_eq!(chain.fragment, None);
    }

    #[test]
    fn fragments_are_told_from_atomic_ones() {
        let mut header = [0; 8];
        let fragment = Fragment { identification: 0xdead_beef, offset: 1232, more: true };
        emit_fragment_header(&mut header, 17, fragment);
        let chain = walk(&packet(44, &header)).unwrap();
        assert_eq!(chain.fragment, Some((fragment, FragmentHeaderAt { start: 40, announced_at: 6 })));
        emit_fragment_header(&mut header, 17, Fragment { offset: 0, more: false, ..fragment });
        let chain = walk(&packet(44, &header)).unwrap();
        assert_eq!((chain.fragment, chain.had_fragment_header, chain.header_length), (None, true, 48));
    }

    #[test]
    fn what_a_host_must_refuse_is_refused() {
        let unknown = |kind| walk(&packet(60, &[17, 0, kind, 4, 0, 0, 0, 0]));
        assert!(unknown(0x1e).is_ok());
        assert_eq!(unknown(0x5e), Err(Refusal::Discard(Discard::Unsupported)));
        let report = |to_multicast| Err(Refusal::Problem(Problem { code: 2, pointer: 42, to_multicast }));
        assert_eq!(unknown(0x9e), report(true));
        assert_eq!(unknown(0xde), report(false));
        assert_eq!(walk(&packet(43, &[17, 0, 0, 1, 0, 0, 0, 0])), Err(problem(0, 42)));
        assert_eq!(
            walk(&packet(60, &[0, 0, 1, 4, 0, 0, 0, 0, 17, 0, 1, 4, 0, 0, 0, 0])),
            Err(problem(1, 40))
        );
        assert_eq!(walk(&packet(60, &[17, 9, 0, 0])), Err(Refusal::Discard(Discard::Malformed)));
        let endless: Vec<u8> = [60, 0, 1, 4, 0, 0, 0, 0].repeat(9);
        assert_eq!(walk(&packet(60, &endless)), Err(Refusal::Discard(Discard::Unsupported)));
        assert_eq!(
            walk(&packet(60, &[17, 2].into_iter().chain([0; 22]).collect::<Vec<_>>())),
            Err(Refusal::Discard(Discard::Unsupported))
        );
    }
}
