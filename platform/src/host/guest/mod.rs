//! The image as the kernel of a virtual machine: its devices, its clock, its sleep and its end.
//!
//! [`machine`] finds the devices and puts them together. Each driver, and the power
//! button, has an [`EventSource`] that [`Host::wait`] asks.
//!
//! | module | what it is |
//! |---|---|
//! | [`port`], [`mmio`], [`processor`] | the ways to the hardware |
//! | [`interrupt`] | local and input/output interrupt controllers, messages, the timer |
//! | `acpi`, `power_button`, [`power`] | what firmware's tables tell; how the image is asked to end, and ends |
//! | [`serial`], [`clock`], [`entropy`] | console, time and randomness, there before all other devices |
//! | `pci`, `virtio` | network, block and entropy devices |
//!
//! # Interrupts of devices
//!
//! - virtio over MMIO by `virtio_mmio.device=SIZE@BASE:GSI` ([`boot::virtio_mmio_devices`](crate::boot)): edge-triggered,
//!   as Linux takes it.
//! - QEMU microvm with ACPI gives no such words: slot n at `0xfeb00000 + 512 * n` has interrupt 24 + n, on a second
//!   controller.
//! - PCI functions are given messages; without MSI-X their INTx is level-triggered, with the number that firmware left in
//!   the interrupt line register.

mod acpi;
pub mod clock;
pub mod entropy;
pub mod interrupt;
mod machine;
pub mod mmio;
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

pub use machine::machine;

impl super::panic::EmergencyOutput for serial::Serial {}

/// Has every panic print its message and the raw return addresses that `tests/symbolise.sh` names offline.
pub fn install_panic_hook() {
    super::panic::install_hook::<serial::Serial>();
}

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

/// A level-triggered line that comes this often, without any device having had an event in between,
const STUCK_COUNT: u32 = 1000;
/// and within this time, is stuck: nobody here quietens it. No device interrupts that often when nobody waits for it.
const STUCK_TIME: Duration = Duration::from_millis(100);

/// How often devices are looked at once a line has been masked as stuck.
const STUCK_POLL: Duration = Duration::from_millis(10);

/// The host of an image in a virtual machine.
pub struct Guest {
    sources: RefCell<Vec<Rc<dyn EventSource>>>,
    /// Since when there have been how many level-triggered interrupts and no event.
    quiet: Cell<(Instant, u32)>,
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
            quiet: Cell::new((Instant::START, 0)),
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

    // Every source is asked, whatever the one before it said.

    fn deliver(&self) -> bool {
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
            self.quiet.set((now(), 0));
        } else if taken.is_level() {
            self.suspect(&taken);
        }
        taken.acknowledge();
        any
    }

    /// Counts a level-triggered interrupt after which no device had an event, and masks a line that is stuck.
    fn suspect(&self, taken: &interrupt::Taken) {
        let (since, count) = self.quiet.get();
        if now().since(since) > STUCK_TIME {
            self.quiet.set((now(), 1));
        } else if count < STUCK_COUNT {
            self.quiet.set((since, count + 1));
        } else {
            log::warn!("an interrupt line is stuck: devices on it are polled from now on");
            taken.mask();
            self.stuck.set(true);
        }
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
        // Interrupts are off up to the sleep: what comes in between stays pending and ends it at once.
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
