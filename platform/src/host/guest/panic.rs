//! Panics in a guest: there is no file to take symbols from, so return addresses are printed as they are.

use core::ffi::{c_int, c_void};
use core::fmt::Write;

use super::serial::Serial;

/// Most return addresses that are printed.
const ADDRESS_LIMIT: usize = 64;

type Callback = extern "C" fn(context: *mut c_void, argument: *mut c_void) -> c_int;

unsafe extern "C" {
    fn _Unwind_Backtrace(callback: Callback, argument: *mut c_void) -> c_int;
    fn _Unwind_GetIP(context: *mut c_void) -> usize;
}

/// Has every panic print its message and the raw return addresses that `tests/symbolise.sh` names offline.
pub fn install_hook() {
    std::panic::set_hook(Box::new(|panic| {
        let _ = writeln!(Serial, "\nskerry: {panic}");
        let _ = writeln!(Serial, "return addresses (tests/symbolise.sh names them):");
        let mut left = ADDRESS_LIMIT;
        // SAFETY: The unwinder calls back with its own context and the argument, which outlives the call.
        unsafe { _Unwind_Backtrace(print_address, (&raw mut left).cast()) };
    }));
}

extern "C" fn print_address(context: *mut c_void, argument: *mut c_void) -> c_int {
    const GO_ON: c_int = 0;
    const STOP: c_int = 5;
    // SAFETY: The context is the unwinder's; the argument is the counter of `install_hook`.
    let (address, left) = unsafe { (_Unwind_GetIP(context), &mut *argument.cast::<usize>()) };
    if *left == 0 || address == 0 {
        return STOP;
    }
    *left -= 1;
    let _ = writeln!(Serial, "  {address:#x}");
    GO_ON
}
