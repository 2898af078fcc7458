/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fsck and scrub: every frame is read back, then durable snapshots and what is stored of
 * workspaces are walked, to name those that need what is damaged or missing and to say what can be done. A page whose
 * frame is fine is damaged still when its base is, so each page is looked at by itself.
 */
#include "base/cleanup.h"
#include "base/codec.h"
#include "base/u64map.h"
#include "catalog_private.h"
#include "working_set.h"
#include "workspace/stored.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { lines_max = 1000, line_size = 1200 };
/* What is known of a frame: a bit each for slots that are fine and for slots that are damaged. */
#define DAMAGED_SHIFT 16
#define ALL_DAMAGED (UINT64_C(0xffff) << DAMAGED_SHIFT)

struct damage {
    uint64_t frame; /* 0: a pack's header */
    char *line;     /* owned */
};

struct fsck {
    struct ramet_catalog *catalog;
    const struct ramet_scrub_options *options; /* the caller's; NULL for fsck */
    struct ramet_u64map known;
    struct damage found[lines_max];
    uint64_t count;          /* found, kept or not */
    struct ramet_buf images; /* a line for each damaged image */
    uint64_t image_count;
    uint64_t hint_count; /* damaged working sets, also a line each */
    struct ramet_snapshot **snapshots;
    size_t snapshot_count;
    bool *damaged; /* owned; by snapshot */
    bool hit;      /* the image being walked needs a damaged page */
    bool stopped, no_memory;
};

/* --- what is damaged --- */

static void note(struct fsck *fsck, uint64_t frame, const char *line)
{
    if (fsck->count < lines_max) {
        fsck->found[fsck->count] = (struct damage){frame, strdup(line)};
        fsck->no_memory |= !fsck->found[fsck->count].line;
    }
    fsck->count++;
}

static void damaged_record(void *ctx, uint64_t frame, const char *line)
{
    struct fsck *fsck = ctx;
    if (frame)
        ramet_u64map_put(&fsck->known, frame, ALL_DAMAGED);
    note(fsck, frame, line);
    if (fsck->options && fsck->options->problem)
        fsck->options->problem(fsck->options->ctx, frame, line);
}

static bool progress(void *ctx, const struct ramet_scrub_state *state)
{
    struct fsck *fsck = ctx;
    fsck->stopped |= fsck->options && fsck->options->progress && fsck->options->progress(fsck->options->ctx, state);
    return fsck->stopped;
}

/* Whether the page cannot be read. */
static bool is_damaged(struct fsck *fsck, ramet_chunk chunk)
{
    uint64_t frame = ramet_chunk_frame(chunk), fine = UINT64_C(1) << ramet_chunk_slot(chunk);
    uint64_t damaged = fine << DAMAGED_SHIFT, state = 0;
    ramet_u64map_get(&fsck->known, frame, &state);
    if (!(state & (fine | damaged))) {
        uint8_t byte;
        struct ramet_error err = {0};
        bool readable = ramet_store_read_part(fsck->catalog->store, chunk, 0, &byte, 1, &err) == 0;
        if (!readable && !(state & ALL_DAMAGED))
            note(fsck, frame, err.msg);
        state |= readable ? fine : damaged;
        ramet_u64map_put(&fsck->known, frame, state);
    }
    return state & damaged;
}

/* --- who needs it --- */

static bool visit(void *ctx, ramet_chunk chunk, bool is_node)
{
    struct fsck *fsck = ctx;
    if (is_node && progress(fsck, NULL))
        return false;
    bool damaged = is_damaged(fsck, chunk);
    fsck->hit |= damaged;
    return is_node && !damaged;
}

/* How people call it: by its first tag, else its id. */
static void name_of(struct fsck *fsck, const struct ramet_snapshot *snapshot, char name[RAMET_CATALOG_NAME_SIZE])
{
    _autofree_ struct ramet_tag *tags = NULL;
    size_t count = 0;
    snprintf(name, RAMET_CATALOG_NAME_SIZE, "%s", snapshot->id);
    if (ramet_catalog_tags(fsck->catalog, &tags, &count, NULL) < 0)
        return;
    for (size_t i = count; i-- > 0;)
        if (strcmp(tags[i].snapshot, snapshot->id) == 0)
            memcpy(name, tags[i].name, sizeof tags[i].name);
}

/* The nearest snapshot it grew from that is intact, or NULL. Parents come before their children. */
static const struct ramet_snapshot *intact_ancestor(const struct fsck *fsck, size_t index)
{
    const char *parent = fsck->snapshots[index]->parent;
    for (size_t i = index; i-- > 0;) {
        if (strcmp(fsck->snapshots[i]->id, parent) != 0)
            continue;
        if (!fsck->damaged[i])
            return fsck->snapshots[i];
        parent = fsck->snapshots[i]->parent;
    }
    return NULL;
}

