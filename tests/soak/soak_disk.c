/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Steps on branches' disks, through the catalog. A page is loose from a write to it until the flush, or the snapshot of
 * the branch, that makes it durable: a kill in between may leave it as it was or as it became.
 */
#include "soak.h"

#include "base/cleanup.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { run_pages = 30, list_bytes = soak_disk_pages * sizeof(uint32_t) };

static struct soak_disk *draw_disk(struct soak *s)
{
    size_t first = soak_below(s, soak_disks_max);
    for (size_t i = 0; i < soak_disks_max; i++) {
        struct soak_disk *disk = &s->world->disks[(first + i) % soak_disks_max];
        if (disk->stage == soak_there)
            return disk;
    }
    return NULL;
}

static struct ramet_branch *find(struct soak *s, const struct soak_disk *disk)
{
    struct ramet_error err = {0};
    struct ramet_branch *branch;
    soak_ok(s->model, ramet_catalog_branch_find(s->store->catalog, disk->name, &branch, &err));
    if (branch->disk_count != 1)
        soak_fail(s->model, "branch %s has %zu disks", disk->name, branch->disk_count);
    return branch;
}

/* Pages that are loose are passed over when they may be anything. */
static void check_disk(struct soak *s, const struct soak_disk *disk, bool after_kill)
{
    struct ramet_error err = {0};
    _cleanup_(ramet_branch_cleanup) struct ramet_branch *branch = find(s, disk);
    uint8_t bytes[RAMET_PAGE_SIZE];
    for (uint64_t page = 0; page < soak_disk_pages; page++) {
        if (after_kill && disk->loose[page])
            continue;
        soak_ok(s->model, ramet_overlay_read(branch->disks[0], page * RAMET_PAGE_SIZE, bytes, sizeof bytes, &err));
        soak_check(s, disk->name, page, disk->versions[page], bytes);
    }
}

static void write_page(struct soak *s, struct ramet_branch *branch, struct soak_disk *disk, uint64_t page,
                       uint32_t version)
{
    struct ramet_error err = {0};
    uint8_t bytes[RAMET_PAGE_SIZE];
    soak_page(s->model, page, version, bytes);
    disk->loose[page] = true;
    disk->versions[page] = version;
    soak_ok(s->model, ramet_overlay_write(branch->disks[0], page * RAMET_PAGE_SIZE, bytes, sizeof bytes, &err));
}

void soak_disk_write(struct soak *s)
{
    struct soak_disk *disk = draw_disk(s);
    if (!disk)
        return;
    _cleanup_(ramet_branch_cleanup) struct ramet_branch *branch = find(s, disk);
    uint64_t count = 1 + soak_below(s, run_pages), first = soak_below(s, soak_disk_pages - count);
    for (uint64_t page = first; page < first + count; page++)
        write_page(s, branch, disk, page, soak_version(s, disk->versions[page]));
    s->world->family++;
    atomic_fetch_add(&s->model->pages_written, count);
    check_disk(s, disk, false);
}

void soak_disk_discard(struct soak *s)
{
    struct ramet_error err = {0};
    struct soak_disk *disk = draw_disk(s);
    if (!disk)
        return;
    _cleanup_(ramet_branch_cleanup) struct ramet_branch *branch = find(s, disk);
    uint64_t count = 1 + soak_below(s, run_pages), first = soak_below(s, soak_disk_pages - count);
    for (uint64_t page = first; page < first + count; page++) {
        disk->loose[page] = true;
        disk->versions[page] = 0;
    }
    soak_ok(s->model, ramet_overlay_discard(branch->disks[0], first * RAMET_PAGE_SIZE, count * RAMET_PAGE_SIZE, &err));
    check_disk(s, disk, false);
}

void soak_disk_flush(struct soak *s)
{
    struct ramet_error err = {0};
    struct soak_disk *disk = draw_disk(s);
    if (!disk)
        return;
    _cleanup_(ramet_branch_cleanup) struct ramet_branch *branch = find(s, disk);
    soak_ok(s->model, ramet_overlay_flush(branch->disks[0], &err));
    memset(disk->loose, 0, sizeof disk->loose);
}

/* A durable snapshot of one image, takes it over. */
static struct ramet_snapshot *keep(struct soak *s, struct soak_kept *kept, struct ramet_image *image,
                                   const uint32_t *versions)
{
    struct ramet_error err = {0};
    struct ramet_snapshot *snapshot;
    char name[RAMET_DISK_NAME_SIZE];
    ramet_disk_name(name, 0);
    soak_ok(s->model, ramet_snapshot_new(s->store->catalog, &snapshot, &err));
    soak_ok(s->model, ramet_snapshot_add_image(snapshot, name, image, &err));
    kept->of_disk = true;
    memcpy(kept->id, snapshot->id, sizeof kept->id);
    memcpy(kept->versions, versions, list_bytes);
    kept->stage = soak_adding;
    soak_ok(s->model, ramet_catalog_add(s->store->catalog, snapshot, NULL, &err));
    soak_ok(s->model, ramet_catalog_commit(s->store->catalog, snapshot, &err));
    return snapshot;
}

