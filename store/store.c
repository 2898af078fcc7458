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
    superblock_version = 2,
    superblock_size = RAMET_RECORD_HEADER + RAMET_STORE_ID_SIZE + RAMET_HASH_SECRET,
};

static const char id_key[] = "store-id";

struct ramet_kv *ramet_store_kv(struct ramet_store *store) { return store->kv; }
const char *ramet_store_dir(const struct ramet_store *store) { return store->dir; }
unsigned ramet_store_threads(const struct ramet_store *store) { return store->options.threads; }

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

/*
 * No usable superblock. A store that has packs lost it: its id is in them, the secret is needed for dedup only, but the
 * index is made with it, so both are made anew when rebuilding and only then.
 */
static int replace_superblock(struct ramet_store *store, const char *path, bool rebuilding, struct ramet_error *err)
{
    char packs[PATH_MAX];
    snprintf(packs, sizeof packs, "%s/packs", store->dir);
    bool in_use = ramet_packs_find_id(packs, store->id, NULL) == 0;
    if (in_use && !rebuilding) {
        ramet_error_set(err, RAMET_CORRUPT, "%s is missing or damaged", path);
        return ramet_error_hint(err, "put it back, or 'rametd --rebuild' makes it and the index anew from the packs");
    }
    if (!in_use)
        ramet_random(store->id, sizeof store->id);
    return make_superblock(store, path, err);
}

