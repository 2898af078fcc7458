/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every operation on files is made of: the lock, a change, what it allocates and lets
 * go, the counts, and the records of inodes and names by number.
 *
 * Reading: ramet_wread_begin ... ramet_wread_end, many at a time. Changing:
 * ramet_wtask_begin ... ramet_wtask_end, one at a time; whatever happened between, `end`
 * applies all of it or undoes it, and gives the result on.
 */
#ifndef RAMET_WORKSPACE_TASK_H
#define RAMET_WORKSPACE_TASK_H

#include "change.h"
#include "files.h"
#include "records.h"

struct ramet_wrefs {
    ramet_wref *items; /* NULL while `few` has room */
    size_t count, capacity;
    ramet_wref few[16];
};

struct ramet_wtask {
    struct ramet_workspace *workspace;
    struct ramet_wchange *change;
    int64_t now_ns;
    int64_t bytes, inodes;          /* by how much the counts change */
    struct ramet_wrefs gone, fresh; /* pages to let go if it succeeds, if it fails */
    uint64_t orphan;                /* an inode that this change leaves without a name, or 0 */
    bool orphan_unused;             /* it goes when the lock was given back */
    bool many;                      /* it adds names at will: `added` remembers them */
    struct ramet_u64map added;      /* directory and hash, mixed -> numbers that this change took */
    bool failed;                    /* no memory for one of those lists */
};

/* Sets code, errno and "inode N: what errno means". */
int ramet_wfail(struct ramet_error *err, int os_errno, uint64_t ino);

int ramet_wread_begin(struct ramet_workspace *workspace, struct ramet_error *err);
void ramet_wread_end(struct ramet_workspace *workspace);
int ramet_wtask_begin(struct ramet_wtask *task, struct ramet_workspace *workspace, struct ramet_error *err);
int ramet_wtask_end(struct ramet_wtask *task, int r, struct ramet_error *err);
int ramet_wtask_finish(struct ramet_wtask *task, int r, struct ramet_error *err); /* as end; leaves orphans to others */

/* The page list grows; on failure the operation fails when it ends. */
void ramet_wtask_gone(struct ramet_wtask *task, const ramet_wref *refs, size_t count);
void ramet_wtask_fresh(struct ramet_wtask *task, const ramet_wref *refs, size_t count);

/* EDQUOT when the counts would go beyond the quota; shrinking is always allowed. */
int ramet_wtask_charge(struct ramet_wtask *task, int64_t bytes, int64_t inodes, struct ramet_error *err);
/* Charges the difference to the blocks it had before. */
int ramet_wtask_charge_inode(struct ramet_wtask *task, uint64_t blocks_before, const struct ramet_winode *after,
                             struct ramet_error *err);

/* A new file's inode: numbered, owned as POSIX has it in that directory, charged. Not put. */
int ramet_wtask_new_inode(struct ramet_wtask *task, const struct ramet_winode *dir, uint32_t mode,
                          struct ramet_wowner owner, uint64_t *ret_ino, struct ramet_winode *ret,
                          struct ramet_error *err);
/* Inodes; ESTALE when there is none of that number. */
int ramet_winode_get(struct ramet_workspace *workspace, uint64_t ino, struct ramet_winode *ret,
                     struct ramet_error *err);
int ramet_wtask_inode(struct ramet_wtask *task, uint64_t ino, struct ramet_winode *ret, struct ramet_error *err);
void ramet_wtask_put_inode(struct ramet_wtask *task, uint64_t ino, const struct ramet_winode *inode);
/* Of a directory: its entries changed by `entries`, its subdirectories by `links`; times follow. */
int ramet_wtask_touch_dir(struct ramet_wtask *task, uint64_t dir, int entries, int links, struct ramet_error *err);
/* A directory that still has a name: ENOTDIR, ENOENT. */
int ramet_wtask_dir(struct ramet_wtask *task, uint64_t dir, struct ramet_winode *ret, struct ramet_error *err);
void ramet_winode_stat(uint64_t ino, const struct ramet_winode *inode, struct ramet_wstat *ret);
/* As a write or chown does: setuid, setgid of an executable, and capabilities go. */
void ramet_wtask_kill_priv(struct ramet_wtask *task, uint64_t ino, struct ramet_winode *inode);

