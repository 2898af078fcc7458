/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "base/record.h"
#include "sample_workspaces.h"

#include "workspace/files.h"
#include "workspace/view.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { many = 32, step_bytes = 64 << 10 };

struct entry {
    char name[256];
    uint64_t ino, cookie;
    uint32_t type;
};

struct telling {
    struct ramet_workspace *ws;
    const char *owner; /* "NAME@STATE" */
    struct sample_lines *lines;
};

static void add_failure(struct sample_lines *lines, const char *name, int status, const struct ramet_error *err)
{
    struct sample_line *line = sample_add(lines);
    snprintf(line->name, sizeof line->name, "%s", name);
    line->status = status;
    line->err = *err;
}

/* One line for all that is in `of`, which is freed; a failure among them is told instead. */
static void fold(struct sample_lines *lines, const char *name, struct sample_lines *of)
{
    uint64_t hash = 0;
    for (size_t i = 0; i < of->count; i++) {
        const struct sample_line *one = &of->lines[i];
        if (one->status < 0)
            add_failure(lines, one->name, one->status, &one->err);
        /* Not the owner: trees that are equal have equal hashes. */
        const char *path = strchr(one->name, '/');
        hash = ramet_checksum(&hash, sizeof hash, path ? path : "", path ? strlen(path) : 0);
        hash = ramet_checksum(&hash, sizeof hash, one->value, strlen(one->value));
    }
    struct sample_line *line = sample_add(lines);
    snprintf(line->name, sizeof line->name, "%s", name);
    snprintf(line->value, sizeof line->value, "%zu lines %016" PRIx64, of->count, hash);
    sample_lines_free(of);
}

/* --- one file --- */

/* " FROM+SIZE" of each range of data. */
static int add_ranges(struct ramet_workspace *ws, const struct ramet_wstat *stat, char *text, size_t room,
                      struct ramet_error *err)
{
    size_t used = strlen(text);
    uint64_t from, to = 0;
    int r = 0;
    while (to < stat->size && (r = ramet_wfile_seek(ws, stat->ino, to, SEEK_DATA, &from, err)) == 0 &&
           (r = ramet_wfile_seek(ws, stat->ino, from, SEEK_HOLE, &to, err)) == 0 && used < room)
        used += (size_t)snprintf(text + used, room - used, " %" PRIu64 "+%" PRIu64, from, to - from);
    return r < 0 && err->os_errno == ENXIO ? 0 : r;
}

static int add_data(struct ramet_workspace *ws, const struct ramet_wstat *stat, char *text, size_t room,
                    struct ramet_error *err)
{
    static uint8_t buf[step_bytes];
    uint64_t hash = 0;
    size_t got = 1, used = strlen(text);
    int r = 0;
    for (uint64_t at = 0; r == 0 && at < stat->size && got > 0; at += got) {
        r = ramet_wfile_read(ws, stat->ino, at, buf, sizeof buf, &got, err);
        if (r == 0)
            hash = ramet_checksum(&hash, sizeof hash, buf, got);
    }
    snprintf(text + used, room - used, " hash %016" PRIx64 " data", hash);
    return r == 0 ? add_ranges(ws, stat, text, room, err) : r;
}

/* Of a symlink: its beginning, and a hash of all of it. */
static int add_target(struct ramet_workspace *ws, const struct ramet_wstat *stat, char *text, size_t room,
                      struct ramet_error *err)
{
    char target[4096];
    size_t size = 0, used = strlen(text);
    int r = ramet_wfile_readlink(ws, stat->ino, target, &size, err);
    if (r == 0)
        snprintf(text + used, room - used, " to %.*s hash %016" PRIx64, size < 40 ? (int)size : 40, target,
                 ramet_checksum(target, 0, target, size));
    return r;
}

