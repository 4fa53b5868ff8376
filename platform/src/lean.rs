//! What an image does without: parts of glibc and `std` that other programs need and no image ever runs, but that a
//! static link takes in because a fallback or a message somewhere names them. Together they are most of glibc: locales,
//! character sets, message catalogues, wide and narrow formatting, `dlopen`'s search paths, and in `std` the reading of
//! symbol tables for backtraces.
//!
//! Each function here stands in glibc's place and does the least that is right. A definition of the program goes before
//! one in a library, so the linker leaves out glibc's, and with it what only that needed. `deploy/build-image.sh` asks for
//! this with the feature `lean`; tests and tools, which have threads and files, are built without it. In a glibc that is made
//! differently a name that is no longer asked for makes the image larger. An image that does use what is left out (by `std::fs` or
//! `std::thread`, say) does not link: the linker takes glibc's file for its other functions, and finds a symbol twice.

use core::alloc::Layout;
use core::ffi::{CStr, c_char, c_int, c_long, c_void};
use core::ptr::null_mut;
use std::alloc::{alloc, alloc_zeroed, dealloc, realloc as reallocate};

/// Before each block of C memory: its size, and the alignment that C expects kept.
const HEADER: usize = 16;

fn layout(size: usize) -> Option<Layout> {
    Layout::from_size_align(size.checked_add(HEADER)?, HEADER).ok()
}

/// Memory from the arena, like all of the image's: glibc takes a little for thread-local destructors.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn malloc(size: usize) -> *mut c_void {
    let Some(layout) = layout(size) else { return null_mut() };
    // SAFETY: a layout is never empty, as it has the header.
    with_header(unsafe { alloc(layout) }, layout)
}

/// Zeroed memory.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn calloc(count: usize, size: usize) -> *mut c_void {
    let Some(layout) = count.checked_mul(size).and_then(layout) else { return null_mut() };
    // SAFETY: a layout is never empty, as it has the header.
    with_header(unsafe { alloc_zeroed(layout) }, layout)
}

/// More or less memory.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn realloc(memory: *mut c_void, size: usize) -> *mut c_void {
    if memory.is_null() {
        // SAFETY: as the caller promises.
        return unsafe { malloc(size) };
    }
    let Some(new) = layout(size) else { return null_mut() };
    // SAFETY: the block came from here, so its header is before it and says its layout.
    unsafe {
        let (start, old) = block(memory);
        with_header(reallocate(start, old, new.size()), new)
    }
}

/// Memory back.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn free(memory: *mut c_void) {
    if !memory.is_null() {
        // SAFETY: the block came from here, so its header is before it and says its layout.
        unsafe {
            let (start, layout) = block(memory);
            dealloc(start, layout);
        }
    }
}

fn with_header(start: *mut u8, layout: Layout) -> *mut c_void {
    if start.is_null() {
        return null_mut();
    }
    // SAFETY: the block has room for the header, and is aligned for it.
    unsafe {
        start.cast::<usize>().write(layout.size());
        start.add(HEADER).cast()
    }
}

/// # Safety
/// The block came from `with_header`.
unsafe fn block(memory: *mut c_void) -> (*mut u8, Layout) {
    // SAFETY: `with_header` wrote the size of a layout that was valid.
    unsafe {
        let start = memory.cast::<u8>().sub(HEADER);
        (start, Layout::from_size_align_unchecked(start.cast::<usize>().read(), HEADER))
    }
}

/// Where the main thread's stack lies: `std` would put a guard page and a handler there. An image's stack has its guard
/// from the host, and this would read and parse `/proc/self/maps`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn pthread_getattr_np(_thread: usize, _attributes: *mut c_void) -> c_int {
    libc::ENOSYS
}

/// `std`'s own hook for panics would walk the stack with this, and read the program's symbols, which have been stripped from
/// it. An image has a hook of its own, with the real function by another name (`build.rs`).
#[unsafe(no_mangle)]
pub(crate) extern "C" fn _Unwind_Backtrace(_callback: *const c_void, _argument: *mut c_void) -> c_int {
    const END_OF_STACK: c_int = 5;
    END_OF_STACK
}

/// Runs `routine` the first time that it is called with `control`. The unwinder calls this, but only by a weak name, which does
/// not have the linker fetch glibc's.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn pthread_once(control: *mut c_int, routine: extern "C" fn()) -> c_int {
    // SAFETY: the caller's own number, and there is one thread.
    if unsafe { control.replace(1) } == 0 {
        routine();
    }
    0
}

/// The page size; of the host nothing else is asked.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn sysconf(name: c_int) -> c_long {
    if name == libc::_SC_PAGESIZE {
        // SAFETY: reads a table that is there since before `main`.
        return unsafe { libc::getauxval(libc::AT_PAGESZ) }.try_into().unwrap_or(-1);
    }
    // SAFETY: this thread's errno.
    unsafe { *libc::__errno_location() = libc::EINVAL };
    -1
}

