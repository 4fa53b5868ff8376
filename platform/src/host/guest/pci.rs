//! PCI: configuration space by ports 0xCF8 and 0xCFC, enumeration through bridges, base addresses, capabilities and
//! MSI-X (PCI Local Bus Specification 3.0, chapter 6; PCI Express Base Specification, 7.5 and 7.7).
//!
//! Firmware (or the hypervisor) has numbered the buses and assigned the addresses; we take them as they are.

use core::fmt;
use std::collections::BTreeSet;

use super::virtio::hardware::{Hardware, Message, Width};
use super::virtio::transport::Registers;

const CONFIG_ADDRESS: u16 = 0xcf8;
const CONFIG_DATA: u16 = 0xcfc;

/// Offsets in configuration space.
mod register {
    pub(super) const IDENTITY: u8 = 0x00;
    pub(super) const COMMAND: u8 = 0x04;
    pub(super) const HEADER: u8 = 0x0c;
    pub(super) const BASE_ADDRESSES: u8 = 0x10;
    pub(super) const BRIDGE_BUSES: u8 = 0x18;
    pub(super) const SUBSYSTEM: u8 = 0x2c;
    pub(super) const CAPABILITIES: u8 = 0x34;
    pub(super) const INTERRUPT: u8 = 0x3c;
}

const COMMAND_IO: u32 = 1;
const COMMAND_MEMORY: u32 = 1 << 1;
const COMMAND_BUS_MASTER: u32 = 1 << 2;
const COMMAND_INTERRUPT_DISABLE: u32 = 1 << 10;
const STATUS_CAPABILITIES: u32 = 1 << (16 + 4);

const CAPABILITY_MSIX: u8 = 0x11;
const MSIX_ENABLE: u32 = 1 << 31;
const MSIX_FUNCTION_MASK: u32 = 1 << 30;

/// Bounds the walk of a capability list that runs in a circle: so many fit into configuration space.
const MAX_CAPABILITIES: usize = 48;

/// Where a function is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Address {
    pub bus: u8,
    /// Below 32.
    pub device: u8,
    /// Below 8.
    pub function: u8,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}:{:02x}.{}", self.bus, self.device, self.function)
    }
}

/// A base address register, as assigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BaseAddress {
    /// Memory, at a physical address.
    Memory(u64),
    /// Ports, from this one.
    Ports(u16),
}

/// A capability: its number and where it is in configuration space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Capability {
    pub id: u8,
    pub offset: u8,
}

/// A function of a device that is there.
#[derive(Clone, Copy)]
pub(crate) struct Function<'a> {
    hardware: &'a dyn Hardware,
    /// Where it is.
    pub address: Address,
    /// Who made it.
    pub vendor: u16,
    /// What it is, by its maker's numbers.
    pub device: u16,
}

/// Whether there is a PCI host at all: the function 00:00.0 is its bridge.
pub(crate) fn is_present(hardware: &dyn Hardware) -> bool {
    Function::find(hardware, Address { bus: 0, device: 0, function: 0 }).is_some()
}

/// Every function behind bus 0, in the order of their addresses, those behind a bridge where the bridge is.
pub(crate) fn enumerate(hardware: &dyn Hardware) -> Vec<Function<'_>> {
    let mut found = Vec::new();
    scan_bus(hardware, 0, &mut BTreeSet::new(), &mut found);
    found
}

fn scan_bus<'a>(
    hardware: &'a dyn Hardware,
    bus: u8,
    scanned: &mut BTreeSet<u8>,
    found: &mut Vec<Function<'a>>,
) {
    // A bridge that leads back to a bus seen before is not followed: so this ends.
    if !scanned.insert(bus) {
        return;
    }
    for device in 0..32 {
        for function in 0..8 {
            let Some(here) = Function::find(hardware, Address { bus, device, function }) else {
                if function == 0 {
                    break;
                }
                continue;
            };
            found.push(here);
            let header = here.header_type();
            if header & 0x7f == 1 {
                let secondary = (here.read(register::BRIDGE_BUSES) >> 8) as u8;
                if secondary != 0 {
                    scan_bus(hardware, secondary, scanned, found);
                }
            }
            if function == 0 && header & 0x80 == 0 {
                break;
            }
        }
    }
}

