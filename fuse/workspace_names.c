/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests that find, make, move and remove names.
 *
 * The kernel holds the lock of the directory meanwhile, so nobody else changes these names
 * through the mount between two steps of a handler.
 *
 * An inode that loses its last name lives on while the kernel knows it: a use is taken
 * before and kept in the mount's orphans until FORGET. Every open file, mapping and working
 * directory is such knowledge, so opens need no request of their own.
 */
#include "workspace_ops.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

/* --- finding --- */

static void reply_nothing(struct ramet_fuse_request *request)
{
    const struct fuse_entry_out none = {.entry_valid = 365 * 86400}; /* the kernel remembers that there is none */
    ramet_fuse_reply(request, &none, sizeof none);
}

static int find(struct ramet_workspace *workspace, uint64_t dir, const char *name, struct ramet_wstat *ret,
                struct ramet_error *err)
{
    if (strcmp(name, ".") == 0)
        return ramet_wfile_stat(workspace, dir, ret, err);
    if (strcmp(name, "..") != 0)
        return ramet_wfile_lookup(workspace, dir, name, ret, err);
    uint64_t parent;
    int r = ramet_wfile_parent(workspace, dir, &parent, err);
    return r < 0 ? r : ramet_wfile_stat(workspace, parent, ret, err);
}

void ramet_wop_lookup(struct ramet_fuse_request *request)
{
    uint64_t dir = request->header->nodeid;
    const char *name = request->body;
    struct ramet_wstat stat;
    RAMET_WERROR(err);
    bool top = ramet_wnode_ino(dir) == RAMET_WORKSPACE_ROOT;
    if (ramet_wnode_virtual(dir) || (top && (strcmp(name, RAMET_WMETA_NAME) == 0 || strcmp(name, "..") == 0))) {
        ramet_wvirtual_lookup(request, dir, name);
        return;
    }
    struct ramet_workspace *workspace = ramet_wnode_workspace(request, dir);
    if (!workspace)
        return;
    int r = find(workspace, ramet_wnode_ino(dir), name, &stat, &err);
    if (r == 0)
        ramet_wreply_entry(request, ramet_wnode_serial(dir), &stat);
    else if (r == -RAMET_NOT_FOUND && (err.os_errno == 0 || err.os_errno == ENOENT))
        reply_nothing(request);
    else
        ramet_wreply_error(request, &err);
    ramet_workspace_unref(workspace);
}

void ramet_wop_forget(struct ramet_fuse_request *request)
{
    ramet_worphan_forget(ramet_wdoor_of(request), request->header->nodeid);
}

void ramet_wop_batch_forget(struct ramet_fuse_request *request)
{
    const struct fuse_batch_forget_in *in = request->body;
    const struct fuse_forget_one *one = (const struct fuse_forget_one *)(in + 1);
    size_t fit = (request->size - sizeof *in) / sizeof *one, count = in->count < fit ? in->count : fit;
    for (size_t i = 0; i < count; i++)
        ramet_worphan_forget(ramet_wdoor_of(request), one[i].nodeid);
}

/* --- making --- */

static struct ramet_wowner owner_of(const struct ramet_fuse_request *request)
{
    return (struct ramet_wowner){.uid = request->header->uid, .gid = request->header->gid};
}

struct making {
    const char *name;
    uint32_t mode, umask, major, minor, flags;
};

/* With what the directory's default ACL gives. */
static int make(struct ramet_fuse_request *request, struct ramet_workspace *workspace, const struct making *making,
                struct ramet_wstat *ret, struct ramet_error *err)
{
    uint64_t dir = ramet_wnode_ino(request->header->nodeid);
    struct ramet_wacl acl = {0};
    uint32_t mode = making->mode;
    int r = ramet_wacl_create(workspace, dir, making->umask, &mode, &acl, err);
    if (r == 0)
        r = making->name ? ramet_wfile_make(workspace, dir, making->name, mode, making->major, making->minor,
                                            owner_of(request), ret, err)
                         : ramet_wfile_tmpfile(workspace, dir, mode, owner_of(request), ret, err);
    if (r == 0)
        r = ramet_wacl_apply(workspace, ret->ino, &acl, err);
    ramet_wacl_free(&acl);
    return r;
}

