/* SPDX-License-Identifier: Apache-2.0 */
#include "cost.h"

#include "base/cleanup.h"
#include "records.h"
#include "view.h"
#include "workspace_private.h"

#include <string.h>

struct counting {
    struct ramet_workspace *view;
    struct ramet_wcost cost;
};

/* Pages of a group that are not the same ones in the other tree. A staged page and the chunk it became are one. */
static int count_group(struct counting *counting, uint64_t ino, const struct ramet_wvalue *other,
                       const struct ramet_wvalue *mine, struct ramet_error *err)
{
    ramet_wref a[RAMET_WGROUP] = {0}, b[RAMET_WGROUP];
    int r = other ? ramet_wgroup_decode(other, ino, a, err) : 0;
    if (r == 0)
        r = ramet_wgroup_decode(mine, ino, b, err);
    for (size_t i = 0; i < RAMET_WGROUP && r == 0; i++)
        counting->cost.pages += b[i] != RAMET_WREF_HOLE &&
                                ramet_wdata_resolve(counting->view, a[i]) != ramet_wdata_resolve(counting->view, b[i]);
    return r;
}

static int count(void *ctx, const struct ramet_wkey *key, const struct ramet_wvalue *other,
                 const struct ramet_wvalue *mine, struct ramet_error *err)
{
    struct counting *counting = ctx;
    if (!mine)
        return 0;
    counting->cost.records++;
    counting->cost.record_bytes += 9u + key->sub_size + mine->size;
    return key->type == RAMET_WTYPE_BLOCKS ? count_group(counting, key->ino, other, mine, err) : 0;
}

int ramet_workspace_cost(struct ramet_workspace *workspace, struct ramet_workspace *against, struct ramet_wcost *ret,
                         struct ramet_error *err)
{
    _cleanup_(ramet_wview_cleanup) struct ramet_workspace *view = NULL, *other = NULL;
    struct ramet_wtree empty;
    int r = ramet_wview_open(workspace, &view, err);
    if (r == 0)
        r = against ? ramet_wview_open(against, &other, err) : ramet_workspace_base_open(workspace, &other, err);
    if (r == -RAMET_NOT_FOUND && !against)
        r = 0;
    if (r == 0)
        r = ramet_workspace_lock_shared(view, err); /* the gate keeps both trees in place */
    if (r < 0)
        return r;
    struct counting counting = {.view = view};
    ramet_wtree_init(&empty, workspace->set->store, RAMET_CHUNK_ZERO);
    r = ramet_wtree_diff(other ? ramet_workspace_tree(other) : &empty, ramet_workspace_tree(view), count, &counting,
                         err);
    ramet_wtree_drop(&empty);
    ramet_workspace_unlock(view);
    if (r == 0)
        *ret = counting.cost;
    return r;
}