impl<'a> Function<'a> {
    fn find(hardware: &'a dyn Hardware, address: Address) -> Option<Self> {
        let identity = read(hardware, address, register::IDENTITY);
        let vendor = identity as u16;
        (vendor != 0xffff && vendor != 0).then_some(Self {
            hardware,
            address,
            vendor,
            device: (identity >> 16) as u16,
        })
    }

    /// Reads the 32 bits of configuration space that contain `offset`.
    pub(crate) fn read(&self, offset: u8) -> u32 {
        read(self.hardware, self.address, offset)
    }

    fn write(&self, offset: u8, value: u32) {
        write(self.hardware, self.address, offset, value);
    }

    /// Reads one byte of configuration space.
    pub(crate) fn read_byte(&self, offset: u8) -> u8 {
        self.read(offset).to_le_bytes()[usize::from(offset & 3)]
    }

    fn header_type(&self) -> u8 {
        (self.read(register::HEADER) >> 16) as u8
    }

    /// The subsystem's device number, which names the type of a legacy virtio device.
    pub(crate) fn subsystem(&self) -> u16 {
        (self.read(register::SUBSYSTEM) >> 16) as u16
    }

    /// The interrupt controller's input that firmware routed the function's pin to; `None` if it has no pin or none
    /// was routed.
    pub(crate) fn interrupt_line(&self) -> Option<u32> {
        let interrupt = self.read(register::INTERRUPT);
        let (line, pin) = (interrupt & 0xff, interrupt >> 8 & 0xff);
        (pin != 0 && line != 0 && line != 0xff).then_some(line)
    }

    /// Lets the function decode its addresses and access memory. `line`: whether it may use its interrupt pin.
    pub(crate) fn enable(&self, line: bool) {
        let mut command = self.read(register::COMMAND) & 0xffff;
        command |= COMMAND_IO | COMMAND_MEMORY | COMMAND_BUS_MASTER;
        if line {
            command &= !COMMAND_INTERRUPT_DISABLE;
        } else {
            command |= COMMAND_INTERRUPT_DISABLE;
        }
        // The upper half is the status, whose bits are cleared by writing ones.
        self.write(register::COMMAND, command);
    }

    /// The base address in register `index` (0 to 5), if one is assigned.
    pub(crate) fn base_address(&self, index: u8) -> Option<BaseAddress> {
        if index > 5 {
            return None;
        }
        let offset = register::BASE_ADDRESSES + 4 * index;
        let low = self.read(offset);
        if low & 1 == 1 {
            let port = low & !3;
            return u16::try_from(port).ok().filter(|&port| port != 0).map(BaseAddress::Ports);
        }
        let high = if low >> 1 & 3 == 2 && index < 5 { self.read(offset + 4) } else { 0 };
        let address = u64::from(high) << 32 | u64::from(low & !0xf);
        (address != 0).then_some(BaseAddress::Memory(address))
    }

    /// Its capabilities, in the order of the list.
    pub(crate) fn capabilities(&self) -> Vec<Capability> {
        let mut found = Vec::new();
        if self.read(register::COMMAND) & STATUS_CAPABILITIES == 0 {
            return found;
        }
        let mut offset = self.read_byte(register::CAPABILITIES) & !3;
        while offset >= 0x40 && found.len() < MAX_CAPABILITIES {
            found.push(Capability { id: self.read_byte(offset), offset });
            offset = self.read_byte(offset + 1) & !3;
        }
        found
    }

    /// Maps `length` bytes at `offset` in the memory of base address `index`.
    pub(crate) fn map(&self, index: u8, offset: u32, length: usize) -> Option<Registers> {
        let Some(BaseAddress::Memory(base)) = self.base_address(index) else { return None };
        Some(self.hardware.map(base.checked_add(u64::from(offset))?, length))
    }

