/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One thread keeps the pool: it buries, retires, spawns and makes machines, and otherwise sleeps, waking every WATCH_MS
 * while spares wait, to see whether they live. It never holds `lock` across a
 * spawn, a making or an end, so taking a spare never waits for one; the spare whose machine is being made is not in the
 * list meanwhile.
 *
 * A spare's log is `dir`/spare-N.log until ramet_vm_start moves it to its VM's run directory.
 */
#include "vmm/pool.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "vmm/clock.h"
#include "vmm/launch.h"
#include "vmm/machine.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum { QUIET_MS = 200, WATCH_MS = 1000, RETRY_MS = 10000, IDLE_S = 600, SPAWN_MS = 10000, STEADY = 2 };

struct spare {
    struct ramet_vm *vm;          /* owned */
    struct ramet_machine machine; /* of a VM whose machine is not made only CPUs and the number of disks count */
};

struct ramet_vm_pool {
    char *dir;
    unsigned limit;
    pthread_t thread;
    bool started;         /* the thread was */
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    struct spare *spares; /* `limit` places */
    size_t count;
    struct ramet_machine machine; /* wanted; cpus 0: none */
    unsigned steady;              /* starts in a row that had it */
    bool unmakeable;              /* machines are not made ahead */
    unsigned holds;
    uint64_t quiet_us; /* no spawn before */
    uint64_t idle_us;  /* the last start */
    uint64_t number;   /* of the next spare */
    bool closing;
};

/* --- the thread --- */

/* Whether it can run this machine. */
static bool fits(const struct spare *spare, const struct ramet_machine *machine)
{
    if (spare->vm->made)
        return ramet_machine_equal(&spare->machine, machine);
    return spare->machine.cpus == machine->cpus && spare->machine.disk_count == machine->disk_count;
}

static bool is_wanted(const struct ramet_vm_pool *pool, const struct spare *spare)
{
    if (pool->steady >= STEADY)
        return fits(spare, &pool->machine);
    return spare->machine.cpus == pool->machine.cpus && spare->machine.disk_count == pool->machine.disk_count;
}

/* Removes a spare that is dead or no longer wanted and returns it. Under the lock. */
static struct ramet_vm *pick_useless(struct ramet_vm_pool *pool)
{
    for (size_t i = 0; i < pool->count; i++) {
        struct spare spare = pool->spares[i];
        if (!pool->closing && is_wanted(pool, &spare) && ramet_vm_alive(spare.vm))
            continue;
        pool->spares[i] = pool->spares[--pool->count];
        return spare.vm;
    }
    return NULL;
}

static void bury(struct ramet_vm *vm)
{
    unlink(vm->log_path);
    ramet_vm_free(vm);
}

/* NULL when it cannot be had. */
static struct ramet_vm *spawn(const struct ramet_vm_pool *pool, uint64_t number, const struct ramet_machine *machine)
{
    struct ramet_error err = {0};
    const struct ramet_qemu_shape shape = {.name = "spare", .cpus = machine->cpus, .disk_count = machine->disk_count};
    _autofree_ char *log_path = NULL;
    if (asprintf(&log_path, "%s/spare-%llu.log", pool->dir, (unsigned long long)number) < 0) {
        log_path = NULL;
        return NULL;
    }
    struct ramet_vm *vm = ramet_launch_new("spare", log_path);
    if (!vm)
        return NULL;
    int r = ramet_launch_spawn(vm, &shape, SPAWN_MS, &err);
    if (r == 0)
        return vm;
    ramet_vm_explain(vm, r, &err);
    ramet_warn("no spare VMM: %s", err.msg);
    bury(vm);
    return NULL;
}

/* Spawns one. Called with the lock, which it drops meanwhile. */
static void refill(struct ramet_vm_pool *pool)
{
    struct spare spare = {.machine = pool->machine};
    uint64_t number = pool->number++;
    pthread_mutex_unlock(&pool->lock);
    spare.vm = spawn(pool, number, &spare.machine);
    pthread_mutex_lock(&pool->lock);
    if (spare.vm)
        pool->spares[pool->count++] = spare;
    else
        pool->quiet_us = ramet_deadline_us(RETRY_MS);
}

/* The index of a spare whose machine is to be made; `count`: none. Under the lock. */
static size_t find_bare(const struct ramet_vm_pool *pool)
{
    size_t i = 0;
    if (pool->unmakeable || pool->steady < STEADY)
        return pool->count;
    while (i < pool->count && (pool->spares[i].vm->made || pool->spares[i].vm->hold_fd < 0))
        i++;
    return i;
}

/* What cannot be done once is not tried again: spares in -preconfig are good too. */
static void make(struct ramet_vm_pool *pool, size_t index)
{
    struct ramet_error err = {0};
    struct spare spare = pool->spares[index];
    pool->spares[index] = pool->spares[--pool->count];
    spare.machine = pool->machine;
    pthread_mutex_unlock(&pool->lock);
    int r = ramet_machine_make(spare.vm, &spare.machine, &err);
    if (r < 0 && r != -RAMET_UNSUPPORTED) {
        ramet_vm_explain(spare.vm, r, &err);
        ramet_warn("no machine is made ahead: %s", err.msg);
        bury(STEAL(spare.vm));
    }
    pthread_mutex_lock(&pool->lock);
    pool->unmakeable |= r < 0;
    if (spare.vm)
        pool->spares[pool->count++] = spare;
}

