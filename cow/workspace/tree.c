/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading trees. A node that is not in memory is read when it is needed and put into its
 * parent's place by whoever comes first; the parent owns it from then on.
 */
#include "base/cleanup.h"
#include "base/codec.h"
#include "tree_private.h"

#include <string.h>

void ramet_wtree_init(struct ramet_wtree *tree, struct ramet_store *store, ramet_chunk root)
{
    tree->store = store;
    tree->root_chunk = root;
    atomic_init(&tree->root, NULL);
}

void ramet_wtree_drop(struct ramet_wtree *tree)
{
    ramet_wnode_unref(atomic_exchange(&tree->root, NULL));
    tree->root_chunk = RAMET_CHUNK_ZERO;
}

int ramet_wtree_share(struct ramet_wtree *to, struct ramet_wtree *from, struct ramet_error *err)
{
    struct ramet_wnode *root;
    int r = ramet_wtree_root(from, &root, err);
    if (r == 0)
        atomic_store(&to->root, ramet_wnode_ref(root));
    return r;
}

int ramet_wpage_load(struct ramet_store *store, ramet_chunk chunk, int level, uint8_t *page, struct ramet_error *err)
{
    int r = ramet_store_read_part(store, chunk, 0, page, RAMET_PAGE_SIZE, err);
    return r < 0 ? r : ramet_wpage_check(page, level, err);
}

/* Reads a node into `place`, unless somebody else did; *ret is borrowed from there. */
static int load(struct ramet_store *store, ramet_chunk chunk, int level, struct ramet_wnode *_Atomic *place,
                struct ramet_wnode **ret, struct ramet_error *err)
{
    uint8_t page[RAMET_PAGE_SIZE];
    int r = 0;
    if (chunk == RAMET_CHUNK_ZERO && level == -1)
        ramet_wpage_init(page, 0);
    else
        r = ramet_wpage_load(store, chunk, level, page, err);
    if (r < 0)
        return r;
    struct ramet_wnode *node = ramet_wnode_new(page[5]), *held = NULL;
    if (!node)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to read the tree");
    memcpy(node->page, page, sizeof page);
    node->chunk = chunk;
    node->dirty = chunk == RAMET_CHUNK_ZERO;
    if (!atomic_compare_exchange_strong(place, &held, node)) {
        ramet_wnode_unref(node);
        node = held;
    }
    *ret = node;
    return 0;
}

static int named(struct ramet_error *err, int code, ramet_chunk chunk)
{
    if (code == -RAMET_CORRUPT)
        ramet_error_prefix(err, "tree node %llu", (unsigned long long)chunk);
    return code;
}

int ramet_wtree_root(struct ramet_wtree *tree, struct ramet_wnode **ret, struct ramet_error *err)
{
    struct ramet_wnode *root = atomic_load_explicit(&tree->root, memory_order_acquire);
    if (root) {
        *ret = root;
        return 0;
    }
    return named(err, load(tree->store, tree->root_chunk, -1, &tree->root, ret, err), tree->root_chunk);
}

int ramet_wnode_child(struct ramet_store *store, struct ramet_wnode *node, unsigned index, struct ramet_wnode **ret,
                      struct ramet_error *err)
{
    struct ramet_wnode *child = atomic_load_explicit(&node->children[index], memory_order_acquire);
    if (!child) {
        ramet_chunk chunk = ramet_wnode_child_chunk(node, index);
        int r = named(err, load(store, chunk, node->level - 1, &node->children[index], &child, err), chunk);
        if (r < 0)
            return r;
    }
    if (!atomic_load_explicit(&child->used, memory_order_relaxed))
        atomic_store_explicit(&child->used, true, memory_order_relaxed);
    *ret = child;
    return 0;
}

static void copy_value(const struct ramet_wrecord *record, struct ramet_wvalue *ret)
{
    ret->size = record->value_size;
    memcpy(ret->bytes, record->value, record->value_size);
}

