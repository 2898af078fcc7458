/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "base/record.h"
#include "sample.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { step_bytes = 256 << 10 };

typedef int (*read_bytes)(void *from, uint64_t offset, void *buf, size_t size, struct ramet_error *err);

struct sample_line *sample_add(struct sample_lines *lines)
{
    if (lines->count % 64 == 0) {
        lines->lines = reallocarray(lines->lines, lines->count + 64, sizeof *lines->lines);
        if (!lines->lines)
            abort();
    }
    lines->lines[lines->count] = (struct sample_line){0};
    return &lines->lines[lines->count++];
}

/* "SIZE HASH" of all bytes. */
static void add_content(struct sample_lines *lines, const char *owner, const char *name, read_bytes read, void *from,
                        uint64_t size)
{
    struct sample_line *line = sample_add(lines);
    snprintf(line->name, sizeof line->name, "%s %s", owner, name);
    _autofree_ uint8_t *buf = malloc(step_bytes);
    if (!buf)
        abort();
    uint64_t hash = 0;
    for (uint64_t done = 0, some; done < size && line->status == 0; done += some) {
        some = size - done < step_bytes ? size - done : step_bytes;
        line->status = read(from, done, buf, (size_t)some, &line->err);
        if (line->status == 0)
            hash = ramet_checksum(&hash, sizeof hash, buf, (size_t)some);
    }
    if (line->status == 0)
        snprintf(line->value, sizeof line->value, "%" PRIu64 " %016" PRIx64, size, hash);
}

static int read_image(void *from, uint64_t offset, void *buf, size_t size, struct ramet_error *err)
{
    return ramet_image_read(from, offset, buf, size, err);
}

static int read_disk(void *from, uint64_t offset, void *buf, size_t size, struct ramet_error *err)
{
    return ramet_overlay_read(from, offset, buf, size, err);
}

static void add_snapshot(struct sample_lines *lines, const struct ramet_snapshot *s)
{
    char owner[64];
    struct sample_line *line = sample_add(lines);
    snprintf(owner, sizeof owner, "snapshot %s", s->id);
    snprintf(line->name, sizeof line->name, "%s", owner);
    snprintf(line->value, sizeof line->value,
             "serial %" PRIu64 " parent %s sandbox %s %s created %" PRId64 " memory %" PRIu64 " cpus %u cmdline '%s' "
             "captured %" PRIu64 " stored %" PRIu64 " images %zu",
             s->serial, s->parent, s->sandbox, s->sandbox_name, s->created_ms, s->memory_bytes, s->cpus,
             s->cmdline ? s->cmdline : "", s->captured_pages, s->stored_bytes, s->image_count);
    for (size_t i = 0; i < s->image_count; i++)
        add_content(lines, owner, s->images[i].name, read_image, s->images[i].image,
                    ramet_image_size(s->images[i].image));
}

static void add_branch(struct sample_lines *lines, struct ramet_branch *b)
{
    char owner[64], base[RAMET_CATALOG_ID_SIZE], last[RAMET_CATALOG_ID_SIZE];
    struct sample_line *line = sample_add(lines);
    ramet_branch_bases(b, base, last);
    snprintf(owner, sizeof owner, "branch %s", b->id);
    snprintf(line->name, sizeof line->name, "%s", owner);
    snprintf(line->value, sizeof line->value,
             "serial %" PRIu64 " name %s parent %s created %" PRId64 " memory %" PRIu64
             " cpus %u base %s last %s disks %zu",
             b->serial, b->name, b->parent, b->created_ms, b->memory_bytes, b->cpus, base, last, b->disk_count);
    for (size_t i = 0; i < b->disk_count; i++) {
        char name[RAMET_DISK_NAME_SIZE];
        ramet_disk_name(name, i);
        add_content(lines, owner, name, read_disk, b->disks[i], ramet_overlay_size(b->disks[i]));
    }
}

static void add_failure(struct sample_lines *lines, const char *name, int status, const struct ramet_error *err)
{
    struct sample_line *line = sample_add(lines);
    snprintf(line->name, sizeof line->name, "%s", name);
    line->status = status;
    line->err = *err;
}

void sample_describe(struct ramet_catalog *catalog, struct sample_lines *ret)
{
    struct ramet_error err = {0};
    struct ramet_snapshot **snapshots = NULL;
    struct ramet_branch **branches = NULL;
    _autofree_ struct ramet_tag *tags = NULL;
    size_t count = 0;
    int r;
    *ret = (struct sample_lines){0};
    if ((r = ramet_catalog_snapshots(catalog, &snapshots, &count, &err)) < 0)
        add_failure(ret, "snapshots", r, &err);
    for (size_t i = 0; i < count; i++)
        add_snapshot(ret, snapshots[i]);
    ramet_snapshots_free(snapshots, count);
    count = 0;
    if ((r = ramet_catalog_tags(catalog, &tags, &count, &err)) < 0)
        add_failure(ret, "tags", r, &err);
    for (size_t i = 0; i < count; i++) {
        struct sample_line *line = sample_add(ret);
        snprintf(line->name, sizeof line->name, "tag %s", tags[i].name);
        snprintf(line->value, sizeof line->value, "%s", tags[i].snapshot);
    }
    count = 0;
    if ((r = ramet_catalog_branches(catalog, &branches, &count, &err)) < 0)
        add_failure(ret, "branches", r, &err);
    for (size_t i = 0; i < count; i++)
        add_branch(ret, branches[i]);
    ramet_branches_free(branches, count);
}

const struct sample_line *sample_find(const struct sample_lines *lines, const char *name)
{
    for (size_t i = 0; i < lines->count; i++)
        if (strcmp(lines->lines[i].name, name) == 0)
            return &lines->lines[i];
    return NULL;
}

void sample_lines_free(struct sample_lines *lines)
{
    free(lines->lines);
    *lines = (struct sample_lines){0};
}
