/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a store should hold, as hashes of pages: a plain value that is copied at each
 * step. Comparing a catalog with two of them, before and after a step, is how a crash
 * in the step's middle is judged: each object is as in one or as in the other.
 */
#ifndef RAMET_TESTS_MODEL_H
#define RAMET_TESTS_MODEL_H

#include "catalog.h"

enum { model_images_max = 3, model_snapshots_max = 16, model_tags_max = 24, model_branches_max = 3 };
enum { model_name_size = 32 };

struct model_page {
    uint64_t hash;
    bool loose; /* written to a branch and not flushed: a crash may leave anything there */
};

struct model_image {
    char name[16];
    uint64_t size_bytes;
    const struct model_page *pages; /* never changed; owned by whoever made the model */
};

struct model_snapshot {
    char id[RAMET_CATALOG_ID_SIZE];
    uint64_t memory_bytes;
    size_t image_count;
    struct model_image images[model_images_max];
};

struct model_tag {
    char name[model_name_size];
    char snapshot[RAMET_CATALOG_ID_SIZE];
};

struct model_branch {
    char name[model_name_size];
    char id[RAMET_CATALOG_ID_SIZE]; /* "" while it is being made */
    char parent[RAMET_CATALOG_ID_SIZE];
    char base[RAMET_CATALOG_ID_SIZE];
    struct model_image disk;
};

struct model {
    size_t snapshot_count, tag_count, branch_count;
    struct model_snapshot snapshots[model_snapshots_max];
    struct model_tag tags[model_tags_max + 4]; /* steps stop at the limit, a test may add to it */
    struct model_branch branches[model_branches_max];
};

static inline uint64_t model_page_count(uint64_t size_bytes)
{
    return (size_bytes + RAMET_PAGE_SIZE - 1) / RAMET_PAGE_SIZE;
}

uint64_t model_hash(const void *page);

/* These return NULL when there is none. */
struct model_snapshot *model_snapshot(const struct model *model, const char *id);
struct model_tag *model_tag(const struct model *model, const char *name);
struct model_branch *model_branch(const struct model *model, const char *name);
const struct model_image *model_image(const struct model_snapshot *snapshot, const char *name);

void model_remove_snapshot(struct model *model, const char *id); /* and its tags */
void model_remove_tag(struct model *model, const char *name);
void model_remove_branch(struct model *model, const char *name);
/* Adds the snapshots and tags of `more`. */
void model_merge(struct model *model, const struct model *more);
void model_set_tag(struct model *model, const char *name, const char *snapshot_id);

/*
 * True when the catalog holds what both models hold, nothing that neither does, and of the rest whole objects only.
 * `crashed`: pages written to branches and not flushed may be anything. Else `problem` says what is wrong.
 */
bool model_check(struct ramet_catalog *catalog, const struct model *before, const struct model *after, bool crashed,
                 char *problem, size_t problem_size);

/*
 * After a crash and a model_check that held: takes into both models which of their snapshots are there and what the
 * tags name, all of which opening has decided for good. Branches, whose pages may still be either, stay as they are.
 */
int model_settle(struct ramet_catalog *catalog, struct model *before, struct model *after, struct ramet_error *err);

#endif
