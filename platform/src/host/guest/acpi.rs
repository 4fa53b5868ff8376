//! What ACPI's static tables tell (ACPI 6.5, chapter 5): where the power registers and interrupt controllers are.
//!
//! There is no interpreter for AML. The three things that stand only there (the sleep type of soft-off, the event
//! register of a hardware-reduced machine and its interrupt) are found by the byte patterns that every compiler
//! writes for them.

use super::mmio;
use super::port::outb;
use crate::boot;

/// Longest table that is looked at. QEMU's longest has about 16 KiB.
const TABLE_LIMIT: usize = 1024 * 1024;
/// Bytes of the header that every table begins with.
const HEADER: usize = 36;

/// A register, by the generic address structure (5.2.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Register {
    in_ports: bool,
    address: u64,
}

impl Register {
    /// Writes a byte.
    ///
    /// # Safety
    /// The caller is ready for what the register does.
    pub(crate) unsafe fn write(self, value: u8) {
        // SAFETY: The tables vouch for the address, the caller for the effect.
        unsafe {
            if self.in_ports {
                outb(self.address as u16, value);
            } else {
                mmio::map(self.address, 1).write_volatile(value);
            }
        }
    }
}

/// The fixed description table: power registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fadt {
    /// Address of the table with the AML.
    dsdt: u64,
    /// The interrupt of power events.
    pub(crate) event_interrupt: u16,
    /// The port that takes [`Fadt::enable`], unless zero.
    pub(crate) command_port: u16,
    /// The command that hands the power registers over from firmware.
    pub(crate) enable: u8,
    /// PM1a and PM1b event blocks: status, then enable, half of the length each. Zero if absent.
    events: [u16; 2],
    /// Length of an event block.
    event_length: u8,
    /// PM1a and PM1b control. Zero if absent.
    controls: [u16; 2],
    /// Whether the machine has none of the ports above, but events and sleep control in memory.
    pub(crate) hardware_reduced: bool,
    /// Sleep control of a hardware-reduced machine.
    pub(crate) sleep_control: Option<Register>,
    /// The reset register and the value that resets.
    pub(crate) reset: Option<(Register, u8)>,
}

impl Fadt {
    /// Ports of PM1 control.
    pub(crate) fn control_ports(&self) -> impl Iterator<Item = u16> {
        self.controls.into_iter().filter(|&port| port != 0)
    }

    /// Ports of PM1 status and PM1 enable.
    pub(crate) fn event_ports(&self) -> impl Iterator<Item = (u16, u16)> {
        let half = u16::from(self.event_length / 2);
        self.events.into_iter().filter(|&port| port != 0).map(move |port| (port, port + half))
    }
}

/// An input/output interrupt controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IoApic {
    /// Physical address of its registers.
    pub(crate) address: u64,
    /// The first global system interrupt that it takes.
    pub(crate) first_interrupt: u32,
}

/// The register and interrupt of the generic event device of a hardware-reduced machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EventDevice {
    /// Physical address of the event selector, 32 bits; reading clears it.
    pub(crate) selector: u64,
    /// Its global system interrupt, edge-triggered.
    pub(crate) interrupt: u32,
}

/// The fixed description table, if the machine has one.
pub(crate) fn fadt() -> Option<Fadt> {
    parse_fadt(find(*b"FACP")?)
}

/// All input/output interrupt controllers that the tables name.
pub(crate) fn io_apics() -> impl Iterator<Item = IoApic> {
    find(*b"APIC").into_iter().flat_map(madt_entries).filter_map(parse_io_apic)
}

/// The polarity and trigger flags (MPS INTI, 5.2.12.5) that the tables give for an interrupt, if they do.
pub(crate) fn interrupt_flags(interrupt: u32) -> Option<u16> {
    find(*b"APIC").into_iter().flat_map(madt_entries).find_map(|entry| override_flags(entry, interrupt))
}

/// The sleep type of soft-off.
pub(crate) fn soft_off_sleep_type() -> Option<u8> {
    parse_soft_off(differentiated()?)
}

/// The generic event device, if there is one.
pub(crate) fn event_device() -> Option<EventDevice> {
    parse_event_device(differentiated()?)
}

fn differentiated() -> Option<&'static [u8]> {
    table_at(fadt()?.dsdt).filter(|table| table.starts_with(b"DSDT"))
}

/// The table with `signature`.
fn find(signature: [u8; 4]) -> Option<&'static [u8]> {
    let root = root_table()?;
    let width = if root.starts_with(b"XSDT") { 8 } else { 4 };
    root[HEADER..]
        .chunks_exact(width)
        .filter_map(|entry| table_at(little_endian(entry)))
        .find(|table| table.starts_with(&signature))
}

/// RSDT or XSDT.
fn root_table() -> Option<&'static [u8]> {
    let root = match boot::acpi_root_pointer() {
        Some(address) => firmware(address, ROOT_POINTER)?,
        None => scan_for_root_pointer()?,
    };
    root_table_address(root).and_then(table_at)
}

