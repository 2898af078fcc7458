/* SPDX-License-Identifier: Apache-2.0 */
#include "layer.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "chunk.h"

#include <stdatomic.h>

struct ramet_layer {
    _Atomic unsigned refs;
    int fd;
    uint64_t *pages;  /* packed: ascending page numbers, `count` of them */
    uint64_t *bitmap; /* spread: a bit a page */
    uint64_t count;
    uint64_t page_count; /* spread: bits in the bitmap */
};

static int make(int fd, uint64_t *owned, struct ramet_layer form, struct ramet_layer **ret, struct ramet_error *err)
{
    struct ramet_layer *layer = malloc(sizeof *layer);
    if (!layer) {
        close(fd);
        free(owned);
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a layer");
    }
    *layer = form;
    atomic_init(&layer->refs, 1);
    *ret = layer;
    return 0;
}

int ramet_layer_new_packed(int fd, uint64_t *pages, size_t count, struct ramet_layer **ret, struct ramet_error *err)
{
    return make(fd, pages, (struct ramet_layer){.fd = fd, .pages = pages, .count = count}, ret, err);
}

int ramet_layer_new_spread(int fd, uint64_t *bitmap, uint64_t page_count, struct ramet_layer **ret,
                           struct ramet_error *err)
{
    struct ramet_layer form = {.fd = fd, .bitmap = bitmap, .page_count = page_count};
    for (uint64_t i = 0; i < (page_count + 63) / 64; i++)
        form.count += (uint64_t)__builtin_popcountll(bitmap[i]);
    return make(fd, bitmap, form, ret, err);
}

struct ramet_layer *ramet_layer_ref(struct ramet_layer *layer)
{
    atomic_fetch_add(&layer->refs, 1);
    return layer;
}

void ramet_layer_unref(struct ramet_layer *layer)
{
    if (!layer || atomic_fetch_sub(&layer->refs, 1) != 1)
        return;
    close(layer->fd);
    free(layer->pages);
    free(layer->bitmap);
    free(layer);
}

/* Index of the first packed page at or after `page`; count when none. */
static uint64_t lower_bound(const struct ramet_layer *layer, uint64_t page)
{
    uint64_t low = 0, high = layer->count;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (layer->pages[middle] < page)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

uint64_t ramet_layer_next(const struct ramet_layer *layer, uint64_t from)
{
    if (layer->pages) {
        uint64_t i = lower_bound(layer, from);
        return i < layer->count ? layer->pages[i] : UINT64_MAX;
    }
    uint64_t words = (layer->page_count + 63) / 64;
    for (uint64_t word = from / 64; word < words; word++) {
        uint64_t bits = layer->bitmap[word];
        if (word == from / 64)
            bits &= ~UINT64_C(0) << from % 64;
        if (bits)
            return word * 64 + (uint64_t)__builtin_ctzll(bits);
    }
    return UINT64_MAX;
}

bool ramet_layer_has(const struct ramet_layer *layer, uint64_t page) { return ramet_layer_next(layer, page) == page; }

uint64_t ramet_layer_run(const struct ramet_layer *layer, uint64_t page, uint64_t limit, bool *ret_has)
{
    uint64_t next = ramet_layer_next(layer, page), run = 1;
    *ret_has = next == page;
    if (!*ret_has)
        return next - page < limit ? next - page : limit;
    while (run < limit && ramet_layer_has(layer, page + run))
        run++;
    return run;
}

uint64_t ramet_layer_count(const struct ramet_layer *layer) { return layer->count; }

int ramet_layer_read(const struct ramet_layer *layer, uint64_t page, uint64_t count, void *buf, struct ramet_error *err)
{
    uint64_t at = layer->pages ? lower_bound(layer, page) : page;
    return ramet_file_read(layer->fd, layer->pages ? "memory capture" : "frozen overlay", buf, count * RAMET_PAGE_SIZE,
                           at * RAMET_PAGE_SIZE, err);
}
