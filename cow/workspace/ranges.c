/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ranges of files: allocating, punching, seeking, copying. Space is not set aside for what
 * was allocated: a store that dedups and compresses cannot know what a page will take. The
 * quota is looked at, and holes stay holes.
 */
#include "pages.h"

#include "base/codec.h"
#include "workspace_private.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { copy_most = 1 << 20 }; /* bytes that one call copies when it cannot share */

/* --- allocating and punching --- */

static int zero_range(struct ramet_wtask *task, uint64_t ino, struct ramet_winode *inode, uint64_t from, uint64_t to,
                      struct ramet_error *err)
{
    if (from >= ramet_least(to, inode->size))
        return 0;
    if (!inode->in_record) { /* the last page wholly: what follows the end means nothing */
        to = to < inode->size ? to : ramet_wpages_below(inode->size) * RAMET_WPAGE;
        return ramet_wpages_zero(task, ino, inode, from, to, err);
    }
    to = ramet_least(to, inode->size);
    memset(inode->bytes + from, 0, (size_t)(to - from));
    return 0;
}

/* Whether the quota has room for what is a hole there; no charge. */
static int check_room(struct ramet_wtask *task, uint64_t ino, const struct ramet_winode *inode, uint64_t offset,
                      uint64_t size, struct ramet_error *err)
{
    ramet_wref refs[RAMET_WGROUP];
    uint64_t first = offset / RAMET_WPAGE, end = ramet_wpages_below(offset + size);
    uint64_t have = ramet_wpages_below(inode->size), holes = end > have ? end - (first > have ? first : have) : 0;
    if (task->workspace->quota_bytes == 0)
        return 0;
    for (uint64_t page = first; page < ramet_least(end, have); page += RAMET_WGROUP) {
        size_t count = (size_t)ramet_least(RAMET_WGROUP, ramet_least(end, have) - page);
        int r = ramet_wpages_refs(task->workspace, ino, page, count, refs, err);
        if (r < 0)
            return r;
        for (size_t i = 0; i < count; i++)
            holes += refs[i] == RAMET_WREF_HOLE;
    }
    if (holes > INT64_MAX / RAMET_WPAGE)
        return ramet_wfail(err, EDQUOT, ino);
    int64_t bytes = (int64_t)(holes * RAMET_WPAGE);
    int r = ramet_wtask_charge(task, bytes, 0, err);
    task->bytes -= bytes;
    return r;
}

static int allocate(struct ramet_wtask *task, uint64_t ino, struct ramet_winode *inode, int mode, uint64_t offset,
                    uint64_t size, struct ramet_error *err)
{
    int r = 0;
    if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
        r = zero_range(task, ino, inode, offset, offset + size, err);
    else
        r = check_room(task, ino, inode, offset, size, err);
    if (r == 0 && !(mode & FALLOC_FL_KEEP_SIZE) && offset + size > inode->size)
        r = ramet_wtask_truncate(task, ino, inode, offset + size, err);
    return r;
}

int ramet_wfile_allocate(struct ramet_workspace *workspace, uint64_t ino, int mode, uint64_t offset, uint64_t size,
                         struct ramet_error *err)
{
    struct ramet_winode inode;
    struct ramet_wtask task;
    if (mode != 0 && mode != FALLOC_FL_KEEP_SIZE && mode != (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE) &&
        mode != FALLOC_FL_ZERO_RANGE && mode != (FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE))
        return ramet_wfail(err, EOPNOTSUPP, ino);
    if (size == 0)
        return ramet_wfail(err, EINVAL, ino);
    if (offset > INT64_MAX || size > INT64_MAX - offset)
        return ramet_wfail(err, EFBIG, ino);
    int r = ramet_wtask_begin(&task, workspace, err);
    if (r < 0)
        return r;
    r = ramet_wtask_inode(&task, ino, &inode, err);
    if (r == 0 && !S_ISREG(inode.mode))
        r = ramet_wfail(err, ENODEV, ino);
    if (r == 0)
        r = allocate(&task, ino, &inode, mode, offset, size, err);
    if (r == 0) {
        inode.mtime_ns = inode.ctime_ns = task.now_ns;
        ramet_wtask_put_inode(&task, ino, &inode);
    }
    return ramet_wtask_end(&task, r, err);
}

