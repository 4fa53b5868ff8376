# The entries of the interrupt descriptor table.

# Exceptions 0 to 31: push a frame that `exception::Frame` describes and report it. There is no way back.
    .section .text.traps, "ax", @progbits
    .balign 16
    .globl exception_entries
exception_entries:
    .set vector, 0
    .rept 32
    .balign 16
    # These push an error code themselves (Intel SDM vol. 3, table 7-1): 8, 10 to 14, 17, 21, 29, 30.
    .if (0x60227d00 >> vector) & 1
    .else
    push 0
    .endif
    push vector
    jmp exception_common
    .set vector, vector + 1
    .endr

exception_common:
    push rax
    push rbx
    push rcx
    push rdx
    push rsi
    push rdi
    push rbp
    push r8
    push r9
    push r10
    push r11
    push r12
    push r13
    push r14
    push r15
    mov rdi, rsp
    cld
    and rsp, -16
    call {exception}
    ud2

# Interrupts 32 to 255. They come only inside `halt_until_interrupt`: note which it was, and return with interrupts off,
# so that exactly one is taken. Who waits acknowledges it, a level-triggered one after its device has been served.
    .balign 16
    .globl interrupt_entries
interrupt_entries:
    .set vector, 32
    .rept 224
    .balign 16
    mov byte ptr [rip + interrupt_vector], vector
    jmp interrupt_common
    .set vector, vector + 1
    .endr

interrupt_common:
    and qword ptr [rsp + 16], ~0x200
    iretq

# STI takes effect after the next instruction: an interrupt that is already pending ends HLT at once.
    .balign 16
    .globl halt_until_interrupt
halt_until_interrupt:
    sti
    hlt
    cli
    ret

    .section .bss.traps, "aw", @nobits
    .globl interrupt_vector
interrupt_vector: .byte 0
