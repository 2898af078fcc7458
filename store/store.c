/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening, reading and closing a store.
 *
 *     DIR/LOCK            flock of the process that has it open, its pid inside
 *     DIR/store           the superblock: id, hash secret
 *     DIR/packs/          frame records
 *     DIR/index/          RocksDB
 *
 * Opening after a crash cuts every pack back to what its last commit recorded and
 * removes packs no commit ever named. Nothing else needs repair: records point only
 * at what was synced before them.
 */
#include "base/cleanup.h"
#include "base/codec.h"
#include "base/file.h"
#include "base/log.h"
#include "base/record.h"
#include "frame.h"
#include "store_private.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

enum {
    superblock_magic = 0x54534d52, /* "RMST" */
    superblock_version = 1,
    superblock_size = RAMET_RECORD_HEADER + RAMET_STORE_ID_SIZE + RAMET_HASH_SECRET,
    place_version = 1,
};

struct ramet_kv *ramet_store_kv(struct ramet_store *store) { return store->kv; }
const char *ramet_store_dir(const struct ramet_store *store) { return store->dir; }

/* --- opening --- */

static int take_lock(struct ramet_store *store, struct ramet_error *err)
{
    char path[PATH_MAX], owner[32] = "";
    snprintf(path, sizeof path, "%s/LOCK", store->dir);
    store->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (store->lock_fd < 0) {
        ramet_error_os(err, errno, "cannot open the store at %s", store->dir);
        return ramet_error_hint(err, "the directory must be writable; or place the store elsewhere with RAMET_STORE");
    }
    if (flock(store->lock_fd, LOCK_EX | LOCK_NB) < 0) {
        ssize_t n = pread(store->lock_fd, owner, sizeof owner - 1, 0);
        owner[n > 0 ? n : 0] = '\0';
        owner[strcspn(owner, "\n")] = '\0';
        ramet_error_set(err, RAMET_BUSY, "the store at %s is in use by process %s", store->dir, owner);
        return ramet_error_hint(err, "stop that daemon ('ramet down'), or use another store with RAMET_STORE");
    }
    int n = snprintf(owner, sizeof owner, "%d\n", (int)getpid());
    if (ftruncate(store->lock_fd, 0) < 0 || pwrite(store->lock_fd, owner, (size_t)n, 0) != n)
        return ramet_error_os(err, errno, "cannot write %s", path);
    return 0;
}

