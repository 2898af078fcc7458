/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A merge looks at views, so that both sides go on meanwhile; when all is decided it locks
 * ours, and begins anew if ours changed since.
 */
#include "merge.h"

#include "base/cleanup.h"
#include "merge_plan.h"
#include "view.h"
#include "workspace_private.h"

#include <stdlib.h>
#include <string.h>

enum { most_tries = 5, most_ancestors = 64 };

const char *ramet_wconflict_name(enum ramet_wconflict_kind kind)
{
    static const char *const names[] = {"both-modified", "modify-delete", "delete-modify", "both-added",
                                        "type",          "rename",        "directory"};
    return names[kind];
}

void ramet_wmerge_result_free(struct ramet_wmerge_result *result)
{
    for (size_t i = 0; i < result->conflict_count; i++)
        free(result->conflicts[i].path);
    free(result->conflicts);
    *result = (struct ramet_wmerge_result){0};
}

/* --- the ancestor --- */

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
static int find_base(struct ramet_workspace *ours, struct ramet_workspace *theirs, struct ramet_workspace **ret,
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

/* --- merging --- */

static int merge_once(struct ramet_workspace *ours, struct ramet_wmerge_plan *plan, struct ramet_error *err)
{
    int r = ramet_wview_open(ours, &plan->view[RAMET_WOURS], err);
    if (r == 0)
        r = ramet_wmerge_build(plan, err);
    if (r == 0)
        r = ramet_wmerge_decide(plan, err);
    if (r == 0 && plan->result->unresolved == 0 && !plan->options->dry_run) {
        r = ramet_wmerge_apply(plan, ours, err);
        plan->result->applied = r == 0;
    }
    ramet_wview_close(plan->view[RAMET_WOURS]);
    return r;
}

int ramet_workspace_merge(struct ramet_workspace *ours, struct ramet_workspace *theirs,
                          const struct ramet_wmerge_options *options, struct ramet_wmerge_result *ret,
                          struct ramet_error *err)
{
    static const struct ramet_wmerge_options none;
    _cleanup_(ramet_wview_cleanup) struct ramet_workspace *base = NULL, *view = NULL;
    struct ramet_wmerge_result result = {0};
    options = options ? options : &none;
    int r = options->base ? ramet_wview_open(options->base, &base, err) : find_base(ours, theirs, &base, err);
    if (r == 0)
        r = ramet_wview_open(theirs, &view, err);
    for (int tries = 0; r == 0 && tries < most_tries; tries++) {
        struct ramet_wmerge_plan plan = {.view = {base, NULL, view}, .options = options, .result = &result};
        ramet_wmerge_result_free(&result);
        r = merge_once(ours, &plan, err);
        ramet_wmerge_plan_free(&plan);
        if (r != -RAMET_BUSY)
            break;
        if (tries + 1 < most_tries)
            r = 0;
    }
    if (r == 0)
        *ret = result;
    else
        ramet_wmerge_result_free(&result);
    return r;
}
