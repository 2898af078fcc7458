/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the sources of the workspaces' mount share. Private to fuse/.
 *
 * A node is serial << 40 | inode. Serials are of workspaces and of their states, and never
 * used again, so a node means the same after a restart, no two forks share one, and what was
 * open before a rollback is stale (ESTALE). Serial 0 has one inode, the root, which lists
 * the workspaces.
 */
#ifndef RAMET_FUSE_WORKSPACE_OPS_H
#define RAMET_FUSE_WORKSPACE_OPS_H

#include "base/u64map.h"
#include "connection.h"
#include "workspace/files.h"
#include "workspace/workspace.h"
#include "workspace_mount.h"

#include <pthread.h>

/* One file system: of the workspaces that are audited, or of the others. Handlers get it as their context. */
struct ramet_wdoor {
    struct ramet_fuse *fuse;
    struct ramet_workspaces *set;
    struct ramet_fuse_operation operations[RAMET_FUSE_OPCODES];
    pthread_mutex_t lock;        /* guards the map */
    struct ramet_u64map orphans; /* nodes without a name that the kernel still knows: a use of each is held */
    _Atomic size_t orphan_count;

    bool audited;
    _Atomic bool used;           /* something was opened through it */
    pthread_rwlock_t audit_lock; /* guards the next one; held while it is called */
    struct ramet_workspace_auditor auditor;
};

struct ramet_workspace_mount {
    struct ramet_wdoor plain, audited;
};

#define RAMET_WNODE_ROOT UINT64_C(1)
/* What is in no tree; never renumber. */
#define RAMET_WINO_META ((UINT64_C(1) << RAMET_WINO_BITS) - 1)    /* .ramet in the root of a workspace */
#define RAMET_WINO_HISTORY ((UINT64_C(1) << RAMET_WINO_BITS) - 2) /* .ramet/history */
#define RAMET_WINO_LINK ((UINT64_C(1) << RAMET_WINO_BITS) - 3)    /* to where the workspace is, from the other door */
#define RAMET_WMETA_NAME RAMET_WORKSPACE_RESERVED

static inline uint64_t ramet_wnode(uint64_t serial, uint64_t ino) { return serial << RAMET_WINO_BITS | ino; }
static inline uint64_t ramet_wnode_serial(uint64_t node) { return node >> RAMET_WINO_BITS; }
static inline uint64_t ramet_wnode_ino(uint64_t node) { return node & ((UINT64_C(1) << RAMET_WINO_BITS) - 1); }
static inline bool ramet_wnode_virtual(uint64_t node)
{
    return node == RAMET_WNODE_ROOT || ramet_wnode_ino(node) >= RAMET_WINO_END;
}

/* An error that is only looked at for its code: the text is not cleared. */
#define RAMET_WERROR(name)                                                                                             \
    struct ramet_error name;                                                                                           \
    name.code = name.os_errno = 0

struct ramet_wdoor *ramet_wdoor_of(const struct ramet_fuse_request *request);
/* The workspace of the request's node, or of another; a reference. NULL: the answer was ESTALE, as it is for one that
 * belongs to the other door. */
struct ramet_workspace *ramet_wnode_workspace(struct ramet_fuse_request *request, uint64_t node);
/* As it; refuses what may not be changed: virtual directories and names that hide .ramet (name may be NULL). */
struct ramet_workspace *ramet_wnode_writable(struct ramet_fuse_request *request, uint64_t node, const char *name);

/* --- answers --- */

/* Answers with the error's errno, and says what went wrong on the log where errno cannot. */
void ramet_wreply_error(struct ramet_fuse_request *request, const struct ramet_error *err);
/* An error where r < 0, else done. */
void ramet_wreply_done(struct ramet_fuse_request *request, int r, const struct ramet_error *err);
void ramet_wfill_entry(uint64_t serial, const struct ramet_wstat *stat, struct fuse_entry_out *ret);
void ramet_wfill_attr(uint64_t node, const struct ramet_wstat *stat, struct fuse_attr *ret);
void ramet_wreply_entry(struct ramet_fuse_request *request, uint64_t serial, const struct ramet_wstat *stat);
void ramet_wreply_attr(struct ramet_fuse_request *request, uint64_t node, const struct ramet_wstat *stat);

/* --- inodes without a name --- */

