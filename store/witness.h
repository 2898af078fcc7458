/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The witness: how far the index had come when a write of it was last acknowledged, kept
 * beside RocksDB's files. RocksDB stops replaying its log, or its manifest, at the first
 * record that does not verify, and takes all before it for the whole: right after a power
 * cut, when nobody was told of the rest, and silent loss when a byte went bad. The witness
 * tells the two apart.
 *
 * INDEX/WITNESS is 24 bytes: u32 magic "RMWT", u32 version 1, u64 sequence number, u64
 * checksum of bytes 0..15. It is written after the write it tells of is durable, and not
 * synced itself: after a power cut it may be behind, never ahead.
 */
#ifndef RAMET_STORE_WITNESS_H
#define RAMET_STORE_WITNESS_H

#include "base/error.h"

#include <stdint.h>

struct ramet_witness;

/* *ret_reached is what it holds: 0 when there is none, or a damaged one, which is no error: nothing is known then. */
int ramet_witness_open(const char *dir, struct ramet_witness **ret, uint64_t *ret_reached, struct ramet_error *err);
/* Writes up to and including `sequence` are durable. Thread-safe; a witness that cannot be written stays behind. */
void ramet_witness_raise(struct ramet_witness *witness, uint64_t sequence);
void ramet_witness_close(struct ramet_witness *witness); /* durable afterwards; NULL is a no-op */

#endif
