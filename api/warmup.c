/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Prefetching: two threads claim batches of the working set in its order, read each from the
 * store in one go and hand it to the kernel. They hold no lock meanwhile: the kernel makes
 * them wait for pages that the mount is just asked for. Pages the kernel has are passed
 * over, so that a restore beside others costs little.
 *
 * Recording needs a file the kernel has no page of, so it is put off while sandboxes run on it; their pages are not
 * taken from them.
 *
 * The file is opened and mapped, to ask which pages the kernel has, and never touched.
 */
#include "warmup.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "mount.h"
#include "service_private.h"
#include "working_set.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

enum { batch_pages = 256, threads_max = 2, limit_ms = 10000 };

struct ramet_warmup {
    struct ramet_service *service;
    struct ramet_snapshot *snapshot; /* owned reference */
    bool recording;
    struct ramet_working_set set; /* to prefetch */
    uint8_t *mapped;              /* the memory file; never touched */
    uint64_t mapped_bytes, deadline_us;
    uint64_t *pages; /* owned; the set, one by one */
    pthread_t threads[threads_max];
    unsigned thread_count;
    _Atomic uint64_t next; /* page of `pages` to claim */
    _Atomic bool stop;
};

/* --- prefetching --- */

/* Which of `count` pages from `first` the kernel has; none when it does not say. */
static void find_cached(const struct ramet_warmup *warmup, uint64_t first, size_t count, unsigned char *cached)
{
    if (mincore(warmup->mapped + first * RAMET_PAGE_SIZE, count * RAMET_PAGE_SIZE, cached) != 0)
        memset(cached, 0, count);
}

/* Length of the run of successive pages at the start of a list. */
static size_t run_of(const uint64_t *pages, size_t count)
{
    size_t run = 1;
    while (run < count && pages[run] == pages[0] + run)
        run++;
    return run;
}

/* Leaves out what the kernel has; returns how many pages are left. */
static size_t choose(const struct ramet_warmup *warmup, const uint64_t *from, size_t count, uint64_t *pages)
{
    unsigned char cached[batch_pages];
    size_t chosen = 0;
    for (size_t i = 0, run; i < count; i += run) {
        run = run_of(from + i, count - i);
        find_cached(warmup, from[i], run, cached);
        for (size_t j = 0; j < run; j++)
            if (!(cached[j] & 1))
                pages[chosen++] = from[i + j];
    }
    return chosen;
}

static int prefetch_batch(struct ramet_warmup *warmup, const uint64_t *from, size_t count, uint8_t *buf,
                          struct ramet_error *err)
{
    uint64_t pages[batch_pages];
    struct ramet_image *memory = ramet_snapshot_image(warmup->snapshot, "memory");
    size_t chosen = choose(warmup, from, count, pages);
    int r = chosen ? ramet_image_read_list(memory, pages, chosen, buf, err) : 0;
    for (size_t i = 0, run; i < chosen && r == 0 && !atomic_load(&warmup->stop); i += run) {
        run = run_of(pages + i, chosen - i);
        r = ramet_mount_put_memory(warmup->service->mount, warmup->snapshot, pages[i] * RAMET_PAGE_SIZE,
                                   buf + i * RAMET_PAGE_SIZE, run * RAMET_PAGE_SIZE, err);
    }
    return r;
}

static void *prefetch(void *arg)
{
    struct ramet_warmup *warmup = arg;
    struct ramet_error err = {0};
    _autofree_ uint8_t *buf = malloc((size_t)batch_pages * RAMET_PAGE_SIZE);
    uint64_t first, total = warmup->set.page_count;
    int r = 0;
    while (buf && r == 0 && !atomic_load(&warmup->stop) && ramet_now_us() < warmup->deadline_us &&
           (first = atomic_fetch_add(&warmup->next, batch_pages)) < total) {
        uint64_t count = total - first < batch_pages ? total - first : batch_pages;
        r = prefetch_batch(warmup, warmup->pages + first, (size_t)count, buf, &err);
    }
    if (r < 0)
        ramet_warn("prefetching the working set of snapshot %s: %s", warmup->snapshot->id, err.msg);
    return NULL;
}

/* Maps the memory file; with `forget` the kernel first lets go of the pages nobody maps. */
static bool map_memory(struct ramet_warmup *warmup, bool forget)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/snapshots/%s/memory", warmup->service->mount_dir, warmup->snapshot->id);
    _autoclose_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    uint64_t bytes = ramet_image_size(ramet_snapshot_image(warmup->snapshot, "memory"));
    if (fd >= 0 && forget)
        posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    void *mapped = fd < 0 ? MAP_FAILED : mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
    if (mapped == MAP_FAILED)
        return false;
    warmup->mapped = mapped;
    warmup->mapped_bytes = bytes;
    return true;
}

