/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RocksDB behind kv.h. Each family is a column family, so that the index (random
 * point lookups, many small entries) has bloom filters of its own while a batch
 * still commits across all of them atomically.
 */
#include "kv.h"

#include "base/cleanup.h"
#include "journal.h"

#include <dirent.h>
#include <rocksdb/c.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char *const family_names[RAMET_KV_FAMILY_COUNT] = {
    [RAMET_KV_META] = "default",        [RAMET_KV_INDEX] = "index", [RAMET_KV_FRAMES] = "frames",
    [RAMET_KV_SNAPSHOTS] = "snapshots", [RAMET_KV_REFS] = "refs",   [RAMET_KV_BRANCHES] = "branches",
};

enum { block_cache_bytes = 32 << 20, write_buffer_bytes = 16 << 20, get_many_max = 512 };

struct ramet_kv {
    char *dir;
    rocksdb_t *db;
    rocksdb_column_family_handle_t *families[RAMET_KV_FAMILY_COUNT];
    rocksdb_cache_t *cache;
    rocksdb_readoptions_t *read;
};

struct ramet_kv_batch {
    rocksdb_writebatch_t *batch;
    struct ramet_kv *kv;
    struct ramet_buf journal; /* entries of journaled families */
};

struct ramet_kv_iter {
    rocksdb_iterator_t *it;
    bool started;
};

/* Takes over RocksDB's message. */
static int fail(char *text, const char *doing, struct ramet_error *err)
{
    enum ramet_code code = RAMET_IO;
    if (strstr(text, "No space left"))
        code = RAMET_NO_SPACE;
    else if (strstr(text, "Corruption"))
        code = RAMET_CORRUPT;
    else if (strstr(text, "Read-only file system") || strstr(text, "Permission denied"))
        code = RAMET_READ_ONLY;
    else if (strstr(text, "lock "))
        code = RAMET_BUSY;
    int r = ramet_error_set(err, code, "%s: %s", doing, text);
    rocksdb_free(text);
    return r;
}

static rocksdb_options_t *family_options(struct ramet_kv *kv, enum ramet_kv_family family)
{
    rocksdb_options_t *options = rocksdb_options_create();
    rocksdb_block_based_table_options_t *table = rocksdb_block_based_options_create();
    rocksdb_block_based_options_set_block_cache(table, kv->cache);
    rocksdb_block_based_options_set_cache_index_and_filter_blocks(table, 1);
    if (family == RAMET_KV_INDEX || family == RAMET_KV_FRAMES)
        rocksdb_block_based_options_set_filter_policy(table, rocksdb_filterpolicy_create_bloom_full(10));
    rocksdb_options_set_block_based_table_factory(options, table);
    rocksdb_block_based_options_destroy(table);
    rocksdb_options_set_write_buffer_size(options, write_buffer_bytes);
    rocksdb_options_set_compression(options, rocksdb_lz4_compression);
    rocksdb_options_set_create_if_missing(options, 1);
    rocksdb_options_set_create_missing_column_families(options, 1);
    rocksdb_options_set_paranoid_checks(options, 1);
    rocksdb_options_set_max_background_jobs(options, 2);
    rocksdb_options_set_max_open_files(options, 256);
    rocksdb_options_set_max_total_wal_size(options, 64 << 20);
    rocksdb_options_set_info_log_level(options, 2); /* warnings */
    rocksdb_options_set_keep_log_file_num(options, 2);
    return options;
}

int ramet_kv_open(const char *dir, struct ramet_kv **ret, struct ramet_error *err)
{
    struct ramet_kv *kv = calloc(1, sizeof *kv);
    if (!kv || !(kv->dir = strdup(dir))) {
        free(kv);
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to open %s", dir);
    }
    kv->cache = rocksdb_cache_create_lru(block_cache_bytes);
    kv->read = rocksdb_readoptions_create();
    const rocksdb_options_t *options[RAMET_KV_FAMILY_COUNT];
    rocksdb_options_t *owned[RAMET_KV_FAMILY_COUNT];
    for (int i = 0; i < RAMET_KV_FAMILY_COUNT; i++)
        options[i] = owned[i] = family_options(kv, (enum ramet_kv_family)i);
    char *text = NULL;
    kv->db = rocksdb_open_column_families(owned[0], dir, RAMET_KV_FAMILY_COUNT, (const char *const *)family_names,
                                          options, kv->families, &text);
    for (int i = 0; i < RAMET_KV_FAMILY_COUNT; i++)
        rocksdb_options_destroy(owned[i]);
    if (text) {
        kv->db = NULL;
        ramet_kv_close(kv);
        return fail(text, "cannot open the index", err);
    }
    *ret = kv;
    return 0;
}

void ramet_kv_close(struct ramet_kv *kv)
{
    if (!kv)
        return;
    if (kv->db) {
        for (int i = 0; i < RAMET_KV_FAMILY_COUNT; i++)
            rocksdb_column_family_handle_destroy(kv->families[i]);
        rocksdb_close(kv->db);
    }
    rocksdb_readoptions_destroy(kv->read);
    rocksdb_cache_destroy(kv->cache);
    free(kv->dir);
    free(kv);
}

int ramet_kv_get(struct ramet_kv *kv, enum ramet_kv_family family, const void *key, size_t key_size, void **ret,
                 size_t *ret_size, struct ramet_error *err)
{
    char *text = NULL;
    size_t size;
    char *value = rocksdb_get_cf(kv->db, kv->read, kv->families[family], key, key_size, &size, &text);
    if (text)
        return fail(text, "cannot read the index", err);
    if (!value)
        return ramet_error_set(err, RAMET_NOT_FOUND, "no such record in %s", family_names[family]);
    *ret = value;
    *ret_size = size;
    return 0;
}

