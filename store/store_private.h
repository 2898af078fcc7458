/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the store's own sources share.
 *
 * Locks, in the order they may be taken:
 *   gc_lock       one collection at a time
 *   commit_lock   appending to packs, committing, moving or removing packs
 *   session_lock  the list of open ingests and the running collection
 *   pending_lock  the tables of what is put but not committed
 * Readers take only pending_lock, and briefly: never across I/O.
 */
#ifndef RAMET_STORE_PRIVATE_H
#define RAMET_STORE_PRIVATE_H

#include "base/u64map.h"
#include "frame.h"
#include "frame_cache.h"
#include "hash.h"
#include "pack.h"
#include "store.h"

#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>

/* A sealed frame that is not committed yet. */
struct ramet_pending {
    struct ramet_pending *next;
    uint64_t number;
    unsigned slots;
    uint64_t hashes[RAMET_FRAME_SLOTS];
    uint8_t *pages;  /* plain content until placed, then NULL */
    uint8_t *record; /* encoded, until placed */
    size_t record_size;
    bool placed;
    struct ramet_place place;
};

struct ramet_store {
    char dir[PATH_MAX - 32];
    int lock_fd;
    struct ramet_store_options options;
    uint8_t id[RAMET_STORE_ID_SIZE];
    uint8_t secret[RAMET_HASH_SECRET];
    struct ramet_kv *kv;
    struct ramet_packs *packs;
    struct ramet_frame_cache *cache;
    _Atomic uint64_t next_frame;
    _Atomic uint64_t dedup_hits, dedup_misses;

    pthread_mutex_t commit_lock;

    pthread_mutex_t pending_lock; /* guards the five below; placed entries change under commit_lock too */
    struct ramet_pending *pending_first, *pending_last; /* in number order of sealing */
    struct ramet_u64map pending_frames;                 /* frame -> struct ramet_pending * */
    struct ramet_u64map pending_index;                  /* hash -> chunk */
    size_t pending_bytes;                               /* plain bytes not placed yet */
    _Atomic bool commit_failed;                         /* pending frames may belong to nobody */

    pthread_mutex_t gc_lock;
    pthread_mutex_t session_lock; /* guards the three below */
    pthread_cond_t session_ended;
    struct ramet_ingest *sessions;
    uint64_t generation;
    struct ramet_gc *_Atomic gc; /* the running collection, or NULL */
};

struct ramet_ingest {
    struct ramet_ingest *next, *previous;
    struct ramet_store *store;
    uint64_t generation;
    uint64_t stored_bytes;
    struct ramet_open_frame {
        uint64_t number;
        unsigned slots;
        uint64_t hashes[RAMET_FRAME_SLOTS];
        uint8_t pages[RAMET_FRAME_MAX_BYTES];
    } open[2]; /* by enum ramet_chunk_kind */
};

/* store.c */
/* Where a committed frame lies. -CORRUPT when no such frame is stored. */
int ramet_store_place(struct ramet_store *store, uint64_t frame, struct ramet_place *ret, struct ramet_error *err);
#define RAMET_PLACE_SIZE 20
void ramet_place_encode(uint8_t value[RAMET_PLACE_SIZE], unsigned slots, const struct ramet_place *place);
int ramet_place_decode(const void *value, size_t size, unsigned *ret_slots, struct ramet_place *ret,
                       struct ramet_error *err);

/* Cuts what lies past the committed end of every pack, and continues the last. Under commit_lock or alone. */
int ramet_store_recover_packs(struct ramet_store *store, struct ramet_error *err);

/* commit.c */
/* After a failed commit, once no session is open: drops the frames that nobody can use, in memory and in packs. */
void ramet_pending_discard(struct ramet_store *store);
/* Hands a sealed frame over. Takes ownership of `frame` in every case. */
int ramet_pending_add(struct ramet_store *store, struct ramet_pending *frame, struct ramet_error *err);
bool ramet_pending_find(struct ramet_store *store, uint64_t hash, ramet_chunk *ret);
/* 1 and the bytes copied when the frame is held plain; 2 and its place when it is in a pack; else 0. */
int ramet_pending_read(struct ramet_store *store, uint64_t frame, unsigned slot, size_t offset, void *buf, size_t size,
                       struct ramet_place *ret_place);
/* Makes all sealed frames and `batch` durable. */
int ramet_commit(struct ramet_store *store, struct ramet_kv_batch *batch, struct ramet_error *err);
void ramet_pending_free_all(struct ramet_store *store);
/* Records in `batch` how far the current pack and the frame numbers are used. Under commit_lock. */
void ramet_commit_marks(struct ramet_store *store, struct ramet_kv_batch *batch);
#define RAMET_PACK_KEY_SIZE 8
void ramet_pack_key(uint8_t key[RAMET_PACK_KEY_SIZE], uint32_t pack); /* "pack" + number, big-endian */

/* gc.c */
/* Keeps a dedup hit alive during a collection; false when it must not be used. */
bool ramet_gc_retain(struct ramet_gc *gc, enum ramet_chunk_kind kind, ramet_chunk chunk);

#endif
