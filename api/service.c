/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening and closing the service, and what it does to sandboxes short of forking them
 * (fork.c) and to snapshots (service_snapshots.c).
 *
 * Opening: store, catalog, mount, then every branch on record is listed as lost: its VM
 * died with the daemon that ran it. Closing goes the other way; what waits to become
 * durable is finished first.
 */
#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "clocks.h"
#include "heap.h"
#include "jobs.h"
#include "mount.h"
#include "service_private.h"
#include "service_workspaces_private.h"
#include "tools/catalogue.h"
#include "tools/registry.h"
#include "workspace_mount.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { default_wait_ms = 60000, default_exec_ms = 60000, quiet_us = 1000000 };
static const uint64_t default_memory_bytes = UINT64_C(256) << 20;
static const uint64_t memory_unit = UINT64_C(1) << 20, memory_max = UINT64_C(1) << 40;
/* What a VM costs besides guest memory: the VMM's own code, heap and translation buffer. */
static const uint64_t vmm_overhead_bytes = UINT64_C(64) << 20;

const char *ramet_sandbox_state_name(enum ramet_sandbox_state state)
{
    static const char *const names[] = {"starting", "running", "paused", "stopped", "lost"};
    return names[state];
}

/* --- opening and closing --- */

static int list_lost(struct ramet_service *service, struct ramet_error *err)
{
    struct ramet_branch **branches = NULL;
    size_t count = 0;
    int r = ramet_catalog_branches(service->catalog, &branches, &count, err);
    for (size_t i = 0; i < count && r == 0; i++)
        r = ramet_sandbox_lost(service, branches[i], err);
    ramet_branches_free(branches, count);
    return r;
}

static int open_tools(struct ramet_service *service, const char *store_dir, struct ramet_error *err)
{
    char dir[PATH_MAX];
    snprintf(dir, sizeof dir, "%s/tools", store_dir);
    int r = ramet_tools_catalogue_open(dir, &service->tools_catalogue, err);
    return r < 0 ? r : ramet_tools_open(dir, service->tools_catalogue, &service->tools, err);
}

static bool is_quiet(void *ctx)
{
    const struct ramet_service *service = ctx;
    return ramet_jobs_quiet_us(service->jobs) >= quiet_us;
}

static int open_parts(struct ramet_service *service, const struct ramet_service_config *config, struct ramet_error *err)
{
    int r = ramet_store_open(config->store_dir, NULL, &service->store, err);
    if (r == 0)
        r = ramet_catalog_open(service->store, &service->catalog, err);
    if (r == 0)
        r = open_tools(service, config->store_dir, err);
    if (r == 0)
        r = ramet_dir_remove(config->run_dir, err);
    if (r == 0)
        r = ramet_dir_make(config->run_dir, 0700, err);
    if (r == 0)
        r = ramet_mount_start(config->mount_dir, service->catalog, &service->mount, err);
    if (r == 0)
        r = ramet_workspaces_open(service->catalog, &service->workspaces, err);
    if (r == 0)
        r = ramet_workspace_mount_start(config->mount_dir, service->workspaces, &service->workspace_mount, err);
    if (r == 0)
        ramet_service_workspace_drop_imports(service);
    const struct ramet_jobs_options jobs = {.recompress_level = config->recompress_level};
    if (r == 0)
        r = ramet_jobs_new(service->catalog, &jobs, &service->jobs, err);
    if (r == 0)
        r = ramet_commit_queue_new(service->catalog, service->jobs, &service->metrics, &service->commits, err);
    if (r == 0)
        r = ramet_vm_pool_new(config->run_dir, config->pool_limit, &service->pool, err);
    if (r == 0)
        r = ramet_clocks_new(&service->clocks, err);
    const struct ramet_heap_keeper_options heap = {.is_quiet = is_quiet, .ctx = service};
    if (r == 0)
        r = ramet_heap_keeper_new(&heap, &service->heap, err);
    return r == 0 ? list_lost(service, err) : r;
}

int ramet_service_open(const struct ramet_service_config *config, struct ramet_service **ret, struct ramet_error *err)
{
    struct ramet_service *service = calloc(1, sizeof *service);
    if (!service)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for the service");
    pthread_mutex_init(&service->lock, NULL);
    if (strlen(config->mount_dir) >= sizeof service->mount_dir || strlen(config->run_dir) >= sizeof service->run_dir) {
        ramet_service_close(service);
        return ramet_error_set(err, RAMET_INVALID, "the mount or run directory's name is too long");
    }
    snprintf(service->mount_dir, sizeof service->mount_dir, "%s", config->mount_dir);
    snprintf(service->run_dir, sizeof service->run_dir, "%s", config->run_dir);
    service->working_sets = !config->no_working_sets;
    int r = open_parts(service, config, err);
    if (r < 0) {
        ramet_service_close(service);
        return r;
    }
    *ret = service;
    return 0;
}