static int load_superblock(struct ramet_store *store, bool rebuilding, struct ramet_error *err)
{
    char path[PATH_MAX];
    uint8_t data[superblock_size];
    struct ramet_reader reader;
    uint16_t found;
    snprintf(path, sizeof path, "%s/store", store->dir);
    _autoclose_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return replace_superblock(store, path, rebuilding, err);
    if (fd < 0)
        return ramet_error_os(err, errno, "cannot open %s", path);
    int r = ramet_file_read(fd, path, data, sizeof data, 0, err);
    if (r == 0)
        r = ramet_record_open(data, sizeof data, superblock_magic, superblock_version, path, &reader, &found, err);
    if (r == -RAMET_CORRUPT)
        return replace_superblock(store, path, rebuilding, err);
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

/* Whether a pack has bytes that no commit reached, among them perhaps the only journal of what the index holds. */
static int find_uncommitted(struct ramet_store *store, const uint32_t *packs, size_t count, bool *ret,
                            struct ramet_error *err)
{
    int r = 0;
    *ret = false;
    for (size_t i = 0; i < count && r == 0 && !*ret; i++) {
        uint64_t reach, size = 0;
        if ((r = committed_size(store, packs[i], &reach, err)) == 0 && reach > 0)
            r = ramet_packs_size(store->packs, packs[i], &size, err);
        *ret = reach == 0 || size > reach;
    }
    return r;
}

/* Reads all that the journal tells of: an index that cannot give it again must not have the journal cut. */
static int check_journaled(struct ramet_store *store, struct ramet_error *err)
{
    int r = 0;
    for (int family = 0; family < RAMET_KV_FAMILY_COUNT && r == 0; family++) {
        if (!ramet_kv_is_journaled((enum ramet_kv_family)family))
            continue;
        struct ramet_kv_iter *iter = ramet_kv_iter_new(store->kv, (enum ramet_kv_family)family, NULL, 0);
        const void *key, *value;
        size_t key_size, value_size;
        while (iter && ramet_kv_iter_next(iter, &key, &key_size, &value, &value_size))
            ;
        r = iter ? ramet_kv_iter_status(iter, err) : ramet_error_set(err, RAMET_NO_MEMORY, "no memory to recover");
        ramet_kv_iter_free(iter);
    }
    return r;
}

/*
 * Writes the journal anew, past all packs, before any of it is cut: a crash in between must leave packs that an index
 * can be rebuilt from. Only on a full disk is the cut, which makes room, the first of the two.
 */
static int save_journal(struct ramet_store *store, uint32_t last_pack, struct ramet_error *err)
{
    ramet_packs_rotate(store->packs, last_pack);
    store->marked_pack = 0; /* marks must not take in what is about to be cut */
    int r = ramet_commit_checkpoint(store, err);
    if (r != -RAMET_NO_SPACE)
        return r;
    store->journal_stale = true;
    return check_journaled(store, err);
}

/* Cuts the pack after what was committed of it; *ret_whole says that all of that is there. */
static int cut_pack(struct ramet_store *store, uint32_t pack, uint64_t committed, bool *ret_whole,
                    struct ramet_error *err)
{
    uint64_t size = 0;
    int r = ramet_packs_size(store->packs, pack, &size, err);
    if (r == 0 && size > committed)
        r = ramet_packs_cut(store->packs, pack, committed, err);
    if (r == 0 && size < committed)
        ramet_warn("pack %08x has %" PRIu64 " of its %" PRIu64 " bytes; run 'ramet store fsck'", pack, size, committed);
    *ret_whole = size >= committed;
    return r;
}

/* Goes on with the newest pack, or, where it lost its tail, after it: the lost range must stay an error. */
static int continue_pack(struct ramet_store *store, uint32_t pack, uint64_t committed, bool whole,
                         struct ramet_error *err)
{
    if (whole && ramet_packs_check(store->packs, pack, NULL) == 0) {
        store->marked_pack = pack;
        return ramet_packs_continue(store->packs, pack, committed, err);
    }
    ramet_packs_rotate(store->packs, pack);
    return 0;
}

int ramet_store_recover_packs(struct ramet_store *store, struct ramet_error *err)
{
    _autofree_ uint32_t *packs = NULL;
    size_t count;
    bool uncommitted = false, whole = false;
    uint64_t committed = 0;
    uint32_t kept = 0;
    int r = ramet_packs_list(store->packs, &packs, &count, err);
    if (r == 0)
        r = find_uncommitted(store, packs, count, &uncommitted, err);
    if (r == 0 && uncommitted)
        r = save_journal(store, packs[count - 1], err);
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
        r = cut_pack(store, kept, committed, &whole, err);
    }
    bool saved = uncommitted && !store->journal_stale; /* then the pack it is in is the newest */
    return r < 0 || !kept || saved ? r : continue_pack(store, kept, committed, whole, err);
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

/* The index must be this store's: with another, or a fresh one, every pack would look like garbage. */
static int check_index(struct ramet_store *store, struct ramet_error *err)
{
    _autofree_ void *value = NULL;
    _autofree_ uint32_t *packs = NULL;
    size_t size, count;
    int r = ramet_kv_get(store->kv, RAMET_KV_META, id_key, sizeof id_key - 1, &value, &size, err);
    if (r == 0 && (size != sizeof store->id || memcmp(value, store->id, size) != 0)) {
        ramet_error_set(err, RAMET_CORRUPT, "the index in %s is of another store", store->dir);
        return ramet_error_hint(err, "put the right one back, or 'rametd --rebuild' makes it anew from the packs");
    }
    if (r != -RAMET_NOT_FOUND)
        return r;
    if ((r = ramet_packs_list(store->packs, &packs, &count, err)) < 0)
        return r;
    if (count > 0) {
        ramet_error_set(err, RAMET_CORRUPT, "the index of the store at %s is missing or lost its head", store->dir);
        return ramet_error_hint(err, "put it back, or 'rametd --rebuild' makes it anew from the packs");
    }
    store->fresh = true;
    return ramet_store_claim_index(store, err);
}

int ramet_store_claim_index(struct ramet_store *store, struct ramet_error *err)
{
    _cleanup_(ramet_kv_batch_cleanup) struct ramet_kv_batch *batch = ramet_kv_batch_new(store->kv);
    if (!batch)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to open %s", store->dir);
    ramet_kv_put(batch, RAMET_KV_META, id_key, sizeof id_key - 1, store->id, sizeof store->id);
    return ramet_kv_write(store->kv, batch, true, err);
}

/* The lock, the superblock, the packs and the index; no repair. */
static int open_parts(struct ramet_store *store, const char *index, bool rebuilding, struct ramet_error *err)
{
    char path[PATH_MAX];
    int r = take_lock(store, err);
    if (r == 0)
        r = load_superblock(store, rebuilding, err);
    snprintf(path, sizeof path, "%s/packs", store->dir);
    if (r == 0)
        r = ramet_dir_make(path, 0700, err);
    if (r == 0)
        r = ramet_packs_open(path, store->id, store->options.pack_bytes, &store->packs, err);
    if (r == 0 && rebuilding) /* what an earlier attempt left; only now, under the lock */
        r = ramet_dir_remove(index, err);
    return r == 0 ? ramet_kv_open(index, &store->kv, err) : r;
}

static int recover(struct ramet_store *store, struct ramet_error *err)
{
    int r = check_index(store, err);
    if (r == 0)
        r = load_next_frame(store, err);
    if (r == 0)
        r = ramet_commit_opened(store, err);
    if (r == 0)
        r = ramet_store_recover_packs(store, err);
    if (r == 0)
        r = ramet_commit_repair(store, err);
    store->opened = r == 0;
    return r;
}

static void set_options(struct ramet_store_options *to, const struct ramet_store_options *from)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    *to = from ? *from : (struct ramet_store_options){0};
    to->cache_bytes = to->cache_bytes ? to->cache_bytes : 64u << 20;
    to->frame_slots = to->frame_slots ? to->frame_slots : 8;
    to->locality_percent = to->locality_percent ? to->locality_percent : 2;
    to->pack_bytes = to->pack_bytes ? to->pack_bytes : UINT64_C(256) << 20;
    to->threads = to->threads ? to->threads : cpus > 0 ? (unsigned)cpus : 1;
}

