/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots: their objects, their records, and the step that makes them durable.
 *
 * The record (docs/format.md) is written in the same RocksDB batch as the frames it
 * needs, after the packs were synced: it exists whole or not at all.
 */
#include "base/cleanup.h"
#include "base/file.h"
#include "base/record.h"
#include "catalog_private.h"

#include <stdio.h>
#include <string.h>

enum { magic = 0x4e534d52 /* "RMSN" */, version = 1 };

/* --- objects --- */

int ramet_snapshot_new(struct ramet_catalog *catalog, struct ramet_snapshot **ret, struct ramet_error *err)
{
    struct ramet_snapshot *snapshot = calloc(1, sizeof *snapshot);
    if (!snapshot)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a snapshot");
    atomic_init(&snapshot->refs, 1);
    snapshot->catalog = catalog;
    snapshot->serial = atomic_fetch_add(&catalog->next_serial, 1);
    snapshot->created_ms = ramet_now_ms();
    ramet_id_make(snapshot->id);
    *ret = snapshot;
    return 0;
}

int ramet_snapshot_add_image(struct ramet_snapshot *snapshot, const char *name, struct ramet_image *image,
                             struct ramet_error *err)
{
    if (snapshot->image_count == RAMET_SNAPSHOT_IMAGES_MAX || strlen(name) >= sizeof snapshot->images[0].name) {
        ramet_image_unref(image);
        return ramet_error_set(err, RAMET_TOO_LARGE, "a snapshot holds at most %d images, \"%s\" is one more",
                               RAMET_SNAPSHOT_IMAGES_MAX, name);
    }
    struct ramet_snapshot_image *entry = &snapshot->images[snapshot->image_count++];
    snprintf(entry->name, sizeof entry->name, "%s", name);
    entry->image = image;
    return 0;
}

struct ramet_image *ramet_snapshot_image(const struct ramet_snapshot *snapshot, const char *name)
{
    for (size_t i = 0; i < snapshot->image_count; i++)
        if (strcmp(snapshot->images[i].name, name) == 0)
            return snapshot->images[i].image;
    return NULL;
}

struct ramet_snapshot *ramet_snapshot_ref(struct ramet_snapshot *snapshot)
{
    atomic_fetch_add(&snapshot->refs, 1);
    return snapshot;
}

void ramet_snapshot_unref(struct ramet_snapshot *snapshot)
{
    if (!snapshot || atomic_fetch_sub(&snapshot->refs, 1) != 1)
        return;
    for (size_t i = 0; i < snapshot->image_count; i++)
        ramet_image_unref(snapshot->images[i].image);
    free(snapshot->cmdline);
    free(snapshot);
}

void ramet_snapshot_cleanup(struct ramet_snapshot **snapshot) { ramet_snapshot_unref(*snapshot); }

void ramet_snapshots_free(struct ramet_snapshot **snapshots, size_t count)
{
    for (size_t i = 0; i < count; i++)
        ramet_snapshot_unref(snapshots[i]);
    free(snapshots);
}

/* --- records --- */

static int encode(const struct ramet_snapshot *snapshot, const struct ramet_page_map *maps, struct ramet_buf *buf,
                  struct ramet_error *err)
{
    ramet_record_begin(buf);
    ramet_buf_put_u64(buf, snapshot->serial);
    ramet_buf_put_str(buf, snapshot->parent);
    ramet_buf_put_str(buf, snapshot->sandbox);
    ramet_buf_put_str(buf, snapshot->sandbox_name);
    ramet_buf_put_u64(buf, (uint64_t)snapshot->created_ms);
    ramet_buf_put_u64(buf, snapshot->memory_bytes);
    ramet_buf_put_u32(buf, snapshot->cpus);
    ramet_buf_put_str(buf, snapshot->cmdline);
    ramet_buf_put_u64(buf, snapshot->captured_pages);
    ramet_buf_put_u64(buf, atomic_load(&snapshot->stored_bytes));
    ramet_buf_put_u32(buf, (uint32_t)snapshot->image_count);
    for (size_t i = 0; i < snapshot->image_count; i++) {
        ramet_buf_put_str(buf, snapshot->images[i].name);
        ramet_buf_put_u64(buf, ramet_image_size(snapshot->images[i].image));
        ramet_buf_put_u64(buf, maps[i].root);
    }
    return ramet_record_end(buf, magic, version, err);
}

static int decode_images(struct ramet_reader *reader, struct ramet_snapshot *snapshot, struct ramet_error *err)
{
    uint32_t count = ramet_reader_u32(reader);
    for (uint32_t i = 0; i < count && !reader->failed; i++) {
        char name[sizeof snapshot->images[0].name];
        struct ramet_image *image;
        bool fits = ramet_reader_field(reader, name, sizeof name);
        uint64_t size = ramet_reader_u64(reader), root = ramet_reader_u64(reader);
        if (!fits || reader->failed)
            break;
        int r = ramet_image_new_stored(snapshot->catalog->images, size, root, &image, err);
        if (r == 0)
            r = ramet_snapshot_add_image(snapshot, name, image, err);
        if (r < 0)
            return r;
    }
    return snapshot->image_count == count ? 0 : -RAMET_CORRUPT;
}

