/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is in no tree, and read-only: the root, which lists the workspaces; in each
 * workspace .ramet and .ramet/history, which lists its states; and symlinks from the root
 * to workspaces that are behind the audited door.
 *
 * .ramet is not listed, so that tar, git and rm see what belongs to the tree and nothing
 * else; who knows of it enters by name. The kernel believes these names for a second; what
 * the service changes it is told at once.
 */
#include "base/cleanup.h"
#include "workspace_ops.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { believe_s = 1, dot = 1, dot_dot = 2 };

static struct ramet_wstat stat_of(uint64_t node)
{
    bool link = ramet_wnode_ino(node) == RAMET_WINO_LINK;
    return (struct ramet_wstat){
        .ino = ramet_wnode_ino(node), .mode = link ? S_IFLNK | 0777 : S_IFDIR | 0755, .nlink = link ? 1 : 2};
}

static void reply_entry(struct ramet_fuse_request *request, uint64_t node, const struct ramet_wstat *stat)
{
    struct fuse_entry_out out;
    ramet_wfill_entry(ramet_wnode_serial(node), stat, &out);
    out.entry_valid = believe_s;
    ramet_fuse_reply(request, &out, sizeof out);
}

bool ramet_wvirtual_stat(struct ramet_fuse_request *request, uint64_t node, struct ramet_wstat *ret)
{
    (void)request;
    *ret = stat_of(node);
    return true;
}

void ramet_wvirtual_getattr(struct ramet_fuse_request *request, uint64_t node)
{
    struct ramet_wstat stat = stat_of(node);
    ramet_wreply_attr(request, node, &stat);
}

static void reply_virtual(struct ramet_fuse_request *request, uint64_t node)
{
    struct ramet_wstat stat = stat_of(node);
    reply_entry(request, node, &stat);
}

void ramet_wvirtual_readlink(struct ramet_fuse_request *request)
{
    struct ramet_workspace *workspace;
    struct ramet_workspace_info info;
    char target[sizeof info.name + 16];
    uint64_t serial = ramet_wnode_serial(request->header->nodeid);
    RAMET_WERROR(err);
    if (ramet_wnode_ino(request->header->nodeid) != RAMET_WINO_LINK) {
        ramet_fuse_reply_error(request, EINVAL);
        return;
    }
    if (ramet_workspace_by_serial(ramet_wdoor_of(request)->set, serial, &workspace, &err) < 0) {
        ramet_fuse_reply_error(request, ESTALE);
        return;
    }
    ramet_workspace_info(workspace, &info);
    ramet_workspace_unref(workspace);
    int size = snprintf(target, sizeof target, "../" RAMET_WORKSPACES_AUDITED "/%s", info.name);
    ramet_fuse_reply(request, target, (size_t)size);
}

/* --- lookup --- */

static void reply_root_of(struct ramet_fuse_request *request, struct ramet_workspace *workspace)
{
    struct ramet_workspace_info info;
    struct ramet_wstat stat;
    RAMET_WERROR(err);
    ramet_workspace_info(workspace, &info);
    if (ramet_wfile_stat(workspace, RAMET_WORKSPACE_ROOT, &stat, &err) < 0)
        ramet_wreply_error(request, &err);
    else
        reply_entry(request, ramet_wnode(info.serial, RAMET_WORKSPACE_ROOT), &stat);
}

static void lookup_workspace(struct ramet_fuse_request *request, const char *name)
{
    struct ramet_workspace_info info;
    struct ramet_workspace *workspace;
    const struct ramet_wdoor *door = ramet_wdoor_of(request);
    RAMET_WERROR(err);
    if (ramet_workspace_find(door->set, name, &workspace, &err) < 0) {
        ramet_wreply_error(request, &err);
        return;
    }
    ramet_workspace_info(workspace, &info);
    if (strcmp(info.name, name) != 0)
        ramet_fuse_reply_error(request, ENOENT); /* by id */
    else if (info.audited == door->audited)
        reply_root_of(request, workspace);
    else if (info.audited)
        reply_virtual(request, ramet_wnode(info.serial, RAMET_WINO_LINK));
    else
        ramet_fuse_reply_error(request, ENOENT);
    ramet_workspace_unref(workspace);
}

static void lookup_state(struct ramet_fuse_request *request, uint64_t dir, const char *name)
{
    struct ramet_workspace *state = NULL;
    RAMET_WERROR(err);
    struct ramet_workspace *workspace = ramet_wnode_workspace(request, dir);
    if (!workspace)
        return;
    if (ramet_workspace_state_open(workspace, name, &state, &err) < 0)
        ramet_wreply_error(request, &err);
    else
        reply_root_of(request, state);
    ramet_workspace_unref(state);
    ramet_workspace_unref(workspace);
}

