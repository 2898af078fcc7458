/* SPDX-License-Identifier: Apache-2.0 */
/* The requests a mount of tools answers. Private to fuse/. */
#ifndef RAMET_FUSE_TOOLS_OPS_H
#define RAMET_FUSE_TOOLS_OPS_H

#define FUSE_USE_VERSION 314
#include "base/u64map.h"
#include "tools_mount.h"
#include <fuse_lowlevel.h>

#include <pthread.h>

/* The session's user data. */
struct ramet_tools_context {
    struct ramet_tools_source source;
    pthread_mutex_t lock;         /* guards what follows; taken for moments, never while a text is made */
    struct ramet_u64map known;    /* files the kernel knows, by number: struct known */
    struct tools_handle *handles; /* open ones */
    uint64_t last_search;         /* number of the last file of a search */
};

void ramet_tools_context_init(struct ramet_tools_context *context, const struct ramet_tools_source *source);
/* Releases what is still open and known. The loop must have ended: the kernel will not release it any more. */
void ramet_tools_context_free(struct ramet_tools_context *context);

extern const struct fuse_lowlevel_ops ramet_tools_ops;

#endif
