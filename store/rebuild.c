/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The index made anew from the packs alone. It is built aside and changes places with
 * the old one at the end, which is then kept as index.old.N. A crash before that changes
 * nothing; one right after it leaves the old one as index.new, gone at the next rebuild.
 *
 * Records are taken in pack order and the last of a kind counts, so what was collected
 * but not yet overwritten by a hole comes back as garbage: a collection must follow.
 */
#include "base/cleanup.h"
#include "base/codec.h"
#include "base/file.h"
#include "base/u64map.h"
#include "journal.h"
#include "rewrite.h"
#include "store_private.h"
#include "walk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { write_at = 4096 };

struct rebuild {
    struct ramet_store *store; /* packs and a fresh index */
    struct ramet_kv_batch *batch;
    struct ramet_buf held; /* journal records since a checkpoint's beginning: u32 size, bytes */
    bool holding;
    uint64_t next_frame;
    size_t count; /* entries in the batch */
    struct ramet_rebuild_result result;
};

static int write_batch(struct rebuild *rebuild, struct ramet_error *err)
{
    rebuild->count = 0;
    int r = ramet_kv_write(rebuild->store->kv, rebuild->batch, false, err);
    ramet_kv_batch_journal(rebuild->batch)->size = 0;
    return r;
}

static int take_frame(void *ctx, const struct ramet_place *place, const struct ramet_frame *frame,
                      struct ramet_error *err)
{
    struct rebuild *rebuild = ctx;
    uint8_t key[8], value[RAMET_PLACE_SIZE];
    ramet_put_be64(key, frame->number);
    ramet_place_encode(value, &(struct ramet_place_record){frame->slots, frame->flags, *place});
    ramet_kv_put(rebuild->batch, RAMET_KV_FRAMES, key, sizeof key, value, sizeof value);
    if (frame->number >= rebuild->next_frame)
        rebuild->next_frame = frame->number + 1;
    rebuild->result.frames++;
    return ++rebuild->count % write_at == 0 ? write_batch(rebuild, err) : 0;
}

static int apply(struct rebuild *rebuild, const void *record, size_t size, struct ramet_error *err)
{
    int r = ramet_journal_apply(record, size, rebuild->batch, err);
    return r < 0 ? r : write_batch(rebuild, err);
}

static int apply_held(struct rebuild *rebuild, struct ramet_error *err)
{
    struct ramet_reader reader = {.data = rebuild->held.data, .size = rebuild->held.size};
    int r = 0;
    while (r == 0 && reader.at < reader.size) {
        uint32_t size = ramet_reader_u32(&reader);
        const uint8_t *record = ramet_reader_bytes(&reader, size);
        r = record ? apply(rebuild, record, size, err) : ramet_error_set(err, RAMET_NO_MEMORY, "no memory to rebuild");
    }
    rebuild->held.size = 0;
    rebuild->holding = false;
    return r;
}

/* A checkpoint is whole: what the tables held before it no longer counts. */
static int apply_checkpoint(struct rebuild *rebuild, struct ramet_error *err)
{
    int r = write_batch(rebuild, err);
    for (int family = 0; family < RAMET_KV_FAMILY_COUNT && r == 0; family++) {
        if (!ramet_kv_is_journaled((enum ramet_kv_family)family))
            continue;
        struct ramet_kv_iter *iter = ramet_kv_iter_new(rebuild->store->kv, (enum ramet_kv_family)family, NULL, 0);
        const void *key, *value;
        size_t key_size, value_size;
        while (iter && ramet_kv_iter_next(iter, &key, &key_size, &value, &value_size))
            ramet_kv_delete(rebuild->batch, (enum ramet_kv_family)family, key, key_size);
        r = iter ? ramet_kv_iter_status(iter, err) : ramet_error_set(err, RAMET_NO_MEMORY, "no memory to rebuild");
        ramet_kv_iter_free(iter);
    }
    if (r == 0)
        r = write_batch(rebuild, err);
    return r < 0 ? r : apply_held(rebuild, err);
}

static int take_journal(void *ctx, const struct ramet_place *place, const void *record, struct ramet_error *err)
{
    struct rebuild *rebuild = ctx;
    uint32_t flags = ramet_journal_flags(record);
    rebuild->result.journal_records++;
    if (flags & RAMET_JOURNAL_BEGIN) {
        /* One that was never ended, or lost its end, is no checkpoint: its records count as any others. */
        int r = apply_held(rebuild, err);
        if (r < 0)
            return r;
        rebuild->holding = true;
    }
    if (!rebuild->holding)
        return apply(rebuild, record, place->size, err);
    ramet_buf_put_u32(&rebuild->held, place->size);
    ramet_buf_put(&rebuild->held, record, place->size);
    if (rebuild->held.failed)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to rebuild");
    if (!(flags & RAMET_JOURNAL_END))
        return 0;
    return apply_checkpoint(rebuild, err);
}

static void note_damage(void *ctx, uint32_t pack, uint64_t offset, uint64_t size)
{
    struct rebuild *rebuild = ctx;
    (void)pack, (void)offset;
    rebuild->result.damaged_bytes += size;
}

