//! Everything before `main` in a virtual machine.
//!
//! The image is an ordinary static Linux program. A hypervisor that finds its PVH note enters it in ring 0 instead;
//! the code here then makes what Linux would have made (page tables, descriptor tables, a stack with arguments and
//! auxiliary vector) and jumps to the program's own `_start`. From there on glibc and `std` run as they always do, and
//! [`shim`](crate::shim) answers their system calls.
//!
//! One folder per architecture holds the code; this page is what the rest of the platform sees of it. In a process
//! every function here says that there is no guest, no module and no memory.
//!
//! Page tables, the small areas for `brk` and `mmap` and the main stack go where they fit tightest, mostly below the image;
//! the largest piece of RAM that is left is [`free_memory`]. Everything is mapped at its physical address,
//! so a device may be given the address of any buffer.

mod cell;
mod command_line;
pub(crate) mod memory_map;

#[cfg(target_arch = "x86_64")]
pub(crate) mod x86_64;

pub(crate) use cell::BootCell;

#[cfg(target_arch = "x86_64")]
use x86_64 as architecture;

/// Whether this image runs as the kernel of a virtual machine.
#[must_use]
pub fn is_guest() -> bool {
    architecture::is_guest()
}

/// The largest piece of memory that nothing else uses, for the arena of the global allocator: its start (aligned to a
/// page) and its length in bytes. Not zeroed. In a process null and zero. On a machine with RAM on both sides of the hole
/// below 4 GiB, the smaller side is left unused.
#[must_use]
pub fn free_memory() -> (*mut u8, usize) {
    let free = architecture::facts().free;
    (core::ptr::with_exposed_provenance_mut(free.start as usize), free.length() as usize)
}

/// The first module that the loader put into memory: QEMU's `-initrd`. It holds the configuration bundle.
#[must_use]
pub fn module() -> Option<&'static [u8]> {
    let module = architecture::facts().module;
    // SAFETY: The range was reported by the loader, lies in mapped RAM (checked at boot), is kept out of the free
    // memory, and nobody writes to it.
    (module.length() > 0).then(|| unsafe {
        core::slice::from_raw_parts(
            core::ptr::with_exposed_provenance(module.start as usize),
            module.length() as usize,
        )
    })
}

/// What stands after `virtio_mmio.device=` in each such word of the command line, as `4K@0xd0000000:5`
/// (Linux, Documentation/admin-guide/kernel-parameters). The words do not become arguments of the image.
pub fn virtio_mmio_devices() -> impl Iterator<Item = &'static str> {
    command_line::virtio_mmio_devices(architecture::command_line())
}

/// Physical address of the ACPI root pointer, if the loader told it.
pub(crate) fn acpi_root_pointer() -> Option<u64> {
    Some(architecture::facts().acpi_root_pointer).filter(|&address| address != 0)
}
