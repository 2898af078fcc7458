/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The workspaces' mount: which requests are answered by whom, what is asked of the kernel,
 * and telling it of changes that did not go through it.
 *
 * Files and directories are opened without a request (the kernel is told ENOSYS once, and
 * keeps pages and listings across opens): all that a handler needs is in the node.
 */
#include "workspace_mount.h"

#include "protocol.h"
#include "workspace_ops.h"

#include <stdlib.h>
#include <string.h>

static const struct ramet_fuse_operation operations[RAMET_FUSE_OPCODES] = {
    [FUSE_LOOKUP] = {ramet_wop_lookup, 2, false},
    [FUSE_FORGET] = {ramet_wop_forget, sizeof(struct fuse_forget_in), false},
    [FUSE_BATCH_FORGET] = {ramet_wop_batch_forget, sizeof(struct fuse_batch_forget_in), false},
    [FUSE_GETATTR] = {ramet_wop_getattr, 0, false},
    [FUSE_SETATTR] = {ramet_wop_setattr, sizeof(struct fuse_setattr_in), false},
    [FUSE_READLINK] = {ramet_wop_readlink, 0, false},
    [FUSE_SYMLINK] = {ramet_wop_symlink, 4, false},
    [FUSE_MKNOD] = {ramet_wop_mknod, sizeof(struct fuse_mknod_in) + 2, false},
    [FUSE_MKDIR] = {ramet_wop_mkdir, sizeof(struct fuse_mkdir_in) + 2, false},
    [FUSE_UNLINK] = {ramet_wop_unlink, 2, false},
    [FUSE_RMDIR] = {ramet_wop_rmdir, 2, false},
    [FUSE_RENAME] = {ramet_wop_rename, sizeof(struct fuse_rename_in) + 4, false},
    [FUSE_RENAME2] = {ramet_wop_rename2, sizeof(struct fuse_rename2_in) + 4, false},
    [FUSE_LINK] = {ramet_wop_link, sizeof(struct fuse_link_in) + 2, false},
    [FUSE_TMPFILE] = {ramet_wop_tmpfile, sizeof(struct fuse_create_in), false},
    [FUSE_READ] = {ramet_wop_read, sizeof(struct fuse_read_in), false},
    [FUSE_WRITE] = {ramet_wop_write, sizeof(struct fuse_write_in), false},
    [FUSE_STATFS] = {ramet_wop_statfs, 0, false},
    [FUSE_FSYNC] = {ramet_wop_fsync, sizeof(struct fuse_fsync_in), true},
    [FUSE_FSYNCDIR] = {ramet_wop_fsync, sizeof(struct fuse_fsync_in), true},
    [FUSE_SETXATTR] = {ramet_wop_setxattr, sizeof(struct fuse_setxattr_in) + 2, false},
    [FUSE_GETXATTR] = {ramet_wop_getxattr, sizeof(struct fuse_getxattr_in) + 2, false},
    [FUSE_LISTXATTR] = {ramet_wop_listxattr, sizeof(struct fuse_getxattr_in), false},
    [FUSE_REMOVEXATTR] = {ramet_wop_removexattr, 2, false},
    [FUSE_READDIR] = {ramet_wop_readdir, sizeof(struct fuse_read_in), false},
    [FUSE_READDIRPLUS] = {ramet_wop_readdirplus, sizeof(struct fuse_read_in), false},
    [FUSE_FALLOCATE] = {ramet_wop_fallocate, sizeof(struct fuse_fallocate_in), false},
    [FUSE_LSEEK] = {ramet_wop_lseek, sizeof(struct fuse_lseek_in), false},
    [FUSE_COPY_FILE_RANGE] = {ramet_wop_copy, sizeof(struct fuse_copy_file_range_in), false},
    [RAMET_FUSE_STATX] = {ramet_wop_statx, sizeof(struct ramet_fuse_statx_in), false},
};

