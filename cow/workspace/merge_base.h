/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the lines of two workspaces meet.
 *
 * A merge of B into A keeps what it took of B as a state of B, "merged-<id of A>-<id>", and in
 * A's tree the record that it has that: being in the tree, it is there with the merge or not
 * at all, goes along into forks and states, and is away after a rollback to before the merge.
 * It is kept under B's serial, which a rollback of B changes. A later merge of the two, in
 * either direction, goes by the later of the two states there may be; without one by what a
 * fork was made with. A crash may leave a state that no record names: the next merge of that
 * workspace removes it.
 */
#ifndef RAMET_WORKSPACE_MERGE_BASE_H
#define RAMET_WORKSPACE_MERGE_BASE_H

#include "workspace.h"

/* A view, closed with ramet_wview_close. NOT_FOUND: no common ancestor. */
int ramet_wmerge_base(struct ramet_workspace *ours, struct ramet_workspace *theirs, struct ramet_workspace **ret,
                      struct ramet_error *err);

/* Keeps theirs as it is for a merge into ours; a reference of the caller's. */
int ramet_wmerge_keep(struct ramet_workspace *ours, struct ramet_workspace *theirs, struct ramet_workspace **ret,
                      struct ramet_error *err);
/* After the merge: what was kept for earlier ones goes, or, when nothing came of this one, what was kept for it. */
void ramet_wmerge_kept(struct ramet_workspace *ours, struct ramet_workspace *theirs, struct ramet_workspace *kept,
                       bool applied);
/* Notes in the change that ours has that state of theirs. The lock of ours is held. */
struct ramet_wchange;
int ramet_wmerge_note(struct ramet_workspace *ours, struct ramet_wchange *change, uint64_t theirs, uint64_t state,
                      struct ramet_error *err);

#endif
