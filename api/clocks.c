/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A queue of sandboxes and a few threads that settle their clocks. Several, so that one guest
 * that does not answer delays the others little; few, so that guests have the CPUs to themselves.
 *
 * A sandbox's `clock` lock is held while its clock is set, by whoever does it: one of these threads, or a call that
 * is about to run a command there and does not want to wait for its turn. Whoever stops the guest takes that lock
 * too, so that no guest is stopped, and none captured, in the middle of setting its clock: a child would go on
 * setting the time that its parent was to have. Removing a sandbox takes no such lock; the VM's death ends the wait.
 *
 * The lock of this module guards the queue and is a leaf. A crash leaves nothing.
 */
#include "clocks.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "service_private.h"

#include <time.h>

/* An agent that was silent for a minute may not be there at all; a command that is run there tries again. */
enum { thread_count = 4, set_timeout_ms = 10000, tries = 6 };

struct ramet_clocks {
    pthread_t threads[thread_count];
    unsigned started;
    pthread_mutex_t lock; /* guards all below, and the sandboxes' fields named there */
    pthread_cond_t changed;
    struct ramet_sandbox *first, *last; /* each a reference */
    bool closing;
};

/* Under `clock`. */
static bool to_be_set(struct ramet_sandbox *sandbox)
{
    pthread_mutex_lock(&sandbox->service->lock);
    bool paused = sandbox->state == RAMET_SANDBOX_PAUSED;
    pthread_mutex_unlock(&sandbox->service->lock);
    return sandbox->clock_due && !paused;
}

/* Under `clock`. */
static int set_now(struct ramet_sandbox *sandbox, struct ramet_vm *vm, unsigned timeout_ms, struct ramet_error *err)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    int r = ramet_vm_set_time(vm, (int64_t)now.tv_sec * 1000000000 + now.tv_nsec, timeout_ms, err);
    sandbox->clock_due = r == -RAMET_TIMEOUT;
    if (r < 0 && ramet_vm_alive(vm))
        ramet_warn("sandbox %s: its clock was not set: %s", sandbox->branch->name, err->msg);
    return r;
}

/* The agent is waited for without `clock`: it may be silent for long, and the guest may be stopped meanwhile. */
static int settle(struct ramet_sandbox *sandbox, struct ramet_vm *vm, unsigned timeout_ms, struct ramet_error *err)
{
    int r = ramet_vm_ping(vm, timeout_ms, err);
    if (r < 0)
        return r;
    pthread_mutex_lock(&sandbox->clock);
    if (to_be_set(sandbox))
        r = set_now(sandbox, vm, timeout_ms, err);
    pthread_mutex_unlock(&sandbox->clock);
    return r;
}

int ramet_clocks_settle(struct ramet_sandbox *sandbox, unsigned timeout_ms, struct ramet_error *err)
{
    struct ramet_vm *vm;
    struct ramet_error failure = {0};
    pthread_mutex_lock(&sandbox->clock);
    bool due = to_be_set(sandbox);
    pthread_mutex_unlock(&sandbox->clock);
    if (!due || ramet_sandbox_vm_get(sandbox, &vm, &failure) < 0)
        return 0;
    int r = settle(sandbox, vm, timeout_ms, &failure);
    ramet_sandbox_vm_put(sandbox);
    if (r != -RAMET_TIMEOUT)
        return 0;
    if (err)
        *err = failure;
    return r;
}

/* Under the lock; NULL when none waits. */
static struct ramet_sandbox *take_first(struct ramet_clocks *clocks)
{
    struct ramet_sandbox *sandbox = clocks->first;
    if (!sandbox)
        return NULL;
    clocks->first = STEAL(sandbox->clock_next);
    if (!clocks->first)
        clocks->last = NULL;
    sandbox->clock_queued = false;
    return sandbox;
}

/* Under the lock. */
static void add(struct ramet_clocks *clocks, struct ramet_sandbox *sandbox)
{
    if (sandbox->clock_queued)
        return;
    sandbox->clock_queued = true;
    atomic_fetch_add(&sandbox->refs, 1);
    *(clocks->last ? &clocks->last->clock_next : &clocks->first) = sandbox;
    clocks->last = sandbox;
    pthread_cond_signal(&clocks->changed);
}

static void *run(void *arg)
{
    struct ramet_clocks *clocks = arg;
    pthread_mutex_lock(&clocks->lock);
    while (!clocks->closing) {
        struct ramet_sandbox *sandbox = take_first(clocks);
        if (!sandbox) {
            pthread_cond_wait(&clocks->changed, &clocks->lock);
            continue;
        }
        pthread_mutex_unlock(&clocks->lock);
        int r = ramet_clocks_settle(sandbox, set_timeout_ms, NULL);
        pthread_mutex_lock(&clocks->lock);
        if (r == -RAMET_TIMEOUT && ++sandbox->clock_tries < tries)
            add(clocks, sandbox);
        pthread_mutex_unlock(&clocks->lock);
        ramet_sandbox_unref(sandbox);
        pthread_mutex_lock(&clocks->lock);
    }
    pthread_mutex_unlock(&clocks->lock);
    return NULL;
}

int ramet_clocks_new(struct ramet_clocks **ret, struct ramet_error *err)
{
    struct ramet_clocks *clocks = calloc(1, sizeof *clocks);
    if (!clocks)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for the clocks of guests");
    pthread_mutex_init(&clocks->lock, NULL);
    pthread_cond_init(&clocks->changed, NULL);
    int r = 0;
    while (clocks->started < thread_count && r == 0) {
        r = pthread_create(&clocks->threads[clocks->started], NULL, run, clocks);
        clocks->started += r == 0;
    }
    if (r != 0) {
        ramet_clocks_free(clocks);
        return ramet_error_os(err, r, "cannot start a thread that sets clocks");
    }
    *ret = clocks;
    return 0;
}

void ramet_clocks_free(struct ramet_clocks *clocks)
{
    if (!clocks)
        return;
    pthread_mutex_lock(&clocks->lock);
    clocks->closing = true;
    pthread_cond_broadcast(&clocks->changed);
    pthread_mutex_unlock(&clocks->lock);
    for (unsigned i = 0; i < clocks->started; i++)
        pthread_join(clocks->threads[i], NULL);
    struct ramet_sandbox *sandbox;
    while ((sandbox = take_first(clocks)))
        ramet_sandbox_unref(sandbox);
    pthread_cond_destroy(&clocks->changed);
    pthread_mutex_destroy(&clocks->lock);
    free(clocks);
}

void ramet_clocks_add(struct ramet_clocks *clocks, struct ramet_sandbox *sandbox)
{
    pthread_mutex_lock(&clocks->lock);
    sandbox->clock_tries = 0;
    add(clocks, sandbox);
    pthread_mutex_unlock(&clocks->lock);
}
