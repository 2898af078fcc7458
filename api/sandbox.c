/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sandboxes come and go: branch, run directory, VM, list. The VM's memory and disks are
 * files on our own mount, so nothing here may hold a lock the mount's threads need
 * while the VM starts; the mount needs none of the service's.
 *
 * VMs die with the daemon (vmm.h). A crash leaves branch records, which the next
 * daemon lists as lost, and run directories, which it clears.
 */
#include "sandbox.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "mount.h"
#include "service_private.h"
#include "warmup.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

/* --- references and the list --- */

void ramet_sandbox_unref(struct ramet_sandbox *sandbox)
{
    if (!sandbox || atomic_fetch_sub(&sandbox->refs, 1) != 1)
        return;
    ramet_vm_free(sandbox->vm);
    ramet_warmup_free(sandbox->warmup);
    ramet_image_unref(sandbox->memory_base);
    ramet_image_unref(sandbox->memory_now);
    ramet_snapshot_unref(sandbox->still);
    ramet_snapshot_unref(sandbox->base);
    ramet_branch_unref(sandbox->branch);
    pthread_mutex_destroy(&sandbox->op);
    pthread_mutex_destroy(&sandbox->clock);
    pthread_rwlock_destroy(&sandbox->vm_lock);
    free(sandbox);
}

void ramet_sandbox_cleanup(struct ramet_sandbox **sandbox) { ramet_sandbox_unref(*sandbox); }

static int list_add(struct ramet_sandbox *sandbox, struct ramet_error *err)
{
    struct ramet_service *service = sandbox->service;
    pthread_mutex_lock(&service->lock);
    int r = ramet_members_add(&service->sandboxes, sandbox->branch->id, sandbox->branch->serial, sandbox, err);
    if (r == 0)
        atomic_fetch_add(&sandbox->refs, 1);
    pthread_mutex_unlock(&service->lock);
    return r;
}

bool ramet_sandbox_is_listed(const struct ramet_sandbox *sandbox)
{
    pthread_mutex_lock(&sandbox->service->lock);
    bool listed = ramet_members_by_id(&sandbox->service->sandboxes, sandbox->branch->id) == sandbox;
    pthread_mutex_unlock(&sandbox->service->lock);
    return listed;
}

/* False when it was not listed any more. */
static bool list_remove(struct ramet_sandbox *sandbox)
{
    struct ramet_service *service = sandbox->service;
    pthread_mutex_lock(&service->lock);
    bool found = ramet_members_by_id(&service->sandboxes, sandbox->branch->id) == sandbox;
    if (found)
        ramet_members_remove(&service->sandboxes, sandbox->branch->id, sandbox->branch->serial);
    pthread_mutex_unlock(&service->lock);
    if (found)
        ramet_sandbox_unref(sandbox);
    return found;
}

/* The catalog says which branch has the name: a promotion gives it to another at once. */
int ramet_sandbox_find(struct ramet_service *service, const char *ref, struct ramet_sandbox **ret,
                       struct ramet_error *err)
{
    _cleanup_(ramet_branch_cleanup) struct ramet_branch *branch = NULL;
    struct ramet_sandbox *found = NULL;
    if (ramet_catalog_branch_find(service->catalog, ref, &branch, NULL) == 0) {
        pthread_mutex_lock(&service->lock);
        found = ramet_members_by_id(&service->sandboxes, branch->id);
        if (found)
            atomic_fetch_add(&found->refs, 1);
        pthread_mutex_unlock(&service->lock);
    }
    if (!found) {
        ramet_error_set(err, RAMET_NOT_FOUND, "sandbox \"%s\" not found", ref);
        return ramet_error_hint(err, "'ramet ls' lists them");
    }
    *ret = found;
    return 0;
}

int ramet_sandbox_list(struct ramet_service *service, struct ramet_sandbox ***ret, size_t *ret_count,
                       struct ramet_error *err)
{
    size_t count = 0;
    pthread_mutex_lock(&service->lock);
    struct ramet_sandbox **all = (struct ramet_sandbox **)ramet_members_list(&service->sandboxes, &count);
    for (size_t i = 0; i < count; i++)
        atomic_fetch_add(&all[i]->refs, 1);
    pthread_mutex_unlock(&service->lock);
    if (!all)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to list sandboxes");
    *ret = all;
    *ret_count = count;
    return 0;
}

void ramet_sandbox_set_state(struct ramet_sandbox *sandbox, enum ramet_sandbox_state state, const char *reason)
{
    pthread_mutex_lock(&sandbox->service->lock);
    sandbox->state = state;
    snprintf(sandbox->reason, sizeof sandbox->reason, "%s", reason);
    pthread_mutex_unlock(&sandbox->service->lock);
}

