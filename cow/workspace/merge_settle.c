/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making one tree of what was decided entry by entry and object by object: looked at again
 * until nothing changes. All that is settled moves towards the tree of one side, which is
 * whole, so it ends; resolutions that pull in both directions are given up after some
 * passes.
 */
#include "merge_plan.h"

#include "task.h"

#include <stdlib.h>
#include <string.h>

enum { most_passes = 64, most_loop = 2048, most_depth = 100000 };

static void count_names(struct ramet_wmerge_plan *plan)
{
    for (size_t i = 0; i < plan->object_count; i++)
        plan->objects[i].names = 0;
    for (size_t i = 0; i < plan->entry_count; i++) {
        struct ramet_wobject *object = ramet_wmerge_object(plan, plan->entries[i].result);
        if (object)
            object->names++;
    }
}

/* Whether ours has a name of it that no entry speaks of. */
static int has_quiet_name(struct ramet_wmerge_plan *plan, const struct ramet_wobject *object, bool *ret,
                          struct ramet_error *err)
{
    struct ramet_winode inode;
    uint32_t listed = 0;
    *ret = object->number == RAMET_WORKSPACE_ROOT;
    if (*ret || !object->in[RAMET_WOURS])
        return 0;
    for (size_t i = 0; i < object->count; i++)
        listed += ramet_wmerge_entry(plan, object, i)->on[RAMET_WOURS] == object->number;
    int r = ramet_wview_inode(plan->view[RAMET_WOURS], object->in[RAMET_WOURS], &inode, err);
    *ret = r == 0 && (S_ISDIR(inode.mode) ? listed == 0 : inode.nlink > listed);
    return r;
}

/* Entries of a directory object: [*from, *to). */
static void entries_in(const struct ramet_wmerge_plan *plan, uint64_t dir, size_t *from, size_t *to)
{
    size_t low = 0, high = plan->entry_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (plan->entries[middle].dir < dir)
            low = middle + 1;
        else
            high = middle;
    }
    *from = low;
    while (low < plan->entry_count && plan->entries[low].dir == dir)
        low++;
    *to = low;
}

/* A directory that is not there in the end: what is in it goes with it, where one side alone had both. */
static int settle_missing_dir(struct ramet_wmerge_plan *plan, struct ramet_wobject *object, bool *ret_changed,
                              struct ramet_error *err)
{
    size_t from, to;
    bool holds = false;
    enum ramet_wtake take = RAMET_WTAKE_OURS;
    entries_in(plan, object->number, &from, &to);
    for (size_t i = from; i < to; i++)
        holds |= plan->entries[i].result != 0;
    if (!holds)
        return 0;
    *ret_changed = true;
    int keeper = object->in[RAMET_WOURS] ? RAMET_WOURS : RAMET_WTHEIRS;
    if (object->in[RAMET_WBASE]) { /* the other side removed it */
        int r = ramet_wmerge_conflict_of(plan, RAMET_WCONFLICT_DIRECTORY, object, &take, err);
        if (r < 0)
            return r;
        if ((take == RAMET_WTAKE_OURS) == (keeper == RAMET_WOURS)) {
            ramet_wmerge_take_names(plan, object, keeper);
            return 0;
        }
    }
    for (size_t i = from; i < to; i++)
        plan->entries[i].result = 0;
    return 0;
}

/*
 * Both sides have it, and no name is left: another one took its place, or its directory went. It comes back where one
 * side has it, whatever was to take that name. All that is settled so moves towards one side's tree, which is whole.
 */
static int settle_lost(struct ramet_wmerge_plan *plan, struct ramet_wobject *object, bool *ret_changed,
                       struct ramet_error *err)
{
    enum ramet_wtake take = RAMET_WTAKE_OURS;
    int r = ramet_wmerge_conflict_of(plan, RAMET_WCONFLICT_RENAME, object, &take, err);
    int side = take == RAMET_WTAKE_OURS ? RAMET_WOURS : RAMET_WTHEIRS;
    for (size_t i = 0; i < object->count && r == 0; i++)
        if (ramet_wmerge_entry(plan, object, i)->on[side] == object->number)
            ramet_wmerge_entry(plan, object, i)->result = object->number;
    *ret_changed = true;
    return r;
}

static int settle_object(struct ramet_wmerge_plan *plan, struct ramet_wobject *object, bool *ret_changed,
                         struct ramet_error *err)
{
    enum ramet_wtake take;
    bool quiet;
    int r = has_quiet_name(plan, object, &quiet, err);
    if (r < 0)
        return r;
    uint32_t names = object->names + quiet;
    bool is_dir = S_ISDIR(object->type);
    if (names == 0 && object->in[RAMET_WBASE] && object->in[RAMET_WOURS] && object->in[RAMET_WTHEIRS])
        return settle_lost(plan, object, ret_changed, err);
    if (names == 0 && is_dir)
        return settle_missing_dir(plan, object, ret_changed, err);
    if (names > 1 && is_dir) {
        r = ramet_wmerge_conflict_of(plan, RAMET_WCONFLICT_RENAME, object, &take, err);
        if (r == 0)
            ramet_wmerge_take_names(plan, object, take == RAMET_WTAKE_OURS ? RAMET_WOURS : RAMET_WTHEIRS);
        *ret_changed = true;
    }
    return r;
}

