/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compaction: packs with much room lost to holes and to dead records are copied out and
 * removed. Recompression: the same with frames compressed anew, slowly and well.
 */
#ifndef RAMET_STORE_COMPACT_H
#define RAMET_STORE_COMPACT_H

#include "store_private.h"

/* Under gc_lock. Adds to `result`. */
int ramet_compact(struct ramet_store *store, struct ramet_gc_result *result, struct ramet_error *err);

#endif
