//! Provokes the fault that its argument names; `tests/guest-faults.sh` runs it in QEMU and looks at what comes out, and
//! `tests/seccomp.sh` as a process.

use std::collections::HashMap;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use platform::boot;
use platform::device::Clock;
use platform::executor::Executor;
use platform::host::Shutdown;
use platform::host::guest::clock::GuestClock;
use platform::host::guest::provoke::{self, Stack};
use platform::host::guest::{self, Guest};
use platform::host::process;
use platform::memory::Arena;

#[global_allocator]
static ARENA: Arena = Arena::new();

fn main() -> ExitCode {
    if !boot::is_guest() {
        return provoke_in_process();
    }
    let (base, size) = boot::free_memory();
    // SAFETY: Boot keeps this memory for the arena, which is claimed here only.
    unsafe { ARENA.claim(base, size) };
    guest::install_panic_hook();
    println!("a guest with {} KiB free", boot::free_memory().1 / 1024);
    match std::env::args().nth(1).as_deref() {
        Some("null") => provoke::write_null(),
        Some("text") => provoke::write_text(),
        Some("constant") => provoke::write_constant(),
        Some("execute") => provoke::execute_data(),
        Some("instruction") => provoke::bad_instruction(),
        Some("double-fault") => provoke::double_fault(),
        Some("recursion") => println!("{}", recurse(1)),
        Some("overflow-main") => provoke::overflow(Stack::Main),
        Some("overflow-boot") => provoke::overflow(Stack::Boot),
        Some("overflow-system-call") => provoke::overflow(Stack::SystemCall),
        Some("overflow-exception") => provoke::overflow(Stack::Exception),
        Some("overflow-emergency") => provoke::overflow(Stack::Emergency),
        Some("memory") => exhaust_memory(),
        Some("nested") => provoke::nested_system_call(),
        Some("futex") => provoke::futex_wait(),
        Some("abort") => std::process::abort(),
        Some("panic") => panic!("nobody catches this"),
        Some("panic-in-task") => panic_in_task(),
        Some("hello") => hello(),
        Some("randomness") => randomness(),
        Some("thread") => spawn_thread(),
        Some("registers") => println!("clobbered: {}", provoke::clobbered_by_system_calls(1000)),
        Some("sleep") => sleep(),
        Some("idle") => idle(),
        Some("module") => println!("module: {:?}", boot::module().map(String::from_utf8_lossy)),
        Some("exit") => return ExitCode::from(7),
        other => println!("no such fault: {other:?}"),
    }
    ExitCode::SUCCESS
}

/// What can go wrong in a process alone. Status 1 if it went well.
fn provoke_in_process() -> ExitCode {
    const MEMORY_MIB: usize = 16;
    if std::env::args().nth(1).as_deref() != Some("forbidden-call") {
        eprintln!(
            "faults: this is a process; forbidden-call is its one fault, the others are a virtual machine's"
        );
        return ExitCode::FAILURE;
    }
    let locked = process::claim_memory(&ARENA, MEMORY_MIB).and_then(|()| process::lock_down());
    if let Err(error) = locked {
        eprintln!("{error}");
        process::exit(1);
    }
    eprintln!("locked down");
    process::provoke::forbidden_call();
    eprintln!("a forbidden call returned");
    process::exit(1);
}

/// Arguments, a hash map (which takes randomness), and the wall clock.
fn hello() {
    let arguments: HashMap<_, _> = std::env::args().enumerate().collect();
    println!("arguments: {:?}", (2..arguments.len()).map(|index| &arguments[&index]).collect::<Vec<_>>());
    println!("unix time: {}", GuestClock.wall().as_secs());
    println!("virtio-mmio: {:?}", boot::virtio_mmio_devices().collect::<Vec<_>>());
}

/// Has the devices found first: one of them may be the source of randomness.
fn randomness() {
    let entropy = guest::machine().entropy;
    println!("two numbers differ: {}", entropy.next_u64() != entropy.next_u64());
}

fn recurse(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 64]);
    if frame[0] == 0 { 0 } else { recurse(depth + 1) + frame[63] }
}

fn exhaust_memory() {
    let mut hoard = Vec::new();
    loop {
        hoard.push(vec![1_u8; 1024 * 1024]);
    }
}

fn spawn_thread() {
    let refused = std::thread::Builder::new().spawn(|| ()).is_err();
    println!("thread refused: {refused}");
}

/// An executor and the guest that sleeps for it.
fn machine(shutdown: Shutdown) -> (Executor, Rc<Guest>) {
    (Executor::new(Rc::new(GuestClock)), Guest::new(shutdown))
}

fn panic_in_task() {
    let (executor, guest) = machine(Shutdown::default());
    let handle = executor.handle();
    let result = executor.run(&*guest, async move {
        let task = handle.spawn(async { panic!("in a task") });
        let outcome: Result<(), _> = task.await;
        outcome.is_err()
    });
    println!("the task failed: {result:?}; panics counted: {}", executor.handle().panics());
}

/// Sleeps a hundred times: the timer interrupt ends each.
fn sleep() {
    let (executor, guest) = machine(Shutdown::default());
    let handle = executor.handle();
    let start = GuestClock.now();
    let result = executor.run(&*guest, async move {
        for _ in 0..100 {
            handle.sleep(Duration::from_millis(1)).await;
        }
    });
    let slept = GuestClock.now().since(start);
    println!("slept: {} {}", result.is_ok(), slept >= Duration::from_millis(100));
}

/// Waits for the power button.
fn idle() {
    let shutdown = Shutdown::default();
    let (executor, guest) = machine(shutdown.clone());
    println!("idle");
    let result = executor.run(&*guest, async move { shutdown.requested().await });
    println!("power button: {}", result.is_ok());
}
