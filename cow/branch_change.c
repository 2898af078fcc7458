/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Branches change what they stand on: moved onto a snapshot taken of them, rolled back to another.
 *
 * A rollback makes the new overlays' files first, writes the record that names them, and then turns to
 * them: a crash before the record leaves empty files nobody reads, one after it is the rollback.
 */
#include "catalog_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int ramet_catalog_branch_update(struct ramet_catalog *catalog, struct ramet_branch *branch,
                                struct ramet_snapshot *snapshot, const uint64_t *generations, struct ramet_error *err)
{
    pthread_mutex_lock(&catalog->lock);
    bool outdated = generations && snapshot->serial < branch->rollback_serial;
    for (size_t i = 0; generations && i < branch->disk_count; i++)
        outdated |= generations[i] < branch->first_generation[i];
    /* It was rolled back since; or a later snapshot became durable first, holds more, and the files between are gone.
     */
    if (outdated) {
        pthread_mutex_unlock(&catalog->lock);
        return 0;
    }
    snprintf(branch->last_snapshot, sizeof branch->last_snapshot, "%s", snapshot->id);
    if (generations) {
        snprintf(branch->base, sizeof branch->base, "%s", snapshot->id);
        memcpy(branch->first_generation, generations, branch->disk_count * sizeof *generations);
    }
    pthread_mutex_unlock(&catalog->lock);
    pthread_mutex_lock(&catalog->record_lock);
    int r = ramet_branch_write(branch, NULL, err);
    pthread_mutex_unlock(&catalog->record_lock);
    for (size_t i = 0; i < branch->disk_count && generations && r == 0; i++)
        ramet_overlay_trim(branch->disks[i], generations[i]);
    return r;
}

int ramet_catalog_branches_over(struct ramet_catalog *catalog, const char *snapshot_id, struct ramet_branch ***ret,
                                size_t *ret_count, struct ramet_error *err)
{
    const struct ramet_u64map *serials = &catalog->branches.serials;
    struct ramet_branch **found = NULL;
    uint64_t serial, object;
    size_t count = 0, room = 0;
    int r = 0;
    pthread_mutex_lock(&catalog->lock);
    for (size_t at = 0; r == 0 && ramet_u64map_next(serials, &at, &serial, &object);) {
        struct ramet_branch *branch = (struct ramet_branch *)(uintptr_t)object, **grown = found;
        if (strcmp(branch->base, snapshot_id) != 0)
            continue;
        if (count == room && (grown = reallocarray(found, room = 2 * room + 8, sizeof *found)))
            found = grown;
        if (!grown) {
            r = ramet_error_set(err, RAMET_NO_MEMORY, "no memory to list branches");
            break;
        }
        atomic_fetch_add(&branch->refs, 1);
        found[count++] = branch;
    }
    pthread_mutex_unlock(&catalog->lock);
    if (r < 0) {
        ramet_branches_free(found, count);
        return r;
    }
    *ret = found;
    *ret_count = count;
    return 0;
}

void ramet_branch_bases(struct ramet_branch *branch, char base[RAMET_CATALOG_ID_SIZE],
                        char last_snapshot[RAMET_CATALOG_ID_SIZE])
{
    pthread_mutex_lock(&branch->catalog->lock);
    if (base)
        memcpy(base, branch->base, RAMET_CATALOG_ID_SIZE);
    if (last_snapshot)
        memcpy(last_snapshot, branch->last_snapshot, RAMET_CATALOG_ID_SIZE);
    pthread_mutex_unlock(&branch->catalog->lock);
}

/* --- rollback --- */

/* What of a record a rollback changes. */
struct standing {
    char base[RAMET_CATALOG_ID_SIZE], last_snapshot[RAMET_CATALOG_ID_SIZE];
    uint64_t first_generation[RAMET_BRANCH_DISKS_MAX], rollback_serial;
};

/* Exchanges the branch's standing with *standing. */
static void swap_standing(struct ramet_branch *branch, struct standing *standing)
{
    struct standing old = {.rollback_serial = branch->rollback_serial};
    pthread_mutex_lock(&branch->catalog->lock);
    memcpy(old.base, branch->base, sizeof old.base);
    memcpy(old.last_snapshot, branch->last_snapshot, sizeof old.last_snapshot);
    memcpy(old.first_generation, branch->first_generation, sizeof old.first_generation);
    memcpy(branch->base, standing->base, sizeof branch->base);
    memcpy(branch->last_snapshot, standing->last_snapshot, sizeof branch->last_snapshot);
    memcpy(branch->first_generation, standing->first_generation, sizeof branch->first_generation);
    branch->rollback_serial = standing->rollback_serial;
    pthread_mutex_unlock(&branch->catalog->lock);
    *standing = old;
}

static int begin_resets(struct ramet_branch *branch, struct ramet_snapshot *snapshot, uint64_t *generations,
                        struct ramet_error *err)
{
    char name[RAMET_DISK_NAME_SIZE];
    int r = 0;
    for (size_t i = 0; i <= branch->disk_count && i < RAMET_BRANCH_DISKS_MAX && r == 0; i++) {
        ramet_disk_name(name, i);
        struct ramet_image *image = ramet_snapshot_image(snapshot, name);
        if (!image != (i == branch->disk_count))
            r = ramet_error_set(err, RAMET_CONFLICT, "%s is in only one of branch %s and snapshot %s", name,
                                branch->name, snapshot->id);
        else if (image)
            r = ramet_overlay_reset_begin(branch->disks[i], image, &generations[i], err);
    }
    return r;
}

/* Under record_lock. */
static int write_standing(struct ramet_branch *branch, struct standing *standing, struct ramet_error *err)
{
    bool gone = false;
    swap_standing(branch, standing);
    int r = ramet_branch_write(branch, &gone, err);
    if (r == 0 && gone)
        r = ramet_error_set(err, RAMET_NOT_FOUND, "branch \"%s\" is removed", branch->name);
    if (r < 0)
        swap_standing(branch, standing);
    return r;
}

int ramet_catalog_branch_rollback(struct ramet_catalog *catalog, struct ramet_branch *branch,
                                  struct ramet_snapshot *snapshot, struct ramet_error *err)
{
    struct standing standing = {.rollback_serial = atomic_load(&catalog->next_serial)};
    int r = begin_resets(branch, snapshot, standing.first_generation, err);
    memcpy(standing.base, snapshot->id, sizeof standing.base);
    memcpy(standing.last_snapshot, snapshot->id, sizeof standing.last_snapshot);
    if (r == 0) {
        pthread_mutex_lock(&catalog->record_lock);
        r = write_standing(branch, &standing, err);
        pthread_mutex_unlock(&catalog->record_lock);
    }
    for (size_t i = 0; i < branch->disk_count; i++)
        (r == 0 ? ramet_overlay_reset_commit : ramet_overlay_reset_abort)(branch->disks[i]);
    return r;
}

bool ramet_branch_left(struct ramet_branch *branch, const struct ramet_snapshot *snapshot)
{
    pthread_mutex_lock(&branch->catalog->lock);
    bool left = snapshot->serial < branch->rollback_serial;
    pthread_mutex_unlock(&branch->catalog->lock);
    return left;
}
