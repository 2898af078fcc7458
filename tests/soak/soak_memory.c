/* SPDX-License-Identifier: Apache-2.0 */
/* Steps on branches of memory, through include/ramet_memory.h alone. */
#include "soak.h"

#include <stdlib.h>
#include <string.h>

enum { list_bytes = soak_pages * sizeof(uint32_t), run_pages = 60, sample_pages = 40, whole_one_in = 24 };

static uint32_t *list_new(struct soak *s)
{
    uint32_t *list = calloc(soak_pages, sizeof *list);
    if (!list)
        soak_fail(s->model, "no memory for the model");
    return list;
}

static uint8_t *page_at(const struct soak_branch *branch, size_t page)
{
    return (uint8_t *)ramet_memory_address(branch->memory) + page * RAMET_PAGE_SIZE;
}

static struct soak_branch *draw_branch(struct soak *s) { return &s->branches[soak_below(s, s->branch_count)]; }
static struct soak_image *draw_image(struct soak *s) { return &s->images[soak_below(s, soak_images_max)]; }

/* Every page now and then, else some. */
static void check_branch(struct soak *s, const struct soak_branch *branch)
{
    if (soak_below(s, whole_one_in) == 0)
        for (size_t page = 0; page < soak_pages; page++)
            soak_check(s, "a branch", page, branch->now[page], page_at(branch, page));
    for (size_t i = 0; i < sample_pages; i++) {
        size_t page = soak_below(s, soak_pages);
        soak_check(s, "a branch", page, branch->now[page], page_at(branch, page));
    }
}

static void write_some(struct soak *s, struct soak_branch *branch)
{
    for (uint64_t runs = 1 + soak_below(s, 3); runs > 0; runs--) {
        size_t count = 1 + soak_below(s, run_pages), first = soak_below(s, soak_pages - count);
        for (size_t page = first; page < first + count; page++) {
            branch->now[page] = soak_version(s, branch->now[page]);
            soak_page(s->model, page, branch->now[page], page_at(branch, page));
        }
        s->world->family++;
        atomic_fetch_add(&s->model->pages_written, count);
    }
}

static void set_image(struct soak_image *image, struct ramet_memory_image *memory, const uint32_t *versions,
                      uint64_t counter)
{
    ramet_memory_image_unref(image->memory);
    image->memory = memory;
    image->counter = counter;
    memcpy(image->versions, versions, list_bytes);
}

static void set_branch(struct soak_branch *branch, struct ramet_memory_branch *memory, const uint32_t *versions)
{
    ramet_memory_branch_free(branch->memory);
    branch->memory = memory;
    memmove(branch->now, versions, list_bytes);
    memmove(branch->then, versions, list_bytes);
}

static struct ramet_memory_branch *branch_of(struct soak *s, const struct soak_image *image)
{
    struct ramet_error err = {0};
    struct ramet_memory_branch *memory;
    soak_ok(s->model, ramet_memory_branch(image->memory, &memory, &err));
    return memory;
}

/* --- steps --- */

void soak_write(struct soak *s)
{
    struct soak_branch *branch = draw_branch(s);
    write_some(s, branch);
    check_branch(s, branch);
}

static void snapshot_to(struct soak *s, struct soak_branch *branch, struct soak_image *image)
{
    struct ramet_error err = {0};
    struct ramet_memory_image *memory;
    uint64_t state[700] = {++s->world->names};
    soak_ok(s->model, ramet_memory_snapshot(branch->memory, state, sizeof state, &memory, &err));
    memcpy(branch->then, branch->now, list_bytes);
    set_image(image, memory, branch->now, state[0]);
}

void soak_snapshot(struct soak *s)
{
    struct soak_branch *branch = draw_branch(s);
    snapshot_to(s, branch, draw_image(s));
    check_branch(s, branch);
}

/* One branch is dropped, and there is another in its place. */
void soak_fork(struct soak *s)
{
    struct soak_image *image = draw_image(s);
    struct soak_branch *branch = draw_branch(s);
    set_branch(branch, branch_of(s, image), image->versions);
    check_branch(s, branch);
}

void soak_roll_back(struct soak *s)
{
    struct ramet_error err = {0};
    struct soak_branch *branch = draw_branch(s);
    struct soak_image *image = draw_image(s);
    soak_ok(s->model, ramet_memory_rollback(branch->memory, image->memory, &err));
    memcpy(branch->now, image->versions, list_bytes);
    memcpy(branch->then, image->versions, list_bytes);
    check_branch(s, branch);
}

void soak_roll_back_last(struct soak *s)
{
    struct ramet_error err = {0};
    struct soak_branch *branch = draw_branch(s);
    write_some(s, branch);
    soak_ok(s->model, ramet_memory_rollback(branch->memory, NULL, &err));
    memcpy(branch->now, branch->then, list_bytes);
    check_branch(s, branch);
}

