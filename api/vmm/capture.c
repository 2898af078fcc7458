/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Capturing a VM: its device state, and the guest memory it does not share with its memory
 * file, or of that what changed since the capture before.
 *
 * The pause must not grow with what is dirty. Where the kernel tracks writes, memory is copied
 * as a live migration does: listing the pages written so far begins tracking anew, so copying
 * them may race with the guest, which is then listed again; a few rounds later little is left.
 * The pause lists the rest and copies it. A guest that writes faster than we copy leaves more
 * than that; then a memory holder (hold.h), a fork inside QEMU, keeps memory as it is, and the
 * rest is copied from there after the guest has resumed. Without tracking all private pages
 * come from the holder. Without either they are copied inside the pause.
 *
 * Device state comes before the last listing, since saving it may write to guest memory.
 *
 * A capture owns its memfds, its bitmap and its holder; nothing refers to the VM afterwards, and
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

/*
 * Copying ahead ends when a round finds no more than `settled_pages`, or not less than half of the round before.
 * Copying `pause_pages` inside the pause takes as long as a holder of a small guest, 1.5 ms.
 */
enum { rounds_max = 6, settled_pages = 256, pause_pages = 1024 };

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

/* Copies pages out of `pid`, the VMM or a holder of its memory. */
static int copy_runs(struct ramet_vm *vm, pid_t pid, const struct ramet_page_runs *runs,
                     struct ramet_vm_capture *capture, struct ramet_error *err)
{
    bool held = pid != ramet_process_pid(vm->process);
    int r = ramet_pagemap_copy(pid, vm->memory_address, runs, held, capture->memory_fd, err);
    for (size_t i = 0; i < runs->count && r == 0; i++)
        for (uint64_t page = runs->items[i].page; page < runs->items[i].page + runs->items[i].count; page++) {
            uint64_t bit = UINT64_C(1) << page % 64, *word = &capture->bitmap[page / 64];
            capture->page_count += !(*word & bit);
            *word |= bit;
        }
    return r;
}

/* Copies all private pages of `pid`, whose guest memory stands still. */
static int copy_private(struct ramet_vm *vm, pid_t pid, struct ramet_vm_capture *capture, struct ramet_error *err)
{
    _cleanup_(ramet_page_runs_free) struct ramet_page_runs runs = {0};
    int r = ramet_pagemap_scan(pid, vm->memory_address, vm->memory_bytes, RAMET_SCAN_PRIVATE, &runs, err);
    return r < 0 ? r : copy_runs(vm, pid, &runs, capture, err);
}

/* --- before the pause --- */

static bool method_is(const char *name)
{
    const char *method = getenv("RAMET_CAPTURE");
    return method && strcmp(method, name) == 0;
}

/* Begins to track writes the first time; everything private counts as written then. */
static bool is_tracked(struct ramet_vm *vm)
{
    struct ramet_error err = {0};
    if (vm->hold_fd < 0 || method_is("hold") || method_is("copy"))
        return false;
    if (vm->tracking == RAMET_TRACKING_UNASKED) {
        bool on = ramet_hold_track(vm->hold_fd, vm->memory_address, vm->memory_bytes, &err) == 0;
        vm->tracking = on ? RAMET_TRACKING_ON : RAMET_TRACKING_OFF;
        if (!on)
            ramet_debug("VM \"%s\": %s", vm->name, err.msg);
    }
    return vm->tracking == RAMET_TRACKING_ON;
}

static int scan(struct ramet_vm *vm, enum ramet_page_scan_how how, struct ramet_page_runs *ret, struct ramet_error *err)
{
    return ramet_pagemap_scan(ramet_process_pid(vm->process), vm->memory_address, vm->memory_bytes, how, ret, err);
}

/* Pages that both list. */
static int intersect(const struct ramet_page_runs *a, const struct ramet_page_runs *b, struct ramet_page_runs *ret,
                     struct ramet_error *err)
{
    int r = 0;
    for (size_t i = 0, k = 0; i < a->count && k < b->count && r == 0;) {
        const struct ramet_page_run *x = &a->items[i], *y = &b->items[k];
        uint64_t first = x->page > y->page ? x->page : y->page;
        uint64_t x_end = x->page + x->count, y_end = y->page + y->count, end = x_end < y_end ? x_end : y_end;
        if (first < end)
            r = ramet_page_runs_add(ret, first, end - first, err);
        i += x_end <= y_end;
        k += y_end <= x_end;
    }
    return r;
}

/*
 * Lists the pages written since the last time, or all private ones, and begins anew. The quick scan also tells of pages
 * that were only read: many are sorted out, a few are captured for nothing.
 */
static int list_written(struct ramet_vm *vm, bool whole, struct ramet_page_runs *ret, struct ramet_error *err)
{
    _cleanup_(ramet_page_runs_free) struct ramet_page_runs touched = {0}, private = {0};
    int r = scan(vm, RAMET_SCAN_TOUCHED, &touched, err);
    if (r == 0 && !whole && touched.page_count <= settled_pages) {
        *ret = touched;
        touched = (struct ramet_page_runs){0};
        return 0;
    }
    if (r == 0)
        r = scan(vm, RAMET_SCAN_PRIVATE, &private, err);
    if (r == 0)
        r = intersect(whole ? &private : &touched, &private, ret, err);
    return r;
}