/// The errors that the process's devices may meet at start; of others the number must do.
const ERRORS: &[(c_int, &CStr)] = &[
    (libc::EPERM, c"Operation not permitted"),
    (libc::ENOENT, c"No such file or directory"),
    (libc::EIO, c"Input/output error"),
    (libc::ENXIO, c"No such device or address"),
    (libc::EBADF, c"Bad file descriptor"),
    (libc::EAGAIN, c"Resource temporarily unavailable"),
    (libc::ENOMEM, c"Cannot allocate memory"),
    (libc::EACCES, c"Permission denied"),
    (libc::EBUSY, c"Device or resource busy"),
    (libc::EEXIST, c"File exists"),
    (libc::ENODEV, c"No such device"),
    (libc::ENOTDIR, c"Not a directory"),
    (libc::EISDIR, c"Is a directory"),
    (libc::EINVAL, c"Invalid argument"),
    (libc::EMFILE, c"Too many open files"),
    (libc::ENOTTY, c"Inappropriate ioctl for device"),
    (libc::EFBIG, c"File too large"),
    (libc::ENOSPC, c"No space left on device"),
    (libc::EROFS, c"Read-only file system"),
    (libc::ENAMETOOLONG, c"File name too long"),
    (libc::ENOSYS, c"Function not implemented"),
    (libc::ELOOP, c"Too many levels of symbolic links"),
    (libc::EPIPE, c"Broken pipe"),
    (libc::ENOTCONN, c"Transport endpoint is not connected"),
    (libc::ECONNRESET, c"Connection reset by peer"),
    (libc::ECONNREFUSED, c"Connection refused"),
    (libc::ETIMEDOUT, c"Connection timed out"),
];

/// Describes an error, without a message catalogue.
///
/// # Safety
/// `buffer` has room for `size` bytes.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn __xpg_strerror_r(error: c_int, buffer: *mut c_char, size: usize) -> c_int {
    let found = ERRORS.iter().find(|(number, _)| *number == error);
    let text = found.map_or(c"Error", |(_, text)| text).to_bytes_with_nul();
    if text.len() > size {
        return libc::ERANGE;
    }
    // SAFETY: the text is no longer than the room there is.
    unsafe { buffer.cast::<u8>().copy_from_nonoverlapping(text.as_ptr(), text.len()) };
    0
}

/// The same for glibc's own messages.
///
/// # Safety
/// `buffer` has room for `size` bytes.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn __strerror_r(error: c_int, buffer: *mut c_char, size: usize) -> *mut c_char {
    // SAFETY: as the caller promises.
    unsafe { __xpg_strerror_r(error, buffer, size) };
    buffer
}

/// glibc gives up: `message` says why.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn __libc_fatal(message: *const c_char) -> ! {
    // SAFETY: a string of glibc's; and standard error is open.
    unsafe {
        libc::write(libc::STDERR_FILENO, message.cast(), libc::strlen(message));
        libc::abort()
    }
}

/// As `__libc_fatal`; what it would put into its format stays out.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn __libc_message(_action: c_int, format: *const c_char) -> ! {
    __libc_fatal(format)
}

/// An assertion of glibc's has failed.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn __assert_fail(
    assertion: *const c_char,
    _file: *const c_char,
    _line: u32,
    _function: *const c_char,
) -> ! {
    __libc_fatal(assertion)
}

/// Nothing prints through C's streams.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn __vfprintf_internal(
    _stream: *mut c_void,
    _format: *const c_char,
    _arguments: *mut c_void,
    _mode: u32,
) -> c_int {
    -1
}

/// Compares strings as glibc does with its own tables. Short, for it sees a few words at start.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn strcmp(left: *const c_char, right: *const c_char) -> c_int {
    // SAFETY: as the caller promises; no string is as long as the address space.
    unsafe { strncmp(left, right, usize::MAX) }
}

/// Compares the starts of strings.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn strncmp(left: *const c_char, right: *const c_char, length: usize) -> c_int {
    for at in 0..length {
        // SAFETY: both strings go on, or this would have returned.
        let (one, other) = unsafe { (left.add(at).cast::<u8>().read(), right.add(at).cast::<u8>().read()) };
        if one != other || one == 0 {
            return c_int::from(one) - c_int::from(other);
        }
    }
    0
}

/// There is no locale, so it has no tables of characters to be looked up.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn __ctype_init() {}

/// Nothing is loaded at run time, so there is nowhere to search.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn _dl_init_paths() {}

/// The environment is cleaned only for a program with more rights than its user's, which an image is not.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn __unsetenv(_name: *const c_char) -> c_int {
    0
}
