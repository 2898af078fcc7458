/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What steps fill images with. Pages are of kinds that a store treats differently:
 * zeros, shared between images, compressible, incompressible, nearly the parent's.
 */
#include "scenario_private.h"

#include "base/file.h"
#include "faults.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

enum { page_size = RAMET_PAGE_SIZE };

/* --- page lists: immutable once in a model, kept until the end --- */

struct list {
    struct list *next;
    struct model_page pages[];
};
static struct list *lists;

struct model_page *scenario_list(uint64_t page_count, const struct model_page *from)
{
    struct list *list = faults_calloc(1, sizeof *list + page_count * sizeof(struct model_page));
    if (from)
        memcpy(list->pages, from, page_count * sizeof *from);
    list->next = lists;
    lists = list;
    return list->pages;
}

void scenario_free_models(void)
{
    while (lists) {
        struct list *list = lists;
        lists = list->next;
        free(list);
    }
}

/* --- pages --- */

static void fill_random(uint8_t *page, size_t size, uint64_t seed)
{
    for (size_t i = 0; i < size; i += 8) {
        uint64_t v = mix(seed + i);
        memcpy(page + i, &v, 8);
    }
}

static void fill_compressible(uint8_t *page, uint64_t seed)
{
    for (size_t i = 0; i < page_size; i += 64) {
        fill_random(page + i, 64, seed);
        memcpy(page + i, &i, sizeof i);
    }
}

void scenario_fill(struct scenario *s, uint8_t *page)
{
    enum { shared_pages = 90 };
    uint64_t kind = below(s, 100), seed = rng_next(&s->random), shared = below(s, shared_pages);
    memset(page, 0, page_size);
    if (kind < 15)
        return;
    if (kind < 40 && shared % 3)
        fill_compressible(page, shared);
    else if (kind < 40)
        fill_random(page, page_size, shared * page_size);
    else if (kind < 75)
        fill_compressible(page, seed);
    else if (kind < 90)
        fill_random(page, page_size, seed);
    else
        memcpy(page + seed % 500 * 8, &seed, sizeof seed);
}

void scenario_touch(struct scenario *s, uint8_t *page)
{
    for (uint64_t i = 1 + below(s, 6); i > 0; i--) {
        uint64_t v = rng_next(&s->random);
        memcpy(page + below(s, page_size / 8) * 8, &v, sizeof v);
    }
}

/* --- images --- */

/* What lies past the image's end within its last page is never stored. */
void scenario_cut(const struct model_image *model, uint64_t page, uint8_t *bytes)
{
    uint64_t left = model->size_bytes - page * page_size;
    if (left < page_size)
        memset(bytes + left, 0, page_size - left);
}

/* About one page in `sparse` of `base`, whose model is `from`, replaced; the new image's model has a list of its own.
 */
static int change_image(struct scenario *s, struct ramet_image *base, const struct model_image *from, uint64_t sparse,
                        struct ramet_image **ret, struct model_image *ret_model, struct ramet_error *err)
{
    uint64_t page_count = model_page_count(from->size_bytes);
    struct model_page *model = scenario_list(page_count, from->pages);
    uint64_t *pages = faults_calloc(page_count, sizeof *pages);
    uint8_t bytes[RAMET_PAGE_SIZE];
    size_t count = 0;
    int fd = memfd_create("layer", MFD_CLOEXEC), r = 0;
    for (uint64_t page = 0; page < page_count && r == 0; page++) {
        if (below(s, sparse))
            continue;
        memset(bytes, 0, sizeof bytes);
        uint64_t left = from->size_bytes - page * page_size;
        bool near = sparse > 1 && below(s, 2);
        if (near)
            r = ramet_image_read(base, page * page_size, bytes, left < page_size ? left : page_size, err);
        if (near)
            scenario_touch(s, bytes);
        else
            scenario_fill(s, bytes);
        scenario_cut(from, page, bytes);
        if (r == 0)
            r = ramet_file_write(fd, "layer", bytes, page_size, count * page_size, err);
        model[page].hash = model_hash(bytes);
        pages[count++] = page;
    }
    *ret_model = *from;
    ret_model->pages = model;
    if (r < 0) {
        close(fd);
        free(pages);
        return r;
    }
    struct ramet_layer *layer;
    r = ramet_layer_new_packed(fd, pages, count, &layer, err);
    return r < 0 ? r : ramet_image_new_layered(base, layer, ret, err);
}

/* An empty image and its model. */
static int zero_image(struct scenario *s, const char *name, uint64_t size_bytes, struct ramet_image **ret,
                      struct model_image *ret_model, struct ramet_error *err)
{
    static const uint8_t zeros[RAMET_PAGE_SIZE];
    uint64_t page_count = model_page_count(size_bytes), hash = model_hash(zeros);
    struct model_page *model = scenario_list(page_count, NULL);
    for (uint64_t i = 0; i < page_count; i++)
        model[i].hash = hash;
    *ret_model = (struct model_image){.size_bytes = size_bytes, .pages = model};
    snprintf(ret_model->name, sizeof ret_model->name, "%s", name);
    return ramet_image_new_stored(ramet_catalog_images(s->catalog), size_bytes, RAMET_CHUNK_ZERO, ret, err);
}

int scenario_add(struct ramet_snapshot *snapshot, struct model_snapshot *model, struct ramet_image *image,
                 const struct model_image *image_model, struct ramet_error *err)
{
    model->images[model->image_count++] = *image_model;
    return ramet_snapshot_add_image(snapshot, image_model->name, image, err);
}

int scenario_add_fresh(struct scenario *s, struct ramet_snapshot *snapshot, struct model_snapshot *model,
                       const char *name, uint64_t size_bytes, struct ramet_error *err)
{
    struct ramet_image *zero = NULL, *image = NULL;
    struct model_image from, to;
    int r = zero_image(s, name, size_bytes, &zero, &from, err);
    if (r == 0)
        r = change_image(s, zero, &from, 1, &image, &to, err);
    ramet_image_unref(zero);
    return r < 0 ? r : scenario_add(snapshot, model, image, &to, err);
}

/* An image with one page in `sparse` changed over the parent's; 0: the parent's own. */
int scenario_add_over(struct scenario *s, struct ramet_snapshot *snapshot, struct model_snapshot *model,
                      const struct ramet_snapshot *parent, const struct model_image *from, uint64_t sparse,
                      struct ramet_error *err)
{
    struct ramet_image *base = ramet_snapshot_image(parent, from->name), *image = NULL;
    struct model_image to;
    if (sparse == 0)
        return scenario_add(snapshot, model, ramet_image_ref(base), from, err);
    int r = change_image(s, base, from, sparse, &image, &to, err);
    return r < 0 ? r : scenario_add(snapshot, model, image, &to, err);
}
