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
    bool is_copy;        /* of theirs, and ours made the same */
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
    uint64_t theirs_serial, kept_serial; /* noted with the merge (merge_base.h); 0: nothing is */
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
/* --- conflicts (merge_conflict.c) --- */

enum ramet_wtake ramet_wmerge_resolution(const struct ramet_wmerge_options *options, const char *path);
/* Adds one unless it is there already; *ret: what is to be taken, ours where nothing was said. Owns the path. */
int ramet_wmerge_add_conflict(struct ramet_wmerge_plan *plan, enum ramet_wconflict_kind kind, char *path,
                              enum ramet_wtake *ret, struct ramet_error *err);
int ramet_wmerge_conflict_at(struct ramet_wmerge_plan *plan, enum ramet_wconflict_kind kind,
                             const struct ramet_wentry_plan *entry, enum ramet_wtake *ret, struct ramet_error *err);
int ramet_wmerge_conflict_of(struct ramet_wmerge_plan *plan, enum ramet_wconflict_kind kind,
                             const struct ramet_wobject *object, enum ramet_wtake *ret, struct ramet_error *err);
/* A path of the object in that side, NULL without one; owned by the caller. */
int ramet_wmerge_path(struct ramet_wmerge_plan *plan, const struct ramet_wobject *object, int side, char **ret,
                      struct ramet_error *err);
struct ramet_wentry_plan *ramet_wmerge_entry(struct ramet_wmerge_plan *plan, const struct ramet_wobject *object,
                                             size_t i);
/* The object's names become those of one side. */
void ramet_wmerge_take_names(struct ramet_wmerge_plan *plan, const struct ramet_wobject *object, int side);

/* --- the steps --- */

/* The tree holds together afterwards (merge_settle.c). */
int ramet_wmerge_settle(struct ramet_wmerge_plan *plan, struct ramet_error *err);
/* New files that gave way without a conflict of their own get one. */
int ramet_wmerge_tell_losses(struct ramet_wmerge_plan *plan, struct ramet_error *err);
/* Decides all; conflicts go to the result. */
int ramet_wmerge_decide(struct ramet_wmerge_plan *plan, struct ramet_error *err);
/* Does it. BUSY when `ours` is not what the view shows any more. */
int ramet_wmerge_apply(struct ramet_wmerge_plan *plan, struct ramet_workspace *ours, struct ramet_error *err);

#endif
