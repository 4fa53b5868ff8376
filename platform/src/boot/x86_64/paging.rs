//! Page tables: everything at its physical address, and nothing both writable and executable.

use core::arch::asm;

use crate::boot::BootCell;
use crate::boot::memory_map::{PAGE, Range};

/// What a page may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Nothing: any access faults.
    None,
    /// Reading.
    Read,
    /// Reading and writing.
    Write,
    /// Reading and executing.
    Execute,
    /// Reading and writing registers of a device, past the caches.
    Device,
}

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const UNCACHED: u64 = 1 << 3 | 1 << 4;
/// Accessed and dirty: set at once, which spares the processor a write to the table later.
const USED: u64 = 1 << 5 | 1 << 6;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Bytes in a large page.
const LARGE_PAGE: u64 = 2 * 1024 * 1024;
/// First address that four levels of tables cannot hold at its own value.
const ADDRESS_LIMIT: u64 = 1 << 47;

impl Access {
    const fn flags(self) -> u64 {
        match self {
            Self::None => 0,
            Self::Read => PRESENT | USED | NO_EXECUTE,
            Self::Write => PRESENT | USED | NO_EXECUTE | WRITABLE,
            Self::Execute => PRESENT | USED,
            Self::Device => PRESENT | USED | NO_EXECUTE | WRITABLE | UNCACHED,
        }
    }
}

/// The tables ran out of pages, or the address is beyond what they hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unmappable;

/// The page tables, and the memory for more of them.
pub(crate) struct PageTables {
    root: u64,
    spare: Range,
}

static ACTIVE: BootCell<PageTables> = BootCell::new(PageTables { root: 0, spare: Range::EMPTY });

impl PageTables {
    /// Empty tables that grow into `memory`.
    ///
    /// # Safety
    /// `memory` is RAM that is mapped now, and is given over for good.
    pub(crate) unsafe fn new(memory: Range) -> Result<Self, Unmappable> {
        let mut tables = Self { root: 0, spare: memory.inner_pages() };
        tables.root = tables.allocate()?;
        Ok(tables)
    }

    /// How much memory the tables for `ram` bytes of RAM may take: a table for each GiB, and as many again for what is
    /// mapped page by page (the image, stacks, device registers).
    pub(crate) fn memory_needed(ram: u64) -> u64 {
        const PAGE_BY_PAGE: u64 = 40;
        (PAGE_BY_PAGE + ram.div_ceil(1 << 30)) * PAGE
    }

    /// Sets what the pages that `range` touches may be used for.
    ///
    /// # Errors
    /// [`Unmappable`]; a part of the range may then have been set.
    ///
    /// # Safety
    /// No code relies on access that this takes away, and nothing is both code and writable afterwards.
    pub(crate) unsafe fn set(&mut self, range: Range, access: Access) -> Result<(), Unmappable> {
        let range = range.outer_pages();
        if range.end > ADDRESS_LIMIT {
            return Err(Unmappable);
        }
        let mut address = range.start;
        while address < range.end {
            let large = address.is_multiple_of(LARGE_PAGE) && range.end - address >= LARGE_PAGE;
            // SAFETY: `entry` points into a live table; large pages are only set where no table hangs.
            unsafe {
                let (entry, level) = self.entry(address, if large { 1 } else { 0 })?;
                *entry = match (access, level) {
                    (Access::None, _) => 0,
                    (_, 0) => address | access.flags(),
                    _ => address | access.flags() | LARGE,
                };
                address += if level == 0 { PAGE } else { LARGE_PAGE };
            }
        }
        Ok(())
    }

