/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attributes and extended attributes.
 *
 * HANDLE_KILLPRIV_V2: the kernel says where setuid and setgid bits must go (writes, new
 * sizes), and leaves changes of owner to us. POSIX ACLs are extended attributes that the
 * kernel checks; that mode and ACL agree is ours (workspace_acl.c).
 */
#include "base/cleanup.h"
#include "protocol.h"
#include "workspace_ops.h"

#include <errno.h>
#include <string.h>

/* False: it was answered with an error. */
static bool get_stat(struct ramet_fuse_request *request, struct ramet_wstat *ret)
{
    uint64_t node = request->header->nodeid;
    if (ramet_wnode_virtual(node))
        return ramet_wvirtual_stat(request, node, ret);
    RAMET_WERROR(err);
    struct ramet_workspace *workspace = ramet_wnode_workspace(request, node);
    if (!workspace)
        return false;
    int r = ramet_wfile_stat(workspace, ramet_wnode_ino(node), ret, &err);
    ramet_workspace_unref(workspace);
    if (r < 0 && err.code == RAMET_NOT_FOUND)
        ramet_fuse_reply_error(request, ESTALE);
    else if (r < 0)
        ramet_wreply_error(request, &err);
    return r == 0;
}

void ramet_wop_getattr(struct ramet_fuse_request *request)
{
    struct ramet_wstat stat;
    if (ramet_wnode_virtual(request->header->nodeid))
        ramet_wvirtual_getattr(request, request->header->nodeid);
    else if (get_stat(request, &stat))
        ramet_wreply_attr(request, request->header->nodeid, &stat);
}

static struct ramet_fuse_sx_time sx_time(int64_t ns)
{
    int64_t s = ns / 1000000000, rest = ns % 1000000000;
    return rest < 0 ? (struct ramet_fuse_sx_time){.tv_sec = s - 1, .tv_nsec = (uint32_t)(rest + 1000000000)}
                    : (struct ramet_fuse_sx_time){.tv_sec = s, .tv_nsec = (uint32_t)rest};
}

/* Asked only by those who want the time of birth. */
void ramet_wop_statx(struct ramet_fuse_request *request)
{
    struct ramet_wstat stat;
    if (!get_stat(request, &stat))
        return;
    struct ramet_fuse_statx_out out = {.attr_valid = 1};
    out.stat.mask = 0xfff; /* STATX_BASIC_STATS | STATX_BTIME */
    out.stat.blksize = 4096;
    out.stat.nlink = stat.nlink;
    out.stat.uid = stat.uid;
    out.stat.gid = stat.gid;
    out.stat.mode = (uint16_t)stat.mode;
    out.stat.ino = request->header->nodeid;
    out.stat.size = stat.size;
    out.stat.blocks = stat.blocks;
    out.stat.atime = sx_time(stat.atime_ns);
    out.stat.btime = sx_time(stat.btime_ns);
    out.stat.ctime = sx_time(stat.ctime_ns);
    out.stat.mtime = sx_time(stat.mtime_ns);
    out.stat.rdev_major = stat.rdev_major;
    out.stat.rdev_minor = stat.rdev_minor;
    ramet_fuse_reply(request, &out, sizeof out);
}

static int64_t time_of(uint64_t s, uint32_t ns) { return (int64_t)s * 1000000000 + ns; }

static unsigned what_to_set(uint32_t valid)
{
    static const struct {
        uint32_t kernel;
        unsigned ours;
    } map[] = {
        {FATTR_MODE, RAMET_WSET_MODE},
        {FATTR_UID, RAMET_WSET_UID},
        {FATTR_GID, RAMET_WSET_GID},
        {FATTR_SIZE, RAMET_WSET_SIZE},
        {FATTR_ATIME, RAMET_WSET_ATIME},
        {FATTR_MTIME, RAMET_WSET_MTIME},
        {FATTR_ATIME_NOW, RAMET_WSET_ATIME_NOW},
        {FATTR_MTIME_NOW, RAMET_WSET_MTIME_NOW},
        {FATTR_CTIME, RAMET_WSET_CTIME},
        {FATTR_KILL_SUIDGID, RAMET_WSET_KILL_PRIV},
    };
    unsigned set = 0;
    for (size_t i = 0; i < sizeof map / sizeof *map; i++)
        if (valid & map[i].kernel)
            set |= map[i].ours;
    if (set & RAMET_WSET_ATIME_NOW)
        set &= ~(unsigned)RAMET_WSET_ATIME;
    if (set & RAMET_WSET_MTIME_NOW)
        set &= ~(unsigned)RAMET_WSET_MTIME;
    return set;
}

