/* SPDX-License-Identifier: Apache-2.0 */
/* What the scenario's sources share. Numbers are drawn from the scenario's own generator only. */
#ifndef RAMET_TESTS_SCENARIO_PRIVATE_H
#define RAMET_TESTS_SCENARIO_PRIVATE_H

#include "base/cleanup.h"
#include "random.h"
#include "scenario.h"

enum { snapshots_many = 9 }; /* steps that begin with as many make no more */

static inline uint64_t below(struct scenario *s, uint64_t limit) { return rng_below(&s->random, limit); }

/* --- scenario.c --- */

/* Opens the store alone, with options drawn for it. */
int scenario_open_store(struct scenario *s, struct ramet_error *err);

/* --- scenario_pages.c --- */

/* A list of page hashes that lives until scenario_free_models; a copy of `from` if that is not NULL. */
struct model_page *scenario_list(uint64_t page_count, const struct model_page *from);
void scenario_fill(struct scenario *s, uint8_t *page);
void scenario_touch(struct scenario *s, uint8_t *page); /* a few words become others */
/* Zeros what lies past the image's end, which is never stored. */
void scenario_cut(const struct model_image *model, uint64_t page, uint8_t *bytes);
/* Adds an image, taking it over, and its model. */
int scenario_add(struct ramet_snapshot *snapshot, struct model_snapshot *model, struct ramet_image *image,
                 const struct model_image *image_model, struct ramet_error *err);
/* Adds an image held by a layer over nothing. */
int scenario_add_fresh(struct scenario *s, struct ramet_snapshot *snapshot, struct model_snapshot *model,
                       const char *name, uint64_t size_bytes, struct ramet_error *err);
/* Adds an image with about one page in `sparse` changed by a layer over the parent's; 0: the parent's own. */
int scenario_add_over(struct scenario *s, struct ramet_snapshot *snapshot, struct model_snapshot *model,
                      const struct ramet_snapshot *parent, const struct model_image *from, uint64_t sparse,
                      struct ramet_error *err);

/* --- scenario_snapshots.c --- */

int scenario_new(struct scenario *s, struct ramet_snapshot **ret, struct model_snapshot *model,
                 struct ramet_error *err);
/* Makes it visible, with a tag now and then, and puts it into the model. */
int scenario_publish(struct scenario *s, struct ramet_snapshot *snapshot, const struct model_snapshot *model,
                     struct ramet_error *err);
/* One of those acknowledged; scenario_skip when there is none. */
int scenario_pick(struct scenario *s, struct ramet_snapshot **ret, const struct model_snapshot **ret_model,
                  struct ramet_error *err);

int step_import_layers(struct scenario *s, struct ramet_error *err);
int step_import_files(struct scenario *s, struct ramet_error *err);
int step_import_later(struct scenario *s, struct ramet_error *err);
int step_fork_snapshot(struct scenario *s, struct ramet_error *err);
int step_fork_twice(struct scenario *s, struct ramet_error *err);
int step_remove_snapshot(struct scenario *s, struct ramet_error *err);
int step_tag(struct scenario *s, struct ramet_error *err);
int step_untag(struct scenario *s, struct ramet_error *err);

/* --- scenario_branches.c --- */

/* After reopening: what was written and not flushed may be lost; takes those pages into the model as they are now. */
int scenario_look(struct scenario *s, struct ramet_error *err);
int step_branch_new(struct scenario *s, struct ramet_error *err);
int step_branch_child(struct scenario *s, struct ramet_error *err);
int step_branch_write(struct scenario *s, struct ramet_error *err);
int step_branch_flush(struct scenario *s, struct ramet_error *err);
int step_branch_snapshot(struct scenario *s, struct ramet_error *err);
int step_branch_rollback(struct scenario *s, struct ramet_error *err);
int step_branch_promote(struct scenario *s, struct ramet_error *err);
int step_branch_remove(struct scenario *s, struct ramet_error *err);

/* --- scenario_upkeep.c --- */

int step_collect(struct scenario *s, struct ramet_error *err);
int step_recompress(struct scenario *s, struct ramet_error *err);
int step_scrub(struct scenario *s, struct ramet_error *err);
int step_repair(struct scenario *s, struct ramet_error *err);
int step_rebuild(struct scenario *s, struct ramet_error *err);
int step_reopen(struct scenario *s, struct ramet_error *err);

#endif
