//! Virtio: the network, block and entropy devices of nearly every hypervisor
//! (Virtual I/O Device Version 1.2, OASIS 2022; "virtio 1.2" below).
//!
//! | module | what it is |
//! |---|---|
//! | `hardware` | what drivers need of the machine: mappings, ports, interrupts |
//! | `transport` | the ways to a device: MMIO and PCI, each legacy and modern |
//! | `queue` | the split virtqueue, which does not trust the device |
//! | `net`, `block`, `entropy` | the drivers |
//! | `discovery` | finds the devices, in the order in which they were given to the hypervisor |
//!
//! Guest memory is mapped one to one and the heap is contiguous, so a buffer's address is what the device is told.
//!
//! Interrupts carry no information but that there was one. Each driver has an [`EventSource`] for the host's idle point:
//! it looks at the queues and wakes whoever waits for them. Only when the image is about to sleep does it ask the devices
//! for interrupts, and then looks once more, so that no wake-up is lost in between.
//!
//! [`EventSource`]: super::EventSource

mod block;
mod discovery;
mod entropy;
pub(crate) mod hardware;
#[cfg(test)]
pub(crate) mod model;
mod net;
mod queue;
pub(crate) mod transport;

pub(crate) use block::VirtioBlock;
pub(crate) use discovery::discover;
pub(crate) use entropy::VirtioEntropy;
pub(crate) use net::VirtioNet;

use core::fmt;
use std::rc::Rc;

use crate::device::{Clock, Instant};
use queue::Queue;
use transport::{Transport, TransportError};

/// Features of every type of device (virtio 1.2, 6).
mod feature {
    /// Legacy: a header need not have a descriptor of its own.
    pub(super) const ANY_LAYOUT: u64 = 1 << 27;
    pub(super) const EVENT_IDX: u64 = 1 << 29;
    pub(super) const VERSION_1: u64 = 1 << 32;
}

/// A device that was brought up, and how to bring it down.
struct Attachment {
    transport: Box<dyn Transport>,
    clock: Rc<dyn Clock>,
    features: u64,
    stopped: bool,
}

impl Attachment {
    /// Resets the device and agrees on features.
    fn new(
        mut transport: Box<dyn Transport>,
        clock: Rc<dyn Clock>,
        wanted: u64,
    ) -> Result<Self, TransportError> {
        let features = transport::negotiate(&mut *transport, &*clock, wanted)?;
        Ok(Self { transport, clock, features, stopped: false })
    }

    fn has(&self, feature: u64) -> bool {
        self.features & feature != 0
    }

    fn is_legacy(&self) -> bool {
        self.transport.is_legacy()
    }

    fn queue(&mut self, index: u16, limit: u16) -> Result<Queue, TransportError> {
        transport::create_queue(&mut *self.transport, index, limit, self.features)
    }

    fn start(&mut self) {
        transport::start(&mut *self.transport);
    }

    /// Publishes what was pushed to queue `index`, and notifies the device if it wants to know.
    fn kick(&mut self, index: u16, queue: &mut Queue) {
        if queue.publish() {
            self.transport.notify(index);
        }
    }

    fn config(&mut self, offset: usize, width: usize) -> u64 {
        transport::read_config(&mut *self.transport, offset, width)
    }

    fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Takes a device out of service for ever. Returns whether it will leave the memory alone that it was lent: if not,
    /// that must never be freed.
    fn stop(&mut self, reason: &dyn fmt::Display) -> bool {
        self.stopped = true;
        log::error!("{}: {reason}; it is taken out of service", self.transport.location());
        self.quiesce()
    }

    /// Resets the device, so that it has no memory of ours any more. Returns whether it has obeyed.
    fn quiesce(&mut self) -> bool {
        self.stopped = true;
        transport::reset(&mut *self.transport, &*self.clock).is_ok()
    }
}