static enum ramet_sandbox_state state_of(struct ramet_sandbox *sandbox, char *reason, size_t size)
{
    pthread_mutex_lock(&sandbox->service->lock);
    enum ramet_sandbox_state state = sandbox->state;
    snprintf(reason, size, "%s", sandbox->reason);
    pthread_mutex_unlock(&sandbox->service->lock);
    return state;
}

/* --- using the VM --- */

int ramet_sandbox_vm_get(struct ramet_sandbox *sandbox, struct ramet_vm **ret, struct ramet_error *err)
{
    char reason[sizeof sandbox->reason];
    pthread_rwlock_rdlock(&sandbox->vm_lock);
    if (sandbox->vm && ramet_vm_alive(sandbox->vm)) {
        *ret = sandbox->vm;
        return 0;
    }
    bool died = sandbox->vm;
    pthread_rwlock_unlock(&sandbox->vm_lock);
    if (died)
        ramet_sandbox_set_state(sandbox, RAMET_SANDBOX_STOPPED, "its VM has ended");
    enum ramet_sandbox_state state = state_of(sandbox, reason, sizeof reason);
    char last[RAMET_ID_SIZE];
    ramet_branch_bases(sandbox->branch, NULL, last);
    ramet_error_set(err, RAMET_CONFLICT, "sandbox \"%s\" is %s: %s", sandbox->branch->name,
                    ramet_sandbox_state_name(state), reason);
    return last[0] ? ramet_error_hint(err, "'ramet restore %s' starts another from its last snapshot", last)
                   : ramet_error_hint(err, "'ramet rm %s' removes it", sandbox->branch->name);
}

void ramet_sandbox_vm_put(struct ramet_sandbox *sandbox) { pthread_rwlock_unlock(&sandbox->vm_lock); }

void ramet_sandbox_info_get(struct ramet_sandbox *sandbox, const struct ramet_sandbox_info *cost,
                            struct ramet_sandbox_info *ret)
{
    struct ramet_branch *branch = sandbox->branch;
    struct ramet_sandbox_info info = {.memory_bytes = branch->memory_bytes,
                                      .cpus = branch->cpus,
                                      .created_ms = branch->created_ms,
                                      .pss_bytes = cost ? cost->pss_bytes : 0,
                                      .private_bytes = cost ? cost->private_bytes : 0};
    if (pthread_rwlock_tryrdlock(&sandbox->vm_lock) == 0) {
        if (sandbox->vm && ramet_vm_alive(sandbox->vm)) {
            info.pid = (int)ramet_vm_pid(sandbox->vm);
            if (!cost)
                ramet_vm_memory_cost(sandbox->vm, &info.pss_bytes, &info.private_bytes, NULL);
        } else if (sandbox->vm) {
            ramet_sandbox_set_state(sandbox, RAMET_SANDBOX_STOPPED, "its VM has ended");
        }
        pthread_rwlock_unlock(&sandbox->vm_lock);
    }
    info.state = state_of(sandbox, info.reason, sizeof info.reason);
    memcpy(info.id, branch->id, sizeof info.id);
    snprintf(info.name, sizeof info.name, "%s", branch->name);
    ramet_branch_parent(branch, info.parent);
    ramet_branch_bases(branch, info.base, info.last_snapshot);
    pthread_mutex_lock(&sandbox->service->lock);
    if (sandbox->base)
        memcpy(info.base, sandbox->base->id, sizeof info.base);
    pthread_mutex_unlock(&sandbox->service->lock);
    for (size_t i = 0; i < branch->disk_count; i++)
        info.disk_bytes += ramet_overlay_written_bytes(branch->disks[i]);
    *ret = info;
}

/* --- starting --- */

/* NULL and the error set when memory ran out. */
static struct ramet_sandbox *sandbox_new(struct ramet_service *service, struct ramet_branch *branch,
                                         struct ramet_error *err)
{
    struct ramet_sandbox *sandbox = calloc(1, sizeof *sandbox);
    if (!sandbox) {
        ramet_error_set(err, RAMET_NO_MEMORY, "no memory for sandbox %s", branch->name);
        return NULL;
    }
    atomic_init(&sandbox->refs, 1);
    sandbox->service = service;
    atomic_fetch_add(&branch->refs, 1);
    sandbox->branch = branch;
    pthread_mutex_init(&sandbox->op, NULL);
    pthread_mutex_init(&sandbox->clock, NULL);
    pthread_rwlock_init(&sandbox->vm_lock, NULL);
    return sandbox;
}

int ramet_sandbox_lost(struct ramet_service *service, struct ramet_branch *branch, struct ramet_error *err)
{
    struct ramet_sandbox *sandbox = sandbox_new(service, branch, err);
    if (!sandbox)
        return -RAMET_NO_MEMORY;
    ramet_branch_bases(branch, sandbox->lineage, NULL);
    ramet_sandbox_set_state(sandbox, RAMET_SANDBOX_LOST, "the daemon ended while it ran");
    int r = list_add(sandbox, err);
    ramet_sandbox_unref(sandbox);
    return r;
}

