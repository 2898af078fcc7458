/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the service does to workspaces: the set's calls, and after each the kernel is told
 * which names and trees on the mount became others.
 *
 * Before a fork or a snapshot the kernel writes out what programs changed through shared
 * mappings; all else it has written already.
 */
#include "service_workspaces.h"

#include "base/cleanup.h"
#include "service_private.h"
#include "service_workspaces_private.h"
#include "workspace/diff.h"
#include "workspace/merge.h"
#include "workspace/view.h"
#include "workspace/workspace.h"
#include "workspace_mount.h"

#include <stdio.h>
#include <string.h>

static void path_of(struct ramet_service *service, const struct ramet_workspace_info *info, const char *state,
                    char path[static 4096])
{
    snprintf(path, 4096, "%s/%s/%s%s%s", service->mount_dir,
             info->audited ? RAMET_WORKSPACES_AUDITED : RAMET_WORKSPACES_PLAIN, info->name,
             state ? "/.ramet/history/" : "", state ? state : "");
}

void ramet_workspace_view_fill(struct ramet_service *service, struct ramet_workspace *workspace,
                               struct ramet_workspace_view *ret)
{
    struct ramet_workspace_info info;
    ramet_workspace_info(workspace, &info);
    *ret = (struct ramet_workspace_view){.created_ms = info.created_ms,
                                         .used_bytes = info.used_bytes,
                                         .inodes = info.inodes,
                                         .quota_bytes = info.quota_bytes,
                                         .quota_inodes = info.quota_inodes,
                                         .uid = info.uid,
                                         .gid = info.gid,
                                         .audit_opens = info.audited};
    snprintf(ret->id, sizeof ret->id, "%s", info.id);
    snprintf(ret->name, sizeof ret->name, "%s", info.name);
    snprintf(ret->parent, sizeof ret->parent, "%s", info.parent);
    snprintf(ret->sandbox, sizeof ret->sandbox, "%s", info.sandbox);
    path_of(service, &info, NULL, ret->path);
}

static void view_state(struct ramet_service *service, struct ramet_workspace *workspace,
                       const struct ramet_workspace_state *state, struct ramet_workspace_state_view *ret)
{
    struct ramet_workspace_info info;
    ramet_workspace_info(workspace, &info);
    ret->created_ms = state->created_ms;
    snprintf(ret->name, sizeof ret->name, "%s", state->name);
    path_of(service, &info, state->name, ret->path);
}

/* The name it has, for telling the kernel. */
static void name_of(struct ramet_workspace *workspace, char name[static RAMET_NAME_SIZE])
{
    struct ramet_workspace_info info;
    ramet_workspace_info(workspace, &info);
    snprintf(name, RAMET_NAME_SIZE, "%s", info.name);
}

void ramet_workspace_tell(struct ramet_service *service, struct ramet_workspace *workspace)
{
    char name[RAMET_NAME_SIZE];
    name_of(workspace, name);
    ramet_workspace_mount_name_changed(service->workspace_mount, name);
}

/* --- making and finding --- */

int ramet_service_workspace_create(struct ramet_service *service, const struct ramet_workspace_create_request *request,
                                   struct ramet_workspace_view *ret, struct ramet_error *err)
{
    _cleanup_(ramet_workspace_cleanup) struct ramet_workspace *workspace = NULL;
    int r = ramet_workspace_create(service->workspaces, request->name, request->uid, request->gid, &workspace, err);
    if (r == 0 && (request->quota_bytes || request->quota_inodes))
        r = ramet_workspace_set_quota(workspace, request->quota_bytes, request->quota_inodes, err);
    if (r == 0 && request->audit_opens)
        r = ramet_workspace_set_audited(workspace, true, err);
    if (r < 0 && workspace)
        ramet_workspace_remove(workspace, NULL);
    if (r < 0)
        return r;
    ramet_workspace_tell(service, workspace);
    ramet_workspace_view_fill(service, workspace, ret);
    return 0;
}

