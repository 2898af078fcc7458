/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opens of files in audited workspaces. Each is told before it is answered, and refused
 * when it cannot be told. Their door is a file system of its own, because the kernel asks
 * either about every open of one or about none.
 *
 * The kernel has checked permissions by then: an open that they forbid is not seen here.
 */
#include "base/cleanup.h"
#include "workspace_ops.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { for_execution = 0x20 }; /* __FMODE_EXEC of the kernel */

/* NULL for what lost its name: it was opened through /proc. */
static int path_of(struct ramet_workspace *workspace, uint64_t ino, const char *state, const char *name, char **ret,
                   struct ramet_error *err)
{
    _autofree_ char *path = NULL;
    int r = ramet_wfile_path(workspace, ino, &path, err);
    if (r == -RAMET_NOT_FOUND)
        return 0;
    if (r == 0 && asprintf(ret, "%s%s%s%s%s%s", state ? RAMET_WMETA_NAME "/history/" : "", state ? state : "",
                           state ? "/" : "", path, name && *path ? "/" : "", name ? name : "") < 0)
        r = ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a path");
    return r;
}

/* What the workspace is called, and of a state what it is called there. */
static int names_of(struct ramet_wdoor *door, struct ramet_workspace *workspace, struct ramet_workspace_info *ret,
                    char state[RAMET_CATALOG_NAME_SIZE], struct ramet_error *err)
{
    _cleanup_(ramet_workspace_cleanup) struct ramet_workspace *head = NULL;
    struct ramet_workspace_info own;
    ramet_workspace_info(workspace, &own);
    int r = ramet_workspace_find(door->set, own.id, &head, err);
    if (r < 0)
        return r;
    ramet_workspace_info(head, ret);
    memcpy(state, own.name, sizeof own.name);
    if (ret->serial == own.serial)
        state[0] = '\0';
    return 0;
}

static int tell(struct ramet_wdoor *door, const struct ramet_workspace_open *open, struct ramet_error *err)
{
    pthread_rwlock_rdlock(&door->audit_lock);
    int r = door->auditor.opening ? door->auditor.opening(door->auditor.context, open, err)
                                  : ramet_error_set(err, RAMET_UNAVAILABLE, "nobody writes the audit yet");
    pthread_rwlock_unlock(&door->audit_lock);
    return r;
}

int ramet_wopen_tell(struct ramet_fuse_request *request, struct ramet_workspace *workspace, uint64_t ino,
                     const char *name, uint32_t flags)
{
    struct ramet_wdoor *door = ramet_wdoor_of(request);
    struct ramet_workspace_info info;
    char state[RAMET_CATALOG_NAME_SIZE];
    _autofree_ char *path = NULL;
    RAMET_WERROR(err);
    if (!door->audited)
        return 0;
    atomic_store(&door->used, true);
    int r = names_of(door, workspace, &info, state, &err);
    if (r == 0)
        r = path_of(workspace, ino, *state ? state : NULL, name, &path, &err);
    const struct ramet_workspace_open open = {
        .workspace = info.name,
        .path = path,
        .uid = request->header->uid,
        .pid = (pid_t)request->header->pid,
        .read = (flags & O_ACCMODE) != O_WRONLY,
        .write = (flags & O_ACCMODE) != O_RDONLY,
        .execute = flags & for_execution,
        .create = name != NULL,
    };
    ramet_fuse_waits(request); /* maybe for the disk of the audit */
    if (r == 0)
        r = tell(door, &open, &err);
    if (r < 0)
        ramet_wreply_error(request, &err);
    return r;
}

void ramet_wop_open(struct ramet_fuse_request *request)
{
    const struct fuse_open_in *in = request->body;
    const struct fuse_open_out out = {.open_flags = FOPEN_KEEP_CACHE | FOPEN_NOFLUSH};
    struct ramet_workspace *workspace = ramet_wnode_workspace(request, request->header->nodeid);
    if (!workspace)
        return;
    if (ramet_wopen_tell(request, workspace, ramet_wnode_ino(request->header->nodeid), NULL, in->flags) == 0)
        ramet_fuse_reply(request, &out, sizeof out);
    ramet_workspace_unref(workspace);
}

void ramet_wop_release(struct ramet_fuse_request *request) { ramet_fuse_reply_error(request, 0); }
