/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small store that lives through everything a store does, beside its model. A step is
 * one function in the table of scenario.c: it changes the catalog through its public
 * API, and `next`, the model as it will be.
 */
#ifndef RAMET_TESTS_SCENARIO_H
#define RAMET_TESTS_SCENARIO_H

#include "model.h"

struct scenario {
    char dir[128];
    uint64_t random; /* state of its generator */
    unsigned names;  /* given out so far */
    struct ramet_store *store;
    struct ramet_catalog *catalog;
    struct model now, next; /* acknowledged; as the step under way will leave it */
};

enum { scenario_skip = 1 }; /* a step finds nothing to do; nothing was done */

struct scenario_step {
    const char *name;
    unsigned weight; /* how often it is drawn */
    int (*run)(struct scenario *s, struct ramet_error *err);
};
extern const struct scenario_step scenario_steps[];
extern const size_t scenario_step_count;

void scenario_init(struct scenario *s, const char *dir, uint64_t seed);
/* Frees the page lists of all models there ever were. Close first. */
void scenario_free_models(void);

int scenario_open(struct scenario *s, struct ramet_error *err);
void scenario_close(struct scenario *s); /* also after a failed opening */

/* Makes the index of a closed store anew from its packs, opens it and collects what came back. */
int scenario_rebuild(struct scenario *s, struct ramet_error *err);

/* 0: done and `now` has it; scenario_skip; negative: failed, and what is there is between `now` and `next`. */
int scenario_run(struct scenario *s, const struct scenario_step *step, struct ramet_error *err);
const struct scenario_step *scenario_find(const char *name);
const struct scenario_step *scenario_draw(struct scenario *s);

#endif
