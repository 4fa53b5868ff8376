//! Virtio over MMIO, versions 1 (legacy) and 2 (virtio 1.2, 4.2).

use core::fmt;

use super::{DeviceType, Line, Registers, Transport, TransportError};
use crate::host::guest::virtio::queue::{ALIGNMENT, Addresses};

/// Bytes of registers that every device has; its configuration follows.
const CONFIG: usize = 0x100;

const MAGIC: u32 = u32::from_le_bytes(*b"virt");

/// Registers by their names in table 4.1.
mod register {
    pub(super) const MAGIC_VALUE: usize = 0x000;
    pub(super) const VERSION: usize = 0x004;
    pub(super) const DEVICE_ID: usize = 0x008;
    pub(super) const DEVICE_FEATURES: usize = 0x010;
    pub(super) const DEVICE_FEATURES_SELECT: usize = 0x014;
    pub(super) const DRIVER_FEATURES: usize = 0x020;
    pub(super) const DRIVER_FEATURES_SELECT: usize = 0x024;
    /// Legacy: the unit of `QUEUE_PFN`.
    pub(super) const GUEST_PAGE_SIZE: usize = 0x028;
    pub(super) const QUEUE_SELECT: usize = 0x030;
    pub(super) const QUEUE_SIZE_MAX: usize = 0x034;
    pub(super) const QUEUE_SIZE: usize = 0x038;
    /// Legacy: alignment of the used ring.
    pub(super) const QUEUE_ALIGN: usize = 0x03c;
    /// Legacy: where the queue lies, in pages.
    pub(super) const QUEUE_PFN: usize = 0x040;
    pub(super) const QUEUE_READY: usize = 0x044;
    pub(super) const QUEUE_NOTIFY: usize = 0x050;
    pub(super) const INTERRUPT_STATUS: usize = 0x060;
    pub(super) const INTERRUPT_ACKNOWLEDGE: usize = 0x064;
    pub(super) const STATUS: usize = 0x070;
    pub(super) const QUEUE_DESCRIPTORS: usize = 0x080;
    pub(super) const QUEUE_DRIVER: usize = 0x090;
    pub(super) const QUEUE_DEVICE: usize = 0x0a0;
    pub(super) const CONFIG_GENERATION: usize = 0x0fc;
}

/// What is at an address.
pub(crate) enum Probed {
    /// No virtio transport.
    Nothing,
    /// A transport with no device behind it.
    Empty,
    /// A device, its interrupts not yet enabled.
    Device(Found),
}

/// A device that was found.
pub(crate) struct Found {
    registers: Registers,
    device_type: DeviceType,
    legacy: bool,
    location: String,
}

impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.location, self.device_type)
    }
}

impl Found {
    /// Opens the device, whose interrupts come by `line`.
    pub(crate) fn open(self, line: Line) -> MmioTransport {
        MmioTransport { device: self, line }
    }

    /// Looks for a device at `registers`, which are at `physical`.
    ///
    /// # Errors
    /// A version of the transport that does not exist.
    pub(crate) fn probe(registers: Registers, physical: u64) -> Result<Probed, TransportError> {
        if registers.len() < CONFIG || registers.read::<u32>(register::MAGIC_VALUE) != MAGIC {
            return Ok(Probed::Nothing);
        }
        let legacy = match registers.read::<u32>(register::VERSION) {
            1 => true,
            2 => false,
            version => {
                return Err(TransportError::Layout(format!(
                    "virtio-mmio version {version} at {physical:#x} (1 and 2 are known)"
                )));
            }
        };
        match registers.read::<u32>(register::DEVICE_ID) {
            0 => Ok(Probed::Empty),
            id => Ok(Probed::Device(Self {
                registers,
                device_type: id.into(),
                legacy,
                location: format!("virtio-mmio {physical:#x}"),
            })),
        }
    }
}

/// A device behind memory-mapped registers.
pub(crate) struct MmioTransport {
    device: Found,
    line: Line,
}

impl MmioTransport {
    fn read(&self, register: usize) -> u32 {
        self.device.registers.read(register)
    }

    fn write(&self, register: usize, value: u32) {
        self.device.registers.write(register, value);
    }

    fn write_address(&self, register: usize, address: u64) {
        self.write(register, address as u32);
        self.write(register + 4, (address >> 32) as u32);
    }
}

impl Transport for MmioTransport {
    fn device_type(&self) -> DeviceType {
        self.device.device_type
    }

    fn location(&self) -> &str {
        &self.device.location
    }

    fn is_legacy(&self) -> bool {
        self.device.legacy
    }

    fn device_features(&mut self) -> u64 {
        self.write(register::DEVICE_FEATURES_SELECT, 0);
        let low = self.read(register::DEVICE_FEATURES);
        self.write(register::DEVICE_FEATURES_SELECT, 1);
        let high = self.read(register::DEVICE_FEATURES);
        u64::from(high) << 32 | u64::from(low)
    }

    fn set_driver_features(&mut self, features: u64) {
        self.write(register::DRIVER_FEATURES_SELECT, 0);
        self.write(register::DRIVER_FEATURES, features as u32);
        self.write(register::DRIVER_FEATURES_SELECT, 1);
        self.write(register::DRIVER_FEATURES, (features >> 32) as u32);
        if self.device.legacy {
            // Before the first queue (4.2.4).
            self.write(register::GUEST_PAGE_SIZE, ALIGNMENT as u32);
        }
    }

