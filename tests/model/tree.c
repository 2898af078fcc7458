/* SPDX-License-Identifier: Apache-2.0 */
#include "tree.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct mblob *mblob_new(const void *bytes, size_t size)
{
    struct mblob *blob = calloc(1, sizeof *blob + size);
    if (!blob)
        abort();
    blob->refs = 1;
    blob->size = size;
    if (bytes)
        memcpy(blob->bytes, bytes, size);
    return blob;
}

struct mblob *mblob_ref(struct mblob *blob)
{
    if (blob)
        blob->refs++;
    return blob;
}

void mblob_unref(struct mblob *blob)
{
    if (blob && --blob->refs == 0)
        free(blob);
}

static void *grown(void *items, int count, size_t size)
{
    void *new = realloc(items, (size_t)(count + 1) * size);
    if (!new)
        abort();
    return new;
}

void mtree_init(struct mtree *tree, uint32_t uid, uint32_t gid)
{
    tree->count = 1;
    tree->nodes = calloc(1, sizeof *tree->nodes);
    tree->nodes[MROOT] = (struct mnode){.mode = S_IFDIR | 0755, .uid = uid, .gid = gid, .nlink = 2};
}

static void node_clear(struct mnode *node)
{
    mblob_unref(node->data);
    for (int i = 0; i < node->xattr_count; i++)
        mblob_unref(node->xattrs[i].value);
    free(node->xattrs);
    free(node->entries);
    *node = (struct mnode){.id = -1};
}

void mtree_free(struct mtree *tree)
{
    for (int i = 0; i < tree->count; i++)
        node_clear(&tree->nodes[i]);
    free(tree->nodes);
    *tree = (struct mtree){0};
}

bool mnode_alive(const struct mnode *node) { return node->nlink > 0 || node->uses > 0; }

void mtree_copy(struct mtree *to, const struct mtree *from)
{
    to->count = from->count;
    to->nodes = calloc((size_t)from->count, sizeof *to->nodes);
    for (int i = 0; i < from->count; i++) {
        const struct mnode *node = &from->nodes[i];
        struct mnode *copy = &to->nodes[i];
        *copy = (struct mnode){.id = -1};
        if (node->nlink == 0)
            continue;
        *copy = *node;
        copy->uses = 0;
        mblob_ref(copy->data);
        copy->entries = malloc((size_t)(node->entry_count + 1) * sizeof *copy->entries);
        copy->xattrs = malloc((size_t)(node->xattr_count + 1) * sizeof *copy->xattrs);
        if (node->entry_count)
            memcpy(copy->entries, node->entries, (size_t)node->entry_count * sizeof *copy->entries);
        if (node->xattr_count)
            memcpy(copy->xattrs, node->xattrs, (size_t)node->xattr_count * sizeof *copy->xattrs);
        for (int k = 0; k < copy->xattr_count; k++)
            mblob_ref(copy->xattrs[k].value);
    }
}

int mtree_find(const struct mtree *tree, int dir, const char *name)
{
    const struct mnode *node = &tree->nodes[dir];
    for (int i = 0; i < node->entry_count; i++)
        if (strcmp(node->entries[i].name, name) == 0)
            return node->entries[i].node;
    return MNONE;
}

static void add_entry(struct mtree *tree, int dir, const char *name, int child)
{
    struct mnode *node = &tree->nodes[dir];
    node->entries = grown(node->entries, node->entry_count, sizeof *node->entries);
    struct mentry *entry = &node->entries[node->entry_count++];
    memset(entry, 0, sizeof *entry);
    strncpy(entry->name, name, sizeof entry->name - 1);
    entry->node = child;
    if (S_ISDIR(tree->nodes[child].mode)) {
        node->nlink++;
        tree->nodes[child].parent = dir;
    }
}

int mtree_make(struct mtree *tree, int dir, const char *name, uint32_t mode, uint32_t uid, uint32_t gid, int id)
{
    int at = 1;
    while (at < tree->count && tree->nodes[at].id >= 0)
        at++;
    if (at == tree->count)
        tree->nodes = grown(tree->nodes, tree->count++, sizeof *tree->nodes);
    const struct mnode *in = &tree->nodes[dir];
    bool of_group = in->mode & S_ISGID;
    tree->nodes[at] = (struct mnode){.id = id, .mode = mode, .uid = uid, .gid = of_group ? in->gid : gid};
    if (S_ISDIR(mode) && of_group)
        tree->nodes[at].mode |= S_ISGID;
    tree->nodes[at].nlink = S_ISDIR(mode) ? 2 : 1;
    tree->nodes[at].data = mblob_new(NULL, 0);
    add_entry(tree, dir, name, at);
    return at;
}

void mtree_link(struct mtree *tree, int dir, const char *name, int node)
{
    if (!S_ISDIR(tree->nodes[node].mode))
        tree->nodes[node].nlink++;
    add_entry(tree, dir, name, node);
}

void mtree_reap(struct mtree *tree, int node)
{
    if (node != MROOT && !mnode_alive(&tree->nodes[node]))
        node_clear(&tree->nodes[node]);
}

void mtree_unlink(struct mtree *tree, int dir, const char *name)
{
    struct mnode *node = &tree->nodes[dir];
    for (int i = 0; i < node->entry_count; i++) {
        if (strcmp(node->entries[i].name, name) != 0)
            continue;
        struct mnode *child = &tree->nodes[node->entries[i].node];
        if (S_ISDIR(child->mode))
            node->nlink--;
        else
            child->nlink--;
        node->entries[i] = node->entries[--node->entry_count];
        return;
    }
}

bool mtree_is_below(const struct mtree *tree, int node, int dir)
{
    for (;; node = tree->nodes[node].parent) {
        if (node == dir)
            return true;
        if (node == MROOT)
            return false;
    }
}

void mnode_set_data(struct mnode *node, struct mblob *data)
{
    mblob_unref(node->data);
    node->data = data;
}

struct mblob *mnode_grow(struct mnode *node, size_t size)
{
    size_t old = node->data->size;
    struct mblob *blob = mblob_new(NULL, size > old ? size : old);
    memcpy(blob->bytes, node->data->bytes, old);
    mnode_set_data(node, blob);
    return blob;
}

struct mxattr *mnode_xattr(struct mnode *node, const char *name)
{
    for (int i = 0; i < node->xattr_count; i++)
        if (strcmp(node->xattrs[i].name, name) == 0)
            return &node->xattrs[i];
    return NULL;
}
