/* SPDX-License-Identifier: Apache-2.0 */
#include "merge_base.h"

#include "base/cleanup.h"
#include "change.h"
#include "records.h"
#include "view.h"
#include "workspace_private.h"

#include <stdlib.h>
#include <string.h>

enum { most_ancestors = 64 };
#define KEPT_PREFIX "merged-"

/* --- by forks --- */

/* A workspace, its parent, and so on, as far as they are still there. References, freed by lineage_free. */
struct lineage {
    struct ramet_workspace *items[most_ancestors];
    size_t count;
};

static void lineage_free(struct lineage *lineage)
{
    for (size_t i = 0; i < lineage->count; i++)
        ramet_workspace_unref(lineage->items[i]);
}

static void lineage_find(struct ramet_workspace *workspace, struct lineage *ret)
{
    struct ramet_workspace_info info;
    struct ramet_workspaces *set = workspace->set;
    ret->items[0] = ramet_workspace_ref(workspace);
    for (ret->count = 1; ret->count < most_ancestors; ret->count++) {
        ramet_workspace_info(ret->items[ret->count - 1], &info);
        if (!info.parent[0] || ramet_workspace_find(set, info.parent, &ret->items[ret->count], NULL) < 0)
            return;
    }
}

static int no_ancestor(struct ramet_error *err)
{
    ramet_error_set(err, RAMET_NOT_FOUND, "the two workspaces have no common ancestor that is still known");
    return ramet_error_hint(err, "name a state of either as the base");
}

/*
 * Where the lines of the two meet: in a workspace that both descend from, or in one of the two. Each line left it with
 * a fork, whose base is what it took along; the older one of two is what both have.
 */
static int forked_base(struct ramet_workspace *ours, struct ramet_workspace *theirs, struct ramet_workspace **ret,
                       struct ramet_error *err)
{
    _cleanup_(lineage_free) struct lineage a = {.count = 0}, b = {.count = 0};
    lineage_find(ours, &a);
    lineage_find(theirs, &b);
    for (size_t i = 0; i < a.count; i++)
        for (size_t k = 0; k < b.count; k++) {
            if (a.items[i] != b.items[k])
                continue;
            struct ramet_workspace *x = i > 0 ? a.items[i - 1] : NULL, *y = k > 0 ? b.items[k - 1] : NULL;
            struct ramet_workspace_info info_x, info_y;
            if (!x && !y)
                return ramet_error_set(err, RAMET_INVALID, "a workspace is not merged into itself");
            if (x && y) {
                ramet_workspace_info(x, &info_x);
                ramet_workspace_info(y, &info_y);
                y = info_x.created_ms < info_y.created_ms ||
                            (info_x.created_ms == info_y.created_ms && info_x.serial < info_y.serial)
                        ? x
                        : y;
            }
            int r = ramet_workspace_base_open(y ? y : x, ret, err);
            return r == -RAMET_NOT_FOUND ? no_ancestor(err) : r;
        }
    return no_ancestor(err);
}

/* --- by earlier merges --- */

/* The serial of the state of `other` that the workspace has, 0: none. */
static int merged_state(struct ramet_workspace *workspace, uint64_t other, uint64_t *ret, struct ramet_error *err)
{
    struct ramet_wkey key;
    struct ramet_wvalue value;
    int r = ramet_workspace_lock_shared(workspace, err);
    *ret = 0;
    if (r < 0)
        return r;
    ramet_wkey_merged(&key, other);
    r = ramet_wtree_get(ramet_workspace_tree(workspace), &key, &value, err);
    ramet_workspace_unlock(workspace);
    if (r == 0 && value.size == 8)
        *ret = ramet_get_le64(value.bytes);
    return r == -RAMET_NOT_FOUND ? 0 : r;
}

