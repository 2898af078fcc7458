/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ordered key-value tables with atomic, durable batches: the one wrapper around RocksDB.
 *
 * Keys and values are bytes. Reads see every batch whose write returned.
 * Thread-safety: all functions; a batch or iterator belongs to one thread.
 */
#ifndef RAMET_STORE_KV_H
#define RAMET_STORE_KV_H

#include "base/codec.h"
#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum ramet_kv_family {
    RAMET_KV_META,       /* the store's own records */
    RAMET_KV_INDEX,      /* page hash -> chunk */
    RAMET_KV_FRAMES,     /* frame number -> place in a pack */
    RAMET_KV_SNAPSHOTS,  /* snapshot id -> record */
    RAMET_KV_REFS,       /* tag -> snapshot id */
    RAMET_KV_BRANCHES,   /* branch id -> record */
    RAMET_KV_WORKSPACES, /* serial -> record of a workspace or a state; "set" */
    RAMET_KV_FAMILY_COUNT
};

struct ramet_kv;
struct ramet_kv_batch;
struct ramet_kv_iter;

int ramet_kv_open(const char *dir, struct ramet_kv **ret, struct ramet_error *err);
void ramet_kv_close(struct ramet_kv *kv);

/* *ret is owned by the caller (free). An absent key gives -RAMET_NOT_FOUND. */
int ramet_kv_get(struct ramet_kv *kv, enum ramet_kv_family family, const void *key, size_t key_size, void **ret,
                 size_t *ret_size, struct ramet_error *err);
/* Looks `count` keys of 8 bytes up, at most 512; values of exactly 8 bytes go to values[i], found[i] tells. */
int ramet_kv_get_many_u64(struct ramet_kv *kv, enum ramet_kv_family family, const uint8_t (*keys)[8], size_t count,
                          uint8_t (*values)[8], bool *found, struct ramet_error *err);

struct ramet_kv_batch *ramet_kv_batch_new(struct ramet_kv *kv); /* NULL when memory ran out */
void ramet_kv_batch_free(struct ramet_kv_batch *batch);
void ramet_kv_batch_cleanup(struct ramet_kv_batch **batch); /* for _cleanup_ */
/* Puts to INDEX are applied last, in key order; of two puts of one key there, either may win. */
void ramet_kv_put(struct ramet_kv_batch *batch, enum ramet_kv_family family, const void *key, size_t key_size,
                  const void *value, size_t value_size);
void ramet_kv_delete(struct ramet_kv_batch *batch, enum ramet_kv_family family, const void *key, size_t key_size);
/* Families whose records also go into the packs' journal: those of the layers above. */
static inline bool ramet_kv_is_journaled(enum ramet_kv_family family)
{
    return family == RAMET_KV_SNAPSHOTS || family == RAMET_KV_REFS || family == RAMET_KV_BRANCHES ||
           family == RAMET_KV_WORKSPACES;
}
/* The batch's journal entries so far (journal.h); borrowed, empty after a write. */
struct ramet_buf *ramet_kv_batch_journal(struct ramet_kv_batch *batch);
/*
 * All or nothing; durable when it returns if `sync`. The batch is empty afterwards. After one
 * that failed no more are taken: whether it is there is known at the next opening.
 */
int ramet_kv_write(struct ramet_kv *kv, struct ramet_kv_batch *batch, bool sync, struct ramet_error *err);
/* 0, or the error that every write gives once one failed. */
int ramet_kv_writable(const struct ramet_kv *kv, struct ramet_error *err);

/* Walks a table in key order, over the state at creation, beginning at `from` (NULL: the first key). */
struct ramet_kv_iter *ramet_kv_iter_new(struct ramet_kv *kv, enum ramet_kv_family family, const void *from,
                                        size_t from_size);
/* False at the end or on an error; then ramet_kv_iter_status tells which. Pointers hold until the next call. */
bool ramet_kv_iter_next(struct ramet_kv_iter *iter, const void **ret_key, size_t *ret_key_size, const void **ret_value,
                        size_t *ret_value_size);
int ramet_kv_iter_status(struct ramet_kv_iter *iter, struct ramet_error *err);
void ramet_kv_iter_free(struct ramet_kv_iter *iter);

/* What its cache and memtables take, bounded (kv.c). */
uint64_t ramet_kv_memory_bytes(struct ramet_kv *kv);
uint64_t ramet_kv_disk_bytes(struct ramet_kv *kv); /* sizes of all its files, the write-ahead log among them */

#endif
