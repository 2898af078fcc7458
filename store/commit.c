/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From sealed frames to durable ones.
 *
 * A sealed frame waits in the pending tables, readable and a dedup candidate. Placing
 * appends it to the pack and its hashes to the index, without a sync, whenever much is
 * waiting, so that memory stays bounded and the disk is not idle. Committing places the rest, syncs the pack, and then
 * writes one RocksDB batch: frame places, how far the pack reaches, and the caller's records. Only after that are
 * frames taken out of the pending tables.
 *
 * A crash before the batch leaves bytes past the committed end of the pack, which
 * opening cuts off. A failed write leaves the frames pending with their content, so
 * the next commit tries again.
 */
#include "base/cleanup.h"
#include "base/codec.h"
#include "base/log.h"
#include "journal.h"
#include "store_private.h"

#include <stdlib.h>
#include <string.h>

enum { place_at_bytes = 4 << 20, wait_at_bytes = 32 << 20, place_batch = 128, index_write_at = 1 << 16 };

static void pending_free(struct ramet_pending *frame)
{
    ramet_frame_unref(frame->frame);
    free(frame->record);
    free(frame);
}

bool ramet_pending_find(struct ramet_store *store, uint64_t hash, ramet_chunk *ret)
{
    pthread_mutex_lock(&store->pending_lock);
    bool found = ramet_u64map_get(&store->pending_index, hash, ret);
    pthread_mutex_unlock(&store->pending_lock);
    return found;
}

int ramet_pending_get(struct ramet_store *store, uint64_t number, struct ramet_frame **ret,
                      struct ramet_place *ret_place)
{
    int result = 0;
    uint64_t value;
    pthread_mutex_lock(&store->pending_lock);
    if (ramet_u64map_get(&store->pending_frames, number, &value)) {
        struct ramet_pending *pending = (struct ramet_pending *)(uintptr_t)value;
        result = pending->frame ? 1 : 2;
        if (pending->frame)
            *ret = ramet_frame_ref(pending->frame);
        else
            *ret_place = pending->place;
    }
    pthread_mutex_unlock(&store->pending_lock);
    return result;
}

/* Writes the gathered hashes. One large batch in key order costs a quarter of many small ones. Under commit_lock. */
static int write_index(struct ramet_store *store, struct ramet_error *err)
{
    int r = store->index_count ? ramet_kv_write(store->kv, store->index_batch, false, err) : 0;
    if (r == 0)
        store->index_count = 0;
    return r;
}

/*
 * Gathers the hashes of placed frames for the index and writes them when they are many, unsynced and perhaps long
 * before their commit. Should that never come, entries name frames that do not exist, or one day other ones: content is
 * compared. Under commit_lock.
 */
static int index_frames(struct ramet_store *store, struct ramet_pending *const *frames, size_t count,
                        struct ramet_error *err)
{
    if (!store->index_batch && !(store->index_batch = ramet_kv_batch_new(store->kv)))
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to index frames");
    for (size_t i = 0; i < count; i++)
        for (unsigned slot = 0; slot < ramet_slot_count(frames[i]->slots); slot++) {
            uint8_t hash_key[8], chunk[8];
            ramet_put_be64(hash_key, frames[i]->hashes[slot]);
            ramet_put_le64(chunk, ramet_chunk_make(frames[i]->number, slot));
            ramet_kv_put(store->index_batch, RAMET_KV_INDEX, hash_key, sizeof hash_key, chunk, sizeof chunk);
            store->index_count++;
        }
    return store->index_count < index_write_at ? 0 : write_index(store, err);
}