/* When to look again; UINT64_MAX: when told. Under the lock. */
static uint64_t next_look_us(const struct ramet_vm_pool *pool)
{
    bool wanting = pool->machine.cpus && pool->holds == 0;
    if (wanting && (pool->count < pool->limit || find_bare(pool) < pool->count))
        return pool->quiet_us;
    return pool->count || pool->machine.cpus ? ramet_deadline_us(WATCH_MS) : UINT64_MAX;
}

static void sleep_until(struct ramet_vm_pool *pool, uint64_t until_us)
{
    struct timespec until = ramet_timespec_us(until_us);
    if (until_us == UINT64_MAX)
        pthread_cond_wait(&pool->changed, &pool->lock);
    else
        pthread_cond_timedwait(&pool->changed, &pool->lock, &until);
}

static void *keep(void *arg)
{
    struct ramet_vm_pool *pool = arg;
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        if (pool->machine.cpus && ramet_now_us() - pool->idle_us > IDLE_S * 1000000ULL) {
            pool->machine.cpus = 0;
            pool->steady = 0;
        }
        struct ramet_vm *useless = pick_useless(pool);
        if (useless) {
            pthread_mutex_unlock(&pool->lock);
            bury(useless);
            pthread_mutex_lock(&pool->lock);
            continue;
        }
        if (pool->closing)
            break;
        uint64_t look_us = next_look_us(pool);
        if (look_us > ramet_now_us())
            sleep_until(pool, look_us);
        else if (pool->count < pool->limit)
            refill(pool);
        else
            make(pool, find_bare(pool));
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

/* --- its life --- */

static int start_thread(struct ramet_vm_pool *pool)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failure = pthread_create(&pool->thread, NULL, keep, pool);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pool->started = failure == 0;
    return failure;
}

int ramet_vm_pool_new(const char *dir, unsigned limit, struct ramet_vm_pool **ret, struct ramet_error *err)
{
    struct ramet_vm_pool *pool = calloc(1, sizeof *pool);
    if (!pool)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a pool of VMMs");
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pool->limit = limit;
    pool->dir = strdup(dir);
    pool->spares = calloc(limit + 1, sizeof *pool->spares);
    if (!pool->dir || !pool->spares || (limit > 0 && start_thread(pool) != 0)) {
        ramet_vm_pool_free(pool);
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a pool of VMMs");
    }
    *ret = pool;
    return 0;
}

void ramet_vm_pool_free(struct ramet_vm_pool *pool)
{
    if (!pool)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->closing = true;
    pthread_cond_signal(&pool->changed);
    pthread_mutex_unlock(&pool->lock);
    if (pool->started)
        pthread_join(pool->thread, NULL);
    pthread_cond_destroy(&pool->changed);
    pthread_mutex_destroy(&pool->lock);
    free(pool->dir);
    free(pool->spares);
    free(pool);
}

/* --- its use --- */

struct ramet_vm_pool *ramet_vm_pool_hold(struct ramet_vm_pool *pool)
{
    if (!pool)
        return NULL;
    pthread_mutex_lock(&pool->lock);
    pool->holds++;
    pthread_mutex_unlock(&pool->lock);
    return pool;
}

void ramet_vm_pool_release(struct ramet_vm_pool *pool)
{
    if (!pool)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->holds--;
    pool->quiet_us = ramet_deadline_us(QUIET_MS);
    pthread_cond_signal(&pool->changed);
    pthread_mutex_unlock(&pool->lock);
}

void ramet_vm_pool_cleanup(struct ramet_vm_pool **pool) { ramet_vm_pool_release(*pool); }

void ramet_vm_pool_note(struct ramet_vm_pool *pool, const struct ramet_machine *machine)
{
    if (!pool || pool->limit == 0)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->steady = ramet_machine_equal(&pool->machine, machine) ? pool->steady + 1 : 1;
    pool->machine = *machine;
    pool->idle_us = ramet_now_us();
    pthread_mutex_unlock(&pool->lock);
}

/* Under the lock. */
static struct ramet_vm *take_one(struct ramet_vm_pool *pool, const struct ramet_machine *machine, bool made)
{
    for (size_t i = pool->count; i-- > 0;) {
        struct ramet_vm *vm = pool->spares[i].vm;
        if (vm->made != made || !fits(&pool->spares[i], machine) || !ramet_vm_alive(vm))
            continue;
        pool->spares[i] = pool->spares[--pool->count];
        return vm;
    }
    return NULL;
}

struct ramet_vm *ramet_vm_pool_take(struct ramet_vm_pool *pool, const struct ramet_machine *machine)
{
    if (!pool)
        return NULL;
    pthread_mutex_lock(&pool->lock);
    struct ramet_vm *vm = take_one(pool, machine, true);
    if (!vm)
        vm = take_one(pool, machine, false);
    pthread_mutex_unlock(&pool->lock);
    return vm;
}

unsigned ramet_vm_pool_count(struct ramet_vm_pool *pool, unsigned *ret_made)
{
    unsigned count = 0, made = 0;
    if (pool) {
        pthread_mutex_lock(&pool->lock);
        for (; count < pool->count; count++)
            made += pool->spares[count].vm->made;
        pthread_mutex_unlock(&pool->lock);
    }
    if (ret_made)
        *ret_made = made;
    return count;
}