    /// The entry that maps `address`, at `level` (0 = page, 1 = large page) or below if a table hangs there already.
    ///
    /// # Safety
    /// The tables are well-formed and mapped.
    unsafe fn entry(&mut self, address: u64, level: u32) -> Result<(*mut u64, u32), Unmappable> {
        let mut table = self.root;
        let mut at = 3;
        loop {
            let index = address >> (12 + 9 * at) & 511;
            let entry = core::ptr::with_exposed_provenance_mut::<u64>((table + index * 8) as usize);
            // SAFETY: `table` is a page of 512 entries, by construction.
            let value = unsafe { *entry };
            let leaf = value & PRESENT == 0 || value & LARGE != 0;
            if at == 0 || (at == level && leaf) {
                return Ok((entry, at));
            }
            if value & PRESENT == 0 {
                table = self.allocate()?;
                // SAFETY: as above; an empty table maps nothing, as the absent entry did.
                unsafe { *entry = table | PRESENT | WRITABLE };
            } else if leaf {
                table = self.allocate()?;
                let flags = value & !(ADDRESS | LARGE);
                let base = value & ADDRESS & !(LARGE_PAGE - 1);
                for page in 0..512 {
                    let small = core::ptr::with_exposed_provenance_mut::<u64>((table + page * 8) as usize);
                    // SAFETY: the table was just allocated; it maps what the large page did.
                    unsafe { *small = (base + page * PAGE) | flags };
                }
                // SAFETY: as above.
                unsafe { *entry = table | PRESENT | WRITABLE };
            } else {
                table = value & ADDRESS;
            }
            at -= 1;
        }
    }

    /// Whether `address` is mapped.
    ///
    /// # Safety
    /// The tables are well-formed and mapped.
    unsafe fn maps(&self, address: u64) -> bool {
        let mut table = self.root;
        for level in [3, 2, 1, 0] {
            let index = address >> (12 + 9 * level) & 511;
            // SAFETY: `table` is a page of 512 entries, by construction.
            let value = unsafe { *core::ptr::with_exposed_provenance::<u64>((table + index * 8) as usize) };
            if value & PRESENT == 0 || value & LARGE != 0 {
                return value & PRESENT != 0;
            }
            table = value & ADDRESS;
        }
        true
    }

    fn allocate(&mut self) -> Result<u64, Unmappable> {
        let page = self.spare.take_front(PAGE).ok_or(Unmappable)?.start;
        // SAFETY: The page is mapped RAM that belongs to nobody else (contract of `new`).
        unsafe { core::ptr::with_exposed_provenance_mut::<[u64; 512]>(page as usize).write([0; 512]) };
        Ok(page)
    }

    /// Makes these the tables that the processor uses.
    ///
    /// # Safety
    /// They map the running code, its stack and data.
    pub(crate) unsafe fn activate(self) {
        // SAFETY: The caller vouches for the tables; nobody holds the cell before.
        unsafe {
            asm!("mov cr3, {}", in(reg) self.root, options(nostack, preserves_flags));
            *ACTIVE.get_mut() = self;
        }
    }
}

/// Sets what pages may be used for, in the tables in use. Before there are any, the first 4 GiB are mapped for
/// everything (`entry.s`), and that is left so.
///
/// # Errors
/// [`Unmappable`].
///
/// # Safety
/// As [`PageTables::set`].
pub(crate) unsafe fn set(range: Range, access: Access) -> Result<(), Unmappable> {
    // SAFETY: Interrupts do not touch the tables, and this does not nest.
    let tables = unsafe { ACTIVE.get_mut() };
    if tables.root == 0 {
        return if range.end <= FIRST_TABLES_END { Ok(()) } else { Err(Unmappable) };
    }
    // SAFETY: The caller's.
    let result = unsafe { tables.set(range, access) };
    // SAFETY: Reloading the root drops stale translations; no entry is global.
    unsafe { asm!("mov {0}, cr3", "mov cr3, {0}", out(reg) _, options(nostack, preserves_flags)) };
    result
}

/// Maps those pages of `range` that are not mapped yet.
///
/// # Errors
/// [`Unmappable`].
///
/// # Safety
/// As [`set`].
pub(crate) unsafe fn add(range: Range, access: Access) -> Result<(), Unmappable> {
    let range = range.outer_pages();
    if range.end > ADDRESS_LIMIT {
        return Err(Unmappable);
    }
    for page in (range.start..range.end).step_by(PAGE as usize) {
        // SAFETY: as in `set`.
        unsafe {
            let tables = ACTIVE.get_mut();
            if tables.root == 0 || !tables.maps(page) {
                set(Range::new(page, PAGE), access)?;
            }
        }
    }
    Ok(())
}

/// How far the tables reach that `entry.s` makes.
pub(super) const FIRST_TABLES_END: u64 = 1 << 32;