/* Appends what is not placed yet. Under commit_lock. */
static int place_pending(struct ramet_store *store, struct ramet_error *err)
{
    struct ramet_pending *frames[place_batch];
    struct iovec records[place_batch];
    struct ramet_place places[place_batch];
    for (;;) {
        size_t count = 0;
        pthread_mutex_lock(&store->pending_lock);
        for (struct ramet_pending *f = store->pending_unplaced; f && count < place_batch; f = f->next)
            frames[count++] = f;
        pthread_mutex_unlock(&store->pending_lock);
        if (count == 0)
            return 0;
        for (size_t i = 0; i < count; i++)
            records[i] = (struct iovec){frames[i]->record, frames[i]->record_size};
        int r = ramet_packs_append(store->packs, records, count, places, err);
        if (r == 0)
            r = index_frames(store, frames, count, err);
        if (r < 0)
            return r;
        for (size_t i = 0; i < count; i++) {
            uint64_t epoch = ramet_frame_cache_epoch(store->cache, frames[i]->number);
            ramet_frame_cache_put(store->cache, frames[i]->frame, epoch);
            pthread_mutex_lock(&store->pending_lock);
            store->pending_bytes -= ramet_frame_bytes(frames[i]->frame);
            frames[i]->place = places[i];
            store->pending_unplaced = frames[i]->next;
            ramet_frame_unref(STEAL(frames[i]->frame));
            pthread_mutex_unlock(&store->pending_lock);
            free(STEAL(frames[i]->record));
        }
    }
}

/* Puts the frame into the tables, all or nothing. Under pending_lock. */
static bool pending_link(struct ramet_store *store, struct ramet_pending *frame)
{
    if (!ramet_u64map_put(&store->pending_frames, frame->number, (uintptr_t)frame))
        return false;
    for (unsigned i = 0; i < ramet_slot_count(frame->slots); i++)
        if (!ramet_u64map_put(&store->pending_index, frame->hashes[i], ramet_chunk_make(frame->number, i))) {
            ramet_u64map_remove(&store->pending_frames, frame->number);
            return false;
        }
    *(store->pending_last ? &store->pending_last->next : &store->pending_first) = frame;
    store->pending_last = frame;
    store->pending_unplaced = store->pending_unplaced ? store->pending_unplaced : frame;
    store->pending_bytes += ramet_frame_bytes(frame->frame);
    return true;
}

int ramet_pending_add(struct ramet_store *store, struct ramet_pending *frame, struct ramet_error *err)
{
    pthread_mutex_lock(&store->pending_lock);
    bool linked = pending_link(store, frame);
    size_t waiting = store->pending_bytes;
    pthread_mutex_unlock(&store->pending_lock);
    if (!linked) {
        pending_free(frame);
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to hold a frame");
    }
    if (waiting < place_at_bytes)
        return 0;
    /* While another thread places there is more to compress, up to a bound. */
    if (waiting < wait_at_bytes && pthread_mutex_trylock(&store->commit_lock) != 0)
        return 0;
    if (waiting >= wait_at_bytes)
        pthread_mutex_lock(&store->commit_lock);
    int r = place_pending(store, err);
    if (r < 0)
        atomic_store(&store->commit_failed, true);
    pthread_mutex_unlock(&store->commit_lock);
    return r;
}

void ramet_pack_key(uint8_t key[RAMET_PACK_KEY_SIZE], uint32_t pack)
{
    memcpy(key, "pack", 4);
    for (int i = 0; i < 4; i++)
        key[4 + i] = (uint8_t)(pack >> (24 - 8 * i));
}

void ramet_commit_pack(struct ramet_kv_batch *batch, uint32_t pack, uint64_t size)
{
    uint8_t key[RAMET_PACK_KEY_SIZE], value[8];
    ramet_pack_key(key, pack);
    ramet_put_le64(value, size);
    ramet_kv_put(batch, RAMET_KV_META, key, sizeof key, value, sizeof value);
}

/* Appends entries, if any, as a record to the current pack; they are gone then. Under commit_lock. */
static int append_journal(struct ramet_store *store, struct ramet_buf *entries, uint32_t flags, struct ramet_error *err)
{
    if (entries->size == 0 && !entries->failed && !flags)
        return 0;
    _cleanup_(ramet_buf_free) struct ramet_buf record = {0};
    struct ramet_place place;
    int r = ramet_journal_encode(entries, flags, ramet_packs_key(store->packs), &record, err);
    if (r < 0)
        return r;
    r = ramet_packs_append(store->packs, &(struct iovec){record.data, record.size}, 1, &place, err);
    if (r == 0)
        entries->size = 0;
    return r;
}