/// Bytes of the root pointer (5.2.5.3), from its second revision on.
const ROOT_POINTER: usize = 36;

fn scan_for_root_pointer() -> Option<&'static [u8]> {
    /// Where a PC's firmware leaves it, at a multiple of 16 (5.2.5.1).
    const START: u64 = 0xe_0000;
    const LENGTH: usize = 0x2_0000;
    let area = firmware(START, LENGTH)?;
    area.windows(ROOT_POINTER).step_by(16).find(|window| root_table_address(window).is_some())
}

fn root_table_address(pointer: &[u8]) -> Option<u64> {
    let first_part = pointer.get(..20)?;
    let sum = first_part.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    if !first_part.starts_with(b"RSD PTR ") || sum != 0 {
        return None;
    }
    let extended = Some(number(pointer, 24, 8)?).filter(|&address| pointer[15] >= 2 && address != 0);
    extended.or_else(|| number(pointer, 16, 4)).filter(|&address| address != 0)
}

/// The whole table at a physical address.
fn table_at(address: u64) -> Option<&'static [u8]> {
    let header = firmware(address, HEADER)?;
    let length = number(header, 4, 4)? as usize;
    if !(HEADER..=TABLE_LIMIT).contains(&length) {
        return None;
    }
    firmware(address, length)
}

fn firmware(address: u64, length: usize) -> Option<&'static [u8]> {
    if address == 0 {
        return None;
    }
    // SAFETY: Firmware says that its tables are there, and nobody writes to them. Mapping for reading takes nothing from
    // the image: its own memory is refused.
    unsafe {
        let start = mmio::map_firmware(address, length)?;
        Some(core::slice::from_raw_parts(start, length))
    }
}

// --- the tables as bytes

/// The little-endian number of `width` bytes at `offset`.
fn number(bytes: &[u8], offset: usize, width: usize) -> Option<u64> {
    bytes.get(offset..offset + width).map(little_endian)
}

fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

fn parse_register(table: &[u8], offset: usize) -> Option<Register> {
    const SYSTEM_MEMORY: u64 = 0;
    const SYSTEM_PORTS: u64 = 1;
    let in_ports = match number(table, offset, 1)? {
        SYSTEM_MEMORY => false,
        SYSTEM_PORTS => true,
        _ => return None,
    };
    let address = number(table, offset + 4, 8)?;
    (address != 0).then_some(Register { in_ports, address })
}

/// 5.2.9. Tables of older revisions end earlier: what they lack is absent.
fn parse_fadt(table: &[u8]) -> Option<Fadt> {
    const RESET_SUPPORTED: u64 = 1 << 10;
    const HARDWARE_REDUCED: u64 = 1 << 20;
    let flags = number(table, 112, 4)?;
    let port = |offset| number(table, offset, 4).map(|address| u16::try_from(address).unwrap_or(0));
    let byte = |offset| number(table, offset, 1).map(|value| value as u8);
    let hardware_reduced = flags & HARDWARE_REDUCED != 0;
    Some(Fadt {
        dsdt: number(table, 140, 8).filter(|&address| address != 0).or_else(|| number(table, 40, 4))?,
        event_interrupt: number(table, 46, 2)? as u16,
        command_port: port(48)?,
        enable: byte(52)?,
        events: [port(56)?, port(60)?],
        event_length: byte(88)?,
        controls: [port(64)?, port(68)?],
        hardware_reduced,
        sleep_control: parse_register(table, 244).filter(|_| hardware_reduced),
        reset: parse_register(table, 116).zip(byte(128)).filter(|_| flags & RESET_SUPPORTED != 0),
    })
}

/// The entries of the table of interrupt controllers (5.2.12).
fn madt_entries(table: &[u8]) -> impl Iterator<Item = &[u8]> {
    const ENTRIES: usize = 44;
    let mut rest = table.get(ENTRIES..).unwrap_or_default();
    core::iter::from_fn(move || {
        let length = usize::from(*rest.get(1)?);
        let (entry, after) = rest.split_at_checked(length).filter(|_| length >= 2)?;
        rest = after;
        Some(entry)
    })
}

fn parse_io_apic(entry: &[u8]) -> Option<IoApic> {
    const IO_APIC: u8 = 1;
    (entry[0] == IO_APIC).then_some(())?;
    Some(IoApic { address: number(entry, 4, 4)?, first_interrupt: number(entry, 8, 4)? as u32 })
}

fn override_flags(entry: &[u8], interrupt: u32) -> Option<u16> {
    const SOURCE_OVERRIDE: u8 = 2;
    (entry[0] == SOURCE_OVERRIDE && number(entry, 4, 4)? == u64::from(interrupt)).then_some(())?;
    number(entry, 8, 2).map(|flags| flags as u16)
}

