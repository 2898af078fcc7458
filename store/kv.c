/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RocksDB behind kv.h. Each family is a column family, so that the index (random point
 * lookups, many small entries) has filters of its own while a batch still commits
 * across all of them atomically.
 *
 * Opening replays the write-ahead log: what was not flushed goes through a skip list
 * once more. So memtables are small, the log is short, a large batch is flushed right
 * after it was written, entries of the index reach the list in order (a quarter of the
 * time), and closing flushes. docs/performance.md, "Index", has what each choice here
 * was measured against.
 *
 * After a crash the log may be torn, and is replayed up to there. Opening then writes what
 * it replayed into tables and moves every family past all logs it found, in one synced
 * record of the manifest, before it returns (RocksDB's avoid_flush_during_recovery must stay
 * off): the torn log is never read again and cannot cut off what a later one holds. So no
 * acknowledged write depends on closing, or on its flush.
 *
 * A flush that fails for good, as when reads fail for ever, is fatal to RocksDB: it is not
 * tried again, its thread pauses for a second, and closing waits for that and no longer.
 * On a full disk RocksDB waits for space, which closing calls off.
 */
#include "kv.h"

#include "base/cleanup.h"
#include "base/codec.h"
#include "journal.h"
#include "manifest.h"
#include "tables.h"
#include "witness.h"

#include <dirent.h>
#include <rocksdb/c.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char *const family_names[RAMET_KV_FAMILY_COUNT] = {
    [RAMET_KV_META] = "default",          [RAMET_KV_INDEX] = "index", [RAMET_KV_FRAMES] = "frames",
    [RAMET_KV_SNAPSHOTS] = "snapshots",   [RAMET_KV_REFS] = "refs",   [RAMET_KV_BRANCHES] = "branches",
    [RAMET_KV_WORKSPACES] = "workspaces",
};

enum {
    block_cache_bytes = 32 << 20,
    write_buffer_bytes = 8 << 20,
    log_bytes = 16 << 20,
    large_batch_bytes = 4 << 20,
    get_many_max = 512,
};

struct ramet_kv {
    char *dir;
    rocksdb_t *db;
    rocksdb_column_family_handle_t *families[RAMET_KV_FAMILY_COUNT];
    rocksdb_cache_t *cache;
    rocksdb_readoptions_t *read, *walk;
    struct ramet_witness *witness;
    _Atomic bool write_failed; /* whether the batch is there is not known, and RocksDB may abort on another */
};

struct index_put {
    uint64_t key;
    uint8_t value[8];
};

struct ramet_kv_batch {
    rocksdb_writebatch_t *batch;
    struct ramet_kv *kv;
    struct ramet_buf journal; /* entries of journaled families */
    struct index_put *puts;   /* owned; to RAMET_KV_INDEX, sorted when written */
    size_t count, capacity;
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
    else if (strstr(text, "Corruption") || strstr(text, "No such file"))
        code = RAMET_CORRUPT;
    else if (strstr(text, "Read-only file system") || strstr(text, "Permission denied"))
        code = RAMET_READ_ONLY;
    else if (strstr(text, "lock "))
        code = RAMET_BUSY;
    int r = ramet_error_set(err, code, "%s: %s", doing, text);
    rocksdb_free(text);
    return code == RAMET_CORRUPT && err
               ? ramet_error_hint(err, "put the index back, or 'rametd --rebuild' makes it anew from the packs")
               : r;
}

static bool is_large(enum ramet_kv_family family) { return family == RAMET_KV_INDEX || family == RAMET_KV_FRAMES; }

