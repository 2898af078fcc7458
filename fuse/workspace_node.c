/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes to workspaces, attributes to answers, and inodes that lost their last name. */
#include "base/file.h"
#include "base/log.h"
#include "workspace_ops.h"

#include <errno.h>
#include <string.h>

/* Only we change what the kernel caches, or tell it. */
static const uint64_t believe_s = 365 * 86400;

struct ramet_wdoor *ramet_wdoor_of(const struct ramet_fuse_request *request) { return request->context; }

struct ramet_workspace *ramet_wnode_workspace(struct ramet_fuse_request *request, uint64_t node)
{
    struct ramet_workspace *workspace;
    RAMET_WERROR(err);
    const struct ramet_wdoor *door = ramet_wdoor_of(request);
    int r = ramet_workspace_by_serial(door->set, ramet_wnode_serial(node), &workspace, &err);
    bool here = r == 0 && ramet_workspace_audited(workspace) == door->audited;
    if (here)
        return workspace;
    if (r == 0)
        ramet_workspace_unref(workspace);
    if (r == 0 || err.code == RAMET_NOT_FOUND)
        ramet_fuse_reply_error(request, ESTALE);
    else
        ramet_wreply_error(request, &err);
    return NULL;
}

struct ramet_workspace *ramet_wnode_writable(struct ramet_fuse_request *request, uint64_t node, const char *name)
{
    if (ramet_wnode_virtual(node)) {
        ramet_fuse_reply_error(request, EROFS);
        return NULL;
    }
    if (name && ramet_wnode_ino(node) == RAMET_WORKSPACE_ROOT && strcmp(name, RAMET_WMETA_NAME) == 0) {
        ramet_fuse_reply_error(request, EPERM);
        return NULL;
    }
    return ramet_wnode_workspace(request, node);
}

/* --- answers --- */

/* At most 5 lines a second. */
static bool may_log(void)
{
    static _Atomic uint64_t second;
    static _Atomic unsigned lines;
    uint64_t now = ramet_now_us() / 1000000;
    if (atomic_exchange(&second, now) != now)
        atomic_store(&lines, 0);
    return atomic_fetch_add(&lines, 1) < 5;
}

void ramet_wreply_error(struct ramet_fuse_request *request, const struct ramet_error *err)
{
    bool tell = err->code == RAMET_CORRUPT || err->code == RAMET_IO || err->code == RAMET_INTERNAL;
    if (tell && may_log())
        ramet_warn("workspaces: %s", err->msg);
    int os_errno = err->os_errno ? err->os_errno : ramet_code_errno(err->code);
    ramet_fuse_reply_error(request, os_errno ? os_errno : EIO);
}

void ramet_wreply_done(struct ramet_fuse_request *request, int r, const struct ramet_error *err)
{
    if (r < 0)
        ramet_wreply_error(request, err);
    else
        ramet_fuse_reply_error(request, 0);
}

static void fill_time(int64_t ns, uint64_t *ret_s, uint32_t *ret_ns)
{
    int64_t s = ns / 1000000000, rest = ns % 1000000000;
    if (rest < 0) {
        s--;
        rest += 1000000000;
    }
    *ret_s = (uint64_t)s;
    *ret_ns = (uint32_t)rest;
}

void ramet_wfill_attr(uint64_t node, const struct ramet_wstat *stat, struct fuse_attr *ret)
{
    *ret = (struct fuse_attr){
        .ino = node,
        .size = stat->size,
        .blocks = stat->blocks,
        .mode = stat->mode,
        .nlink = stat->nlink,
        .uid = stat->uid,
        .gid = stat->gid,
        .rdev = (stat->rdev_minor & 0xff) | stat->rdev_major << 8 | (stat->rdev_minor & ~0xffu) << 12,
        .blksize = 4096,
    };
    fill_time(stat->atime_ns, &ret->atime, &ret->atimensec);
    fill_time(stat->mtime_ns, &ret->mtime, &ret->mtimensec);
    fill_time(stat->ctime_ns, &ret->ctime, &ret->ctimensec);
}

void ramet_wfill_entry(uint64_t serial, const struct ramet_wstat *stat, struct fuse_entry_out *ret)
{
    *ret = (struct fuse_entry_out){
        .nodeid = ramet_wnode(serial, stat->ino), .entry_valid = believe_s, .attr_valid = believe_s};
    ramet_wfill_attr(ret->nodeid, stat, &ret->attr);
}

void ramet_wreply_entry(struct ramet_fuse_request *request, uint64_t serial, const struct ramet_wstat *stat)
{
    struct fuse_entry_out out;
    ramet_wfill_entry(serial, stat, &out);
    ramet_fuse_reply(request, &out, sizeof out);
}

void ramet_wreply_attr(struct ramet_fuse_request *request, uint64_t node, const struct ramet_wstat *stat)
{
    struct fuse_attr_out out = {.attr_valid = believe_s};
    ramet_wfill_attr(node, stat, &out.attr);
    ramet_fuse_reply(request, &out, sizeof out);
}

/* --- inodes without a name --- */

void ramet_worphan_add(struct ramet_wdoor *door, struct ramet_workspace *workspace, uint64_t node)
{
    uint64_t known;
    pthread_mutex_lock(&door->lock);
    bool again = ramet_u64map_get(&door->orphans, node, &known); /* linked and unlinked once more */
    bool kept = again || ramet_u64map_put(&door->orphans, node, 1);
    atomic_store(&door->orphan_count, door->orphans.count);
    pthread_mutex_unlock(&door->lock);
    if (again || !kept)
        ramet_wfile_unuse(workspace, ramet_wnode_ino(node), 1);
}

static void let_go(struct ramet_wdoor *door, uint64_t node)
{
    struct ramet_workspace *workspace;
    RAMET_WERROR(err);
    if (ramet_workspace_by_serial(door->set, ramet_wnode_serial(node), &workspace, &err) < 0)
        return; /* it was removed or rolled back, and its inodes with it */
    ramet_wfile_unuse(workspace, ramet_wnode_ino(node), 1);
    ramet_workspace_unref(workspace);
}

void ramet_worphan_forget(struct ramet_wdoor *door, uint64_t node)
{
    uint64_t known;
    if (atomic_load(&door->orphan_count) == 0)
        return;
    pthread_mutex_lock(&door->lock);
    bool found = ramet_u64map_get(&door->orphans, node, &known);
    if (found)
        ramet_u64map_remove(&door->orphans, node);
    atomic_store(&door->orphan_count, door->orphans.count);
    pthread_mutex_unlock(&door->lock);
    if (found)
        let_go(door, node);
}

void ramet_worphans_free(struct ramet_wdoor *door)
{
    uint64_t node, value;
    for (size_t at = 0; ramet_u64map_next(&door->orphans, &at, &node, &value);)
        let_go(door, node);
    ramet_u64map_free(&door->orphans);
}
