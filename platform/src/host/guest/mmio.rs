//! Memory of devices and firmware, mapped at its physical address.

use super::power::refuse;
use crate::boot::memory_map::Range;
use crate::boot::x86_64::paging::{self, Access};
use crate::boot::x86_64::program;

/// Maps `length` bytes of device registers at `physical`, past the caches, and returns their address. Mapping again
/// what is mapped changes nothing; nothing is ever unmapped.
///
/// Where there are no more page tables the image ends with a message: that is a limit of its own
/// (`PageTables::memory_needed`), not a state of a device.
///
/// # Safety
/// The range belongs to a device: it is neither RAM nor anything of the image.
pub unsafe fn map(physical: u64, length: usize) -> *mut u8 {
    // SAFETY: The caller's.
    if unsafe { paging::set(Range::new(physical, length as u64), Access::Device) }.is_err() {
        refuse(format_args!("cannot map {length} bytes of a device at {physical:#x}"));
    }
    core::ptr::with_exposed_provenance_mut(physical as usize)
}

/// Maps what firmware left in memory (ACPI tables) for reading. `None` for memory of the image itself, and where there
/// are no more page tables.
///
/// # Safety
/// The range holds such tables.
pub(crate) unsafe fn map_firmware(physical: u64, length: usize) -> Option<*const u8> {
    let range = Range::new(physical, length as u64);
    let image = program::extent();
    if range.start < image.end && image.start < range.end {
        return None;
    }
    // SAFETY: The caller's, and it is not the image.
    unsafe { paging::add(range, Access::Read) }.ok()?;
    Some(core::ptr::with_exposed_provenance(physical as usize))
}
