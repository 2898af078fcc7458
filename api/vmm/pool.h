/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Spares: QEMUs spawned ahead, each waiting for memory, disks and a state: in -preconfig, or with its machine made
 * ahead on placeholders (machine.h). A restore that takes one is spared the spawn, or the making of the machine too;
 * nothing else differs.
 *
 * Policy: a start tells the pool its machine. From then on the pool keeps up to `limit` spares with the number of CPUs
 * and of disks that were started last; those of others make way, and all end IDLE_S after the last start. One in
 * -preconfig is good for any memory and disks. When STEADY starts in a row had the same machine, the spares' machines
 * are made for it, and those with another machine make way. All this is done in the background, one spare at a time,
 * nothing while a start is under way (`hold`) or was QUIET_MS ago. A spare that died is replaced.
 *
 * A spare costs about 10 MiB of memory, 15 with its machine, and no CPU time. It dies with this process.
 *
 * Thread-safe. Errors are logged: without a spare a start spawns its own QEMU.
 */
#ifndef RAMET_API_VMM_POOL_H
#define RAMET_API_VMM_POOL_H

#include "base/error.h"

struct ramet_machine;
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

/* Says that a VM with this machine starts. */
void ramet_vm_pool_note(struct ramet_vm_pool *pool, const struct ramet_machine *machine);
/* A living spare for this machine, for ramet_launch_run; the caller's to free. NULL when there is none. */
struct ramet_vm *ramet_vm_pool_take(struct ramet_vm_pool *pool, const struct ramet_machine *machine);

/* How many wait now, and how many of them have their machine made (ret_made may be NULL). */
unsigned ramet_vm_pool_count(struct ramet_vm_pool *pool, unsigned *ret_made);

#endif
