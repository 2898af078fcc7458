/* SPDX-License-Identifier: Apache-2.0 */
/* Steps that make, fork, tag and remove snapshots. */
#include "scenario_private.h"

#include "base/file.h"
#include "image_file.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

enum { page_size = RAMET_PAGE_SIZE, memory_pages = 400, disk_pages = 220, state_bytes = 9 * RAMET_PAGE_SIZE + 700 };
enum { snapshots_few = 3 };

int scenario_new(struct scenario *s, struct ramet_snapshot **ret, struct model_snapshot *model, struct ramet_error *err)
{
    int r = ramet_snapshot_new(s->catalog, ret, err);
    if (r < 0)
        return r;
    *model = (struct model_snapshot){.memory_bytes = (*ret)->memory_bytes = rng_next(&s->random) >> 8};
    memcpy(model->id, (*ret)->id, sizeof model->id);
    return 0;
}

/* Makes it visible, with a tag now and then. */
int scenario_publish(struct scenario *s, struct ramet_snapshot *snapshot, const struct model_snapshot *model,
                     struct ramet_error *err)
{
    char tag[model_name_size] = "latest";
    uint64_t kind = s->next.tag_count < model_tags_max ? below(s, 4) : 3;
    s->next.snapshots[s->next.snapshot_count++] = *model;
    if (kind == 1)
        snprintf(tag, sizeof tag, "tag%u", s->names++);
    if (kind < 2)
        model_set_tag(&s->next, tag, model->id);
    return ramet_catalog_add(s->catalog, snapshot, kind < 2 ? tag : NULL, err);
}

static bool is_base(const struct model *model, const char *id)
{
    for (size_t i = 0; i < model->branch_count; i++)
        if (strcmp(model->branches[i].base, id) == 0)
            return true;
    return false;
}

int scenario_pick(struct scenario *s, struct ramet_snapshot **ret, const struct model_snapshot **ret_model,
                  struct ramet_error *err)
{
    if (s->now.snapshot_count == 0)
        return scenario_skip;
    *ret_model = &s->now.snapshots[below(s, s->now.snapshot_count)];
    return ramet_catalog_find(s->catalog, (*ret_model)->id, ret, err);
}

/* As a fork leaves it: pages held by layers. */
int step_import_layers(struct scenario *s, struct ramet_error *err)
{
    _cleanup_(ramet_snapshot_cleanup) struct ramet_snapshot *snapshot = NULL;
    struct model_snapshot model;
    if (s->now.snapshot_count >= snapshots_many)
        return scenario_skip;
    int r = scenario_new(s, &snapshot, &model, err);
    if (r == 0)
        r = scenario_add_fresh(s, snapshot, &model, "memory", memory_pages * page_size, err);
    if (r == 0)
        r = scenario_add_fresh(s, snapshot, &model, "disk0", disk_pages * page_size, err);
    if (r == 0)
        r = scenario_publish(s, snapshot, &model, err);
    return r < 0 ? r : ramet_catalog_commit(s->catalog, snapshot, err);
}

static int put_tag(struct scenario *s, struct ramet_snapshot *snapshot, struct ramet_error *err)
{
    char name[model_name_size] = "latest";
    if (below(s, 2) && s->next.tag_count < model_tags_max)
        snprintf(name, sizeof name, "tag%u", s->names++);
    model_set_tag(&s->next, name, snapshot->id);
    return ramet_catalog_tag(s->catalog, snapshot, name, err);
}

/* Over a parent's image of that name, whose map is `base`, about one page in ten is another. */
static int import_file(struct scenario *s, struct ramet_ingest *ingest, struct ramet_snapshot *snapshot,
                       struct model_snapshot *model, const char *name, uint64_t size_bytes,
                       const struct ramet_snapshot *parent, struct ramet_error *err)
{
    uint64_t page_count = model_page_count(size_bytes);
    struct model_page *pages = scenario_list(page_count, NULL);
    struct model_image to = {.size_bytes = size_bytes, .pages = pages};
    struct ramet_image *image = parent ? ramet_snapshot_image(parent, name) : NULL;
    struct ramet_page_map map, base;
    uint8_t bytes[RAMET_PAGE_SIZE];
    snprintf(to.name, sizeof to.name, "%s", name);
    _autoclose_ int fd = memfd_create(name, MFD_CLOEXEC);
    int r = image ? ramet_image_map(image, &base, err) : 0;
    for (uint64_t page = 0; page < page_count && r == 0; page++) {
        uint64_t kind = image ? below(s, 20) : 0;
        if (kind > 0)
            r = ramet_image_read(image, page * page_size, bytes, page_size, err);
        if (kind == 0)
            scenario_fill(s, bytes);
        else if (kind == 1)
            scenario_touch(s, bytes);
        scenario_cut(&to, page, bytes);
        pages[page].hash = model_hash(bytes);
        if (r == 0)
            r = ramet_file_write(fd, name, bytes, page_size, page * page_size, err);
    }
    if (r == 0)
        r = ramet_image_put_file(s->store, ingest, fd, name, size_bytes, image ? &base : NULL, &map, err);
    if (r == 0)
        r = ramet_image_new_stored(ramet_catalog_images(s->catalog), size_bytes, map.root, &image, err);
    return r < 0 ? r : scenario_add(snapshot, model, image, &to, err);
}

