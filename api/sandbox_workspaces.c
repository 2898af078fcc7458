/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox_workspaces.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "service_private.h"
#include "workspace/workspace.h"
#include "workspace_mount.h"

#include <stdio.h>
#include <string.h>

static void name_of_state(const char *snapshot_id, char name[static RAMET_NAME_SIZE])
{
    snprintf(name, RAMET_NAME_SIZE, "snapshot-%s", snapshot_id);
}

/* --- capture --- */

/* Of all workspaces those of the sandbox; the others are given back. */
static int find(struct ramet_sandbox *sandbox, struct ramet_attached *ret, struct ramet_error *err)
{
    struct ramet_workspace **all = NULL;
    size_t count = 0, kept = 0;
    int r = ramet_workspaces_list(sandbox->service->workspaces, &all, &count, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < count; i++) {
        struct ramet_workspace_info info;
        ramet_workspace_info(all[i], &info);
        if (strcmp(info.sandbox, sandbox->branch->id) == 0)
            all[kept++] = all[i];
        else
            ramet_workspace_unref(all[i]);
    }
    *ret = (struct ramet_attached){.workspaces = all, .count = kept};
    return 0;
}

int ramet_attached_find(struct ramet_sandbox *sandbox, struct ramet_attached *ret, struct ramet_error *err)
{
    int r = find(sandbox, ret, err);
    if (r == 0 && ret->count)
        r = ramet_workspace_mount_flush(sandbox->service->workspace_mount, err);
    return r;
}

void ramet_attached_free(struct ramet_attached *attached)
{
    if (attached->workspaces)
        ramet_workspaces_list_free(attached->workspaces, attached->count);
    *attached = (struct ramet_attached){0};
}

int ramet_attached_keep(struct ramet_sandbox *sandbox, struct ramet_attached *attached, const char *snapshot_id,
                        struct ramet_error *err)
{
    char state[RAMET_NAME_SIZE];
    if (attached->count == 0)
        return 0;
    name_of_state(snapshot_id, state);
    return ramet_workspaces_snapshot(sandbox->service->workspaces, attached->workspaces, attached->count, state, err);
}

/* --- children --- */

/* CHILD.NAME, numbered from the second try on. */
static void child_name(const struct ramet_sandbox *parent, const struct ramet_sandbox *child, const char *name,
                       unsigned try, char ret[static RAMET_NAME_SIZE])
{
    size_t prefix = strlen(parent->branch->name);
    char number[16] = "";
    if (strncmp(name, parent->branch->name, prefix) == 0 && name[prefix] == '.' && name[prefix + 1])
        name += prefix + 1;
    if (try > 1)
        snprintf(number, sizeof number, "-%u", try);
    snprintf(ret, RAMET_NAME_SIZE, "%.30s.%.*s%s", child->branch->name, (int)(RAMET_NAME_SIZE - 34 - strlen(number)),
             name, number);
}

static int fork_one(struct ramet_sandbox *parent, struct ramet_workspace *state, const char *name,
                    struct ramet_sandbox *child, struct ramet_workspace **ret, struct ramet_error *err)
{
    char forked[RAMET_NAME_SIZE];
    for (unsigned try = 1;; try++) {
        child_name(parent, child, name, try, forked);
        int r = ramet_workspace_fork(state, forked, ret, err);
        if (r == 0)
            ramet_workspace_mount_name_changed(parent->service->workspace_mount, forked);
        if (r != -RAMET_EXISTS || try == 1000)
            return r;
    }
}

/* One workspace of the parent's; none where the snapshot has no state of it. */
static int fork_attached(struct ramet_sandbox *parent, struct ramet_workspace *workspace, const char *state_name,
                         struct ramet_sandbox *child, struct ramet_error *err)
{
    _cleanup_(ramet_workspace_cleanup) struct ramet_workspace *state = NULL, *forked = NULL;
    struct ramet_workspace_info info;
    if (ramet_workspace_state_open(workspace, state_name, &state, NULL) < 0)
        return 0;
    ramet_workspace_info(workspace, &info);
    int r = fork_one(parent, state, info.name, child, &forked, err);
    if (r == 0)
        r = ramet_workspace_attach(forked, child->branch->id, err);
    if (r == 0)
        r = ramet_workspace_snapshot(forked, state_name, NULL, err);
    return r;
}

int ramet_sandbox_fork_workspaces(struct ramet_sandbox *parent, const char *snapshot_id, struct ramet_sandbox *child,
                                  struct ramet_error *err)
{
    _cleanup_(ramet_attached_free) struct ramet_attached attached = {0};
    char state[RAMET_NAME_SIZE];
    name_of_state(snapshot_id, state);
    int r = find(parent, &attached, err);
    for (size_t i = 0; i < attached.count && r == 0; i++)
        r = fork_attached(parent, attached.workspaces[i], state, child, err);
    return r;
}

void ramet_sandbox_remove_workspaces(struct ramet_sandbox *child)
{
    _cleanup_(ramet_attached_free) struct ramet_attached attached = {0};
    if (find(child, &attached, NULL) < 0)
        return;
    for (size_t i = 0; i < attached.count; i++) {
        struct ramet_workspace_info info;
        ramet_workspace_info(attached.workspaces[i], &info);
        if (ramet_workspace_remove(attached.workspaces[i], NULL) == 0)
            ramet_workspace_mount_name_changed(child->service->workspace_mount, info.name);
    }
}

/* --- rollback, removal --- */

void ramet_sandbox_roll_back_workspaces(struct ramet_sandbox *sandbox, const char *snapshot_id)
{
    _cleanup_(ramet_attached_free) struct ramet_attached attached = {0};
    struct ramet_error err = {0};
    char state[RAMET_NAME_SIZE];
    name_of_state(snapshot_id, state);
    if (ramet_attached_find(sandbox, &attached, &err) < 0)
        ramet_warn("rollback of %s: %s", sandbox->branch->name, err.msg);
    for (size_t i = 0; i < attached.count; i++) {
        struct ramet_workspace_info info;
        ramet_workspace_info(attached.workspaces[i], &info);
        int r = ramet_workspace_rollback(attached.workspaces[i], state, NULL, &err);
        if (r == 0)
            ramet_workspace_mount_name_changed(sandbox->service->workspace_mount, info.name);
        else if (r != -RAMET_NOT_FOUND) /* it was attached later */
            ramet_warn("rollback of %s: %s", sandbox->branch->name, err.msg);
    }
}

void ramet_service_forget_states(struct ramet_service *service, const char *snapshot_id)
{
    struct ramet_workspace **all = NULL;
    size_t count = 0;
    char state[RAMET_NAME_SIZE];
    name_of_state(snapshot_id, state);
    if (ramet_workspaces_list(service->workspaces, &all, &count, NULL) < 0)
        return;
    for (size_t i = 0; i < count; i++)
        if (ramet_workspace_state_remove(all[i], state, NULL) == 0)
            ramet_workspace_mount_state_changed(service->workspace_mount, all[i], state);
    ramet_workspaces_list_free(all, count);
}
