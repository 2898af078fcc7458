/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Archives into and out of workspaces, as they come and go.
 *
 * An import fills a workspace that nobody asked for yet: a new one, or a fork of the one it
 * is for. It counts only when all has come: then the new one gets its name, or the fork is
 * merged as one change, so that what others did to the tree meanwhile stays. Until then it is
 * named "import-ID" and attached to no sandbox but to the word `importing`; what a crash
 * leaves of that goes at the next start.
 */
#include "base/cleanup.h"
#include "base/log.h"
#include "service_private.h"
#include "service_workspaces_private.h"
#include "workspace/merge.h"
#include "workspace/tar.h"
#include "workspace/view.h"
#include "workspace/workspace.h"
#include "workspace_mount.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char importing[] = "importing";

/* --- import --- */

/* Removes a workspace that was only for an import. */
static void drop(struct ramet_service *service, struct ramet_workspace *workspace)
{
    struct ramet_workspace_info info;
    struct ramet_error err = {0};
    if (!workspace)
        return;
    ramet_workspace_info(workspace, &info);
    if (ramet_workspace_remove(workspace, &err) == 0)
        ramet_workspace_mount_name_changed(service->workspace_mount, info.name);
    else
        ramet_warn("cannot remove workspace \"%s\": %s", info.name, err.msg);
}

static void name_import(char name[static RAMET_NAME_SIZE])
{
    char id[RAMET_ID_SIZE];
    ramet_id_make(id);
    snprintf(name, RAMET_NAME_SIZE, "import-%s", id);
}

static int fill(struct ramet_workspace *workspace, const struct ramet_workspace_import *import,
                struct ramet_workspace_imported *ret, struct ramet_error *err)
{
    struct ramet_wimport_rules rules = {.confined = import->confined, .owner = {import->uid, import->gid}};
    struct ramet_warchive_sums sums = {0};
    int r = ramet_workspace_import_tar(workspace, import->into ? import->into : "", import->fd, &rules, &sums, err);
    while (r == 0) { /* what follows the archive's end belongs to it */
        char rest[4096];
        ssize_t got = read(import->fd, rest, sizeof rest);
        if (got == 0)
            break;
        if (got < 0 && errno != EINTR)
            r = ramet_error_os(err, errno, "cannot read an archive");
    }
    if (r == 0 && import->whole && !import->whole(import->context))
        r = ramet_error_set(err, RAMET_INVALID, "the archive ended early: its sender went away");
    if (r == 0)
        *ret = (struct ramet_workspace_imported){.files = sums.files, .bytes = sums.bytes, .skipped = sums.skipped};
    return r;
}

static int check_free(struct ramet_service *service, const char *name, struct ramet_error *err)
{
    _cleanup_(ramet_workspace_cleanup) struct ramet_workspace *there = NULL;
    int r = ramet_name_check(name, "name of a workspace", err);
    if (r < 0 || ramet_workspace_find(service->workspaces, name, &there, NULL) < 0)
        return r;
    ramet_error_set(err, RAMET_EXISTS, "a workspace is named \"%s\" already", name);
    return ramet_error_hint(err, "import into a directory of it instead");
}

int ramet_service_workspace_import(struct ramet_service *service, const char *name,
                                   const struct ramet_workspace_import *import, struct ramet_workspace_view *ret,
                                   struct ramet_workspace_imported *ret_sums, struct ramet_error *err)
{
    _cleanup_(ramet_workspace_cleanup) struct ramet_workspace *workspace = NULL;
    char own[RAMET_NAME_SIZE];
    name_import(own);
    int r = check_free(service, name, err);
    if (r == 0)
        r = ramet_workspace_create(service->workspaces, own, import->uid, import->gid, &workspace, err);
    if (r == 0)
        r = ramet_workspace_attach(workspace, importing, err);
    if (r == 0 && (import->quota_bytes || import->quota_inodes))
        r = ramet_workspace_set_quota(workspace, import->quota_bytes, import->quota_inodes, err);
    if (r == 0)
        r = fill(workspace, import, ret_sums, err);
    if (r == 0)
        r = ramet_workspace_rename(workspace, name, err);
    if (r == 0)
        r = ramet_workspace_attach(workspace, NULL, err);
    if (r == 0)
        r = ramet_workspaces_sync(service->workspaces, err);
    if (r < 0) {
        drop(service, workspace);
        return r;
    }
    ramet_workspace_mount_name_changed(service->workspace_mount, own);
    ramet_workspace_tell(service, workspace);
    ramet_workspace_view_fill(service, workspace, ret);
    return 0;
}

