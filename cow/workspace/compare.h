/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two trees compared record by record, and what that says of names and inodes: what diffs
 * and merges begin with. Paths and contents come from views, on demand.
 */
#ifndef RAMET_WORKSPACE_COMPARE_H
#define RAMET_WORKSPACE_COMPARE_H

#include "base/u64map.h"
#include "records.h"
#include "workspace.h"

/* A name of a directory that stands for another inode in the two, or in one of them for none. */
struct ramet_wcompared_name {
    uint64_t dir;
    uint64_t before, after; /* inodes, 0: none */
    uint32_t type_before, type_after;
    char *name; /* owned by the comparison */
};

enum ramet_wcompared_record {
    RAMET_WCOMPARED_INODE = 1, /* attributes or content in the record */
    RAMET_WCOMPARED_XATTR = 2,
    RAMET_WCOMPARED_BLOCKS = 4,
};

struct ramet_wcompared {
    struct ramet_wcompared_name *names;
    size_t name_count, name_capacity;
    struct ramet_u64map inodes; /* inode -> which of its records differ */
};

/* Both are views or states. */
int ramet_wcompare(struct ramet_workspace *before, struct ramet_workspace *after, struct ramet_wcompared *ret,
                   struct ramet_error *err);
void ramet_wcompared_free(struct ramet_wcompared *compared);

/* --- reading views --- */

/* The inode; ino->nlink of an orphan is 0. NOT_FOUND without a message when there is none. */
int ramet_wview_inode(struct ramet_workspace *view, uint64_t ino, struct ramet_winode *ret, struct ramet_error *err);
/* The path of a name, owned by the caller (free); `dir` has to be there. */
int ramet_wview_path(struct ramet_workspace *view, uint64_t dir, const char *name, char **ret, struct ramet_error *err);
/* The names of an inode: `each` is called with no lock held. */
int ramet_wview_names(struct ramet_workspace *view, uint64_t ino,
                      int (*each)(void *ctx, uint64_t dir, const char *name, struct ramet_error *err), void *ctx,
                      struct ramet_error *err);
/* Whether two inodes hold the same bytes (files), target (symlinks), device; pages that are shared are not read. */
int ramet_wview_same_content(struct ramet_workspace *a, uint64_t ino_a, struct ramet_workspace *b, uint64_t ino_b,
                             bool *ret, struct ramet_error *err);
int ramet_wview_same_xattrs(struct ramet_workspace *a, uint64_t ino_a, struct ramet_workspace *b, uint64_t ino_b,
                            bool *ret, struct ramet_error *err);
/* Adds RAMET_WDIFF_ bits to *what. `touched`: which records differ, for inodes of one number. */
int ramet_wview_differences(struct ramet_workspace *a, uint64_t ino_a, struct ramet_workspace *b, uint64_t ino_b,
                            unsigned touched, unsigned *what, struct ramet_error *err);
/* The whole of a file or a symlink's target, *ret owned by the caller (free). TOO_LARGE beyond `most`. */
int ramet_wview_content(struct ramet_workspace *view, uint64_t ino, size_t most, char **ret, size_t *ret_size,
                        struct ramet_error *err);

#endif
