//! A stream socket in QEMU's framing: a big-endian 32-bit length before each frame. passt speaks it, and QEMU's
//! `-netdev stream`; an unprivileged user needs no more for a network.

use core::task::{Context, Poll};
use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::rc::Rc;

use super::{NetBackend, ProcessError, Readiness, system};
use crate::device::{Frame, FramePool, Net, NetProperties, OffloadSupport};

const LENGTH_FIELD: usize = 4;
/// Bytes read from the socket at once.
const RECEIVE_BUFFER: usize = 64 * 1024;

/// A network device over a stream socket.
pub(super) struct Stream {
    descriptor: RawFd,
    readiness: Rc<Readiness>,
    pool: FramePool,
    mac: [u8; 6],
    received: Box<[u8]>,
    /// The part of `received` not yet taken apart.
    unread: core::ops::Range<usize>,
    /// A frame that did not come whole: its bytes so far, and its length.
    partial: Option<(Frame, usize)>,
    /// A frame that went out in part: the rest of it, length field included.
    unsent: Option<Frame>,
    /// Set when the other side has gone, or broke the framing: nothing more is read or written.
    closed: bool,
}

impl Stream {
    pub(super) fn open(
        backend: &NetBackend,
        mac: [u8; 6],
    ) -> Result<(Self, RawFd, Rc<Readiness>), ProcessError> {
        let descriptor = match backend {
            NetBackend::StreamDescriptor(descriptor) => *descriptor,
            NetBackend::StreamPath(path) => system::connect_unix(path)?,
            NetBackend::Tap(name) => unreachable!("tap {name} is no stream"),
        };
        system::set_nonblocking(descriptor)?;
        let readiness = Rc::new(Readiness::default());
        let device = Self {
            descriptor,
            readiness: Rc::clone(&readiness),
            pool: FramePool::default(),
            mac,
            received: vec![0; RECEIVE_BUFFER].into_boxed_slice(),
            unread: 0..0,
            partial: None,
            unsent: None,
            closed: false,
        };
        Ok((device, descriptor, readiness))
    }

    /// The next frame out of what has been read from the socket.
    fn next_frame(&mut self) -> Option<Frame> {
        let unread = &self.received[self.unread.clone()];
        let (mut frame, wanted) = match self.partial.take() {
            Some((frame, wanted)) => (frame, wanted),
            None => {
                let length = usize::try_from(u32::from_be_bytes(*unread.first_chunk()?)).ok()?;
                if length > Frame::MAX_LENGTH {
                    log::error!("the network's other side sent a frame of {length} bytes: closing");
                    self.closed = true;
                    return None;
                }
                self.unread.start += LENGTH_FIELD;
                (self.pool.frame(length), length)
            }
        };
        let unread = &self.received[self.unread.clone()];
        let length = unread.len().min(wanted - frame.len());
        frame.append(length).copy_from_slice(&unread[..length]);
        self.unread.start += length;
        if frame.len() < wanted {
            self.partial = Some((frame, wanted));
            return None;
        }
        Some(frame)
    }

    /// Reads more from the socket. Returns whether there was anything.
    fn fill(&mut self) -> bool {
        // What is left is at most a cut-off length field.
        self.received.copy_within(self.unread.clone(), 0);
        self.unread = 0..self.unread.len();
        match system::read(self.descriptor, &mut self.received[self.unread.end..]) {
            Ok(0) => {
                log::error!("the network's other side has closed its socket");
                self.closed = true;
                false
            }
            Ok(length) => {
                self.unread.end += length;
                true
            }
            Err(error) if system::would_block(&error) => false,
            Err(error) => {
                log::error!("reading from the network's socket: {error}");
                self.closed = true;
                false
            }
        }
    }
}

impl Net for Stream {
    fn properties(&self) -> NetProperties {
        NetProperties { mac: self.mac, mtu: 1500, offload: OffloadSupport::default() }
    }

    fn pool(&self) -> &FramePool {
        &self.pool
    }

    fn poll_receive(
        &mut self,
        context: &mut Context<'_>,
        frames: &mut Vec<Frame>,
        limit: usize,
    ) -> Poll<usize> {
        let mut received = 0;
        while received < limit && !self.closed {
            if let Some(frame) = self.next_frame() {
                frames.push(frame);
                received += 1;
            } else if !self.fill() {
                self.readiness.wait_readable(context.waker());
                break;
            }
        }
        if received == 0 { Poll::Pending } else { Poll::Ready(received) }
    }

    fn transmit(&mut self, context: &mut Context<'_>, frames: &mut VecDeque<Frame>) {
        while !self.closed {
            let mut frame = match self.unsent.take() {
                Some(rest) => rest,
                None => {
                    let Some(mut frame) = frames.pop_front() else { return };
                    let length = u32::try_from(frame.len()).unwrap_or(0);
                    frame.prepend(LENGTH_FIELD).copy_from_slice(&length.to_be_bytes());
                    frame
                }
            };
            match system::write(self.descriptor, frame.bytes()) {
                Ok(length) if length == frame.len() => {}
                Ok(length) => {
                    frame.trim_front(length);
                    self.unsent = Some(frame);
                }
                Err(error) if system::would_block(&error) => {
                    self.unsent = Some(frame);
                    self.readiness.wait_writable(context.waker());
                    return;
                }
                Err(error) => {
                    log::error!("writing to the network's socket: {error}");
                    self.closed = true;
                }
            }
        }
        frames.clear();
    }

    fn link_up(&self) -> bool {
        !self.closed
    }
}