/* What the fork has more is done to the workspace, its times too, whatever it had there. */
static int bring_over(struct ramet_service *service, struct ramet_workspace *workspace, struct ramet_workspace *fork,
                      struct ramet_error *err)
{
    _cleanup_(ramet_wview_cleanup) struct ramet_workspace *before = NULL, *base = NULL;
    struct ramet_wmerge_options options = {.strategy = RAMET_WTAKE_THEIRS, .whole_files = true, .times = true};
    struct ramet_wmerge_result result = {0};
    int r = ramet_workspace_mount_flush(service->workspace_mount, err);
    if (r == 0)
        r = ramet_wview_open(workspace, &before, err);
    if (r == 0)
        r = ramet_workspace_base_open(fork, &base, err);
    options.base = base; /* named, so that nothing is kept of the fork for a next time */
    if (r == 0)
        r = ramet_workspace_merge(workspace, fork, &options, &result, err);
    if (r == 0 && !result.applied)
        r = ramet_error_set(err, RAMET_CONFLICT, "what was imported contradicts what the workspace became meanwhile");
    ramet_wmerge_result_free(&result);
    if (r == 0)
        r = ramet_workspaces_sync(service->workspaces, err);
    return r < 0 ? r : ramet_workspace_tell_changes(service, before, workspace, err);
}

int ramet_service_workspace_import_into(struct ramet_service *service, const char *ref,
                                        const struct ramet_workspace_import *import, struct ramet_workspace_view *ret,
                                        struct ramet_workspace_imported *ret_sums, struct ramet_error *err)
{
    _cleanup_(ramet_workspace_cleanup) struct ramet_workspace *workspace = NULL, *fork = NULL;
    char own[RAMET_NAME_SIZE];
    name_import(own);
    int r = ramet_workspace_find(service->workspaces, ref, &workspace, err);
    if (r == 0)
        r = ramet_workspace_mount_flush(service->workspace_mount, err);
    if (r == 0)
        r = ramet_workspace_fork(workspace, own, &fork, err);
    if (r == 0)
        r = ramet_workspace_attach(fork, importing, err);
    if (r == 0)
        r = fill(fork, import, ret_sums, err);
    if (r == 0)
        r = bring_over(service, workspace, fork, err);
    drop(service, fork);
    if (r == 0)
        ramet_workspace_view_fill(service, workspace, ret);
    return r;
}

void ramet_service_workspace_drop_imports(struct ramet_service *service)
{
    struct ramet_workspace **all = NULL;
    size_t count = 0;
    if (ramet_workspaces_list(service->workspaces, &all, &count, NULL) < 0)
        return;
    for (size_t i = 0; i < count; i++) {
        struct ramet_workspace_info info;
        ramet_workspace_info(all[i], &info);
        if (strcmp(info.sandbox, importing) == 0)
            drop(service, all[i]);
    }
    ramet_workspaces_list_free(all, count);
}

/* --- export --- */

struct ramet_workspace_export {
    struct ramet_workspace *view;
    char *path;
};

void ramet_workspace_export_free(struct ramet_workspace_export *export)
{
    if (!export)
        return;
    ramet_wview_close(export->view);
    free(export->path);
    free(export);
}

int ramet_service_workspace_export(struct ramet_service *service, const char *ref, const char *state, const char *path,
                                   struct ramet_workspace_export **ret, struct ramet_error *err)
{
    _cleanup_(ramet_workspace_cleanup) struct ramet_workspace *tree = NULL;
    struct ramet_workspace_export *export = calloc(1, sizeof *export);
    if (export)
        export->path = strdup(path);
    int r = export && export->path ? 0 : ramet_error_set(err, RAMET_NO_MEMORY, "no memory to export a workspace");
    if (r == 0)
        r = ramet_workspace_find_tree(service, ref, state, &tree, err);
    if (r == 0 && !state)
        r = ramet_workspace_mount_flush(service->workspace_mount, err);
    if (r == 0)
        r = ramet_wview_open(tree, &export->view, err);
    if (r == 0)
        r = ramet_workspace_has_path(export->view, path, err);
    if (r < 0) {
        ramet_workspace_export_free(export);
        return r;
    }
    *ret = export;
    return 0;
}

int ramet_workspace_export_write(struct ramet_workspace_export *export, int fd, struct ramet_error *err)
{
    return ramet_workspace_export_tar(export->view, export->path, fd, NULL, err);
}
