/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Garbage collection: mark what is reachable, free the rest, while everything else
 * goes on. One mark word a frame: 16 MiB for 16 million pages in frames of four.
 *
 * Why nothing in use is freed:
 *   - frames numbered at or above `limit`, taken at the start, are never touched;
 *   - an ingest open at the start is waited for, so what it committed is marked like
 *     all else; an ingest begun later marks each known page it reuses (retain), and
 *     reuses of the map nodes only those the walk has reached;
 *   - a frame is freed by swapping its mark word from 0 to DEAD, a page is reused by
 *     setting its bit, and whichever comes second sees the first.
 *
 * A crash leaves at worst index entries of freed frames (a lookup then misses) or
 * space not yet given back; the next collection takes both.
 */
#include "base/cleanup.h"
#include "base/codec.h"
#include "base/file.h"
#include "frame.h"
#include "store_private.h"

#include <stdlib.h>
#include <string.h>

enum { batch_frames = 4096 };
#define DEAD UINT32_C(0x80000000)
/* A pack with less than this part of it alive is rewritten. */
enum { live_percent_min = 60 };

struct pack_use {
    uint32_t pack;
    uint64_t live_bytes;
    bool victim;
};

struct ramet_gc {
    struct ramet_store *store;
    uint64_t limit;          /* frames below it are judged */
    _Atomic uint32_t *marks; /* a bit a slot, or DEAD */
    struct pack_use *packs;  /* ascending */
    size_t pack_count;
    struct ramet_gc_result result;
};

bool ramet_gc_mark(struct ramet_gc *gc, ramet_chunk chunk)
{
    uint64_t frame = ramet_chunk_frame(chunk);
    if (chunk == RAMET_CHUNK_ZERO || frame >= gc->limit)
        return chunk != RAMET_CHUNK_ZERO; /* its children may be older than itself */
    uint32_t bit = UINT32_C(1) << ramet_chunk_slot(chunk);
    return !(atomic_fetch_or(&gc->marks[frame], bit) & bit);
}

