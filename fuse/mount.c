/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a mount: taking off a stale one, mounting, serving, unmounting.
 *
 * A crash leaves the mount point answering ENOTCONN; the next start detaches it. Threads
 * of libfuse serve requests; our own thread only waits in the loop. Nothing in this
 * process may touch a path below the mount point but the readiness check, which runs
 * while the loop serves.
 *
 * The seam for running guests to survive a restart one day: inode numbers come from
 * durable serials (tree.h) and nothing is remembered per inode, so a new process that is
 * handed the old /dev/fuse descriptor needs to rebuild open handles only.
 */
#include "mount.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "mount_ops.h"
#include "mountpoint.h"
#include "tree.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>

struct ramet_mount {
    struct fuse_session *session;
    struct ramet_mount_context context;
    pthread_t thread;
    dev_t device; /* of the file system */
    char dir[PATH_MAX];
};

static void *serve(void *arg)
{
    struct ramet_mount *mount = arg;
    struct fuse_loop_config *config = fuse_loop_cfg_create();
    fuse_loop_cfg_set_clone_fd(config, 1);
    fuse_loop_cfg_set_max_threads(config, 16);
    fuse_loop_cfg_set_idle_threads(config, 16);
    fuse_session_loop_mt(mount->session, config);
    fuse_loop_cfg_destroy(config);
    return NULL;
}

static int start_session(struct ramet_mount *mount, struct ramet_error *err)
{
    char *argv[] = {"ramet", "-o", "fsname=ramet,subtype=ramet,default_permissions", "-o", "allow_other", NULL};
    struct fuse_args args = FUSE_ARGS_INIT(geteuid() == 0 ? 5 : 3, argv);
    struct stat st;
    mount->session = fuse_session_new(&args, &ramet_mount_ops, sizeof ramet_mount_ops, &mount->context);
    fuse_opt_free_args(&args);
    if (!mount->session)
        return ramet_error_set(err, RAMET_INTERNAL, "libfuse refuses our options");
    if (fuse_session_mount(mount->session, mount->dir) != 0) {
        ramet_error_set(err, RAMET_UNSUPPORTED, "cannot mount on %s", mount->dir);
        return ramet_error_hint(err, "/dev/fuse must exist and be usable, as root or through fusermount3");
    }
    int r = pthread_create(&mount->thread, NULL, serve, mount);
    if (r != 0) {
        fuse_session_unmount(mount->session);
        return ramet_error_os(err, r, "cannot start the mount's thread");
    }
    /* Answered by the loop: when it returns the mount serves. */
    if (stat(mount->dir, &st) < 0) {
        ramet_error_os(err, errno, "the mount on %s does not answer", mount->dir);
        fuse_session_unmount(mount->session);
        pthread_join(mount->thread, NULL);
        return -err->code;
    }
    mount->device = st.st_dev;
    ramet_mountpoint_raise_readahead(st.st_dev);
    return 0;
}

int ramet_mount_start(const char *dir, struct ramet_catalog *catalog, struct ramet_mount **ret, struct ramet_error *err)
{
    int r = ramet_mountpoint_prepare(dir, err);
    if (r < 0)
        return r;
    struct ramet_mount *mount = calloc(1, sizeof *mount);
    if (!mount)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to mount");
    mount->context.catalog = catalog;
    pthread_mutex_init(&mount->context.lock, NULL);
    ramet_recordings_init(&mount->context.recordings);
    snprintf(mount->dir, sizeof mount->dir, "%s", dir);
    r = start_session(mount, err);
    if (r < 0) {
        ramet_mount_release_handles(&mount->context);
        ramet_recordings_free(&mount->context.recordings);
        pthread_mutex_destroy(&mount->context.lock);
        if (mount->session)
            fuse_session_destroy(mount->session);
        free(mount);
        return r;
    }
    *ret = mount;
    return 0;
}

void ramet_mount_stop(struct ramet_mount *mount)
{
    if (!mount)
        return;
    bool detached = umount2(mount->dir, MNT_DETACH) == 0;
    fuse_session_exit(mount->session);
    if (!detached)
        fuse_session_unmount(mount->session);
    ramet_mountpoint_abort(mount->device);
    pthread_join(mount->thread, NULL);
    ramet_mount_release_handles(&mount->context);
    ramet_recordings_free(&mount->context.recordings);
    pthread_mutex_destroy(&mount->context.lock);
    fuse_session_unmount(mount->session); /* finds the connection gone and only frees */
    fuse_session_destroy(mount->session);
    free(mount);
}

static void changed(struct ramet_mount *mount, fuse_ino_t parent, const char *name)
{
    if (mount)
        fuse_lowlevel_notify_inval_entry(mount->session, parent, name, strlen(name));
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
        fuse_lowlevel_notify_inval_inode(mount->session, ramet_ino(branch->serial, RAMET_PART_DISK + i), 0, 0);
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
    int r = fuse_lowlevel_notify_store(mount->session, memory_ino(snapshot), (off_t)offset, &bytes, 0);
    return r < 0 ? ramet_error_os(err, -r, "the kernel does not take pages of snapshot %s", snapshot->id) : 0;
}
