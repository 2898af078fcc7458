/* SPDX-License-Identifier: Apache-2.0 */
/* What tests of golden stores share: an archive unpacked, what it should hold, and records made of a version to come.
 */
#ifndef RAMET_TESTS_GOLDEN_FIXTURE_H
#define RAMET_TESTS_GOLDEN_FIXTURE_H

#include "testing.h"

#include "kv.h"
#include "sample.h"

#include <stdbool.h>

struct golden {
    char top[64], dir[80]; /* the store */
    struct ramet_store *store;
    struct ramet_catalog *catalog;
    struct sample_lines expected;
};

extern struct ramet_error err;

/* Unpacks NAME.tar.zst and reads NAME.expected; nothing is open. */
void golden_unpack(struct golden *golden, const char *name);
void golden_remove(struct golden *golden); /* what is open must be closed */
int golden_open(struct golden *golden);
void golden_close(struct golden *golden); /* also what a failed golden_open left */

/* All is as expected, or, where that is allowed, an error that names a pack; returns how many errors. Frees `found`. */
size_t golden_expect(const struct golden *golden, struct sample_lines *found, bool errors_allowed);
void golden_expect_clean(struct golden *golden); /* by fsck */

/* Gives a record's envelope another version (0: its own) or flags, its checksum right. */
void golden_set_record(uint8_t *record, size_t size, uint16_t version, uint16_t flags);
/* Changes the first record of a family in a closed store; `name` gets its key. */
void golden_patch_family(struct golden *golden, enum ramet_kv_family family, void (*patch)(uint8_t *, size_t),
                         char name[32]);
void golden_raise_version(uint8_t *record, size_t size);
void golden_raise_flag(uint8_t *record, size_t size);
/* `status` is this error, and its text names `what`; closes. */
void golden_expect_refusal(struct golden *golden, int status, int code, const char *what);

enum { golden_future = 0xff };

#endif