int ramet_kv_get_many_u64(struct ramet_kv *kv, enum ramet_kv_family family, const uint8_t (*keys)[8], size_t count,
                          uint8_t (*values)[8], bool *found, struct ramet_error *err)
{
    const char *key_list[get_many_max];
    size_t sizes[get_many_max], value_sizes[get_many_max];
    char *value_list[get_many_max] = {0}, *texts[get_many_max] = {0};
    const rocksdb_column_family_handle_t *family_list[get_many_max];
    if (count == 0 || count > get_many_max)
        return ramet_error_set(err, RAMET_INTERNAL, "%zu keys at once, 1 to %d", count, get_many_max);
    for (size_t i = 0; i < count; i++) {
        key_list[i] = (const char *)keys[i];
        sizes[i] = sizeof keys[i];
        family_list[i] = kv->families[family];
    }
    rocksdb_multi_get_cf(kv->db, kv->read, family_list, count, key_list, sizes, value_list, value_sizes, texts);
    int r = 0;
    for (size_t i = 0; i < count; i++) {
        found[i] = value_list[i] && value_sizes[i] == sizeof values[i];
        if (found[i])
            memcpy(values[i], value_list[i], sizeof values[i]);
        rocksdb_free(value_list[i]);
        if (texts[i] && r == 0)
            r = fail(texts[i], "cannot read the index", err);
        else
            rocksdb_free(texts[i]);
    }
    return r;
}

struct ramet_kv_batch *ramet_kv_batch_new(struct ramet_kv *kv)
{
    struct ramet_kv_batch *batch = calloc(1, sizeof *batch);
    if (batch)
        *batch = (struct ramet_kv_batch){.batch = rocksdb_writebatch_create(), .kv = kv};
    return batch;
}

void ramet_kv_batch_free(struct ramet_kv_batch *batch)
{
    if (!batch)
        return;
    rocksdb_writebatch_destroy(batch->batch);
    ramet_buf_free(&batch->journal);
    free(batch);
}

void ramet_kv_batch_cleanup(struct ramet_kv_batch **batch) { ramet_kv_batch_free(*batch); }

void ramet_kv_put(struct ramet_kv_batch *batch, enum ramet_kv_family family, const void *key, size_t key_size,
                  const void *value, size_t value_size)
{
    rocksdb_writebatch_put_cf(batch->batch, batch->kv->families[family], key, key_size, value, value_size);
    if (ramet_kv_is_journaled(family))
        ramet_journal_note(&batch->journal, family, key, key_size, value, value_size);
}

void ramet_kv_delete(struct ramet_kv_batch *batch, enum ramet_kv_family family, const void *key, size_t key_size)
{
    rocksdb_writebatch_delete_cf(batch->batch, batch->kv->families[family], key, key_size);
    if (ramet_kv_is_journaled(family))
        ramet_journal_note(&batch->journal, family, key, key_size, NULL, 0);
}

struct ramet_buf *ramet_kv_batch_journal(struct ramet_kv_batch *batch) { return &batch->journal; }

int ramet_kv_write(struct ramet_kv *kv, struct ramet_kv_batch *batch, bool sync, struct ramet_error *err)
{
    char *text = NULL;
    rocksdb_writeoptions_t *options = rocksdb_writeoptions_create();
    rocksdb_writeoptions_set_sync(options, sync);
    rocksdb_write(kv->db, options, batch->batch, &text);
    rocksdb_writeoptions_destroy(options);
    if (text)
        return fail(text, "cannot write the index", err);
    rocksdb_writebatch_clear(batch->batch);
    batch->journal.size = 0;
    return 0;
}

struct ramet_kv_iter *ramet_kv_iter_new(struct ramet_kv *kv, enum ramet_kv_family family, const void *from,
                                        size_t from_size)
{
    struct ramet_kv_iter *iter = calloc(1, sizeof *iter);
    if (!iter)
        return NULL;
    iter->it = rocksdb_create_iterator_cf(kv->db, kv->read, kv->families[family]);
    if (from)
        rocksdb_iter_seek(iter->it, from, from_size);
    else
        rocksdb_iter_seek_to_first(iter->it);
    return iter;
}

bool ramet_kv_iter_next(struct ramet_kv_iter *iter, const void **ret_key, size_t *ret_key_size, const void **ret_value,
                        size_t *ret_value_size)
{
    if (iter->started)
        rocksdb_iter_next(iter->it);
    iter->started = true;
    if (!rocksdb_iter_valid(iter->it))
        return false;
    *ret_key = rocksdb_iter_key(iter->it, ret_key_size);
    *ret_value = rocksdb_iter_value(iter->it, ret_value_size);
    return true;
}

int ramet_kv_iter_status(struct ramet_kv_iter *iter, struct ramet_error *err)
{
    char *text = NULL;
    rocksdb_iter_get_error(iter->it, &text);
    return text ? fail(text, "cannot walk the index", err) : 0;
}

void ramet_kv_iter_free(struct ramet_kv_iter *iter)
{
    if (!iter)
        return;
    rocksdb_iter_destroy(iter->it);
    free(iter);
}

uint64_t ramet_kv_disk_bytes(struct ramet_kv *kv)
{
    uint64_t total = 0;
    DIR *dir = opendir(kv->dir);
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        struct stat st;
        if (fstatat(dirfd(dir), entry->d_name, &st, 0) == 0 && S_ISREG(st.st_mode))
            total += (uint64_t)st.st_blocks * 512;
    }
    if (dir)
        closedir(dir);
    return total;
}
