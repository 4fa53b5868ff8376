//! A machine and devices of software, for tests: the other side of transport and virtqueue, written from the
//! specification and not from the driver.

use core::cell::{Cell, RefCell};
use core::sync::atomic::{AtomicU16, Ordering, fence};
use core::task::{Context, Waker};
use core::time::Duration;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::Wake;

use super::feature;
use super::hardware::{Hardware, InterruptCount, Message, Trigger, Width};
use super::queue::Addresses;
use super::transport::{DeviceType, Registers, Transport, TransportError, status};
use crate::device::{Clock, Instant, WallTime};
use crate::host::guest::pci::Address;

/// A machine with a PCI configuration space, memory for device registers, and interrupts that only count.
#[derive(Default)]
pub(crate) struct FakeHardware {
    config: RefCell<HashMap<(Address, u8), u32>>,
    selected: Cell<u32>,
    ports: RefCell<HashMap<u16, u32>>,
    regions: RefCell<BTreeMap<u64, (usize, usize)>>,
    pub lines: RefCell<Vec<(u32, Trigger)>>,
    pub messages: Cell<u32>,
    pub message_limit: Cell<u32>,
}

impl FakeHardware {
    /// Sets 32 bits of a function's configuration space; one whose identity is set exists.
    pub(crate) fn set_config(&self, address: Address, offset: u8, value: u32) {
        self.config.borrow_mut().insert((address, offset), value);
    }

    pub(crate) fn set_port(&self, port: u16, value: u32) {
        self.ports.borrow_mut().insert(port, value);
    }

    fn selected(&self) -> (Address, u8) {
        let selected = self.selected.get();
        let address = Address {
            bus: (selected >> 16) as u8,
            device: (selected >> 11) as u8 & 31,
            function: (selected >> 8) as u8 & 7,
        };
        (address, selected as u8 & 0xfc)
    }
}

impl Hardware for FakeHardware {
    fn map(&self, physical: u64, length: usize) -> Registers {
        const REGION: u64 = 1 << 16;
        let base = physical & !(REGION - 1);
        let offset = (physical - base) as usize;
        let mut regions = self.regions.borrow_mut();
        let (address, size) = *regions.entry(base).or_insert_with(|| {
            let words = vec![0_u64; (offset + length).max(REGION as usize).div_ceil(8)].leak();
            (words.as_mut_ptr().expose_provenance(), words.len() * 8)
        });
        assert!(offset + length <= size, "a mapping across regions");
        // SAFETY: the region was leaked, so it is there for ever, and only registers refer to it.
        unsafe { Registers::new(core::ptr::with_exposed_provenance_mut(address + offset), length) }
    }

    fn enable_interrupt(&self, line: u32, trigger: Trigger) -> Result<InterruptCount, String> {
        if line > 47 {
            return Err(format!("there is no line {line}"));
        }
        self.lines.borrow_mut().push((line, trigger));
        Ok(Box::new(|| 0))
    }

    fn allocate_message(&self) -> Option<Message> {
        let number = self.messages.get();
        (number < self.message_limit.get()).then(|| {
            self.messages.set(number + 1);
            Message { address: 0xfee0_0000, data: 0x40 + number }
        })
    }

    fn read_port(&self, port: u16, width: Width) -> u32 {
        if (port, width) == (0xcfc, Width::Double) {
            let (address, offset) = self.selected();
            let config = self.config.borrow();
            return match config.contains_key(&(address, 0)) {
                true => config.get(&(address, offset)).copied().unwrap_or(0),
                false => u32::MAX,
            };
        }
        self.ports.borrow().get(&port).copied().unwrap_or(u32::MAX)
    }

    fn write_port(&self, port: u16, _width: Width, value: u32) {
        match port {
            0xcf8 => self.selected.set(value),
            0xcfc => {
                let (address, offset) = self.selected();
                // The status in the upper half keeps its bits unless ones are written to them.
                let status = if offset == 4 { self.read_port(port, Width::Double) & 0xffff_0000 } else { 0 };
                self.set_config(
                    address,
                    offset,
                    status & !value | value & if offset == 4 { 0xffff } else { u32::MAX },
                );
            }
            _ => self.set_port(port, value),
        }
    }
}

