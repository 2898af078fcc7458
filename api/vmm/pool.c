/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One thread keeps the pool: it buries, retires and spawns, and otherwise sleeps, waking every WATCH_MS
 * while spares wait, to see whether they live. It never holds `lock` across a
 * spawn or an end, so taking a spare never waits for one.
 *
 * A spare's log is `dir`/spare-N.log until ramet_vm_start moves it to its VM's run directory.
 */
#include "vmm/pool.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "vmm/clock.h"
#include "vmm/launch.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum { QUIET_MS = 200, WATCH_MS = 1000, RETRY_MS = 10000, IDLE_S = 600, SPAWN_MS = 10000 };

struct spare {
    struct ramet_vm *vm; /* owned */
    unsigned cpus;
    size_t disk_count;
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
    unsigned cpus; /* the shape wanted; 0: none */
    size_t disk_count;
    unsigned holds;
    uint64_t quiet_us; /* no spawn before */
    uint64_t idle_us;  /* the last start */
    uint64_t number;   /* of the next spare */
    bool closing;
};

/* --- the thread --- */

static bool fits(const struct spare *spare, unsigned cpus, size_t disk_count)
{
    return spare->cpus == cpus && spare->disk_count == disk_count;
}

/* Removes a spare that is dead or no longer wanted and returns it. Under the lock. */
static struct ramet_vm *pick_useless(struct ramet_vm_pool *pool)
{
    for (size_t i = 0; i < pool->count; i++) {
        struct spare spare = pool->spares[i];
        if (!pool->closing && fits(&spare, pool->cpus, pool->disk_count) && ramet_vm_alive(spare.vm))
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
static struct ramet_vm *spawn(const struct ramet_vm_pool *pool, uint64_t number, unsigned cpus, size_t disk_count)
{
    struct ramet_error err = {0};
    const struct ramet_qemu_shape shape = {.name = "spare", .cpus = cpus, .disk_count = disk_count};
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
    struct spare spare = {.cpus = pool->cpus, .disk_count = pool->disk_count};
    uint64_t number = pool->number++;
    pthread_mutex_unlock(&pool->lock);
    spare.vm = spawn(pool, number, spare.cpus, spare.disk_count);
    pthread_mutex_lock(&pool->lock);
    if (spare.vm)
        pool->spares[pool->count++] = spare;
    else
        pool->quiet_us = ramet_deadline_us(RETRY_MS);
}

/* When to look again; UINT64_MAX: when told. Under the lock. */
static uint64_t next_look_us(const struct ramet_vm_pool *pool)
{
    bool wanting = pool->cpus && pool->count < pool->limit && pool->holds == 0;
    if (wanting)
        return pool->quiet_us;
    return pool->count || pool->cpus ? ramet_deadline_us(WATCH_MS) : UINT64_MAX;
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
        if (pool->cpus && ramet_now_us() - pool->idle_us > IDLE_S * 1000000ULL)
            pool->cpus = 0;
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
        else
            refill(pool);
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

void ramet_vm_pool_note(struct ramet_vm_pool *pool, unsigned cpus, size_t disk_count)
{
    if (!pool || pool->limit == 0)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->cpus = cpus;
    pool->disk_count = disk_count;
    pool->idle_us = ramet_now_us();
    pthread_mutex_unlock(&pool->lock);
}

struct ramet_vm *ramet_vm_pool_take(struct ramet_vm_pool *pool, unsigned cpus, size_t disk_count)
{
    struct ramet_vm *vm = NULL;
    if (!pool)
        return NULL;
    pthread_mutex_lock(&pool->lock);
    for (size_t i = pool->count; i-- > 0 && !vm;)
        if (fits(&pool->spares[i], cpus, disk_count) && ramet_vm_alive(pool->spares[i].vm)) {
            vm = pool->spares[i].vm;
            pool->spares[i] = pool->spares[--pool->count];
        }
    pthread_mutex_unlock(&pool->lock);
    return vm;
}

unsigned ramet_vm_pool_count(struct ramet_vm_pool *pool)
{
    if (!pool)
        return 0;
    pthread_mutex_lock(&pool->lock);
    unsigned count = (unsigned)pool->count;
    pthread_mutex_unlock(&pool->lock);
    return count;
}