int ramet_service_workspace_get(struct ramet_service *service, const char *ref, struct ramet_workspace_view *ret,
                                struct ramet_error *err)
{
    _cleanup_(ramet_workspace_cleanup) struct ramet_workspace *workspace = NULL;
    int r = ramet_workspace_find(service->workspaces, ref, &workspace, err);
    if (r == 0)
        ramet_workspace_view_fill(service, workspace, ret);
    return r;
}

int ramet_service_workspaces(struct ramet_service *service, struct ramet_workspace_view **ret, size_t *ret_count,
                             struct ramet_error *err)
{
    struct ramet_workspace **all = NULL;
    size_t count = 0;
    int r = ramet_workspaces_list(service->workspaces, &all, &count, err);
    if (r < 0)
        return r;
    struct ramet_workspace_view *views = calloc(count + 1, sizeof *views);
    for (size_t i = 0; views && i < count; i++)
        ramet_workspace_view_fill(service, all[i], &views[i]);
    ramet_workspaces_list_free(all, count);
    if (!views)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to list %zu workspaces", count);
    *ret = views;
    *ret_count = count;
    return 0;
}

int ramet_workspace_find_tree(struct ramet_service *service, const char *ref, const char *state,
                              struct ramet_workspace **ret, struct ramet_error *err)
{
    _cleanup_(ramet_workspace_cleanup) struct ramet_workspace *workspace = NULL;
    int r = ramet_workspace_find(service->workspaces, ref, &workspace, err);
    if (r == 0 && state)
        return ramet_workspace_state_open(workspace, state, ret, err);
    if (r == 0)
        *ret = STEAL(workspace);
    return r;
}

int ramet_service_workspace_fork(struct ramet_service *service, const char *ref, const char *state, const char *name,
                                 struct ramet_workspace_view *ret, struct ramet_error *err)
{
    _cleanup_(ramet_workspace_cleanup) struct ramet_workspace *from = NULL;
    _cleanup_(ramet_workspace_cleanup) struct ramet_workspace *workspace = NULL;
    int r = ramet_workspace_find_tree(service, ref, state, &from, err);
    if (r == 0 && !state)
        r = ramet_workspace_mount_flush(service->workspace_mount, err);
    if (r == 0)
        r = ramet_workspace_fork(from, name, &workspace, err);
    if (r < 0)
        return r;
    ramet_workspace_tell(service, workspace);
    ramet_workspace_view_fill(service, workspace, ret);
    return 0;
}

/* --- changing --- */

int ramet_service_workspace_remove(struct ramet_service *service, const char *ref, struct ramet_error *err)
{
    _cleanup_(ramet_workspace_cleanup) struct ramet_workspace *workspace = NULL;
    char name[RAMET_NAME_SIZE];
    int r = ramet_workspace_find(service->workspaces, ref, &workspace, err);
    if (r < 0)
        return r;
    name_of(workspace, name);
    r = ramet_workspace_remove(workspace, err);
    if (r == 0)
        ramet_workspace_mount_name_changed(service->workspace_mount, name);
    return r;
}

int ramet_service_workspace_rename(struct ramet_service *service, const char *ref, const char *name,
                                   struct ramet_workspace_view *ret, struct ramet_error *err)
{
    _cleanup_(ramet_workspace_cleanup) struct ramet_workspace *workspace = NULL;
    char old[RAMET_NAME_SIZE];
    int r = ramet_workspace_find(service->workspaces, ref, &workspace, err);
    if (r < 0)
        return r;
    name_of(workspace, old);
    if ((r = ramet_workspace_rename(workspace, name, err)) < 0)
        return r;
    ramet_workspace_mount_name_changed(service->workspace_mount, old);
    ramet_workspace_tell(service, workspace);
    ramet_workspace_view_fill(service, workspace, ret);
    return 0;
}

