/* SPDX-License-Identifier: Apache-2.0 */
/* Tags: names of snapshots, kept sorted in memory, one record each on disk (name -> id). */
#include "base/cleanup.h"
#include "catalog_private.h"

#include <stdio.h>
#include <string.h>

/* Index of `name`, or where it belongs. */
static size_t position(const struct ramet_catalog *catalog, const char *name, bool *ret_found)
{
    size_t low = 0, high = catalog->tag_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (strcmp(catalog->tags[middle].name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *ret_found = low < catalog->tag_count && strcmp(catalog->tags[low].name, name) == 0;
    return low;
}

int ramet_tag_set(struct ramet_catalog *catalog, const char *name, const char *snapshot_id, struct ramet_error *err)
{
    bool found;
    size_t at = position(catalog, name, &found);
    if (!found) {
        struct ramet_tag *grown = reallocarray(catalog->tags, catalog->tag_count + 1, sizeof *grown);
        if (!grown)
            return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for tag \"%s\"", name);
        catalog->tags = grown;
        memmove(&grown[at + 1], &grown[at], (catalog->tag_count++ - at) * sizeof *grown);
        snprintf(grown[at].name, sizeof grown[at].name, "%s", name);
    }
    snprintf(catalog->tags[at].snapshot, sizeof catalog->tags[at].snapshot, "%s", snapshot_id);
    return 0;
}

bool ramet_tag_resolve(struct ramet_catalog *catalog, const char *name, char id[RAMET_CATALOG_ID_SIZE])
{
    bool found;
    size_t at = position(catalog, name, &found);
    if (found)
        memcpy(id, catalog->tags[at].snapshot, RAMET_CATALOG_ID_SIZE);
    return found;
}

void ramet_tags_drop(struct ramet_catalog *catalog, const char *snapshot_id, struct ramet_kv_batch *batch)
{
    size_t kept = 0;
    for (size_t i = 0; i < catalog->tag_count; i++) {
        struct ramet_tag *tag = &catalog->tags[i];
        if (strcmp(tag->snapshot, snapshot_id) != 0)
            catalog->tags[kept++] = *tag;
        else if (batch)
            ramet_kv_delete(batch, RAMET_KV_REFS, tag->name, strlen(tag->name));
    }
    catalog->tag_count = kept;
}

void ramet_tags_put(struct ramet_catalog *catalog, const char *snapshot_id, struct ramet_kv_batch *batch)
{
    pthread_mutex_lock(&catalog->lock);
    for (size_t i = 0; i < catalog->tag_count; i++) {
        const struct ramet_tag *tag = &catalog->tags[i];
        if (strcmp(tag->snapshot, snapshot_id) == 0)
            ramet_kv_put(batch, RAMET_KV_REFS, tag->name, strlen(tag->name), tag->snapshot, strlen(tag->snapshot));
    }
    pthread_mutex_unlock(&catalog->lock);
}

int ramet_tags_load(struct ramet_catalog *catalog, struct ramet_error *err)
{
    struct ramet_kv_iter *iter = ramet_kv_iter_new(ramet_store_kv(catalog->store), RAMET_KV_REFS, NULL, 0);
    const void *key, *value;
    size_t key_size, value_size;
    int r = iter ? 0 : ramet_error_set(err, RAMET_NO_MEMORY, "no memory to load tags");
    while (r == 0 && ramet_kv_iter_next(iter, &key, &key_size, &value, &value_size)) {
        char name[RAMET_CATALOG_NAME_SIZE], id[RAMET_CATALOG_ID_SIZE];
        r = ramet_id_load(id, value, value_size, "tag", err);
        snprintf(name, sizeof name, "%.*s", key_size < sizeof name ? (int)key_size : 0, (const char *)key);
        if (r == 0 && (strlen(name) != key_size || ramet_name_check(name, "tag", NULL) < 0))
            r = ramet_error_set(err, RAMET_CORRUPT, "the index holds a tag of %zu bytes that is none", key_size);
        if (r < 0)
            break;
        /* A tag may have been written before its snapshot became durable, which it then never did. */
        if (ramet_members_by_id(&catalog->snapshots, id))
            r = ramet_tag_set(catalog, name, id, err);
    }
    if (r == 0)
        r = ramet_kv_iter_status(iter, err);
    ramet_kv_iter_free(iter);
    return r;
}

int ramet_catalog_tag(struct ramet_catalog *catalog, struct ramet_snapshot *snapshot, const char *tag,
                      struct ramet_error *err)
{
    int r = ramet_name_check(tag, "tag", err);
    if (r < 0)
        return r;
    _cleanup_(ramet_kv_batch_cleanup) struct ramet_kv_batch *batch = ramet_kv_batch_new(ramet_store_kv(catalog->store));
    if (!batch)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for tag \"%s\"", tag);
    pthread_mutex_lock(&catalog->lock);
    r = ramet_tag_set(catalog, tag, snapshot->id, err);
    pthread_mutex_unlock(&catalog->lock);
    if (r < 0)
        return r;
    ramet_kv_put(batch, RAMET_KV_REFS, tag, strlen(tag), snapshot->id, strlen(snapshot->id));
    return ramet_store_write(catalog->store, batch, err);
}

int ramet_catalog_untag(struct ramet_catalog *catalog, const char *tag, struct ramet_error *err)
{
    _cleanup_(ramet_kv_batch_cleanup) struct ramet_kv_batch *batch = ramet_kv_batch_new(ramet_store_kv(catalog->store));
    if (!batch)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to remove tag \"%s\"", tag);
    bool found;
    pthread_mutex_lock(&catalog->lock);
    size_t at = position(catalog, tag, &found);
    if (found)
        memmove(&catalog->tags[at], &catalog->tags[at + 1], (--catalog->tag_count - at) * sizeof *catalog->tags);
    pthread_mutex_unlock(&catalog->lock);
    if (!found) {
        ramet_error_set(err, RAMET_NOT_FOUND, "tag \"%s\" not found", tag);
        return ramet_error_hint(err, "'ramet ls --snapshots' lists tags");
    }
    ramet_kv_delete(batch, RAMET_KV_REFS, tag, strlen(tag));
    return ramet_store_write(catalog->store, batch, err);
}

int ramet_catalog_tags(struct ramet_catalog *catalog, struct ramet_tag **ret, size_t *ret_count,
                       struct ramet_error *err)
{
    pthread_mutex_lock(&catalog->lock);
    size_t count = catalog->tag_count;
    struct ramet_tag *tags = calloc(count + 1, sizeof *tags);
    if (tags && count)
        memcpy(tags, catalog->tags, count * sizeof *tags);
    pthread_mutex_unlock(&catalog->lock);
    if (!tags)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to list tags");
    *ret = tags;
    *ret_count = count;
    return 0;
}