static void report_image(struct fsck *fsck, size_t index, const char *image)
{
    char line[line_size], name[RAMET_CATALOG_NAME_SIZE], older[RAMET_CATALOG_NAME_SIZE] = "";
    const struct ramet_snapshot *snapshot = fsck->snapshots[index], *intact = intact_ancestor(fsck, index);
    name_of(fsck, snapshot, name);
    if (intact)
        name_of(fsck, intact, older);
    int size = snprintf(line, sizeof line, "snapshot %s (%s): image %s is damaged; 'ramet rm --snapshot %s' removes it",
                        snapshot->id, name, image, name);
    if (intact)
        size += snprintf(line + size, sizeof line - (size_t)size, "; %s, which it grew from, is intact", older);
    line[size] = '\n';
    ramet_buf_put(&fsck->images, line, (size_t)size + 1);
    fsck->image_count++;
}

static void check_snapshot(struct fsck *fsck, size_t index)
{
    const struct ramet_snapshot *snapshot = fsck->snapshots[index];
    bool hit[RAMET_SNAPSHOT_IMAGES_MAX] = {0};
    for (size_t i = 0; i < snapshot->image_count && !fsck->stopped; i++) {
        struct ramet_page_map map;
        if (ramet_image_map(snapshot->images[i].image, &map, NULL) < 0)
            continue; /* not durable yet */
        fsck->hit = false;
        int r = ramet_page_map_walk(fsck->catalog->store, &map, visit, fsck, NULL);
        hit[i] = r < 0 || fsck->hit;
        fsck->damaged[index] |= hit[i];
    }
    for (size_t i = 0; i < snapshot->image_count; i++)
        if (hit[i])
            report_image(fsck, index, snapshot->images[i].name);
}

/* A hint that is damaged is not used and harms nothing, but the disk has lost something. */
static void check_working_set(struct fsck *fsck, const struct ramet_snapshot *snapshot)
{
    struct ramet_working_set set;
    struct ramet_error err = {0};
    char line[line_size];
    int r = ramet_catalog_working_set_get(fsck->catalog, snapshot, &set, &err);
    if (r == 0)
        ramet_working_set_free(&set);
    if (r != -RAMET_CORRUPT)
        return;
    int size = snprintf(line, sizeof line, "%.600s; the next restore records it anew\n", err.msg);
    ramet_buf_put(&fsck->images, line, (size_t)size);
    fsck->hint_count++;
}

static int check_snapshots(struct fsck *fsck, struct ramet_error *err)
{
    int r = ramet_catalog_snapshots(fsck->catalog, &fsck->snapshots, &fsck->snapshot_count, err);
    if (r < 0)
        return r;
    fsck->damaged = calloc(fsck->snapshot_count + 1, sizeof *fsck->damaged);
    if (!fsck->damaged)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to check snapshots");
    for (size_t i = 0; i < fsck->snapshot_count && !fsck->stopped; i++) {
        check_snapshot(fsck, i);
        check_working_set(fsck, fsck->snapshots[i]);
    }
    return 0;
}

/* --- workspaces --- */

enum { lost_files_max = 20 };

/* One workspace or state being walked. */
struct lost {
    struct fsck *fsck;
    const struct ramet_wstored *stored;
    uint64_t inodes[lost_files_max], inode_count; /* files with damaged pages; beyond the first ones only counted */
    uint64_t last;                                /* the file of the last page */
    bool last_counted, nodes;
};

static bool visit_node(void *ctx, ramet_chunk chunk)
{
    struct lost *lost = ctx;
    if (progress(lost->fsck, NULL))
        return false;
    bool damaged = is_damaged(lost->fsck, chunk);
    lost->nodes |= damaged;
    return !damaged;
}

static void visit_page(void *ctx, uint64_t ino, uint64_t page, ramet_chunk chunk)
{
    (void)page;
    struct lost *lost = ctx;
    if (ino != lost->last)
        lost->last_counted = false;
    lost->last = ino;
    if (lost->last_counted || lost->fsck->stopped || !is_damaged(lost->fsck, chunk))
        return;
    lost->last_counted = true;
    if (lost->inode_count < lost_files_max)
        lost->inodes[lost->inode_count] = ino;
    lost->inode_count++;
}