void ramet_service_end_sandboxes(struct ramet_service *service)
{
    _autofree_ struct ramet_sandbox **all = NULL;
    size_t count = 0;
    if (ramet_sandbox_list(service, &all, &count, NULL) < 0)
        return;
    for (size_t i = 0; i < count; i++) {
        ramet_sandbox_end(all[i]);
        ramet_sandbox_unref(all[i]);
    }
}

unsigned ramet_service_pool_count(struct ramet_service *service, unsigned *ret_made)
{
    return ramet_vm_pool_count(service->pool, ret_made);
}

void ramet_service_close(struct ramet_service *service)
{
    if (!service)
        return;
    ramet_heap_keeper_free(service->heap);
    ramet_jobs_close(service->jobs);
    ramet_service_end_sandboxes(service);
    ramet_clocks_free(service->clocks);
    ramet_vm_pool_free(service->pool);
    uint64_t serial, object;
    for (size_t at = 0; ramet_u64map_next(&service->sandboxes.serials, &at, &serial, &object);)
        ramet_sandbox_unref((struct ramet_sandbox *)(uintptr_t)object);
    ramet_members_free(&service->sandboxes);
    ramet_commit_queue_free(service->commits);
    ramet_jobs_free(service->jobs);
    ramet_workspace_mount_stop(service->workspace_mount);
    ramet_workspaces_close(service->workspaces);
    ramet_mount_stop(service->mount);
    ramet_tools_close(service->tools);
    ramet_tools_catalogue_close(service->tools_catalogue);
    ramet_catalog_close(service->catalog);
    ramet_store_close(service->store);
    if (service->run_dir[0] && service->store)
        ramet_dir_remove(service->run_dir, NULL);
    pthread_mutex_destroy(&service->lock);
    free(service);
}

struct ramet_tools *ramet_service_tools(struct ramet_service *service) { return service->tools; }

struct ramet_tools_catalogue *ramet_service_tools_catalogue(struct ramet_service *service)
{
    return service->tools_catalogue;
}

/* --- memory --- */

/* MemAvailable of /proc/meminfo; 0 when it cannot be read. */
static uint64_t memory_available(void)
{
    unsigned long long kib = 0;
    char line[128];
    FILE *file = fopen("/proc/meminfo", "re");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1)
            break;
    if (file)
        fclose(file);
    return (uint64_t)kib << 10;
}

int ramet_check_memory(uint64_t bytes_each, unsigned count, struct ramet_error *err)
{
    uint64_t needed = (bytes_each + vmm_overhead_bytes) * count, available = memory_available();
    if (available == 0 || needed <= available)
        return 0;
    ramet_error_set(err, RAMET_NO_MEMORY, "%u VMs may need %llu MiB of memory, %llu MiB are available", count,
                    (unsigned long long)(needed >> 20), (unsigned long long)(available >> 20));
    return ramet_error_hint(err, "ask for at most %llu, or remove sandboxes with 'ramet rm'",
                            (unsigned long long)(available / (bytes_each + vmm_overhead_bytes)));
}

int ramet_await_durable(struct ramet_service *service, struct ramet_snapshot *snapshot, struct ramet_error *err)
{
    int r = ramet_commit_queue_wait(service->commits, snapshot, err);
    if (r == 0 && !atomic_load(&snapshot->durable)) {
        ramet_error_set(err, RAMET_CONFLICT, "snapshot %s is not durable yet: its fork is under way", snapshot->id);
        r = ramet_error_hint(err, "try again when it has ended");
    }
    return r;
}

/* --- run --- */

/* The snapshot's memory size, or what was asked for where it boots. */
static int choose_memory(const struct ramet_snapshot *base, uint64_t asked, uint64_t *ret, struct ramet_error *err)
{
    bool fixed = ramet_snapshot_image(base, "memory");
    uint64_t bytes = asked ? asked : base->memory_bytes ? base->memory_bytes : default_memory_bytes;
    if (fixed && bytes != base->memory_bytes) {
        ramet_error_set(err, RAMET_INVALID, "snapshot %s holds %llu MiB of memory, %llu MiB were asked for", base->id,
                        (unsigned long long)(base->memory_bytes >> 20), (unsigned long long)(bytes >> 20));
        return ramet_error_hint(err, "leave the memory size out: a restored VM has the size it was captured with");
    }
    if (bytes % memory_unit || bytes < 64 * memory_unit || bytes > memory_max)
        return ramet_error_set(err, RAMET_INVALID,
                               "a memory size of %llu bytes is not a multiple of 1 MiB from 64 MiB to 1 TiB",
                               (unsigned long long)bytes);
    *ret = bytes;
    return 0;
}

