//! What the drivers need of the machine: its ports, its physical addresses and its interrupts.

use super::transport::Registers;

/// How many bytes a port access moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Width {
    /// 8 bits.
    Byte,
    /// 16 bits.
    Word,
    /// 32 bits.
    Double,
}

/// How an interrupt line signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trigger {
    /// By going up: virtio-mmio.
    Edge,
    /// By being asserted, until every device on it is acknowledged: PCI's INTx.
    Level,
}

/// A message-signalled interrupt: what a device writes, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub address: u64,
    pub data: u32,
}

/// Tells how many interrupts there have been from a source, wrapping.
pub(crate) type InterruptCount = Box<dyn Fn() -> u32>;

/// The machine, as far as drivers go.
pub(crate) trait Hardware {
    /// Maps device registers, uncached, for ever. Mapping a page again is harmless.
    fn map(&self, physical: u64, length: usize) -> Registers;

    /// Has the interrupts of a line (a "global system interrupt") end the sleep of the idle point.
    ///
    /// # Errors
    /// Why that cannot be, for the log.
    fn enable_interrupt(&self, line: u32, trigger: Trigger) -> Result<InterruptCount, String>;

    /// A message to give to a device; `None` when there are no more.
    fn allocate_message(&self) -> Option<Message>;

    /// Reads a port.
    fn read_port(&self, port: u16, width: Width) -> u32;

    /// Writes a port.
    fn write_port(&self, port: u16, width: Width, value: u32);
}