/* Publishes a fresh superblock: written aside, synced, renamed. */
static int make_superblock(struct ramet_store *store, const char *path, struct ramet_error *err)
{
    char aside[PATH_MAX + 8];
    snprintf(aside, sizeof aside, "%s.new", path);
    ramet_random(store->id, sizeof store->id);
    ramet_random(store->secret, sizeof store->secret);
    struct ramet_buf buf = {0};
    ramet_record_begin(&buf);
    ramet_buf_put(&buf, store->id, sizeof store->id);
    ramet_buf_put(&buf, store->secret, sizeof store->secret);
    int r = ramet_record_end(&buf, superblock_magic, superblock_version, err);
    _autoclose_ int fd = open(aside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (r == 0 && fd < 0)
        r = ramet_error_os(err, errno, "cannot make %s", aside);
    if (r == 0)
        r = ramet_file_write(fd, aside, buf.data, buf.size, 0, err);
    if (r == 0)
        r = ramet_file_sync(fd, aside, err);
    if (r == 0 && rename(aside, path) < 0)
        r = ramet_error_os(err, errno, "cannot publish %s", path);
    ramet_buf_free(&buf);
    return r < 0 ? r : ramet_dir_sync(store->dir, err);
}

static int load_superblock(struct ramet_store *store, struct ramet_error *err)
{
    char path[PATH_MAX];
    uint8_t data[superblock_size];
    struct ramet_reader reader;
    uint16_t found;
    snprintf(path, sizeof path, "%s/store", store->dir);
    _autoclose_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return make_superblock(store, path, err);
    if (fd < 0)
        return ramet_error_os(err, errno, "cannot open %s", path);
    int r = ramet_file_read(fd, path, data, sizeof data, 0, err);
    if (r == 0)
        r = ramet_record_open(data, sizeof data, superblock_magic, superblock_version, path, &reader, &found, err);
    if (r < 0)
        return r;
    memcpy(store->id, reader.data, sizeof store->id);
    memcpy(store->secret, reader.data + sizeof store->id, sizeof store->secret);
    return 0;
}

/* How far commits reached in `pack`; 0 when none named it. */
static int committed_size(struct ramet_store *store, uint32_t pack, uint64_t *ret, struct ramet_error *err)
{
    uint8_t key[RAMET_PACK_KEY_SIZE];
    _autofree_ void *value = NULL;
    size_t size;
    ramet_pack_key(key, pack);
    int r = ramet_kv_get(store->kv, RAMET_KV_META, key, sizeof key, &value, &size, err);
    *ret = r == 0 && size == 8 ? ramet_get_le64(value) : 0;
    return r == -RAMET_NOT_FOUND ? 0 : r;
}

int ramet_store_recover_packs(struct ramet_store *store, struct ramet_error *err)
{
    _autofree_ uint32_t *packs = NULL;
    size_t count;
    uint64_t committed = 0, size = 0;
    int r = ramet_packs_list(store->packs, &packs, &count, err);
    uint32_t kept = 0;
    for (size_t i = 0; i < count && r == 0; i++) {
        uint64_t reach; /* of this pack: `committed` is the last kept one's */
        if ((r = committed_size(store, packs[i], &reach, err)) < 0)
            break;
        if (reach == 0) {
            r = ramet_packs_remove(store->packs, packs[i], err);
            continue;
        }
        kept = packs[i];
        committed = reach;
        if ((r = ramet_packs_size(store->packs, packs[i], &size, err)) == 0 && size > committed)
            r = ramet_packs_cut(store->packs, packs[i], committed, err);
        else if (r == 0 && size < committed)
            ramet_warn("pack %08x has %" PRIu64 " of its %" PRIu64 " bytes; run 'ramet store fsck'", packs[i], size,
                       committed);
    }
    if (r < 0 || !kept)
        return r;
    /* A pack that lost its tail is never appended to: the lost range must stay an error. */
    if (size >= committed && ramet_packs_check(store->packs, kept, NULL) == 0)
        return ramet_packs_continue(store->packs, kept, committed, err);
    ramet_packs_rotate(store->packs, kept);
    return 0;
}

static int load_next_frame(struct ramet_store *store, struct ramet_error *err)
{
    _autofree_ void *value = NULL;
    size_t size;
    atomic_store(&store->next_frame, 1);
    int r = ramet_kv_get(store->kv, RAMET_KV_META, "next-frame", 10, &value, &size, err);
    if (r == -RAMET_NOT_FOUND)
        return 0;
    if (r == 0)
        atomic_store(&store->next_frame, ramet_get_le64(value));
    return r;
}

static int open_parts(struct ramet_store *store, struct ramet_error *err)
{
    char path[PATH_MAX];
    int r = take_lock(store, err);
    if (r == 0)
        r = load_superblock(store, err);
    snprintf(path, sizeof path, "%s/packs", store->dir);
    if (r == 0)
        r = ramet_dir_make(path, 0700, err);
    if (r == 0)
        r = ramet_packs_open(path, store->id, store->options.pack_bytes, &store->packs, err);
    snprintf(path, sizeof path, "%s/index", store->dir);
    if (r == 0)
        r = ramet_kv_open(path, &store->kv, err);
    if (r == 0)
        r = ramet_store_recover_packs(store, err);
    return r == 0 ? load_next_frame(store, err) : r;
}

int ramet_store_open(const char *dir, const struct ramet_store_options *options, struct ramet_store **ret,
                     struct ramet_error *err)
{
    int r = ramet_dir_make(dir, 0700, err);
    if (r < 0)
        return ramet_error_hint(err, "the store's directory must be writable; RAMET_STORE places it elsewhere");
    struct ramet_store *store = calloc(1, sizeof *store);
    if (!store)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to open %s", dir);
    store->lock_fd = -1;
    store->options = options ? *options : (struct ramet_store_options){0};
    store->options.cache_bytes = store->options.cache_bytes ? store->options.cache_bytes : 64u << 20;
    store->options.frame_slots = store->options.frame_slots ? store->options.frame_slots : 4;
    store->options.pack_bytes = store->options.pack_bytes ? store->options.pack_bytes : UINT64_C(256) << 20;
    store->options.zstd_level = store->options.zstd_level ? store->options.zstd_level : 1;
    snprintf(store->dir, sizeof store->dir, "%s", dir);
    pthread_mutex_init(&store->commit_lock, NULL);
    pthread_mutex_init(&store->pending_lock, NULL);
    pthread_mutex_init(&store->gc_lock, NULL);
    pthread_mutex_init(&store->session_lock, NULL);
    pthread_cond_init(&store->session_ended, NULL);
    store->cache = ramet_frame_cache_new(store->options.cache_bytes);
    r = store->cache ? open_parts(store, err) : ramet_error_set(err, RAMET_NO_MEMORY, "no memory to open %s", dir);
    if (r < 0) {
        ramet_store_close(store);
        return r;
    }
    *ret = store;
    return 0;
}

void ramet_store_close(struct ramet_store *store)
{
    if (!store)
        return;
    ramet_pending_free_all(store);
    ramet_packs_close(store->packs);
    ramet_kv_close(store->kv);
    ramet_frame_cache_free(store->cache);
    if (store->lock_fd >= 0)
        close(store->lock_fd);
    pthread_mutex_destroy(&store->commit_lock);
    pthread_mutex_destroy(&store->pending_lock);
    pthread_mutex_destroy(&store->gc_lock);
    pthread_mutex_destroy(&store->session_lock);
    pthread_cond_destroy(&store->session_ended);
    free(store);
}

/* --- reading --- */

void ramet_place_encode(uint8_t value[RAMET_PLACE_SIZE], unsigned slots, const struct ramet_place *place)
{
    value[0] = place_version;
    value[1] = (uint8_t)slots;
    ramet_put_le16(value + 2, 0);
    ramet_put_le32(value + 4, place->pack);
    ramet_put_le32(value + 8, place->size);
    ramet_put_le64(value + 12, place->offset);
}

int ramet_place_decode(const void *value, size_t size, unsigned *ret_slots, struct ramet_place *ret,
                       struct ramet_error *err)
{
    const uint8_t *p = value;
    if (size != RAMET_PLACE_SIZE || p[0] != place_version || p[1] < 1 || p[1] > RAMET_FRAME_SLOTS ||
        ramet_get_le32(p + 8) > RAMET_FRAME_RECORD_MAX || ramet_get_le32(p + 8) < RAMET_FRAME_HEADER)
        return ramet_error_set(err, RAMET_CORRUPT, "a frame's place record is damaged");
    *ret_slots = p[1];
    *ret = (struct ramet_place){ramet_get_le32(p + 4), ramet_get_le32(p + 8), ramet_get_le64(p + 12)};
    return 0;
}

int ramet_store_place(struct ramet_store *store, uint64_t frame, struct ramet_place *ret, struct ramet_error *err)
{
    uint8_t key[8];
    _autofree_ void *value = NULL;
    size_t size;
    unsigned slots;
    ramet_put_be64(key, frame);
    int r = ramet_kv_get(store->kv, RAMET_KV_FRAMES, key, sizeof key, &value, &size, err);
    if (r == -RAMET_NOT_FOUND)
        return ramet_error_set(err, RAMET_CORRUPT, "frame %" PRIu64 " is missing from the store", frame);
    return r < 0 ? r : ramet_place_decode(value, size, &slots, ret, err);
}

/* Reads, verifies and caches the frame at `place`. */
static int load_frame(struct ramet_store *store, uint64_t frame, const struct ramet_place *place,
                      uint8_t pages[RAMET_FRAME_MAX_BYTES], unsigned *ret_slots, struct ramet_error *err)
{
    uint8_t record[RAMET_FRAME_RECORD_MAX];
    int r = ramet_packs_read(store->packs, place, record, err);
    if (r == 0)
        r = ramet_frame_decode(record, place->size, frame, pages, ret_slots, err);
    if (r == 0)
        ramet_frame_cache_insert(store->cache, frame, pages, *ret_slots);
    return r;
}

/*
 * The slow path: not cached. A collection may move the frame between looking its place
 * up and reading there, so a failed read looks again and only the same place twice is
 * an error.
 */
static int read_uncached(struct ramet_store *store, ramet_chunk chunk, size_t offset, void *buf, size_t size,
                         struct ramet_error *err)
{
    uint64_t frame = ramet_chunk_frame(chunk);
    unsigned slot = ramet_chunk_slot(chunk), slots = 0;
    struct ramet_place place, last = {0};
    uint8_t pages[RAMET_FRAME_MAX_BYTES];
    for (;;) {
        int r, held = ramet_pending_read(store, frame, slot, offset, buf, size, &place);
        if (held == 1)
            return 0;
        if (held == 0 && (r = ramet_store_place(store, frame, &place, err)) < 0)
            return r;
        r = load_frame(store, frame, &place, pages, &slots, err);
        if (r == 0 && slot >= slots)
            return ramet_error_set(err, RAMET_CORRUPT, "frame %" PRIu64 " holds %u pages, page %u was asked for", frame,
                                   slots, slot);
        if (r == 0) {
            memcpy(buf, pages + (size_t)slot * RAMET_PAGE_SIZE + offset, size);
            return 0;
        }
        if (last.pack == place.pack && last.offset == place.offset) {
            if (r == -RAMET_NOT_FOUND && err)
                err->code = RAMET_CORRUPT; /* a pack that is gone */
            ramet_error_prefix(err, "pack %08x at %" PRIu64, place.pack, place.offset);
            ramet_error_hint(err, "run 'ramet store fsck' to see which snapshots need it");
            return r == -RAMET_NOT_FOUND ? -RAMET_CORRUPT : r;
        }
        last = place;
    }
}

int ramet_store_read_part(struct ramet_store *store, ramet_chunk chunk, size_t offset, void *buf, size_t size,
                          struct ramet_error *err)
{
    if (chunk == RAMET_CHUNK_ZERO) {
        memset(buf, 0, size);
        return 0;
    }
    if (ramet_frame_cache_read(store->cache, ramet_chunk_frame(chunk), ramet_chunk_slot(chunk), offset, buf, size))
        return 0;
    return read_uncached(store, chunk, offset, buf, size, err);
}

int ramet_store_read(struct ramet_store *store, const ramet_chunk *chunks, size_t count, void *buf,
                     struct ramet_error *err)
{
    int r = 0;
    for (size_t i = 0; i < count && r == 0; i++)
        r = ramet_store_read_part(store, chunks[i], 0, (uint8_t *)buf + i * RAMET_PAGE_SIZE, RAMET_PAGE_SIZE, err);
    return r;
}

void ramet_store_drop_caches(struct ramet_store *store) { ramet_frame_cache_clear(store->cache); }

int ramet_store_stat(struct ramet_store *store, struct ramet_store_stat *ret, struct ramet_error *err)
{
    struct ramet_store_stat stat = {0};
    uint32_t packs;
    stat.pack_bytes = ramet_packs_disk_bytes(store->packs, &packs);
    stat.packs = packs;
    stat.index_bytes = ramet_kv_disk_bytes(store->kv);
    stat.dedup_hits = atomic_load(&store->dedup_hits);
    stat.dedup_misses = atomic_load(&store->dedup_misses);
    ramet_frame_cache_counters(store->cache, &stat.cache_hits, &stat.cache_misses);
    struct ramet_kv_iter *iter = ramet_kv_iter_new(store->kv, RAMET_KV_FRAMES, NULL, 0);
    if (!iter)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to count frames");
    const void *key, *value;
    size_t key_size, value_size;
    unsigned slots;
    struct ramet_place place;
    while (ramet_kv_iter_next(iter, &key, &key_size, &value, &value_size))
        if (ramet_place_decode(value, value_size, &slots, &place, NULL) == 0) {
            stat.frames++;
            stat.chunks += slots;
        }
    int r = ramet_kv_iter_status(iter, err);
    ramet_kv_iter_free(iter);
    if (r == 0)
        *ret = stat;
    return r;
}
