/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inodes without a name: those that are open, and those too large to go in one change. Each
 * has an ORPHAN record, so that a crash loses none: what is left over of them goes after
 * the first change of the head that finds them (ramet_wfiles.leftovers). A fork inherits
 * the records of its parent and not the uses, so it reaps them likewise.
 *
 * `orphans` names those that are in use. Who makes an inode an orphan enters it there in
 * the same step as it looks at `uses`; who takes the last use away looks there.
 */
#include "base/codec.h"
#include "base/file.h"
#include "task.h"
#include "workspace_private.h"

#include <stdatomic.h>
#include <string.h>
#include <time.h>

enum { erase_groups = 1024 }; /* 256 MiB of pages go in one change */

static void put_orphan(struct ramet_wtask *task, uint64_t ino)
{
    struct ramet_wkey key;
    ramet_wkey_orphan(&key, ino);
    ramet_wchange_put(task->change, &key, "", 0);
    task->orphan = ino;
}

/* Whether it is in use; enters it into `orphans` then. */
static bool enter_orphan(struct ramet_wtask *task, uint64_t ino, uint64_t more_uses)
{
    struct ramet_wfiles *files = &task->workspace->files;
    uint64_t uses = 0;
    pthread_mutex_lock(&files->lock);
    ramet_u64map_get(&files->uses, ino, &uses);
    if (more_uses > 0 && !ramet_u64map_put(&files->uses, ino, uses + more_uses))
        task->failed = true;
    if (uses + more_uses > 0 && !ramet_u64map_put(&files->orphans, ino, 1))
        task->failed = true;
    pthread_mutex_unlock(&files->lock);
    return uses + more_uses > 0;
}

void ramet_wtask_orphan_used(struct ramet_wtask *task, uint64_t ino)
{
    put_orphan(task, ino);
    enter_orphan(task, ino, 1);
}

static void delete_record(struct ramet_wtask *task, uint64_t ino, const struct ramet_wkey *key,
                          const struct ramet_wvalue *value, struct ramet_winode *inode)
{
    ramet_wref refs[RAMET_WGROUP];
    ramet_wchange_delete(task->change, key);
    if (key->type != RAMET_WTYPE_BLOCKS || ramet_wgroup_decode(value, ino, refs, NULL) < 0)
        return;
    for (size_t i = 0; i < RAMET_WGROUP; i++)
        if (refs[i] != RAMET_WREF_HOLE) {
            ramet_wtask_gone(task, &refs[i], 1);
            inode->pages--;
        }
}

/* Deletes attributes and pages, up to the limit. 1: there are more. */
static int erase_some(struct ramet_wtask *task, uint64_t ino, struct ramet_winode *inode, struct ramet_error *err)
{
    struct ramet_wvalue value;
    struct ramet_wkey key;
    size_t groups = 0;
    ramet_wkey_first(&key, ino, RAMET_WTYPE_ENTRY);
    for (;;) {
        int r = ramet_wtree_next(ramet_workspace_tree(task->workspace), &key, &value, err);
        if (r == -RAMET_NOT_FOUND || (r == 0 && key.ino != ino))
            return 0;
        if (r < 0)
            return r;
        if (key.type == RAMET_WTYPE_BLOCKS && groups++ == erase_groups)
            return 1;
        delete_record(task, ino, &key, &value, inode);
        ramet_wkey_after(&key);
    }
}

static void delete_inode(struct ramet_wtask *task, uint64_t ino)
{
    struct ramet_wkey key;
    ramet_wkey_inode(&key, ino);
    ramet_wchange_delete(task->change, &key);
}

static int erase_all(struct ramet_wtask *task, uint64_t ino, struct ramet_winode *inode, struct ramet_error *err)
{
    int r = ramet_wtask_charge(task, -(int64_t)ramet_winode_blocks(inode) * 512, -1, err);
    if (r == 0)
        r = erase_some(task, ino, inode, err);
    delete_inode(task, ino);
    return r;
}

