/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Comparing two trees. A cursor stands at a record or before a subtree that it has not
 * entered; of the two, what begins first is entered or visited. Two cursors before the
 * same subtree both pass it by: what they passed until then was all that lies before it.
 */
#include "tree_private.h"

#include <stdlib.h>
#include <string.h>

struct step {
    struct ramet_wnode *node;
    unsigned at;
    struct ramet_wrecord bound; /* its key bounds the node from below: the first child's, which has none */
};

struct cursor {
    struct ramet_wtree *tree;
    struct step path[RAMET_WNODE_LEVELS];
    int depth;           /* of the node it stands in; -1: before the whole tree, or past it */
    bool ended, entered; /* the root was entered */
};

/* What a cursor stands before. */
struct place {
    bool is_record;
    int level;                   /* of the subtree's node */
    struct ramet_wnode *node;    /* the subtree, when it is in memory */
    ramet_chunk chunk;           /* its stored form, or RAMET_CHUNK_ZERO */
    struct ramet_wrecord record; /* the record; or in `key` the bound */
};

static void of_node(struct place *ret, struct ramet_wnode *node)
{
    ret->node = node;
    ret->level = node->level;
    ret->chunk = node->dirty ? RAMET_CHUNK_ZERO : node->chunk;
}

static int look(struct cursor *cursor, struct place *ret, struct ramet_error *err)
{
    static const uint8_t nothing[1];
    *ret = (struct place){.record = {.key = nothing}};
    if (!cursor->entered) {
        struct ramet_wnode *root;
        int r = ramet_wtree_root(cursor->tree, &root, err);
        if (r == 0)
            of_node(ret, root);
        return r;
    }
    struct step *step = &cursor->path[cursor->depth];
    ret->record = ramet_wpage_record(step->node->page, step->at);
    ret->is_record = step->node->level == 0;
    if (ret->is_record)
        return 0;
    if (step->at == 0)
        ret->record = step->bound;
    struct ramet_wnode *child = atomic_load_explicit(&step->node->children[step->at], memory_order_acquire);
    ret->level = step->node->level - 1;
    ret->chunk = ramet_wnode_child_chunk(step->node, step->at);
    if (child)
        of_node(ret, child);
    return 0;
}

/* Goes up until there is something at the cursor's place. */
static void settle(struct cursor *cursor)
{
    while (cursor->depth >= 0 &&
           cursor->path[cursor->depth].at >= ramet_wpage_count(cursor->path[cursor->depth].node->page))
        if (--cursor->depth >= 0)
            cursor->path[cursor->depth].at++;
    cursor->ended = cursor->entered && cursor->depth < 0;
}

/* Passes the record or subtree by. */
static void pass(struct cursor *cursor)
{
    if (cursor->entered)
        cursor->path[cursor->depth].at++;
    else
        cursor->entered = true;
    settle(cursor);
}

static int enter(struct cursor *cursor, struct ramet_error *err)
{
    struct ramet_wnode *node;
    struct place place;
    int r = look(cursor, &place, err);
    if (r < 0)
        return r;
    if (!cursor->entered)
        r = ramet_wtree_root(cursor->tree, &node, err);
    else
        r = ramet_wnode_child(cursor->tree->store, cursor->path[cursor->depth].node, cursor->path[cursor->depth].at,
                              &node, err);
    if (r < 0)
        return r;
    cursor->entered = true;
    cursor->path[++cursor->depth] = (struct step){node, 0, place.record};
    settle(cursor);
    return 0;
}

static bool is_same(const struct place *a, const struct place *b)
{
    return !a->is_record && !b->is_record && a->level == b->level &&
           ((a->node && a->node == b->node) || (a->chunk != RAMET_CHUNK_ZERO && a->chunk == b->chunk));
}

typedef int visit_fn(void *ctx, const struct ramet_wkey *key, const struct ramet_wvalue *in_a,
                     const struct ramet_wvalue *in_b, struct ramet_error *err);

/* The callback's copies: too large for the stack of whoever calls deep down. */
struct scratch {
    struct ramet_wkey key;
    struct ramet_wvalue a, b;
};

