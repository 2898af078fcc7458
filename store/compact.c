/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A victim pack's frames are appended elsewhere, synced and published batch by batch.
 * Then the journal is written anew as a checkpoint, since the victim may hold the only
 * record of a snapshot; then the index forgets the pack; then the file goes. A crash in
 * between leaves a pack that is still named, or a file that opening removes.
 */
#include "compact.h"

#include "base/cleanup.h"
#include "rewrite.h"

#include <stdlib.h>

enum { move_batch = 128 };
/* A pack is rewritten when less than this part of the space it takes holds live records. */
enum { live_percent_min = 85 };

struct pack_use {
    uint32_t pack;
    uint64_t live_bytes;
    bool victim;
};

struct compaction {
    struct ramet_store *store;
    struct pack_use *packs; /* ascending */
    size_t pack_count;
    struct ramet_gc_result *result;
    struct ramet_rewrite moves[move_batch];
    size_t move_count;
    int status;
    struct ramet_error *err;
};

static int compare_pack(const void *key, const void *element)
{
    uint32_t pack = *(const uint32_t *)key, other = ((const struct pack_use *)element)->pack;
    return (pack > other) - (pack < other);
}

static struct pack_use *use_of(struct compaction *compaction, uint32_t pack)
{
    return bsearch(&pack, compaction->packs, compaction->pack_count, sizeof *compaction->packs, compare_pack);
}

static bool count_live(void *ctx, uint64_t number, const struct ramet_place_record *record)
{
    (void)number;
    struct pack_use *use = use_of(ctx, record->place.pack);
    if (use)
        use->live_bytes += record->place.size;
    return true;
}

static int list_packs(struct compaction *compaction)
{
    _autofree_ uint32_t *numbers = NULL;
    int r = ramet_packs_list(compaction->store->packs, &numbers, &compaction->pack_count, compaction->err);
    if (r < 0)
        return r;
    compaction->packs = calloc(compaction->pack_count + 1, sizeof *compaction->packs);
    if (!compaction->packs)
        return ramet_error_set(compaction->err, RAMET_NO_MEMORY, "no memory to compact");
    for (size_t i = 0; i < compaction->pack_count; i++)
        compaction->packs[i].pack = numbers[i];
    return ramet_frames_walk(compaction->store, 0, count_live, compaction, compaction->err);
}

/* Whether the pack holds frames that wait for their commit. Under commit_lock. */
static bool is_awaited(struct ramet_store *store, uint32_t pack)
{
    bool awaited = false;
    pthread_mutex_lock(&store->pending_lock);
    for (struct ramet_pending *f = store->pending_first; f && !awaited; f = f->next)
        awaited = !f->frame && f->place.pack == pack;
    pthread_mutex_unlock(&store->pending_lock);
    return awaited;
}

/* Chooses victims; the pack being written to may be one, and another is begun then. Returns how many. */
static size_t choose_victims(struct compaction *compaction)
{
    struct ramet_packs *packs = compaction->store->packs;
    size_t victims = 0;
    uint64_t size;
    pthread_mutex_lock(&compaction->store->commit_lock);
    uint32_t current = ramet_packs_current(packs, &size);
    for (size_t i = 0; i < compaction->pack_count; i++) {
        struct pack_use *use = &compaction->packs[i];
        uint64_t used = ramet_packs_allocated(packs, use->pack);
        if (use->live_bytes * 100 >= used * live_percent_min || is_awaited(compaction->store, use->pack))
            continue;
        if (use->pack == current) {
            if (size < RAMET_PACK_WORTH_COMPACTING || ramet_packs_sync(packs, NULL) < 0)
                continue;
            ramet_packs_rotate(packs, current);
        }
        use->victim = true;
        victims++;
    }
    pthread_mutex_unlock(&compaction->store->commit_lock);
    return victims;
}

static int flush_moves(struct compaction *compaction)
{
    int r = ramet_rewrite_prepare(compaction->store, compaction->moves, compaction->move_count, compaction->err);
    if (r == 0)
        r = ramet_rewrite_commit(compaction->store, compaction->moves, compaction->move_count, compaction->err);
    else
        ramet_rewrite_free(compaction->moves, compaction->move_count);
    for (size_t i = 0; i < compaction->move_count; i++) {
        struct pack_use *use = use_of(compaction, compaction->moves[i].record.place.pack);
        if (compaction->moves[i].failed && use)
            use->victim = false; /* it keeps the damaged record, which fsck explains */
    }
    compaction->result->moved_frames += compaction->move_count;
    compaction->move_count = 0;
    return r;
}

static bool move_frame(void *ctx, uint64_t number, const struct ramet_place_record *record)
{
    struct compaction *compaction = ctx;
    struct pack_use *use = use_of(compaction, record->place.pack);
    if (!use || !use->victim)
        return true;
    compaction->moves[compaction->move_count++] =
        (struct ramet_rewrite){.number = number, .record = *record, .keep = record->slots};
    compaction->status = compaction->move_count == move_batch ? flush_moves(compaction) : 0;
    return compaction->status == 0;
}

/* Forgets the victims, then removes their files. */
static int remove_victims(struct compaction *compaction)
{
    struct ramet_store *store = compaction->store;
    _cleanup_(ramet_kv_batch_cleanup) struct ramet_kv_batch *batch = ramet_kv_batch_new(store->kv);
    if (!batch)
        return ramet_error_set(compaction->err, RAMET_NO_MEMORY, "no memory to compact");
    pthread_mutex_lock(&store->commit_lock);
    int r = ramet_commit_checkpoint(store, compaction->err);
    for (size_t i = 0; i < compaction->pack_count && r == 0; i++) {
        uint8_t key[RAMET_PACK_KEY_SIZE];
        ramet_pack_key(key, compaction->packs[i].pack);
        if (compaction->packs[i].victim)
            ramet_kv_delete(batch, RAMET_KV_META, key, sizeof key);
    }
    if (r == 0)
        r = ramet_kv_write(store->kv, batch, true, compaction->err);
    for (size_t i = 0; i < compaction->pack_count && r == 0; i++) {
        if (!compaction->packs[i].victim)
            continue;
        r = ramet_packs_remove(store->packs, compaction->packs[i].pack, compaction->err);
        compaction->result->packs_removed++;
    }
    pthread_mutex_unlock(&store->commit_lock);
    return r;
}

int ramet_compact(struct ramet_store *store, struct ramet_gc_result *result, struct ramet_error *err)
{
    struct compaction *compaction = calloc(1, sizeof *compaction);
    if (!compaction)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to compact");
    *compaction = (struct compaction){.store = store, .result = result, .err = err};
    int r = list_packs(compaction);
    if (r == 0 && choose_victims(compaction)) {
        r = ramet_frames_walk(store, 0, move_frame, compaction, err);
        if (r == 0)
            r = compaction->status;
        if (r == 0 && compaction->move_count)
            r = flush_moves(compaction);
        if (r == 0)
            r = remove_victims(compaction);
    }
    free(compaction->packs);
    free(compaction);
    return r;
}