int ramet_wtask_dropped(struct ramet_wtask *task, uint64_t ino, struct ramet_winode *inode, struct ramet_error *err)
{
    inode->ctime_ns = task->now_ns;
    if (inode->nlink > 0) {
        ramet_wtask_put_inode(task, ino, inode);
        return 0;
    }
    bool used = enter_orphan(task, ino, 0);
    if (!used && inode->pages < (uint64_t)erase_groups * RAMET_WGROUP / 2)
        return erase_all(task, ino, inode, err);
    put_orphan(task, ino);
    task->orphan_unused = task->orphan_unused || !used;
    ramet_wtask_put_inode(task, ino, inode);
    return 0;
}

/* --- reaping --- */

static bool is_used(struct ramet_wfiles *files, uint64_t ino)
{
    uint64_t uses;
    pthread_mutex_lock(&files->lock);
    bool used = ramet_u64map_get(&files->uses, ino, &uses);
    if (!used)
        ramet_u64map_remove(&files->orphans, ino);
    pthread_mutex_unlock(&files->lock);
    return used;
}

/* One step of it: 1 when there is more to erase. */
static int reap_step(struct ramet_wtask *task, uint64_t ino, struct ramet_error *err)
{
    struct ramet_winode inode;
    struct ramet_wkey key;
    int r = ramet_winode_get(task->workspace, ino, &inode, err);
    if (r < 0 && r != -RAMET_NOT_FOUND)
        return r;
    bool there = r == 0;
    if (there && inode.nlink == 0 && is_used(&task->workspace->files, ino))
        return 0;
    ramet_wkey_orphan(&key, ino);
    if (!there || inode.nlink > 0) { /* it has a name again, or went before */
        ramet_wchange_delete(task->change, &key);
        return 0;
    }
    int64_t blocks = (int64_t)ramet_winode_blocks(&inode);
    r = erase_some(task, ino, &inode, err);
    if (r < 0)
        return r;
    if (r == 0) {
        ramet_wchange_delete(task->change, &key);
        delete_inode(task, ino);
        ramet_wtask_charge(task, -blocks * 512, -1, NULL);
    } else {
        inode.xattr_bytes = inode.xattr_names = 0;
        ramet_wtask_put_inode(task, ino, &inode);
        ramet_wtask_charge_inode(task, (uint64_t)blocks, &inode, NULL);
    }
    return r;
}

static void reap(struct ramet_workspace *workspace, uint64_t ino)
{
    struct ramet_error err;
    struct ramet_wtask task;
    int r = 1;
    while (r == 1 && ramet_wtask_begin(&task, workspace, &err) == 0) {
        r = reap_step(&task, ino, &err);
        int finished = ramet_wtask_finish(&task, r == 1 ? 0 : r, &err);
        r = finished < 0 ? finished : r;
    }
}

/* The next orphan at or after *ino. */
static bool next_orphan(struct ramet_workspace *workspace, uint64_t *ino)
{
    struct ramet_wvalue value;
    struct ramet_wkey key;
    if (ramet_wread_begin(workspace, NULL) < 0)
        return false;
    ramet_wkey_orphan(&key, *ino);
    bool found = ramet_wtree_next(ramet_workspace_tree(workspace), &key, &value, NULL) == 0 && key.ino == 0 &&
                 key.type == RAMET_WTYPE_ORPHAN && key.sub_size == 8;
    ramet_wread_end(workspace);
    if (found)
        *ino = ramet_get_be64(key.sub);
    return found;
}

/* One that cannot be erased now is tried again by the next opening. */
void ramet_wfiles_reap(struct ramet_workspace *workspace)
{
    if (!atomic_exchange(&workspace->files.leftovers, false))
        return;
    for (uint64_t ino = 0; next_orphan(workspace, &ino); ino++)
        if (!is_used(&workspace->files, ino))
            reap(workspace, ino);
}

/* --- uses --- */

