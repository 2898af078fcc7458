/* SPDX-License-Identifier: Apache-2.0 */
/* A hash map from uint64_t to uint64_t, open addressing. Not thread-safe. */
#ifndef RAMET_BASE_U64MAP_H
#define RAMET_BASE_U64MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ramet_u64map {
    struct ramet_u64map_entry *entries; /* owned; ramet_u64map_free */
    size_t capacity, count;
};

void ramet_u64map_free(struct ramet_u64map *map);
bool ramet_u64map_get(const struct ramet_u64map *map, uint64_t key, uint64_t *ret);
bool ramet_u64map_put(struct ramet_u64map *map, uint64_t key, uint64_t value); /* false: no memory */
void ramet_u64map_remove(struct ramet_u64map *map, uint64_t key);
/* Walks all entries, in no order: *at is 0 at first. False at the end. The map must not change meanwhile. */
bool ramet_u64map_next(const struct ramet_u64map *map, size_t *at, uint64_t *ret_key, uint64_t *ret_value);

#endif
