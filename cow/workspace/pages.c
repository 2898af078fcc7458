/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A *span* is the groups that a range of pages touches, as they are and as they shall be.
 * Closing it puts the records that differ and tells the operation which pages are new and
 * which nobody names any more; a failed write closes it too, so that new pages are let go.
 */
#include "pages.h"

#include "base/codec.h"
#include "workspace_private.h"

#include <stdlib.h>
#include <string.h>

struct span {
    uint64_t group; /* the first one */
    size_t count;   /* references, of whole groups */
    ramet_wref *before, *after;
    ramet_wref *allocated; /* owned */
    ramet_wref few[2][RAMET_WSPAN_FEW];
};

static int decode_group(int r, const struct ramet_wvalue *value, uint64_t ino, ramet_wref refs[RAMET_WGROUP],
                        struct ramet_error *err)
{
    if (r == -RAMET_NOT_FOUND) {
        memset(refs, 0, RAMET_WGROUP * sizeof *refs);
        return 0;
    }
    return r < 0 ? r : ramet_wgroup_decode(value, ino, refs, err);
}

/* Of the tree, or as `change` would leave it. */
static int get_refs(struct ramet_wtree *tree, struct ramet_wchange *change, uint64_t ino, uint64_t first, size_t count,
                    ramet_wref *refs, struct ramet_error *err)
{
    ramet_wref group[RAMET_WGROUP];
    struct ramet_wvalue value;
    struct ramet_wkey key;
    while (count > 0) {
        size_t inside = first % RAMET_WGROUP, some = ramet_least(RAMET_WGROUP - inside, count);
        ramet_wkey_group(&key, ino, first / RAMET_WGROUP);
        int r = change ? ramet_wchange_get(change, &key, &value, err) : ramet_wtree_get(tree, &key, &value, err);
        r = decode_group(r, &value, ino, group, err);
        if (r < 0)
            return r;
        memcpy(refs, group + inside, some * sizeof *refs);
        first += some, count -= some, refs += some;
    }
    return 0;
}

int ramet_wpages_refs(struct ramet_workspace *workspace, uint64_t ino, uint64_t first, size_t count, ramet_wref *refs,
                      struct ramet_error *err)
{
    return get_refs(ramet_workspace_tree(workspace), NULL, ino, first, count, refs, err);
}

int ramet_wtask_refs(struct ramet_wtask *task, uint64_t ino, uint64_t first, size_t count, ramet_wref *refs,
                     struct ramet_error *err)
{
    return get_refs(NULL, task->change, ino, first, count, refs, err);
}

static int span_open(struct ramet_wtask *task, uint64_t ino, uint64_t first, size_t count, struct span *span,
                     struct ramet_error *err)
{
    span->group = first / RAMET_WGROUP;
    span->count = (size_t)((first + count - 1) / RAMET_WGROUP - span->group + 1) * RAMET_WGROUP;
    span->allocated = NULL;
    span->before = span->few[0];
    span->after = span->few[1];
    if (span->count > RAMET_WSPAN_FEW) {
        span->allocated = span->before = malloc(2 * span->count * sizeof *span->before);
        if (!span->before)
            return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to write to a file");
        span->after = span->before + span->count;
    }
    int r = ramet_wtask_refs(task, ino, span->group * RAMET_WGROUP, span->count, span->before, err);
    if (r < 0)
        free(span->allocated);
    else
        memcpy(span->after, span->before, span->count * sizeof *span->after);
    return r;
}

static ramet_wref *span_page(struct span *span, uint64_t page)
{
    return span->after + (page - span->group * RAMET_WGROUP);
}

static void put_group(struct ramet_wtask *task, uint64_t ino, uint64_t group, const ramet_wref refs[RAMET_WGROUP])
{
    struct ramet_wkey key;
    uint8_t bytes[RAMET_WVALUE_MAX];
    size_t size = ramet_wgroup_encode(refs, bytes);
    ramet_wkey_group(&key, ino, group);
    if (size > 0)
        ramet_wchange_put(task->change, &key, bytes, size);
    else
        ramet_wchange_delete(task->change, &key);
}

static void span_close(struct ramet_wtask *task, uint64_t ino, struct span *span, bool shared)
{
    for (size_t i = 0; i < span->count; i++) {
        if (span->before[i] == span->after[i])
            continue;
        if (span->before[i] != RAMET_WREF_HOLE)
            ramet_wtask_gone(task, &span->before[i], 1);
        if (span->after[i] != RAMET_WREF_HOLE && !shared)
            ramet_wtask_fresh(task, &span->after[i], 1);
    }
    for (size_t i = 0; i < span->count; i += RAMET_WGROUP)
        if (memcmp(span->before + i, span->after + i, RAMET_WGROUP * sizeof *span->after) != 0)
            put_group(task, ino, span->group + i / RAMET_WGROUP, span->after + i);
    free(span->allocated);
}

static size_t count_holes(const ramet_wref *refs, size_t count)
{
    size_t holes = 0;
    for (size_t i = 0; i < count; i++)
        holes += refs[i] == RAMET_WREF_HOLE;
    return holes;
}

static int charge_pages(struct ramet_wtask *task, struct ramet_winode *inode, int64_t pages, struct ramet_error *err)
{
    uint64_t blocks = ramet_winode_blocks(inode);
    inode->pages += (uint64_t)pages;
    return ramet_wtask_charge_inode(task, blocks, inode, err);
}