/* A new owner takes setuid away, and setgid where the group may execute. */
static int drop_privileges(struct ramet_workspace *workspace, uint64_t ino, struct ramet_wstat *attr, unsigned *set,
                           struct ramet_error *err)
{
    struct ramet_wstat now;
    if (!(*set & (RAMET_WSET_UID | RAMET_WSET_GID)) || *set & RAMET_WSET_MODE)
        return 0;
    int r = ramet_wfile_stat(workspace, ino, &now, err);
    if (r < 0 || S_ISDIR(now.mode))
        return r;
    uint32_t mode = now.mode & ~(uint32_t)(S_ISUID | (now.mode & S_IXGRP ? S_ISGID : 0));
    if (mode != now.mode) {
        attr->mode = mode;
        *set |= RAMET_WSET_MODE;
    }
    return 0;
}

void ramet_wop_setattr(struct ramet_fuse_request *request)
{
    const struct fuse_setattr_in *in = request->body;
    uint64_t node = request->header->nodeid, ino = ramet_wnode_ino(node);
    struct ramet_wstat stat, attr = {.mode = in->mode,
                                     .uid = in->uid,
                                     .gid = in->gid,
                                     .size = in->size,
                                     .atime_ns = time_of(in->atime, in->atimensec),
                                     .mtime_ns = time_of(in->mtime, in->mtimensec),
                                     .ctime_ns = time_of(in->ctime, in->ctimensec)};
    unsigned set = what_to_set(in->valid);
    RAMET_WERROR(err);
    struct ramet_workspace *workspace = ramet_wnode_writable(request, node, NULL);
    if (!workspace)
        return;
    int r = drop_privileges(workspace, ino, &attr, &set, &err);
    if (r == 0)
        r = ramet_wfile_set(workspace, ino, &attr, set, &stat, &err);
    if (r == 0 && in->valid & FATTR_MODE)
        r = ramet_wacl_chmod(workspace, ino, in->mode, &err);
    if (r < 0)
        ramet_wreply_error(request, &err);
    else
        ramet_wreply_attr(request, node, &stat);
    ramet_workspace_unref(workspace);
}

void ramet_wop_readlink(struct ramet_fuse_request *request)
{
    char *target = ramet_fuse_buffer(request);
    size_t size;
    RAMET_WERROR(err);
    if (ramet_wnode_virtual(request->header->nodeid)) {
        ramet_wvirtual_readlink(request);
        return;
    }
    struct ramet_workspace *workspace = ramet_wnode_workspace(request, request->header->nodeid);
    if (!workspace)
        return;
    if (ramet_wfile_readlink(workspace, ramet_wnode_ino(request->header->nodeid), target, &size, &err) < 0)
        ramet_wreply_error(request, &err);
    else
        ramet_fuse_reply(request, target, size);
    ramet_workspace_unref(workspace);
}

void ramet_wop_statfs(struct ramet_fuse_request *request)
{
    uint64_t node = request->header->nodeid;
    struct ramet_wspace space = {0};
    RAMET_WERROR(err);
    int r = 0;
    if (ramet_wnode_serial(node)) {
        struct ramet_workspace *workspace = ramet_wnode_workspace(request, node);
        if (!workspace)
            return;
        r = ramet_wfile_space(workspace, &space, &err);
        ramet_workspace_unref(workspace);
    }
    if (r < 0) {
        ramet_wreply_error(request, &err);
        return;
    }
    const struct fuse_statfs_out out = {.st = {.blocks = space.total_bytes / 4096,
                                               .bfree = space.free_bytes / 4096,
                                               .bavail = space.free_bytes / 4096,
                                               .files = space.total_inodes,
                                               .ffree = space.free_inodes,
                                               .bsize = 4096,
                                               .frsize = 4096,
                                               .namelen = 255}};
    ramet_fuse_reply(request, &out, sizeof out);
}

