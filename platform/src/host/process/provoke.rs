//! What the filter does not allow, done on purpose: for the test that it kills. Only with the feature `provoke`.

/// Makes a system call that is harmless and not in [`SYSTEM_CALLS`](super::SYSTEM_CALLS). Returns only where no filter is.
pub fn forbidden_call() {
    // SAFETY: getppid takes nothing and changes nothing.
    unsafe { libc::getppid() };
}