static void clear_run_dir(struct ramet_sandbox *sandbox)
{
    char run_dir[PATH_MAX];
    struct ramet_error err = {0};
    snprintf(run_dir, sizeof run_dir, "%s/%s", sandbox->service->run_dir, sandbox->branch->id);
    if (ramet_dir_remove(run_dir, &err) < 0)
        ramet_warn("%s", err.msg);
}

/* Ends the VM. A call that is using it fails first, since its process is gone. */
static void end_vm(struct ramet_sandbox *sandbox)
{
    pthread_rwlock_rdlock(&sandbox->vm_lock);
    if (sandbox->vm && ramet_vm_alive(sandbox->vm))
        kill(ramet_vm_pid(sandbox->vm), SIGKILL);
    pthread_rwlock_unlock(&sandbox->vm_lock);
    pthread_rwlock_wrlock(&sandbox->vm_lock);
    ramet_vm_free(STEAL(sandbox->vm));
    pthread_rwlock_unlock(&sandbox->vm_lock);
    ramet_warmup_free(STEAL(sandbox->warmup));
    clear_run_dir(sandbox);
}

int ramet_sandbox_begin(struct ramet_service *service, const struct ramet_sandbox_plan *plan,
                        struct ramet_sandbox **ret, struct ramet_child_timing *ret_timing, struct ramet_error *err)
{
    struct ramet_branch_request request = {.name = plan->name,
                                           .parent = plan->parent,
                                           .last_snapshot = plan->last_snapshot,
                                           .memory_bytes = plan->memory_bytes,
                                           .cpus = plan->cpus};
    _cleanup_(ramet_branch_cleanup) struct ramet_branch *branch = NULL;
    uint64_t start_us = ramet_now_us();
    /* Children of a fork find what they need in memory. */
    _cleanup_(ramet_warmup_cleanup) struct ramet_warmup *warmup =
        plan->parent ? NULL : ramet_warmup_begin(service, plan->base);
    int r = ramet_catalog_branch_begin(service->catalog, &request, plan->base, &branch, err);
    if (r < 0)
        return r;
    ramet_mount_branch_changed(service->mount, branch->name);
    struct ramet_sandbox *sandbox = sandbox_new(service, branch, err);
    if (sandbox) {
        sandbox->base = ramet_snapshot_ref(plan->base);
        sandbox->warmup = STEAL(warmup);
        memcpy(sandbox->lineage, plan->base->id, sizeof sandbox->lineage);
        ramet_sandbox_set_state(sandbox, RAMET_SANDBOX_STARTING, "");
    }
    if (!sandbox || list_add(sandbox, err) < 0) {
        ramet_sandbox_unref(sandbox);
        ramet_catalog_branch_remove(service->catalog, branch, NULL);
        return -RAMET_NO_MEMORY;
    }
    *ret_timing = (struct ramet_child_timing){.start_us = ramet_now_us() - start_us};
    *ret = sandbox;
    return 0;
}

int ramet_sandbox_launch(struct ramet_sandbox *sandbox, const struct ramet_sandbox_plan *plan,
                         struct ramet_child_timing *timing, struct ramet_error *err)
{
    uint64_t start_us = ramet_now_us();
    struct ramet_vm *vm;
    pthread_mutex_lock(&sandbox->op);
    int r = ramet_sandbox_is_listed(sandbox) ? 0 : ramet_error_set(err, RAMET_NOT_FOUND, "it was removed meanwhile");
    if (r == 0)
        r = ramet_sandbox_vm_new(sandbox, plan, &vm, &sandbox->memory_base, err);
    if (r == 0) {
        pthread_mutex_lock(&sandbox->clock);
        sandbox->clock_due = ramet_snapshot_image(plan->base, "state");
        pthread_mutex_unlock(&sandbox->clock);
        pthread_rwlock_wrlock(&sandbox->vm_lock);
        sandbox->vm = vm;
        pthread_rwlock_unlock(&sandbox->vm_lock);
        timing->spawn_us = ramet_vm_start_timing(vm)->spawn_us;
        timing->load_us = ramet_vm_start_timing(vm)->load_us;
        timing->pooled = timing->spawn_us == 0;
    }
    pthread_mutex_unlock(&sandbox->op);
    if (r < 0)
        return ramet_error_prefix(err, "sandbox %s", sandbox->branch->name), r;
    uint64_t now_us = ramet_now_us();
    timing->start_us += now_us - start_us;
    timing->running_us = now_us - plan->began_us;
    return 0;
}

