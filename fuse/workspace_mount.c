/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The workspaces' mount: which requests are answered by whom, what is asked of the kernel,
 * and telling it of changes that did not go through it.
 *
 * Files and directories are opened without a request (the kernel is told ENOSYS once, and
 * keeps pages and listings across opens): all that a handler needs is in the node. Only
 * behind the audited door files are opened with one, and directories still without.
 */
#include "workspace_mount.h"

#include "protocol.h"
#include "workspace_ops.h"

#include <limits.h>
#include <stdio.h>
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

static int open_door(struct ramet_wdoor *door, const char *dir, bool audited, struct ramet_workspaces *set,
                     struct ramet_error *err)
{
    char path[PATH_MAX];
    struct ramet_fuse_options options = {
        .name = "ramet-workspaces", .operations = door->operations, .flags = wanted_flags, .context = door};
    door->set = set;
    door->audited = audited;
    pthread_mutex_init(&door->lock, NULL);
    pthread_rwlock_init(&door->audit_lock, NULL);
    memcpy(door->operations, operations, sizeof operations);
    if (audited) {
        options.flags &= ~(uint64_t)FUSE_NO_OPEN_SUPPORT;
        door->operations[FUSE_OPEN] = (struct ramet_fuse_operation){ramet_wop_open, sizeof(struct fuse_open_in), false};
        door->operations[FUSE_CREATE] =
            (struct ramet_fuse_operation){ramet_wop_create, sizeof(struct fuse_create_in) + 2, false};
        door->operations[FUSE_RELEASE] = (struct ramet_fuse_operation){ramet_wop_release, 0, false};
    }
    snprintf(path, sizeof path, "%s/%s", dir, audited ? RAMET_WORKSPACES_AUDITED : RAMET_WORKSPACES_PLAIN);
    return ramet_fuse_start(path, &options, &door->fuse, err);
}

static void close_door(struct ramet_wdoor *door)
{
    if (!door->set)
        return;
    ramet_fuse_stop(door->fuse);
    ramet_worphans_free(door);
    pthread_rwlock_destroy(&door->audit_lock);
    pthread_mutex_destroy(&door->lock);
}

int ramet_workspace_mount_start(const char *dir, struct ramet_workspaces *set, struct ramet_workspace_mount **ret,
                                struct ramet_error *err)
{
    struct ramet_workspace_mount *mount = calloc(1, sizeof *mount);
    if (!mount)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to mount workspaces");
    int r = open_door(&mount->plain, dir, false, set, err);
    if (r == 0)
        r = open_door(&mount->audited, dir, true, set, err);
    if (r < 0)
        ramet_workspace_mount_stop(mount);
    else
        *ret = mount;
    return r;
}

void ramet_workspace_mount_stop(struct ramet_workspace_mount *mount)
{
    if (!mount)
        return;
    close_door(&mount->audited);
    close_door(&mount->plain);
    free(mount);
}

void ramet_workspace_mount_audit(struct ramet_workspace_mount *mount, const struct ramet_workspace_auditor *auditor)
{
    static const struct ramet_workspace_auditor nobody;
    pthread_rwlock_wrlock(&mount->audited.audit_lock);
    mount->audited.auditor = auditor ? *auditor : nobody;
    pthread_rwlock_unlock(&mount->audited.audit_lock);
}

/* --- changes behind the kernel's back --- */

static uint64_t serial_of(struct ramet_workspace *workspace)
{
    struct ramet_workspace_info info;
    ramet_workspace_info(workspace, &info);
    return info.serial;
}

/* Where a node's entries and pages are: a workspace is behind one door. */
static struct ramet_fuse *fuse_of(struct ramet_workspace_mount *mount, struct ramet_workspace *workspace)
{
    return ramet_workspace_audited(workspace) ? mount->audited.fuse : mount->plain.fuse;
}

static void root_changed(struct ramet_wdoor *door, const char *name)
{
    ramet_fuse_inval_entry(door->fuse, RAMET_WNODE_ROOT, name);
    ramet_fuse_inval_inode(door->fuse, RAMET_WNODE_ROOT, 0, 0);
}

void ramet_workspace_mount_name_changed(struct ramet_workspace_mount *mount, const char *name)
{
    struct ramet_workspace *workspace;
    RAMET_WERROR(err);
    if (!mount)
        return;
    root_changed(&mount->plain, name);
    root_changed(&mount->audited, name);
    if (ramet_workspace_find(mount->plain.set, name, &workspace, &err) < 0)
        return;
    if (ramet_workspace_audited(workspace)) /* the symlink may have had another target */
        ramet_fuse_inval_inode(mount->plain.fuse, ramet_wnode(serial_of(workspace), RAMET_WINO_LINK), 0, 0);
    ramet_workspace_unref(workspace);
}

void ramet_workspace_mount_audited_changed(struct ramet_workspace_mount *mount, const char *name)
{
    if (!mount)
        return;
    ramet_fuse_inval_names(mount->plain.fuse);
    ramet_fuse_inval_names(mount->audited.fuse);
    ramet_workspace_mount_name_changed(mount, name);
}

void ramet_workspace_mount_state_changed(struct ramet_workspace_mount *mount, struct ramet_workspace *workspace,
                                         const char *state)
{
    if (!mount)
        return;
    uint64_t history = ramet_wnode(serial_of(workspace), RAMET_WINO_HISTORY);
    ramet_fuse_inval_entry(fuse_of(mount, workspace), history, state);
    ramet_fuse_inval_inode(fuse_of(mount, workspace), history, 0, 0);
}

void ramet_workspace_mount_inode_changed(struct ramet_workspace_mount *mount, struct ramet_workspace *workspace,
                                         uint64_t ino)
{
    if (mount)
        ramet_fuse_inval_inode(fuse_of(mount, workspace), ramet_wnode(serial_of(workspace), ino), 0, 0);
}

void ramet_workspace_mount_entry_changed(struct ramet_workspace_mount *mount, struct ramet_workspace *workspace,
                                         uint64_t dir, const char *name)
{
    if (!mount)
        return;
    uint64_t node = ramet_wnode(serial_of(workspace), dir);
    ramet_fuse_inval_entry(fuse_of(mount, workspace), node, name);
    ramet_fuse_inval_inode(fuse_of(mount, workspace), node, 0, 0);
}

int ramet_workspace_mount_flush(struct ramet_workspace_mount *mount, struct ramet_error *err)
{
    int r = mount ? ramet_fuse_flush(mount->plain.fuse, err) : 0;
    /* A mapping needs an open before. */
    return r == 0 && mount && atomic_load(&mount->audited.used) ? ramet_fuse_flush(mount->audited.fuse, err) : r;
}