/* A child takes its parent's place: it has run a little, and the parent goes. */
void soak_promote(struct soak *s)
{
    struct soak_branch *parent = draw_branch(s);
    struct soak_image *image = draw_image(s);
    snapshot_to(s, parent, image);
    struct soak_branch child = {branch_of(s, image), list_new(s), list_new(s)};
    memcpy(child.now, image->versions, list_bytes);
    memcpy(child.then, image->versions, list_bytes);
    write_some(s, &child);
    write_some(s, parent);
    check_branch(s, parent);
    struct soak_branch old = *parent;
    *parent = child;
    ramet_memory_branch_free(old.memory);
    free(old.now);
    free(old.then);
    check_branch(s, parent);
}

/* --- the store --- */

static bool is_kept(const struct soak *s, const struct soak_image *image)
{
    for (size_t i = 0; i < soak_kept_max; i++)
        if (s->world->kept[i].stage == soak_there && strcmp(s->world->kept[i].id, ramet_memory_id(image->memory)) == 0)
            return true;
    return false;
}

/* An image becomes durable, once. */
void soak_keep(struct soak *s)
{
    struct ramet_error err = {0};
    struct soak_image *image = draw_image(s);
    struct soak_kept *kept = soak_place(s);
    if (!kept || is_kept(s, image) || image->counter == 0)
        return;
    kept->of_disk = false;
    kept->counter = image->counter;
    memcpy(kept->id, ramet_memory_id(image->memory), sizeof kept->id);
    memcpy(kept->versions, image->versions, list_bytes);
    kept->stage = soak_adding;
    soak_ok(s->model, ramet_memory_commit(image->memory, NULL, &err));
    kept->stage = soak_there;
}

static struct ramet_memory_image *load(struct soak *s, const struct soak_kept *kept)
{
    struct ramet_error err = {0};
    struct ramet_memory_image *memory;
    size_t size;
    if (soak_below(s, 2))
        soak_ok(s->model, ramet_memory_load(s->store, kept->id, &memory, &err));
    else
        soak_ok(s->model, ramet_memory_load_lazily(s->store, kept->id, &memory, &err));
    const uint64_t *state = ramet_memory_state(memory, &size);
    if (!state || state[0] != kept->counter)
        soak_fail(s->model, "snapshot %s has another's device state", kept->id);
    return memory;
}

void soak_load(struct soak *s)
{
    const struct soak_kept *kept = soak_draw_kept(s, false);
    if (kept)
        set_image(draw_image(s), load(s, kept), kept->versions, kept->counter);
}

/* An image is let go, and one of zeros is in its place. */
void soak_drop(struct soak *s)
{
    struct ramet_error err = {0};
    struct ramet_memory_image *zeros;
    uint32_t *versions = list_new(s);
    soak_ok(s->model, ramet_memory_create(s->store, soak_memory_bytes, &zeros, &err));
    set_image(draw_image(s), zeros, versions, 0);
    free(versions);
}

/* An image of it stays whole while it is in use, and may be committed again. */
void soak_remove_memory(struct soak *s)
{
    struct soak_kept *kept = soak_draw_kept(s, false);
    if (kept)
        soak_remove(s, kept);
}

void soak_memory_check_kept(struct soak *s, const struct soak_kept *kept)
{
    uint32_t none[1];
    struct soak_image image = {.memory = load(s, kept), .versions = none};
    struct soak_branch branch = {.memory = branch_of(s, &image)};
    for (size_t page = 0; page < soak_pages; page++)
        soak_check(s, "a stored snapshot", page, kept->versions[page], page_at(&branch, page));
    ramet_memory_branch_free(branch.memory);
    ramet_memory_image_unref(image.memory);
}

/* --- a session --- */

void soak_memory_begin(struct soak *s)
{
    for (size_t i = 0; i < soak_images_max; i++)
        s->images[i].versions = list_new(s);
    s->branches = calloc(s->branch_count, sizeof *s->branches);
    if (!s->branches)
        soak_fail(s->model, "no memory for the branches");
    for (size_t i = 0; i < soak_images_max; i++) {
        struct soak_image *image = &s->images[i];
        const struct soak_kept *kept = soak_draw_kept(s, false);
        struct ramet_error err = {0};
        if (kept && i > 0)
            set_image(image, load(s, kept), kept->versions, kept->counter);
        else
            soak_ok(s->model, ramet_memory_create(s->store, soak_memory_bytes, &image->memory, &err));
    }
    for (size_t i = 0; i < s->branch_count; i++) {
        const struct soak_image *image = draw_image(s);
        s->branches[i] = (struct soak_branch){NULL, list_new(s), list_new(s)};
        set_branch(&s->branches[i], branch_of(s, image), image->versions);
    }
}

void soak_memory_check(struct soak *s)
{
    for (size_t i = 0; i < s->branch_count; i++)
        for (size_t page = 0; page < soak_pages; page++)
            soak_check(s, "a branch", page, s->branches[i].now[page], page_at(&s->branches[i], page));
}

void soak_memory_end(struct soak *s)
{
    for (size_t i = 0; i < s->branch_count; i++) {
        ramet_memory_branch_free(s->branches[i].memory);
        free(s->branches[i].now);
        free(s->branches[i].then);
    }
    free(s->branches);
    for (size_t i = 0; i < soak_images_max; i++) {
        ramet_memory_image_unref(s->images[i].memory);
        free(s->images[i].versions);
    }
}
