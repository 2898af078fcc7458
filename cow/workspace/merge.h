/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Three-way merges: what `theirs` changed since the common ancestor is done to `ours`, as
 * one change of the journal, or nothing is. Neither side's work is lost silently: where both
 * changed the same thing differently there is a conflict, and a merge with a conflict that
 * nobody resolved changes nothing.
 *
 * Files are followed by inode number, so a file that one side renamed and the other one
 * edited is both afterwards. Names that stand for another file than before (an editor's
 * save) count as the same file, edited. Directories of one name made by both sides become
 * one. Texts that the sides changed in different regions are merged by lines, unless
 * `whole_files` is set.
 *
 * The ancestor: what was merged last of the two, which is kept as a state of the workspace
 * that it was taken of (merge_base.h), else the tree a fork was made with, which it keeps for
 * as long as it lives (ramet_workspace_base_open). So a second merge brings what changed since
 * the first. One with a base of the caller's, or of a state, leaves all that as it is.
 */
#ifndef RAMET_WORKSPACE_MERGE_H
#define RAMET_WORKSPACE_MERGE_H

#include "workspace.h"

enum ramet_wconflict_kind {
    RAMET_WCONFLICT_BOTH_MODIFIED, /* content, mode, owner or attributes, by both and differently */
    RAMET_WCONFLICT_MODIFY_DELETE, /* theirs changed or renamed it, ours removed it */
    RAMET_WCONFLICT_DELETE_MODIFY, /* theirs removed it, ours changed or renamed it */
    RAMET_WCONFLICT_BOTH_ADDED,    /* two files of one name */
    RAMET_WCONFLICT_TYPE,          /* two things of one name and of different kinds */
    RAMET_WCONFLICT_RENAME,        /* renamed by both, or directories into one another */
    RAMET_WCONFLICT_DIRECTORY,     /* one removed a directory, the other one put something into it */
};

struct ramet_wconflict {
    enum ramet_wconflict_kind kind;
    char *path; /* in ours; of what is not there, in theirs or before. A resolution names it */
};

enum ramet_wtake { RAMET_WTAKE_NONE, RAMET_WTAKE_OURS, RAMET_WTAKE_THEIRS };

struct ramet_wresolution {
    const char *path; /* of every conflict there */
    enum ramet_wtake take;
};

struct ramet_wmerge_options {
    struct ramet_workspace *base; /* NULL: found; needed where the two are not related by forks that still are */
    enum ramet_wtake strategy;    /* for conflicts without a resolution of their own */
    const struct ramet_wresolution *resolutions;
    size_t resolution_count;
    bool whole_files; /* no merging of texts by lines */
    bool times;       /* theirs' times go along, where they are others than in the base; else changes are of now */
    bool dry_run;     /* only find the conflicts */
};

struct ramet_wmerge_result {
    bool applied;
    struct ramet_wconflict *conflicts; /* all, those that were resolved too */
    size_t conflict_count, unresolved;
    uint64_t names, files, merged_texts; /* names changed, files made or changed, and texts merged in ours */
};

/*
 * 0 also when there are unresolved conflicts: look at `applied`. *ret is the caller's
 * (ramet_wmerge_result_free). `theirs` may be a state; then `base` must be given. NOT_FOUND: no common ancestor. BUSY:
 * ours kept changing meanwhile.
 */
int ramet_workspace_merge(struct ramet_workspace *ours, struct ramet_workspace *theirs,
                          const struct ramet_wmerge_options *options, struct ramet_wmerge_result *ret,
                          struct ramet_error *err);
void ramet_wmerge_result_free(struct ramet_wmerge_result *result);
const char *ramet_wconflict_name(enum ramet_wconflict_kind kind); /* "both-modified", ... */

#endif
