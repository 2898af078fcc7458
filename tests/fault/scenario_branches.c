/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Steps on branches. A page counts as loose from a write to it until the flush, or the
 * snapshot of the branch, that makes it durable.
 */
#include "scenario_private.h"

#include <stdio.h>
#include <string.h>

enum { page_size = RAMET_PAGE_SIZE };

/* A branch of the catalog and its model in `next`. */
static int pick_branch(struct scenario *s, struct ramet_branch **ret, struct model_branch **ret_model,
                       struct ramet_error *err)
{
    if (s->now.branch_count == 0)
        return scenario_skip;
    *ret_model = &s->next.branches[below(s, s->now.branch_count)];
    return ramet_catalog_branch_find(s->catalog, (*ret_model)->name, ret, err);
}

/* `parent`: the id of the branch that it is a child of, or "". */
static int branch_new(struct scenario *s, const char *parent, struct ramet_error *err)
{
    _cleanup_(ramet_snapshot_cleanup) struct ramet_snapshot *base = NULL;
    _cleanup_(ramet_branch_cleanup) struct ramet_branch *branch = NULL;
    const struct model_snapshot *base_model;
    int r = s->now.branch_count < model_branches_max ? scenario_pick(s, &base, &base_model, err) : scenario_skip;
    if (r != 0)
        return r;
    struct model_branch *model = &s->next.branches[s->next.branch_count++];
    *model = (struct model_branch){.disk = *model_image(base_model, "disk0")};
    snprintf(model->name, sizeof model->name, "branch%u", s->names++);
    memcpy(model->base, base->id, sizeof model->base);
    memcpy(model->parent, parent, sizeof model->parent);
    struct ramet_branch_request request = {
        .name = model->name, .parent = model->parent, .memory_bytes = page_size, .cpus = 1};
    r = ramet_catalog_branch_new(s->catalog, &request, base, &branch, err);
    if (r == 0)
        memcpy(model->id, branch->id, sizeof model->id);
    return r;
}

int step_branch_new(struct scenario *s, struct ramet_error *err)
{
    static const char none[RAMET_CATALOG_ID_SIZE];
    return branch_new(s, none, err);
}

int step_branch_child(struct scenario *s, struct ramet_error *err)
{
    if (s->now.branch_count == 0)
        return scenario_skip;
    return branch_new(s, s->now.branches[below(s, s->now.branch_count)].id, err);
}

/* Writes one to four whole pages. */
static int write_pages(struct scenario *s, struct ramet_overlay *disk, struct model_page *pages, uint64_t page_count,
                       struct ramet_error *err)
{
    uint8_t bytes[4 * RAMET_PAGE_SIZE];
    uint64_t count = 1 + below(s, 4), first = below(s, page_count - count);
    for (uint64_t i = 0; i < count; i++) {
        scenario_fill(s, bytes + i * page_size);
        pages[first + i] = (struct model_page){.hash = model_hash(bytes + i * page_size), .loose = true};
    }
    return ramet_overlay_write(disk, first * page_size, bytes, count * page_size, err);
}

/* Writes or discards a part of a page. */
static int write_part(struct scenario *s, struct ramet_overlay *disk, struct model_page *pages, uint64_t page_count,
                      struct ramet_error *err)
{
    uint8_t bytes[RAMET_PAGE_SIZE];
    uint64_t page = below(s, page_count), size = 1 + below(s, page_size - 1), offset = below(s, page_size - size);
    int r = ramet_overlay_read(disk, page * page_size, bytes, page_size, err);
    if (r < 0)
        return r;
    if (model_hash(bytes) != pages[page].hash)
        return ramet_error_set(err, RAMET_CORRUPT, "page %llu of a branch is not what was written",
                               (unsigned long long)page);
    bool discard = below(s, 3) == 0;
    for (uint64_t i = 0; i < size; i++)
        bytes[offset + i] = discard ? 0 : (uint8_t)below(s, 256);
    pages[page] = (struct model_page){.hash = model_hash(bytes), .loose = true};
    return discard ? ramet_overlay_discard(disk, page * page_size + offset, size, err)
                   : ramet_overlay_write(disk, page * page_size + offset, bytes + offset, size, err);
}

static int discard_pages(struct scenario *s, struct ramet_overlay *disk, struct model_page *pages, uint64_t page_count,
                         struct ramet_error *err)
{
    static const uint8_t zeros[RAMET_PAGE_SIZE];
    uint64_t count = 1 + below(s, 6), first = below(s, page_count - count);
    for (uint64_t i = 0; i < count; i++)
        pages[first + i] = (struct model_page){.hash = model_hash(zeros), .loose = true};
    return ramet_overlay_discard(disk, first * page_size, count * page_size, err);
}

int step_branch_write(struct scenario *s, struct ramet_error *err)
{
    _cleanup_(ramet_branch_cleanup) struct ramet_branch *branch = NULL;
    struct model_branch *model;
    int r = pick_branch(s, &branch, &model, err);
    if (r != 0)
        return r;
    uint64_t page_count = model_page_count(model->disk.size_bytes);
    struct model_page *pages = scenario_list(page_count, model->disk.pages);
    model->disk.pages = pages;
    for (uint64_t i = 1 + below(s, 6); i > 0 && r == 0; i--) {
        uint64_t kind = below(s, 6);
        r = (kind < 3   ? write_pages
             : kind < 5 ? write_part
                        : discard_pages)(s, branch->disks[0], pages, page_count, err);
    }
    return r;
}

/* All pages as they read now, none of them loose. */
static const struct model_page *tight(const struct model_image *disk)
{
    uint64_t page_count = model_page_count(disk->size_bytes);
    struct model_page *pages = scenario_list(page_count, disk->pages);
    for (uint64_t i = 0; i < page_count; i++)
        pages[i].loose = false;
    return pages;
}