static void make_entry(struct ramet_fuse_request *request, const struct making *making)
{
    uint64_t dir = request->header->nodeid;
    struct ramet_wstat stat;
    RAMET_WERROR(err);
    struct ramet_workspace *workspace = ramet_wnode_writable(request, dir, making->name);
    if (!workspace)
        return;
    if (make(request, workspace, making, &stat, &err) < 0)
        ramet_wreply_error(request, &err);
    else
        ramet_wreply_entry(request, ramet_wnode_serial(dir), &stat);
    ramet_workspace_unref(workspace);
}

void ramet_wop_mknod(struct ramet_fuse_request *request)
{
    const struct fuse_mknod_in *in = request->body;
    make_entry(request, &(struct making){.name = (const char *)(in + 1),
                                         .mode = in->mode,
                                         .umask = in->umask,
                                         .major = in->rdev >> 8 & 0xfff,
                                         .minor = (in->rdev & 0xff) | (in->rdev >> 12 & 0xfff00)});
}

void ramet_wop_mkdir(struct ramet_fuse_request *request)
{
    const struct fuse_mkdir_in *in = request->body;
    make_entry(request, &(struct making){
                            .name = (const char *)(in + 1), .mode = (in->mode & 07777) | S_IFDIR, .umask = in->umask});
}

static void make_open(struct ramet_fuse_request *request, const struct making *making)
{
    uint64_t dir = request->header->nodeid;
    struct ramet_wstat stat;
    struct {
        struct fuse_entry_out entry;
        struct fuse_open_out open;
    } out = {.open.open_flags = FOPEN_KEEP_CACHE | FOPEN_NOFLUSH};
    RAMET_WERROR(err);
    struct ramet_workspace *workspace = ramet_wnode_writable(request, dir, making->name);
    if (!workspace)
        return;
    if (ramet_wopen_tell(request, workspace, ramet_wnode_ino(dir), making->name ? making->name : "(unnamed)",
                         making->flags) < 0) {
        ramet_workspace_unref(workspace);
        return;
    }
    if (make(request, workspace, making, &stat, &err) < 0) {
        ramet_wreply_error(request, &err);
    } else {
        ramet_wfill_entry(ramet_wnode_serial(dir), &stat, &out.entry);
        if (!making->name)
            ramet_worphan_add(ramet_wdoor_of(request), workspace, out.entry.nodeid);
        ramet_fuse_reply(request, &out, sizeof out);
    }
    ramet_workspace_unref(workspace);
}

void ramet_wop_create(struct ramet_fuse_request *request)
{
    const struct fuse_create_in *in = request->body;
    make_open(request, &(struct making){
                           .name = (const char *)(in + 1), .mode = in->mode, .umask = in->umask, .flags = in->flags});
}

void ramet_wop_tmpfile(struct ramet_fuse_request *request)
{
    const struct fuse_create_in *in = request->body;
    make_open(request, &(struct making){.mode = in->mode, .umask = in->umask, .flags = in->flags});
}

void ramet_wop_symlink(struct ramet_fuse_request *request)
{
    const char *name = request->body, *target = name + strlen(name) + 1;
    uint64_t dir = request->header->nodeid;
    struct ramet_wstat stat;
    RAMET_WERROR(err);
    struct ramet_workspace *workspace = ramet_wnode_writable(request, dir, name);
    if (!workspace)
        return;
    if (ramet_wfile_symlink(workspace, ramet_wnode_ino(dir), name, target, owner_of(request), &stat, &err) < 0)
        ramet_wreply_error(request, &err);
    else
        ramet_wreply_entry(request, ramet_wnode_serial(dir), &stat);
    ramet_workspace_unref(workspace);
}

void ramet_wop_link(struct ramet_fuse_request *request)
{
    const struct fuse_link_in *in = request->body;
    const char *name = (const char *)(in + 1);
    uint64_t dir = request->header->nodeid;
    struct ramet_wstat stat;
    RAMET_WERROR(err);
    if (ramet_wnode_serial(in->oldnodeid) != ramet_wnode_serial(dir)) {
        ramet_fuse_reply_error(request, EXDEV);
        return;
    }
    struct ramet_workspace *workspace = ramet_wnode_writable(request, dir, name);
    if (!workspace)
        return;
    if (ramet_wfile_link(workspace, ramet_wnode_ino(in->oldnodeid), ramet_wnode_ino(dir), name, &stat, &err) < 0)
        ramet_wreply_error(request, &err);
    else
        ramet_wreply_entry(request, ramet_wnode_serial(dir), &stat);
    ramet_workspace_unref(workspace);
}

