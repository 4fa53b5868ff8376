//! The image's own program headers: where its text and data lie and what each may be used for.

use super::paging::Access;
use crate::boot::memory_map::Range;

const PT_LOAD: u32 = 1;
const PF_EXECUTE: u32 = 1;
const PF_WRITE: u32 = 2;

/// `Elf64_Ehdr` (System V ABI, chapter 4).
#[repr(C)]
struct Header {
    identification: [u8; 16],
    kind: u16,
    machine: u16,
    version: u32,
    entry: u64,
    program_headers: u64,
    section_headers: u64,
    flags: u32,
    header_size: u16,
    program_header_size: u16,
    program_header_count: u16,
}

/// `Elf64_Phdr`.
#[repr(C)]
struct ProgramHeader {
    kind: u32,
    flags: u32,
    offset: u64,
    virtual_address: u64,
    physical_address: u64,
    file_size: u64,
    memory_size: u64,
    alignment: u64,
}

unsafe extern "C" {
    static __ehdr_start: Header;
    static _end: u8;
}

/// What the auxiliary vector tells of the program headers, and where to start.
pub(super) struct Program {
    pub(super) entry: u64,
    pub(super) headers: u64,
    pub(super) header_size: u64,
    pub(super) header_count: u64,
}

/// The running image.
pub(super) fn program() -> Program {
    // SAFETY: The linker puts the header there; the image maps it.
    let header = unsafe { &__ehdr_start };
    Program {
        entry: header.entry,
        headers: (&raw const __ehdr_start).addr() as u64 + header.program_headers,
        header_size: u64::from(header.program_header_size),
        header_count: u64::from(header.program_header_count),
    }
}

/// All memory of the image, its zeroed data included.
pub(crate) fn extent() -> Range {
    let start = (&raw const __ehdr_start).addr() as u64;
    Range { start, end: (&raw const _end).addr() as u64 }.outer_pages()
}

/// The loaded segments, and what each may be used for. One that is writable is never executable.
pub(crate) fn segments() -> impl Iterator<Item = (Range, Access)> {
    let program = program();
    (0..program.header_count).filter_map(move |index| {
        let address = program.headers + index * program.header_size;
        // SAFETY: Program headers are part of the image (lld maps them with the ELF header).
        let header = unsafe { &*core::ptr::with_exposed_provenance::<ProgramHeader>(address as usize) };
        let access = match header.flags {
            flags if flags & PF_WRITE != 0 => Access::Write,
            flags if flags & PF_EXECUTE != 0 => Access::Execute,
            _ => Access::Read,
        };
        let range = Range::new(header.virtual_address, header.memory_size).outer_pages();
        (header.kind == PT_LOAD).then_some((range, access))
    })
}

/// Whether `address` lies in the image's text.
pub(crate) fn is_text(address: u64) -> bool {
    segments().any(|(range, access)| access == Access::Execute && range.contains(address))
}
