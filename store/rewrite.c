/* SPDX-License-Identifier: Apache-2.0 */
#include "rewrite.h"

#include "base/cleanup.h"
#include "base/codec.h"
#include "base/log.h"

#include <inttypes.h>
#include <string.h>

/* Decodes, drops slots, compresses again. */
static int encode_anew(struct ramet_rewrite *item, const uint8_t *old, uint64_t key, struct ramet_error *err)
{
    _cleanup_(ramet_frame_cleanup) struct ramet_frame *frame = NULL, *kept = NULL;
    int r = ramet_frame_decode(old, item->record.place.size, item->number, key, &frame, err);
    if (r < 0)
        return r;
    kept = ramet_frame_trim(frame, item->keep & frame->slots);
    if (!kept)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to rewrite a frame");
    bool cold = item->level || item->record.flags & RAMET_FRAME_COLD;
    int level = item->level ? item->level : cold ? 3 : 0;
    kept->flags |= cold ? RAMET_FRAME_COLD : 0;
    item->size = ramet_frame_encode(kept, level, key, item->bytes);
    item->record.slots = kept->slots;
    item->record.flags = kept->flags;
    return 0;
}

/* As it is; a damaged record stays damaged and is found by its checksum when it is read. */
static void copy_record(struct ramet_rewrite *item, const uint8_t *old)
{
    item->size = item->record.place.size;
    memcpy(item->bytes, old, item->size);
}

static int prepare_one(struct ramet_store *store, struct ramet_rewrite *item, struct ramet_error *err)
{
    uint8_t old[RAMET_FRAME_RECORD_MAX];
    int r = ramet_packs_read(store->packs, &item->record.place, old, err);
    item->bytes = r == 0 ? malloc(RAMET_FRAME_RECORD_MAX) : NULL;
    if (r == 0 && !item->bytes)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to rewrite a frame");
    bool whole = item->keep == item->record.slots;
    if (r == 0 && !item->level && whole)
        copy_record(item, old);
    else if (r == 0)
        r = encode_anew(item, old, ramet_packs_key(store->packs), err);
    /* No better than it was: moved all the same, so that it is not tried again. */
    if (r == 0 && item->level && whole && item->size >= item->record.place.size)
        copy_record(item, old);
    item->failed = r == -RAMET_CORRUPT || r == -RAMET_NOT_FOUND || r == -RAMET_IO;
    return item->failed ? 0 : r;
}

int ramet_rewrite_prepare(struct ramet_store *store, struct ramet_rewrite *items, size_t count, struct ramet_error *err)
{
    int r = 0;
    for (size_t i = 0; i < count && r == 0; i++) {
        r = prepare_one(store, &items[i], err);
        if (items[i].failed)
            ramet_debug("frame %" PRIu64 " stays where it is: it is damaged", items[i].number);
    }
    return r;
}

void ramet_rewrite_free(struct ramet_rewrite *items, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(STEAL(items[i].bytes));
}

/* Appends, syncs and publishes; *old gets where the frames were. Under commit_lock. */
static int publish(struct ramet_store *store, struct ramet_rewrite *items, size_t count, struct ramet_place *old,
                   struct ramet_error *err)
{
    _cleanup_(ramet_kv_batch_cleanup) struct ramet_kv_batch *batch = ramet_kv_batch_new(store->kv);
    _autofree_ struct iovec *records = calloc(count, sizeof *records);
    _autofree_ struct ramet_place *places = calloc(count, sizeof *places);
    if (!batch || !records || !places)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to rewrite frames");
    size_t good = 0;
    for (size_t i = 0; i < count; i++)
        if (!items[i].failed)
            records[good++] = (struct iovec){items[i].bytes, items[i].size};
    int r = good ? ramet_packs_append(store->packs, records, good, places, err) : 0;
    if (r == 0)
        r = ramet_packs_sync(store->packs, err);
    if (r < 0)
        return r;
    for (size_t i = 0, at = 0; i < count; i++) {
        uint8_t key[8], value[RAMET_PLACE_SIZE];
        old[i] = items[i].record.place;
        if (items[i].failed)
            continue;
        items[i].record.place = places[at++];
        ramet_put_be64(key, items[i].number);
        ramet_place_encode(value, &items[i].record);
        ramet_kv_put(batch, RAMET_KV_FRAMES, key, sizeof key, value, sizeof value);
    }
    ramet_commit_marks(store, batch);
    return ramet_kv_write(store->kv, batch, true, err);
}

int ramet_rewrite_commit(struct ramet_store *store, struct ramet_rewrite *items, size_t count, struct ramet_error *err)
{
    _autofree_ struct ramet_place *old = calloc(count + 1, sizeof *old);
    if (!old)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to rewrite frames");
    pthread_mutex_lock(&store->commit_lock);
    int r = publish(store, items, count, old, err);
    for (size_t i = 0; i < count && r == 0;) {
        if (items[i++].failed)
            continue;
        struct ramet_place hole = old[i - 1];
        for (; i < count && !items[i].failed && old[i].pack == hole.pack && old[i].offset == hole.offset + hole.size;
             i++)
            hole.size += old[i].size;
        ramet_packs_punch(store->packs, &hole);
    }
    pthread_mutex_unlock(&store->commit_lock);
    for (size_t i = 0; i < count && r == 0; i++)
        ramet_frame_cache_drop(store->cache, items[i].number);
    ramet_rewrite_free(items, count);
    return r;
}

int ramet_frames_walk(struct ramet_store *store, uint64_t first,
                      bool (*visit)(void *ctx, uint64_t number, const struct ramet_place_record *record), void *ctx,
                      struct ramet_error *err)
{
    uint8_t from[8];
    const void *key, *value;
    size_t key_size, value_size;
    struct ramet_place_record record;
    ramet_put_be64(from, first);
    struct ramet_kv_iter *iter = ramet_kv_iter_new(store->kv, RAMET_KV_FRAMES, from, sizeof from);
    if (!iter)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to walk the frames");
    while (ramet_kv_iter_next(iter, &key, &key_size, &value, &value_size)) {
        /* A record that cannot be read is fsck's business: it is never moved or freed. */
        if (key_size != sizeof from || ramet_place_decode(value, value_size, &record, NULL) < 0)
            continue;
        if (!visit(ctx, ramet_get_be64(key), &record))
            break;
    }
    int r = ramet_kv_iter_status(iter, err);
    ramet_kv_iter_free(iter);
    return r;
}
