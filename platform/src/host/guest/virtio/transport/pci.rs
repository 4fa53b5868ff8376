//! Virtio over PCI: the modern interface by capabilities (virtio 1.2, 4.1), and the legacy one by ports (4.1.4.10).

use std::rc::Rc;

use super::{DeviceType, Line, Registers, Transport, TransportError};
use crate::host::guest::pci::{BaseAddress, Function, MessageTable};
use crate::host::guest::virtio::hardware::{Hardware, Trigger, Width};
use crate::host::guest::virtio::queue::{ALIGNMENT, Addresses};

/// The vendor of every virtio device.
const VENDOR: u16 = 0x1af4;
/// Device numbers of transitional and legacy devices; the subsystem tells the type.
const TRANSITIONAL_DEVICES: core::ops::RangeInclusive<u16> = 0x1000..=0x103f;
/// Device numbers of modern devices: this plus the type.
const MODERN_DEVICES: core::ops::RangeInclusive<u16> = 0x1040..=0x107f;

const CAPABILITY_VENDOR: u8 = 0x09;
const COMMON: u8 = 1;
const NOTIFY: u8 = 2;
const INTERRUPT_STATUS: u8 = 3;
const DEVICE: u8 = 4;

/// The longest structure that is mapped. Notification areas have a page per queue at most.
const MAX_STRUCTURE: usize = 1 << 20;

/// No message for this queue or for configuration changes.
const NO_VECTOR: u16 = 0xffff;

/// Fields of the common configuration (4.1.4.3).
mod common {
    pub(super) const DEVICE_FEATURE_SELECT: usize = 0x00;
    pub(super) const DEVICE_FEATURE: usize = 0x04;
    pub(super) const DRIVER_FEATURE_SELECT: usize = 0x08;
    pub(super) const DRIVER_FEATURE: usize = 0x0c;
    pub(super) const CONFIG_VECTOR: usize = 0x10;
    pub(super) const DEVICE_STATUS: usize = 0x14;
    pub(super) const CONFIG_GENERATION: usize = 0x15;
    pub(super) const QUEUE_SELECT: usize = 0x16;
    pub(super) const QUEUE_SIZE: usize = 0x18;
    pub(super) const QUEUE_VECTOR: usize = 0x1a;
    pub(super) const QUEUE_ENABLE: usize = 0x1c;
    pub(super) const QUEUE_NOTIFY_OFFSET: usize = 0x1e;
    pub(super) const QUEUE_DESCRIPTORS: usize = 0x20;
    pub(super) const QUEUE_DRIVER: usize = 0x28;
    pub(super) const QUEUE_DEVICE: usize = 0x30;
    pub(super) const LENGTH: usize = 0x38;
}

/// Ports of the legacy interface, from the base.
mod legacy {
    pub(super) const DEVICE_FEATURES: u16 = 0;
    pub(super) const DRIVER_FEATURES: u16 = 4;
    pub(super) const QUEUE_ADDRESS: u16 = 8;
    pub(super) const QUEUE_SIZE: u16 = 12;
    pub(super) const QUEUE_SELECT: u16 = 14;
    pub(super) const QUEUE_NOTIFY: u16 = 16;
    pub(super) const DEVICE_STATUS: u16 = 18;
    pub(super) const INTERRUPT_STATUS: u16 = 19;
    pub(super) const CONFIG_VECTOR: u16 = 20;
    pub(super) const QUEUE_VECTOR: u16 = 22;
    /// Where the device's configuration starts: the vectors are there with MSI-X only.
    pub(super) const CONFIG: u16 = 20;
    pub(super) const CONFIG_WITH_MESSAGES: u16 = 24;
}

/// What type of virtio device a function is, if it is one.
pub(crate) fn device_type(function: &Function<'_>) -> Option<DeviceType> {
    if function.vendor != VENDOR {
        None
    } else if MODERN_DEVICES.contains(&function.device) {
        Some(u32::from(function.device - MODERN_DEVICES.start()).into())
    } else if TRANSITIONAL_DEVICES.contains(&function.device) {
        Some(u32::from(function.subsystem()).into())
    } else {
        None
    }
}

