/* SPDX-License-Identifier: Apache-2.0 */
/* States of a workspace, rolling back to one, promoting. As in heads.c, each call is one record of the journal. */
#include "base/cleanup.h"
#include "base/file.h"
#include "files.h"
#include "workspace_private.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static bool is_of(const struct ramet_workspace *state, const char *id)
{
    return !state->is_view && strcmp(state->id, id) == 0;
}

/* Borrowed or NULL. Under names. */
static struct ramet_workspace *find_state(struct ramet_workspaces *set, const char *id, const char *name)
{
    for (size_t i = set->state_count; i-- > 0;)
        if (is_of(set->states[i], id) && strcmp(set->states[i]->name, name) == 0)
            return set->states[i];
    return NULL;
}

static void describe(const struct ramet_workspace *state, struct ramet_workspace_state *ret)
{
    memcpy(ret->name, state->name, sizeof ret->name);
    ret->serial = state->serial;
    ret->created_ms = state->created_ms;
}

/* A name that no state of the workspace has, made of the time. Under names. */
static void make_name(struct ramet_workspaces *set, const char *id, int64_t now_ms, char name[RAMET_CATALOG_NAME_SIZE])
{
    time_t seconds = (time_t)(now_ms / 1000);
    struct tm tm;
    char stamp[32];
    gmtime_r(&seconds, &tm);
    strftime(stamp, sizeof stamp, "%Y%m%d-%H%M%S", &tm);
    snprintf(name, RAMET_CATALOG_NAME_SIZE, "%s.%03d", stamp, (int)(now_ms % 1000));
    for (unsigned i = 2; find_state(set, id, name); i++)
        snprintf(name, RAMET_CATALOG_NAME_SIZE, "%s.%03d-%u", stamp, (int)(now_ms % 1000), i);
}

/* A state of the workspace's tree, linked and noted in the record. The lock is held, names too. */
static int add_state(struct ramet_workspace *workspace, struct ramet_workspace *state, const char *name,
                     struct ramet_wjrecord **record, struct ramet_error *err)
{
    memcpy(state->id, workspace->id, sizeof state->id);
    state->audited = workspace->audited;
    if (name)
        snprintf(state->name, sizeof state->name, "%s", name);
    else
        make_name(workspace->set, state->id, state->created_ms, state->name);
    if (find_state(workspace->set, state->id, state->name))
        return ramet_error_set(err, RAMET_EXISTS, "workspace \"%s\" has a state \"%s\" already", workspace->name,
                               state->name);
    int r = ramet_whead_note(state, workspace->serial, 0, record, err);
    return r < 0 ? r : ramet_whead_link(state, err);
}

int ramet_workspace_snapshot(struct ramet_workspace *workspace, const char *name, struct ramet_workspace_state *ret,
                             struct ramet_error *err)
{
    struct ramet_workspaces *set = workspace->set;
    struct ramet_wjrecord *record = NULL;
    _cleanup_(ramet_workspace_cleanup) struct ramet_workspace *state = NULL;
    int r = name ? ramet_name_check(name, "name of a state", err) : 0;
    if (r == 0)
        r = ramet_whead_new(set, &state, err);
    if (r < 0)
        return r;
    state->is_state = true;
    if ((r = ramet_workspace_lock(workspace, err)) < 0)
        return r;
    r = ramet_whead_branch_off(workspace, state, err);
    if (r == 0) {
        pthread_mutex_lock(&set->names);
        r = add_state(workspace, state, name, &record, err);
        if (r == 0)
            ramet_wset_queue(set, STEAL(record));
        if (r == 0 && ret)
            describe(state, ret);
        pthread_mutex_unlock(&set->names);
    }
    ramet_workspace_unlock(workspace);
    free(record);
    return r;
}

