/* SPDX-License-Identifier: Apache-2.0 */
#include "scenario_private.h"

#include <stdio.h>
#include <string.h>

const struct scenario_step scenario_steps[] = {
    {"import layers", 8, step_import_layers},
    {"import files", 6, step_import_files},
    {"import later", 4, step_import_later},
    {"fork snapshot", 14, step_fork_snapshot},
    {"fork twice", 6, step_fork_twice},
    {"remove snapshot", 20, step_remove_snapshot},
    {"tag", 4, step_tag},
    {"untag", 2, step_untag},
    {"branch new", 2, step_branch_new},
    {"branch child", 3, step_branch_child},
    {"branch write", 14, step_branch_write},
    {"branch flush", 10, step_branch_flush},
    {"branch snapshot", 8, step_branch_snapshot},
    {"branch rollback", 4, step_branch_rollback},
    {"branch promote", 4, step_branch_promote},
    {"branch remove", 2, step_branch_remove},
    {"collect", 12, step_collect},
    {"recompress", 6, step_recompress},
    {"scrub", 3, step_scrub},
    {"repair", 2, step_repair},
    {"rebuild", 1, step_rebuild},
    {"reopen", 5, step_reopen},
};
const size_t scenario_step_count = sizeof scenario_steps / sizeof *scenario_steps;

void scenario_init(struct scenario *s, const char *dir, uint64_t seed)
{
    memset(s, 0, sizeof *s);
    snprintf(s->dir, sizeof s->dir, "%s", dir);
    s->random = seed;
}

/* Packs are small, so that they roll over, and frames so many, now and then, that one commit fills several packs. */
int scenario_open_store(struct scenario *s, struct ramet_error *err)
{
    static const unsigned frame_slots[] = {0, 3, 16};
    const struct ramet_store_options options = {.cache_bytes = 4 << 20,
                                                .frame_slots = frame_slots[below(s, 3)],
                                                .locality_percent = below(s, 2) ? 0 : 20,
                                                .level = below(s, 2) ? 0 : 3,
                                                .pack_bytes = 256 << 10,
                                                .threads = 2};
    return ramet_store_open(s->dir, &options, &s->store, err);
}

int scenario_open(struct scenario *s, struct ramet_error *err)
{
    int r = scenario_open_store(s, err);
    if (r < 0)
        return r;
    r = ramet_catalog_open(s->store, &s->catalog, err);
    if (r < 0)
        scenario_close(s);
    return r;
}

void scenario_close(struct scenario *s)
{
    ramet_catalog_close(s->catalog);
    ramet_store_close(s->store);
    s->catalog = NULL;
    s->store = NULL;
}

int scenario_run(struct scenario *s, const struct scenario_step *step, struct ramet_error *err)
{
    s->next = s->now;
    int r = step->run(s, err);
    if (r == 0)
        s->now = s->next;
    return r;
}

const struct scenario_step *scenario_find(const char *name)
{
    for (size_t i = 0; i < scenario_step_count; i++)
        if (strcmp(scenario_steps[i].name, name) == 0)
            return &scenario_steps[i];
    return NULL;
}

const struct scenario_step *scenario_draw(struct scenario *s)
{
    unsigned total = 0;
    for (size_t i = 0; i < scenario_step_count; i++)
        total += scenario_steps[i].weight;
    uint64_t drawn = below(s, total);
    const struct scenario_step *step = scenario_steps;
    while (drawn >= step->weight)
        drawn -= step++->weight;
    return step;
}
