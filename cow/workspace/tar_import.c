/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Entries of an archive, or of a directory on the disk, into a workspace. Paths are walked
 * by name, through directories only, so that no archive writes where a symlink leads.
 * Directories get their times when all is in them.
 */
#include "archive.h"
#include "base/cleanup.h"
#include "base/u64map.h"
#include "files.h"
#include "tar.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

struct late_times {
    uint64_t ino;
    struct ramet_wstat attr;
};

struct import {
    struct ramet_workspace *workspace;
    struct archive *archive;
    uint64_t into;     /* directory */
    const char *strip; /* a path on the disk that names begin with, or NULL */
    dev_t device;      /* of the disk; its files with several names: inode there -> here */
    struct ramet_u64map linked;
    struct late_times *dirs;
    size_t dir_count;
    const struct ramet_wimport_rules *rules;
    struct ramet_warchive_sums sums;
};

static int no_memory(struct ramet_error *err) { return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to import"); }

/* The next part of a path, copied; *path moves behind it. False at the end. */
static bool next_part(const char **path, char part[NAME_MAX + 2])
{
    do {
        while (**path == '/')
            ++*path;
        size_t size = strcspn(*path, "/");
        if (size == 0)
            return false;
        snprintf(part, NAME_MAX + 2, "%.*s", (int)(size < NAME_MAX + 1 ? size : NAME_MAX + 1), *path);
        *path += size;
    } while (strcmp(part, ".") == 0);
    return true;
}

static struct ramet_wowner owner_of_missing(const struct import *import)
{
    return import->rules && import->rules->confined ? import->rules->owner : (struct ramet_wowner){0, 0};
}

/* The directory that the last part of `path` lies in, made where it is missing; the last part, "" for the root. */
static int walk(struct import *import, const char *path, uint64_t *ret_dir, char last[NAME_MAX + 2],
                struct ramet_error *err)
{
    char part[NAME_MAX + 2];
    const char *at = path;
    struct ramet_wstat stat;
    uint64_t dir = import->into;
    last[0] = '\0';
    while (next_part(&at, part)) {
        if (strcmp(part, "..") == 0)
            return ramet_error_set(err, RAMET_INVALID, "the archive's \"%s\" leads out of its directory", path);
        if (last[0]) {
            int r = ramet_wfile_lookup(import->workspace, dir, last, &stat, err);
            if (r == -RAMET_NOT_FOUND)
                r = ramet_wfile_make(import->workspace, dir, last, S_IFDIR | 0755, 0, 0, owner_of_missing(import),
                                     &stat, err);
            if (r == 0 && !S_ISDIR(stat.mode))
                r = ramet_error_set(err, RAMET_INVALID, "\"%s\" of \"%s\" is no directory", last, path);
            if (r < 0)
                return r;
            dir = stat.ino;
        }
        if (dir == RAMET_WORKSPACE_ROOT && strcmp(part, RAMET_WORKSPACE_RESERVED) == 0)
            return ramet_error_set(err, RAMET_INVALID, "the name \"%s\" is reserved in a workspace's root", part);
        memcpy(last, part, sizeof part);
    }
    *ret_dir = dir;
    return 0;
}

static int64_t ns_of(time_t seconds, long ns) { return (int64_t)seconds * 1000000000 + ns; }

static struct ramet_wowner owner_of(const struct import *import, struct archive_entry *entry)
{
    return import->rules && import->rules->confined
               ? import->rules->owner
               : (struct ramet_wowner){(uint32_t)archive_entry_uid(entry), (uint32_t)archive_entry_gid(entry)};
}

static int set_attributes(struct import *import, struct archive_entry *entry, uint64_t ino, bool is_dir,
                          struct ramet_error *err)
{
    struct ramet_wowner owner = owner_of(import, entry);
    struct ramet_wstat attr = {.mode = archive_entry_perm(entry),
                               .uid = owner.uid,
                               .gid = owner.gid,
                               .mtime_ns = ns_of(archive_entry_mtime(entry), archive_entry_mtime_nsec(entry)),
                               .atime_ns = ns_of(archive_entry_mtime(entry), archive_entry_mtime_nsec(entry))};
    unsigned set = RAMET_WSET_MODE | RAMET_WSET_UID | RAMET_WSET_GID | RAMET_WSET_MTIME | RAMET_WSET_ATIME;
    if (archive_entry_atime_is_set(entry))
        attr.atime_ns = ns_of(archive_entry_atime(entry), archive_entry_atime_nsec(entry));
    if (is_dir) {
        struct late_times *grown = reallocarray(import->dirs, import->dir_count + 1, sizeof *grown);
        if (!grown)
            return no_memory(err);
        import->dirs = grown;
        import->dirs[import->dir_count++] = (struct late_times){ino, attr};
    }
    return ramet_wfile_set(import->workspace, ino, &attr, set, NULL, err);
}

/* user.* and ACLs are anybody's; the others say what programs may do. */
static int check_xattr(const struct import *import, const char *name, struct ramet_error *err)
{
    if (!import->rules || !import->rules->confined || strncmp(name, "user.", 5) == 0 ||
        strncmp(name, "system.posix_acl_", 17) == 0)
        return 0;
    return ramet_error_set(err, RAMET_DENIED, "the attribute \"%.100s\" is only imported for admins", name);
}

static int set_xattrs(struct import *import, struct archive_entry *entry, uint64_t ino, struct ramet_error *err)
{
    const char *name;
    const void *value;
    size_t size;
    archive_entry_xattr_reset(entry);
    while (archive_entry_xattr_next(entry, &name, &value, &size) == ARCHIVE_OK) {
        int r = check_xattr(import, name, err);
        if (r == 0)
            r = ramet_wfile_set_xattr(import->workspace, ino, name, value, size, 0, err);
        if (r < 0)
            return r;
    }
    return 0;
}

static int take_content(struct import *import, struct archive_entry *entry, uint64_t ino, struct ramet_error *err)
{
    struct ramet_wstat attr = {.size = (uint64_t)archive_entry_size(entry)};
    const void *bytes;
    la_int64_t offset;
    size_t size;
    int got, r = 0;
    while (r == 0 && (got = archive_read_data_block(import->archive, &bytes, &size, &offset)) == ARCHIVE_OK) {
        if (size > 0)
            r = ramet_wfile_write(import->workspace, ino, (uint64_t)offset, bytes, size, false, false, NULL, err);
        import->sums.bytes += size;
    }
    if (r == 0 && got != ARCHIVE_EOF)
        r = ramet_archive_failed(import->archive, "cannot read an archive", err);
    /* A hole at the end. */
    return r < 0 ? r : ramet_wfile_set(import->workspace, ino, &attr, RAMET_WSET_SIZE, NULL, err);
}

/* What has the name goes, unless both are directories. 1: that is so. */
static int clear_place(struct import *import, uint64_t dir, const char *name, bool is_dir, struct ramet_wstat *stat,
                       struct ramet_error *err)
{
    int r = ramet_wfile_lookup(import->workspace, dir, name, stat, err);
    if (r == -RAMET_NOT_FOUND)
        return 0;
    if (r < 0)
        return r;
    if (S_ISDIR(stat->mode))
        return is_dir ? 1 : ramet_wfile_rmdir(import->workspace, dir, name, NULL, err);
    return ramet_wfile_unlink(import->workspace, dir, name, NULL, err);
}

static int make_link(struct import *import, const char *target, uint64_t dir, const char *name, struct ramet_error *err)
{
    struct ramet_wstat stat;
    char last[NAME_MAX + 2];
    uint64_t in;
    if (import->strip && strncmp(target, import->strip, strlen(import->strip)) == 0)
        target += strlen(import->strip);
    int r = walk(import, target, &in, last, err);
    if (r == 0)
        r = ramet_wfile_lookup(import->workspace, in, last, &stat, err);
    return r < 0 ? r : ramet_wfile_link(import->workspace, stat.ino, dir, name, &stat, err);
}

/* Whether it is another name of a file that was imported already: *ret_ino. */
static bool is_linked(struct import *import, struct archive_entry *entry, uint64_t *ret_ino)
{
    return import->strip && archive_entry_nlink(entry) > 1 && archive_entry_dev(entry) == import->device &&
           ramet_u64map_get(&import->linked, (uint64_t)archive_entry_ino64(entry), ret_ino);
}

static int make_entry(struct import *import, struct archive_entry *entry, uint64_t dir, const char *name,
                      struct ramet_wstat *stat, struct ramet_error *err)
{
    struct ramet_wowner owner = owner_of(import, entry);
    const char *target = archive_entry_symlink(entry);
    dev_t device = archive_entry_rdev(entry);
    mode_t type = archive_entry_filetype(entry);
    if (import->rules && import->rules->confined && (type == AE_IFCHR || type == AE_IFBLK))
        return ramet_error_set(err, RAMET_DENIED, "devices are only imported for admins");
    if (target)
        return ramet_wfile_symlink(import->workspace, dir, name, target, owner, stat, err);
    return ramet_wfile_make(import->workspace, dir, name, archive_entry_mode(entry), major(device), minor(device),
                            owner, stat, err);
}

static int import_entry(struct import *import, struct archive_entry *entry, struct ramet_error *err)
{
    const char *path = archive_entry_pathname(entry), *link = archive_entry_hardlink(entry);
    bool is_dir = archive_entry_filetype(entry) == AE_IFDIR && !link;
    struct ramet_wstat stat = {.ino = import->into};
    char name[NAME_MAX + 2];
    uint64_t dir;
    if (!path)
        return ramet_error_set(err, RAMET_INVALID, "the archive has an entry without a name");
    if (import->strip && strncmp(path, import->strip, strlen(import->strip)) == 0)
        path += strlen(import->strip);
    int r = walk(import, path, &dir, name, err);
    bool there = r == 0 && !name[0]; /* the directory itself */
    if (r == 0 && !there) {
        r = clear_place(import, dir, name, is_dir, &stat, err);
        there = r == 1;
        r = r < 0 ? r : 0;
    }
    if (r == 0 && link)
        return make_link(import, link, dir, name, err);
    uint64_t first;
    if (r == 0 && is_linked(import, entry, &first))
        return ramet_wfile_link(import->workspace, first, dir, name, &stat, err);
    if (r == 0 && !there)
        r = make_entry(import, entry, dir, name, &stat, err);
    if (r == 0 && import->strip && !is_dir && archive_entry_nlink(entry) > 1 &&
        archive_entry_dev(entry) == import->device &&
        !ramet_u64map_put(&import->linked, (uint64_t)archive_entry_ino64(entry), stat.ino))
        r = no_memory(err);
    if (r == 0 && archive_entry_filetype(entry) == AE_IFREG)
        r = take_content(import, entry, stat.ino, err);
    if (r == 0)
        r = set_xattrs(import, entry, stat.ino, err);
    return r < 0 ? r : set_attributes(import, entry, stat.ino, is_dir, err);
}

static int find_into(struct import *import, const char *into, struct ramet_error *err)
{
    char last[NAME_MAX + 2];
    struct ramet_wstat stat = {.ino = RAMET_WORKSPACE_ROOT, .mode = S_IFDIR};
    uint64_t dir;
    import->into = RAMET_WORKSPACE_ROOT;
    int r = walk(import, into, &dir, last, err);
    if (r == 0 && last[0]) {
        r = ramet_wfile_lookup(import->workspace, dir, last, &stat, err);
        if (r == -RAMET_NOT_FOUND)
            r = ramet_wfile_make(import->workspace, dir, last, S_IFDIR | 0755, 0, 0, owner_of_missing(import), &stat,
                                 err);
    }
    if (r == 0 && !S_ISDIR(stat.mode))
        r = ramet_error_set(err, RAMET_INVALID, "\"%s\" is no directory", into);
    import->into = stat.ino;
    return r;
}

static int import_all(struct import *import, const char *into, struct ramet_warchive_sums *ret, struct ramet_error *err)
{
    struct archive_entry *entry = archive_entry_new();
    _autofree_ char *last = NULL;
    int got = ARCHIVE_OK, r = entry ? find_into(import, into, err) : no_memory(err);
    while (r == 0 && (got = archive_read_next_header2(import->archive, entry)) != ARCHIVE_EOF) {
        if (got != ARCHIVE_OK && got != ARCHIVE_WARN) {
            r = ramet_archive_failed(import->archive, "cannot read an archive", err);
            if (last)
                ramet_error_prefix(err, "behind \"%.200s\"", last);
            break;
        }
        const char *path = archive_entry_pathname(entry);
        if (r == 0 && archive_entry_filetype(entry) == AE_IFSOCK)
            import->sums.skipped++;
        else if (r == 0)
            r = import_entry(import, entry, err);
        if (r < 0)
            ramet_error_prefix(err, "\"%.200s\"", path ? path : "?");
        import->sums.files++;
        free(last);
        last = path ? strdup(path) : NULL; /* for messages only */
        if (import->strip)
            archive_read_disk_descend(import->archive);
    }
    for (size_t i = import->dir_count; r == 0 && i-- > 0;)
        r = ramet_wfile_set(import->workspace, import->dirs[i].ino, &import->dirs[i].attr,
                            RAMET_WSET_MTIME | RAMET_WSET_ATIME, NULL, err);
    archive_entry_free(entry);
    free(import->dirs);
    ramet_u64map_free(&import->linked);
    if (r == 0 && ret)
        *ret = import->sums;
    return r;
}

int ramet_workspace_import_tar(struct ramet_workspace *workspace, const char *into, int fd,
                               const struct ramet_wimport_rules *rules, struct ramet_warchive_sums *ret,
                               struct ramet_error *err)
{
    struct import import = {.workspace = workspace, .archive = archive_read_new(), .rules = rules};
    if (!import.archive)
        return no_memory(err);
    archive_read_support_filter_gzip(import.archive);
    archive_read_support_filter_bzip2(import.archive);
    archive_read_support_filter_xz(import.archive);
    archive_read_support_filter_zstd(import.archive);
    archive_read_support_filter_lz4(import.archive);
    archive_read_support_format_tar(import.archive);
    archive_read_set_options(import.archive, "hdrcharset=BINARY");
    int r = archive_read_open_fd(import.archive, fd, 1 << 18) == ARCHIVE_OK
                ? 0
                : ramet_archive_failed(import.archive, "cannot read an archive", err);
    if (r == 0)
        r = import_all(&import, into, ret, err);
    archive_read_free(import.archive);
    return r;
}

int ramet_workspace_import_dir(struct ramet_workspace *workspace, const char *into, const char *path,
                               struct ramet_warchive_sums *ret, struct ramet_error *err)
{
    struct import import = {.workspace = workspace, .strip = path};
    struct stat st;
    if (stat(path, &st) < 0)
        return ramet_error_os(err, errno, "cannot read %s", path);
    import.device = st.st_dev;
    import.archive = archive_read_disk_new();
    if (!import.archive)
        return no_memory(err);
    archive_read_disk_set_symlink_physical(import.archive);
    archive_read_disk_set_behavior(import.archive, ARCHIVE_READDISK_NO_ACL | ARCHIVE_READDISK_NO_FFLAGS);
    int r = archive_read_disk_open(import.archive, path) == ARCHIVE_OK
                ? 0
                : ramet_archive_failed(import.archive, path, err);
    if (r == 0)
        r = import_all(&import, into, ret, err);
    archive_read_free(import.archive);
    return r;
}
