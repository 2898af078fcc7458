/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The working set of a snapshot: the pages of its memory that a restored guest read until it
 * answered, in the order it read them first. It is recorded at the first restore; later
 * ones bring these pages in ahead of the guest.
 *
 * It is a hint: never needed, bounded, beside the snapshot's record and not in it, and not
 * in the journal, so that a rebuilt index has none and records anew. It goes with its
 * snapshot. Thread-safety: the catalog's functions.
 */
#ifndef RAMET_COW_WORKING_SET_H
#define RAMET_COW_WORKING_SET_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

#define RAMET_WORKING_SET_PAGES 65536 /* at most; 256 MiB */
#define RAMET_WORKING_SET_RUNS 32768  /* at most; a record of 256 KiB */

struct ramet_catalog;
struct ramet_snapshot;

struct ramet_working_set_run {
    uint32_t first, count;
};

struct ramet_working_set {
    int64_t recorded_ms;                /* Unix time */
    struct ramet_working_set_run *runs; /* owned; no page is in two */
    size_t run_count;
    uint64_t page_count; /* in all runs */
};

/* Appends a page that is not in it. TOO_LARGE when it is full. */
int ramet_working_set_add(struct ramet_working_set *set, uint64_t page, struct ramet_error *err);
void ramet_working_set_free(struct ramet_working_set *set); /* what it owns; it is empty then */

/* Makes it the working set of a durable snapshot, durably. NOT_FOUND when the snapshot was removed. */
int ramet_catalog_working_set_put(struct ramet_catalog *catalog, struct ramet_snapshot *snapshot,
                                  const struct ramet_working_set *set, struct ramet_error *err);
/* Owned by the caller. NOT_FOUND when none was recorded; CORRUPT when it is damaged: then it is recorded anew. */
int ramet_catalog_working_set_get(struct ramet_catalog *catalog, const struct ramet_snapshot *snapshot,
                                  struct ramet_working_set *ret, struct ramet_error *err);

#endif
