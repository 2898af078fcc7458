/* SPDX-License-Identifier: Apache-2.0 */
/* Names going away, moving, and being listed. */
#include "task.h"
#include "workspace_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#define RENAME_EXCHANGE 2
#endif

/* One side of a rename, or what is unlinked. */
struct place {
    uint64_t dir;
    const char *name;
    uint64_t at[2]; /* directory and cookie */
    struct ramet_wname entry;
    struct ramet_winode inode;
    bool there;
};

/* The directory has to be there, the name not. */
static int find_place(struct ramet_wtask *task, uint64_t dir, const char *name, struct place *ret,
                      struct ramet_error *err)
{
    struct ramet_winode in;
    ret->dir = ret->at[0] = dir;
    ret->name = name;
    int r = ramet_wtask_dir(task, dir, &in, err);
    if (r < 0)
        return r;
    r = ramet_wname_find(task->workspace, dir, name, &ret->entry, &ret->at[1], err);
    ret->there = r == 0;
    if (r == -RAMET_NOT_FOUND && name[0] != '\0')
        return 0;
    return r < 0 ? r : ramet_wtask_inode(task, ret->entry.ino, &ret->inode, err);
}

static int is_dot(const char *name) { return strcmp(name, ".") == 0 || strcmp(name, "..") == 0; }

/* The inode at `place` loses that name; a directory must be empty. Its entry is the caller's. */
static int take_name(struct ramet_wtask *task, struct place *place, struct ramet_error *err)
{
    bool is_dir = S_ISDIR(place->inode.mode);
    if (is_dir && place->inode.pages > 0)
        return ramet_wfail(err, ENOTEMPTY, place->entry.ino);
    place->inode.nlink = is_dir ? 0 : place->inode.nlink - 1;
    int r = ramet_wtask_inode_unnamed(task, place->entry.ino, &place->inode, place->at[0], place->at[1], err);
    return r < 0 ? r : ramet_wtask_dropped(task, place->entry.ino, &place->inode, err);
}

static int remove_place(struct ramet_wtask *task, struct place *place, bool is_rmdir, struct ramet_error *err)
{
    if (!place->there)
        return ramet_wfail(err, ENOENT, place->dir);
    if (S_ISDIR(place->inode.mode) != is_rmdir)
        return ramet_wfail(err, is_rmdir ? ENOTDIR : EISDIR, place->entry.ino);
    int r = take_name(task, place, err);
    if (r < 0)
        return r;
    ramet_wtask_remove_name(task, place->dir, place->name);
    return ramet_wtask_touch_dir(task, place->dir, -1, is_rmdir ? -1 : 0, err);
}

static int remove_name(struct ramet_workspace *workspace, uint64_t dir, const char *name, bool is_rmdir,
                       uint64_t *ret_ino, struct ramet_error *err)
{
    struct ramet_wtask task;
    struct place place;
    if (is_dot(name))
        return ramet_wfail(err, !is_rmdir ? EISDIR : name[1] ? ENOTEMPTY : EINVAL, dir);
    int r = ramet_wtask_begin(&task, workspace, err);
    if (r < 0)
        return r;
    r = find_place(&task, dir, name, &place, err);
    if (r == 0)
        r = remove_place(&task, &place, is_rmdir, err);
    r = ramet_wtask_end(&task, r, err);
    if (r == 0 && ret_ino)
        *ret_ino = place.entry.ino;
    return r;
}

int ramet_wfile_unlink(struct ramet_workspace *workspace, uint64_t dir, const char *name, uint64_t *ret_ino,
                       struct ramet_error *err)
{
    return remove_name(workspace, dir, name, false, ret_ino, err);
}

int ramet_wfile_rmdir(struct ramet_workspace *workspace, uint64_t dir, const char *name, uint64_t *ret_ino,
                      struct ramet_error *err)
{
    return remove_name(workspace, dir, name, true, ret_ino, err);
}

/* --- rename --- */

/* EINVAL when `dir` is `moved` or lies below it. */
static int check_loop(struct ramet_wtask *task, const struct place *moved, uint64_t dir, struct ramet_error *err)
{
    struct ramet_winode inode;
    if (!S_ISDIR(moved->inode.mode))
        return 0;
    while (dir != RAMET_WORKSPACE_ROOT) {
        if (dir == moved->entry.ino)
            return ramet_wfail(err, EINVAL, dir);
        int r = ramet_wtask_inode(task, dir, &inode, err);
        if (r < 0)
            return r;
        if (inode.parent == 0) /* in a directory that was removed */
            return ramet_wfail(err, ENOENT, dir);
        dir = inode.parent;
    }
    return 0;
}

/* The inode of `moved` is now at the place of `to`. */
static void move_inode(struct ramet_wtask *task, struct place *moved, const uint64_t to[2])
{
    ramet_wtask_inode_moved(task, moved->entry.ino, &moved->inode, moved->at, to);
    moved->inode.ctime_ns = task->now_ns;
    ramet_wtask_put_inode(task, moved->entry.ino, &moved->inode);
}

