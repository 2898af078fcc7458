/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of the mount of snapshots and branches. A crash leaves the mount point answering
 * ENOTCONN; the next start detaches it.
 *
 * The seam for running guests to survive a restart one day: inode numbers come from
 * durable serials (tree.h) and nothing is remembered per inode, so a new process that is
 * handed the old /dev/fuse descriptor needs to rebuild open handles only.
 */
#include "mount.h"

#include "mount_ops.h"
#include "session.h"
#include "tree.h"

#include <stdlib.h>
#include <string.h>

struct ramet_mount {
    struct ramet_session session;
    struct ramet_mount_context context;
};

static void free_mount(struct ramet_mount *mount)
{
    ramet_mount_release_handles(&mount->context);
    ramet_recordings_free(&mount->context.recordings);
    pthread_mutex_destroy(&mount->context.lock);
    free(mount);
}

int ramet_mount_start(const char *dir, struct ramet_catalog *catalog, struct ramet_mount **ret, struct ramet_error *err)
{
    struct ramet_mount *mount = calloc(1, sizeof *mount);
    if (!mount)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to mount");
    mount->context.catalog = catalog;
    pthread_mutex_init(&mount->context.lock, NULL);
    ramet_recordings_init(&mount->context.recordings);
    const struct ramet_session_options options = {.mount = "fsname=ramet,subtype=ramet,default_permissions",
                                                  .ops = &ramet_mount_ops,
                                                  .context = &mount->context,
                                                  .threads_max = 16};
    /* The kernel's readahead, 128 KiB, stays: what the children of a fork touch first lies scattered in their memory
     * file, and files that are read in order gain nothing measurable from more. */
    int r = ramet_session_start(&mount->session, dir, &options, err);
    if (r < 0) {
        free_mount(mount);
        return r;
    }
    *ret = mount;
    return 0;
}

void ramet_mount_stop(struct ramet_mount *mount)
{
    if (!mount)
        return;
    ramet_session_stop(&mount->session);
    free_mount(mount);
}

static void changed(struct ramet_mount *mount, fuse_ino_t parent, const char *name)
{
    if (mount)
        fuse_lowlevel_notify_inval_entry(mount->session.fuse, parent, name, strlen(name));
}

void ramet_mount_snapshot_changed(struct ramet_mount *mount, const char *id_or_tag)
{
    changed(mount, RAMET_INO_SNAPSHOTS, id_or_tag);
}

void ramet_mount_branch_changed(struct ramet_mount *mount, const char *name)
{
    changed(mount, RAMET_INO_BRANCHES, name);
}

void ramet_mount_disks_changed(struct ramet_mount *mount, const struct ramet_branch *branch)
{
    for (unsigned i = 0; mount && i < branch->disk_count; i++)
        fuse_lowlevel_notify_inval_inode(mount->session.fuse, ramet_ino(branch->serial, RAMET_PART_DISK + i), 0, 0);
}

/* --- working sets --- */

/* The inode of a snapshot's memory, 0 when it has none. */
static uint64_t memory_ino(const struct ramet_snapshot *snapshot)
{
    for (size_t i = 0; i < snapshot->image_count; i++)
        if (strcmp(snapshot->images[i].name, "memory") == 0)
            return ramet_ino(snapshot->serial, RAMET_PART_IMAGE + (unsigned)i);
    return 0;
}

int ramet_mount_record_begin(struct ramet_mount *mount, const struct ramet_snapshot *snapshot, struct ramet_error *err)
{
    const struct ramet_image *memory = ramet_snapshot_image(snapshot, "memory");
    if (!memory)
        return ramet_error_set(err, RAMET_NOT_FOUND, "snapshot %s has no memory", snapshot->id);
    return ramet_recordings_begin(&mount->context.recordings, memory_ino(snapshot),
                                  ramet_image_size(memory) / RAMET_PAGE_SIZE, err);
}

int ramet_mount_record_end(struct ramet_mount *mount, const struct ramet_snapshot *snapshot,
                           struct ramet_working_set *ret, struct ramet_error *err)
{
    return ramet_recordings_end(&mount->context.recordings, memory_ino(snapshot), ret, err);
}

int ramet_mount_put_memory(struct ramet_mount *mount, const struct ramet_snapshot *snapshot, uint64_t offset, void *buf,
                           size_t size, struct ramet_error *err)
{
    struct fuse_bufvec bytes = FUSE_BUFVEC_INIT(size);
    bytes.buf[0].mem = buf;
    int r = fuse_lowlevel_notify_store(mount->session.fuse, memory_ino(snapshot), (off_t)offset, &bytes, 0);
    return r < 0 ? ramet_error_os(err, -r, "the kernel does not take pages of snapshot %s", snapshot->id) : 0;
}
