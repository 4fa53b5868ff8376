//! Time in a guest: the time stamp counter, scaled as KVM says (kvm-clock) or as measured at start.
//!
//! Reading the clock is one `rdtsc`, one multiplication and a few loads; there is no system call and no exit to the
//! hypervisor.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering, compiler_fence};

use super::port::{inb, outb};
use super::power::refuse;
use super::processor::{self, time_stamp};
use crate::boot::BootCell;
use crate::device::{Clock, Instant, WallTime};

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// The clock of a guest. All of them are the same clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct GuestClock;

impl Clock for GuestClock {
    fn now(&self) -> Instant {
        Instant::from_nanos(monotonic_nanos())
    }

    fn wall(&self) -> WallTime {
        WallTime::from_nanos(wall_nanos())
    }

    fn set_wall(&self, now: WallTime) {
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        WALL_AT_START.store(now.saturating_sub(monotonic_nanos()), Ordering::Relaxed);
    }
}

/// Nanoseconds of wall time at the start of the monotonic clock.
static WALL_AT_START: AtomicU64 = AtomicU64::new(0);
/// What the source said at the start of the monotonic clock, in nanoseconds.
static START: AtomicU64 = AtomicU64::new(0);
/// The latest answer: the clock never goes back, whatever the source does.
static LATEST: AtomicU64 = AtomicU64::new(0);
/// Nanoseconds for a tick of the counter, as a fraction of 2^32.
static NANOS_PER_TICK: AtomicU64 = AtomicU64::new(0);
/// Whether [`KVM_TIME`] is the source.
static KVM: AtomicBool = AtomicBool::new(false);

/// Nanoseconds since start.
#[inline]
pub(crate) fn monotonic_nanos() -> u64 {
    let now = source_nanos().wrapping_sub(START.load(Ordering::Relaxed));
    // The wrapped value of a source that went back before its start is no time either.
    let now = if now > u64::MAX / 2 { 0 } else { now };
    let latest = LATEST.load(Ordering::Relaxed).max(now);
    LATEST.store(latest, Ordering::Relaxed);
    latest
}

/// Nanoseconds since 1970, without leap seconds.
pub(crate) fn wall_nanos() -> u64 {
    WALL_AT_START.load(Ordering::Relaxed).saturating_add(monotonic_nanos())
}

/// Ticks of the time stamp counter in `nanos` nanoseconds.
pub(crate) fn ticks(nanos: u64) -> u64 {
    let per_tick = NANOS_PER_TICK.load(Ordering::Relaxed).max(1);
    u64::try_from((u128::from(nanos) << 32) / u128::from(per_tick)).unwrap_or(u64::MAX)
}

fn source_nanos() -> u64 {
    if KVM.load(Ordering::Relaxed) {
        kvm_nanos()
    } else {
        scale(time_stamp(), NANOS_PER_TICK.load(Ordering::Relaxed))
    }
}

fn scale(ticks: u64, nanos_per_tick: u64) -> u64 {
    ((u128::from(ticks) * u128::from(nanos_per_tick)) >> 32) as u64
}

/// Finds the sources and starts the clock.
pub(crate) fn initialise() {
    let wall_at_source_zero = start_kvm_clock();
    if wall_at_source_zero.is_none() {
        let Some(frequency) = known_frequency().or_else(measured_frequency) else {
            refuse(format_args!(
                "no clock: there is neither kvm-clock nor a known frequency nor an interval timer (PIT)"
            ));
        };
        NANOS_PER_TICK.store(((NANOS_PER_SECOND << 32) / frequency).max(1), Ordering::Relaxed);
    }
    let start = source_nanos();
    START.store(start, Ordering::Relaxed);
    let wall = match wall_at_source_zero {
        Some(zero) => zero.saturating_add(start),
        None => real_time_clock().unwrap_or(0).saturating_mul(NANOS_PER_SECOND),
    };
    WALL_AT_START.store(wall, Ordering::Relaxed);
}

