/* SPDX-License-Identifier: Apache-2.0 */
#include "vm.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

extern const unsigned char example_guest_start[], example_guest_end[];

enum { tables_at = 0x2000, entry_at = 0x100000 };
enum { cr0_on = 0x80000001, cr4_pae = 0x20, efer_long = 0x500 };

int kvm_open(struct kvm *ret)
{
    struct kvm kvm = {.fd = open("/dev/kvm", O_RDWR | O_CLOEXEC)};
    if (kvm.fd < 0)
        return -1;
    kvm.run_bytes = ioctl(kvm.fd, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (ioctl(kvm.fd, KVM_GET_API_VERSION, 0) != KVM_API_VERSION || kvm.run_bytes < 0) {
        close(kvm.fd);
        errno = ENOTSUP;
        return -1;
    }
    *ret = kvm;
    return 0;
}

void kvm_close(struct kvm *kvm) { close(kvm->fd); }

int vm_new(const struct kvm *kvm, void *memory, uint64_t size_bytes, struct vm *ret)
{
    struct vm vm = {.kvm = kvm, .vcpu_fd = -1, .run = MAP_FAILED};
    struct kvm_userspace_memory_region slot = {.memory_size = size_bytes, .userspace_addr = (uintptr_t)memory};
    vm.fd = ioctl(kvm->fd, KVM_CREATE_VM, 0);
    if (vm.fd < 0)
        return -1;
    if (ioctl(vm.fd, KVM_SET_USER_MEMORY_REGION, &slot) == 0)
        vm.vcpu_fd = ioctl(vm.fd, KVM_CREATE_VCPU, 0);
    if (vm.vcpu_fd >= 0)
        vm.run = mmap(NULL, (size_t)kvm->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vm.vcpu_fd, 0);
    if (vm.run == MAP_FAILED) {
        int failure = errno;
        vm_free(&vm);
        errno = failure;
        return -1;
    }
    *ret = vm;
    return 0;
}

void vm_free(struct vm *vm)
{
    if (vm->run != MAP_FAILED)
        munmap(vm->run, (size_t)vm->kvm->run_bytes);
    if (vm->vcpu_fd >= 0)
        close(vm->vcpu_fd);
    close(vm->fd);
}

/* One 1 GiB of memory mapped to itself, in pages of 2 MiB. */
static void make_tables(uint8_t *memory)
{
    uint64_t *level4 = (uint64_t *)(memory + tables_at), *level3 = level4 + 512, *level2 = level3 + 512;
    level4[0] = (tables_at + 0x1000) | 3;
    level3[0] = (tables_at + 0x2000) | 3;
    for (uint64_t i = 0; i < 512; i++)
        level2[i] = i << 21 | 0x83;
}

static struct kvm_segment flat(uint8_t type, uint16_t selector, uint8_t is_code)
{
    return (struct kvm_segment){.limit = 0xffffffff,
                                .selector = selector,
                                .type = type,
                                .present = 1,
                                .db = !is_code,
                                .s = 1,
                                .l = is_code,
                                .g = 1};
}

int vm_boot(struct vm *vm, void *memory)
{
    struct kvm_sregs sregs;
    struct kvm_regs regs = {.rip = entry_at, .rflags = 2};
    memcpy((uint8_t *)memory + entry_at, example_guest_start, (size_t)(example_guest_end - example_guest_start));
    make_tables(memory);
    if (ioctl(vm->vcpu_fd, KVM_GET_SREGS, &sregs) < 0)
        return -1;
    sregs.cr0 = cr0_on;
    sregs.cr3 = tables_at;
    sregs.cr4 = cr4_pae;
    sregs.efer = efer_long;
    sregs.cs = flat(11, 8, 1);
    sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = flat(3, 16, 0);
    if (ioctl(vm->vcpu_fd, KVM_SET_SREGS, &sregs) < 0)
        return -1;
    return ioctl(vm->vcpu_fd, KVM_SET_REGS, &regs);
}

int vm_round(struct vm *vm, uint32_t input)
{
    for (;;) {
        if (ioctl(vm->vcpu_fd, KVM_RUN, 0) < 0) {
            if (errno == EINTR)
                continue;
            return -1;
        }
        if (vm->run->exit_reason != KVM_EXIT_IO) {
            errno = EPROTO; /* the guest did what it was not made to do */
            return -1;
        }
        if (vm->run->io.port == VM_PORT_ROUND)
            return 0;
        memcpy((uint8_t *)vm->run + vm->run->io.data_offset, &input, sizeof input);
    }
}

/*
 * The instruction that made the vCPU exit is finished when it is entered again: without that step its state would be
 * of the middle of an instruction.
 */
static int finish_instruction(struct vm *vm)
{
    vm->run->immediate_exit = 1;
    int r = ioctl(vm->vcpu_fd, KVM_RUN, 0);
    vm->run->immediate_exit = 0;
    if (r < 0 && errno == EINTR)
        return 0;
    errno = r < 0 ? errno : EPROTO;
    return -1;
}

int vm_save(struct vm *vm, struct vm_state *ret)
{
    memset(ret, 0, sizeof *ret); /* padding too: equal states are equal bytes */
    if (finish_instruction(vm) < 0 || ioctl(vm->vcpu_fd, KVM_GET_MP_STATE, &ret->mp_state) < 0 ||
        ioctl(vm->vcpu_fd, KVM_GET_REGS, &ret->regs) < 0 || ioctl(vm->vcpu_fd, KVM_GET_SREGS, &ret->sregs) < 0 ||
        ioctl(vm->vcpu_fd, KVM_GET_FPU, &ret->fpu) < 0 || ioctl(vm->vcpu_fd, KVM_GET_XCRS, &ret->xcrs) < 0 ||
        ioctl(vm->vcpu_fd, KVM_GET_DEBUGREGS, &ret->debug) < 0)
        return -1;
    return ioctl(vm->vcpu_fd, KVM_GET_VCPU_EVENTS, &ret->events);
}

int vm_load(struct vm *vm, const struct vm_state *state)
{
    if (ioctl(vm->vcpu_fd, KVM_SET_SREGS, &state->sregs) < 0 || ioctl(vm->vcpu_fd, KVM_SET_REGS, &state->regs) < 0 ||
        ioctl(vm->vcpu_fd, KVM_SET_XCRS, &state->xcrs) < 0 || ioctl(vm->vcpu_fd, KVM_SET_FPU, &state->fpu) < 0 ||
        ioctl(vm->vcpu_fd, KVM_SET_DEBUGREGS, &state->debug) < 0 ||
        ioctl(vm->vcpu_fd, KVM_SET_VCPU_EVENTS, &state->events) < 0)
        return -1;
    return ioctl(vm->vcpu_fd, KVM_SET_MP_STATE, &state->mp_state);
}