static int check_startable(const struct ramet_snapshot *base, struct ramet_error *err)
{
    if ((ramet_snapshot_image(base, "memory") && ramet_snapshot_image(base, "state")) ||
        ramet_snapshot_image(base, "kernel"))
        return 0;
    ramet_error_set(err, RAMET_CONFLICT, "snapshot %s has neither memory to restore nor a kernel to boot", base->id);
    return ramet_error_hint(err, "import it with a kernel ('ramet import --kernel FILE')");
}

/* timing NULL: it failed. */
static void count_run(struct ramet_service *service, const struct ramet_sandbox_plan *plan,
                      const struct ramet_child_timing *timing)
{
    struct ramet_metrics *metrics = &service->metrics;
    bool restore = ramet_snapshot_image(plan->base, "state");
    ramet_metrics_count(metrics, restore ? RAMET_COUNT_RESTORE : RAMET_COUNT_BOOT);
    if (!timing) {
        ramet_metrics_count(metrics, restore ? RAMET_COUNT_RESTORE_FAILED : RAMET_COUNT_BOOT_FAILED);
        return;
    }
    ramet_metrics_observe(metrics, restore ? RAMET_DURATION_RESTORE : RAMET_DURATION_BOOT,
                          ramet_now_us() - plan->began_us);
    if (restore)
        ramet_service_observe_child(service, timing);
}

int ramet_service_run(struct ramet_service *service, const struct ramet_run_request *request,
                      struct ramet_sandbox_info *ret, struct ramet_child_timing *ret_timing, struct ramet_error *err)
{
    _cleanup_(ramet_snapshot_cleanup) struct ramet_snapshot *base = NULL;
    _cleanup_(ramet_sandbox_cleanup) struct ramet_sandbox *sandbox = NULL;
    _cleanup_(ramet_vm_pool_cleanup) struct ramet_vm_pool *held = ramet_vm_pool_hold(service->pool);
    struct ramet_vmm_probe probe;
    struct ramet_sandbox_plan plan = {.name = request->name, .began_us = ramet_now_us()};
    char made_up[RAMET_NAME_SIZE];
    int r = ramet_catalog_find(service->catalog, request->snapshot ? request->snapshot : "debian", &base, err);
    if (r == 0)
        r = check_startable(base, err);
    if (r == 0)
        r = choose_memory(base, request->memory_bytes, &plan.memory_bytes, err);
    if (r == 0)
        r = ramet_vmm_probe(&probe, err);
    if (r == 0)
        r = ramet_check_memory(plan.memory_bytes, 1, err);
    if (r < 0)
        return r;
    if (!plan.name) {
        char id[RAMET_ID_SIZE];
        ramet_id_make(id);
        snprintf(made_up, sizeof made_up, "sb-%.8s", id);
        plan.name = made_up;
    }
    plan.base = base;
    plan.cpus = request->cpus ? request->cpus : base->cpus ? base->cpus : 1;
    plan.wait_ms = request->wait_ms ? request->wait_ms : default_wait_ms;
    r = ramet_sandbox_start(service, &plan, &sandbox, ret_timing, err);
    if (r == 0)
        r = ramet_sandbox_await(sandbox, &plan, ret_timing, err);
    count_run(service, &plan, r < 0 ? NULL : ret_timing);
    if (r == 0) {
        ramet_clocks_add(service->clocks, sandbox);
        ramet_sandbox_info_get(sandbox, NULL, ret);
    } else if (sandbox) {
        ramet_sandbox_remove(sandbox, NULL);
    }
    return r;
}

/* --- sandboxes --- */

void ramet_exec_result_free(struct ramet_exec_result *result)
{
    free(result->out);
    free(result->err);
    *result = (struct ramet_exec_result){0};
}

int ramet_service_exec(struct ramet_service *service, const char *ref, const struct ramet_exec_request *request,
                       struct ramet_exec_result *ret, struct ramet_error *err)
{
    _cleanup_(ramet_sandbox_cleanup) struct ramet_sandbox *sandbox = NULL;
    struct ramet_vm *vm;
    struct ramet_vm_exec_result result = {0};
    unsigned timeout_ms = request->timeout_ms ? request->timeout_ms : default_exec_ms;
    int r = ramet_sandbox_find(service, ref, &sandbox, err);
    if (r == 0 && (r = ramet_clocks_settle(sandbox, timeout_ms, err)) < 0)
        return ramet_error_prefix(err, "sandbox %s", sandbox->branch->name);
    if (r == 0)
        r = ramet_sandbox_vm_get(sandbox, &vm, err);
    if (r < 0)
        return r;
    pthread_mutex_lock(&service->lock);
    bool paused = sandbox->state == RAMET_SANDBOX_PAUSED;
    pthread_mutex_unlock(&service->lock);
    if (paused) {
        ramet_error_set(err, RAMET_CONFLICT, "sandbox \"%s\" is paused", sandbox->branch->name);
        r = ramet_error_hint(err, "'ramet resume %s' lets it run", sandbox->branch->name);
    } else {
        r = ramet_vm_exec(vm, request->argv, request->env, request->input, request->input_size, timeout_ms, &result,
                          err);
    }
    ramet_sandbox_vm_put(sandbox);
    if (r < 0)
        return ramet_error_prefix(err, "sandbox %s", sandbox->branch->name);
    *ret = (struct ramet_exec_result){.exit_code = result.exit_code,
                                      .term_signal = result.term_signal,
                                      .out = STEAL(result.out),
                                      .err = STEAL(result.err),
                                      .out_size = result.out_size,
                                      .err_size = result.err_size,
                                      .out_truncated = result.out_truncated,
                                      .err_truncated = result.err_truncated};
    ramet_vm_exec_result_free(&result);
    return 0;
}

