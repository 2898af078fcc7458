/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Promotion: a branch takes the name and the place of the one it was forked from.
 *
 * One batch takes the parent's record away and writes those of the branch and of its siblings, so a crash
 * leaves the tree of before or that of after; what follows in memory cannot fail. The parent's directory is then
 * nobody's, like that of a branch removed.
 *
 * The branch keeps id and serial, hence its inode numbers: files of it that are open stay what they are. Records
 * are written under record_lock only, so none is written with a name or parent of before.
 */
#include "base/cleanup.h"
#include "catalog_private.h"

#include <stdio.h>
#include <string.h>

struct promotion {
    struct ramet_catalog *catalog;
    struct ramet_branch *branch, *parent; /* `parent` is borrowed from the catalog */
    const char *name;                     /* the parent's, kept by the branch */
    char grandparent[RAMET_CATALOG_ID_SIZE];
    struct ramet_branch **siblings; /* owned, as are its references */
    size_t sibling_count;
};

/* Under the lock. */
static int check(struct promotion *p, struct ramet_error *err)
{
    struct ramet_branch *branch = p->branch;
    const struct ramet_snapshot *base = ramet_members_by_id(&p->catalog->snapshots, branch->base);
    if (ramet_members_by_id(&p->catalog->branches, branch->id) != branch)
        return ramet_error_set(err, RAMET_NOT_FOUND, "branch \"%s\" is removed", branch->name);
    if (!branch->parent[0])
        return ramet_error_set(err, RAMET_CONFLICT, "branch \"%s\" has no parent: it was not forked", branch->name);
    p->parent = ramet_members_by_id(&p->catalog->branches, branch->parent);
    if (!p->parent || p->parent == branch)
        return ramet_error_set(err, RAMET_CONFLICT, "branch \"%s\" has no parent any more: %s is removed", branch->name,
                               branch->parent);
    if (!base || !atomic_load(&base->durable))
        return ramet_error_set(err, RAMET_CONFLICT, "branch \"%s\" lies over snapshot %s, which is not durable",
                               branch->name, branch->base);
    return 0;
}

/* Under the lock. */
static int find_siblings(struct promotion *p, struct ramet_error *err)
{
    const struct ramet_u64map *serials = &p->catalog->branches.serials;
    uint64_t serial, object;
    p->siblings = calloc(serials->count, sizeof *p->siblings);
    if (!p->siblings)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to promote branch %s", p->branch->name);
    for (size_t at = 0; ramet_u64map_next(serials, &at, &serial, &object);) {
        struct ramet_branch *other = (struct ramet_branch *)(uintptr_t)object;
        if (other == p->branch || strcmp(other->parent, p->parent->id) != 0)
            continue;
        atomic_fetch_add(&other->refs, 1);
        p->siblings[p->sibling_count++] = other;
    }
    return 0;
}

static int prepare(struct promotion *p, struct ramet_error *err)
{
    pthread_mutex_lock(&p->catalog->lock);
    int r = check(p, err);
    if (r == 0)
        r = find_siblings(p, err);
    if (r == 0)
        r = ramet_branch_name_keep(p->branch, p->parent->name, &p->name, err);
    if (r == 0)
        memcpy(p->grandparent, p->parent->parent, sizeof p->grandparent);
    pthread_mutex_unlock(&p->catalog->lock);
    return r;
}

/* A sibling without a record, which is being made, writes its own under record_lock. */
static int write_records(struct promotion *p, struct ramet_error *err)
{
    struct ramet_store *store = p->catalog->store;
    _cleanup_(ramet_kv_batch_cleanup) struct ramet_kv_batch *batch = ramet_kv_batch_new(ramet_store_kv(store));
    if (!batch)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to promote branch %s", p->branch->name);
    ramet_kv_delete(batch, RAMET_KV_BRANCHES, p->parent->id, strlen(p->parent->id));
    int r = ramet_branch_record_put(p->branch, p->name, p->grandparent, batch, err);
    for (size_t i = 0; i < p->sibling_count && r == 0; i++)
        if (p->siblings[i]->recorded)
            r = ramet_branch_record_put(p->siblings[i], NULL, p->branch->id, batch, err);
    return r < 0 ? r : ramet_store_write(store, batch, err);
}

/* What the records say now, for all threads at once. */
static void turn(struct promotion *p)
{
    struct ramet_catalog *catalog = p->catalog;
    struct ramet_branch **names = catalog->branch_names;
    pthread_mutex_lock(&catalog->lock);
    size_t from = ramet_branch_name_index(catalog, p->branch), to = ramet_branch_name_index(catalog, p->parent);
    ramet_members_remove(&catalog->branches, p->parent->id, p->parent->serial);
    names[to] = p->branch;
    memmove(&names[from], &names[from + 1], (catalog->branches.ids.count - from) * sizeof *names);
    p->branch->name = p->name;
    memcpy(p->branch->parent, p->grandparent, sizeof p->branch->parent);
    for (size_t i = 0; i < p->sibling_count; i++)
        memcpy(p->siblings[i]->parent, p->branch->id, sizeof p->siblings[i]->parent);
    pthread_mutex_unlock(&catalog->lock);
}

int ramet_catalog_branch_promote(struct ramet_catalog *catalog, struct ramet_branch *branch,
                                 struct ramet_branch **ret_parent, struct ramet_error *err)
{
    struct promotion p = {.catalog = catalog, .branch = branch};
    pthread_mutex_lock(&catalog->record_lock);
    int r = prepare(&p, err);
    if (r == 0)
        r = write_records(&p, err);
    if (r == 0) {
        turn(&p);
        *ret_parent = p.parent; /* with the reference that the catalog had */
    }
    pthread_mutex_unlock(&catalog->record_lock);
    for (size_t i = 0; i < p.sibling_count; i++)
        ramet_branch_unref(p.siblings[i]);
    free(p.siblings);
    return r;
}

void ramet_branch_parent(struct ramet_branch *branch, char parent[RAMET_CATALOG_ID_SIZE])
{
    pthread_mutex_lock(&branch->catalog->lock);
    memcpy(parent, branch->parent, RAMET_CATALOG_ID_SIZE);
    pthread_mutex_unlock(&branch->catalog->lock);
}
