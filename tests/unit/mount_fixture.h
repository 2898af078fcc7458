/* SPDX-License-Identifier: Apache-2.0 */
/* A store whose workspaces are mounted: what tests of that mount share. */
#ifndef RAMET_TESTS_MOUNT_FIXTURE_H
#define RAMET_TESTS_MOUNT_FIXTURE_H

#include "testing.h"

#include "workspace/workspace.h"
#include "workspace_mount.h"

#include <limits.h>

struct mounted {
    char dir[64], root[PATH_MAX]; /* below `root` are the directories of the two doors */
    struct ramet_store *store;
    struct ramet_catalog *catalog;
    struct ramet_workspaces *set;
    struct ramet_workspace_mount *mount;
};

/* In a directory of its own, which `mounted_remove` takes away with all that is in it. */
void mounted_make(struct mounted *m);
void mounted_remove(struct mounted *m);
void mounted_open(struct mounted *m);
void mounted_close(struct mounted *m);

/* The path of a file below `root`; the last four stay valid. */
const char *mounted_at(const struct mounted *m, const char *door, const char *path);

#endif
