/* SPDX-License-Identifier: Apache-2.0 */
/* What the service does to the store as a whole: stat, gc, fsck and repair, background jobs, rebuilding its index. */
#include "base/cleanup.h"
#include "jobs.h"
#include "service_private.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

int ramet_service_store_stat(struct ramet_service *service, struct ramet_store_info *ret, struct ramet_error *err)
{
    struct ramet_store_stat stat;
    struct ramet_snapshot **snapshots = NULL;
    struct ramet_store_info info = {0};
    size_t count = 0;
    uint64_t pages = 0;
    int r = ramet_store_stat(service->store, &stat, err);
    if (r == 0)
        r = ramet_catalog_snapshots(service->catalog, &snapshots, &count, err);
    for (size_t i = 0; i < count && r == 0; i++)
        for (size_t j = 0; j < snapshots[i]->image_count && r == 0; j++)
            r = ramet_count_pages(service->store, snapshots[i]->images[j].image, &pages, err);
    ramet_snapshots_free(snapshots, count);
    if (r < 0)
        return r;
    pthread_mutex_lock(&service->lock);
    info.sandboxes = service->sandboxes.ids.count;
    pthread_mutex_unlock(&service->lock);
    snprintf(info.dir, sizeof info.dir, "%s", ramet_store_dir(service->store));
    info.snapshots = count;
    info.logical_bytes = pages * RAMET_PAGE_SIZE;
    info.unique_bytes = stat.chunks * RAMET_PAGE_SIZE;
    info.stored_bytes = stat.pack_bytes;
    info.index_bytes = stat.index_bytes;
    info.chunks = stat.chunks;
    info.frames = stat.frames;
    info.packs = stat.packs;
    info.delta_frames = stat.delta_frames;
    info.cold_frames = stat.cold_frames;
    info.dedup_hits = stat.dedup_hits;
    info.dedup_misses = stat.dedup_misses;
    info.cache_hits = stat.cache_hits;
    info.cache_misses = stat.cache_misses;
    *ret = info;
    return 0;
}

int ramet_service_store_gc(struct ramet_service *service, struct ramet_gc_info *ret, struct ramet_error *err)
{
    /* It waits for a batch of recompression, and would for the next. */
    _cleanup_(ramet_jobs_cleanup) struct ramet_jobs *held = ramet_jobs_hold(service->jobs);
    struct ramet_gc_result result;
    int r = ramet_catalog_gc(service->catalog, &result, err);
    if (r == 0)
        *ret = (struct ramet_gc_info){.live_chunks = result.live_chunks,
                                      .dead_chunks = result.dead_chunks,
                                      .freed_bytes = result.freed_bytes,
                                      .trimmed_frames = result.trimmed_frames,
                                      .moved_frames = result.moved_frames,
                                      .packs_removed = result.packs_removed,
                                      .duration_us = result.duration_us};
    return r;
}

int ramet_service_store_fsck(struct ramet_service *service, bool repair, struct ramet_fsck_info *ret,
                             struct ramet_error *err)
{
    struct ramet_fsck_result result;
    struct ramet_fsck_info info = {0};
    int r = ramet_catalog_fsck(service->catalog, &result, err);
    if (r == 0 && repair && result.problems) {
        free(result.report);
        r = ramet_store_repair(service->store, &info.mended_headers, err);
        info.repaired = r == 0;
        if (r == 0)
            r = ramet_catalog_fsck(service->catalog, &result, err);
    }
    if (r < 0)
        return r;
    info.snapshots = result.snapshots;
    info.frames = result.frames;
    info.chunks = result.chunks;
    info.problems = result.problems;
    info.report = result.report;
    *ret = info;
    return 0;
}

/* --- in the background --- */

int ramet_service_job_start(struct ramet_service *service, const struct ramet_job_request *request,
                            struct ramet_error *err)
{
    return ramet_jobs_start(service->jobs, request, err);
}

void ramet_service_job_stop(struct ramet_service *service, enum ramet_job_kind kind)
{
    ramet_jobs_stop(service->jobs, kind);
}

int ramet_service_job_get(struct ramet_service *service, enum ramet_job_kind kind, struct ramet_job_info *ret,
                          struct ramet_error *err)
{
    return ramet_jobs_get(service->jobs, kind, ret, err);
}

/* --- rebuilding, without a service --- */

static int check_there(const char *store_dir, struct ramet_error *err)
{
    char packs[PATH_MAX];
    struct stat st;
    snprintf(packs, sizeof packs, "%.4000s/packs", store_dir);
    if (stat(packs, &st) == 0 && S_ISDIR(st.st_mode))
        return 0;
    ramet_error_set(err, RAMET_NOT_FOUND, "there is no store with packs at %.300s", store_dir);
    return ramet_error_hint(err, "name it with --store or RAMET_STORE");
}

/* What is left over is garbage now, and what is damaged is to be known. */
static int collect_and_check(struct ramet_store *store, struct ramet_fsck_result *ret, struct ramet_error *err)
{
    struct ramet_catalog *catalog = NULL;
    struct ramet_gc_result collected;
    int r = ramet_catalog_open(store, &catalog, err);
    if (r < 0)
        return r;
    r = ramet_catalog_gc(catalog, &collected, err);
    if (r == 0 || r == -RAMET_CORRUPT) /* a snapshot whose map is damaged: fsck names it */
        r = ramet_catalog_fsck(catalog, ret, err);
    ramet_catalog_close(catalog);
    return r;
}

int ramet_service_rebuild(const char *store_dir, struct ramet_rebuild_info *ret, struct ramet_error *err)
{
    struct ramet_rebuild_result rebuilt;
    struct ramet_fsck_result fsck;
    struct ramet_store *store = NULL;
    uint64_t set_aside = 0;
    int r = check_there(store_dir, err);
    if (r == 0)
        r = ramet_store_rebuild(store_dir, &rebuilt, err);
    if (r == 0)
        r = ramet_store_open(store_dir, NULL, &store, err);
    if (r == 0)
        r = ramet_branches_set_aside(store, &set_aside, err);
    if (r == 0)
        r = collect_and_check(store, &fsck, err);
    ramet_store_close(store);
    if (r == 0)
        *ret = (struct ramet_rebuild_info){.packs = rebuilt.packs,
                                           .frames = rebuilt.frames,
                                           .journal_records = rebuilt.journal_records,
                                           .damaged_bytes = rebuilt.damaged_bytes,
                                           .branches_set_aside = set_aside,
                                           .snapshots = fsck.snapshots,
                                           .problems = fsck.problems,
                                           .report = fsck.report};
    return r;
}