int ramet_sandbox_start(struct ramet_service *service, const struct ramet_sandbox_plan *plan,
                        struct ramet_sandbox **ret, struct ramet_child_timing *ret_timing, struct ramet_error *err)
{
    struct ramet_sandbox *sandbox;
    int r = ramet_sandbox_begin(service, plan, &sandbox, ret_timing, err);
    if (r < 0)
        return r;
    uint64_t start_us = ramet_now_us();
    r = ramet_catalog_branches_record(service->catalog, &sandbox->branch, 1, err);
    ret_timing->start_us += ramet_now_us() - start_us;
    if (r == 0)
        r = ramet_sandbox_launch(sandbox, plan, ret_timing, err);
    if (r < 0) {
        ramet_sandbox_remove(sandbox, NULL);
        ramet_sandbox_unref(sandbox);
        return r;
    }
    *ret = sandbox;
    return 0;
}

int ramet_sandbox_release(struct ramet_sandbox *sandbox, const struct ramet_sandbox_plan *plan,
                          struct ramet_child_timing *timing, struct ramet_error *err)
{
    struct ramet_vm *vm;
    int r = ramet_sandbox_vm_get(sandbox, &vm, err);
    if (r < 0)
        return r;
    r = ramet_vm_resume(vm, err);
    timing->running_us = ramet_now_us() - plan->began_us;
    ramet_sandbox_vm_put(sandbox);
    return r < 0 ? ramet_error_prefix(err, "sandbox %s", sandbox->branch->name) : 0;
}

/* The guest has answered. Prefetching may still go on. */
static void end_warmup(struct ramet_sandbox *sandbox)
{
    struct ramet_vm *vm;
    pthread_mutex_lock(&sandbox->op);
    if (sandbox->warmup)
        ramet_warmup_answered(sandbox->warmup);
    if (sandbox->warmup && ramet_sandbox_vm_get(sandbox, &vm, NULL) == 0) {
        ramet_vm_read_around(vm);
        ramet_sandbox_vm_put(sandbox);
    }
    pthread_mutex_unlock(&sandbox->op);
}

static int await_guest(struct ramet_sandbox *sandbox, const struct ramet_sandbox_plan *plan,
                       struct ramet_child_timing *timing, struct ramet_error *err)
{
    struct ramet_vm *vm;
    int r = ramet_sandbox_vm_get(sandbox, &vm, err);
    if (r < 0)
        return r;
    r = ramet_vm_ping(vm, plan->wait_ms, err);
    timing->answer_us = ramet_now_us() - plan->began_us;
    ramet_sandbox_vm_put(sandbox);
    if (r == 0)
        end_warmup(sandbox);
    return r;
}

int ramet_sandbox_await(struct ramet_sandbox *sandbox, const struct ramet_sandbox_plan *plan,
                        struct ramet_child_timing *timing, struct ramet_error *err)
{
    int r = plan->no_answer_wait ? 0 : await_guest(sandbox, plan, timing, err);
    if (r < 0)
        return ramet_error_prefix(err, "sandbox %s", sandbox->branch->name), r;
    pthread_mutex_lock(&sandbox->service->lock);
    if (sandbox->state == RAMET_SANDBOX_STARTING) /* nothing else became of it meanwhile */
        sandbox->state = RAMET_SANDBOX_RUNNING;
    pthread_mutex_unlock(&sandbox->service->lock);
    return 0;
}

/* --- ending --- */

void ramet_sandbox_end(struct ramet_sandbox *sandbox)
{
    pthread_mutex_lock(&sandbox->op);
    end_vm(sandbox);
    pthread_mutex_unlock(&sandbox->op);
}

void ramet_sandbox_stop(struct ramet_sandbox *sandbox, const char *reason)
{
    ramet_sandbox_set_state(sandbox, RAMET_SANDBOX_STOPPED, reason);
    end_vm(sandbox);
}

bool ramet_sandbox_retire(struct ramet_sandbox *sandbox, const char *reason)
{
    bool listed = list_remove(sandbox);
    if (listed)
        ramet_sandbox_stop(sandbox, reason);
    return listed;
}

int ramet_sandbox_remove(struct ramet_sandbox *sandbox, struct ramet_error *err)
{
    struct ramet_service *service = sandbox->service;
    pthread_mutex_lock(&sandbox->op);
    int r = 0;
    if (ramet_sandbox_retire(sandbox, "it is removed")) {
        r = ramet_catalog_branch_remove(service->catalog, sandbox->branch, err);
        ramet_mount_branch_changed(service->mount, sandbox->branch->name);
    } else {
        r = ramet_error_set(err, RAMET_NOT_FOUND, "sandbox \"%s\" is removed already", sandbox->branch->name);
    }
    pthread_mutex_unlock(&sandbox->op);
    return r;
}
