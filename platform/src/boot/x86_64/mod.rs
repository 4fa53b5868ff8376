//! x86-64: from the PVH entry to the program's `_start`.

use core::arch::global_asm;

pub(crate) mod descriptors;
pub(crate) mod exception;
mod initial_stack;
pub(crate) mod paging;
pub(crate) mod program;
pub(crate) mod stacks;
mod start_info;

use super::BootCell;
use super::memory_map::{PAGE, Range};
use crate::host::guest::power::refuse;
use crate::host::guest::{clock, entropy, serial};
use crate::shim;
use initial_stack::COMMAND_LINE_LIMIT;
use paging::{Access, PageTables};
use stacks::Stack;

global_asm!(
    include_str!("entry.s"),
    boot_main = sym boot_main,
    boot_stack = const stacks::BOOT,
    system_call_stack = const stacks::SYSTEM_CALL,
    exception_stack = const stacks::EXCEPTION,
    emergency_stack = const stacks::EMERGENCY,
);
global_asm!(include_str!("traps.s"), exception = sym exception::exception);

/// Memory below this belongs to firmware and to the loader's own structures; it is never handed out.
const FIRMWARE_END: u64 = 1024 * 1024;

unsafe extern "C" {
    static pvh_start_info: u32;
    fn enter_image(stack: u64, entry: u64) -> !;
}

/// What boot found out and laid out.
#[derive(Clone, Copy)]
pub(crate) struct Facts {
    /// What the arena of the global allocator may have.
    pub(crate) free: Range,
    /// The first module, or nothing.
    pub(crate) module: Range,
    /// Physical address of the ACPI root pointer, or 0.
    pub(crate) acpi_root_pointer: u64,
    /// The stack of the program.
    pub(crate) main_stack: Stack,
}

static FACTS: BootCell<Facts> = BootCell::new(Facts {
    free: Range::EMPTY,
    module: Range::EMPTY,
    acpi_root_pointer: 0,
    main_stack: Stack { name: "main", guard: Range::EMPTY, memory: Range::EMPTY },
});

static COMMAND_LINE: BootCell<[u8; COMMAND_LINE_LIMIT]> = BootCell::new([0; COMMAND_LINE_LIMIT]);

pub(crate) fn is_guest() -> bool {
    // The symbol is defined by the entry itself: whoever asks has the entry linked in.
    // SAFETY: Written once, before any compiled code ran; zero in a process.
    unsafe { (&raw const pvh_start_info).read_volatile() != 0 }
}

pub(crate) fn facts() -> &'static Facts {
    // SAFETY: Written once, at boot.
    unsafe { FACTS.get() }
}

pub(crate) fn command_line() -> &'static [u8] {
    // SAFETY: Written once, at boot.
    let line = unsafe { COMMAND_LINE.get() };
    line.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Runs on the boot stack without thread locals, allocator or panics, until it enters the program.
unsafe extern "C" fn boot_main(start_info: u32) -> ! {
    serial::initialise();
    // SAFETY: This is boot: one thread, interrupts off, memory below 4 GiB mapped at its address.
    unsafe {
        descriptors::load();
        let loaded = match start_info::read(start_info, COMMAND_LINE.get_mut()) {
            Ok(loaded) => loaded,
            Err(error) => refuse(format_args!("{error}")),
        };
        let image = program::extent();
        if !loaded.ram.ranges().iter().any(|range| range.covers(image)) {
            refuse(format_args!("the image at {image:x?} does not lie in RAM: {:x?}", loaded.ram.ranges()));
        }

        let ram = loaded.ram.total();
        let mut free = loaded.ram.clone();
        for taken in [Range::new(0, FIRMWARE_END), image, loaded.module] {
            free.remove(taken);
        }
        let mut take = |what: &str, length: u64| {
            free.take(length, paging::FIRST_TABLES_END).unwrap_or_else(|| {
                refuse(format_args!("{} KiB of RAM are not enough: no room for {what}", ram / 1024))
            })
        };
        let table_memory = take("page tables", PageTables::memory_needed(ram));
        let break_area = take("the brk area", shim::BREAK_AREA);
        let map_area = take("the mmap area", shim::MAP_AREA);
        let main_size = stacks::main_size(ram);
        let stack_memory = take("the main stack", PAGE + main_size);
        let main_stack = Stack::new("main", stack_memory.start, main_size);

        let facts = Facts {
            free: free.largest(),
            module: loaded.module,
            acpi_root_pointer: loaded.root_pointer,
            main_stack,
        };
        *FACTS.get_mut() = facts;
        if map_memory(table_memory, loaded.ram.ranges(), map_area).is_err() {
            refuse(format_args!("no memory for page tables of {} KiB of RAM", ram / 1024));
        }

        clock::initialise();
        entropy::seed_from_processor();
        shim::initialise(break_area, map_area);
        let stack = initial_stack::build(main_stack.memory, command_line(), entropy::early_bytes());
        enter_image(stack, program::program().entry)
    }
}

/// Builds the page tables and switches to them.
///
/// # Safety
/// As [`boot_main`].
unsafe fn map_memory(table_memory: Range, ram: &[Range], map_area: Range) -> Result<(), paging::Unmappable> {
    // SAFETY: RAM is mapped as data, then the image by its program headers; what runs now is in the image.
    unsafe {
        let mut tables = PageTables::new(table_memory)?;
        for &range in ram {
            tables.set(range, Access::Write)?;
        }
        tables.set(Range::new(0, PAGE), Access::None)?;
        tables.set(program::extent(), Access::None)?;
        for (range, access) in program::segments() {
            tables.set(range, access)?;
        }
        for stack in stacks::fixed() {
            tables.set(stack.guard, Access::None)?;
        }
        tables.set(facts().main_stack.guard, Access::None)?;
        tables.set(map_area, Access::None)?;
        if facts().module.length() > 0 {
            tables.set(facts().module, Access::Read)?;
        }
        tables.activate();
    }
    Ok(())
}
