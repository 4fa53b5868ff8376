//! How a driver reaches its device: registers, features, queues, notifications and interrupts.

pub(crate) mod mmio;
pub(crate) mod pci;

use core::fmt;
use core::time::Duration;

use super::feature;
use super::hardware::InterruptCount;
use super::queue::{Addresses, Queue};
use crate::device::Clock;

/// How long a device may take to reset. Real ones take microseconds; a host under load may not run the device's thread
/// at once.
const RESET_TIME: Duration = Duration::from_secs(2);

/// The device's status register (virtio 1.2, 2.1).
pub(crate) mod status {
    pub(crate) const ACKNOWLEDGE: u8 = 1;
    pub(crate) const DRIVER: u8 = 2;
    pub(crate) const DRIVER_OK: u8 = 4;
    pub(crate) const FEATURES_OK: u8 = 8;
    pub(crate) const FAILED: u8 = 128;
}

/// What a device is for (virtio 1.2, 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeviceType {
    Net,
    Block,
    Entropy,
    /// One without a driver here.
    Other(u32),
}

impl DeviceType {
    /// How many queues our driver uses, 0 where there is no driver.
    pub(crate) fn queues(self) -> u16 {
        match self {
            Self::Net => 2,
            Self::Block | Self::Entropy => 1,
            Self::Other(_) => 0,
        }
    }
}

impl From<u32> for DeviceType {
    fn from(number: u32) -> Self {
        match number {
            1 => Self::Net,
            2 => Self::Block,
            4 => Self::Entropy,
            other => Self::Other(other),
        }
    }
}

impl fmt::Display for DeviceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Net => f.write_str("network device"),
            Self::Block => f.write_str("block device"),
            Self::Entropy => f.write_str("entropy device"),
            Self::Other(number) => write!(f, "device of type {number}"),
        }
    }
}