/* What an inode is, and the name by which it was found. */
static void tell_inode(const struct telling *t, const struct ramet_wstat *stat, const struct entry *entry,
                       const char *path)
{
    struct sample_line *line = sample_add(t->lines);
    char *text = line->value;
    size_t room = sizeof line->value;
    snprintf(line->name, sizeof line->name, "%s %s", t->owner, path);
    snprintf(text, room,
             "ino %" PRIu64 " mode %o of %u:%u links %u device %u:%u size %" PRIu64 " blocks %" PRIu64 " times %" PRId64
             " %" PRId64 " %" PRId64 " %" PRId64 " type %o cookie %" PRIx64,
             stat->ino, stat->mode, stat->uid, stat->gid, stat->nlink, stat->rdev_major, stat->rdev_minor, stat->size,
             stat->blocks, stat->atime_ns, stat->mtime_ns, stat->ctime_ns, stat->btime_ns, entry->type, entry->cookie);
    if (S_ISREG(stat->mode))
        line->status = add_data(t->ws, stat, text, room, &line->err);
    else if (S_ISLNK(stat->mode))
        line->status = add_target(t->ws, stat, text, room, &line->err);
}

static void tell_xattrs(const struct telling *t, uint64_t ino, const char *path)
{
    _autofree_ char *names = NULL;
    size_t names_size = 0;
    struct ramet_error err = {0};
    int r = ramet_wfile_list_xattr(t->ws, ino, &names, &names_size, &err);
    if (r < 0)
        add_failure(t->lines, path, r, &err);
    for (const char *name = names; r == 0 && name < names + names_size; name += strlen(name) + 1) {
        struct sample_line *line = sample_add(t->lines);
        _autofree_ void *value = NULL;
        size_t size = 0;
        snprintf(line->name, sizeof line->name, "%s %s#%s", t->owner, path, name);
        line->status = ramet_wfile_get_xattr(t->ws, ino, name, &value, &size, &line->err);
        if (line->status == 0)
            snprintf(line->value, sizeof line->value, "%zu bytes hash %016" PRIx64, size,
                     ramet_checksum(value, 0, value, size));
    }
}

/* --- a tree --- */

struct entries {
    struct entry *items; /* owned */
    size_t count;
};

static bool take_entry(void *ctx, const struct ramet_wentry *entry, const struct ramet_wstat *stat)
{
    struct entries *entries = ctx;
    (void)stat;
    entries->items = reallocarray(entries->items, entries->count + 1, sizeof *entries->items);
    if (!entries->items)
        abort();
    struct entry *item = &entries->items[entries->count++];
    snprintf(item->name, sizeof item->name, "%s", entry->name);
    item->ino = entry->ino;
    item->cookie = entry->cookie;
    item->type = entry->type;
    return true;
}

static int compare_entry(const void *a, const void *b)
{
    return strcmp(((const struct entry *)a)->name, ((const struct entry *)b)->name);
}

static void tell_dir(const struct telling *t, uint64_t dir, const char *path);

static void tell_entry(const struct telling *t, const struct entry *entry, const char *dir)
{
    char path[160];
    struct ramet_wstat stat;
    struct ramet_error err = {0};
    snprintf(path, sizeof path, "%.80s/%.70s", dir, entry->name);
    int r = ramet_wfile_stat(t->ws, entry->ino, &stat, &err);
    if (r < 0) {
        add_failure(t->lines, path, r, &err);
        return;
    }
    tell_inode(t, &stat, entry, path);
    tell_xattrs(t, stat.ino, path);
    if (S_ISDIR(stat.mode))
        tell_dir(t, stat.ino, path);
}

static void tell_dir(const struct telling *t, uint64_t dir, const char *path)
{
    struct entries entries = {0};
    struct sample_lines folded = {0};
    struct ramet_error err = {0};
    char name[160];
    int r = ramet_wfile_list(t->ws, dir, 0, take_entry, &entries, false, &err);
    if (r < 0)
        add_failure(t->lines, path, r, &err);
    bool is_folded = entries.count > many;
    struct telling inner = {t->ws, t->owner, is_folded ? &folded : t->lines};
    if (entries.count)
        qsort(entries.items, entries.count, sizeof *entries.items, compare_entry);
    for (size_t i = 0; i < entries.count; i++)
        tell_entry(&inner, &entries.items[i], path);
    snprintf(name, sizeof name, "%s %s/*", t->owner, path);
    if (is_folded)
        fold(t->lines, name, &folded);
    free(entries.items);
}

