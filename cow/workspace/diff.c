/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From compared records to changes by path, in steps: names that stand for another file are
 * changes of that name; of the others, which ones each inode lost and gained, where pairs
 * are renames and the rest is removed and added; what was both removed and added at one path
 * is a change of it; inodes that changed under their old names follow.
 */
#include "diff.h"

#include "base/cleanup.h"
#include "compare.h"
#include "task.h"
#include "view.h"

#include <stdlib.h>
#include <string.h>

/* A name that an inode lost or gained. */
struct event {
    uint64_t ino;
    bool gained;
    uint32_t type;
    const struct ramet_wcompared_name *name;
};

struct making {
    struct ramet_wdiff *diff;
    size_t capacity;
    struct ramet_wcompared compared;
    struct event *events; /* by inode, lost ones first */
    size_t event_count;
    bool moved_dirs; /* a directory was renamed: paths below it differ */
};

static int no_memory(struct ramet_error *err)
{
    return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to compare workspaces");
}

/* Owns the paths from here on, also on failure. */
static int add_item(struct making *making, char *path, char *old_path, unsigned what, uint64_t before, uint64_t after,
                    struct ramet_error *err)
{
    struct ramet_wdiff *diff = making->diff;
    if (diff->count == making->capacity) {
        size_t capacity = making->capacity ? making->capacity * 2 : 64;
        struct ramet_wdiff_item *grown = reallocarray(diff->items, capacity, sizeof *grown);
        if (!grown) {
            free(path);
            free(old_path);
            return no_memory(err);
        }
        diff->items = grown;
        making->capacity = capacity;
    }
    struct ramet_wdiff_item *item = &diff->items[diff->count++];
    *item = (struct ramet_wdiff_item){.path = path, .old_path = old_path, .what = what};
    item->before.ino = before;
    item->after.ino = after;
    return 0;
}

/* --- names --- */

static int by_inode(const void *a, const void *b)
{
    const struct event *x = a, *y = b;
    if (x->ino != y->ino)
        return x->ino < y->ino ? -1 : 1;
    if (x->gained != y->gained)
        return x->gained ? 1 : -1;
    if (x->name->dir != y->name->dir)
        return x->name->dir < y->name->dir ? -1 : 1;
    return strcmp(x->name->name, y->name->name);
}

static bool is_replaced(const struct ramet_wcompared_name *name)
{
    return name->before && name->after && !S_ISDIR(name->type_before) && !S_ISDIR(name->type_after);
}

static int list_events(struct making *making, struct ramet_error *err)
{
    const struct ramet_wcompared *compared = &making->compared;
    making->events = calloc(2 * compared->name_count + 1, sizeof *making->events);
    if (!making->events)
        return no_memory(err);
    for (size_t i = 0; i < compared->name_count; i++) {
        const struct ramet_wcompared_name *name = &compared->names[i];
        if (is_replaced(name))
            continue;
        if (name->before)
            making->events[making->event_count++] = (struct event){name->before, false, name->type_before, name};
        if (name->after)
            making->events[making->event_count++] = (struct event){name->after, true, name->type_after, name};
    }
    if (making->event_count > 0)
        qsort(making->events, making->event_count, sizeof *making->events, by_inode);
    return 0;
}

static int event_path(struct making *making, const struct event *event, char **ret, struct ramet_error *err)
{
    struct ramet_workspace *view = event->gained ? making->diff->after : making->diff->before;
    return ramet_wview_path(view, event->name->dir, event->name->name, ret, err);
}

static int add_event(struct making *making, const struct event *event, struct ramet_error *err)
{
    char *path;
    int r = event_path(making, event, &path, err);
    if (r < 0)
        return r;
    r = add_item(making, path, NULL, event->gained ? RAMET_WDIFF_ADDED : RAMET_WDIFF_REMOVED,
                 event->gained ? 0 : event->ino, event->gained ? event->ino : 0, err);
    if (r == 0 && !event->gained) /* for join_pairs; look_closer puts what belongs there */
        making->diff->items[making->diff->count - 1].before.blocks = event->name->dir;
    return r;
}

static int add_rename(struct making *making, const struct event *lost, const struct event *gained,
                      struct ramet_error *err)
{
    char *old_path, *path;
    int r = event_path(making, lost, &old_path, err);
    if (r < 0)
        return r;
    if ((r = event_path(making, gained, &path, err)) < 0) {
        free(old_path);
        return r;
    }
    making->moved_dirs = making->moved_dirs || S_ISDIR(gained->type);
    return add_item(making, path, old_path, RAMET_WDIFF_RENAMED, lost->ino, gained->ino, err);
}

