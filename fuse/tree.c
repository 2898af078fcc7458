/* SPDX-License-Identifier: Apache-2.0 */
#include "tree.h"

#include "base/cleanup.h"

#include <stdio.h>
#include <string.h>

/* What never changes may be believed for long; names come and go through explicit invalidation. */
static const double constant_s = 3600, changing_s = 1, tag_s = 0;

void ramet_node_release(struct ramet_node *node)
{
    ramet_snapshot_unref(STEAL(node->snapshot));
    ramet_branch_unref(STEAL(node->branch));
}

static unsigned part_of(const struct ramet_node *node) { return node->ino < 256 ? 0 : (unsigned)(node->ino & 0xff); }

/* Where workspace_mount.c and tools_mount.c mount. */
static bool is_mountpoint(const struct ramet_node *dir)
{
    return dir->ino >= RAMET_INO_WORKSPACES && dir->ino <= RAMET_INO_AUDITED;
}

static int missing(const char *name, struct ramet_error *err)
{
    return ramet_error_set(err, RAMET_NOT_FOUND, "\"%s\" not found", name);
}

struct ramet_image *ramet_node_image(const struct ramet_node *node)
{
    unsigned part = part_of(node);
    if (!node->snapshot || part < RAMET_PART_IMAGE || part - RAMET_PART_IMAGE >= node->snapshot->image_count)
        return NULL;
    return node->snapshot->images[part - RAMET_PART_IMAGE].image;
}

struct ramet_overlay *ramet_node_disk(const struct ramet_node *node)
{
    unsigned part = part_of(node);
    if (!node->branch || part < RAMET_PART_DISK || part - RAMET_PART_DISK >= node->branch->disk_count)
        return NULL;
    return node->branch->disks[part - RAMET_PART_DISK];
}

int ramet_tree_find(struct ramet_catalog *catalog, uint64_t ino, struct ramet_node *ret, struct ramet_error *err)
{
    struct ramet_node node = {.ino = ino};
    int r = 0;
    if (ino < 256) {
        *ret = node;
        return ino <= RAMET_INO_AUDITED ? 0 : missing("inode", err);
    }
    if ((ino & 0xff) >= RAMET_PART_BRANCH)
        r = ramet_catalog_branch_by_serial(catalog, ino >> 8, &node.branch, err);
    else
        r = ramet_catalog_snapshot_by_serial(catalog, ino >> 8, &node.snapshot, err);
    if (r == 0)
        *ret = node;
    return r;
}

static int lookup_root(const char *name, struct ramet_node *ret, struct ramet_error *err)
{
    *ret = (struct ramet_node){0};
    if (strcmp(name, "snapshots") == 0)
        ret->ino = RAMET_INO_SNAPSHOTS;
    else if (strcmp(name, "branches") == 0)
        ret->ino = RAMET_INO_BRANCHES;
    else if (strcmp(name, "workspaces") == 0)
        ret->ino = RAMET_INO_WORKSPACES;
    else if (strcmp(name, "tools") == 0)
        ret->ino = RAMET_INO_TOOLS;
    else if (strcmp(name, "audited") == 0)
        ret->ino = RAMET_INO_AUDITED;
    return ret->ino ? 0 : missing(name, err);
}

static int lookup_in_snapshot(const struct ramet_snapshot *snapshot, const char *name, struct ramet_node *ret,
                              struct ramet_error *err)
{
    unsigned part = strcmp(name, "manifest.json") == 0 ? RAMET_PART_MANIFEST : 0;
    for (size_t i = 0; i < snapshot->image_count; i++)
        if (strcmp(snapshot->images[i].name, name) == 0)
            part = RAMET_PART_IMAGE + (unsigned)i;
    if (!part)
        return missing(name, err);
    *ret = (struct ramet_node){.ino = ramet_ino(snapshot->serial, part),
                               .snapshot = ramet_snapshot_ref((struct ramet_snapshot *)snapshot)};
    return 0;
}

