/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scrub: everything is read and verified at a rate that leaves the disk to others, frame
 * by frame in number order. Where it stands is kept in the index, so that it goes on
 * after a restart. Also here: verifying all at once, which is a scrub without a rate.
 */
#include "base/cleanup.h"
#include "base/codec.h"
#include "base/file.h"
#include "rewrite.h"
#include "store_private.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

static const char scrub_key[] = "scrub";
enum { state_version = 1, state_size = 48, remember_every_us = 2000000, window_us = 20000 };

struct scrub {
    struct ramet_store *store;
    const struct ramet_scrub_options *options;
    struct ramet_scrub_state state;
    uint64_t began_us, began_bytes, remembered_us;
    bool stopped;
};

static void report(struct scrub *scrub, uint64_t frame, const struct ramet_place *place, const char *what)
{
    char line[700];
    if (place)
        snprintf(line, sizeof line, "pack %08x at %" PRIu64 " (%u bytes): %s", place->pack, place->offset, place->size,
                 what);
    else
        snprintf(line, sizeof line, "frame %" PRIu64 ": %s", frame, what);
    scrub->state.problems++;
    scrub->options->problem(scrub->options->ctx, frame, line);
}

static void verify_frame(struct scrub *scrub, uint64_t number, const struct ramet_place_record *listed)
{
    uint8_t bytes[RAMET_FRAME_RECORD_MAX];
    struct ramet_store *store = scrub->store;
    const struct ramet_place *place = &listed->place;
    _cleanup_(ramet_frame_cleanup) struct ramet_frame *found = NULL;
    struct ramet_error err = {0};
    int r = ramet_packs_read(store->packs, place, bytes, &err);
    if (r == 0)
        r = ramet_frame_decode(bytes, place->size, number, ramet_packs_key(store->packs), &found, &err);
    if (r == 0 && found->slots != listed->slots)
        r = ramet_error_set(&err, RAMET_CORRUPT, "the frame and its place record disagree");
    struct ramet_place_record now;
    if (r < 0 && ramet_store_place(store, number, &now, NULL) < 0)
        return; /* freed since it was listed */
    if (r < 0 && (now.place.pack != place->pack || now.place.offset != place->offset)) {
        verify_frame(scrub, number, &now); /* moved since it was listed */
        return;
    }
    scrub->state.frames++;
    scrub->state.chunks += ramet_slot_count(listed->slots);
    scrub->state.bytes += place->size;
    if (r < 0)
        report(scrub, number, place, err.msg);
}

/* --- the state that outlives the process --- */

static int remember(struct scrub *scrub, struct ramet_error *err)
{
    _cleanup_(ramet_kv_batch_cleanup) struct ramet_kv_batch *batch = ramet_kv_batch_new(scrub->store->kv);
    const struct ramet_scrub_state *state = &scrub->state;
    uint8_t value[state_size];
    if (!batch)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to scrub");
    const uint64_t fields[] = {state_version, state->next_frame, state->frames,
                               state->chunks, state->bytes,      state->problems};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        ramet_put_le64(value + i * 8, fields[i]);
    ramet_kv_put(batch, RAMET_KV_META, scrub_key, sizeof scrub_key - 1, value, sizeof value);
    return ramet_kv_write(scrub->store->kv, batch, false, err);
}

static int forget(struct ramet_store *store, struct ramet_error *err)
{
    _cleanup_(ramet_kv_batch_cleanup) struct ramet_kv_batch *batch = ramet_kv_batch_new(store->kv);
    if (!batch)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to scrub");
    ramet_kv_delete(batch, RAMET_KV_META, scrub_key, sizeof scrub_key - 1);
    return ramet_kv_write(store->kv, batch, false, err);
}

static int recall(struct scrub *scrub, struct ramet_error *err)
{
    _autofree_ void *value = NULL;
    size_t size;
    int r = ramet_kv_get(scrub->store->kv, RAMET_KV_META, scrub_key, sizeof scrub_key - 1, &value, &size, err);
    if (r == -RAMET_NOT_FOUND)
        return 0;
    const uint8_t *p = value;
    if (r < 0 || size != state_size || ramet_get_le64(p) != state_version)
        return r; /* of another version: from the start */
    scrub->state = (struct ramet_scrub_state){.next_frame = ramet_get_le64(p + 8),
                                              .frames = ramet_get_le64(p + 16),
                                              .chunks = ramet_get_le64(p + 24),
                                              .bytes = ramet_get_le64(p + 32),
                                              .problems = ramet_get_le64(p + 40)};
    return 0;
}

