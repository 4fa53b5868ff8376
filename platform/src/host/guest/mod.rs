//! The image as the kernel of a virtual machine: its devices, its clock, its sleep and its end.
//!
//! # Interrupts of devices
//!
//! - **virtio over MMIO** by `virtio_mmio.device=SIZE@BASE:GSI` ([`boot::virtio_mmio_devices`](crate::boot)): the third
//!   number is the global system interrupt, [`Trigger::Edge`](interrupt::Trigger), as Linux takes it.
//! - **QEMU microvm with ACPI** gives no such words: its slots lie at `0xfeb00000 + 512 * n` for n below 24, and slot n has
//!   global system interrupt 24 + n, on a second controller (16 + n in versions with a single one, 5 + n for n below 8
//!   without ACPI).
//! - **PCI** functions are given messages ([`interrupt::allocate_msi`]); without MSI-X their INTx is
//!   [`Trigger::Level`](interrupt::Trigger) with the number that firmware left in the interrupt line register.
//!
//! # Waiting
//!
//! A driver registers an [`EventSource`] with the [`Guest`]; [`Host::wait`] asks all of them.

mod acpi;
pub mod clock;
pub mod entropy;
pub mod interrupt;
pub mod mmio;
mod panic;
pub(crate) mod pci;
pub mod port;
pub mod power;
mod power_button;
pub mod processor;
#[cfg(feature = "provoke")]
pub mod provoke;
pub mod serial;
pub mod virtio;

use core::cell::{Cell, RefCell};
use core::time::Duration;
use std::rc::Rc;

use super::{Host, Shutdown};
use crate::device::Instant;

pub use panic::install_hook as install_panic_hook;

/// The part of a driver that the idle point knows.
pub trait EventSource {
    /// Looks at the device without waiting, and wakes the wakers of whatever may make progress. Quietens a
    /// level-triggered interrupt. Returns whether there was anything.
    fn deliver(&self) -> bool;

    /// Asks the device for an interrupt at the next event, then looks once more: returns whether something came in
    /// between, so that sleeping would miss it.
    fn arm(&self) -> bool {
        false
    }
}

/// How often a level-triggered interrupt may come in a row without any device having had an event, before its line is
/// taken for stuck.
const STUCK_LINE: u32 = 1000;

/// How often devices are looked at once a line has been masked as stuck.
const STUCK_POLL: Duration = Duration::from_millis(10);

/// The host of an image in a virtual machine.
pub struct Guest {
    sources: RefCell<Vec<Rc<dyn EventSource>>>,
    /// Interrupts of devices since there last was an event.
    without_event: Cell<u32>,
    stuck: Cell<bool>,
}

impl Guest {
    /// Switches interrupts and the power button on. Called once, in a guest.
    ///
    /// # Panics
    /// In a process: there is no machine.
    #[must_use]
    pub fn new(shutdown: Shutdown) -> Rc<Self> {
        assert!(crate::boot::is_guest(), "this image is a process, not the kernel of a virtual machine");
        // SAFETY: This is a guest.
        unsafe { interrupt::initialise() };
        let guest = Rc::new(Self {
            sources: RefCell::default(),
            without_event: Cell::new(0),
            stuck: Cell::new(false),
        });
        if let Some(button) = power_button::PowerButton::find(shutdown) {
            guest.register(Rc::new(button));
        }
        guest
    }

    /// Has `source` asked at every [`Host::wait`].
    pub fn register(&self, source: Rc<dyn EventSource>) {
        self.sources.borrow_mut().push(source);
    }

    /// For the log: `guest` and the hypervisor's own name.
    #[must_use]
    pub fn kind(&self) -> String {
        match processor::hypervisor_name() {
            Some(name) => format!("guest on {name}"),
            None => "guest".to_owned(),
        }
    }

    fn deliver(&self) -> bool {
        // Every source is asked, whatever the one before it said.
        self.sources.borrow().iter().fold(false, |any, source| source.deliver() | any)
    }

    fn arm(&self) -> bool {
        self.sources.borrow().iter().fold(false, |any, source| source.arm() | any)
    }

    /// Sleeps once and serves the devices after. Returns whether one had an event.
    fn sleep(&self, until: Option<Instant>) -> bool {
        let until = if self.stuck.get() {
            let next = now() + STUCK_POLL;
            Some(until.map_or(next, |until| until.min(next)))
        } else {
            until
        };
        let taken = interrupt::halt(until);
        let any = self.deliver();
        if any {
            self.without_event.set(0);
        } else if taken.is_device() {
            self.without_event.set(self.without_event.get() + 1);
            if self.without_event.get() == STUCK_LINE {
                log::warn!("an interrupt line is stuck: devices on it are polled from now on");
                taken.mask();
                self.stuck.set(true);
            }
        }
        taken.acknowledge();
        any
    }
}

fn now() -> Instant {
    Instant::from_nanos(clock::monotonic_nanos())
}

impl Host for Guest {
    fn wait(&self, until: Option<Instant>) {
        if self.deliver() {
            return;
        }
        // Interrupts are off from here to the sleep: what comes in between stays pending and ends it at once.
        while until.is_none_or(|until| now() < until) {
            if self.arm() {
                self.deliver();
                return;
            }
            if self.sleep(until) {
                return;
            }
        }
    }
}