// --- kvm-clock (Linux, Documentation/virt/kvm/x86/msr.rst)

const MSR_KVM_WALL_CLOCK: u32 = 0x4b56_4d00;
const MSR_KVM_SYSTEM_TIME: u32 = 0x4b56_4d01;

/// `struct pvclock_vcpu_time_info`. KVM writes it whenever the virtual processor runs again on changed terms.
#[repr(C, align(64))]
struct KvmTime {
    version: u32,
    padding: u32,
    time_stamp: u64,
    system_time: u64,
    multiplier: u32,
    shift: i8,
    flags: u8,
    padding_2: [u8; 2],
}

/// `struct pvclock_wall_clock`.
#[repr(C, align(16))]
struct KvmWallClock {
    version: u32,
    seconds: u32,
    nanos: u32,
}

static KVM_TIME: BootCell<KvmTime> = BootCell::new(KvmTime {
    version: 0,
    padding: 0,
    time_stamp: 0,
    system_time: 0,
    multiplier: 0,
    shift: 0,
    flags: 0,
    padding_2: [0; 2],
});
static KVM_WALL: BootCell<KvmWallClock> = BootCell::new(KvmWallClock { version: 0, seconds: 0, nanos: 0 });

/// Lets KVM keep the time, if this is KVM. Returns the wall time in nanoseconds at zero of its clock.
fn start_kvm_clock() -> Option<u64> {
    const FEATURE_CLOCK_SOURCE_2: u32 = 1 << 3;
    const ENABLE: u64 = 1;
    let (base, _) = processor::hypervisor(b"KVMKVMKVM\0\0\0")?;
    if core::arch::x86_64::__cpuid(base + 1).eax & FEATURE_CLOCK_SOURCE_2 == 0 {
        return None;
    }
    // SAFETY: KVM has the registers; it writes to the two statics, which are mapped at their physical addresses and read
    // only by volatile loads.
    let (multiplier, shift, wall) = unsafe {
        processor::write_msr(MSR_KVM_WALL_CLOCK, KVM_WALL.as_ptr() as u64);
        processor::write_msr(MSR_KVM_SYSTEM_TIME, KVM_TIME.as_ptr() as u64 | ENABLE);
        let time = KVM_TIME.as_ptr();
        (
            (&raw const (*time).multiplier).read_volatile(),
            (&raw const (*time).shift).read_volatile(),
            KVM_WALL.as_ptr().read_volatile(),
        )
    };
    if multiplier == 0 {
        return None;
    }
    let per_tick = match shift {
        0.. => u64::from(multiplier) << shift.min(31),
        _ => u64::from(multiplier) >> shift.unsigned_abs().min(31),
    };
    NANOS_PER_TICK.store(per_tick, Ordering::Relaxed);
    KVM.store(true, Ordering::Relaxed);
    Some(u64::from(wall.seconds) * NANOS_PER_SECOND + u64::from(wall.nanos))
}

fn kvm_nanos() -> u64 {
    let time = KVM_TIME.as_ptr();
    // The version is odd while KVM writes, and changes when it has written. KVM writes only while this processor does
    // not run, so the loop ends at its second round at the latest.
    loop {
        // SAFETY: The static is always there; loads are volatile because KVM writes to it.
        unsafe {
            let version = (&raw const (*time).version).read_volatile();
            compiler_fence(Ordering::Acquire);
            let stamp = (&raw const (*time).time_stamp).read_volatile();
            let system_time = (&raw const (*time).system_time).read_volatile();
            let multiplier = (&raw const (*time).multiplier).read_volatile();
            let shift = (&raw const (*time).shift).read_volatile();
            let ticks = time_stamp().wrapping_sub(stamp);
            compiler_fence(Ordering::Acquire);
            if version & 1 == 0 && version == (&raw const (*time).version).read_volatile() {
                let ticks =
                    if shift >= 0 { ticks << (shift & 63) } else { ticks >> (shift.unsigned_abs() & 63) };
                return system_time.wrapping_add(scale(ticks, u64::from(multiplier)));
            }
        }
        core::hint::spin_loop();
    }
}