/* --- the walk --- */

/* Sleeps until the bytes read so far are due. */
static void keep_rate(const struct scrub *scrub)
{
    if (!scrub->options->bytes_per_second)
        return;
    uint64_t due = (scrub->state.bytes - scrub->began_bytes) * 1000000 / scrub->options->bytes_per_second;
    uint64_t spent = ramet_now_us() - scrub->began_us;
    if (due > spent + window_us) {
        uint64_t us = due - spent;
        us = us < 1000000 ? us : 1000000; /* a stop is heard within a second */
        nanosleep(&(struct timespec){(time_t)(us / 1000000), (long)(us % 1000000) * 1000}, NULL);
    }
}

static int verify_headers(struct scrub *scrub, struct ramet_error *err)
{
    _autofree_ uint32_t *packs = NULL;
    size_t count = 0;
    int r = ramet_packs_list(scrub->store->packs, &packs, &count, err);
    for (size_t i = 0; i < count && r == 0; i++)
        if (ramet_packs_check(scrub->store->packs, packs[i], NULL) == -RAMET_CORRUPT)
            report(scrub, 0, &(struct ramet_place){packs[i], RAMET_PACK_HEADER, 0}, "the pack's header is damaged");
    return r;
}

static int walk_frames(struct scrub *scrub, struct ramet_error *err)
{
    uint8_t from[8];
    ramet_put_be64(from, scrub->state.next_frame);
    struct ramet_kv_iter *iter = ramet_kv_iter_new(scrub->store->kv, RAMET_KV_FRAMES, from, sizeof from);
    const void *key, *value;
    size_t key_size, value_size;
    int r = iter ? 0 : ramet_error_set(err, RAMET_NO_MEMORY, "no memory to verify");
    while (r == 0 && !scrub->stopped && ramet_kv_iter_next(iter, &key, &key_size, &value, &value_size)) {
        struct ramet_place_record record;
        uint64_t number = key_size == sizeof from ? ramet_get_be64(key) : 0;
        if (ramet_place_decode(value, value_size, &record, NULL) < 0)
            report(scrub, number, NULL, "its place record is damaged");
        else
            verify_frame(scrub, number, &record);
        scrub->state.next_frame = number + 1;
        keep_rate(scrub);
        scrub->stopped = scrub->options->progress && scrub->options->progress(scrub->options->ctx, &scrub->state);
        uint64_t now = ramet_now_us();
        if (scrub->options->resume && (scrub->stopped || now - scrub->remembered_us > remember_every_us)) {
            scrub->remembered_us = now;
            r = remember(scrub, err);
        }
    }
    if (r == 0)
        r = ramet_kv_iter_status(iter, err);
    ramet_kv_iter_free(iter);
    return r;
}

int ramet_store_scrub(struct ramet_store *store, const struct ramet_scrub_options *options,
                      struct ramet_scrub_state *ret, struct ramet_error *err)
{
    struct scrub scrub = {.store = store, .options = options, .began_us = ramet_now_us()};
    int r = options->resume ? recall(&scrub, err) : 0;
    scrub.state.end_frame = atomic_load(&store->next_frame);
    scrub.began_bytes = scrub.state.bytes;
    scrub.remembered_us = scrub.began_us;
    if (r == 0 && scrub.state.next_frame == 0)
        r = verify_headers(&scrub, err);
    if (r == 0)
        r = walk_frames(&scrub, err);
    scrub.state.finished = r == 0 && !scrub.stopped;
    if (scrub.state.finished && options->resume)
        r = forget(store, err);
    if (r == 0)
        *ret = scrub.state;
    return r;
}

int ramet_store_scrub_restart(struct ramet_store *store, struct ramet_error *err) { return forget(store, err); }

int ramet_store_repair(struct ramet_store *store, uint64_t *ret_headers, struct ramet_error *err)
{
    _autofree_ uint32_t *packs = NULL;
    size_t count = 0;
    uint64_t mended = 0;
    pthread_mutex_lock(&store->commit_lock);
    int r = ramet_packs_list(store->packs, &packs, &count, err);
    for (size_t i = 0; i < count && r == 0; i++) {
        if (ramet_packs_check(store->packs, packs[i], NULL) != -RAMET_CORRUPT)
            continue;
        r = ramet_packs_mend(store->packs, packs[i], err);
        mended++;
    }
    if (r == 0)
        r = ramet_commit_checkpoint(store, err);
    pthread_mutex_unlock(&store->commit_lock);
    if (r == 0)
        *ret_headers = mended;
    return r;
}
