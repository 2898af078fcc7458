/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fork of a running sandbox: a snapshot (sandbox_snapshot.c), and children that start on it at once,
 * while it is only in memory. The commit queue makes it durable when they run.
 *
 * A failure anywhere leaves nothing: children that did start are removed, the snapshot too.
 */
#include "base/cleanup.h"
#include "base/file.h"
#include "clocks.h"
#include "jobs.h"
#include "sandbox_workspaces.h"
#include "service_private.h"

#include <stdio.h>
#include <string.h>

/* Starting a child is work for the CPUs: more at a time only delay one another. Waiting for guests is not. */
enum { default_wait_ms = 60000, starts_per_cpu = 2, wait_threads = 64 };

void ramet_fork_result_free(struct ramet_fork_result *result)
{
    free(result->children);
    free(result->child_timing);
    *result = (struct ramet_fork_result){0};
}

/* --- children --- */

/*
 * Children are raised in steps, each taken with all of them before the next begins: begin their branches; start their
 * VMs, with their guests stopped; let them run; wait for their agents; have their clocks set, for which nobody waits
 * (clocks.h). A guest that runs takes CPU time from the start of its siblings, and one that sets its clock from their
 * first answer. All running takes half as long so. The branches' records become durable, in one write, while the VMs
 * start: a guest that stands still writes nothing that could be lost.
 */
struct litter;
typedef int (*litter_step)(struct litter *litter, unsigned index, struct ramet_error *err);

struct litter {
    struct ramet_service *service;
    const struct ramet_fork_request *request;
    struct ramet_sandbox *parent;
    struct ramet_snapshot *base;
    uint64_t generations[RAMET_BRANCH_DISKS_MAX];
    char last_snapshot[RAMET_ID_SIZE];
    uint64_t began_us;
    struct ramet_sandbox_plan plan; /* of each, but for the name */
    struct ramet_sandbox **children;
    struct ramet_child_timing *timing;
    struct ramet_sandbox_info *infos; /* as it stood still: measuring what a guest costs that runs takes much longer */
    litter_step step;
    _Atomic unsigned next; /* child to take the step */
    _Atomic bool failed;
    pthread_mutex_t lock; /* guards err */
    struct ramet_error err;
};

/* Names that nobody has: PARENT-1, PARENT-2, ... A name taken meanwhile is tried again by the caller's loop. */
static void free_name(struct ramet_service *service, const char *parent, unsigned *counter, char name[RAMET_NAME_SIZE])
{
    struct ramet_branch *taken;
    for (;;) {
        snprintf(name, RAMET_NAME_SIZE, "%.*s-%u", RAMET_NAME_SIZE - 12, parent, ++*counter);
        if (ramet_catalog_branch_find(service->catalog, name, &taken, NULL) < 0)
            return;
        ramet_branch_unref(taken);
    }
}

static int begin_child(struct litter *litter, unsigned index, struct ramet_error *err)
{
    char name[RAMET_NAME_SIZE];
    unsigned counter = index;
    struct ramet_sandbox_plan plan = litter->plan;
    plan.name = name;
    for (;;) {
        if (litter->request->names)
            snprintf(name, sizeof name, "%s", litter->request->names[index]);
        else
            free_name(litter->service, litter->parent->branch->name, &counter, name);
        int r = ramet_sandbox_begin(litter->service, &plan, &litter->children[index], &litter->timing[index], err);
        if (r != -RAMET_EXISTS || litter->request->names)
            return r;
    }
}

static int launch_child(struct litter *litter, unsigned index, struct ramet_error *err)
{
    struct ramet_sandbox *child = litter->children[index];
    struct ramet_sandbox_plan plan = litter->plan;
    plan.name = child->branch->name;
    int r = ramet_sandbox_launch(child, &plan, &litter->timing[index], err);
    if (r == 0)
        ramet_sandbox_info_get(child, NULL, &litter->infos[index]);
    return r < 0 ? r : ramet_sandbox_fork_workspaces(litter->parent, litter->base->id, child, err);
}

static int release_child(struct litter *litter, unsigned index, struct ramet_error *err)
{
    return ramet_sandbox_release(litter->children[index], &litter->plan, &litter->timing[index], err);
}

static int await_child(struct litter *litter, unsigned index, struct ramet_error *err)
{
    return ramet_sandbox_await(litter->children[index], &litter->plan, &litter->timing[index], err);
}

