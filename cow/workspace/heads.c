/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making, forking, naming and removing workspaces, and their history. Each call is one
 * record of the journal, queued under `names` together with what it did, so that the
 * journal has them in the order in which they happened.
 */
#include "base/cleanup.h"
#include "base/file.h"
#include "epoch.h"
#include "files.h"
#include "workspace_private.h"

#include <string.h>
#include <time.h>

static void set_name(struct ramet_workspace *workspace, const char *name)
{
    snprintf(workspace->name, sizeof workspace->name, "%s", name);
}

/* --- making --- */

static int link_named(struct ramet_workspace *workspace, struct ramet_error *err)
{
    pthread_mutex_lock(&workspace->set->names);
    int r = ramet_whead_link(workspace, err);
    pthread_mutex_unlock(&workspace->set->names);
    return r;
}

static void unlink_named(struct ramet_workspace *workspace)
{
    pthread_mutex_lock(&workspace->set->names);
    ramet_whead_unlink(workspace);
    pthread_mutex_unlock(&workspace->set->names);
}

int ramet_workspace_create(struct ramet_workspaces *set, const char *name, uint32_t uid, uint32_t gid,
                           struct ramet_workspace **ret, struct ramet_error *err)
{
    _cleanup_(ramet_workspace_cleanup) struct ramet_workspace *workspace = NULL;
    int r = ramet_name_check(name, "name of a workspace", err);
    if (r == 0)
        r = ramet_whead_new(set, &workspace, err);
    if (r < 0)
        return r;
    set_name(workspace, name);
    workspace->uid = uid;
    workspace->gid = gid;
    if ((r = ramet_workspace_lock(workspace, err)) < 0)
        return r;
    r = link_named(workspace, err);
    if (r == 0 && (r = ramet_wfiles_make(workspace, uid, gid, err)) < 0) {
        workspace->removed = true;
        unlink_named(workspace);
    }
    ramet_workspace_unlock(workspace);
    if (r == 0)
        *ret = STEAL(workspace);
    return r;
}

/* --- forking --- */

static int branch_off(struct ramet_workspace *from, struct ramet_workspace *to, struct ramet_error *err)
{
    if (from->removed)
        return ramet_error_set(err, RAMET_NOT_FOUND, "workspace \"%s\" was removed", from->name);
    if (from->damaged)
        return ramet_error_set(err, RAMET_CORRUPT, "%s", from->damage);
    return ramet_whead_branch_off(from, to, err);
}

/* Links `count` forks and puts them into one record; all or none. Under names. */
static int link_forks(struct ramet_workspaces *set, struct ramet_workspace *const *from, struct ramet_workspace **to,
                      size_t count, struct ramet_error *err)
{
    struct ramet_wjrecord *record = NULL;
    size_t linked = 0;
    int r = 0;
    for (; linked < count && r == 0; linked += r == 0) {
        struct ramet_workspace *fork = to[linked], *origin = from[linked];
        memcpy(fork->parent, origin->id, sizeof fork->parent);
        fork->quota_bytes = origin->quota_bytes;
        fork->quota_inodes = origin->quota_inodes;
        fork->audited = origin->audited;
        r = ramet_whead_link(fork, err);
        if (r == 0 && (r = ramet_whead_note(fork, origin->serial, 0, &record, err)) < 0)
            ramet_whead_unlink(fork);
    }
    if (r == 0) {
        ramet_wset_queue(set, record);
        return 0;
    }
    while (linked > 0)
        ramet_whead_unlink(to[--linked]);
    free(record);
    return r;
}

