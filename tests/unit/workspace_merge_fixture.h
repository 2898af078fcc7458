/* SPDX-License-Identifier: Apache-2.0 */
/* What tests of merges share: two sides, short forms of what they do, and a merge whose conflicts are told. */
#ifndef RAMET_TESTS_WORKSPACE_MERGE_FIXTURE_H
#define RAMET_TESTS_WORKSPACE_MERGE_FIXTURE_H

#include "workspace_fixture.h"

#include "workspace/merge.h"

/* Two sides: "main", and a fork of it. */
struct sides {
    struct ramet_workspace *ours, *theirs;
    uint64_t d; /* a directory in both, with "f" in it */
    uint64_t f;
    bool orphans; /* ours has an open file without a name, which counts are of too */
    bool finds;   /* merges find their base; else it is what theirs was forked with, each time */
};

struct sides sides_split(void **state); /* of the world's "main" */
void sides_end(struct sides *sides);    /* checks both */
/* Merges; expects these conflicts, as "kind path\n" each. Nothing is changed where they are not resolved. */
void sides_merge(struct sides *sides, enum ramet_wtake strategy, const char *expected);

uint64_t put_text(struct ramet_workspace *ws, uint64_t dir, const char *name, const char *text);
void set_text(struct ramet_workspace *ws, uint64_t ino, const char *text);
void expect_text(struct ramet_workspace *ws, uint64_t dir, const char *name, const char *text);
void expect_none(struct ramet_workspace *ws, uint64_t dir, const char *name);
void expect_same(struct ramet_workspace *a, struct ramet_workspace *b);

#endif
