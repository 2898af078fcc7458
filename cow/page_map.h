/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Page maps: which chunk each page of an image holds. A persistent radix tree whose
 * nodes are chunks of the store themselves: 512 little-endian chunk numbers, 4 KiB. A
 * leaf covers 2 MiB of image. An all-zero subtree is RAMET_CHUNK_ZERO, equal subtrees
 * are equal numbers, changing a page writes the nodes above it anew and nothing else.
 *
 * A map is a value of two numbers; copying it copies the image. Thread-safe.
 */
#ifndef RAMET_COW_PAGE_MAP_H
#define RAMET_COW_PAGE_MAP_H

#include "store.h"

#define RAMET_MAP_FANOUT 512

struct ramet_page_map {
    ramet_chunk root;
    uint64_t page_count;
};

struct ramet_page_change {
    uint64_t page;
    ramet_chunk chunk;
};

/* Fills chunks[0..count) for the pages from `first`. The range must lie within the map. */
int ramet_page_map_lookup(struct ramet_store *store, const struct ramet_page_map *map, uint64_t first, size_t count,
                          ramet_chunk *chunks, struct ramet_error *err);

/* Entries of leaf `leaf` (zeros past the map's end) and the number of its node, RAMET_CHUNK_ZERO when it is empty. */
int ramet_page_map_leaf(struct ramet_store *store, const struct ramet_page_map *map, uint64_t leaf,
                        ramet_chunk entries[RAMET_MAP_FANOUT], ramet_chunk *ret_node, struct ramet_error *err);
/* Stores a node, as a difference to the one it replaces (RAMET_CHUNK_ZERO: none). An empty one is RAMET_CHUNK_ZERO. */
int ramet_page_map_put_node(struct ramet_ingest *ingest, const ramet_chunk entries[RAMET_MAP_FANOUT],
                            ramet_chunk replaced, ramet_chunk *ret, struct ramet_error *err);
/* The map with whole leaves replaced: in `leaves`, ascending, a page is the leaf's index and a chunk its node. */
int ramet_page_map_update_leaves(struct ramet_ingest *ingest, struct ramet_store *store,
                                 const struct ramet_page_map *base, const struct ramet_page_change *leaves,
                                 size_t count, struct ramet_page_map *ret, struct ramet_error *err);
/* The map with `changes` applied (ascending, distinct pages). */
int ramet_page_map_update(struct ramet_ingest *ingest, struct ramet_store *store, const struct ramet_page_map *base,
                          const struct ramet_page_change *changes, size_t count, struct ramet_page_map *ret,
                          struct ramet_error *err);

/* First page at or after `from` that is not zero; page_count when there is none. Skips empty subtrees. */
int ramet_page_map_next_data(struct ramet_store *store, const struct ramet_page_map *map, uint64_t from, uint64_t *ret,
                             struct ramet_error *err);

/* Counts the pages that are not zero. */
int ramet_page_map_count(struct ramet_store *store, const struct ramet_page_map *map, uint64_t *ret,
                         struct ramet_error *err);

/* Counts the pages that differ. Both maps must have the same page_count. Equal subtrees are not read. */
int ramet_page_map_diff(struct ramet_store *store, const struct ramet_page_map *a, const struct ramet_page_map *b,
                        uint64_t *ret_changed, struct ramet_error *err);

/* Calls `visit` for every chunk, nodes before what they hold; it returns whether to go on into a node. */
int ramet_page_map_walk(struct ramet_store *store, const struct ramet_page_map *map,
                        bool (*visit)(void *ctx, ramet_chunk chunk, bool is_node), void *ctx, struct ramet_error *err);

#endif