int ramet_wmerge_base(struct ramet_workspace *ours, struct ramet_workspace *theirs, struct ramet_workspace **ret,
                      struct ramet_error *err)
{
    uint64_t found[2];
    int r = merged_state(ours, theirs->serial, &found[0], err);
    if (r == 0)
        r = merged_state(theirs, ours->serial, &found[1], err);
    if (r < 0)
        return r;
    for (int tries = 0, later = found[1] > found[0]; tries < 2; tries++, later = !later) {
        _cleanup_(ramet_workspace_cleanup) struct ramet_workspace *state = NULL;
        if (found[later] && ramet_workspace_by_serial(ours->set, found[later], &state, NULL) == 0 && state->is_state)
            return ramet_wview_open(state, ret, err);
    }
    return forked_base(ours, theirs, ret, err);
}

int ramet_wmerge_keep(struct ramet_workspace *ours, struct ramet_workspace *theirs, struct ramet_workspace **ret,
                      struct ramet_error *err)
{
    struct ramet_workspace_state state;
    char name[RAMET_CATALOG_NAME_SIZE], id[RAMET_CATALOG_ID_SIZE];
    ramet_id_make(id);
    snprintf(name, sizeof name, KEPT_PREFIX "%s-%s", ours->id, id);
    int r = ramet_workspace_snapshot(theirs, name, &state, err);
    return r < 0 ? r : ramet_workspace_by_serial(ours->set, state.serial, ret, err);
}

/* Whether the state was kept for a merge into this workspace, or into one that is gone. */
static bool kept_for(const struct ramet_workspace_state *state, struct ramet_workspace *ours)
{
    _cleanup_(ramet_workspace_cleanup) struct ramet_workspace *into = NULL;
    char id[RAMET_CATALOG_ID_SIZE];
    if (strncmp(state->name, KEPT_PREFIX, strlen(KEPT_PREFIX)) != 0)
        return false;
    snprintf(id, sizeof id, "%s", state->name + strlen(KEPT_PREFIX));
    return strcmp(id, ours->id) == 0 || ramet_workspace_find(ours->set, id, &into, NULL) < 0;
}

void ramet_wmerge_kept(struct ramet_workspace *ours, struct ramet_workspace *theirs, struct ramet_workspace *kept,
                       bool applied)
{
    _autofree_ struct ramet_workspace_state *states = NULL;
    size_t count = 0;
    if (!applied) {
        ramet_workspace_remove(kept, NULL); /* else the next merge does */
        return;
    }
    if (ramet_workspace_states(theirs, &states, &count, NULL) < 0)
        return;
    for (size_t i = 0; i < count; i++)
        if (states[i].serial != kept->serial && kept_for(&states[i], ours))
            ramet_workspace_state_remove(theirs, states[i].name, NULL);
}

int ramet_wmerge_note(struct ramet_workspace *ours, struct ramet_wchange *change, uint64_t theirs, uint64_t state,
                      struct ramet_error *err)
{
    struct ramet_wkey key;
    struct ramet_wvalue value;
    uint8_t bytes[8];
    int r;
    ramet_wkey_first(&key, 0, RAMET_WTYPE_MERGED);
    while ((r = ramet_wtree_next(ramet_workspace_tree(ours), &key, &value, err)) == 0 && key.ino == 0 &&
           key.type == RAMET_WTYPE_MERGED) { /* of workspaces that are there no more */
        _cleanup_(ramet_workspace_cleanup) struct ramet_workspace *other = NULL;
        if (key.sub_size == 8 && ramet_workspace_by_serial(ours->set, ramet_get_be64(key.sub), &other, NULL) < 0)
            ramet_wchange_delete(change, &key);
        ramet_wkey_after(&key);
    }
    if (r < 0 && r != -RAMET_NOT_FOUND)
        return r;
    ramet_wkey_merged(&key, theirs);
    ramet_put_le64(bytes, state);
    ramet_wchange_put(change, &key, bytes, sizeof bytes);
    return 0;
}
