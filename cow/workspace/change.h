/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changes of a workspace: a set of puts and deletes that becomes visible, and later
 * durable, whole or not at all. The journal holds one record for each change.
 *
 * A change is made under the workspace's lock, taken exclusively (workspace_private.h).
 */
#ifndef RAMET_WORKSPACE_CHANGE_H
#define RAMET_WORKSPACE_CHANGE_H

#include "tree.h"

struct ramet_workspace;
struct ramet_wchange;

int ramet_wchange_begin(struct ramet_workspace *workspace, struct ramet_wchange **ret, struct ramet_error *err);
/* What a reader would see if the change were applied. */
int ramet_wchange_get(struct ramet_wchange *change, const struct ramet_wkey *key, struct ramet_wvalue *ret,
                      struct ramet_error *err);
/* Errors (no memory) are remembered; apply gives the first one. */
void ramet_wchange_put(struct ramet_wchange *change, const struct ramet_wkey *key, const void *value, size_t size);
void ramet_wchange_delete(struct ramet_wchange *change, const struct ramet_wkey *key);
/* Applies it; on failure nothing has changed. Frees it in every case. */
int ramet_wchange_apply(struct ramet_wchange *change, struct ramet_error *err);
void ramet_wchange_abort(struct ramet_wchange *change); /* NULL is a no-op */

#endif
