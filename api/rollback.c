/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rollback: a sandbox becomes what a snapshot holds, under its own name.
 *
 * Stock QEMU cannot load a state into a machine that has run (docs/vmm.md), so another VMM, mostly one of the
 * pool, loads the snapshot beside the old one and takes its place:
 *
 *   load   the new VM, standing still, on the same disk files, of which it reads nothing yet
 *   stop   the old one: its disks are drained
 *   turn   the branch to new overlays, durably: from here on it is rolled back
 *   swap   the VMs; the old one is killed, the new one runs
 *
 * Whatever fails before the turn leaves the old VM running as if nothing had happened. When the new one does not
 * run after it, the sandbox is rolled back and stopped; another rollback starts it. A crash leaves the branch on
 * either side of the turn; as after any crash the VM is gone.
 */
#include "base/cleanup.h"
#include "base/file.h"
#include "clocks.h"
#include "jobs.h"
#include "mount.h"
#include "sandbox_workspaces.h"
#include "service_private.h"
#include "warmup.h"

#include <signal.h>
#include <string.h>

enum { default_wait_ms = 60000 };

static int unfit(const struct ramet_sandbox *sandbox, const struct ramet_snapshot *target, const char *what,
                 struct ramet_error *err)
{
    ramet_error_set(err, RAMET_CONFLICT, "sandbox \"%s\" cannot become snapshot %s: %s", sandbox->branch->name,
                    target->id, what);
    return ramet_error_hint(err, "'ramet restore %s' starts another sandbox from it", target->id);
}

/* Disks of other sizes are refused by the catalog. */
static int check_fit(const struct ramet_sandbox *sandbox, const struct ramet_snapshot *target, struct ramet_error *err)
{
    const struct ramet_branch *branch = sandbox->branch;
    size_t disk_count = 0;
    char name[RAMET_DISK_NAME_SIZE] = "disk0";
    while (ramet_snapshot_image(target, name))
        ramet_disk_name(name, ++disk_count);
    if (!ramet_snapshot_image(target, "memory") || !ramet_snapshot_image(target, "state"))
        return unfit(sandbox, target, "it holds no memory", err);
    if (target->memory_bytes != branch->memory_bytes)
        return unfit(sandbox, target, "it has another memory size", err);
    if (target->cpus != branch->cpus)
        return unfit(sandbox, target, "it has another number of CPUs", err);
    if (disk_count != branch->disk_count)
        return unfit(sandbox, target, "it has other disks", err);
    return ramet_check_memory(branch->memory_bytes / 8, 1, err);
}

/* Stops the old VM if it runs and turns the branch; on failure it runs on. Under op. */
static int turn(struct ramet_sandbox *sandbox, struct ramet_snapshot *target, bool was_paused, struct ramet_error *err)
{
    struct ramet_service *service = sandbox->service;
    struct ramet_vm *old = NULL;
    int r = ramet_sandbox_vm_get(sandbox, &old, NULL) == 0 && !was_paused ? ramet_vm_pause(old, err) : 0;
    if (r == 0)
        r = ramet_catalog_branch_rollback(service->catalog, sandbox->branch, target, err);
    if (r == 0) {
        ramet_mount_disks_changed(service->mount, sandbox->branch);
        ramet_sandbox_roll_back_workspaces(sandbox, target->id);
    }
    if (r == 0 && old)
        kill(ramet_vm_pid(old), SIGKILL);
    if (r < 0 && old && !was_paused)
        ramet_vm_resume(old, NULL);
    if (old)
        ramet_sandbox_vm_put(sandbox);
    return r;
}

/* Puts the new VM and what it maps in the place of the old, which is returned, dead. Under op. */
static struct ramet_vm *swap(struct ramet_sandbox *sandbox, struct ramet_snapshot *target, struct ramet_vm *vm,
                             struct ramet_image *memory, bool was_paused)
{
    struct ramet_service *service = sandbox->service;
    pthread_mutex_lock(&sandbox->clock); /* who sets the old guest's clock fails soon: its VM is dead */
    pthread_rwlock_wrlock(&sandbox->vm_lock);
    struct ramet_vm *old = sandbox->vm;
    sandbox->vm = vm;
    pthread_rwlock_unlock(&sandbox->vm_lock);
    sandbox->clock_due = true;
    pthread_mutex_unlock(&sandbox->clock);
    ramet_image_unref(sandbox->memory_base);
    sandbox->memory_base = memory;
    ramet_image_unref(STEAL(sandbox->memory_now));
    ramet_snapshot_unref(STEAL(sandbox->still));
    pthread_mutex_lock(&service->lock);
    struct ramet_snapshot *old_base = sandbox->base;
    sandbox->base = ramet_snapshot_ref(target);
    memcpy(sandbox->lineage, target->id, sizeof sandbox->lineage);
    pthread_mutex_unlock(&service->lock);
    ramet_snapshot_unref(old_base);
    ramet_sandbox_set_state(sandbox, was_paused ? RAMET_SANDBOX_PAUSED : RAMET_SANDBOX_RUNNING, "");
    return old;
}

