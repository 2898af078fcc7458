/* SPDX-License-Identifier: Apache-2.0 */
#include "walk.h"

#include "base/cleanup.h"
#include "base/codec.h"
#include "base/record.h"
#include "journal.h"

#include <string.h>

enum { window_bytes = 4 << 20 };

/* A part of the pack in memory. */
struct window {
    struct ramet_packs *packs;
    uint32_t pack;
    uint64_t pack_size;
    uint64_t offset; /* of bytes[0] */
    size_t size, capacity;
    uint8_t *bytes; /* owned */
};

/* Makes `size` bytes from `offset` available, or as many as the pack has; *ret_have tells how many. */
static int window_at(struct window *window, uint64_t offset, size_t size, const uint8_t **ret, size_t *ret_have,
                     struct ramet_error *err)
{
    uint64_t left = window->pack_size - offset;
    size_t want = left < size ? (size_t)left : size;
    bool inside = offset >= window->offset && offset + want <= window->offset + window->size;
    if (!inside) {
        size_t fill = left < window_bytes ? (size_t)left : window_bytes;
        fill = fill < want ? want : fill;
        if (fill > window->capacity) {
            uint8_t *grown = realloc(window->bytes, fill);
            if (!grown)
                return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to walk pack %08x", window->pack);
            window->bytes = grown;
            window->capacity = fill;
        }
        int r = ramet_packs_read_raw(window->packs, window->pack, offset, window->bytes, fill, err);
        if (r < 0)
            return r;
        window->offset = offset;
        window->size = fill;
    }
    *ret = window->bytes + (offset - window->offset);
    *ret_have = (size_t)(window->offset + window->size - offset);
    return 0;
}

/* The intact frame at `p`; *ret is NULL when there is none. Fails when memory is short: that says nothing about it. */
static int frame_at(const uint8_t *p, size_t have, uint64_t key, struct ramet_frame **ret, size_t *ret_size,
                    struct ramet_error *err)
{
    struct ramet_frame_info info;
    *ret = NULL;
    if (have < RAMET_FRAME_HEADER || ramet_frame_peek(p, &info, NULL) < 0)
        return 0;
    *ret_size = RAMET_FRAME_HEADER + (size_t)info.payload_size;
    int r = *ret_size <= have ? ramet_frame_decode(p, *ret_size, 0, key, ret, err) : 0;
    return r == -RAMET_NO_MEMORY ? r : 0;
}

/* Visits the record at `offset`, if an intact one begins there; *ret_size is its size, 0 when none does. */
static int visit_record(struct window *window, uint64_t offset, const struct ramet_walk *walk, size_t *ret_size,
                        struct ramet_error *err)
{
    const uint8_t *p;
    size_t have, size = 0;
    int r = window_at(window, offset, RAMET_FRAME_RECORD_MAX, &p, &have, err);
    *ret_size = 0;
    if (r < 0 || have < RAMET_RECORD_HEADER)
        return r;
    _cleanup_(ramet_frame_cleanup) struct ramet_frame *frame = NULL;
    if ((r = frame_at(p, have, ramet_packs_key(window->packs), &frame, &size, err)) < 0)
        return r;
    struct ramet_place place = {.pack = window->pack, .size = (uint32_t)size, .offset = offset};
    if (frame) {
        *ret_size = size;
        return walk->frame ? walk->frame(walk->ctx, &place, frame, err) : 0;
    }
    if (!ramet_journal_begins(p))
        return 0;
    uint64_t claimed = RAMET_RECORD_HEADER + (uint64_t)ramet_get_le32(p + 8);
    if (claimed > window->pack_size - offset)
        return 0;
    if ((r = window_at(window, offset, (size_t)claimed, &p, &have, err)) < 0)
        return r;
    place.size = (uint32_t)ramet_journal_peek(p, (size_t)claimed, ramet_packs_key(window->packs));
    *ret_size = place.size;
    return place.size && walk->journal ? walk->journal(walk->ctx, &place, p, err) : 0;
}

/* The first offset from `from` on where the first byte of a record may be. */
static int next_start(struct window *window, uint64_t from, uint64_t *ret, struct ramet_error *err)
{
    while (from < window->pack_size) {
        const uint8_t *p = NULL, *found;
        size_t have = 0;
        int r = window_at(window, from, 1, &p, &have, err);
        if (r < 0)
            return r;
        if ((found = memchr(p, 'R', have))) {
            *ret = from + (uint64_t)(found - p);
            return 0;
        }
        from += have;
    }
    *ret = window->pack_size;
    return 0;
}

/* Tells of what lies between two records, unless it is all zeros. */
static int report_gap(struct window *window, uint64_t from, uint64_t to, const struct ramet_walk *walk,
                      struct ramet_error *err)
{
    for (uint64_t at = from; at < to && walk->damage;) {
        const uint8_t *p = NULL;
        size_t have = 0;
        int r = window_at(window, at, 1, &p, &have, err);
        if (r < 0)
            return r;
        have = have < to - at ? have : (size_t)(to - at);
        for (size_t i = 0; i < have; i++)
            if (p[i]) {
                walk->damage(walk->ctx, window->pack, at + i, to - at - i);
                return 0;
            }
        at += have;
    }
    return 0;
}

int ramet_pack_walk(struct ramet_packs *packs, uint32_t pack, const struct ramet_walk *walk, uint64_t *ret_end,
                    struct ramet_error *err)
{
    struct window window = {.packs = packs, .pack = pack};
    uint64_t end = RAMET_PACK_HEADER;
    int r = ramet_packs_size(packs, pack, &window.pack_size, err);
    for (uint64_t at = end; r == 0 && at < window.pack_size;) {
        size_t size = 0;
        if ((r = next_start(&window, at, &at, err)) < 0 || at >= window.pack_size)
            break;
        if ((r = visit_record(&window, at, walk, &size, err)) < 0)
            break;
        if (size == 0) {
            at++;
            continue;
        }
        r = report_gap(&window, end, at, walk, err);
        end = at + size;
        at = end;
    }
    if (r == 0)
        r = report_gap(&window, end, window.pack_size, walk, err);
    free(window.bytes);
    if (r == 0)
        *ret_end = end;
    return r;
}