/* --- extended attributes --- */

void ramet_wop_setxattr(struct ramet_fuse_request *request)
{
    const struct fuse_setxattr_in *in = request->body;
    const char *name = (const char *)(in + 1), *value = name + strlen(name) + 1;
    uint64_t node = request->header->nodeid, ino = ramet_wnode_ino(node);
    bool plain = false;
    RAMET_WERROR(err);
    if ((size_t)(value - (const char *)request->body) + in->size > request->size) {
        ramet_fuse_reply_error(request, EINVAL);
        return;
    }
    struct ramet_workspace *workspace = ramet_wnode_writable(request, node, NULL);
    if (!workspace)
        return;
    int r = 0;
    if (strcmp(name, RAMET_WACL_ACCESS) == 0)
        r = ramet_wacl_set(workspace, ino, value, in->size, in->setxattr_flags & FUSE_SETXATTR_ACL_KILL_SGID, &plain,
                           &err);
    if (r == 0 && !plain)
        r = ramet_wfile_set_xattr(workspace, ino, name, value, in->size, (int)in->flags, &err);
    ramet_wreply_done(request, r, &err);
    ramet_workspace_unref(workspace);
}

/* The value, or only its size where that was asked. */
static void reply_value(struct ramet_fuse_request *request, const void *value, size_t size, size_t room)
{
    const struct fuse_getxattr_out out = {.size = (uint32_t)size};
    if (room == 0)
        ramet_fuse_reply(request, &out, sizeof out);
    else if (size > room)
        ramet_fuse_reply_error(request, ERANGE);
    else
        ramet_fuse_reply(request, value, size);
}

void ramet_wop_getxattr(struct ramet_fuse_request *request)
{
    const struct fuse_getxattr_in *in = request->body;
    const char *name = (const char *)(in + 1);
    uint64_t node = request->header->nodeid;
    _autofree_ void *value = NULL;
    size_t size;
    RAMET_WERROR(err);
    if (ramet_wnode_virtual(node)) {
        ramet_fuse_reply_error(request, ENODATA);
        return;
    }
    struct ramet_workspace *workspace = ramet_wnode_workspace(request, node);
    if (!workspace)
        return;
    if (ramet_wfile_get_xattr(workspace, ramet_wnode_ino(node), name, &value, &size, &err) < 0)
        ramet_wreply_error(request, &err);
    else
        reply_value(request, value, size, in->size);
    ramet_workspace_unref(workspace);
}

void ramet_wop_listxattr(struct ramet_fuse_request *request)
{
    const struct fuse_getxattr_in *in = request->body;
    uint64_t node = request->header->nodeid;
    _autofree_ char *names = NULL;
    size_t size;
    RAMET_WERROR(err);
    if (ramet_wnode_virtual(node)) {
        reply_value(request, "", 0, in->size);
        return;
    }
    struct ramet_workspace *workspace = ramet_wnode_workspace(request, node);
    if (!workspace)
        return;
    if (ramet_wfile_list_xattr(workspace, ramet_wnode_ino(node), &names, &size, &err) < 0)
        ramet_wreply_error(request, &err);
    else
        reply_value(request, names, size, in->size);
    ramet_workspace_unref(workspace);
}

void ramet_wop_removexattr(struct ramet_fuse_request *request)
{
    RAMET_WERROR(err);
    struct ramet_workspace *workspace = ramet_wnode_writable(request, request->header->nodeid, NULL);
    if (!workspace)
        return;
    int r = ramet_wfile_remove_xattr(workspace, ramet_wnode_ino(request->header->nodeid), request->body, &err);
    ramet_wreply_done(request, r, &err);
    ramet_workspace_unref(workspace);
}
