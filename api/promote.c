/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Promotion: a sandbox takes the name and the place of the one it was forked from, and that one ends.
 *
 *   wait   until what the sandbox's disks lie over is durable: the parent's record goes
 *   turn   the catalog, durably, in one step; from here on the name is the sandbox's
 *   end    the parent: off the list, its VM killed, its files removed
 *
 * A failure before the turn leaves all as it was. A crash leaves the tree of before or after the turn, and the next
 * opening removes the parent's files. The VM of the sandbox is not touched: its memory is named by a snapshot's id,
 * its run directory by its own, and its open disks are inodes that stay.
 */
#include "base/cleanup.h"
#include "base/log.h"
#include "jobs.h"
#include "mount.h"
#include "service_private.h"

#include <stdio.h>

static int find_parent(struct ramet_sandbox *sandbox, struct ramet_sandbox **ret, struct ramet_error *err)
{
    char id[RAMET_ID_SIZE];
    const char *name = sandbox->branch->name;
    ramet_branch_parent(sandbox->branch, id);
    if (!id[0]) {
        ramet_error_set(err, RAMET_CONFLICT, "sandbox \"%s\" has no parent whose place it could take", name);
        return ramet_error_hint(err, "only children of a fork have one");
    }
    if (ramet_sandbox_find(sandbox->service, id, ret, NULL) == 0)
        return 0;
    ramet_error_set(err, RAMET_CONFLICT, "the parent of sandbox \"%s\", %s, is gone", name, id);
    return ramet_error_hint(err, "its name is free: fork or restore under it with --name");
}

static int await_base(struct ramet_sandbox *sandbox, struct ramet_error *err)
{
    _cleanup_(ramet_snapshot_cleanup) struct ramet_snapshot *base = NULL;
    char id[RAMET_ID_SIZE];
    ramet_branch_bases(sandbox->branch, id, NULL);
    if (ramet_catalog_find(sandbox->service->catalog, id, &base, NULL) == 0)
        return ramet_await_durable(sandbox->service, base, err);
    ramet_error_set(err, RAMET_CONFLICT, "sandbox \"%s\" has lost its disks: snapshot %s did not become durable",
                    sandbox->branch->name, id);
    return ramet_error_hint(err, "'ramet rm %s' removes it", sandbox->branch->name);
}

/* Under the op of both. */
static int check(struct ramet_sandbox *sandbox, struct ramet_sandbox *parent, struct ramet_error *err)
{
    pthread_mutex_lock(&parent->service->lock);
    bool forks = parent->forks > 0, starts = sandbox->state == RAMET_SANDBOX_STARTING;
    pthread_mutex_unlock(&parent->service->lock);
    struct ramet_sandbox *removed = !ramet_sandbox_is_listed(sandbox)  ? sandbox
                                    : !ramet_sandbox_is_listed(parent) ? parent
                                                                       : NULL;
    if (removed)
        return ramet_error_set(err, RAMET_CONFLICT, "sandbox \"%s\" is removed", removed->branch->name);
    if (!forks && !starts)
        return 0;
    ramet_error_set(err, RAMET_CONFLICT, "sandbox \"%s\" is being %s", (forks ? parent : sandbox)->branch->name,
                    forks ? "forked" : "started");
    return ramet_error_hint(err, "try again when that has ended");
}

/* Under the op of both. */
static int take_place(struct ramet_sandbox *sandbox, struct ramet_sandbox *parent, struct ramet_error *err)
{
    struct ramet_service *service = sandbox->service;
    _cleanup_(ramet_branch_cleanup) struct ramet_branch *gone = NULL;
    const char *old_name = sandbox->branch->name;
    struct ramet_error ignored = {0};
    char reason[128];
    int r = ramet_catalog_branch_promote(service->catalog, sandbox->branch, &gone, err);
    if (r < 0)
        return r;
    snprintf(reason, sizeof reason, "%s was promoted to its place", old_name);
    ramet_sandbox_retire(parent, reason);
    ramet_mount_branch_changed(service->mount, old_name);
    ramet_mount_branch_changed(service->mount, sandbox->branch->name);
    if (ramet_branch_files_remove(gone, &ignored) < 0)
        ramet_warn("%s", ignored.msg);
    return 0;
}

int ramet_service_promote_uncounted(struct ramet_service *service, const char *ref, struct ramet_sandbox_info *ret,
                                    struct ramet_error *err)
{
    _cleanup_(ramet_jobs_cleanup) struct ramet_jobs *held = ramet_jobs_hold(service->jobs);
    _cleanup_(ramet_sandbox_cleanup) struct ramet_sandbox *sandbox = NULL, *parent = NULL;
    int r = ramet_sandbox_find(service, ref, &sandbox, err);
    if (r == 0)
        r = find_parent(sandbox, &parent, err);
    if (r == 0)
        r = await_base(sandbox, err);
    if (r < 0)
        return r;
    pthread_mutex_lock(&parent->op);
    pthread_mutex_lock(&sandbox->op);
    r = check(sandbox, parent, err);
    if (r == 0)
        r = take_place(sandbox, parent, err);
    pthread_mutex_unlock(&sandbox->op);
    pthread_mutex_unlock(&parent->op);
    if (r == 0)
        ramet_sandbox_info_get(sandbox, NULL, ret);
    return r;
}
