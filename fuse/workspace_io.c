/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Content. Writes go through: write(2) returns when the workspace has the bytes, so a fork
 * holds exactly what was written before it. The kernel keeps pages for reading; what it
 * holds of shared mappings is flushed before a fork (workspace_mount.c).
 */
#include "workspace_ops.h"

#include <errno.h>
#include <fcntl.h>

void ramet_wop_read(struct ramet_fuse_request *request)
{
    const struct fuse_read_in *in = request->body;
    size_t size = in->size < RAMET_FUSE_WRITE_MAX ? in->size : RAMET_FUSE_WRITE_MAX;
    void *buf = ramet_fuse_buffer(request);
    RAMET_WERROR(err);
    struct ramet_workspace *workspace = ramet_wnode_workspace(request, request->header->nodeid);
    if (!workspace)
        return;
    if (ramet_wfile_read(workspace, ramet_wnode_ino(request->header->nodeid), in->offset, buf, size, &size, &err) < 0)
        ramet_wreply_error(request, &err);
    else
        ramet_fuse_reply(request, buf, size);
    ramet_workspace_unref(workspace);
}

/* The kernel gives the offset of an appending write: nothing else changes a file that it has open. */
void ramet_wop_write(struct ramet_fuse_request *request)
{
    const struct fuse_write_in *in = request->body;
    const struct fuse_write_out out = {.size = in->size};
    bool kill_priv = in->write_flags & FUSE_WRITE_KILL_SUIDGID;
    uint64_t node = request->header->nodeid, offset;
    RAMET_WERROR(err);
    if (request->size - sizeof *in < in->size) {
        ramet_fuse_reply_error(request, EIO);
        return;
    }
    struct ramet_workspace *workspace = ramet_wnode_writable(request, node, NULL);
    if (!workspace)
        return;
    if (ramet_wfile_write(workspace, ramet_wnode_ino(node), in->offset, in + 1, in->size, false, kill_priv, &offset,
                          &err) < 0)
        ramet_wreply_error(request, &err);
    else
        ramet_fuse_reply(request, &out, sizeof out);
    ramet_workspace_unref(workspace);
}

void ramet_wop_fsync(struct ramet_fuse_request *request)
{
    uint64_t node = request->header->nodeid;
    RAMET_WERROR(err);
    if (ramet_wnode_virtual(node)) {
        ramet_fuse_reply_error(request, 0);
        return;
    }
    struct ramet_workspace *workspace = ramet_wnode_workspace(request, node);
    if (!workspace)
        return;
    ramet_wreply_done(request, ramet_wfile_sync(workspace, ramet_wnode_ino(node), &err), &err);
    ramet_workspace_unref(workspace);
}

void ramet_wop_fallocate(struct ramet_fuse_request *request)
{
    const struct fuse_fallocate_in *in = request->body;
    uint64_t node = request->header->nodeid;
    RAMET_WERROR(err);
    struct ramet_workspace *workspace = ramet_wnode_writable(request, node, NULL);
    if (!workspace)
        return;
    int r = ramet_wfile_allocate(workspace, ramet_wnode_ino(node), (int)in->mode, in->offset, in->length, &err);
    ramet_wreply_done(request, r, &err);
    ramet_workspace_unref(workspace);
}

void ramet_wop_lseek(struct ramet_fuse_request *request)
{
    const struct fuse_lseek_in *in = request->body;
    struct fuse_lseek_out out;
    RAMET_WERROR(err);
    struct ramet_workspace *workspace = ramet_wnode_workspace(request, request->header->nodeid);
    if (!workspace)
        return;
    if (ramet_wfile_seek(workspace, ramet_wnode_ino(request->header->nodeid), in->offset, (int)in->whence, &out.offset,
                         &err) < 0)
        ramet_wreply_error(request, &err);
    else
        ramet_fuse_reply(request, &out, sizeof out);
    ramet_workspace_unref(workspace);
}

/* Between two workspaces the kernel copies the bytes itself. */
void ramet_wop_copy(struct ramet_fuse_request *request)
{
    const struct fuse_copy_file_range_in *in = request->body;
    uint64_t from = request->header->nodeid, to = in->nodeid_out, size = in->len;
    struct fuse_write_out out = {0};
    RAMET_WERROR(err);
    if (ramet_wnode_serial(from) != ramet_wnode_serial(to)) {
        ramet_fuse_reply_error(request, EXDEV);
        return;
    }
    struct ramet_workspace *workspace = ramet_wnode_writable(request, to, NULL);
    if (!workspace)
        return;
    if (size > UINT32_C(1) << 30) /* the answer has 32 bits; callers go on */
        size = UINT32_C(1) << 30;
    if (ramet_wfile_copy(workspace, ramet_wnode_ino(from), in->off_in, ramet_wnode_ino(to), in->off_out, size, &size,
                         &err) < 0) {
        ramet_wreply_error(request, &err);
    } else {
        out.size = (uint32_t)size;
        ramet_fuse_reply(request, &out, sizeof out);
    }
    ramet_workspace_unref(workspace);
}