/* Under the gate, exclusively, and names. */
static int keep_all(struct ramet_workspace *const *workspaces, struct ramet_workspace **states, size_t count,
                    const char *name, struct ramet_wjrecord **record, struct ramet_error *err)
{
    for (size_t i = 0; i < count; i++)
        if (workspaces[i]->removed)
            return ramet_error_set(err, RAMET_NOT_FOUND, "workspace \"%s\" was removed", workspaces[i]->name);
        else if (find_state(workspaces[i]->set, workspaces[i]->id, name))
            return ramet_error_set(err, RAMET_EXISTS, "workspace \"%s\" has a state \"%s\" already",
                                   workspaces[i]->name, name);
    for (size_t i = 0; i < count; i++) {
        int r = ramet_whead_branch_off(workspaces[i], states[i], err);
        if (r < 0)
            return r;
    }
    for (size_t i = 0; i < count; i++) {
        int r = add_state(workspaces[i], states[i], name, record, err);
        if (r < 0) {
            while (i-- > 0)
                ramet_whead_unlink(states[i]);
            return r;
        }
    }
    return 0;
}

int ramet_workspaces_snapshot(struct ramet_workspaces *set, struct ramet_workspace *const *workspaces, size_t count,
                              const char *name, struct ramet_error *err)
{
    struct ramet_wjrecord *record = NULL;
    _autofree_ struct ramet_workspace **states = calloc(count + 1, sizeof *states);
    int r = states ? ramet_name_check(name, "name of a state", err)
                   : ramet_error_set(err, RAMET_NO_MEMORY, "no memory to keep workspaces");
    for (size_t i = 0; i < count && r == 0; i++) {
        struct ramet_wstat stat; /* so that nothing is read from the disk while everybody waits */
        r = ramet_wfile_stat(workspaces[i], RAMET_WORKSPACE_ROOT, &stat, err);
        if (r == 0 && (r = ramet_whead_new(set, &states[i], err)) == 0)
            states[i]->is_state = true;
    }
    if (r == 0) {
        pthread_rwlock_wrlock(&set->gate);
        pthread_mutex_lock(&set->names);
        r = keep_all(workspaces, states, count, name, &record, err);
        if (r == 0)
            ramet_wset_queue(set, STEAL(record));
        pthread_mutex_unlock(&set->names);
        pthread_rwlock_unlock(&set->gate);
    }
    for (size_t i = 0; i < count && states; i++)
        ramet_workspace_unref(states[i]);
    free(record);
    return r;
}

int ramet_workspace_states(struct ramet_workspace *workspace, struct ramet_workspace_state **ret, size_t *ret_count,
                           struct ramet_error *err)
{
    struct ramet_workspaces *set = workspace->set;
    size_t count = 0;
    pthread_mutex_lock(&set->names);
    struct ramet_workspace_state *states = calloc(set->state_count + 1, sizeof *states);
    for (size_t i = 0; states && i < set->state_count; i++)
        if (is_of(set->states[i], workspace->id))
            describe(set->states[i], &states[count++]);
    pthread_mutex_unlock(&set->names);
    if (!states)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to list the states of \"%s\"", workspace->name);
    *ret = states;
    *ret_count = count;
    return 0;
}

int ramet_workspace_state_open(struct ramet_workspace *workspace, const char *name, struct ramet_workspace **ret,
                               struct ramet_error *err)
{
    pthread_mutex_lock(&workspace->set->names);
    struct ramet_workspace *state = find_state(workspace->set, workspace->id, name);
    if (state)
        ramet_workspace_ref(state);
    else
        ramet_error_set(err, RAMET_NOT_FOUND, "workspace \"%s\" has no state \"%s\"", workspace->name, name);
    pthread_mutex_unlock(&workspace->set->names);
    if (!state)
        return ramet_error_hint(err, "'ramet workspace history' lists them");
    *ret = state;
    return 0;
}

