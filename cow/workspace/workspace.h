/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Workspaces: POSIX trees that fork in O(1).
 *
 * All workspaces of a store belong to one set. A workspace is a head over a record tree
 * (tree.h); a state is an immutable tree kept by name in its history. Inode numbers come
 * from one counter of the store and are never reused, so a file has the same number in
 * every fork that has it, and no two files have one number.
 *
 * What a call changed is visible when it returns, and durable after ramet_workspace_sync
 * or the group commit that follows within a second; a crash leaves every change whole or
 * undone, in order.
 *
 * Reference-counted and thread-safe.
 */
#ifndef RAMET_WORKSPACE_WORKSPACE_H
#define RAMET_WORKSPACE_WORKSPACE_H

#include "catalog.h"

struct ramet_workspaces;
struct ramet_workspace;

/* Opens all workspaces of the catalog's store and replays what was journaled. The catalog must outlive the set; its
 * garbage collection marks what the set needs. */
int ramet_workspaces_open(struct ramet_catalog *catalog, struct ramet_workspaces **ret, struct ramet_error *err);
/* Makes everything durable first. NULL is a no-op. */
void ramet_workspaces_close(struct ramet_workspaces *set);
/* Group commit now: all changes of all workspaces are durable when it returns. */
int ramet_workspaces_sync(struct ramet_workspaces *set, struct ramet_error *err);
/* Puts staged pages and changed tree nodes into the store and shortens the journal; runs by itself in the background,
 * beside readers and writers. */
int ramet_workspaces_checkpoint(struct ramet_workspaces *set, struct ramet_error *err);

/* No name of a root directory: the mount shows a workspace's history there. */
#define RAMET_WORKSPACE_RESERVED ".ramet"

struct ramet_workspace_info {
    uint64_t serial; /* never reused; another one after a rollback, so that file handles of before are stale */
    char id[RAMET_CATALOG_ID_SIZE];
    char name[RAMET_CATALOG_NAME_SIZE];
    char parent[RAMET_CATALOG_ID_SIZE];  /* workspace it was forked from, or "" */
    char sandbox[RAMET_CATALOG_ID_SIZE]; /* sandbox it is attached to, or "" */
    int64_t created_ms;
    uint64_t used_bytes, inodes;        /* as its user sees them, shared or not */
    uint64_t quota_bytes, quota_inodes; /* 0: none */
    uint32_t uid, gid;                  /* of its root directory when it was made */
    bool audited;                       /* whoever serves it has to tell of every open, see the mount's header */
};

/* An empty tree whose root directory belongs to uid:gid, mode 0755. Names as of branches; EXISTS. */
int ramet_workspace_create(struct ramet_workspaces *set, const char *name, uint32_t uid, uint32_t gid,
                           struct ramet_workspace **ret, struct ramet_error *err);
/* The tree of `from` at this instant. O(1): nothing is copied, nothing waits for the disk. */
int ramet_workspace_fork(struct ramet_workspace *from, const char *name, struct ramet_workspace **ret,
                         struct ramet_error *err);
/* Forks several at one instant: names[i] is for from[i]. All or none. */
int ramet_workspaces_fork(struct ramet_workspaces *set, struct ramet_workspace *const *from, const char *const *names,
                          size_t count, struct ramet_workspace **ret, struct ramet_error *err);
/* Forgets it and its history. Objects live on while they are referenced; calls on them give NOT_FOUND. */
int ramet_workspace_remove(struct ramet_workspace *workspace, struct ramet_error *err);
int ramet_workspace_rename(struct ramet_workspace *workspace, const char *name, struct ramet_error *err);
/* The workspace takes the name and place of its parent, with its history and its sandbox, and the parent is removed;
 * forks of the parent are its own from then on. CONFLICT without a parent. */
int ramet_workspace_promote(struct ramet_workspace *workspace, struct ramet_error *err);
int ramet_workspace_attach(struct ramet_workspace *workspace, const char *sandbox_id /* or NULL */,
                           struct ramet_error *err);
int ramet_workspace_set_quota(struct ramet_workspace *workspace, uint64_t bytes, uint64_t inodes,
                              struct ramet_error *err);
/* Forks, states and next lives of an audited one are audited; what takes the place of one becomes so. */
int ramet_workspace_set_audited(struct ramet_workspace *workspace, bool audited, struct ramet_error *err);
bool ramet_workspace_audited(const struct ramet_workspace *workspace); /* a state: whether its workspace is */

/*
 * What the workspace was when it was forked, for merging: a view (view.h), closed with ramet_wview_close. NOT_FOUND
 * when it was made empty.
 */
int ramet_workspace_base_open(struct ramet_workspace *workspace, struct ramet_workspace **ret, struct ramet_error *err);

/* By name or id; a reference of the caller's. */
int ramet_workspace_find(struct ramet_workspaces *set, const char *ref, struct ramet_workspace **ret,
                         struct ramet_error *err);
int ramet_workspace_by_serial(struct ramet_workspaces *set, uint64_t serial, struct ramet_workspace **ret,
                              struct ramet_error *err);
/* All in name order, each a reference of the caller's; freed with ramet_workspaces_list_free. */
int ramet_workspaces_list(struct ramet_workspaces *set, struct ramet_workspace ***ret, size_t *ret_count,
                          struct ramet_error *err);
void ramet_workspaces_list_free(struct ramet_workspace **list, size_t count);
struct ramet_workspace *ramet_workspace_ref(struct ramet_workspace *workspace);
void ramet_workspace_unref(struct ramet_workspace *workspace);
void ramet_workspace_cleanup(struct ramet_workspace **workspace); /* for _cleanup_ */
void ramet_workspace_info(struct ramet_workspace *workspace, struct ramet_workspace_info *ret);

/* --- history: read-only states --- */

struct ramet_workspace_state {
    char name[RAMET_CATALOG_NAME_SIZE];
    uint64_t serial; /* read it with ramet_workspace_by_serial: a workspace that refuses changes with READ_ONLY */
    int64_t created_ms;
};
/* Keeps the tree as it is now under `name` (NULL: one is made from the time). O(1). */
int ramet_workspace_snapshot(struct ramet_workspace *workspace, const char *name, struct ramet_workspace_state *ret,
                             struct ramet_error *err);
/* Keeps several at one instant, each under `name`. All or none. */
int ramet_workspaces_snapshot(struct ramet_workspaces *set, struct ramet_workspace *const *workspaces, size_t count,
                              const char *name, struct ramet_error *err);
int ramet_workspace_states(struct ramet_workspace *workspace, struct ramet_workspace_state **ret, size_t *ret_count,
                           struct ramet_error *err); /* oldest first; owned by the caller (free) */
int ramet_workspace_state_open(struct ramet_workspace *workspace, const char *name, struct ramet_workspace **ret,
                               struct ramet_error *err);
int ramet_workspace_state_remove(struct ramet_workspace *workspace, const char *name, struct ramet_error *err);
/*
 * The tree becomes that of the state; what was there before is kept as a state of its own (*ret, may be NULL). It is
 * another object from then on, of the same name and id and with another serial: calls on this one give NOT_FOUND, find
 * it again.
 */
int ramet_workspace_rollback(struct ramet_workspace *workspace, const char *state, struct ramet_workspace_state *ret,
                             struct ramet_error *err);

#endif
