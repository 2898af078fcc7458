/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshot of a running sandbox.
 *
 * The guest stands still only between ramet_vm_pause and ramet_vm_resume: device state
 * is saved, memory made safe, disks frozen, all at that instant. Then the snapshot is
 * put together from memory-resident layers and made visible.
 *
 * A sandbox that was paused for its last snapshot and has not run since is not captured again: its
 * CPUs and devices stood still, so only its disks could have changed, through the mount.
 *
 * A failure anywhere resumes the guest and leaves nothing.
 */
#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "jobs.h"
#include "mount.h"
#include "sandbox_workspaces.h"
#include "service_private.h"

#include <stdio.h>
#include <string.h>

/* --- capture --- */

struct capture {
    struct ramet_vm_capture *vm;                       /* owned */
    struct ramet_image *disks[RAMET_BRANCH_DISKS_MAX]; /* owned */
    uint64_t generations[RAMET_BRANCH_DISKS_MAX];
    size_t disk_count;
    uint64_t freeze_us;
    struct ramet_snapshot *snapshot; /* owned until it is published; its id names the workspaces' states */
    struct ramet_attached attached;
};

static void capture_free(struct capture *capture)
{
    ramet_vm_capture_free(capture->vm);
    for (size_t i = 0; i < capture->disk_count; i++)
        ramet_image_unref(capture->disks[i]);
    ramet_snapshot_unref(capture->snapshot);
    ramet_attached_free(&capture->attached);
}

static int freeze_disks(struct ramet_branch *branch, struct capture *capture, struct ramet_error *err)
{
    uint64_t began = ramet_now_us();
    int r = 0;
    for (size_t i = 0; i < branch->disk_count && r == 0; i++) {
        r = ramet_overlay_freeze(branch->disks[i], &capture->disks[i], &capture->generations[i], err);
        capture->disk_count += r == 0;
    }
    capture->freeze_us = ramet_now_us() - began;
    return r;
}

/* Takes memory, state and disks of one instant. The VM runs again afterwards, also on failure, if it ran before. */
static int take(struct ramet_sandbox *sandbox, struct ramet_vm *vm, bool was_paused, struct capture *capture,
                struct ramet_error *err)
{
    struct ramet_error resume_err = {0};
    int r = ramet_snapshot_new(sandbox->service->catalog, &capture->snapshot, err);
    if (r == 0)
        r = ramet_attached_find(sandbox, &capture->attached, err);
    if (r == 0)
        r = ramet_vm_capture_prepare(vm, !sandbox->memory_now, &capture->vm, err);
    if (r == 0 && !was_paused)
        r = ramet_vm_pause(vm, err);
    if (r < 0)
        return r;
    r = ramet_vm_capture_begin(vm, capture->vm, err);
    if (r == 0)
        r = freeze_disks(sandbox->branch, capture, err);
    if (r == 0)
        r = ramet_attached_keep(sandbox, &capture->attached, capture->snapshot->id, err);
    if (!was_paused && ramet_vm_resume(vm, &resume_err) < 0 && r == 0) {
        *err = resume_err;
        r = -err->code;
    }
    return r == 0 ? ramet_vm_capture_collect(vm, capture->vm, err) : r;
}

static void fill_timing(const struct ramet_vm_timing *vm, uint64_t freeze_us, struct ramet_fork_timing *ret)
{
    *ret = (struct ramet_fork_timing){.pause_us = vm->pause_us,
                                      .prepare_us = vm->prepare_us,
                                      .stop_us = vm->stop_us,
                                      .state_us = vm->state_us,
                                      .scan_us = vm->scan_us,
                                      .copy_us = vm->copy_us,
                                      .hold_us = vm->hold_us,
                                      .freeze_us = freeze_us,
                                      .resume_us = vm->resume_us,
                                      .collect_us = vm->collect_us};
}

/* --- the snapshot --- */

/* The captured memory: pages over what they changed. Takes the memfd and the bitmap over. */
static int memory_image(struct ramet_sandbox *sandbox, struct ramet_vm_capture *vm, struct ramet_image **ret,
                        struct ramet_error *err)
{
    struct ramet_layer *layer;
    struct ramet_image *under = sandbox->memory_now ? sandbox->memory_now : sandbox->memory_base;
    uint64_t pages = ramet_image_size(under) / RAMET_PAGE_SIZE;
    int r = ramet_layer_new_spread(STEAL_FD(vm->memory_fd), STEAL(vm->bitmap), pages, &layer, err);
    return r < 0 ? r : ramet_image_new_layered(under, layer, ret, err);
}

