/* SPDX-License-Identifier: Apache-2.0 */
/*
 * POSIX operations on a workspace's tree, by inode number; the root directory's is
 * RAMET_WORKSPACE_ROOT in every workspace. Permissions are the caller's business (the
 * kernel checks them on the mount); everything else POSIX says is done here.
 *
 * Errors carry the errno in err->os_errno. Times are nanoseconds since 1970. Thread-safe;
 * each call is atomic, and one change in the journal.
 */
#ifndef RAMET_WORKSPACE_FILES_H
#define RAMET_WORKSPACE_FILES_H

#include "workspace.h"

#include <sys/stat.h>

#define RAMET_WORKSPACE_ROOT UINT64_C(1)
#define RAMET_WINO_BITS 40                                      /* inode numbers stay below RAMET_WINO_END */
#define RAMET_WINO_END ((UINT64_C(1) << RAMET_WINO_BITS) - 256) /* from here on they are the mount's own */

struct ramet_wstat {
    uint64_t ino, size, blocks; /* blocks of 512 bytes */
    uint32_t mode, uid, gid, nlink, rdev_major, rdev_minor;
    int64_t atime_ns, mtime_ns, ctime_ns, btime_ns;
};

int ramet_wfile_stat(struct ramet_workspace *workspace, uint64_t ino, struct ramet_wstat *ret, struct ramet_error *err);
int ramet_wfile_lookup(struct ramet_workspace *workspace, uint64_t dir, const char *name, struct ramet_wstat *ret,
                       struct ramet_error *err);

/* Which fields of `attr` to set; times given as NOW are the time of the call. ctime always follows. */
enum ramet_wset {
    RAMET_WSET_MODE = 1,
    RAMET_WSET_UID = 2,
    RAMET_WSET_GID = 4,
    RAMET_WSET_SIZE = 8,
    RAMET_WSET_ATIME = 16,
    RAMET_WSET_MTIME = 32,
    RAMET_WSET_ATIME_NOW = 64,
    RAMET_WSET_MTIME_NOW = 128,
    RAMET_WSET_CTIME = 256,
    RAMET_WSET_KILL_PRIV = 512, /* with a new size: setuid and setgid bits go as on a write */
};
int ramet_wfile_set(struct ramet_workspace *workspace, uint64_t ino, const struct ramet_wstat *attr, unsigned set,
                    struct ramet_wstat *ret, struct ramet_error *err);

struct ramet_wowner {
    uint32_t uid, gid; /* the group of a directory with the setgid bit comes before this one */
};
/* What statfs tells: the quota where there is one, else what the store's disk has room for. */
struct ramet_wspace {
    uint64_t total_bytes, free_bytes, total_inodes, free_inodes;
};
int ramet_wfile_space(struct ramet_workspace *workspace, struct ramet_wspace *ret, struct ramet_error *err);

#define RAMET_WLINK_MAX 65000 /* names of a file, as on ext4; EMLINK */

/* A file, directory, FIFO, socket or device by the type in `mode`; EEXIST. */
int ramet_wfile_make(struct ramet_workspace *workspace, uint64_t dir, const char *name, uint32_t mode, uint32_t major,
                     uint32_t minor, struct ramet_wowner owner, struct ramet_wstat *ret, struct ramet_error *err);
int ramet_wfile_symlink(struct ramet_workspace *workspace, uint64_t dir, const char *name, const char *target,
                        struct ramet_wowner owner, struct ramet_wstat *ret, struct ramet_error *err);
/* *ret_size without NUL; target of at most 4095 bytes. */
int ramet_wfile_readlink(struct ramet_workspace *workspace, uint64_t ino, char target[4096], size_t *ret_size,
                         struct ramet_error *err);
int ramet_wfile_link(struct ramet_workspace *workspace, uint64_t ino, uint64_t dir, const char *name,
                     struct ramet_wstat *ret, struct ramet_error *err);
/* *ret_ino (may be NULL) is what lost the name; it lives on while it is open (below). */
int ramet_wfile_unlink(struct ramet_workspace *workspace, uint64_t dir, const char *name, uint64_t *ret_ino,
                       struct ramet_error *err);
int ramet_wfile_rmdir(struct ramet_workspace *workspace, uint64_t dir, const char *name, uint64_t *ret_ino,
                      struct ramet_error *err);
/* `flags` as of renameat2: RENAME_NOREPLACE, RENAME_EXCHANGE or 0. */
int ramet_wfile_rename(struct ramet_workspace *workspace, uint64_t dir, const char *name, uint64_t new_dir,
                       const char *new_name, unsigned flags, struct ramet_error *err);
