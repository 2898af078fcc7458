/* SPDX-License-Identifier: Apache-2.0 */
#include "model.h"

#include "base/cleanup.h"
#include "base/record.h"
#include "faults.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

uint64_t model_hash(const void *page) { return ramet_checksum(page, RAMET_PAGE_SIZE, NULL, 0); }

struct model_snapshot *model_snapshot(const struct model *model, const char *id)
{
    for (size_t i = 0; i < model->snapshot_count; i++)
        if (strcmp(model->snapshots[i].id, id) == 0)
            return (struct model_snapshot *)&model->snapshots[i];
    return NULL;
}

struct model_tag *model_tag(const struct model *model, const char *name)
{
    for (size_t i = 0; i < model->tag_count; i++)
        if (strcmp(model->tags[i].name, name) == 0)
            return (struct model_tag *)&model->tags[i];
    return NULL;
}

struct model_branch *model_branch(const struct model *model, const char *name)
{
    for (size_t i = 0; i < model->branch_count; i++)
        if (strcmp(model->branches[i].name, name) == 0)
            return (struct model_branch *)&model->branches[i];
    return NULL;
}

const struct model_image *model_image(const struct model_snapshot *snapshot, const char *name)
{
    for (size_t i = 0; i < snapshot->image_count; i++)
        if (strcmp(snapshot->images[i].name, name) == 0)
            return &snapshot->images[i];
    return NULL;
}

void model_remove_tag(struct model *model, const char *name)
{
    struct model_tag *tag = model_tag(model, name);
    if (tag)
        *tag = model->tags[--model->tag_count];
}

void model_remove_snapshot(struct model *model, const char *id)
{
    struct model_snapshot *snapshot = model_snapshot(model, id);
    for (size_t i = 0; i < model->tag_count;)
        if (strcmp(model->tags[i].snapshot, id) == 0)
            model->tags[i] = model->tags[--model->tag_count];
        else
            i++;
    if (snapshot)
        *snapshot = model->snapshots[--model->snapshot_count];
}

void model_remove_branch(struct model *model, const char *name)
{
    struct model_branch *branch = model_branch(model, name);
    if (branch)
        *branch = model->branches[--model->branch_count];
}

void model_set_tag(struct model *model, const char *name, const char *snapshot_id)
{
    struct model_tag *tag = model_tag(model, name);
    if (!tag)
        tag = &model->tags[model->tag_count++];
    snprintf(tag->name, sizeof tag->name, "%s", name);
    snprintf(tag->snapshot, sizeof tag->snapshot, "%s", snapshot_id);
}

void model_merge(struct model *model, const struct model *more)
{
    for (size_t i = 0; i < more->snapshot_count; i++)
        model->snapshots[model->snapshot_count++] = more->snapshots[i];
    for (size_t i = 0; i < more->tag_count; i++)
        model_set_tag(model, more->tags[i].name, more->tags[i].snapshot);
}

/* --- comparing --- */

struct check {
    struct ramet_catalog *catalog;
    const struct model *before, *after;
    bool crashed;
    char *problem;
    size_t problem_size;
};

