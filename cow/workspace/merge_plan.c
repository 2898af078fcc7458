/* SPDX-License-Identifier: Apache-2.0 */
/* Building the tables of a merge: what both sides' differences to the base say, put side by side. */
#include "merge_plan.h"

#include "diff.h"
#include "task.h"

#include <stdlib.h>
#include <string.h>

static int no_memory(struct ramet_error *err) { return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to merge"); }

/* --- aliases --- */

/* The object that an inode of a side is. */
static uint64_t object_of(const struct ramet_wmerge_plan *plan, int side, uint64_t ino)
{
    uint64_t number = ino;
    ramet_u64map_get(&plan->alias[side], ino, &number);
    return number;
}

/* What a view has for an inode: attributes, with nlink 0 where there is nothing. */
static int look(struct ramet_workspace *view, uint64_t ino, struct ramet_winode *ret, struct ramet_error *err)
{
    int r = ramet_wview_inode(view, ino, ret, err);
    if (r != -RAMET_NOT_FOUND)
        return r;
    ret->nlink = 0;
    ret->mode = 0;
    return 0;
}

/* A name that stood for a file and stands for a new one of its kind, when that is all there is of both. */
static int alias_replaced(struct ramet_wmerge_plan *plan, int side, const struct ramet_wcompared_name *name,
                          struct ramet_error *err)
{
    struct ramet_winode before, gone, fresh, none;
    if (!name->before || !name->after || name->type_before != name->type_after || S_ISDIR(name->type_before))
        return 0;
    int r = look(plan->view[RAMET_WBASE], name->before, &before, err);
    if (r == 0)
        r = look(plan->view[side], name->before, &gone, err);
    if (r == 0)
        r = look(plan->view[side], name->after, &fresh, err);
    if (r == 0)
        r = look(plan->view[RAMET_WBASE], name->after, &none, err);
    if (r < 0 || before.nlink != 1 || gone.nlink != 0 || fresh.nlink != 1 || none.nlink != 0)
        return r;
    return ramet_u64map_put(&plan->alias[side], name->after, name->before) ? 0 : no_memory(err);
}

/* A directory that both made under one name; those inside follow when their parents are known to be one. */
static int alias_directory(struct ramet_wmerge_plan *plan, const struct ramet_wcompared_name *name, bool *ret_found,
                           struct ramet_error *err)
{
    struct ramet_wname entry;
    struct ramet_winode inode;
    uint64_t known;
    if (name->before || !S_ISDIR(name->type_after) ||
        ramet_u64map_get(&plan->alias[RAMET_WTHEIRS], name->after, &known))
        return 0;
    struct ramet_workspace *ours = plan->view[RAMET_WOURS];
    int r = ramet_wread_begin(ours, err);
    if (r < 0)
        return r;
    r = ramet_wname_find(ours, object_of(plan, RAMET_WTHEIRS, name->dir), name->name, &entry, NULL, err);
    ramet_wread_end(ours);
    if (r == -RAMET_NOT_FOUND || (r == 0 && (!S_ISDIR(entry.type) || entry.ino == name->after)))
        return 0;
    /* Each is of one side alone: neither was moved there, or came over with an earlier merge. */
    const struct {
        int side;
        uint64_t ino;
    } elsewhere[] = {
        {RAMET_WBASE, entry.ino}, {RAMET_WBASE, name->after}, {RAMET_WTHEIRS, entry.ino}, {RAMET_WOURS, name->after}};
    for (size_t i = 0; i < 4 && r == 0; i++) {
        r = look(plan->view[elsewhere[i].side], elsewhere[i].ino, &inode, err);
        if (r == 0 && inode.nlink > 0)
            return 0;
    }
    *ret_found = true;
    return r < 0 ? r : ramet_u64map_put(&plan->alias[RAMET_WTHEIRS], name->after, entry.ino) ? 0 : no_memory(err);
}

/*
 * A file that the other side has too, having got it with an earlier merge, is what it replaced there as well, or in
 * neither: else one inode would be two objects.
 */
static int drop_split_aliases(struct ramet_wmerge_plan *plan, struct ramet_error *err)
{
    for (int side = RAMET_WOURS; side <= RAMET_WTHEIRS; side++) {
        int other = side == RAMET_WOURS ? RAMET_WTHEIRS : RAMET_WOURS;
        uint64_t fresh, number, there;
        size_t at = 0;
        while (ramet_u64map_next(&plan->alias[side], &at, &fresh, &number)) {
            struct ramet_winode inode;
            if (ramet_u64map_get(&plan->alias[other], fresh, &there) && there == number)
                continue;
            int r = look(plan->view[other], fresh, &inode, err);
            if (r < 0)
                return r;
            if (inode.nlink > 0 && !ramet_u64map_put(&plan->alias[side], fresh, fresh))
                return no_memory(err);
        }
    }
    return 0;
}

static int find_aliases(struct ramet_wmerge_plan *plan, struct ramet_error *err)
{
    const struct ramet_wcompared *sides[] = {NULL, &plan->ours, &plan->theirs};
    bool found = true;
    int r = 0;
    for (int side = RAMET_WOURS; side <= RAMET_WTHEIRS; side++)
        for (size_t i = 0; i < sides[side]->name_count && r == 0; i++)
            r = alias_replaced(plan, side, &sides[side]->names[i], err);
    if (r == 0)
        r = drop_split_aliases(plan, err);
    while (found && r == 0) {
        found = false;
        for (size_t i = 0; i < plan->theirs.name_count && r == 0; i++)
            r = alias_directory(plan, &plan->theirs.names[i], &found, err);
    }
    return r;
}

/* --- entries --- */

static int by_name(const void *a, const void *b)
{
    const struct ramet_wentry_plan *x = a, *y = b;
    if (x->dir != y->dir)
        return x->dir < y->dir ? -1 : 1;
    return strcmp(x->name, y->name);
}

/* Each side's names, those that only an alias made different left out. `known`: which sides speak, per entry. */
static void list_side(struct ramet_wmerge_plan *plan, int side, const struct ramet_wcompared *compared)
{
    for (size_t i = 0; i < compared->name_count; i++) {
        const struct ramet_wcompared_name *name = &compared->names[i];
        uint64_t after = name->after ? object_of(plan, side, name->after) : 0;
        struct ramet_wentry_plan *entry = &plan->entries[plan->entry_count];
        *entry = (struct ramet_wentry_plan){.dir = object_of(plan, side, name->dir), .name = name->name};
        for (int s = 0; s < RAMET_WSIDES; s++)
            entry->on[s] = name->before;
        entry->on[side] = after;
        if (after != name->before)
            plan->entry_count++;
    }
}

/* What both sides say of one name becomes one entry: ours come first, the sort keeps pairs together. */
static void join_entries(struct ramet_wmerge_plan *plan)
{
    size_t kept = 0;
    for (size_t i = 0; i < plan->entry_count; i++) {
        struct ramet_wentry_plan *entry = &plan->entries[i];
        struct ramet_wentry_plan *last = kept > 0 ? &plan->entries[kept - 1] : NULL;
        if (last && last->dir == entry->dir && strcmp(last->name, entry->name) == 0) {
            for (int s = RAMET_WOURS; s < RAMET_WSIDES; s++)
                if (entry->on[s] != entry->on[RAMET_WBASE])
                    last->on[s] = entry->on[s];
            continue;
        }
        plan->entries[kept++] = *entry;
    }
    plan->entry_count = kept;
}

/* --- objects --- */

struct ramet_wobject *ramet_wmerge_object(struct ramet_wmerge_plan *plan, uint64_t number)
{
    uint64_t at;
    return number && ramet_u64map_get(&plan->by_number, number, &at) ? &plan->objects[at] : NULL;
}

static int add_object(struct ramet_wmerge_plan *plan, uint64_t number, struct ramet_error *err)
{
    if (number == 0 || ramet_wmerge_object(plan, number))
        return 0;
    if (plan->object_count == plan->object_capacity) {
        size_t capacity = plan->object_capacity ? plan->object_capacity * 2 : 64;
        struct ramet_wobject *grown = reallocarray(plan->objects, capacity, sizeof *grown);
        if (!grown)
            return no_memory(err);
        plan->objects = grown;
        plan->object_capacity = capacity;
    }
    if (!ramet_u64map_put(&plan->by_number, number, plan->object_count))
        return no_memory(err);
    plan->objects[plan->object_count++] = (struct ramet_wobject){.number = number};
    return 0;
}

/* Inodes that a side has an object in under another number. */
static int place_aliases(struct ramet_wmerge_plan *plan, int side)
{
    uint64_t ino, number;
    size_t at = 0;
    while (ramet_u64map_next(&plan->alias[side], &at, &ino, &number)) {
        struct ramet_wobject *object = ramet_wmerge_object(plan, number);
        if (object)
            object->in[side] = ino;
    }
    return 0;
}

/* Where an object is. */
static int place_object(struct ramet_wmerge_plan *plan, struct ramet_wobject *object, struct ramet_error *err)
{
    struct ramet_winode inode;
    int r = 0;
    for (int side = 0; side < RAMET_WSIDES && r == 0; side++) {
        uint64_t ino = object->in[side] ? object->in[side] : object->number;
        r = look(plan->view[side], ino, &inode, err);
        object->in[side] = r == 0 && inode.nlink > 0 ? ino : 0;
        if (object->in[side])
            object->type = inode.mode & S_IFMT;
    }
    return r;
}

static int did(struct ramet_wmerge_plan *plan, const struct ramet_wobject *object, int side, unsigned *ret,
               struct ramet_error *err)
{
    const struct ramet_wcompared *compared = side == RAMET_WOURS ? &plan->ours : &plan->theirs;
    uint64_t before = object->in[RAMET_WBASE], after = object->in[side], touched = UINT64_MAX;
    if (!before || !after || (before == after && !ramet_u64map_get(&compared->inodes, before, &touched)))
        return 0;
    return ramet_wview_differences(plan->view[RAMET_WBASE], before, plan->view[side], after, (unsigned)touched, ret,
                                   err);
}

static int add_inodes(struct ramet_wmerge_plan *plan, int side, const struct ramet_wcompared *compared,
                      struct ramet_error *err)
{
    uint64_t ino, what;
    size_t at = 0;
    int r = 0;
    while (r == 0 && ramet_u64map_next(&compared->inodes, &at, &ino, &what))
        r = add_object(plan, object_of(plan, side, ino), err);
    return r;
}

static int list_objects(struct ramet_wmerge_plan *plan, struct ramet_error *err)
{
    int r = add_inodes(plan, RAMET_WOURS, &plan->ours, err);
    if (r == 0)
        r = add_inodes(plan, RAMET_WTHEIRS, &plan->theirs, err);
    for (size_t i = 0; i < plan->entry_count && r == 0; i++) {
        r = add_object(plan, plan->entries[i].dir, err);
        for (int side = 0; side < RAMET_WSIDES && r == 0; side++)
            r = add_object(plan, plan->entries[i].on[side], err);
    }
    place_aliases(plan, RAMET_WOURS);
    place_aliases(plan, RAMET_WTHEIRS);
    for (size_t i = 0; i < plan->object_count && r == 0; i++) {
        struct ramet_wobject *object = &plan->objects[i];
        r = place_object(plan, object, err);
        if (r == 0)
            r = did(plan, object, RAMET_WOURS, &object->ours_did, err);
        if (r == 0)
            r = did(plan, object, RAMET_WTHEIRS, &object->theirs_did, err);
    }
    return r;
}

/* --- the index --- */

/* Calls for each object of an entry once. */
static void each_object(struct ramet_wmerge_plan *plan, size_t at,
                        void (*each)(struct ramet_wmerge_plan *plan, struct ramet_wobject *object, size_t at))
{
    const uint64_t *on = plan->entries[at].on;
    for (int side = 0; side < RAMET_WSIDES; side++) {
        struct ramet_wobject *object = ramet_wmerge_object(plan, on[side]);
        if (object && (side < 1 || on[side] != on[0]) && (side < 2 || on[side] != on[1]))
            each(plan, object, at);
    }
}

static void count_one(struct ramet_wmerge_plan *plan, struct ramet_wobject *object, size_t at)
{
    (void)plan, (void)at;
    object->count++;
}

static void index_one(struct ramet_wmerge_plan *plan, struct ramet_wobject *object, size_t at)
{
    plan->index[object->first + object->count++] = at;
}

static int make_index(struct ramet_wmerge_plan *plan, struct ramet_error *err)
{
    size_t total = 0;
    for (size_t i = 0; i < plan->entry_count; i++)
        each_object(plan, i, count_one);
    for (size_t i = 0; i < plan->object_count; i++) {
        plan->objects[i].first = total;
        total += plan->objects[i].count;
        plan->objects[i].count = 0;
    }
    plan->index = calloc(total + 1, sizeof *plan->index);
    if (!plan->index)
        return no_memory(err);
    for (size_t i = 0; i < plan->entry_count; i++)
        each_object(plan, i, index_one);
    return 0;
}

int ramet_wmerge_build(struct ramet_wmerge_plan *plan, struct ramet_error *err)
{
    int r = ramet_wcompare(plan->view[RAMET_WBASE], plan->view[RAMET_WOURS], &plan->ours, err);
    if (r == 0)
        r = ramet_wcompare(plan->view[RAMET_WBASE], plan->view[RAMET_WTHEIRS], &plan->theirs, err);
    if (r == 0)
        r = find_aliases(plan, err);
    if (r < 0)
        return r;
    plan->entries = calloc(plan->ours.name_count + plan->theirs.name_count + 1, sizeof *plan->entries);
    if (!plan->entries)
        return no_memory(err);
    list_side(plan, RAMET_WOURS, &plan->ours);
    list_side(plan, RAMET_WTHEIRS, &plan->theirs);
    if (plan->entry_count > 0)
        qsort(plan->entries, plan->entry_count, sizeof *plan->entries, by_name);
    join_entries(plan);
    r = list_objects(plan, err);
    return r < 0 ? r : make_index(plan, err);
}

void ramet_wmerge_plan_free(struct ramet_wmerge_plan *plan)
{
    for (size_t i = 0; i < plan->object_count; i++)
        free(plan->objects[i].text);
    ramet_wcompared_free(&plan->ours);
    ramet_wcompared_free(&plan->theirs);
    for (int side = 0; side < RAMET_WSIDES; side++)
        ramet_u64map_free(&plan->alias[side]);
    ramet_u64map_free(&plan->by_number);
    free(plan->objects);
    free(plan->entries);
    free(plan->index);
}
