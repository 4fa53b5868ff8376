//! The Linux system calls that glibc and `std` make, answered in ring 0.
//!
//! They serve start-up, console output, panics and the end of the program; the data path makes none. What is not
//! listed is answered with `ENOSYS`, for which `std` has an error each time: there are no files, sockets, processes
//! or threads in a guest.
//!
//! The code here runs inside whatever made the call, perhaps inside the allocator or thread-local set-up. So: no panic,
//! no allocation, no thread locals, and **no system call**. One that happens nevertheless ends the virtual machine with
//! a message.

mod memory;

use core::arch::global_asm;
use core::fmt::Write;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::boot::memory_map::Range;
use crate::boot::x86_64::facts;
use crate::host::guest::power::{Ending, end, end_with_status};
use crate::host::guest::serial::Serial;
use crate::host::guest::{clock, entropy, processor, serial};
pub(crate) use memory::{BREAK_AREA, MAP_AREA};

/// Room for the vector state. XCR0 enables x87, SSE, AVX and AVX-512 (`entry.s`), whose standard form ends at byte
/// 2,688 (Intel SDM vol. 1, 13.4 and 13.5).
const VECTOR_STATE: usize = 4096;

global_asm!(
    include_str!("entry.s"),
    system_call = sym system_call,
    vector_state_size = const VECTOR_STATE,
);

unsafe extern "C" {
    fn system_call_entry();
}

/// The caller's registers, as `entry.s` pushes them.
#[derive(Debug)]
#[repr(C)]
struct Call {
    rbx: u64,
    r9: u64,
    r8: u64,
    r10: u64,
    rdx: u64,
    rsi: u64,
    rdi: u64,
    rax: u64,
    r11: u64,
    rcx: u64,
}

/// Makes the `syscall` instruction work, and gives the calls for memory their areas.
///
/// # Safety
/// Called once at boot; the areas are mapped RAM that belongs to nobody else.
pub(crate) unsafe fn initialise(break_area: Range, map_area: Range) {
    const STAR: u32 = 0xc000_0081;
    const LSTAR: u32 = 0xc000_0082;
    const FMASK: u32 = 0xc000_0084;
    /// Code segment 8, and data segment 16 after it.
    const SEGMENTS: u64 = 8 << 32;
    /// Trap, interrupt, direction and alignment check flags are off in the shim.
    const FLAGS_OFF: u64 = 0x4_0700;
    // SAFETY: The entry is ready for calls from ring 0, and the descriptor table is loaded.
    unsafe {
        memory::initialise(break_area, map_area);
        processor::write_msr(STAR, SEGMENTS);
        processor::write_msr(LSTAR, system_call_entry as *const () as u64);
        processor::write_msr(FMASK, FLAGS_OFF);
    }
}

/// Errors as Linux numbers them, negative as system calls return them.
pub(crate) mod errno {
    pub(crate) const ENOENT: i64 = -2;
    pub(crate) const EBADF: i64 = -9;
    pub(crate) const EAGAIN: i64 = -11;
    pub(crate) const ENOMEM: i64 = -12;
    pub(crate) const EACCES: i64 = -13;
    pub(crate) const EINVAL: i64 = -22;
    pub(crate) const ENOTTY: i64 = -25;
    pub(crate) const ESPIPE: i64 = -29;
    pub(crate) const ENOSYS: i64 = -38;
}

static ANSWERING: AtomicBool = AtomicBool::new(false);

unsafe extern "C" fn system_call(call: &Call) -> i64 {
    if ANSWERING.swap(true, Ordering::Relaxed) {
        let _ = writeln!(
            Serial,
            "\nskerry: nested system call {} from {:#x}, made while another was being answered",
            call.rax, call.rcx
        );
        end(Ending::NestedSystemCall);
    }
    // SAFETY: The caller vouches for its pointers, as under Linux; here nothing else can check them.
    let result = unsafe { answer(call) };
    ANSWERING.store(false, Ordering::Relaxed);
    result
}

