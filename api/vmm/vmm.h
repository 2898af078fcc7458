/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One running virtual machine: start, pause, capture, resume, exec, stop.
 *
 * A capture is taken in steps so that the guest stands still as briefly as possible:
 *
 *     ramet_vm_capture_prepare(vm, &cap)  the guest runs on while most of what it changed is copied
 *     ramet_vm_pause(vm)                  vCPUs stop, disks are drained and flushed
 *     ramet_vm_capture_begin(vm, cap)     device state saved; memory made safe from later writes
 *     ...the caller freezes disks...
 *     ramet_vm_resume(vm)                 the pause is over
 *     ramet_vm_capture_collect(vm, cap)   what is left is copied out of harm's way
 *
 * Guest memory is always MAP_PRIVATE over `memory_path`, which must never change
 * while a VM maps it. A private page is a page the guest changed since it started
 * on that file; a capture lists those, or, where the kernel tracks writes (Linux 6.7), those
 * it changed since the capture before.
 *
 * How the pause is kept short, whatever is dirty, is written at the head of capture.c. It takes the preloaded
 * libramet-holder.so; where that is not found or does not answer, memory is copied inside the pause.
 * RAMET_CAPTURE=copy asks for that, RAMET_CAPTURE=hold for a memory holder without tracking.
 * The library is looked for at $RAMET_HOLDER, beside the program, in ../lib and
 * ../lib/ramet of it, and where the build put it.
 *
 * The VMM dies with this process, however that ends. A guest that powers off or reboots ends its VM.
 *
 * Errors: RAMET_VMM when the VMM is gone, with the reason and the end of its log;
 * RAMET_TIMEOUT when it or the guest is silent; RAMET_INVALID for what the caller asked.
 *
 * Thread-safety: calls on one VM may come from any thread. pause/resume/capture are
 * serialised by the caller; exec, ping and set_time may run at any time beside them.
 * ramet_vm_free comes after all of them; captures may be freed after their VM.
 */
#ifndef RAMET_API_VMM_H
#define RAMET_API_VMM_H

#include "base/error.h"
#include "base/page_scan.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct ramet_vm;
struct ramet_vm_pool;

struct ramet_vm_disk {
    /* Raw image, opened read-write. When ramet_vm_pause returns, all guest writes have reached it by write(2) and
     * an fdatasync(2) has followed. */
    const char *path;
};

/* How much of the memory file the kernel reads at a page that is touched and not in its cache. */
enum ramet_vm_reading {
    RAMET_VM_READ_LARGE,  /* 2 MiB and more: good where each read costs much, as from a cold store */
    RAMET_VM_READ_NEAR,   /* the file's readahead around it: good where the file is served from memory */
    RAMET_VM_READ_SINGLE, /* that page, so that who serves the file sees what is touched; until ramet_vm_read_around */
};

struct ramet_vm_config {
    const char *name;    /* shown in the process list and in messages */
    const char *run_dir; /* exists, private to this VM; qemu.log and console.log (at most 2 MiB) are made in it */
    /* File of exactly memory_bytes: zeros for a boot, a snapshot's memory for a restore. Opened read-write by QEMU, but
     * mapped privately and never written. */
    const char *memory_path;
    uint64_t memory_bytes; /* multiple of 1 MiB */
    unsigned cpus;
    const struct ramet_vm_disk *disks;
    size_t disk_count; /* at most 24 */
    /* a boot: (initrd and cmdline may be NULL; ignored by a restore) */
    const char *kernel, *initrd, *cmdline;
    /* a restore: device state as captured, read from offset 0; -1 for a boot. Borrowed. */
    int state_fd;
    /* A restore begins with its vCPUs stopped when set; ramet_vm_resume starts them. */
    bool start_paused;
    enum ramet_vm_reading reading; /* without the holder library RAMET_VM_READ_LARGE */
    unsigned start_timeout_ms;     /* until the VMM answers and the state is loaded; 0: 30 s */
    /* A restore takes a VMM from here where one waits (pool.h). NULL: it spawns its own. Borrowed. */
    struct ramet_vm_pool *pool;
};

/*
 * Microseconds spent in each step; 0 where it did not happen. resume_us and pause_us are known after ramet_vm_resume
 * and filled in by ramet_vm_capture_collect.
 */
