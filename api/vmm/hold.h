/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The driver's side of the memory holder (holder/holder.c): asks the library inside the
 * VMM to keep guest memory as it is now, and to let go of it.
 *
 * Thread-safety: one call at a time per VM.
 */
#ifndef RAMET_API_VMM_HOLD_H
#define RAMET_API_VMM_HOLD_H

#include "vmm/vmm.h"

#include <stdint.h>
#include <sys/types.h>

struct ramet_vm_hold;

/* Path of libramet-holder.so: $RAMET_HOLDER, or where the build or the installation put it. NULL when there is
 * none, or when $RAMET_CAPTURE is "copy". Owned by the caller. */
char *ramet_hold_library(void);

/* Whether the library answers at all; RAMET_TIMEOUT or RAMET_VMM when not. */
int ramet_hold_hello(int fd, struct ramet_error *err);
/* Tells it the memory file's path, before the VMM opens that: once; and how it is read. */
int ramet_hold_memory(int fd, const char *path, enum ramet_vm_reading reading, struct ramet_error *err);

/* Maps the file over [address, address + size) as the VMM maps its memory file, private and read-only. On failure the
 * VMM is to be given up. */
int ramet_hold_map(int fd, const char *path, enum ramet_vm_reading reading, uint64_t address, uint64_t size,
                   struct ramet_error *err);

/* Makes the process `vmm`, at the other end of `fd`, keep [address, address + size). */
int ramet_hold_take(int fd, pid_t vmm, uint64_t address, uint64_t size, struct ramet_vm_hold **ret,
                    struct ramet_error *err);
/*
 * From now on the kernel tracks writes to [address, address + size), for RAMET_SCAN_TOUCHED. Asked once.
 * RAMET_UNSUPPORTED where the kernel cannot (before 6.7).
 */
int ramet_hold_track(int fd, uint64_t address, uint64_t size, struct ramet_error *err);
/*
 * The process whose memory is the held one. Checked first: a VMM that was taken over by its guest
 * must not get us to read another process's memory.
 */
int ramet_hold_pid(const struct ramet_vm_hold *hold, pid_t *ret, struct ramet_error *err);
/* Faults in [address, address + size) read as the kernel likes again. */
int ramet_hold_read_around(int fd, uint64_t address, uint64_t size, struct ramet_error *err);
/* Ends the holder; NULL is a no-op. May be called after the VMM is gone. */
void ramet_hold_drop(struct ramet_vm_hold *hold);

#endif