static void tell_tree(struct ramet_workspace *ws, const char *owner, struct sample_lines *lines)
{
    struct telling t = {ws, owner, lines};
    struct ramet_wstat stat;
    struct ramet_error err = {0};
    int r = ramet_wfile_stat(ws, RAMET_WORKSPACE_ROOT, &stat, &err);
    if (r < 0) {
        add_failure(lines, owner, r, &err);
        return;
    }
    tell_inode(&t, &stat, &(struct entry){0}, "/");
    tell_xattrs(&t, RAMET_WORKSPACE_ROOT, "/");
    tell_dir(&t, RAMET_WORKSPACE_ROOT, "");
}

/* --- heads --- */

static void tell_head(struct ramet_workspace *ws, const char *owner, struct sample_lines *lines)
{
    struct ramet_workspace_info info;
    struct sample_line *line = sample_add(lines);
    ramet_workspace_info(ws, &info);
    snprintf(line->name, sizeof line->name, "workspace %s", owner);
    snprintf(line->value, sizeof line->value,
             "serial %" PRIu64 " id %s name %s parent %s sandbox %s created %" PRId64 " used %" PRIu64
             " inodes %" PRIu64 " quota %" PRIu64 " %" PRIu64 " of %u:%u",
             info.serial, info.id, info.name, info.parent, info.sandbox, info.created_ms, info.used_bytes, info.inodes,
             info.quota_bytes, info.quota_inodes, info.uid, info.gid);
    tell_tree(ws, owner, lines);
}

static void tell_states(struct ramet_workspace *ws, const char *name, struct sample_lines *lines)
{
    _autofree_ struct ramet_workspace_state *states = NULL;
    size_t count = 0;
    struct ramet_error err = {0};
    int r = ramet_workspace_states(ws, &states, &count, &err);
    if (r < 0)
        add_failure(lines, name, r, &err);
    for (size_t i = 0; r == 0 && i < count; i++) {
        _cleanup_(ramet_workspace_cleanup) struct ramet_workspace *state = NULL;
        char owner[160];
        snprintf(owner, sizeof owner, "%s@%s", name, states[i].name);
        r = ramet_workspace_state_open(ws, states[i].name, &state, &err);
        if (r < 0)
            add_failure(lines, owner, r, &err);
        else
            tell_head(state, owner, lines);
    }
}

static void tell_base(struct ramet_workspace *ws, const char *name, struct sample_lines *lines)
{
    _cleanup_(ramet_wview_cleanup) struct ramet_workspace *base = NULL;
    struct sample_lines folded = {0};
    struct ramet_error err = {0};
    char owner[160];
    snprintf(owner, sizeof owner, "%s^", name);
    int r = ramet_workspace_base_open(ws, &base, &err);
    if (r < 0 && r != -RAMET_NOT_FOUND)
        add_failure(lines, owner, r, &err);
    if (r < 0)
        return;
    tell_tree(base, owner, &folded);
    fold(lines, owner, &folded);
}

void sample_workspaces_describe(struct ramet_workspaces *set, struct sample_lines *ret)
{
    struct ramet_workspace **all = NULL;
    size_t count = 0;
    struct ramet_error err = {0};
    *ret = (struct sample_lines){0};
    int r = ramet_workspaces_list(set, &all, &count, &err);
    if (r < 0)
        add_failure(ret, "workspaces", r, &err);
    for (size_t i = 0; i < count; i++) {
        struct ramet_workspace_info info;
        ramet_workspace_info(all[i], &info);
        tell_head(all[i], info.name, ret);
        tell_base(all[i], info.name, ret);
        tell_states(all[i], info.name, ret);
    }
    ramet_workspaces_list_free(all, count);
}