/* The names of one inode: [from, to) of the events. */
static int add_names(struct making *making, size_t from, size_t to, struct ramet_error *err)
{
    const struct event *events = making->events;
    size_t middle = from;
    int r = 0;
    while (middle < to && !events[middle].gained)
        middle++;
    size_t pairs = middle - from < to - middle ? middle - from : to - middle;
    for (size_t i = 0; i < pairs && r == 0; i++)
        r = add_rename(making, &events[from + i], &events[middle + i], err);
    for (size_t i = from + pairs; i < middle && r == 0; i++)
        r = add_event(making, &events[i], err);
    for (size_t i = middle + pairs; i < to && r == 0; i++)
        r = add_event(making, &events[i], err);
    return r;
}

static int add_all_names(struct making *making, struct ramet_error *err)
{
    int r = 0;
    for (size_t from = 0, to; from < making->event_count && r == 0; from = to) {
        for (to = from + 1; to < making->event_count && making->events[to].ino == making->events[from].ino;)
            to++;
        r = add_names(making, from, to, err);
    }
    return r;
}

/* An item for a name that both have: the paths may differ where directories moved. */
static int add_both(struct making *making, const char *name, uint64_t dir, uint64_t before, uint64_t after,
                    struct ramet_error *err)
{
    char *path, *old_path = NULL;
    int r = ramet_wview_path(making->diff->after, dir, name, &path, err);
    if (r < 0)
        return r;
    if (making->moved_dirs && (r = ramet_wview_path(making->diff->before, dir, name, &old_path, err)) < 0) {
        free(path);
        return r;
    }
    if (old_path && strcmp(old_path, path) == 0)
        free(STEAL(old_path));
    return add_item(making, path, old_path, 0, before, after, err);
}

static int add_all_replaced(struct making *making, struct ramet_error *err)
{
    int r = 0;
    for (size_t i = 0; i < making->compared.name_count && r == 0; i++) {
        const struct ramet_wcompared_name *name = &making->compared.names[i];
        if (is_replaced(name))
            r = add_both(making, name->name, name->dir, name->before, name->after, err);
    }
    return r;
}

/* --- inodes that kept a name --- */

struct kept {
    struct making *making;
    uint64_t ino;
};

static int add_kept(void *ctx, uint64_t dir, const char *name, struct ramet_error *err)
{
    struct kept *kept = ctx;
    struct ramet_workspace *before = kept->making->diff->before;
    struct ramet_wname entry;
    int r = ramet_wread_begin(before, err);
    if (r < 0)
        return r;
    r = ramet_wname_find(before, dir, name, &entry, NULL, NULL);
    ramet_wread_end(before);
    if (r == -RAMET_NOT_FOUND || (r == 0 && entry.ino != kept->ino))
        return 0; /* it gained this one */
    return r < 0 ? r : add_both(kept->making, name, dir, kept->ino, kept->ino, err);
}

static int add_all_kept(struct making *making, struct ramet_error *err)
{
    size_t at = 0;
    uint64_t ino, what;
    int r = 0;
    while (r == 0 && ramet_u64map_next(&making->compared.inodes, &at, &ino, &what)) {
        struct kept kept = {making, ino};
        struct ramet_winode before;
        if (ino == 0)
            continue;
        r = ramet_wview_inode(making->diff->before, ino, &before, err);
        if (r == -RAMET_NOT_FOUND || (r == 0 && before.nlink == 0)) {
            r = 0; /* new, or it had no name */
            continue;
        }
        if (r == 0 && ino == RAMET_WORKSPACE_ROOT) {
            char *path = strdup("");
            r = path ? add_item(making, path, NULL, 0, ino, ino, err) : no_memory(err);
        } else if (r == 0) {
            r = ramet_wview_names(making->diff->after, ino, add_kept, &kept, err);
        }
    }
    return r;
}

/* --- what differs at a path --- */

static int by_path(const void *a, const void *b)
{
    const struct ramet_wdiff_item *x = a, *y = b;
    int order = strcmp(x->path, y->path);
    if (order != 0)
        return order;
    return (x->what & RAMET_WDIFF_REMOVED ? 0 : 1) - (y->what & RAMET_WDIFF_REMOVED ? 0 : 1);
}

static void free_item(struct ramet_wdiff_item *item)
{
    free(item->path);
    free(item->old_path);
}