/* As the service imports files, of which the disk may be a later state of a parent's. */
static int import_over(struct scenario *s, const struct ramet_snapshot *parent, struct ramet_error *err)
{
    _cleanup_(ramet_snapshot_cleanup) struct ramet_snapshot *snapshot = NULL;
    struct ramet_ingest *ingest = NULL;
    struct model_snapshot model;
    int r = scenario_new(s, &snapshot, &model, err);
    if (r == 0)
        r = ramet_ingest_begin(s->store, &ingest, err);
    if (r == 0)
        r = import_file(s, ingest, snapshot, &model, "state", state_bytes, NULL, err);
    if (r == 0)
        r = import_file(s, ingest, snapshot, &model, "disk0", disk_pages * page_size, parent, err);
    uint64_t stored;
    if (r == 0)
        r = ramet_ingest_stored_bytes(ingest, &stored, err);
    if (r == 0)
        r = ramet_catalog_add(s->catalog, snapshot, NULL, err);
    if (r == 0)
        s->next.snapshots[s->next.snapshot_count++] = model;
    if (r == 0 && (r = ramet_catalog_commit(s->catalog, snapshot, err)) < 0)
        ramet_catalog_remove(s->catalog, snapshot, NULL); /* its pages go with the ingest */
    ramet_ingest_end(ingest);
    return r == 0 && below(s, 4) == 0 ? put_tag(s, snapshot, err) : r;
}

int step_import_files(struct scenario *s, struct ramet_error *err)
{
    return s->now.snapshot_count < snapshots_many ? import_over(s, NULL, err) : scenario_skip;
}

int step_import_later(struct scenario *s, struct ramet_error *err)
{
    _cleanup_(ramet_snapshot_cleanup) struct ramet_snapshot *parent = NULL;
    const struct model_snapshot *model;
    int r = s->now.snapshot_count < snapshots_many ? scenario_pick(s, &parent, &model, err) : scenario_skip;
    return r == 0 ? import_over(s, parent, err) : r;
}

/* A snapshot over `parent`, visible and not durable yet. */
static int fork_one(struct scenario *s, const struct ramet_snapshot *parent, const struct model_snapshot *parent_model,
                    struct ramet_snapshot **ret, struct model_snapshot *model, struct ramet_error *err)
{
    int r = scenario_new(s, ret, model, err);
    if (r == 0)
        memcpy((*ret)->parent, parent->id, sizeof(*ret)->parent);
    for (size_t i = 0; i < parent_model->image_count && r == 0; i++) {
        const struct model_image *from = &parent_model->images[i];
        if (strcmp(from->name, "state") == 0)
            r = scenario_add_fresh(s, *ret, model, "state", from->size_bytes, err);
        else if (strcmp(from->name, "memory") == 0)
            r = scenario_add_over(s, *ret, model, parent, from, 4 + below(s, 30), err);
        else
            r = scenario_add_over(s, *ret, model, parent, from, below(s, 2) * 25, err);
    }
    return r < 0 ? r : scenario_publish(s, *ret, model, err);
}

int step_fork_snapshot(struct scenario *s, struct ramet_error *err)
{
    _cleanup_(ramet_snapshot_cleanup) struct ramet_snapshot *parent = NULL, *child = NULL;
    const struct model_snapshot *parent_model;
    struct model_snapshot model;
    int r = s->now.snapshot_count < snapshots_many ? scenario_pick(s, &parent, &parent_model, err) : scenario_skip;
    if (r == 0)
        r = fork_one(s, parent, parent_model, &child, &model, err);
    return r != 0 ? r : ramet_catalog_commit(s->catalog, child, err);
}

/* A fork of a fork that is not durable yet; the younger one becomes durable first half of the time. */
int step_fork_twice(struct scenario *s, struct ramet_error *err)
{
    _cleanup_(ramet_snapshot_cleanup) struct ramet_snapshot *parent = NULL, *child = NULL, *grandchild = NULL;
    const struct model_snapshot *parent_model;
    struct model_snapshot model, grandmodel;
    int r = s->now.snapshot_count < snapshots_many ? scenario_pick(s, &parent, &parent_model, err) : scenario_skip;
    if (r == 0)
        r = fork_one(s, parent, parent_model, &child, &model, err);
    if (r == 0)
        r = fork_one(s, child, &model, &grandchild, &grandmodel, err);
    bool swap = below(s, 2);
    if (r == 0)
        r = ramet_catalog_commit(s->catalog, swap ? grandchild : child, err);
    return r != 0 ? r : ramet_catalog_commit(s->catalog, swap ? child : grandchild, err);
}

int step_remove_snapshot(struct scenario *s, struct ramet_error *err)
{
    _cleanup_(ramet_snapshot_cleanup) struct ramet_snapshot *snapshot = NULL;
    const struct model_snapshot *model;
    int r = s->now.snapshot_count > snapshots_few ? scenario_pick(s, &snapshot, &model, err) : scenario_skip;
    if (r != 0)
        return r;
    if (is_base(&s->now, snapshot->id))
        return scenario_skip;
    model_remove_snapshot(&s->next, snapshot->id);
    return ramet_catalog_remove(s->catalog, snapshot, err);
}

int step_tag(struct scenario *s, struct ramet_error *err)
{
    _cleanup_(ramet_snapshot_cleanup) struct ramet_snapshot *snapshot = NULL;
    const struct model_snapshot *model;
    int r = s->now.tag_count + 3 < model_tags_max ? scenario_pick(s, &snapshot, &model, err) : scenario_skip;
    return r == 0 ? put_tag(s, snapshot, err) : r;
}

int step_untag(struct scenario *s, struct ramet_error *err)
{
    if (s->now.tag_count == 0)
        return scenario_skip;
    const struct model_tag *model = &s->now.tags[below(s, s->now.tag_count)];
    model_remove_tag(&s->next, model->name);
    return ramet_catalog_untag(s->catalog, model->name, err);
}
