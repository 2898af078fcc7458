/* SPDX-License-Identifier: Apache-2.0 */
/* Reading many frames at once: what a large read misses in the cache is fetched in one batch. */
#ifndef RAMET_STORE_PREFETCH_H
#define RAMET_STORE_PREFETCH_H

#include "store_private.h"

/* Brings the frames of these chunks into the cache. What cannot be read is left to the reader to report. */
void ramet_store_prefetch(struct ramet_store *store, const ramet_chunk *chunks, size_t count);

#endif