/* --- seeking --- */

/* The first page from `page` on that holds data, or that does not; `end` when there is none. */
static int find_page(struct ramet_workspace *workspace, uint64_t ino, uint64_t page, uint64_t end, bool data,
                     uint64_t *ret, struct ramet_error *err)
{
    ramet_wref refs[RAMET_WGROUP];
    struct ramet_wvalue value;
    struct ramet_wkey key;
    while (page < end) {
        ramet_wkey_group(&key, ino, page / RAMET_WGROUP);
        int r = ramet_wtree_next(ramet_workspace_tree(workspace), &key, &value, err);
        if (r < 0 && r != -RAMET_NOT_FOUND)
            return r;
        bool there = r == 0 && key.ino == ino && key.type == RAMET_WTYPE_BLOCKS;
        uint64_t group = there ? ramet_get_be64(key.sub) : UINT64_MAX / RAMET_WGROUP;
        if (group > page / RAMET_WGROUP) { /* nothing up to there */
            if (!data)
                break;
            page = group * RAMET_WGROUP;
            continue;
        }
        if ((r = ramet_wgroup_decode(&value, ino, refs, err)) < 0)
            return r;
        do {
            if ((refs[page % RAMET_WGROUP] != RAMET_WREF_HOLE) == data) {
                *ret = ramet_least(page, end);
                return 0;
            }
        } while (++page % RAMET_WGROUP != 0);
    }
    *ret = ramet_least(page, end);
    return 0;
}

static int seek(struct ramet_workspace *workspace, uint64_t ino, const struct ramet_winode *inode, uint64_t offset,
                int whence, uint64_t *ret, struct ramet_error *err)
{
    bool data = whence == SEEK_DATA;
    uint64_t page = 0, end = ramet_wpages_below(inode->size);
    if (!S_ISREG(inode->mode) || (!data && whence != SEEK_HOLE))
        return ramet_wfail(err, EINVAL, ino);
    if (offset >= inode->size)
        return ramet_wfail(err, ENXIO, ino);
    if (inode->in_record) {
        *ret = data ? offset : inode->size;
        return 0;
    }
    int r = find_page(workspace, ino, offset / RAMET_WPAGE, end, data, &page, err);
    if (r < 0)
        return r;
    if (data && page == end)
        return ramet_wfail(err, ENXIO, ino);
    uint64_t at = page == end ? inode->size : page * RAMET_WPAGE;
    *ret = at < offset ? offset : at;
    return 0;
}

int ramet_wfile_seek(struct ramet_workspace *workspace, uint64_t ino, uint64_t offset, int whence, uint64_t *ret,
                     struct ramet_error *err)
{
    struct ramet_winode inode;
    int r = ramet_wread_begin(workspace, err);
    if (r < 0)
        return r;
    r = ramet_winode_get(workspace, ino, &inode, err);
    if (r == 0)
        r = seek(workspace, ino, &inode, offset, whence, ret, err);
    ramet_wread_end(workspace);
    return r;
}

/* --- copying --- */

struct copy {
    uint64_t from, from_offset, to, to_offset, size;
    struct ramet_winode source, target; /* the same file: only `target` is kept current */
};

/* Through a buffer. */
static int copy_bytes(struct ramet_wtask *task, struct copy *copy, uint64_t size, struct ramet_error *err)
{
    const struct ramet_winode *source = copy->from == copy->to ? &copy->target : &copy->source;
    size_t got = 0;
    uint8_t *buf = malloc(size > 0 ? size : 1);
    if (!buf)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to copy a file");
    int r = ramet_winode_read(task->workspace, copy->from, source, copy->from_offset, buf, size, &got, err);
    if (r == 0)
        r = ramet_wtask_write(task, copy->to, &copy->target, copy->to_offset, buf, got, err);
    free(buf);
    copy->from_offset += size, copy->to_offset += size, copy->size -= size;
    return r;
}

