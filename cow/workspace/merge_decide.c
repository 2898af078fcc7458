/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a merge makes of each entry and object.
 *
 * 1. An entry that one side changed becomes what that side has; one that both changed
 *    differently is a conflict.
 * 2. An object that one side removed and the other one changed or gave a new name is a
 *    conflict, and so is one whose same aspect both changed differently. Content is merged
 *    by lines first.
 * 3. Then the tree must hold together, which is looked at again until nothing changes: no
 *    directory with two names or none and something in it, nothing lost that neither side
 *    removed, no directory below itself.
 *
 * A conflict without a resolution is decided as ours, only to find the other ones: nothing
 * is done then.
 */
#include "merge_plan.h"

#include "base/cleanup.h"
#include "diff.h"
#include "lines.h"
#include "task.h"

#include <stdlib.h>
#include <string.h>

enum { text_most = 16 << 20, most_passes = 64, most_loop = 2048 };

static int no_memory(struct ramet_error *err) { return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to merge"); }

/* --- conflicts --- */

static enum ramet_wtake resolution_of(const struct ramet_wmerge_options *options, const char *path)
{
    for (size_t i = 0; i < options->resolution_count; i++)
        if (strcmp(options->resolutions[i].path, path) == 0)
            return options->resolutions[i].take;
    return options->strategy;
}

/* Owns the path. */
static int add_conflict(struct ramet_wmerge_plan *plan, enum ramet_wconflict_kind kind, char *path,
                        enum ramet_wtake *ret, struct ramet_error *err)
{
    struct ramet_wmerge_result *result = plan->result;
    for (size_t i = 0; i < result->conflict_count; i++)
        if (result->conflicts[i].kind == kind && strcmp(result->conflicts[i].path, path) == 0) { /* again */
            *ret = resolution_of(plan->options, path);
            *ret = *ret == RAMET_WTAKE_NONE ? RAMET_WTAKE_OURS : *ret;
            free(path);
            return 0;
        }
    struct ramet_wconflict *grown =
        reallocarray(result->conflicts, result->conflict_count + 1, sizeof *result->conflicts);
    if (!grown) {
        free(path);
        return no_memory(err);
    }
    result->conflicts = grown;
    *ret = resolution_of(plan->options, path);
    if (*ret == RAMET_WTAKE_NONE) {
        result->unresolved++;
        *ret = RAMET_WTAKE_OURS;
    }
    result->conflicts[result->conflict_count++] = (struct ramet_wconflict){kind, path};
    return 0;
}

/* A directory object's number in a side. */
static uint64_t inode_on(struct ramet_wmerge_plan *plan, uint64_t number, int side)
{
    const struct ramet_wobject *object = ramet_wmerge_object(plan, number);
    return object ? object->in[side] : number;
}

static int entry_path(struct ramet_wmerge_plan *plan, const struct ramet_wentry_plan *entry, char **ret,
                      struct ramet_error *err)
{
    static const int order[] = {RAMET_WOURS, RAMET_WTHEIRS, RAMET_WBASE};
    for (size_t i = 0; i < 3; i++) {
        uint64_t dir = inode_on(plan, entry->dir, order[i]);
        if (dir)
            return ramet_wview_path(plan->view[order[i]], dir, entry->name, ret, err);
    }
    return ramet_error_set(err, RAMET_INTERNAL, "\"%s\" has no directory on any side", entry->name);
}

static int conflict_at(struct ramet_wmerge_plan *plan, enum ramet_wconflict_kind kind,
                       const struct ramet_wentry_plan *entry, enum ramet_wtake *ret, struct ramet_error *err)
{
    char *path;
    int r = entry_path(plan, entry, &path, err);
    return r < 0 ? r : add_conflict(plan, kind, path, ret, err);
}

struct first_path {
    struct ramet_workspace *view;
    char *path;
};

static int take_first(void *ctx, uint64_t dir, const char *name, struct ramet_error *err)
{
    struct first_path *first = ctx;
    return first->path ? 0 : ramet_wview_path(first->view, dir, name, &first->path, err);
}

static int conflict_of(struct ramet_wmerge_plan *plan, enum ramet_wconflict_kind kind,
                       const struct ramet_wobject *object, enum ramet_wtake *ret, struct ramet_error *err)
{
    static const int order[] = {RAMET_WOURS, RAMET_WTHEIRS, RAMET_WBASE};
    struct first_path first = {0};
    int r = 0;
    for (size_t i = 0; i < 3 && r == 0 && !first.path; i++) {
        first.view = plan->view[order[i]];
        if (object->in[order[i]])
            r = ramet_wview_names(first.view, object->in[order[i]], take_first, &first, err);
    }
    if (r == 0 && !first.path && !(first.path = strdup("")))
        r = no_memory(err);
    if (r < 0) {
        free(first.path);
        return r;
    }
    return add_conflict(plan, kind, first.path, ret, err);
}

/* --- 1: entries --- */

/* Whether two new files are the same in all but their number. */
static int is_same_new(struct ramet_wmerge_plan *plan, const struct ramet_wobject *ours,
                       const struct ramet_wobject *theirs, bool *ret, struct ramet_error *err)
{
    unsigned what = 0;
    *ret = false;
    if (!ours || !theirs || S_ISDIR(ours->type) || !ours->in[RAMET_WOURS] || !theirs->in[RAMET_WTHEIRS] ||
        ours->in[RAMET_WBASE] || theirs->in[RAMET_WBASE])
        return 0;
    int r = ramet_wview_differences(plan->view[RAMET_WOURS], ours->in[RAMET_WOURS], plan->view[RAMET_WTHEIRS],
                                    theirs->in[RAMET_WTHEIRS], UINT32_MAX, &what, err);
    *ret = r == 0 && what == 0;
    return r;
}

static enum ramet_wconflict_kind kind_of(struct ramet_wmerge_plan *plan, const struct ramet_wentry_plan *entry)
{
    const struct ramet_wobject *ours = ramet_wmerge_object(plan, entry->on[RAMET_WOURS]);
    const struct ramet_wobject *theirs = ramet_wmerge_object(plan, entry->on[RAMET_WTHEIRS]);
    if (!ours)
        return RAMET_WCONFLICT_MODIFY_DELETE;
    if (!theirs)
        return RAMET_WCONFLICT_DELETE_MODIFY;
    if (ours->type != theirs->type)
        return RAMET_WCONFLICT_TYPE;
    return entry->on[RAMET_WBASE] ? RAMET_WCONFLICT_BOTH_MODIFIED : RAMET_WCONFLICT_BOTH_ADDED;
}

static int decide_entry(struct ramet_wmerge_plan *plan, struct ramet_wentry_plan *entry, struct ramet_error *err)
{
    const uint64_t *on = entry->on;
    enum ramet_wtake take;
    bool same;
    entry->result = on[RAMET_WTHEIRS] == on[RAMET_WBASE] ? on[RAMET_WOURS] : on[RAMET_WTHEIRS];
    if (on[RAMET_WOURS] == on[RAMET_WBASE] || on[RAMET_WTHEIRS] == on[RAMET_WBASE] ||
        on[RAMET_WOURS] == on[RAMET_WTHEIRS])
        return 0;
    int r = is_same_new(plan, ramet_wmerge_object(plan, on[RAMET_WOURS]), ramet_wmerge_object(plan, on[RAMET_WTHEIRS]),
                        &same, err);
    if (r == 0 && same)
        take = RAMET_WTAKE_OURS;
    else if (r == 0)
        r = conflict_at(plan, kind_of(plan, entry), entry, &take, err);
    if (r == 0)
        entry->result = on[take == RAMET_WTAKE_OURS ? RAMET_WOURS : RAMET_WTHEIRS];
    return r;
}

/* --- 2: objects --- */

static struct ramet_wentry_plan *entry_of(struct ramet_wmerge_plan *plan, const struct ramet_wobject *object, size_t i)
{
    return &plan->entries[plan->index[object->first + i]];
}

/* The object's names become those of one side. */
static void take_names(struct ramet_wmerge_plan *plan, const struct ramet_wobject *object, int side)
{
    for (size_t i = 0; i < object->count; i++) {
        struct ramet_wentry_plan *entry = entry_of(plan, object, i);
        if (entry->on[side] == object->number || entry->result == object->number)
            entry->result = entry->on[side];
    }
}

static bool gained_names(struct ramet_wmerge_plan *plan, const struct ramet_wobject *object, int side)
{
    for (size_t i = 0; i < object->count; i++) {
        const struct ramet_wentry_plan *entry = entry_of(plan, object, i);
        if (entry->on[side] == object->number && entry->on[RAMET_WBASE] != object->number)
            return true;
    }
    return false;
}

/* One side has it no more. */
static int decide_removed(struct ramet_wmerge_plan *plan, struct ramet_wobject *object, struct ramet_error *err)
{
    int there = object->in[RAMET_WOURS] ? RAMET_WOURS : RAMET_WTHEIRS;
    unsigned what = there == RAMET_WOURS ? object->ours_did : object->theirs_did;
    enum ramet_wtake take;
    if (S_ISDIR(object->type))
        what = 0;
    if (what == 0 && !gained_names(plan, object, there))
        return 0;
    int r = conflict_of(plan, there == RAMET_WOURS ? RAMET_WCONFLICT_DELETE_MODIFY : RAMET_WCONFLICT_MODIFY_DELETE,
                        object, &take, err);
    if (r == 0)
        take_names(plan, object, take == RAMET_WTAKE_OURS ? RAMET_WOURS : RAMET_WTHEIRS);
    return r;
}

/* Both gave it away from one name, to different ones. */
static bool renamed_apart(struct ramet_wmerge_plan *plan, const struct ramet_wobject *object)
{
    bool lost = false, ours = false, theirs = false;
    for (size_t i = 0; i < object->count; i++) {
        const uint64_t *on = entry_of(plan, object, i)->on, number = object->number;
        lost |= on[RAMET_WBASE] == number && on[RAMET_WOURS] != number && on[RAMET_WTHEIRS] != number;
        if (on[RAMET_WBASE] == number)
            continue;
        ours |= on[RAMET_WOURS] == number && on[RAMET_WTHEIRS] != number;
        theirs |= on[RAMET_WTHEIRS] == number && on[RAMET_WOURS] != number;
    }
    return lost && ours && theirs;
}

/* Three texts, split; any of them may be none. */
struct texts {
    char *text[RAMET_WSIDES];
    struct ramet_lines lines[RAMET_WSIDES];
};

static void texts_free(struct texts *texts)
{
    for (int side = 0; side < RAMET_WSIDES; side++) {
        free(texts->text[side]);
        ramet_lines_free(&texts->lines[side]);
    }
}

/* Leaves `object->text` NULL when it is no text, or both changed a region. */
static int merge_text(struct ramet_wmerge_plan *plan, struct ramet_wobject *object, struct ramet_error *err)
{
    _cleanup_(texts_free) struct texts texts = {0};
    struct ramet_buf merged = {0};
    bool clean = false;
    int r = 0;
    for (int side = 0; side < RAMET_WSIDES && r == 0; side++) {
        size_t size;
        r = ramet_wview_content(plan->view[side], object->in[side], text_most, &texts.text[side], &size, err);
        if (r == -RAMET_TOO_LARGE || (r == 0 && !ramet_text_is(texts.text[side], size)))
            return 0;
        if (r == 0)
            r = ramet_lines_split(texts.text[side], size, &texts.lines[side], err);
    }
    if (r == 0)
        r = ramet_lines_merge(&texts.lines[RAMET_WBASE], &texts.lines[RAMET_WOURS], &texts.lines[RAMET_WTHEIRS],
                              &merged, &clean, err);
    if (r < 0 || !clean) {
        ramet_buf_free(&merged);
        return r;
    }
    object->text_size = merged.size;
    object->text = merged.data ? (char *)merged.data : strdup("");
    plan->result->merged_texts++;
    return object->text ? 0 : no_memory(err);
}

/* Aspects that both changed; those that came out the same are no conflict. */
static int overlap_of(struct ramet_wmerge_plan *plan, struct ramet_wobject *object, unsigned *ret,
                      struct ramet_error *err)
{
    unsigned differ = 0;
    *ret = object->ours_did & object->theirs_did;
    if (*ret == 0)
        return 0;
    int r = ramet_wview_differences(plan->view[RAMET_WOURS], object->in[RAMET_WOURS], plan->view[RAMET_WTHEIRS],
                                    object->in[RAMET_WTHEIRS], UINT32_MAX, &differ, err);
    object->theirs_did &= ~(*ret & ~differ);
    *ret &= differ;
    return r;
}

static int decide_kept(struct ramet_wmerge_plan *plan, struct ramet_wobject *object, struct ramet_error *err)
{
    unsigned overlap;
    enum ramet_wtake take = RAMET_WTAKE_OURS;
    int r = overlap_of(plan, object, &overlap, err);
    if (r == 0 && overlap & RAMET_WDIFF_CONTENT && S_ISREG(object->type) && !plan->options->whole_files) {
        r = merge_text(plan, object, err);
        if (object->text)
            overlap &= ~(unsigned)RAMET_WDIFF_CONTENT;
    }
    if (r == 0 && overlap)
        r = conflict_of(plan, RAMET_WCONFLICT_BOTH_MODIFIED, object, &take, err);
    object->take = take == RAMET_WTAKE_OURS ? object->theirs_did & ~overlap : object->theirs_did;
    if (r == 0 && renamed_apart(plan, object)) {
        r = conflict_of(plan, RAMET_WCONFLICT_RENAME, object, &take, err);
        if (r == 0)
            take_names(plan, object, take == RAMET_WTAKE_OURS ? RAMET_WOURS : RAMET_WTHEIRS);
    }
    return r;
}

static int decide_object(struct ramet_wmerge_plan *plan, struct ramet_wobject *object, struct ramet_error *err)
{
    if (!object->in[RAMET_WBASE] || (!object->in[RAMET_WOURS] && !object->in[RAMET_WTHEIRS]))
        return 0;
    if (!object->in[RAMET_WOURS] || !object->in[RAMET_WTHEIRS])
        return decide_removed(plan, object, err);
    return decide_kept(plan, object, err);
}

/* --- 3: the tree --- */

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
        listed += entry_of(plan, object, i)->on[RAMET_WOURS] == object->number;
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
        int r = conflict_of(plan, RAMET_WCONFLICT_DIRECTORY, object, &take, err);
        if (r < 0)
            return r;
        if ((take == RAMET_WTAKE_OURS) == (keeper == RAMET_WOURS)) {
            take_names(plan, object, keeper);
            return 0;
        }
    }
    for (size_t i = from; i < to; i++)
        plan->entries[i].result = 0;
    return 0;
}