void ramet_commit_marks(struct ramet_store *store, struct ramet_kv_batch *batch)
{
    uint8_t value[8];
    uint64_t size;
    uint32_t pack = ramet_packs_current(store->packs, &size);
    if (pack)
        ramet_commit_pack(batch, pack, size);
    /* Journal records may have come to the one before it since, and filled it up. */
    uint32_t before = store->marked_pack;
    if (before && before != pack && ramet_packs_size(store->packs, before, &size, NULL) == 0)
        ramet_commit_pack(batch, before, size);
    store->marked_pack = pack;
    ramet_put_le64(value, atomic_load(&store->next_frame));
    ramet_kv_put(batch, RAMET_KV_META, "next-frame", 10, value, sizeof value);
}

/* Puts the records of all placed frames up to and including `last` into the batch. */
static void batch_frames(struct ramet_pending *first, const struct ramet_pending *last, struct ramet_kv_batch *batch)
{
    for (struct ramet_pending *f = first; f; f = f->next) {
        uint8_t frame_key[8], place[RAMET_PLACE_SIZE];
        ramet_put_be64(frame_key, f->number);
        ramet_place_encode(place, &(struct ramet_place_record){f->slots, f->flags, f->place});
        ramet_kv_put(batch, RAMET_KV_FRAMES, frame_key, sizeof frame_key, place, sizeof place);
        if (f == last)
            break;
    }
}

/*
 * Records how far the packs reach that were filled up since the last commit: they are not the current one any
 * more, were synced when it took over, and opening cuts what no mark covers.
 */
static int batch_full_packs(struct ramet_store *store, const struct ramet_pending *first,
                            const struct ramet_pending *last, struct ramet_kv_batch *batch, struct ramet_error *err)
{
    uint64_t size;
    uint32_t current = ramet_packs_current(store->packs, &size), marked = 0;
    for (const struct ramet_pending *f = first; last && f; f = f == last ? NULL : f->next) {
        uint32_t pack = f->place.pack;
        if (pack == current || pack == marked)
            continue;
        int r = ramet_packs_size(store->packs, pack, &size, err);
        if (r < 0)
            return r;
        ramet_commit_pack(batch, pack, size);
        marked = pack;
    }
    return 0;
}

/* Takes committed frames, up to and including `last`, out of the tables. */
static void pending_unlink(struct ramet_store *store, const struct ramet_pending *last)
{
    pthread_mutex_lock(&store->pending_lock);
    for (bool done = !last; !done;) {
        struct ramet_pending *f = store->pending_first;
        done = f == last;
        store->pending_first = f->next;
        if (!f->next)
            store->pending_last = NULL;
        ramet_u64map_remove(&store->pending_frames, f->number);
        for (unsigned i = 0; i < ramet_slot_count(f->slots); i++) {
            uint64_t chunk;
            if (ramet_u64map_get(&store->pending_index, f->hashes[i], &chunk) &&
                chunk == ramet_chunk_make(f->number, i))
                ramet_u64map_remove(&store->pending_index, f->hashes[i]);
        }
        pending_free(f);
    }
    pthread_mutex_unlock(&store->pending_lock);
}

/* Appends what the layers above wrote beside commits. Under commit_lock. */
static int flush_journal(struct ramet_store *store, struct ramet_error *err)
{
    pthread_mutex_lock(&store->journal_lock);
    struct ramet_buf entries = store->journal;
    store->journal = (struct ramet_buf){0};
    pthread_mutex_unlock(&store->journal_lock);
    int r = append_journal(store, &entries, 0, err);
    store->journal_stale |= r < 0;
    ramet_buf_free(&entries);
    return r;
}

