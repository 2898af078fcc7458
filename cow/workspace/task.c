/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The workspace's lock is held from begin to end of an operation. A change that fails
 * leaves the tree, the counts and the maps of uses as they were; pages it wrote are let go.
 */
#include "task.h"

#include "workspace_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static enum ramet_code code_of(int os_errno)
{
    switch (os_errno) {
    case ENOENT:
    case ESTALE:
    case ENODATA: return RAMET_NOT_FOUND;
    case EEXIST: return RAMET_EXISTS;
    case EPERM: return RAMET_DENIED;
    case EDQUOT:
    case ENOSPC: return RAMET_NO_SPACE;
    case EFBIG:
    case E2BIG:
    case ERANGE:
    case EMLINK:
    case ENAMETOOLONG: return RAMET_TOO_LARGE;
    case EROFS: return RAMET_READ_ONLY;
    case EOPNOTSUPP: return RAMET_UNSUPPORTED;
    case ENOTEMPTY: return RAMET_CONFLICT;
    default: return RAMET_INVALID;
    }
}

/* No printf and no strerror: a lookup of what is not there is ordinary work. */
int ramet_wfail(struct ramet_error *err, int os_errno, uint64_t ino)
{
    enum ramet_code code = code_of(os_errno);
    if (!err)
        return -(int)code;
    char digits[24], *at = digits + sizeof digits - 1;
    const char *text = strerrordesc_np(os_errno);
    *at = '\0';
    do {
        *--at = (char)('0' + ino % 10);
    } while (ino /= 10);
    err->code = (int)code;
    err->os_errno = os_errno;
    err->hint[0] = '\0';
    char *end = stpcpy(stpcpy(stpcpy(err->msg, "inode "), at), ": ");
    strncpy(end, text ? text : "failed", 64);
    return -(int)code;
}

/* What the mount should say when a workspace is no more, or is a state. */
static int lock_failed(int r, struct ramet_error *err)
{
    if (err && err->os_errno == 0)
        err->os_errno = r == -RAMET_NOT_FOUND ? ESTALE : ramet_code_errno(r);
    return r;
}

int ramet_wread_begin(struct ramet_workspace *workspace, struct ramet_error *err)
{
    int r = ramet_workspace_lock_shared(workspace, err);
    return r < 0 ? lock_failed(r, err) : 0;
}

void ramet_wread_end(struct ramet_workspace *workspace) { ramet_workspace_unlock(workspace); }

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int ramet_wtask_begin(struct ramet_wtask *task, struct ramet_workspace *workspace, struct ramet_error *err)
{
    task->workspace = workspace;
    task->change = NULL;
    task->bytes = task->inodes = 0;
    task->gone.items = task->fresh.items = NULL;
    task->gone.count = task->fresh.count = 0;
    task->orphan = 0;
    task->orphan_unused = task->failed = task->many = false;
    task->added = (struct ramet_u64map){0};
    task->now_ns = now_ns();
    int r = ramet_workspace_lock(workspace, err);
    if (r < 0)
        return lock_failed(r, err);
    r = ramet_wchange_begin(workspace, &task->change, err);
    if (r < 0)
        ramet_workspace_unlock(workspace);
    return r;
}

static const ramet_wref *refs_of(const struct ramet_wrefs *refs) { return refs->items ? refs->items : refs->few; }

static void refs_add(struct ramet_wtask *task, struct ramet_wrefs *refs, const ramet_wref *items, size_t count)
{
    enum { few = sizeof refs->few / sizeof *refs->few };
    size_t capacity = refs->items ? refs->capacity : few;
    if (refs->count + count > capacity) {
        while (capacity < refs->count + count)
            capacity *= 2;
        ramet_wref *grown = reallocarray(refs->items, capacity, sizeof *grown);
        if (!grown) {
            task->failed = true;
            return;
        }
        if (!refs->items)
            memcpy(grown, refs->few, refs->count * sizeof *grown);
        refs->items = grown;
        refs->capacity = capacity;
    }
    memcpy((refs->items ? refs->items : refs->few) + refs->count, items, count * sizeof *items);
    refs->count += count;
}

void ramet_wtask_gone(struct ramet_wtask *task, const ramet_wref *refs, size_t count)
{
    refs_add(task, &task->gone, refs, count);
}

void ramet_wtask_fresh(struct ramet_wtask *task, const ramet_wref *refs, size_t count)
{
    refs_add(task, &task->fresh, refs, count);
}

static void put_counts(struct ramet_wtask *task)
{
    struct ramet_wfiles *files = &task->workspace->files;
    struct ramet_winfo info = {.used_bytes = files->used_bytes + (uint64_t)task->bytes,
                               .inodes = files->inodes + (uint64_t)task->inodes};
    struct ramet_wkey key;
    uint8_t bytes[RAMET_WVALUE_MAX];
    memcpy(info.hash_key, files->hash_key, sizeof info.hash_key);
    ramet_wkey_info(&key);
    ramet_wchange_put(task->change, &key, bytes, ramet_winfo_encode(&info, bytes));
}

static void forget_orphan(struct ramet_wtask *task)
{
    struct ramet_wfiles *files = &task->workspace->files;
    if (task->orphan == 0 || task->orphan_unused)
        return;
    pthread_mutex_lock(&files->lock);
    ramet_u64map_remove(&files->orphans, task->orphan);
    pthread_mutex_unlock(&files->lock);
}

