/* SPDX-License-Identifier: Apache-2.0 */
/* Steps that change how things are kept and nothing of what is kept. */
#include "scenario_private.h"

#include "base/file.h"

#include <stdio.h>
#include <string.h>

int step_collect(struct scenario *s, struct ramet_error *err)
{
    struct ramet_gc_result result;
    return ramet_catalog_gc(s->catalog, &result, err);
}

/* True after a few batches or frames. */
static bool enough(void *ctx)
{
    uint64_t *left = ctx;
    return (*left)-- == 0;
}

int step_recompress(struct scenario *s, struct ramet_error *err)
{
    uint64_t left = below(s, 6);
    const struct ramet_recompress_options options = {.level = 3, .threads = 2, .stop = enough, .ctx = &left};
    struct ramet_recompress_result result;
    return ramet_store_recompress(s->store, &options, &result, err);
}

static bool enough_scrubbed(void *ctx, const struct ramet_scrub_state *state)
{
    (void)state;
    return enough(ctx);
}

/* A part of all there is, remembered for the next time. */
int step_scrub(struct scenario *s, struct ramet_error *err)
{
    uint64_t left = below(s, 300);
    const struct ramet_scrub_options options = {.resume = true, .progress = enough_scrubbed, .ctx = &left};
    struct ramet_scrub_state state;
    _autofree_ char *report = NULL;
    int r = ramet_catalog_scrub(s->catalog, &options, &state, &report, err);
    if (r == 0 && state.problems)
        return ramet_error_set(err, RAMET_CORRUPT, "scrub: %.*s", report ? (int)strcspn(report, "\n") : 0,
                               report ? report : "");
    return r;
}

int step_repair(struct scenario *s, struct ramet_error *err)
{
    uint64_t headers;
    return ramet_store_repair(s->store, &headers, err);
}

int scenario_rebuild(struct scenario *s, struct ramet_error *err)
{
    struct ramet_rebuild_result result;
    uint64_t set_aside;
    char old[sizeof s->dir + 16];
    int r = ramet_store_rebuild(s->dir, &result, err);
    if (r == 0 && result.damaged_bytes)
        r = ramet_error_set(err, RAMET_CORRUPT, "rebuild: %llu damaged bytes",
                            (unsigned long long)result.damaged_bytes);
    snprintf(old, sizeof old, "%s/index.old.0", s->dir); /* they would pile up */
    if (r == 0)
        r = ramet_dir_remove(old, err);
    if (r == 0)
        r = scenario_open_store(s, err);
    if (r == 0)
        r = ramet_branches_set_aside(s->store, &set_aside, err);
    if (r == 0)
        r = ramet_catalog_open(s->store, &s->catalog, err);
    if (r == 0)
        r = step_collect(s, err);
    if (r < 0)
        scenario_close(s);
    return r;
}

int step_rebuild(struct scenario *s, struct ramet_error *err)
{
    scenario_close(s);
    int r = scenario_rebuild(s, err);
    return r < 0 ? r : scenario_look(s, err);
}

int step_reopen(struct scenario *s, struct ramet_error *err)
{
    scenario_close(s);
    int r = scenario_open(s, err);
    return r < 0 ? r : scenario_look(s, err);
}