static int decode(struct ramet_reader *reader, struct ramet_snapshot *snapshot, struct ramet_error *err)
{
    snapshot->serial = ramet_reader_u64(reader);
    bool ok = ramet_reader_field(reader, snapshot->parent, sizeof snapshot->parent) &&
              ramet_reader_field(reader, snapshot->sandbox, sizeof snapshot->sandbox) &&
              ramet_reader_field(reader, snapshot->sandbox_name, sizeof snapshot->sandbox_name);
    snapshot->created_ms = (int64_t)ramet_reader_u64(reader);
    snapshot->memory_bytes = ramet_reader_u64(reader);
    snapshot->cpus = ramet_reader_u32(reader);
    snapshot->cmdline = ramet_reader_str(reader);
    snapshot->captured_pages = ramet_reader_u64(reader);
    snapshot->stored_bytes = ramet_reader_u64(reader);
    int r = ok && !reader->failed ? decode_images(reader, snapshot, err) : -RAMET_CORRUPT;
    if (r == -RAMET_CORRUPT)
        return ramet_error_set(err, RAMET_CORRUPT, "snapshot %s: its record is damaged", snapshot->id);
    return r;
}

static int load_one(struct ramet_catalog *catalog, const void *key, size_t key_size, const void *value, size_t size,
                    struct ramet_snapshot **ret, struct ramet_error *err)
{
    struct ramet_reader reader;
    uint16_t found;
    char what[64];
    int r = ramet_snapshot_new(catalog, ret, err);
    if (r < 0)
        return r;
    if ((r = ramet_id_load((*ret)->id, key, key_size, "snapshot", err)) < 0)
        return r;
    snprintf(what, sizeof what, "snapshot %s", (*ret)->id);
    r = ramet_record_open(value, size, magic, version, what, &reader, &found, err);
    if (r == 0)
        r = decode(&reader, *ret, err);
    atomic_store(&(*ret)->durable, true);
    return r;
}

int ramet_snapshots_load(struct ramet_catalog *catalog, struct ramet_error *err)
{
    struct ramet_kv_iter *iter = ramet_kv_iter_new(ramet_store_kv(catalog->store), RAMET_KV_SNAPSHOTS, NULL, 0);
    size_t key_size, value_size;
    const void *key, *value;
    int r = iter ? 0 : ramet_error_set(err, RAMET_NO_MEMORY, "no memory to load snapshots");
    while (r == 0 && ramet_kv_iter_next(iter, &key, &key_size, &value, &value_size)) {
        struct ramet_snapshot *snapshot = NULL;
        r = load_one(catalog, key, key_size, value, value_size, &snapshot, err);
        if (r == 0)
            r = ramet_members_add(&catalog->snapshots, snapshot->id, snapshot->serial, snapshot, err);
        if (r < 0)
            ramet_snapshot_unref(snapshot);
    }
    if (r == 0)
        r = ramet_kv_iter_status(iter, err);
    ramet_kv_iter_free(iter);
    return r;
}

/* --- the catalog's side --- */

int ramet_catalog_add(struct ramet_catalog *catalog, struct ramet_snapshot *snapshot, const char *tag,
                      struct ramet_error *err)
{
    int r = tag ? ramet_name_check(tag, "tag", err) : 0;
    if (r < 0)
        return r;
    pthread_mutex_lock(&catalog->lock);
    r = ramet_members_add(&catalog->snapshots, snapshot->id, snapshot->serial, snapshot, err);
    if (r == 0 && tag && (r = ramet_tag_set(catalog, tag, snapshot->id, err)) < 0)
        ramet_members_remove(&catalog->snapshots, snapshot->id, snapshot->serial);
    if (r == 0)
        ramet_snapshot_ref(snapshot);
    pthread_mutex_unlock(&catalog->lock);
    return r;
}

