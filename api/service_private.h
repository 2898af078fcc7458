/* SPDX-License-Identifier: Apache-2.0 */
/* What the service's sources share. */
#ifndef RAMET_API_SERVICE_PRIVATE_H
#define RAMET_API_SERVICE_PRIVATE_H

#include "catalog.h"
#include "commit_queue.h"
#include "members.h"
#include "metrics.h"
#include "sandbox.h"
#include "service.h"
#include "vmm/pool.h"

#include <limits.h>

struct ramet_clocks;
struct ramet_heap_keeper;
struct ramet_jobs;
struct ramet_mount;
struct ramet_workspaces;
struct ramet_workspace_mount;
struct ramet_tools;
struct ramet_tools_catalogue;

struct ramet_service {
    char mount_dir[PATH_MAX - 160], run_dir[PATH_MAX - 160];
    struct ramet_store *store;
    struct ramet_catalog *catalog;
    struct ramet_mount *mount;
    struct ramet_workspaces *workspaces;
    struct ramet_workspace_mount *workspace_mount; /* below the mount */
    struct ramet_tools_catalogue *tools_catalogue; /* below STORE/tools */
    struct ramet_tools *tools;
    struct ramet_jobs *jobs;
    struct ramet_commit_queue *commits;
    struct ramet_vm_pool *pool;
    bool working_sets; /* recorded and prefetched */
    struct ramet_clocks *clocks;
    struct ramet_heap_keeper *heap;
    struct ramet_metrics metrics;
    pthread_mutex_t lock;           /* guards what follows and the fields of sandboxes named there; never across I/O */
    struct ramet_members sandboxes; /* by id and serial of their branches; each holds a reference */
    bool closing;
};

/* NO_MEMORY, naming need and what is free, unless `count` more VMs fit. */
int ramet_check_memory(uint64_t bytes_each, unsigned count, struct ramet_error *err);
/* Waits until the snapshot is on disk; CONFLICT while the fork that makes it is under way. */
int ramet_await_durable(struct ramet_service *service, struct ramet_snapshot *snapshot, struct ramet_error *err);
/* Adds the image's non-zero pages to *total. */
int ramet_count_pages(struct ramet_store *store, struct ramet_image *image, uint64_t *total, struct ramet_error *err);
void ramet_snapshot_fill_info(struct ramet_service *service, struct ramet_snapshot *snapshot,
                              struct ramet_snapshot_info *ret);

/* fork.c, sandbox_snapshot.c, rollback.c and promote.c; service_metrics.c counts them. */
int ramet_service_fork_uncounted(struct ramet_service *service, const char *ref,
                                 const struct ramet_fork_request *request, struct ramet_fork_result *ret,
                                 struct ramet_error *err);
int ramet_service_snapshot_uncounted(struct ramet_service *service, const char *ref, const char *tag,
                                     struct ramet_snapshot_result *ret, struct ramet_error *err);
int ramet_service_rollback_uncounted(struct ramet_service *service, const char *ref,
                                     const struct ramet_rollback_request *request, struct ramet_sandbox_info *ret,
                                     struct ramet_child_timing *ret_timing, struct ramet_error *err);
int ramet_service_promote_uncounted(struct ramet_service *service, const char *ref, struct ramet_sandbox_info *ret,
                                    struct ramet_error *err);
/* service_metrics.c: of a child or a restore. */
void ramet_service_observe_child(struct ramet_service *service, const struct ramet_child_timing *timing);

#endif
