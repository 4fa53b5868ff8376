//! Network devices: batches of frames, moved and not copied.

use core::task::{Context, Poll};

use super::{Frame, FramePool};

/// Which work on checksums and segments the other side of a network device takes over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OffloadSupport {
    /// Transmitted frames may carry [`Checksum::Partial`](super::Checksum::Partial).
    pub transmit_checksum: bool,
    /// Transmitted frames may be TCP over IPv4 segments larger than the MTU.
    pub transmit_tcp4: bool,
    /// Transmitted frames may be TCP over IPv6 segments larger than the MTU.
    pub transmit_tcp6: bool,
    /// Received frames may come with [`Checksum::Verified`](super::Checksum::Verified) or `Partial`, and larger
    /// than the MTU with [`Offload::segmentation`](super::Offload::segmentation) set.
    pub receive: bool,
}

/// What a network device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetProperties {
    /// The Ethernet address of this end.
    pub mac: [u8; 6],
    /// Largest IP packet that the link carries, in bytes (1500 on plain Ethernet).
    pub mtu: u16,
    /// Offloads agreed with the other side.
    pub offload: OffloadSupport,
}

/// An Ethernet device.
pub trait Net {
    /// What the device is.
    fn properties(&self) -> NetProperties;

    /// The pool whose frames this device receives into and transmits fastest.
    fn pool(&self) -> &FramePool;

    /// Appends received frames to `frames`, at most `limit` of them, and returns how many; `Pending` when there are
    /// none. The device owes the wake-up.
    fn poll_receive(
        &mut self,
        context: &mut Context<'_>,
        frames: &mut Vec<Frame>,
        limit: usize,
    ) -> Poll<usize>;

    /// Takes frames from the front of `frames` for as long as there is room, and sends them. Frames left over stay in
    /// `frames` in their order; the device then owes a wake-up to `context` when there is room again.
    fn transmit(&mut self, context: &mut Context<'_>, frames: &mut std::collections::VecDeque<Frame>);

    /// Whether the link is up.
    fn link_up(&self) -> bool {
        true
    }
}

/// Boxed devices are devices, so that middleware can wrap what a host made.
impl<N: Net + ?Sized> Net for Box<N> {
    fn properties(&self) -> NetProperties {
        (**self).properties()
    }

    fn pool(&self) -> &FramePool {
        (**self).pool()
    }

    fn poll_receive(
        &mut self,
        context: &mut Context<'_>,
        frames: &mut Vec<Frame>,
        limit: usize,
    ) -> Poll<usize> {
        (**self).poll_receive(context, frames, limit)
    }

    fn transmit(&mut self, context: &mut Context<'_>, frames: &mut std::collections::VecDeque<Frame>) {
        (**self).transmit(context, frames);
    }

    fn link_up(&self) -> bool {
        (**self).link_up()
    }
}
