/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A very small VMM: one vCPU and one slot of memory that somebody else mapped. What it
 * knows of Ramet is nothing; kvm.c joins the two.
 *
 * Functions return 0, or -1 with errno. One thread at a time.
 */
#ifndef RAMET_EXAMPLES_KVM_VM_H
#define RAMET_EXAMPLES_KVM_VM_H

#include <linux/kvm.h>
#include <stdint.h>

/* /dev/kvm, opened once. */
struct kvm {
    int fd;
    int run_bytes; /* of a vCPU's shared page */
};

struct vm {
    const struct kvm *kvm;
    int fd, vcpu_fd;
    struct kvm_run *run;
};

/* What a vCPU is, between two instructions: the state that goes with a memory image. */
struct vm_state {
    struct kvm_regs regs;
    struct kvm_sregs sregs;
    struct kvm_fpu fpu;
    struct kvm_xcrs xcrs;
    struct kvm_mp_state mp_state;
    struct kvm_vcpu_events events;
    struct kvm_debugregs debug;
};

enum { VM_PORT_ROUND = 0x10, VM_PORT_INPUT = 0x11 };
enum { VM_SUM_AT = 0x300000, VM_PAGES_AT = 0x400000, VM_PAGES = 64 };

int kvm_open(struct kvm *ret); /* errno ENOENT, EACCES, or ENOTSUP: it is of another API */
void kvm_close(struct kvm *kvm);

int vm_new(const struct kvm *kvm, void *memory, uint64_t size_bytes, struct vm *ret);
void vm_free(struct vm *vm);
/* Puts the guest and its page tables into memory and the vCPU at its entry. */
int vm_boot(struct vm *vm, void *memory);
/* Runs until the guest has finished a round; `input` is what it gets when it asks. */
int vm_round(struct vm *vm, uint32_t input);
int vm_save(struct vm *vm, struct vm_state *ret);
int vm_load(struct vm *vm, const struct vm_state *state);

#endif