static int set_paused(struct ramet_service *service, const char *ref, bool paused, struct ramet_sandbox_info *ret,
                      struct ramet_error *err)
{
    _cleanup_(ramet_sandbox_cleanup) struct ramet_sandbox *sandbox = NULL;
    struct ramet_vm *vm;
    int r = ramet_sandbox_find(service, ref, &sandbox, err);
    if (r < 0)
        return r;
    pthread_mutex_lock(&sandbox->op);
    pthread_mutex_lock(&sandbox->clock);
    r = ramet_sandbox_vm_get(sandbox, &vm, err);
    if (r == 0) {
        if (!paused)
            ramet_snapshot_unref(STEAL(sandbox->still));
        r = paused ? ramet_vm_pause(vm, err) : ramet_vm_resume(vm, err);
        ramet_sandbox_vm_put(sandbox);
    }
    if (r == 0) {
        ramet_sandbox_set_state(sandbox, paused ? RAMET_SANDBOX_PAUSED : RAMET_SANDBOX_RUNNING, "");
        sandbox->clock_due |= paused; /* it stands until the guest runs again */
    }
    pthread_mutex_unlock(&sandbox->clock);
    pthread_mutex_unlock(&sandbox->op);
    if (r == 0 && !paused)
        ramet_clocks_add(service->clocks, sandbox);
    if (r == 0)
        ramet_sandbox_info_get(sandbox, NULL, ret);
    return r;
}

int ramet_service_pause(struct ramet_service *service, const char *sandbox, struct ramet_sandbox_info *ret,
                        struct ramet_error *err)
{
    return set_paused(service, sandbox, true, ret, err);
}

int ramet_service_resume(struct ramet_service *service, const char *sandbox, struct ramet_sandbox_info *ret,
                         struct ramet_error *err)
{
    return set_paused(service, sandbox, false, ret, err);
}

int ramet_service_sandbox_remove(struct ramet_service *service, const char *ref, struct ramet_error *err)
{
    _cleanup_(ramet_sandbox_cleanup) struct ramet_sandbox *sandbox = NULL;
    int r = ramet_sandbox_find(service, ref, &sandbox, err);
    return r < 0 ? r : ramet_sandbox_remove(sandbox, err);
}

int ramet_service_sandbox_get(struct ramet_service *service, const char *ref, struct ramet_sandbox_info *ret,
                              struct ramet_error *err)
{
    _cleanup_(ramet_sandbox_cleanup) struct ramet_sandbox *sandbox = NULL;
    int r = ramet_sandbox_find(service, ref, &sandbox, err);
    if (r == 0)
        ramet_sandbox_info_get(sandbox, NULL, ret);
    return r;
}

void ramet_service_count(struct ramet_service *service, size_t *ret_sandboxes, size_t *ret_snapshots)
{
    *ret_snapshots = ramet_catalog_snapshot_count(service->catalog);
    pthread_mutex_lock(&service->lock);
    *ret_sandboxes = service->sandboxes.ids.count;
    pthread_mutex_unlock(&service->lock);
}

int ramet_service_sandboxes(struct ramet_service *service, struct ramet_sandbox_info **ret, size_t *ret_count,
                            struct ramet_error *err)
{
    _autofree_ struct ramet_sandbox **all = NULL;
    size_t count = 0;
    int r = ramet_sandbox_list(service, &all, &count, err);
    if (r < 0)
        return r;
    struct ramet_sandbox_info *infos = calloc(count + 1, sizeof *infos);
    for (size_t i = 0; i < count; i++) {
        if (infos)
            ramet_sandbox_info_get(all[i], NULL, &infos[i]);
        ramet_sandbox_unref(all[i]);
    }
    if (!infos)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to list sandboxes");
    *ret = infos;
    *ret_count = count;
    return 0;
}
