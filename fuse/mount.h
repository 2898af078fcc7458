/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mount: one libfuse session that shows the catalog as files.
 *
 *     snapshots/<id or tag>/{memory,disk0,state,kernel,initrd,manifest.json}   read-only; a tag is a symlink to its id
 *     branches/<name>/disk0                                                    read-write
 *
 * Thread-safe. The process that serves a mount must never touch it: it would wait for
 * itself.
 */
#ifndef RAMET_FUSE_MOUNT_H
#define RAMET_FUSE_MOUNT_H

#include "base/error.h"

struct ramet_catalog;
struct ramet_mount;

/*
 * Mounts on `dir` (made when missing) and serves it on threads of its own; returns when the first request has been
 * answered. A stale mount left by a crash is taken off first. BUSY when something else is mounted there or the
 * directory is not empty. The catalog must outlive the mount.
 */
int ramet_mount_start(const char *dir, struct ramet_catalog *catalog, struct ramet_mount **ret,
                      struct ramet_error *err);
/* Unmounts (lazily when still in use) and ends the threads. NULL is a no-op. */
void ramet_mount_stop(struct ramet_mount *mount);

/* Tells the kernel that a snapshot, tag or branch of this name came or went, so that no stale entry is shown. */
void ramet_mount_snapshot_changed(struct ramet_mount *mount, const char *id_or_tag);
void ramet_mount_branch_changed(struct ramet_mount *mount, const char *name);

#endif