/* The directory that a directory lies in, in the end. */
static int parent_of(struct ramet_wmerge_plan *plan, uint64_t number, uint64_t *ret, struct ramet_error *err)
{
    const struct ramet_wobject *object = ramet_wmerge_object(plan, number);
    struct ramet_winode inode;
    for (size_t i = 0; object && i < object->count; i++)
        if (ramet_wmerge_entry(plan, object, i)->result == number) {
            *ret = ramet_wmerge_entry(plan, object, i)->dir;
            return 0;
        }
    uint64_t ino = object && object->in[RAMET_WOURS] ? object->in[RAMET_WOURS] : number;
    int r = ramet_wview_inode(plan->view[RAMET_WOURS], ino, &inode, err);
    *ret = r == 0 ? inode.parent : RAMET_WORKSPACE_ROOT;
    return r == -RAMET_NOT_FOUND ? 0 : r;
}

/* All directories of a loop take the names of one side. */
static int break_loop(struct ramet_wmerge_plan *plan, struct ramet_wobject *object, struct ramet_error *err)
{
    uint64_t loop[most_loop], at = object->number;
    enum ramet_wtake take;
    size_t count = 0;
    int r = ramet_wmerge_conflict_of(plan, RAMET_WCONFLICT_RENAME, object, &take, err);
    do {
        loop[count++] = at;
        if (r == 0)
            r = parent_of(plan, at, &at, err);
    } while (r == 0 && at != object->number && count < most_loop);
    if (r == 0 && at != object->number)
        r = ramet_error_set(err, RAMET_TOO_LARGE, "a loop of more than %d directories", most_loop);
    while (r == 0 && count > 0) {
        struct ramet_wobject *other = ramet_wmerge_object(plan, loop[--count]);
        if (other)
            ramet_wmerge_take_names(plan, other, take == RAMET_WTAKE_OURS ? RAMET_WOURS : RAMET_WTHEIRS);
    }
    return r;
}

static int settle_loop(struct ramet_wmerge_plan *plan, struct ramet_wobject *object, bool *ret_changed,
                       struct ramet_error *err)
{
    uint64_t at = object->number;
    int r = 0;
    if (!S_ISDIR(object->type) || object->names == 0)
        return 0;
    for (size_t steps = 0; at != RAMET_WORKSPACE_ROOT && at != 0 && r == 0; steps++) {
        if (steps == most_depth) /* it lies below a loop that its own directories will be asked about */
            return 0;
        r = parent_of(plan, at, &at, err);
        if (r == 0 && at == object->number) {
            *ret_changed = true;
            return break_loop(plan, object, err);
        }
    }
    return r;
}

int ramet_wmerge_settle(struct ramet_wmerge_plan *plan, struct ramet_error *err)
{
    bool changed = true;
    int r = 0;
    for (int pass = 0; changed && r == 0; pass++) {
        changed = false;
        if (pass == most_passes)
            return ramet_error_set(err, RAMET_CONFLICT, "renames of directories contradict each other");
        count_names(plan);
        for (size_t i = 0; i < plan->object_count && r == 0; i++)
            r = settle_object(plan, &plan->objects[i], &changed, err);
        if (changed || r < 0)
            continue;
        for (size_t i = 0; i < plan->object_count && r == 0 && !changed; i++)
            r = settle_loop(plan, &plan->objects[i], &changed, err);
    }
    return r;
}

/* --- what was given up --- */

static bool is_told(const struct ramet_wmerge_result *result, const char *path)
{
    for (size_t i = 0; i < result->conflict_count; i++) {
        size_t size = strlen(result->conflicts[i].path);
        if (strncmp(path, result->conflicts[i].path, size) == 0 && (path[size] == '\0' || path[size] == '/'))
            return true;
    }
    return false;
}

/* A new file that no conflict spoke of gave way to what was settled: that is one too, and only its loss resolves it. */
static int tell_loss(struct ramet_wmerge_plan *plan, const struct ramet_wobject *object, struct ramet_error *err)
{
    bool of_ours = object->in[RAMET_WOURS] != 0;
    int side = of_ours ? RAMET_WOURS : RAMET_WTHEIRS;
    char *path = NULL;
    enum ramet_wtake take;
    int r = ramet_wmerge_path(plan, object, side, &path, err);
    if (r < 0 || !path || is_told(plan->result, path)) {
        free(path);
        return r;
    }
    enum ramet_wtake wanted = ramet_wmerge_resolution(plan->options, path);
    r = ramet_wmerge_add_conflict(plan, of_ours ? RAMET_WCONFLICT_DELETE_MODIFY : RAMET_WCONFLICT_MODIFY_DELETE, path,
                                  &take, err);
    if (r == 0 && wanted == (of_ours ? RAMET_WTAKE_OURS : RAMET_WTAKE_THEIRS))
        plan->result->unresolved++;
    return r;
}

int ramet_wmerge_tell_losses(struct ramet_wmerge_plan *plan, struct ramet_error *err)
{
    int r = 0;
    for (size_t i = 0; i < plan->object_count && r == 0; i++) {
        const struct ramet_wobject *object = &plan->objects[i];
        if (object->names == 0 && object->count > 0 && !object->in[RAMET_WBASE] && !object->is_copy &&
            (object->in[RAMET_WOURS] || object->in[RAMET_WTHEIRS]))
            r = tell_loss(plan, object, err);
    }
    return r;
}
