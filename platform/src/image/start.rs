//! From `main` to the service, and from its end to that of the image.

use core::future::Future;
use std::process::ExitCode;
use std::rc::Rc;

use super::reload::Source;
use super::{Failure, Image, Reloads, take};
use crate::boot;
use crate::config::{Arguments, Bundle, Manifest, help};
use crate::executor::Executor;
use crate::host::{Machine, guest, process};
use crate::memory::Arena;
use crate::net::NtpServer;
use crate::observe;

/// Exit status of an image whose service failed.
pub const EXIT_FAILURE: u8 = 1;

/// Exit status of an image that was configured wrongly, or lacks a device.
pub const EXIT_CONFIGURATION: u8 = 2;

/// The block device with the configuration bundle. In a virtual machine it is the one after those of the manifest.
const CONFIGURATION_DEVICE: &str = "config";

/// Runs a service. Called by the `main` that [`image!`](crate::image!) makes.
pub fn start<F>(arena: &'static Arena, manifest: &str, service: impl FnOnce(Image) -> F) -> ExitCode
where
    F: Future<Output = Result<(), Failure>> + 'static,
{
    let status = run(arena, manifest, service).unwrap_or_else(|error| {
        eprintln!("{error}");
        EXIT_CONFIGURATION
    });
    if !boot::is_guest() {
        // What std does on its way out are system calls that the filter does not know.
        process::exit(status);
    }
    ExitCode::from(status)
}

fn run<F>(arena: &'static Arena, manifest: &str, service: impl FnOnce(Image) -> F) -> Result<u8, Failure>
where
    F: Future<Output = Result<(), Failure>> + 'static,
{
    if boot::is_guest() {
        let (base, size) = boot::free_memory();
        // SAFETY: boot keeps this memory for the arena, which is given it here and nowhere else.
        unsafe { arena.claim(base, size) };
    }
    let manifest = Manifest::read(manifest)?;
    let arguments = Arguments::parse(std::env::args().skip(1))?;
    if arguments.help {
        eprint!("{}", help(&manifest.name, &manifest.description));
        return Ok(0);
    }
    if arguments.version {
        eprintln!("{} {}", manifest.name, env!("CARGO_PKG_VERSION"));
        return Ok(0);
    }
    if arguments.check_storage && manifest.devices.block.is_empty() {
        return Err(format!("--check-storage: {} has no storage", manifest.name).into());
    }
    let mut machine = machine(arena, &manifest, &arguments)?;
    observe::start(&machine, arguments.log_level);
    let executor = Executor::new(Rc::clone(&machine.clock));
    let (bundle, reloads) = configuration(&executor, &mut machine, &manifest)?;
    if !boot::is_guest() {
        if arguments.verbose {
            let names: Vec<_> = process::SYSTEM_CALLS.iter().map(|(name, _)| *name).collect();
            eprintln!("system calls from here on: {}", names.join(", "));
        }
        process::lock_down()?;
    }
    let Machine { kind, host, entropy, console, nets, blocks, shutdown, .. } = machine;
    let image = Image {
        manifest,
        arguments,
        bundle,
        reloads: Some(reloads),
        handle: executor.handle(),
        entropy,
        console: Rc::clone(&console),
        nets,
        blocks,
        shutdown,
        arena,
        time_server: |host| host.parse().ok().map(NtpServer::Address),
        kind,
    };
    Ok(match executor.run(&*host, service(image)) {
        Ok(Ok(())) => 0,
        Ok(Err(error)) => {
            console.write(format!("{error}\n").as_bytes());
            EXIT_FAILURE
        }
        Err(error) => {
            console.write(format!("the service ended: {error}\n").as_bytes());
            EXIT_FAILURE
        }
    })
}

/// Reads the bundle from the block device `config` if there is one, else from what the host was given.
fn configuration(
    executor: &Executor,
    machine: &mut Machine,
    manifest: &Manifest,
) -> Result<(Bundle, Reloads), Failure> {
    let (bytes, source) = match (take(&mut machine.blocks, CONFIGURATION_DEVICE), machine.bundle_file.take())
    {
        (Some(device), _) => {
            let mut source = Source::Device(device);
            let reading = async move { source.read().await.map(|bytes| (Some(bytes), source)) };
            executor.run(&*machine.host, reading)??
        }
        (None, Some(file)) => (machine.bundle.take(), Source::File(file)),
        (None, None) => (machine.bundle.take(), Source::Fixed),
    };
    let file = format!("{}.toml", manifest.name);
    let bundle = bytes.as_deref().map(|bytes| Bundle::read(bytes, &file)).transpose()?;
    let first = bytes.as_deref().unwrap_or_default();
    let reloads = Reloads::new(executor.handle(), machine.reload.clone(), source, file, first);
    Ok((bundle.unwrap_or_default(), reloads))
}

/// Gathers what the host has. In the process this gives the arena its memory first.
fn machine(arena: &'static Arena, manifest: &Manifest, arguments: &Arguments) -> Result<Machine, Failure> {
    if boot::is_guest() {
        let mut machine = guest::machine();
        // A virtual machine's devices have no names; their order is that of the manifest.
        for (device, name) in machine.nets.iter_mut().zip(&manifest.devices.net) {
            device.name.clone_from(name);
        }
        for (device, name) in machine.blocks.iter_mut().zip(&manifest.devices.block) {
            device.name.clone_from(name);
        }
        if let Some(device) = machine.blocks.get_mut(manifest.devices.block.len()) {
            CONFIGURATION_DEVICE.clone_into(&mut device.name);
        }
        return Ok(machine);
    }
    process::claim_memory(arena, arguments.memory_mib)?;
    Ok(process::machine(&process::ProcessOptions {
        nets: arguments.nets.clone(),
        macs: arguments.macs.clone(),
        blocks: arguments.blocks.clone(),
        bundle: arguments.config.clone(),
    })?)
}
