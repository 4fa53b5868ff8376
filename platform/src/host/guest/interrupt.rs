//! Interrupts: the local controller and its timer, the input/output controllers, and message-signalled interrupts.
//!
//! They are enabled only in [`halt`], at the idle point. Each then only notes which it was and ends the sleep
//! (`boot/x86_64/traps.s`); devices are served by [`Host::wait`](crate::host::Host::wait), and the interrupt is
//! acknowledged after that. So a level-triggered one is quiet again by then, and no handler runs in between anything.
//!
//! Sources: Intel SDM vol. 3, chapter 11 (local APIC, messages); Intel 82093AA (I/O APIC).

use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering};

use super::processor::{self, read_msr, time_stamp, write_msr};
use super::{acpi, clock, mmio};
use crate::boot::BootCell;
use crate::device::Instant;

/// How an interrupt is signalled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// By a change: each is latched once. virtio over MMIO, as Linux takes it from the command line; the event device.
    Edge,
    /// By a state, until the device is served: PCI's INTx, ACPI's SCI.
    Level,
}

/// What a device writes, and where to, for an interrupt of its own (MSI, MSI-X).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Msi {
    /// Physical address.
    pub address: u64,
    /// Value.
    pub data: u32,
}

/// Why an interrupt cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InterruptError {
    /// No interrupt controller takes this global system interrupt.
    NoSuchInterrupt(u32),
    /// All vectors are in use.
    NoVector,
}

impl fmt::Display for InterruptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchInterrupt(interrupt) => {
                write!(f, "no interrupt controller takes global system interrupt {interrupt}")
            }
            Self::NoVector => f.write_str("all interrupt vectors are in use"),
        }
    }
}

impl std::error::Error for InterruptError {}

/// An interrupt that has been enabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    vector: u8,
}

impl Line {
    /// How often it came so far, wrapping. A driver whose registers are slow to read looks at them when this changed.
    #[must_use]
    pub fn count(self) -> u32 {
        COUNTS[usize::from(self.vector)].load(Ordering::Relaxed)
    }
}

const TIMER_VECTOR: u8 = 0x20;
/// Vectors of devices. Higher ones come first, which does not matter here.
const FIRST_VECTOR: u8 = 0x30;
const LAST_VECTOR: u8 = 0xef;
const SPURIOUS_VECTOR: u8 = 0xff;

/// Most input/output controllers. A machine with more leaves those unused.
const CONTROLLER_LIMIT: usize = 8;

static COUNTS: [AtomicU32; 256] = [const { AtomicU32::new(0) }; 256];

unsafe extern "C" {
    static mut interrupt_vector: u8;
    fn halt_until_interrupt();
}

struct State {
    controllers: [Option<Controller>; CONTROLLER_LIMIT],
    /// The global system interrupt of each vector from [`FIRST_VECTOR`] on, or [`MESSAGE`].
    vectors: [u32; 256],
    /// Whether each vector's line is level-triggered.
    levels: [bool; 256],
    next_vector: u8,
    timer: Timer,
}

/// Stands in [`State::vectors`] for a vector that no input/output controller raises.
const MESSAGE: u32 = u32::MAX;

#[derive(Clone, Copy)]
enum Timer {
    /// By the time stamp counter's value.
    Deadline,
    /// By a countdown, of this many per second.
    Countdown(u64),
}

static STATE: BootCell<State> = BootCell::new(State {
    controllers: [None; CONTROLLER_LIMIT],
    vectors: [MESSAGE; 256],
    levels: [false; 256],
    next_vector: FIRST_VECTOR,
    timer: Timer::Countdown(0),
});

