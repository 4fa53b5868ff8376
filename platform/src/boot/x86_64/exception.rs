//! Exceptions: each ends the image, with a report that says what happened and from where.

use core::fmt::Write;
use core::sync::atomic::{AtomicBool, Ordering};

use super::{facts, program, stacks};
use crate::boot::memory_map::PAGE;
use crate::host::guest::power::{Ending, end};
use crate::host::guest::serial::Serial;

/// What the entries in `traps.s` push, and above it what the processor pushed.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Frame {
    r15: u64,
    r14: u64,
    r13: u64,
    r12: u64,
    r11: u64,
    r10: u64,
    r9: u64,
    r8: u64,
    rbp: u64,
    rdi: u64,
    rsi: u64,
    rdx: u64,
    rcx: u64,
    rbx: u64,
    rax: u64,
    vector: u64,
    error: u64,
    rip: u64,
    cs: u64,
    rflags: u64,
    rsp: u64,
    ss: u64,
}

/// Names by vector (Intel SDM vol. 3, table 7-1).
const NAMES: [&str; 22] = [
    "divide error",
    "debug exception",
    "non-maskable interrupt",
    "breakpoint",
    "overflow",
    "bound range exceeded",
    "invalid opcode",
    "device not available",
    "double fault",
    "coprocessor segment overrun",
    "invalid task state segment",
    "segment not present",
    "stack segment fault",
    "general protection fault",
    "page fault",
    "reserved",
    "x87 floating-point error",
    "alignment check",
    "machine check",
    "SIMD floating-point error",
    "virtualization exception",
    "control protection exception",
];

const NON_MASKABLE: u64 = 2;
const DOUBLE_FAULT: u64 = 8;
const PAGE_FAULT: u64 = 14;
const MACHINE_CHECK: u64 = 18;

/// How many words of the stack are searched for return addresses, and how many are printed at most.
const SEARCHED_WORDS: u64 = 2048;
const PRINTED_ADDRESSES: usize = 32;

static REPORTING: AtomicBool = AtomicBool::new(false);

/// Where every exception leads.
pub(super) unsafe extern "C" fn exception(frame: &Frame) -> ! {
    let mut out = Serial;
    let name = NAMES.get(frame.vector as usize).copied().unwrap_or("reserved");
    if REPORTING.swap(true, Ordering::Relaxed) {
        let _ = writeln!(
            out,
            "\nskerry: {name} at {:#x}, address {:#x}, during the report of another exception",
            frame.rip,
            fault_address()
        );
        end(Ending::DoubleFault);
    }
    let _ = writeln!(out, "\nskerry: exception {}, {name}, error {:#x}", frame.vector, frame.error);
    let ending = match frame.vector {
        PAGE_FAULT => describe_page_fault(&mut out, frame),
        NON_MASKABLE | DOUBLE_FAULT | MACHINE_CHECK => Ending::DoubleFault,
        _ => Ending::Exception,
    };
    let _ = write!(
        out,
        "  rip {:016x} rflags {:08x} cr2 {:016x}\n  \
         rax {:016x} rbx {:016x} rcx {:016x} rdx {:016x}\n  \
         rsi {:016x} rdi {:016x} rbp {:016x} rsp {:016x}\n  \
         r8  {:016x} r9  {:016x} r10 {:016x} r11 {:016x}\n  \
         r12 {:016x} r13 {:016x} r14 {:016x} r15 {:016x}\n",
        frame.rip,
        frame.rflags,
        fault_address(),
        frame.rax,
        frame.rbx,
        frame.rcx,
        frame.rdx,
        frame.rsi,
        frame.rdi,
        frame.rbp,
        frame.rsp,
        frame.r8,
        frame.r9,
        frame.r10,
        frame.r11,
        frame.r12,
        frame.r13,
        frame.r14,
        frame.r15,
    );
    print_return_addresses(&mut out, frame);
    end(ending)
}

/// Says in words what a page fault means.
fn describe_page_fault(out: &mut Serial, frame: &Frame) -> Ending {
    const WRITE: u64 = 1 << 1;
    const FETCH: u64 = 1 << 4;
    let address = fault_address();
    let action = match frame.error {
        error if error & FETCH != 0 => "execution",
        error if error & WRITE != 0 => "write",
        _ => "read",
    };
    let overrun =
        stacks::fixed().into_iter().chain([facts().main_stack]).find(|stack| stack.guard.contains(address));
    if let Some(stack) = overrun {
        let _ = writeln!(
            out,
            "  stack overflow: {action} at {address:#x}, in the guard page of the {} stack ({} KiB)",
            stack.name,
            stack.memory.length() / 1024
        );
        return Ending::StackOverflow;
    }
    let place = if address < PAGE {
        "the null page"
    } else if let Some((_, access)) = program::segments().find(|(range, _)| range.contains(address)) {
        match access {
            super::Access::Execute => "the program's text",
            super::Access::Read => "the program's read-only data",
            _ => "the program's data",
        }
    } else if facts().free.contains(address) {
        "the arena"
    } else if facts().module.contains(address) {
        "the boot module"
    } else if facts().main_stack.memory.contains(address) {
        "the main stack"
    } else {
        "memory that is not mapped"
    };
    let _ = writeln!(out, "  {action} at {address:#x}, in {place}");
    Ending::Exception
}

/// Prints the words on the stack that are addresses after a call in the program's text. There are no frame pointers, and
/// unwinding needs more of the program than can be trusted now: so some addresses may be stale, left by calls that have
/// returned.
fn print_return_addresses(out: &mut Serial, frame: &Frame) {
    let _ = writeln!(out, "return addresses on the stack (tests/symbolise.sh names them):");
    let _ = writeln!(out, "  {:#x}", frame.rip);
    let stacks = stacks::fixed().into_iter().chain([facts().main_stack]);
    // After an overflow the stack pointer lies in the guard page or below.
    let Some(stack) =
        stacks.clone().find(|stack| stack.memory.contains(frame.rsp) || stack.guard.contains(frame.rsp))
    else {
        return;
    };
    let start = frame.rsp.max(stack.memory.start).next_multiple_of(8);
    let end = stack.memory.end.min(start.saturating_add(SEARCHED_WORDS * 8));
    let words = (start..end).step_by(8).map(|address| {
        // SAFETY: The address lies in the mapped memory of a stack and is aligned.
        unsafe { core::ptr::with_exposed_provenance::<u64>(address as usize).read_volatile() }
    });
    for address in words.filter(|&word| follows_call(word)).take(PRINTED_ADDRESSES) {
        let _ = writeln!(out, "  {address:#x}");
    }
}

/// Whether `address` lies in the text just after a call instruction (Intel SDM vol. 2, CALL: E8 with four bytes of
/// displacement, or FF /2 with two to seven bytes in all).
fn follows_call(address: u64) -> bool {
    const LONGEST: u64 = 8;
    if !program::is_text(address) || !program::is_text(address - LONGEST) {
        return false;
    }
    let byte = |back: u64| {
        // SAFETY: The bytes before the address are mapped text.
        unsafe { core::ptr::with_exposed_provenance::<u8>((address - back) as usize).read_volatile() }
    };
    byte(5) == 0xe8 || (2..=7).any(|back| byte(back) == 0xff && byte(back - 1) >> 3 & 7 == 2)
}

fn fault_address() -> u64 {
    let address: u64;
    // SAFETY: Reading CR2 has no effect.
    unsafe { core::arch::asm!("mov {}, cr2", out(reg) address, options(nomem, nostack, preserves_flags)) };
    address
}