/* Both sides have it, and no name is left: another one took its place in a conflict. */
static int settle_lost(struct ramet_wmerge_plan *plan, struct ramet_wobject *object, bool *ret_changed,
                       struct ramet_error *err)
{
    enum ramet_wtake take;
    for (int side = RAMET_WTHEIRS; side >= RAMET_WOURS; side--)
        for (size_t i = 0; i < object->count; i++) {
            struct ramet_wentry_plan *entry = entry_of(plan, object, i);
            if (entry->on[side] == object->number && entry->result == 0) {
                entry->result = object->number;
                *ret_changed = true;
                return 0;
            }
        }
    int r = conflict_of(plan, RAMET_WCONFLICT_RENAME, object, &take, err);
    if (r == 0) /* no side has a name for it that is free: whatever was asked for */
        r = ramet_error_set(err, RAMET_CONFLICT, "\"%s\" would be lost: both of its names are taken by other files",
                            plan->result->conflicts[plan->result->conflict_count - 1].path);
    return r < 0 ? ramet_error_hint(err, "rename it on one side, then merge again") : 0;
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
        r = conflict_of(plan, RAMET_WCONFLICT_RENAME, object, &take, err);
        if (r == 0)
            take_names(plan, object, take == RAMET_WTAKE_OURS ? RAMET_WOURS : RAMET_WTHEIRS);
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
        if (entry_of(plan, object, i)->result == number) {
            *ret = entry_of(plan, object, i)->dir;
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
    int r = conflict_of(plan, RAMET_WCONFLICT_RENAME, object, &take, err);
    do {
        loop[count++] = at;
        if (r == 0)
            r = parent_of(plan, at, &at, err);
    } while (r == 0 && at != object->number && count < most_loop);
    while (r == 0 && count > 0) {
        struct ramet_wobject *other = ramet_wmerge_object(plan, loop[--count]);
        if (other)
            take_names(plan, other, take == RAMET_WTAKE_OURS ? RAMET_WOURS : RAMET_WTHEIRS);
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
        if (steps == most_loop)
            return ramet_error_set(err, RAMET_TOO_LARGE, "directories lie more than %d deep", most_loop);
        r = parent_of(plan, at, &at, err);
        if (r == 0 && at == object->number) {
            *ret_changed = true;
            return break_loop(plan, object, err);
        }
    }
    return r;
}

static int settle_tree(struct ramet_wmerge_plan *plan, struct ramet_error *err)
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

int ramet_wmerge_decide(struct ramet_wmerge_plan *plan, struct ramet_error *err)
{
    int r = 0;
    for (size_t i = 0; i < plan->entry_count && r == 0; i++)
        r = decide_entry(plan, &plan->entries[i], err);
    for (size_t i = 0; i < plan->object_count && r == 0; i++)
        r = decide_object(plan, &plan->objects[i], err);
    return r < 0 ? r : settle_tree(plan, err);
}