static void *take_steps(void *arg)
{
    struct litter *litter = arg;
    unsigned index;
    while (!atomic_load(&litter->failed) && (index = atomic_fetch_add(&litter->next, 1)) < litter->request->count) {
        struct ramet_error err = {0};
        if (litter->step(litter, index, &err) == 0)
            continue;
        pthread_mutex_lock(&litter->lock);
        if (!atomic_exchange(&litter->failed, true))
            litter->err = err;
        pthread_mutex_unlock(&litter->lock);
    }
    return NULL;
}

/* Takes a step with every child, `width` at a time, until one fails. */
static int with_each(struct litter *litter, litter_step step, unsigned width, struct ramet_error *err)
{
    pthread_t threads[wait_threads];
    unsigned count = litter->request->count, started = 0;
    litter->step = step;
    atomic_store(&litter->next, 0);
    while (started + 1 < count && started + 1 < width &&
           pthread_create(&threads[started], NULL, take_steps, litter) == 0)
        started++;
    take_steps(litter);
    for (unsigned i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    if (atomic_load(&litter->failed)) {
        *err = litter->err;
        return -litter->err.code;
    }
    return 0;
}

static unsigned start_width(void)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN), width = cpus > 0 ? cpus * starts_per_cpu : starts_per_cpu;
    return width < wait_threads ? (unsigned)width : wait_threads;
}

struct recording {
    struct litter *litter;
    int r;
    struct ramet_error err;
};

static void *record_children(void *arg)
{
    struct recording *recording = arg;
    struct litter *litter = recording->litter;
    unsigned count = litter->request->count;
    struct ramet_branch **branches = calloc(count, sizeof(struct ramet_branch *));
    for (unsigned i = 0; branches && i < count; i++)
        branches[i] = litter->children[i]->branch;
    recording->r = branches ? ramet_catalog_branches_record(litter->service->catalog, branches, count, &recording->err)
                            : ramet_error_set(&recording->err, RAMET_NO_MEMORY, "no memory for %u children", count);
    free(branches);
    return NULL;
}

/* Starts the VMs of all children, and meanwhile makes their branches durable. What that takes longer is added to the
 * start of each. */
static int launch_children(struct litter *litter, struct ramet_error *err)
{
    struct recording recording = {.litter = litter};
    pthread_t thread;
    bool beside = pthread_create(&thread, NULL, record_children, &recording) == 0;
    int r = with_each(litter, launch_child, start_width(), err);
    uint64_t launched_us = ramet_now_us();
    if (beside)
        pthread_join(thread, NULL);
    else
        record_children(&recording);
    for (unsigned i = 0; i < litter->request->count; i++)
        litter->timing[i].start_us += ramet_now_us() - launched_us;
    if (r == 0 && recording.r < 0) {
        *err = recording.err;
        r = recording.r;
    }
    return r;
}

static int raise_litter(struct litter *litter, struct ramet_error *err)
{
    litter->plan = (struct ramet_sandbox_plan){
        .parent = litter->parent->branch->id,
        .last_snapshot = litter->last_snapshot,
        .base = litter->base,
        .memory_bytes = litter->base->memory_bytes,
        .cpus = litter->base->cpus,
        .wait_ms = litter->request->wait_ms ? litter->request->wait_ms : default_wait_ms,
        .no_answer_wait = litter->request->no_answer_wait,
        .start_paused = true,
        .began_us = litter->began_us,
    };
    int r = with_each(litter, begin_child, start_width(), err);
    if (r == 0)
        r = launch_children(litter, err);
    if (r == 0)
        r = with_each(litter, release_child, wait_threads, err);
    if (r == 0)
        r = with_each(litter, await_child, wait_threads, err);
    for (unsigned i = 0; i < litter->request->count && r == 0; i++)
        ramet_clocks_add(litter->service->clocks, litter->children[i]);
    return r;
}

static int check_request(struct ramet_service *service, const struct ramet_sandbox *parent,
                         const struct ramet_fork_request *request, struct ramet_error *err)
{
    struct ramet_branch *taken;
    if (request->count < 1 || request->count > RAMET_FORK_MAX)
        return ramet_error_set(err, RAMET_INVALID, "a fork makes 1 to %d children, not %u", RAMET_FORK_MAX,
                               request->count);
    int r = request->tag ? ramet_name_check(request->tag, "tag", err) : 0;
    for (unsigned i = 0; request->names && i < request->count && r == 0; i++) {
        const char *name = request->names[i];
        r = ramet_name_check(name, "name", err);
        for (unsigned j = 0; j < i && r == 0; j++)
            if (strcmp(name, request->names[j]) == 0)
                r = ramet_error_set(err, RAMET_INVALID, "the name \"%s\" is given twice", name);
        if (r == 0 && ramet_catalog_branch_find(service->catalog, name, &taken, NULL) == 0) {
            ramet_branch_unref(taken);
            ramet_error_set(err, RAMET_EXISTS, "the name \"%s\" is taken", name);
            r = ramet_error_hint(err, "choose another, or remove it with 'ramet rm %s'", name);
        }
    }
    /* A child costs its VMM and what it writes; an eighth of its memory is what we plan for. */
    return r < 0 ? r : ramet_check_memory(parent->branch->memory_bytes / 8, request->count, err);
}