/* The disk then lies over its snapshot. */
void soak_disk_snapshot(struct soak *s)
{
    struct ramet_error err = {0};
    struct ramet_image *frozen;
    uint64_t generation;
    struct soak_disk *disk = draw_disk(s);
    struct soak_kept *kept = soak_place(s);
    if (!disk || !kept)
        return;
    _cleanup_(ramet_branch_cleanup) struct ramet_branch *branch = find(s, disk);
    soak_ok(s->model, ramet_overlay_freeze(branch->disks[0], &frozen, &generation, &err));
    _cleanup_(ramet_snapshot_cleanup) struct ramet_snapshot *snapshot = keep(s, kept, frozen, disk->versions);
    memcpy(disk->bases[1], kept->id, sizeof kept->id);
    kept->stage = soak_there;
    soak_ok(s->model, ramet_catalog_branch_update(s->store->catalog, branch, snapshot, &generation, &err));
    memcpy(disk->bases[0], kept->id, sizeof kept->id);
    memset(disk->loose, 0, sizeof disk->loose);
    check_disk(s, disk, false);
}

/* The first of a world is a disk of zeros. */
static struct soak_kept *first_disk(struct soak *s)
{
    static const uint32_t zeros[soak_disk_pages];
    struct ramet_error err = {0};
    struct ramet_image *image;
    struct soak_kept *kept = soak_place(s);
    if (!kept)
        return NULL;
    soak_ok(s->model, ramet_image_new_stored(ramet_catalog_images(s->store->catalog), soak_disk_bytes, RAMET_CHUNK_ZERO,
                                             &image, &err));
    ramet_snapshot_unref(keep(s, kept, image, zeros));
    kept->stage = soak_there;
    return kept;
}

void soak_disk_fork(struct soak *s)
{
    struct ramet_error err = {0};
    struct ramet_snapshot *base;
    struct ramet_branch *branch;
    struct soak_kept *kept = soak_draw_kept(s, true);
    struct soak_disk *disk = s->world->disks;
    while (disk < s->world->disks + soak_disks_max && disk->stage != soak_free)
        disk++;
    if (!kept)
        kept = first_disk(s);
    if (!kept || disk == s->world->disks + soak_disks_max)
        return;
    snprintf(disk->name, sizeof disk->name, "disk-%zu-%" PRIu64, (size_t)(s->world - s->model->worlds),
             ++s->world->names);
    for (size_t i = 0; i < 2; i++)
        memcpy(disk->bases[i], kept->id, sizeof kept->id);
    memcpy(disk->versions, kept->versions, list_bytes);
    memset(disk->loose, 0, sizeof disk->loose);
    const struct soak_disk *parent = draw_disk(s);
    memcpy(disk->parent, parent ? parent->id : "", parent ? sizeof disk->parent : 1);
    disk->stage = soak_adding;
    const struct ramet_branch_request request = {
        .name = disk->name, .parent = disk->parent, .memory_bytes = soak_memory_bytes, .cpus = 1};
    soak_ok(s->model, ramet_catalog_find(s->store->catalog, kept->id, &base, &err));
    soak_ok(s->model, ramet_catalog_branch_new(s->store->catalog, &request, base, &branch, &err));
    memcpy(disk->id, branch->id, sizeof disk->id);
    disk->stage = soak_there;
    ramet_branch_unref(branch);
    ramet_snapshot_unref(base);
    check_disk(s, disk, false);
}

/* To any snapshot: all disks are of one size. A kill leaves each page that differs as it was or as it becomes. */
void soak_disk_roll_back(struct soak *s)
{
    struct ramet_error err = {0};
    struct soak_disk *disk = draw_disk(s);
    const struct soak_kept *kept = soak_draw_kept(s, true);
    if (!disk || !kept)
        return;
    _cleanup_(ramet_branch_cleanup) struct ramet_branch *branch = find(s, disk);
    _cleanup_(ramet_snapshot_cleanup) struct ramet_snapshot *target = NULL;
    soak_ok(s->model, ramet_catalog_find(s->store->catalog, kept->id, &target, &err));
    memcpy(disk->bases[1], kept->id, sizeof kept->id);
    for (uint64_t page = 0; page < soak_disk_pages; page++)
        disk->loose[page] |= disk->versions[page] != kept->versions[page];
    memcpy(disk->versions, kept->versions, list_bytes);
    soak_ok(s->model, ramet_catalog_branch_rollback(s->store->catalog, branch, target, &err));
    memcpy(disk->bases[0], kept->id, sizeof kept->id);
    memset(disk->loose, 0, sizeof disk->loose);
    check_disk(s, disk, false);
}

static struct soak_disk *parent_of(struct soak_world *world, const struct soak_disk *disk)
{
    for (size_t i = 0; i < soak_disks_max; i++) {
        struct soak_disk *other = &world->disks[i];
        if (other != disk && other->stage == soak_there && strcmp(other->id, disk->parent) == 0)
            return other;
    }
    return NULL;
}

