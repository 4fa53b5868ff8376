//! Discovery on a machine of software.

use proptest::prelude::*;

use super::super::hardware::Width;
use super::super::model::FakeHardware;
use super::super::transport::Registers;
use super::*;
use crate::host::guest::pci::Address;

const MAGIC: u32 = 0x7472_6976;

fn slot(registers: Registers, slot: u32, device: u32) {
    let part = registers.part(slot as usize * 512, 512);
    part.write(0, MAGIC);
    part.write(4, 2_u32);
    part.write(8, device);
}

fn locations(hardware: &Rc<FakeHardware>, words: &[&str]) -> Vec<String> {
    let hardware: Rc<dyn Hardware> = Rc::clone(hardware) as _;
    let found = transports(&hardware, words.iter().copied());
    found.iter().map(|transport| format!("{}: {}", transport.location(), transport.device_type())).collect()
}

#[test]
fn words_of_every_monitor_are_read() {
    let window = |address, length, line| Ok(MmioWindow { address, length, line });
    assert_eq!(MmioWindow::parse("512@0xfeb00e00:12"), window(0xfeb0_0e00, 512, 12));
    assert_eq!(MmioWindow::parse("4K@0xd0000000:5"), window(0xd000_0000, 4096, 5));
    assert_eq!(MmioWindow::parse("0x200@0xd0001000:0x6:3"), window(0xd000_1000, 512, 6));
}

#[test]
fn a_word_that_cannot_be_read_is_explained() {
    for (word, text) in [
        ("", "@ between size and address, found \"\""),
        ("4K@0xd0000000", ": before the interrupt, found"),
        ("4Q@0xd0000000:5", "size from 256 to 1M, found \"4Q\""),
        ("1G@0xd0000000:5", "size from 256 to 1M, found \"1G\""),
        ("4K@d0000000:5", "address, found \"d0000000\""),
        ("4K@0xd0000001:5", "address, found"),
        ("4K@0xffffffffffffff00:5", "address, found"),
        ("4K@0xd0000000:-1", "interrupt, found \"-1\""),
        ("99999999999999999999K@0:5", "size from 256 to 1M, found"),
    ] {
        let error = MmioWindow::parse(word).expect_err(word).to_string();
        assert!(error.contains(text), "{word}: {error}");
    }
}

#[test]
fn announced_devices_come_in_the_order_of_the_words() {
    let hardware = Rc::new(FakeHardware::default());
    let registers = hardware.map(MICROVM_BASE, 24 * 512);
    slot(registers, 7, 1);
    slot(registers, 6, 2);
    let found =
        locations(&hardware, &["512@0xfeb00c00:11", "nonsense", "512@0xfeb00e00:12", "4K@0xd0000000:5"]);
    assert_eq!(found, ["virtio-mmio 0xfeb00c00: block device", "virtio-mmio 0xfeb00e00: network device"]);
    assert_eq!(*hardware.lines.borrow(), [(11, Trigger::Edge), (12, Trigger::Edge)]);
}

#[test]
fn unannounced_transports_are_probed_from_the_top() {
    for (slots, first_line) in [(24, 24), (8, 16)] {
        let hardware = Rc::new(FakeHardware::default());
        let registers = hardware.map(MICROVM_BASE, 24 * 512);
        (0..slots).for_each(|index| slot(registers, index, 0));
        slot(registers, slots - 1, 1);
        slot(registers, slots - 2, 2);
        let found = locations(&hardware, &[]);
        assert_eq!(found.len(), 2);
        assert!(found[0].ends_with("network device") && found[1].ends_with("block device"));
        let lines = [(first_line + slots - 1, Trigger::Edge), (first_line + slots - 2, Trigger::Edge)];
        assert_eq!(*hardware.lines.borrow(), lines);
    }
}

const HOST: Address = Address { bus: 0, device: 0, function: 0 };

fn pci_machine() -> Rc<FakeHardware> {
    let hardware = Rc::new(FakeHardware::default());
    hardware.set_config(HOST, 0, 0x29c0_8086);
    hardware
}