int ramet_workspace_fork(struct ramet_workspace *from, const char *name, struct ramet_workspace **ret,
                         struct ramet_error *err)
{
    struct ramet_workspaces *set = from->set;
    _cleanup_(ramet_workspace_cleanup) struct ramet_workspace *fork = NULL;
    int r = ramet_name_check(name, "name of a workspace", err);
    if (r == 0)
        r = ramet_wset_writable(set, err);
    if (r == 0)
        r = ramet_whead_new(set, &fork, err);
    if (r < 0)
        return r;
    set_name(fork, name);
    pthread_rwlock_rdlock(&set->gate);
    pthread_rwlock_wrlock(&from->lock);
    r = branch_off(from, fork, err);
    if (r == 0) {
        pthread_mutex_lock(&set->names);
        r = link_forks(set, &from, &fork, 1, err);
        pthread_mutex_unlock(&set->names);
    }
    ramet_workspace_unlock(from);
    if (r == 0)
        *ret = STEAL(fork);
    return r;
}

/* Loads the roots, so that nothing is read while everybody waits. */
static int load_root(struct ramet_workspace *workspace, struct ramet_error *err)
{
    struct ramet_wnode *root;
    int r = ramet_workspace_lock_shared(workspace, err);
    if (r < 0)
        return r;
    r = ramet_wtree_root(&workspace->tree, &root, err);
    ramet_workspace_unlock(workspace);
    return r;
}

int ramet_workspaces_fork(struct ramet_workspaces *set, struct ramet_workspace *const *from, const char *const *names,
                          size_t count, struct ramet_workspace **ret, struct ramet_error *err)
{
    _autofree_ struct ramet_workspace **forks = calloc(count + 1, sizeof *forks);
    int r =
        forks ? ramet_wset_writable(set, err) : ramet_error_set(err, RAMET_NO_MEMORY, "no memory to fork workspaces");
    for (size_t i = 0; i < count && r == 0; i++) {
        r = ramet_name_check(names[i], "name of a workspace", err);
        if (r == 0)
            r = load_root(from[i], err);
        if (r == 0 && (r = ramet_whead_new(set, &forks[i], err)) == 0)
            set_name(forks[i], names[i]);
    }
    if (r == 0) {
        pthread_rwlock_wrlock(&set->gate);
        for (size_t i = 0; i < count && r == 0; i++)
            r = branch_off(from[i], forks[i], err);
        if (r == 0) {
            pthread_mutex_lock(&set->names);
            r = link_forks(set, from, forks, count, err);
            pthread_mutex_unlock(&set->names);
        }
        pthread_rwlock_unlock(&set->gate);
    }
    for (size_t i = 0; i < count && forks; i++) {
        if (r == 0)
            ret[i] = forks[i];
        else
            ramet_workspace_unref(forks[i]);
    }
    return r;
}

/* --- removing, naming --- */

static bool is_state_of(const struct ramet_workspace *state, const struct ramet_workspace *workspace)
{
    return !state->is_view && strcmp(state->id, workspace->id) == 0;
}

/* Marks it removed for all who hold it. Its lock is held exclusively, or it is a state and the gate is. */
static void kill(struct ramet_workspace *workspace) { workspace->removed = true; }

int ramet_workspace_remove(struct ramet_workspace *workspace, struct ramet_error *err)
{
    struct ramet_workspaces *set = workspace->set;
    struct ramet_wjrecord *record = NULL;
    int r = ramet_wset_writable(set, err);
    if (r < 0)
        return r;
    pthread_rwlock_wrlock(&set->gate);
    pthread_mutex_lock(&set->names);
    r = workspace->removed ? ramet_error_set(err, RAMET_NOT_FOUND, "workspace \"%s\" was removed", workspace->name)
                           : ramet_whead_note_drop(workspace->serial, &record, err);
    for (size_t i = 0; i < set->state_count && r == 0 && !workspace->is_state; i++)
        if (is_state_of(set->states[i], workspace))
            r = ramet_whead_note_drop(set->states[i]->serial, &record, err);
    if (r == 0) {
        for (size_t i = set->state_count; i-- > 0 && !workspace->is_state;)
            if (is_state_of(set->states[i], workspace)) {
                kill(set->states[i]);
                ramet_whead_unlink(set->states[i]);
            }
        kill(workspace);
        ramet_whead_unlink(workspace);
        ramet_wset_queue(set, record);
    } else {
        free(record);
    }
    pthread_mutex_unlock(&set->names);
    pthread_rwlock_unlock(&set->gate);
    return r;
}

