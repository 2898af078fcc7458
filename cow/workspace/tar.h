/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Workspaces to and from tar archives and directories, with all metadata: owners by number,
 * modes, times to the nanosecond, hard links, holes, extended attributes, FIFOs and devices.
 * Sockets are left out of archives, which have no form for them.
 *
 * Exporting shows one instant: a view. Importing makes one change after the other; who wants
 * all or nothing imports into a fork and promotes it. For git, run git on the mount
 * (docs/workspaces.md).
 */
#ifndef RAMET_WORKSPACE_TAR_H
#define RAMET_WORKSPACE_TAR_H

#include "workspace.h"

#include <stdbool.h>

struct ramet_warchive_sums {
    uint64_t files, bytes; /* entries of every kind; content */
    uint64_t skipped;      /* sockets */
};

/* Writes a pax archive to `fd`, uncompressed; GNU tar reads all of it. */
int ramet_workspace_export_tar(struct ramet_workspace *workspace, int fd, struct ramet_warchive_sums *ret,
                               struct ramet_error *err);
/*
 * Takes a tar archive (pax, GNU, ustar; also compressed with gzip, bzip2, xz, zstd or lz4) into the directory `into`, a
 * path from the root, "" for the root itself. What has a name already is replaced; a directory stays and takes the
 * attributes. Names lose a leading slash; those with ".." are refused with INVALID, and no symlink is followed.
 */
int ramet_workspace_import_tar(struct ramet_workspace *workspace, const char *into, int fd,
                               struct ramet_warchive_sums *ret, struct ramet_error *err);
/* The same from and to a directory of this machine. Exporting makes `path`, which must not exist. */
int ramet_workspace_import_dir(struct ramet_workspace *workspace, const char *into, const char *path,
                               struct ramet_warchive_sums *ret, struct ramet_error *err);
int ramet_workspace_export_dir(struct ramet_workspace *workspace, const char *path, struct ramet_warchive_sums *ret,
                               struct ramet_error *err);

#endif