int ramet_wtree_get(struct ramet_wtree *tree, const struct ramet_wkey *key, struct ramet_wvalue *ret,
                    struct ramet_error *err)
{
    struct ramet_wbytes bytes;
    struct ramet_wnode *node;
    bool equal;
    ramet_wbytes_set(&bytes, key);
    int r = ramet_wtree_root(tree, &node, err);
    while (r == 0 && node->level)
        r = ramet_wnode_child(tree->store, node, ramet_wpage_child(node->page, &bytes), &node, err);
    if (r < 0)
        return r;
    unsigned at = ramet_wpage_find(node->page, &bytes, &equal);
    if (!equal)
        return -RAMET_NOT_FOUND;
    struct ramet_wrecord record = ramet_wpage_record(node->page, at);
    copy_value(&record, ret);
    return 0;
}

/* Where a reader stands: nodes from the root down, and which record of each. */
struct place {
    struct ramet_wtree *tree;
    int depth;
    struct {
        struct ramet_wnode *node;
        unsigned at;
    } path[RAMET_WNODE_LEVELS];
};

/* To the first record at or after the key, or behind the last one of its leaf. */
static int place_find(struct place *place, struct ramet_wtree *tree, const struct ramet_wkey *key,
                      struct ramet_error *err)
{
    struct ramet_wbytes bytes;
    bool equal;
    ramet_wbytes_set(&bytes, key);
    place->tree = tree;
    place->depth = 0;
    int depth = 0, r = ramet_wtree_root(tree, &place->path[0].node, err);
    if (r < 0)
        return r;
    for (; place->path[depth].node->level; depth++) {
        struct ramet_wnode *node = place->path[depth].node;
        place->path[depth].at = ramet_wpage_child(node->page, &bytes);
        r = ramet_wnode_child(tree->store, node, place->path[depth].at, &place->path[depth + 1].node, err);
        if (r < 0)
            return r;
    }
    place->path[depth].at = ramet_wpage_find(place->path[depth].node->page, &bytes, &equal);
    place->depth = depth;
    return 0;
}

/* The record it stands at, going on to the next leaf where needed; NOT_FOUND behind the last one. */
static int place_read(struct place *place, struct ramet_wkey *ret_key, struct ramet_wvalue *ret,
                      struct ramet_error *err)
{
    for (;;) {
        struct ramet_wnode *node = place->path[place->depth].node;
        unsigned at = place->path[place->depth].at;
        if (at >= ramet_wpage_count(node->page)) {
            if (place->depth == 0)
                return -RAMET_NOT_FOUND;
            place->path[--place->depth].at++;
        } else if (node->level) {
            int r = ramet_wnode_child(place->tree->store, node, at, &place->path[place->depth + 1].node, err);
            if (r < 0)
                return r;
            place->path[++place->depth].at = 0;
        } else {
            struct ramet_wrecord record = ramet_wpage_record(node->page, at);
            if (!ramet_wbytes_get(record.key, record.key_size, ret_key))
                return ramet_error_set(err, RAMET_CORRUPT, "a key of the tree is damaged");
            copy_value(&record, ret);
            return 0;
        }
    }
}

int ramet_wtree_next(struct ramet_wtree *tree, struct ramet_wkey *key, struct ramet_wvalue *ret,
                     struct ramet_error *err)
{
    struct place place;
    int r = place_find(&place, tree, key, err);
    return r < 0 ? r : place_read(&place, key, ret, err);
}

int ramet_wtree_walk(struct ramet_wtree *tree, const struct ramet_wkey *key,
                     int (*visit)(void *ctx, const struct ramet_wkey *key, const struct ramet_wvalue *value,
                                  struct ramet_error *err),
                     void *ctx, struct ramet_error *err)
{
    struct ramet_wvalue value;
    struct ramet_wkey at;
    struct place place;
    int r = place_find(&place, tree, key, err);
    while (r == 0) {
        r = place_read(&place, &at, &value, err);
        if (r == -RAMET_NOT_FOUND)
            return 0;
        if (r == 0)
            r = visit(ctx, &at, &value, err);
        place.path[place.depth].at++;
    }
    return r;
}

int ramet_wtree_prepare(struct ramet_wtree *tree, const struct ramet_wbytes *key, unsigned *ret_height,
                        struct ramet_error *err)
{
    struct ramet_wnode *node;
    int r = ramet_wtree_root(tree, &node, err);
    if (r == 0)
        *ret_height = node->level;
    while (r == 0 && node->level)
        r = ramet_wnode_child(tree->store, node, ramet_wpage_child(node->page, key), &node, err);
    return r;
}
