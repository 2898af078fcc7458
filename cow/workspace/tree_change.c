/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changing trees. The path to a key is made the head's own from the root down: a node with
 * another reference is copied, one without is changed where it is. Everything on the path
 * becomes dirty. A full node is split in two; what is put at its end leaves it full, since
 * inode numbers and page groups grow. A node that lost much takes in a neighbour that is
 * in memory and fits.
 */
#include "tree_private.h"

#include "base/codec.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { merge_below = RAMET_PAGE_SIZE / 4, merge_to = RAMET_PAGE_SIZE * 3 / 4 };

struct step {
    struct ramet_wnode *node;
    unsigned at;
};

/* --- spare nodes --- */

static bool add_spare(struct ramet_wnode **list, unsigned *count, uint8_t level)
{
    struct ramet_wnode *node = ramet_wnode_new(level);
    if (!node)
        return false;
    node->chunk = (uintptr_t)*list;
    *list = node;
    ++*count;
    return true;
}

int ramet_wspare_reserve(struct ramet_wspare *spare, unsigned leaves, unsigned inner, struct ramet_error *err)
{
    bool ok = true;
    while (ok && spare->leaf_count < leaves)
        ok = add_spare(&spare->leaves, &spare->leaf_count, 0);
    while (ok && spare->inner_count < inner)
        ok = add_spare(&spare->inner, &spare->inner_count, 1);
    return ok ? 0 : ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a change");
}

static struct ramet_wnode *take(struct ramet_wspare *spare, uint8_t level)
{
    struct ramet_wnode **list = level ? &spare->inner : &spare->leaves, *node = *list;
    assert(node); /* reserve was called for less than was done */
    *list = (struct ramet_wnode *)(uintptr_t)node->chunk;
    --*(level ? &spare->inner_count : &spare->leaf_count);
    node->chunk = RAMET_CHUNK_ZERO;
    node->level = level;
    node->page[5] = level;
    return node;
}

void ramet_wspare_free(struct ramet_wspare *spare)
{
    while (spare->leaves)
        ramet_wnode_unref(take(spare, 0));
    while (spare->inner)
        ramet_wnode_unref(take(spare, 1));
}

/* --- the path --- */

/* Gives a node of this head's own in place of `node`, whose reference it takes over. */
static struct ramet_wnode *own(struct ramet_wspare *spare, struct ramet_wnode *node)
{
    if (atomic_load_explicit(&node->refs, memory_order_acquire) > 1) {
        struct ramet_wnode *copy = take(spare, node->level);
        ramet_wnode_copy(copy, node);
        ramet_wnode_unref(node);
        node = copy;
    }
    node->dirty = true;
    return node;
}

static struct ramet_wnode *child_of(struct ramet_wnode *node, unsigned at)
{
    return atomic_load_explicit(&node->children[at], memory_order_acquire);
}

static void set_child(struct ramet_wnode *node, unsigned at, struct ramet_wnode *child)
{
    atomic_store_explicit(&node->children[at], child, memory_order_release);
}

static void set_root(struct ramet_wtree *tree, struct ramet_wnode *root)
{
    atomic_store_explicit(&tree->root, root, memory_order_release);
}

/* The path to the key, from the root down to the leaf, all of this head's own. */
static int own_path(struct ramet_wtree *tree, struct ramet_wspare *spare, const struct ramet_wbytes *key,
                    struct step path[RAMET_WNODE_LEVELS])
{
    int depth = 0;
    path[0].node = own(spare, atomic_load_explicit(&tree->root, memory_order_acquire));
    set_root(tree, path[0].node);
    for (; path[depth].node->level; depth++) {
        struct step *step = &path[depth];
        step->at = ramet_wpage_child(step->node->page, key);
        path[depth + 1].node = own(spare, child_of(step->node, step->at));
        set_child(step->node, step->at, path[depth + 1].node);
    }
    return depth;
}

/* --- records of nodes, their children with them --- */

static bool insert(struct ramet_wnode *node, unsigned at, const uint8_t *key, size_t key_size, const void *value,
                   size_t size, struct ramet_wnode *child)
{
    unsigned count = ramet_wpage_count(node->page);
    if (node->level && count == RAMET_WNODE_FANOUT)
        return false;
    if (!ramet_wpage_insert(node->page, at, key, key_size, value, size))
        return false;
    if (node->level) {
        for (unsigned i = count; i > at; i--)
            set_child(node, i, child_of(node, i - 1));
        set_child(node, at, child);
    }
    return true;
}

static void drop(struct ramet_wnode *node, unsigned at)
{
    ramet_wpage_remove(node->page, at);
    unsigned count = ramet_wpage_count(node->page);
    if (node->level) {
        for (unsigned i = at; i < count; i++)
            set_child(node, i, child_of(node, i + 1));
        set_child(node, count, NULL);
    }
}

/* --- splitting --- */

struct entry {
    const uint8_t *key;
    size_t key_size;
    const void *value;
    size_t size;
    struct ramet_wnode *child;
};

