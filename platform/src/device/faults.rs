//! A fault injector: a network device that loses and corrupts what passes through another.

use core::task::{Context, Poll};
use std::collections::VecDeque;

use super::random::Xorshift;
use super::{Checksum, Frame, FramePool, Net, NetProperties, OffloadSupport};

/// How often faults occur, per 65,536 frames, in each direction.
#[derive(Clone, Copy, Debug, Default)]
pub struct FaultRates {
    /// Frames dropped.
    pub drop: u16,
    /// Frames in which one bit is turned over. What was corrupted no longer counts as verified by the device.
    pub corrupt: u16,
    /// Frames cut short.
    pub truncate: u16,
}

/// A network device with faults that follow from a seed.
pub struct FaultInjector<N> {
    inner: N,
    rates: FaultRates,
    random: Xorshift,
}

impl<N: Net> FaultInjector<N> {
    /// Puts faults before `inner`.
    #[must_use]
    pub fn new(inner: N, rates: FaultRates, seed: u64) -> Self {
        Self { inner, rates, random: Xorshift::new(seed) }
    }

    /// Returns whether the frame is still there.
    fn inject(rates: FaultRates, random: &mut Xorshift, frame: &mut Frame) -> bool {
        if random.happens(rates.drop) {
            return false;
        }
        if !frame.is_empty() && random.happens(rates.corrupt) {
            let at = random.below(frame.len());
            frame.bytes_mut()[at] ^= 1 << random.below(8);
            frame.offload.checksum = Checksum::Complete;
        }
        if !frame.is_empty() && random.happens(rates.truncate) {
            frame.truncate(random.below(frame.len()));
            frame.offload.checksum = Checksum::Complete;
        }
        true
    }
}

impl<N: Net> Net for FaultInjector<N> {
    /// No offloads are claimed: a checksum that nobody computes would hide the faults.
    fn properties(&self) -> NetProperties {
        NetProperties { offload: OffloadSupport::default(), ..self.inner.properties() }
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
        loop {
            core::task::ready!(self.inner.poll_receive(context, frames, limit));
            let mut at = before;
            while let Some(frame) = frames.get_mut(at) {
                if Self::inject(self.rates, &mut self.random, frame) {
                    at += 1;
                } else {
                    frames.remove(at);
                }
            }
            if frames.len() > before {
                return Poll::Ready(frames.len() - before);
            }
        }
    }

    fn transmit(&mut self, context: &mut Context<'_>, frames: &mut VecDeque<Frame>) {
        let mut passed: VecDeque<Frame> = frames
            .drain(..)
            .filter_map(|mut frame| Self::inject(self.rates, &mut self.random, &mut frame).then_some(frame))
            .collect();
        self.inner.transmit(context, &mut passed);
        // What the device has no room for yet comes by again, and may then meet another fault.
        *frames = passed;
    }

    fn link_up(&self) -> bool {
        self.inner.link_up()
    }
}
