/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Walking a pack from its start, without the index: records one after the other, zeros
 * where holes were punched, and perhaps damage, past which the walk finds its feet again.
 */
#ifndef RAMET_STORE_WALK_H
#define RAMET_STORE_WALK_H

#include "frame.h"
#include "pack.h"

struct ramet_walk {
    /* An intact frame record. */
    int (*frame)(void *ctx, const struct ramet_place *place, const struct ramet_frame *frame, struct ramet_error *err);
    /* An intact journal record; `place->size` bytes. */
    int (*journal)(void *ctx, const struct ramet_place *place, const void *record, struct ramet_error *err);
    /* `size` bytes at `offset` that are no record. */
    void (*damage)(void *ctx, uint32_t pack, uint64_t offset, uint64_t size);
    void *ctx;
};

/* Any callback may be NULL. *ret_end is where the last intact record ends (the header's end when there is none). */
int ramet_pack_walk(struct ramet_packs *packs, uint32_t pack, const struct ramet_walk *walk, uint64_t *ret_end,
                    struct ramet_error *err);

#endif