/* --- removing --- */

/* Takes a use of what is about to lose this name, if it is its last; 0: it has others, or there is nothing. */
static uint64_t hold_last(struct ramet_workspace *workspace, uint64_t dir, const char *name)
{
    struct ramet_wstat stat;
    RAMET_WERROR(err);
    if (ramet_wfile_lookup(workspace, dir, name, &stat, &err) < 0 || (!S_ISDIR(stat.mode) && stat.nlink > 1))
        return 0;
    ramet_wfile_use(workspace, stat.ino);
    return stat.ino;
}

/* After the step: the use goes to the orphans, or back. */
static void settle_last(struct ramet_fuse_request *request, struct ramet_workspace *workspace, uint64_t ino, int r)
{
    if (!ino)
        return;
    if (r == 0)
        ramet_worphan_add(ramet_wdoor_of(request), workspace,
                          ramet_wnode(ramet_wnode_serial(request->header->nodeid), ino));
    else
        ramet_wfile_unuse(workspace, ino, 1);
}

typedef int remove_name(struct ramet_workspace *workspace, uint64_t dir, const char *name, uint64_t *ret_ino,
                        struct ramet_error *err);

static void remove_entry(struct ramet_fuse_request *request, remove_name *how)
{
    const char *name = request->body;
    uint64_t dir = request->header->nodeid;
    RAMET_WERROR(err);
    struct ramet_workspace *workspace = ramet_wnode_writable(request, dir, name);
    if (!workspace)
        return;
    uint64_t ino = hold_last(workspace, ramet_wnode_ino(dir), name);
    int r = how(workspace, ramet_wnode_ino(dir), name, NULL, &err);
    settle_last(request, workspace, ino, r);
    ramet_wreply_done(request, r, &err);
    ramet_workspace_unref(workspace);
}

void ramet_wop_unlink(struct ramet_fuse_request *request) { remove_entry(request, ramet_wfile_unlink); }

void ramet_wop_rmdir(struct ramet_fuse_request *request) { remove_entry(request, ramet_wfile_rmdir); }

/* --- moving --- */

static void rename_entry(struct ramet_fuse_request *request, uint64_t new_dir, unsigned flags, const char *name)
{
    const char *new_name = name + strlen(name) + 1;
    uint64_t dir = request->header->nodeid;
    RAMET_WERROR(err);
    bool meta = ramet_wnode_ino(new_dir) == RAMET_WORKSPACE_ROOT && strcmp(new_name, RAMET_WMETA_NAME) == 0;
    if (ramet_wnode_serial(dir) != ramet_wnode_serial(new_dir) || ramet_wnode_virtual(new_dir) || meta) {
        ramet_fuse_reply_error(request, meta ? EPERM : ramet_wnode_virtual(new_dir) ? EROFS : EXDEV);
        return;
    }
    struct ramet_workspace *workspace = ramet_wnode_writable(request, dir, name);
    if (!workspace)
        return;
    uint64_t ino = flags ? 0 : hold_last(workspace, ramet_wnode_ino(new_dir), new_name);
    int r = ramet_wfile_rename(workspace, ramet_wnode_ino(dir), name, ramet_wnode_ino(new_dir), new_name, flags, &err);
    settle_last(request, workspace, ino, r);
    ramet_wreply_done(request, r, &err);
    ramet_workspace_unref(workspace);
}

void ramet_wop_rename(struct ramet_fuse_request *request)
{
    const struct fuse_rename_in *in = request->body;
    rename_entry(request, in->newdir, 0, (const char *)(in + 1));
}

void ramet_wop_rename2(struct ramet_fuse_request *request)
{
    const struct fuse_rename2_in *in = request->body;
    rename_entry(request, in->newdir, in->flags, (const char *)(in + 1));
}