static void set_table(const struct ramet_kv *kv, enum ramet_kv_family family, rocksdb_options_t *options)
{
    rocksdb_block_based_table_options_t *table = rocksdb_block_based_options_create();
    rocksdb_block_based_options_set_format_version(table, 5);
    rocksdb_block_based_options_set_block_cache(table, kv->cache);
    rocksdb_block_based_options_set_cache_index_and_filter_blocks(table, 1);
    if (is_large(family)) {
        /* Whole, a table's filter is megabytes: larger than a shard of the cache, so that every lookup read it anew. */
        rocksdb_block_based_options_set_index_type(table, rocksdb_block_based_table_index_type_two_level_index_search);
        rocksdb_block_based_options_set_pin_top_level_index_and_filter(table, 1);
    }
    if (family == RAMET_KV_INDEX) {
        rocksdb_block_based_options_set_partition_filters(table, 1);
        rocksdb_block_based_options_set_filter_policy(table, rocksdb_filterpolicy_create_ribbon_hybrid(10, 1));
    }
    rocksdb_options_set_block_based_table_factory(options, table);
    rocksdb_block_based_options_destroy(table);
}

static rocksdb_options_t *family_options(const struct ramet_kv *kv, enum ramet_kv_family family, rocksdb_env_t *env)
{
    rocksdb_options_t *options = rocksdb_options_create();
    set_table(kv, family, options);
    rocksdb_options_set_compression(options, rocksdb_lz4_compression);
    if (is_large(family))
        rocksdb_options_set_bottommost_compression(options, rocksdb_zstd_compression);
    if (family == RAMET_KV_INDEX) {
        /* Most lookups miss the memtable; a bloom filter saves them the skip list. */
        rocksdb_options_set_memtable_prefix_bloom_size_ratio(options, 0.05);
        rocksdb_options_set_memtable_whole_key_filtering(options, 1);
    }
    rocksdb_options_set_level_compaction_dynamic_level_bytes(options, 1);
    rocksdb_options_set_write_buffer_size(options, write_buffer_bytes);
    rocksdb_options_set_max_total_wal_size(options, log_bytes);
    rocksdb_options_set_create_if_missing(options, 1);
    rocksdb_options_set_create_missing_column_families(options, 1);
    rocksdb_options_set_paranoid_checks(options, 1);
    rocksdb_options_set_env(options, env);
    rocksdb_options_set_wal_recovery_mode(options, rocksdb_point_in_time_recovery); /* and see check_witness */
    rocksdb_options_set_max_background_jobs(options, 2);
    rocksdb_options_set_max_open_files(options, 256);
    /* One a family: starting them costs more than they save. */
    rocksdb_options_set_max_file_opening_threads(options, 1);
    /* Nothing after opening: with assertions, as Debian builds it, RocksDB aborts on a line after one that failed. */
    rocksdb_options_set_info_log_level(options, 4);
    rocksdb_options_set_keep_log_file_num(options, 2);
    return options;
}

static const char rebuild_hint[] = "its log or manifest is damaged or in part missing; put it back, or 'rametd "
                                   "--rebuild' makes the index anew from the packs";

/* What was acknowledged must be there: the log is replayed up to the first record that does not verify. */
static int check_witness(struct ramet_kv *kv, struct ramet_error *err)
{
    uint64_t acknowledged, found = rocksdb_get_latest_sequence_number(kv->db);
    int r = ramet_witness_open(kv->dir, &kv->witness, &acknowledged, err);
    if (r < 0 || found >= acknowledged)
        return r;
    ramet_error_set(err, RAMET_CORRUPT, "the index %s ends at write %llu, and %llu were acknowledged", kv->dir,
                    (unsigned long long)found, (unsigned long long)acknowledged);
    return ramet_error_hint(err, rebuild_hint);
}

