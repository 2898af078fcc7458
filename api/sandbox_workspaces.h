/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The workspaces attached to a sandbox go where it goes: a capture keeps a state of each, at
 * the instant of memory and disks; a child gets forks of those states; a rollback returns
 * to them. A state is named "snapshot-ID" after the snapshot, and goes with it.
 *
 * A child's workspace is named CHILD.NAME, where NAME is the parent's without its sandbox's
 * own prefix, and has a state of that name too, so that the child can be rolled back to
 * where it began.
 */
#ifndef RAMET_API_SANDBOX_WORKSPACES_H
#define RAMET_API_SANDBOX_WORKSPACES_H

#include "sandbox.h"

struct ramet_workspace;

/* What is attached, found before the pause. Zeroed: nothing. */
struct ramet_attached {
    struct ramet_workspace **workspaces; /* owned, references too */
    size_t count;
};
/* Also has the kernel write out what it holds of shared mappings. */
int ramet_attached_find(struct ramet_sandbox *sandbox, struct ramet_attached *ret, struct ramet_error *err);
void ramet_attached_free(struct ramet_attached *attached);
/* In the pause: all at one instant. */
int ramet_attached_keep(struct ramet_sandbox *sandbox, struct ramet_attached *attached, const char *snapshot_id,
                        struct ramet_error *err);

/* Forks of what the parent kept, attached to the child. */
int ramet_sandbox_fork_workspaces(struct ramet_sandbox *parent, const char *snapshot_id, struct ramet_sandbox *child,
                                  struct ramet_error *err);
/* Each that has a state of the snapshot returns to it; what was there is kept. Failures are logged. */
void ramet_sandbox_roll_back_workspaces(struct ramet_sandbox *sandbox, const char *snapshot_id);
/* Removes the workspaces that were made for a child whose fork failed. */
void ramet_sandbox_remove_workspaces(struct ramet_sandbox *child);
/* The snapshot goes: its states, of all workspaces, go too. */
void ramet_service_forget_states(struct ramet_service *service, const char *snapshot_id);

#endif
