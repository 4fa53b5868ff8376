//! A capture of what passes through a network device, in the format of libpcap.
//!
//! Reading: draft-ietf-opsawg-pcap (classic pcap with nanoseconds).

use core::task::{Context, Poll};
use core::time::Duration;
use std::collections::VecDeque;
use std::rc::Rc;

use super::{Clock, Frame, FramePool, Net, NetProperties};

/// Magic number of captures with nanoseconds.
const MAGIC: u32 = 0xa1b2_3c4d;
/// LINKTYPE_ETHERNET.
const LINK_TYPE: u32 = 1;

/// Where a capture goes: its header first, then a record for each frame.
pub trait PcapSink {
    /// Takes the next bytes of the capture: always a whole header or record.
    fn write(&mut self, bytes: &[u8]);
}

impl<F: FnMut(&[u8])> PcapSink for F {
    fn write(&mut self, bytes: &[u8]) {
        self(bytes);
    }
}

/// A network device that captures what passes through another.
///
/// Frames that wait for offloads are captured as they pass here: without a checksum, or longer than the MTU.
pub struct PcapWriter<N, S> {
    inner: N,
    sink: S,
    clock: Rc<dyn Clock>,
    /// Bytes of each frame that are kept.
    snap_length: u32,
    record: Vec<u8>,
}

impl<N: Net, S: PcapSink> PcapWriter<N, S> {
    /// Captures what passes through `inner`, at most `snap_length` bytes of each frame, with times from `clock`.
    #[must_use]
    pub fn new(inner: N, mut sink: S, clock: Rc<dyn Clock>, snap_length: u32) -> Self {
        let mut header = Vec::with_capacity(24);
        header.extend(MAGIC.to_le_bytes());
        header.extend([2, 0, 4, 0]);
        header.extend([0; 8]);
        header.extend(snap_length.to_le_bytes());
        header.extend(LINK_TYPE.to_le_bytes());
        sink.write(&header);
        Self { inner, sink, clock, snap_length, record: Vec::new() }
    }

    fn fill_record(&mut self, at: Duration, bytes: &[u8]) {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let kept = length.min(self.snap_length);
        // The format's seconds end in 2106.
        let seconds = u32::try_from(at.as_secs()).unwrap_or(u32::MAX);
        self.record.clear();
        for word in [seconds, at.subsec_nanos(), kept, length] {
            self.record.extend(word.to_le_bytes());
        }
        self.record.extend(&bytes[..usize::try_from(kept).unwrap_or(0)]);
    }
}

impl<N: Net, S: PcapSink> Net for PcapWriter<N, S> {
    fn properties(&self) -> NetProperties {
        self.inner.properties()
    }

    fn pool(&self) -> &FramePool {
        self.inner.pool()
    }

    fn poll_receive(
        &mut self,
        context: &mut Context<'_>,
        frames: &mut Vec<Frame>,
        limit: usize,
    ) -> Poll<usize> {
        let before = frames.len();
        let received = core::task::ready!(self.inner.poll_receive(context, frames, limit));
        let now = self.clock.wall();
        for frame in &frames[before..] {
            self.fill_record(now, frame.bytes());
            self.sink.write(&self.record);
        }
        Poll::Ready(received)
    }

    fn transmit(&mut self, context: &mut Context<'_>, frames: &mut VecDeque<Frame>) {
        let now = self.clock.wall();
        // One at a time, so that a frame that the device has no room for yet is captured when it goes, and once.
        let mut one = VecDeque::with_capacity(1);
        while let Some(frame) = frames.pop_front() {
            self.fill_record(now, frame.bytes());
            one.push_back(frame);
            self.inner.transmit(context, &mut one);
            if let Some(frame) = one.pop_front() {
                frames.push_front(frame);
                break;
            }
            self.sink.write(&self.record);
        }
    }

    fn link_up(&self) -> bool {
        self.inner.link_up()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{LinkProperties, ManualClock, link};
    use crate::executor::Executor;
    use core::cell::RefCell;
    use core::task::Waker;

    #[test]
    fn what_passes_is_captured_once_with_its_time() {
        let clock = Rc::new(ManualClock::new(Duration::from_secs(1_700_000_000)));
        let executor = Executor::new(clock.clone());
        let (left, mut right) = link(&executor.handle(), 1, LinkProperties::default());
        let capture: Rc<RefCell<Vec<u8>>> = Rc::default();
        let sink = Rc::clone(&capture);
        let sink = move |bytes: &[u8]| sink.borrow_mut().extend_from_slice(bytes);
        let mut left = PcapWriter::new(left, sink, clock.clone(), 16);
        let mut context = Context::from_waker(Waker::noop());
        let mut out = VecDeque::from([left.pool().copy_of(&[1; 20])]);
        left.transmit(&mut context, &mut out);
        let mut back = VecDeque::from([right.pool().copy_of(&[2; 4])]);
        right.transmit(&mut context, &mut back);
        clock.advance(Duration::from_nanos(100_005));
        let mut received = Vec::new();
        assert!(left.poll_receive(&mut context, &mut received, 8).is_ready());
        let capture = capture.borrow();
        let word = |at: usize| u32::from_le_bytes(capture[at..at + 4].try_into().unwrap());
        assert_eq!((word(0), word(16), word(20)), (MAGIC, 16, LINK_TYPE));
        assert_eq!([word(24), word(28), word(32), word(36)], [1_700_000_000, 0, 16, 20]);
        assert_eq!(capture[40..56], [1; 16]);
        assert_eq!([word(56), word(60), word(64), word(68)], [1_700_000_000, 100_005, 4, 4]);
        assert_eq!(capture[72..], [2; 4]);
    }
}
