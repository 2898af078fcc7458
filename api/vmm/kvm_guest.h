/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest of some 200 bytes that tells whether an accelerator really accelerates: it enters 64-bit
 * mode with paging, as every kernel does, counts for a while and ends QEMU through isa-debug-exit.
 */
#ifndef RAMET_API_VMM_KVM_GUEST_H
#define RAMET_API_VMM_KVM_GUEST_H

#include <stddef.h>

extern const unsigned char ramet_kvm_guest_start[], ramet_kvm_guest_end[];

/* QEMU's exit status when the guest got to its end: (0x10 << 1) | 1. */
enum { RAMET_KVM_GUEST_EXIT = 33 };

#endif
