/* SPDX-License-Identifier: Apache-2.0 */
/* The requests a mount answers. Private to fuse/. */
#ifndef RAMET_FUSE_MOUNT_OPS_H
#define RAMET_FUSE_MOUNT_OPS_H

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>

/* The session's user data is the struct ramet_catalog *. */
extern const struct fuse_lowlevel_ops ramet_mount_ops;

#endif
