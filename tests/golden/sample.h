/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sample: a store of a few hundred KiB that has one of everything the format knows, and
 * a description of what any store holds. The golden store is a sample kept for ever; the
 * corruption test makes one and damages it.
 *
 * The content follows from the seed; ids and times do not.
 */
#ifndef RAMET_TESTS_SAMPLE_H
#define RAMET_TESTS_SAMPLE_H

#include "catalog.h"

/*
 * Makes the sample in an empty directory and leaves it closed; without `close` as a killed process would: call it in
 * a child that ends with _exit then. Prints what went wrong and exits when it cannot.
 */
void sample_make(const char *dir, uint64_t seed, bool close);

/* One thing a store holds: "snapshot ID disk0" and "SIZE HASH", say. */
struct sample_line {
    char name[160];
    char value[512];
    int status; /* of reading it; then `err` says more and `value` is empty */
    struct ramet_error err;
};

struct sample_lines {
    struct sample_line *lines; /* owned; sample_lines_free */
    size_t count;
};

/* Reads everything: each snapshot and its images, tags, branches and their disks. A failed read is a line, too. */
void sample_describe(struct ramet_catalog *catalog, struct sample_lines *ret);
struct sample_line *sample_add(struct sample_lines *lines); /* an empty one; moves those before */
const struct sample_line *sample_find(const struct sample_lines *lines, const char *name); /* borrowed, or NULL */
void sample_lines_free(struct sample_lines *lines);

#endif
