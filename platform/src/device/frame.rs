//! Frames: buffers from a pool that travel from a device to a device by ownership.
//!
//! A frame has room before its data ([`Frame::HEADROOM`] bytes at first), so that each layer pushes its header where the
//! packet already lies, and the driver its own (virtio-net and tap header, 12 bytes; stream framing, 4 bytes) before that.

use core::cell::RefCell;
use core::fmt;
use std::rc::Rc;

/// Who computed, or is to compute, a frame's transport checksum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksum {
    /// The checksum field holds the checksum: a receiver must verify it.
    #[default]
    Complete,
    /// Received: the other side vouches for it.
    Verified,
    /// The field at `start + offset` holds the pseudo-header's sum only; the rest is the sum of the bytes from `start`
    /// to the end. Received, it came over no wire and is to be taken as good.
    Partial {
        /// Where the transport header starts, in bytes from the start of the frame.
        start: u16,
        /// Where its checksum field is, from `start`.
        offset: u16,
    },
}

/// Which protocol's segments a large frame is to be cut into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentationKind {
    /// TCP over IPv4.
    Tcp4,
    /// TCP over IPv6.
    Tcp6,
}

/// How a frame larger than the MTU divides into segments (virtio 1.2, 5.1.6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segmentation {
    /// The protocol.
    pub kind: SegmentationKind,
    /// Length of all headers, Ethernet to TCP, in bytes.
    pub header_length: u16,
    /// Payload bytes in each segment but the last.
    pub segment_size: u16,
}

/// What the other side of a device did or is to do with a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// The transport checksum.
    pub checksum: Checksum,
    /// Set on frames that stand for several segments.
    pub segmentation: Option<Segmentation>,
}

/// How many free buffers a pool keeps; the rest go back to the allocator.
#[derive(Clone, Copy, Debug)]
pub struct FramePoolLimits {
    /// Free buffers of [`Frame::SMALL`] bytes.
    pub small: usize,
    /// Free buffers of [`Frame::LARGE`] bytes.
    pub large: usize,
}

impl Default for FramePoolLimits {
    /// 1,024 small and 16 large: 2 MiB and 1 MiB at most.
    fn default() -> Self {
        Self { small: 1024, large: 16 }
    }
}

/// A pool of buffers for frames. Clones share it.
#[derive(Clone, Default)]
pub struct FramePool {
    shared: Rc<PoolShared>,
}

#[derive(Default)]
struct PoolShared {
    limits: FramePoolLimits,
    free: RefCell<FreeLists>,
}

#[derive(Default)]
struct FreeLists {
    small: Vec<Box<[u8]>>,
    large: Vec<Box<[u8]>>,
}

impl FramePool {
    /// A pool that keeps at most so many free buffers.
    #[must_use]
    pub fn new(limits: FramePoolLimits) -> Self {
        Self { shared: Rc::new(PoolShared { limits, free: RefCell::default() }) }
    }

    /// An empty frame with [`Frame::HEADROOM`] bytes before it and room for at least `capacity` bytes after.
    ///
    /// # Panics
    /// If `capacity` exceeds [`Frame::MAX_LENGTH`].
    #[must_use]
    pub fn frame(&self, capacity: usize) -> Frame {
        assert!(capacity <= Frame::MAX_LENGTH, "a frame of {capacity} bytes");
        let small = capacity + Frame::HEADROOM <= Frame::SMALL;
        let mut free = self.shared.free.borrow_mut();
        let (list, size) =
            if small { (&mut free.small, Frame::SMALL) } else { (&mut free.large, Frame::LARGE) };
        let buffer = list.pop().unwrap_or_else(|| vec![0; size].into_boxed_slice());
        Frame {
            buffer,
            start: Frame::HEADROOM,
            end: Frame::HEADROOM,
            offload: Offload::default(),
            pool: Some(Rc::clone(&self.shared)),
        }
    }

    /// A frame that holds a copy of `bytes`.
    #[must_use]
    pub fn copy_of(&self, bytes: &[u8]) -> Frame {
        let mut frame = self.frame(bytes.len());
        frame.append(bytes.len()).copy_from_slice(bytes);
        frame
    }
}

impl fmt::Debug for FramePool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let free = self.shared.free.borrow();
        write!(f, "FramePool {{ free: {} small, {} large }}", free.small.len(), free.large.len())
    }
}

