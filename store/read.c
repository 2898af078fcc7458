/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading chunks: from the cache, from frames that wait to be committed, from packs.
 *
 * A collection may move a frame between looking its place up and reading there, so a
 * failed read looks again, and only the same place twice is an error. A page stored as
 * a difference needs its base's frame too, and that one is never a difference.
 */
#include "base/cleanup.h"
#include "base/codec.h"
#include "frame.h"
#include "prefetch.h"

#include <inttypes.h>
#include <string.h>

int ramet_store_place(struct ramet_store *store, uint64_t frame, struct ramet_place_record *ret,
                      struct ramet_error *err)
{
    uint8_t key[8];
    _autofree_ void *value = NULL;
    size_t size;
    ramet_put_be64(key, frame);
    int r = ramet_kv_get(store->kv, RAMET_KV_FRAMES, key, sizeof key, &value, &size, err);
    if (r == -RAMET_NOT_FOUND)
        return ramet_error_set(err, RAMET_CORRUPT, "frame %" PRIu64 " is missing from the store", frame);
    return r < 0 ? r : ramet_place_decode(value, size, ret, err);
}

/* Reads and verifies the frame at `place`. */
static int load_frame(struct ramet_store *store, uint64_t number, const struct ramet_place *place,
                      struct ramet_frame **ret, struct ramet_error *err)
{
    uint8_t record[RAMET_FRAME_RECORD_MAX];
    int r = ramet_packs_read(store->packs, place, record, err);
    return r < 0 ? r : ramet_frame_decode(record, place->size, number, ramet_packs_key(store->packs), ret, err);
}

int ramet_store_frame(struct ramet_store *store, uint64_t number, bool fresh, struct ramet_frame **ret,
                      struct ramet_error *err)
{
    struct ramet_place place, last = {0};
    struct ramet_place_record record;
    if (!fresh && (*ret = ramet_frame_cache_get(store->cache, number)))
        return 0;
    for (;;) {
        struct ramet_frame *frame;
        uint64_t epoch = ramet_frame_cache_epoch(store->cache, number);
        int r, held = ramet_pending_get(store, number, &frame, &place);
        if (held == 1) {
            *ret = frame;
            return 0;
        }
        if (held == 0 && (r = ramet_store_place(store, number, &record, err)) < 0)
            return r;
        place = held == 0 ? record.place : place;
        r = load_frame(store, number, &place, &frame, err);
        if (r == 0) {
            if (!fresh)
                ramet_frame_cache_put(store->cache, frame, epoch);
            *ret = frame;
            return 0;
        }
        if (last.pack == place.pack && last.offset == place.offset) {
            if (r == -RAMET_NOT_FOUND && err)
                err->code = RAMET_CORRUPT; /* a pack that is gone */
            ramet_error_prefix(err, "pack %08x at %" PRIu64, place.pack, place.offset);
            ramet_error_hint(err, "run 'ramet store fsck' to see which snapshots need it");
            return r == -RAMET_NOT_FOUND ? -RAMET_CORRUPT : r;
        }
        last = place;
    }
}

/* The page of `chunk` in its frame, as held. */
static int page_of(const struct ramet_frame *frame, ramet_chunk chunk, const uint8_t **ret, ramet_chunk *ret_base,
                   struct ramet_error *err)
{
    *ret = ramet_frame_page(frame, ramet_chunk_slot(chunk), ret_base);
    if (*ret)
        return 0;
    ramet_error_set(err, RAMET_CORRUPT, "frame %" PRIu64 " does not hold page %u", frame->number,
                    ramet_chunk_slot(chunk));
    return ramet_error_hint(err, "run 'ramet store fsck' to see which snapshots need it");
}

static void xor_bytes(uint8_t *restrict to, const uint8_t *restrict from, size_t size)
{
    for (size_t i = 0; i < size; i++)
        to[i] ^= from[i];
}

