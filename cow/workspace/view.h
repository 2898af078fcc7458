/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Views: what a workspace holds at an instant, to be read while the workspace changes.
 * Making one is O(1); it is a state that nobody lists, that no record names and that ends
 * with ramet_wview_close or with the process. A view is listed among the set's states, so
 * that checkpoints and collections see it.
 */
#ifndef RAMET_WORKSPACE_VIEW_H
#define RAMET_WORKSPACE_VIEW_H

#include "workspace.h"

/* Of a state: the state itself. Thread-safe. */
int ramet_wview_open(struct ramet_workspace *workspace, struct ramet_workspace **ret, struct ramet_error *err);
void ramet_wview_close(struct ramet_workspace *view); /* NULL is a no-op */
void ramet_wview_cleanup(struct ramet_workspace **view);

#endif