/* Whether what is left of the path of a directory lies where it lay: nothing above it that still is was renamed. */
static int in_place(struct making *making, uint64_t dir, bool *ret, struct ramet_error *err)
{
    struct ramet_wdiff *diff = making->diff;
    _autofree_ char *before = NULL, *after = NULL;
    struct ramet_winode inode;
    int r = 0;
    *ret = true;
    while (making->moved_dirs && r == 0) {
        r = ramet_wview_inode(diff->after, dir, &inode, err);
        if (r == 0 && inode.nlink > 0)
            break;
        if (r == 0 || r == -RAMET_NOT_FOUND)
            r = ramet_wview_inode(diff->before, dir, &inode, err);
        dir = inode.parent;
    }
    if (!making->moved_dirs || r < 0)
        return r;
    r = ramet_wview_path(diff->before, dir, "", &before, err);
    if (r == 0)
        r = ramet_wview_path(diff->after, dir, "", &after, err);
    if (r == 0)
        *ret = strcmp(before, after) == 0;
    return r;
}

/* Neighbours that say removed and added of one path become one. */
static int join_pairs(struct making *making, struct ramet_error *err)
{
    struct ramet_wdiff *diff = making->diff;
    size_t kept = 0;
    int r = 0;
    for (size_t i = 0; i < diff->count; i++) {
        struct ramet_wdiff_item *item = &diff->items[i], *last = kept > 0 ? &diff->items[kept - 1] : NULL;
        bool pair = last && last->what == RAMET_WDIFF_REMOVED && item->what == RAMET_WDIFF_ADDED &&
                    strcmp(last->path, item->path) == 0;
        if (pair && r == 0)
            r = in_place(making, last->before.blocks, &pair, err);
        if (pair) {
            last->what = 0;
            last->after = item->after;
            free_item(item);
        } else {
            diff->items[kept++] = *item;
        }
    }
    diff->count = kept;
    return r;
}

static int look_closer(struct making *making, struct ramet_wdiff_item *item, struct ramet_error *err)
{
    struct ramet_wdiff *diff = making->diff;
    uint64_t before = item->before.ino, after = item->after.ino, touched = UINT64_MAX;
    struct ramet_winode a, b;
    int r = before ? ramet_wview_inode(diff->before, before, &a, err) : 0;
    if (r == 0 && before)
        ramet_winode_stat(before, &a, &item->before);
    if (r == 0 && after)
        r = ramet_wview_inode(diff->after, after, &b, err);
    if (r == 0 && after)
        ramet_winode_stat(after, &b, &item->after);
    if (r < 0 || !before || !after)
        return r;
    if (before == after && !ramet_u64map_get(&making->compared.inodes, before, &touched))
        return 0;
    return ramet_wview_differences(diff->before, before, diff->after, after, (unsigned)touched, &item->what, err);
}

static int finish(struct making *making, struct ramet_error *err)
{
    struct ramet_wdiff *diff = making->diff;
    size_t kept = 0;
    int r = 0;
    for (size_t i = 0; i < diff->count; i++) {
        if (r == 0)
            r = look_closer(making, &diff->items[i], err);
        if (diff->items[i].what == 0) /* times, or the same again */
            free_item(&diff->items[i]);
        else
            diff->items[kept++] = diff->items[i];
    }
    diff->count = kept;
    return r;
}

int ramet_wdiff_make(struct ramet_workspace *before, struct ramet_workspace *after, struct ramet_wdiff **ret,
                     struct ramet_error *err)
{
    _cleanup_(ramet_wdiff_cleanup) struct ramet_wdiff *diff = calloc(1, sizeof *diff);
    struct making making = {.diff = diff};
    if (!diff)
        return no_memory(err);
    int r = ramet_wview_open(before, &diff->before, err);
    if (r == 0)
        r = ramet_wview_open(after, &diff->after, err);
    if (r == 0)
        r = ramet_wcompare(diff->before, diff->after, &making.compared, err);
    if (r == 0)
        r = list_events(&making, err);
    if (r == 0)
        r = add_all_names(&making, err);
    if (r == 0)
        r = add_all_replaced(&making, err);
    if (r == 0)
        r = add_all_kept(&making, err);
    if (r == 0) {
        if (diff->count > 0)
            qsort(diff->items, diff->count, sizeof *diff->items, by_path);
        r = join_pairs(&making, err);
    }
    if (r == 0) {
        r = finish(&making, err);
    }
    ramet_wcompared_free(&making.compared);
    free(making.events);
    if (r == 0)
        *ret = STEAL(diff);
    return r;
}

void ramet_wdiff_free(struct ramet_wdiff *diff)
{
    if (!diff)
        return;
    for (size_t i = 0; i < diff->count; i++)
        free_item(&diff->items[i]);
    free(diff->items);
    ramet_wview_close(diff->before);
    ramet_wview_close(diff->after);
    free(diff);
}

void ramet_wdiff_cleanup(struct ramet_wdiff **diff) { ramet_wdiff_free(*diff); }
