/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the store's own sources share.
 *
 * Locks, in the order they may be taken:
 *   gc_lock       one collection at a time
 *   commit_lock   appending to packs, committing, moving or removing packs
 *   session_lock  the list of open ingests and the running collection
 *   journal_lock  journal entries that wait for a pack
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
    struct ramet_frame *frame; /* a reference; NULL once placed */
    uint64_t number;
    uint16_t slots;
    uint8_t flags;
    uint64_t hashes[RAMET_FRAME_SLOTS]; /* one a slot, slots being 0 and on */
    uint8_t *record;                    /* encoded, until placed */
    size_t record_size;
    struct ramet_place place; /* once placed */
};

struct ramet_store {
    char dir[PATH_MAX - 32];
    int lock_fd;
    bool opened; /* wholly */
    bool fresh;  /* it had nothing in it when it was opened */
    struct ramet_store_options options;
    uint8_t id[RAMET_STORE_ID_SIZE];
    uint8_t secret[RAMET_HASH_SECRET];
    struct ramet_kv *kv;
    struct ramet_packs *packs;
    struct ramet_frame_cache *cache;
    _Atomic uint64_t next_frame;
    _Atomic uint64_t dedup_hits, dedup_misses;
    /* Frames below it may hold less than a cached copy of them: a collection was cut short. */
    _Atomic uint64_t suspect_below;

    pthread_mutex_t commit_lock;        /* guards the four below */
    struct ramet_kv_batch *index_batch; /* hashes of placed frames, or NULL */
    size_t index_count;                 /* how many it holds */
    bool journal_stale;                 /* the packs may lack journal records of what the index holds */
    uint32_t marked_pack;               /* the current one when marks were last recorded */

    pthread_mutex_t journal_lock; /* guards journal */
    struct ramet_buf journal;     /* entries written to the index, not to a pack yet */

    pthread_mutex_t pending_lock; /* guards the six below; placed entries change under commit_lock too */
    struct ramet_pending *pending_first, *pending_last; /* in the order of sealing; placed ones come first */
    struct ramet_pending *pending_unplaced;             /* the first that is not placed */
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

/* Pages gathered for one frame. */
struct ramet_open_frame {
    struct ramet_frame *frame; /* owned, with room for all slots; NULL before the first page */
    unsigned count;
    bool delta; /* one at least has a base */
    uint64_t hashes[RAMET_FRAME_SLOTS];
    ramet_chunk bases[RAMET_FRAME_SLOTS];
};

struct ramet_ingest {
    struct ramet_ingest *next, *previous;
    struct ramet_store *store;
    uint64_t generation;
    uint64_t stored_bytes;
    ramet_chunk expected;                   /* the known chunk found last, or RAMET_CHUNK_ZERO */
    uint64_t locality_credit;               /* hundredths of pages that may be stored again */
    struct ramet_open_frame open[2];        /* by enum ramet_chunk_kind */
    uint8_t record[RAMET_FRAME_RECORD_MAX]; /* scratch for encoding */
};

/* store.c */
/*
 * Cuts what lies past the committed end of every pack, once the journal is safe elsewhere, and continues the last.
 * Under commit_lock or alone.
 */
int ramet_store_recover_packs(struct ramet_store *store, struct ramet_error *err);

/* Opens the parts with a fresh index at `index`, removing what is there, and repairs nothing: for rebuilding. */
int ramet_store_open_bare(const char *dir, const char *index, struct ramet_store **ret, struct ramet_error *err);
/* Writes the store's id into a fresh index. */
int ramet_store_claim_index(struct ramet_store *store, struct ramet_error *err);

/* place.c: the value of the frames table */
struct ramet_place_record {
    uint16_t slots;
    uint8_t flags; /* enum ramet_frame_flag */
    struct ramet_place place;
};
#define RAMET_PLACE_SIZE 20
void ramet_place_encode(uint8_t value[RAMET_PLACE_SIZE], const struct ramet_place_record *record);
int ramet_place_decode(const void *value, size_t size, struct ramet_place_record *ret, struct ramet_error *err);

/* read.c */
/* Where a committed frame lies. -CORRUPT when no such frame is stored. */
int ramet_store_place(struct ramet_store *store, uint64_t frame, struct ramet_place_record *ret,
                      struct ramet_error *err);
/* The frame as it is now, from memory or disk; a reference of the caller's. `fresh`: not from the cache. */
int ramet_store_frame(struct ramet_store *store, uint64_t number, bool fresh, struct ramet_frame **ret,
                      struct ramet_error *err);
/* Whether the chunk can be read and holds these 4096 bytes. *ret_base is its base, RAMET_CHUNK_ZERO if none. */
bool ramet_store_holds(struct ramet_store *store, ramet_chunk chunk, const void *page, ramet_chunk *ret_base);

/* commit.c */
/* After a failed commit, once no session is open: drops the frames that nobody can use, in memory and in packs. */
void ramet_pending_discard(struct ramet_store *store);
/* Hands a sealed frame over. Takes ownership of `frame` in every case. */
int ramet_pending_add(struct ramet_store *store, struct ramet_pending *frame, struct ramet_error *err);
bool ramet_pending_find(struct ramet_store *store, uint64_t hash, ramet_chunk *ret);
/* 1 and a reference when the frame is held in memory; 2 and its place when it is in a pack; else 0. */
int ramet_pending_get(struct ramet_store *store, uint64_t number, struct ramet_frame **ret,
                      struct ramet_place *ret_place);
/* Makes all sealed frames and `batch` durable. */
int ramet_commit(struct ramet_store *store, struct ramet_kv_batch *batch, struct ramet_error *err);
void ramet_pending_free_all(struct ramet_store *store);
/* Records in `batch` how far the current pack and the frame numbers are used. Under commit_lock. */
void ramet_commit_marks(struct ramet_store *store, struct ramet_kv_batch *batch);
#define RAMET_PACK_KEY_SIZE 8
void ramet_pack_key(uint8_t key[RAMET_PACK_KEY_SIZE], uint32_t pack); /* "pack" + number, big-endian */
/* Records in `batch` that `size` bytes of the pack are committed. */
void ramet_commit_pack(struct ramet_kv_batch *batch, uint32_t pack, uint64_t size);
/* Writes all journaled records into the packs as a checkpoint, durably. Under commit_lock or alone. */
int ramet_commit_checkpoint(struct ramet_store *store, struct ramet_error *err);
/* Does so when the packs may lack journal records. Likewise. */
int ramet_commit_repair(struct ramet_store *store, struct ramet_error *err);
/* Begins a life of the store: forgets that it was closed. After anything but a clean close the journal is stale. */
int ramet_commit_opened(struct ramet_store *store, struct ramet_error *err);
/* Commits what was journaled since the last commit and notes that the store was closed. */
void ramet_commit_close(struct ramet_store *store);
/* gc.c */
enum ramet_gc_use { RAMET_GC_DATA, RAMET_GC_NODE, RAMET_GC_BASE };
/* Keeps a chunk that is about to be used alive during a collection, if one runs; false when it must not be used. */
bool ramet_gc_retain(struct ramet_store *store, enum ramet_gc_use use, ramet_chunk chunk);

#endif