struct ramet_vm_timing {
    uint64_t prepare_us;                                              /* before the pause */
    uint64_t stop_us, state_us, scan_us, copy_us, hold_us, resume_us; /* inside the pause */
    uint64_t collect_us;                                              /* after it */
    uint64_t pause_us;                                                /* from stop to resume */
    /* A start; spawn_us: 0 for a pooled one. load_us: from then on until it ran. */
    uint64_t spawn_us, load_us;
};

/* What a capture found. The memfds are owned by the capture until stolen by setting them to -1. */
struct ramet_vm_capture {
    int state_fd; /* memfd: device state without memory */
    uint64_t state_bytes;
    int memory_fd;    /* memfd as large as guest memory, each captured page at its place, holes elsewhere */
    uint64_t *bitmap; /* malloc'd, a bit for each page of guest memory: those captured */
    size_t page_count;
    bool tracked; /* the next capture can list what changed since this one */
    struct ramet_vm_timing timing;
    /* private to the driver, until collect: */
    struct ramet_vm_hold *hold;  /* the memory holder */
    struct ramet_page_runs late; /* tracked: pages to be copied from it */
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
/* Kills the VMM if it lives, and reaps it. NULL is a no-op. */
void ramet_vm_free(struct ramet_vm *vm);

pid_t ramet_vm_pid(const struct ramet_vm *vm);
bool ramet_vm_alive(struct ramet_vm *vm); /* reaps when it died */
const struct ramet_vm_timing *ramet_vm_start_timing(const struct ramet_vm *vm);

int ramet_vm_pause(struct ramet_vm *vm, struct ramet_error *err);
int ramet_vm_resume(struct ramet_vm *vm, struct ramet_error *err);

/*
 * prepare: *ret is owned by the caller. With `whole` all private pages are captured, else those changed since the last
 * capture, which must have been `tracked` and collected; after one that was not, or whose pages were not used, ask for
 * the whole. begin: paused VMs only, RAMET_CONFLICT otherwise. collect: once per capture, best after ramet_vm_resume;
 * then bitmap and page_count are final. When a step fails only freeing is left.
 * ramet_vm_capture_free(NULL) is a no-op; an uncollected capture lets go of its holder.
 */
int ramet_vm_capture_prepare(struct ramet_vm *vm, bool whole, struct ramet_vm_capture **ret, struct ramet_error *err);
int ramet_vm_capture_begin(struct ramet_vm *vm, struct ramet_vm_capture *capture, struct ramet_error *err);
int ramet_vm_capture_collect(struct ramet_vm *vm, struct ramet_vm_capture *capture, struct ramet_error *err);
void ramet_vm_capture_free(struct ramet_vm_capture *capture);

/* From RAMET_VM_READ_SINGLE to _LARGE. Serialised by the caller with captures. */
void ramet_vm_read_around(struct ramet_vm *vm);

/* Reads guest memory as the VMM sees it (private and file pages alike), for checks on a paused VM. */
int ramet_vm_read_memory(struct ramet_vm *vm, uint64_t offset, void *buf, size_t size, struct ramet_error *err);

/* Memory the VMM process really costs beyond what it shares: Pss and private bytes from smaps_rollup. */
int ramet_vm_memory_cost(struct ramet_vm *vm, uint64_t *ret_pss_bytes, uint64_t *ret_private_bytes,
                         struct ramet_error *err);

/* Guest agent. ping waits until the agent answers or RAMET_TIMEOUT. */
int ramet_vm_ping(struct ramet_vm *vm, unsigned timeout_ms, struct ramet_error *err);
int ramet_vm_set_time(struct ramet_vm *vm, int64_t unix_ns, unsigned timeout_ms, struct ramet_error *err);
/*
 * argv: NULL-terminated, argv[0] looked up in the guest's PATH. env: NULL for the agent's own, or NULL-terminated "K=V"
 * that replaces it (a PATH is added when there is none). Both UTF-8; input at most 16 MiB. *ret is owned by the caller
 * and untouched on failure. RAMET_INVALID: the guest could not run it. RAMET_TIMEOUT: it was sent SIGKILL.
 */
int ramet_vm_exec(struct ramet_vm *vm, const char *const *argv, const char *const *env, const void *input,
                  size_t input_size, unsigned timeout_ms, struct ramet_vm_exec_result *ret, struct ramet_error *err);
void ramet_vm_exec_result_free(struct ramet_vm_exec_result *result);

#endif
