#![forbid(unsafe_code)]
//! Provokes the fault that its argument names; `tests/guest-faults.sh` runs it in QEMU and looks at what comes out.

use std::collections::HashMap;
use std::process::ExitCode;

use platform::boot;
use platform::host::guest;
use platform::host::guest::provoke::{self, Stack};

fn main() -> ExitCode {
    if !boot::is_guest() {
        println!("a process");
        return ExitCode::SUCCESS;
    }
    guest::install_panic_hook();
    println!("a guest with {} KiB free", boot::free_memory().1 / 1024);
    for fault in std::env::args().skip(1) {
        match fault.as_str() {
            "hello" => hello(),
            _ => println!("no such fault: {fault}"),
        }
    }
    ExitCode::SUCCESS
}

fn hello() {
    let words: HashMap<_, _> = std::env::args().enumerate().collect();
    println!("hello {words:?}");
}
