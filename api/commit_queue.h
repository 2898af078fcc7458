/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making snapshots durable behind the caller's back: one thread, in order of arrival,
 * so that no call waits for hashing, compression or the disk unless it asks to.
 *
 * Thread-safe.
 */
#ifndef RAMET_API_COMMIT_QUEUE_H
#define RAMET_API_COMMIT_QUEUE_H

#include "catalog.h"

struct ramet_commit_queue;
struct ramet_jobs;
struct ramet_metrics;

/* `background` is held while anything waits; it and `metrics` must outlive the queue. */
int ramet_commit_queue_new(struct ramet_catalog *catalog, struct ramet_jobs *background, struct ramet_metrics *metrics,
                           struct ramet_commit_queue **ret, struct ramet_error *err);
/* Finishes what was added, then ends the thread. NULL is a no-op. */
void ramet_commit_queue_free(struct ramet_commit_queue *queue);

/*
 * Queues a snapshot that the catalog knows. When it is durable, `taken_of` (may be NULL)
 * lies over it from `generations` on, and every branch that started on it has it to
 * restore from. Both are referenced.
 */
int ramet_commit_queue_add(struct ramet_commit_queue *queue, struct ramet_snapshot *snapshot,
                           struct ramet_branch *taken_of, const uint64_t *generations, struct ramet_error *err);
/* Waits until the snapshot is durable, or gives the error that kept it from becoming so. */
int ramet_commit_queue_wait(struct ramet_commit_queue *queue, struct ramet_snapshot *snapshot, struct ramet_error *err);
/* Why a snapshot did not become durable: true and the message, or false. */
bool ramet_commit_queue_failure(struct ramet_commit_queue *queue, const struct ramet_snapshot *snapshot, char *msg,
                                size_t size);
/* Forgets a failure, when its snapshot is removed. */
void ramet_commit_queue_forget(struct ramet_commit_queue *queue, const struct ramet_snapshot *snapshot);
/* How many wait, the one under way included. */
size_t ramet_commit_queue_length(struct ramet_commit_queue *queue);

#endif