static int take_packs(struct rebuild *rebuild, struct ramet_error *err)
{
    const struct ramet_walk walk = {
        .frame = take_frame, .journal = take_journal, .damage = note_damage, .ctx = rebuild};
    _autofree_ uint32_t *packs = NULL;
    size_t count = 0;
    int r = ramet_packs_list(rebuild->store->packs, &packs, &count, err);
    for (size_t i = 0; i < count && r == 0; i++) {
        uint64_t end;
        r = ramet_pack_walk(rebuild->store->packs, packs[i], &walk, &end, err);
        if (r == 0 && end > RAMET_PACK_HEADER) /* one without a record was not committed to; opening removes it */
            ramet_commit_pack(rebuild->batch, packs[i], end);
        rebuild->result.packs++;
    }
    if (r == 0)
        r = apply_held(rebuild, err);
    uint8_t value[8];
    ramet_put_le64(value, rebuild->next_frame);
    ramet_kv_put(rebuild->batch, RAMET_KV_META, "next-frame", 10, value, sizeof value);
    return r < 0 ? r : write_batch(rebuild, err);
}

/* --- hashes --- */

struct reindex {
    struct ramet_store *store;
    struct ramet_kv_batch *batch;
    size_t count;
    int status;
    struct ramet_error *err;
};

/* Puts the hashes of a frame's pages into the index. A page that cannot be read is left out: it is not reused then. */
static bool index_frame(void *ctx, uint64_t number, const struct ramet_place_record *record)
{
    struct reindex *reindex = ctx;
    struct ramet_store *store = reindex->store;
    _cleanup_(ramet_frame_cleanup) struct ramet_frame *frame = NULL;
    if (ramet_store_frame(store, number, false, &frame, NULL) < 0)
        return true;
    for (unsigned slot = 0; slot < RAMET_FRAME_SLOTS; slot++) {
        uint8_t page[RAMET_PAGE_SIZE], key[8], value[8];
        ramet_chunk chunk = ramet_chunk_make(number, slot);
        if (!(record->slots & 1u << slot) || ramet_store_read(store, &chunk, 1, page, NULL) < 0)
            continue;
        ramet_put_be64(key, ramet_page_hash(page, frame->kind, store->secret));
        ramet_put_le64(value, chunk);
        ramet_kv_put(reindex->batch, RAMET_KV_INDEX, key, sizeof key, value, sizeof value);
        reindex->count++;
    }
    if (reindex->count >= write_at) {
        reindex->count = 0;
        reindex->status = ramet_kv_write(store->kv, reindex->batch, false, reindex->err);
    }
    return reindex->status == 0;
}

static int index_pages(struct ramet_store *store, struct ramet_error *err)
{
    struct reindex reindex = {.store = store, .batch = ramet_kv_batch_new(store->kv), .err = err};
    if (!reindex.batch)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to rebuild");
    int r = ramet_frames_walk(store, 0, index_frame, &reindex, err);
    if (r == 0)
        r = reindex.status;
    if (r == 0)
        r = ramet_kv_write(store->kv, reindex.batch, true, err);
    ramet_kv_batch_free(reindex.batch);
    return r;
}

/* --- the whole --- */

/* Puts the finished index in place of the old one, which is kept. */
static int swap_index(const char *dir, const char *fresh, struct ramet_error *err)
{
    char current[PATH_MAX], old[PATH_MAX];
    struct stat st;
    snprintf(current, sizeof current, "%s/index", dir);
    for (unsigned i = 0;; i++) {
        snprintf(old, sizeof old, "%s/index.old.%u", dir, i);
        if (stat(old, &st) < 0)
            break;
    }
    /* In one step where the file system can: between two there is no index. */
    if (renameat2(AT_FDCWD, fresh, AT_FDCWD, current, RENAME_EXCHANGE) == 0) {
        if (rename(fresh, old) < 0)
            return ramet_error_os(err, errno, "cannot set %s aside", fresh);
        return ramet_dir_sync(dir, err);
    }
    if (rename(current, old) < 0 && errno != ENOENT)
        return ramet_error_os(err, errno, "cannot set %s aside", current);
    if (rename(fresh, current) < 0)
        return ramet_error_os(err, errno, "cannot put %s in place", fresh);
    return ramet_dir_sync(dir, err);
}

int ramet_store_rebuild(const char *dir, struct ramet_rebuild_result *ret, struct ramet_error *err)
{
    char fresh[PATH_MAX];
    struct rebuild rebuild = {.next_frame = 1};
    snprintf(fresh, sizeof fresh, "%s/index.new", dir);
    int r = ramet_store_open_bare(dir, fresh, &rebuild.store, err);
    if (r == 0 && !(rebuild.batch = ramet_kv_batch_new(rebuild.store->kv)))
        r = ramet_error_set(err, RAMET_NO_MEMORY, "no memory to rebuild");
    if (r == 0)
        r = ramet_store_claim_index(rebuild.store, err);
    if (r == 0)
        r = take_packs(&rebuild, err);
    if (r == 0)
        r = index_pages(rebuild.store, err);
    ramet_kv_batch_free(rebuild.batch);
    ramet_buf_free(&rebuild.held);
    /* The lock goes with the store, and nothing may get in between: the index is closed and swapped under it. */
    if (rebuild.store)
        ramet_kv_close(STEAL(rebuild.store->kv));
    if (r == 0)
        r = swap_index(dir, fresh, err);
    ramet_store_close(rebuild.store);
    if (r == 0)
        *ret = rebuild.result;
    return r;
}
