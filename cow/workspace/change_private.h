/* SPDX-License-Identifier: Apache-2.0 */
/* What is behind a change: a journal record in the making. */
#ifndef RAMET_WORKSPACE_CHANGE_PRIVATE_H
#define RAMET_WORKSPACE_CHANGE_PRIVATE_H

#include "change.h"
#include "journal.h"
#include "tree_private.h"

enum { RAMET_WCHANGE_BUCKETS = 64 };

struct ramet_wop {
    uint32_t offset; /* of the item's kind in the record */
    uint32_t next;   /* in its bucket, 1 + index; 0: the last */
};

struct ramet_wchange {
    struct ramet_wchange *next; /* while it is idle */
    struct ramet_workspace *workspace;
    struct ramet_wjrecord *record;
    struct ramet_wop *ops; /* owned */
    size_t count, capacity;
    uint32_t buckets[RAMET_WCHANGE_BUCKETS]; /* 1 + index of the newest op */
    int status;                              /* the first error */
    struct ramet_error err;
    struct ramet_wspare spare;
};

void ramet_wchange_free(struct ramet_wchange *change);
/* The op of an item; pointers into the record. */
struct ramet_wparsed {
    struct ramet_wbytes key;
    const uint8_t *value; /* NULL: a delete */
    size_t size;
};
void ramet_wop_parse(const uint8_t *item, struct ramet_wparsed *ret);
/* Makes the ops of a whole change visible in a tree, or none. */
int ramet_wchange_perform(struct ramet_wchange *change, struct ramet_wtree *tree, struct ramet_error *err);

#endif
