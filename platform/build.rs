//! For lean images (see `src/lean.rs`): the compiler's unwinder, its function for backtraces under a name of our own.
//!
//! `std` prints a backtrace by `_Unwind_Backtrace` when a panic meets its own hook, which no image has. As `lean.rs` defines
//! that name to do nothing, the optimiser sees that the reader of symbol tables is never called, and leaves it out. Our own
//! hook walks the stack with the real function.

#![allow(clippy::disallowed_types, reason = "a build is a process, an image is not")]

use std::env;
use std::path::Path;
use std::process::Command;

const NAME: &str = "_Unwind_Backtrace=skerry_unwind_backtrace";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var_os("CARGO_FEATURE_LEAN").is_none() {
        return;
    }
    let found = output(Command::new("cc").arg("-print-file-name=libgcc_eh.a"));
    let unwinder = String::from_utf8(found).expect("a path in UTF-8");
    let directory = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    let renamed = Path::new(&directory).join("libskerry_unwind.a");
    output(Command::new("objcopy").args(["--redefine-sym", NAME, unwinder.trim()]).arg(renamed));
    println!("cargo::rustc-link-search=native={directory}");
    println!("cargo::rustc-link-lib=static=skerry_unwind");
}

fn output(command: &mut Command) -> Vec<u8> {
    let done = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
    done.stdout
}
