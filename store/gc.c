/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Garbage collection: mark what is reachable, free the rest, while everything else
 * goes on. One mark word a frame: 1 MiB of memory for a million pages.
 *
 * Why nothing in use is freed:
 *   - frames numbered at or above `limit`, taken at the start, are never touched;
 *   - an ingest open at the start is waited for, so what it committed is marked like
 *     all else; an ingest begun later marks each known page it reuses, and each base it
 *     stores a difference against (retain), and of the map nodes reuses only those the
 *     walk has reached;
 *   - the bases of differences that are alive are marked after the walk. A base bit
 *     keeps a slot, but does not say that the walk has been below it;
 *   - a frame is freed by swapping its mark word from 0 to DEAD, slots of it by adding
 *     SEALED to the word, a page is reused by setting its bit, and whichever comes second
 *     sees the first.
 *
 * A crash leaves at worst index entries of freed frames (a lookup then misses) or
 * space not yet given back; the next collection takes both. A collection that fails half
 * way leaves index entries of slots that are gone while a cached frame may still hold
 * them: `suspect_below` makes ingests look at the disk until a collection succeeds.
 */
#include "base/cleanup.h"
#include "base/codec.h"
#include "base/file.h"
#include "compact.h"
#include "rewrite.h"

#include <stdlib.h>
#include <string.h>

enum { batch_frames = 4096, trim_batch = 64 };
#define BASE_SHIFT 16
#define SEALED (UINT64_C(1) << 62)
#define DEAD (UINT64_C(1) << 63)
/* A frame that lost at least an eighth of its slots is written again without them. */
enum { trim_divisor = 8 };

struct ramet_gc {
    struct ramet_store *store;
    uint64_t limit;          /* frames below it are judged */
    _Atomic uint64_t *marks; /* 16 bits of slots walked to, 16 of bases, SEALED, DEAD */
    struct ramet_gc_result result;
    struct ramet_error *err;
    int status; /* of the walk under way */
    /* Gathered while sweeping */
    struct ramet_kv_batch *batch;
    struct ramet_place *places; /* batch_frames of them: of frames deleted in the batch */
    size_t place_count;
    struct ramet_rewrite trims[trim_batch];
    size_t trim_count;
};

static uint16_t live_slots(uint64_t mark) { return (uint16_t)(mark | mark >> BASE_SHIFT); }

bool ramet_gc_mark(struct ramet_gc *gc, ramet_chunk chunk)
{
    uint64_t frame = ramet_chunk_frame(chunk);
    if (chunk == RAMET_CHUNK_ZERO || frame >= gc->limit)
        return chunk != RAMET_CHUNK_ZERO; /* its children may be older than itself */
    uint64_t bit = UINT64_C(1) << ramet_chunk_slot(chunk);
    return !(atomic_fetch_or(&gc->marks[frame], bit) & bit);
}

bool ramet_gc_retain(struct ramet_store *store, enum ramet_gc_use use, ramet_chunk chunk)
{
    struct ramet_gc *gc = atomic_load(&store->gc);
    uint64_t frame = ramet_chunk_frame(chunk);
    if (!gc || frame >= gc->limit)
        return true;
    uint64_t walked = UINT64_C(1) << ramet_chunk_slot(chunk),
             bit = use == RAMET_GC_BASE ? walked << BASE_SHIFT : walked;
    uint64_t mark = atomic_load(&gc->marks[frame]);
    /* Marking a node here would make the walk skip what it holds: only one the walk has reached may be reused. */
    if (use == RAMET_GC_NODE)
        return mark & walked;
    do {
        bool alive = live_slots(mark) & walked;
        if (mark & DEAD || (mark & SEALED && !alive))
            return false;
    } while (!atomic_compare_exchange_weak(&gc->marks[frame], &mark, mark | bit));
    return true;
}

/*
 * Shows `gc` (NULL: none any more) to ingests and waits for those that began before, which
 * may still act on what was shown until now.
 */
static void publish(struct ramet_store *store, struct ramet_gc *gc)
{
    pthread_mutex_lock(&store->session_lock);
    atomic_store(&store->gc, gc);
    uint64_t generation = ++store->generation;
    for (;;) {
        struct ramet_ingest *older = store->sessions;
        while (older && older->generation >= generation)
            older = older->next;
        if (!older)
            break;
        pthread_cond_wait(&store->session_ended, &store->session_lock);
    }
    pthread_mutex_unlock(&store->session_lock);
}

