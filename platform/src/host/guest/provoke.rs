//! Faults on purpose, for the tests that each of them ends the image as designed. Only with the feature `provoke`.

use core::arch::asm;

use crate::boot::x86_64::{descriptors, facts, stacks};

/// The stacks of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stack {
    /// The program's own.
    Main,
    /// The one boot ran on.
    Boot,
    /// The one that system calls are answered on.
    SystemCall,
    /// The one that exceptions are reported on.
    Exception,
    /// The one for emergencies.
    Emergency,
}

/// Writes to the null page.
pub fn write_null() {
    // SAFETY: None; the fault is the purpose.
    unsafe { asm!("mov byte ptr [{}], 1", in(reg) 8_usize, options(nostack)) };
}

/// Writes to the program's text.
pub fn write_text() {
    write_to(write_text as *const () as usize);
}

/// Writes to the program's constants.
pub fn write_constant() {
    static CONSTANT: [u8; 16] = *b"never to change.";
    write_to((&raw const CONSTANT).addr());
}

fn write_to(address: usize) {
    // SAFETY: None; the fault is the purpose.
    unsafe { asm!("mov byte ptr [{}], 1", in(reg) address, options(nostack)) };
}

/// Executes bytes on the heap.
pub fn execute_data() {
    const RETURN: u8 = 0xc3;
    let code = Box::new([RETURN; 16]);
    // SAFETY: None; the fault is the purpose.
    unsafe { asm!("call {}", in(reg) code.as_ptr(), clobber_abi("C")) };
}

/// Executes an instruction that is none.
pub fn bad_instruction() {
    // SAFETY: None; the fault is the purpose.
    unsafe { asm!("ud2", options(nostack)) };
}

/// Raises an exception that cannot be delivered.
pub fn double_fault() {
    descriptors::break_exception_stack();
    bad_instruction();
}

/// Pushes on a stack until its end.
pub fn overflow(stack: Stack) {
    let [boot, system_call, exception, emergency] = stacks::fixed();
    let stack = match stack {
        Stack::Main => facts().main_stack,
        Stack::Boot => boot,
        Stack::SystemCall => system_call,
        Stack::Exception => exception,
        Stack::Emergency => emergency,
    };
    // SAFETY: None; the fault is the purpose. The main stack below this frame is unused.
    unsafe {
        if stack.memory.contains(here()) {
            asm!("2: push 0", "jmp 2b", options(noreturn));
        }
        asm!("mov rsp, {}", "2: push 0", "jmp 2b", in(reg) stack.top(), options(noreturn));
    }
}

fn here() -> u64 {
    let stack: u64;
    // SAFETY: Reading the stack pointer has no effect.
    unsafe { asm!("mov {}, rsp", out(reg) stack, options(nomem, nostack, preserves_flags)) };
    stack
}

/// Makes a system call while one is being answered.
pub fn nested_system_call() {
    // SAFETY: The call takes no arguments.
    unsafe { libc::syscall(crate::shim::provoke::NESTED_SYSTEM_CALL) };
}

/// Waits on a futex that nobody will wake.
pub fn futex_wait() {
    let word = 0_u32;
    // SAFETY: The word lives as long as the call.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            &raw const word,
            libc::FUTEX_WAIT,
            0,
            core::ptr::null::<libc::timespec>(),
        );
    }
}

/// Makes `rounds` system calls with values in vector registers and in the red zone, and returns after how many of them a
/// value had changed. It is zero: Linux keeps both.
#[must_use]
pub fn clobbered_by_system_calls(rounds: u64) -> u64 {
    let mut bad = 0;
    for round in 1..=rounds {
        let mut intact: u64 = 1;
        // SAFETY: `getpid` has no effect. The red zone is this asm block's own: it is not `nostack`, so nothing of the
        // compiler's lies there.
        unsafe {
            asm!(
                "movq xmm9, {value}",
                "movq xmm15, {value}",
                "mov [rsp - 120], {value}",
                "mov [rsp - 8], {value}",
                "mov eax, 39",
                "syscall",
                "movq {seen}, xmm9",
                "cmp {seen}, {value}",
                "jne 2f",
                "movq {seen}, xmm15",
                "cmp {seen}, {value}",
                "jne 2f",
                "cmp [rsp - 120], {value}",
                "jne 2f",
                "cmp [rsp - 8], {value}",
                "je 3f",
                "2: xor {intact:e}, {intact:e}",
                "3:",
                value = in(reg) round.wrapping_mul(0x9e37_79b9_7f4a_7c15),
                seen = out(reg) _,
                intact = inout(reg) intact,
                out("rax") _, out("rcx") _, out("r11") _, out("xmm9") _, out("xmm15") _,
            );
        }
        bad += 1 - intact;
    }
    bad
}