/* `inside`: where in the first page it begins. */
static int write_refs(struct ramet_workspace *workspace, ramet_wref *refs, size_t inside, const uint8_t *buf,
                      size_t size, struct ramet_error *err)
{
    int r = 0;
    if (inside > 0 || size < RAMET_WPAGE) {
        size_t some = ramet_least(RAMET_WPAGE - inside, size);
        r = ramet_wdata_write_part(workspace, refs++, inside, buf, some, err);
        buf += some, size -= some;
    }
    size_t whole = size / RAMET_WPAGE;
    if (r == 0 && whole > 0)
        r = ramet_wdata_write(workspace, refs, whole, buf, err);
    if (r == 0 && size % RAMET_WPAGE > 0)
        r = ramet_wdata_write_part(workspace, refs + whole, 0, buf + whole * RAMET_WPAGE, size % RAMET_WPAGE, err);
    return r;
}

int ramet_wpages_write(struct ramet_wtask *task, uint64_t ino, struct ramet_winode *inode, uint64_t offset,
                       const void *buf, size_t size, struct ramet_error *err)
{
    struct span span;
    uint64_t first = offset / RAMET_WPAGE;
    size_t count = (size_t)(ramet_wpages_below(offset + size) - first);
    int r = span_open(task, ino, first, count, &span, err);
    if (r < 0)
        return r;
    ramet_wref *refs = span_page(&span, first);
    r = charge_pages(task, inode, (int64_t)count_holes(refs, count), err);
    if (r == 0)
        r = write_refs(task->workspace, refs, offset % RAMET_WPAGE, buf, size, err);
    span_close(task, ino, &span, false);
    return r;
}

static int drop_some(struct ramet_wtask *task, uint64_t ino, struct ramet_winode *inode, uint64_t first, size_t count,
                     struct ramet_error *err)
{
    struct span span;
    int r = span_open(task, ino, first, count, &span, err);
    if (r < 0)
        return r;
    ramet_wref *refs = span_page(&span, first);
    size_t pages = count - count_holes(refs, count);
    memset(refs, 0, count * sizeof *refs);
    span_close(task, ino, &span, false);
    return charge_pages(task, inode, -(int64_t)pages, err);
}

int ramet_wpages_drop(struct ramet_wtask *task, uint64_t ino, struct ramet_winode *inode, uint64_t first, uint64_t end,
                      struct ramet_error *err)
{
    struct ramet_wvalue value;
    struct ramet_wkey key;
    ramet_wkey_group(&key, ino, first / RAMET_WGROUP);
    for (;;) {
        int r = ramet_wtree_next(ramet_workspace_tree(task->workspace), &key, &value, err);
        if (r == -RAMET_NOT_FOUND || (r == 0 && (key.ino != ino || key.type != RAMET_WTYPE_BLOCKS)))
            return 0;
        if (r < 0)
            return r;
        uint64_t from = ramet_get_be64(key.sub) * RAMET_WGROUP, to = ramet_least(from + RAMET_WGROUP, end);
        if (from >= end)
            return 0;
        if (from < first)
            from = first;
        if (to > from)
            r = drop_some(task, ino, inode, from, (size_t)(to - from), err);
        if (r < 0)
            return r;
        ramet_wkey_after(&key);
    }
}

/* Within one page. */
static int zero_part(struct ramet_wtask *task, uint64_t ino, uint64_t from, uint64_t to, struct ramet_error *err)
{
    static const uint8_t zeros[RAMET_WPAGE];
    struct span span;
    uint64_t page = from / RAMET_WPAGE;
    if (from == to)
        return 0;
    int r = span_open(task, ino, page, 1, &span, err);
    if (r < 0)
        return r;
    ramet_wref *ref = span_page(&span, page);
    if (*ref != RAMET_WREF_HOLE)
        r = ramet_wdata_write_part(task->workspace, ref, from % RAMET_WPAGE, zeros, (size_t)(to - from), err);
    span_close(task, ino, &span, false);
    return r;
}

int ramet_wpages_zero(struct ramet_wtask *task, uint64_t ino, struct ramet_winode *inode, uint64_t from, uint64_t to,
                      struct ramet_error *err)
{
    uint64_t first = ramet_wpages_below(from), end = to / RAMET_WPAGE;
    if (first > end) /* all inside one page */
        return zero_part(task, ino, from, to, err);
    int r = zero_part(task, ino, from, first * RAMET_WPAGE, err);
    if (r == 0 && first < end)
        r = ramet_wpages_drop(task, ino, inode, first, end, err);
    return r < 0 ? r : zero_part(task, ino, end * RAMET_WPAGE, to, err);
}

int ramet_wpages_share(struct ramet_wtask *task, uint64_t ino, struct ramet_winode *inode, uint64_t first,
                       const ramet_wref *refs, size_t count, struct ramet_error *err)
{
    struct span span;
    int r = span_open(task, ino, first, count, &span, err);
    if (r < 0)
        return r;
    ramet_wref *mine = span_page(&span, first);
    r = charge_pages(task, inode, (int64_t)count_holes(mine, count) - (int64_t)count_holes(refs, count), err);
    if (r == 0) {
        memcpy(mine, refs, count * sizeof *refs);
        ramet_wdata_share(task->workspace, refs, count);
    }
    span_close(task, ino, &span, true);
    return r;
}
