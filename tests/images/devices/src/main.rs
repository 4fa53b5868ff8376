//! Exercises the devices of a guest; `tests/devices.sh` runs it in QEMU and looks at what comes out.
//!
//! Arguments: `disks` writes, flushes and reads back each disk. `--answer=ADDRESS` answers ARP, ping and UDP echo for
//! that IPv4 address on the first network device. `forward` moves frames between the first two. `watch` tells when the
//! first disk grows. Then the image says `ready` and serves until it is shut down.

mod disks;
mod forward;
mod responder;

use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::rc::Rc;

use platform::boot;
use platform::device::Console;
use platform::executor::Executor;
use platform::host::guest::serial::Serial;
use platform::host::{Machine, guest};
use platform::memory::Arena;

#[global_allocator]
static ARENA: Arena = Arena::new();

fn main() -> ExitCode {
    if !boot::is_guest() {
        println!("a process: there is nothing to exercise");
        return ExitCode::FAILURE;
    }
    let (base, size) = boot::free_memory();
    // SAFETY: boot keeps this memory for the arena, which is claimed here only.
    unsafe { ARENA.claim(base, size) };
    guest::install_panic_hook();
    if log::set_logger(&ToConsole).is_ok() {
        log::set_max_level(log::LevelFilter::Info);
    }
    let machine = guest::machine();
    println!("{}", machine.kind);
    for net in &machine.nets {
        println!("net {}: {:?}", net.name, net.device.properties());
    }
    for block in &machine.blocks {
        println!("block {}: {:?}", block.name, block.device.properties());
    }
    match run(machine) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("failed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(mut machine: Machine) -> Result<(), String> {
    let executor = Executor::new(Rc::clone(&machine.clock));
    let handle = executor.handle();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    let mut nets = machine.nets.into_iter();
    if has("disks") {
        for mut block in machine.blocks.drain(..) {
            let clock = Rc::clone(&machine.clock);
            let name = block.name.clone();
            let exercise = async move { disks::exercise(&mut *block.device, &*clock).await };
            match executor.run(&*machine.host, exercise) {
                Ok(Ok(report)) => println!("{name}: {report}"),
                Ok(Err(error)) => println!("{name}: FAILED: {error}"),
                Err(error) => println!("{name}: FAILED: {error}"),
            }
        }
    }
    if let Some(address) = arguments.iter().find_map(|argument| argument.strip_prefix("--answer=")) {
        let address: Ipv4Addr =
            address.parse().map_err(|_| format!("--answer={address} is no IPv4 address"))?;
        let net = nets.next().ok_or("there is no network device to answer on")?;
        handle.spawn(responder::answer(net.device, address, Rc::clone(&machine.clock)));
    } else if has("forward") {
        let (Some(one), Some(other)) = (nets.next(), nets.next()) else {
            return Err("forwarding takes two network devices".into());
        };
        handle.spawn(forward::between(one.device, other.device));
    } else if has("watch") {
        let block = machine.blocks.into_iter().next().ok_or("there is no disk to watch")?;
        handle.spawn(disks::watch(block.name, block.device, handle.clone()));
    } else {
        return Ok(());
    }
    println!("ready");
    let shutdown = machine.shutdown.clone();
    executor.run(&*machine.host, async move { shutdown.requested().await }).map_err(|error| error.to_string())
}

struct ToConsole;

impl log::Log for ToConsole {
    fn enabled(&self, _metadata: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        Serial.write(format!("{}: {}\n", record.level(), record.args()).as_bytes());
    }

    fn flush(&self) {}
}