/* Can be done again after a kill in its middle: the parent's entry stays as it is until `place` says it is over. */
static void take_place(struct soak_world *world, struct soak_disk *disk)
{
    struct soak_disk *parent = disk->place;
    for (size_t i = 0; i < soak_disks_max; i++)
        if (&world->disks[i] != disk && strcmp(world->disks[i].parent, parent->id) == 0)
            memcpy(world->disks[i].parent, disk->id, sizeof disk->id);
    memcpy(disk->parent, parent->parent, sizeof disk->parent);
    memcpy(disk->name, parent->name, sizeof disk->name);
    parent->stage = soak_free;
    disk->place = NULL;
}

static void check_place(struct soak *s, const struct soak_disk *disk)
{
    char parent[RAMET_CATALOG_ID_SIZE];
    _cleanup_(ramet_branch_cleanup) struct ramet_branch *branch = find(s, disk);
    ramet_branch_parent(branch, parent);
    if (strcmp(branch->id, disk->id) != 0 || strcmp(branch->name, disk->name) != 0 || strcmp(parent, disk->parent) != 0)
        soak_fail(s->model, "branch %s is %s, child of %s; it should be %s, of %s", disk->name, branch->id, parent,
                  disk->id, disk->parent);
}

void soak_disk_promote(struct soak *s)
{
    struct ramet_error err = {0};
    struct soak_disk *disk = draw_disk(s);
    if (!disk || !(disk->place = parent_of(s->world, disk)))
        return;
    _cleanup_(ramet_branch_cleanup) struct ramet_branch *branch = find(s, disk), *gone = NULL;
    soak_ok(s->model, ramet_catalog_branch_promote(s->store->catalog, branch, &gone, &err));
    take_place(s->world, disk);
    soak_ok(s->model, ramet_branch_files_remove(gone, &err));
    check_place(s, disk);
    check_disk(s, disk, false);
}

void soak_disk_settle_promotion(struct soak *s, struct soak_disk *disk)
{
    struct ramet_error err = {0};
    struct ramet_branch *branch;
    if (!disk->place)
        return;
    soak_ok(s->model, ramet_catalog_branch_find(s->store->catalog, disk->place->name, &branch, &err));
    if (strcmp(branch->id, disk->id) == 0)
        take_place(s->world, disk);
    disk->place = NULL;
    ramet_branch_unref(branch);
    check_place(s, disk);
}

void soak_disk_remove(struct soak *s, struct soak_disk *disk)
{
    struct ramet_error err = {0};
    _cleanup_(ramet_branch_cleanup) struct ramet_branch *branch = find(s, disk);
    disk->stage = soak_removing;
    soak_ok(s->model, ramet_catalog_branch_remove(s->store->catalog, branch, &err));
    disk->stage = soak_free;
}

void soak_disk_drop(struct soak *s)
{
    struct soak_disk *disk = draw_disk(s);
    if (disk)
        soak_disk_remove(s, disk);
}

/* Of those no disk lies over. */
void soak_disk_remove_kept(struct soak *s)
{
    struct soak_kept *kept = soak_draw_kept(s, true);
    if (kept && !soak_is_base(s->world, kept->id))
        soak_remove(s, kept);
}

void soak_disk_check_kept(struct soak *s, const struct soak_kept *kept)
{
    struct ramet_error err = {0};
    _cleanup_(ramet_snapshot_cleanup) struct ramet_snapshot *snapshot = NULL;
    uint8_t bytes[RAMET_PAGE_SIZE];
    char name[RAMET_DISK_NAME_SIZE];
    ramet_disk_name(name, 0);
    soak_ok(s->model, ramet_catalog_find(s->store->catalog, kept->id, &snapshot, &err));
    struct ramet_image *image = ramet_snapshot_image(snapshot, name);
    for (uint64_t page = 0; page < soak_disk_pages; page++) {
        soak_ok(s->model, ramet_image_read(image, page * RAMET_PAGE_SIZE, bytes, sizeof bytes, &err));
        soak_check(s, "a stored disk", page, kept->versions[page], bytes);
    }
}

/* --- a session --- */

void soak_disk_begin(struct soak *s)
{
    for (size_t i = 0; i < soak_disks_max; i++) {
        struct soak_disk *disk = &s->world->disks[i];
        if (disk->stage != soak_there)
            continue;
        check_disk(s, disk, true);
        _cleanup_(ramet_branch_cleanup) struct ramet_branch *branch = find(s, disk);
        ramet_branch_bases(branch, disk->bases[0], NULL);
        memcpy(disk->bases[1], disk->bases[0], sizeof disk->bases[1]);
        for (uint64_t page = 0; page < soak_disk_pages; page++)
            if (disk->loose[page])
                write_page(s, branch, disk, page, disk->versions[page]);
    }
}

void soak_disk_check(struct soak *s)
{
    for (size_t i = 0; i < soak_disks_max; i++)
        if (s->world->disks[i].stage == soak_there)
            check_disk(s, &s->world->disks[i], false);
}