/// Opens a virtio device by the best interface that it has.
///
/// # Errors
/// It has none that is complete, or no interrupt.
pub(crate) fn open(
    hardware: &Rc<dyn Hardware>,
    function: &Function<'_>,
    device_type: DeviceType,
) -> Result<Box<dyn Transport>, TransportError> {
    let structures = Structures::find(function)?;
    let interrupts = Interrupts::enable(&**hardware, function, device_type.queues())?;
    let location = format!("virtio-pci {} ({})", function.address, interrupts.kind());
    if let Some(structures) = structures {
        return Ok(Box::new(PciTransport {
            structures,
            interrupts,
            device_type,
            location,
            notify: Vec::new(),
        }));
    }
    match function.base_address(0) {
        Some(BaseAddress::Ports(base)) => Ok(Box::new(LegacyPciTransport {
            hardware: Rc::clone(hardware),
            base,
            interrupts,
            device_type,
            location,
        })),
        _ => {
            Err(TransportError::Layout("it has neither virtio capabilities nor legacy ports assigned".into()))
        }
    }
}

/// How the device's queues interrupt.
enum Interrupts {
    /// Each queue by a message of its own, as far as there are entries in the table.
    Messages { table: MessageTable, set: u16 },
    /// All by the function's pin.
    Line(Line),
}

impl Interrupts {
    fn enable(hardware: &dyn Hardware, function: &Function<'_>, queues: u16) -> Result<Self, TransportError> {
        function.enable(false);
        if let Some(table) = function.enable_msix() {
            let mut set = 0;
            while set < table.entries().min(queues) {
                let Some(message) = hardware.allocate_message() else { break };
                table.set(set, message);
                set += 1;
            }
            if set > 0 {
                return Ok(Self::Messages { table, set });
            }
            function.disable_msix();
        }
        let line = function.interrupt_line().ok_or_else(|| {
            TransportError::NoInterrupt("it has neither MSI-X nor an interrupt line".into())
        })?;
        function.enable(true);
        let count = hardware.enable_interrupt(line, Trigger::Level).map_err(TransportError::NoInterrupt)?;
        Ok(Self::Line(Line::new(count)))
    }

    /// The entry of the message table for a queue. Where there are too few, the last one is shared.
    fn vector(&self, queue: u16) -> Option<u16> {
        match self {
            Self::Messages { set, .. } => Some(queue.min(set - 1)),
            Self::Line(_) => None,
        }
    }

    /// Whether there was an interrupt that has to be acknowledged at the device.
    fn line_interrupted(&mut self) -> bool {
        match self {
            Self::Messages { .. } => false,
            Self::Line(line) => line.interrupted(),
        }
    }

    fn kind(&self) -> String {
        match self {
            Self::Messages { table, set } => format!("MSI-X, {set} of {} messages", table.entries()),
            Self::Line(_) => "INTx".into(),
        }
    }
}

/// The structures that the capabilities point to.
struct Structures {
    common: Registers,
    notify: Registers,
    notify_multiplier: usize,
    interrupt_status: Registers,
    /// Entropy devices have none.
    device: Option<Registers>,
}

impl Structures {
    /// The first of each kind whose memory is assigned; `None` if the device has no modern interface.
    fn find(function: &Function<'_>) -> Result<Option<Self>, TransportError> {
        let (mut common, mut notify, mut interrupt_status, mut device) = (None, None, None, None);
        for capability in function.capabilities().into_iter().filter(|found| found.id == CAPABILITY_VENDOR) {
            let at = |offset: u8| capability.offset.checked_add(offset).map(|at| function.read(at));
            let (Some(head), Some(place), Some(offset), Some(length)) = (at(0), at(4), at(8), at(12)) else {
                continue;
            };
            let map = || {
                let length = usize::try_from(length).unwrap_or(usize::MAX).min(MAX_STRUCTURE);
                if length == 0 { None } else { function.map(place as u8, offset, length) }
            };
            match (head >> 24) as u8 {
                COMMON if common.is_none() => common = map(),
                NOTIFY if notify.is_none() => {
                    let multiplier = at(16).unwrap_or(0) as usize;
                    notify = map().map(|registers| (registers, multiplier));
                }
                INTERRUPT_STATUS if interrupt_status.is_none() => interrupt_status = map(),
                DEVICE if device.is_none() => device = map(),
                _ => {}
            }
        }
        let (Some(common), Some((notify, notify_multiplier)), Some(interrupt_status)) =
            (common, notify, interrupt_status)
        else {
            return Ok(None);
        };
        if common.len() < common::LENGTH || interrupt_status.len() == 0 {
            return Err(TransportError::Layout("its virtio structures are too short".into()));
        }
        Ok(Some(Self { common, notify, notify_multiplier, interrupt_status, device }))
    }
}