int ramet_store_write(struct ramet_store *store, struct ramet_kv_batch *batch, struct ramet_error *err)
{
    /* The write empties the batch, its journal entries too. */
    _cleanup_(ramet_buf_free) struct ramet_buf entries = *ramet_kv_batch_journal(batch);
    *ramet_kv_batch_journal(batch) = (struct ramet_buf){0};
    int r = ramet_kv_write(store->kv, batch, true, err);
    if (r < 0)
        return r;
    pthread_mutex_lock(&store->journal_lock);
    ramet_buf_put(&store->journal, entries.data, entries.size);
    store->journal.failed |= entries.failed;
    pthread_mutex_unlock(&store->journal_lock);
    /* A fork must not wait for a commit under way; whoever holds the lock takes the entries along. */
    if (pthread_mutex_trylock(&store->commit_lock) == 0) {
        flush_journal(store, NULL);
        pthread_mutex_unlock(&store->commit_lock);
    }
    return 0;
}

static int commit_locked(struct ramet_store *store, struct ramet_kv_batch *batch, struct ramet_error *err)
{
    int r = place_pending(store, err);
    if (r < 0)
        return r;
    /* Frames sealed from here on wait for the next commit; the list up to `last` is all placed. */
    struct ramet_pending *first, *last = NULL;
    pthread_mutex_lock(&store->pending_lock);
    first = store->pending_first;
    for (struct ramet_pending *f = first; f && !f->frame; f = f->next)
        last = f;
    pthread_mutex_unlock(&store->pending_lock);
    r = flush_journal(store, err);
    if (r == 0)
        r = append_journal(store, ramet_kv_batch_journal(batch), 0, err);
    if (r < 0)
        return r;
    if (last) {
        if ((r = ramet_packs_sync(store->packs, err)) < 0)
            return r;
        pthread_mutex_lock(&store->pending_lock);
        batch_frames(first, last, batch);
        pthread_mutex_unlock(&store->pending_lock);
        if ((r = batch_full_packs(store, first, last, batch, err)) < 0)
            return r;
    }
    ramet_commit_marks(store, batch);
    r = write_index(store, err);
    if (r == 0)
        r = ramet_kv_write(store->kv, batch, true, err);
    if (r < 0)
        return r;
    pending_unlink(store, last);
    return 0;
}

int ramet_commit(struct ramet_store *store, struct ramet_kv_batch *batch, struct ramet_error *err)
{
    _cleanup_(ramet_kv_batch_cleanup) struct ramet_kv_batch *own = NULL;
    if (!batch && !(batch = own = ramet_kv_batch_new(store->kv)))
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to commit");
    pthread_mutex_lock(&store->commit_lock);
    int r = commit_locked(store, batch, err);
    if (r < 0)
        atomic_store(&store->commit_failed, true);
    pthread_mutex_unlock(&store->commit_lock);
    return r;
}

static const char clean_key[] = "clean";

int ramet_commit_opened(struct ramet_store *store, struct ramet_error *err)
{
    _autofree_ void *value = NULL;
    size_t size;
    int r = ramet_kv_get(store->kv, RAMET_KV_META, clean_key, sizeof clean_key - 1, &value, &size, err);
    store->journal_stale |= r == -RAMET_NOT_FOUND && !store->fresh;
    if (r < 0 && r != -RAMET_NOT_FOUND)
        return r;
    _cleanup_(ramet_kv_batch_cleanup) struct ramet_kv_batch *batch = ramet_kv_batch_new(store->kv);
    if (!batch)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to open the store");
    ramet_kv_delete(batch, RAMET_KV_META, clean_key, sizeof clean_key - 1);
    return ramet_kv_write(store->kv, batch, true, err);
}

