/* SPDX-License-Identifier: Apache-2.0 */
/* The requests a mount answers. Private to fuse/. */
#ifndef RAMET_FUSE_MOUNT_OPS_H
#define RAMET_FUSE_MOUNT_OPS_H

#define FUSE_USE_VERSION 314
#include "recordings.h"
#include <fuse_lowlevel.h>

#include <pthread.h>

struct ramet_catalog;

/* The session's user data. */
struct ramet_mount_context {
    struct ramet_catalog *catalog;
    pthread_mutex_t lock;   /* guards the list; taken for moments */
    struct handle *handles; /* open ones */
    struct ramet_recordings recordings;
};

/* Releases what is still open. The loop must have ended: the kernel will not release it any more. */
void ramet_mount_release_handles(struct ramet_mount_context *context);

extern const struct fuse_lowlevel_ops ramet_mount_ops;

#endif