int ramet_workspace_state_remove(struct ramet_workspace *workspace, const char *name, struct ramet_error *err)
{
    _cleanup_(ramet_workspace_cleanup) struct ramet_workspace *state = NULL;
    int r = ramet_workspace_state_open(workspace, name, &state, err);
    return r < 0 ? r : ramet_workspace_remove(state, err);
}

int ramet_workspace_base_open(struct ramet_workspace *workspace, struct ramet_workspace **ret, struct ramet_error *err)
{
    struct ramet_workspaces *set = workspace->set;
    _cleanup_(ramet_workspace_cleanup) struct ramet_workspace *view = NULL;
    int r = ramet_whead_new(set, &view, err);
    if (r < 0)
        return r;
    view->is_state = view->is_view = view->announced = true;
    if ((r = ramet_workspace_lock_shared(workspace, err)) < 0)
        return r;
    if (!workspace->has_base)
        r = ramet_error_set(err, RAMET_NOT_FOUND, "workspace \"%s\" was not forked from another", workspace->name);
    if (r == 0)
        r = ramet_wtree_share(&view->tree, &workspace->base, err);
    if (r == 0)
        r = ramet_wfiles_open(view, err);
    if (r == 0) {
        pthread_mutex_lock(&set->names);
        r = ramet_whead_link(view, err);
        pthread_mutex_unlock(&set->names);
    }
    ramet_workspace_unlock(workspace);
    if (r == 0)
        *ret = STEAL(view);
    return r;
}

/* --- rolling back --- */

/* The workspace's next life, over the tree of `state`. */
static int next_life(struct ramet_workspace *workspace, struct ramet_workspace *state, struct ramet_workspace *next,
                     struct ramet_error *err)
{
    int r = 0;
    next->created_ms = workspace->created_ms;
    if (workspace->has_base)
        r = ramet_wtree_share(&next->base, &workspace->base, err);
    next->has_base = workspace->has_base;
    memcpy(next->parent, workspace->parent, sizeof next->parent);
    memcpy(next->sandbox, workspace->sandbox, sizeof next->sandbox);
    memcpy(next->name, workspace->name, sizeof next->name);
    memcpy(next->id, workspace->id, sizeof next->id);
    next->quota_bytes = workspace->quota_bytes;
    next->quota_inodes = workspace->quota_inodes;
    next->audited = workspace->audited;
    if (r == 0)
        r = ramet_whead_branch_off(state, next, err);
    if (r == 0 && !workspace->has_base) { /* it was not forked, and the state is no fork's beginning */
        ramet_wtree_drop(&next->base);
        next->has_base = false;
    }
    return r;
}

/* All in one record. Under names, the gate held for writing. */
static int replace(struct ramet_workspace *workspace, struct ramet_workspace *before, struct ramet_workspace *state,
                   struct ramet_workspace *next, struct ramet_error *err)
{
    struct ramet_workspaces *set = workspace->set;
    struct ramet_wjrecord *record = NULL;
    int r = next_life(workspace, state, next, err);
    if (r == 0)
        r = add_state(workspace, before, NULL, &record, err);
    bool linked = r == 0;
    if (r == 0)
        r = ramet_whead_note(next, state->serial, workspace->serial, &record, err);
    if (r == 0)
        r = ramet_whead_note_drop(workspace->serial, &record, err);
    if (r == 0) {
        ramet_workspace_ref(workspace);
        ramet_whead_unlink(workspace);
        if ((r = ramet_whead_link(next, err)) < 0)
            ramet_whead_link(workspace, NULL);
        else
            workspace->removed = true;
        ramet_workspace_unref(workspace);
    }
    if (r == 0)
        ramet_wset_queue(set, record);
    else
        free(record);
    if (r < 0 && linked)
        ramet_whead_unlink(before);
    return r;
}

