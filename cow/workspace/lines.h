/* SPDX-License-Identifier: Apache-2.0 */
/* Texts as lines: what differs between two, and three merged. Not thread-safe each, no state shared. */
#ifndef RAMET_WORKSPACE_LINES_H
#define RAMET_WORKSPACE_LINES_H

#include "base/codec.h"
#include "base/error.h"

#include <stdbool.h>

struct ramet_line {
    const char *text; /* borrowed, with its newline if it has one */
    uint32_t size, hash;
};

struct ramet_lines {
    struct ramet_line *items; /* owned */
    size_t count;
};

/* Whether it may be shown and merged by lines. */
bool ramet_text_is(const char *text, size_t size);
int ramet_lines_split(const char *text, size_t size, struct ramet_lines *ret, struct ramet_error *err);
void ramet_lines_free(struct ramet_lines *lines);
bool ramet_line_equal(const struct ramet_line *a, const struct ramet_line *b);

/* Lines [a, a + a_count) of the first are replaced by [b, b + b_count) of the second. */
struct ramet_hunk {
    size_t a, a_count, b, b_count;
};
struct ramet_hunks {
    struct ramet_hunk *items; /* owned (free) */
    size_t count;
};
/* A shortest script, or where texts differ greatly a short one. */
int ramet_lines_diff(const struct ramet_lines *a, const struct ramet_lines *b, struct ramet_hunks *ret,
                     struct ramet_error *err);

/*
 * Three-way merge: regions that one side changed are taken from it. *ret_clean: no region was changed by both sides
 * differently, and `merged` holds the whole.
 */
int ramet_lines_merge(const struct ramet_lines *base, const struct ramet_lines *ours, const struct ramet_lines *theirs,
                      struct ramet_buf *merged, bool *ret_clean, struct ramet_error *err);

#endif