/* The entry of `place` names what `other` has. */
static void put_other(struct ramet_wtask *task, const struct place *place, const struct place *other)
{
    struct ramet_wname entry = other->entry;
    entry.nonce = place->entry.nonce;
    ramet_wtask_put_name(task, place->dir, place->name, &entry);
}

static int exchange(struct ramet_wtask *task, struct place *from, struct place *to, struct ramet_error *err)
{
    int from_dir = S_ISDIR(from->inode.mode) ? 1 : 0, to_dir = S_ISDIR(to->inode.mode) ? 1 : 0;
    int r = check_loop(task, from, to->dir, err);
    if (r == 0)
        r = check_loop(task, to, from->dir, err);
    if (r < 0)
        return r;
    put_other(task, from, to);
    put_other(task, to, from);
    const uint64_t at[2] = {from->at[0], from->at[1]};
    move_inode(task, from, to->at);
    move_inode(task, to, at);
    r = ramet_wtask_touch_dir(task, from->dir, 0, to_dir - from_dir, err);
    return r < 0 ? r : ramet_wtask_touch_dir(task, to->dir, 0, from_dir - to_dir, err);
}

static int check_replaced(const struct place *from, const struct place *to, struct ramet_error *err)
{
    bool from_dir = S_ISDIR(from->inode.mode), to_dir = S_ISDIR(to->inode.mode);
    if (from_dir && !to_dir)
        return ramet_wfail(err, ENOTDIR, to->entry.ino);
    return !from_dir && to_dir ? ramet_wfail(err, EISDIR, to->entry.ino) : 0;
}

static int move(struct ramet_wtask *task, struct place *from, struct place *to, struct ramet_error *err)
{
    int is_dir = S_ISDIR(from->inode.mode) ? 1 : 0;
    int r = check_loop(task, from, to->dir, err);
    if (r == 0 && to->there)
        r = check_replaced(from, to, err);
    if (r < 0)
        return r;
    if (to->there) {
        r = take_name(task, to, err);
        put_other(task, to, from);
    } else {
        r = ramet_wtask_add_name(task, to->dir, to->name, from->entry.ino, from->inode.mode, &to->at[1], err);
    }
    if (r < 0)
        return r;
    ramet_wtask_remove_name(task, from->dir, from->name);
    move_inode(task, from, to->at);
    r = ramet_wtask_touch_dir(task, from->dir, -1, -is_dir, err);
    return r < 0 ? r : ramet_wtask_touch_dir(task, to->dir, to->there ? 0 : 1, to->there ? 0 : is_dir, err);
}

static int rename_places(struct ramet_wtask *task, struct place *from, struct place *to, unsigned flags,
                         struct ramet_error *err)
{
    if (!from->there)
        return ramet_wfail(err, ENOENT, from->dir);
    if (flags == RENAME_NOREPLACE && to->there)
        return ramet_wfail(err, EEXIST, to->entry.ino);
    if (flags == RENAME_EXCHANGE && !to->there)
        return ramet_wfail(err, ENOENT, to->dir);
    if (to->there && from->entry.ino == to->entry.ino)
        return 0;
    return flags == RENAME_EXCHANGE ? exchange(task, from, to, err) : move(task, from, to, err);
}

int ramet_wfile_rename(struct ramet_workspace *workspace, uint64_t dir, const char *name, uint64_t new_dir,
                       const char *new_name, unsigned flags, struct ramet_error *err)
{
    struct place from, to;
    struct ramet_wtask task;
    if (flags != 0 && flags != RENAME_NOREPLACE && flags != RENAME_EXCHANGE)
        return ramet_wfail(err, EINVAL, dir);
    if (is_dot(name) || is_dot(new_name))
        return ramet_wfail(err, EBUSY, dir);
    int r = ramet_wtask_begin(&task, workspace, err);
    if (r < 0)
        return r;
    r = find_place(&task, dir, name, &from, err);
    if (r == 0)
        r = find_place(&task, new_dir, new_name, &to, err);
    if (r == 0)
        r = rename_places(&task, &from, &to, flags, err);
    return ramet_wtask_end(&task, r, err);
}

/* --- listing --- */

struct listing {
    struct ramet_workspace *workspace;
    uint64_t dir;
    bool (*emit)(void *ctx, const struct ramet_wentry *entry, const struct ramet_wstat *stat);
    void *ctx;
    bool with_stat;
};

/* An entry as it lies in the tree. */
struct record {
    struct ramet_wkey key;
    struct ramet_wname name;
};

/* The first entry of the directory at or after *key; NOT_FOUND past the last one. */
static int next_record(const struct listing *listing, const struct ramet_wkey *key, struct record *ret,
                       struct ramet_error *err)
{
    struct ramet_wvalue value;
    ret->key = *key;
    int r = ramet_wtree_next(ramet_workspace_tree(listing->workspace), &ret->key, &value, err);
    if (r == 0 && (ret->key.ino != listing->dir || ret->key.type != RAMET_WTYPE_ENTRY))
        return -RAMET_NOT_FOUND;
    return r < 0 ? r : ramet_wname_decode(&value, listing->dir, &ret->name, err);
}