// --- the frequency of the time stamp counter

/// The frequency in Hz that the processor or the hypervisor tells.
fn known_frequency() -> Option<u64> {
    // Leaf 0x15: the crystal's frequency and its ratio to the counter (Intel SDM vol. 2, CPUID).
    let crystal = processor::identify(0x15, 0);
    if crystal.eax != 0 && crystal.ebx != 0 && crystal.ecx != 0 {
        return Some(u64::from(crystal.ecx) * u64::from(crystal.ebx) / u64::from(crystal.eax));
    }
    // The timing leaf that VMware defined and QEMU gives with `vmware-cpuid-freq`: kHz.
    const TIMING: u32 = 0x10;
    let (base, last) =
        processor::hypervisor(b"KVMKVMKVM\0\0\0").or_else(|| processor::hypervisor(b"VMwareVMware"))?;
    let kilohertz = (last >= base + TIMING).then(|| core::arch::x86_64::__cpuid(base + TIMING).eax)?;
    (kilohertz != 0).then(|| u64::from(kilohertz) * 1000)
}

/// Measures the frequency in Hz until two measurements agree: on a busy host either can be wrong by any factor, when this
/// processor does not run between reading the one clock and the other.
fn measured_frequency() -> Option<u64> {
    const ATTEMPTS: usize = 16;
    /// Two measurements agree that differ by less than this part. Such of 5 ms do by far, if nothing comes between.
    const AGREEMENT: u64 = 256;
    let mut last = measure_frequency()?;
    for _ in 0..ATTEMPTS {
        let next = measure_frequency()?;
        if last.abs_diff(next) < last / AGREEMENT {
            return Some(last.midpoint(next));
        }
        last = next;
    }
    Some(last)
}

/// Measures the frequency in Hz against the interval timer, for 5 ms.
fn measure_frequency() -> Option<u64> {
    const TIMER_HZ: u64 = 1_193_182;
    /// How long to measure, in ticks of the timer. Reading it takes some microseconds in a virtual machine.
    const MEASURED: u16 = (TIMER_HZ / 200) as u16;
    /// When to give up, in ticks of the counter: over 100 ms at up to 10 GHz.
    const PATIENCE: u64 = 1_000_000_000;
    const COMMAND: u16 = 0x43;
    const CHANNEL_0: u16 = 0x40;
    const LATCH_CHANNEL_0: u8 = 0;
    const CHANNEL_0_COUNT_DOWN: u8 = 0x30;

    // Channel 0 and its latch exist wherever there is a timer; the port to read channel 2 does not.
    // SAFETY: Nobody else uses the interval timer, and its interrupt is masked.
    let count = || unsafe {
        outb(COMMAND, LATCH_CHANNEL_0);
        u16::from_le_bytes([inb(CHANNEL_0), inb(CHANNEL_0)])
    };
    // SAFETY: as above.
    unsafe {
        outb(COMMAND, CHANNEL_0_COUNT_DOWN);
        outb(CHANNEL_0, 0xff);
        outb(CHANNEL_0, 0xff);
    }
    let first = count();
    let start = time_stamp();
    loop {
        let elapsed = first.wrapping_sub(count());
        let ticks = time_stamp().wrapping_sub(start);
        if (MEASURED..u16::MAX / 2).contains(&elapsed) {
            return Some(ticks * TIMER_HZ / u64::from(elapsed));
        }
        if ticks > PATIENCE {
            return None;
        }
    }
}

// --- the battery-backed clock (MC146818)

/// Seconds since 1970 by the PC's real-time clock, which is set to UTC in a virtual machine.
fn real_time_clock() -> Option<u64> {
    /// A reading is taken twice and has to agree: the clock may have ticked in between.
    const ATTEMPTS: usize = 8;
    (0..ATTEMPTS).find_map(|_| {
        let reading = read_registers()?;
        (read_registers()? == reading).then(|| seconds_of(reading)).flatten()
    })
}

