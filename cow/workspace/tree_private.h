/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How trees are made, shared and changed, for changes, checkpoints and collections.
 *
 * A change first loads the nodes its keys lead to and takes what memory it may need into
 * a *spare*; the mutation itself then cannot fail.
 */
#ifndef RAMET_WORKSPACE_TREE_PRIVATE_H
#define RAMET_WORKSPACE_TREE_PRIVATE_H

#include "node.h"

struct ramet_wtree {
    struct ramet_store *store;
    struct ramet_wnode *_Atomic root; /* a reference; NULL: not in memory */
    ramet_chunk root_chunk;           /* its stored form while it is not in memory; RAMET_CHUNK_ZERO: empty */
};

/* Nodes set aside. */
struct ramet_wspare {
    struct ramet_wnode *leaves, *inner; /* linked through `chunk` */
    unsigned leaf_count, inner_count;
};

/* An empty tree, or the stored one with that root. */
void ramet_wtree_init(struct ramet_wtree *tree, struct ramet_store *store, ramet_chunk root);
void ramet_wtree_drop(struct ramet_wtree *tree);
/* Makes `to`, which holds nothing, the same tree as `from`. */
int ramet_wtree_share(struct ramet_wtree *to, struct ramet_wtree *from, struct ramet_error *err);
/* Borrowed; loads it when it is not in memory. */
int ramet_wtree_root(struct ramet_wtree *tree, struct ramet_wnode **ret, struct ramet_error *err);
/* The child, borrowed; loads it. */
int ramet_wnode_child(struct ramet_store *store, struct ramet_wnode *node, unsigned index, struct ramet_wnode **ret,
                      struct ramet_error *err);
/* Reads and checks the page of a node; `level` -1: any. */
int ramet_wpage_load(struct ramet_store *store, ramet_chunk chunk, int level, uint8_t *page, struct ramet_error *err);

/* Loads what a change of this key may touch and gives the height. */
int ramet_wtree_prepare(struct ramet_wtree *tree, const struct ramet_wbytes *key, unsigned *ret_height,
                        struct ramet_error *err);
int ramet_wspare_reserve(struct ramet_wspare *spare, unsigned leaves, unsigned inner, struct ramet_error *err);
void ramet_wspare_free(struct ramet_wspare *spare);
/* What one change of a key may take at most in a tree of this height. */
enum { RAMET_WSPARE_LEAVES = 2 };
static inline unsigned ramet_wspare_inner(unsigned height) { return 2 * height + 1; }
/* After prepare, with enough in the spare. */
void ramet_wtree_put(struct ramet_wtree *tree, struct ramet_wspare *spare, const struct ramet_wbytes *key,
                     const void *value, size_t size);
void ramet_wtree_delete(struct ramet_wtree *tree, struct ramet_wspare *spare, const struct ramet_wbytes *key);
/* Joins what deleting this key left small, as far as it is in memory: after all ops of a change, since it moves what
 * others were prepared for. */
void ramet_wtree_shrink(struct ramet_wtree *tree, const struct ramet_wbytes *key);

#endif
