/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A merge looks at views, so that both sides go on meanwhile; when all is decided it locks
 * ours, and begins anew if ours changed since.
 */
#include "merge.h"

#include "base/cleanup.h"
#include "merge_base.h"
#include "merge_plan.h"
#include "view.h"
#include "workspace_private.h"

#include <stdlib.h>
#include <string.h>

enum { most_tries = 5 };

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
    _cleanup_(ramet_workspace_cleanup) struct ramet_workspace *kept = NULL;
    struct ramet_wmerge_result result = {0};
    options = options ? options : &none;
    int r = options->base ? ramet_wview_open(options->base, &base, err) : ramet_wmerge_base(ours, theirs, &base, err);
    if (r == 0 && !options->base && !options->dry_run && !theirs->is_state)
        r = ramet_wmerge_keep(ours, theirs, &kept, err);
    if (r == 0)
        r = ramet_wview_open(kept ? kept : theirs, &view, err);
    for (int tries = 0; r == 0 && tries < most_tries; tries++) {
        struct ramet_wmerge_plan plan = {.view = {base, NULL, view}, .options = options, .result = &result};
        plan.theirs_serial = theirs->serial;
        plan.kept_serial = kept ? kept->serial : 0;
        ramet_wmerge_result_free(&result);
        r = merge_once(ours, &plan, err);
        ramet_wmerge_plan_free(&plan);
        if (r != -RAMET_BUSY)
            break;
        if (tries + 1 < most_tries)
            r = 0;
    }
    if (kept)
        ramet_wmerge_kept(ours, theirs, kept, r == 0 && result.applied);
    if (r == 0)
        *ret = result;
    else
        ramet_wmerge_result_free(&result);
    return r;
}