    fn status(&mut self) -> u8 {
        self.read(register::STATUS) as u8
    }

    fn set_status(&mut self, status: u8) {
        self.write(register::STATUS, u32::from(status));
    }

    fn max_queue_size(&mut self, index: u16) -> u16 {
        self.write(register::QUEUE_SELECT, u32::from(index));
        let size = self.read(register::QUEUE_SIZE_MAX);
        u16::try_from(size).unwrap_or(super::super::queue::MAX_SIZE)
    }

    fn enable_queue(&mut self, index: u16, addresses: Addresses) -> Result<(), TransportError> {
        self.write(register::QUEUE_SELECT, u32::from(index));
        self.write(register::QUEUE_SIZE, u32::from(addresses.size));
        if self.device.legacy {
            self.write(register::QUEUE_ALIGN, ALIGNMENT as u32);
            self.write(register::QUEUE_PFN, (addresses.descriptors / ALIGNMENT as u64) as u32);
        } else {
            self.write_address(register::QUEUE_DESCRIPTORS, addresses.descriptors);
            self.write_address(register::QUEUE_DRIVER, addresses.available);
            self.write_address(register::QUEUE_DEVICE, addresses.used);
            self.write(register::QUEUE_READY, 1);
        }
        Ok(())
    }

    fn notify(&mut self, index: u16) {
        self.write(register::QUEUE_NOTIFY, u32::from(index));
    }

    fn acknowledge(&mut self) {
        if !self.line.interrupted() {
            return;
        }
        let causes = self.read(register::INTERRUPT_STATUS);
        if causes != 0 {
            self.write(register::INTERRUPT_ACKNOWLEDGE, causes);
        }
    }

    fn read_config(&mut self, offset: usize, width: usize, bytes: &mut [u8]) {
        // A legacy device's configuration is read byte by byte (4.2.4).
        let width = if self.device.legacy { 1 } else { width };
        self.device
            .registers
            .part(CONFIG, self.device.registers.len() - CONFIG)
            .read_bytes(offset, width, bytes);
    }

    fn config_generation(&mut self) -> u32 {
        if self.device.legacy { 0 } else { self.read(register::CONFIG_GENERATION) }
    }
}

#[cfg(test)]
mod tests {
    use core::cell::Cell;
    use std::rc::Rc;

    use super::*;

    fn registers(words: &mut [u32]) -> Registers {
        // SAFETY: the words outlive the test's use of the registers, and nothing else touches them meanwhile.
        unsafe { Registers::new(words.as_mut_ptr().cast(), words.len() * 4) }
    }

    #[test]
    fn finds_devices_and_empty_slots_and_nothing() {
        let mut words = [0; 128];
        assert!(matches!(Found::probe(registers(&mut words), 0), Ok(Probed::Nothing)));
        words[0] = MAGIC;
        words[1] = 2;
        assert!(matches!(Found::probe(registers(&mut words), 0), Ok(Probed::Empty)));
        words[2] = 2;
        let Ok(Probed::Device(device)) = Found::probe(registers(&mut words), 0xfeb0_2e00) else {
            panic!("no device")
        };
        assert_eq!(format!("{device:?}"), "virtio-mmio 0xfeb02e00 (block device)");
        words[1] = 3;
        let error = Found::probe(registers(&mut words), 0xfeb0_2e00).err().map(|error| error.to_string());
        assert_eq!(error.as_deref(), Some("virtio-mmio version 3 at 0xfeb02e00 (1 and 2 are known)"));
    }

    #[test]
    fn configuration_past_the_registers_reads_as_zero() {
        let mut words = [0; 66];
        (words[0], words[1], words[2]) = (MAGIC, 2, 1);
        words[64] = 0x4433_2211;
        let Ok(Probed::Device(found)) = Found::probe(registers(&mut words), 0) else { panic!("no device") };
        let mut device = found.open(Line::new(Box::new(|| 0)));
        let mut bytes = [0xff; 6];
        device.read_config(0, 1, &mut bytes);
        assert_eq!(bytes, [0x11, 0x22, 0x33, 0x44, 0, 0]);
        assert_eq!(super::super::read_config(&mut device, 8, 8), 0);
    }

    #[test]
    fn the_registers_are_read_only_if_there_was_an_interrupt() {
        let mut words = [0; 66];
        (words[0], words[1], words[2], words[0x60 / 4]) = (MAGIC, 2, 1, 3);
        let registers = registers(&mut words);
        let Ok(Probed::Device(found)) = Found::probe(registers, 0) else { panic!("no device") };
        let count = Rc::new(Cell::new(u32::MAX));
        let counted = Rc::clone(&count);
        let mut device = found.open(Line::new(Box::new(move || counted.get())));
        device.acknowledge();
        assert_eq!(registers.read::<u32>(register::INTERRUPT_ACKNOWLEDGE), 0);
        count.set(0);
        device.acknowledge();
        assert_eq!(registers.read::<u32>(register::INTERRUPT_ACKNOWLEDGE), 3);
        registers.write(register::INTERRUPT_ACKNOWLEDGE, 0_u32);
        device.acknowledge();
        assert_eq!(registers.read::<u32>(register::INTERRUPT_ACKNOWLEDGE), 0, "once for each");
    }
}
