/* SPDX-License-Identifier: Apache-2.0 */
/* Attributes of inodes; making files of every kind; symlinks and hard links; what is used and free. */
#include "files.h"

#include "task.h"
#include "workspace_private.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/statvfs.h>

int ramet_wfile_stat(struct ramet_workspace *workspace, uint64_t ino, struct ramet_wstat *ret, struct ramet_error *err)
{
    struct ramet_winode inode;
    int r = ramet_wread_begin(workspace, err);
    if (r < 0)
        return r;
    r = ramet_winode_get(workspace, ino, &inode, err);
    ramet_wread_end(workspace);
    if (r == 0)
        ramet_winode_stat(ino, &inode, ret);
    return r;
}

static int check_dir(const struct ramet_winode *inode, uint64_t dir, struct ramet_error *err)
{
    if (!S_ISDIR(inode->mode))
        return ramet_wfail(err, ENOTDIR, dir);
    return inode->nlink == 0 ? ramet_wfail(err, ENOENT, dir) : 0;
}

/* The directory's record is not read unless the name is missing or special: what has entries is a directory. */
static int lookup(struct ramet_workspace *workspace, uint64_t dir, const char *name, uint64_t *ret_ino,
                  struct ramet_error *err)
{
    struct ramet_wname entry;
    struct ramet_winode inode;
    bool up = strcmp(name, "..") == 0, special = up || strcmp(name, ".") == 0;
    int r = special ? 1 : ramet_wname_find(workspace, dir, name, &entry, NULL, err);
    if (r == 0) {
        *ret_ino = entry.ino;
        return 0;
    }
    int missing = ramet_winode_get(workspace, dir, &inode, special ? err : NULL);
    if (missing == 0 && !S_ISDIR(inode.mode))
        return ramet_wfail(err, ENOTDIR, dir);
    if (!special)
        return r;
    *ret_ino = up ? inode.parent : dir;
    return missing;
}

int ramet_wfile_lookup(struct ramet_workspace *workspace, uint64_t dir, const char *name, struct ramet_wstat *ret,
                       struct ramet_error *err)
{
    struct ramet_winode inode;
    uint64_t ino = 0;
    int r = ramet_wread_begin(workspace, err);
    if (r < 0)
        return r;
    r = lookup(workspace, dir, name, &ino, err);
    if (r == 0)
        r = ramet_winode_get(workspace, ino, &inode, err);
    ramet_wread_end(workspace);
    if (r == 0)
        ramet_winode_stat(ino, &inode, ret);
    return r;
}

int ramet_wfile_parent(struct ramet_workspace *workspace, uint64_t dir, uint64_t *ret, struct ramet_error *err)
{
    struct ramet_winode inode;
    int r = ramet_wread_begin(workspace, err);
    if (r < 0)
        return r;
    r = ramet_winode_get(workspace, dir, &inode, err);
    if (r == 0)
        r = check_dir(&inode, dir, err);
    ramet_wread_end(workspace);
    if (r == 0)
        *ret = inode.parent;
    return r;
}

/* --- attributes --- */

void ramet_wtask_kill_priv(struct ramet_wtask *task, uint64_t ino, struct ramet_winode *inode)
{
    if (S_ISDIR(inode->mode))
        return;
    inode->mode &= ~(uint32_t)S_ISUID;
    if (inode->mode & S_IXGRP)
        inode->mode &= ~(uint32_t)S_ISGID;
    if (inode->xattr_names > 0)
        ramet_wtask_remove_xattr(task, ino, inode, "security.capability", NULL, NULL);
}

