/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Putting an image into the store: leaf by leaf of its map, on several threads. Each
 * thread reads, compares, hashes and compresses the leaves it claims.
 */
#ifndef RAMET_COW_PUT_H
#define RAMET_COW_PUT_H

#include "page_map.h"

/* Where pages come from. Both calls may come from several threads at once. */
struct ramet_page_source {
    /* The first run of pages it has in [from, end): their number in *ret_count, 0 when there is none. */
    int (*run)(void *ctx, uint64_t from, uint64_t end, uint64_t *ret_first, uint64_t *ret_count,
               struct ramet_error *err);
    /* Reads such pages. */
    int (*read)(void *ctx, uint64_t first, uint64_t count, void *buf, struct ramet_error *err);
    void *ctx;
    uint64_t pages; /* about how many it has, for choosing the number of threads */
};

/* The map `base` with the source's pages in place of its own. */
int ramet_put_pages(struct ramet_store *store, struct ramet_ingest *ingest, const struct ramet_page_map *base,
                    const struct ramet_page_source *source, struct ramet_page_map *ret, struct ramet_error *err);

#endif