/* A change of what is in the head's record: `alter` makes it, under names, and `restore` takes it back. */
struct alteration {
    char name[RAMET_CATALOG_NAME_SIZE], sandbox[RAMET_CATALOG_ID_SIZE];
    uint64_t quota_bytes, quota_inodes;
    bool audited;
};

static struct alteration current(const struct ramet_workspace *workspace)
{
    struct alteration a = {
        .quota_bytes = workspace->quota_bytes, .quota_inodes = workspace->quota_inodes, .audited = workspace->audited};
    memcpy(a.name, workspace->name, sizeof a.name);
    memcpy(a.sandbox, workspace->sandbox, sizeof a.sandbox);
    return a;
}

static void make(struct ramet_workspace *workspace, const struct alteration *a)
{
    memcpy(workspace->name, a->name, sizeof a->name);
    memcpy(workspace->sandbox, a->sandbox, sizeof a->sandbox);
    workspace->quota_bytes = a->quota_bytes;
    workspace->quota_inodes = a->quota_inodes;
    workspace->audited = a->audited;
}

/* Under names, the lock held. A new name moves it in the list. */
static int alter(struct ramet_workspace *workspace, const struct alteration *to, struct ramet_error *err)
{
    struct ramet_wjrecord *record = NULL;
    struct alteration before = current(workspace);
    bool moved = strcmp(before.name, to->name) != 0;
    if (moved && ramet_whead_named(workspace->set, to->name))
        return ramet_error_set(err, RAMET_EXISTS, "a workspace is named \"%s\" already", to->name);
    ramet_workspace_ref(workspace);
    if (moved)
        ramet_whead_unlink(workspace);
    make(workspace, to);
    int r = ramet_whead_note(workspace, workspace->serial, 0, &record, err);
    if (r < 0)
        make(workspace, &before);
    if (moved)
        ramet_whead_link(workspace, NULL); /* there is room, it was just taken out */
    ramet_workspace_unref(workspace);
    if (r < 0)
        return r;
    workspace->stale = true;
    ramet_whead_audit_states(workspace);
    ramet_wset_queue(workspace->set, record);
    return 0;
}

static int alter_locked(struct ramet_workspace *workspace, const struct alteration *to, struct ramet_error *err)
{
    pthread_mutex_lock(&workspace->set->names);
    int r = alter(workspace, to, err);
    pthread_mutex_unlock(&workspace->set->names);
    ramet_workspace_unlock(workspace);
    return r;
}

int ramet_workspace_rename(struct ramet_workspace *workspace, const char *name, struct ramet_error *err)
{
    int r = ramet_name_check(name, "name of a workspace", err);
    if (r == 0)
        r = ramet_workspace_lock(workspace, err);
    if (r < 0)
        return r;
    struct alteration to = current(workspace);
    snprintf(to.name, sizeof to.name, "%s", name);
    return alter_locked(workspace, &to, err);
}

int ramet_workspace_attach(struct ramet_workspace *workspace, const char *sandbox_id, struct ramet_error *err)
{
    int r = ramet_workspace_lock(workspace, err);
    if (r < 0)
        return r;
    struct alteration to = current(workspace);
    snprintf(to.sandbox, sizeof to.sandbox, "%s", sandbox_id ? sandbox_id : "");
    return alter_locked(workspace, &to, err);
}

int ramet_workspace_set_quota(struct ramet_workspace *workspace, uint64_t bytes, uint64_t inodes,
                              struct ramet_error *err)
{
    int r = ramet_workspace_lock(workspace, err);
    if (r < 0)
        return r;
    struct alteration to = current(workspace);
    to.quota_bytes = bytes;
    to.quota_inodes = inodes;
    return alter_locked(workspace, &to, err);
}

int ramet_workspace_set_audited(struct ramet_workspace *workspace, bool audited, struct ramet_error *err)
{
    int r = ramet_workspace_lock(workspace, err);
    if (r < 0)
        return r;
    struct alteration to = current(workspace);
    to.audited = audited;
    return alter_locked(workspace, &to, err);
}
