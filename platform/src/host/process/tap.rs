//! A tap device with virtio-net headers: the kernel takes and gives large TCP segments and unfinished checksums.
//!
//! Read first: Linux's Documentation/networking/tuntap.rst and virtio 1.2, 5.1.6 (the header).

use core::ffi::{c_char, c_int, c_short, c_uint};
use core::task::{Context, Poll};
use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::path::Path;
use std::rc::Rc;

use super::{ProcessError, Readiness, system};
use crate::device::{Frame, FramePool, Net, NetProperties, OffloadSupport};
use crate::host::virtio_header::{self, HEADER_LENGTH};

/// `struct ifreq` as TUNSETIFF reads it: the name, the flags, padding to the union's size.
#[repr(C)]
struct InterfaceRequest {
    name: [c_char; libc::IFNAMSIZ],
    flags: c_short,
    padding: [u8; 22],
}

/// A tap device.
pub(super) struct Tap {
    descriptor: RawFd,
    readiness: Rc<Readiness>,
    pool: FramePool,
    properties: NetProperties,
    buffers: ReceiveBuffers,
    /// The interface does not exist any more.
    gone: bool,
}

impl Tap {
    pub(super) fn open(name: &str, mac: [u8; 6]) -> Result<(Self, RawFd, Rc<Readiness>), ProcessError> {
        if name.is_empty() || name.len() >= libc::IFNAMSIZ || name.contains(['/', '\0']) {
            let most = libc::IFNAMSIZ - 1;
            return Err(ProcessError::new(format_args!(
                "tap device {name:?}: the name of a network interface has 1 to {most} bytes and no slash"
            )));
        }
        let descriptor = system::open(Path::new("/dev/net/tun"), libc::O_RDWR | libc::O_NONBLOCK)?;
        let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
        let mut request =
            InterfaceRequest { name: [0; libc::IFNAMSIZ], flags: flags as c_short, padding: [0; 22] };
        for (to, from) in request.name.iter_mut().zip(name.bytes()) {
            *to = from as c_char;
        }
        // SAFETY: TUNSETIFF reads and writes a `struct ifreq`, which the request is as long as.
        if unsafe { libc::ioctl(descriptor, libc::TUNSETIFF, &raw mut request) } < 0 {
            return Err(ProcessError::system(format_args!(
                "tap device {name} (make it with `ip tuntap add {name} mode tap user $USER`)"
            )));
        }
        let header = HEADER_LENGTH as c_int;
        // SAFETY: TUNSETVNETHDRSZ reads an int.
        if unsafe { libc::ioctl(descriptor, libc::TUNSETVNETHDRSZ, &raw const header) } < 0 {
            return Err(ProcessError::system(format_args!("tap device {name}: virtio-net headers")));
        }
        let offloads: c_uint = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6;
        // SAFETY: TUNSETOFFLOAD takes its flags by value.
        let receive =
            unsafe { libc::ioctl(descriptor, libc::TUNSETOFFLOAD, libc::c_ulong::from(offloads)) } == 0;
        let readiness = Rc::new(Readiness::default());
        let device = Self {
            descriptor,
            readiness: Rc::clone(&readiness),
            pool: FramePool::default(),
            properties: NetProperties {
                mac,
                mtu: 1500,
                offload: OffloadSupport {
                    transmit_checksum: true,
                    transmit_tcp4: true,
                    transmit_tcp6: true,
                    receive,
                },
            },
            buffers: ReceiveBuffers::default(),
            gone: false,
        };
        Ok((device, descriptor, readiness))
    }
}

impl Net for Tap {
    fn properties(&self) -> NetProperties {
        self.properties
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
        while received < limit && !self.gone {
            let mut frame = match self.buffers.read(self.descriptor, &self.pool) {
                Ok(frame) => frame,
                Err(error) if system::would_block(&error) => {
                    self.readiness.wait_readable(context.waker());
                    break;
                }
                Err(error) => {
                    // The interface was taken away: nothing will come any more.
                    log::error!("reading from the tap device: {error}");
                    self.gone = true;
                    break;
                }
            };
            let Some(offload) = virtio_header::read(frame.bytes()) else { continue };
            frame.trim_front(HEADER_LENGTH);
            frame.offload = offload;
            frames.push(frame);
            received += 1;
        }
        if received == 0 { Poll::Pending } else { Poll::Ready(received) }
    }

    fn transmit(&mut self, context: &mut Context<'_>, frames: &mut VecDeque<Frame>) {
        while let Some(mut frame) = frames.pop_front() {
            let offload = frame.offload;
            virtio_header::write(offload, frame.prepend(HEADER_LENGTH));
            match system::write(self.descriptor, frame.bytes()) {
                Err(error) if system::would_block(&error) => {
                    frame.trim_front(HEADER_LENGTH);
                    frames.push_front(frame);
                    self.readiness.wait_writable(context.waker());
                    return;
                }
                // A frame that the kernel refuses (the interface is down, say) is lost, as on a wire.
                Ok(_) | Err(_) => {}
            }
        }
    }

    fn link_up(&self) -> bool {
        !self.gone
    }
}

/// Where the next frame goes: its start into a small frame, which is all for most, and the rest of a large one into a
/// large frame behind the place of its start. So only the start of large frames is ever copied.
#[derive(Default)]
struct ReceiveBuffers {
    small: Option<Frame>,
    large: Option<Frame>,
}

impl ReceiveBuffers {
    /// Reads one frame, its virtio-net header first.
    fn read(&mut self, descriptor: RawFd, pool: &FramePool) -> io::Result<Frame> {
        const START: usize = Frame::HEADROOM - HEADER_LENGTH;
        let mut small = self.small.take().unwrap_or_else(|| pool.frame(Frame::SMALL - Frame::HEADROOM));
        let mut large = self.large.take().unwrap_or_else(|| pool.frame(Frame::MAX_LENGTH));
        let result = system::read_two(
            descriptor,
            &mut small.buffer_mut()[START..],
            &mut large.buffer_mut()[Frame::SMALL..],
        );
        match result {
            Ok(length) if START + length <= Frame::SMALL => {
                self.large = Some(large);
                small.set_range(START, START + length);
                Ok(small)
            }
            Ok(length) => {
                large.buffer_mut()[START..Frame::SMALL].copy_from_slice(&small.buffer()[START..]);
                self.small = Some(small);
                large.set_range(START, START + length);
                Ok(large)
            }
            Err(error) => {
                (self.small, self.large) = (Some(small), Some(large));
                Err(error)
            }
        }
    }
}