/// A device with the modern interface.
struct PciTransport {
    structures: Structures,
    interrupts: Interrupts,
    device_type: DeviceType,
    location: String,
    /// Where each queue is notified, by its index.
    notify: Vec<Option<Registers>>,
}

impl PciTransport {
    fn write_address(&self, field: usize, address: u64) {
        self.structures.common.write(field, address as u32);
        self.structures.common.write(field + 4, (address >> 32) as u32);
    }
}

impl Transport for PciTransport {
    fn device_type(&self) -> DeviceType {
        self.device_type
    }

    fn location(&self) -> &str {
        &self.location
    }

    fn is_legacy(&self) -> bool {
        false
    }

    fn device_features(&mut self) -> u64 {
        let common = self.structures.common;
        common.write(common::DEVICE_FEATURE_SELECT, 0_u32);
        let low: u32 = common.read(common::DEVICE_FEATURE);
        common.write(common::DEVICE_FEATURE_SELECT, 1_u32);
        let high: u32 = common.read(common::DEVICE_FEATURE);
        u64::from(high) << 32 | u64::from(low)
    }

    fn set_driver_features(&mut self, features: u64) {
        let common = self.structures.common;
        common.write(common::DRIVER_FEATURE_SELECT, 0_u32);
        common.write(common::DRIVER_FEATURE, features as u32);
        common.write(common::DRIVER_FEATURE_SELECT, 1_u32);
        common.write(common::DRIVER_FEATURE, (features >> 32) as u32);
    }

    fn status(&mut self) -> u8 {
        self.structures.common.read(common::DEVICE_STATUS)
    }

    fn set_status(&mut self, status: u8) {
        self.structures.common.write(common::DEVICE_STATUS, status);
    }

    fn max_queue_size(&mut self, index: u16) -> u16 {
        self.structures.common.write(common::QUEUE_SELECT, index);
        self.structures.common.read(common::QUEUE_SIZE)
    }

    fn enable_queue(&mut self, index: u16, addresses: Addresses) -> Result<(), TransportError> {
        let common = self.structures.common;
        common.write(common::CONFIG_VECTOR, NO_VECTOR);
        common.write(common::QUEUE_SELECT, index);
        common.write(common::QUEUE_SIZE, addresses.size);
        self.write_address(common::QUEUE_DESCRIPTORS, addresses.descriptors);
        self.write_address(common::QUEUE_DRIVER, addresses.available);
        self.write_address(common::QUEUE_DEVICE, addresses.used);
        if let Some(vector) = self.interrupts.vector(index) {
            common.write(common::QUEUE_VECTOR, vector);
            if common.read::<u16>(common::QUEUE_VECTOR) != vector {
                return Err(TransportError::NoMessage(index));
            }
        }
        let offset: u16 = common.read(common::QUEUE_NOTIFY_OFFSET);
        let offset = usize::from(offset) * self.structures.notify_multiplier;
        if !offset.is_multiple_of(2) || offset + 2 > self.structures.notify.len() {
            return Err(TransportError::Layout(format!("queue {index} is notified outside of the device")));
        }
        let slot = usize::from(index);
        self.notify.resize(self.notify.len().max(slot + 1), None);
        self.notify[slot] = Some(self.structures.notify.part(offset, 2));
        common.write(common::QUEUE_ENABLE, 1_u16);
        Ok(())
    }

