#![forbid(unsafe_code)]
//! Provokes the fault that its argument names; `tests/guest-faults.sh` runs it in QEMU and looks at what comes out.

use core::future::poll_fn;
use std::collections::HashMap;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use platform::boot;
use platform::device::{Clock, Operation, Request};
use platform::executor::Executor;
use platform::host::Shutdown;
use platform::host::guest::clock::GuestClock;
use platform::host::guest::provoke::{self, Stack};
use platform::host::guest::{self, Guest};

fn main() -> ExitCode {
    if !boot::is_guest() {
        eprintln!("faults: this is a process; its faults are those of a virtual machine");
        return ExitCode::FAILURE;
    }
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
        Some("thread") => spawn_thread(),
        Some("registers") => println!("clobbered: {}", provoke::clobbered_by_system_calls(1000)),
        Some("sleep") => sleep(),
        Some("idle") => idle(),
        Some("machine") => machine_works(),
        Some("module") => println!("module: {:?}", boot::module().map(String::from_utf8_lossy)),
        Some("exit") => return ExitCode::from(7),
        other => println!("no such fault: {other:?}"),
    }
    ExitCode::SUCCESS
}

/// Arguments, a hash map (which takes randomness), and the wall clock.
fn hello() {
    let arguments: HashMap<_, _> = std::env::args().enumerate().collect();
    println!("arguments: {:?}", (2..arguments.len()).map(|index| &arguments[&index]).collect::<Vec<_>>());
    println!("unix time: {}", GuestClock.wall().as_secs());
    println!("virtio-mmio: {:?}", boot::virtio_mmio_devices().collect::<Vec<_>>());
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

#[expect(clippy::disallowed_methods, reason = "that it is refused is the test")]
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

/// Finds the devices; reads the first sector of the first disk and waits for its interrupt.
fn machine_works() {
    let machine = guest::machine();
    println!("kind: {}", machine.kind);
    let words: HashMap<_, _> =
        machine.nets.iter().map(|net| (&net.name, net.device.properties().mac)).collect();
    println!("nets: {words:?}");
    let executor = Executor::new(Rc::clone(&machine.clock));
    let mut blocks = machine.blocks;
    let Some(mut storage) = blocks.pop() else { return println!("no disk") };
    let properties = storage.device.properties();
    println!("disk: {} of {} bytes", storage.name, properties.capacity);
    let result = executor.run(&*machine.host, async move {
        let buffer = vec![0; properties.sector_size as usize];
        let request = Request { operation: Operation::Read, offset: 0, buffer };
        storage.device.submit(request).map_err(|(error, _)| error)?;
        let completion = poll_fn(|context| storage.device.poll_complete(context)).await;
        completion.result.map(|()| String::from_utf8_lossy(&completion.buffer[..14]).into_owned())
    });
    println!("first sector: {result:?}");
}

/// Waits for the power button.
fn idle() {
    let shutdown = Shutdown::default();
    let (executor, guest) = machine(shutdown.clone());
    println!("idle");
    let result = executor.run(&*guest, async move { shutdown.requested().await });
    println!("power button: {}", result.is_ok());
}
