//! Memory for glibc: a small area for `brk`, where it puts the thread-local block, and one for `mmap`, where `std` puts
//! its signal stack. The image's own memory is the global allocator's arena and never comes from here.

use super::errno;
use crate::boot::BootCell;
use crate::boot::memory_map::{PAGE, Range};
use crate::boot::x86_64::paging::{self, Access};
use crate::boot::x86_64::program;

/// Size of the area that the program break grows into. glibc's thread-local block and its few allocations at start
/// take less than a quarter.
pub(crate) const BREAK_AREA: u64 = 256 * 1024;

/// Size of the area for anonymous mappings: one page for each bit of [`Maps::used`].
pub(crate) const MAP_AREA: u64 = 128 * PAGE;

const _: () = assert!(MAP_AREA / PAGE == u128::BITS as u64);

struct Break {
    area: Range,
    current: u64,
}

struct Maps {
    area: Range,
    /// A bit for each page in use.
    used: u128,
}

static BREAK: BootCell<Break> = BootCell::new(Break { area: Range::EMPTY, current: 0 });
static MAPS: BootCell<Maps> = BootCell::new(Maps { area: Range::EMPTY, used: 0 });

/// # Safety
/// Called once at boot; the break area is mapped for writing, and both areas belong to nobody else.
pub(super) unsafe fn initialise(break_area: Range, map_area: Range) {
    // SAFETY: Boot has the statics for itself.
    unsafe {
        *BREAK.get_mut() = Break { area: break_area, current: break_area.start };
        *MAPS.get_mut() = Maps { area: map_area, used: 0 };
        clear(break_area);
    }
}

/// # Safety
/// The range is mapped for writing and unused.
unsafe fn clear(range: Range) {
    let start = core::ptr::with_exposed_provenance_mut::<u8>(range.start as usize);
    // SAFETY: The caller's.
    unsafe { start.write_bytes(0, range.length() as usize) };
}

/// `brk(2)`, the system call: returns the break, moved if it could be.
///
/// # Safety
/// As a system call: memory given back is no longer used.
pub(super) unsafe fn brk(wanted: u64) -> i64 {
    // SAFETY: System calls do not nest.
    let state = unsafe { BREAK.get_mut() };
    if state.area.start <= wanted && wanted <= state.area.end {
        if wanted < state.current {
            // What comes back later has to be zero.
            // SAFETY: The caller gave the memory back.
            unsafe { clear(Range { start: wanted, end: state.current }) };
        }
        state.current = wanted;
    }
    state.current as i64
}

/// `mmap(2)` for private anonymous memory anywhere.
///
/// # Safety
/// As a system call.
pub(super) unsafe fn map(length: u64, protection: u64, flags: u64) -> i64 {
    if flags as i32 & libc::MAP_ANONYMOUS == 0 || flags as i32 & libc::MAP_FIXED != 0 || length == 0 {
        return errno::EINVAL;
    }
    let Ok(access) = access(protection) else { return errno::EACCES };
    // SAFETY: System calls do not nest.
    let state = unsafe { MAPS.get_mut() };
    let pages = length.div_ceil(PAGE);
    let Some((first, mask)) = free_run(state.used, pages) else { return errno::ENOMEM };
    let range = Range::new(state.area.start + u64::from(first) * PAGE, pages * PAGE);
    // SAFETY: The pages belong to this area and are free.
    unsafe {
        if paging::set(range, Access::Write).is_err() {
            return errno::ENOMEM;
        }
        clear(range);
        if access != Access::Write && paging::set(range, access).is_err() {
            return errno::ENOMEM;
        }
    }
    state.used |= mask;
    range.start as i64
}

/// `munmap(2)`.
///
/// # Safety
/// As a system call: the memory is no longer used.
pub(super) unsafe fn unmap(address: u64, length: u64) -> i64 {
    let range = Range::new(address, length).outer_pages();
    // SAFETY: System calls do not nest.
    let state = unsafe { MAPS.get_mut() };
    if !address.is_multiple_of(PAGE) || length == 0 || !state.area.covers(range) {
        return errno::EINVAL;
    }
    let first = ((range.start - state.area.start) / PAGE) as u32;
    state.used &= !(run(range.length() / PAGE) << first);
    // SAFETY: The caller gave the memory back.
    match unsafe { paging::set(range, Access::None) } {
        Ok(()) => 0,
        Err(paging::Unmappable) => errno::ENOMEM,
    }
}

/// `mprotect(2)`, for the program itself (RELRO) and the area for mappings. Never both writable and executable.
///
/// # Safety
/// As a system call.
pub(super) unsafe fn protect(address: u64, length: u64, protection: u64) -> i64 {
    let range = Range::new(address, length).outer_pages();
    // SAFETY: System calls do not nest.
    let state = unsafe { MAPS.get_mut() };
    if !address.is_multiple_of(PAGE) || !(state.area.covers(range) || program::extent().covers(range)) {
        return errno::ENOMEM;
    }
    let Ok(access) = access(protection) else { return errno::EACCES };
    // SAFETY: The caller's wish; text stays what it is unless the program itself asks otherwise.
    match unsafe { paging::set(range, access) } {
        Ok(()) => 0,
        Err(paging::Unmappable) => errno::ENOMEM,
    }
}

/// Writable and executable at once.
struct Forbidden;

fn access(protection: u64) -> Result<Access, Forbidden> {
    let has = |flag: i32| protection & flag as u64 != 0;
    match (has(libc::PROT_WRITE), has(libc::PROT_EXEC)) {
        (true, true) => Err(Forbidden),
        (true, false) => Ok(Access::Write),
        (false, true) => Ok(Access::Execute),
        (false, false) if has(libc::PROT_READ) => Ok(Access::Read),
        (false, false) => Ok(Access::None),
    }
}

/// `pages` one-bits.
fn run(pages: u64) -> u128 {
    if pages >= 128 { u128::MAX } else { (1 << pages) - 1 }
}

/// The first free run of `pages` pages, and its bits.
fn free_run(used: u128, pages: u64) -> Option<(u32, u128)> {
    let last = u128::BITS.checked_sub(u32::try_from(pages).ok()?)?;
    (0..=last).map(|first| (first, run(pages) << first)).find(|(_, mask)| used & mask == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_found_where_they_fit_first() {
        assert_eq!(free_run(0b1011, 1), Some((2, 0b100)));
        assert_eq!(free_run(0b1011, 2), Some((4, 0b11_0000)));
        assert_eq!(free_run(0, 128), Some((0, u128::MAX)));
        assert_eq!(free_run(1, 128), None);
        assert_eq!(free_run(0, 129), None);
        assert_eq!(free_run(u128::MAX, 1), None);
    }

    #[test]
    fn nothing_is_writable_and_executable() {
        let both = (libc::PROT_WRITE | libc::PROT_EXEC) as u64;
        assert!(access(both).is_err());
        assert!(matches!(access(libc::PROT_EXEC as u64), Ok(Access::Execute)));
        assert!(matches!(access(0), Ok(Access::None)));
    }
}
