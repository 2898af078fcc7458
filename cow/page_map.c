/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tree's height follows from page_count: one leaf level, and an inner level for
 * every further factor of 512. A subtree at `level` spans 512^(level+1) pages.
 * Recursion is as deep as the tree: at most 5 for 2^45 pages.
 */
#include "page_map.h"

#include "base/cleanup.h"
#include "base/codec.h"

#include <string.h>

enum { fanout = RAMET_MAP_FANOUT, entry_size = 8 };
_Static_assert(fanout *entry_size == RAMET_PAGE_SIZE, "a node is one chunk");

static unsigned top_level(uint64_t page_count)
{
    unsigned level = 0;
    for (uint64_t span = fanout; span < page_count; span *= fanout)
        level++;
    return level;
}

/* Pages below one entry of a node at `level`. */
static uint64_t entry_span(unsigned level)
{
    uint64_t span = 1;
    while (level-- > 0)
        span *= fanout;
    return span;
}

static int check_range(const struct ramet_page_map *map, uint64_t first, uint64_t count, struct ramet_error *err)
{
    if (first > map->page_count || count > map->page_count - first)
        return ramet_error_set(err, RAMET_INVALID, "pages %llu to %llu lie outside an image of %llu",
                               (unsigned long long)first, (unsigned long long)(first + count),
                               (unsigned long long)map->page_count);
    return 0;
}

/* Reads entries [first, first+count) of a node. */
static int read_entries(struct ramet_store *store, ramet_chunk node, size_t first, size_t count, ramet_chunk *entries,
                        struct ramet_error *err)
{
    uint8_t bytes[RAMET_PAGE_SIZE];
    int r = ramet_store_read_part(store, node, first * entry_size, bytes, count * entry_size, err);
    for (size_t i = 0; i < count && r == 0; i++)
        entries[i] = ramet_get_le64(bytes + i * entry_size);
    return r;
}

static int lookup(struct ramet_store *store, ramet_chunk node, unsigned level, uint64_t first, size_t count,
                  ramet_chunk *chunks, struct ramet_error *err)
{
    if (node == RAMET_CHUNK_ZERO) {
        memset(chunks, 0, count * sizeof *chunks);
        return 0;
    }
    if (level == 0)
        return read_entries(store, node, first, count, chunks, err);
    uint64_t span = entry_span(level);
    int r = 0;
    while (count > 0 && r == 0) {
        ramet_chunk child;
        uint64_t inside = first % span, room = span - inside;
        size_t some = count < room ? count : (size_t)room;
        r = read_entries(store, node, first / span, 1, &child, err);
        if (r == 0)
            r = lookup(store, child, level - 1, inside, some, chunks, err);
        first += some, count -= some, chunks += some;
    }
    return r;
}

int ramet_page_map_lookup(struct ramet_store *store, const struct ramet_page_map *map, uint64_t first, size_t count,
                          ramet_chunk *chunks, struct ramet_error *err)
{
    int r = check_range(map, first, count, err);
    return r < 0 ? r : lookup(store, map->root, top_level(map->page_count), first, count, chunks, err);
}

int ramet_page_map_leaf(struct ramet_store *store, const struct ramet_page_map *map, uint64_t leaf,
                        ramet_chunk entries[RAMET_MAP_FANOUT], ramet_chunk *ret_node, struct ramet_error *err)
{
    ramet_chunk node = map->root;
    uint64_t inside = leaf;
    int r = check_range(map, leaf * fanout, 0, err);
    for (unsigned level = top_level(map->page_count); level > 0 && r == 0 && node != RAMET_CHUNK_ZERO; level--) {
        uint64_t span = entry_span(level) / fanout; /* leaves below an entry */
        r = read_entries(store, node, inside / span, 1, &node, err);
        inside %= span;
    }
    if (r == 0)
        r = read_entries(store, node, 0, fanout, entries, err);
    if (r == 0)
        *ret_node = node;
    return r;
}

int ramet_page_map_put_node(struct ramet_ingest *ingest, const ramet_chunk entries[RAMET_MAP_FANOUT],
                            ramet_chunk replaced, ramet_chunk *ret, struct ramet_error *err)
{
    uint8_t bytes[RAMET_PAGE_SIZE];
    for (size_t i = 0; i < fanout; i++)
        ramet_put_le64(bytes + i * entry_size, entries[i]);
    return ramet_ingest_put(ingest, RAMET_CHUNK_NODE, bytes, 1, &replaced, ret, err);
}

/*
 * Writes the node for `changes`, all of which lie below it: entries of nodes at level `bottom`. `origin` is the index
 * of its first entry at that level.
 */
static int update(struct ramet_ingest *ingest, struct ramet_store *store, ramet_chunk node, unsigned level,
                  unsigned bottom, uint64_t origin, const struct ramet_page_change *changes, size_t count,
                  ramet_chunk *ret, struct ramet_error *err)
{
    ramet_chunk entries[fanout], before[fanout];
    uint64_t span = entry_span(level - bottom);
    int r = read_entries(store, node, 0, fanout, entries, err);
    memcpy(before, entries, sizeof before);
    for (size_t done = 0, some; done < count && r == 0; done += some) {
        size_t slot = (size_t)((changes[done].page - origin) / span);
        some = 1;
        if (level == bottom) {
            entries[slot] = changes[done].chunk;
            continue;
        }
        while (done + some < count && (changes[done + some].page - origin) / span == slot)
            some++;
        r = update(ingest, store, entries[slot], level - 1, bottom, origin + slot * span, changes + done, some,
                   &entries[slot], err);
    }
    if (r < 0)
        return r;
    if (memcmp(before, entries, sizeof before) == 0) {
        *ret = node;
        return 0;
    }
    return ramet_page_map_put_node(ingest, entries, node, ret, err);
}

