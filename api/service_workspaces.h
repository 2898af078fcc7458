/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Workspaces as the API has them. Wherever a `ref` is taken, an id or a name does.
 *
 * Whatever changes behind the mount's back is told to the kernel before a call returns.
 * Infos are plain values; arrays are owned by the caller and freed with free().
 * Thread-safety: every function may be called from any thread but the mount's.
 */
#ifndef RAMET_API_SERVICE_WORKSPACES_H
#define RAMET_API_SERVICE_WORKSPACES_H

#include "service.h"

struct ramet_workspace_view {
    char id[RAMET_ID_SIZE], name[RAMET_NAME_SIZE];
    char parent[RAMET_ID_SIZE];  /* workspace it was forked from, or "" */
    char sandbox[RAMET_ID_SIZE]; /* sandbox it is attached to, or "" */
    int64_t created_ms;
    uint64_t used_bytes, inodes;        /* as its user sees them, shared or not */
    uint64_t quota_bytes, quota_inodes; /* 0: none */
    uint32_t uid, gid;                  /* of its root directory when it was made */
    bool audit_opens;
    char path[4096]; /* on the mount */
};

struct ramet_workspace_state_view {
    char name[RAMET_NAME_SIZE];
    int64_t created_ms;
    char path[4096]; /* read-only, on the mount */
};

struct ramet_workspace_create_request {
    const char *name;
    uint32_t uid, gid; /* of the root directory */
    uint64_t quota_bytes, quota_inodes;
    bool audit_opens;
};
int ramet_service_workspace_create(struct ramet_service *service, const struct ramet_workspace_create_request *request,
                                   struct ramet_workspace_view *ret, struct ramet_error *err);
int ramet_service_workspace_get(struct ramet_service *service, const char *ref, struct ramet_workspace_view *ret,
                                struct ramet_error *err);
int ramet_service_workspaces(struct ramet_service *service, struct ramet_workspace_view **ret, size_t *ret_count,
                             struct ramet_error *err); /* by name */
/* The tree as it is now, or as it was in `state` (NULL: now). */
int ramet_service_workspace_fork(struct ramet_service *service, const char *ref, const char *state, const char *name,
                                 struct ramet_workspace_view *ret, struct ramet_error *err);
int ramet_service_workspace_remove(struct ramet_service *service, const char *ref, struct ramet_error *err);
int ramet_service_workspace_rename(struct ramet_service *service, const char *ref, const char *name,
                                   struct ramet_workspace_view *ret, struct ramet_error *err);
/* Takes its parent's name and place; the parent is removed. */
int ramet_service_workspace_promote(struct ramet_service *service, const char *ref, struct ramet_workspace_view *ret,
                                    struct ramet_error *err);
/* `sandbox`: a ref, or NULL to detach. Forks and snapshots of the sandbox take the workspace along. */
int ramet_service_workspace_attach(struct ramet_service *service, const char *ref, const char *sandbox,
                                   struct ramet_workspace_view *ret, struct ramet_error *err);
int ramet_service_workspace_quota(struct ramet_service *service, const char *ref, uint64_t bytes, uint64_t inodes,
                                  struct ramet_workspace_view *ret, struct ramet_error *err);
/* Whether each open of a file in it is told in the audit. It is another path then, and what was open is stale. */
int ramet_service_workspace_audit(struct ramet_service *service, const char *ref, bool opens,
                                  struct ramet_workspace_view *ret, struct ramet_error *err);
struct ramet_workspace_auditor;
/* Who is told of them, see workspace_mount.h; NULL: nobody, and the opens fail. */
void ramet_service_set_auditor(struct ramet_service *service, const struct ramet_workspace_auditor *auditor);
/* All that was written to it is durable. */
int ramet_service_workspace_sync(struct ramet_service *service, const char *ref, struct ramet_error *err);

/* `state` NULL: a name is made up. */
int ramet_service_workspace_snapshot(struct ramet_service *service, const char *ref, const char *state,
                                     struct ramet_workspace_state_view *ret, struct ramet_error *err);
int ramet_service_workspace_history(struct ramet_service *service, const char *ref,
                                    struct ramet_workspace_state_view **ret, size_t *ret_count,
                                    struct ramet_error *err); /* oldest first */
int ramet_service_workspace_state_remove(struct ramet_service *service, const char *ref, const char *state,
                                         struct ramet_error *err);
/* *ret is the state that keeps what was there before. Files that were open are stale. */
int ramet_service_workspace_rollback(struct ramet_service *service, const char *ref, const char *state,
                                     struct ramet_workspace_state_view *ret, struct ramet_error *err);

/* --- archives --- */

/* A tar archive that is read from `fd` to its end: workspace/tar.h. */
struct ramet_workspace_import {
    int fd;
    const char *into;                   /* directory, made where it is missing; NULL or "": the root */
    bool confined;                      /* all that comes belongs to uid:gid; no devices, no privileged attributes */
    uint32_t uid, gid;                  /* also of a new workspace's root directory, unless the archive has it */
    uint64_t quota_bytes, quota_inodes; /* of a new workspace */
    bool (*whole)(void *context);       /* asked at the end: whether it was one, or only broke off; NULL: it was */
    void *context;
};
struct ramet_workspace_imported {
    uint64_t files, bytes; /* entries of every kind; content */
    uint64_t skipped;      /* sockets */
};
/* A new workspace `name`, or what the archive has put into one that is there; whole and durable, or nothing is. What
 * programs do to the workspace meanwhile stays, but where the archive has something of the same name. */
int ramet_service_workspace_import(struct ramet_service *service, const char *name,
                                   const struct ramet_workspace_import *import, struct ramet_workspace_view *ret,
                                   struct ramet_workspace_imported *ret_sums, struct ramet_error *err);
int ramet_service_workspace_import_into(struct ramet_service *service, const char *ref,
                                        const struct ramet_workspace_import *import, struct ramet_workspace_view *ret,
                                        struct ramet_workspace_imported *ret_sums, struct ramet_error *err);

/* The tree of this instant, or of a state (NULL: now), from `path` on ("": all), to be written as an archive. */
struct ramet_workspace_export;
int ramet_service_workspace_export(struct ramet_service *service, const char *ref, const char *state, const char *path,
                                   struct ramet_workspace_export **ret, struct ramet_error *err);
int ramet_workspace_export_write(struct ramet_workspace_export *export, int fd, struct ramet_error *err);
void ramet_workspace_export_free(struct ramet_workspace_export *export); /* NULL is a no-op */

/* What differs from `against` to the workspace: "NAME", "NAME@STATE", "@STATE" of its own, or NULL: what it was when it
 * was forked. */
struct ramet_wdiff;
int ramet_service_workspace_diff(struct ramet_service *service, const char *ref, const char *against,
                                 struct ramet_wdiff **ret /* ramet_wdiff_free */, struct ramet_error *err);

/*
 * Does what `theirs` ("NAME", or "NAME@STATE") changed since the common ancestor to the workspace, or nothing:
 * workspace/merge.h. options->base is taken from `base`, a tree named likewise, or NULL.
 */
struct ramet_wmerge_options;
struct ramet_wmerge_result;
int ramet_service_workspace_merge(struct ramet_service *service, const char *ref, const char *theirs, const char *base,
                                  const struct ramet_wmerge_options *options, struct ramet_wmerge_result *ret,
                                  struct ramet_error *err);

#endif
