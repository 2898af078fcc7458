/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The probe guest, as data in our own read-only section. It is a multiboot image: loaded
 * at 1 MiB and entered in 32-bit protected mode. Page tables lie at 2 MiB, in memory that
 * is zero: one 2 MiB page, mapped to itself.
 *
 * 50 million rounds of counting in memory take some 50 ms on a real accelerator. Under a
 * nested host that emulates each instruction they take a minute, and an ordinary kernel
 * would look hung: that is what the time limit of the probe is there to notice.
 */
#include "vmm/kvm_guest.h"

/* clang-format off */
__asm__(
    ".section .rodata\n"
    ".balign 16\n"
    ".global ramet_kvm_guest_start, ramet_kvm_guest_end\n"
    "ramet_kvm_guest_start:\n"
    "base:\n"
    /* multiboot header with explicit addresses: magic, flags, checksum, header, load, load end, bss end, entry */
    "  .long 0x1BADB002, 0x00010000, -(0x1BADB002 + 0x00010000)\n"
    "  .long 0x100000, 0x100000, 0x100000 + ramet_kvm_guest_end - base, 0, 0x100000 + enter - base\n"
    "enter:\n"
    ".code32\n"
    "  movl $0x201003, 0x200000\n"            /* PML4[0] -> PDPT */
    "  movl $0x202003, 0x201000\n"            /* PDPT[0] -> PD */
    "  movl $0x000083, 0x202000\n"            /* PD[0]: 2 MiB at 0 */
    "  movl $0x20, %eax\n"                    /* PAE */
    "  movl %eax, %cr4\n"
    "  movl $0x200000, %eax\n"
    "  movl %eax, %cr3\n"
    "  movl $0xC0000080, %ecx\n"              /* EFER: long mode */
    "  rdmsr\n"
    "  orl $0x100, %eax\n"
    "  wrmsr\n"
    "  movl $0x80000001, %eax\n"              /* paging, protection */
    "  movl %eax, %cr0\n"
    "  lgdt 0x100000 + gdt_pointer - base\n"
    "  ljmp $8, $(0x100000 + wide - base)\n"
    "wide:\n"
    ".code64\n"
    "  movl $50000000, %ecx\n"
    "1: addl %ecx, 0x1ff000\n"
    "  decl %ecx\n"
    "  jnz 1b\n"
    "  movw $0xf4, %dx\n"                     /* isa-debug-exit */
    "  movb $0x10, %al\n"
    "  outb %al, %dx\n"
    "2: hlt\n"
    "  jmp 2b\n"
    ".balign 8\n"
    "gdt: .quad 0, 0x00AF9A000000FFFF\n"
    "gdt_pointer: .word 15; .long 0x100000 + gdt - base\n"
    "ramet_kvm_guest_end:\n"
    ".previous\n");
/* clang-format on */