static int lookup_in_branch(struct ramet_branch *branch, const char *name, struct ramet_node *ret,
                            struct ramet_error *err)
{
    for (size_t i = 0; i < branch->disk_count; i++) {
        char disk[RAMET_DISK_NAME_SIZE];
        ramet_disk_name(disk, i);
        if (strcmp(disk, name) != 0)
            continue;
        atomic_fetch_add(&branch->refs, 1);
        *ret = (struct ramet_node){.ino = ramet_ino(branch->serial, RAMET_PART_DISK + (unsigned)i), .branch = branch};
        return 0;
    }
    return missing(name, err);
}

int ramet_tree_lookup(struct ramet_catalog *catalog, const struct ramet_node *dir, const char *name,
                      struct ramet_node *ret, struct ramet_error *err)
{
    struct ramet_node node = {0};
    if (dir->ino == RAMET_INO_ROOT)
        return lookup_root(name, ret, err);
    if (dir->snapshot)
        return part_of(dir) == RAMET_PART_SNAPSHOT ? lookup_in_snapshot(dir->snapshot, name, ret, err)
                                                   : missing(name, err);
    if (dir->branch)
        return part_of(dir) == RAMET_PART_BRANCH ? lookup_in_branch(dir->branch, name, ret, err) : missing(name, err);
    if (dir->ino == RAMET_INO_SNAPSHOTS) {
        int r = ramet_catalog_find(catalog, name, &node.snapshot, err);
        if (r < 0)
            return r;
        bool by_id = strcmp(node.snapshot->id, name) == 0;
        node.ino = ramet_ino(node.snapshot->serial, by_id ? RAMET_PART_SNAPSHOT : RAMET_PART_TAG);
    } else if (is_mountpoint(dir)) {
        return missing(name, err);
    } else {
        int r = ramet_catalog_branch_find(catalog, name, &node.branch, err);
        if (r == 0 && strcmp(node.branch->name, name) != 0) {
            ramet_node_release(&node);
            r = missing(name, err);
        }
        if (r < 0)
            return r;
        node.ino = ramet_ino(node.branch->serial, RAMET_PART_BRANCH);
    }
    *ret = node;
    return 0;
}

static mode_t mode_of(const struct ramet_node *node)
{
    unsigned part = part_of(node);
    if (node->branch)
        return part == RAMET_PART_BRANCH ? S_IFDIR | 0700 : S_IFREG | 0600;
    if (!node->snapshot || part == RAMET_PART_SNAPSHOT)
        return S_IFDIR | 0755;
    return part == RAMET_PART_TAG ? S_IFLNK | 0777 : S_IFREG | 0400;
}

static uint64_t size_of(const struct ramet_node *node)
{
    struct ramet_image *image = ramet_node_image(node);
    struct ramet_overlay *disk = ramet_node_disk(node);
    if (image)
        return ramet_image_size(image);
    if (disk)
        return ramet_overlay_size(disk);
    if (part_of(node) == RAMET_PART_TAG)
        return RAMET_CATALOG_ID_SIZE - 1;
    _autofree_ char *text = part_of(node) == RAMET_PART_MANIFEST ? ramet_manifest_text(node->snapshot) : NULL;
    return text ? strlen(text) : 0;
}

void ramet_node_attr(const struct ramet_node *node, struct stat *st, double *ret_timeout_s)
{
    int64_t created_ms = node->snapshot ? node->snapshot->created_ms : node->branch ? node->branch->created_ms : 0;
    struct timespec when = {.tv_sec = created_ms / 1000, .tv_nsec = created_ms % 1000 * 1000000};
    mode_t mode = mode_of(node);
    *st = (struct stat){.st_ino = node->ino,
                        .st_mode = mode,
                        .st_nlink = S_ISDIR(mode) ? 2 : 1,
                        .st_uid = getuid(),
                        .st_gid = getgid(),
                        .st_size = (off_t)size_of(node),
                        .st_blksize = RAMET_PAGE_SIZE,
                        .st_atim = when,
                        .st_mtim = when,
                        .st_ctim = when};
    st->st_blocks = st->st_size / 512;
    *ret_timeout_s = S_ISLNK(mode) ? tag_s : node->snapshot || node->ino < 256 ? constant_s : changing_s;
}

/* --- listing --- */

struct listing {
    struct ramet_entry *entries;
    size_t count;
};

static void add(struct listing *listing, const char *name, uint64_t ino, mode_t type)
{
    struct ramet_entry *entry = &listing->entries[listing->count++];
    *entry = (struct ramet_entry){.ino = ino, .type = type};
    snprintf(entry->name, sizeof entry->name, "%s", name);
}