/* An open file without a name (O_TMPFILE), one use held. */
int ramet_wfile_tmpfile(struct ramet_workspace *workspace, uint64_t dir, uint32_t mode, struct ramet_wowner owner,
                        struct ramet_wstat *ret, struct ramet_error *err);

/* Uses keep an inode that lost its last name alive: one for each open file or kernel reference. */
void ramet_wfile_use(struct ramet_workspace *workspace, uint64_t ino);
void ramet_wfile_unuse(struct ramet_workspace *workspace, uint64_t ino, uint64_t count);

/* The entries after `cookie` (0: from the start), "." and ".." not among them; `emit` returns false when it is full. It
 * is called with the workspace's lock held and must not call the workspace. */
struct ramet_wentry {
    const char *name;
    uint64_t ino, cookie; /* cookie: stable, also across changes and forks; above 0, below 2^63 */
    uint32_t type;        /* S_IFMT bits */
};
int ramet_wfile_list(struct ramet_workspace *workspace, uint64_t dir, uint64_t cookie,
                     bool (*emit)(void *ctx, const struct ramet_wentry *entry, const struct ramet_wstat *stat),
                     void *ctx, bool with_stat /* else `stat` is NULL */, struct ramet_error *err);
/* One of its paths from the root, without a leading slash; "": the root. *ret owned by the caller (free). NOT_FOUND of
 * an inode without a name. */
int ramet_wfile_path(struct ramet_workspace *workspace, uint64_t ino, char **ret, struct ramet_error *err);
int ramet_wfile_parent(struct ramet_workspace *workspace, uint64_t dir, uint64_t *ret, struct ramet_error *err);

/* --- content --- */

/* Short only at the end of the file; reading sets no atime. */
int ramet_wfile_read(struct ramet_workspace *workspace, uint64_t ino, uint64_t offset, void *buf, size_t size,
                     size_t *ret_size, struct ramet_error *err);
/* All or an error (EDQUOT, EFBIG, ENOSPC). `append`: at the end, wherever it is then; *ret_offset is where. */
int ramet_wfile_write(struct ramet_workspace *workspace, uint64_t ino, uint64_t offset, const void *buf, size_t size,
                      bool append, bool kill_priv, uint64_t *ret_offset, struct ramet_error *err);
/* `mode` as of fallocate(2): 0, KEEP_SIZE, PUNCH_HOLE | KEEP_SIZE, ZERO_RANGE (| KEEP_SIZE); others EOPNOTSUPP. */
int ramet_wfile_allocate(struct ramet_workspace *workspace, uint64_t ino, int mode, uint64_t offset, uint64_t size,
                         struct ramet_error *err);
/* SEEK_DATA or SEEK_HOLE; ENXIO past the end. */
int ramet_wfile_seek(struct ramet_workspace *workspace, uint64_t ino, uint64_t offset, int whence, uint64_t *ret,
                     struct ramet_error *err);
/* Shares whole pages, copies the rest; both files are of one workspace. *ret_size as of copy_file_range. */
int ramet_wfile_copy(struct ramet_workspace *workspace, uint64_t from, uint64_t from_offset, uint64_t to,
                     uint64_t to_offset, uint64_t size, uint64_t *ret_size, struct ramet_error *err);
/* The file (and what leads to it) is durable when it returns. */
int ramet_wfile_sync(struct ramet_workspace *workspace, uint64_t ino, struct ramet_error *err);

/* --- extended attributes --- */

/* `flags`: 0, XATTR_CREATE or XATTR_REPLACE. At most 64 KiB a value. */
int ramet_wfile_set_xattr(struct ramet_workspace *workspace, uint64_t ino, const char *name, const void *value,
                          size_t size, int flags, struct ramet_error *err);
/* *ret owned by the caller (free); ENODATA. */
int ramet_wfile_get_xattr(struct ramet_workspace *workspace, uint64_t ino, const char *name, void **ret,
                          size_t *ret_size, struct ramet_error *err);
/* Names, each with its NUL; *ret owned by the caller (free). */
int ramet_wfile_list_xattr(struct ramet_workspace *workspace, uint64_t ino, char **ret, size_t *ret_size,
                           struct ramet_error *err);
int ramet_wfile_remove_xattr(struct ramet_workspace *workspace, uint64_t ino, const char *name,
                             struct ramet_error *err);

#endif
