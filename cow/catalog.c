/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "base/codec.h"
#include "base/file.h"
#include "catalog_private.h"
#include "workspace/stored.h"

#include <stdio.h>
#include <string.h>

static const char serial_key[] = "next-serial";

void ramet_serials_put(struct ramet_catalog *catalog, struct ramet_kv_batch *batch)
{
    uint8_t value[8];
    ramet_put_le64(value, atomic_load(&catalog->next_serial));
    ramet_kv_put(batch, RAMET_KV_META, serial_key, sizeof serial_key - 1, value, sizeof value);
}

static int load_serials(struct ramet_catalog *catalog, struct ramet_error *err)
{
    _autofree_ void *value = NULL;
    size_t size;
    atomic_store(&catalog->next_serial, 1);
    int r = ramet_kv_get(ramet_store_kv(catalog->store), RAMET_KV_META, serial_key, sizeof serial_key - 1, &value,
                         &size, err);
    if (r == 0 && size == sizeof(uint64_t))
        atomic_store(&catalog->next_serial, ramet_get_le64(value));
    return r == -RAMET_NOT_FOUND ? 0 : r;
}

/* A rebuilt index does not know which serials were given out: at least those in use. */
static void raise_serials(struct ramet_catalog *catalog)
{
    uint64_t next = atomic_load(&catalog->next_serial), serial, object;
    for (size_t at = 0; ramet_u64map_next(&catalog->snapshots.serials, &at, &serial, &object);)
        next = serial >= next ? serial + 1 : next;
    for (size_t at = 0; ramet_u64map_next(&catalog->branches.serials, &at, &serial, &object);)
        next = serial >= next ? serial + 1 : next;
    atomic_store(&catalog->next_serial, next);
}

int ramet_catalog_open(struct ramet_store *store, struct ramet_catalog **ret, struct ramet_error *err)
{
    struct ramet_catalog *catalog = calloc(1, sizeof *catalog);
    if (!catalog)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to open the catalog");
    catalog->store = store;
    pthread_mutex_init(&catalog->record_lock, NULL);
    pthread_mutex_init(&catalog->lock, NULL);
    pthread_mutex_init(&catalog->workspaces_lock, NULL);
    catalog->images = ramet_image_set_new(store);
    int r = catalog->images && asprintf(&catalog->branch_dir, "%s/branches", ramet_store_dir(store)) >= 0
                ? ramet_dir_make(catalog->branch_dir, 0700, err)
                : ramet_error_set(err, RAMET_NO_MEMORY, "no memory to open the catalog");
    if (r == 0)
        r = load_serials(catalog, err);
    if (r == 0)
        r = ramet_snapshots_load(catalog, err);
    if (r == 0)
        r = ramet_tags_load(catalog, err);
    if (r == 0)
        r = ramet_branches_load(catalog, err);
    raise_serials(catalog);
    if (r < 0) {
        ramet_catalog_close(catalog);
        return r;
    }
    *ret = catalog;
    return 0;
}

void ramet_catalog_close(struct ramet_catalog *catalog)
{
    if (!catalog)
        return;
    uint64_t serial, object;
    for (size_t at = 0; ramet_u64map_next(&catalog->branches.serials, &at, &serial, &object);)
        ramet_branch_unref((struct ramet_branch *)(uintptr_t)object);
    for (size_t at = 0; ramet_u64map_next(&catalog->snapshots.serials, &at, &serial, &object);)
        ramet_snapshot_unref((struct ramet_snapshot *)(uintptr_t)object);
    ramet_members_free(&catalog->branches);
    ramet_members_free(&catalog->snapshots);
    free(catalog->branch_names);
    free(catalog->tags);
    free(catalog->branch_dir);
    ramet_image_set_free(catalog->images);
    pthread_mutex_destroy(&catalog->record_lock);
    pthread_mutex_destroy(&catalog->lock);
    pthread_mutex_destroy(&catalog->workspaces_lock);
    free(catalog);
}

size_t ramet_catalog_snapshot_count(struct ramet_catalog *catalog)
{
    pthread_mutex_lock(&catalog->lock);
    size_t count = catalog->snapshots.ids.count;
    pthread_mutex_unlock(&catalog->lock);
    return count;
}

struct ramet_store *ramet_catalog_store(struct ramet_catalog *catalog) { return catalog->store; }
struct ramet_image_set *ramet_catalog_images(struct ramet_catalog *catalog) { return catalog->images; }

void ramet_id_make(char id[RAMET_CATALOG_ID_SIZE])
{
    uint64_t bits;
    ramet_random(&bits, sizeof bits);
    snprintf(id, RAMET_CATALOG_ID_SIZE, "%016llx", (unsigned long long)bits);
}

int ramet_id_load(char id[RAMET_CATALOG_ID_SIZE], const void *key, size_t size, const char *what,
                  struct ramet_error *err)
{
    const char *text = key;
    bool is_id = size == RAMET_CATALOG_ID_SIZE - 1;
    for (size_t i = 0; i < size && is_id; i++)
        is_id = (text[i] >= '0' && text[i] <= '9') || (text[i] >= 'a' && text[i] <= 'f');
    if (!is_id)
        return ramet_error_set(err, RAMET_CORRUPT, "the index holds a %s with %zu bytes in place of an id", what, size);
    memcpy(id, text, size);
    id[size] = '\0';
    return 0;
}

void ramet_disk_name(char name[RAMET_DISK_NAME_SIZE], size_t index)
{
    snprintf(name, RAMET_DISK_NAME_SIZE, "disk%u", (unsigned)index);
}

int ramet_name_check(const char *name, const char *what, struct ramet_error *err)
{
    static const char first[] = "abcdefghijklmnopqrstuvwxyz0123456789";
    static const char rest[] = "abcdefghijklmnopqrstuvwxyz0123456789._-";
    size_t size = strlen(name);
    bool like_id = size == RAMET_CATALOG_ID_SIZE - 1 && strspn(name, "0123456789abcdef") == size;
    if (size > 0 && size < RAMET_CATALOG_NAME_SIZE && strchr(first, name[0]) && strspn(name, rest) == size && !like_id)
        return 0;
    ramet_error_set(err, RAMET_INVALID, "\"%.80s\" is no valid %s", name, what);
    return ramet_error_hint(err, "use 1 to %d of a-z 0-9 . _ -, beginning with a letter or digit, not 16 hex digits",
                            RAMET_CATALOG_NAME_SIZE - 1);
}

static int mark(void *ctx, struct ramet_gc *gc, struct ramet_error *err)
{
    struct ramet_catalog *catalog = ctx;
    int r = ramet_image_set_mark(catalog->images, gc, err);
    return r < 0 ? r : ramet_workspaces_mark(catalog, gc, err);
}

int ramet_catalog_gc(struct ramet_catalog *catalog, struct ramet_gc_result *ret, struct ramet_error *err)
{
    return ramet_store_gc(catalog->store, mark, catalog, ret, err);
}
