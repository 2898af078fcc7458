/* SPDX-License-Identifier: Apache-2.0 */
/* Inside the driver only: what a running VM consists of. vmm.h is the contract. */
#ifndef RAMET_API_VMM_VM_H
#define RAMET_API_VMM_VM_H

#include "vmm/console.h"
#include "vmm/guest_agent.h"
#include "vmm/process.h"
#include "vmm/qmp.h"
#include "vmm/vmm.h"

/*
 * Set by ramet_vm_start and constant afterwards, except `last` and `paused_at_us`, which belong
 * to whoever drives pause/capture/resume (the caller serialises those).
 */
struct ramet_vm {
    char *name;
    char *log_path;    /* QEMU's stdout and stderr */
    char *memory_name; /* as /proc/PID/maps shows it */
    uint64_t memory_bytes;
    uint64_t memory_address; /* of guest memory in QEMU */
    bool made;               /* its machine was made ahead, on placeholders (machine.h) */
    struct ramet_process *process;
    struct ramet_qmp *qmp;
    struct ramet_agent *agent;
    struct ramet_console *console;
    int hold_fd;    /* to the holder library, -1 when it is not there */
    int console_fd; /* until `console` takes it over, then -1 */
    enum { RAMET_TRACKING_UNASKED, RAMET_TRACKING_ON, RAMET_TRACKING_OFF } tracking; /* belongs to captures */
    struct ramet_vm_timing start_timing;
    struct ramet_vm_timing last; /* of the pause under way or the last one */
    uint64_t paused_at_us;
};

/* Prefixes an error with the VM's name; when QEMU has died it becomes RAMET_VMM with the end of its log. Returns its
 * code. */
int ramet_vm_explain(struct ramet_vm *vm, int r, struct ramet_error *err);

enum { RAMET_QMP_TIMEOUT_MS = 10000 };

#endif
