/* SPDX-License-Identifier: Apache-2.0 */
/* The set of a store's workspaces: opening, closing, finding, locking. */
#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "catalog_private.h"
#include "change_private.h"
#include "epoch.h"
#include "files.h"
#include "workspace_private.h"

#include <stdlib.h>
#include <string.h>

enum { queued_max = 64 << 20 };

/* --- locks --- */

static int check(struct ramet_workspace *workspace, bool write, struct ramet_error *err)
{
    if (workspace->removed)
        return ramet_error_set(err, RAMET_NOT_FOUND, "workspace \"%s\" was removed", workspace->name);
    if (workspace->damaged) {
        ramet_error_set(err, RAMET_CORRUPT, "%s", workspace->damage);
        return ramet_error_hint(err, "'ramet store fsck' tells what is damaged; states of it or forks may be intact");
    }
    if (write && workspace->is_state) {
        ramet_error_set(err, RAMET_READ_ONLY, "state \"%s\" of a workspace does not change", workspace->name);
        return ramet_error_hint(err, "fork it to write to it");
    }
    return 0;
}

int ramet_workspace_lock(struct ramet_workspace *workspace, struct ramet_error *err)
{
    struct ramet_workspaces *set = workspace->set;
    int r = ramet_wset_writable(set, err);
    /* Whoever writes faster than the disk waits for it here. */
    if (r == 0 && atomic_load_explicit(&set->commit.queued_bytes, memory_order_relaxed) > queued_max)
        r = ramet_workspaces_sync(set, err);
    if (r < 0)
        return r;
    pthread_rwlock_rdlock(&workspace->set->gate);
    pthread_rwlock_wrlock(&workspace->lock);
    r = check(workspace, true, err);
    if (r < 0)
        ramet_workspace_unlock(workspace);
    return r;
}

int ramet_workspace_lock_shared(struct ramet_workspace *workspace, struct ramet_error *err)
{
    pthread_rwlock_rdlock(&workspace->set->gate);
    pthread_rwlock_rdlock(&workspace->lock);
    int r = check(workspace, false, err);
    if (r < 0)
        ramet_workspace_unlock(workspace);
    return r;
}

void ramet_workspace_unlock(struct ramet_workspace *workspace)
{
    pthread_rwlock_unlock(&workspace->lock);
    pthread_rwlock_unlock(&workspace->set->gate);
}

int ramet_workspace_next_ino(struct ramet_workspace *workspace, uint64_t *ret, struct ramet_error *err)
{
    uint64_t ino = atomic_fetch_add_explicit(&workspace->set->next_ino, 1, memory_order_relaxed);
    if (ino >= RAMET_WINO_END)
        return ramet_error_set(err, RAMET_NO_SPACE, "all inode numbers of the store are used");
    *ret = ino;
    return 0;
}

/* --- finding --- */

int ramet_workspace_find(struct ramet_workspaces *set, const char *ref, struct ramet_workspace **ret,
                         struct ramet_error *err)
{
    pthread_mutex_lock(&set->names);
    struct ramet_workspace *found = ramet_whead_named(set, ref);
    for (size_t i = 0; !found && i < set->head_count; i++)
        found = strcmp(set->heads[i]->id, ref) == 0 ? set->heads[i] : NULL;
    if (found)
        ramet_workspace_ref(found);
    pthread_mutex_unlock(&set->names);
    if (!found) {
        ramet_error_set(err, RAMET_NOT_FOUND, "workspace \"%s\" not found", ref);
        return ramet_error_hint(err, "'ramet workspace ls' lists them");
    }
    *ret = found;
    return 0;
}

int ramet_workspace_by_serial(struct ramet_workspaces *set, uint64_t serial, struct ramet_workspace **ret,
                              struct ramet_error *err)
{
    uint64_t found = 0;
    pthread_mutex_lock(&set->names);
    if (ramet_u64map_get(&set->serials, serial, &found))
        ramet_workspace_ref((struct ramet_workspace *)(uintptr_t)found);
    pthread_mutex_unlock(&set->names);
    if (!found)
        return ramet_error_set(err, RAMET_NOT_FOUND, "no workspace has serial %llu", (unsigned long long)serial);
    *ret = (struct ramet_workspace *)(uintptr_t)found;
    return 0;
}

int ramet_workspaces_list(struct ramet_workspaces *set, struct ramet_workspace ***ret, size_t *ret_count,
                          struct ramet_error *err)
{
    pthread_mutex_lock(&set->names);
    size_t count = set->head_count;
    struct ramet_workspace **list = calloc(count + 1, sizeof *list);
    for (size_t i = 0; list && i < count; i++)
        list[i] = ramet_workspace_ref(set->heads[i]);
    pthread_mutex_unlock(&set->names);
    if (!list)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to list workspaces");
    *ret = list;
    *ret_count = count;
    return 0;
}

void ramet_workspaces_list_free(struct ramet_workspace **list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        ramet_workspace_unref(list[i]);
    free(list);
}

