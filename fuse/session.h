/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A libfuse session on threads of its own: mounting, serving, unmounting. Nothing in the process may touch a path below
 * the mount point but the readiness check, which runs while the loop serves.
 */
#ifndef RAMET_FUSE_SESSION_H
#define RAMET_FUSE_SESSION_H

#define FUSE_USE_VERSION 314
#include "base/error.h"

#include <fuse_lowlevel.h>
#include <limits.h>
#include <pthread.h>

struct ramet_session {
    struct fuse_session *fuse;
    pthread_t thread;
    unsigned threads_max;
    dev_t device; /* of the file system */
    char dir[PATH_MAX];
};

struct ramet_session_options {
    const char *mount; /* options of the mount, as after -o; allow_other is added for root */
    const struct fuse_lowlevel_ops *ops;
    void *context; /* the session's user data */
    unsigned threads_max;
};

/* Mounts on `dir`, made ready first (mountpoint.h); returns when the first request was answered. On failure nothing is
 * left. */
int ramet_session_start(struct ramet_session *session, const char *dir, const struct ramet_session_options *options,
                        struct ramet_error *err);
/* Unmounts, lazily when still in use, fails what waits, and ends the threads: no operation runs afterwards. */
void ramet_session_stop(struct ramet_session *session);

#endif