/// Switches the controllers on, everything masked.
///
/// # Safety
/// Called once, in a guest.
pub(super) unsafe fn initialise() {
    const PIC_DATA: [u16; 2] = [0x21, 0xa1];
    // SAFETY: The caller's word; the registers are where the architecture or the tables say.
    unsafe {
        for port in PIC_DATA {
            super::port::outb(port, 0xff);
        }
        local::enable();
        let state = STATE.get_mut();
        state.timer = local::start_timer();
        let mut slots = state.controllers.iter_mut();
        for description in acpi::io_apics() {
            if let Some(slot) = slots.next() {
                *slot = Some(Controller::new(description));
            }
        }
        if state.controllers[0].is_none() {
            state.controllers[0] = Some(Controller::new(DEFAULT_CONTROLLER));
        }
    }
}

/// Lets global system interrupt `interrupt` end the sleep. Enabling it again gives the same line: devices may share one.
///
/// # Errors
/// [`InterruptError`].
pub fn enable_gsi(interrupt: u32, trigger: Trigger) -> Result<Line, InterruptError> {
    // SAFETY: The one thread is here, and nothing below comes back.
    let state = unsafe { STATE.get_mut() };
    let known = state.vectors.iter().position(|&known| known == interrupt && known != MESSAGE);
    if let Some(vector) = known {
        return Ok(Line { vector: vector as u8 });
    }
    let controller = state
        .controllers
        .iter()
        .flatten()
        .copied()
        .find(|controller| controller.takes(interrupt))
        .ok_or(InterruptError::NoSuchInterrupt(interrupt))?;
    let line = state.allocate(interrupt)?;
    state.levels[usize::from(line.vector)] = trigger == Trigger::Level;
    let active_low = match acpi::interrupt_flags(interrupt).unwrap_or(0) & 3 {
        1 => false,
        3 => true,
        // As the bus has it: ISA's are active high, PCI's low (MultiProcessor Specification 1.4, 4.3.4).
        _ => trigger == Trigger::Level && interrupt >= ISA_INTERRUPTS,
    };
    controller.route(interrupt, line.vector, trigger, active_low);
    Ok(line)
}

/// Interrupts below this number are ISA's.
const ISA_INTERRUPTS: u32 = 16;

/// Gives an interrupt of its own to a device that signals by message.
///
/// # Errors
/// [`InterruptError::NoVector`].
pub fn allocate_msi() -> Result<(Msi, Line), InterruptError> {
    const MESSAGE_ADDRESS: u64 = 0xfee0_0000;
    // SAFETY: The one thread is here, and nothing below comes back.
    let line = unsafe { STATE.get_mut() }.allocate(MESSAGE)?;
    let address = MESSAGE_ADDRESS | u64::from(local::identity()) << 12;
    Ok((Msi { address, data: u32::from(line.vector) }, line))
}

impl State {
    fn allocate(&mut self, interrupt: u32) -> Result<Line, InterruptError> {
        let vector = self.next_vector;
        if vector > LAST_VECTOR {
            return Err(InterruptError::NoVector);
        }
        self.next_vector += 1;
        self.vectors[usize::from(vector)] = interrupt;
        Ok(Line { vector })
    }
}

/// What ended a sleep. It has to be acknowledged before the next, after the devices have been served.
#[derive(Debug)]
#[must_use]
pub(super) struct Taken {
    vector: u8,
}

impl Taken {
    /// Whether this was an interrupt of a device, not the timer.
    pub(super) fn is_device(&self) -> bool {
        (FIRST_VECTOR..=LAST_VECTOR).contains(&self.vector)
    }

    /// Whether it was one that stays until its device is served.
    pub(super) fn is_level(&self) -> bool {
        // SAFETY: The one thread is here.
        self.is_device() && unsafe { STATE.get() }.levels[usize::from(self.vector)]
    }

    /// Lets the next interrupt come.
    pub(super) fn acknowledge(self) {
        if self.vector != SPURIOUS_VECTOR {
            local::end_of_interrupt();
        }
    }

    /// Masks the line for good: nobody quietens it.
    pub(super) fn mask(&self) {
        // SAFETY: The one thread is here.
        let state = unsafe { STATE.get() };
        let interrupt = state.vectors[usize::from(self.vector)];
        if let Some(controller) =
            state.controllers.iter().flatten().find(|controller| controller.takes(interrupt))
        {
            controller.mask(interrupt);
        }
    }
}