int ramet_service_workspace_promote(struct ramet_service *service, const char *ref, struct ramet_workspace_view *ret,
                                    struct ramet_error *err)
{
    _cleanup_(ramet_workspace_cleanup) struct ramet_workspace *workspace = NULL;
    char old[RAMET_NAME_SIZE];
    int r = ramet_workspace_find(service->workspaces, ref, &workspace, err);
    if (r < 0)
        return r;
    name_of(workspace, old);
    if ((r = ramet_workspace_promote(workspace, err)) < 0)
        return r;
    ramet_workspace_mount_name_changed(service->workspace_mount, old);
    ramet_workspace_tell(service, workspace);
    ramet_workspace_view_fill(service, workspace, ret);
    if (ret->audit_opens) /* perhaps since now */
        ramet_workspace_mount_audited_changed(service->workspace_mount, ret->name);
    return 0;
}

int ramet_service_workspace_attach(struct ramet_service *service, const char *ref, const char *sandbox_ref,
                                   struct ramet_workspace_view *ret, struct ramet_error *err)
{
    _cleanup_(ramet_workspace_cleanup) struct ramet_workspace *workspace = NULL;
    _cleanup_(ramet_sandbox_cleanup) struct ramet_sandbox *sandbox = NULL;
    int r = ramet_workspace_find(service->workspaces, ref, &workspace, err);
    if (r == 0 && sandbox_ref)
        r = ramet_sandbox_find(service, sandbox_ref, &sandbox, err);
    if (r == 0)
        r = ramet_workspace_attach(workspace, sandbox ? sandbox->branch->id : NULL, err);
    if (r == 0)
        ramet_workspace_view_fill(service, workspace, ret);
    return r;
}

int ramet_service_workspace_quota(struct ramet_service *service, const char *ref, uint64_t bytes, uint64_t inodes,
                                  struct ramet_workspace_view *ret, struct ramet_error *err)
{
    _cleanup_(ramet_workspace_cleanup) struct ramet_workspace *workspace = NULL;
    int r = ramet_workspace_find(service->workspaces, ref, &workspace, err);
    if (r == 0)
        r = ramet_workspace_set_quota(workspace, bytes, inodes, err);
    if (r == 0)
        ramet_workspace_view_fill(service, workspace, ret);
    return r;
}

int ramet_service_workspace_audit(struct ramet_service *service, const char *ref, bool opens,
                                  struct ramet_workspace_view *ret, struct ramet_error *err)
{
    _cleanup_(ramet_workspace_cleanup) struct ramet_workspace *workspace = NULL;
    int r = ramet_workspace_find(service->workspaces, ref, &workspace, err);
    if (r == 0)
        r = ramet_workspace_mount_flush(service->workspace_mount, err); /* afterwards its nodes are stale */
    if (r == 0)
        r = ramet_workspace_set_audited(workspace, opens, err);
    if (r < 0)
        return r;
    ramet_workspace_view_fill(service, workspace, ret);
    ramet_workspace_mount_audited_changed(service->workspace_mount, ret->name);
    return 0;
}

void ramet_service_set_auditor(struct ramet_service *service, const struct ramet_workspace_auditor *auditor)
{
    ramet_workspace_mount_audit(service->workspace_mount, auditor);
}

int ramet_service_workspace_sync(struct ramet_service *service, const char *ref, struct ramet_error *err)
{
    _cleanup_(ramet_workspace_cleanup) struct ramet_workspace *workspace = NULL;
    int r = ramet_workspace_find(service->workspaces, ref, &workspace, err);
    if (r == 0)
        r = ramet_workspace_mount_flush(service->workspace_mount, err);
    return r == 0 ? ramet_workspaces_sync(service->workspaces, err) : r;
}

/* --- history --- */

