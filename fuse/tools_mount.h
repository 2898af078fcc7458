/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mount of tools/: a session of its own, read-only, over trees that somebody above publishes.
 *
 * Every request is answered from memory out of the tree of its caller; none waits for anybody else, and none calls a
 * remote server. The kernel may believe no name and no attribute for any time, since its cache is one for all users:
 * each step of each path is asked about for who takes it. Pages it may keep: a file's number stands for its text.
 *
 * What is published next is there with the next request; nothing has to be taken back from the kernel. A file that is
 * open, or was looked up, stays as it was.
 */
#ifndef RAMET_FUSE_TOOLS_MOUNT_H
#define RAMET_FUSE_TOOLS_MOUNT_H

#include "tools_tree.h"

struct ramet_tools_mount;

struct ramet_tools_caller {
    uid_t uid;
    gid_t gid;
    pid_t pid;
};

/* Called from many threads at once. */
struct ramet_tools_source {
    void *context;
    /* The caller's tree, sealed, whose reference goes over; NULL: it may see nothing. */
    struct ramet_tools_node *(*tree)(void *context, const struct ramet_tools_caller *caller);
    /* Before a file is opened, or a directory listed: an error refuses it. */
    int (*opening)(void *context, const struct ramet_tools_caller *caller, const struct ramet_tools_node *node,
                   struct ramet_error *err);
    /* The caller asked for a name that its tree does not have, `dir` as far as it has one. */
    void (*missed)(void *context, const struct ramet_tools_caller *caller, const struct ramet_tools_node *dir,
                   const char *name);
};

/* Mounts on `dir`, a directory; everything else as with ramet_mount_start. The source must outlive the mount. */
int ramet_tools_mount_start(const char *dir, const struct ramet_tools_source *source, struct ramet_tools_mount **ret,
                            struct ramet_error *err);
void ramet_tools_mount_stop(struct ramet_tools_mount *mount); /* NULL is a no-op */

#endif