static void set_times(const struct ramet_wtask *task, struct ramet_winode *inode, const struct ramet_wstat *attr,
                      unsigned set)
{
    inode->ctime_ns = set & RAMET_WSET_CTIME ? attr->ctime_ns : task->now_ns;
    if (set & RAMET_WSET_SIZE)
        inode->mtime_ns = task->now_ns;
    if (set & RAMET_WSET_ATIME)
        inode->atime_ns = attr->atime_ns;
    if (set & RAMET_WSET_MTIME)
        inode->mtime_ns = attr->mtime_ns;
    if (set & RAMET_WSET_ATIME_NOW)
        inode->atime_ns = task->now_ns;
    if (set & RAMET_WSET_MTIME_NOW)
        inode->mtime_ns = task->now_ns;
}

static int set_attributes(struct ramet_wtask *task, uint64_t ino, struct ramet_winode *inode,
                          const struct ramet_wstat *attr, unsigned set, struct ramet_error *err)
{
    int r = 0;
    if (set & RAMET_WSET_SIZE) {
        if (!S_ISREG(inode->mode))
            return ramet_wfail(err, S_ISDIR(inode->mode) ? EISDIR : EINVAL, ino);
        r = ramet_wtask_truncate(task, ino, inode, attr->size, err);
    }
    if (set & (RAMET_WSET_UID | RAMET_WSET_GID) || (set & RAMET_WSET_SIZE && set & RAMET_WSET_KILL_PRIV))
        ramet_wtask_kill_priv(task, ino, inode);
    if (set & RAMET_WSET_UID)
        inode->uid = attr->uid;
    if (set & RAMET_WSET_GID)
        inode->gid = attr->gid;
    if (set & RAMET_WSET_MODE)
        inode->mode = (inode->mode & S_IFMT) | (attr->mode & 07777);
    set_times(task, inode, attr, set);
    return r;
}

int ramet_wfile_set(struct ramet_workspace *workspace, uint64_t ino, const struct ramet_wstat *attr, unsigned set,
                    struct ramet_wstat *ret, struct ramet_error *err)
{
    struct ramet_winode inode;
    struct ramet_wtask task;
    int r = ramet_wtask_begin(&task, workspace, err);
    if (r < 0)
        return r;
    r = ramet_wtask_inode(&task, ino, &inode, err);
    if (r == 0)
        r = set_attributes(&task, ino, &inode, attr, set, err);
    if (r == 0)
        ramet_wtask_put_inode(&task, ino, &inode);
    r = ramet_wtask_end(&task, r, err);
    if (r == 0 && ret)
        ramet_winode_stat(ino, &inode, ret);
    return r;
}

/* --- making --- */

int ramet_wtask_dir(struct ramet_wtask *task, uint64_t dir, struct ramet_winode *ret, struct ramet_error *err)
{
    int r = ramet_wtask_inode(task, dir, ret, err);
    return r < 0 ? r : check_dir(ret, dir, err);
}

int ramet_wtask_new_inode(struct ramet_wtask *task, const struct ramet_winode *dir, uint32_t mode,
                          struct ramet_wowner owner, uint64_t *ret_ino, struct ramet_winode *ret,
                          struct ramet_error *err)
{
    bool is_dir = S_ISDIR(mode), of_group = dir->mode & S_ISGID;
    memset(ret, 0, offsetof(struct ramet_winode, bytes));
    ret->mode = mode & (S_IFMT | 07777);
    ret->uid = owner.uid;
    ret->gid = of_group ? dir->gid : owner.gid;
    if (of_group && is_dir)
        ret->mode |= S_ISGID;
    ret->nlink = is_dir ? 2 : 1;
    ret->in_record = S_ISREG(mode) || S_ISLNK(mode);
    ret->atime_ns = ret->mtime_ns = ret->ctime_ns = ret->btime_ns = task->now_ns;
    int r = ramet_wtask_charge(task, 0, 1, err);
    return r < 0 ? r : ramet_workspace_next_ino(task->workspace, ret_ino, err);
}

