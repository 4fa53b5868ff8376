//! The power button: ACPI's fixed button on a PC, or the event device of a hardware-reduced machine (QEMU microvm).

use core::cell::Cell;
use core::time::Duration;

use super::interrupt::{self, Line, Trigger};
use super::port::{inw, outb, outw};
use super::processor::time_stamp;
use super::{EventSource, acpi, mmio, now};
use crate::device::Instant;
use crate::host::Shutdown;

/// A busy image takes no interrupts; then the button is looked at this often. Reading it leaves the virtual machine.
const BUSY_INTERVAL: Duration = Duration::from_millis(100);

/// Asks the image to stop when the button is pressed.
pub(super) struct PowerButton {
    kind: Kind,
    line: Line,
    seen: Cell<u32>,
    looked: Cell<Instant>,
    shutdown: Shutdown,
}

enum Kind {
    /// PM1 status ports (ACPI 6.5, 4.8.3.1).
    Fixed([u16; 2]),
    /// The selector register of the generic event device.
    EventDevice(*const u32),
}

/// `PWRBTN_STS` and `PWRBTN_EN`.
const BUTTON: u16 = 1 << 8;

/// QEMU's event "power down" (`ACPI_GED_PWR_DOWN_EVT`).
const POWER_DOWN: u32 = 1 << 1;

impl PowerButton {
    /// The machine's power button, made ready. `None` if it has none.
    pub(super) fn find(shutdown: Shutdown) -> Option<Self> {
        let fadt = acpi::fadt()?;
        let (kind, line) = if fadt.hardware_reduced { event_device()? } else { fixed_button(&fadt)? };
        Some(Self { kind, line, seen: Cell::new(line.count()), looked: Cell::new(Instant::START), shutdown })
    }

    fn is_pressed(&self) -> bool {
        // SAFETY: The registers are those that the tables name; writing the status bit back clears it.
        unsafe {
            match self.kind {
                Kind::Fixed(ports) => ports.into_iter().filter(|&port| port != 0).fold(false, |any, port| {
                    let pressed = inw(port) & BUTTON != 0;
                    if pressed {
                        outw(port, BUTTON);
                    }
                    any | pressed
                }),
                Kind::EventDevice(selector) => selector.read_volatile() & POWER_DOWN != 0,
            }
        }
    }
}

impl EventSource for PowerButton {
    fn deliver(&self) -> bool {
        let (count, now) = (self.line.count(), now());
        if count == self.seen.get() && now.since(self.looked.get()) < BUSY_INTERVAL {
            return false;
        }
        self.seen.set(count);
        self.looked.set(now);
        let pressed = self.is_pressed();
        if pressed {
            self.shutdown.request();
        }
        pressed
    }
}

fn event_device() -> Option<(Kind, Line)> {
    let device = acpi::event_device()?;
    // SAFETY: The tables name the register; it is four bytes.
    let selector = unsafe { mmio::map(device.selector, 4) };
    let line = interrupt::enable_gsi(device.interrupt, Trigger::Edge).ok()?;
    Some((Kind::EventDevice(selector.cast()), line))
}

fn fixed_button(fadt: &acpi::Fadt) -> Option<(Kind, Line)> {
    /// `SCI_EN`: events go to us and not to firmware.
    const ACPI_ON: u16 = 1;
    /// How long firmware may take to hand over: 100 ms or more at up to 5 GHz.
    const PATIENCE: u64 = 500_000_000;
    let mut statuses = [0; 2];
    // SAFETY: The registers are those that the tables name.
    unsafe {
        let control = fadt.control_ports().next()?;
        if fadt.command_port != 0 && inw(control) & ACPI_ON == 0 {
            outb(fadt.command_port, fadt.enable);
            let start = time_stamp();
            while inw(control) & ACPI_ON == 0 && time_stamp().wrapping_sub(start) < PATIENCE {
                core::hint::spin_loop();
            }
        }
        for ((status, enable), slot) in fadt.event_ports().zip(&mut statuses) {
            *slot = status;
            // Only the button: nobody would clear another event, and its interrupt would not end.
            outw(status, u16::MAX);
            outw(enable, BUTTON);
        }
    }
    let line = interrupt::enable_gsi(u32::from(fadt.event_interrupt), Trigger::Level).ok()?;
    Some((Kind::Fixed(statuses), line))
}
