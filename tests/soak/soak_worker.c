/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a worker does between opening the store and closing it. First it settles what a worker before it was killed at:
 * what was being added or removed is there as a whole or not at all, and all else is there.
 */
#include "soak.h"

#include "base/cleanup.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { pack_bytes_left = 1 << 20, reload_one_in = 4 };

/* --- upkeep --- */

static void collect(struct soak *s)
{
    struct ramet_error err = {0};
    struct ramet_gc_result result;
    soak_ok(s->model, ramet_catalog_gc(s->store->catalog, &result, &err));
}

static bool enough(void *ctx)
{
    uint64_t *left = ctx;
    return (*left)-- == 0;
}

static void recompress(struct soak *s)
{
    struct ramet_error err = {0};
    uint64_t left = soak_below(s, 6);
    const struct ramet_recompress_options options = {.level = 3, .threads = 1, .stop = enough, .ctx = &left};
    struct ramet_recompress_result result;
    soak_ok(s->model, ramet_store_recompress(s->store->store, &options, &result, &err));
}

/* --- steps --- */

static const struct step {
    const char *name;
    unsigned weight; /* how often it is drawn */
    void (*run)(struct soak *s);
} steps[soak_step_count] = {
    {"write", 30, soak_write},
    {"snapshot", 12, soak_snapshot},
    {"fork", 30, soak_fork},
    {"roll back", 16, soak_roll_back},
    {"roll back to the last", 8, soak_roll_back_last},
    {"promote", 6, soak_promote},
    {"commit", 4, soak_keep},
    {"load", 4, soak_load},
    {"drop", 2, soak_drop},
    {"remove", 3, soak_remove_memory},
    {"disk write", 10, soak_disk_write},
    {"disk discard", 3, soak_disk_discard},
    {"disk flush", 4, soak_disk_flush},
    {"disk snapshot", 3, soak_disk_snapshot},
    {"disk fork", 3, soak_disk_fork},
    {"disk roll back", 2, soak_disk_roll_back},
    {"disk promote", 3, soak_disk_promote},
    {"disk drop", 2, soak_disk_drop},
    {"disk remove", 3, soak_disk_remove_kept},
    {"collect", 1, collect},
    {"recompress", 1, recompress},
};

const char *soak_step_name(size_t step) { return steps[step].name; }

static size_t draw_step(struct soak *s)
{
    uint64_t total = 0;
    for (size_t i = 0; i < soak_step_count; i++)
        total += steps[i].weight;
    uint64_t drawn = soak_below(s, total);
    size_t step = 0;
    while (drawn >= steps[step].weight)
        drawn -= steps[step++].weight;
    return step;
}

/* --- what a killed worker left --- */

static bool is_stored(struct soak *s, const struct soak_kept *kept)
{
    struct ramet_error err = {0};
    struct ramet_snapshot *snapshot;
    int r = ramet_catalog_find(s->store->catalog, kept->id, &snapshot, &err);
    if (r == 0)
        ramet_snapshot_unref(snapshot);
    else if (r != -RAMET_NOT_FOUND)
        soak_fail(s->model, "looking for snapshot %s: %s", kept->id, err.msg);
    return r == 0;
}

static void settle_kept(struct soak *s, struct soak_kept *kept)
{
    bool there = kept->stage != soak_free && is_stored(s, kept);
    if (kept->stage == soak_there && !there)
        soak_fail(s->model, "snapshot %s was durable and is gone", kept->id);
    bool again = kept->stage == soak_removing && there;
    kept->stage = there ? soak_there : soak_free;
    if (again)
        soak_remove(s, kept);
}

static void settle_disk(struct soak *s, struct soak_disk *disk)
{
    struct ramet_error err = {0};
    struct ramet_branch *branch;
    if (disk->stage == soak_free || disk->stage == soak_there)
        return; /* soak_disk_begin finds it, or fails */
    int r = ramet_catalog_branch_find(s->store->catalog, disk->name, &branch, &err);
    if (r == 0)
        soak_ok(s->model, ramet_catalog_branch_remove(s->store->catalog, branch, &err));
    else if (r != -RAMET_NOT_FOUND)
        soak_fail(s->model, "looking for branch %s: %s", disk->name, err.msg);
    if (r == 0)
        ramet_branch_unref(branch);
    disk->stage = soak_free;
}

static void settle(struct soak *s)
{
    for (size_t i = 0; i < soak_disks_max; i++)
        soak_disk_settle_promotion(s, &s->world->disks[i]);
    for (size_t i = 0; i < soak_disks_max; i++)
        settle_disk(s, &s->world->disks[i]);
    for (size_t i = 0; i < soak_kept_max; i++)
        settle_kept(s, &s->world->kept[i]);
}