/* Puts a new inode under its name. */
static int enter(struct ramet_wtask *task, uint64_t dir, const char *name, uint64_t ino, struct ramet_winode *inode,
                 struct ramet_error *err)
{
    int r = ramet_wtask_add_name(task, dir, name, ino, inode->mode, &inode->cookie, err);
    if (r < 0)
        return r;
    inode->parent = dir;
    ramet_wtask_put_inode(task, ino, inode);
    return ramet_wtask_touch_dir(task, dir, 1, S_ISDIR(inode->mode) ? 1 : 0, err);
}

/* `target` and its size only for symlinks. */
static int make(struct ramet_workspace *workspace, uint64_t dir, const char *name, const struct ramet_winode *kind,
                const char *target, struct ramet_wowner owner, struct ramet_wstat *ret, struct ramet_error *err)
{
    struct ramet_winode in, inode;
    struct ramet_wtask task;
    uint64_t ino = 0;
    int r = ramet_wtask_begin(&task, workspace, err);
    if (r < 0)
        return r;
    r = ramet_wtask_dir(&task, dir, &in, err);
    if (r == 0)
        r = ramet_wtask_new_inode(&task, &in, kind->mode, owner, &ino, &inode, err);
    inode.rdev_major = kind->rdev_major;
    inode.rdev_minor = kind->rdev_minor;
    if (r == 0 && target)
        r = ramet_wtask_write(&task, ino, &inode, 0, target, strlen(target), err);
    if (r == 0)
        r = enter(&task, dir, name, ino, &inode, err);
    r = ramet_wtask_end(&task, r, err);
    if (r == 0)
        ramet_winode_stat(ino, &inode, ret);
    return r;
}

int ramet_wfile_make(struct ramet_workspace *workspace, uint64_t dir, const char *name, uint32_t mode, uint32_t major,
                     uint32_t minor, struct ramet_wowner owner, struct ramet_wstat *ret, struct ramet_error *err)
{
    struct ramet_winode kind = {.mode = mode & S_IFMT ? mode : mode | S_IFREG};
    switch (kind.mode & S_IFMT) {
    case S_IFCHR:
    case S_IFBLK: kind.rdev_major = major, kind.rdev_minor = minor; break;
    case S_IFREG:
    case S_IFDIR:
    case S_IFIFO:
    case S_IFSOCK: break;
    default: return ramet_wfail(err, EINVAL, dir);
    }
    return make(workspace, dir, name, &kind, NULL, owner, ret, err);
}

int ramet_wfile_tmpfile(struct ramet_workspace *workspace, uint64_t dir, uint32_t mode, struct ramet_wowner owner,
                        struct ramet_wstat *ret, struct ramet_error *err)
{
    struct ramet_winode in, inode;
    struct ramet_wtask task;
    uint64_t ino = 0;
    int r = ramet_wtask_begin(&task, workspace, err);
    if (r < 0)
        return r;
    r = ramet_wtask_dir(&task, dir, &in, err);
    if (r == 0)
        r = ramet_wtask_new_inode(&task, &in, S_IFREG | (mode & 07777), owner, &ino, &inode, err);
    if (r == 0) {
        inode.nlink = 0;
        ramet_wtask_orphan_used(&task, ino);
        ramet_wtask_put_inode(&task, ino, &inode);
    }
    r = ramet_wtask_end(&task, r, err);
    if (r == 0)
        ramet_winode_stat(ino, &inode, ret);
    return r;
}

/* --- links --- */

int ramet_wfile_symlink(struct ramet_workspace *workspace, uint64_t dir, const char *name, const char *target,
                        struct ramet_wowner owner, struct ramet_wstat *ret, struct ramet_error *err)
{
    static const struct ramet_winode kind = {.mode = S_IFLNK | 0777};
    size_t size = strnlen(target, PATH_MAX);
    if (size == 0)
        return ramet_wfail(err, ENOENT, dir);
    if (size == PATH_MAX)
        return ramet_wfail(err, ENAMETOOLONG, dir);
    return make(workspace, dir, name, &kind, target, owner, ret, err);
}