    /// Turns on MSI-X, all messages masked, if the function has it.
    pub(crate) fn enable_msix(&self) -> Option<MessageTable> {
        let capability =
            self.capabilities().into_iter().find(|capability| capability.id == CAPABILITY_MSIX)?;
        let control = self.read(capability.offset);
        let entries = (control >> 16 & 0x7ff) as u16 + 1;
        let location = self.read(capability.offset.checked_add(4)?);
        let table =
            self.map((location & 7) as u8, location & !7, usize::from(entries) * MessageTable::ENTRY)?;
        let table = MessageTable { registers: table, entries };
        for entry in 0..entries {
            table.mask(entry);
        }
        self.write(capability.offset, (control | MSIX_ENABLE) & !MSIX_FUNCTION_MASK);
        Some(table)
    }

    /// Turns MSI-X off again, so that the interrupt pin is used.
    pub(crate) fn disable_msix(&self) {
        for capability in self.capabilities().into_iter().filter(|found| found.id == CAPABILITY_MSIX) {
            self.write(capability.offset, self.read(capability.offset) & !MSIX_ENABLE);
        }
    }
}

/// The table of a function's messages (PCI Express, 7.7.2.5).
pub(crate) struct MessageTable {
    registers: Registers,
    entries: u16,
}

impl MessageTable {
    const ENTRY: usize = 16;
    const MASKED: u32 = 1;

    /// How many messages there can be, at least 1.
    pub(crate) fn entries(&self) -> u16 {
        self.entries
    }

    fn mask(&self, entry: u16) {
        self.registers.write(usize::from(entry) * Self::ENTRY + 12, Self::MASKED);
    }

    /// Sets what the function writes, and where, to signal `entry`.
    ///
    /// # Panics
    /// If there is no such entry.
    pub(crate) fn set(&self, entry: u16, message: Message) {
        let at = usize::from(entry) * Self::ENTRY;
        self.registers.write(at, message.address as u32);
        self.registers.write(at + 4, (message.address >> 32) as u32);
        self.registers.write(at + 8, message.data);
        self.registers.write(at + 12, 0_u32);
    }
}

fn select(hardware: &dyn Hardware, address: Address, offset: u8) {
    let selector = 1 << 31
        | u32::from(address.bus) << 16
        | u32::from(address.device) << 11
        | u32::from(address.function) << 8
        | u32::from(offset & !3);
    hardware.write_port(CONFIG_ADDRESS, Width::Double, selector);
}

fn read(hardware: &dyn Hardware, address: Address, offset: u8) -> u32 {
    select(hardware, address, offset);
    hardware.read_port(CONFIG_DATA, Width::Double)
}