/// Seconds, minutes, hours, day, month, year of the century, and status register B.
fn read_registers() -> Option<[u8; 7]> {
    const INDEX: u16 = 0x70;
    const VALUE: u16 = 0x71;
    const STATUS_A: u8 = 10;
    const UPDATING: u8 = 0x80;
    const NO_DEVICE: u8 = 0xff;
    /// An update takes 2 ms at most; this is 10 ms or more at up to 5 GHz.
    const PATIENCE: u64 = 50_000_000;
    let read = |register: u8| {
        // SAFETY: Nobody else uses the real-time clock.
        unsafe {
            outb(INDEX, register);
            inb(VALUE)
        }
    };
    let start = time_stamp();
    while read(STATUS_A) & UPDATING != 0 {
        if read(STATUS_A) == NO_DEVICE || time_stamp().wrapping_sub(start) > PATIENCE {
            return None;
        }
    }
    Some([0, 2, 4, 7, 8, 9, 11].map(read))
}

fn seconds_of(registers: [u8; 7]) -> Option<u64> {
    const BINARY: u8 = 1 << 2;
    const TWENTY_FOUR_HOURS: u8 = 1 << 1;
    const AFTERNOON: u8 = 0x80;
    let status = registers[6];
    let number =
        |value: u8| u64::from(if status & BINARY != 0 { value } else { (value >> 4) * 10 + (value & 15) });
    let [second, minute, _, day, month, year] = [0, 1, 2, 3, 4, 5].map(|index| number(registers[index]));
    let hour = match (status & TWENTY_FOUR_HOURS != 0, registers[2] & AFTERNOON != 0) {
        (true, _) => number(registers[2]),
        (false, afternoon) => number(registers[2] & !AFTERNOON) % 12 + if afternoon { 12 } else { 0 },
    };
    let valid =
        second < 61 && minute < 60 && hour < 24 && (1..=31).contains(&day) && (1..=12).contains(&month);
    valid.then(|| days_since_1970(2000 + year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar, by counting years from March so that a leap day is the last.
fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    /// From 0000-03-01 to 1970-01-01.
    const EPOCH: u64 = 719_468;
    365 * year + year / 4 - year / 100 + year / 400 + (month * 306 + 5) / 10 + day - 1 - EPOCH
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_the_real_time_clock() {
        // 2026-11-23 15:30:45, packed decimals, 24 hours.
        assert_eq!(seconds_of([0x45, 0x30, 0x15, 0x23, 0x11, 0x26, 0b010]), Some(1_795_447_845));
        // The same in binary with 12 hours.
        assert_eq!(seconds_of([45, 30, 3 | 0x80, 23, 11, 26, 0b100]), Some(1_795_447_845));
        // Midnight and noon in 12 hours.
        assert_eq!(seconds_of([0, 0, 12, 1, 1, 0, 0b100]), Some(946_684_800));
        assert_eq!(seconds_of([0, 0, 12 | 0x80, 1, 1, 0, 0b100]), Some(946_684_800 + 12 * 3600));
        assert_eq!(seconds_of([0x99; 7]), None);
    }

    #[test]
    fn leap_days_count() {
        assert_eq!(days_since_1970(2000, 3, 1) - days_since_1970(2000, 2, 28), 2);
        assert_eq!(days_since_1970(2001, 3, 1) - days_since_1970(2001, 2, 28), 1);
        assert_eq!(days_since_1970(1970, 1, 1), 0);
    }

    #[test]
    fn scaling_keeps_nanoseconds_over_a_century() {
        // 3 GHz: a third of a nanosecond for each tick.
        let per_tick = (NANOS_PER_SECOND << 32) / 3_000_000_000;
        let century = 100 * 365 * 86_400_u64;
        let nanos = scale(century * 3_000_000_000, per_tick);
        let error = (century * NANOS_PER_SECOND).abs_diff(nanos);
        assert!(error < century, "less than a nanosecond in each second, but {error}");
    }
}
