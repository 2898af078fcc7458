/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decompressed frames, most recently used ones kept up to a byte budget.
 * Thread-safety: all functions; sixteen shards with a lock each. Pages are read
 * outside the lock, under a reference.
 */
#ifndef RAMET_STORE_FRAME_CACHE_H
#define RAMET_STORE_FRAME_CACHE_H

#include "frame.h"

struct ramet_frame_cache;

struct ramet_frame_cache *ramet_frame_cache_new(size_t budget_bytes); /* NULL when memory ran out */
void ramet_frame_cache_free(struct ramet_frame_cache *cache);

/* A reference of the caller's, or NULL when the frame is not cached. */
struct ramet_frame *ramet_frame_cache_get(struct ramet_frame_cache *cache, uint64_t number);
/*
 * What a reader asks before it looks a frame's place up, and gives with the frame it read: a frame that was rewritten
 * in between, and so dropped, is not remembered as it was.
 */
uint64_t ramet_frame_cache_epoch(struct ramet_frame_cache *cache, uint64_t number);
/* Whether it is cached; does not count as a use. */
bool ramet_frame_cache_has(struct ramet_frame_cache *cache, uint64_t number);
/* Remembers a frame under a reference of its own. When memory is short it does not, which is no error. */
void ramet_frame_cache_put(struct ramet_frame_cache *cache, struct ramet_frame *frame, uint64_t epoch);
void ramet_frame_cache_drop(struct ramet_frame_cache *cache, uint64_t number);
void ramet_frame_cache_clear(struct ramet_frame_cache *cache);
uint64_t ramet_frame_cache_bytes(struct ramet_frame_cache *cache);
void ramet_frame_cache_counters(struct ramet_frame_cache *cache, uint64_t *ret_hits, uint64_t *ret_misses);

#endif
