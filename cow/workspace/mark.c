/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What workspaces need of the store, for garbage collection. All heads, states and views
 * are frozen at the start and held while they are walked, together with what the last
 * checkpoint stored, from which a crash would continue.
 *
 * Why nothing in use goes: a reference to a chunk in a tree comes from a tree that was
 * frozen, because changes, forks and rollbacks only move references about, and changes of
 * the journal likewise start from what is stored; or it comes from a checkpoint. A
 * checkpoint under way when marking begins has an ingest open that the collection waited
 * for, or keeps marking out with `maintenance` until it is done, and a later one's ingest
 * marks what it reuses. A node that is reused was reached by this walk or the one over
 * images, and what is below it with it.
 *
 * A changed node names what it replaces, which its next stored form may be a difference
 * to: that is walked too.
 */
#include "base/cleanup.h"
#include "catalog_private.h"
#include "settle.h"
#include "stored.h"

#include <stdlib.h>
#include <string.h>

struct mark {
    struct ramet_store *store;
    struct ramet_gc *gc;
    uint64_t stamp;
    struct ramet_wvisitor visitor;
};

static bool mark_node_chunk(void *ctx, ramet_chunk chunk) { return ramet_gc_mark(ctx, chunk); }

static void mark_page(void *ctx, uint64_t ino, uint64_t page, ramet_chunk chunk)
{
    (void)ino;
    (void)page;
    ramet_gc_mark(ctx, chunk);
}

static int mark_tree(struct mark *mark, struct ramet_wnode *node, struct ramet_error *err)
{
    int r = 0;
    if (node->dirty ? node->stored_in == mark->stamp : !ramet_gc_mark(mark->gc, node->chunk))
        return 0;
    if (node->dirty) {
        node->stored_in = mark->stamp;
        r = ramet_wstored_walk(mark->store, node->chunk, &mark->visitor, err);
        r = r == -RAMET_CORRUPT ? 0 : r; /* nothing can be a difference to what cannot be read */
    }
    if (node->level == 0)
        ramet_wstored_leaf(node->page, &mark->visitor);
    for (unsigned i = 0; node->level && i < ramet_wpage_count(node->page) && r == 0; i++) {
        struct ramet_wnode *child = atomic_load_explicit(&node->children[i], memory_order_acquire);
        if (child)
            r = mark_tree(mark, child, err);
        else
            r = ramet_wstored_walk(mark->store, ramet_wnode_child_chunk(node, i), &mark->visitor, err);
    }
    return r;
}

static int mark_stored(void *ctx, const struct ramet_wstored *stored, struct ramet_error *err)
{
    struct mark *mark = ctx;
    int r = ramet_wstored_walk(mark->store, stored->root, &mark->visitor, err);
    if (r == 0)
        r = ramet_wstored_walk(mark->store, stored->base, &mark->visitor, err);
    return r < 0 ? ramet_error_prefix(err, "workspace \"%s\"", stored->name) : 0;
}

/* --- the open set --- */

struct root {
    struct ramet_wnode *node; /* a reference, or NULL */
    ramet_chunk chunk;
};

static void take(struct root **at, struct ramet_wtree *tree)
{
    struct ramet_wnode *node = atomic_load(&tree->root);
    *(*at)++ = (struct root){node ? ramet_wnode_ref(node) : NULL, tree->root_chunk};
}

/* The roots of everything, at one instant; owned. */
static struct root *freeze(struct ramet_workspaces *set, size_t *ret_count)
{
    size_t capacity = 0, count;
    struct root *roots = NULL;
    for (bool fits = false; !fits;) {
        free(roots);
        pthread_mutex_lock(&set->names);
        capacity = set->head_count + set->state_count + 64;
        pthread_mutex_unlock(&set->names);
        if (!(roots = calloc(2 * capacity, sizeof *roots)))
            return NULL;
        struct root *at = roots;
        pthread_rwlock_wrlock(&set->gate);
        pthread_mutex_lock(&set->names);
        count = set->head_count + set->state_count;
        fits = count <= capacity;
        for (size_t i = 0; fits && i < count; i++) {
            struct ramet_workspace *head = i < set->head_count ? set->heads[i] : set->states[i - set->head_count];
            take(&at, &head->tree);
            take(&at, &head->base);
        }
        pthread_mutex_unlock(&set->names);
        pthread_rwlock_unlock(&set->gate);
    }
    *ret_count = 2 * count;
    return roots;
}

static int mark_set(struct mark *mark, struct ramet_workspaces *set, struct ramet_error *err)
{
    size_t count = 0;
    pthread_mutex_lock(&set->maintenance);
    mark->stamp = set->stamp += 2;
    struct root *roots = freeze(set, &count);
    int r = roots ? ramet_wstored_each(mark->store, mark_stored, mark, err)
                  : ramet_error_set(err, RAMET_NO_MEMORY, "no memory to mark workspaces");
    for (size_t i = 0; i < count; i++) {
        if (r == 0)
            r = roots[i].node ? mark_tree(mark, roots[i].node, err)
                              : ramet_wstored_walk(mark->store, roots[i].chunk, &mark->visitor, err);
        ramet_wnode_unref(roots[i].node);
    }
    free(roots);
    pthread_mutex_unlock(&set->maintenance);
    return r;
}

int ramet_workspaces_mark(struct ramet_catalog *catalog, struct ramet_gc *gc, struct ramet_error *err)
{
    struct mark mark = {
        .store = catalog->store, .gc = gc, .visitor = {.node = mark_node_chunk, .page = mark_page, .ctx = gc}};
    pthread_mutex_lock(&catalog->workspaces_lock);
    int r = catalog->workspaces ? mark_set(&mark, catalog->workspaces, err)
                                : ramet_wstored_each(mark.store, mark_stored, &mark, err);
    pthread_mutex_unlock(&catalog->workspaces_lock);
    return r;
}
