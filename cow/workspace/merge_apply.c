/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Doing what was decided, in one change. The views are read without their locks: they never
 * change, and the gate that ours' lock holds keeps their nodes in place. Pages are shared,
 * not copied: nobody owns the slots of what a view was made of.
 *
 * Order: new inodes, then what changes in old ones, then names, then the inodes' counts of
 * them. Each object's names are written anew from the list of those it has in the end.
 */
#include "merge_plan.h"

#include "base/cleanup.h"
#include "diff.h"
#include "merge_base.h"
#include "pages.h"
#include "task.h"
#include "workspace_private.h"

#include <stdlib.h>
#include <string.h>

struct apply {
    struct ramet_wmerge_plan *plan;
    struct ramet_wtask task;
};

static int no_memory(struct ramet_error *err) { return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to merge"); }

/* --- records --- */

/* Removes all records of a type that the inode has in ours. */
static int clear_records(struct apply *apply, uint64_t ino, enum ramet_wtype type, struct ramet_error *err)
{
    struct ramet_wtask *task = &apply->task;
    ramet_wref refs[RAMET_WGROUP];
    struct ramet_wvalue value;
    struct ramet_wkey key;
    ramet_wkey_first(&key, ino, type);
    for (;;) {
        int r = ramet_wtree_next(ramet_workspace_tree(task->workspace), &key, &value, err);
        if (r == -RAMET_NOT_FOUND || (r == 0 && (key.ino != ino || key.type != type)))
            return 0;
        if (r == 0 && type == RAMET_WTYPE_BLOCKS)
            r = ramet_wgroup_decode(&value, ino, refs, err);
        if (r < 0)
            return r;
        for (size_t i = 0; type == RAMET_WTYPE_BLOCKS && i < RAMET_WGROUP; i++)
            if (refs[i] != RAMET_WREF_HOLE)
                ramet_wtask_gone(task, &refs[i], 1);
        ramet_wchange_delete(task->change, &key);
        ramet_wkey_after(&key);
    }
}

/* Copies all records of a type from an inode of theirs. */
static int copy_records(struct apply *apply, uint64_t from, uint64_t to, enum ramet_wtype type, struct ramet_error *err)
{
    struct ramet_wtree *theirs = ramet_workspace_tree(apply->plan->view[RAMET_WTHEIRS]);
    struct ramet_wvalue value;
    struct ramet_wkey key;
    ramet_wkey_first(&key, from, type);
    for (;;) {
        int r = ramet_wtree_next(theirs, &key, &value, err);
        if (r == -RAMET_NOT_FOUND || (r == 0 && (key.ino != from || key.type != type)))
            return 0;
        if (r < 0)
            return r;
        key.ino = to;
        ramet_wchange_put(apply->task.change, &key, value.bytes, value.size);
        key.ino = from;
        ramet_wkey_after(&key);
    }
}

static int their_inode(struct apply *apply, const struct ramet_wobject *object, struct ramet_winode *ret,
                       struct ramet_error *err)
{
    return ramet_winode_get(apply->plan->view[RAMET_WTHEIRS], object->in[RAMET_WTHEIRS], ret, err);
}

/* --- objects --- */

static int take_content(struct apply *apply, const struct ramet_wobject *object, uint64_t ino,
                        struct ramet_winode *inode, const struct ramet_winode *theirs, struct ramet_error *err)
{
    uint64_t blocks = ramet_winode_blocks(inode);
    int r;
    if (object->text) {
        r = ramet_wtask_truncate(&apply->task, ino, inode, 0, err);
        return r < 0 ? r : ramet_wtask_write(&apply->task, ino, inode, 0, object->text, object->text_size, err);
    }
    r = clear_records(apply, ino, RAMET_WTYPE_BLOCKS, err);
    if (r == 0)
        r = copy_records(apply, object->in[RAMET_WTHEIRS], ino, RAMET_WTYPE_BLOCKS, err);
    inode->size = theirs->size;
    inode->pages = theirs->pages;
    inode->in_record = theirs->in_record;
    memcpy(inode->bytes, theirs->bytes, sizeof inode->bytes);
    return r < 0 ? r : ramet_wtask_charge_inode(&apply->task, blocks, inode, err);
}

static int take_xattrs(struct apply *apply, const struct ramet_wobject *object, uint64_t ino,
                       struct ramet_winode *inode, const struct ramet_winode *theirs, struct ramet_error *err)
{
    uint64_t blocks = ramet_winode_blocks(inode);
    int r = clear_records(apply, ino, RAMET_WTYPE_XATTR, err);
    if (r == 0)
        r = copy_records(apply, object->in[RAMET_WTHEIRS], ino, RAMET_WTYPE_XATTR, err);
    inode->xattr_bytes = theirs->xattr_bytes;
    inode->xattr_names = theirs->xattr_names;
    return r < 0 ? r : ramet_wtask_charge_inode(&apply->task, blocks, inode, err);
}

/* What theirs did to an object that ours has. */
static int change_object(struct apply *apply, const struct ramet_wobject *object, struct ramet_error *err)
{
    uint64_t ino = object->in[RAMET_WOURS];
    struct ramet_winode inode, theirs;
    int r = ramet_wtask_inode(&apply->task, ino, &inode, err);
    if (r == 0)
        r = their_inode(apply, object, &theirs, err);
    if (r == 0 && object->take & RAMET_WDIFF_CONTENT)
        r = take_content(apply, object, ino, &inode, &theirs, err);
    if (r == 0 && object->take & RAMET_WDIFF_XATTR)
        r = take_xattrs(apply, object, ino, &inode, &theirs, err);
    if (r < 0)
        return r;
    if (object->take & RAMET_WDIFF_MODE)
        inode.mode = theirs.mode;
    if (object->take & RAMET_WDIFF_OWNER) {
        inode.uid = theirs.uid;
        inode.gid = theirs.gid;
    }
    if (object->take & RAMET_WDIFF_CONTENT)
        inode.mtime_ns = object->text ? apply->task.now_ns : theirs.mtime_ns;
    inode.ctime_ns = apply->task.now_ns;
    ramet_wtask_put_inode(&apply->task, ino, &inode);
    apply->plan->result->files++;
    return 0;
}

/* An object that ours gets: it keeps its number, unless ours still has an open file of that number. */
static int make_object(struct apply *apply, struct ramet_wobject *object, struct ramet_error *err)
{
    uint64_t from = object->in[RAMET_WTHEIRS], ino = from;
    struct ramet_winode inode, taken;
    int r = ramet_wtask_inode(&apply->task, ino, &taken, NULL);
    if (r == 0)
        r = ramet_workspace_next_ino(apply->task.workspace, &ino, err);
    else if (r == -RAMET_NOT_FOUND)
        r = 0;
    if (r == 0)
        r = their_inode(apply, object, &inode, err);
    if (r == 0)
        r = copy_records(apply, from, ino, RAMET_WTYPE_BLOCKS, err);
    if (r == 0)
        r = copy_records(apply, from, ino, RAMET_WTYPE_XATTR, err);
    if (r == 0)
        r = ramet_wtask_charge(&apply->task, (int64_t)ramet_winode_blocks(&inode) * 512, 1, err);
    if (r < 0)
        return r;
    bool is_dir = S_ISDIR(inode.mode);
    inode.nlink = is_dir ? 2 : 0;
    inode.pages = is_dir ? 0 : inode.pages;
    inode.parent = inode.cookie = 0;
    inode.ctime_ns = apply->task.now_ns;
    ramet_wtask_put_inode(&apply->task, ino, &inode);
    object->in[RAMET_WOURS] = ino;
    apply->plan->result->files++;
    return 0;
}

static int apply_objects(struct apply *apply, struct ramet_error *err)
{
    struct ramet_wmerge_plan *plan = apply->plan;
    int r = 0;
    for (size_t i = 0; i < plan->object_count && r == 0; i++) {
        struct ramet_wobject *object = &plan->objects[i];
        if (!object->in[RAMET_WOURS] && object->names > 0)
            r = make_object(apply, object, err);
        else if (object->in[RAMET_WOURS] && object->in[RAMET_WTHEIRS] && object->take)
            r = change_object(apply, object, err);
    }
    return r;
}

/* --- names --- */

static uint64_t ours_inode(struct ramet_wmerge_plan *plan, uint64_t number)
{
    const struct ramet_wobject *object = ramet_wmerge_object(plan, number);
    return object ? object->in[RAMET_WOURS] : number;
}

/* Puts, alters or removes the entry, and gives its cookie. The directory's counts follow. */
static int apply_entry(struct apply *apply, const struct ramet_wentry_plan *entry, uint64_t *ret_cookie,
                       struct ramet_error *err)
{
    struct ramet_wmerge_plan *plan = apply->plan;
    uint64_t dir = ours_inode(plan, entry->dir), had = entry->on[RAMET_WOURS], gets = entry->result;
    const struct ramet_wobject *old = ramet_wmerge_object(plan, had), *new = ramet_wmerge_object(plan, gets);
    struct ramet_wname name;
    int links = (new &&S_ISDIR(new->type) ? 1 : 0) - (old && S_ISDIR(old->type) ? 1 : 0), r = 0;
    *ret_cookie = 0;
    if (had && gets) {
        r = ramet_wname_find(apply->task.workspace, dir, entry->name, &name, ret_cookie, err);
        name.ino = new ? new->in[RAMET_WOURS] : gets;
        name.type = new ? new->type : name.type;
        if (r == 0)
            ramet_wtask_put_name(&apply->task, dir, entry->name, &name);
    } else if (gets) {
        r = new ? ramet_wtask_add_name(&apply->task, dir, entry->name, new->in[RAMET_WOURS], new->type, ret_cookie, err)
                : ramet_error_set(err, RAMET_INTERNAL, "\"%s\" would name an unknown file", entry->name);
    } else {
        ramet_wtask_remove_name(&apply->task, dir, entry->name);
    }
    /* A directory that goes needs no counts: that all of it goes was decided, and its own record too. */
    if (r < 0 || dir == 0)
        return r;
    plan->result->names++;
    return ramet_wtask_touch_dir(&apply->task, dir, (gets ? 1 : 0) - (had ? 1 : 0), links, err);
}

/* The names that an object has in the end. */
struct names {
    uint64_t (*items)[2]; /* owned; directory and cookie */
    size_t count;
    struct apply *apply;
    const struct ramet_wobject *object;
};

static int add_name(struct names *names, uint64_t dir, uint64_t cookie, struct ramet_error *err)
{
    uint64_t(*grown)[2] = reallocarray(names->items, names->count + 1, sizeof *grown);
    if (!grown)
        return no_memory(err);
    names->items = grown;
    names->items[names->count][0] = dir;
    names->items[names->count++][1] = cookie;
    return 0;
}

static bool is_dropped(struct names *names, uint64_t dir, uint64_t cookie, const uint64_t *cookies)
{
    const struct ramet_wmerge_plan *plan = names->apply->plan;
    for (size_t i = 0; i < names->object->count; i++) {
        size_t at = plan->index[names->object->first + i];
        const struct ramet_wentry_plan *entry = &plan->entries[at];
        if (entry->on[RAMET_WOURS] == names->object->number && entry->result != names->object->number &&
            ours_inode(names->apply->plan, entry->dir) == dir && cookies[2 * at] == cookie)
            return true;
    }
    return false;
}

/* Those of ours that stay. */
static int keep_old_names(struct names *names, uint64_t ino, const struct ramet_winode *inode, const uint64_t *cookies,
                          struct ramet_error *err)
{
    struct ramet_wtask *task = &names->apply->task;
    struct ramet_wvalue value;
    struct ramet_wkey key;
    int r = 0;
    if (inode->parent && !is_dropped(names, inode->parent, inode->cookie, cookies))
        r = add_name(names, inode->parent, inode->cookie, err);
    ramet_wkey_first(&key, ino, RAMET_WTYPE_NAME);
    while (r == 0) {
        uint64_t dir, cookie;
        r = ramet_wtree_next(ramet_workspace_tree(task->workspace), &key, &value, err);
        if (r == -RAMET_NOT_FOUND || (r == 0 && !ramet_wkey_is_name(&key, ino)))
            return 0;
        if (r < 0)
            return r;
        ramet_wkey_name_parts(&key, &dir, &cookie);
        if (!is_dropped(names, dir, cookie, cookies))
            r = add_name(names, dir, cookie, err);
        ramet_wchange_delete(task->change, &key);
        ramet_wkey_after(&key);
    }
    return r;
}

/* cookies[2 * entry]: what the name had in ours; [2 * entry + 1]: what it has now. */
static int apply_names(struct apply *apply, struct ramet_wobject *object, const uint64_t *cookies,
                       struct ramet_error *err)
{
    struct ramet_wmerge_plan *plan = apply->plan;
    struct names names = {.apply = apply, .object = object};
    struct ramet_winode inode;
    struct ramet_wkey key;
    uint64_t ino = object->in[RAMET_WOURS];
    bool changed = false;
    for (size_t i = 0; i < object->count; i++) {
        const struct ramet_wentry_plan *entry = &plan->entries[plan->index[object->first + i]];
        changed |= (entry->on[RAMET_WOURS] == object->number) != (entry->result == object->number);
    }
    if (!changed || !ino)
        return 0;
    int r = ramet_wtask_inode(&apply->task, ino, &inode, err);
    if (r == 0)
        r = keep_old_names(&names, ino, &inode, cookies, err);
    for (size_t i = 0; i < object->count && r == 0; i++) {
        size_t at = plan->index[object->first + i];
        const struct ramet_wentry_plan *entry = &plan->entries[at];
        if (entry->result == object->number && entry->on[RAMET_WOURS] != object->number)
            r = add_name(&names, ours_inode(plan, entry->dir), cookies[2 * at + 1], err);
    }
    if (r == 0) {
        inode.parent = names.count > 0 ? names.items[0][0] : 0;
        inode.cookie = names.count > 0 ? names.items[0][1] : 0;
        if (!S_ISDIR(inode.mode))
            inode.nlink = (uint32_t)names.count;
        else if (names.count == 0)
            inode.nlink = 0;
        for (size_t i = 1; i < names.count; i++) {
            ramet_wkey_name(&key, ino, names.items[i][0], names.items[i][1]);
            ramet_wchange_put(apply->task.change, &key, "", 0);
        }
        r = ramet_wtask_dropped(&apply->task, ino, &inode, err);
    }
    free(names.items);
    return r;
}

/* The cookies that names have in ours before anything changes. */
static int old_cookies(struct apply *apply, uint64_t *cookies, struct ramet_error *err)
{
    struct ramet_wmerge_plan *plan = apply->plan;
    struct ramet_wname name;
    int r = 0;
    for (size_t i = 0; i < plan->entry_count && r == 0; i++) {
        const struct ramet_wentry_plan *entry = &plan->entries[i];
        if (entry->on[RAMET_WOURS] && entry->on[RAMET_WOURS] != entry->result)
            r = ramet_wname_find(apply->task.workspace, ours_inode(plan, entry->dir), entry->name, &name,
                                 &cookies[2 * i], err);
    }
    return r;
}

/* Theirs' times of an object that is new, or has others than before; last, since all that is done touches them. */
static int take_times(struct apply *apply, const struct ramet_wobject *object, struct ramet_error *err)
{
    struct ramet_wmerge_plan *plan = apply->plan;
    struct ramet_winode inode, theirs, base;
    if (!object->in[RAMET_WOURS] || !object->in[RAMET_WTHEIRS] || object->text)
        return 0;
    int r = ramet_wtask_inode(&apply->task, object->in[RAMET_WOURS], &inode, NULL);
    if (r == -RAMET_NOT_FOUND) /* the merge removed it */
        return 0;
    if (r < 0)
        return ramet_error_set(err, -r, "inode %llu cannot be read", (unsigned long long)object->in[RAMET_WOURS]);
    r = their_inode(apply, object, &theirs, err);
    if (r == 0 && object->in[RAMET_WBASE]) {
        r = ramet_winode_get(plan->view[RAMET_WBASE], object->in[RAMET_WBASE], &base, err);
        if (r == 0 && base.mtime_ns == theirs.mtime_ns && base.atime_ns == theirs.atime_ns)
            return 0;
    }
    if (r < 0)
        return r;
    inode.mtime_ns = theirs.mtime_ns;
    inode.atime_ns = theirs.atime_ns;
    ramet_wtask_put_inode(&apply->task, object->in[RAMET_WOURS], &inode);
    return 0;
}

static int apply_all(struct apply *apply, struct ramet_error *err)
{
    struct ramet_wmerge_plan *plan = apply->plan;
    _autofree_ uint64_t *cookies = calloc(2 * plan->entry_count + 1, sizeof *cookies);
    int r = cookies ? old_cookies(apply, cookies, err) : no_memory(err);
    if (r == 0)
        r = apply_objects(apply, err);
    for (size_t i = 0; i < plan->entry_count && r == 0; i++)
        if (plan->entries[i].on[RAMET_WOURS] != plan->entries[i].result)
            r = apply_entry(apply, &plan->entries[i], &cookies[2 * i + 1], err);
    for (size_t i = 0; i < plan->object_count && r == 0; i++)
        r = apply_names(apply, &plan->objects[i], cookies, err);
    for (size_t i = 0; i < plan->object_count && r == 0 && plan->options->times; i++)
        r = take_times(apply, &plan->objects[i], err);
    return r;
}

static bool is_current(struct ramet_workspace *ours, struct ramet_workspace *view)
{
    struct ramet_wnode *root = atomic_load(&ours->tree.root);
    return root ? root == atomic_load(&view->tree.root) : ours->tree.root_chunk == view->tree.root_chunk;
}

int ramet_wmerge_apply(struct ramet_wmerge_plan *plan, struct ramet_workspace *ours, struct ramet_error *err)
{
    struct apply apply = {.plan = plan};
    int r = ramet_wtask_begin(&apply.task, ours, err);
    if (r < 0)
        return r;
    apply.task.many = true;
    if (!is_current(ours, plan->view[RAMET_WOURS]))
        r = ramet_error_set(err, RAMET_BUSY, "workspace \"%s\" changed while it was merged", ours->name);
    if (r == 0)
        r = apply_all(&apply, err);
    if (r == 0 && plan->kept_serial)
        r = ramet_wmerge_note(ours, apply.task.change, plan->theirs_serial, plan->kept_serial, err);
    return ramet_wtask_end(&apply.task, r, err);
}