/* --- content (content.c); the inode is put by the caller --- */

int ramet_wtask_write(struct ramet_wtask *task, uint64_t ino, struct ramet_winode *inode, uint64_t offset,
                      const void *buf, size_t size, struct ramet_error *err);
/* Content in the record becomes that of page 0. */
int ramet_wtask_leave_record(struct ramet_wtask *task, uint64_t ino, struct ramet_winode *inode,
                             struct ramet_error *err);
int ramet_wtask_truncate(struct ramet_wtask *task, uint64_t ino, struct ramet_winode *inode, uint64_t size,
                         struct ramet_error *err);
int ramet_winode_read(struct ramet_workspace *workspace, uint64_t ino, const struct ramet_winode *inode,
                      uint64_t offset, void *buf, size_t size, size_t *ret_size, struct ramet_error *err);

/* --- extended attributes (xattr.c); the inode is put by the caller --- */

/* No such attribute is fine: *ret_found tells (may be NULL). */
int ramet_wtask_remove_xattr(struct ramet_wtask *task, uint64_t ino, struct ramet_winode *inode, const char *name,
                             bool *ret_found, struct ramet_error *err);

/* --- names --- */

/* ENAMETOOLONG, ENOENT for "", EINVAL for one with a slash; *ret_size without NUL. */
int ramet_wname_check(const char *name, size_t *ret_size, struct ramet_error *err);
/* The entry `name` of a directory as it was before this change; ENOENT. *ret_cookie may be NULL. */
int ramet_wname_find(struct ramet_workspace *workspace, uint64_t dir, const char *name, struct ramet_wname *ret,
                     uint64_t *ret_cookie, struct ramet_error *err);
/* Puts an entry where there was none before this change; *ret_cookie. ENOSPC after 63 equal hashes. */
int ramet_wtask_add_name(struct ramet_wtask *task, uint64_t dir, const char *name, uint64_t ino, uint32_t type,
                         uint64_t *ret_cookie, struct ramet_error *err);
/* The entry names another inode from now on. */
void ramet_wtask_put_name(struct ramet_wtask *task, uint64_t dir, const char *name, const struct ramet_wname *entry);
void ramet_wtask_remove_name(struct ramet_wtask *task, uint64_t dir, const char *name);

/* Which names an inode has: one lost, one gained, one moved. The inode is put by the caller. */
void ramet_wtask_inode_named(struct ramet_wtask *task, uint64_t ino, struct ramet_winode *inode, uint64_t dir,
                             uint64_t cookie);
int ramet_wtask_inode_unnamed(struct ramet_wtask *task, uint64_t ino, struct ramet_winode *inode, uint64_t dir,
                              uint64_t cookie, struct ramet_error *err);
/* `from` and `to`: directory and cookie. */
void ramet_wtask_inode_moved(struct ramet_wtask *task, uint64_t ino, struct ramet_winode *inode, const uint64_t from[2],
                             const uint64_t to[2]);

/* --- inodes without a name --- */

/* The inode has lost a name; after the last one it goes, at once or, in use or large, as an orphan. Puts the inode. */
int ramet_wtask_dropped(struct ramet_wtask *task, uint64_t ino, struct ramet_winode *inode, struct ramet_error *err);
/* Makes it an orphan with a use. */
void ramet_wtask_orphan_used(struct ramet_wtask *task, uint64_t ino);
/* Removes orphans nobody uses, each in changes of its own. The lock is not held. */
void ramet_wfiles_reap(struct ramet_workspace *workspace);

#endif
