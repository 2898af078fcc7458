/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is resident beyond what is allocated is, but for a constant, memory that was let go and that
 * the kernel does not have back. The constant is found by trimming, and lowered when less is seen:
 * memory that is allocated and not touched yet makes it small, and touching it later costs one
 * trimming in vain for each RAMET_HEAP_KEPT.
 */
#include "heap.h"

#include "base/file.h"
#include "base/log.h"

#include <inttypes.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { default_tick_ms = 2000 };

struct ramet_heap_keeper {
    struct ramet_heap_keeper_options options;
    int64_t least; /* its thread's: resident beyond allocated where nothing is kept */
    pthread_t thread;
    pthread_mutex_t lock; /* guards the next ones */
    pthread_cond_t wake;
    bool stop;
};

/*
 * Frames are cached by one thread and let go by another. With eight arenas a CPU, glibc's default, each keeps what was
 * let go in it: after a dozen forks the daemon held 330 MiB, where with one arena it stays at 185, what its caches
 * need.
 */
void ramet_heap_limit_arenas(void)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    mallopt(M_ARENA_MAX, cpus < 2 ? 2 : cpus > 8 ? 8 : (int)cpus);
}

void ramet_heap_info(struct ramet_heap_info *ret)
{
    const struct mallinfo2 info = mallinfo2();
    *ret = (struct ramet_heap_info){.allocated_bytes = info.uordblks + info.hblkhd, .free_bytes = info.fordblks};
}

/* Resident bytes that no file backs, less those allocated. */
static int64_t resident_beyond_allocated(void)
{
    struct ramet_heap_info info;
    unsigned long all = 0, files = 0;
    FILE *statm = fopen("/proc/self/statm", "re");
    bool read = statm && fscanf(statm, "%*u %lu %lu", &all, &files) == 2;
    if (statm)
        fclose(statm);
    ramet_heap_info(&info);
    return read ? (int64_t)(all - files) * sysconf(_SC_PAGESIZE) - (int64_t)info.allocated_bytes : 0;
}

static void look(struct ramet_heap_keeper *keeper)
{
    int64_t now = resident_beyond_allocated();
    if (now < keeper->least)
        keeper->least = now;
    if (now - keeper->least < RAMET_HEAP_KEPT || !keeper->options.is_quiet(keeper->options.ctx))
        return;
    uint64_t began_us = ramet_now_us();
    malloc_trim(0);
    keeper->least = resident_beyond_allocated();
    ramet_debug("heap: %" PRId64 " KiB given back in %" PRIu64 " us", (now - keeper->least) >> 10,
                ramet_now_us() - began_us);
}

/* False when it is to end. */
static bool pause_for_a_tick(struct ramet_heap_keeper *keeper)
{
    struct timespec until;
    unsigned tick_ms = keeper->options.tick_ms ? keeper->options.tick_ms : default_tick_ms;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += (long)(tick_ms % 1000) * 1000000;
    until.tv_sec += tick_ms / 1000 + until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&keeper->lock);
    while (!keeper->stop && pthread_cond_timedwait(&keeper->wake, &keeper->lock, &until) == 0)
        ;
    bool stop = keeper->stop;
    pthread_mutex_unlock(&keeper->lock);
    return !stop;
}

static void *run(void *ctx)
{
    struct ramet_heap_keeper *keeper = ctx;
    while (pause_for_a_tick(keeper))
        look(keeper);
    return NULL;
}

int ramet_heap_keeper_new(const struct ramet_heap_keeper_options *options, struct ramet_heap_keeper **ret,
                          struct ramet_error *err)
{
    struct ramet_heap_keeper *keeper = calloc(1, sizeof *keeper);
    pthread_condattr_t monotonic;
    if (!keeper)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to keep the heap small");
    keeper->options = *options;
    keeper->least = resident_beyond_allocated();
    pthread_mutex_init(&keeper->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&keeper->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    int r = pthread_create(&keeper->thread, NULL, run, keeper);
    if (r != 0) {
        pthread_cond_destroy(&keeper->wake);
        pthread_mutex_destroy(&keeper->lock);
        free(keeper);
        return ramet_error_os(err, r, "cannot start the thread that keeps the heap small");
    }
    *ret = keeper;
    return 0;
}

void ramet_heap_keeper_free(struct ramet_heap_keeper *keeper)
{
    if (!keeper)
        return;
    pthread_mutex_lock(&keeper->lock);
    keeper->stop = true;
    pthread_cond_signal(&keeper->wake);
    pthread_mutex_unlock(&keeper->lock);
    pthread_join(keeper->thread, NULL);
    pthread_cond_destroy(&keeper->wake);
    pthread_mutex_destroy(&keeper->lock);
    free(keeper);
}