static int tell(struct scratch *scratch, const struct ramet_wrecord *a, const struct ramet_wrecord *b, visit_fn *visit,
                void *ctx, struct ramet_error *err)
{
    const struct ramet_wrecord *some = a ? a : b;
    if (a && b && a->value_size == b->value_size && memcmp(a->value, b->value, a->value_size) == 0)
        return 0;
    if (!ramet_wbytes_get(some->key, some->key_size, &scratch->key))
        return ramet_error_set(err, RAMET_CORRUPT, "a key of the tree is damaged");
    if (a) {
        scratch->a.size = a->value_size;
        memcpy(scratch->a.bytes, a->value, a->value_size);
    }
    if (b) {
        scratch->b.size = b->value_size;
        memcpy(scratch->b.bytes, b->value, b->value_size);
    }
    return visit(ctx, &scratch->key, a ? &scratch->a : NULL, b ? &scratch->b : NULL, err);
}

/* One step with both cursors somewhere. */
static int advance(struct cursor *a, struct cursor *b, struct scratch *scratch, visit_fn *visit, void *ctx,
                   struct ramet_error *err)
{
    struct place at_a, at_b;
    int r = look(a, &at_a, err);
    if (r == 0)
        r = look(b, &at_b, err);
    if (r < 0)
        return r;
    if (is_same(&at_a, &at_b)) {
        pass(a);
        pass(b);
        return 0;
    }
    int order = ramet_wbytes_compare(at_a.record.key, at_a.record.key_size, at_b.record.key, at_b.record.key_size);
    /* What is entered first must begin first; of two that begin alike the higher one. */
    if (!at_a.is_record && (order < 0 || (order == 0 && (at_b.is_record || at_a.level >= at_b.level))))
        return enter(a, err);
    if (!at_b.is_record && order >= 0)
        return enter(b, err);
    if (order < 0) {
        r = tell(scratch, &at_a.record, NULL, visit, ctx, err);
        pass(a);
    } else if (order > 0) {
        r = tell(scratch, NULL, &at_b.record, visit, ctx, err);
        pass(b);
    } else {
        r = tell(scratch, &at_a.record, &at_b.record, visit, ctx, err);
        pass(a);
        pass(b);
    }
    return r;
}

/* The other one has ended: all that is left is in this one alone. */
static int rest(struct cursor *cursor, bool is_a, struct scratch *scratch, visit_fn *visit, void *ctx,
                struct ramet_error *err)
{
    struct place at;
    int r = look(cursor, &at, err);
    if (r < 0)
        return r;
    if (!at.is_record)
        return enter(cursor, err);
    r = tell(scratch, is_a ? &at.record : NULL, is_a ? NULL : &at.record, visit, ctx, err);
    pass(cursor);
    return r;
}

/* Down to where the key is, or would be. */
static int seek(struct cursor *cursor, const struct ramet_wkey *key, struct ramet_error *err)
{
    struct ramet_wbytes bytes;
    bool equal;
    ramet_wbytes_set(&bytes, key);
    for (;;) {
        int r = enter(cursor, err);
        if (r < 0 || cursor->depth < 0) /* an empty tree */
            return r;
        struct step *step = &cursor->path[cursor->depth];
        if (step->node->level == 0) {
            step->at = ramet_wpage_find(step->node->page, &bytes, &equal);
            settle(cursor);
            return 0;
        }
        step->at = ramet_wpage_child(step->node->page, &bytes);
    }
}

int ramet_wtree_diff_from(struct ramet_wtree *a, struct ramet_wtree *b, const struct ramet_wkey *from, visit_fn *visit,
                          void *ctx, struct ramet_error *err)
{
    struct cursor in_a = {.tree = a, .depth = -1}, in_b = {.tree = b, .depth = -1};
    struct scratch *scratch = malloc(sizeof *scratch);
    int r = scratch ? 0 : ramet_error_set(err, RAMET_NO_MEMORY, "no memory to compare trees");
    if (r == 0 && from)
        r = seek(&in_a, from, err);
    if (r == 0 && from)
        r = seek(&in_b, from, err);
    while (r == 0 && !(in_a.ended && in_b.ended)) {
        if (in_a.ended)
            r = rest(&in_b, false, scratch, visit, ctx, err);
        else if (in_b.ended)
            r = rest(&in_a, true, scratch, visit, ctx, err);
        else
            r = advance(&in_a, &in_b, scratch, visit, ctx, err);
    }
    free(scratch);
    return r;
}

int ramet_wtree_diff(struct ramet_wtree *a, struct ramet_wtree *b, visit_fn *visit, void *ctx, struct ramet_error *err)
{
    return ramet_wtree_diff_from(a, b, NULL, visit, ctx, err);
}