int ramet_wfile_readlink(struct ramet_workspace *workspace, uint64_t ino, char target[4096], size_t *ret_size,
                         struct ramet_error *err)
{
    struct ramet_winode inode;
    size_t size = 0;
    int r = ramet_wread_begin(workspace, err);
    if (r < 0)
        return r;
    r = ramet_winode_get(workspace, ino, &inode, err);
    if (r == 0 && !S_ISLNK(inode.mode))
        r = ramet_wfail(err, EINVAL, ino);
    if (r == 0)
        r = ramet_winode_read(workspace, ino, &inode, 0, target, PATH_MAX - 1, &size, err);
    ramet_wread_end(workspace);
    if (r < 0)
        return r;
    target[size] = '\0';
    *ret_size = size;
    return 0;
}

static int add_link(struct ramet_wtask *task, uint64_t ino, uint64_t dir, const char *name, struct ramet_winode *inode,
                    struct ramet_error *err)
{
    struct ramet_winode in;
    struct ramet_wkey key;
    uint64_t cookie;
    int r = ramet_wtask_dir(task, dir, &in, err);
    if (r == 0)
        r = ramet_wtask_inode(task, ino, inode, err);
    if (r == 0 && S_ISDIR(inode->mode))
        r = ramet_wfail(err, EPERM, ino);
    if (r == 0 && inode->nlink >= RAMET_WLINK_MAX)
        r = ramet_wfail(err, EMLINK, ino);
    if (r == 0)
        r = ramet_wtask_add_name(task, dir, name, ino, inode->mode, &cookie, err);
    if (r < 0)
        return r;
    if (inode->nlink++ == 0) {
        ramet_wkey_orphan(&key, ino);
        ramet_wchange_delete(task->change, &key);
    }
    inode->ctime_ns = task->now_ns;
    ramet_wtask_inode_named(task, ino, inode, dir, cookie);
    ramet_wtask_put_inode(task, ino, inode);
    return ramet_wtask_touch_dir(task, dir, 1, 0, err);
}

int ramet_wfile_link(struct ramet_workspace *workspace, uint64_t ino, uint64_t dir, const char *name,
                     struct ramet_wstat *ret, struct ramet_error *err)
{
    struct ramet_winode inode;
    struct ramet_wtask task;
    int r = ramet_wtask_begin(&task, workspace, err);
    if (r < 0)
        return r;
    r = add_link(&task, ino, dir, name, &inode, err);
    r = ramet_wtask_end(&task, r, err);
    if (r == 0)
        ramet_winode_stat(ino, &inode, ret);
    return r;
}

/* --- the whole --- */

int ramet_wfile_space(struct ramet_workspace *workspace, struct ramet_wspace *ret, struct ramet_error *err)
{
    struct statvfs disk;
    const char *dir = ramet_store_dir(workspace->set->store);
    if (statvfs(dir, &disk) < 0)
        return ramet_error_os(err, errno, "cannot tell the space of %s", dir);
    int r = ramet_wread_begin(workspace, err);
    if (r < 0)
        return r;
    uint64_t used = workspace->files.used_bytes, inodes = workspace->files.inodes;
    uint64_t free_bytes = (uint64_t)disk.f_bavail * disk.f_frsize, free_inodes = UINT32_MAX;
    uint64_t bytes_quota = workspace->quota_bytes, inode_quota = workspace->quota_inodes;
    ramet_wread_end(workspace);
    if (bytes_quota > 0 && (used >= bytes_quota || bytes_quota - used < free_bytes))
        free_bytes = used >= bytes_quota ? 0 : bytes_quota - used;
    if (inode_quota > 0)
        free_inodes = inodes >= inode_quota ? 0 : inode_quota - inodes;
    *ret = (struct ramet_wspace){used + free_bytes, free_bytes, inodes + free_inodes, free_inodes};
    return 0;
}
