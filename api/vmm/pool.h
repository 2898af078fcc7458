/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Spares: QEMUs spawned ahead, each waiting in -preconfig for memory, disks and a state. A
 * restore that takes one is spared the spawn; nothing else differs (launch.c).
 *
 * Policy: a start tells the pool its shape (CPUs and number of disks). From then on the pool keeps
 * up to `limit` spares of the shape started last; those of another shape make way, and all end
 * IDLE_S after the last start. They are spawned in the background, one at a
 * time, and none while a start is under way (`hold`) or was QUIET_MS ago. One that died is replaced.
 *
 * A spare costs about 10 MiB of memory and no CPU time. It dies with this process.
 *
 * Thread-safe. Errors are logged: without a spare a start spawns its own QEMU.
 */
#ifndef RAMET_API_VMM_POOL_H
#define RAMET_API_VMM_POOL_H

#include "base/error.h"

#include <stddef.h>

struct ramet_vm;
struct ramet_vm_pool;

/* Logs of spares are made in `dir`, which exists and is on the file system of the VMs' run_dirs. limit 0: never any. */
int ramet_vm_pool_new(const char *dir, unsigned limit, struct ramet_vm_pool **ret, struct ramet_error *err);
/* Ends the spares. No start may be under way. NULL is a no-op. */
void ramet_vm_pool_free(struct ramet_vm_pool *pool);

/* From hold to release no spare is spawned, except the one that is being spawned. NULL is a no-op. Returns `pool`. */
struct ramet_vm_pool *ramet_vm_pool_hold(struct ramet_vm_pool *pool);
void ramet_vm_pool_release(struct ramet_vm_pool *pool);
void ramet_vm_pool_cleanup(struct ramet_vm_pool **pool); /* releases; for _cleanup_ */

/* Says that a VM of this shape starts. */
void ramet_vm_pool_note(struct ramet_vm_pool *pool, unsigned cpus, size_t disk_count);
/* A living spare of this shape, for ramet_launch_run; the caller's to free. NULL when there is none. */
struct ramet_vm *ramet_vm_pool_take(struct ramet_vm_pool *pool, unsigned cpus, size_t disk_count);

/* How many wait now. */
unsigned ramet_vm_pool_count(struct ramet_vm_pool *pool);

#endif
