/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Warming a restore up: at the first restore of a durable snapshot on which no sandbox runs yet, the
 * pages of its memory that are read until the guest has answered are recorded
 * (cow/working_set.h); at later ones they are put into the kernel's page cache ahead of the
 * guest, by threads of their own.
 *
 * Whatever fails only makes a restore slower: nothing here returns an error.
 * Thread-safety: one warm-up belongs to one caller at a time.
 */
#ifndef RAMET_API_WARMUP_H
#define RAMET_API_WARMUP_H

struct ramet_service;
struct ramet_snapshot;
struct ramet_warmup;

/*
 * Begins recording or prefetching for a restore; NULL when there is nothing to do. With either, the VMM should read
 * single pages until the guest has answered: the kernel's reading around them would blur the one and hinder the other.
 */
struct ramet_warmup *ramet_warmup_begin(struct ramet_service *service, struct ramet_snapshot *snapshot);
/* The guest has answered: what was recorded becomes the snapshot's working set. */
void ramet_warmup_answered(struct ramet_warmup *warmup);
/* Stops prefetching, or drops a recording nobody answered. NULL is a no-op. */
void ramet_warmup_free(struct ramet_warmup *warmup);
void ramet_warmup_cleanup(struct ramet_warmup **warmup); /* for _cleanup_ */

#endif