/// One frame (or the packet within, while its headers are off). Dropped, its buffer returns to the pool.
pub struct Frame {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// What the other side of the device did or is to do.
    pub offload: Offload,
    pool: Option<Rc<PoolShared>>,
}

impl Frame {
    /// Bytes before the data of a new frame.
    pub const HEADROOM: usize = 64;
    /// Size of a small buffer: an Ethernet frame of MTU 1500 with its headroom, twice over a page.
    pub const SMALL: usize = 2048;
    /// Size of a large buffer: 64 KiB of payload, all headers, and the headroom.
    pub const LARGE: usize = 64 * 1024 + 1024;
    /// Longest frame: a 65,535-byte IP packet in Ethernet with a VLAN tag.
    pub const MAX_LENGTH: usize = 65_535 + 18;

    /// The data.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// The data, to change in place.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[self.start..self.end]
    }

    /// Length of the data in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether there is no data.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Bytes free before the data.
    #[must_use]
    pub fn headroom(&self) -> usize {
        self.start
    }

    /// Bytes free after the data.
    #[must_use]
    pub fn tailroom(&self) -> usize {
        self.buffer.len() - self.end
    }

    /// Grows the data at the front by `length` bytes and returns them, to write a header into.
    ///
    /// # Panics
    /// If there is less headroom.
    pub fn prepend(&mut self, length: usize) -> &mut [u8] {
        assert!(length <= self.start, "no headroom for a header of {length} bytes");
        self.start -= length;
        &mut self.buffer[self.start..self.start + length]
    }

    /// Grows the data at the end by `length` bytes and returns them.
    ///
    /// # Panics
    /// If there is less tailroom.
    pub fn append(&mut self, length: usize) -> &mut [u8] {
        assert!(length <= self.tailroom(), "no room for {length} more bytes");
        let from = self.end;
        self.end += length;
        &mut self.buffer[from..self.end]
    }

    /// Takes `length` bytes off the front (a header that has been read); they become headroom.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn trim_front(&mut self, length: usize) {
        assert!(length <= self.len(), "no header of {length} bytes");
        self.start += length;
    }

    /// Cuts the data down to `length` bytes; does nothing if it is shorter.
    pub fn truncate(&mut self, length: usize) {
        self.end = self.end.min(self.start + length);
    }

    /// The whole buffer, for a driver that transfers by address. Offsets into it are those of [`Frame::headroom`].
    #[must_use]
    pub fn buffer(&self) -> &[u8] {
        &self.buffer
    }

    /// The whole buffer, to be filled by a driver.
    pub fn buffer_mut(&mut self) -> &mut [u8] {
        &mut self.buffer
    }

    /// Declares `start..end` of the buffer to be the data, as a driver does that has filled it.
    ///
    /// # Panics
    /// If the range is not within the buffer.
    pub fn set_range(&mut self, start: usize, end: usize) {
        assert!(start <= end && end <= self.buffer.len(), "range {start}..{end} outside the buffer");
        (self.start, self.end) = (start, end);
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        let Some(pool) = self.pool.take() else { return };
        let buffer = core::mem::take(&mut self.buffer);
        let mut free = pool.free.borrow_mut();
        let (list, limit) = match buffer.len() {
            Self::SMALL => (&mut free.small, pool.limits.small),
            _ => (&mut free.large, pool.limits.large),
        };
        if list.len() < limit {
            list.push(buffer);
        }
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame {{ {} bytes, {:?} }}", self.len(), self.offload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_go_on_and_come_off_in_place() {
        let pool = FramePool::default();
        let mut frame = pool.copy_of(b"payload");
        frame.prepend(4).copy_from_slice(b"head");
        assert_eq!(frame.bytes(), b"headpayload");
        frame.trim_front(4);
        frame.truncate(3);
        assert_eq!(frame.bytes(), b"pay");
        assert_eq!(frame.headroom(), Frame::HEADROOM);
    }

    #[test]
    fn dropped_buffers_are_used_again() {
        let pool = FramePool::new(FramePoolLimits { small: 1, large: 0 });
        let address = pool.frame(1500).buffer().as_ptr();
        assert_eq!(pool.frame(100).buffer().as_ptr(), address);
        drop((pool.frame(100), pool.frame(100), pool.frame(60_000)));
        assert_eq!(format!("{pool:?}"), "FramePool { free: 1 small, 0 large }");
    }
}
