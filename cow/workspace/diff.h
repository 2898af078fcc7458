/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What differs between two workspaces or states, by path. The cost follows from what
 * differs: shared parts of the trees are not read.
 *
 * A file is the same one in both when it has the same inode number. It is *renamed* when it
 * lost a name and gained another; what lies below a renamed directory and did not change
 * itself is not listed. A name that stands for another file (as after an editor's save, or a
 * rename over a file) is a change of that name. Times alone are no difference.
 */
#ifndef RAMET_WORKSPACE_DIFF_H
#define RAMET_WORKSPACE_DIFF_H

#include "files.h"

#include <stdio.h>

enum ramet_wdiff_what {
    RAMET_WDIFF_ADDED = 1,
    RAMET_WDIFF_REMOVED = 2,
    RAMET_WDIFF_RENAMED = 4, /* from old_path */
    RAMET_WDIFF_TYPE = 8,
    RAMET_WDIFF_CONTENT = 16, /* of a file or a symlink; the numbers of a device */
    RAMET_WDIFF_MODE = 32,
    RAMET_WDIFF_OWNER = 64,
    RAMET_WDIFF_XATTR = 128,
};

struct ramet_wdiff_item {
    char *path;     /* in the second; of what was removed in the first. Without a leading slash; "" is the root */
    char *old_path; /* in the first, where it is another one; else NULL */
    unsigned what;
    struct ramet_wstat before, after; /* ino 0 where there is none */
};

struct ramet_wdiff {
    struct ramet_wdiff_item *items; /* by path */
    size_t count;
    struct ramet_workspace *before, *after; /* views: what was compared, and is read for a patch */
};

/* *ret is the caller's; ramet_wdiff_free. Both are looked at as they are at one moment each. */
int ramet_wdiff_make(struct ramet_workspace *before, struct ramet_workspace *after, struct ramet_wdiff **ret,
                     struct ramet_error *err);
void ramet_wdiff_free(struct ramet_wdiff *diff); /* NULL is a no-op */
void ramet_wdiff_cleanup(struct ramet_wdiff **diff);

/* A word for each bit, "renamed,content" say. */
void ramet_wdiff_words(unsigned what, char *buf, size_t size);

struct ramet_wdiff_stat {
    uint64_t added, removed, changed, renamed; /* files of every kind; each counts once */
    uint64_t lines_added, lines_removed;       /* of text */
    uint64_t bytes_added, bytes_removed;       /* of files that came, went, or changed */
};
/* As `git diff --stat` prints it: a line an item, then the sums. `out` may be NULL, `ret` too. */
int ramet_wdiff_print_stat(struct ramet_wdiff *diff, FILE *out, struct ramet_wdiff_stat *ret, struct ramet_error *err);
/*
 * Unified diffs with three lines of context in git's form, which `git apply` and `patch -p1` take where all is text.
 * Files with a NUL byte or of more than 16 MiB are named as binary, with their sizes.
 */
int ramet_wdiff_print_patch(struct ramet_wdiff *diff, FILE *out, struct ramet_error *err);

#endif
