/* SPDX-License-Identifier: Apache-2.0 */
/* Reading every frame back: what `ramet store fsck` rests on. Runs beside everything else. */
#include "base/cleanup.h"
#include "base/codec.h"
#include "frame.h"
#include "store_private.h"

#include <inttypes.h>
#include <stdio.h>

struct verify {
    struct ramet_store *store;
    void (*problem)(void *ctx, uint64_t frame, const char *line);
    void *ctx;
    struct ramet_verify_result result;
};

static void report(struct verify *v, uint64_t frame, const struct ramet_place *place, const char *what)
{
    char line[700];
    if (place)
        snprintf(line, sizeof line, "pack %08x at %" PRIu64 " (%u bytes): %s", place->pack, place->offset, place->size,
                 what);
    else
        snprintf(line, sizeof line, "frame %" PRIu64 ": %s", frame, what);
    v->result.problems++;
    v->problem(v->ctx, frame, line);
}

static void verify_frame(struct verify *v, uint64_t frame, uint16_t slots, struct ramet_place place)
{
    uint8_t record[RAMET_FRAME_RECORD_MAX];
    _cleanup_(ramet_frame_cleanup) struct ramet_frame *found = NULL;
    struct ramet_error err = {0};
    int r = ramet_packs_read(v->store->packs, &place, record, &err);
    if (r == 0)
        r = ramet_frame_decode(record, place.size, frame, &found, &err);
    struct ramet_place now;
    if (r < 0 && ramet_store_place(v->store, frame, &now, NULL) < 0)
        return; /* freed since it was listed */
    if (r < 0 && (now.pack != place.pack || now.offset != place.offset)) {
        verify_frame(v, frame, slots, now); /* moved since it was listed */
        return;
    }
    v->result.frames++;
    v->result.chunks += ramet_slot_count(slots);
    if (r < 0)
        report(v, frame, &place, err.msg);
    else if (found->slots != slots)
        report(v, frame, &place, "the frame and its place record disagree");
}

int ramet_store_verify(struct ramet_store *store, void (*problem)(void *ctx, uint64_t frame, const char *line),
                       void *ctx, struct ramet_verify_result *ret, struct ramet_error *err)
{
    struct verify v = {.store = store, .problem = problem, .ctx = ctx};
    struct ramet_kv_iter *iter = ramet_kv_iter_new(store->kv, RAMET_KV_FRAMES, NULL, 0);
    if (!iter)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to verify");
    const void *key, *value;
    size_t key_size, value_size;
    while (ramet_kv_iter_next(iter, &key, &key_size, &value, &value_size)) {
        struct ramet_place_record record;
        uint64_t frame = key_size == 8 ? ramet_get_be64(key) : 0;
        if (ramet_place_decode(value, value_size, &record, NULL) < 0)
            report(&v, frame, NULL, "its place record is damaged");
        else
            verify_frame(&v, frame, record.slots, record.place);
    }
    int r = ramet_kv_iter_status(iter, err);
    ramet_kv_iter_free(iter);
    if (r == 0)
        *ret = v.result;
    return r;
}
