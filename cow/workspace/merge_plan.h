/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A merge as tables: *objects*, the files and directories that a side changed, and
 * *entries*, the names that stand for another object on a side than in the base. Deciding
 * fills in what each becomes.
 *
 * An object's number is its inode's in the base, else the one of the side that made it. Its
 * data may lie in another inode of a side, when that side replaced the file.
 */
#ifndef RAMET_WORKSPACE_MERGE_PLAN_H
#define RAMET_WORKSPACE_MERGE_PLAN_H

#include "base/u64map.h"
#include "compare.h"
#include "merge.h"

enum { RAMET_WBASE, RAMET_WOURS, RAMET_WTHEIRS, RAMET_WSIDES };

struct ramet_wobject {
    uint64_t number;
    uint64_t in[RAMET_WSIDES];     /* inodes; 0: it has no name there */
    uint32_t type;                 /* S_IFMT bits */
    unsigned ours_did, theirs_did; /* RAMET_WDIFF_ bits: CONTENT, MODE, OWNER, XATTR */
    unsigned take;                 /* of theirs, for one that ours has */
    char *text;                    /* owned; merged content instead of theirs */
    size_t text_size;
    size_t first, count; /* of the index: entries that have it on some side */
    uint32_t names;      /* results that name it, as far as entries tell */
};

struct ramet_wentry_plan {
    uint64_t dir; /* object */
    const char *name;
    uint64_t on[RAMET_WSIDES], result; /* objects, 0: none */
};

struct ramet_wmerge_plan {
    struct ramet_workspace *view[RAMET_WSIDES];
    const struct ramet_wmerge_options *options;
    struct ramet_wmerge_result *result;
    struct ramet_wcompared ours, theirs;
    struct ramet_u64map alias[RAMET_WSIDES]; /* inode of a side -> object, where they differ */
    struct ramet_wobject *objects;
    size_t object_count, object_capacity;
    struct ramet_u64map by_number;     /* -> index of an object */
    struct ramet_wentry_plan *entries; /* by directory and name */
    size_t entry_count;
    size_t *index; /* of entries, object by object */
};

/* Fills the tables; `view`, `options` and `result` are set. */
int ramet_wmerge_build(struct ramet_wmerge_plan *plan, struct ramet_error *err);
void ramet_wmerge_plan_free(struct ramet_wmerge_plan *plan);
/* NULL when no side changed anything of it. */
struct ramet_wobject *ramet_wmerge_object(struct ramet_wmerge_plan *plan, uint64_t number);
/* Decides all; conflicts go to the result. */
int ramet_wmerge_decide(struct ramet_wmerge_plan *plan, struct ramet_error *err);
/* Does it. BUSY when `ours` is not what the view shows any more. */
int ramet_wmerge_apply(struct ramet_wmerge_plan *plan, struct ramet_workspace *ours, struct ramet_error *err);

#endif
