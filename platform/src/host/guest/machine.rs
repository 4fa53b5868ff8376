//! Puts a guest together: the devices that are found, on the ports, mappings and interrupts of this machine.

use std::rc::Rc;

use super::clock::GuestClock;
use super::entropy::{self, GuestEntropy};
use super::serial::Serial;
use super::virtio::hardware::{Hardware, InterruptCount, Message, Trigger, Width};
use super::virtio::transport::Registers;
use super::virtio::{self, VirtioEntropy};
use super::{Guest, interrupt, mmio, port};
use crate::boot;
use crate::device::{Block, Clock, FramePool, Net};
use crate::host::{Machine, Named, Reload, Shutdown};

/// Everything that this virtual machine has. Network devices are named `service`, `service1` and so on in the order in
/// which they were given to the hypervisor, block devices `storage`, `storage1` and so on. Called once, in a guest,
/// before anything wants randomness (a `HashMap` does).
///
/// A machine without a true source of randomness ends here, with a message.
///
/// # Panics
/// In a process.
#[must_use]
pub fn machine() -> Machine {
    let shutdown = Shutdown::default();
    let host = Guest::new(shutdown.clone());
    let clock: Rc<dyn Clock> = Rc::new(GuestClock);
    let hardware: Rc<dyn Hardware> = Rc::new(ThisMachine);
    let found = virtio::discover(&hardware, boot::virtio_mmio_devices(), &clock, &FramePool::default());
    for source in found.events() {
        host.register(source);
    }
    if let Some(source) = found.entropy {
        add_entropy(source);
    }
    entropy::require_source();
    Machine {
        kind: host.kind(),
        host,
        clock,
        entropy: Rc::new(GuestEntropy),
        console: Rc::new(Serial),
        nets: found
            .nets
            .into_iter()
            .enumerate()
            .map(|(index, net)| named::<dyn Net>("service", index, Box::new(net)))
            .collect(),
        blocks: found
            .blocks
            .into_iter()
            .enumerate()
            .map(|(index, block)| named::<dyn Block>("storage", index, Box::new(block)))
            .collect(),
        bundle: boot::module().map(<[u8]>::to_vec),
        bundle_file: None,
        reload: Reload::default(),
        shutdown,
    }
}

fn named<T: ?Sized>(base: &str, index: usize, device: Box<T>) -> Named<T> {
    let name = if index == 0 { base.to_owned() } else { format!("{base}{index}") };
    Named { name, device }
}

fn add_entropy(mut source: VirtioEntropy) {
    let mut seed = [0; 64];
    match source.fill(&mut seed) {
        Ok(()) => entropy::add(&seed),
        Err(error) => log::error!("{error}"),
    }
}

/// What the drivers need, of the machine that this is.
struct ThisMachine;

impl Hardware for ThisMachine {
    fn map(&self, physical: u64, length: usize) -> Registers {
        // SAFETY: Drivers map what the command line, a base address register or microvm's layout says to be registers;
        // the mapping lasts for ever.
        unsafe { Registers::new(mmio::map(physical, length), length) }
    }

    fn enable_interrupt(&self, line: u32, trigger: Trigger) -> Result<InterruptCount, String> {
        let trigger = match trigger {
            Trigger::Edge => interrupt::Trigger::Edge,
            Trigger::Level => interrupt::Trigger::Level,
        };
        let line = interrupt::enable_gsi(line, trigger).map_err(|error| error.to_string())?;
        Ok(Box::new(move || line.count()))
    }

    fn allocate_message(&self) -> Option<Message> {
        let (interrupt::Msi { address, data }, _) = interrupt::allocate_msi().ok()?;
        Some(Message { address, data })
    }

    fn read_port(&self, port: u16, width: Width) -> u32 {
        // SAFETY: Drivers access the ports of their own devices and of PCI configuration.
        unsafe {
            match width {
                Width::Byte => port::inb(port).into(),
                Width::Word => port::inw(port).into(),
                Width::Double => port::inl(port),
            }
        }
    }

    fn write_port(&self, port: u16, width: Width, value: u32) {
        // SAFETY: as above.
        unsafe {
            match width {
                Width::Byte => port::outb(port, value as u8),
                Width::Word => port::outw(port, value as u16),
                Width::Double => port::outl(port, value),
            }
        }
    }
}
