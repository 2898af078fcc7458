/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz.h"

#include "base/file.h"
#include "base/log.h"
#include "base/record.h"
#include "frame.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { page = RAMET_PAGE_SIZE, journal_magic = 0x524a4d52, frame_magic = 0x52464d52, snapshot_magic = 0x4e534d52 };

static char dir[64];
static struct ramet_store *store;
static ramet_chunk first_chunk;

/* The sanitizer's: an allocation that is too large fails, as it does outside. */
const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "allocator_may_return_null=1"; }

void fuzz_check(bool condition, const char *what)
{
    if (condition)
        return;
    fprintf(stderr, "not so: %s\n", what);
    abort();
}

static void remove_dir(void) { ramet_dir_remove(dir, NULL); }
static void close_store(void) { ramet_store_close(store); }

const char *fuzz_dir(void)
{
    struct stat st;
    if (dir[0])
        return dir;
    ramet_log_set_level(RAMET_LOG_ERROR);
    snprintf(dir, sizeof dir, "%s/ramet-fuzz-XXXXXX", stat("/dev/shm", &st) == 0 ? "/dev/shm" : "/tmp");
    FUZZ_CHECK(mkdtemp(dir));
    atexit(remove_dir);
    return dir;
}

/* --- the store --- */

void fuzz_put(enum ramet_kv_family family, const void *key, size_t key_size, const void *value, size_t value_size)
{
    struct ramet_kv *kv = ramet_store_kv(fuzz_store());
    struct ramet_kv_batch *batch = ramet_kv_batch_new(kv);
    if (value)
        ramet_kv_put(batch, family, key, key_size, value, value_size);
    else
        ramet_kv_delete(batch, family, key, key_size);
    FUZZ_CHECK(ramet_kv_write(kv, batch, false, NULL) == 0);
    ramet_kv_batch_free(batch);
}

static void put_snapshot(ramet_chunk root)
{
    struct ramet_buf buf = {0};
    ramet_record_begin(&buf);
    ramet_buf_put_u64(&buf, 1);
    for (int i = 0; i < 3; i++)
        ramet_buf_put_str(&buf, NULL);
    ramet_buf_put_u64(&buf, 0);
    ramet_buf_put_u64(&buf, 1 << 20);
    ramet_buf_put_u32(&buf, 1);
    ramet_buf_put_str(&buf, NULL);
    ramet_buf_put_u64(&buf, 0);
    ramet_buf_put_u64(&buf, 0);
    ramet_buf_put_u32(&buf, 1);
    ramet_buf_put_str(&buf, "disk0");
    ramet_buf_put_u64(&buf, 40 * page);
    ramet_buf_put_u64(&buf, root);
    FUZZ_CHECK(ramet_record_end(&buf, snapshot_magic, 1, NULL) == 0);
    fuzz_put(RAMET_KV_SNAPSHOTS, FUZZ_SNAPSHOT, strlen(FUZZ_SNAPSHOT), buf.data, buf.size);
    ramet_buf_free(&buf);
}

struct ramet_store *fuzz_store(void)
{
    if (store)
        return store;
    const struct ramet_store_options options = {.threads = 1};
    struct ramet_page_map map = {.page_count = 40};
    struct ramet_page_change changes[10];
    struct ramet_ingest *ingest;
    char path[96];
    snprintf(path, sizeof path, "%s/store", fuzz_dir());
    FUZZ_CHECK(ramet_store_open(path, &options, &store, NULL) == 0);
    atexit(close_store); /* only now: before RocksDB's own go */
    FUZZ_CHECK(ramet_ingest_begin(store, &ingest, NULL) == 0);
    for (size_t i = 0; i < 10; i++) {
        uint8_t bytes[page];
        memset(bytes, (int)i + 1, sizeof bytes);
        changes[i].page = i * 3;
        FUZZ_CHECK(ramet_ingest_put(ingest, RAMET_CHUNK_DATA, bytes, 1, NULL, &changes[i].chunk, NULL) == 0);
    }
    first_chunk = changes[0].chunk;
    FUZZ_CHECK(ramet_page_map_update(ingest, store, &map, changes, 10, &map, NULL) == 0);
    FUZZ_CHECK(ramet_ingest_commit(ingest, NULL, NULL) == 0);
    ramet_ingest_end(ingest);
    put_snapshot(map.root);
    return store;
}

ramet_chunk fuzz_chunk(void)
{
    fuzz_store();
    return first_chunk;
}

struct ramet_catalog *fuzz_catalog(void)
{
    struct ramet_catalog *catalog;
    struct ramet_error err = {0};
    int r = ramet_catalog_open(fuzz_store(), &catalog, &err);
    FUZZ_CHECK(r == 0 || (err.code == -r && err.msg[0]));
    return r == 0 ? catalog : NULL;
}

/* --- checksums --- */

void fuzz_seal_record(uint8_t *record, size_t size, uint32_t magic, uint16_t version)
{
    if (size < RAMET_RECORD_HEADER)
        return;
    ramet_put_le32(record, magic);
    ramet_put_le16(record + 4, version);
    ramet_put_le16(record + 6, 0);
    ramet_put_le32(record + 8, (uint32_t)(size - RAMET_RECORD_HEADER));
    ramet_put_le32(record + 12, 0);
    ramet_put_le64(record + 16, ramet_checksum(record, 16, record + RAMET_RECORD_HEADER, size - RAMET_RECORD_HEADER));
}

void fuzz_seal_frame(uint8_t *record, size_t size)
{
    uint8_t head[32];
    if (size < RAMET_FRAME_HEADER || ramet_get_le32(record + 20) > size - RAMET_FRAME_HEADER)
        return;
    memcpy(head, record, 24);
    ramet_put_le64(head + 24, FUZZ_KEY);
    ramet_put_le64(record + 24,
                   ramet_checksum(head, sizeof head, record + RAMET_FRAME_HEADER, ramet_get_le32(record + 20)));
}

void fuzz_seal_journal(uint8_t *record, size_t size)
{
    if (size < RAMET_RECORD_HEADER + 12)
        return;
    ramet_put_le64(record + RAMET_RECORD_HEADER + 4, FUZZ_KEY);
    fuzz_seal_record(record, size, journal_magic, 1);
}

void fuzz_seal_pack(uint8_t *bytes, size_t size)
{
    /* From the end, so that a record holds what was sealed within it. */
    for (size_t at = size; at-- > 0;) {
        size_t left = size - at;
        if (left >= RAMET_FRAME_HEADER && ramet_get_le32(bytes + at) == frame_magic)
            fuzz_seal_frame(bytes + at, left);
        if (left >= RAMET_RECORD_HEADER && ramet_get_le32(bytes + at) == journal_magic &&
            ramet_get_le32(bytes + at + 8) <= left - RAMET_RECORD_HEADER)
            fuzz_seal_journal(bytes + at, RAMET_RECORD_HEADER + (size_t)ramet_get_le32(bytes + at + 8));
    }
}