/// A clock that moves a millisecond each time it is read, so that waits for a device that does not answer end.
#[derive(Default)]
pub(crate) struct TickingClock(Cell<Instant>);

impl TickingClock {
    pub(crate) fn advance(&self, duration: Duration) {
        self.0.set(self.0.get() + duration);
    }
}

impl Clock for TickingClock {
    fn now(&self) -> Instant {
        self.advance(Duration::from_millis(1));
        self.0.get()
    }

    fn wall(&self) -> WallTime {
        self.now().since(Instant::START)
    }

    fn set_wall(&self, _now: WallTime) {}
}

/// Counts wake-ups.
#[derive(Default)]
pub(crate) struct CountingWaker(AtomicUsize);

impl CountingWaker {
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Calls `poll` with a context that wakes this.
    pub(crate) fn with<T>(self: &Arc<Self>, poll: impl FnOnce(&mut Context<'_>) -> T) -> T {
        poll(&mut Context::from_waker(&Waker::from(Arc::clone(self))))
    }
}

impl Wake for CountingWaker {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// What a model device is and has been told. Shared by the driver's transport and the test.
pub(crate) struct ModelDevice {
    pub device_type: DeviceType,
    pub legacy: bool,
    pub offered: u64,
    pub accepted: u64,
    pub status: u8,
    pub config: Vec<u8>,
    pub queue_size: u16,
    pub queues: Vec<DeviceQueue>,
    pub notified: Vec<usize>,
    pub acknowledged: usize,
    /// It never comes out of reset.
    pub stuck: bool,
}

/// What a model device does when it is notified of a queue.
pub(crate) type Reaction = Box<dyn FnMut(&mut ModelDevice, u16)>;

impl ModelDevice {
    pub(crate) fn new(device_type: DeviceType, offered: u64) -> Self {
        Self {
            device_type,
            legacy: offered & feature::VERSION_1 == 0,
            offered,
            accepted: 0,
            status: 0,
            config: Vec::new(),
            queue_size: 256,
            queues: Vec::new(),
            notified: vec![0; 8],
            acknowledged: 0,
            stuck: false,
        }
    }

    pub(crate) fn shared(self) -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(self))
    }
}

/// The driver's way to a model device.
pub(crate) struct ModelTransport {
    device: Rc<RefCell<ModelDevice>>,
    reaction: Option<Reaction>,
}

impl ModelTransport {
    pub(crate) fn boxed(device: &Rc<RefCell<ModelDevice>>) -> Box<dyn Transport> {
        Box::new(Self { device: Rc::clone(device), reaction: None })
    }

    /// To a device that works its queues when notified.
    pub(crate) fn reacting(
        device: &Rc<RefCell<ModelDevice>>,
        reaction: impl FnMut(&mut ModelDevice, u16) + 'static,
    ) -> Box<dyn Transport> {
        Box::new(Self { device: Rc::clone(device), reaction: Some(Box::new(reaction)) })
    }
}

impl Transport for ModelTransport {
    fn device_type(&self) -> DeviceType {
        self.device.borrow().device_type
    }

    fn location(&self) -> &str {
        "model"
    }

    fn is_legacy(&self) -> bool {
        self.device.borrow().legacy
    }

    fn device_features(&mut self) -> u64 {
        self.device.borrow().offered
    }

    fn set_driver_features(&mut self, features: u64) {
        let mut device = self.device.borrow_mut();
        assert_eq!(features & !device.offered, 0, "features that were not offered");
        device.accepted = features;
    }

    fn status(&mut self) -> u8 {
        self.device.borrow().status
    }