static bool complain(struct check *check, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static bool complain(struct check *check, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(check->problem, check->problem_size, fmt, ap);
    va_end(ap);
    return false;
}

/* Compares pages that were read with one or two images (`b` may be NULL); each page may be as in either. */
static bool check_pages(struct check *check, const char *what, const uint8_t *bytes, const struct model_image *a,
                        const struct model_image *b)
{
    for (uint64_t i = 0; i < model_page_count(a->size_bytes); i++) {
        uint64_t hash = model_hash(bytes + i * RAMET_PAGE_SIZE);
        bool loose = check->crashed && (a->pages[i].loose || (b && b->pages[i].loose));
        if (!loose && hash != a->pages[i].hash && !(b && hash == b->pages[i].hash))
            return complain(check, "%s: page %" PRIu64 " is not what was written", what, i);
    }
    return true;
}

static bool check_image(struct check *check, const struct ramet_snapshot *snapshot, const struct model_image *model)
{
    char what[96];
    struct ramet_error err = {0};
    struct ramet_image *image = ramet_snapshot_image(snapshot, model->name);
    snprintf(what, sizeof what, "snapshot %s, image %s", snapshot->id, model->name);
    if (!image || ramet_image_size(image) != model->size_bytes)
        return complain(check, "%s: missing or of another size", what);
    _autofree_ uint8_t *bytes = faults_calloc(model_page_count(model->size_bytes), RAMET_PAGE_SIZE);
    if (ramet_image_read(image, 0, bytes, model->size_bytes, &err) < 0)
        return complain(check, "%s: %s", what, err.msg);
    return check_pages(check, what, bytes, model, NULL);
}

static bool check_snapshot(struct check *check, const struct ramet_snapshot *snapshot)
{
    const struct model_snapshot *model = model_snapshot(check->after, snapshot->id);
    if (!model)
        model = model_snapshot(check->before, snapshot->id);
    if (!model)
        return complain(check, "snapshot %s should not be there", snapshot->id);
    if (snapshot->memory_bytes != model->memory_bytes || snapshot->image_count != model->image_count)
        return complain(check, "snapshot %s: its record is another's", snapshot->id);
    for (size_t i = 0; i < model->image_count; i++)
        if (!check_image(check, snapshot, &model->images[i]))
            return false;
    return true;
}

static bool check_snapshots(struct check *check)
{
    struct ramet_snapshot **all = NULL, *found;
    struct ramet_error err = {0};
    size_t count = 0;
    bool ok = true;
    if (ramet_catalog_snapshots(check->catalog, &all, &count, &err) < 0)
        return complain(check, "%s", err.msg);
    for (size_t i = 0; i < count && ok; i++)
        ok = check_snapshot(check, all[i]);
    ramet_snapshots_free(all, count);
    for (size_t i = 0; i < check->before->snapshot_count && ok; i++) {
        const char *id = check->before->snapshots[i].id;
        if (!model_snapshot(check->after, id))
            continue;
        if (ramet_catalog_find(check->catalog, id, &found, &err) < 0)
            return complain(check, "snapshot %s was acknowledged and is gone", id);
        ramet_snapshot_unref(found);
    }
    return ok;
}

/* Whether the tag may stand where it does; NULL: not be there. */
static bool tag_may(const struct model *model, const char *name, const char *snapshot)
{
    const struct model_tag *tag = model_tag(model, name);
    return snapshot ? tag && strcmp(tag->snapshot, snapshot) == 0 : !tag;
}

static bool check_tags(struct check *check)
{
    struct ramet_error err = {0};
    _autofree_ struct ramet_tag *tags = NULL;
    size_t count = 0;
    if (ramet_catalog_tags(check->catalog, &tags, &count, &err) < 0)
        return complain(check, "%s", err.msg);
    for (size_t i = 0; i < count; i++)
        if (!tag_may(check->before, tags[i].name, tags[i].snapshot) &&
            !tag_may(check->after, tags[i].name, tags[i].snapshot))
            return complain(check, "tag %s names %s", tags[i].name, tags[i].snapshot);
    for (size_t i = 0; i < check->before->tag_count; i++) {
        const char *name = check->before->tags[i].name;
        bool there = !model_tag(check->after, name);
        for (size_t j = 0; j < count && !there; j++)
            there = strcmp(tags[j].name, name) == 0;
        if (!there)
            return complain(check, "tag %s was acknowledged and is gone", name);
    }
    return true;
}

static bool check_branch(struct check *check, struct ramet_branch *branch)
{
    char what[96], base[RAMET_CATALOG_ID_SIZE];
    struct ramet_error err = {0};
    const struct model_branch *a = model_branch(check->before, branch->name);
    const struct model_branch *b = model_branch(check->after, branch->name);
    snprintf(what, sizeof what, "branch %s", branch->name);
    if (!a && !b)
        return complain(check, "%s should not be there", what);
    ramet_branch_bases(branch, base, NULL);
    if (!(a && strcmp(base, a->base) == 0) && !(b && strcmp(base, b->base) == 0))
        return complain(check, "%s lies over %s", what, base);
    if (branch->disk_count != 1)
        return complain(check, "%s has %zu disks", what, branch->disk_count);
    if (!a)
        a = b;
    _autofree_ uint8_t *bytes = faults_calloc(model_page_count(a->disk.size_bytes), RAMET_PAGE_SIZE);
    if (ramet_overlay_read(branch->disks[0], 0, bytes, a->disk.size_bytes, &err) < 0)
        return complain(check, "%s: %s", what, err.msg);
    return check_pages(check, what, bytes, &a->disk, b ? &b->disk : NULL);
}

/* Whether names, ids and parents of all branches are those of the model. */
static bool is_tree(const struct model *model, struct ramet_branch **branches, size_t count)
{
    bool same = count == model->branch_count;
    for (size_t i = 0; i < count && same; i++) {
        const struct model_branch *one = model_branch(model, branches[i]->name);
        char parent[RAMET_CATALOG_ID_SIZE];
        ramet_branch_parent(branches[i], parent);
        same = one && (!one->id[0] || strcmp(one->id, branches[i]->id) == 0) && strcmp(one->parent, parent) == 0;
    }
    return same;
}

static bool check_branches(struct check *check)
{
    struct ramet_branch **all = NULL, *found;
    struct ramet_error err = {0};
    size_t count = 0;
    bool ok = true;
    if (ramet_catalog_branches(check->catalog, &all, &count, &err) < 0)
        return complain(check, "%s", err.msg);
    for (size_t i = 0; i < count && ok; i++)
        ok = check_branch(check, all[i]);
    bool tree = is_tree(check->before, all, count) || is_tree(check->after, all, count);
    ramet_branches_free(all, count);
    if (ok && !tree)
        return complain(check, "the branches are neither those of before nor those of after");
    for (size_t i = 0; i < check->before->branch_count && ok; i++) {
        const char *name = check->before->branches[i].name;
        if (!model_branch(check->after, name))
            continue;
        if (ramet_catalog_branch_find(check->catalog, name, &found, &err) < 0)
            return complain(check, "branch %s was acknowledged and is gone", name);
        ramet_branch_unref(found);
    }
    return ok;
}

bool model_check(struct ramet_catalog *catalog, const struct model *before, const struct model *after, bool crashed,
                 char *problem, size_t problem_size)
{
    struct check check = {catalog, before, after, crashed, problem, problem_size};
    return check_snapshots(&check) && check_tags(&check) && check_branches(&check);
}

/* --- after a crash --- */

int model_settle(struct ramet_catalog *catalog, struct model *before, struct model *after, struct ramet_error *err)
{
    struct model found = {0}, *models[] = {before, after};
    struct ramet_snapshot **all = NULL;
    _autofree_ struct ramet_tag *tags = NULL;
    size_t count = 0, tag_count = 0;
    int r = ramet_catalog_snapshots(catalog, &all, &count, err);
    if (r == 0)
        r = ramet_catalog_tags(catalog, &tags, &tag_count, err);
    for (size_t i = 0; i < count && r == 0; i++) {
        const struct model_snapshot *model = model_snapshot(after, all[i]->id);
        found.snapshots[found.snapshot_count++] = *(model ? model : model_snapshot(before, all[i]->id));
    }
    ramet_snapshots_free(all, count);
    for (size_t i = 0; i < tag_count && r == 0; i++)
        model_set_tag(&found, tags[i].name, tags[i].snapshot);
    for (size_t i = 0; i < 2 && r == 0; i++) {
        found.branch_count = models[i]->branch_count;
        memcpy(found.branches, models[i]->branches, sizeof found.branches);
        *models[i] = found;
    }
    return r;
}
