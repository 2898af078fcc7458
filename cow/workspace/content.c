/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The content of files: in the inode's record while it is small, else pages by reference in
 * BLOCKS records. A file moves to pages when it grows and back when it is truncated to
 * nothing.
 *
 * Bytes of the last page past the end of the file mean nothing: a crash may leave an
 * append's bytes there without the new size. Who moves the end up past them zeroes them,
 * so truncating writes no page, and a crash between the two loses nothing synced.
 */
#include "pages.h"
#include "task.h"
#include "workspace_private.h"

#include <errno.h>
#include <string.h>

/* --- reading --- */

static int read_pages(struct ramet_workspace *workspace, uint64_t ino, uint64_t offset, uint8_t *buf, size_t size,
                      struct ramet_error *err)
{
    ramet_wref refs[RAMET_WSPAN_FEW];
    uint8_t page[RAMET_WPAGE];
    while (size > 0) {
        size_t inside = offset % RAMET_WPAGE, some;
        if (inside > 0 || size < RAMET_WPAGE) {
            some = ramet_least(RAMET_WPAGE - inside, size);
            int r = ramet_wpages_refs(workspace, ino, offset / RAMET_WPAGE, 1, refs, err);
            if (r == 0)
                r = ramet_wdata_read(workspace, refs, 1, page, err);
            if (r < 0)
                return r;
            memcpy(buf, page + inside, some);
        } else {
            size_t count = ramet_least(size / RAMET_WPAGE, RAMET_WSPAN_FEW);
            some = count * RAMET_WPAGE;
            int r = ramet_wpages_refs(workspace, ino, offset / RAMET_WPAGE, count, refs, err);
            if (r == 0)
                r = ramet_wdata_read(workspace, refs, count, buf, err);
            if (r < 0)
                return r;
        }
        offset += some, buf += some, size -= some;
    }
    return 0;
}

int ramet_winode_read(struct ramet_workspace *workspace, uint64_t ino, const struct ramet_winode *inode,
                      uint64_t offset, void *buf, size_t size, size_t *ret_size, struct ramet_error *err)
{
    size = offset < inode->size ? ramet_least(size, inode->size - offset) : 0;
    int r = 0;
    if (inode->in_record)
        memcpy(buf, inode->bytes + (size > 0 ? offset : 0), size);
    else
        r = read_pages(workspace, ino, offset, buf, size, err);
    if (r == 0)
        *ret_size = size;
    return r;
}

static int check_file(const struct ramet_winode *inode, uint64_t ino, struct ramet_error *err)
{
    if (S_ISREG(inode->mode))
        return 0;
    return ramet_wfail(err, S_ISDIR(inode->mode) ? EISDIR : EINVAL, ino);
}

int ramet_wfile_read(struct ramet_workspace *workspace, uint64_t ino, uint64_t offset, void *buf, size_t size,
                     size_t *ret_size, struct ramet_error *err)
{
    struct ramet_winode inode;
    int r = ramet_wread_begin(workspace, err);
    if (r < 0)
        return r;
    r = ramet_winode_get(workspace, ino, &inode, err);
    if (r == 0)
        r = check_file(&inode, ino, err);
    if (r == 0)
        r = ramet_winode_read(workspace, ino, &inode, offset, buf, size, ret_size, err);
    ramet_wread_end(workspace);
    return r;
}

/* --- writing --- */

/* Zeroes [from, to), which lie inside the last page, as the end moves up past them. */
static int zero_tail(struct ramet_wtask *task, uint64_t ino, struct ramet_winode *inode, uint64_t to,
                     struct ramet_error *err)
{
    uint64_t from = inode->size, page_end = ramet_wpages_below(from) * RAMET_WPAGE;
    if (inode->in_record || from >= to || from == page_end)
        return 0;
    return ramet_wpages_zero(task, ino, inode, from, ramet_least(to, page_end), err);
}

