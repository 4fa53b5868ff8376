//! Finds the virtio devices of the machine, in the order in which they were given to the hypervisor.
//!
//! | who tells us | order |
//! |---|---|
//! | `virtio_mmio.device=` words of the command line | that of the words |
//! | QEMU microvm with ACPI, which adds no such words: its transports are probed | from the highest address down |
//! | PCI | by bus, device, function, devices behind a bridge where the bridge is |
//!
//! QEMU's microvm fills its transports from the top: the first `-device` is at the highest address (each new transport is
//! put at the head of the list of buses, and a device takes the first free one). Its words come in the order of that
//! list, so there, too, the first is the first. Firecracker adds a word for each device in the order of their making.

use core::fmt;
use std::rc::Rc;

use super::hardware::{Hardware, Trigger};
use super::transport::mmio::{Found, Probed};
use super::transport::{DeviceType, Line, Transport, TransportError, pci as virtio_pci};
use super::{VirtioBlock, VirtioEntropy, VirtioNet};
use crate::device::{Clock, FramePool};
use crate::host::guest::{EventSource, pci};

/// Where microvm has its transports (QEMU, `include/hw/i386/microvm.h`: `VIRTIO_MMIO_BASE`).
const MICROVM_BASE: u64 = 0xfeb0_0000;
const MICROVM_STRIDE: u64 = 512;
/// How many there are with a second I/O APIC, and without (`VIRTIO_NUM_TRANSPORTS`).
const MICROVM_SLOTS: u32 = 24;
const MICROVM_SLOTS_SMALL: u32 = 8;
/// The first one's interrupt line: on the second I/O APIC, or the upper lines of the only one (`virtio_irq_base`).
const MICROVM_LINE: u32 = 24;
const MICROVM_LINE_SMALL: u32 = 16;

/// What was found.
#[derive(Default)]
pub(crate) struct Devices {
    pub nets: Vec<VirtioNet>,
    pub blocks: Vec<VirtioBlock>,
    /// The first entropy device.
    pub entropy: Option<VirtioEntropy>,
}

impl Devices {
    /// Every device's part at the idle point.
    pub(crate) fn events(&self) -> Vec<Rc<dyn EventSource>> {
        let nets = self.nets.iter().map(VirtioNet::events);
        nets.chain(self.blocks.iter().map(VirtioBlock::events)).collect()
    }
}

/// Where the registers of a virtio-mmio device are, and its interrupt line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MmioWindow {
    /// Physical address of the registers.
    pub address: u64,
    /// Bytes of them.
    pub length: usize,
    /// The interrupt line.
    pub line: u32,
}

impl MmioWindow {
    /// Least and largest length that makes sense: the registers of every device, and far more than any has.
    const LENGTHS: core::ops::RangeInclusive<u64> = 0x100..=0x10_0000;

    /// Reads the value of a `virtio_mmio.device=` word: `<size>@<address>:<line>[:<id>]` (Linux,
    /// `drivers/virtio/virtio_mmio.c`), numbers decimal or hexadecimal with `0x`, sizes with a suffix K, M or G.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(value: &str) -> Result<Self, MmioWindowError> {
        let error = |part, text: &str| MmioWindowError { part, text: text.into() };
        let (length, rest) =
            value.split_once('@').ok_or_else(|| error("@ between size and address", value))?;
        let (address, rest) = rest.split_once(':').ok_or_else(|| error(": before the interrupt", value))?;
        let line = rest.split(':').next().unwrap_or(rest);
        let length = size(length)
            .filter(|length| Self::LENGTHS.contains(length))
            .and_then(|length| usize::try_from(length).ok())
            .ok_or_else(|| error("size from 256 to 1M", length))?;
        let address = number(address)
            .filter(|address| address.is_multiple_of(4) && address.checked_add(length as u64).is_some())
            .ok_or_else(|| error("address", address))?;
        let line =
            number(line).and_then(|line| u32::try_from(line).ok()).ok_or_else(|| error("interrupt", line))?;
        Ok(Self { address, length, line })
    }
}

/// A `virtio_mmio.device=` word that cannot be read. At fault is who wrote the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MmioWindowError {
    part: &'static str,
    text: String,
}

impl fmt::Display for MmioWindowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "virtio_mmio.device=: expected the {}, found \"{}\"", self.part, self.text)?;
        f.write_str(" (right would be 512@0xfeb00000:5)")
    }
}

impl std::error::Error for MmioWindowError {}

fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