void ramet_wvirtual_lookup(struct ramet_fuse_request *request, uint64_t dir, const char *name)
{
    uint64_t serial = ramet_wnode_serial(dir), ino = ramet_wnode_ino(dir);
    if (strcmp(name, ".") == 0)
        reply_virtual(request, dir);
    else if (strcmp(name, "..") == 0)
        reply_virtual(request, ino == RAMET_WINO_HISTORY ? ramet_wnode(serial, RAMET_WINO_META) : RAMET_WNODE_ROOT);
    else if (dir == RAMET_WNODE_ROOT)
        lookup_workspace(request, name);
    else if (ino == RAMET_WORKSPACE_ROOT) /* .ramet itself */
        reply_virtual(request, ramet_wnode(serial, RAMET_WINO_META));
    else if (ino == RAMET_WINO_META && strcmp(name, "history") == 0)
        reply_virtual(request, ramet_wnode(serial, RAMET_WINO_HISTORY));
    else if (ino == RAMET_WINO_HISTORY)
        lookup_state(request, dir, name);
    else
        ramet_fuse_reply_error(request, ENOENT);
}

/* --- listing --- */

static int list_workspaces(struct ramet_wdoor *door, struct ramet_wlisting *listing, uint64_t offset,
                           struct ramet_error *err)
{
    struct ramet_workspace **all;
    size_t count;
    int r = ramet_workspaces_list(door->set, &all, &count, err);
    if (r < 0)
        return r;
    for (size_t i = offset > dot_dot ? offset - dot_dot : 0; i < count; i++) {
        struct ramet_workspace_info info;
        ramet_workspace_info(all[i], &info);
        if (door->audited && !info.audited)
            continue;
        bool here = info.audited == door->audited;
        if (!ramet_wlisting_add(listing, info.name,
                                ramet_wnode(info.serial, here ? RAMET_WORKSPACE_ROOT : RAMET_WINO_LINK),
                                here ? S_IFDIR : S_IFLNK, dot_dot + i + 1, NULL))
            break;
    }
    ramet_workspaces_list_free(all, count);
    return 0;
}

static int list_states(struct ramet_workspace *workspace, struct ramet_wlisting *listing, uint64_t offset,
                       struct ramet_error *err)
{
    _autofree_ struct ramet_workspace_state *states = NULL;
    size_t count = 0;
    int r = ramet_workspace_states(workspace, &states, &count, err);
    for (size_t i = offset > dot_dot ? offset - dot_dot : 0; r == 0 && i < count; i++)
        if (!ramet_wlisting_add(listing, states[i].name, ramet_wnode(states[i].serial, RAMET_WORKSPACE_ROOT), S_IFDIR,
                                dot_dot + i + 1, NULL))
            break;
    return r;
}

void ramet_wvirtual_list(struct ramet_fuse_request *request, uint64_t dir, uint64_t offset, size_t size, bool plus)
{
    struct ramet_wlisting listing = {.buf = ramet_fuse_buffer(request), .size = size, .plus = plus};
    uint64_t serial = ramet_wnode_serial(dir);
    struct ramet_workspace *workspace = NULL;
    int r = 0;
    RAMET_WERROR(err);
    if (serial && !(workspace = ramet_wnode_workspace(request, dir)))
        return;
    if (offset < dot)
        ramet_wlisting_add(&listing, ".", dir, S_IFDIR, dot, NULL);
    if (offset < dot_dot)
        ramet_wlisting_add(&listing, "..", RAMET_WNODE_ROOT, S_IFDIR, dot_dot, NULL);
    if (dir == RAMET_WNODE_ROOT)
        r = list_workspaces(ramet_wdoor_of(request), &listing, offset, &err);
    else if (ramet_wnode_ino(dir) == RAMET_WINO_HISTORY)
        r = list_states(workspace, &listing, offset, &err);
    else if (offset <= dot_dot)
        ramet_wlisting_add(&listing, "history", ramet_wnode(serial, RAMET_WINO_HISTORY), S_IFDIR, dot_dot + 1, NULL);
    if (r < 0)
        ramet_wreply_error(request, &err);
    else
        ramet_fuse_reply(request, listing.buf, listing.used);
    if (workspace)
        ramet_workspace_unref(workspace);
}
