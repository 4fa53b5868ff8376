//! The global allocator: one arena of a size fixed at start, and no memory system call after it.
//!
//! `std` allocates a little before `main`; that comes from a small static heap. [`claim`] then adds the arena proper: in
//! the process a mapping of `--memory` MiB, in the guest the RAM that boot left free. Out of memory ends the image with
//! a line that says so: a service that cannot allocate can keep no promise.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::fmt::{self, Write};
use core::ptr::null_mut;

use talc::base::Talc;
use talc::base::binning::DefaultBinning;
use talc::source::Manual;

/// Exit status of an image that ran out of memory.
pub const EXIT_OUT_OF_MEMORY: i32 = 105;

/// What `std` needs before `main`, with much to spare.
const EARLY_HEAP: usize = 64 * 1024;

#[repr(C, align(16))]
struct EarlyHeap(UnsafeCell<[u8; EARLY_HEAP]>);

// SAFETY: only the allocator touches it, and there is one thread.
unsafe impl Sync for EarlyHeap {}

static EARLY: EarlyHeap = EarlyHeap(UnsafeCell::new([0; EARLY_HEAP]));

/// The allocator of every image. The `image!` macro makes it the global one.
pub struct Arena {
    talc: UnsafeCell<State>,
}

struct State {
    talc: Talc<Manual, DefaultBinning>,
    early_claimed: bool,
    /// Bytes that [`claim`] added.
    claimed: usize,
}

// SAFETY: an image has one thread (a guest has no others, and in the process nothing may start one), and the arena is
// never used from a signal handler, of which there are none.
unsafe impl Sync for Arena {}

/// How much of the arena is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryUse {
    /// Bytes allocated now.
    pub allocated: usize,
    /// Bytes of the arena.
    pub limit: usize,
}

impl Arena {
    /// An arena without memory, to be the `#[global_allocator]`.
    #[must_use]
    #[allow(clippy::new_without_default, reason = "there is one, in a static")]
    pub const fn new() -> Self {
        Self { talc: UnsafeCell::new(State { talc: Talc::new(Manual), early_claimed: false, claimed: 0 }) }
    }

    #[allow(clippy::mut_from_ref, reason = "the one place that opens the cell")]
    fn state(&self) -> &mut State {
        // SAFETY: one thread, and no caller holds the reference across another call into the arena.
        let state = unsafe { &mut *self.talc.get() };
        if !state.early_claimed {
            state.early_claimed = true;
            // SAFETY: the static heap is claimed once, and used by nothing else.
            unsafe { state.talc.claim(EARLY.0.get().cast(), EARLY_HEAP) };
        }
        state
    }

    /// Gives the arena its memory.
    ///
    /// # Safety
    /// `base` starts `size` bytes of writable memory that nothing else uses, ever.
    pub unsafe fn claim(&self, base: *mut u8, size: usize) {
        let state = self.state();
        // SAFETY: as the caller promises.
        if unsafe { state.talc.claim(base, size) }.is_some() {
            state.claimed += size;
        }
    }

    /// How much is in use.
    #[must_use]
    pub fn usage(&self) -> MemoryUse {
        let state = self.state();
        MemoryUse { allocated: state.talc.counters().allocated_bytes, limit: state.claimed + EARLY_HEAP }
    }

    fn exhausted(&self, layout: Layout) -> ! {
        let MemoryUse { allocated, limit } = self.usage();
        let mut line = Line::default();
        let _ = writeln!(
            line,
            "out of memory: {} bytes wanted, {allocated} of {limit} in use; give the image more (--memory=MIB)",
            layout.size()
        );
        // SAFETY: writing a buffer of ours, then leaving; neither returns into the allocator.
        unsafe {
            libc::write(2, line.text.as_ptr().cast(), line.length);
            libc::_exit(EXIT_OUT_OF_MEMORY)
        }
    }
}

// SAFETY: talc gives out what GlobalAlloc asks for; `state` is exclusive as there is one thread.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: GlobalAlloc's callers ask for sizes above zero.
        match unsafe { self.state().talc.allocate(layout) } {
            Some(memory) => memory.as_ptr(),
            None => self.exhausted(layout),
        }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: `memory` came from `alloc` with this layout.
        unsafe { self.state().talc.deallocate(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: `memory` came from `alloc` with this layout.
        if unsafe { self.state().talc.try_realloc_in_place(memory, layout, new_size) } {
            return memory;
        }
        // SAFETY: GlobalAlloc's callers keep `new_size` within what a layout may be.
        let new_layout = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        // SAFETY: the new block is apart from the old one, and both hold the bytes copied.
        unsafe {
            let new = self.alloc(new_layout);
            if new.is_null() {
                return null_mut();
            }
            new.copy_from_nonoverlapping(memory, layout.size().min(new_size));
            self.dealloc(memory, layout);
            new
        }
    }
}

/// A line made without allocation.
struct Line {
    text: [u8; 160],
    length: usize,
}

impl Default for Line {
    fn default() -> Self {
        Self { text: [0; 160], length: 0 }
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.text.len() - self.length;
        let length = text.len().min(room);
        self.text[self.length..self.length + length].copy_from_slice(&text.as_bytes()[..length]);
        self.length += length;
        Ok(())
    }
}
