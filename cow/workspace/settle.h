/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Settling frozen trees: their staged pages into the store, then their changed nodes,
 * bottom up. Of one checkpoint, whose thread calls all of it; `maintenance` is held.
 *
 * A frozen node is immutable: its head copies it before it changes anything. Until
 * ramet_wsettle_patch its page names slots, and what was stored is noted beside it.
 */
#ifndef RAMET_WORKSPACE_SETTLE_H
#define RAMET_WORKSPACE_SETTLE_H

#include "epoch.h"
#include "workspace_private.h"

struct ramet_wpage {
    ramet_wref ref;
    ramet_chunk base; /* what it replaces, or RAMET_CHUNK_ZERO */
};

struct ramet_wsettle {
    struct ramet_workspaces *set;
    struct ramet_wepoch *epoch; /* the newest one that is settled, and those it follows */
    uint64_t stamp;             /* of nodes that were looked at; + 1: that were written */
    struct ramet_wpage *pages;  /* owned; staged pages in the order of their files */
    size_t page_count, page_capacity;
    struct ramet_wnode **nodes; /* owned; what was written, each after what is below it */
    size_t node_count, node_capacity;
};

/* Tables for the epochs. */
int ramet_wsettle_begin(struct ramet_wsettle *settle, struct ramet_error *err);
/* Finds the staged pages below a frozen node. */
int ramet_wsettle_gather(struct ramet_wsettle *settle, struct ramet_wnode *node, struct ramet_error *err);
/* Puts them into the store, on several threads. */
int ramet_wsettle_pages(struct ramet_wsettle *settle, struct ramet_ingest *ingest, struct ramet_error *err);
/* Writes a frozen node and what is below it; *ret is its chunk. */
int ramet_wsettle_node(struct ramet_wsettle *settle, struct ramet_ingest *ingest, struct ramet_wnode *node,
                       ramet_chunk *ret, struct ramet_error *err);
/* After the commit: what was written is clean, and names chunks. Takes the gate for moments. */
void ramet_wsettle_patch(struct ramet_wsettle *settle);
/* Until nothing in memory names a slot of the epochs; then they leave the list and are freed. Likewise. */
void ramet_wsettle_forget(struct ramet_wsettle *settle);
void ramet_wsettle_end(struct ramet_wsettle *settle);

#endif