int ramet_page_map_update(struct ramet_ingest *ingest, struct ramet_store *store, const struct ramet_page_map *base,
                          const struct ramet_page_change *changes, size_t count, struct ramet_page_map *ret,
                          struct ramet_error *err)
{
    struct ramet_page_map map = *base;
    int r = count ? check_range(base, changes[count - 1].page, 1, err) : 0;
    if (r == 0 && count)
        r = update(ingest, store, base->root, top_level(base->page_count), 0, 0, changes, count, &map.root, err);
    if (r == 0)
        *ret = map;
    return r;
}

int ramet_page_map_update_leaves(struct ramet_ingest *ingest, struct ramet_store *store,
                                 const struct ramet_page_map *base, const struct ramet_page_change *leaves,
                                 size_t count, struct ramet_page_map *ret, struct ramet_error *err)
{
    struct ramet_page_map map = *base;
    unsigned top = top_level(base->page_count);
    int r = count ? check_range(base, leaves[count - 1].page * fanout, 1, err) : 0;
    if (r == 0 && count && top == 0)
        map.root = leaves[0].chunk;
    else if (r == 0 && count)
        r = update(ingest, store, base->root, top, 1, 0, leaves, count, &map.root, err);
    if (r == 0)
        *ret = map;
    return r;
}

/* First non-zero page at or after `from` (relative to the node); the node's span when none. */
static int next_data(struct ramet_store *store, ramet_chunk node, unsigned level, uint64_t from, uint64_t *ret,
                     struct ramet_error *err)
{
    uint64_t span = entry_span(level);
    ramet_chunk entries[fanout];
    *ret = span * fanout;
    if (node == RAMET_CHUNK_ZERO)
        return 0;
    int r = read_entries(store, node, 0, fanout, entries, err);
    for (uint64_t slot = from / span; slot < fanout && r == 0; slot++) {
        uint64_t inside = slot == from / span ? from % span : 0, found = 0;
        if (entries[slot] == RAMET_CHUNK_ZERO)
            continue;
        if (level > 0 && ((r = next_data(store, entries[slot], level - 1, inside, &found, err)) < 0 || found == span))
            continue;
        *ret = slot * span + found;
        return 0;
    }
    return r;
}

int ramet_page_map_next_data(struct ramet_store *store, const struct ramet_page_map *map, uint64_t from, uint64_t *ret,
                             struct ramet_error *err)
{
    uint64_t found = map->page_count;
    int r = from < map->page_count ? next_data(store, map->root, top_level(map->page_count), from, &found, err) : 0;
    if (r == 0)
        *ret = found < map->page_count ? found : map->page_count;
    return r;
}

static int walk(struct ramet_store *store, ramet_chunk node, unsigned level,
                bool (*visit)(void *ctx, ramet_chunk chunk, bool is_node), void *ctx, struct ramet_error *err)
{
    ramet_chunk entries[fanout];
    if (node == RAMET_CHUNK_ZERO || !visit(ctx, node, true))
        return 0;
    int r = read_entries(store, node, 0, fanout, entries, err);
    for (size_t i = 0; i < fanout && r == 0; i++) {
        if (level > 0)
            r = walk(store, entries[i], level - 1, visit, ctx, err);
        else if (entries[i] != RAMET_CHUNK_ZERO)
            visit(ctx, entries[i], false);
    }
    return r;
}

int ramet_page_map_walk(struct ramet_store *store, const struct ramet_page_map *map,
                        bool (*visit)(void *ctx, ramet_chunk chunk, bool is_node), void *ctx, struct ramet_error *err)
{
    return walk(store, map->root, top_level(map->page_count), visit, ctx, err);
}

static bool count_page(void *ctx, ramet_chunk chunk, bool is_node)
{
    (void)chunk;
    *(uint64_t *)ctx += !is_node;
    return true;
}

int ramet_page_map_count(struct ramet_store *store, const struct ramet_page_map *map, uint64_t *ret,
                         struct ramet_error *err)
{
    uint64_t count = 0;
    int r = ramet_page_map_walk(store, map, count_page, &count, err);
    if (r == 0)
        *ret = count;
    return r;
}

static int diff(struct ramet_store *store, ramet_chunk a, ramet_chunk b, unsigned level, uint64_t *changed,
                struct ramet_error *err)
{
    ramet_chunk left[fanout], right[fanout];
    if (a == b)
        return 0;
    int r = read_entries(store, a, 0, fanout, left, err);
    if (r == 0)
        r = read_entries(store, b, 0, fanout, right, err);
    for (size_t i = 0; i < fanout && r == 0; i++) {
        if (level > 0)
            r = diff(store, left[i], right[i], level - 1, changed, err);
        else
            *changed += left[i] != right[i];
    }
    return r;
}

int ramet_page_map_diff(struct ramet_store *store, const struct ramet_page_map *a, const struct ramet_page_map *b,
                        uint64_t *ret_changed, struct ramet_error *err)
{
    uint64_t changed = 0;
    if (a->page_count != b->page_count)
        return ramet_error_set(err, RAMET_INVALID, "images of %llu and %llu pages cannot be compared",
                               (unsigned long long)a->page_count, (unsigned long long)b->page_count);
    int r = diff(store, a->root, b->root, top_level(a->page_count), &changed, err);
    if (r == 0)
        *ret_changed = changed;
    return r;
}
