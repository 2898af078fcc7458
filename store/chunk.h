/* SPDX-License-Identifier: Apache-2.0 */
/* What the whole tree agrees on about chunks. */
#ifndef RAMET_STORE_CHUNK_H
#define RAMET_STORE_CHUNK_H

#include "base/page_scan.h" /* RAMET_PAGE_SIZE */

#include <stdint.h>

/*
 * A chunk number names the stored content of one page: frame number * 16 + slot in
 * the frame. Equal numbers mean equal content. Numbers are never reused. Moving a
 * frame to another pack changes no number.
 */
typedef uint64_t ramet_chunk;

/* Data and map nodes go to frames of their own, so that walking a map reads few frames. */
enum ramet_chunk_kind { RAMET_CHUNK_DATA, RAMET_CHUNK_NODE };

#define RAMET_CHUNK_ZERO ((ramet_chunk)0) /* a page of zeros; stored nowhere */
#define RAMET_FRAME_SLOTS 16              /* most pages a frame may hold */

static inline uint64_t ramet_chunk_frame(ramet_chunk chunk) { return chunk / RAMET_FRAME_SLOTS; }
static inline unsigned ramet_chunk_slot(ramet_chunk chunk) { return (unsigned)(chunk % RAMET_FRAME_SLOTS); }

static inline ramet_chunk ramet_chunk_make(uint64_t frame, unsigned slot) { return frame * RAMET_FRAME_SLOTS + slot; }

#endif