int ramet_wtask_finish(struct ramet_wtask *task, int r, struct ramet_error *err)
{
    struct ramet_wfiles *files = &task->workspace->files;
    if (r == 0 && task->failed)
        r = ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a change of a workspace");
    if (r == 0 && (task->bytes || task->inodes))
        put_counts(task);
    if (r == 0)
        r = ramet_wchange_apply(task->change, err);
    else
        ramet_wchange_abort(task->change);
    const struct ramet_wrefs *refs = r == 0 ? &task->gone : &task->fresh;
    if (r == 0) {
        files->used_bytes += (uint64_t)task->bytes;
        files->inodes += (uint64_t)task->inodes;
    } else {
        forget_orphan(task);
    }
    if (refs->count > 0)
        ramet_wdata_release(task->workspace, refs_of(refs), refs->count);
    ramet_u64map_free(&task->added);
    free(task->gone.items);
    free(task->fresh.items);
    if (r == 0 && task->orphan_unused)
        files->leftovers = true;
    ramet_workspace_unlock(task->workspace);
    return r;
}

int ramet_wtask_end(struct ramet_wtask *task, int r, struct ramet_error *err)
{
    r = ramet_wtask_finish(task, r, err);
    if (task->workspace->files.leftovers)
        ramet_wfiles_reap(task->workspace);
    return r;
}

/* --- counts --- */

static bool beyond(uint64_t used, int64_t more, uint64_t quota)
{
    return more > 0 && quota > 0 && used + (uint64_t)more > quota;
}

int ramet_wtask_charge(struct ramet_wtask *task, int64_t bytes, int64_t inodes, struct ramet_error *err)
{
    struct ramet_workspace *workspace = task->workspace;
    task->bytes += bytes;
    task->inodes += inodes;
    if (!(bytes > 0 && beyond(workspace->files.used_bytes, task->bytes, workspace->quota_bytes)) &&
        !(inodes > 0 && beyond(workspace->files.inodes, task->inodes, workspace->quota_inodes)))
        return 0;
    ramet_error_set(err, RAMET_NO_SPACE, "the workspace's quota of %llu bytes and %llu files is used up",
                    (unsigned long long)workspace->quota_bytes, (unsigned long long)workspace->quota_inodes);
    if (err)
        err->os_errno = EDQUOT;
    return -RAMET_NO_SPACE;
}

int ramet_wtask_charge_inode(struct ramet_wtask *task, uint64_t blocks_before, const struct ramet_winode *after,
                             struct ramet_error *err)
{
    int64_t blocks = (int64_t)(ramet_winode_blocks(after) - blocks_before);
    return blocks == 0 ? 0 : ramet_wtask_charge(task, blocks * 512, 0, err);
}

/* --- inodes --- */

static int decode_inode(int r, const struct ramet_wvalue *value, uint64_t ino, struct ramet_winode *ret,
                        struct ramet_error *err)
{
    if (r == -RAMET_NOT_FOUND)
        return ramet_wfail(err, ESTALE, ino);
    return r < 0 ? r : ramet_winode_decode(value, ino, ret, err);
}

int ramet_winode_get(struct ramet_workspace *workspace, uint64_t ino, struct ramet_winode *ret, struct ramet_error *err)
{
    struct ramet_wkey key;
    struct ramet_wvalue value;
    ramet_wkey_inode(&key, ino);
    return decode_inode(ramet_wtree_get(ramet_workspace_tree(workspace), &key, &value, err), &value, ino, ret, err);
}

int ramet_wtask_inode(struct ramet_wtask *task, uint64_t ino, struct ramet_winode *ret, struct ramet_error *err)
{
    struct ramet_wkey key;
    struct ramet_wvalue value;
    ramet_wkey_inode(&key, ino);
    return decode_inode(ramet_wchange_get(task->change, &key, &value, err), &value, ino, ret, err);
}

void ramet_wtask_put_inode(struct ramet_wtask *task, uint64_t ino, const struct ramet_winode *inode)
{
    struct ramet_wkey key;
    uint8_t bytes[RAMET_WVALUE_MAX];
    ramet_wkey_inode(&key, ino);
    ramet_wchange_put(task->change, &key, bytes, ramet_winode_encode(inode, bytes));
}

int ramet_wtask_touch_dir(struct ramet_wtask *task, uint64_t dir, int entries, int links, struct ramet_error *err)
{
    struct ramet_winode inode;
    int r = ramet_wtask_inode(task, dir, &inode, err);
    if (r < 0)
        return r;
    inode.pages += (uint64_t)(int64_t)entries;
    inode.nlink += (uint32_t)links;
    inode.mtime_ns = inode.ctime_ns = task->now_ns;
    ramet_wtask_put_inode(task, dir, &inode);
    return 0;
}

void ramet_winode_stat(uint64_t ino, const struct ramet_winode *inode, struct ramet_wstat *ret)
{
    *ret = (struct ramet_wstat){
        .ino = ino,
        .size = S_ISDIR(inode->mode) ? RAMET_WPAGE : inode->size,
        .blocks = ramet_winode_blocks(inode),
        .mode = inode->mode,
        .uid = inode->uid,
        .gid = inode->gid,
        .nlink = inode->nlink,
        .rdev_major = inode->rdev_major,
        .rdev_minor = inode->rdev_minor,
        .atime_ns = inode->atime_ns,
        .mtime_ns = inode->mtime_ns,
        .ctime_ns = inode->ctime_ns,
        .btime_ns = inode->btime_ns,
    };
}