static void fill_result(struct litter *litter, struct ramet_fork_result *ret)
{
    unsigned count = litter->request->count;
    ramet_snapshot_fill_info(litter->service, litter->base, &ret->snapshot);
    for (unsigned i = 0; i < count; i++)
        ramet_sandbox_info_get(litter->children[i], &litter->infos[i], &litter->infos[i]);
    ret->count = count;
    ret->children = STEAL(litter->infos);
    ret->child_timing = STEAL(litter->timing);
    ret->timing.total_us = ramet_now_us() - litter->began_us;
}

static int run_litter(struct litter *litter, struct ramet_fork_result *ret, struct ramet_error *err)
{
    unsigned count = litter->request->count;
    litter->children = calloc(count, sizeof(struct ramet_sandbox *));
    litter->timing = calloc(count, sizeof *litter->timing);
    litter->infos = calloc(count, sizeof *litter->infos);
    int r = litter->children && litter->timing && litter->infos
                ? raise_litter(litter, err)
                : ramet_error_set(err, RAMET_NO_MEMORY, "no memory for %u children", count);
    if (r == 0)
        r = ramet_sandbox_enqueue(litter->parent, litter->base, litter->generations, err);
    if (r == 0 && litter->request->wait_durable)
        r = ramet_commit_queue_wait(litter->service->commits, litter->base, err);
    if (r == 0)
        fill_result(litter, ret);
    for (unsigned i = 0; litter->children && i < count; i++) {
        if (r < 0 && litter->children[i]) {
            ramet_sandbox_remove_workspaces(litter->children[i]);
            ramet_sandbox_remove(litter->children[i], NULL);
        }
        ramet_sandbox_unref(litter->children[i]);
    }
    free(litter->children);
    free(litter->timing);
    free(litter->infos);
    return r;
}

/* How many forks of the sandbox are under way: until its children are all there nobody takes its place. */
static void count_forks(struct ramet_sandbox *parent, int change)
{
    pthread_mutex_lock(&parent->service->lock);
    parent->forks += (unsigned)change;
    pthread_mutex_unlock(&parent->service->lock);
}

static int fork_counted(struct ramet_service *service, struct ramet_sandbox *parent,
                        const struct ramet_fork_request *request, struct ramet_fork_result *ret,
                        struct ramet_error *err)
{
    _cleanup_(ramet_snapshot_cleanup) struct ramet_snapshot *snapshot = NULL;
    struct ramet_fork_result result = {0};
    struct litter litter = {.service = service, .request = request, .began_us = ramet_now_us()};
    int r = check_request(service, parent, request, err);
    if (r == 0)
        r = ramet_sandbox_snapshot(parent, request->tag, &snapshot, litter.generations, &result.timing, err);
    if (r < 0)
        return r;
    litter.parent = parent;
    litter.base = snapshot;
    ramet_branch_bases(parent->branch, NULL, litter.last_snapshot);
    pthread_mutex_init(&litter.lock, NULL);
    r = run_litter(&litter, &result, err);
    pthread_mutex_destroy(&litter.lock);
    if (r < 0) {
        ramet_fork_result_free(&result);
        ramet_sandbox_withdraw(parent, snapshot);
        return r;
    }
    *ret = result;
    return 0;
}

int ramet_service_fork_uncounted(struct ramet_service *service, const char *ref,
                                 const struct ramet_fork_request *request, struct ramet_fork_result *ret,
                                 struct ramet_error *err)
{
    _cleanup_(ramet_jobs_cleanup) struct ramet_jobs *held = ramet_jobs_hold(service->jobs);
    _cleanup_(ramet_vm_pool_cleanup) struct ramet_vm_pool *pool = ramet_vm_pool_hold(service->pool);
    _cleanup_(ramet_sandbox_cleanup) struct ramet_sandbox *parent = NULL;
    int r = ramet_sandbox_find(service, ref, &parent, err);
    if (r < 0)
        return r;
    count_forks(parent, 1);
    r = fork_counted(service, parent, request, ret, err);
    count_forks(parent, -1);
    return r;
}
