/* SPDX-License-Identifier: Apache-2.0 */
#include "view.h"

#include "base/cleanup.h"
#include "workspace_private.h"

#include <string.h>

/* The lock is held exclusively. */
static int share(struct ramet_workspace *from, struct ramet_workspace *to, struct ramet_error *err)
{
    int r = ramet_whead_branch_off(from, to, err);
    if (r < 0)
        return r;
    pthread_mutex_lock(&from->set->names);
    r = ramet_whead_link(to, err);
    pthread_mutex_unlock(&from->set->names);
    return r;
}

int ramet_wview_open(struct ramet_workspace *workspace, struct ramet_workspace **ret, struct ramet_error *err)
{
    _cleanup_(ramet_workspace_cleanup) struct ramet_workspace *view = NULL;
    if (workspace->is_state) {
        *ret = ramet_workspace_ref(workspace);
        return 0;
    }
    int r = ramet_whead_new(workspace->set, &view, err);
    if (r < 0)
        return r;
    view->is_state = view->is_view = view->announced = true;
    r = ramet_workspace_lock(workspace, err);
    if (r < 0)
        return r;
    r = share(workspace, view, err);
    ramet_workspace_unlock(workspace);
    if (r == 0)
        *ret = STEAL(view);
    return r;
}

void ramet_wview_close(struct ramet_workspace *view)
{
    if (view && view->is_view) {
        pthread_mutex_lock(&view->set->names);
        ramet_whead_unlink(view);
        pthread_mutex_unlock(&view->set->names);
    }
    ramet_workspace_unref(view);
}

void ramet_wview_cleanup(struct ramet_workspace **view) { ramet_wview_close(*view); }
