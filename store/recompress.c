/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recompression: frames stored in haste are compressed anew with a level nobody would
 * wait for, under no lock. gc_lock and commit_lock are held only while a batch is
 * published, and what a collection moved or freed meanwhile is passed over. Frames done
 * are marked cold, which is all the progress there is to remember.
 */
#include "base/cleanup.h"
#include "base/file.h"
#include "compact.h"
#include "rewrite.h"

#include <sched.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { batch_frames = 64, threads_max = 16 };

struct batch {
    struct ramet_rewrite items[batch_frames];
    size_t count;
    uint64_t next; /* first frame not looked at */
    int level;
};

struct worker {
    pthread_t thread;
    struct ramet_store *store;
    struct ramet_rewrite *items;
    size_t count;
    bool idle;
    int status;
    struct ramet_error err;
};

static bool gather(void *ctx, uint64_t number, const struct ramet_place_record *record)
{
    struct batch *batch = ctx;
    batch->next = number + 1;
    if (!(record->flags & RAMET_FRAME_COLD))
        batch->items[batch->count++] =
            (struct ramet_rewrite){.number = number, .record = *record, .keep = record->slots, .level = batch->level};
    return batch->count < batch_frames;
}

static void *work(void *ctx)
{
    struct worker *worker = ctx;
    struct sched_param none = {0};
    if (worker->idle)
        sched_setscheduler((pid_t)syscall(SYS_gettid), SCHED_IDLE, &none);
    worker->status = ramet_rewrite_prepare(worker->store, worker->items, worker->count, &worker->err);
    return NULL;
}

/* Compresses the batch, a part of it on each thread. */
static int prepare(struct ramet_store *store, struct batch *batch, const struct ramet_recompress_options *options,
                   struct ramet_error *err)
{
    struct worker workers[threads_max] = {0};
    unsigned threads = options->threads < 1 ? 1 : options->threads > threads_max ? threads_max : options->threads;
    size_t share = (batch->count + threads - 1) / threads;
    unsigned started = 0;
    int r = 0;
    for (size_t from = 0; from < batch->count && r == 0; from += share, started++) {
        size_t left = batch->count - from;
        workers[started] = (struct worker){
            .store = store, .items = batch->items + from, .count = left < share ? left : share, .idle = options->idle};
        if (pthread_create(&workers[started].thread, NULL, work, &workers[started]) != 0) {
            r = ramet_error_set(err, RAMET_NO_MEMORY, "no thread to recompress with");
            break;
        }
    }
    for (unsigned i = 0; i < started; i++) {
        pthread_join(workers[i].thread, NULL);
        if (r == 0 && (r = workers[i].status) < 0 && err)
            *err = workers[i].err;
    }
    return r;
}

/* What was collected or moved while it was compressed is left as it is now. Under gc_lock. */
static void recheck(struct ramet_store *store, struct batch *batch)
{
    for (size_t i = 0; i < batch->count; i++) {
        struct ramet_rewrite *item = &batch->items[i];
        struct ramet_place_record now;
        if (ramet_store_place(store, item->number, &now, NULL) < 0 || now.slots != item->keep ||
            now.place.pack != item->record.place.pack || now.place.offset != item->record.place.offset)
            item->failed = true;
    }
}

static int run_batch(struct ramet_store *store, struct batch *batch, const struct ramet_recompress_options *options,
                     struct ramet_recompress_result *result, struct ramet_error *err)
{
    uint64_t before = 0, after = 0;
    batch->count = 0;
    int r = ramet_frames_walk(store, batch->next, gather, batch, err);
    for (size_t i = 0; i < batch->count; i++)
        before += batch->items[i].record.place.size;
    if (r == 0 && batch->count)
        r = prepare(store, batch, options, err);
    pthread_mutex_lock(&store->gc_lock);
    recheck(store, batch);
    for (size_t i = 0; i < batch->count && r == 0; i++)
        after += batch->items[i].failed ? batch->items[i].record.place.size : batch->items[i].size;
    if (r == 0 && batch->count)
        r = ramet_rewrite_commit(store, batch->items, batch->count, err);
    else
        ramet_rewrite_free(batch->items, batch->count);
    pthread_mutex_unlock(&store->gc_lock);
    if (r == 0) {
        result->frames += batch->count;
        result->before_bytes += before;
        result->after_bytes += after;
    }
    return r;
}

int ramet_store_recompress(struct ramet_store *store, const struct ramet_recompress_options *options,
                           struct ramet_recompress_result *ret, struct ramet_error *err)
{
    struct ramet_recompress_result result = {0};
    struct ramet_gc_result compacted = {0};
    uint64_t began = ramet_now_us(), size;
    struct batch *batch = calloc(1, sizeof *batch);
    if (!batch)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to recompress");
    batch->level = options->level ? options->level : 15;
    /* A pack of its own: what is done lies together, and the packs it came from empty wholly. */
    pthread_mutex_lock(&store->commit_lock);
    int r = ramet_packs_sync(store->packs, err);
    uint32_t current = ramet_packs_current(store->packs, &size);
    if (r == 0 && current)
        ramet_packs_rotate(store->packs, current);
    pthread_mutex_unlock(&store->commit_lock);
    bool stopped = false;
    do {
        if (r == 0)
            r = run_batch(store, batch, options, &result, err);
        stopped = options->stop && options->stop(options->ctx);
    } while (r == 0 && batch->count == batch_frames && !stopped);
    free(batch);
    if (r == 0 && !stopped) {
        pthread_mutex_lock(&store->gc_lock);
        r = ramet_compact(store, &compacted, err);
        pthread_mutex_unlock(&store->gc_lock);
    }
    result.duration_us = ramet_now_us() - began;
    if (r == 0)
        *ret = result;
    return r;
}