bool ramet_gc_retain(struct ramet_gc *gc, enum ramet_chunk_kind kind, ramet_chunk chunk)
{
    uint64_t frame = ramet_chunk_frame(chunk);
    if (frame >= gc->limit)
        return true;
    /* Marking a node here would make the walk skip what it holds: only one the walk has reached may be reused. */
    if (kind == RAMET_CHUNK_NODE)
        return atomic_load(&gc->marks[frame]) & UINT32_C(1) << ramet_chunk_slot(chunk);
    return !(atomic_fetch_or(&gc->marks[frame], UINT32_C(1) << ramet_chunk_slot(chunk)) & DEAD);
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

static int list_packs(struct ramet_gc *gc, struct ramet_error *err)
{
    _autofree_ uint32_t *numbers = NULL;
    int r = ramet_packs_list(gc->store->packs, &numbers, &gc->pack_count, err);
    if (r < 0)
        return r;
    gc->packs = calloc(gc->pack_count + 1, sizeof *gc->packs);
    if (!gc->packs)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to collect");
    for (size_t i = 0; i < gc->pack_count; i++)
        gc->packs[i].pack = numbers[i];
    return 0;
}

static int compare_pack(const void *key, const void *element)
{
    uint32_t pack = *(const uint32_t *)key, other = ((const struct pack_use *)element)->pack;
    return (pack > other) - (pack < other);
}

static struct pack_use *use_of(struct ramet_gc *gc, uint32_t pack)
{
    return bsearch(&pack, gc->packs, gc->pack_count, sizeof *gc->packs, compare_pack);
}

/* Writes the batch of deleted frame records and then gives their space back, neighbours in one hole. */
static int free_batch(struct ramet_gc *gc, struct ramet_kv_batch *batch, const struct ramet_place *places, size_t count,
                      struct ramet_error *err)
{
    int r = ramet_kv_write(gc->store->kv, batch, true, err);
    if (r < 0)
        return r;
    pthread_mutex_lock(&gc->store->commit_lock);
    for (size_t i = 0; i < count;) {
        struct ramet_place hole = places[i++];
        while (i < count && places[i].pack == hole.pack && places[i].offset == hole.offset + hole.size)
            hole.size += places[i++].size;
        ramet_packs_punch(gc->store->packs, &hole);
        gc->result.freed_bytes += hole.size;
    }
    pthread_mutex_unlock(&gc->store->commit_lock);
    return 0;
}

/* Judges one frame record: dead ones are put into the batch and listed in places. True when dead. */
static bool judge(struct ramet_gc *gc, uint64_t frame, unsigned slots, const struct ramet_place *place)
{
    uint32_t alive = 0;
    if (frame < gc->limit && atomic_compare_exchange_strong(&gc->marks[frame], &alive, DEAD)) {
        ramet_frame_cache_drop(gc->store->cache, frame);
        gc->result.dead_chunks += slots;
        return true;
    }
    unsigned live = frame < gc->limit ? (unsigned)__builtin_popcount(alive) : slots;
    gc->result.live_chunks += live;
    gc->result.dead_chunks += slots - live;
    struct pack_use *use = use_of(gc, place->pack);
    if (use)
        use->live_bytes += place->size;
    return false;
}

static int sweep_frames(struct ramet_gc *gc, struct ramet_error *err)
{
    _cleanup_(ramet_kv_batch_cleanup) struct ramet_kv_batch *batch = ramet_kv_batch_new(gc->store->kv);
    _autofree_ struct ramet_place *places = calloc(batch_frames, sizeof *places);
    struct ramet_kv_iter *iter = ramet_kv_iter_new(gc->store->kv, RAMET_KV_FRAMES, NULL, 0);
    size_t count = 0, key_size, value_size;
    const void *key, *value;
    int r = batch && places && iter ? 0 : ramet_error_set(err, RAMET_NO_MEMORY, "no memory to collect");
    while (r == 0 && ramet_kv_iter_next(iter, &key, &key_size, &value, &value_size)) {
        unsigned slots;
        struct ramet_place place;
        if (key_size != 8 || ramet_place_decode(value, value_size, &slots, &place, NULL) < 0)
            continue; /* fsck's business: what cannot be read is never freed */
        if (!judge(gc, ramet_get_be64(key), slots, &place))
            continue;
        ramet_kv_delete(batch, RAMET_KV_FRAMES, key, key_size);
        places[count++] = place;
        if (count == batch_frames) {
            r = free_batch(gc, batch, places, count, err);
            count = 0;
        }
    }
    if (r == 0)
        r = ramet_kv_iter_status(iter, err);
    if (r == 0 && count)
        r = free_batch(gc, batch, places, count, err);
    ramet_kv_iter_free(iter);
    return r;
}

/* Removes index entries of dead pages. Losing one that was just renewed costs a dedup, nothing else. */
static int sweep_index(struct ramet_gc *gc, struct ramet_error *err)
{
    _cleanup_(ramet_kv_batch_cleanup) struct ramet_kv_batch *batch = ramet_kv_batch_new(gc->store->kv);
    struct ramet_kv_iter *iter = ramet_kv_iter_new(gc->store->kv, RAMET_KV_INDEX, NULL, 0);
    size_t count = 0, key_size, value_size;
    const void *key, *value;
    int r = batch && iter ? 0 : ramet_error_set(err, RAMET_NO_MEMORY, "no memory to collect");
    while (r == 0 && ramet_kv_iter_next(iter, &key, &key_size, &value, &value_size)) {
        ramet_chunk chunk = value_size == 8 ? ramet_get_le64(value) : RAMET_CHUNK_ZERO;
        uint64_t frame = ramet_chunk_frame(chunk);
        if (frame >= gc->limit || atomic_load(&gc->marks[frame]) & UINT32_C(1) << ramet_chunk_slot(chunk))
            continue;
        ramet_kv_delete(batch, RAMET_KV_INDEX, key, key_size);
        if (++count % batch_frames == 0)
            r = ramet_kv_write(gc->store->kv, batch, false, err);
    }
    if (r == 0)
        r = ramet_kv_iter_status(iter, err);
    if (r == 0)
        r = ramet_kv_write(gc->store->kv, batch, true, err);
    ramet_kv_iter_free(iter);
    return r;
}

/* Copies a batch of live frames out of packs that are to go. Under commit_lock. */
static int move_batch(struct ramet_gc *gc, const uint64_t *frames, struct ramet_place *places, const unsigned *slots,
                      size_t count, struct ramet_error *err)
{
    struct ramet_store *store = gc->store;
    _cleanup_(ramet_kv_batch_cleanup) struct ramet_kv_batch *batch = ramet_kv_batch_new(store->kv);
    _autofree_ struct iovec *records = calloc(count, sizeof *records);
    size_t total = 0, at = 0;
    for (size_t i = 0; i < count; i++)
        total += places[i].size;
    _autofree_ uint8_t *bytes = malloc(total ? total : 1);
    if (!batch || !records || !bytes)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to compact");
    int r = 0;
    for (size_t i = 0; i < count && r == 0; at += places[i++].size) {
        records[i] = (struct iovec){bytes + at, places[i].size};
        r = ramet_packs_read(store->packs, &places[i], bytes + at, err);
    }
    if (r == 0)
        r = ramet_packs_append(store->packs, records, count, places, err);
    if (r == 0)
        r = ramet_packs_sync(store->packs, err);
    for (size_t i = 0; i < count && r == 0; i++) {
        uint8_t key[8], value[RAMET_PLACE_SIZE];
        ramet_put_be64(key, frames[i]);
        ramet_place_encode(value, slots[i], &places[i]);
        ramet_kv_put(batch, RAMET_KV_FRAMES, key, sizeof key, value, sizeof value);
    }
    if (r < 0)
        return r;
    ramet_commit_marks(store, batch);
    return ramet_kv_write(store->kv, batch, true, err);
}

/* Moves every frame out of the victims. Under commit_lock. */
static int empty_victims(struct ramet_gc *gc, struct ramet_error *err)
{
    enum { move_frames = 512 };
    uint64_t frames[move_frames];
    struct ramet_place places[move_frames];
    unsigned slots[move_frames];
    size_t count = 0, key_size, value_size;
    const void *key, *value;
    struct ramet_kv_iter *iter = ramet_kv_iter_new(gc->store->kv, RAMET_KV_FRAMES, NULL, 0);
    int r = iter ? 0 : ramet_error_set(err, RAMET_NO_MEMORY, "no memory to compact");
    while (r == 0 && ramet_kv_iter_next(iter, &key, &key_size, &value, &value_size)) {
        if (ramet_place_decode(value, value_size, &slots[count], &places[count], err) < 0)
            continue;
        struct pack_use *use = use_of(gc, places[count].pack);
        if (!use || !use->victim)
            continue;
        frames[count++] = ramet_get_be64(key);
        if (count == move_frames) {
            r = move_batch(gc, frames, places, slots, count, err);
            count = 0;
        }
    }
    if (r == 0)
        r = ramet_kv_iter_status(iter, err);
    if (r == 0 && count)
        r = move_batch(gc, frames, places, slots, count, err);
    ramet_kv_iter_free(iter);
    return r;
}

/* Forgets the victims, then removes their files: a crash between leaves files that opening removes. */
static int remove_victims(struct ramet_gc *gc, struct ramet_error *err)
{
    struct ramet_store *store = gc->store;
    _cleanup_(ramet_kv_batch_cleanup) struct ramet_kv_batch *batch = ramet_kv_batch_new(store->kv);
    if (!batch)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to compact");
    for (size_t i = 0; i < gc->pack_count; i++) {
        uint8_t key[RAMET_PACK_KEY_SIZE];
        ramet_pack_key(key, gc->packs[i].pack);
        if (gc->packs[i].victim)
            ramet_kv_delete(batch, RAMET_KV_META, key, sizeof key);
    }
    int r = ramet_kv_write(store->kv, batch, true, err);
    for (size_t i = 0; i < gc->pack_count && r == 0; i++)
        if (gc->packs[i].victim) {
            r = ramet_packs_remove(store->packs, gc->packs[i].pack, err);
            gc->result.packs_removed++;
        }
    return r;
}

static int compact(struct ramet_gc *gc, struct ramet_error *err)
{
    struct ramet_store *store = gc->store;
    size_t victims = 0;
    pthread_mutex_lock(&store->commit_lock);
    uint64_t size;
    uint32_t current = ramet_packs_current(store->packs, &size);
    int r = 0;
    for (size_t i = 0; i < gc->pack_count; i++) {
        struct pack_use *use = &gc->packs[i];
        if (use->pack == current || ramet_packs_size(store->packs, use->pack, &size, NULL) < 0)
            continue;
        use->victim = use->live_bytes * 100 < size * live_percent_min;
        victims += use->victim;
    }
    if (victims)
        r = empty_victims(gc, err);
    if (r == 0 && victims)
        r = remove_victims(gc, err);
    pthread_mutex_unlock(&store->commit_lock);
    return r;
}

int ramet_store_gc(struct ramet_store *store, int (*mark)(void *ctx, struct ramet_gc *gc, struct ramet_error *err),
                   void *ctx, struct ramet_gc_result *ret, struct ramet_error *err)
{
    uint64_t began = ramet_now_us();
    pthread_mutex_lock(&store->gc_lock);
    struct ramet_gc gc = {.store = store, .limit = atomic_load(&store->next_frame)};
    gc.marks = calloc(gc.limit, sizeof *gc.marks);
    int r = gc.marks ? list_packs(&gc, err) : ramet_error_set(err, RAMET_NO_MEMORY, "no memory to collect");
    if (r == 0) {
        publish(store, &gc);
        r = mark(ctx, &gc, err);
        if (r == 0)
            r = sweep_frames(&gc, err);
        if (r == 0)
            r = sweep_index(&gc, err);
        publish(store, NULL);
        if (r == 0)
            r = compact(&gc, err);
    }
    free(gc.marks);
    free(gc.packs);
    pthread_mutex_unlock(&store->gc_lock);
    gc.result.duration_us = ramet_now_us() - began;
    if (r == 0)
        *ret = gc.result;
    return r;
}