static struct ramet_store *store_new(const char *dir, const struct ramet_store_options *options)
{
    struct ramet_store *store = calloc(1, sizeof *store);
    if (!store)
        return NULL;
    store->lock_fd = -1;
    set_options(&store->options, options);
    snprintf(store->dir, sizeof store->dir, "%s", dir);
    pthread_mutex_init(&store->commit_lock, NULL);
    pthread_mutex_init(&store->journal_lock, NULL);
    pthread_mutex_init(&store->pending_lock, NULL);
    pthread_mutex_init(&store->gc_lock, NULL);
    pthread_mutex_init(&store->session_lock, NULL);
    pthread_cond_init(&store->session_ended, NULL);
    store->cache = ramet_frame_cache_new(store->options.cache_bytes);
    if (!store->cache) {
        ramet_store_close(store);
        return NULL;
    }
    return store;
}

int ramet_store_open(const char *dir, const struct ramet_store_options *options, struct ramet_store **ret,
                     struct ramet_error *err)
{
    char index[PATH_MAX];
    int r = ramet_dir_make(dir, 0700, err);
    if (r < 0)
        return ramet_error_hint(err, "the store's directory must be writable; RAMET_STORE places it elsewhere");
    struct ramet_store *store = store_new(dir, options);
    if (!store)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to open %s", dir);
    snprintf(index, sizeof index, "%s/index", dir);
    r = open_parts(store, index, false, err);
    if (r == 0)
        r = recover(store, err);
    if (r < 0) {
        ramet_store_close(store);
        return r;
    }
    *ret = store;
    return 0;
}

int ramet_store_open_bare(const char *dir, const char *index, struct ramet_store **ret, struct ramet_error *err)
{
    struct ramet_store *store = store_new(dir, NULL);
    if (!store)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to open %s", dir);
    int r = open_parts(store, index, true, err);
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
    if (store->opened)
        ramet_commit_close(store);
    ramet_buf_free(&store->journal);
    ramet_pending_free_all(store);
    ramet_packs_close(store->packs);
    ramet_kv_close(store->kv);
    ramet_frame_cache_free(store->cache);
    if (store->lock_fd >= 0)
        close(store->lock_fd);
    pthread_mutex_destroy(&store->commit_lock);
    pthread_mutex_destroy(&store->journal_lock);
    pthread_mutex_destroy(&store->pending_lock);
    pthread_mutex_destroy(&store->gc_lock);
    pthread_mutex_destroy(&store->session_lock);
    pthread_cond_destroy(&store->session_ended);
    free(store);
}

void ramet_store_drop_caches(struct ramet_store *store) { ramet_frame_cache_clear(store->cache); }

void ramet_store_memory_bytes(struct ramet_store *store, uint64_t *ret_frame_bytes, uint64_t *ret_index_bytes)
{
    *ret_frame_bytes = ramet_frame_cache_bytes(store->cache);
    *ret_index_bytes = ramet_kv_memory_bytes(store->kv);
}

void ramet_store_disk_bytes(struct ramet_store *store, uint64_t *ret_pack_bytes, uint64_t *ret_index_bytes)
{
    uint32_t packs;
    *ret_pack_bytes = ramet_packs_disk_bytes(store->packs, &packs);
    *ret_index_bytes = ramet_kv_disk_bytes(store->kv);
}

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
    struct ramet_place_record record;
    while (ramet_kv_iter_next(iter, &key, &key_size, &value, &value_size))
        if (ramet_place_decode(value, value_size, &record, NULL) == 0) {
            stat.frames++;
            stat.chunks += ramet_slot_count(record.slots);
            stat.delta_frames += (record.flags & RAMET_FRAME_DELTA) != 0;
            stat.cold_frames += (record.flags & RAMET_FRAME_COLD) != 0;
        }
    int r = ramet_kv_iter_status(iter, err);
    ramet_kv_iter_free(iter);
    if (r == 0)
        *ret = stat;
    return r;
}
