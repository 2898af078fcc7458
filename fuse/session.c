/* SPDX-License-Identifier: Apache-2.0 */
#include "session.h"

#include "mountpoint.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

static void *serve(void *arg)
{
    struct ramet_session *session = arg;
    struct fuse_loop_config *config = fuse_loop_cfg_create();
    fuse_loop_cfg_set_clone_fd(config, 1);
    fuse_loop_cfg_set_max_threads(config, session->threads_max);
    fuse_loop_cfg_set_idle_threads(config, session->threads_max);
    fuse_session_loop_mt(session->fuse, config);
    fuse_loop_cfg_destroy(config);
    return NULL;
}

/* The session exists; mounts and serves it. */
static int serve_mounted(struct ramet_session *session, struct ramet_error *err)
{
    struct stat st;
    if (fuse_session_mount(session->fuse, session->dir) != 0) {
        ramet_error_set(err, RAMET_UNSUPPORTED, "cannot mount on %s", session->dir);
        return ramet_error_hint(err, "/dev/fuse must exist and be usable, as root or through fusermount3");
    }
    int r = pthread_create(&session->thread, NULL, serve, session);
    if (r != 0) {
        fuse_session_unmount(session->fuse);
        return ramet_error_os(err, r, "cannot start the mount's thread");
    }
    if (stat(session->dir, &st) < 0) { /* answered by the loop: when it returns the mount serves */
        r = ramet_error_os(err, errno, "the mount on %s does not answer", session->dir);
        fuse_session_exit(session->fuse);
        fuse_session_unmount(session->fuse);
        pthread_join(session->thread, NULL);
        return r;
    }
    session->device = st.st_dev;
    return 0;
}

int ramet_session_start(struct ramet_session *session, const char *dir, const struct ramet_session_options *options,
                        struct ramet_error *err)
{
    int r = ramet_mountpoint_prepare(dir, err);
    if (r < 0)
        return r;
    char *argv[] = {"ramet", "-o", (char *)options->mount, "-o", "allow_other", NULL};
    struct fuse_args args = FUSE_ARGS_INIT(geteuid() == 0 ? 5 : 3, argv);
    snprintf(session->dir, sizeof session->dir, "%s", dir);
    session->threads_max = options->threads_max;
    session->fuse = fuse_session_new(&args, options->ops, sizeof *options->ops, options->context);
    fuse_opt_free_args(&args);
    if (!session->fuse)
        return ramet_error_set(err, RAMET_INTERNAL, "libfuse refuses our options");
    r = serve_mounted(session, err);
    if (r < 0)
        fuse_session_destroy(session->fuse);
    return r;
}

void ramet_session_stop(struct ramet_session *session)
{
    bool detached = umount2(session->dir, MNT_DETACH) == 0;
    fuse_session_exit(session->fuse);
    if (!detached)
        fuse_session_unmount(session->fuse);
    ramet_mountpoint_abort(session->device);
    pthread_join(session->thread, NULL);
    fuse_session_unmount(session->fuse); /* finds the connection gone and only frees */
    fuse_session_destroy(session->fuse);
}
