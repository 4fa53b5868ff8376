//! What the loader tells: PVH's `hvm_start_info` (Xen, `xen/include/public/arch-x86/hvm/start_info.h`).

use core::fmt;

use crate::boot::memory_map::{MemoryMap, Range};

const MAGIC: u32 = 0x336e_c578;

/// The kind of memory map entry that is RAM (as in E820); all other kinds are not ours to use.
const RAM: u32 = 1;

/// Most entries of a memory map that are read. A loader that gives more loses the rest of its memory, not the image.
const ENTRY_LIMIT: u32 = 256;

#[repr(C)]
struct StartInfo {
    magic: u32,
    version: u32,
    flags: u32,
    module_count: u32,
    modules: u64,
    command_line: u64,
    root_pointer: u64,
    /// From version 1 on.
    memory_map: u64,
    memory_map_entries: u32,
    reserved: u32,
}

#[repr(C)]
struct Module {
    address: u64,
    size: u64,
    command_line: u64,
    reserved: u64,
}

#[repr(C)]
struct MemoryMapEntry {
    address: u64,
    size: u64,
    kind: u32,
    reserved: u32,
}

/// Why the loader's information is of no use.
#[derive(Clone, Copy, Debug)]
pub(super) enum StartInfoError {
    /// Not PVH's magic number, but this.
    Magic(u32),
    /// There is no memory map.
    NoMemoryMap,
}

impl fmt::Display for StartInfoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Magic(found) => {
                write!(f, "the loader's PVH start information begins with {found:#x} and not with {MAGIC:#x}")
            }
            Self::NoMemoryMap => f.write_str("the loader's PVH start information has no memory map"),
        }
    }
}

/// A copy of what matters: the loader may have put the original anywhere, also where memory counts as free.
pub(super) struct Loaded {
    pub(super) ram: MemoryMap,
    pub(super) module: Range,
    pub(super) root_pointer: u64,
}

/// Copies the start information at `address`, and the command line into `command_line`, whose unused end stays zero.
///
/// # Safety
/// `address` is what the loader passed; memory below 4 GiB is mapped at its physical address.
pub(super) unsafe fn read(address: u32, command_line: &mut [u8]) -> Result<Loaded, StartInfoError> {
    // SAFETY: The loader passed the address; the fields are plain numbers.
    let info = unsafe { at::<StartInfo>(u64::from(address)).read_unaligned() };
    if info.magic != MAGIC {
        return Err(StartInfoError::Magic(info.magic));
    }
    if info.version == 0 || info.memory_map == 0 || info.memory_map_entries == 0 {
        return Err(StartInfoError::NoMemoryMap);
    }

    let mut ram = MemoryMap::new();
    // RAM first: where another entry overlaps, the memory is not ours.
    for want_ram in [true, false] {
        for index in 0..u64::from(info.memory_map_entries.min(ENTRY_LIMIT)) {
            // SAFETY: The loader vouches for the entries.
            let entry = unsafe {
                at::<MemoryMapEntry>(info.memory_map + index * size_of::<MemoryMapEntry>() as u64)
                    .read_unaligned()
            };
            let range = Range::new(entry.address, entry.size);
            match (entry.kind == RAM, want_ram) {
                (true, true) => ram.add(range),
                (false, false) => ram.remove(range),
                _ => {}
            }
        }
    }

    let mut module = Range::EMPTY;
    if info.module_count > 0 && info.modules != 0 {
        // SAFETY: The loader vouches for the list.
        let first = unsafe { at::<Module>(info.modules).read_unaligned() };
        module = Range::new(first.address, first.size);
    }

    if info.command_line != 0 {
        // The last byte stays zero whatever comes.
        let room = command_line.len().saturating_sub(1);
        for (index, byte) in command_line[..room].iter_mut().enumerate() {
            // SAFETY: The text ends with a NUL byte, past which nothing is read.
            *byte = unsafe { at::<u8>(info.command_line + index as u64).read() };
            if *byte == 0 {
                break;
            }
        }
    }
    Ok(Loaded { ram, module, root_pointer: info.root_pointer })
}

fn at<T>(address: u64) -> *const T {
    core::ptr::with_exposed_provenance(address as usize)
}
