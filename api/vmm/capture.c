/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Capturing a paused VM: its device state, and the guest memory it does not share with
 * its memory file.
 *
 * Device state comes first, since saving it may write to guest memory. Then memory is
 * either held (a fork inside QEMU keeps it; scan and copy happen in collect, after the
 * guest has resumed) or, without the holder library, copied at once.
 *
 * A capture owns its memfds, its list and its holder; nothing refers to the VM afterwards, and
 * a capture that was never collected can be freed after the VM. A crash of ours leaves
 * nothing: memfds vanish, holders die with QEMU and QEMU with us.
 */
#include "vmm/vm.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "vmm/clock.h"
#include "vmm/hold.h"
#include "vmm/pagemap.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* QEMU opens our memfd by its /proc name: no file is made and none has to be removed. */
static int save_state(struct ramet_vm *vm, struct ramet_vm_capture *capture, struct ramet_error *err)
{
    uint64_t start_us = ramet_now_us();
    capture->state_fd = memfd_create("ramet-state", MFD_CLOEXEC);
    if (capture->state_fd < 0)
        return ramet_error_os(err, errno, "memory for the device state");
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)getpid(), capture->state_fd);
    struct ramet_json *arguments = ramet_json_object();
    ramet_json_set_string(arguments, "filename", path);
    /* "live" would inactivate the disks, as for a migration that takes the VM away. */
    ramet_json_set_bool(arguments, "live", false);
    int r = ramet_qmp_command(vm->qmp, "xen-save-devices-state", arguments, RAMET_QMP_TIMEOUT_MS, NULL, err);
    if (r < 0)
        return r;
    struct stat st;
    if (fstat(capture->state_fd, &st) != 0 || st.st_size == 0)
        return ramet_error_set(err, RAMET_VMM, "QEMU saved an empty device state");
    capture->state_bytes = (uint64_t)st.st_size;
    capture->timing.state_us = ramet_now_us() - start_us;
    return 0;
}

/* Scans and copies the private pages of `pid`, whose guest memory stands still. */
static int copy_memory(struct ramet_vm *vm, pid_t pid, struct ramet_vm_capture *capture, struct ramet_error *err)
{
    _cleanup_(ramet_page_runs_free) struct ramet_page_runs runs = {0};
    uint64_t start_us = ramet_now_us();
    int r = ramet_pagemap_scan(pid, vm->memory_address, vm->memory_bytes, RAMET_SCAN_PRIVATE, &runs, err);
    if (r < 0)
        return r;
    uint64_t scanned_us = ramet_now_us();
    capture->timing.scan_us = scanned_us - start_us;
    capture->memory_fd = memfd_create("ramet-capture", MFD_CLOEXEC);
    if (capture->memory_fd < 0)
        return ramet_error_os(err, errno, "memory for captured pages");
    r = ramet_pagemap_copy(pid, vm->memory_address, &runs, capture->hold != NULL, capture->memory_fd, err);
    capture->timing.copy_us = ramet_now_us() - scanned_us;
    if (r == 0)
        r = ramet_page_runs_list(&runs, &capture->pages, err);
    if (r == 0)
        capture->page_count = runs.page_count;
    return r;
}

/* True when the holder has the memory; false leads to copying inside the pause. */
static bool hold_memory(struct ramet_vm *vm, struct ramet_vm_capture *capture)
{
    const char *method = getenv("RAMET_CAPTURE");
    if (vm->hold_fd < 0 || (method && strcmp(method, "copy") == 0))
        return false;
    struct ramet_error err = {0};
    uint64_t start_us = ramet_now_us();
    int r = ramet_hold_take(vm->hold_fd, ramet_process_pid(vm->process), vm->memory_address, vm->memory_bytes,
                            &capture->hold, &err);
    if (r < 0) {
        ramet_debug("%s: %s; copying memory inside the pause", vm->name, err.msg);
        return false;
    }
    capture->timing.hold_us = ramet_now_us() - start_us;
    return true;
}

int ramet_vm_capture_begin(struct ramet_vm *vm, struct ramet_vm_capture **ret, struct ramet_error *err)
{
    if (vm->paused_at_us == 0)
        return ramet_error_set(err, RAMET_CONFLICT, "VM \"%s\" is not paused; a capture needs it to stand still",
                               vm->name);
    struct ramet_vm_capture *capture = calloc(1, sizeof *capture);
    if (!capture)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a capture");
    capture->state_fd = capture->memory_fd = -1;
    capture->timing.stop_us = vm->last.stop_us;
    int r = save_state(vm, capture, err);
    if (r == 0 && !hold_memory(vm, capture))
        r = copy_memory(vm, ramet_process_pid(vm->process), capture, err);
    if (r < 0) {
        ramet_vm_capture_free(capture);
        return ramet_vm_explain(vm, r, err);
    }
    *ret = capture;
    return 0;
}

static int collect_held(struct ramet_vm *vm, struct ramet_vm_capture *capture, struct ramet_error *err)
{
    pid_t pid;
    uint64_t address;
    int r = ramet_hold_pid(capture->hold, &pid, err);
    /* A holder without the mapping would look like a guest that changed nothing. */
    if (r == 0)
        r = ramet_pagemap_find(pid, vm->memory_name, vm->memory_bytes, &address, err);
    if (r == 0 && address != vm->memory_address)
        r = ramet_error_set(err, RAMET_INTERNAL, "the memory holder maps guest memory elsewhere than QEMU");
    if (r == 0)
        r = copy_memory(vm, pid, capture, err);
    ramet_hold_drop(STEAL(capture->hold));
    return r;
}

int ramet_vm_capture_collect(struct ramet_vm *vm, struct ramet_vm_capture *capture, struct ramet_error *err)
{
    capture->timing.resume_us = vm->last.resume_us;
    capture->timing.pause_us = vm->last.pause_us;
    if (!capture->hold)
        return 0;
    int r = collect_held(vm, capture, err);
    return r < 0 ? ramet_vm_explain(vm, r, err) : 0;
}

void ramet_vm_capture_free(struct ramet_vm_capture *capture)
{
    if (!capture)
        return;
    ramet_hold_drop(capture->hold);
    ramet_cleanup_close(&capture->state_fd);
    ramet_cleanup_close(&capture->memory_fd);
    free(capture->pages);
    free(capture);
}
