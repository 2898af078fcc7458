/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the fuzz targets share. Each is one file with LLVMFuzzerTestOneInput; under the preset
 * `fuzz` libFuzzer drives it, in all others replay_main.c with its corpus.
 *
 * The first byte of an input is the target's: its lowest bit says that checksums are to be
 * made right before the parser sees the rest, which no mutation would get past otherwise.
 */
#ifndef RAMET_TESTS_FUZZ_H
#define RAMET_TESTS_FUZZ_H

#include "catalog.h"

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Of the records in every target: the first half of the store id "fuzz" and zeros. */
#define FUZZ_KEY UINT64_C(0x7a7a7566)
#define FUZZ_SNAPSHOT "00000000000000f0" /* in the store below: disk0, 40 pages, of which it holds ten */

/* Ends the run as a finding when `condition` is false. */
void fuzz_check(bool condition, const char *what);
#define FUZZ_CHECK(condition) fuzz_check(condition, #condition)

/* A directory in memory, removed in the end. */
const char *fuzz_dir(void);
/* A store, opened on first use, of which one snapshot is durable. */
struct ramet_store *fuzz_store(void);
ramet_chunk fuzz_chunk(void); /* a data page it holds */
/* Puts a key into a family, or takes it away (value NULL). */
void fuzz_put(enum ramet_kv_family family, const void *key, size_t key_size, const void *value, size_t value_size);
/* Opens the catalog of that store; NULL when it is refused, with a message then. */
struct ramet_catalog *fuzz_catalog(void);

/* Make headers right: magic, version, size and checksum of a record that takes all `size` bytes. */
void fuzz_seal_record(uint8_t *record, size_t size, uint32_t magic, uint16_t version);
void fuzz_seal_frame(uint8_t *record, size_t size); /* the checksum, of as many bytes as the header says, if they fit */
void fuzz_seal_journal(uint8_t *record, size_t size);
/* Likewise for all that look like frame and journal records in `bytes`. */
void fuzz_seal_pack(uint8_t *bytes, size_t size);

#endif