/// A modern device in slot `device` with its structures in one BAR, and MSI-X if `messages`.
fn modern(hardware: &FakeHardware, device: u8, identity: u32, messages: bool) -> Registers {
    let address = Address { bus: 0, device, function: 0 };
    let base = 0xfe00_0000 + u32::from(device) * 0x1_0000;
    hardware.set_config(address, 0, identity);
    hardware.set_config(address, 4, 1 << 20);
    hardware.set_config(address, 0x10, base);
    hardware.set_config(address, 0x34, 0x40);
    hardware.set_config(address, 0x3c, 0x0000_010b);
    for (index, kind) in [1_u32, 2, 3, 4].into_iter().enumerate() {
        let at = 0x40 + 0x14 * index as u8;
        let next = if kind == 4 && !messages { 0 } else { u32::from(at + 0x14) };
        hardware.set_config(address, at, kind << 24 | 0x14 << 16 | next << 8 | 0x09);
        hardware.set_config(address, at + 4, 0);
        hardware.set_config(address, at + 8, 0x1000 * index as u32);
        hardware.set_config(address, at + 12, 0x1000);
        hardware.set_config(address, at + 16, 4);
    }
    if messages {
        hardware.set_config(address, 0x90, 0x0002_0011);
        hardware.set_config(address, 0x94, 0x8000);
    }
    hardware.map(u64::from(base), 0x9000)
}

#[test]
fn pci_devices_come_in_the_order_of_their_slots() {
    let hardware = pci_machine();
    hardware.message_limit.set(3);
    modern(&hardware, 3, 0x1042_1af4, true);
    modern(&hardware, 2, 0x1041_1af4, true);
    modern(&hardware, 4, 0x1044_1af4, false);
    modern(&hardware, 5, 0x1041_8086, true);
    assert_eq!(
        locations(&hardware, &[]),
        [
            "virtio-pci 00:02.0 (MSI-X, 2 of 3 messages): network device",
            "virtio-pci 00:03.0 (MSI-X, 1 of 3 messages): block device",
            "virtio-pci 00:04.0 (INTx): entropy device",
        ]
    );
    assert_eq!(*hardware.lines.borrow(), [(11, Trigger::Level)]);
}

#[test]
fn without_messages_left_the_line_is_used() {
    let hardware = pci_machine();
    modern(&hardware, 2, 0x1041_1af4, true);
    assert_eq!(locations(&hardware, &[]), ["virtio-pci 00:02.0 (INTx): network device"]);
    hardware.write_port(0xcf8, Width::Double, 1 << 31 | 2 << 11 | 0x90);
    assert_eq!(hardware.read_port(0xcfc, Width::Double) >> 31, 0, "MSI-X is off again");
    hardware.write_port(0xcf8, Width::Double, 1 << 31 | 2 << 11 | 0x04);
    assert_eq!(hardware.read_port(0xcfc, Width::Double) & 0x407, 7, "it may use memory, ports and its line");
}

#[test]
fn a_device_without_interrupt_or_interface_is_left_out() {
    let hardware = pci_machine();
    hardware.message_limit.set(3);
    modern(&hardware, 2, 0x1041_1af4, false);
    hardware.set_config(Address { device: 2, ..HOST }, 0x3c, 0);
    hardware.set_config(Address { device: 3, ..HOST }, 0, 0x1000_1af4);
    hardware.set_config(Address { device: 3, ..HOST }, 0x3c, 0x010a);
    assert_eq!(locations(&hardware, &[]), [""; 0]);
}

#[test]
fn a_legacy_device_is_found_by_its_ports_and_its_subsystem() {
    let hardware = pci_machine();
    let address = Address { device: 3, ..HOST };
    hardware.set_config(address, 0, 0x1001_1af4);
    hardware.set_config(address, 0x10, 0xc001);
    hardware.set_config(address, 0x2c, 0x0002_1af4);
    hardware.set_config(address, 0x3c, 0x010a);
    assert_eq!(locations(&hardware, &[]), ["virtio-pci 00:03.0 (INTx): block device"]);
}

#[test]
fn a_queue_notified_outside_the_device_is_refused() {
    let hardware = pci_machine();
    hardware.message_limit.set(3);
    let registers = modern(&hardware, 2, 0x1041_1af4, true);
    registers.write(0x18, 256_u16);
    let shared: Rc<dyn Hardware> = Rc::clone(&hardware) as _;
    let mut found = transports(&shared, []);
    let queue = super::super::queue::Queue::new(256, false);
    assert_eq!(found[0].max_queue_size(1), 256);
    assert_eq!(found[0].enable_queue(1, queue.addresses()), Ok(()));
    found[0].notify(1);
    assert_eq!(registers.read::<u16>(0x1000), 1, "queue 1, at offset 0");
    assert_eq!(registers.read::<u16>(0x1a), 1, "message 1");
    registers.write(0x1e, 0x400_u16);
    assert!(matches!(found[0].enable_queue(1, queue.addresses()), Err(TransportError::Layout(_))));
}

proptest! {
    #[test]
    fn any_word_is_read_or_refused(word in "[0-9a-fxKMG@:]{0,24}") {
        if let Ok(window) = MmioWindow::parse(&word) {
            prop_assert!(window.length >= 256);
        }
    }
}