    fn set_status(&mut self, status: u8) {
        let mut device = self.device.borrow_mut();
        if status == 0 {
            device.queues.clear();
            device.status = if device.stuck { device.status } else { 0 };
        } else {
            assert_eq!(device.status & !status, 0, "status bits are only added");
            device.status = status;
        }
    }

    fn max_queue_size(&mut self, _index: u16) -> u16 {
        self.device.borrow().queue_size
    }

    fn enable_queue(&mut self, index: u16, addresses: Addresses) -> Result<(), TransportError> {
        let mut device = self.device.borrow_mut();
        assert_eq!(usize::from(index), device.queues.len(), "queues are enabled in order");
        assert_eq!(device.status & status::DRIVER_OK, 0, "queues are enabled before the driver is ready");
        let event_index = device.accepted & feature::EVENT_IDX != 0;
        device.queues.push(DeviceQueue::new(addresses, event_index));
        Ok(())
    }

    fn notify(&mut self, index: u16) {
        let device = &mut *self.device.borrow_mut();
        assert_ne!(device.status & status::DRIVER_OK, 0, "no notification before the driver is ready");
        device.notified[usize::from(index)] += 1;
        if let Some(reaction) = &mut self.reaction {
            reaction(device, index);
        }
    }

    fn acknowledge(&mut self) {
        self.device.borrow_mut().acknowledged += 1;
    }

    fn read_config(&mut self, offset: usize, _width: usize, bytes: &mut [u8]) {
        let device = self.device.borrow();
        for (position, byte) in bytes.iter_mut().enumerate() {
            *byte = device.config.get(offset + position).copied().unwrap_or(0);
        }
    }

    fn config_generation(&mut self) -> u32 {
        0
    }
}

/// The device's side of a virtqueue.
pub(crate) struct DeviceQueue {
    addresses: Addresses,
    event_index: bool,
    next_available: u16,
    used: u16,
    /// The used index when an interrupt was last considered.
    signalled: u16,
}

/// A chain that the device has taken.
#[derive(Debug)]
pub(crate) struct Chain {
    pub head: u16,
    /// Address, length.
    pub readable: Vec<(u64, u32)>,
    pub writable: Vec<(u64, u32)>,
}

impl Chain {
    /// What the driver gave to read.
    pub(crate) fn read(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for &(address, length) in &self.readable {
            let pointer = core::ptr::with_exposed_provenance::<u8>(address as usize);
            // SAFETY: the driver lends this memory until the chain is given back.
            bytes.extend_from_slice(unsafe { core::slice::from_raw_parts(pointer, length as usize) });
        }
        bytes
    }

    /// Writes to the chain, from its writable start; returns how much found room.
    pub(crate) fn write(&self, mut bytes: &[u8]) -> u32 {
        let mut written = 0;
        for &(address, length) in &self.writable {
            let count = bytes.len().min(length as usize);
            let pointer = core::ptr::with_exposed_provenance_mut::<u8>(address as usize);
            // SAFETY: the driver lends this memory until the chain is given back.
            unsafe { pointer.copy_from_nonoverlapping(bytes.as_ptr(), count) };
            bytes = &bytes[count..];
            written += count as u32;
        }
        written
    }

    pub(crate) fn writable_length(&self) -> u32 {
        self.writable.iter().map(|(_, length)| length).sum()
    }
}

impl DeviceQueue {
    pub(crate) fn new(addresses: Addresses, event_index: bool) -> Self {
        assert!(addresses.descriptors.is_multiple_of(16) && addresses.used.is_multiple_of(4));
        Self { addresses, event_index, next_available: 0, used: 0, signalled: 0 }
    }

    fn field(&self, address: u64) -> &AtomicU16 {
        // SAFETY: the driver's rings are there for ever; these fields are accessed atomically on both sides.
        unsafe { AtomicU16::from_ptr(core::ptr::with_exposed_provenance_mut(address as usize)) }
    }

