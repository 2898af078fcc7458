/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The envelope of every record Ramet keeps in RocksDB or a small file:
 *
 *     0  u32 magic     names the kind of record
 *     4  u16 version   of the payload's layout
 *     6  u16 flags     incompatible features; an unknown bit refuses the record
 *     8  u32 size      of the payload
 *    12  u32 reserved  zero
 *    16  u64 checksum  XXH3-64 of bytes 0..15 and the payload
 *    24  payload
 *
 * All little-endian. See docs/format.md.
 */
#ifndef RAMET_BASE_RECORD_H
#define RAMET_BASE_RECORD_H

#include "base/codec.h"
#include "base/error.h"

#define RAMET_RECORD_HEADER 24

/* Starts a record in an empty buffer: room for the header. The payload is then put after it. */
void ramet_record_begin(struct ramet_buf *buf);
/* Fills the header in. RAMET_NO_MEMORY when any put failed. */
int ramet_record_end(struct ramet_buf *buf, uint32_t magic, uint16_t version, struct ramet_error *err);

/*
 * Verifies an envelope and points *ret at its payload (borrowed from data). `name` is for messages.
 * RAMET_CORRUPT on a bad checksum or shape, RAMET_UNSUPPORTED on a newer version or unknown flags.
 */
int ramet_record_open(const void *data, size_t size, uint32_t magic, uint16_t max_version, const char *name,
                      struct ramet_reader *ret, uint16_t *ret_version, struct ramet_error *err);

/* XXH3-64 over two pieces; the checksum used everywhere on disk. */
uint64_t ramet_checksum(const void *a, size_t a_size, const void *b, size_t b_size);

#endif