/// # Safety
/// Pointers among the arguments are valid for what the call does with them.
unsafe fn answer(call: &Call) -> i64 {
    let (first, second, third, fourth) = (call.rdi, call.rsi, call.rdx, call.r10);
    // SAFETY: The caller's, each time.
    unsafe {
        match i64::try_from(call.rax).unwrap_or(-1) {
            libc::SYS_read => {
                if first == 0 {
                    0
                } else {
                    errno::EBADF
                }
            }
            libc::SYS_write => write(first, second, third),
            libc::SYS_writev => write_vector(first, second, third),
            libc::SYS_close => 0,
            libc::SYS_poll => poll(first, second),
            libc::SYS_lseek => errno::ESPIPE,
            libc::SYS_fstat => errno::EBADF,
            libc::SYS_ioctl => errno::ENOTTY,
            libc::SYS_open
            | libc::SYS_openat
            | libc::SYS_stat
            | libc::SYS_newfstatat
            | libc::SYS_statx
            | libc::SYS_readlink
            | libc::SYS_readlinkat
            | libc::SYS_getcwd
            | libc::SYS_access => errno::ENOENT,

            libc::SYS_brk => memory::brk(first),
            libc::SYS_mmap => memory::map(second, third, fourth),
            libc::SYS_munmap => memory::unmap(first, second),
            libc::SYS_mprotect => memory::protect(first, second, third),
            libc::SYS_madvise => 0,

            libc::SYS_rt_sigaction => zero(third, SIGNAL_ACTION),
            libc::SYS_rt_sigprocmask => zero(third, SIGNAL_SET),
            libc::SYS_sigaltstack => signal_stack(second),
            libc::SYS_kill | libc::SYS_tkill => signal(second),
            libc::SYS_tgkill => signal(third),

            libc::SYS_arch_prctl => thread_pointer(first, second),
            libc::SYS_set_tid_address | libc::SYS_gettid | libc::SYS_getpid => THREAD,
            libc::SYS_set_robust_list | libc::SYS_sched_yield => 0,
            libc::SYS_getuid | libc::SYS_geteuid | libc::SYS_getgid | libc::SYS_getegid => 0,
            libc::SYS_sched_getaffinity => affinity(second, third),
            libc::SYS_prlimit64 => limit(second, fourth),
            libc::SYS_futex => futex(call),

            libc::SYS_clock_gettime => clock_time(first, second),
            libc::SYS_clock_getres => clock_resolution(second),
            libc::SYS_getrandom => random(first, second, third),

            libc::SYS_exit | libc::SYS_exit_group => end_with_status(first as u8),
            #[cfg(feature = "provoke")]
            provoke::NESTED_SYSTEM_CALL => provoke::nest(),
            _ => errno::ENOSYS,
        }
    }
}

/// The one thread's number.
const THREAD: i64 = 1;
/// Bytes in the kernel's `struct sigaction`.
const SIGNAL_ACTION: usize = 32;
/// Bytes in the kernel's `sigset_t`.
const SIGNAL_SET: usize = 8;

/// Fills an optional result with zeros.
unsafe fn zero(address: u64, length: usize) -> i64 {
    if address != 0 {
        // SAFETY: The caller of the system call vouches for its result's place.
        unsafe { pointer::<u8>(address).write_bytes(0, length) };
    }
    0
}

unsafe fn write(descriptor: u64, text: u64, length: u64) -> i64 {
    if descriptor != 1 && descriptor != 2 {
        return errno::EBADF;
    }
    // SAFETY: The caller of the system call vouches for its text.
    serial::write(unsafe { core::slice::from_raw_parts(pointer::<u8>(text), length as usize) });
    length as i64
}

unsafe fn write_vector(descriptor: u64, parts: u64, count: u64) -> i64 {
    let mut written = 0;
    for index in 0..count {
        // SAFETY: The caller of the system call vouches for its vector and the parts.
        let result = unsafe {
            let part = &*pointer::<libc::iovec>(parts).add(index as usize);
            write(descriptor, part.iov_base as u64, part.iov_len as u64)
        };
        if result < 0 {
            return result;
        }
        written += result;
    }
    written
}

/// `std` asks at start whether descriptors 0 to 2 are open: nothing is wrong with them, nor ready.
unsafe fn poll(descriptors: u64, count: u64) -> i64 {
    for index in 0..count {
        // SAFETY: The caller of the system call vouches for its array.
        unsafe { (*pointer::<libc::pollfd>(descriptors).add(index as usize)).revents = 0 };
    }
    0
}

