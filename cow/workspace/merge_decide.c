/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a merge makes of each entry and object.
 *
 * 1. An entry that one side changed becomes what that side has; one that both changed
 *    differently is a conflict.
 * 2. An object that one side removed and the other one changed or gave a new name is a
 *    conflict, and so is one whose same aspect both changed differently. Content is merged
 *    by lines first.
 * 3. Then the tree must hold together (merge_settle.c): no directory with two names, or none
 *    and something in it, nothing lost that neither side removed, no directory below itself.
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

enum { text_most = 16 << 20 };

static int no_memory(struct ramet_error *err) { return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to merge"); }

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
    if (r == 0 && same) {
        take = RAMET_WTAKE_OURS;
        ramet_wmerge_object(plan, on[RAMET_WTHEIRS])->is_copy = true;
    } else if (r == 0)
        r = ramet_wmerge_conflict_at(plan, kind_of(plan, entry), entry, &take, err);
    if (r == 0)
        entry->result = on[take == RAMET_WTAKE_OURS ? RAMET_WOURS : RAMET_WTHEIRS];
    return r;
}

/* --- 2: objects --- */

static bool gained_names(struct ramet_wmerge_plan *plan, const struct ramet_wobject *object, int side)
{
    for (size_t i = 0; i < object->count; i++) {
        const struct ramet_wentry_plan *entry = ramet_wmerge_entry(plan, object, i);
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
    int r = ramet_wmerge_conflict_of(
        plan, there == RAMET_WOURS ? RAMET_WCONFLICT_DELETE_MODIFY : RAMET_WCONFLICT_MODIFY_DELETE, object, &take, err);
    if (r == 0)
        ramet_wmerge_take_names(plan, object, take == RAMET_WTAKE_OURS ? RAMET_WOURS : RAMET_WTHEIRS);
    return r;
}

/* Both gave it away from one name, to different ones. */
static bool renamed_apart(struct ramet_wmerge_plan *plan, const struct ramet_wobject *object)
{
    bool lost = false, ours = false, theirs = false;
    for (size_t i = 0; i < object->count; i++) {
        const uint64_t *on = ramet_wmerge_entry(plan, object, i)->on, number = object->number;
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
        r = ramet_wmerge_conflict_of(plan, RAMET_WCONFLICT_BOTH_MODIFIED, object, &take, err);
    object->take = take == RAMET_WTAKE_OURS ? object->theirs_did & ~overlap : object->theirs_did;
    if (r == 0 && renamed_apart(plan, object)) {
        r = ramet_wmerge_conflict_of(plan, RAMET_WCONFLICT_RENAME, object, &take, err);
        if (r == 0)
            ramet_wmerge_take_names(plan, object, take == RAMET_WTAKE_OURS ? RAMET_WOURS : RAMET_WTHEIRS);
    }
    return r;
}

/* One that came over with an earlier merge: the base cannot tell which side changed it since. */
static int decide_shared(struct ramet_wmerge_plan *plan, struct ramet_wobject *object, struct ramet_error *err)
{
    enum ramet_wtake take = RAMET_WTAKE_OURS;
    unsigned differ = 0;
    int r = ramet_wview_differences(plan->view[RAMET_WOURS], object->in[RAMET_WOURS], plan->view[RAMET_WTHEIRS],
                                    object->in[RAMET_WTHEIRS], UINT32_MAX, &differ, err);
    if (r == 0 && differ)
        r = ramet_wmerge_conflict_of(plan, RAMET_WCONFLICT_BOTH_MODIFIED, object, &take, err);
    if (take == RAMET_WTAKE_THEIRS)
        object->take = differ;
    return r;
}

static int decide_object(struct ramet_wmerge_plan *plan, struct ramet_wobject *object, struct ramet_error *err)
{
    if (!object->in[RAMET_WBASE])
        return object->in[RAMET_WOURS] && object->in[RAMET_WOURS] == object->in[RAMET_WTHEIRS]
                   ? decide_shared(plan, object, err)
                   : 0;
    if (!object->in[RAMET_WOURS] && !object->in[RAMET_WTHEIRS])
        return 0;
    if (!object->in[RAMET_WOURS] || !object->in[RAMET_WTHEIRS])
        return decide_removed(plan, object, err);
    return decide_kept(plan, object, err);
}

int ramet_wmerge_decide(struct ramet_wmerge_plan *plan, struct ramet_error *err)
{
    int r = 0;
    for (size_t i = 0; i < plan->entry_count && r == 0; i++)
        r = decide_entry(plan, &plan->entries[i], err);
    for (size_t i = 0; i < plan->object_count && r == 0; i++)
        r = decide_object(plan, &plan->objects[i], err);
    if (r == 0)
        r = ramet_wmerge_settle(plan, err);
    return r < 0 ? r : ramet_wmerge_tell_losses(plan, err);
}