static int add_images(struct ramet_sandbox *sandbox, struct capture *capture, struct ramet_snapshot *snapshot,
                      struct ramet_error *err)
{
    struct ramet_image *image;
    int r = memory_image(sandbox, capture->vm, &image, err);
    if (r == 0)
        r = ramet_snapshot_add_image(snapshot, "memory", image, err);
    if (r == 0)
        r = ramet_image_new_whole(ramet_catalog_images(sandbox->service->catalog), STEAL_FD(capture->vm->state_fd),
                                  capture->vm->state_bytes, &image, err);
    if (r == 0)
        r = ramet_snapshot_add_image(snapshot, "state", image, err);
    for (size_t i = 0; i < capture->disk_count && r == 0; i++) {
        char name[RAMET_DISK_NAME_SIZE];
        ramet_disk_name(name, i);
        r = ramet_snapshot_add_image(snapshot, name, ramet_image_ref(capture->disks[i]), err);
    }
    return r;
}

/* Puts the capture together as a snapshot and lists it: whoever finds it may start on it. */
static int publish(struct ramet_sandbox *sandbox, struct capture *capture, const char *tag, struct ramet_snapshot **ret,
                   struct ramet_error *err)
{
    struct ramet_service *service = sandbox->service;
    struct ramet_snapshot *snapshot = capture->snapshot;
    memcpy(snapshot->sandbox, sandbox->branch->id, sizeof snapshot->sandbox);
    snprintf(snapshot->sandbox_name, sizeof snapshot->sandbox_name, "%s", sandbox->branch->name);
    snapshot->memory_bytes = sandbox->branch->memory_bytes;
    snapshot->cpus = sandbox->branch->cpus;
    snapshot->captured_pages = capture->vm->page_count;
    pthread_mutex_lock(&service->lock);
    memcpy(snapshot->parent, sandbox->lineage, sizeof snapshot->parent);
    pthread_mutex_unlock(&service->lock);
    int r = add_images(sandbox, capture, snapshot, err);
    if (r == 0)
        r = ramet_catalog_add(service->catalog, snapshot, tag, err);
    if (r < 0) {
        ramet_service_forget_states(service, snapshot->id);
        return r;
    }
    ramet_mount_snapshot_changed(service->mount, snapshot->id);
    if (tag)
        ramet_mount_snapshot_changed(service->mount, tag);
    *ret = STEAL(capture->snapshot);
    return 0;
}

int ramet_sandbox_enqueue(struct ramet_sandbox *sandbox, struct ramet_snapshot *snapshot, const uint64_t *generations,
                          struct ramet_error *err)
{
    struct ramet_service *service = sandbox->service;
    int r = ramet_commit_queue_add(service->commits, snapshot, sandbox->branch, generations, err);
    if (r < 0)
        return r;
    pthread_mutex_lock(&service->lock);
    if (!ramet_branch_left(sandbox->branch, snapshot)) /* while a fork's children started, perhaps */
        memcpy(sandbox->lineage, snapshot->id, sizeof sandbox->lineage);
    pthread_mutex_unlock(&service->lock);
    return 0;
}

/* What the next capture builds on: the memory of this snapshot, or what the VM was started from. Under op. */
static void remember_memory(struct ramet_sandbox *sandbox, struct ramet_snapshot *snapshot)
{
    ramet_image_unref(STEAL(sandbox->memory_now));
    if (snapshot)
        sandbox->memory_now = ramet_image_ref(ramet_snapshot_image(snapshot, "memory"));
}

/* `snapshot` may be NULL. Under op. */
static void remember_still(struct ramet_sandbox *sandbox, struct ramet_snapshot *snapshot)
{
    ramet_snapshot_unref(STEAL(sandbox->still));
    if (snapshot)
        sandbox->still = ramet_snapshot_ref(snapshot);
}

int ramet_sandbox_snapshot(struct ramet_sandbox *sandbox, const char *tag, struct ramet_snapshot **ret,
                           uint64_t generations[RAMET_BRANCH_DISKS_MAX], struct ramet_fork_timing *ret_timing,
                           struct ramet_error *err)
{
    struct capture capture = {0};
    struct ramet_vm *vm;
    bool was_paused = false;
    int r = tag ? ramet_name_check(tag, "tag", err) : 0;
    if (r < 0)
        return r;
    pthread_mutex_lock(&sandbox->op);
    pthread_mutex_lock(&sandbox->clock);
    r = ramet_sandbox_vm_get(sandbox, &vm, err);
    if (r == 0) {
        pthread_mutex_lock(&sandbox->service->lock);
        was_paused = sandbox->state == RAMET_SANDBOX_PAUSED;
        pthread_mutex_unlock(&sandbox->service->lock);
        r = take(sandbox, vm, was_paused, &capture, err);
        ramet_sandbox_vm_put(sandbox);
    }
    pthread_mutex_unlock(&sandbox->clock);
    if (r == 0) {
        fill_timing(&capture.vm->timing, capture.freeze_us, ret_timing);
        memcpy(generations, capture.generations, sizeof capture.generations);
        r = publish(sandbox, &capture, tag, ret, err);
    }
    remember_memory(sandbox, r == 0 && capture.vm->tracked ? *ret : NULL);
    remember_still(sandbox, r == 0 && was_paused ? *ret : NULL);
    pthread_mutex_unlock(&sandbox->op);
    capture_free(&capture);
    return r;
}

