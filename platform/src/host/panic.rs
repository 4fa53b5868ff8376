//! Panics: there may be no file to take symbols from, so return addresses are printed as they are.

use core::ffi::{c_int, c_void};
use core::fmt::{self, Write};

/// Most return addresses that are printed.
const ADDRESS_LIMIT: usize = 64;

type Callback = extern "C" fn(context: *mut c_void, argument: *mut c_void) -> c_int;

unsafe extern "C" {
    #[cfg_attr(feature = "lean", link_name = "skerry_unwind_backtrace")]
    fn _Unwind_Backtrace(callback: Callback, argument: *mut c_void) -> c_int;
    fn _Unwind_GetIP(context: *mut c_void) -> usize;
}

/// Where the host prints without allocating, whatever state the image is in.
pub(super) trait EmergencyOutput: Write + Default + 'static {}

struct Backtrace<W> {
    output: W,
    left: usize,
}

/// Has every panic print its message and the raw return addresses that `tests/symbolise.sh` names offline.
pub(super) fn install_hook<W: EmergencyOutput>() {
    std::panic::set_hook(Box::new(|panic| {
        let mut backtrace = Backtrace { output: W::default(), left: ADDRESS_LIMIT };
        let _ = writeln!(backtrace.output, "\nskerry: {panic}");
        let _ = writeln!(backtrace.output, "return addresses (tests/symbolise.sh names them):");
        // SAFETY: the unwinder calls back with its own context and the argument, which outlives the call.
        unsafe { _Unwind_Backtrace(print_address::<W>, (&raw mut backtrace).cast()) };
    }));
}

extern "C" fn print_address<W: EmergencyOutput>(context: *mut c_void, argument: *mut c_void) -> c_int {
    const GO_ON: c_int = 0;
    const STOP: c_int = 5;
    // SAFETY: the context is the unwinder's; the argument is the backtrace of `install_hook`.
    let (address, backtrace) = unsafe { (_Unwind_GetIP(context), &mut *argument.cast::<Backtrace<W>>()) };
    if backtrace.left == 0 || address == 0 {
        return STOP;
    }
    backtrace.left -= 1;
    let _ = print(&mut backtrace.output, address);
    GO_ON
}

fn print(output: &mut impl Write, address: usize) -> fmt::Result {
    writeln!(output, "  {address:#x}")
}
