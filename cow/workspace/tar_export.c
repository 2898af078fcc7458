/* SPDX-License-Identifier: Apache-2.0 */
/* A view's tree, entry by entry, into a pax archive or onto the disk. */
#include "archive.h"
#include "base/cleanup.h"
#include "base/u64map.h"
#include "compare.h"
#include "files.h"
#include "tar.h"
#include "view.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum { block = 1 << 20 };

struct export
{
    struct ramet_workspace *view;
    struct archive *archive;
    bool to_disk;
    const char *prefix;        /* of every path on the disk */
    struct ramet_u64map first; /* inode with several names -> index of paths */
    char **paths;              /* owned; the first names of those */
    size_t path_count;
    struct ramet_warchive_sums sums;
    uint8_t *buf;
};

static int no_memory(struct ramet_error *err) { return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to export"); }

static time_t seconds(int64_t ns) { return (time_t)(ns >= 0 ? ns / 1000000000 : -((-ns + 999999999) / 1000000000)); }
static long rest(int64_t ns) { return (long)(ns - (int64_t)seconds(ns) * 1000000000); }

static int add_xattrs(struct export *export, struct archive_entry *entry, uint64_t ino, struct ramet_error *err)
{
    _autofree_ char *names = NULL;
    size_t size, value_size;
    int r = ramet_wfile_list_xattr(export->view, ino, &names, &size, err);
    for (const char *name = names; r == 0 && name < names + size; name += strlen(name) + 1) {
        _autofree_ void *value = NULL;
        r = ramet_wfile_get_xattr(export->view, ino, name, &value, &value_size, err);
        if (r == 0)
            archive_entry_xattr_add_entry(entry, name, value, value_size);
    }
    return r;
}

/* The ranges that hold data. */
static int add_holes(struct export *export, struct archive_entry *entry, const struct ramet_wstat *stat,
                     struct ramet_error *err)
{
    uint64_t at = 0, data, hole;
    if (stat->blocks * 512 >= stat->size || stat->size <= 4096)
        return 0;
    while (at < stat->size) {
        struct ramet_error own = {0};
        int r = ramet_wfile_seek(export->view, stat->ino, at, SEEK_DATA, &data, &own);
        if (r < 0 && own.os_errno == ENXIO)
            break;
        if (r == 0)
            r = ramet_wfile_seek(export->view, stat->ino, data, SEEK_HOLE, &hole, &own);
        if (r < 0) {
            if (err)
                *err = own;
            return r;
        }
        archive_entry_sparse_add_entry(entry, (la_int64_t)data, (la_int64_t)(hole - data));
        at = hole;
    }
    if (archive_entry_sparse_count(entry) == 0)
        archive_entry_sparse_add_entry(entry, (la_int64_t)stat->size, 0);
    return 0;
}

static void set_attributes(struct archive_entry *entry, const struct ramet_wstat *stat)
{
    archive_entry_set_mode(entry, stat->mode);
    archive_entry_set_uid(entry, stat->uid);
    archive_entry_set_gid(entry, stat->gid);
    archive_entry_set_rdev(entry, makedev(stat->rdev_major, stat->rdev_minor));
    archive_entry_set_mtime(entry, seconds(stat->mtime_ns), rest(stat->mtime_ns));
    archive_entry_set_atime(entry, seconds(stat->atime_ns), rest(stat->atime_ns));
    archive_entry_set_ctime(entry, seconds(stat->ctime_ns), rest(stat->ctime_ns));
    if (S_ISREG(stat->mode))
        archive_entry_set_size(entry, (la_int64_t)stat->size);
}

static int write_content(struct export *export, const struct ramet_wstat *stat, struct ramet_error *err)
{
    for (uint64_t at = 0; at < stat->size;) {
        size_t got;
        int r = ramet_wfile_read(export->view, stat->ino, at, export->buf, block, &got, err);
        if (r < 0)
            return r;
        la_ssize_t done = export->to_disk ? archive_write_data_block(export->archive, export->buf, got, (la_int64_t)at)
                                          : archive_write_data(export->archive, export->buf, got);
        if (done < 0)
            return ramet_archive_failed(export->archive, "cannot write an archive", err);
        at += got;
        export->sums.bytes += got;
    }
    return 0;
}

/* The path that a file with several names was exported by, or NULL: this is the first one. */
static int first_name(struct export *export, const struct ramet_wstat *stat, const char *path, const char **ret,
                      struct ramet_error *err)
{
    uint64_t at;
    *ret = NULL;
    if (stat->nlink < 2 || S_ISDIR(stat->mode))
        return 0;
    if (ramet_u64map_get(&export->first, stat->ino, &at)) {
        *ret = export->paths[at];
        return 0;
    }
    char **grown = reallocarray(export->paths, export->path_count + 1, sizeof *grown);
    char *copy = strdup(path);
    if (grown)
        export->paths = grown;
    if (!grown || !copy || !ramet_u64map_put(&export->first, stat->ino, export->path_count)) {
        free(copy);
        return no_memory(err);
    }
    export->paths[export->path_count++] = copy;
    return 0;
}

static int fill_entry(struct export *export, struct archive_entry *entry, const struct ramet_wstat *stat,
                      const char *link, struct ramet_error *err)
{
    char target[4096];
    size_t size;
    set_attributes(entry, stat);
    if (link) {
        archive_entry_set_hardlink(entry, link);
        archive_entry_set_size(entry, 0);
        return 0;
    }
    int r = add_xattrs(export, entry, stat->ino, err);
    if (r == 0 && S_ISLNK(stat->mode)) {
        r = ramet_wfile_readlink(export->view, stat->ino, target, &size, err);
        if (r == 0)
            archive_entry_set_symlink(entry, target);
    }
    if (r == 0 && S_ISREG(stat->mode))
        r = add_holes(export, entry, stat, err);
    return r;
}

static int export_one(struct export *export, const char *path, const struct ramet_wstat *stat, struct ramet_error *err)
{
    const char *link;
    if (S_ISSOCK(stat->mode) && !export->to_disk) {
        export->sums.skipped++;
        return 0;
    }
    int r = first_name(export, stat, path, &link, err);
    struct archive_entry *entry = archive_entry_new();
    if (r == 0 && !entry)
        r = no_memory(err);
    if (r == 0) {
        archive_entry_set_pathname(entry, path);
        r = fill_entry(export, entry, stat, link, err);
    }
    if (r == 0 && archive_write_header(export->archive, entry) < ARCHIVE_WARN)
        r = ramet_archive_failed(export->archive, path, err);
    if (r == 0 && S_ISREG(stat->mode) && !link)
        r = write_content(export, stat, err);
    if (r == 0 && archive_write_finish_entry(export->archive) < ARCHIVE_WARN)
        r = ramet_archive_failed(export->archive, path, err);
    archive_entry_free(entry);
    export->sums.files++;
    return r;
}

/* --- walking --- */

struct listed {
    char *name;
    struct ramet_wstat stat;
};
struct listing {
    struct listed *items;
    size_t count, capacity;
    bool failed;
};

static bool add_listed(void *ctx, const struct ramet_wentry *entry, const struct ramet_wstat *stat)
{
    struct listing *listing = ctx;
    if (listing->count == listing->capacity) {
        size_t capacity = listing->capacity ? listing->capacity * 2 : 32;
        struct listed *grown = reallocarray(listing->items, capacity, sizeof *grown);
        if (!grown) {
            listing->failed = true;
            return false;
        }
        listing->items = grown;
        listing->capacity = capacity;
    }
    char *name = strdup(entry->name);
    listing->failed = !name;
    if (name)
        listing->items[listing->count++] = (struct listed){name, *stat};
    return name != NULL;
}

static int by_listed_name(const void *a, const void *b)
{
    return strcmp(((const struct listed *)a)->name, ((const struct listed *)b)->name);
}

static int export_dir(struct export *export, uint64_t dir, const char *path, struct ramet_error *err)
{
    struct listing listing = {0};
    int r = ramet_wfile_list(export->view, dir, 0, add_listed, &listing, true, err);
    if (r == 0 && listing.failed)
        r = no_memory(err);
    if (listing.count > 0)
        qsort(listing.items, listing.count, sizeof *listing.items, by_listed_name);
    for (size_t i = 0; i < listing.count; i++) {
        _autofree_ char *sub = NULL;
        const struct listed *item = &listing.items[i];
        if (r == 0 && asprintf(&sub, "%s/%s", path, item->name) < 0) {
            sub = NULL;
            r = no_memory(err);
        }
        if (r == 0)
            r = export_one(export, sub, &item->stat, err);
        if (r == 0 && S_ISDIR(item->stat.mode))
            r = export_dir(export, item->stat.ino, sub, err);
        free(item->name);
    }
    free(listing.items);
    return r;
}

/* The inode at a path from the root, and its last name, "" of the root. No symlink is followed. */
static int find_path(struct ramet_workspace *view, const char *path, struct ramet_wstat *ret, char last[NAME_MAX + 1],
                     struct ramet_error *err)
{
    const char *at = path;
    int r = ramet_wfile_stat(view, RAMET_WORKSPACE_ROOT, ret, err);
    last[0] = '\0';
    while (r == 0 && *(at += strspn(at, "/"))) {
        size_t size = strcspn(at, "/");
        if (size > NAME_MAX)
            return ramet_error_set(err, RAMET_NOT_FOUND, "no \"%.300s\" in the workspace", path);
        snprintf(last, NAME_MAX + 1, "%.*s", (int)size, at);
        at += size;
        if (strcmp(last, ".") == 0) {
            last[0] = '\0';
            continue;
        }
        r = S_ISDIR(ret->mode) ? ramet_wfile_lookup(view, ret->ino, last, ret, err) : -RAMET_NOT_FOUND;
        if (r == -RAMET_NOT_FOUND)
            ramet_error_set(err, RAMET_NOT_FOUND, "no \"%.300s\" in the workspace", path);
    }
    return r;
}

int ramet_workspace_has_path(struct ramet_workspace *view, const char *path, struct ramet_error *err)
{
    char last[NAME_MAX + 1];
    struct ramet_wstat stat;
    return find_path(view, path, &stat, last, err);
}

static int export_all(struct ramet_workspace *workspace, const char *path, struct export *export,
                      struct ramet_warchive_sums *ret, struct ramet_error *err)
{
    _cleanup_(ramet_wview_cleanup) struct ramet_workspace *view = NULL;
    char last[NAME_MAX + 1];
    struct ramet_wstat top;
    int r = ramet_wview_open(workspace, &view, err);
    export->view = view;
    export->buf = malloc(block);
    if (r == 0 && !export->buf)
        r = no_memory(err);
    if (r == 0)
        r = find_path(view, path, &top, last, err);
    if (r == 0)
        r = export_one(export, S_ISDIR(top.mode) ? export->prefix : last, &top, err);
    if (r == 0 && S_ISDIR(top.mode))
        r = export_dir(export, top.ino, export->prefix, err);
    if (archive_write_close(export->archive) < ARCHIVE_WARN && r == 0)
        r = ramet_archive_failed(export->archive, "cannot end an archive", err);
    for (size_t i = 0; i < export->path_count; i++)
        free(export->paths[i]);
    free(export->paths);
    free(export->buf);
    ramet_u64map_free(&export->first);
    if (r == 0 && ret)
        *ret = export->sums;
    return r;
}

int ramet_workspace_export_tar(struct ramet_workspace *workspace, const char *path, int fd,
                               struct ramet_warchive_sums *ret, struct ramet_error *err)
{
    struct export export = {.archive = archive_write_new(), .prefix = "."};
    if (!export.archive)
        return no_memory(err);
    archive_write_set_format_pax(export.archive);
    int r = archive_write_open_fd(export.archive, fd) == ARCHIVE_OK
                ? 0
                : ramet_archive_failed(export.archive, "cannot write an archive", err);
    if (r == 0)
        r = export_all(workspace, path, &export, ret, err);
    archive_write_free(export.archive);
    return r;
}

int ramet_workspace_export_dir(struct ramet_workspace *workspace, const char *path, struct ramet_warchive_sums *ret,
                               struct ramet_error *err)
{
    struct export export = {.to_disk = true, .prefix = path};
    if (access(path, F_OK) == 0)
        return ramet_error_set(err, RAMET_EXISTS, "%s is there already", path);
    export.archive = archive_write_disk_new();
    if (!export.archive)
        return no_memory(err);
    archive_write_disk_set_options(export.archive, ARCHIVE_EXTRACT_OWNER | ARCHIVE_EXTRACT_PERM | ARCHIVE_EXTRACT_TIME |
                                                       ARCHIVE_EXTRACT_XATTR | ARCHIVE_EXTRACT_SPARSE |
                                                       ARCHIVE_EXTRACT_UNLINK);
    int r = export_all(workspace, "", &export, ret, err);
    archive_write_free(export.archive);
    return r;
}
