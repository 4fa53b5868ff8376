//! How the targets are linked: the platform's boot code comes with it, and is never run here, but wants the fixed
//! addresses and the symbols of a static program.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for argument in ["-no-pie", "-Wl,--defsym=__rela_iplt_start=0", "-Wl,--defsym=__rela_iplt_end=0"] {
        println!("cargo::rustc-link-arg-bins={argument}");
    }
}
