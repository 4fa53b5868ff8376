# The way in: from the hypervisor's 32-bit PVH entry to `boot_main` in long mode.
#
# PVH start of day (Xen, docs/misc/pvh.pandoc): 32-bit protected mode, flat segments, paging off, interrupts off,
# EBX = physical address of hvm_start_info.

# XEN_ELFNOTE_PHYS32_ENTRY. QEMU reads eight bytes of descriptor, so it is a quad; the note is aligned to 4.
    .section .note.pvh, "a", @note
    .balign 4
    .long 4                         # name: "Xen\0"
    .long 8                         # descriptor
    .long 18                        # XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .quad pvh_entry

    .section .text.boot, "ax", @progbits
    .code32
    .globl pvh_entry
pvh_entry:
    cli
    cld
    mov esp, offset boot_stack_top
    mov dword ptr [pvh_start_info], ebx

    # Identity map of the first 4 GiB in pages of 2 MiB, everything allowed; `paging` replaces it.
    mov dword ptr [boot_level4], offset boot_level3 + 3
    mov edi, offset boot_level3
    mov eax, offset boot_level2 + 3
    mov ecx, 4
1:  mov dword ptr [edi], eax
    add eax, 4096
    add edi, 8
    dec ecx
    jnz 1b
    mov edi, offset boot_level2
    mov eax, 0x83                   # present, writable, 2 MiB
    mov ecx, 2048
2:  mov dword ptr [edi], eax
    add eax, 0x200000
    add edi, 8
    dec ecx
    jnz 2b
    mov eax, offset boot_level4
    mov cr3, eax

    # SSE, and with XSAVE also AVX and AVX-512, before any compiled code: glibc picks its variants by CPUID and XCR0.
    mov eax, cr4
    or eax, 0x6a0                   # PAE, PGE, OSFXSR, OSXMMEXCPT
    mov cr4, eax
    mov eax, 1
    cpuid
    test ecx, 1 << 26
    jz 3f
    mov eax, cr4
    or eax, 1 << 18                 # OSXSAVE
    mov cr4, eax
    mov eax, 0xd
    xor ecx, ecx
    cpuid
    and eax, 0xe7                   # x87, SSE, AVX, AVX-512: what fits the shim's save area
    xor edx, edx
    xor ecx, ecx
    xsetbv
    mov byte ptr [xsave_available], 1
3:
    mov ecx, 0xc0000080             # EFER
    rdmsr
    or eax, 0x901                   # SCE, LME, NXE
    wrmsr
    mov eax, cr0
    and eax, ~0x6000000c            # CD, NW, EM, TS off
    or eax, 0x80010022              # PG, WP, NE, MP
    mov cr0, eax
    lgdt [gdt_pointer]
    push 8
    mov eax, offset long_mode
    push eax
    retf

    .code64
long_mode:
    mov eax, 16
    mov ds, eax
    mov es, eax
    mov ss, eax
    xor eax, eax
    mov fs, eax
    mov gs, eax
    lea rsp, [rip + boot_stack_top]
    fninit
    push 0x1f80
    ldmxcsr [rsp]
    pop rax

    # Until glibc has measured the caches, it takes every copy of more than eight vectors for larger than they are, and its
    # loop for such copies never ends on a short one. It sets these later itself; absent ones are not of this glibc.
    mov eax, 0xc0000
    .irp threshold, __x86_shared_non_temporal_threshold, __x86_memset_non_temporal_threshold
    .weak \threshold
    mov rcx, offset \threshold
    test rcx, rcx
    jz 6f
    mov [rcx], rax
6:
    .endr

    # memcpy and its kin are IFUNCs in a static glibc, and the compiler calls them everywhere: apply the IRELATIVE
    # relocations first of all. glibc knows no CPU features yet, so the resolvers give the baseline; it applies them
    # again from _start and then gets the best.
    lea rbx, [rip + __rela_iplt_start]
    lea r12, [rip + __rela_iplt_end]
4:  cmp rbx, r12
    jae 5f
    call [rbx + 16]                 # the addend is the resolver
    mov rcx, [rbx]
    mov [rcx], rax
    add rbx, 24
    jmp 4b
5:
    mov edi, dword ptr [rip + pvh_start_info]
    xor ebp, ebp
    call {boot_main}
    ud2

# enter_image(stack: rdi, entry: rsi): leaves the boot stack for good, as Linux enters a program (System V ABI, 3.4.1).
    .globl enter_image
enter_image:
    mov rsp, rdi
    xor edx, edx
    xor ebp, ebp
    push 2
    popfq
    jmp rsi

    .section .data.boot, "aw", @progbits
    .balign 16
    .globl global_descriptors
global_descriptors:
    .quad 0
    .quad 0x00af9b000000ffff        # 8: code, 64-bit, ring 0
    .quad 0x00cf93000000ffff        # 16: data
    .quad 0
    .quad 0, 0                      # 32: the task state segment, filled in by `descriptors`
gdt_end:
gdt_pointer:
    .word gdt_end - global_descriptors - 1
    .quad global_descriptors

    .section .bss.boot, "aw", @nobits
    .balign 4096
boot_level4: .skip 4096
boot_level3: .skip 4096
boot_level2: .skip 16384

# The fixed stacks, each above its guard page. Their sizes stand in `stacks`.
    .globl boot_guard, boot_stack_top
boot_guard: .skip 4096
    .skip {boot_stack}
boot_stack_top:
    .globl system_call_guard, system_call_stack_top
system_call_guard: .skip 4096
    .skip {system_call_stack}
system_call_stack_top:
    .globl exception_guard, exception_stack_top
exception_guard: .skip 4096
    .skip {exception_stack}
exception_stack_top:
    .globl emergency_guard, emergency_stack_top
emergency_guard: .skip 4096
    .skip {emergency_stack}
emergency_stack_top:

    .globl pvh_start_info
pvh_start_info: .long 0
    .globl xsave_available
xsave_available: .byte 0