/* The entry of this hash with the lowest nonce above `after`. */
static int next_of_hash(const struct listing *listing, uint64_t hash, uint8_t after, struct record *ret,
                        struct ramet_error *err)
{
    struct ramet_wkey key;
    struct record record;
    bool found = false;
    ramet_wkey_entry(&key, listing->dir, hash, NULL, 0);
    for (;;) {
        int r = next_record(listing, &key, &record, err);
        if (r == -RAMET_NOT_FOUND || (r == 0 && ramet_wkey_hash(&record.key) != hash))
            return found ? 0 : -RAMET_NOT_FOUND;
        if (r < 0)
            return r;
        if (record.name.nonce > after && (!found || record.name.nonce < ret->name.nonce)) {
            found = true;
            *ret = record;
        }
        key = record.key;
        ramet_wkey_after(&key);
    }
}

/* 1: the caller's buffer is full. */
static int emit(const struct listing *listing, const struct record *record, struct ramet_error *err)
{
    struct ramet_winode inode;
    struct ramet_wstat stat;
    char text[RAMET_WKEY_SUB_MAX + 1];
    size_t size;
    const char *bytes = ramet_wkey_entry_name(&record->key, &size);
    memcpy(text, bytes, size);
    text[size] = '\0';
    struct ramet_wentry entry = {.name = text,
                                 .ino = record->name.ino,
                                 .cookie = ramet_wcookie(ramet_wkey_hash(&record->key), record->name.nonce),
                                 .type = record->name.type};
    if (listing->with_stat) {
        int r = ramet_winode_get(listing->workspace, entry.ino, &inode, err);
        if (r < 0)
            return r;
        ramet_winode_stat(entry.ino, &inode, &stat);
    }
    return listing->emit(listing->ctx, &entry, listing->with_stat ? &stat : NULL) ? 0 : 1;
}

/* What comes after `nonce` among the entries of one hash. */
static int list_of_hash(const struct listing *listing, uint64_t hash, uint8_t nonce, struct ramet_error *err)
{
    struct record record;
    for (;;) {
        int r = next_of_hash(listing, hash, nonce, &record, err);
        if (r == -RAMET_NOT_FOUND)
            return 0;
        if (r == 0)
            r = emit(listing, &record, err);
        if (r != 0)
            return r;
        nonce = record.name.nonce;
    }
}

/* A walk along the entries holds one back until it knows the next: nearly always that has another hash. */
struct walk {
    const struct listing *listing;
    struct record held;
    bool holds;
};
enum { walk_full = 1, walk_ended, walk_equal };

static int walk_entry(void *ctx, const struct ramet_wkey *key, const struct ramet_wvalue *value,
                      struct ramet_error *err)
{
    struct walk *walk = ctx;
    if (key->ino != walk->listing->dir || key->type != RAMET_WTYPE_ENTRY)
        return walk_ended;
    if (walk->holds && ramet_wkey_hash(&walk->held.key) == ramet_wkey_hash(key))
        return walk_equal;
    int r = walk->holds ? emit(walk->listing, &walk->held, err) : 0;
    if (r != 0)
        return r;
    walk->holds = true;
    walk->held.key = *key;
    return ramet_wname_decode(value, key->ino, &walk->held.name, err);
}

static int list_from(const struct listing *listing, uint64_t hash, struct ramet_error *err)
{
    struct walk walk = {.listing = listing};
    struct ramet_wkey key;
    int r;
    do {
        walk.holds = false;
        ramet_wkey_entry(&key, listing->dir, hash, NULL, 0);
        r = ramet_wtree_walk(ramet_workspace_tree(listing->workspace), &key, walk_entry, &walk, err);
        if (r != walk_equal)
            break;
        hash = ramet_wkey_hash(&walk.held.key);
        r = list_of_hash(listing, hash++, 0, err);
    } while (r == 0);
    if (r == 0 || r == walk_ended)
        r = walk.holds ? emit(listing, &walk.held, err) : 0;
    return r;
}

int ramet_wfile_list(struct ramet_workspace *workspace, uint64_t dir, uint64_t cookie,
                     bool (*emit_one)(void *ctx, const struct ramet_wentry *entry, const struct ramet_wstat *stat),
                     void *ctx, bool with_stat, struct ramet_error *err)
{
    const struct listing listing = {workspace, dir, emit_one, ctx, with_stat};
    uint64_t hash = cookie >> RAMET_WNONCE_BITS;
    struct ramet_winode inode;
    int r = ramet_wread_begin(workspace, err);
    if (r < 0)
        return r;
    r = ramet_winode_get(workspace, dir, &inode, err);
    if (r == 0 && !S_ISDIR(inode.mode))
        r = ramet_wfail(err, ENOTDIR, dir);
    if (r == 0 && cookie > 0)
        r = list_of_hash(&listing, hash, (uint8_t)(cookie & ((1u << RAMET_WNONCE_BITS) - 1)), err);
    if (r == 0)
        r = list_from(&listing, cookie > 0 ? hash + 1 : 0, err);
    ramet_wread_end(workspace);
    return r == walk_full ? 0 : r;
}
