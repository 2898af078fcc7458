/* SPDX-License-Identifier: Apache-2.0 */
/* Conflicts of a merge: finding a path to name each by, and what the caller said of it. */
#include "merge_plan.h"

#include "task.h"

#include <stdlib.h>
#include <string.h>

static int no_memory(struct ramet_error *err) { return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to merge"); }

enum ramet_wtake ramet_wmerge_resolution(const struct ramet_wmerge_options *options, const char *path)
{
    for (size_t i = 0; i < options->resolution_count; i++)
        if (strcmp(options->resolutions[i].path, path) == 0)
            return options->resolutions[i].take;
    return options->strategy;
}

/* Owns the path. */
int ramet_wmerge_add_conflict(struct ramet_wmerge_plan *plan, enum ramet_wconflict_kind kind, char *path,
                              enum ramet_wtake *ret, struct ramet_error *err)
{
    struct ramet_wmerge_result *result = plan->result;
    for (size_t i = 0; i < result->conflict_count; i++)
        if (result->conflicts[i].kind == kind && strcmp(result->conflicts[i].path, path) == 0) { /* again */
            *ret = ramet_wmerge_resolution(plan->options, path);
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
    *ret = ramet_wmerge_resolution(plan->options, path);
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

int ramet_wmerge_conflict_at(struct ramet_wmerge_plan *plan, enum ramet_wconflict_kind kind,
                             const struct ramet_wentry_plan *entry, enum ramet_wtake *ret, struct ramet_error *err)
{
    char *path;
    int r = entry_path(plan, entry, &path, err);
    return r < 0 ? r : ramet_wmerge_add_conflict(plan, kind, path, ret, err);
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

int ramet_wmerge_path(struct ramet_wmerge_plan *plan, const struct ramet_wobject *object, int side, char **ret,
                      struct ramet_error *err)
{
    struct first_path first = {.view = plan->view[side]};
    int r = object->in[side] ? ramet_wview_names(first.view, object->in[side], take_first, &first, err) : 0;
    if (r < 0)
        free(first.path);
    else
        *ret = first.path;
    return r;
}

int ramet_wmerge_conflict_of(struct ramet_wmerge_plan *plan, enum ramet_wconflict_kind kind,
                             const struct ramet_wobject *object, enum ramet_wtake *ret, struct ramet_error *err)
{
    static const int order[] = {RAMET_WOURS, RAMET_WTHEIRS, RAMET_WBASE};
    char *path = NULL;
    int r = 0;
    for (size_t i = 0; i < 3 && r == 0 && !path; i++)
        r = ramet_wmerge_path(plan, object, order[i], &path, err);
    if (r == 0 && !path && !(path = strdup("")))
        r = no_memory(err);
    return r < 0 ? r : ramet_wmerge_add_conflict(plan, kind, path, ret, err);
}

/* --- names of objects --- */

struct ramet_wentry_plan *ramet_wmerge_entry(struct ramet_wmerge_plan *plan, const struct ramet_wobject *object,
                                             size_t i)
{
    return &plan->entries[plan->index[object->first + i]];
}

void ramet_wmerge_take_names(struct ramet_wmerge_plan *plan, const struct ramet_wobject *object, int side)
{
    for (size_t i = 0; i < object->count; i++) {
        struct ramet_wentry_plan *entry = ramet_wmerge_entry(plan, object, i);
        if (entry->on[side] == object->number || entry->result == object->number)
            entry->result = entry->on[side];
    }
}