void ramet_workspace_info(struct ramet_workspace *workspace, struct ramet_workspace_info *ret)
{
    memset(ret, 0, sizeof *ret);
    pthread_rwlock_rdlock(&workspace->lock);
    ret->used_bytes = workspace->files.used_bytes;
    ret->inodes = workspace->files.inodes;
    pthread_rwlock_unlock(&workspace->lock);
    ret->serial = workspace->serial;
    ret->created_ms = workspace->created_ms;
    ret->uid = workspace->uid;
    ret->gid = workspace->gid;
    pthread_mutex_lock(&workspace->set->names);
    memcpy(ret->id, workspace->id, sizeof ret->id);
    memcpy(ret->name, workspace->name, sizeof ret->name);
    memcpy(ret->parent, workspace->parent, sizeof ret->parent);
    memcpy(ret->sandbox, workspace->sandbox, sizeof ret->sandbox);
    ret->quota_bytes = workspace->quota_bytes;
    ret->quota_inodes = workspace->quota_inodes;
    ret->audited = workspace->audited;
    pthread_mutex_unlock(&workspace->set->names);
}

bool ramet_workspace_audited(const struct ramet_workspace *workspace) { return workspace->audited; }

/* --- the set --- */

static void init_locks(struct ramet_workspaces *set)
{
    /* The gate is for writing for moments only, and must not starve. */
    pthread_rwlockattr_t attr;
    pthread_rwlockattr_init(&attr);
    pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&set->gate, &attr);
    pthread_rwlockattr_destroy(&attr);
    pthread_mutex_init(&set->maintenance, NULL);
    ramet_wmaintain_init(&set->maintain);
    pthread_mutex_init(&set->names, NULL);
    pthread_mutex_init(&set->commit.lock, NULL);
    pthread_mutex_init(&set->commit.queue, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&set->commit.wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&set->spare_lock, NULL);
}

static void free_set(struct ramet_workspaces *set)
{
    while (set->state_count)
        ramet_whead_unlink(set->states[set->state_count - 1]);
    while (set->head_count)
        ramet_whead_unlink(set->heads[set->head_count - 1]);
    while (set->epoch) {
        struct ramet_wepoch *epoch = set->epoch;
        set->epoch = epoch->older;
        ramet_wepoch_close(epoch);
    }
    while (set->spare) {
        struct ramet_wchange *change = set->spare;
        set->spare = change->next;
        ramet_wchange_free(change);
    }
    ramet_u64map_free(&set->serials);
    free(set->heads);
    free(set->states);
    free(set->dir);
    pthread_rwlock_destroy(&set->gate);
    pthread_mutex_destroy(&set->maintenance);
    ramet_wmaintain_destroy(&set->maintain);
    pthread_mutex_destroy(&set->names);
    pthread_mutex_destroy(&set->commit.lock);
    pthread_mutex_destroy(&set->commit.queue);
    pthread_cond_destroy(&set->commit.wake);
    pthread_mutex_destroy(&set->spare_lock);
    free(set);
}

int ramet_workspaces_open(struct ramet_catalog *catalog, struct ramet_workspaces **ret, struct ramet_error *err)
{
    struct ramet_workspaces *set = calloc(1, sizeof *set);
    if (!set)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to open workspaces");
    init_locks(set);
    set->catalog = catalog;
    set->store = ramet_catalog_store(catalog);
    atomic_init(&set->next_owner, 1);
    atomic_init(&set->next_ino, RAMET_WORKSPACE_ROOT + 1);
    int r = asprintf(&set->dir, "%s/workspaces", ramet_store_dir(set->store)) >= 0
                ? ramet_dir_make(set->dir, 0700, err)
                : ramet_error_set(err, RAMET_NO_MEMORY, "no memory to open workspaces");
    if (r == 0)
        r = ramet_wset_recover(set, err);
    if (r == 0)
        r = ramet_wset_commit_start(set, err);
    if (r == 0)
        r = ramet_wmaintain_start(set, err);
    if (r < 0) {
        ramet_wset_commit_stop(set);
        free_set(set);
        return r;
    }
    pthread_mutex_lock(&catalog->workspaces_lock);
    catalog->workspaces = set;
    pthread_mutex_unlock(&catalog->workspaces_lock);
    *ret = set;
    return 0;
}

void ramet_workspaces_close(struct ramet_workspaces *set)
{
    if (!set)
        return;
    ramet_wmaintain_stop(set);
    ramet_wset_commit_stop(set);
    struct ramet_error err = {0};
    if (ramet_workspaces_sync(set, &err) < 0)
        ramet_warn("the last changes of workspaces are lost: %s", err.msg);
    else if (ramet_workspaces_checkpoint(set, &err) < 0)
        ramet_warn("workspaces stay in their journal: %s", err.msg);
    pthread_mutex_lock(&set->catalog->workspaces_lock);
    set->catalog->workspaces = NULL;
    pthread_mutex_unlock(&set->catalog->workspaces_lock);
    free_set(set);
}