static int list_snapshots(struct ramet_catalog *catalog, struct listing *listing, struct ramet_error *err)
{
    struct ramet_snapshot **all = NULL;
    _autofree_ struct ramet_tag *tags = NULL;
    size_t count = 0, tag_count = 0;
    int r = ramet_catalog_snapshots(catalog, &all, &count, err);
    if (r == 0)
        r = ramet_catalog_tags(catalog, &tags, &tag_count, err);
    if (r == 0 && !(listing->entries = calloc(count + tag_count + 1, sizeof *listing->entries)))
        r = ramet_error_set(err, RAMET_NO_MEMORY, "no memory to list snapshots");
    for (size_t i = 0; i < count && r == 0; i++)
        add(listing, all[i]->id, ramet_ino(all[i]->serial, RAMET_PART_SNAPSHOT), S_IFDIR);
    for (size_t i = 0; i < tag_count && r == 0; i++)
        for (size_t j = 0; j < count; j++)
            if (strcmp(all[j]->id, tags[i].snapshot) == 0)
                add(listing, tags[i].name, ramet_ino(all[j]->serial, RAMET_PART_TAG), S_IFLNK);
    ramet_snapshots_free(all, count);
    return r;
}

static int list_branches(struct ramet_catalog *catalog, struct listing *listing, struct ramet_error *err)
{
    struct ramet_branch **all = NULL;
    size_t count = 0;
    int r = ramet_catalog_branches(catalog, &all, &count, err);
    if (r == 0 && !(listing->entries = calloc(count + 1, sizeof *listing->entries)))
        r = ramet_error_set(err, RAMET_NO_MEMORY, "no memory to list branches");
    for (size_t i = 0; i < count && r == 0; i++)
        add(listing, all[i]->name, ramet_ino(all[i]->serial, RAMET_PART_BRANCH), S_IFDIR);
    ramet_branches_free(all, count);
    return r;
}

static int list_fixed(const struct ramet_node *dir, struct listing *listing, struct ramet_error *err)
{
    listing->entries = calloc(RAMET_SNAPSHOT_IMAGES_MAX + 2, sizeof *listing->entries);
    if (!listing->entries)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to list a directory");
    if (dir->ino == RAMET_INO_ROOT) {
        add(listing, "snapshots", RAMET_INO_SNAPSHOTS, S_IFDIR);
        add(listing, "branches", RAMET_INO_BRANCHES, S_IFDIR);
        add(listing, "workspaces", RAMET_INO_WORKSPACES, S_IFDIR);
        add(listing, "audited", RAMET_INO_AUDITED, S_IFDIR);
        add(listing, "tools", RAMET_INO_TOOLS, S_IFDIR);
    } else if (is_mountpoint(dir)) {
        return 0;
    } else if (dir->snapshot) {
        const struct ramet_snapshot *snapshot = dir->snapshot;
        add(listing, "manifest.json", ramet_ino(snapshot->serial, RAMET_PART_MANIFEST), S_IFREG);
        for (unsigned i = 0; i < snapshot->image_count; i++)
            add(listing, snapshot->images[i].name, ramet_ino(snapshot->serial, RAMET_PART_IMAGE + i), S_IFREG);
    } else {
        for (unsigned i = 0; i < dir->branch->disk_count; i++) {
            char name[RAMET_DISK_NAME_SIZE];
            ramet_disk_name(name, i);
            add(listing, name, ramet_ino(dir->branch->serial, RAMET_PART_DISK + i), S_IFREG);
        }
    }
    return 0;
}

int ramet_tree_list(struct ramet_catalog *catalog, const struct ramet_node *dir, struct ramet_entry **ret,
                    size_t *ret_count, struct ramet_error *err)
{
    struct listing listing = {0};
    int r = dir->ino == RAMET_INO_SNAPSHOTS  ? list_snapshots(catalog, &listing, err)
            : dir->ino == RAMET_INO_BRANCHES ? list_branches(catalog, &listing, err)
                                             : list_fixed(dir, &listing, err);
    if (r < 0) {
        free(listing.entries);
        return r;
    }
    *ret = listing.entries;
    *ret_count = listing.count;
    return 0;
}
