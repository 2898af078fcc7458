/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One record a snapshot, under "working-set/" and its id (docs/format.md). The catalog's
 * record_lock orders its writing and its removal, so that none outlives its snapshot.
 */
#include "working_set.h"

#include "base/cleanup.h"
#include "base/record.h"
#include "catalog_private.h"

#include <stdio.h>
#include <string.h>

enum { magic = 0x53574d52 /* "RMWS" */, version = 1, run_bytes = 8 };

int ramet_working_set_add(struct ramet_working_set *set, uint64_t page, struct ramet_error *err)
{
    struct ramet_working_set_run *last = set->run_count ? &set->runs[set->run_count - 1] : NULL;
    if (set->page_count == RAMET_WORKING_SET_PAGES || page >= UINT32_MAX)
        return ramet_error_set(err, RAMET_TOO_LARGE, "a working set holds at most %d pages", RAMET_WORKING_SET_PAGES);
    if (last && page == (uint64_t)last->first + last->count) {
        last->count++;
        set->page_count++;
        return 0;
    }
    if (set->run_count == RAMET_WORKING_SET_RUNS)
        return ramet_error_set(err, RAMET_TOO_LARGE, "a working set holds at most %d runs", RAMET_WORKING_SET_RUNS);
    /* Grows at powers of two. */
    if ((set->run_count & (set->run_count - 1)) == 0) {
        struct ramet_working_set_run *grown =
            reallocarray(set->runs, set->run_count ? set->run_count * 2 : 1, sizeof *set->runs);
        if (!grown)
            return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a working set");
        set->runs = grown;
    }
    set->runs[set->run_count++] = (struct ramet_working_set_run){.first = (uint32_t)page, .count = 1};
    set->page_count++;
    return 0;
}

void ramet_working_set_free(struct ramet_working_set *set)
{
    free(set->runs);
    *set = (struct ramet_working_set){0};
}

/* --- records --- */

size_t ramet_working_set_key(const char *id, char key[RAMET_WORKING_SET_KEY_SIZE])
{
    return (size_t)snprintf(key, RAMET_WORKING_SET_KEY_SIZE, "working-set/%s", id);
}

static int encode(const struct ramet_working_set *set, struct ramet_buf *buf, struct ramet_error *err)
{
    ramet_record_begin(buf);
    ramet_buf_put_u64(buf, (uint64_t)set->recorded_ms);
    ramet_buf_put_u32(buf, (uint32_t)set->run_count);
    for (size_t i = 0; i < set->run_count; i++) {
        ramet_buf_put_u32(buf, set->runs[i].first);
        ramet_buf_put_u32(buf, set->runs[i].count);
    }
    return ramet_record_end(buf, magic, version, err);
}

/* False when a number is out of bounds; `pages` is how many the memory has. */
static bool decode(struct ramet_reader *reader, uint64_t pages, struct ramet_working_set *set)
{
    set->recorded_ms = (int64_t)ramet_reader_u64(reader);
    set->run_count = ramet_reader_u32(reader);
    if (reader->failed || set->run_count > RAMET_WORKING_SET_RUNS ||
        reader->size - reader->at != set->run_count * run_bytes)
        return false;
    set->runs = calloc(set->run_count + 1, sizeof *set->runs);
    for (size_t i = 0; set->runs && i < set->run_count; i++) {
        struct ramet_working_set_run run = {.first = ramet_reader_u32(reader)};
        run.count = ramet_reader_u32(reader);
        if (run.count == 0 || run.first >= pages || run.count > pages - run.first)
            return false;
        set->runs[i] = run;
        set->page_count += run.count;
    }
    return set->page_count <= RAMET_WORKING_SET_PAGES;
}

/* --- the catalog's side --- */

int ramet_catalog_working_set_put(struct ramet_catalog *catalog, struct ramet_snapshot *snapshot,
                                  const struct ramet_working_set *set, struct ramet_error *err)
{
    char key[RAMET_WORKING_SET_KEY_SIZE];
    size_t key_size = ramet_working_set_key(snapshot->id, key);
    _cleanup_(ramet_buf_free) struct ramet_buf buf = {0};
    _cleanup_(ramet_kv_batch_cleanup) struct ramet_kv_batch *batch = ramet_kv_batch_new(ramet_store_kv(catalog->store));
    int r = batch ? encode(set, &buf, err) : ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a working set");
    if (r < 0)
        return r;
    ramet_kv_put(batch, RAMET_KV_META, key, key_size, buf.data, buf.size);
    pthread_mutex_lock(&catalog->record_lock);
    if (atomic_load(&snapshot->removed) || !atomic_load(&snapshot->durable))
        r = ramet_error_set(err, RAMET_NOT_FOUND, "snapshot %s is not in the store", snapshot->id);
    else
        r = ramet_store_write(catalog->store, batch, err);
    pthread_mutex_unlock(&catalog->record_lock);
    return r;
}

int ramet_catalog_working_set_get(struct ramet_catalog *catalog, const struct ramet_snapshot *snapshot,
                                  struct ramet_working_set *ret, struct ramet_error *err)
{
    char key[RAMET_WORKING_SET_KEY_SIZE], what[64];
    size_t key_size = ramet_working_set_key(snapshot->id, key), size;
    _autofree_ void *value = NULL;
    struct ramet_reader reader;
    struct ramet_working_set set = {0};
    const struct ramet_image *memory = ramet_snapshot_image(snapshot, "memory");
    uint16_t found;
    int r = ramet_kv_get(ramet_store_kv(catalog->store), RAMET_KV_META, key, key_size, &value, &size, err);
    if (r < 0)
        return r;
    snprintf(what, sizeof what, "the working set of snapshot %s", snapshot->id);
    r = ramet_record_open(value, size, magic, version, what, &reader, &found, err);
    if (r < 0)
        return r;
    if (!decode(&reader, memory ? ramet_image_size(memory) / RAMET_PAGE_SIZE : 0, &set)) {
        ramet_working_set_free(&set);
        return ramet_error_set(err, RAMET_CORRUPT, "%s is damaged", what);
    }
    if (!set.runs)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for %s", what);
    *ret = set;
    return 0;
}
