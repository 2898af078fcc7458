/* SPDX-License-Identifier: Apache-2.0 */
/* The life of the mount of tools/. As with mount.c, nothing in this process may touch a path below the mount point but
 * the readiness check, which runs while the loop serves. */
#include "tools_mount.h"

#include "mountpoint.h"
#include "tools_ops.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

struct ramet_tools_mount {
    struct fuse_session *session;
    struct ramet_tools_context context;
    pthread_t thread;
    dev_t device;
    char dir[PATH_MAX];
};

static void *serve(void *arg)
{
    struct ramet_tools_mount *mount = arg;
    struct fuse_loop_config *config = fuse_loop_cfg_create();
    fuse_loop_cfg_set_clone_fd(config, 1);
    fuse_loop_cfg_set_max_threads(config, 8);
    fuse_loop_cfg_set_idle_threads(config, 8);
    fuse_session_loop_mt(mount->session, config);
    fuse_loop_cfg_destroy(config);
    return NULL;
}

static int start_session(struct ramet_tools_mount *mount, struct ramet_error *err)
{
    char *argv[] = {"ramet", "-o",          "ro,fsname=ramet-tools,subtype=ramet,default_permissions",
                    "-o",    "allow_other", NULL};
    struct fuse_args args = FUSE_ARGS_INIT(geteuid() == 0 ? 5 : 3, argv);
    struct stat st;
    mount->session = fuse_session_new(&args, &ramet_tools_ops, sizeof ramet_tools_ops, &mount->context);
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
    if (stat(mount->dir, &st) < 0) { /* answered by the loop: when it returns the mount serves */
        ramet_error_os(err, errno, "the mount on %s does not answer", mount->dir);
        fuse_session_exit(mount->session);
        fuse_session_unmount(mount->session);
        pthread_join(mount->thread, NULL);
        return -err->code;
    }
    mount->device = st.st_dev;
    return 0;
}

static void free_mount(struct ramet_tools_mount *mount)
{
    ramet_tools_context_free(&mount->context);
    if (mount->session)
        fuse_session_destroy(mount->session);
    free(mount);
}

int ramet_tools_mount_start(const char *dir, const struct ramet_tools_source *source, struct ramet_tools_mount **ret,
                            struct ramet_error *err)
{
    int r = ramet_mountpoint_prepare(dir, err);
    if (r < 0)
        return r;
    struct ramet_tools_mount *mount = calloc(1, sizeof *mount);
    if (!mount)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for the mount of tools");
    ramet_tools_context_init(&mount->context, source);
    snprintf(mount->dir, sizeof mount->dir, "%s", dir);
    r = start_session(mount, err);
    if (r < 0) {
        free_mount(mount);
        return r;
    }
    *ret = mount;
    return 0;
}

void ramet_tools_mount_stop(struct ramet_tools_mount *mount)
{
    if (!mount)
        return;
    bool detached = umount2(mount->dir, MNT_DETACH) == 0;
    fuse_session_exit(mount->session);
    if (!detached)
        fuse_session_unmount(mount->session);
    ramet_mountpoint_abort(mount->device);
    pthread_join(mount->thread, NULL);
    fuse_session_unmount(mount->session); /* finds the connection gone and only frees */
    free_mount(mount);
}