/// Sleeps until an interrupt, or until `until`. An interrupt that came before ends the sleep at once.
pub(super) fn halt(until: Option<Instant>) -> Taken {
    // SAFETY: The one thread is here.
    local::set_timer(unsafe { STATE.get() }.timer, until);
    // SAFETY: The entries only note the vector; every register of a device has been served or will be.
    let vector = unsafe {
        halt_until_interrupt();
        (&raw const interrupt_vector).read_volatile()
    };
    let count = &COUNTS[usize::from(vector)];
    count.store(count.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    Taken { vector }
}

/// The local controller.
mod local {
    use super::*;

    const BASE: u64 = 0xfee0_0000;
    const SIZE: usize = 0x400;

    const IDENTITY: usize = 0x20;
    const TASK_PRIORITY: usize = 0x80;
    const END_OF_INTERRUPT: usize = 0xb0;
    const SPURIOUS: usize = 0xf0;
    const TIMER_ENTRY: usize = 0x320;
    const INITIAL_COUNT: usize = 0x380;
    const CURRENT_COUNT: usize = 0x390;
    const DIVIDER: usize = 0x3e0;

    const MSR_TSC_DEADLINE: u32 = 0x6e0;

    fn read(register: usize) -> u32 {
        // SAFETY: `enable` mapped the registers; all that are read here exist and have no effect.
        unsafe { core::ptr::with_exposed_provenance::<u32>(BASE as usize + register).read_volatile() }
    }

    fn write(register: usize, value: u32) {
        // SAFETY: `enable` mapped the registers; interrupts are off but in `halt`.
        unsafe {
            core::ptr::with_exposed_provenance_mut::<u32>(BASE as usize + register).write_volatile(value);
        }
    }

    /// # Safety
    /// Called once, in a guest.
    pub(super) unsafe fn enable() {
        const MSR_BASE: u32 = 0x1b;
        const GLOBAL_ENABLE: u64 = 1 << 11;
        const EXTENDED: u64 = 1 << 10;
        const SOFTWARE_ENABLE: u32 = 1 << 8;
        // SAFETY: The caller's word. Leaving the extended mode goes by way of "off" (10.12.5).
        unsafe {
            let base = read_msr(MSR_BASE);
            if base & EXTENDED != 0 {
                write_msr(MSR_BASE, base & !(EXTENDED | GLOBAL_ENABLE));
            }
            write_msr(MSR_BASE, BASE | base & 0xfff & !EXTENDED | GLOBAL_ENABLE);
            let _ = mmio::map(BASE, SIZE);
        }
        write(TASK_PRIORITY, 0);
        write(SPURIOUS, SOFTWARE_ENABLE | u32::from(SPURIOUS_VECTOR));
    }

    /// Number of this processor, for the destination of interrupts.
    pub(super) fn identity() -> u8 {
        (read(IDENTITY) >> 24) as u8
    }

    pub(super) fn end_of_interrupt() {
        write(END_OF_INTERRUPT, 0);
    }

    /// Chooses the timer's mode, and measures its frequency where it has one of its own.
    pub(super) fn start_timer() -> Timer {
        const TSC_DEADLINE: u32 = 1 << 24;
        const DEADLINE_MODE: u32 = 2 << 17;
        const MASKED: u32 = 1 << 16;
        const DIVIDE_BY_1: u32 = 0xb;
        /// For how long to measure: a percent is exact enough, because whoever wakes too early sleeps again.
        const MEASURED_NANOS: u64 = 500_000;
        if processor::identify(1, 0).ecx & TSC_DEADLINE != 0 {
            write(TIMER_ENTRY, DEADLINE_MODE | u32::from(TIMER_VECTOR));
            return Timer::Deadline;
        }
        write(DIVIDER, DIVIDE_BY_1);
        write(TIMER_ENTRY, MASKED | u32::from(TIMER_VECTOR));
        write(INITIAL_COUNT, u32::MAX);
        let start = clock::monotonic_nanos();
        let mut now = start;
        while now - start < MEASURED_NANOS {
            now = clock::monotonic_nanos();
        }
        let counted = u64::from(u32::MAX - read(CURRENT_COUNT));
        write(INITIAL_COUNT, 0);
        write(TIMER_ENTRY, u32::from(TIMER_VECTOR));
        Timer::Countdown((counted * 1_000_000_000 / (now - start)).max(1))
    }

    /// Arms the timer for `until`, or stops it.
    pub(super) fn set_timer(timer: Timer, until: Option<Instant>) {
        let nanos = until.map(|until| until.as_nanos().saturating_sub(clock::monotonic_nanos()));
        match timer {
            Timer::Deadline => {
                // Zero disarms; a deadline that has passed fires at once.
                let deadline =
                    nanos.map_or(0, |nanos| time_stamp().saturating_add(clock::ticks(nanos)).max(1));
                // SAFETY: The processor has the register (`start_timer`).
                unsafe { write_msr(MSR_TSC_DEADLINE, deadline) };
            }
            Timer::Countdown(frequency) => {
                // A countdown too long for the register ends early, and whoever waits sleeps again.
                let count = nanos.map_or(0, |nanos| {
                    let count = u128::from(nanos) * u128::from(frequency) / 1_000_000_000;
                    u32::try_from(count).unwrap_or(u32::MAX).max(1)
                });
                write(INITIAL_COUNT, count);
            }
        }
    }
}

/// Where the first input/output controller is on every PC.
const DEFAULT_CONTROLLER: acpi::IoApic = acpi::IoApic { address: 0xfec0_0000, first_interrupt: 0 };

/// An input/output controller.
#[derive(Clone, Copy)]
struct Controller {
    registers: *mut u32,
    first: u32,
    count: u32,
}

impl Controller {
    const SIZE: usize = 0x20;
    /// Index of the data register, in words from the first.
    const DATA: usize = 4;
    const VERSION: u32 = 1;
    const TABLE: u32 = 0x10;
    const MASKED: u32 = 1 << 16;
    const LEVEL: u32 = 1 << 15;
    const ACTIVE_LOW: u32 = 1 << 13;

    /// # Safety
    /// There is such a controller.
    unsafe fn new(description: acpi::IoApic) -> Self {
        // SAFETY: The caller's.
        let registers = unsafe { mmio::map(description.address, Self::SIZE) }.cast();
        let mut controller = Self { registers, first: description.first_interrupt, count: 0 };
        controller.count = (controller.read(Self::VERSION) >> 16 & 0xff) + 1;
        for index in 0..controller.count {
            controller.write(Self::TABLE + 2 * index, Self::MASKED);
        }
        controller
    }

    fn takes(&self, interrupt: u32) -> bool {
        interrupt >= self.first && interrupt - self.first < self.count
    }

    fn route(&self, interrupt: u32, vector: u8, trigger: Trigger, active_low: bool) {
        let register = Self::TABLE + 2 * (interrupt - self.first);
        let level = if trigger == Trigger::Level { Self::LEVEL } else { 0 };
        let polarity = if active_low { Self::ACTIVE_LOW } else { 0 };
        self.write(register + 1, u32::from(local::identity()) << 24);
        self.write(register, u32::from(vector) | level | polarity);
    }

    fn mask(&self, interrupt: u32) {
        self.write(Self::TABLE + 2 * (interrupt - self.first), Self::MASKED);
    }

    fn read(&self, register: u32) -> u32 {
        // SAFETY: `new` mapped the two words.
        unsafe {
            self.registers.write_volatile(register);
            self.registers.add(Self::DATA).read_volatile()
        }
    }

    fn write(&self, register: u32, value: u32) {
        // SAFETY: `new` mapped the two words; interrupts are off but in `halt`.
        unsafe {
            self.registers.write_volatile(register);
            self.registers.add(Self::DATA).write_volatile(value);
        }
    }
}