fn size(text: &str) -> Option<u64> {
    let (digits, shift) = match text.as_bytes().last()? {
        b'K' | b'k' => (&text[..text.len() - 1], 10),
        b'M' | b'm' => (&text[..text.len() - 1], 20),
        b'G' | b'g' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    number(digits)?.checked_mul(1 << shift)
}

/// Finds and brings up every device. `words` are the values of the command line's `virtio_mmio.device=` words. Devices
/// that do not work are logged and left out.
pub(crate) fn discover<'a>(
    hardware: &Rc<dyn Hardware>,
    words: impl IntoIterator<Item = &'a str>,
    clock: &Rc<dyn Clock>,
    pool: &FramePool,
) -> Devices {
    let mut devices = Devices::default();
    for transport in transports(hardware, words) {
        if let Err((location, error)) = devices.add(transport, clock, pool) {
            log::error!("{location}: {error}");
        }
    }
    devices
}

impl Devices {
    fn add(
        &mut self,
        transport: Box<dyn Transport>,
        clock: &Rc<dyn Clock>,
        pool: &FramePool,
    ) -> Result<(), (String, TransportError)> {
        let location = transport.location().to_owned();
        let blame = |error| (location.clone(), error);
        match transport.device_type() {
            DeviceType::Net => self.nets.push(VirtioNet::new(transport, clock, pool).map_err(blame)?),
            DeviceType::Block => self.blocks.push(VirtioBlock::new(transport, clock).map_err(blame)?),
            DeviceType::Entropy if self.entropy.is_none() => {
                self.entropy = Some(VirtioEntropy::new(transport, clock).map_err(blame)?);
            }
            other => log::info!("{location}: {other}, not used"),
        }
        Ok(())
    }
}

fn transports<'a>(
    hardware: &Rc<dyn Hardware>,
    words: impl IntoIterator<Item = &'a str>,
) -> Vec<Box<dyn Transport>> {
    let mut found = Vec::new();
    let mut announced = false;
    for word in words {
        announced = true;
        match MmioWindow::parse(word) {
            Ok(window) => {
                let registers = hardware.map(window.address, window.length);
                let probed = Found::probe(registers, window.address);
                if matches!(probed, Ok(Probed::Nothing)) {
                    log::error!("virtio_mmio.device=: there is nothing at {:#x}", window.address);
                }
                found.extend(open_mmio(&**hardware, probed, window.line));
            }
            Err(error) => log::error!("{error}"),
        }
    }
    if pci::is_present(&**hardware) {
        open_pci(hardware, &mut found);
    } else if !announced {
        // Only where there is no PCI, for that could have anything at these addresses.
        probe_microvm(&**hardware, &mut found);
    }
    found
}

fn open_mmio(
    hardware: &dyn Hardware,
    found: Result<Probed, TransportError>,
    line: u32,
) -> Option<Box<dyn Transport>> {
    let opened = match found {
        Ok(Probed::Device(found)) => match hardware.enable_interrupt(line, Trigger::Edge) {
            Ok(count) => return Some(Box::new(found.open(Line::new(count)))),
            Err(why) => Err(TransportError::NoInterrupt(format!("{found:?}: {why}"))),
        },
        Ok(Probed::Empty | Probed::Nothing) => Ok(None),
        Err(error) => Err(error),
    };
    opened.unwrap_or_else(|error| {
        log::error!("{error}");
        None
    })
}

fn probe_microvm(hardware: &dyn Hardware, found: &mut Vec<Box<dyn Transport>>) {
    let registers = hardware.map(MICROVM_BASE, MICROVM_SLOTS as usize * MICROVM_STRIDE as usize);
    let probe = |slot: u32| {
        let offset = u64::from(slot) * MICROVM_STRIDE;
        let part = registers.part(offset as usize, MICROVM_STRIDE as usize);
        Found::probe(part, MICROVM_BASE + offset)
    };
    let exists = |slot| !matches!(probe(slot), Ok(Probed::Nothing));
    let (slots, first_line) = if exists(MICROVM_SLOTS - 1) {
        (MICROVM_SLOTS, MICROVM_LINE)
    } else {
        (MICROVM_SLOTS_SMALL, MICROVM_LINE_SMALL)
    };
    let devices = (0..slots).rev().filter_map(|slot| open_mmio(hardware, probe(slot), first_line + slot));
    found.extend(devices);
}

fn open_pci(hardware: &Rc<dyn Hardware>, found: &mut Vec<Box<dyn Transport>>) {
    for function in pci::enumerate(&**hardware) {
        let Some(device_type) = virtio_pci::device_type(&function) else { continue };
        if device_type.queues() == 0 {
            log::info!("virtio-pci {}: {device_type}, not used", function.address);
            continue;
        }
        match virtio_pci::open(hardware, &function, device_type) {
            Ok(transport) => found.push(transport),
            Err(error) => log::error!("virtio-pci {}: {error}", function.address),
        }
    }
}

#[cfg(test)]
mod tests;