int ramet_workspace_rollback(struct ramet_workspace *workspace, const char *state, struct ramet_workspace_state *ret,
                             struct ramet_error *err)
{
    struct ramet_workspaces *set = workspace->set;
    _cleanup_(ramet_workspace_cleanup) struct ramet_workspace *to = NULL, *before = NULL, *next = NULL;
    struct ramet_wnode *root;
    int r = ramet_wset_writable(set, err);
    if (r == 0)
        r = ramet_workspace_state_open(workspace, state, &to, err);
    if (r == 0)
        r = ramet_whead_new(set, &before, err);
    if (r == 0)
        r = ramet_whead_new(set, &next, err);
    if (r == 0 && (r = ramet_workspace_lock_shared(to, err)) == 0) {
        r = ramet_wtree_root(&to->tree, &root, err); /* not while everybody waits */
        ramet_workspace_unlock(to);
    }
    if (r < 0)
        return r;
    before->is_state = true;
    pthread_rwlock_wrlock(&set->gate);
    if (workspace->removed || to->removed || workspace->is_state)
        r = ramet_error_set(err, RAMET_NOT_FOUND, "workspace \"%s\" was removed", workspace->name);
    else if (!workspace->damaged) /* else there is nothing to keep */
        r = ramet_whead_branch_off(workspace, before, err);
    if (r == 0) {
        pthread_mutex_lock(&set->names);
        r = replace(workspace, before, to, next, err);
        if (r == 0 && ret)
            describe(before, ret);
        pthread_mutex_unlock(&set->names);
    }
    pthread_rwlock_unlock(&set->gate);
    return r;
}

/* --- promoting --- */

/* What a promotion changes in one head. */
struct change {
    struct ramet_workspace *head;
    char name[RAMET_CATALOG_NAME_SIZE], id[RAMET_CATALOG_ID_SIZE], parent[RAMET_CATALOG_ID_SIZE];
    char sandbox[RAMET_CATALOG_ID_SIZE];
    bool audited;
};

static void swap_change(struct change *change)
{
    struct ramet_workspace *head = change->head;
    struct change held = {.head = head, .audited = head->audited};
    memcpy(held.name, head->name, sizeof held.name);
    memcpy(held.id, head->id, sizeof held.id);
    memcpy(held.parent, head->parent, sizeof held.parent);
    memcpy(held.sandbox, head->sandbox, sizeof held.sandbox);
    memcpy(head->name, change->name, sizeof held.name);
    memcpy(head->id, change->id, sizeof held.id);
    memcpy(head->parent, change->parent, sizeof held.parent);
    memcpy(head->sandbox, change->sandbox, sizeof held.sandbox);
    head->audited = change->audited;
    *change = held;
}

/* Whether the name that state `at` shall have belongs to another one: of the workspace, of the parent, or given
 * already.
 */
static bool is_taken(struct ramet_workspace *workspace, struct ramet_workspace *parent, const struct change *changes,
                     size_t at)
{
    const char *name = changes[at].name;
    const struct ramet_workspace *of_parent = find_state(workspace->set, parent->id, name);
    bool taken = find_state(workspace->set, workspace->id, name) || (of_parent && of_parent != changes[at].head);
    for (size_t i = 0; i < at && !taken; i++)
        taken = changes[i].head->is_state && strcmp(changes[i].name, name) == 0;
    return taken;
}

/* The states of the parent become the workspace's, its forks too. */
static size_t gather(struct ramet_workspace *workspace, struct ramet_workspace *parent, struct change *changes)
{
    struct ramet_workspaces *set = workspace->set;
    size_t count = 0;
    for (size_t i = 0; i < set->state_count + set->head_count; i++) {
        struct ramet_workspace *head = i < set->state_count ? set->states[i] : set->heads[i - set->state_count];
        bool is_state = head->is_state && is_of(head, parent->id);
        bool is_fork = !head->is_state && head != workspace && strcmp(head->parent, parent->id) == 0;
        if (!is_state && !is_fork)
            continue;
        struct change *change = &changes[count++];
        change->head = head;
        change->audited = is_state ? workspace->audited || parent->audited : head->audited;
        memcpy(change->name, head->name, sizeof change->name);
        memcpy(change->parent, head->parent, sizeof change->parent);
        memcpy(change->id, head->id, sizeof change->id);
        memcpy(change->sandbox, head->sandbox, sizeof change->sandbox);
        memcpy(is_state ? change->id : change->parent, workspace->id, sizeof change->id);
        for (unsigned n = 2; is_state && is_taken(workspace, parent, changes, count - 1); n++)
            snprintf(change->name, sizeof change->name, "%.50s-%u", head->name, n);
    }
    return count;
}