static int copy_ahead(struct ramet_vm *vm, bool whole, struct ramet_vm_capture *capture, struct ramet_error *err)
{
    uint64_t before = UINT64_MAX;
    for (int round = 0; round < rounds_max; round++) {
        _cleanup_(ramet_page_runs_free) struct ramet_page_runs runs = {0};
        int r = list_written(vm, whole && round == 0, &runs, err);
        if (r == 0)
            r = copy_runs(vm, ramet_process_pid(vm->process), &runs, capture, err);
        if (r < 0)
            return r;
        if (runs.page_count <= settled_pages || runs.page_count > before / 2)
            break;
        before = runs.page_count;
    }
    return 0;
}

static int make_memory(struct ramet_vm *vm, struct ramet_vm_capture *capture, struct ramet_error *err)
{
    capture->bitmap = calloc(vm->memory_bytes / RAMET_PAGE_SIZE / 64 + 1, sizeof *capture->bitmap);
    if (!capture->bitmap)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a capture");
    capture->memory_fd = memfd_create("ramet-capture", MFD_CLOEXEC);
    if (capture->memory_fd < 0 || ftruncate(capture->memory_fd, (off_t)vm->memory_bytes) < 0)
        return ramet_error_os(err, errno, "memory for captured pages");
    return 0;
}

int ramet_vm_capture_prepare(struct ramet_vm *vm, bool whole, struct ramet_vm_capture **ret, struct ramet_error *err)
{
    uint64_t start_us = ramet_now_us();
    struct ramet_vm_capture *capture = calloc(1, sizeof *capture);
    if (!capture)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a capture");
    capture->state_fd = capture->memory_fd = -1;
    int r = make_memory(vm, capture, err);
    capture->tracked = r == 0 && is_tracked(vm);
    if (capture->tracked)
        r = copy_ahead(vm, whole, capture, err);
    if (r < 0) {
        ramet_vm_capture_free(capture);
        return ramet_vm_explain(vm, r, err);
    }
    capture->timing.prepare_us = ramet_now_us() - start_us;
    *ret = capture;
    return 0;
}

/* --- inside the pause --- */

/* True when the holder has the memory; false leads to copying inside the pause. */
static bool hold_memory(struct ramet_vm *vm, struct ramet_vm_capture *capture)
{
    if (vm->hold_fd < 0 || method_is("copy"))
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

static int secure_memory(struct ramet_vm *vm, struct ramet_vm_capture *capture, struct ramet_error *err)
{
    pid_t pid = ramet_process_pid(vm->process);
    uint64_t start_us = ramet_now_us();
    int r = 0;
    if (capture->tracked) {
        r = scan(vm, RAMET_SCAN_TOUCHED, &capture->late, err);
        capture->timing.scan_us = ramet_now_us() - start_us;
    }
    if (r < 0 || ((!capture->tracked || capture->late.page_count > pause_pages) && hold_memory(vm, capture)))
        return r;
    start_us = ramet_now_us();
    r = capture->tracked ? copy_runs(vm, pid, &capture->late, capture, err) : copy_private(vm, pid, capture, err);
    capture->timing.copy_us = ramet_now_us() - start_us;
    return r;
}

int ramet_vm_capture_begin(struct ramet_vm *vm, struct ramet_vm_capture *capture, struct ramet_error *err)
{
    if (vm->paused_at_us == 0)
        return ramet_error_set(err, RAMET_CONFLICT, "VM \"%s\" is not paused; a capture needs it to stand still",
                               vm->name);
    capture->timing.stop_us = vm->last.stop_us;
    int r = save_state(vm, capture, err);
    if (r == 0)
        r = secure_memory(vm, capture, err);
    return r < 0 ? ramet_vm_explain(vm, r, err) : 0;
}

/* --- after the pause --- */

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
        r = capture->tracked ? copy_runs(vm, pid, &capture->late, capture, err) : copy_private(vm, pid, capture, err);
    ramet_hold_drop(STEAL(capture->hold));
    return r;
}

int ramet_vm_capture_collect(struct ramet_vm *vm, struct ramet_vm_capture *capture, struct ramet_error *err)
{
    capture->timing.resume_us = vm->last.resume_us;
    capture->timing.pause_us = vm->last.pause_us;
    if (!capture->hold)
        return 0;
    uint64_t start_us = ramet_now_us();
    int r = collect_held(vm, capture, err);
    capture->timing.collect_us = ramet_now_us() - start_us;
    return r < 0 ? ramet_vm_explain(vm, r, err) : 0;
}

void ramet_vm_capture_free(struct ramet_vm_capture *capture)
{
    if (!capture)
        return;
    ramet_hold_drop(capture->hold);
    ramet_page_runs_free(&capture->late);
    ramet_cleanup_close(&capture->state_fd);
    ramet_cleanup_close(&capture->memory_fd);
    free(capture->bitmap);
    free(capture);
}
