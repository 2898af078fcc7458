/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Entries of directories, and what inodes know of their names. Names with equal hashes lie
 * side by side and differ in their nonce, so a cookie names one entry for as long as that
 * entry is there, and no other entry ever moves because of it.
 */
#include "task.h"
#include "workspace_private.h"

#include <errno.h>
#include <string.h>

int ramet_wname_check(const char *name, size_t *ret_size, struct ramet_error *err)
{
    size_t size = strnlen(name, RAMET_WNAME_MAX + 1);
    if (size == 0)
        return ramet_wfail(err, ENOENT, 0);
    if (size > RAMET_WNAME_MAX)
        return ramet_wfail(err, ENAMETOOLONG, 0);
    if (memchr(name, '/', size))
        return ramet_wfail(err, EINVAL, 0);
    *ret_size = size;
    return 0;
}

static uint64_t hash_of(struct ramet_workspace *workspace, const char *name, size_t size)
{
    return ramet_wname_hash(workspace->files.hash_key, name, size);
}

int ramet_wname_find(struct ramet_workspace *workspace, uint64_t dir, const char *name, struct ramet_wname *ret,
                     uint64_t *ret_cookie, struct ramet_error *err)
{
    struct ramet_wvalue value;
    struct ramet_wkey key;
    size_t size;
    int r = ramet_wname_check(name, &size, err);
    if (r < 0)
        return r;
    uint64_t hash = hash_of(workspace, name, size);
    ramet_wkey_entry(&key, dir, hash, name, size);
    r = ramet_wtree_get(ramet_workspace_tree(workspace), &key, &value, err);
    if (r == -RAMET_NOT_FOUND)
        return ramet_wfail(err, ENOENT, dir);
    if (r == 0)
        r = ramet_wname_decode(&value, dir, ret, err);
    if (r == 0 && ret_cookie)
        *ret_cookie = ramet_wcookie(hash, ret->nonce);
    return r;
}

/* Other names of this change are not in the tree yet. Two keys that mix to one only leave more room. */
static uint64_t added_key(uint64_t dir, uint64_t hash) { return dir * UINT64_C(0x9e3779b97f4a7c15) ^ hash; }

/* The nonce that a new name gets; EEXIST when the name is there. */
static int free_nonce(struct ramet_wtask *task, uint64_t dir, uint64_t hash, const char *name, size_t size,
                      uint8_t *ret, struct ramet_error *err)
{
    struct ramet_workspace *workspace = task->workspace;
    uint64_t taken = 0;
    if (task->many)
        ramet_u64map_get(&task->added, added_key(dir, hash), &taken);
    taken |= 1; /* 0 is none: a cookie is above 0 */
    struct ramet_wvalue value;
    struct ramet_wname entry;
    struct ramet_wkey key;
    ramet_wkey_entry(&key, dir, hash, NULL, 0);
    for (;;) {
        int r = ramet_wtree_next(ramet_workspace_tree(workspace), &key, &value, err);
        if (r == -RAMET_NOT_FOUND ||
            (r == 0 && (key.ino != dir || key.type != RAMET_WTYPE_ENTRY || ramet_wkey_hash(&key) != hash)))
            break;
        size_t other_size;
        const char *other = ramet_wkey_entry_name(&key, &other_size);
        if (r == 0)
            r = ramet_wname_decode(&value, dir, &entry, err);
        if (r == 0 && other_size == size && memcmp(other, name, size) == 0)
            r = ramet_wfail(err, EEXIST, entry.ino);
        if (r < 0)
            return r;
        taken |= UINT64_C(1) << entry.nonce;
        ramet_wkey_after(&key);
    }
    if (taken == UINT64_MAX)
        return ramet_wfail(err, ENOSPC, dir);
    *ret = (uint8_t)__builtin_ctzll(~taken);
    if (task->many && !ramet_u64map_put(&task->added, added_key(dir, hash), taken | UINT64_C(1) << *ret))
        task->failed = true;
    return 0;
}