/* How many of the records, the new one at `at` among them, stay in the left node. */
static unsigned split_point(const struct ramet_wnode *node, unsigned at, const struct entry *entry)
{
    unsigned count = ramet_wpage_count(node->page), left = 0;
    size_t total = ramet_wpage_used(node->page) + 6 + entry->key_size + entry->size, sum = 0;
    if (at == count)
        return count;
    for (; left < count && sum < total / 2; left++) {
        struct ramet_wrecord record = {0};
        if (left != at)
            record = ramet_wpage_record(node->page, left < at ? left : left - 1);
        sum += left == at ? 6 + entry->key_size + entry->size : 6u + record.key_size + record.value_size;
    }
    return left;
}

/* Splits `node` around the new record; *ret_sep, which lies in scratch, bounds `right` from below. */
static void split(struct ramet_wnode *node, struct ramet_wnode *right, unsigned at, const struct entry *entry,
                  struct ramet_wbytes *ret_sep)
{
    uint8_t old[RAMET_PAGE_SIZE];
    struct ramet_wnode *children[RAMET_WNODE_FANOUT + 1];
    unsigned count = ramet_wpage_count(node->page), left = split_point(node, at, entry);
    struct ramet_wbytes last = {0};
    memcpy(old, node->page, sizeof old);
    for (unsigned i = 0; node->level && i < count; i++) {
        children[i] = child_of(node, i);
        set_child(node, i, NULL);
    }
    ramet_wpage_init(node->page, node->level);
    right->settled = node->settled;
    for (unsigned i = 0; i <= count; i++) {
        struct entry e = *entry;
        if (i != at) {
            unsigned from = i < at ? i : i - 1;
            struct ramet_wrecord record = ramet_wpage_record(old, from);
            e = (struct entry){record.key, record.key_size, record.value, record.value_size,
                               node->level ? children[from] : NULL};
        }
        if (i == left) {
            size_t same = 0;
            while (same < last.size && same < e.key_size && last.bytes[same] == e.key[same])
                same++;
            /* Of a leaf's key as much as tells it from the one before. */
            ret_sep->size = (uint16_t)(node->level || same + 1 > e.key_size ? e.key_size : same + 1);
            memcpy(ret_sep->bytes, e.key, ret_sep->size);
            e.key_size = node->level ? 0 : e.key_size;
        }
        struct ramet_wnode *to = i < left ? node : right;
        bool fits = insert(to, i < left ? i : i - left, e.key, e.key_size, e.value, e.size, e.child);
        assert(fits);
        (void)fits;
        if (i + 1 == left) {
            last.size = (uint16_t)e.key_size;
            memcpy(last.bytes, e.key, e.key_size);
        }
    }
}

/* Puts a record into the node at path[depth], splitting upwards as far as needed. */
static void insert_up(struct ramet_wtree *tree, struct ramet_wspare *spare, struct step *path, int depth, unsigned at,
                      struct entry entry)
{
    static const uint8_t no_chunk[8];
    struct ramet_wbytes seps[2];
    for (int turn = 0;; turn ^= 1) {
        struct ramet_wnode *node = path[depth].node;
        if (insert(node, at, entry.key, entry.key_size, entry.value, entry.size, entry.child))
            return;
        struct ramet_wnode *right = take(spare, node->level);
        struct ramet_wbytes *sep = &seps[turn]; /* entry.key may lie in the other one */
        split(node, right, at, &entry, sep);
        entry = (struct entry){sep->bytes, sep->size, no_chunk, sizeof no_chunk, right};
        if (depth == 0) {
            struct ramet_wnode *root = take(spare, (uint8_t)(node->level + 1));
            root->settled = node->settled;
            insert(root, 0, sep->bytes, 0, no_chunk, sizeof no_chunk, node);
            insert(root, 1, sep->bytes, sep->size, no_chunk, sizeof no_chunk, right);
            set_root(tree, root);
            return;
        }
        at = path[--depth].at + 1;
    }
}

void ramet_wtree_put(struct ramet_wtree *tree, struct ramet_wspare *spare, const struct ramet_wbytes *key,
                     const void *value, size_t size)
{
    struct step path[RAMET_WNODE_LEVELS];
    bool equal;
    int depth = own_path(tree, spare, key, path);
    struct ramet_wnode *leaf = path[depth].node;
    unsigned at = ramet_wpage_find(leaf->page, key, &equal);
    if (equal) {
        struct ramet_wrecord record = ramet_wpage_record(leaf->page, at);
        if (record.value_size == size) {
            memcpy((uint8_t *)record.value, value, size);
            return;
        }
        ramet_wpage_remove(leaf->page, at);
    }
    insert_up(tree, spare, path, depth, at, (struct entry){key->bytes, key->size, value, size, NULL});
}

/* --- shrinking --- */