int ramet_service_workspace_snapshot(struct ramet_service *service, const char *ref, const char *state,
                                     struct ramet_workspace_state_view *ret, struct ramet_error *err)
{
    _cleanup_(ramet_workspace_cleanup) struct ramet_workspace *workspace = NULL;
    struct ramet_workspace_state taken;
    int r = ramet_workspace_find(service->workspaces, ref, &workspace, err);
    if (r == 0)
        r = ramet_workspace_mount_flush(service->workspace_mount, err);
    if (r == 0)
        r = ramet_workspace_snapshot(workspace, state, &taken, err);
    if (r < 0)
        return r;
    ramet_workspace_mount_state_changed(service->workspace_mount, workspace, taken.name);
    view_state(service, workspace, &taken, ret);
    return 0;
}

int ramet_service_workspace_history(struct ramet_service *service, const char *ref,
                                    struct ramet_workspace_state_view **ret, size_t *ret_count, struct ramet_error *err)
{
    _cleanup_(ramet_workspace_cleanup) struct ramet_workspace *workspace = NULL;
    _autofree_ struct ramet_workspace_state *states = NULL;
    size_t count = 0;
    int r = ramet_workspace_find(service->workspaces, ref, &workspace, err);
    if (r == 0)
        r = ramet_workspace_states(workspace, &states, &count, err);
    if (r < 0)
        return r;
    struct ramet_workspace_state_view *views = calloc(count + 1, sizeof *views);
    if (!views)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to list %zu states", count);
    for (size_t i = 0; i < count; i++)
        view_state(service, workspace, &states[i], &views[i]);
    *ret = views;
    *ret_count = count;
    return 0;
}

int ramet_service_workspace_state_remove(struct ramet_service *service, const char *ref, const char *state,
                                         struct ramet_error *err)
{
    _cleanup_(ramet_workspace_cleanup) struct ramet_workspace *workspace = NULL;
    int r = ramet_workspace_find(service->workspaces, ref, &workspace, err);
    if (r == 0)
        r = ramet_workspace_state_remove(workspace, state, err);
    if (r == 0)
        ramet_workspace_mount_state_changed(service->workspace_mount, workspace, state);
    return r;
}

int ramet_service_workspace_rollback(struct ramet_service *service, const char *ref, const char *state,
                                     struct ramet_workspace_state_view *ret, struct ramet_error *err)
{
    _cleanup_(ramet_workspace_cleanup) struct ramet_workspace *workspace = NULL;
    struct ramet_workspace_state before;
    int r = ramet_workspace_find(service->workspaces, ref, &workspace, err);
    if (r == 0)
        r = ramet_workspace_mount_flush(service->workspace_mount, err); /* what was before is kept whole */
    if (r == 0)
        r = ramet_workspace_rollback(workspace, state, &before, err);
    if (r < 0)
        return r;
    ramet_workspace_tell(service, workspace); /* another tree of the same name */
    view_state(service, workspace, &before, ret);
    return 0;
}

/* --- difference --- */

/* A view of "NAME", "NAME@STATE", or "@STATE" of the workspace. */
static int open_view(struct ramet_service *service, const char *ref, const char *against, struct ramet_workspace **ret,
                     struct ramet_error *err)
{
    _cleanup_(ramet_workspace_cleanup) struct ramet_workspace *tree = NULL;
    const char *at = strchr(against, '@');
    char name[RAMET_NAME_SIZE];
    snprintf(name, sizeof name, "%.*s", (int)(at ? (size_t)(at - against) : strlen(against)), against);
    int r = ramet_workspace_find_tree(service, *name ? name : ref, at ? at + 1 : NULL, &tree, err);
    return r < 0 ? r : ramet_wview_open(tree, ret, err);
}

int ramet_service_workspace_diff(struct ramet_service *service, const char *ref, const char *against,
                                 struct ramet_wdiff **ret, struct ramet_error *err)
{
    _cleanup_(ramet_workspace_cleanup) struct ramet_workspace *workspace = NULL;
    _cleanup_(ramet_wview_cleanup) struct ramet_workspace *before = NULL;
    int r = ramet_workspace_find(service->workspaces, ref, &workspace, err);
    if (r == 0)
        r = ramet_workspace_mount_flush(service->workspace_mount, err);
    if (r == 0)
        r = against ? open_view(service, ref, against, &before, err)
                    : ramet_workspace_base_open(workspace, &before, err);
    return r < 0 ? r : ramet_wdiff_make(before, workspace, ret, err);
}

