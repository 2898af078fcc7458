/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Epochs: what was written between two checkpoints. Each has a staging file of pages, the
 * slots, and a journal of the changes that name them. A checkpoint begins a new one; when
 * it has put the old one's pages into the store the old one is *settled*: its files go, and
 * a table tells which chunk each slot became.
 *
 * Epochs are a list, the newest first; the list changes while the gate is held for
 * writing. Slots: any thread.
 */
#ifndef RAMET_WORKSPACE_EPOCH_H
#define RAMET_WORKSPACE_EPOCH_H

#include "chunk.h"
#include "data.h"
#include "journal.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

enum { RAMET_WEPOCH_SEGMENT = 1 << 16 }; /* slots whose owners lie together */

struct ramet_wslots {
    uint32_t *slots; /* owned */
    size_t count, capacity;
};

struct ramet_wepoch {
    struct ramet_wepoch *older;
    uint32_t number;
    int pages_fd, journal_fd;
    char pages_path[512], journal_path[512];
    _Atomic bool dirty; /* pages were written since the last sync */

    pthread_mutex_t lock;       /* guards the next ones */
    _Atomic uint64_t next_slot; /* slots given out */
    uint64_t room;              /* that the file has */
    uint64_t **owners;          /* owned, and what they point at */
    size_t segments;
    struct ramet_wslots free, released; /* released: free once what released them is durable */

    bool settled;       /* gate */
    ramet_chunk *table; /* owned; next_slot of them, when settled */

    struct ramet_wjournal journal;
    uint64_t begin_sequence, last_sequence; /* commit.queue: of its first and its newest record */
};

/* Makes the files of an epoch, or opens those that are there. */
int ramet_wepoch_open(const char *dir, uint32_t number, bool fresh, struct ramet_wepoch **ret, struct ramet_error *err);
void ramet_wepoch_close(struct ramet_wepoch *epoch);
void ramet_wepoch_remove_files(struct ramet_wepoch *epoch);

static inline ramet_wref ramet_wref_make(uint32_t epoch, uint64_t slot)
{
    return RAMET_WREF_STAGED | (ramet_wref)epoch << 32 | slot;
}
static inline bool ramet_wref_is_staged(ramet_wref ref) { return ref & RAMET_WREF_STAGED; }
static inline uint32_t ramet_wref_epoch(ramet_wref ref) { return (uint32_t)(ref >> 32) & 0x7fffffffu; }
static inline uint32_t ramet_wref_slot(ramet_wref ref) { return (uint32_t)ref; }

/*
 * For each of `count` references that is not a slot of this epoch and owner, a fresh slot; neighbours in a row. refs[]
 * is changed only when all succeed.
 */
int ramet_wepoch_claim(struct ramet_wepoch *epoch, uint64_t owner, ramet_wref *refs, size_t count,
                       struct ramet_error *err);
/* Slots of `owner` among them lose it; `release`: and are free once that is durable. */
void ramet_wepoch_disown(struct ramet_wepoch *epoch, uint64_t owner, const ramet_wref *refs, size_t count,
                         bool release);
/* Around a group commit: takes the released slots, and makes them free. */
void ramet_wepoch_take_released(struct ramet_wepoch *epoch, struct ramet_wslots *ret);
void ramet_wepoch_put_released(struct ramet_wepoch *epoch, struct ramet_wslots *slots); /* back again */
void ramet_wepoch_free_slots(struct ramet_wepoch *epoch, struct ramet_wslots *slots);

#endif
