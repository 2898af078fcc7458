/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One running virtual machine: start, pause, capture, resume, exec, stop.
 *
 * A capture is taken in steps so that the guest stands still as briefly as possible:
 *
 *     ramet_vm_pause(vm)                  vCPUs stop, disks are drained and flushed
 *     ramet_vm_capture_begin(vm, &cap)    device state saved; memory made safe from later writes
 *     ...the caller freezes disks...
 *     ramet_vm_resume(vm)                 the pause is over
 *     ramet_vm_capture_collect(cap)       private pages copied out of harm's way
 *
 * Guest memory is always MAP_PRIVATE over `memory_path`, which must never change
 * while a VM maps it. A private page is a page the guest changed since it started
 * on that file; a capture lists exactly those.
 *
 * Thread-safety: calls on one VM may come from any thread. pause/resume/capture are
 * serialised by the caller; exec, ping and set_time may run at any time beside them.
 */
#ifndef RAMET_API_VMM_H
#define RAMET_API_VMM_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct ramet_vm;

struct ramet_vm_disk {
    const char *path; /* raw image; opened read-write */
};

struct ramet_vm_config {
    const char *name;    /* shown in the process list and in messages */
    const char *run_dir; /* exists, private to this VM; sockets and the VMM's log are made in it */
    const char *memory_path; /* file of exactly memory_bytes: zeros for a boot, a snapshot's memory for a restore */
    uint64_t memory_bytes;   /* multiple of 1 MiB */
    unsigned cpus;
    const struct ramet_vm_disk *disks;
    size_t disk_count;
    /* a boot: */
    const char *kernel, *initrd, *cmdline;
    /* a restore: device state as captured, read from offset 0; -1 for a boot. Borrowed. */
    int state_fd;
    /* A restore begins with its vCPUs stopped when set; ramet_vm_resume starts them. */
    bool start_paused;
    unsigned start_timeout_ms; /* until the VMM answers and the state is loaded; 0: 30 s */
};

/* Microseconds spent in each step; 0 where it did not happen. */
struct ramet_vm_timing {
    uint64_t stop_us, state_us, hold_us, scan_us, copy_us, resume_us, pause_us; /* capture; pause_us: stop..resume */
    uint64_t spawn_us, load_us;                                               /* restore */
};

/* What a capture found. The memfds are owned by the capture until stolen by setting them to -1. */
struct ramet_vm_capture {
    int state_fd; /* memfd: device state without memory */
    uint64_t state_bytes;
    int memory_fd;   /* memfd: private pages, packed; the page at offset k*4096 is guest page pages[k] */
    uint64_t *pages; /* ascending page indexes into the memory file, page_count of them */
    size_t page_count;
    struct ramet_vm_timing timing;
    struct ramet_vm_hold *hold; /* private to the driver: the memory holder until collect */
};

struct ramet_vm_exec_result {
    int exit_code;   /* -1 when killed by a signal */
    int term_signal; /* 0 when it exited */
    char *out, *err; /* owned; NUL-terminated, may hold any bytes */
    size_t out_size, err_size;
    bool out_truncated, err_truncated; /* the agent keeps 16 MiB */
};

struct ramet_vmm_probe {
    char version[64];     /* of the VMM, "7.2.22" */
    char accelerator[16]; /* "kvm" when it really ran a guest, else "tcg" */
};

/*
 * Finds the VMM ($RAMET_QEMU or qemu-system-x86_64 on PATH) and the fastest accelerator that really works
 * (a KVM that opens but hangs is passed over; $RAMET_ACCEL overrides). Result cached for the process.
 * RAMET_UNAVAILABLE when missing, RAMET_UNSUPPORTED when too old; both name the remedy.
 */
int ramet_vmm_probe(struct ramet_vmm_probe *ret, struct ramet_error *err);

/* Starts a VM and waits until it runs (or, start_paused, until its state is loaded). On failure nothing is left. */
int ramet_vm_start(const struct ramet_vm_config *config, struct ramet_vm **ret, struct ramet_error *err);
/* Kills the VMM if it lives, reaps it, removes its sockets. NULL is a no-op. */
void ramet_vm_free(struct ramet_vm *vm);

pid_t ramet_vm_pid(const struct ramet_vm *vm);
bool ramet_vm_alive(struct ramet_vm *vm); /* reaps when it died */
const struct ramet_vm_timing *ramet_vm_start_timing(const struct ramet_vm *vm);

int ramet_vm_pause(struct ramet_vm *vm, struct ramet_error *err);
int ramet_vm_resume(struct ramet_vm *vm, struct ramet_error *err);

/* Paused VMs only. *ret is owned by the caller; ramet_vm_capture_free(NULL) is a no-op. */
int ramet_vm_capture_begin(struct ramet_vm *vm, struct ramet_vm_capture **ret, struct ramet_error *err);
int ramet_vm_capture_collect(struct ramet_vm *vm, struct ramet_vm_capture *capture, struct ramet_error *err);
void ramet_vm_capture_free(struct ramet_vm_capture *capture);

/* Reads guest memory as the VMM sees it (private and file pages alike), for checks on a paused VM. */
int ramet_vm_read_memory(struct ramet_vm *vm, uint64_t offset, void *buf, size_t size, struct ramet_error *err);

/* Memory the VMM process really costs beyond what it shares: Pss and private bytes from smaps_rollup. */
int ramet_vm_memory_cost(struct ramet_vm *vm, uint64_t *ret_pss_bytes, uint64_t *ret_private_bytes,
                         struct ramet_error *err);

/* Guest agent. ping waits until the agent answers or RAMET_TIMEOUT. */
int ramet_vm_ping(struct ramet_vm *vm, unsigned timeout_ms, struct ramet_error *err);
int ramet_vm_set_time(struct ramet_vm *vm, int64_t unix_ns, unsigned timeout_ms, struct ramet_error *err);
/* argv: NULL-terminated, argv[0] looked up in the guest's PATH. env: NULL or NULL-terminated "K=V". */
int ramet_vm_exec(struct ramet_vm *vm, const char *const *argv, const char *const *env, const void *input,
                  size_t input_size, unsigned timeout_ms, struct ramet_vm_exec_result *ret, struct ramet_error *err);
void ramet_vm_exec_result_free(struct ramet_vm_exec_result *result);

#endif
