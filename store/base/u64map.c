/* SPDX-License-Identifier: Apache-2.0 */
#include "base/u64map.h"

#include <stdlib.h>

struct ramet_u64map_entry {
    uint64_t key, value;
    bool used;
};

static size_t home(const struct ramet_u64map *map, uint64_t key)
{
    key *= UINT64_C(0x9e3779b97f4a7c15); /* Fibonacci hashing: keys are often consecutive */
    return (key ^ key >> 32) & (map->capacity - 1);
}

/* The entry of `key`, or the empty one where it belongs. */
static struct ramet_u64map_entry *find(const struct ramet_u64map *map, uint64_t key)
{
    size_t i = home(map, key);
    while (map->entries[i].used && map->entries[i].key != key)
        i = (i + 1) & (map->capacity - 1);
    return &map->entries[i];
}

void ramet_u64map_free(struct ramet_u64map *map)
{
    free(map->entries);
    *map = (struct ramet_u64map){0};
}

bool ramet_u64map_get(const struct ramet_u64map *map, uint64_t key, uint64_t *ret)
{
    if (map->count == 0)
        return false;
    struct ramet_u64map_entry *entry = find(map, key);
    if (entry->used)
        *ret = entry->value;
    return entry->used;
}

static bool grow(struct ramet_u64map *map)
{
    struct ramet_u64map grown = {.capacity = map->capacity ? map->capacity * 2 : 64};
    grown.entries = calloc(grown.capacity, sizeof *grown.entries);
    if (!grown.entries)
        return false;
    for (size_t i = 0; i < map->capacity; i++)
        if (map->entries[i].used)
            *find(&grown, map->entries[i].key) = map->entries[i];
    grown.count = map->count;
    free(map->entries);
    *map = grown;
    return true;
}

bool ramet_u64map_put(struct ramet_u64map *map, uint64_t key, uint64_t value)
{
    if ((map->count + 1) * 4 > map->capacity * 3 && !grow(map))
        return false;
    struct ramet_u64map_entry *entry = find(map, key);
    map->count += !entry->used;
    *entry = (struct ramet_u64map_entry){.key = key, .value = value, .used = true};
    return true;
}

void ramet_u64map_remove(struct ramet_u64map *map, uint64_t key)
{
    if (map->count == 0)
        return;
    struct ramet_u64map_entry *hole = find(map, key);
    if (!hole->used)
        return;
    hole->used = false;
    map->count--;
    /* Close the gap: later entries of the run move back unless they already sit at or after their home. */
    size_t mask = map->capacity - 1, gap = (size_t)(hole - map->entries);
    for (size_t i = (gap + 1) & mask; map->entries[i].used; i = (i + 1) & mask) {
        size_t want = home(map, map->entries[i].key);
        if (((i - want) & mask) < ((i - gap) & mask))
            continue;
        map->entries[gap] = map->entries[i];
        map->entries[i].used = false;
        gap = i;
    }
}

bool ramet_u64map_next(const struct ramet_u64map *map, size_t *at, uint64_t *ret_key, uint64_t *ret_value)
{
    while (*at < map->capacity && !map->entries[*at].used)
        ++*at;
    if (*at == map->capacity)
        return false;
    *ret_key = map->entries[*at].key;
    *ret_value = map->entries[(*at)++].value;
    return true;
}