/* --- merge --- */

/* The directory of a path in the tree, and where its last name begins; RAMET_WORKSPACE_ROOT's for "". */
static int directory_of(struct ramet_workspace *workspace, const char *path, uint64_t *ret, const char **ret_name)
{
    struct ramet_wstat stat = {.ino = RAMET_WORKSPACE_ROOT};
    char name[256];
    for (const char *slash; (slash = strchr(path, '/')); path = slash + 1) {
        snprintf(name, sizeof name, "%.*s", (int)(slash - path), path);
        int r = ramet_wfile_lookup(workspace, stat.ino, name, &stat, NULL);
        if (r < 0)
            return r;
    }
    *ret = stat.ino;
    *ret_name = path;
    return 0;
}

static void tell_entry(struct ramet_service *service, struct ramet_workspace *workspace, const char *path)
{
    const char *name;
    uint64_t dir;
    if (path && *path && directory_of(workspace, path, &dir, &name) == 0)
        ramet_workspace_mount_entry_changed(service->workspace_mount, workspace, dir, name);
}

int ramet_workspace_tell_changes(struct ramet_service *service, struct ramet_workspace *before,
                                 struct ramet_workspace *workspace, struct ramet_error *err)
{
    _cleanup_(ramet_wdiff_cleanup) struct ramet_wdiff *diff = NULL;
    int r = ramet_wdiff_make(before, workspace, &diff, err);
    for (size_t i = 0; r == 0 && i < diff->count; i++) {
        const struct ramet_wdiff_item *item = &diff->items[i];
        if (item->before.ino)
            ramet_workspace_mount_inode_changed(service->workspace_mount, workspace, item->before.ino);
        if (item->after.ino && item->after.ino != item->before.ino)
            ramet_workspace_mount_inode_changed(service->workspace_mount, workspace, item->after.ino);
        tell_entry(service, workspace, item->path);
        tell_entry(service, workspace, item->old_path);
    }
    return r;
}

int ramet_service_workspace_merge(struct ramet_service *service, const char *ref, const char *theirs, const char *base,
                                  const struct ramet_wmerge_options *options, struct ramet_wmerge_result *ret,
                                  struct ramet_error *err)
{
    _cleanup_(ramet_workspace_cleanup) struct ramet_workspace *workspace = NULL;
    _cleanup_(ramet_workspace_cleanup) struct ramet_workspace *other = NULL;
    _cleanup_(ramet_wview_cleanup) struct ramet_workspace *before = NULL;
    _cleanup_(ramet_wview_cleanup) struct ramet_workspace *ancestor = NULL;
    struct ramet_wmerge_options chosen = *options;
    const char *at = strchr(theirs, '@');
    char name[RAMET_NAME_SIZE];
    snprintf(name, sizeof name, "%.*s", (int)(at ? (size_t)(at - theirs) : strlen(theirs)), theirs);
    int r = ramet_workspace_find(service->workspaces, ref, &workspace, err);
    if (r == 0)
        r = ramet_workspace_find_tree(service, *name ? name : ref, at ? at + 1 : NULL, &other, err);
    if (r == 0 && base)
        r = open_view(service, ref, base, &ancestor, err);
    chosen.base = ancestor;
    if (r == 0)
        r = ramet_workspace_mount_flush(service->workspace_mount, err);
    if (r == 0)
        r = ramet_wview_open(workspace, &before, err);
    if (r == 0)
        r = ramet_workspace_merge(workspace, other, &chosen, ret, err);
    if (r == 0 && ret->applied && (r = ramet_workspace_tell_changes(service, before, workspace, err)) < 0)
        ramet_wmerge_result_free(ret);
    return r;
}
