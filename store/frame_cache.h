/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decompressed frames, most recently used ones kept up to a byte budget.
 * Thread-safety: all functions; sixteen shards with a lock each. Pages are copied out
 * under the shard's lock: 4 KiB, about 0.1 us.
 */
#ifndef RAMET_STORE_FRAME_CACHE_H
#define RAMET_STORE_FRAME_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ramet_frame_cache;

struct ramet_frame_cache *ramet_frame_cache_new(size_t budget_bytes); /* NULL when memory ran out */
void ramet_frame_cache_free(struct ramet_frame_cache *cache);

/* Copies `size` bytes at `offset` of a page out; false when the frame is not cached or has no such slot. */
bool ramet_frame_cache_read(struct ramet_frame_cache *cache, uint64_t frame, unsigned slot, size_t offset, void *buf,
                            size_t size);
/* Remembers a frame's pages (copied). When memory is short it does not, which is no error. */
void ramet_frame_cache_insert(struct ramet_frame_cache *cache, uint64_t frame, const void *pages, unsigned slots);
void ramet_frame_cache_drop(struct ramet_frame_cache *cache, uint64_t frame);
void ramet_frame_cache_clear(struct ramet_frame_cache *cache);
void ramet_frame_cache_counters(struct ramet_frame_cache *cache, uint64_t *ret_hits, uint64_t *ret_misses);

#endif