/* Takes child `at` of `parent` out; the one that comes first then has no key. */
static void drop_child(struct ramet_wnode *parent, unsigned at)
{
    drop(parent, at);
    if (at > 0)
        return;
    struct ramet_wrecord record = ramet_wpage_record(parent->page, 0);
    uint8_t value[8];
    memcpy(value, record.value, sizeof value);
    ramet_wpage_remove(parent->page, 0);
    ramet_wpage_insert(parent->page, 0, value, 0, value, sizeof value);
}

/* Copies the records of `from` to `at` in `to`; `sep` is the key of the first of the two that has none. */
static bool absorb(struct ramet_wnode *to, struct ramet_wnode *from, bool before, const struct ramet_wrecord *sep)
{
    unsigned own_count = ramet_wpage_count(to->page), count = ramet_wpage_count(from->page);
    size_t sep_size = to->level ? sep->key_size : 0;
    if (ramet_wpage_used(to->page) + ramet_wpage_used(from->page) + sep_size > merge_to ||
        (to->level && own_count + count > RAMET_WNODE_FANOUT))
        return false;
    if (before && to->level) { /* what was first gets its bound back */
        uint8_t value[8];
        memcpy(value, ramet_wpage_record(to->page, 0).value, sizeof value);
        ramet_wpage_remove(to->page, 0);
        ramet_wpage_insert(to->page, 0, sep->key, sep->key_size, value, sizeof value);
    }
    for (unsigned i = 0; i < count; i++) {
        struct ramet_wrecord record = ramet_wpage_record(from->page, i);
        bool bound = to->level && i == 0 && !before;
        struct ramet_wnode *child = from->level ? child_of(from, i) : NULL;
        insert(to, before ? i : own_count + i, bound ? sep->key : record.key, bound ? sep->key_size : record.key_size,
               record.value, record.value_size, child ? ramet_wnode_ref(child) : NULL);
    }
    to->settled = to->settled < from->settled ? to->settled : from->settled;
    return true;
}

/* Lets the child at `at`, of this head's own, take in a neighbour. */
static void merge(struct ramet_wnode *parent, unsigned at)
{
    struct ramet_wnode *node = child_of(parent, at), *other;
    if (at > 0 && (other = child_of(parent, at - 1))) {
        struct ramet_wrecord sep = ramet_wpage_record(parent->page, at);
        if (absorb(node, other, true, &sep)) {
            /* The node stands where its neighbour stood. */
            set_child(parent, at - 1, node);
            set_child(parent, at, NULL);
            drop(parent, at);
            ramet_wnode_unref(other);
            return;
        }
    }
    if (at + 1 < ramet_wpage_count(parent->page) && (other = child_of(parent, at + 1))) {
        struct ramet_wrecord sep = ramet_wpage_record(parent->page, at + 1);
        if (absorb(node, other, false, &sep)) {
            drop(parent, at + 1);
            ramet_wnode_unref(other);
        }
    }
}

void ramet_wtree_delete(struct ramet_wtree *tree, struct ramet_wspare *spare, const struct ramet_wbytes *key)
{
    struct step path[RAMET_WNODE_LEVELS];
    struct ramet_wnode *node = atomic_load_explicit(&tree->root, memory_order_acquire);
    bool equal;
    while (node->level)
        node = child_of(node, ramet_wpage_child(node->page, key));
    unsigned at = ramet_wpage_find(node->page, key, &equal);
    if (!equal)
        return;
    int depth = own_path(tree, spare, key, path);
    ramet_wpage_remove(path[depth].node->page, at);
}

static bool is_own(struct ramet_wnode *node)
{
    return node && atomic_load_explicit(&node->refs, memory_order_acquire) == 1 && node->dirty;
}

void ramet_wtree_shrink(struct ramet_wtree *tree, const struct ramet_wbytes *key)
{
    struct step path[RAMET_WNODE_LEVELS];
    struct ramet_wnode *root = atomic_load_explicit(&tree->root, memory_order_acquire), *only;
    int depth = 0;
    path[0].node = root;
    if (!is_own(root))
        return;
    for (; path[depth].node->level; depth++) {
        path[depth].at = ramet_wpage_child(path[depth].node->page, key);
        path[depth + 1].node = child_of(path[depth].node, path[depth].at);
        if (!is_own(path[depth + 1].node))
            return;
    }
    for (; depth > 0; depth--) {
        struct ramet_wnode *parent = path[depth - 1].node, *child = path[depth].node;
        unsigned at = path[depth - 1].at;
        if (ramet_wpage_used(child->page) >= merge_below || ramet_wpage_count(parent->page) == 1)
            break;
        if (ramet_wpage_count(child->page) == 0) {
            drop_child(parent, at);
            ramet_wnode_unref(child);
        } else {
            merge(parent, at);
        }
    }
    while (root->level && ramet_wpage_count(root->page) == 1 && (only = child_of(root, 0))) {
        ramet_wnode_ref(only);
        set_root(tree, only);
        ramet_wnode_unref(root);
        root = only;
        if (!is_own(root))
            return;
    }
}
