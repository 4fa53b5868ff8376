//! The end of a guest: power-off, reboot, and the status that the hypervisor's process exits with.
//!
//! QEMU tells a status to its parent only through the device `isa-debug-exit` (`-device isa-debug-exit,iobase=0xf4`):
//! it then exits with twice the status plus one. Without that device every end is a power-off, and QEMU exits with 0.
//!
//! | status | QEMU's | meaning |
//! |---|---|---|
//! | 0 | 0 | the image ended well: ACPI power-off (1 where the machine has no ACPI) |
//! | 1 to 63, 101 | 3 to 127, 203 | `main` returned it; 101 is `std`'s for a panic that nobody caught |
//! | 64 to 70 | 129 to 141 | [`Ending`] |
//! | 105 | 211 | the arena is used up ([`memory`](crate::memory)) |

use core::arch::asm;
use core::fmt::{self, Write};

use super::acpi;
use super::port::{inb, inw, outb, outl, outw};
use super::processor::time_stamp;
use super::serial::Serial;
use crate::boot::x86_64::descriptors;

/// Why an image ended that did not end well; the number is its exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Ending {
    /// The image could not start: the console says what the machine lacks.
    Refused = 64,
    /// A processor exception.
    Exception = 65,
    /// An access to the guard page of a stack.
    StackOverflow = 66,
    /// A double fault, machine check or non-maskable interrupt, or a fault during the report of another.
    DoubleFault = 67,
    /// A system call made while another was being answered.
    NestedSystemCall = 68,
    /// A futex wait: the one thread would have waited for itself.
    FutexWait = 69,
    /// A signal to itself: `abort`.
    Aborted = 70,
}

/// Ends the image for `reason`, which the console has been told.
pub fn end(reason: Ending) -> ! {
    end_with_status(reason as u8)
}

/// Ends the image because the machine lacks something: `what` goes to the console.
pub fn refuse(what: fmt::Arguments<'_>) -> ! {
    let _ = writeln!(Serial, "\nskerry: cannot start: {what}");
    end(Ending::Refused)
}

/// Ends the image with `status`.
pub fn end_with_status(status: u8) -> ! {
    if status != 0 {
        debug_exit(status);
    }
    power_off();
    debug_exit(status);
    reset()
}

/// Starts the machine anew.
pub fn reboot() -> ! {
    reset()
}

/// Asks `isa-debug-exit` to end QEMU. Comes back where there is no such device.
fn debug_exit(status: u8) {
    const PORT: u16 = 0xf4;
    // SAFETY: Nothing else of a PC listens there.
    unsafe { outl(PORT, u32::from(status)) };
}

/// Enters ACPI's state S5. Comes back where there is no ACPI, or it does not work.
fn power_off() {
    const SLEEP_ENABLE: u16 = 1 << 13;
    const SLEEP_TYPE_SHIFT: u32 = 10;
    /// The same in the 8-bit sleep control register of hardware-reduced machines (ACPI 6.5, 4.8.3.7).
    const REDUCED_SLEEP_ENABLE: u8 = 1 << 5;
    const REDUCED_SLEEP_TYPE_SHIFT: u32 = 2;

    let Some(fadt) = acpi::fadt() else { return };
    let sleep_type = acpi::soft_off_sleep_type().unwrap_or(0);
    // SAFETY: The registers are those that the tables name; the machine is to go off.
    unsafe {
        if let Some(register) = fadt.sleep_control {
            register.write(sleep_type << REDUCED_SLEEP_TYPE_SHIFT | REDUCED_SLEEP_ENABLE);
        }
        for port in fadt.control_ports() {
            const SLEEP_BITS: u16 = 7 << SLEEP_TYPE_SHIFT | SLEEP_ENABLE;
            let value = inw(port) & !SLEEP_BITS | u16::from(sleep_type) << SLEEP_TYPE_SHIFT;
            outw(port, value | SLEEP_ENABLE);
        }
    }
    settle();
}

/// ACPI's reset register, the keyboard controller's reset line, and a triple fault, whichever works first.
fn reset() -> ! {
    const KEYBOARD_CONTROLLER: u16 = 0x64;
    const PULSE_RESET: u8 = 0xfe;
    // SAFETY: The machine is to start anew.
    unsafe {
        if let Some((register, value)) = acpi::fadt().and_then(|fadt| fadt.reset) {
            register.write(value);
            settle();
        }
        if inb(KEYBOARD_CONTROLLER) != 0xff {
            outb(KEYBOARD_CONTROLLER, PULSE_RESET);
            settle();
        }
        asm!("cli", options(nomem, nostack));
    }
    descriptors::triple_fault()
}

/// Gives the machine a moment to do what it was told: 10 ms or more at up to 5 GHz.
fn settle() {
    const TICKS: u64 = 50_000_000;
    let start = time_stamp();
    while time_stamp().wrapping_sub(start) < TICKS {
        core::hint::spin_loop();
    }
}
