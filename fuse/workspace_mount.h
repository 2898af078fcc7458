/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mount of the workspaces, a file system of its own below the catalog's:
 *
 *     <name>/...                            a workspace, read-write
 *     <name>/.ramet/history/<state>/...     its past states, read-only; .ramet is not listed, but can be entered
 *
 * Audited workspaces are behind a second door, where each open of a file is a request that
 * is told to the auditor first; in the first they are symlinks. What was open when a
 * workspace changed doors is stale (ESTALE).
 *
 * Everything that goes through the mount the kernel caches for as long as it likes. What
 * changes a tree or a name behind its back must be told here, after it was done and before
 * the caller hears of it.
 *
 * Thread-safe. The process that serves the mount must not touch it from a thread that the
 * kernel may be waiting for.
 */
#ifndef RAMET_FUSE_WORKSPACE_MOUNT_H
#define RAMET_FUSE_WORKSPACE_MOUNT_H

#include "workspace/workspace.h"

#include <stdbool.h>
#include <sys/types.h>

struct ramet_workspace_mount;

#define RAMET_WORKSPACES_PLAIN "workspaces" /* directories of the two doors; side by side */
#define RAMET_WORKSPACES_AUDITED "audited"

/* Mounts on the empty directories of these names in `dir` and serves the set, which must outlive the mount. */
int ramet_workspace_mount_start(const char *dir, struct ramet_workspaces *set, struct ramet_workspace_mount **ret,
                                struct ramet_error *err);

/* An open of a file in an audited workspace; strings are borrowed. */
struct ramet_workspace_open {
    const char *workspace; /* its name */
    const char *path;      /* one of the file's; NULL: it has no name any more */
    uid_t uid;
    pid_t pid;
    bool read, write, execute, create;
};
struct ramet_workspace_auditor {
    void *context;
    /* Before the open is answered, from many threads at once; may wait. An error refuses the open. */
    int (*opening)(void *context, const struct ramet_workspace_open *open, struct ramet_error *err);
};
/* From now on; NULL: nobody, and files of audited workspaces cannot be opened. Waits for calls of the one before. */
void ramet_workspace_mount_audit(struct ramet_workspace_mount *mount, const struct ramet_workspace_auditor *auditor);
/* Unmounts (lazily when still in use). NULL is a no-op, here and below. */
void ramet_workspace_mount_stop(struct ramet_workspace_mount *mount);

/* A workspace of this name came, went or is another one now (made, removed, renamed, promoted, rolled back). */
void ramet_workspace_mount_name_changed(struct ramet_workspace_mount *mount, const char *name);
/* It changed doors: as above, and who is in one of its directories finds nothing there (before Linux 6.16: nothing that
 * the kernel does not know yet). */
void ramet_workspace_mount_audited_changed(struct ramet_workspace_mount *mount, const char *name);
/* A state came or went. */
void ramet_workspace_mount_state_changed(struct ramet_workspace_mount *mount, struct ramet_workspace *workspace,
                                         const char *state);
/* The inode's attributes, content or xattrs are others now. */
void ramet_workspace_mount_inode_changed(struct ramet_workspace_mount *mount, struct ramet_workspace *workspace,
                                         uint64_t ino);
/* The directory has this name no more, or for something else. */
void ramet_workspace_mount_entry_changed(struct ramet_workspace_mount *mount, struct ramet_workspace *workspace,
                                         uint64_t dir, const char *name);
/* What programs wrote through shared mappings and the kernel holds yet is written to the workspaces when it returns. */
int ramet_workspace_mount_flush(struct ramet_workspace_mount *mount, struct ramet_error *err);

#endif
