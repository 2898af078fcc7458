/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Workspaces to and from tar archives and directories, with all metadata: owners by number,
 * modes, times to the nanosecond, hard links, holes, extended attributes, FIFOs and devices.
 * Sockets are left out of archives, which have no form for them.
 *
 * Exporting shows one instant: a view. Importing makes one change after the other; who wants
 * all or nothing imports into a fork and merges it with `times`, or promotes it. For git,
 * run git on the mount (docs/workspaces.md).
 */
#ifndef RAMET_WORKSPACE_TAR_H
#define RAMET_WORKSPACE_TAR_H

#include "files.h"
#include "workspace.h"

#include <stdbool.h>

struct ramet_warchive_sums {
    uint64_t files, bytes; /* entries of every kind; content */
    uint64_t skipped;      /* sockets */
};

/* What an archive may bring. NULL, where one is taken: everything. */
struct ramet_wimport_rules {
    /* Nobody with privileges imports: all belongs to `owner` whatever the archive says, and devices and extended
     * attributes other than user.* and ACLs are refused with DENIED. */
    bool confined;
    struct ramet_wowner owner;
};

/*
 * Writes a pax archive to `fd`, uncompressed; GNU tar reads all of it. Of the directory `path`, "" for the whole, with
 * names from there on ("./a"); of anything else that one entry, under its last name.
 */
int ramet_workspace_export_tar(struct ramet_workspace *workspace, const char *path, int fd,
                               struct ramet_warchive_sums *ret, struct ramet_error *err);
/* NOT_FOUND unless a view has the path. */
int ramet_workspace_has_path(struct ramet_workspace *view, const char *path, struct ramet_error *err);
/*
 * Takes a tar archive (pax, GNU, ustar; also compressed with gzip, bzip2, xz, zstd or lz4) into the directory `into`, a
 * path from the root, "" for the root itself. What has a name already is replaced; a directory stays and takes the
 * attributes. Names lose a leading slash; those with ".." are refused with INVALID, and no symlink is followed. Errors
 * name the entry at which it ended.
 */
int ramet_workspace_import_tar(struct ramet_workspace *workspace, const char *into, int fd,
                               const struct ramet_wimport_rules *rules, struct ramet_warchive_sums *ret,
                               struct ramet_error *err);
/* The same from and to a directory of this machine. Exporting makes `path`, which must not exist. */
int ramet_workspace_import_dir(struct ramet_workspace *workspace, const char *into, const char *path,
                               struct ramet_warchive_sums *ret, struct ramet_error *err);
int ramet_workspace_export_dir(struct ramet_workspace *workspace, const char *path, struct ramet_warchive_sums *ret,
                               struct ramet_error *err);

#endif
