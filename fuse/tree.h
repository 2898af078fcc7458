/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mount's tree: which inode number is which object, and what it holds.
 *
 * Numbers are made of durable serials (serial << 8 | part), so nothing is remembered per
 * inode and a number means the same after a restart. An open file holds its object
 * itself: a removed snapshot stays readable for those who have it open.
 *
 * Thread-safe; no state but the catalog's.
 */
#ifndef RAMET_FUSE_TREE_H
#define RAMET_FUSE_TREE_H

#include "catalog.h"

#include <sys/stat.h>

enum {
    RAMET_INO_ROOT = 1,
    RAMET_INO_SNAPSHOTS = 2,
    RAMET_INO_BRANCHES = 3,
    RAMET_INO_WORKSPACES = 4, /* on this and the next others mount: workspace_mount.c, tools_mount.c */
    RAMET_INO_TOOLS = 5,
    RAMET_INO_AUDITED = 6,
};

/* The low byte of a number. Never renumber. */
enum {
    RAMET_PART_SNAPSHOT = 0x00, /* directory */
    RAMET_PART_TAG = 0x01,      /* symbolic link to a snapshot's directory */
    RAMET_PART_MANIFEST = 0x02,
    RAMET_PART_IMAGE = 0x10,  /* and on, in the order of the snapshot's record */
    RAMET_PART_BRANCH = 0x80, /* directory */
    RAMET_PART_DISK = 0x90,   /* and on */
};

static inline uint64_t ramet_ino(uint64_t serial, unsigned part) { return serial << 8 | part; }

/* An object of the tree. Holds references; give them back with ramet_node_release. */
struct ramet_node {
    uint64_t ino;
    struct ramet_snapshot *snapshot; /* or NULL */
    struct ramet_branch *branch;     /* or NULL */
};
void ramet_node_release(struct ramet_node *node);

int ramet_tree_find(struct ramet_catalog *catalog, uint64_t ino, struct ramet_node *ret, struct ramet_error *err);
int ramet_tree_lookup(struct ramet_catalog *catalog, const struct ramet_node *dir, const char *name,
                      struct ramet_node *ret, struct ramet_error *err);
/* Attributes; *ret_timeout_s is how long the kernel may believe them and the name. */
void ramet_node_attr(const struct ramet_node *node, struct stat *st, double *ret_timeout_s);

/* What lies behind a file: exactly one of these is set. */
struct ramet_image *ramet_node_image(const struct ramet_node *node);  /* borrowed or NULL */
struct ramet_overlay *ramet_node_disk(const struct ramet_node *node); /* borrowed or NULL */

struct ramet_entry {
    char name[RAMET_CATALOG_NAME_SIZE];
    uint64_t ino;
    mode_t type;
};
/* The names in a directory; owned by the caller (free). */
int ramet_tree_list(struct ramet_catalog *catalog, const struct ramet_node *dir, struct ramet_entry **ret,
                    size_t *ret_count, struct ramet_error *err);

/* manifest.c: the text of manifest.json, which never changes; owned by the caller, NULL when memory ran out. */
char *ramet_manifest_text(const struct ramet_snapshot *snapshot);

#endif