/// The first number of the package `_S5_` (7.4.2): `Name (_S5, Package { type, ... })`.
fn parse_soft_off(dsdt: &[u8]) -> Option<u8> {
    const PACKAGE: u8 = 0x12;
    let name = dsdt.windows(4).position(|window| window == b"_S5_")?;
    let package = dsdt.get(name + 4..)?;
    (*package.first()? == PACKAGE).then_some(())?;
    // The length of the package takes one byte and as many more as its two highest bits say; then the count.
    let length_bytes = 1 + usize::from(package.get(1)? >> 6);
    parse_integer(package.get(1 + length_bytes + 1..)?).map(|(value, _)| value as u8)
}

/// `OperationRegion (EREG, SystemMemory, address, 4)`, as QEMU names it, and the extended interrupt descriptor (6.4.3.6)
/// of the same device, which stands before it.
fn parse_event_device(dsdt: &[u8]) -> Option<EventDevice> {
    const REGION: &[u8] = b"\x5b\x80EREG\x00";
    const EXTENDED_INTERRUPT: u8 = 0x89;
    let device = dsdt.windows(8).position(|window| window == b"ACPI0013")?;
    let body = &dsdt[device..];
    let region = body.windows(REGION.len()).position(|window| window == REGION)?;
    let (selector, _) = parse_integer(&body[region + REGION.len()..])?;
    // Tag, length (2), flags, count, then the first interrupt.
    let descriptor = body[..region]
        .windows(9)
        .find(|window| window[0] == EXTENDED_INTERRUPT && window[2] == 0 && window[4] == 1)?;
    Some(EventDevice { selector, interrupt: number(descriptor, 5, 4)? as u32 })
}

/// A constant (20.2.3) and how many bytes it takes.
fn parse_integer(code: &[u8]) -> Option<(u64, usize)> {
    let width = match *code.first()? {
        value @ (0 | 1) => return Some((u64::from(value), 1)),
        0xff => return Some((u64::MAX, 1)),
        0x0a => 1,
        0x0b => 2,
        0x0c => 4,
        0x0e => 8,
        _ => return None,
    };
    number(code, 1, width).map(|value| (value, 1 + width))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sleep_type_as_compilers_write_it() {
        assert_eq!(parse_soft_off(b"\x08_S5_\x12\x06\x04\x00\x00\x00\x00"), Some(0));
        assert_eq!(parse_soft_off(b"...\x08_S5_\x12\x07\x04\x0a\x05\x00\x00\x00"), Some(5));
        assert_eq!(parse_soft_off(b"\x08_S5_\x12\x46\x00\x04\x01\x00"), Some(1), "two bytes of length");
        assert_eq!(parse_soft_off(b"_S5_"), None);
    }

    #[test]
    fn event_device_of_a_reduced_machine() {
        let mut dsdt = b"\x08_HID\x0dACPI0013\0\x08_CRS\x11\x0d\x0a\x0b".to_vec();
        dsdt.extend(b"\x89\x06\x00\x03\x01\x09\x00\x00\x00\x79\x00");
        dsdt.extend(b"\x5b\x80EREG\x00\x0c\x00\x00\xa0\xfe\x0a\x04");
        assert_eq!(parse_event_device(&dsdt), Some(EventDevice { selector: 0xfea0_0000, interrupt: 9 }));
    }

    #[test]
    fn interrupt_controllers_and_overrides() {
        let mut madt = vec![0; 44];
        madt.extend([1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0]);
        madt.extend([2, 10, 0, 9, 9, 0, 0, 0, 0x0d, 0]);
        madt.extend([1, 12, 1, 0, 0, 0, 0xc1, 0xfe, 24, 0, 0, 0]);
        let controllers: Vec<_> = madt_entries(&madt).filter_map(parse_io_apic).collect();
        assert_eq!(
            controllers,
            [
                IoApic { address: 0xfec0_0000, first_interrupt: 0 },
                IoApic { address: 0xfec1_0000, first_interrupt: 24 }
            ]
        );
        assert_eq!(madt_entries(&madt).find_map(|entry| override_flags(entry, 9)), Some(0x0d));
        assert_eq!(madt_entries(&madt).find_map(|entry| override_flags(entry, 10)), None);
    }

    #[test]
    fn an_old_table_has_no_sleep_control() {
        let mut table = vec![0; 132];
        table[40..44].copy_from_slice(&0x1000_u32.to_le_bytes());
        table[56..58].copy_from_slice(&0x600_u16.to_le_bytes());
        table[88] = 4;
        let fadt = parse_fadt(&table).unwrap();
        assert_eq!((fadt.dsdt, fadt.sleep_control, fadt.reset), (0x1000, None, None));
        assert_eq!(fadt.event_ports().collect::<Vec<_>>(), [(0x600, 0x602)]);
    }

    proptest! {
        #[test]
        fn nothing_in_a_table_panics(bytes: Vec<u8>) {
            let _ = parse_fadt(&bytes);
            let _ = parse_soft_off(&bytes);
            let _ = parse_event_device(&bytes);
            let _ = root_table_address(&bytes);
            for entry in madt_entries(&bytes) {
                let _ = (parse_io_apic(entry), override_flags(entry, 9));
            }
        }
    }
}