/* A use of the inode is held: until the kernel forgets the node. */
void ramet_worphan_add(struct ramet_wdoor *door, struct ramet_workspace *workspace, uint64_t node);
void ramet_worphan_forget(struct ramet_wdoor *door, uint64_t node);
void ramet_worphans_free(struct ramet_wdoor *door);

/* --- directories that are in no tree (workspace_virtual.c) --- */

void ramet_wvirtual_lookup(struct ramet_fuse_request *request, uint64_t dir, const char *name);
void ramet_wvirtual_getattr(struct ramet_fuse_request *request, uint64_t node);
/* False: the answer was an error. */
bool ramet_wvirtual_stat(struct ramet_fuse_request *request, uint64_t node, struct ramet_wstat *ret);
void ramet_wvirtual_list(struct ramet_fuse_request *request, uint64_t dir, uint64_t offset, size_t size, bool plus);
void ramet_wvirtual_readlink(struct ramet_fuse_request *request);

/* --- opens that are audited (workspace_open.c) --- */

/* Tells the auditor, of a door that has one; < 0: the answer was an error and nothing may be opened. `name`: what will
 * be made in the directory `ino`; NULL: `ino` itself is opened. */
int ramet_wopen_tell(struct ramet_fuse_request *request, struct ramet_workspace *workspace, uint64_t ino,
                     const char *name, uint32_t flags);

/* --- POSIX ACLs (workspace_acl.c) --- */

#define RAMET_WACL_ACCESS "system.posix_acl_access"
#define RAMET_WACL_DEFAULT "system.posix_acl_default"
/* What a new file gets of its directory's default ACL. */
struct ramet_wacl {
    void *access, *inherited; /* owned; NULL: none */
    size_t access_size, inherited_size;
};
void ramet_wacl_free(struct ramet_wacl *acl);
/* Takes from *mode what umask or the directory's default ACL does not give. */
int ramet_wacl_create(struct ramet_workspace *workspace, uint64_t dir, uint32_t umask, uint32_t *mode,
                      struct ramet_wacl *ret, struct ramet_error *err);
int ramet_wacl_apply(struct ramet_workspace *workspace, uint64_t ino, const struct ramet_wacl *acl,
                     struct ramet_error *err);
/* The mode of an inode changed: its ACL follows. */
int ramet_wacl_chmod(struct ramet_workspace *workspace, uint64_t ino, uint32_t mode, struct ramet_error *err);
/* An access ACL is set: the mode follows; *ret_plain: it says no more than the mode, and need not be kept. */
int ramet_wacl_set(struct ramet_workspace *workspace, uint64_t ino, const void *value, size_t size, bool kill_sgid,
                   bool *ret_plain, struct ramet_error *err);

/* --- handlers --- */

/* workspace_names.c */
ramet_fuse_handler ramet_wop_lookup, ramet_wop_forget, ramet_wop_batch_forget, ramet_wop_mknod, ramet_wop_mkdir;
ramet_fuse_handler ramet_wop_symlink, ramet_wop_link, ramet_wop_unlink, ramet_wop_rmdir, ramet_wop_rename;
ramet_fuse_handler ramet_wop_rename2, ramet_wop_create, ramet_wop_tmpfile;
/* workspace_attr.c */
ramet_fuse_handler ramet_wop_getattr, ramet_wop_setattr, ramet_wop_statx, ramet_wop_readlink, ramet_wop_statfs;
ramet_fuse_handler ramet_wop_setxattr, ramet_wop_getxattr, ramet_wop_listxattr, ramet_wop_removexattr;
/* workspace_open.c */
ramet_fuse_handler ramet_wop_open, ramet_wop_release;
/* workspace_io.c */
ramet_fuse_handler ramet_wop_read, ramet_wop_write, ramet_wop_fsync, ramet_wop_fallocate, ramet_wop_lseek;
ramet_fuse_handler ramet_wop_copy;
/* workspace_dir.c */
ramet_fuse_handler ramet_wop_readdir, ramet_wop_readdirplus;

/* Adds one name to a listing; false when it is full. stat NULL: without attributes. */
struct ramet_wlisting {
    char *buf;
    size_t used, size;
    bool plus;
};
bool ramet_wlisting_add(struct ramet_wlisting *listing, const char *name, uint64_t node, uint32_t type, uint64_t offset,
                        const struct ramet_wstat *stat);

#endif