/* The store holds as many snapshots and branches as the model: each of the model's was found, so there is no other. */
static void check_counts(struct soak_model *model, struct ramet_memory_store *store)
{
    struct ramet_error err = {0};
    struct ramet_snapshot **snapshots = NULL;
    struct ramet_branch **branches = NULL;
    size_t snapshot_count = 0, branch_count = 0, kept = 0, disks = 0;
    soak_ok(model, ramet_catalog_snapshots(store->catalog, &snapshots, &snapshot_count, &err));
    soak_ok(model, ramet_catalog_branches(store->catalog, &branches, &branch_count, &err));
    for (size_t w = 0; w < soak_worlds; w++) {
        for (size_t i = 0; i < soak_kept_max; i++)
            kept += model->worlds[w].kept[i].stage == soak_there;
        for (size_t i = 0; i < soak_disks_max; i++)
            disks += model->worlds[w].disks[i].stage == soak_there;
    }
    if (snapshot_count != kept || branch_count != disks)
        soak_fail(model, "%zu snapshots and %zu branches in the store; %zu and %zu should be", snapshot_count,
                  branch_count, kept, disks);
    ramet_snapshots_free(snapshots, snapshot_count);
    ramet_branches_free(branches, branch_count);
}

/* --- a session --- */

static struct ramet_memory_store *open_store(struct soak_model *model, struct soak worlds[soak_worlds])
{
    struct ramet_error err = {0};
    struct ramet_memory_store *store;
    const struct ramet_memory_options options = {.cache_bytes = 16 << 20, .threads = 2};
    soak_ok(model, ramet_memory_open(model->dir, &options, &store, &err));
    for (size_t i = 0; i < soak_worlds; i++) {
        worlds[i] = (struct soak){
            .model = model, .world = &model->worlds[i], .store = store, .branch_count = model->branches / soak_worlds};
        settle(&worlds[i]);
    }
    for (size_t i = 0; i < soak_worlds; i++)
        soak_disk_begin(&worlds[i]);
    check_counts(model, store);
    return store;
}

static void *live(void *ctx)
{
    struct soak *s = ctx;
    soak_memory_begin(s);
    for (size_t i = 0; i < soak_kept_max; i++) {
        const struct soak_kept *kept = &s->world->kept[i];
        if (kept->stage == soak_there && soak_below(s, reload_one_in) == 0)
            (kept->of_disk ? soak_disk_check_kept : soak_memory_check_kept)(s, kept);
    }
    s->model->working = true;
    while (!s->model->stop) {
        size_t step = draw_step(s);
        steps[step].run(s);
        atomic_fetch_add(&s->model->steps[step], 1);
    }
    soak_memory_check(s);
    soak_disk_check(s);
    soak_memory_end(s);
    return NULL;
}

void soak_session(struct soak_model *model)
{
    struct soak worlds[soak_worlds];
    pthread_t threads[soak_worlds];
    struct ramet_memory_store *store = open_store(model, worlds);
    for (size_t i = 0; i < soak_worlds; i++)
        if (pthread_create(&threads[i], NULL, live, &worlds[i]) != 0)
            soak_fail(model, "cannot start a thread");
    for (size_t i = 0; i < soak_worlds; i++)
        pthread_join(threads[i], NULL);
    check_counts(model, store);
    ramet_memory_close(store);
}

/* --- the end --- */

static void empty_world(struct soak *s)
{
    for (size_t i = 0; i < soak_disks_max; i++)
        if (s->world->disks[i].stage == soak_there)
            soak_disk_remove(s, &s->world->disks[i]);
    for (size_t i = 0; i < soak_kept_max; i++) {
        struct soak_kept *kept = &s->world->kept[i];
        if (kept->stage != soak_there)
            continue;
        (kept->of_disk ? soak_disk_check_kept : soak_memory_check_kept)(s, kept);
        soak_remove(s, kept);
    }
}

static void check_sound(struct soak_model *model, struct ramet_memory_store *store)
{
    struct ramet_error err = {0};
    struct ramet_fsck_result fsck;
    soak_ok(model, ramet_catalog_fsck(store->catalog, &fsck, &err));
    _autofree_ char *report = fsck.report;
    if (fsck.problems)
        soak_fail(model, "fsck: %s", report);
}

void soak_empty(struct soak_model *model)
{
    struct ramet_error err = {0};
    struct soak worlds[soak_worlds];
    struct ramet_store_stat full, stat;
    struct ramet_gc_result result;
    size_t files;
    char branches[300];
    struct ramet_memory_store *store = open_store(model, worlds);
    check_sound(model, store);
    soak_ok(model, ramet_store_stat(store->store, &full, &err));
    for (size_t i = 0; i < soak_worlds; i++)
        empty_world(&worlds[i]);
    check_counts(model, store);
    soak_ok(model, ramet_catalog_gc(store->catalog, &result, &err));
    check_sound(model, store);
    soak_ok(model, ramet_store_stat(store->store, &stat, &err));
    printf("the store held %llu chunks in %llu bytes of packs; emptied it holds %llu in %llu\n",
           (unsigned long long)full.chunks, (unsigned long long)full.pack_bytes, (unsigned long long)stat.chunks,
           (unsigned long long)stat.pack_bytes);
    if (stat.chunks > 0 || stat.pack_bytes > pack_bytes_left)
        soak_fail(model, "bytes are left in an empty store");
    snprintf(branches, sizeof branches, "%s/branches", model->dir);
    if (soak_files(branches, &files) > 0 || files > 0)
        soak_fail(model, "%zu files of branches are left", files);
    ramet_memory_close(store);
}