int ramet_wtask_leave_record(struct ramet_wtask *task, uint64_t ino, struct ramet_winode *inode,
                             struct ramet_error *err)
{
    if (!inode->in_record)
        return 0;
    uint64_t blocks = ramet_winode_blocks(inode);
    inode->in_record = false;
    int r = ramet_wtask_charge_inode(task, blocks, inode, err);
    return r < 0 || inode->size == 0 ? r : ramet_wpages_write(task, ino, inode, 0, inode->bytes, inode->size, err);
}

int ramet_wtask_write(struct ramet_wtask *task, uint64_t ino, struct ramet_winode *inode, uint64_t offset,
                      const void *buf, size_t size, struct ramet_error *err)
{
    uint64_t end = offset + size, blocks = ramet_winode_blocks(inode);
    if (offset > INT64_MAX || end > INT64_MAX)
        return ramet_wfail(err, EFBIG, ino);
    if (size == 0)
        return 0;
    if (inode->in_record && end <= RAMET_WINLINE_MAX) {
        if (offset > inode->size)
            memset(inode->bytes + inode->size, 0, offset - inode->size);
        memcpy(inode->bytes + offset, buf, size);
        if (end > inode->size)
            inode->size = end;
        return ramet_wtask_charge_inode(task, blocks, inode, err);
    }
    int r = ramet_wtask_leave_record(task, ino, inode, err);
    if (r == 0)
        r = zero_tail(task, ino, inode, offset, err);
    if (r == 0)
        r = ramet_wpages_write(task, ino, inode, offset, buf, size, err);
    if (r == 0 && end > inode->size)
        inode->size = end;
    return r;
}

int ramet_wfile_write(struct ramet_workspace *workspace, uint64_t ino, uint64_t offset, const void *buf, size_t size,
                      bool append, bool kill_priv, uint64_t *ret_offset, struct ramet_error *err)
{
    struct ramet_winode inode;
    struct ramet_wtask task;
    int r = ramet_wtask_begin(&task, workspace, err);
    if (r < 0)
        return r;
    r = ramet_wtask_inode(&task, ino, &inode, err);
    if (r == 0)
        r = check_file(&inode, ino, err);
    if (r == 0) {
        if (append)
            offset = inode.size;
        r = ramet_wtask_write(&task, ino, &inode, offset, buf, size, err);
    }
    if (r == 0 && kill_priv)
        ramet_wtask_kill_priv(&task, ino, &inode);
    if (r == 0 && size > 0) {
        inode.mtime_ns = inode.ctime_ns = task.now_ns;
        ramet_wtask_put_inode(&task, ino, &inode);
    }
    r = ramet_wtask_end(&task, r, err);
    if (r == 0 && ret_offset)
        *ret_offset = offset;
    return r;
}

/* --- size --- */

int ramet_wtask_truncate(struct ramet_wtask *task, uint64_t ino, struct ramet_winode *inode, uint64_t size,
                         struct ramet_error *err)
{
    uint64_t blocks = ramet_winode_blocks(inode);
    if (size > INT64_MAX)
        return ramet_wfail(err, EFBIG, ino);
    if (inode->in_record && size <= RAMET_WINLINE_MAX) {
        if (size > inode->size)
            memset(inode->bytes + inode->size, 0, size - inode->size);
        inode->size = size;
        return ramet_wtask_charge_inode(task, blocks, inode, err);
    }
    int r = ramet_wtask_leave_record(task, ino, inode, err);
    if (r == 0 && size > inode->size)
        r = zero_tail(task, ino, inode, size, err);
    if (r == 0 && size < inode->size)
        r = ramet_wpages_drop(task, ino, inode, ramet_wpages_below(size), UINT64_MAX / RAMET_WPAGE, err);
    if (r < 0)
        return r;
    inode->size = size;
    inode->in_record = size == 0;
    return 0;
}

int ramet_wfile_sync(struct ramet_workspace *workspace, uint64_t ino, struct ramet_error *err)
{
    struct ramet_winode inode;
    int r = ramet_wread_begin(workspace, err);
    if (r < 0)
        return r;
    r = ramet_winode_get(workspace, ino, &inode, err);
    ramet_wread_end(workspace);
    return r < 0 ? r : ramet_workspaces_sync(workspace->set, err);
}
