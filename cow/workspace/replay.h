/* SPDX-License-Identifier: Apache-2.0 */
/* Bringing heads up to date from the records of a journal. */
#ifndef RAMET_WORKSPACE_REPLAY_H
#define RAMET_WORKSPACE_REPLAY_H

#include "workspace_private.h"

struct ramet_wreplay {
    struct ramet_workspaces *set;
    struct ramet_wspare spare;
    uint32_t epoch;    /* that the last `begin` told */
    uint64_t sequence; /* of the last record */
    uint64_t serials;  /* above all that were given out */
    uint64_t replaced; /* serial of the last workspace that a rollback put another one in place of */
    bool began;        /* a record came before */
};

/*
 * Applies the intact records at the start of `data`, which go on where the last ones ended; *ret_end is where they end.
 * A workspace whose tree cannot be read becomes damaged and the others go on. CORRUPT: an intact record makes no sense,
 * or one that was durable is not there.
 */
int ramet_wreplay_records(struct ramet_wreplay *replay, const uint8_t *data, size_t size, const char *name,
                          size_t *ret_end, struct ramet_error *err);
void ramet_wreplay_free(struct ramet_wreplay *replay);

#endif