/// Why a device cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TransportError {
    /// It did not come out of reset in time.
    ResetTimedOut,
    /// It refuses the features we accept; what it offered.
    FeaturesRefused(u64),
    /// It lacks a queue that its type requires.
    NoQueue(u16),
    /// Its interrupts cannot be had.
    NoInterrupt(String),
    /// It has no message left for this queue's interrupts.
    NoMessage(u16),
    /// Its registers are not laid out as the specification says.
    Layout(String),
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ResetTimedOut => write!(f, "the device did not reset within {RESET_TIME:?}"),
            Self::FeaturesRefused(offered) => {
                write!(
                    f,
                    "the device offers the features {offered:#x} and insists on some that are not supported"
                )
            }
            Self::NoQueue(index) => write!(f, "the device has no queue {index}"),
            Self::NoInterrupt(why) => f.write_str(why),
            Self::NoMessage(index) => write!(f, "the device refuses an MSI-X message for queue {index}"),
            Self::Layout(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for TransportError {}

/// A device's registers, by one of the four ways to them: MMIO and PCI, legacy and modern.
pub(crate) trait Transport {
    /// What the device is for.
    fn device_type(&self) -> DeviceType;

    /// Where it is, for the log: `virtio-mmio 0xfeb02e00` or `virtio-pci 00:02.0`.
    fn location(&self) -> &str;

    /// Whether it speaks the legacy interface (virtio 1.2, 7.4): no `VERSION_1`, and no `FEATURES_OK`.
    fn is_legacy(&self) -> bool;

    /// The features that the device offers.
    fn device_features(&mut self) -> u64;

    /// Tells the device which features the driver accepts.
    fn set_driver_features(&mut self, features: u64);

    /// Reads the status register.
    fn status(&mut self) -> u8;

    /// Writes the status register; 0 resets.
    fn set_status(&mut self, status: u8);

    /// The largest size of a queue, 0 if there is none. Where [`Transport::fixed_queue_size`] it is the size.
    fn max_queue_size(&mut self, index: u16) -> u16;

    /// Whether the driver cannot choose a queue's size.
    fn fixed_queue_size(&self) -> bool {
        false
    }

    /// Gives the device a queue, and has its interrupts delivered.
    ///
    /// # Errors
    /// The device has no way to be notified of it or to interrupt.
    fn enable_queue(&mut self, index: u16, addresses: Addresses) -> Result<(), TransportError>;

    /// Tells the device that there is something new in a queue.
    fn notify(&mut self, index: u16);

    /// Tells the device that its interrupt has been seen, if there was one since the last time. Nothing to do where
    /// each queue has a message of its own. To be called before the queues are looked at.
    fn acknowledge(&mut self);

    /// Reads bytes of the device's configuration; `width` (1, 2 or 4) is that of the field they belong to.
    fn read_config(&mut self, offset: usize, width: usize, bytes: &mut [u8]);

    /// A number that changes when the configuration does; always 0 on legacy devices.
    fn config_generation(&mut self) -> u32;
}

/// Reads a field of the configuration, `width` bytes little-endian in registers of at most four bytes, so that its parts
/// belong together (virtio 1.2, 2.5.1).
pub(crate) fn read_config(transport: &mut dyn Transport, offset: usize, width: usize) -> u64 {
    /// A configuration that changes this often while it is read is not going to stand still.
    const ATTEMPTS: usize = 8;
    let mut last = None;
    for _ in 0..ATTEMPTS {
        let before = transport.config_generation();
        let mut bytes = [0; 8];
        transport.read_config(offset, width.min(4), &mut bytes[..width]);
        let value = u64::from_le_bytes(bytes);
        // Legacy devices have no generation: read until two readings agree.
        let stable = if transport.is_legacy() && width > 4 {
            last == Some(value)
        } else {
            before == transport.config_generation()
        };
        last = Some(value);
        if stable {
            break;
        }
    }
    last.unwrap_or_default()
}

/// Resets the device and waits until it has.
///
/// # Errors
/// [`TransportError::ResetTimedOut`]: it may still access memory lent to it.
pub(crate) fn reset(transport: &mut dyn Transport, clock: &dyn Clock) -> Result<(), TransportError> {
    transport.set_status(0);
    let deadline = clock.now() + RESET_TIME;
    while transport.status() != 0 {
        if clock.now() >= deadline {
            return Err(TransportError::ResetTimedOut);
        }
        core::hint::spin_loop();
    }
    Ok(())
}

/// The interrupt line of a device, perhaps shared with others.
pub(crate) struct Line {
    count: InterruptCount,
    seen: u32,
}

impl Line {
    pub(crate) fn new(count: InterruptCount) -> Self {
        let seen = count();
        Self { count, seen }
    }

    /// Whether there was an interrupt since the last time this was asked. Knowing it saves the reading of the device's
    /// register, which leaves the virtual machine.
    pub(crate) fn interrupted(&mut self) -> bool {
        let count = (self.count)();
        core::mem::replace(&mut self.seen, count) != count
    }
}

/// Brings the device to where its queues can be set up, with those of the `wanted` features that it offers
/// (virtio 1.2, 3.1.1). Returns the features agreed.
///
/// # Errors
/// The device does not reset, or insists on other features.
pub(crate) fn negotiate(
    transport: &mut dyn Transport,
    clock: &dyn Clock,
    wanted: u64,
) -> Result<u64, TransportError> {
    reset(transport, clock)?;
    let mut progress = status::ACKNOWLEDGE;
    transport.set_status(progress);
    progress |= status::DRIVER;
    transport.set_status(progress);
    let offered = transport.device_features();
    let legacy = transport.is_legacy();
    let accepted = if legacy {
        // Bits from 32 up do not exist there.
        offered & wanted & u64::from(u32::MAX)
    } else {
        offered & (wanted | feature::VERSION_1)
    };
    transport.set_driver_features(accepted);
    if !legacy {
        progress |= status::FEATURES_OK;
        transport.set_status(progress);
        if accepted & feature::VERSION_1 == 0 || transport.status() & status::FEATURES_OK == 0 {
            transport.set_status(progress | status::FAILED);
            return Err(TransportError::FeaturesRefused(offered));
        }
    }
    Ok(accepted)
}

/// Makes queue `index`, of at most `limit` descriptors where the driver may choose.
///
/// # Errors
/// [`TransportError::NoQueue`].
pub(crate) fn create_queue(
    transport: &mut dyn Transport,
    index: u16,
    limit: u16,
    features: u64,
) -> Result<Queue, TransportError> {
    let offered = transport.max_queue_size(index);
    let fixed = transport.fixed_queue_size();
    let size = if fixed { offered } else { offered.min(limit) };
    if size == 0 || size > super::queue::MAX_SIZE || (fixed && !size.is_power_of_two()) {
        return Err(TransportError::NoQueue(index));
    }
    // The largest power of two within.
    let size = 1 << size.ilog2();
    let queue = Queue::new(size, features & feature::EVENT_IDX != 0);
    transport.enable_queue(index, queue.addresses())?;
    Ok(queue)
}

/// Lets the device work, once its queues are set up.
pub(crate) fn start(transport: &mut dyn Transport) {
    let progress = transport.status();
    transport.set_status(progress | status::DRIVER_OK);
}

/// Device registers in memory: a mapped range, accessed in the width of the register and not past the end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Registers {
    base: *mut u8,
    length: usize,
}

