/* SPDX-License-Identifier: Apache-2.0 */
/* What the service does to snapshots: list, tag, remove, diff. */
#include "base/cleanup.h"
#include "mount.h"
#include "sandbox_workspaces.h"
#include "service_private.h"
#include "working_set.h"

#include <stdio.h>
#include <string.h>

/* --- describing --- */

static int compare_tags(const void *a, const void *b)
{
    const struct ramet_tag *x = a, *y = b;
    int by_snapshot = strcmp(x->snapshot, y->snapshot);
    return by_snapshot ? by_snapshot : strcmp(x->name, y->name);
}

/* All tags, those of one snapshot together; owned by the caller. None when memory is short: they are only shown. */
static struct ramet_tag *sorted_tags(struct ramet_service *service, size_t *ret_count)
{
    struct ramet_tag *tags = NULL;
    *ret_count = 0;
    if (ramet_catalog_tags(service->catalog, &tags, ret_count, NULL) == 0 && *ret_count > 0)
        qsort(tags, *ret_count, sizeof *tags, compare_tags);
    return tags;
}

static void fill_tags(const struct ramet_tag *tags, size_t count, struct ramet_snapshot_info *info)
{
    struct ramet_tag before = {0}; /* any of the snapshot's */
    size_t low = 0, high = count;
    memcpy(before.snapshot, info->id, sizeof before.snapshot);
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (compare_tags(&tags[middle], &before) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    for (size_t i = 0; i < RAMET_INFO_TAGS && low + i < count; i++) {
        if (strcmp(tags[low + i].snapshot, info->id) != 0)
            return;
        memcpy(info->tags[i], tags[low + i].name, sizeof info->tags[i]);
    }
}

static void fill_info(struct ramet_service *service, struct ramet_snapshot *snapshot, const struct ramet_tag *tags,
                      size_t tag_count, struct ramet_snapshot_info *ret)
{
    struct ramet_snapshot_info info = {.durable = atomic_load(&snapshot->durable),
                                       .has_memory = ramet_snapshot_image(snapshot, "memory"),
                                       .memory_bytes = snapshot->memory_bytes,
                                       .cpus = snapshot->cpus,
                                       .created_ms = snapshot->created_ms,
                                       .captured_pages = snapshot->captured_pages,
                                       .stored_bytes = atomic_load(&snapshot->stored_bytes)};
    memcpy(info.id, snapshot->id, sizeof info.id);
    memcpy(info.parent, snapshot->parent, sizeof info.parent);
    memcpy(info.sandbox, snapshot->sandbox, sizeof info.sandbox);
    memcpy(info.sandbox_name, snapshot->sandbox_name, sizeof info.sandbox_name);
    for (size_t i = 0; i < snapshot->image_count; i++) {
        uint64_t size = ramet_image_size(snapshot->images[i].image);
        if (strncmp(snapshot->images[i].name, "disk", 4) == 0)
            info.disk_bytes += size;
        else if (strcmp(snapshot->images[i].name, "state") == 0)
            info.state_bytes = size;
    }
    if (!info.durable)
        ramet_commit_queue_failure(service->commits, snapshot, info.reason, sizeof info.reason);
    fill_tags(tags, tag_count, &info);
    *ret = info;
}

void ramet_snapshot_fill_info(struct ramet_service *service, struct ramet_snapshot *snapshot,
                              struct ramet_snapshot_info *ret)
{
    size_t tag_count;
    _autofree_ struct ramet_tag *tags = sorted_tags(service, &tag_count);
    fill_info(service, snapshot, tags, tag_count, ret);
}

/* An image still in memory counts what its layers hold. */
int ramet_count_pages(struct ramet_store *store, struct ramet_image *image, uint64_t *total, struct ramet_error *err)
{
    struct ramet_page_map map;
    uint64_t pages = 0;
    if (!image)
        return 0;
    if (ramet_image_map(image, &map, NULL) < 0)
        pages = ramet_image_resident_pages(image);
    else {
        int r = ramet_page_map_count(store, &map, &pages, err);
        if (r < 0)
            return r;
    }
    *total += pages;
    return 0;
}

/* None, or a damaged one, is shown as none. */
static void fill_working_set(struct ramet_service *service, const struct ramet_snapshot *snapshot,
                             struct ramet_snapshot_info *ret)
{
    struct ramet_working_set set;
    if (ramet_catalog_working_set_get(service->catalog, snapshot, &set, NULL) < 0)
        return;
    ret->working_set_pages = set.page_count;
    ret->working_set_bytes = set.page_count * RAMET_PAGE_SIZE;
    ret->working_set_ms = set.recorded_ms;
    ramet_working_set_free(&set);
}

int ramet_service_check_restorable(struct ramet_service *service, const char *ref, struct ramet_error *err)
{
    _cleanup_(ramet_snapshot_cleanup) struct ramet_snapshot *snapshot = NULL;
    int r = ramet_catalog_find(service->catalog, ref, &snapshot, err);
    if (r < 0 || ramet_snapshot_image(snapshot, "memory"))
        return r;
    ramet_error_set(err, RAMET_CONFLICT, "snapshot \"%.100s\" has no memory to restore, it can only boot", ref);
    return ramet_error_hint(err, "boot it with 'ramet run %.100s'", ref);
}

int ramet_service_snapshot_get(struct ramet_service *service, const char *ref, struct ramet_snapshot_info *ret,
                               struct ramet_error *err)
{
    _cleanup_(ramet_snapshot_cleanup) struct ramet_snapshot *snapshot = NULL;
    uint64_t memory = 0, disk = 0;
    int r = ramet_catalog_find(service->catalog, ref, &snapshot, err);
    if (r == 0)
        r = ramet_count_pages(service->store, ramet_snapshot_image(snapshot, "memory"), &memory, err);
    for (size_t i = 0; r == 0 && i < snapshot->image_count; i++)
        if (strncmp(snapshot->images[i].name, "disk", 4) == 0)
            r = ramet_count_pages(service->store, snapshot->images[i].image, &disk, err);
    if (r < 0)
        return r;
    ramet_snapshot_fill_info(service, snapshot, ret);
    ret->memory_pages = memory;
    ret->disk_pages = disk;
    fill_working_set(service, snapshot, ret);
    return 0;
}

int ramet_service_snapshots(struct ramet_service *service, struct ramet_snapshot_info **ret, size_t *ret_count,
                            struct ramet_error *err)
{
    struct ramet_snapshot **all = NULL;
    size_t count = 0;
    int r = ramet_catalog_snapshots(service->catalog, &all, &count, err);
    if (r < 0)
        return r;
    struct ramet_snapshot_info *infos = calloc(count + 1, sizeof *infos);
    size_t tag_count;
    _autofree_ struct ramet_tag *tags = sorted_tags(service, &tag_count);
    for (size_t i = 0; i < count && infos; i++)
        fill_info(service, all[i], tags, tag_count, &infos[i]);
    ramet_snapshots_free(all, count);
    if (!infos)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to list snapshots");
    *ret = infos;
    *ret_count = count;
    return 0;
}

/* --- changing --- */

/* CONFLICT when a sandbox runs on the snapshot, or a lost one could only come back from it. */
static int check_unused(struct ramet_service *service, const struct ramet_snapshot *snapshot, struct ramet_error *err)
{
    _autofree_ struct ramet_sandbox **all = NULL;
    size_t count = 0;
    int r = ramet_sandbox_list(service, &all, &count, err);
    for (size_t i = 0; i < count; i++) {
        char base[RAMET_ID_SIZE];
        ramet_branch_bases(all[i]->branch, base, NULL);
        pthread_mutex_lock(&service->lock);
        bool started_from = all[i]->base == snapshot;
        pthread_mutex_unlock(&service->lock);
        if (r == 0 && (started_from || strcmp(base, snapshot->id) == 0)) {
            ramet_error_set(err, RAMET_CONFLICT, "sandbox \"%s\" stands on snapshot %s", all[i]->branch->name,
                            snapshot->id);
            r = ramet_error_hint(err, "remove it first: 'ramet rm %s'", all[i]->branch->name);
        }
        ramet_sandbox_unref(all[i]);
    }
    return r;
}

int ramet_service_snapshot_remove(struct ramet_service *service, const char *ref, struct ramet_error *err)
{
    _cleanup_(ramet_snapshot_cleanup) struct ramet_snapshot *snapshot = NULL;
    _autofree_ struct ramet_tag *tags = NULL;
    size_t tag_count = 0;
    int r = ramet_catalog_find(service->catalog, ref, &snapshot, err);
    if (r == 0)
        r = check_unused(service, snapshot, err);
    if (r == 0)
        r = ramet_catalog_tags(service->catalog, &tags, &tag_count, err);
    if (r < 0)
        return r;
    ramet_commit_queue_wait(service->commits, snapshot, NULL);
    ramet_commit_queue_forget(service->commits, snapshot);
    if ((r = ramet_catalog_remove(service->catalog, snapshot, err)) < 0)
        return r;
    ramet_service_forget_states(service, snapshot->id);
    ramet_mount_snapshot_changed(service->mount, snapshot->id);
    for (size_t i = 0; i < tag_count; i++)
        if (strcmp(tags[i].snapshot, snapshot->id) == 0)
            ramet_mount_snapshot_changed(service->mount, tags[i].name);
    return 0;
}

int ramet_service_tag(struct ramet_service *service, const char *ref, const char *tag, struct ramet_error *err)
{
    _cleanup_(ramet_snapshot_cleanup) struct ramet_snapshot *snapshot = NULL;
    int r = ramet_catalog_find(service->catalog, ref, &snapshot, err);
    if (r == 0)
        r = ramet_catalog_tag(service->catalog, snapshot, tag, err);
    if (r == 0)
        ramet_mount_snapshot_changed(service->mount, tag);
    return r;
}

int ramet_service_untag(struct ramet_service *service, const char *tag, struct ramet_error *err)
{
    int r = ramet_catalog_untag(service->catalog, tag, err);
    if (r == 0)
        ramet_mount_snapshot_changed(service->mount, tag);
    return r;
}

/* --- diff --- */

/* A snapshot by ref, or the newest one of a sandbox. */
static int resolve(struct ramet_service *service, const char *ref, struct ramet_snapshot **ret, struct ramet_error *err)
{
    _cleanup_(ramet_sandbox_cleanup) struct ramet_sandbox *sandbox = NULL;
    char id[RAMET_ID_SIZE];
    if (ramet_catalog_find(service->catalog, ref, ret, err) == 0)
        return 0;
    if (ramet_sandbox_find(service, ref, &sandbox, NULL) < 0) {
        ramet_error_set(err, RAMET_NOT_FOUND, "no snapshot and no sandbox is called \"%s\"", ref);
        return ramet_error_hint(err, "'ramet ls' and 'ramet ls --snapshots' list them");
    }
    pthread_mutex_lock(&service->lock);
    memcpy(id, sandbox->lineage, sizeof id);
    pthread_mutex_unlock(&service->lock);
    return ramet_catalog_find(service->catalog, id, ret, err);
}

static int diff_image(struct ramet_service *service, struct ramet_image *from, struct ramet_image *to,
                      uint64_t *ret_pages, uint64_t *ret_changed, struct ramet_error *err)
{
    struct ramet_page_map a, b;
    int r = ramet_image_map(from, &a, err);
    if (r == 0)
        r = ramet_image_map(to, &b, err);
    if (r == 0)
        r = ramet_page_map_diff(service->store, &a, &b, ret_changed, err);
    if (r == 0)
        *ret_pages = a.page_count;
    return r;
}

int ramet_service_diff(struct ramet_service *service, const char *from_ref, const char *to_ref, struct ramet_diff *ret,
                       struct ramet_error *err)
{
    _cleanup_(ramet_snapshot_cleanup) struct ramet_snapshot *from = NULL, *to = NULL;
    struct ramet_diff diff = {0};
    int r = resolve(service, from_ref, &from, err);
    if (r == 0)
        r = resolve(service, to_ref, &to, err);
    if (r == 0)
        r = ramet_commit_queue_wait(service->commits, from, err);
    if (r == 0)
        r = ramet_commit_queue_wait(service->commits, to, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < from->image_count && diff.image_count < 4 && r == 0; i++) {
        const char *name = from->images[i].name;
        struct ramet_image *other = ramet_snapshot_image(to, name);
        bool comparable = strcmp(name, "memory") == 0 || strncmp(name, "disk", 4) == 0;
        if (!comparable || !other || ramet_image_size(other) != ramet_image_size(from->images[i].image))
            continue;
        snprintf(diff.images[diff.image_count].image, sizeof diff.images[0].image, "%s", name);
        r = diff_image(service, from->images[i].image, other, &diff.images[diff.image_count].pages,
                       &diff.images[diff.image_count].changed_pages, err);
        diff.image_count++;
    }
    if (r < 0)
        return r;
    memcpy(diff.from, from->id, sizeof diff.from);
    memcpy(diff.to, to->id, sizeof diff.to);
    *ret = diff;
    return 0;
}
