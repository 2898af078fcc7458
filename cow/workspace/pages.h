/* SPDX-License-Identifier: Apache-2.0 */
/* The pages of one file: references by page number, in BLOCKS records of 64. The lock is held as for data.h. */
#ifndef RAMET_WORKSPACE_PAGES_H
#define RAMET_WORKSPACE_PAGES_H

#include "task.h"

#define RAMET_WSPAN_FEW 320 /* references that need no allocation: 1 MiB, wherever it begins */

static inline uint64_t ramet_least(uint64_t a, uint64_t b) { return a < b ? a : b; }
/* Pages that [0, offset) touches. */
static inline uint64_t ramet_wpages_below(uint64_t offset)
{
    return offset / RAMET_WPAGE + (offset % RAMET_WPAGE != 0);
}

/* What the tree has. */
int ramet_wpages_refs(struct ramet_workspace *workspace, uint64_t ino, uint64_t first, size_t count, ramet_wref *refs,
                      struct ramet_error *err);
/* What it will have when the change is applied. */
int ramet_wtask_refs(struct ramet_wtask *task, uint64_t ino, uint64_t first, size_t count, ramet_wref *refs,
                     struct ramet_error *err);

/* The next ones keep inode->pages and charge what they add, before anything is written. */
int ramet_wpages_write(struct ramet_wtask *task, uint64_t ino, struct ramet_winode *inode, uint64_t offset,
                       const void *buf, size_t size, struct ramet_error *err);
/* Pages [first, end) become holes. */
int ramet_wpages_drop(struct ramet_wtask *task, uint64_t ino, struct ramet_winode *inode, uint64_t first, uint64_t end,
                      struct ramet_error *err);
/* Bytes [from, to) read as zeros: whole pages become holes. */
int ramet_wpages_zero(struct ramet_wtask *task, uint64_t ino, struct ramet_winode *inode, uint64_t from, uint64_t to,
                      struct ramet_error *err);
/* Pages [first, first + count) become the given ones, which records of this workspace name already. */
int ramet_wpages_share(struct ramet_wtask *task, uint64_t ino, struct ramet_winode *inode, uint64_t first,
                       const ramet_wref *refs, size_t count, struct ramet_error *err);

#endif
