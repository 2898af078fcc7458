/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames: 1 to 16 pages compressed together, the unit of reading and writing.
 * On disk a frame is a record in a pack:
 *
 *     0  u32 magic "RMFR"
 *     4  u8  version, 1
 *     5  u8  codec: 0 plain, 1 zstd
 *     6  u16 slots, 1..16 pages
 *     8  u64 frame number
 *    16  u32 payload size
 *    20  u32 reserved, zero
 *    24  u64 XXH3-64 of bytes 0..23 and the payload
 *    32  payload
 *
 * Pure functions; no state, no locks.
 */
#ifndef RAMET_STORE_FRAME_H
#define RAMET_STORE_FRAME_H

#include "base/error.h"
#include "chunk.h"

#include <stddef.h>
#include <stdint.h>

#define RAMET_FRAME_HEADER 32
#define RAMET_FRAME_MAX_BYTES (RAMET_FRAME_SLOTS * RAMET_PAGE_SIZE)
#define RAMET_FRAME_RECORD_MAX (RAMET_FRAME_HEADER + RAMET_FRAME_MAX_BYTES)

struct ramet_frame_info {
    uint64_t number;
    unsigned slots;
    unsigned codec;
    uint32_t payload_size;
};

/* Compresses `slots` pages into a record of at most RAMET_FRAME_RECORD_MAX bytes at `record`. */
int ramet_frame_encode(uint64_t number, const void *pages, unsigned slots, int level, void *record, size_t *ret_size,
                       struct ramet_error *err);

/* Checks shape only (not the checksum), for walking a pack. RAMET_CORRUPT when it is no frame header. */
int ramet_frame_peek(const void *header, struct ramet_frame_info *ret, struct ramet_error *err);

/* Verifies the record's checksum and number and unpacks it into `pages` (room for RAMET_FRAME_MAX_BYTES). */
int ramet_frame_decode(const void *record, size_t size, uint64_t number, void *pages, unsigned *ret_slots,
                       struct ramet_error *err);

#endif
