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

#include <stddef.h>
#include <stdint.h>

struct ramet_branch;
struct ramet_catalog;
struct ramet_mount;
struct ramet_snapshot;
struct ramet_working_set;

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
/* Tells the kernel that all of the branch's disks became others, so that no page of before is shown. */
void ramet_mount_disks_changed(struct ramet_mount *mount, const struct ramet_branch *branch);

/* Notes the pages read of a snapshot's memory, in the order of their first reads, until the end. BUSY when that is
 * being done. */
int ramet_mount_record_begin(struct ramet_mount *mount, const struct ramet_snapshot *snapshot, struct ramet_error *err);
/* What was read, owned by the caller; NOT_FOUND when nothing was begun. */
int ramet_mount_record_end(struct ramet_mount *mount, const struct ramet_snapshot *snapshot,
                           struct ramet_working_set *ret, struct ramet_error *err);
/*
 * Puts whole pages of a snapshot's memory into the kernel's page cache; `buf` must hold just what the image does. The
 * file must have been looked up. Waits for reads of these pages that are under way, so hold no lock the mount needs.
 */
int ramet_mount_put_memory(struct ramet_mount *mount, const struct ramet_snapshot *snapshot, uint64_t offset, void *buf,
                           size_t size, struct ramet_error *err);

#endif