/* XORs `size` bytes at `offset` of a base's page into buf. */
static int apply_base(struct ramet_store *store, ramet_chunk base, size_t offset, void *buf, size_t size,
                      struct ramet_error *err)
{
    _cleanup_(ramet_frame_cleanup) struct ramet_frame *frame = NULL;
    const uint8_t *page;
    ramet_chunk deeper;
    int r = ramet_store_frame(store, ramet_chunk_frame(base), false, &frame, err);
    if (r == 0)
        r = page_of(frame, base, &page, &deeper, err);
    if (r == 0 && deeper != RAMET_CHUNK_ZERO)
        r = ramet_error_set(err, RAMET_CORRUPT, "frame %" PRIu64 " is a base and has one itself", frame->number);
    if (r == 0)
        xor_bytes(buf, page + offset, size);
    return r;
}

static int copy_page(struct ramet_store *store, const struct ramet_frame *frame, ramet_chunk chunk, size_t offset,
                     void *buf, size_t size, struct ramet_error *err)
{
    const uint8_t *page;
    ramet_chunk base;
    int r = page_of(frame, chunk, &page, &base, err);
    if (r < 0)
        return r;
    memcpy(buf, page + offset, size);
    if (base == RAMET_CHUNK_ZERO)
        return 0;
    r = apply_base(store, base, offset, buf, size, err);
    return r < 0 ? ramet_error_prefix(err, "the base of frame %" PRIu64, frame->number) : 0;
}

bool ramet_store_holds(struct ramet_store *store, ramet_chunk chunk, const void *page, ramet_chunk *ret_base)
{
    uint64_t number = ramet_chunk_frame(chunk);
    _cleanup_(ramet_frame_cleanup) struct ramet_frame *frame = NULL;
    bool suspect = number < atomic_load_explicit(&store->suspect_below, memory_order_relaxed);
    if (ramet_store_frame(store, number, suspect, &frame, NULL) < 0)
        return false;
    const uint8_t *held = ramet_frame_page(frame, ramet_chunk_slot(chunk), ret_base);
    if (!held || *ret_base == RAMET_CHUNK_ZERO)
        return held && memcmp(held, page, RAMET_PAGE_SIZE) == 0;
    uint8_t whole[RAMET_PAGE_SIZE];
    return copy_page(store, frame, chunk, 0, whole, sizeof whole, NULL) == 0 && memcmp(whole, page, sizeof whole) == 0;
}

int ramet_store_read_part(struct ramet_store *store, ramet_chunk chunk, size_t offset, void *buf, size_t size,
                          struct ramet_error *err)
{
    if (chunk == RAMET_CHUNK_ZERO) {
        memset(buf, 0, size);
        return 0;
    }
    _cleanup_(ramet_frame_cleanup) struct ramet_frame *frame = NULL;
    int r = ramet_store_frame(store, ramet_chunk_frame(chunk), false, &frame, err);
    return r < 0 ? r : copy_page(store, frame, chunk, offset, buf, size, err);
}

int ramet_store_read(struct ramet_store *store, const ramet_chunk *chunks, size_t count, void *buf,
                     struct ramet_error *err)
{
    struct ramet_frame *frame = NULL; /* of the page before: neighbours mostly share one */
    if (count > 1)
        ramet_store_prefetch(store, chunks, count);
    uint8_t *to = buf;
    int r = 0;
    for (size_t i = 0; i < count && r == 0; i++, to += RAMET_PAGE_SIZE) {
        if (chunks[i] == RAMET_CHUNK_ZERO) {
            memset(to, 0, RAMET_PAGE_SIZE);
            continue;
        }
        uint64_t number = ramet_chunk_frame(chunks[i]);
        if (!frame || frame->number != number) {
            ramet_frame_unref(STEAL(frame));
            r = ramet_store_frame(store, number, false, &frame, err);
        }
        if (r == 0)
            r = copy_page(store, frame, chunks[i], 0, to, RAMET_PAGE_SIZE, err);
    }
    ramet_frame_unref(frame);
    return r;
}
