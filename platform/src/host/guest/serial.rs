//! The serial console: a 16550 at the PC's first port, or whatever behaves like one.
//!
//! It is also where the image speaks before it has an allocator and after a fault, so nothing here allocates or fails.

use core::fmt;
use core::sync::atomic::{AtomicU8, Ordering};

use super::port::{inb, outb};
use super::processor::time_stamp;
use crate::device::Console;

/// COM1.
const BASE: u16 = 0x3f8;
const DATA: u16 = BASE;
const INTERRUPT_ENABLE: u16 = BASE + 1;
const FIFO_CONTROL: u16 = BASE + 2;
const LINE_CONTROL: u16 = BASE + 3;
const MODEM_CONTROL: u16 = BASE + 4;
const LINE_STATUS: u16 = BASE + 5;

const TRANSMITTER_EMPTY: u8 = 1 << 5;
/// What a port without a device reads as.
const NO_DEVICE: u8 = 0xff;

/// Bytes that an empty transmitter takes at once (16550A).
const FIFO: usize = 16;

/// How long to wait for the transmitter, in ticks of the time stamp counter: 20 ms or more at up to 5 GHz, where 16
/// bytes at 115,200 baud take 1.4 ms. The clock itself is not known yet when the first line is written.
const PATIENCE: u64 = 100_000_000;

/// There is a port and it takes what it gets.
const READY: u8 = 0;
/// It did not take anything within [`PATIENCE`]. It gets no more of that until it is empty again.
const STALLED: u8 = 1;
/// There is none.
const ABSENT: u8 = 2;

static STATE: AtomicU8 = AtomicU8::new(READY);

/// The console of a guest.
#[derive(Clone, Copy, Debug, Default)]
pub struct Serial;

impl Console for Serial {
    fn write(&self, text: &[u8]) {
        write(text);
    }
}

impl fmt::Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        write(text.as_bytes());
        Ok(())
    }
}

/// Sets the port to 115,200 baud, 8N1, with FIFO and without interrupts.
pub(crate) fn initialise() {
    const DIVISOR_LATCH: u8 = 0x80;
    const DIVISOR_115200: u8 = 1;
    const EIGHT_BITS: u8 = 3;
    const FIFO_ON_AND_CLEAR: u8 = 7;
    const READY_AND_REQUEST: u8 = 3;
    // SAFETY: COM1 is the console's; where there is none the writes go nowhere.
    unsafe {
        outb(INTERRUPT_ENABLE, 0);
        outb(LINE_CONTROL, DIVISOR_LATCH);
        outb(DATA, DIVISOR_115200);
        outb(INTERRUPT_ENABLE, 0);
        outb(LINE_CONTROL, EIGHT_BITS);
        outb(FIFO_CONTROL, FIFO_ON_AND_CLEAR);
        outb(MODEM_CONTROL, READY_AND_REQUEST);
        if inb(LINE_STATUS) == NO_DEVICE {
            STATE.store(ABSENT, Ordering::Relaxed);
        }
    }
}

/// Writes `text`, each `\n` as the `\r\n` that terminals want. What the port does not take in time is lost.
pub(crate) fn write(text: &[u8]) {
    let mut room = 0;
    let mut send = |byte| {
        if room == 0 {
            if !wait_until_empty() {
                return;
            }
            room = FIFO;
        }
        room -= 1;
        // SAFETY: COM1 is the console's.
        unsafe { outb(DATA, byte) };
    };
    for &byte in text {
        if byte == b'\n' {
            send(b'\r');
        }
        send(byte);
    }
}

fn wait_until_empty() -> bool {
    let state = STATE.load(Ordering::Relaxed);
    if state == ABSENT {
        return false;
    }
    let start = time_stamp();
    loop {
        // SAFETY: COM1 is the console's.
        if unsafe { inb(LINE_STATUS) } & TRANSMITTER_EMPTY != 0 {
            STATE.store(READY, Ordering::Relaxed);
            return true;
        }
        if state == STALLED || time_stamp().wrapping_sub(start) > PATIENCE {
            STATE.store(STALLED, Ordering::Relaxed);
            return false;
        }
        core::hint::spin_loop();
    }
}