void ramet_sandbox_withdraw(struct ramet_sandbox *sandbox, struct ramet_snapshot *snapshot)
{
    struct ramet_service *service = sandbox->service;
    struct ramet_error err = {0};
    pthread_mutex_lock(&sandbox->op);
    if (sandbox->memory_now == ramet_snapshot_image(snapshot, "memory"))
        remember_memory(sandbox, NULL);
    if (sandbox->still == snapshot)
        remember_still(sandbox, NULL);
    pthread_mutex_unlock(&sandbox->op);
    ramet_commit_queue_forget(service->commits, snapshot);
    if (ramet_catalog_remove(service->catalog, snapshot, &err) < 0)
        ramet_warn("%s", err.msg);
    ramet_service_forget_states(service, snapshot->id);
    ramet_mount_snapshot_changed(service->mount, snapshot->id);
}

/* --- unchanged --- */

/* Workspaces change without the guest. */
static bool has_workspaces(struct ramet_sandbox *sandbox)
{
    _cleanup_(ramet_attached_free) struct ramet_attached attached = {0};
    return ramet_attached_find(sandbox, &attached, NULL) < 0 || attached.count > 0;
}

/* The last snapshot, when nothing can have changed since; a reference of the caller's, or NULL. */
static struct ramet_snapshot *still_valid(struct ramet_sandbox *sandbox)
{
    struct ramet_snapshot *still = NULL;
    struct ramet_vm *vm;
    pthread_mutex_lock(&sandbox->op);
    if (sandbox->still && !has_workspaces(sandbox) && ramet_sandbox_vm_get(sandbox, &vm, NULL) == 0) {
        still = ramet_snapshot_ref(sandbox->still);
        ramet_sandbox_vm_put(sandbox);
    }
    for (size_t i = 0; i < sandbox->branch->disk_count && still; i++)
        if (ramet_overlay_written_bytes(sandbox->branch->disks[i]) > 0)
            ramet_snapshot_unref(STEAL(still));
    pthread_mutex_unlock(&sandbox->op);
    return still;
}

/* Answers with the last snapshot when nothing has changed since: *ret is NULL when a new one must be taken. */
static int skip(struct ramet_sandbox *sandbox, const char *tag, struct ramet_snapshot **ret, struct ramet_error *err)
{
    struct ramet_service *service = sandbox->service;
    struct ramet_snapshot *still = still_valid(sandbox);
    int r = 0;
    if (still)
        ramet_commit_queue_wait(service->commits, still, NULL);
    if (!still || !atomic_load(&still->durable) || atomic_load(&still->removed)) {
        ramet_snapshot_unref(still);
        *ret = NULL;
        return 0;
    }
    if (tag && (r = ramet_catalog_tag(service->catalog, still, tag, err)) == 0)
        ramet_mount_snapshot_changed(service->mount, tag);
    if (r < 0)
        ramet_snapshot_unref(still);
    else
        *ret = still;
    return r;
}

/* Takes one and waits until it is durable. */
static int store(struct ramet_sandbox *sandbox, const char *tag, struct ramet_snapshot **ret,
                 struct ramet_fork_timing *ret_timing, struct ramet_error *err)
{
    uint64_t generations[RAMET_BRANCH_DISKS_MAX];
    struct ramet_snapshot *snapshot;
    int r = ramet_sandbox_snapshot(sandbox, tag, &snapshot, generations, ret_timing, err);
    if (r < 0)
        return r;
    r = ramet_sandbox_enqueue(sandbox, snapshot, generations, err);
    if (r == 0)
        r = ramet_commit_queue_wait(sandbox->service->commits, snapshot, err);
    if (r < 0) {
        ramet_sandbox_withdraw(sandbox, snapshot);
        ramet_snapshot_unref(snapshot);
        return r;
    }
    *ret = snapshot;
    return 0;
}

int ramet_service_snapshot_uncounted(struct ramet_service *service, const char *ref, const char *tag,
                                     struct ramet_snapshot_result *ret, struct ramet_error *err)
{
    _cleanup_(ramet_jobs_cleanup) struct ramet_jobs *held = ramet_jobs_hold(service->jobs);
    _cleanup_(ramet_sandbox_cleanup) struct ramet_sandbox *sandbox = NULL;
    _cleanup_(ramet_snapshot_cleanup) struct ramet_snapshot *snapshot = NULL;
    struct ramet_snapshot_result result = {0};
    uint64_t began = ramet_now_us();
    int r = ramet_sandbox_find(service, ref, &sandbox, err);
    if (r == 0)
        r = skip(sandbox, tag, &snapshot, err);
    result.unchanged = snapshot;
    if (r == 0 && !snapshot)
        r = store(sandbox, tag, &snapshot, &result.timing, err);
    if (r < 0)
        return r;
    result.timing.total_us = ramet_now_us() - began;
    ramet_snapshot_fill_info(service, snapshot, &result.snapshot);
    *ret = result;
    return 0;
}
