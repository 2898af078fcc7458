/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The frames missing in the cache are sorted by place, neighbours join into one read,
 * and all reads are in flight together. A frame that a collection moves meanwhile fails
 * its checksum here and is read again, one by one, by whoever wanted it.
 */
#include "prefetch.h"

#include "base/cleanup.h"

#include <stdlib.h>

/* A gap between two frames that is cheaper to read than to skip, and the longest read. */
enum { frames_max = 512, gap_max = 16 << 10, run_max = 512 << 10 };

struct missing {
    uint64_t number;
    uint64_t epoch; /* of the cache when the place was looked up */
    struct ramet_place place;
};

static int compare_place(const void *a, const void *b)
{
    const struct ramet_place *x = &((const struct missing *)a)->place, *y = &((const struct missing *)b)->place;
    if (x->pack != y->pack)
        return x->pack < y->pack ? -1 : 1;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

/* The distinct frames that are neither cached nor waiting to be committed. */
static size_t find_missing(struct ramet_store *store, const ramet_chunk *chunks, size_t count, struct missing *missing)
{
    size_t found = 0;
    uint64_t last = 0;
    for (size_t i = 0; i < count && found < frames_max; i++) {
        uint64_t number = ramet_chunk_frame(chunks[i]);
        struct ramet_place_record record;
        if (chunks[i] == RAMET_CHUNK_ZERO || number == last || ramet_frame_cache_has(store->cache, number))
            continue;
        last = number;
        uint64_t epoch = ramet_frame_cache_epoch(store->cache, number);
        if (ramet_store_place(store, number, &record, NULL) == 0)
            missing[found++] = (struct missing){number, epoch, record.place};
    }
    qsort(missing, found, sizeof *missing, compare_place);
    size_t distinct = 0;
    for (size_t i = 0; i < found; i++)
        if (i == 0 || missing[i].number != missing[distinct - 1].number)
            missing[distinct++] = missing[i];
    return distinct;
}

/* Joins neighbours into reads; returns how many. */
static size_t join_runs(const struct missing *missing, size_t count, struct ramet_pack_read *reads)
{
    size_t runs = 0;
    for (size_t i = 0; i < count; i++) {
        const struct ramet_place *place = &missing[i].place;
        struct ramet_pack_read *run = runs ? &reads[runs - 1] : NULL;
        uint64_t end = place->offset + place->size;
        if (run && run->pack == place->pack && place->offset <= run->offset + run->size + gap_max &&
            end - run->offset <= run_max)
            run->size = (size_t)(end - run->offset);
        else
            reads[runs++] = (struct ramet_pack_read){.pack = place->pack, .offset = place->offset, .size = place->size};
    }
    return runs;
}

void ramet_store_prefetch(struct ramet_store *store, const ramet_chunk *chunks, size_t count)
{
    struct missing missing[frames_max];
    struct ramet_pack_read reads[frames_max];
    size_t wanted = find_missing(store, chunks, count, missing), total = 0;
    if (wanted < 2)
        return;
    size_t runs = join_runs(missing, wanted, reads);
    for (size_t i = 0; i < runs; i++)
        total += reads[i].size;
    _autofree_ uint8_t *bytes = malloc(total);
    if (!bytes)
        return;
    for (size_t i = 0, at = 0; i < runs; at += reads[i++].size)
        reads[i].buf = bytes + at;
    ramet_packs_read_many(store->packs, reads, runs);
    for (size_t i = 0, run = 0; i < wanted; i++) {
        const struct ramet_place *place = &missing[i].place;
        while (place->pack != reads[run].pack || place->offset >= reads[run].offset + reads[run].size)
            run++;
        _cleanup_(ramet_frame_cleanup) struct ramet_frame *frame = NULL;
        const uint8_t *record = reads[run].buf + (place->offset - reads[run].offset);
        if (reads[run].failed ||
            ramet_frame_decode(record, place->size, missing[i].number, ramet_packs_key(store->packs), &frame, NULL) < 0)
            continue;
        ramet_frame_cache_put(store->cache, frame, missing[i].epoch);
    }
}