void ramet_commit_close(struct ramet_store *store)
{
    struct ramet_kv_batch *batch = store->pending_first || store->journal_stale ? NULL : ramet_kv_batch_new(store->kv);
    if (batch && flush_journal(store, NULL) == 0 && ramet_packs_sync(store->packs, NULL) == 0) {
        ramet_commit_marks(store, batch);
        ramet_kv_put(batch, RAMET_KV_META, clean_key, sizeof clean_key - 1, "", 0);
        ramet_kv_write(store->kv, batch, true, NULL);
    }
    ramet_kv_batch_free(batch);
}

int ramet_commit_repair(struct ramet_store *store, struct ramet_error *err)
{
    return store->journal_stale ? ramet_commit_checkpoint(store, err) : 0;
}

int ramet_commit_checkpoint(struct ramet_store *store, struct ramet_error *err)
{
    static const enum ramet_kv_family families[] = {RAMET_KV_SNAPSHOTS, RAMET_KV_REFS, RAMET_KV_BRANCHES,
                                                    RAMET_KV_WORKSPACES};
    enum { count = sizeof families / sizeof *families };
    _cleanup_(ramet_kv_batch_cleanup) struct ramet_kv_batch *batch = ramet_kv_batch_new(store->kv);
    int r = batch ? 0 : ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a checkpoint");
    for (unsigned i = 0; i < count && r == 0; i++) {
        struct ramet_kv_iter *iter = ramet_kv_iter_new(store->kv, families[i], NULL, 0);
        const void *key, *value;
        size_t key_size, value_size;
        while (iter && ramet_kv_iter_next(iter, &key, &key_size, &value, &value_size))
            ramet_journal_note(ramet_kv_batch_journal(batch), families[i], key, key_size, value, value_size);
        r = iter ? ramet_kv_iter_status(iter, err)
                 : ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a checkpoint");
        ramet_kv_iter_free(iter);
        uint32_t flags = (i == 0 ? RAMET_JOURNAL_BEGIN : 0u) | (i == count - 1 ? RAMET_JOURNAL_END : 0u);
        if (r == 0)
            r = append_journal(store, ramet_kv_batch_journal(batch), flags, err);
    }
    if (r == 0)
        r = ramet_packs_sync(store->packs, err);
    if (r < 0)
        return r;
    ramet_commit_marks(store, batch);
    if ((r = ramet_kv_write(store->kv, batch, true, err)) == 0)
        store->journal_stale = false;
    return r;
}

void ramet_pending_discard(struct ramet_store *store)
{
    /* A batch that failed may be found at the next opening, and names bytes of the packs. */
    if (!atomic_load(&store->commit_failed) || ramet_kv_writable(store->kv, NULL) < 0)
        return;
    struct ramet_error err = {0};
    pthread_mutex_lock(&store->commit_lock);
    pthread_mutex_lock(&store->session_lock);
    if (!store->sessions && atomic_exchange(&store->commit_failed, false)) {
        pthread_mutex_lock(&store->pending_lock);
        /* The index may know their hashes already: nothing but the disk may answer for them from here on. */
        for (struct ramet_pending *f = store->pending_first; f; f = f->next)
            ramet_frame_cache_drop(store->cache, f->number);
        ramet_pending_free_all(store);
        store->pending_last = store->pending_unplaced = NULL;
        store->pending_bytes = 0;
        pthread_mutex_unlock(&store->pending_lock);
        ramet_packs_rotate(store->packs, 0);
        if (ramet_store_recover_packs(store, &err) < 0 || ramet_commit_repair(store, &err) < 0)
            ramet_warn("space of a failed commit stays in use until the next start: %s", err.msg);
    }
    pthread_mutex_unlock(&store->session_lock);
    pthread_mutex_unlock(&store->commit_lock);
}

void ramet_pending_free_all(struct ramet_store *store)
{
    while (store->pending_first) {
        struct ramet_pending *f = store->pending_first;
        store->pending_first = f->next;
        pending_free(f);
    }
    ramet_kv_batch_free(STEAL(store->index_batch));
    store->index_count = 0;
    ramet_u64map_free(&store->pending_frames);
    ramet_u64map_free(&store->pending_index);
}