impl Registers {
    /// # Safety
    /// `base..base + length` must be mapped for ever and be registers of a device (or memory that nothing else uses).
    pub(crate) unsafe fn new(base: *mut u8, length: usize) -> Self {
        Self { base, length }
    }

    /// The part from `offset` on, `length` bytes long.
    ///
    /// # Panics
    /// If that is not within.
    pub(crate) fn part(self, offset: usize, length: usize) -> Self {
        assert!(offset <= self.length && length <= self.length - offset, "registers past the end");
        // SAFETY: the part is within the range.
        Self { base: unsafe { self.base.add(offset) }, length }
    }

    fn pointer<T>(self, offset: usize) -> *mut T {
        assert!(
            offset <= self.length && size_of::<T>() <= self.length - offset,
            "register {offset:#x} past the end"
        );
        // SAFETY: the offset is within the range.
        let pointer = unsafe { self.base.add(offset) }.cast::<T>();
        assert!(pointer.is_aligned(), "register {offset:#x} not aligned");
        pointer
    }

    /// Reads a register.
    ///
    /// # Panics
    /// If it is past the end or not aligned.
    pub(crate) fn read<T: Register>(self, offset: usize) -> T {
        // SAFETY: `pointer` checks range and alignment; the range is mapped, and any bits are a valid number.
        unsafe { self.pointer::<T>(offset).read_volatile() }
    }

    /// Writes a register.
    ///
    /// # Panics
    /// If it is past the end or not aligned.
    pub(crate) fn write<T: Register>(self, offset: usize, value: T) {
        // SAFETY: as in `read`; what the device does on a write is confined to memory lent to it.
        unsafe { self.pointer::<T>(offset).write_volatile(value) }
    }

    /// Bytes in the range.
    pub(crate) fn len(self) -> usize {
        self.length
    }

    /// Reads the bytes of a configuration in registers of `width`; what lies past the end reads as zero.
    pub(crate) fn read_bytes(self, offset: usize, width: usize, bytes: &mut [u8]) {
        for (position, chunk) in bytes.chunks_mut(width).enumerate() {
            let at = offset + position * width;
            let value = if at + width > self.length {
                0
            } else {
                match width {
                    1 => u32::from(self.read::<u8>(at)),
                    2 => u32::from(self.read::<u16>(at)),
                    _ => self.read::<u32>(at),
                }
            };
            chunk.copy_from_slice(&value.to_le_bytes()[..chunk.len()]);
        }
    }
}

/// Numbers that a register may hold.
pub(crate) trait Register: Copy {}
impl Register for u8 {}
impl Register for u16 {}
impl Register for u32 {}