int ramet_kv_open(const char *dir, struct ramet_kv **ret, struct ramet_error *err)
{
    int r = ramet_manifest_check(dir, err);
    if (r == 0)
        r = ramet_tables_check(dir, err);
    if (r < 0)
        return ramet_error_hint(err, rebuild_hint);
    struct ramet_kv *kv = calloc(1, sizeof *kv);
    if (!kv || !(kv->dir = strdup(dir))) {
        free(kv);
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to open %s", dir);
    }
    kv->cache = rocksdb_cache_create_lru(block_cache_bytes);
    kv->read = rocksdb_readoptions_create();
    kv->walk = rocksdb_readoptions_create();
    rocksdb_readoptions_set_fill_cache(kv->walk, 0); /* a collection walks all: lookups keep their blocks */
    /* There are none. Looking for them, 7.8 takes a table whose first block cannot be read for the end of its level. */
    rocksdb_readoptions_set_ignore_range_deletions(kv->read, 1);
    rocksdb_readoptions_set_ignore_range_deletions(kv->walk, 1);
    const rocksdb_options_t *options[RAMET_KV_FAMILY_COUNT];
    rocksdb_options_t *owned[RAMET_KV_FAMILY_COUNT];
    rocksdb_env_t *env = rocksdb_create_default_env(); /* the process's own, which is never freed */
    rocksdb_env_lower_thread_pool_cpu_priority(env);   /* compactions give way to readers */
    for (int i = 0; i < RAMET_KV_FAMILY_COUNT; i++)
        options[i] = owned[i] = family_options(kv, (enum ramet_kv_family)i, env);
    char *text = NULL;
    kv->db = rocksdb_open_column_families(owned[0], dir, RAMET_KV_FAMILY_COUNT, (const char *const *)family_names,
                                          options, kv->families, &text);
    for (int i = 0; i < RAMET_KV_FAMILY_COUNT; i++)
        rocksdb_options_destroy(owned[i]);
    rocksdb_env_destroy(env);
    if (text) {
        kv->db = NULL;
        ramet_kv_close(kv);
        return fail(text, "cannot open the index", err);
    }
    r = check_witness(kv, err);
    if (r < 0) {
        ramet_kv_close(kv);
        return r;
    }
    *ret = kv;
    return 0;
}

/* Starts to write all memtables out, or waits until that is done. Failing costs time at the next opening. */
static void flush(struct ramet_kv *kv, bool wait)
{
    rocksdb_flushoptions_t *options = rocksdb_flushoptions_create();
    rocksdb_flushoptions_set_wait(options, wait);
    for (int i = 0; i < RAMET_KV_FAMILY_COUNT; i++) {
        char *text = NULL;
        rocksdb_flush_cf(kv->db, options, kv->families[i], &text);
        rocksdb_free(text);
    }
    rocksdb_flushoptions_destroy(options);
}

