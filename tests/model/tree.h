/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A POSIX tree in memory, as simple as can be: what workspaces are compared with. Nodes lie
 * in one array and are named by model numbers, contents are shared blobs, so a fork is a
 * copy of the array.
 */
#ifndef RAMET_TESTS_MODEL_TREE_H
#define RAMET_TESTS_MODEL_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MROOT = 0, MNONE = -1 };

struct mblob {
    unsigned refs;
    size_t size;
    uint8_t bytes[];
};

struct mentry {
    char name[24];
    int node;
};

struct mxattr {
    char name[24];
    struct mblob *value;
};

struct mnode {
    int id;       /* of the node in all trees; never reused */
    uint64_t ino; /* what the workspace calls it; 0: not known */
    uint32_t mode, uid, gid, nlink;
    int64_t mtime_ns, ctime_ns, atime_ns, btime_ns;
    int parent; /* index, of directories */
    unsigned uses;
    struct mblob *data; /* of a file, or a symlink's target */
    struct mentry *entries;
    int entry_count;
    struct mxattr *xattrs;
    int xattr_count;
};

struct mtree {
    struct mnode *nodes; /* indexes are stable; nlink 0 and uses 0: free */
    int count;
};

struct mblob *mblob_new(const void *bytes, size_t size);
struct mblob *mblob_ref(struct mblob *blob);
void mblob_unref(struct mblob *blob);

void mtree_init(struct mtree *tree, uint32_t uid, uint32_t gid);
void mtree_copy(struct mtree *to, const struct mtree *from); /* uses are not copied, and what only they kept */
void mtree_free(struct mtree *tree);

bool mnode_alive(const struct mnode *node);
/* Index of an entry, or MNONE. */
int mtree_find(const struct mtree *tree, int dir, const char *name);
/* A node with a name; `id` names it in all trees. Gives its index. */
int mtree_make(struct mtree *tree, int dir, const char *name, uint32_t mode, uint32_t uid, uint32_t gid, int id);
void mtree_link(struct mtree *tree, int dir, const char *name, int node);
/* Takes the entry out; the node goes when nothing keeps it. */
void mtree_unlink(struct mtree *tree, int dir, const char *name);
void mtree_reap(struct mtree *tree, int node);
bool mtree_is_below(const struct mtree *tree, int node, int dir); /* node is dir, or in it */

void mnode_set_data(struct mnode *node, struct mblob *data); /* takes the reference */
/* A private copy of at least `size` bytes, zeros behind what there was. */
struct mblob *mnode_grow(struct mnode *node, size_t size);
struct mxattr *mnode_xattr(struct mnode *node, const char *name);

#endif
