//! The stack that a program finds when Linux starts it: arguments, environment, auxiliary vector
//! (System V ABI, AMD64 supplement, 3.4.1).

use core::arch::x86_64::__cpuid;

use super::program;
use crate::boot::command_line;
use crate::boot::memory_map::{PAGE, Range};
use crate::host::guest::processor;

/// Longest command line in bytes; Linux on x86 takes as much.
pub(crate) const COMMAND_LINE_LIMIT: usize = 2048;

/// Most arguments. `--ipv4=` and its kin come to a dozen.
const ARGUMENT_LIMIT: usize = 64;

/// The name of the program, `argv[0]`.
const NAME: &[u8] = b"skerry\0";

/// glibc copies and clears more than a few kilobytes with string instructions where the processor calls them fast. QEMU's
/// interpreter (TCG) says so too, and does them byte by byte: this has glibc use vectors.
const ENVIRONMENT_UNDER_TCG: &[u8] = b"GLIBC_TUNABLES=glibc.cpu.hwcaps=-ERMS\0";

/// Linux's `USER_HZ`.
const CLOCK_TICKS: u64 = 100;

const AT_NULL: u64 = 0;
const AT_PHDR: u64 = 3;
const AT_PHENT: u64 = 4;
const AT_PHNUM: u64 = 5;
const AT_PAGESZ: u64 = 6;
const AT_BASE: u64 = 7;
const AT_FLAGS: u64 = 8;
const AT_ENTRY: u64 = 9;
const AT_UID: u64 = 11;
const AT_EUID: u64 = 12;
const AT_GID: u64 = 13;
const AT_EGID: u64 = 14;
const AT_HWCAP: u64 = 16;
const AT_CLKTCK: u64 = 17;
const AT_SECURE: u64 = 23;
const AT_RANDOM: u64 = 25;
const AT_HWCAP2: u64 = 26;
const AT_EXECFN: u64 = 31;

/// Writes the initial stack at the upper end of `memory`, and returns the stack pointer.
///
/// # Safety
/// `memory` is mapped, writable and unused, and larger than what is written (the strings and about 1 KiB).
pub(super) unsafe fn build(memory: Range, command_line: &[u8], random: [u8; 16]) -> u64 {
    // From the top down: strings, random bytes, then the table of numbers that points to them.
    let strings = memory.end - 2 * COMMAND_LINE_LIMIT as u64;
    // SAFETY: The caller gives the memory; it is larger than this.
    let bytes = unsafe {
        core::slice::from_raw_parts_mut(
            core::ptr::with_exposed_provenance_mut::<u8>(strings as usize),
            2 * COMMAND_LINE_LIMIT,
        )
    };
    bytes.fill(0);
    bytes[..NAME.len()].copy_from_slice(NAME);
    let random_at = 16;
    bytes[random_at..random_at + random.len()].copy_from_slice(&random);
    let environment_at = random_at + random.len();
    let under_tcg = processor::hypervisor(b"TCGTCGTCGTCG").is_some();
    let environment = if under_tcg { ENVIRONMENT_UNDER_TCG } else { &[] };
    bytes[environment_at..environment_at + environment.len()].copy_from_slice(environment);
    let words_at = environment_at + environment.len();

    let mut arguments = [0; ARGUMENT_LIMIT];
    arguments[0] = strings;
    let mut count = 1;
    command_line::split(command_line, &mut bytes[words_at..], |start| {
        if let Some(argument) = arguments.get_mut(count) {
            *argument = strings + (words_at + start) as u64;
            count += 1;
        }
    });

    let program = program::program();
    let auxiliary = [
        (AT_PHDR, program.headers),
        (AT_PHENT, program.header_size),
        (AT_PHNUM, program.header_count),
        (AT_PAGESZ, PAGE),
        (AT_BASE, 0),
        (AT_FLAGS, 0),
        (AT_ENTRY, program.entry),
        (AT_UID, 0),
        (AT_EUID, 0),
        (AT_GID, 0),
        (AT_EGID, 0),
        (AT_HWCAP, u64::from(__cpuid(1).edx)),
        (AT_CLKTCK, CLOCK_TICKS),
        (AT_SECURE, 0),
        (AT_RANDOM, strings + random_at as u64),
        (AT_HWCAP2, 0),
        (AT_EXECFN, strings),
        (AT_NULL, 0),
    ];

    // argc, argv and its null, the environment and its null, then the auxiliary vector.
    let variable = under_tcg.then_some(strings + environment_at as u64);
    let words = 1 + count + 1 + usize::from(under_tcg) + 1 + 2 * auxiliary.len();
    let stack = (strings - words as u64 * 8) & !15;
    // SAFETY: as above.
    let table = unsafe {
        core::slice::from_raw_parts_mut(core::ptr::with_exposed_provenance_mut::<u64>(stack as usize), words)
    };
    let values = [count as u64]
        .into_iter()
        .chain(arguments[..count].iter().copied())
        .chain([0])
        .chain(variable)
        .chain([0])
        .chain(auxiliary.into_iter().flat_map(|(key, value)| [key, value]));
    for (word, value) in table.iter_mut().zip(values) {
        *word = value;
    }
    stack
}
