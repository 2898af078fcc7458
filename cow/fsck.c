/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fsck: every frame is read back, then every durable snapshot is walked; a damaged or
 * missing frame is reported together with the snapshots and images that need it.
 */
#include "base/cleanup.h"
#include "base/codec.h"
#include "base/u64map.h"
#include "catalog_private.h"

#include <stdio.h>
#include <string.h>

struct fsck {
    struct ramet_catalog *catalog;
    struct ramet_u64map known; /* frame -> 1 fine, 2 damaged */
    struct ramet_buf report;
    uint64_t problems;
    bool hit; /* the image being walked needs a damaged frame */
};

static void add_line(struct fsck *fsck, const char *line)
{
    fsck->problems++;
    ramet_buf_put(&fsck->report, line, strlen(line));
    ramet_buf_put(&fsck->report, "\n", 1);
}

static void damaged_frame(void *ctx, uint64_t frame, const char *line)
{
    struct fsck *fsck = ctx;
    ramet_u64map_put(&fsck->known, frame, 2);
    add_line(fsck, line);
}

/* Whether the frame is known as damaged or cannot be read. */
static bool is_damaged(struct fsck *fsck, ramet_chunk chunk)
{
    uint64_t frame = ramet_chunk_frame(chunk), state;
    if (ramet_u64map_get(&fsck->known, frame, &state))
        return state == 2;
    uint8_t byte;
    struct ramet_error err = {0};
    bool damaged = ramet_store_read_part(fsck->catalog->store, chunk, 0, &byte, 1, &err) < 0;
    ramet_u64map_put(&fsck->known, frame, damaged ? 2 : 1);
    if (damaged)
        add_line(fsck, err.msg);
    return damaged;
}

static bool visit(void *ctx, ramet_chunk chunk, bool is_node)
{
    struct fsck *fsck = ctx;
    bool damaged = is_damaged(fsck, chunk);
    fsck->hit |= damaged;
    return is_node && !damaged;
}

static void check_snapshot(struct fsck *fsck, const struct ramet_snapshot *snapshot)
{
    for (size_t i = 0; i < snapshot->image_count; i++) {
        struct ramet_page_map map;
        struct ramet_error err = {0};
        if (ramet_image_map(snapshot->images[i].image, &map, NULL) < 0)
            continue; /* not durable yet */
        fsck->hit = false;
        int r = ramet_page_map_walk(fsck->catalog->store, &map, visit, fsck, &err);
        if (r < 0 || fsck->hit) {
            char line[256];
            snprintf(line, sizeof line, "snapshot %s: image %s is damaged", snapshot->id, snapshot->images[i].name);
            add_line(fsck, line);
        }
    }
}

int ramet_catalog_fsck(struct ramet_catalog *catalog, struct ramet_fsck_result *ret, struct ramet_error *err)
{
    struct fsck fsck = {.catalog = catalog};
    const struct ramet_scrub_options options = {.problem = damaged_frame, .ctx = &fsck};
    struct ramet_scrub_state verified;
    struct ramet_snapshot **snapshots = NULL;
    size_t count = 0;
    int r = ramet_store_scrub(catalog->store, &options, &verified, err);
    if (r == 0)
        r = ramet_catalog_snapshots(catalog, &snapshots, &count, err);
    for (size_t i = 0; i < count && r == 0; i++)
        check_snapshot(&fsck, snapshots[i]);
    ramet_snapshots_free(snapshots, count);
    ramet_u64map_free(&fsck.known);
    ramet_buf_put_u8(&fsck.report, 0);
    if (r == 0 && fsck.report.failed)
        r = ramet_error_set(err, RAMET_NO_MEMORY, "no memory for the report");
    if (r < 0) {
        ramet_buf_free(&fsck.report);
        return r;
    }
    *ret = (struct ramet_fsck_result){.snapshots = count,
                                      .frames = verified.frames,
                                      .chunks = verified.chunks,
                                      .problems = fsck.problems,
                                      .report = (char *)fsck.report.data};
    return 0;
}