void ramet_wfile_use(struct ramet_workspace *workspace, uint64_t ino)
{
    struct ramet_wfiles *files = &workspace->files;
    uint64_t uses = 0;
    pthread_mutex_lock(&files->lock);
    ramet_u64map_get(&files->uses, ino, &uses);
    ramet_u64map_put(&files->uses, ino, uses + 1);
    pthread_mutex_unlock(&files->lock);
}

void ramet_wfile_unuse(struct ramet_workspace *workspace, uint64_t ino, uint64_t count)
{
    struct ramet_wfiles *files = &workspace->files;
    uint64_t uses = 0, orphan = 0;
    pthread_mutex_lock(&files->lock);
    ramet_u64map_get(&files->uses, ino, &uses);
    if (uses > count) {
        ramet_u64map_put(&files->uses, ino, uses - count);
    } else {
        ramet_u64map_remove(&files->uses, ino);
        ramet_u64map_get(&files->orphans, ino, &orphan);
    }
    pthread_mutex_unlock(&files->lock);
    if (orphan)
        reap(workspace, ino);
}

/* --- a head comes and goes --- */

int ramet_wfiles_make(struct ramet_workspace *workspace, uint32_t uid, uint32_t gid, struct ramet_error *err)
{
    struct timespec now;
    struct ramet_wchange *change;
    struct ramet_winode root = {.mode = S_IFDIR | 0755, .uid = uid, .gid = gid, .nlink = 2};
    struct ramet_winfo info = {.inodes = 1};
    struct ramet_wkey key;
    uint8_t bytes[RAMET_WVALUE_MAX];
    clock_gettime(CLOCK_REALTIME, &now);
    root.parent = RAMET_WORKSPACE_ROOT;
    root.atime_ns = root.mtime_ns = root.ctime_ns = root.btime_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    ramet_random(info.hash_key, sizeof info.hash_key);
    int r = ramet_wchange_begin(workspace, &change, err);
    if (r < 0)
        return r;
    ramet_wkey_info(&key);
    ramet_wchange_put(change, &key, bytes, ramet_winfo_encode(&info, bytes));
    ramet_wkey_inode(&key, RAMET_WORKSPACE_ROOT);
    ramet_wchange_put(change, &key, bytes, ramet_winode_encode(&root, bytes));
    r = ramet_wchange_apply(change, err);
    return r < 0 ? r : ramet_wfiles_open(workspace, err);
}

int ramet_wfiles_open(struct ramet_workspace *workspace, struct ramet_error *err)
{
    struct ramet_wfiles *files = &workspace->files;
    struct ramet_wvalue value;
    struct ramet_winfo info;
    struct ramet_wkey key;
    ramet_wkey_info(&key);
    int r = ramet_wtree_get(ramet_workspace_tree(workspace), &key, &value, err);
    if (r == -RAMET_NOT_FOUND)
        r = ramet_error_set(err, RAMET_CORRUPT, "a workspace's tree has no record of its counts");
    if (r == 0)
        r = ramet_winfo_decode(&value, &info, err);
    if (r < 0)
        return r;
    ramet_wfiles_close(workspace);
    files->used_bytes = info.used_bytes;
    files->inodes = info.inodes;
    memcpy(files->hash_key, info.hash_key, sizeof files->hash_key);
    pthread_mutex_init(&files->lock, NULL);
    files->open = true;
    ramet_wkey_orphan(&key, 0);
    files->leftovers = !workspace->is_state &&
                       ramet_wtree_next(ramet_workspace_tree(workspace), &key, &value, NULL) == 0 && key.ino == 0 &&
                       key.type == RAMET_WTYPE_ORPHAN;
    return 0;
}

void ramet_wfiles_close(struct ramet_workspace *workspace)
{
    struct ramet_wfiles *files = &workspace->files;
    if (!files->open)
        return;
    ramet_u64map_free(&files->uses);
    ramet_u64map_free(&files->orphans);
    pthread_mutex_destroy(&files->lock);
    *files = (struct ramet_wfiles){0};
}