/* Under names, the gate held for writing. */
static int take_place(struct ramet_workspace *workspace, struct ramet_workspace *parent, struct change *changes,
                      struct ramet_error *err)
{
    struct ramet_workspaces *set = workspace->set;
    struct ramet_wjrecord *record = NULL;
    size_t count = gather(workspace, parent, changes), made = 0;
    struct change *own = &changes[count++];
    *own = (struct change){.head = workspace, .audited = workspace->audited || parent->audited};
    memcpy(own->name, parent->name, sizeof own->name);
    memcpy(own->id, workspace->id, sizeof own->id);
    memcpy(own->parent, parent->parent, sizeof own->parent);
    memcpy(own->sandbox, workspace->sandbox[0] ? workspace->sandbox : parent->sandbox, sizeof own->sandbox);
    ramet_workspace_ref(parent);
    ramet_workspace_ref(workspace);
    int r = ramet_whead_note_drop(parent->serial, &record, err);
    ramet_whead_unlink(workspace);
    ramet_whead_unlink(parent);
    for (; made < count && r == 0; made++) {
        swap_change(&changes[made]);
        r = ramet_whead_note(changes[made].head, changes[made].head->serial, 0, &record, err);
    }
    while (r < 0 && made > 0)
        swap_change(&changes[--made]);
    if (r < 0)
        ramet_whead_link(parent, NULL); /* there is room for both: they were just taken out */
    ramet_whead_link(workspace, NULL);
    for (size_t i = 0; i < count && r == 0; i++)
        changes[i].head->stale = true;
    parent->removed = r == 0;
    if (r == 0) {
        ramet_whead_audit_states(workspace);
        ramet_wset_queue(set, record);
    } else {
        free(record);
    }
    ramet_workspace_unref(parent);
    ramet_workspace_unref(workspace);
    return r;
}

static struct ramet_workspace *by_id(struct ramet_workspaces *set, const char *id)
{
    for (size_t i = 0; i < set->head_count; i++)
        if (strcmp(set->heads[i]->id, id) == 0)
            return set->heads[i];
    return NULL;
}

int ramet_workspace_promote(struct ramet_workspace *workspace, struct ramet_error *err)
{
    struct ramet_workspaces *set = workspace->set;
    int r = ramet_wset_writable(set, err);
    if (r < 0)
        return r;
    pthread_rwlock_wrlock(&set->gate);
    pthread_mutex_lock(&set->names);
    struct ramet_workspace *parent = by_id(set, workspace->parent);
    _autofree_ struct change *changes = calloc(set->head_count + set->state_count + 1, sizeof *changes);
    if (workspace->removed || workspace->is_state)
        r = ramet_error_set(err, RAMET_NOT_FOUND, "workspace \"%s\" was removed", workspace->name);
    else if (!parent)
        r = ramet_error_set(err, RAMET_CONFLICT, "workspace \"%s\" has no parent whose place it could take",
                            workspace->name);
    else if (!changes)
        r = ramet_error_set(err, RAMET_NO_MEMORY, "no memory to promote workspace \"%s\"", workspace->name);
    else
        r = take_place(workspace, parent, changes, err);
    pthread_mutex_unlock(&set->names);
    pthread_rwlock_unlock(&set->gate);
    return r;
}
