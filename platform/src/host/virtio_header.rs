//! The header that virtio-net and tap devices put before each frame.
//!
//! Read first: virtio 1.2, 5.1.6 "Device Operation", `struct virtio_net_hdr`.

use crate::device::{Checksum, Offload, Segmentation, SegmentationKind};

/// Length of the header with its `num_buffers` field, in bytes.
pub(crate) const HEADER_LENGTH: usize = 12;

/// The driver, or the device, left the checksum to be finished.
const FLAG_NEEDS_CHECKSUM: u8 = 1;
/// The device has verified the checksum.
const FLAG_DATA_VALID: u8 = 2;

const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
/// Flag on a GSO type: the segments carry ECN's CWR (RFC 3168); it does not change how we handle them.
const GSO_ECN: u8 = 0x80;

/// Reads the header at the start of `bytes` (10 bytes of it; `num_buffers` is the driver's own concern). `None` if it
/// is cut short or names segments that were not agreed on.
pub(crate) fn read(bytes: &[u8]) -> Option<Offload> {
    let header: &[u8; 10] = bytes.first_chunk()?;
    let field = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
    let checksum = if header[0] & FLAG_NEEDS_CHECKSUM != 0 {
        Checksum::Partial { start: field(6), offset: field(8) }
    } else if header[0] & FLAG_DATA_VALID != 0 {
        Checksum::Verified
    } else {
        Checksum::Complete
    };
    let kind = match header[1] & !GSO_ECN {
        GSO_NONE => return Some(Offload { checksum, segmentation: None }),
        GSO_TCPV4 => SegmentationKind::Tcp4,
        GSO_TCPV6 => SegmentationKind::Tcp6,
        _ => return None,
    };
    let segmentation = Segmentation { kind, header_length: field(2), segment_size: field(4) };
    Some(Offload { checksum, segmentation: Some(segmentation) })
}

/// Writes the header for a frame with `offload` to the first 10 bytes of `header`, and zero to the rest.
pub(crate) fn write(offload: Offload, header: &mut [u8]) {
    header.fill(0);
    let mut field = |at: usize, value: u16| header[at..at + 2].copy_from_slice(&value.to_le_bytes());
    if let Checksum::Partial { start, offset } = offload.checksum {
        field(6, start);
        field(8, offset);
    }
    if let Some(Segmentation { header_length, segment_size, .. }) = offload.segmentation {
        field(2, header_length);
        field(4, segment_size);
    }
    header[0] = match offload.checksum {
        Checksum::Partial { .. } => FLAG_NEEDS_CHECKSUM,
        Checksum::Complete | Checksum::Verified => 0,
    };
    header[1] = match offload.segmentation.map(|segmentation| segmentation.kind) {
        None => GSO_NONE,
        Some(SegmentationKind::Tcp4) => GSO_TCPV4,
        Some(SegmentationKind::Tcp6) => GSO_TCPV6,
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let segmentation =
            Some(Segmentation { kind: SegmentationKind::Tcp6, header_length: 74, segment_size: 1440 });
        for offload in [
            Offload::default(),
            Offload { checksum: Checksum::Partial { start: 34, offset: 16 }, segmentation: None },
            Offload { checksum: Checksum::Partial { start: 54, offset: 16 }, segmentation },
        ] {
            let mut header = [0xff; HEADER_LENGTH];
            write(offload, &mut header);
            assert_eq!(read(&header), Some(offload));
        }
    }

    #[test]
    fn short_headers_and_unknown_segments_are_refused() {
        assert_eq!(read(&[0; 9]), None);
        assert_eq!(read(&[0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), None, "UDP fragments were not agreed on");
        let ecn = [0, GSO_TCPV4 | GSO_ECN, 54, 0, 180, 5, 0, 0, 0, 0, 0, 0];
        assert!(read(&ecn).is_some_and(|offload| offload.segmentation.is_some()));
    }
}