    fn notify(&mut self, index: u16) {
        if let Some(Some(register)) = self.notify.get(usize::from(index)) {
            register.write(0, index);
        }
    }

    fn acknowledge(&mut self) {
        if self.interrupts.line_interrupted() {
            // Reading clears it and takes the line down.
            let _causes: u8 = self.structures.interrupt_status.read(0);
        }
    }

    fn read_config(&mut self, offset: usize, width: usize, bytes: &mut [u8]) {
        match self.structures.device {
            Some(device) => device.read_bytes(offset, width, bytes),
            None => bytes.fill(0),
        }
    }

    fn config_generation(&mut self) -> u32 {
        u32::from(self.structures.common.read::<u8>(common::CONFIG_GENERATION))
    }
}

/// A device with the legacy interface only.
struct LegacyPciTransport {
    hardware: Rc<dyn Hardware>,
    base: u16,
    interrupts: Interrupts,
    device_type: DeviceType,
    location: String,
}

impl LegacyPciTransport {
    fn read(&self, register: u16, width: Width) -> u32 {
        self.hardware.read_port(self.base + register, width)
    }

    fn write(&self, register: u16, width: Width, value: u32) {
        self.hardware.write_port(self.base + register, width, value);
    }
}

impl Transport for LegacyPciTransport {
    fn device_type(&self) -> DeviceType {
        self.device_type
    }

    fn location(&self) -> &str {
        &self.location
    }

    fn is_legacy(&self) -> bool {
        true
    }

    fn device_features(&mut self) -> u64 {
        u64::from(self.read(legacy::DEVICE_FEATURES, Width::Double))
    }

    fn set_driver_features(&mut self, features: u64) {
        self.write(legacy::DRIVER_FEATURES, Width::Double, features as u32);
    }

    fn status(&mut self) -> u8 {
        self.read(legacy::DEVICE_STATUS, Width::Byte) as u8
    }

    fn set_status(&mut self, status: u8) {
        self.write(legacy::DEVICE_STATUS, Width::Byte, u32::from(status));
    }

    fn max_queue_size(&mut self, index: u16) -> u16 {
        self.write(legacy::QUEUE_SELECT, Width::Word, u32::from(index));
        self.read(legacy::QUEUE_SIZE, Width::Word) as u16
    }

    fn fixed_queue_size(&self) -> bool {
        true
    }

    fn enable_queue(&mut self, index: u16, addresses: Addresses) -> Result<(), TransportError> {
        self.write(legacy::QUEUE_SELECT, Width::Word, u32::from(index));
        if let Some(vector) = self.interrupts.vector(index) {
            self.write(legacy::CONFIG_VECTOR, Width::Word, u32::from(NO_VECTOR));
            self.write(legacy::QUEUE_VECTOR, Width::Word, u32::from(vector));
            if self.read(legacy::QUEUE_VECTOR, Width::Word) != u32::from(vector) {
                return Err(TransportError::NoMessage(index));
            }
        }
        let page = addresses.descriptors / ALIGNMENT as u64;
        self.write(legacy::QUEUE_ADDRESS, Width::Double, page as u32);
        Ok(())
    }

    fn notify(&mut self, index: u16) {
        self.write(legacy::QUEUE_NOTIFY, Width::Word, u32::from(index));
    }

    fn acknowledge(&mut self) {
        if self.interrupts.line_interrupted() {
            let _causes = self.read(legacy::INTERRUPT_STATUS, Width::Byte);
        }
    }

    fn read_config(&mut self, offset: usize, _width: usize, bytes: &mut [u8]) {
        let config = match self.interrupts {
            Interrupts::Messages { .. } => legacy::CONFIG_WITH_MESSAGES,
            Interrupts::Line(_) => legacy::CONFIG,
        };
        for (position, byte) in bytes.iter_mut().enumerate() {
            *byte = self.read(config + (offset + position) as u16, Width::Byte) as u8;
        }
    }

    fn config_generation(&mut self) -> u32 {
        0
    }
}