unsafe fn signal_stack(old: u64) -> i64 {
    if old != 0 {
        let none = libc::stack_t { ss_sp: core::ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
        // SAFETY: The caller of the system call vouches for its result's place.
        unsafe { pointer::<libc::stack_t>(old).write(none) };
    }
    0
}

/// A signal to the only thread there is: `abort`.
fn signal(number: u64) -> ! {
    let _ = writeln!(
        Serial,
        "\nskerry: the image ended itself with signal {number}{}",
        match number as i32 {
            libc::SIGABRT => " (abort)",
            _ => "",
        }
    );
    end(Ending::Aborted)
}

unsafe fn thread_pointer(operation: u64, value: u64) -> i64 {
    const ARCH_SET_FS: u64 = 0x1002;
    const FS_BASE: u32 = 0xc000_0100;
    if operation != ARCH_SET_FS {
        return errno::EINVAL;
    }
    // SAFETY: That is what the call is for.
    unsafe { processor::write_msr(FS_BASE, value) };
    0
}

unsafe fn affinity(size: u64, mask: u64) -> i64 {
    const MASK_SIZE: u64 = 8;
    if size < MASK_SIZE {
        return errno::EINVAL;
    }
    // SAFETY: The caller of the system call vouches for its result's place.
    unsafe { pointer::<u64>(mask).write(1) };
    MASK_SIZE as i64
}

unsafe fn limit(resource: u64, result: u64) -> i64 {
    if result != 0 {
        let current = match u32::try_from(resource) {
            Ok(libc::RLIMIT_STACK) => facts().main_stack.memory.length(),
            _ => libc::RLIM_INFINITY,
        };
        // SAFETY: The caller of the system call vouches for its result's place.
        unsafe {
            pointer::<libc::rlimit64>(result)
                .write(libc::rlimit64 { rlim_cur: current, rlim_max: libc::RLIM_INFINITY });
        }
    }
    0
}

/// Waking is nothing to do. Waiting cannot end: nobody else would wake the one thread.
unsafe fn futex(call: &Call) -> i64 {
    match (call.rsi & 0x7f) as i32 {
        libc::FUTEX_WAKE => 0,
        libc::FUTEX_WAIT | libc::FUTEX_WAIT_BITSET => {
            // SAFETY: The caller of the system call vouches for its word.
            let now = unsafe { pointer::<u32>(call.rdi).read_volatile() };
            if now != call.rdx as u32 {
                return errno::EAGAIN;
            }
            let _ = writeln!(
                Serial,
                "\nskerry: futex wait from {:#x}: the only thread would wait for itself for ever",
                call.rcx
            );
            end(Ending::FutexWait)
        }
        _ => errno::ENOSYS,
    }
}

unsafe fn clock_time(clock_id: u64, result: u64) -> i64 {
    let nanos = match clock_id as i32 {
        libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE => clock::wall_nanos(),
        libc::CLOCK_MONOTONIC
        | libc::CLOCK_MONOTONIC_RAW
        | libc::CLOCK_MONOTONIC_COARSE
        | libc::CLOCK_BOOTTIME
        | libc::CLOCK_PROCESS_CPUTIME_ID
        | libc::CLOCK_THREAD_CPUTIME_ID => clock::monotonic_nanos(),
        _ => return errno::EINVAL,
    };
    // SAFETY: The caller of the system call vouches for its result's place.
    unsafe {
        pointer::<libc::timespec>(result).write(libc::timespec {
            tv_sec: (nanos / 1_000_000_000) as i64,
            tv_nsec: (nanos % 1_000_000_000) as i64,
        });
    }
    0
}

unsafe fn clock_resolution(result: u64) -> i64 {
    if result != 0 {
        // SAFETY: The caller of the system call vouches for its result's place.
        unsafe { pointer::<libc::timespec>(result).write(libc::timespec { tv_sec: 0, tv_nsec: 1 }) };
    }
    0
}

unsafe fn random(buffer: u64, length: u64, flags: u64) -> i64 {
    // glibc asks for a little randomness at start and lives without it.
    if !entropy::is_seeded() && flags & u64::from(libc::GRND_NONBLOCK) != 0 {
        return errno::EAGAIN;
    }
    // SAFETY: The caller of the system call vouches for its buffer.
    entropy::fill(unsafe { core::slice::from_raw_parts_mut(pointer::<u8>(buffer), length as usize) });
    length as i64
}

fn pointer<T>(address: u64) -> *mut T {
    core::ptr::with_exposed_provenance_mut(address as usize)
}

/// A call that breaks the rule of this module, for the test that it is noticed.
#[cfg(feature = "provoke")]
pub(crate) mod provoke {
    /// A number that Linux does not use.
    pub(crate) const NESTED_SYSTEM_CALL: i64 = 0x5eed;

    /// Makes a system call from within one.
    pub(super) unsafe fn nest() -> i64 {
        // SAFETY: `sched_yield` takes no arguments; the image ends.
        unsafe { libc::syscall(libc::SYS_sched_yield) }
    }
}