/* --- bases --- */

/* Marks the bases of a delta frame's slots that are alive. */
static bool mark_bases(void *ctx, uint64_t number, const struct ramet_place_record *record)
{
    struct ramet_gc *gc = ctx;
    uint16_t alive = number < gc->limit ? live_slots(atomic_load(&gc->marks[number])) & record->slots : 0;
    if (!(record->flags & RAMET_FRAME_DELTA) || !alive)
        return true;
    _cleanup_(ramet_frame_cleanup) struct ramet_frame *frame = NULL;
    int r = ramet_store_frame(gc->store, number, true, &frame, gc->err);
    for (unsigned slot = 0; r == 0 && slot < RAMET_FRAME_SLOTS; slot++) {
        ramet_chunk base = RAMET_CHUNK_ZERO;
        if (alive & 1u << slot)
            ramet_frame_page(frame, slot, &base);
        if (base != RAMET_CHUNK_ZERO && ramet_chunk_frame(base) < gc->limit)
            atomic_fetch_or(&gc->marks[ramet_chunk_frame(base)], UINT64_C(1) << (BASE_SHIFT + ramet_chunk_slot(base)));
    }
    /* A frame that cannot be read has no bases to keep, for nobody can read it. */
    gc->status = r == -RAMET_CORRUPT ? 0 : r;
    return gc->status == 0;
}

/* --- sweeping --- */

/* Writes the batch of deleted frame records and then gives their space back, neighbours in one hole. */
static int free_batch(struct ramet_gc *gc)
{
    int r = ramet_kv_write(gc->store->kv, gc->batch, true, gc->err);
    if (r < 0)
        return r;
    pthread_mutex_lock(&gc->store->commit_lock);
    for (size_t i = 0; i < gc->place_count;) {
        struct ramet_place hole = gc->places[i++];
        while (i < gc->place_count && gc->places[i].pack == hole.pack &&
               gc->places[i].offset == hole.offset + hole.size)
            hole.size += gc->places[i++].size;
        ramet_packs_punch(gc->store->packs, &hole);
        gc->result.freed_bytes += hole.size;
    }
    pthread_mutex_unlock(&gc->store->commit_lock);
    gc->place_count = 0;
    return 0;
}

static int trim_frames(struct ramet_gc *gc)
{
    uint64_t before = 0, after = 0;
    for (size_t i = 0; i < gc->trim_count; i++)
        before += gc->trims[i].record.place.size;
    int r = ramet_rewrite_prepare(gc->store, gc->trims, gc->trim_count, gc->err);
    for (size_t i = 0; i < gc->trim_count && r == 0; i++)
        after += gc->trims[i].failed ? gc->trims[i].record.place.size : gc->trims[i].size;
    if (r == 0)
        r = ramet_rewrite_commit(gc->store, gc->trims, gc->trim_count, gc->err);
    else
        ramet_rewrite_free(gc->trims, gc->trim_count);
    if (r == 0) {
        gc->result.trimmed_frames += gc->trim_count;
        gc->result.freed_bytes += before > after ? before - after : 0;
    }
    gc->trim_count = 0;
    return r;
}

/* Judges one frame: a dead one is deleted, one with many dead slots is trimmed. */
static bool sweep_frame(void *ctx, uint64_t number, const struct ramet_place_record *record)
{
    struct ramet_gc *gc = ctx;
    unsigned slots = ramet_slot_count(record->slots);
    if (number >= gc->limit) {
        gc->result.live_chunks += slots;
        return true;
    }
    uint64_t mark = 0;
    if (atomic_compare_exchange_strong(&gc->marks[number], &mark, DEAD)) {
        uint8_t key[8];
        ramet_frame_cache_drop(gc->store->cache, number);
        gc->result.dead_chunks += slots;
        ramet_put_be64(key, number);
        ramet_kv_delete(gc->batch, RAMET_KV_FRAMES, key, sizeof key);
        gc->places[gc->place_count++] = record->place;
        gc->status = gc->place_count == batch_frames ? free_batch(gc) : 0;
        return gc->status == 0;
    }
    uint16_t keep;
    unsigned dead;
    do {
        keep = live_slots(mark) & record->slots;
        dead = slots - ramet_slot_count(keep);
    } while (keep && dead * trim_divisor >= slots && dead &&
             !atomic_compare_exchange_weak(&gc->marks[number], &mark, mark | SEALED));
    gc->result.live_chunks += slots - dead;
    gc->result.dead_chunks += dead;
    if (!keep || !dead || dead * trim_divisor < slots)
        return true;
    gc->trims[gc->trim_count++] = (struct ramet_rewrite){.number = number, .record = *record, .keep = keep};
    gc->status = gc->trim_count == trim_batch ? trim_frames(gc) : 0;
    return gc->status == 0;
}

