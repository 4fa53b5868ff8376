//! Descriptor tables: the task state segment with its interrupt stacks, and the gates.

use core::arch::asm;

use super::stacks;
use crate::boot::BootCell;

unsafe extern "C" {
    static mut global_descriptors: [u64; 6];
    static exception_entries: u8;
    static interrupt_entries: u8;
}

/// Selector of the code segment in `global_descriptors`.
const CODE: u64 = 8;
/// Selector of the task state segment.
const TASK: u16 = 32;
/// Bytes from one entry in `traps.s` to the next.
const ENTRY_SIZE: u64 = 16;
/// Exceptions come before interrupts in the table.
const EXCEPTIONS: u64 = 32;

/// Non-maskable interrupt, double fault and machine check: they may strike during the report of another exception.
const EMERGENCIES: [u64; 3] = [2, 8, 18];

/// Intel SDM vol. 3, 8.7: only the interrupt stacks matter in ring 0.
#[repr(C, packed(4))]
struct TaskState {
    reserved: u32,
    privileged_stacks: [u64; 3],
    reserved_2: u64,
    interrupt_stacks: [u64; 7],
    reserved_3: u64,
    reserved_4: u16,
    io_map: u16,
}

#[repr(C, align(16))]
struct Gates([[u64; 2]; 256]);

#[repr(C, packed)]
struct Pointer {
    limit: u16,
    base: u64,
}

static TASK_STATE: BootCell<TaskState> = BootCell::new(TaskState {
    reserved: 0,
    privileged_stacks: [0; 3],
    reserved_2: 0,
    interrupt_stacks: [0; 7],
    reserved_3: 0,
    reserved_4: 0,
    io_map: size_of::<TaskState>() as u16,
});
static GATES: BootCell<Gates> = BootCell::new(Gates([[0; 2]; 256]));

/// Loads the task register and the interrupt descriptor table. From here on exceptions are reported.
///
/// # Safety
/// Called once, at boot, with the descriptor table of `entry.s` loaded.
pub(super) unsafe fn load() {
    // SAFETY: Boot is the only user of the statics; the tables stay where they are for good.
    unsafe {
        let task = TASK_STATE.get_mut();
        task.interrupt_stacks[0] = stacks::exception().top();
        task.interrupt_stacks[1] = stacks::emergency().top();

        let base = TASK_STATE.as_ptr() as u64;
        let limit = size_of::<TaskState>() as u64 - 1;
        const AVAILABLE_TASK: u64 = 0x89 << 40;
        let low = limit | (base & 0xff_ffff) << 16 | AVAILABLE_TASK | (base >> 24 & 0xff) << 56;
        (&raw mut global_descriptors[4]).write(low);
        (&raw mut global_descriptors[5]).write(base >> 32);

        let exceptions = (&raw const exception_entries).addr() as u64;
        let interrupts = (&raw const interrupt_entries).addr() as u64;
        for (vector, gate) in (0_u64..).zip(&mut GATES.get_mut().0) {
            *gate = if vector < EXCEPTIONS {
                let stack = if EMERGENCIES.contains(&vector) { 2 } else { 1 };
                interrupt_gate(exceptions + vector * ENTRY_SIZE, stack)
            } else {
                // On the stack of whoever halts, in a called function: no red zone is in use there.
                interrupt_gate(interrupts + (vector - EXCEPTIONS) * ENTRY_SIZE, 0)
            };
        }
        let pointer = Pointer { limit: size_of::<Gates>() as u16 - 1, base: GATES.as_ptr() as u64 };
        asm!("ltr {0:x}", "lidt [{1}]", in(reg) TASK, in(reg) &raw const pointer, options(nostack, preserves_flags));
    }
}

/// An interrupt gate (Intel SDM vol. 3, 7.14.1) to `handler`, on interrupt stack `stack`.
fn interrupt_gate(handler: u64, stack: u64) -> [u64; 2] {
    const PRESENT_INTERRUPT_GATE: u64 = 0x8e << 40;
    [
        handler & 0xffff | CODE << 16 | stack << 32 | PRESENT_INTERRUPT_GATE | (handler >> 16 & 0xffff) << 48,
        handler >> 32,
    ]
}

/// Points the stack for exceptions at nowhere, so that the next exception becomes a double fault.
#[cfg(feature = "provoke")]
pub(crate) fn break_exception_stack() {
    // SAFETY: The image is about to end; the processor reads the field at the next exception.
    unsafe { TASK_STATE.get_mut().interrupt_stacks[0] = 0x800 };
}

/// Empties the interrupt descriptor table and raises an exception: the processor shuts down, which resets the machine.
pub(crate) fn triple_fault() -> ! {
    let nothing = Pointer { limit: 0, base: 0 };
    // SAFETY: Nothing is to run after this.
    unsafe { asm!("lidt [{0}]", "int3", "2: hlt", "jmp 2b", in(reg) &raw const nothing, options(noreturn)) }
}
