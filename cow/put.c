/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every thread has an ingest of its own and claims the next leaf; what it finds out is a
 * list of (leaf, node). When all are done the lists make the new map. The calling thread
 * works too, with the caller's ingest, so that a small image costs no thread.
 */
#include "put.h"

#include "base/cleanup.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

/* Pieces of 256 KiB stay in a core's cache from reading to compressing. */
enum { leaf_pages = RAMET_MAP_FANOUT, piece_pages = 64, threads_max = 16, pages_per_thread = 2048 };

struct job {
    struct ramet_store *store;
    const struct ramet_page_map *base;
    const struct ramet_page_source *source;
    uint64_t leaf_count;
    _Atomic uint64_t next_leaf;
    _Atomic bool stopped; /* one failed */
};

struct worker {
    struct job *job;
    struct ramet_ingest *ingest;
    struct ramet_page_change *leaves; /* owned */
    size_t count, capacity;
    uint8_t *pages; /* owned; piece_pages of them */
    pthread_t thread;
    int status;
    struct ramet_error err;
};

static int add_leaf(struct worker *worker, uint64_t leaf, ramet_chunk node)
{
    if (worker->count == worker->capacity) {
        size_t capacity = worker->capacity ? worker->capacity * 2 : 64;
        struct ramet_page_change *grown = reallocarray(worker->leaves, capacity, sizeof *grown);
        if (!grown)
            return ramet_error_set(&worker->err, RAMET_NO_MEMORY, "no memory to store an image");
        worker->leaves = grown;
        worker->capacity = capacity;
    }
    worker->leaves[worker->count++] = (struct ramet_page_change){.page = leaf, .chunk = node};
    return 0;
}

/* Puts the source's pages of one leaf, and the leaf if it changed. */
static int put_leaf(struct worker *worker, uint64_t leaf)
{
    struct job *job = worker->job;
    struct ramet_error *err = &worker->err;
    ramet_chunk entries[leaf_pages], node, fresh;
    uint64_t origin = leaf * leaf_pages, end = origin + leaf_pages, first, count;
    end = end < job->base->page_count ? end : job->base->page_count;
    int r = job->source->run(job->source->ctx, origin, end, &first, &count, err);
    if (r < 0 || count == 0)
        return r;
    if ((r = ramet_page_map_leaf(job->store, job->base, leaf, entries, &node, err)) < 0)
        return r;
    while (r == 0 && count > 0) {
        ramet_chunk chunks[piece_pages];
        count = count < piece_pages ? count : piece_pages;
        r = job->source->read(job->source->ctx, first, count, worker->pages, err);
        if (r == 0)
            r = ramet_ingest_put(worker->ingest, RAMET_CHUNK_DATA, worker->pages, count, &entries[first - origin],
                                 chunks, err);
        if (r == 0)
            memcpy(&entries[first - origin], chunks, count * sizeof *chunks);
        if (r == 0)
            r = job->source->run(job->source->ctx, first + count, end, &first, &count, err);
    }
    if (r == 0)
        r = ramet_page_map_put_node(worker->ingest, entries, node, &fresh, err);
    return r < 0 || fresh == node ? r : add_leaf(worker, leaf, fresh);
}

static void *work(void *ctx)
{
    struct worker *worker = ctx;
    struct job *job = worker->job;
    worker->pages = malloc((size_t)piece_pages * RAMET_PAGE_SIZE);
    if (!worker->pages)
        worker->status = ramet_error_set(&worker->err, RAMET_NO_MEMORY, "no memory to store an image");
    while (worker->status == 0 && !atomic_load(&job->stopped)) {
        uint64_t leaf = atomic_fetch_add(&job->next_leaf, 1);
        if (leaf >= job->leaf_count)
            break;
        worker->status = put_leaf(worker, leaf);
    }
    if (worker->status < 0)
        atomic_store(&job->stopped, true);
    free(STEAL(worker->pages));
    return NULL;
}

static int compare_leaf(const void *a, const void *b)
{
    uint64_t x = ((const struct ramet_page_change *)a)->page, y = ((const struct ramet_page_change *)b)->page;
    return (x > y) - (x < y);
}

/* Makes the new map of what the workers found. */
static int join_leaves(struct job *job, struct worker *workers, unsigned count, struct ramet_page_map *ret,
                       struct ramet_error *err)
{
    size_t total = 0, at = 0;
    for (unsigned i = 0; i < count; i++)
        total += workers[i].count;
    _autofree_ struct ramet_page_change *leaves = calloc(total + 1, sizeof *leaves);
    if (!leaves)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to store an image");
    for (unsigned i = 0; i < count; at += workers[i++].count)
        if (workers[i].count)
            memcpy(leaves + at, workers[i].leaves, workers[i].count * sizeof *leaves);
    qsort(leaves, total, sizeof *leaves, compare_leaf);
    return ramet_page_map_update_leaves(workers[0].ingest, job->store, job->base, leaves, total, ret, err);
}

static unsigned threads_for(struct ramet_store *store, uint64_t pages)
{
    uint64_t wanted = pages / pages_per_thread + 1, have = ramet_store_threads(store);
    have = have < threads_max ? have : threads_max;
    return (unsigned)(wanted < have ? wanted : have);
}

int ramet_put_pages(struct ramet_store *store, struct ramet_ingest *ingest, const struct ramet_page_map *base,
                    const struct ramet_page_source *source, struct ramet_page_map *ret, struct ramet_error *err)
{
    struct job job = {
        .store = store, .base = base, .source = source, .leaf_count = (base->page_count + leaf_pages - 1) / leaf_pages};
    struct worker workers[threads_max] = {{.job = &job, .ingest = ingest}};
    unsigned wanted = threads_for(store, source->pages), started = 1;
    for (; started < wanted; started++) {
        struct worker *worker = &workers[started];
        worker->job = &job;
        /* One thread less is no error. */
        if (ramet_ingest_begin(store, &worker->ingest, NULL) < 0)
            break;
        if (pthread_create(&worker->thread, NULL, work, worker) != 0) {
            ramet_ingest_end(worker->ingest);
            break;
        }
    }
    work(&workers[0]);
    int r = 0;
    for (unsigned i = 0; i < started; i++) {
        if (i > 0)
            pthread_join(workers[i].thread, NULL);
        if (r == 0 && (r = workers[i].status) < 0 && err)
            *err = workers[i].err;
    }
    if (r == 0)
        r = join_leaves(&job, workers, started, ret, err);
    for (unsigned i = 0; i < started; i++) {
        if (i > 0) {
            int joined = ramet_ingest_join(ingest, workers[i].ingest, r == 0 ? err : NULL);
            r = r < 0 ? r : joined;
        }
        free(workers[i].leaves);
    }
    return r;
}