/* Whole pages; the end of the target lies at or before where they go, or behind them. */
static int share_pages(struct ramet_wtask *task, struct copy *copy, uint64_t bytes, struct ramet_error *err)
{
    size_t count = (size_t)ramet_wpages_below(bytes);
    ramet_wref *refs = malloc(count * sizeof *refs);
    if (!refs)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to copy a file");
    int r = 0;
    if (copy->to_offset > copy->target.size)
        r = ramet_wtask_truncate(task, copy->to, &copy->target, copy->to_offset, err);
    if (r == 0)
        r = ramet_wtask_leave_record(task, copy->to, &copy->target, err);
    if (r == 0)
        r = ramet_wtask_refs(task, copy->from, copy->from_offset / RAMET_WPAGE, count, refs, err);
    if (r == 0)
        r = ramet_wpages_share(task, copy->to, &copy->target, copy->to_offset / RAMET_WPAGE, refs, count, err);
    free(refs);
    copy->from_offset += bytes, copy->to_offset += bytes, copy->size -= bytes;
    if (copy->to_offset > copy->target.size)
        copy->target.size = copy->to_offset;
    return r;
}

/* The last page of the source is shared too where the target ends with it: what follows the end means nothing. */
static uint64_t bytes_to_share(const struct copy *copy)
{
    uint64_t whole = copy->size - copy->size % RAMET_WPAGE;
    bool at_end = copy->from_offset + copy->size == copy->source.size;
    return at_end && copy->to_offset + copy->size >= copy->target.size ? copy->size : whole;
}

static int copy_range(struct ramet_wtask *task, struct copy *copy, struct ramet_error *err)
{
    uint64_t inside = copy->from_offset % RAMET_WPAGE;
    if (copy->source.in_record || inside != copy->to_offset % RAMET_WPAGE || copy->size < RAMET_WPAGE) {
        copy->size = ramet_least(copy->size, copy_most);
        return copy_bytes(task, copy, copy->size, err);
    }
    int r = inside > 0 ? copy_bytes(task, copy, RAMET_WPAGE - inside, err) : 0;
    uint64_t share = bytes_to_share(copy);
    if (r == 0 && share > 0)
        r = share_pages(task, copy, share, err);
    if (r == 0 && copy->size > 0)
        r = copy_bytes(task, copy, copy->size, err);
    return r;
}

static int begin_copy(struct ramet_wtask *task, struct copy *copy, struct ramet_error *err)
{
    int r = ramet_wtask_inode(task, copy->from, &copy->source, err);
    if (r == 0)
        r = ramet_wtask_inode(task, copy->to, &copy->target, err);
    if (r < 0)
        return r;
    if (!S_ISREG(copy->source.mode) || !S_ISREG(copy->target.mode))
        return ramet_wfail(err, S_ISDIR(copy->source.mode) || S_ISDIR(copy->target.mode) ? EISDIR : EINVAL, copy->to);
    uint64_t left = copy->from_offset < copy->source.size ? copy->source.size - copy->from_offset : 0;
    copy->size = ramet_least(ramet_least(copy->size, left), UINT64_C(1) << 30);
    if (copy->size > INT64_MAX - copy->to_offset)
        return ramet_wfail(err, EFBIG, copy->to);
    if (copy->from == copy->to && copy->from_offset < copy->to_offset + copy->size &&
        copy->to_offset < copy->from_offset + copy->size)
        return ramet_wfail(err, EINVAL, copy->to);
    return 0;
}

int ramet_wfile_copy(struct ramet_workspace *workspace, uint64_t from, uint64_t from_offset, uint64_t to,
                     uint64_t to_offset, uint64_t size, uint64_t *ret_size, struct ramet_error *err)
{
    struct copy copy = {.from = from, .from_offset = from_offset, .to = to, .to_offset = to_offset, .size = size};
    struct ramet_wtask task;
    if (from_offset > INT64_MAX || to_offset > INT64_MAX)
        return ramet_wfail(err, EINVAL, to);
    int r = ramet_wtask_begin(&task, workspace, err);
    if (r < 0)
        return r;
    r = begin_copy(&task, &copy, err);
    if (r == 0 && copy.size > 0) {
        r = copy_range(&task, &copy, err);
        copy.target.mtime_ns = copy.target.ctime_ns = task.now_ns;
        if (r == 0)
            ramet_wtask_put_inode(&task, to, &copy.target);
    }
    r = ramet_wtask_end(&task, r, err);
    if (r == 0)
        *ret_size = copy.to_offset - to_offset;
    return r;
}