/*
 * Locks are the kernel's own. No writeback cache: what was written must be in the fork that begins after.
 * EXPLICIT_INVAL_DATA: pages go when we say so, not when a time changes.
 */
static const uint64_t wanted_flags = FUSE_ASYNC_READ | FUSE_EXPORT_SUPPORT | FUSE_DONT_MASK | FUSE_DO_READDIRPLUS |
                                     FUSE_ASYNC_DIO | FUSE_NO_OPEN_SUPPORT | FUSE_PARALLEL_DIROPS | FUSE_POSIX_ACL |
                                     FUSE_CACHE_SYMLINKS | FUSE_NO_OPENDIR_SUPPORT | FUSE_EXPLICIT_INVAL_DATA |
                                     FUSE_HANDLE_KILLPRIV_V2 | FUSE_SETXATTR_EXT | RAMET_FUSE_DIRECT_IO_ALLOW_MMAP;

int ramet_workspace_mount_start(const char *dir, struct ramet_workspaces *set, struct ramet_workspace_mount **ret,
                                struct ramet_error *err)
{
    struct ramet_workspace_mount *mount = calloc(1, sizeof *mount);
    if (!mount)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to mount workspaces");
    mount->set = set;
    pthread_mutex_init(&mount->lock, NULL);
    const struct ramet_fuse_options options = {
        .name = "ramet-workspaces", .operations = operations, .flags = wanted_flags, .context = mount};
    int r = ramet_fuse_start(dir, &options, &mount->fuse, err);
    if (r < 0) {
        pthread_mutex_destroy(&mount->lock);
        free(mount);
        return r;
    }
    *ret = mount;
    return 0;
}

void ramet_workspace_mount_stop(struct ramet_workspace_mount *mount)
{
    if (!mount)
        return;
    ramet_fuse_stop(mount->fuse);
    ramet_worphans_free(mount);
    pthread_mutex_destroy(&mount->lock);
    free(mount);
}

/* --- changes behind the kernel's back --- */

static uint64_t serial_of(struct ramet_workspace *workspace)
{
    struct ramet_workspace_info info;
    ramet_workspace_info(workspace, &info);
    return info.serial;
}

void ramet_workspace_mount_name_changed(struct ramet_workspace_mount *mount, const char *name)
{
    if (!mount)
        return;
    ramet_fuse_inval_entry(mount->fuse, RAMET_WNODE_ROOT, name);
    ramet_fuse_inval_inode(mount->fuse, RAMET_WNODE_ROOT, 0, 0);
}

void ramet_workspace_mount_state_changed(struct ramet_workspace_mount *mount, struct ramet_workspace *workspace,
                                         const char *state)
{
    if (!mount)
        return;
    uint64_t history = ramet_wnode(serial_of(workspace), RAMET_WINO_HISTORY);
    ramet_fuse_inval_entry(mount->fuse, history, state);
    ramet_fuse_inval_inode(mount->fuse, history, 0, 0);
}

void ramet_workspace_mount_inode_changed(struct ramet_workspace_mount *mount, struct ramet_workspace *workspace,
                                         uint64_t ino)
{
    if (mount)
        ramet_fuse_inval_inode(mount->fuse, ramet_wnode(serial_of(workspace), ino), 0, 0);
}

void ramet_workspace_mount_entry_changed(struct ramet_workspace_mount *mount, struct ramet_workspace *workspace,
                                         uint64_t dir, const char *name)
{
    if (!mount)
        return;
    uint64_t node = ramet_wnode(serial_of(workspace), dir);
    ramet_fuse_inval_entry(mount->fuse, node, name);
    ramet_fuse_inval_inode(mount->fuse, node, 0, 0);
}

int ramet_workspace_mount_flush(struct ramet_workspace_mount *mount, struct ramet_error *err)
{
    return mount ? ramet_fuse_flush(mount->fuse, err) : 0;
}