int step_branch_flush(struct scenario *s, struct ramet_error *err)
{
    _cleanup_(ramet_branch_cleanup) struct ramet_branch *branch = NULL;
    struct model_branch *model;
    int r = pick_branch(s, &branch, &model, err);
    if (r != 0)
        return r;
    model->disk.pages = tight(&model->disk);
    return ramet_overlay_flush(branch->disks[0], err);
}

/* A snapshot of the branch's disk, on which the branch then lies; the guest may write meanwhile. */
int step_branch_snapshot(struct scenario *s, struct ramet_error *err)
{
    _cleanup_(ramet_branch_cleanup) struct ramet_branch *branch = NULL;
    _cleanup_(ramet_snapshot_cleanup) struct ramet_snapshot *snapshot = NULL;
    struct model_branch *model;
    struct model_snapshot snapshot_model;
    struct ramet_image *frozen;
    uint64_t generation;
    int r = s->now.snapshot_count < snapshots_many ? pick_branch(s, &branch, &model, err) : scenario_skip;
    if (r != 0)
        return r;
    model->disk.pages = tight(&model->disk);
    struct model_image frozen_model = model->disk;
    if ((r = scenario_new(s, &snapshot, &snapshot_model, err)) < 0 ||
        (r = ramet_overlay_freeze(branch->disks[0], &frozen, &generation, err)) < 0 ||
        (r = scenario_add(snapshot, &snapshot_model, frozen, &frozen_model, err)) < 0 ||
        (r = scenario_publish(s, snapshot, &snapshot_model, err)) < 0)
        return r;
    memcpy(model->base, snapshot->id, sizeof model->base);
    if (below(s, 2)) {
        uint64_t page_count = model_page_count(model->disk.size_bytes);
        struct model_page *pages = scenario_list(page_count, model->disk.pages);
        model->disk.pages = pages;
        if ((r = write_pages(s, branch->disks[0], pages, page_count, err)) < 0)
            return r;
    }
    if ((r = ramet_catalog_commit(s->catalog, snapshot, err)) < 0)
        return r;
    return ramet_catalog_branch_update(s->catalog, branch, snapshot, &generation, err);
}

/* To any snapshot: all disks are alike. */
int step_branch_rollback(struct scenario *s, struct ramet_error *err)
{
    _cleanup_(ramet_branch_cleanup) struct ramet_branch *branch = NULL;
    _cleanup_(ramet_snapshot_cleanup) struct ramet_snapshot *target = NULL;
    const struct model_snapshot *target_model;
    struct model_branch *model;
    int r = scenario_pick(s, &target, &target_model, err);
    if (r == 0)
        r = pick_branch(s, &branch, &model, err);
    if (r != 0)
        return r;
    model->disk = *model_image(target_model, "disk0");
    memcpy(model->base, target->id, sizeof model->base);
    return ramet_catalog_branch_rollback(s->catalog, branch, target, err);
}

static struct model_branch *by_id(struct model *model, const char *id)
{
    for (size_t i = 0; i < model->branch_count; i++)
        if (id[0] && strcmp(model->branches[i].id, id) == 0)
            return &model->branches[i];
    return NULL;
}

int step_branch_promote(struct scenario *s, struct ramet_error *err)
{
    _cleanup_(ramet_branch_cleanup) struct ramet_branch *branch = NULL, *gone = NULL;
    struct model_branch *model, *parent;
    int r = pick_branch(s, &branch, &model, err);
    if (r != 0)
        return r;
    if (!(parent = by_id(&s->next, model->parent)))
        return scenario_skip;
    for (size_t i = 0; i < s->next.branch_count; i++)
        if (strcmp(s->next.branches[i].parent, parent->id) == 0)
            memcpy(s->next.branches[i].parent, model->id, sizeof model->id);
    memcpy(model->parent, parent->parent, sizeof model->parent);
    memcpy(model->name, parent->name, sizeof model->name);
    *parent = s->next.branches[--s->next.branch_count];
    r = ramet_catalog_branch_promote(s->catalog, branch, &gone, err);
    return r < 0 ? r : ramet_branch_files_remove(gone, err);
}

int step_branch_remove(struct scenario *s, struct ramet_error *err)
{
    _cleanup_(ramet_branch_cleanup) struct ramet_branch *branch = NULL;
    struct model_branch *model;
    int r = pick_branch(s, &branch, &model, err);
    if (r != 0)
        return r;
    model_remove_branch(&s->next, branch->name);
    return ramet_catalog_branch_remove(s->catalog, branch, err);
}

static int look_at(struct model_image *disk, struct ramet_overlay *overlay, struct ramet_error *err)
{
    uint8_t bytes[RAMET_PAGE_SIZE];
    uint64_t page_count = model_page_count(disk->size_bytes);
    struct model_page *pages = scenario_list(page_count, disk->pages);
    disk->pages = pages;
    int r = 0;
    for (uint64_t i = 0; i < page_count && r == 0; i++) {
        if (!pages[i].loose)
            continue;
        r = ramet_overlay_read(overlay, i * page_size, bytes, page_size, err);
        pages[i].hash = model_hash(bytes);
    }
    return r;
}

int scenario_look(struct scenario *s, struct ramet_error *err)
{
    int r = 0;
    for (size_t i = 0; i < s->next.branch_count && r == 0; i++) {
        _cleanup_(ramet_branch_cleanup) struct ramet_branch *branch = NULL;
        r = ramet_catalog_branch_find(s->catalog, s->next.branches[i].name, &branch, err);
        if (r == 0)
            r = look_at(&s->next.branches[i].disk, branch->disks[0], err);
    }
    return r;
}
