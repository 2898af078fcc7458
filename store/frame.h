/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames: up to 16 pages compressed together, the unit of reading and writing.
 * On disk a frame is a record in a pack:
 *
 *     0  u32 magic "RMFR"
 *     4  u8  version, 2
 *     5  u8  codec: 0 plain, 1 zstd, 2 LZ4 (compress.h)
 *     6  u8  kind of its pages (enum ramet_chunk_kind)
 *     7  u8  flags: 1 delta, 2 cold
 *     8  u64 frame number
 *    16  u16 which slots it holds, a bit each
 *    18  u16 reserved, zero
 *    20  u32 payload size
 *    24  u64 XXH3-64 of bytes 0..23, the store's key, and the payload
 *    32  payload
 *
 * The payload unpacks to one page a slot, in slot order. In a delta frame one u64 a slot
 * follows: the chunk whose page was XORed into this one, or 0. A base is never a delta
 * itself, so a read is at most two frames.
 *
 * The key (half of the store's random id) keeps a guest from writing pages that look like
 * records: found in a damaged pack they would be believed otherwise.
 *
 * Encoding and decoding are pure. A decoded frame is immutable and reference-counted.
 */
#ifndef RAMET_STORE_FRAME_H
#define RAMET_STORE_FRAME_H

#include "base/error.h"
#include "chunk.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RAMET_FRAME_HEADER 32
#define RAMET_FRAME_MAX_BYTES (RAMET_FRAME_SLOTS * (RAMET_PAGE_SIZE + 8))
#define RAMET_FRAME_RECORD_MAX (RAMET_FRAME_HEADER + RAMET_FRAME_MAX_BYTES)

enum ramet_frame_flag { RAMET_FRAME_DELTA = 1, RAMET_FRAME_COLD = 2 };

struct ramet_frame_info {
    uint64_t number;
    uint16_t slots; /* bitmap */
    uint8_t kind, flags, codec;
    uint32_t payload_size;
};

/* A frame in memory. Pages of slots with a base are still XORed with it. */
struct ramet_frame {
    _Atomic unsigned refs;
    uint64_t number;
    uint16_t slots;
    uint8_t kind, flags;
    ramet_chunk *bases; /* one a slot held, in slot order, after the pages; NULL when no delta frame */
    uint8_t pages[];
};

/* Room for the pages of `slots`, unset; one reference. NULL when memory ran out. */
struct ramet_frame *ramet_frame_new(uint64_t number, uint16_t slots, uint8_t kind, uint8_t flags);
/* A frame with room for more slots loses those it does not use: its first `count` pages count, and bases if not NULL.
 */
void ramet_frame_close(struct ramet_frame *frame, unsigned count, const ramet_chunk *bases);
/* Gives back the room that a closed frame has and does not use. Takes over the only reference, and returns it. */
struct ramet_frame *ramet_frame_shrink(struct ramet_frame *frame);
struct ramet_frame *ramet_frame_ref(struct ramet_frame *frame);
void ramet_frame_unref(struct ramet_frame *frame); /* NULL is a no-op */
void ramet_frame_cleanup(struct ramet_frame **frame);
/* Memory it takes, roughly. */
size_t ramet_frame_bytes(const struct ramet_frame *frame);
/* The slot's page as held (perhaps XORed) and its base (0: none); NULL when the frame has no such slot. */
const uint8_t *ramet_frame_page(const struct ramet_frame *frame, unsigned slot, ramet_chunk *ret_base);
/* A copy with only the slots of `keep`, all of which it holds. NULL when memory ran out. */
struct ramet_frame *ramet_frame_trim(const struct ramet_frame *frame, uint16_t keep);

static inline unsigned ramet_slot_count(uint16_t slots) { return (unsigned)__builtin_popcount(slots); }

/* Compresses a frame (compress.h has the levels) into a record at `record`, room for RAMET_FRAME_RECORD_MAX bytes;
 * returns its size. */
size_t ramet_frame_encode(const struct ramet_frame *frame, int level, uint64_t key, void *record);

/* Checks shape only (not the checksum), for walking a pack. RAMET_CORRUPT when it is no frame header. */
int ramet_frame_peek(const void *header, struct ramet_frame_info *ret, struct ramet_error *err);

/* Verifies the record's checksum and number and unpacks it. `number` 0 accepts any. The caller owns a reference. */
int ramet_frame_decode(const void *record, size_t size, uint64_t number, uint64_t key, struct ramet_frame **ret,
                       struct ramet_error *err);

#endif
