/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The record tree of a workspace: a persistent (copy-on-write) B+tree of small records,
 * ordered by key. A head shares every node with the heads it was forked from until one of
 * them changes it; forking copies a pointer. The stored form of a node is one chunk, so a
 * tree in the store is a root's chunk number and equal subtrees are equal numbers.
 *
 * A key is an inode number, a type and a sub-key; keys compare as (ino, type, sub bytes),
 * so what belongs to an inode lies side by side.
 *
 * Thread-safety: a head is guarded by its owner's lock (shared to read, exclusive to
 * change). Heads that share nodes need no common lock.
 */
#ifndef RAMET_WORKSPACE_TREE_H
#define RAMET_WORKSPACE_TREE_H

#include "store.h"

#define RAMET_WKEY_SUB_MAX 272 /* a hash and a name of 255 bytes */
#define RAMET_WVALUE_MAX 1024  /* so that a node holds at least three records */

enum ramet_wtype {
    RAMET_WTYPE_INODE = 1,  /* attributes, then inline content or a symlink's target */
    RAMET_WTYPE_ENTRY = 2,  /* sub: hash of the name (8 bytes, big-endian), name; of a directory */
    RAMET_WTYPE_XATTR = 3,  /* sub: name, NUL, part (1 byte) */
    RAMET_WTYPE_BLOCKS = 4, /* sub: number of the group of 64 pages (8 bytes, big-endian) */
    RAMET_WTYPE_ORPHAN = 5, /* of inode 0; sub: the number of an inode that is open but has no name */
    RAMET_WTYPE_INFO = 6,   /* of inode 0: what the whole workspace counts */
    RAMET_WTYPE_NAME = 7,   /* sub: a directory's number, a name's cookie (8 bytes each, big-endian): a further name */
    RAMET_WTYPE_MERGED = 8, /* of inode 0; sub: a workspace's serial (8 bytes, big-endian): what was merged of it */
};

struct ramet_wkey {
    uint64_t ino;
    uint8_t type;
    uint16_t sub_size;
    uint8_t sub[RAMET_WKEY_SUB_MAX];
};

struct ramet_wvalue {
    uint16_t size;
    uint8_t bytes[RAMET_WVALUE_MAX];
};

struct ramet_wtree;

/* NOT_FOUND without a message when there is none: that is an answer, not a mishap. */
int ramet_wtree_get(struct ramet_wtree *tree, const struct ramet_wkey *key, struct ramet_wvalue *ret,
                    struct ramet_error *err);
/* The first record at or after *key, which becomes its key; NOT_FOUND past the last one. */
int ramet_wtree_next(struct ramet_wtree *tree, struct ramet_wkey *key, struct ramet_wvalue *ret,
                     struct ramet_error *err);
/* Calls `visit` for each record from *key on, in order, until it gives other than 0, which is given back; 0 past the
 * last one. Cheaper than ramet_wtree_next one by one. */
int ramet_wtree_walk(struct ramet_wtree *tree, const struct ramet_wkey *key,
                     int (*visit)(void *ctx, const struct ramet_wkey *key, const struct ramet_wvalue *value,
                                  struct ramet_error *err),
                     void *ctx, struct ramet_error *err);

/*
 * Calls `visit` for each key whose record differs between two heads, in key order; a side that has none is NULL.
 * Shared subtrees are not read. `visit` returns 0 to go on, or an error that ends the walk.
 */
int ramet_wtree_diff(struct ramet_wtree *a, struct ramet_wtree *b,
                     int (*visit)(void *ctx, const struct ramet_wkey *key, const struct ramet_wvalue *in_a,
                                  const struct ramet_wvalue *in_b, struct ramet_error *err),
                     void *ctx, struct ramet_error *err);
/* The same from a key on (NULL: from the start), so that a long comparison can be interrupted between two keys. */
int ramet_wtree_diff_from(struct ramet_wtree *a, struct ramet_wtree *b, const struct ramet_wkey *from,
                          int (*visit)(void *ctx, const struct ramet_wkey *key, const struct ramet_wvalue *in_a,
                                       const struct ramet_wvalue *in_b, struct ramet_error *err),
                          void *ctx, struct ramet_error *err);

#endif