static void put_entry(struct ramet_wtask *task, uint64_t dir, uint64_t hash, const char *name, size_t size,
                      const struct ramet_wname *entry)
{
    struct ramet_wkey key;
    uint8_t bytes[RAMET_WVALUE_MAX];
    ramet_wkey_entry(&key, dir, hash, name, size);
    ramet_wchange_put(task->change, &key, bytes, ramet_wname_encode(entry, bytes));
}

int ramet_wtask_add_name(struct ramet_wtask *task, uint64_t dir, const char *name, uint64_t ino, uint32_t type,
                         uint64_t *ret_cookie, struct ramet_error *err)
{
    struct ramet_wname entry = {.ino = ino, .type = type & S_IFMT};
    size_t size;
    int r = ramet_wname_check(name, &size, err);
    if (r < 0)
        return r;
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return ramet_wfail(err, EEXIST, dir);
    uint64_t hash = hash_of(task->workspace, name, size);
    r = free_nonce(task, dir, hash, name, size, &entry.nonce, err);
    if (r < 0)
        return r;
    put_entry(task, dir, hash, name, size, &entry);
    *ret_cookie = ramet_wcookie(hash, entry.nonce);
    return 0;
}

void ramet_wtask_put_name(struct ramet_wtask *task, uint64_t dir, const char *name, const struct ramet_wname *entry)
{
    size_t size = strlen(name);
    put_entry(task, dir, hash_of(task->workspace, name, size), name, size, entry);
}

void ramet_wtask_remove_name(struct ramet_wtask *task, uint64_t dir, const char *name)
{
    struct ramet_wkey key;
    size_t size = strlen(name);
    ramet_wkey_entry(&key, dir, hash_of(task->workspace, name, size), name, size);
    ramet_wchange_delete(task->change, &key);
}

/* --- an inode's names --- */

void ramet_wtask_inode_named(struct ramet_wtask *task, uint64_t ino, struct ramet_winode *inode, uint64_t dir,
                             uint64_t cookie)
{
    struct ramet_wkey key;
    if (inode->parent == 0) {
        inode->parent = dir;
        inode->cookie = cookie;
        return;
    }
    ramet_wkey_name(&key, ino, dir, cookie);
    ramet_wchange_put(task->change, &key, "", 0);
}

int ramet_wtask_inode_unnamed(struct ramet_wtask *task, uint64_t ino, struct ramet_winode *inode, uint64_t dir,
                              uint64_t cookie, struct ramet_error *err)
{
    struct ramet_wvalue value;
    struct ramet_wkey key;
    if (inode->parent != dir || inode->cookie != cookie) {
        ramet_wkey_name(&key, ino, dir, cookie);
        ramet_wchange_delete(task->change, &key);
        return 0;
    }
    inode->parent = inode->cookie = 0;
    if (S_ISDIR(inode->mode) || inode->nlink == 0)
        return 0;
    ramet_wkey_first(&key, ino, RAMET_WTYPE_NAME);
    int r = ramet_wtree_next(ramet_workspace_tree(task->workspace), &key, &value, err);
    if (r == -RAMET_NOT_FOUND || (r == 0 && !ramet_wkey_is_name(&key, ino)))
        return 0;
    if (r < 0)
        return r;
    ramet_wkey_name_parts(&key, &inode->parent, &inode->cookie);
    ramet_wchange_delete(task->change, &key);
    return 0;
}

void ramet_wtask_inode_moved(struct ramet_wtask *task, uint64_t ino, struct ramet_winode *inode, const uint64_t from[2],
                             const uint64_t to[2])
{
    struct ramet_wkey key;
    if (inode->parent == from[0] && inode->cookie == from[1]) {
        inode->parent = to[0];
        inode->cookie = to[1];
        return;
    }
    ramet_wkey_name(&key, ino, from[0], from[1]);
    ramet_wchange_delete(task->change, &key);
    ramet_wkey_name(&key, ino, to[0], to[1]);
    ramet_wchange_put(task->change, &key, "", 0);
}
