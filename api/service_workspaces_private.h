/* SPDX-License-Identifier: Apache-2.0 */
/* What the service's sources on workspaces share. */
#ifndef RAMET_API_SERVICE_WORKSPACES_PRIVATE_H
#define RAMET_API_SERVICE_WORKSPACES_PRIVATE_H

#include "service_workspaces.h"

struct ramet_workspace;

void ramet_workspace_view_fill(struct ramet_service *service, struct ramet_workspace *workspace,
                               struct ramet_workspace_view *ret);
/* The workspace, or a state of it (`state` not NULL); a reference of the caller's. */
int ramet_workspace_find_tree(struct ramet_service *service, const char *ref, const char *state,
                              struct ramet_workspace **ret, struct ramet_error *err);
/* Tells the kernel that the workspace's name stands for something else now. */
void ramet_workspace_tell(struct ramet_service *service, struct ramet_workspace *workspace);
/* Tells the kernel what is another now than in `before`. */
int ramet_workspace_tell_changes(struct ramet_service *service, struct ramet_workspace *before,
                                 struct ramet_workspace *workspace, struct ramet_error *err);

/* At the start: what imports that did not end left behind goes. */
void ramet_service_workspace_drop_imports(struct ramet_service *service);

#endif
