/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest: 64-bit code at 1 MiB, entered by vm_boot with paging on. It fills 64 pages from
 * 4 MiB on, then goes round for ever: asks port 0x11 for a number, adds it to a sum it keeps
 * in register %r12 and in memory at 3 MiB, writes the sum into the next of the 64 pages, and
 * tells port 0x10. The number of rounds is in %r13 and at 3 MiB + 8.
 *
 * Its position independence is all of its linking.
 */
        .section .rodata
        .balign 16
        .global example_guest_start, example_guest_end
        .type example_guest_start, @object
        .type example_guest_end, @object
example_guest_start:
        .code64
        movl    $0x400000, %edi
        movl    $64, %ecx
1:      movq    %rdi, (%rdi)
        addl    $4096, %edi
        decl    %ecx
        jnz     1b
        xorl    %r12d, %r12d
        xorl    %r13d, %r13d
round:
        inl     $0x11, %eax
        addq    %rax, %r12
        incq    %r13
        movl    $0x300000, %ebx
        movq    %r12, (%rbx)
        movq    %r13, 8(%rbx)
        movl    %r13d, %edi
        andl    $63, %edi
        shll    $12, %edi
        movq    %r12, 0x400000(%rdi)
        movl    %r13d, %eax
        outl    %eax, $0x10
        jmp     round
example_guest_end:
        .section .note.GNU-stack, "", @progbits