void ramet_kv_close(struct ramet_kv *kv)
{
    if (!kv)
        return;
    if (kv->db) {
        flush(kv, true);
        for (int i = 0; i < RAMET_KV_FAMILY_COUNT; i++)
            rocksdb_column_family_handle_destroy(kv->families[i]);
        rocksdb_close(kv->db);
    }
    ramet_witness_close(kv->witness);
    rocksdb_readoptions_destroy(kv->read);
    rocksdb_readoptions_destroy(kv->walk);
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
    size_t sizes[get_many_max];
    rocksdb_pinnableslice_t *slices[get_many_max];
    char *texts[get_many_max];
    if (count == 0 || count > get_many_max)
        return ramet_error_set(err, RAMET_INTERNAL, "%zu keys at once, 1 to %d", count, get_many_max);
    for (size_t i = 0; i < count; i++) {
        key_list[i] = (const char *)keys[i];
        sizes[i] = sizeof keys[i];
    }
    rocksdb_batched_multi_get_cf(kv->db, kv->read, kv->families[family], count, key_list, sizes, slices, texts, 0);
    int r = 0;
    for (size_t i = 0; i < count; i++) {
        size_t size = 0;
        const char *value = slices[i] ? rocksdb_pinnableslice_value(slices[i], &size) : NULL;
        found[i] = value && size == sizeof values[i];
        if (found[i])
            memcpy(values[i], value, sizeof values[i]);
        if (slices[i])
            rocksdb_pinnableslice_destroy(slices[i]);
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
    free(batch->puts);
    free(batch);
}

void ramet_kv_batch_cleanup(struct ramet_kv_batch **batch) { ramet_kv_batch_free(*batch); }

/* False when memory is short: then the put goes the common way. */
static bool put_index(struct ramet_kv_batch *batch, const void *key, const void *value)
{
    if (batch->count == batch->capacity) {
        size_t capacity = batch->capacity ? batch->capacity * 2 : 1024;
        struct index_put *grown = reallocarray(batch->puts, capacity, sizeof *grown);
        if (!grown)
            return false;
        batch->puts = grown;
        batch->capacity = capacity;
    }
    struct index_put *put = &batch->puts[batch->count++];
    put->key = ramet_get_be64(key);
    memcpy(put->value, value, sizeof put->value);
    return true;
}

void ramet_kv_put(struct ramet_kv_batch *batch, enum ramet_kv_family family, const void *key, size_t key_size,
                  const void *value, size_t value_size)
{
    if (family == RAMET_KV_INDEX && key_size == 8 && value_size == 8 && put_index(batch, key, value))
        return;
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
static int compare_put(const void *a, const void *b)
{
    uint64_t x = ((const struct index_put *)a)->key, y = ((const struct index_put *)b)->key;
    return (x > y) - (x < y);
}

static void add_index_puts(struct ramet_kv_batch *batch)
{
    if (batch->count)
        qsort(batch->puts, batch->count, sizeof *batch->puts, compare_put);
    for (size_t i = 0; i < batch->count; i++) {
        char key[8];
        ramet_put_be64(key, batch->puts[i].key);
        rocksdb_writebatch_put_cf(batch->batch, batch->kv->families[RAMET_KV_INDEX], key, sizeof key,
                                  (const char *)batch->puts[i].value, sizeof batch->puts[i].value);
    }
    batch->count = 0;
}

int ramet_kv_writable(const struct ramet_kv *kv, struct ramet_error *err)
{
    if (!atomic_load(&kv->write_failed))
        return 0;
    ramet_error_set(err, RAMET_IO, "an earlier write to the index failed; the store takes no more writes");
    ramet_error_hint(err, "check the disk and its free space, then restart the daemon: "
                          "everything acknowledged before is safe");
    return -RAMET_IO;
}

int ramet_kv_write(struct ramet_kv *kv, struct ramet_kv_batch *batch, bool sync, struct ramet_error *err)
{
    char *text = NULL;
    size_t size;
    int r = ramet_kv_writable(kv, err);
    if (r < 0)
        return r;
    add_index_puts(batch);
    /* Others may write between: this batch ends here or later, and its sync covers all before it. */
    uint64_t reached = rocksdb_get_latest_sequence_number(kv->db) + (uint64_t)rocksdb_writebatch_count(batch->batch);
    rocksdb_writeoptions_t *options = rocksdb_writeoptions_create();
    rocksdb_writeoptions_set_sync(options, sync);
    rocksdb_write(kv->db, options, batch->batch, &text);
    rocksdb_writeoptions_destroy(options);
    if (text) {
        atomic_store(&kv->write_failed, true);
        return fail(text, "cannot write the index", err);
    }
    if (sync)
        ramet_witness_raise(kv->witness, reached);
    rocksdb_writebatch_data(batch->batch, &size);
    rocksdb_writebatch_clear(batch->batch);
    batch->journal.size = 0;
    if (size >= large_batch_bytes)
        flush(kv, false); /* by itself RocksDB would not before the next write, however much later that is */
    return 0;
}

struct ramet_kv_iter *ramet_kv_iter_new(struct ramet_kv *kv, enum ramet_kv_family family, const void *from,
                                        size_t from_size)
{
    struct ramet_kv_iter *iter = calloc(1, sizeof *iter);
    if (!iter)
        return NULL;
    iter->it = rocksdb_create_iterator_cf(kv->db, kv->walk, kv->families[family]);
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

uint64_t ramet_kv_memory_bytes(struct ramet_kv *kv)
{
    uint64_t total = rocksdb_cache_get_usage(kv->cache), bytes;
    for (int i = 0; i < RAMET_KV_FAMILY_COUNT; i++)
        if (rocksdb_property_int_cf(kv->db, kv->families[i], "rocksdb.size-all-mem-tables", &bytes) == 0)
            total += bytes;
    return total;
}

uint64_t ramet_kv_disk_bytes(struct ramet_kv *kv)
{
    uint64_t total = 0;
    DIR *dir = opendir(kv->dir);
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        struct stat st;
        if (fstatat(dirfd(dir), entry->d_name, &st, 0) == 0 && S_ISREG(st.st_mode))
            total += (uint64_t)st.st_size;
    }
    if (dir)
        closedir(dir);
    return total;
}