static void report_lost(struct lost *lost, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void report_lost(struct lost *lost, const char *fmt, ...)
{
    char line[line_size];
    const struct ramet_wstored *stored = lost->stored;
    int size = snprintf(line, sizeof line, "%s %s%s%s: ", stored->is_state ? "state" : "workspace", stored->name,
                        stored->is_state ? " of workspace " : "", stored->is_state ? stored->id : "");
    va_list args;
    va_start(args, fmt);
    int more = vsnprintf(line + size, sizeof line - (size_t)size - 1, fmt, args);
    va_end(args);
    size += more < (int)sizeof line - size - 1 ? more : (int)sizeof line - size - 2;
    line[size++] = '\n';
    ramet_buf_put(&lost->fsck->images, line, (size_t)size);
    lost->fsck->image_count++;
}

static int check_workspace(void *ctx, const struct ramet_wstored *stored, struct ramet_error *err)
{
    (void)err;
    struct fsck *fsck = ctx;
    struct lost lost = {.fsck = fsck, .stored = stored};
    const struct ramet_wvisitor visitor = {.node = visit_node, .page = visit_page, .ctx = &lost};
    struct ramet_error own = {0};
    if (fsck->stopped)
        return 0;
    int r = ramet_wstored_walk(fsck->catalog->store, stored->root, &visitor, &own);
    if (r < 0 || lost.nodes)
        report_lost(&lost, "a part of its tree is damaged, the files there cannot be reached%s%.300s",
                    r < 0 ? ": " : "", own.msg);
    for (uint64_t i = 0; i < lost.inode_count && i < lost_files_max; i++) {
        char path[512];
        bool named = ramet_wstored_path(fsck->catalog->store, stored->root, lost.inodes[i], path, sizeof path);
        report_lost(&lost, "%s (inode %" PRIu64 ") is damaged; write it anew or take it from a state or fork",
                    named ? path : "a file", lost.inodes[i]);
    }
    if (lost.inode_count > lost_files_max)
        report_lost(&lost, "%" PRIu64 " more files are damaged", lost.inode_count - lost_files_max);
    return 0;
}

/* --- the report --- */

static const char *remedy(const struct fsck *fsck, uint64_t frame)
{
    if (frame == 0)
        return "; 'ramet store fsck --repair' writes it anew";
    if (!fsck->damaged || fsck->stopped)
        return ""; /* who needs it is not known */
    return fsck->image_count ? "; remove what is named below and needs it, then 'ramet store gc' frees it"
                             : "; nothing needs it: 'ramet store gc' frees it";
}

static int make_report(struct fsck *fsck, char **ret, struct ramet_error *err)
{
    _cleanup_(ramet_buf_free) struct ramet_buf report = {0};
    char line[line_size];
    for (uint64_t i = 0; i < fsck->count && i < lines_max && !fsck->no_memory; i++) {
        const struct damage *damage = &fsck->found[i];
        int size = snprintf(line, sizeof line, "%.1000s%s\n", damage->line, remedy(fsck, damage->frame));
        ramet_buf_put(&report, line, (size_t)size);
    }
    if (fsck->count > lines_max) {
        int size = snprintf(line, sizeof line, "%" PRIu64 " more are damaged\n", fsck->count - lines_max);
        ramet_buf_put(&report, line, (size_t)size);
    }
    ramet_buf_put(&report, fsck->images.data, fsck->images.size);
    ramet_buf_put_u8(&report, 0);
    if (report.failed || fsck->images.failed || fsck->no_memory)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for the report");
    *ret = (char *)STEAL(report.data);
    return 0;
}

static void fsck_free(struct fsck *fsck)
{
    for (uint64_t i = 0; i < fsck->count && i < lines_max; i++)
        free(fsck->found[i].line);
    ramet_snapshots_free(fsck->snapshots, fsck->snapshot_count);
    ramet_u64map_free(&fsck->known);
    ramet_buf_free(&fsck->images);
    free(fsck->damaged);
    free(fsck);
}

static struct fsck *fsck_new(struct ramet_catalog *catalog, const struct ramet_scrub_options *options)
{
    struct fsck *fsck = calloc(1, sizeof *fsck);
    if (fsck) {
        fsck->catalog = catalog;
        fsck->options = options;
    }
    return fsck;
}

/* --- the whole --- */

int ramet_catalog_scrub(struct ramet_catalog *catalog, const struct ramet_scrub_options *options,
                        struct ramet_scrub_state *ret, char **ret_report, struct ramet_error *err)
{
    struct fsck *fsck = fsck_new(catalog, options);
    struct ramet_scrub_state state;
    if (!fsck)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to scrub");
    struct ramet_scrub_options own = *options;
    own.problem = damaged_record;
    own.progress = progress;
    own.ctx = fsck;
    int r = ramet_store_scrub(catalog->store, &own, &state, err);
    if (r == 0 && state.finished && state.problems)
        r = check_snapshots(fsck, err);
    if (r == 0 && state.finished && state.problems)
        r = ramet_wstored_each(catalog->store, check_workspace, fsck, err);
    if (r == 0)
        r = make_report(fsck, ret_report, err);
    fsck_free(fsck);
    if (r == 0)
        *ret = state;
    return r;
}

int ramet_catalog_fsck(struct ramet_catalog *catalog, struct ramet_fsck_result *ret, struct ramet_error *err)
{
    struct fsck *fsck = fsck_new(catalog, NULL);
    struct ramet_scrub_state state;
    char *report;
    if (!fsck)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to check the store");
    const struct ramet_scrub_options options = {.problem = damaged_record, .ctx = fsck};
    int r = ramet_store_scrub(catalog->store, &options, &state, err);
    if (r == 0)
        r = check_snapshots(fsck, err);
    if (r == 0)
        r = ramet_wstored_each(catalog->store, check_workspace, fsck, err);
    if (r == 0)
        r = make_report(fsck, &report, err);
    if (r == 0)
        *ret = (struct ramet_fsck_result){.snapshots = fsck->snapshot_count,
                                          .frames = state.frames,
                                          .chunks = state.chunks,
                                          .problems = fsck->count + fsck->image_count + fsck->hint_count,
                                          .report = report};
    fsck_free(fsck);
    return r;
}