static int sweep_frames(struct ramet_gc *gc)
{
    int r = ramet_frames_walk(gc->store, 0, sweep_frame, gc, gc->err);
    if (r == 0)
        r = gc->status;
    if (r == 0 && gc->place_count)
        r = free_batch(gc);
    if (r == 0 && gc->trim_count)
        r = trim_frames(gc);
    return r;
}

/* Removes index entries of dead pages. Losing one that was just renewed costs a dedup, nothing else. */
static int sweep_index(struct ramet_gc *gc)
{
    struct ramet_kv_iter *iter = ramet_kv_iter_new(gc->store->kv, RAMET_KV_INDEX, NULL, 0);
    size_t count = 0, key_size, value_size;
    const void *key, *value;
    int r = iter ? 0 : ramet_error_set(gc->err, RAMET_NO_MEMORY, "no memory to collect");
    while (r == 0 && ramet_kv_iter_next(iter, &key, &key_size, &value, &value_size)) {
        ramet_chunk chunk = value_size == 8 ? ramet_get_le64(value) : RAMET_CHUNK_ZERO;
        uint64_t frame = ramet_chunk_frame(chunk);
        if (frame >= gc->limit || live_slots(atomic_load(&gc->marks[frame])) & 1u << ramet_chunk_slot(chunk))
            continue;
        ramet_kv_delete(gc->batch, RAMET_KV_INDEX, key, key_size);
        if (++count % batch_frames == 0)
            r = ramet_kv_write(gc->store->kv, gc->batch, false, gc->err);
    }
    if (r == 0)
        r = ramet_kv_iter_status(iter, gc->err);
    if (r == 0)
        r = ramet_kv_write(gc->store->kv, gc->batch, true, gc->err);
    ramet_kv_iter_free(iter);
    return r;
}

static int sweep(struct ramet_gc *gc)
{
    int r = sweep_frames(gc);
    if (r == 0)
        r = sweep_index(gc);
    atomic_store(&gc->store->suspect_below, r < 0 ? gc->limit : 0);
    return r;
}

static int collect(struct ramet_gc *gc, int (*mark)(void *ctx, struct ramet_gc *gc, struct ramet_error *err), void *ctx)
{
    publish(gc->store, gc);
    int r = mark(ctx, gc, gc->err);
    if (r == 0)
        r = ramet_frames_walk(gc->store, 0, mark_bases, gc, gc->err);
    if (r == 0)
        r = gc->status;
    if (r == 0)
        r = sweep(gc);
    publish(gc->store, NULL);
    return r;
}

int ramet_store_gc(struct ramet_store *store, int (*mark)(void *ctx, struct ramet_gc *gc, struct ramet_error *err),
                   void *ctx, struct ramet_gc_result *ret, struct ramet_error *err)
{
    uint64_t began = ramet_now_us();
    pthread_mutex_lock(&store->gc_lock);
    struct ramet_gc gc = {.store = store, .limit = atomic_load(&store->next_frame), .err = err};
    gc.marks = calloc(gc.limit, sizeof *gc.marks);
    gc.places = calloc(batch_frames, sizeof *gc.places);
    gc.batch = ramet_kv_batch_new(store->kv);
    int r = gc.marks && gc.places && gc.batch ? 0 : ramet_error_set(err, RAMET_NO_MEMORY, "no memory to collect");
    if (r == 0)
        r = collect(&gc, mark, ctx);
    free(gc.marks);
    free(gc.places);
    ramet_kv_batch_free(gc.batch);
    if (r == 0)
        r = ramet_compact(store, &gc.result, err);
    pthread_mutex_unlock(&store->gc_lock);
    gc.result.duration_us = ramet_now_us() - began;
    if (r == 0)
        *ret = gc.result;
    return r;
}
