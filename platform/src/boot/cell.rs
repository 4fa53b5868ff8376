//! State of the machine that is entered before there are threads, thread locals or an allocator.

use core::cell::UnsafeCell;

/// A static that is written at boot and by the one thread of a guest.
///
/// The image has one thread, and an interrupt or exception never returns into code that holds such a reference, so
/// plain references are enough where a kernel would need a lock.
pub(crate) struct BootCell<T>(UnsafeCell<T>);

// SAFETY: Only the guest's one thread touches the contents; in a process nobody writes them.
unsafe impl<T> Sync for BootCell<T> {}

impl<T> BootCell<T> {
    /// A cell with its first contents.
    pub(crate) const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// The contents, to read.
    ///
    /// # Safety
    /// No [`BootCell::get_mut`] reference is alive.
    pub(crate) unsafe fn get(&self) -> &T {
        // SAFETY: The caller keeps mutable references away.
        unsafe { &*self.0.get() }
    }

    /// The contents, to change.
    ///
    /// # Safety
    /// This runs in a guest and no other reference to the contents is alive.
    #[expect(clippy::mut_from_ref, reason = "interior mutability, exclusive by the caller's word")]
    pub(crate) unsafe fn get_mut(&self) -> &mut T {
        // SAFETY: The caller keeps other references away.
        unsafe { &mut *self.0.get() }
    }

    /// Address of the contents.
    pub(crate) const fn as_ptr(&self) -> *mut T {
        self.0.get()
    }
}