int ramet_catalog_commit(struct ramet_catalog *catalog, struct ramet_snapshot *snapshot, struct ramet_error *err)
{
    struct ramet_page_map maps[RAMET_SNAPSHOT_IMAGES_MAX];
    struct ramet_ingest *ingest;
    _cleanup_(ramet_buf_free) struct ramet_buf buf = {0};
    _cleanup_(ramet_kv_batch_cleanup) struct ramet_kv_batch *batch = ramet_kv_batch_new(ramet_store_kv(catalog->store));
    if (!batch)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to commit snapshot %s", snapshot->id);
    int r = ramet_ingest_begin(catalog->store, &ingest, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < snapshot->image_count && r == 0; i++)
        r = ramet_image_put(snapshot->images[i].image, ingest, &maps[i], err);
    uint64_t stored = 0;
    if (r == 0)
        r = ramet_ingest_stored_bytes(ingest, &stored, err);
    atomic_fetch_add(&snapshot->stored_bytes, stored);
    if (r == 0)
        r = encode(snapshot, maps, &buf, err);
    if (r == 0) {
        ramet_kv_put(batch, RAMET_KV_SNAPSHOTS, snapshot->id, strlen(snapshot->id), buf.data, buf.size);
        ramet_tags_put(catalog, snapshot->id, batch);
        ramet_serials_put(catalog, batch);
        r = ramet_ingest_commit(ingest, batch, err);
    }
    if (r == 0) {
        for (size_t i = 0; i < snapshot->image_count; i++)
            ramet_image_settle(snapshot->images[i].image, &maps[i]);
        atomic_store(&snapshot->durable, true);
    }
    ramet_ingest_end(ingest);
    return r < 0 ? ramet_error_prefix(err, "snapshot %s did not become durable", snapshot->id) : 0;
}

int ramet_catalog_remove(struct ramet_catalog *catalog, struct ramet_snapshot *snapshot, struct ramet_error *err)
{
    _cleanup_(ramet_kv_batch_cleanup) struct ramet_kv_batch *batch = ramet_kv_batch_new(ramet_store_kv(catalog->store));
    if (!batch && atomic_load(&snapshot->durable)) /* withdrawing what has no record needs none */
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to remove snapshot %s", snapshot->id);
    char working_set[RAMET_WORKING_SET_KEY_SIZE];
    size_t working_set_size = ramet_working_set_key(snapshot->id, working_set);
    pthread_mutex_lock(&catalog->lock);
    bool first = !atomic_exchange(&snapshot->removed, true);
    if (first) {
        ramet_members_remove(&catalog->snapshots, snapshot->id, snapshot->serial);
        ramet_tags_drop(catalog, snapshot->id, batch);
    }
    pthread_mutex_unlock(&catalog->lock);
    if (!first)
        return ramet_error_set(err, RAMET_NOT_FOUND, "snapshot \"%s\" is removed already", snapshot->id);
    if (batch) {
        ramet_kv_delete(batch, RAMET_KV_SNAPSHOTS, snapshot->id, strlen(snapshot->id));
        ramet_kv_delete(batch, RAMET_KV_META, working_set, working_set_size);
    }
    pthread_mutex_lock(&catalog->record_lock);
    int r = batch ? ramet_store_write(catalog->store, batch, err) : 0;
    pthread_mutex_unlock(&catalog->record_lock);
    ramet_snapshot_unref(snapshot);
    return r;
}

int ramet_catalog_find(struct ramet_catalog *catalog, const char *ref, struct ramet_snapshot **ret,
                       struct ramet_error *err)
{
    char id[RAMET_CATALOG_ID_SIZE];
    pthread_mutex_lock(&catalog->lock);
    bool tagged = ramet_tag_resolve(catalog, ref, id);
    struct ramet_snapshot *found = ramet_members_by_id(&catalog->snapshots, tagged ? id : ref);
    if (found)
        ramet_snapshot_ref(found);
    pthread_mutex_unlock(&catalog->lock);
    if (!found) {
        ramet_error_set(err, RAMET_NOT_FOUND, "snapshot \"%s\" not found", ref);
        return ramet_error_hint(err, "'ramet ls --snapshots' lists them");
    }
    *ret = found;
    return 0;
}

int ramet_catalog_snapshot_by_serial(struct ramet_catalog *catalog, uint64_t serial, struct ramet_snapshot **ret,
                                     struct ramet_error *err)
{
    pthread_mutex_lock(&catalog->lock);
    struct ramet_snapshot *found = ramet_members_by_serial(&catalog->snapshots, serial);
    if (found)
        ramet_snapshot_ref(found);
    pthread_mutex_unlock(&catalog->lock);
    if (!found)
        return ramet_error_set(err, RAMET_NOT_FOUND, "no snapshot has serial %llu", (unsigned long long)serial);
    *ret = found;
    return 0;
}

int ramet_catalog_snapshots(struct ramet_catalog *catalog, struct ramet_snapshot ***ret, size_t *ret_count,
                            struct ramet_error *err)
{
    size_t count = 0;
    pthread_mutex_lock(&catalog->lock);
    void **all = ramet_members_list(&catalog->snapshots, &count);
    for (size_t i = 0; i < count; i++)
        ramet_snapshot_ref(all[i]);
    pthread_mutex_unlock(&catalog->lock);
    if (!all)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to list snapshots");
    *ret = (struct ramet_snapshot **)all;
    *ret_count = count;
    return 0;
}
