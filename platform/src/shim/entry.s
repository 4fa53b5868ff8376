# The target of SYSCALL (MSR LSTAR). From ring 0 the instruction leaves the stack pointer alone, so the caller's red zone
# lies just below it: nothing may be pushed on the caller's stack, neither coming nor going.
#
# As under Linux every register but RAX, RCX and R11 survives, vector registers included: compilers rely on it.
    .section .text.shim, "ax", @progbits
    .balign 16
    .globl system_call_entry
system_call_entry:
    mov [rip + caller_stack], rsp
    lea rsp, [rip + system_call_stack_top]
    push rcx                        # return address
    push r11                        # flags
    push rax
    push rdi
    push rsi
    push rdx
    push r10
    push r8
    push r9
    push rbx
    cld
    mov eax, -1
    mov edx, -1
    cmp byte ptr [rip + xsave_available], 0
    je 1f
    xsave64 [rip + vector_state]
    jmp 2f
1:  fxsave64 [rip + vector_state]
2:  mov rdi, rsp
    call {system_call}
    mov rbx, rax
    mov eax, -1
    mov edx, -1
    cmp byte ptr [rip + xsave_available], 0
    je 3f
    xrstor64 [rip + vector_state]
    jmp 4f
3:  fxrstor64 [rip + vector_state]
4:  mov rax, rbx
    pop rbx
    pop r9
    pop r8
    pop r10
    pop rdx
    pop rsi
    pop rdi
    add rsp, 8
    popfq
    pop rcx
    mov rsp, [rip + caller_stack]
    jmp rcx

    .section .bss.shim, "aw", @nobits
    .balign 64
vector_state: .skip {vector_state_size}
    .balign 8
caller_stack: .skip 8
