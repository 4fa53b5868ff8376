//! The stacks of a guest, each above a page that is never mapped.

use crate::boot::memory_map::{PAGE, Range};

/// Size of the stack that `boot_main` runs on: command line, memory maps, and an unoptimised build's large frames.
pub(crate) const BOOT: u64 = 32 * 1024;
/// Size of the stack that system calls are answered on.
pub(crate) const SYSTEM_CALL: u64 = 32 * 1024;
/// Size of the stack that exceptions are reported on (IST 1).
pub(crate) const EXCEPTION: u64 = 16 * 1024;
/// Size of the stack for what may strike while an exception is being reported: NMI, double fault, machine check (IST 2).
pub(crate) const EMERGENCY: u64 = 16 * 1024;

/// The main stack is this part of RAM,
const MAIN_SHARE: u64 = 32;
/// but not smaller than what `std` and a service's small tasks need,
const MAIN_LEAST: u64 = 256 * 1024;
/// nor larger than deep recursion in a well-behaved library takes.
const MAIN_MOST: u64 = 1024 * 1024;

unsafe extern "C" {
    static boot_guard: u8;
    static system_call_guard: u8;
    static exception_guard: u8;
    static emergency_guard: u8;
}

/// A stack: the page that guards it, and its memory above that.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stack {
    pub(crate) name: &'static str,
    pub(crate) guard: Range,
    pub(crate) memory: Range,
}

impl Stack {
    /// A stack of `size` bytes above the guard page at `guard`.
    pub(crate) fn new(name: &'static str, guard: u64, size: u64) -> Self {
        let guard = Range::new(guard, PAGE);
        Self { name, guard, memory: Range::new(guard.end, size) }
    }

    /// The address to start from: stacks grow down.
    pub(crate) fn top(&self) -> u64 {
        self.memory.end
    }
}

/// How large the main stack is in a machine with `ram` bytes.
pub(crate) fn main_size(ram: u64) -> u64 {
    (ram / MAIN_SHARE).clamp(MAIN_LEAST, MAIN_MOST) & !(PAGE - 1)
}

/// The stacks whose place is fixed when the image is linked.
pub(crate) fn fixed() -> [Stack; 4] {
    [
        Stack::new("boot", (&raw const boot_guard).addr() as u64, BOOT),
        Stack::new("system call", (&raw const system_call_guard).addr() as u64, SYSTEM_CALL),
        exception(),
        emergency(),
    ]
}

/// The stack of IST 1.
pub(crate) fn exception() -> Stack {
    Stack::new("exception (IST 1)", (&raw const exception_guard).addr() as u64, EXCEPTION)
}

/// The stack of IST 2.
pub(crate) fn emergency() -> Stack {
    Stack::new("emergency (IST 2)", (&raw const emergency_guard).addr() as u64, EMERGENCY)
}
