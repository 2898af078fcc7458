/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Map nodes of any content. The input is steps that make nodes, whose entries name nodes made before, data, or
 * anything; then two maps over the last ones are looked up, walked, compared and changed.
 *
 *     u8 levels, u64 page, then nodes: u8 entries, each u16 slot and u8 kind (0: node, 1: data, 2: a u64 follows) and,
 *     for nodes, u8 which
 */
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

enum { nodes_max = 24, visits_max = 4000, runs_a_commit = 500 };

struct nodes {
    ramet_chunk numbers[nodes_max];
    size_t count;
};

static ramet_chunk read_entry(struct ramet_reader *reader, const struct nodes *nodes)
{
    switch (ramet_reader_u8(reader) % 3) {
    case 0: {
        unsigned which = ramet_reader_u8(reader);
        return nodes->count ? nodes->numbers[which % nodes->count] : RAMET_CHUNK_ZERO;
    }
    case 1: return fuzz_chunk();
    default: return ramet_reader_u64(reader);
    }
}

static void make_nodes(struct ramet_reader *reader, struct ramet_ingest *ingest, struct nodes *nodes)
{
    while (reader->at < reader->size && nodes->count < nodes_max) {
        ramet_chunk entries[RAMET_MAP_FANOUT] = {0};
        for (unsigned left = ramet_reader_u8(reader) % 32; left > 0; left--) {
            uint16_t slot = (uint16_t)(ramet_reader_u8(reader) | ramet_reader_u8(reader) << 8);
            entries[slot % RAMET_MAP_FANOUT] = read_entry(reader, nodes);
        }
        FUZZ_CHECK(ramet_page_map_put_node(ingest, entries, nodes->count ? nodes->numbers[nodes->count - 1] : 0,
                                           &nodes->numbers[nodes->count], NULL) == 0);
        nodes->count++;
    }
}

struct visits {
    unsigned left;
};

static bool visit(void *ctx, ramet_chunk chunk, bool is_node)
{
    struct visits *visits = ctx;
    FUZZ_CHECK(chunk != RAMET_CHUNK_ZERO);
    visits->left -= visits->left > 0;
    return is_node && visits->left > 0;
}

static void use_map(struct ramet_ingest *ingest, const struct ramet_page_map *map, uint64_t page)
{
    struct ramet_store *store = fuzz_store();
    struct visits visits = {visits_max};
    ramet_chunk chunks[700], node;
    struct ramet_page_map changed;
    struct ramet_error err = {0};
    uint64_t next, room = map->page_count - page;
    size_t count = room < 700 ? (size_t)room : 700;
    uint8_t bytes[RAMET_PAGE_SIZE];
    if (ramet_page_map_lookup(store, map, page, count, chunks, &err) == 0)
        for (size_t i = 0; i < count && i < 20; i++)
            ramet_store_read(store, &chunks[i], 1, bytes, NULL);
    ramet_page_map_leaf(store, map, page / RAMET_MAP_FANOUT, chunks, &node, NULL);
    if (ramet_page_map_next_data(store, map, page, &next, NULL) == 0)
        FUZZ_CHECK(next >= page && next <= map->page_count);
    int r = ramet_page_map_walk(store, map, visit, &visits, &err);
    FUZZ_CHECK(r == 0 || (err.code == -r && err.msg[0]));
    const struct ramet_page_change change = {page, fuzz_chunk()};
    if (ramet_page_map_update(ingest, store, map, &change, 1, &changed, NULL) == 0) {
        FUZZ_CHECK(ramet_ingest_stored_bytes(ingest, &next, NULL) == 0);
        FUZZ_CHECK(ramet_page_map_lookup(store, &changed, page, 1, chunks, NULL) == 0 && chunks[0] == change.chunk);
        ramet_page_map_diff(store, map, &changed, &next, NULL);
    }
}

static int mark_nothing(void *ctx, struct ramet_gc *gc, struct ramet_error *err)
{
    (void)ctx, (void)err;
    ramet_gc_mark(gc, fuzz_chunk());
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static unsigned runs;
    struct ramet_reader reader = {.data = data, .size = size};
    struct ramet_ingest *ingest;
    struct nodes nodes = {0};
    struct ramet_gc_result result;
    uint64_t stored;
    unsigned levels = ramet_reader_u8(&reader) % 3;
    uint64_t page = ramet_reader_u64(&reader), page_count = 300;
    if (reader.failed)
        return 0;
    while (levels-- > 0)
        page_count *= RAMET_MAP_FANOUT;
    FUZZ_CHECK(ramet_ingest_begin(fuzz_store(), &ingest, NULL) == 0);
    make_nodes(&reader, ingest, &nodes);
    FUZZ_CHECK(ramet_ingest_stored_bytes(ingest, &stored, NULL) == 0);
    for (size_t i = nodes.count < 2 ? 0 : nodes.count - 2; i < nodes.count; i++) {
        const struct ramet_page_map map = {nodes.numbers[i], page_count};
        use_map(ingest, &map, page % page_count);
        const struct ramet_page_map other = {nodes.numbers[0], page_count};
        if (page_count <= 300 * RAMET_MAP_FANOUT)
            ramet_page_map_diff(fuzz_store(), &map, &other, &stored, NULL);
    }
    if (++runs % runs_a_commit == 0)
        FUZZ_CHECK(ramet_ingest_commit(ingest, NULL, NULL) == 0);
    ramet_ingest_end(ingest);
    if (runs % runs_a_commit == 0)
        FUZZ_CHECK(ramet_store_gc(fuzz_store(), mark_nothing, NULL, &result, NULL) == 0);
    return 0;
}
