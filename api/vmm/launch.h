/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a QEMU comes to run, in two halves: spawn, which needs no more than its shape, and run,
 * which gives it memory, disks and state. What lies between may wait (pool.h).
 *
 * Thread-safety: one call at a time per VM. A VM whose launch failed is only good for ramet_vm_free.
 */
#ifndef RAMET_API_VMM_LAUNCH_H
#define RAMET_API_VMM_LAUNCH_H

#include "vmm/qemu_args.h"
#include "vmm/vm.h"

/* An empty VM whose log will be at `log_path`; NULL when memory ran out. Free it with ramet_vm_free. */
struct ramet_vm *ramet_launch_new(const char *name, const char *log_path);

/* Spawns QEMU and returns when it answers; its machine is not made yet. */
int ramet_launch_spawn(struct ramet_vm *vm, const struct ramet_qemu_shape *shape, unsigned timeout_ms,
                       struct ramet_error *err);
/* Makes the machine, unless that was done (machine.h), loads its state, and lets it run unless config->start_paused. */
int ramet_launch_run(struct ramet_vm *vm, const struct ramet_vm_config *config, uint64_t deadline_us,
                     struct ramet_error *err);

#endif
