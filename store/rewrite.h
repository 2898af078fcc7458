/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rewriting frames: to another pack, with fewer slots, or compressed better. Chunk
 * numbers do not change. What collection, compaction and recompression share.
 *
 * Committing is for the holder of gc_lock, so that nothing else moves frames. What was prepared without it must be
 * compared with the frames table again before. Readers and ingests go on.
 */
#ifndef RAMET_STORE_REWRITE_H
#define RAMET_STORE_REWRITE_H

#include "store_private.h"

struct ramet_rewrite {
    uint64_t number;
    struct ramet_place_record record; /* as in the frames table; the new one afterwards */
    uint16_t keep;                    /* slots to keep */
    int level;                        /* compress anew at this level and mark cold; 0: as it is */
    bool failed;                      /* it could not be read: it stays where it is */
    /* The rewriter's: */
    uint8_t *bytes;
    size_t size;
};

/* Reads and, where asked, re-encodes. Independent of all locks; several threads may do so for different items. */
int ramet_rewrite_prepare(struct ramet_store *store, struct ramet_rewrite *items, size_t count,
                          struct ramet_error *err);
/* Appends what was prepared, syncs, and publishes the new places; then the old places are holes. Frees the bytes. */
int ramet_rewrite_commit(struct ramet_store *store, struct ramet_rewrite *items, size_t count, struct ramet_error *err);
void ramet_rewrite_free(struct ramet_rewrite *items, size_t count);

/* The value of the frames table for each frame, in number order, from `first` on. False ends the walk. */
int ramet_frames_walk(struct ramet_store *store, uint64_t first,
                      bool (*visit)(void *ctx, uint64_t number, const struct ramet_place_record *record), void *ctx,
                      struct ramet_error *err);

#endif