static int compare_pages(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/*
 * The set as a list of pages; NULL when memory ran out. Batches keep the order of first touch, the pages of one are
 * sorted: they are read at once, and given to the kernel in fewer and longer runs.
 */
static uint64_t *list_pages(const struct ramet_working_set *set)
{
    uint64_t *pages = calloc(set->page_count + 1, sizeof *pages);
    size_t count = 0;
    for (size_t i = 0; pages && i < set->run_count; i++)
        for (uint32_t j = 0; j < set->runs[i].count; j++)
            pages[count++] = (uint64_t)set->runs[i].first + j;
    for (size_t i = 0; pages && i < count; i += batch_pages)
        qsort(pages + i, count - i < batch_pages ? count - i : batch_pages, sizeof *pages, compare_pages);
    return pages;
}

static bool begin_prefetch(struct ramet_warmup *warmup)
{
    warmup->deadline_us = ramet_now_us() + limit_ms * UINT64_C(1000);
    warmup->pages = list_pages(&warmup->set);
    if (!warmup->pages || !map_memory(warmup, false))
        return false;
    while (warmup->thread_count < threads_max &&
           pthread_create(&warmup->threads[warmup->thread_count], NULL, prefetch, warmup) == 0)
        warmup->thread_count++;
    return warmup->thread_count > 0;
}

/* --- recording --- */

/* Whether the kernel has any of the memory: what it has, a guest reads without asking the mount. */
static bool any_cached(const struct ramet_warmup *warmup)
{
    unsigned char cached[4096];
    uint64_t total = warmup->mapped_bytes / RAMET_PAGE_SIZE;
    for (uint64_t page = 0; page < total; page += sizeof cached) {
        size_t count = total - page < sizeof cached ? (size_t)(total - page) : sizeof cached;
        find_cached(warmup, page, count, cached);
        for (size_t i = 0; i < count; i++)
            if (cached[i] & 1)
                return true;
    }
    return false;
}

static void drop_recording(struct ramet_warmup *warmup)
{
    struct ramet_working_set dropped = {0};
    if (warmup->recording)
        ramet_mount_record_end(warmup->service->mount, warmup->snapshot, &dropped, NULL);
    warmup->recording = false;
    ramet_working_set_free(&dropped);
}

/* Whether a VM maps the memory. */
static bool in_use(struct ramet_service *service, const struct ramet_snapshot *snapshot)
{
    uint64_t serial, object;
    bool used = false;
    pthread_mutex_lock(&service->lock);
    for (size_t at = 0; !used && ramet_u64map_next(&service->sandboxes.serials, &at, &serial, &object);) {
        const struct ramet_sandbox *sandbox = (const struct ramet_sandbox *)(uintptr_t)object;
        used = sandbox->base == snapshot && sandbox->state <= RAMET_SANDBOX_PAUSED;
    }
    pthread_mutex_unlock(&service->lock);
    return used;
}

/* True also when another restore is recording just now: this one must not blur what that sees. */
static bool begin_recording(struct ramet_warmup *warmup)
{
    int r = ramet_mount_record_begin(warmup->service->mount, warmup->snapshot, NULL);
    if (r == -RAMET_BUSY)
        return true;
    warmup->recording = r == 0;
    if (in_use(warmup->service, warmup->snapshot) || !map_memory(warmup, true) || any_cached(warmup))
        drop_recording(warmup);
    return warmup->recording;
}

void ramet_warmup_answered(struct ramet_warmup *warmup)
{
    struct ramet_error err = {0};
    struct ramet_working_set set = {0};
    if (!warmup->recording)
        return;
    warmup->recording = false;
    int r = ramet_mount_record_end(warmup->service->mount, warmup->snapshot, &set, &err);
    if (r == 0 && set.page_count > 0)
        r = ramet_catalog_working_set_put(warmup->service->catalog, warmup->snapshot, &set, &err);
    if (r < 0)
        ramet_warn("recording the working set of snapshot %s: %s", warmup->snapshot->id, err.msg);
    ramet_working_set_free(&set);
}

/* --- both --- */

struct ramet_warmup *ramet_warmup_begin(struct ramet_service *service, struct ramet_snapshot *snapshot)
{
    struct ramet_error err = {0};
    if (!service->working_sets || !ramet_snapshot_image(snapshot, "memory") || !atomic_load(&snapshot->durable))
        return NULL;
    struct ramet_warmup *warmup = calloc(1, sizeof *warmup);
    if (!warmup)
        return NULL;
    warmup->service = service;
    warmup->snapshot = ramet_snapshot_ref(snapshot);
    int r = ramet_catalog_working_set_get(service->catalog, snapshot, &warmup->set, &err);
    if (r == -RAMET_CORRUPT)
        ramet_warn("%s; it is recorded anew", err.msg);
    if (r == 0 ? begin_prefetch(warmup) : begin_recording(warmup))
        return warmup;
    ramet_warmup_free(warmup);
    return NULL;
}

void ramet_warmup_free(struct ramet_warmup *warmup)
{
    if (!warmup)
        return;
    atomic_store(&warmup->stop, true);
    for (unsigned i = 0; i < warmup->thread_count; i++)
        pthread_join(warmup->threads[i], NULL);
    drop_recording(warmup);
    ramet_working_set_free(&warmup->set);
    if (warmup->mapped)
        munmap(warmup->mapped, warmup->mapped_bytes);
    free(warmup->pages);
    ramet_snapshot_unref(warmup->snapshot);
    free(warmup);
}

void ramet_warmup_cleanup(struct ramet_warmup **warmup) { ramet_warmup_free(*warmup); }