static bool is_paused(struct ramet_sandbox *sandbox)
{
    pthread_mutex_lock(&sandbox->service->lock);
    bool paused = sandbox->state == RAMET_SANDBOX_PAUSED;
    pthread_mutex_unlock(&sandbox->service->lock);
    return paused;
}

/* Under op. */
static int roll_back(struct ramet_sandbox *sandbox, const struct ramet_sandbox_plan *plan, bool was_paused,
                     struct ramet_child_timing *timing, struct ramet_error *err)
{
    struct ramet_vm *vm, *old;
    struct ramet_image *memory;
    if (!ramet_sandbox_is_listed(sandbox))
        return ramet_error_set(err, RAMET_NOT_FOUND, "sandbox \"%s\" is removed", sandbox->branch->name);
    ramet_warmup_free(STEAL(sandbox->warmup));
    if (!plan->no_answer_wait) /* the answer ends it */
        sandbox->warmup = ramet_warmup_begin(sandbox->service, plan->base);
    int r = ramet_sandbox_vm_new(sandbox, plan, &vm, &memory, err);
    if (r < 0) {
        ramet_warmup_free(STEAL(sandbox->warmup));
        return r;
    }
    *timing = (struct ramet_child_timing){.pooled = ramet_vm_start_timing(vm)->spawn_us == 0,
                                          .spawn_us = ramet_vm_start_timing(vm)->spawn_us,
                                          .load_us = ramet_vm_start_timing(vm)->load_us,
                                          .start_us = ramet_now_us() - plan->began_us};
    if ((r = turn(sandbox, plan->base, was_paused, err)) < 0) {
        ramet_vm_free(vm);
        ramet_image_unref(memory);
        ramet_warmup_free(STEAL(sandbox->warmup));
        return r;
    }
    old = swap(sandbox, plan->base, vm, memory, was_paused);
    if (!was_paused && (r = ramet_sandbox_release(sandbox, plan, timing, err)) < 0) {
        ramet_sandbox_stop(sandbox, "it was rolled back, and its new VM did not run");
        ramet_error_hint(err, "it is rolled back and stopped; 'ramet rollback %s %s' starts it", sandbox->branch->name,
                         plan->base->id);
    }
    ramet_vm_free(old);
    return r;
}

int ramet_service_rollback_uncounted(struct ramet_service *service, const char *ref,
                                     const struct ramet_rollback_request *request, struct ramet_sandbox_info *ret,
                                     struct ramet_child_timing *ret_timing, struct ramet_error *err)
{
    _cleanup_(ramet_jobs_cleanup) struct ramet_jobs *held = ramet_jobs_hold(service->jobs);
    _cleanup_(ramet_vm_pool_cleanup) struct ramet_vm_pool *pool = ramet_vm_pool_hold(service->pool);
    _cleanup_(ramet_sandbox_cleanup) struct ramet_sandbox *sandbox = NULL;
    _cleanup_(ramet_snapshot_cleanup) struct ramet_snapshot *target = NULL;
    struct ramet_child_timing timing = {0};
    struct ramet_sandbox_plan plan = {.start_paused = true,
                                      .wait_ms = request->wait_ms ? request->wait_ms : default_wait_ms,
                                      .no_answer_wait = request->no_answer_wait,
                                      .began_us = ramet_now_us()};
    int r = ramet_sandbox_find(service, ref, &sandbox, err);
    if (r == 0)
        r = ramet_catalog_find(service->catalog, request->snapshot, &target, err);
    if (r == 0)
        r = check_fit(sandbox, target, err);
    if (r == 0)
        r = ramet_await_durable(service, target, err); /* the branch's record may name only what a crash leaves */
    if (r < 0)
        return r;
    plan.base = target;
    plan.memory_bytes = target->memory_bytes;
    plan.cpus = target->cpus;
    pthread_mutex_lock(&sandbox->op);
    bool was_paused = is_paused(sandbox);
    plan.no_answer_wait |= was_paused;
    r = roll_back(sandbox, &plan, was_paused, &timing, err);
    pthread_mutex_unlock(&sandbox->op);
    if (r == 0)
        r = ramet_sandbox_await(sandbox, &plan, &timing, err);
    if (r < 0)
        return r;
    ramet_clocks_add(service->clocks, sandbox);
    ramet_sandbox_info_get(sandbox, NULL, ret);
    *ret_timing = timing;
    return 0;
}