fn write(hardware: &dyn Hardware, address: Address, offset: u8, value: u32) {
    select(hardware, address, offset);
    hardware.write_port(CONFIG_DATA, Width::Double, value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::guest::virtio::model::FakeHardware;

    const HOST: Address = Address { bus: 0, device: 0, function: 0 };

    fn at(bus: u8, device: u8, function: u8) -> Address {
        Address { bus, device, function }
    }

    fn addresses(hardware: &FakeHardware) -> Vec<Address> {
        enumerate(hardware).into_iter().map(|function| function.address).collect()
    }

    #[test]
    fn an_absent_bus_has_nothing() {
        let hardware = FakeHardware::default();
        assert!(!is_present(&hardware));
        assert_eq!(addresses(&hardware), []);
    }

    #[test]
    fn functions_are_found_behind_bridges_where_the_bridge_is() {
        let hardware = FakeHardware::default();
        for address in [HOST, at(0, 1, 0), at(1, 0, 0), at(0, 31, 0), at(0, 31, 2), at(0, 4, 1)] {
            hardware.set_config(address, register::IDENTITY, 0x1000_1af4);
        }
        hardware.set_config(at(0, 1, 0), register::HEADER, 0x0001_0000);
        hardware.set_config(at(0, 1, 0), register::BRIDGE_BUSES, 0x0001_0100);
        hardware.set_config(at(0, 31, 0), register::HEADER, 0x0080_0000);
        assert!(is_present(&hardware));
        // 00:04.1 has no function 0, so it does not exist.
        assert_eq!(addresses(&hardware), [HOST, at(0, 1, 0), at(1, 0, 0), at(0, 31, 0), at(0, 31, 2)]);
    }

    #[test]
    fn a_bridge_that_leads_back_ends_the_search() {
        let hardware = FakeHardware::default();
        hardware.set_config(HOST, register::IDENTITY, 0x1000_1af4);
        hardware.set_config(at(0, 1, 0), register::IDENTITY, 0x1000_1af4);
        hardware.set_config(at(0, 1, 0), register::HEADER, 0x0001_0000);
        hardware.set_config(at(0, 1, 0), register::BRIDGE_BUSES, 0x0000_0100);
        hardware.set_config(at(1, 0, 0), register::IDENTITY, 0x1000_1af4);
        hardware.set_config(at(1, 0, 0), register::HEADER, 0x0001_0000);
        hardware.set_config(at(1, 0, 0), register::BRIDGE_BUSES, 0x0000_0100);
        assert_eq!(addresses(&hardware), [HOST, at(0, 1, 0), at(1, 0, 0)]);
    }

    #[test]
    fn base_addresses_of_each_kind() {
        let hardware = FakeHardware::default();
        hardware.set_config(HOST, register::IDENTITY, 0x1041_1af4);
        hardware.set_config(HOST, 0x10, 0xc041);
        hardware.set_config(HOST, 0x14, 0xfebd_1000);
        hardware.set_config(HOST, 0x20, 0x0000_400c);
        hardware.set_config(HOST, 0x24, 0x0000_00fe);
        let function = Function::find(&hardware, HOST).expect("it is there");
        assert_eq!(function.base_address(0), Some(BaseAddress::Ports(0xc040)));
        assert_eq!(function.base_address(1), Some(BaseAddress::Memory(0xfebd_1000)));
        assert_eq!(function.base_address(2), None);
        assert_eq!(function.base_address(4), Some(BaseAddress::Memory(0xfe_0000_4000)));
        assert_eq!(function.base_address(6), None);
    }

    #[test]
    fn a_circular_capability_list_ends() {
        let hardware = FakeHardware::default();
        hardware.set_config(HOST, register::IDENTITY, 0x1041_1af4);
        hardware.set_config(HOST, register::COMMAND, STATUS_CAPABILITIES);
        hardware.set_config(HOST, register::CAPABILITIES, 0x40);
        hardware.set_config(HOST, 0x40, 0x4009);
        let function = Function::find(&hardware, HOST).expect("it is there");
        assert_eq!(function.capabilities().len(), MAX_CAPABILITIES);
    }

    #[test]
    fn messages_go_where_the_table_is() {
        let hardware = FakeHardware::default();
        hardware.set_config(HOST, register::IDENTITY, 0x1041_1af4);
        hardware.set_config(HOST, register::COMMAND, STATUS_CAPABILITIES);
        hardware.set_config(HOST, register::CAPABILITIES, 0x40);
        hardware.set_config(HOST, 0x40, 0x0002_0011);
        hardware.set_config(HOST, 0x44, 0x0000_0801);
        hardware.set_config(HOST, 0x14, 0xfebd_1000);
        let function = Function::find(&hardware, HOST).expect("it is there");
        let table = function.enable_msix().expect("it has MSI-X");
        assert_eq!(table.entries(), 3);
        table.set(1, Message { address: 0xfee0_0000, data: 0x31 });
        let registers = hardware.map(0xfebd_1800, 48);
        let words: Vec<u32> = (0..12).map(|word| registers.read(word * 4)).collect();
        assert_eq!(words, [0, 0, 0, 1, 0xfee0_0000, 0, 0x31, 0, 0, 0, 0, 1]);
        assert_eq!(function.read(0x40), MSIX_ENABLE | 0x0002_0011);
    }
}