    fn descriptor(&self, index: u16) -> (u64, u32, u16, u16) {
        assert!(index < self.addresses.size, "a descriptor that does not exist");
        let pointer = core::ptr::with_exposed_provenance::<u8>(
            self.addresses.descriptors as usize + 16 * usize::from(index),
        );
        // SAFETY: the table has this descriptor, and the driver wrote it before it published the chain.
        unsafe {
            (
                pointer.cast::<u64>().read_volatile(),
                pointer.add(8).cast::<u32>().read_volatile(),
                pointer.add(12).cast::<u16>().read_volatile(),
                pointer.add(14).cast::<u16>().read_volatile(),
            )
        }
    }

    /// Takes the next chain that the driver published.
    pub(crate) fn take(&mut self) -> Option<Chain> {
        let available = self.addresses.available;
        if self.field(available + 2).load(Ordering::Acquire) == self.next_available {
            return None;
        }
        let slot = self.next_available & (self.addresses.size - 1);
        let head = self.field(available + 4 + 2 * u64::from(slot)).load(Ordering::Relaxed);
        self.next_available = self.next_available.wrapping_add(1);
        let (mut readable, mut writable) = (Vec::new(), Vec::new());
        let mut index = head;
        for _ in 0..self.addresses.size {
            let (address, length, flags, next) = self.descriptor(index);
            if flags & 2 != 0 {
                writable.push((address, length));
            } else {
                assert!(writable.is_empty(), "what is read comes before what is written");
                readable.push((address, length));
            }
            if flags & 1 == 0 {
                return Some(Chain { head, readable, writable });
            }
            index = next;
        }
        panic!("a chain that runs in a circle");
    }

    /// Gives a chain back.
    pub(crate) fn give(&mut self, head: u32, written: u32) {
        let slot = self.used & (self.addresses.size - 1);
        let element = self.addresses.used + 4 + 8 * u64::from(slot);
        let pointer = core::ptr::with_exposed_provenance_mut::<u32>(element as usize);
        // SAFETY: the used ring has this element, and the driver reads it only after the index has moved.
        unsafe {
            pointer.write_volatile(head);
            pointer.add(1).write_volatile(written);
        }
        self.set_used(self.used.wrapping_add(1));
    }

    /// Sets the used index, to what it should be or not.
    pub(crate) fn set_used(&mut self, index: u16) {
        self.used = index;
        self.field(self.addresses.used + 2).store(index, Ordering::Release);
    }

    /// Whether the driver is to be interrupted for what was given back since the last time this was asked.
    pub(crate) fn interrupts(&mut self) -> bool {
        fence(Ordering::SeqCst);
        let (old, new) = (core::mem::replace(&mut self.signalled, self.used), self.used);
        if old == new {
            return false;
        }
        if !self.event_index {
            return self.field(self.addresses.available).load(Ordering::Relaxed) & 1 == 0;
        }
        let event_address = self.addresses.available + 4 + 2 * u64::from(self.addresses.size);
        let event = self.field(event_address).load(Ordering::Relaxed);
        // The event's entry is among those given back since.
        event.wrapping_sub(old) < new.wrapping_sub(old)
    }

    /// Asks to be notified of the next chain. Returns whether there is one already.
    pub(crate) fn want_notification(&mut self) -> bool {
        if self.event_index {
            let event = self.addresses.used + 4 + 8 * u64::from(self.addresses.size);
            self.field(event).store(self.next_available, Ordering::Relaxed);
        } else {
            self.field(self.addresses.used).store(0, Ordering::Relaxed);
        }
        fence(Ordering::SeqCst);
        self.field(self.addresses.available + 2).load(Ordering::Acquire) != self.next_available
    }

    /// Wants no notifications.
    pub(crate) fn refuse_notification(&mut self) {
        if self.event_index {
            let event = self.addresses.used + 4 + 8 * u64::from(self.addresses.size);
            self.field(event).store(self.next_available.wrapping_sub(1), Ordering::Relaxed);
        } else {
            self.field(self.addresses.used).store(1, Ordering::Relaxed);
        }
    }
}
