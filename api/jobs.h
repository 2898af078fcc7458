/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the daemon does to its store in the background: scrubs and recompression. Each
 * kind has a thread, which runs one job at a time and remembers how the last one went.
 *
 * Recompression also begins by itself, with CPU time nobody else wants, when nothing was
 * stored for a while and frames came in since the last run. Whoever is about to store
 * something holds it off.
 *
 * Thread-safe.
 */
#ifndef RAMET_API_JOBS_H
#define RAMET_API_JOBS_H

#include "catalog.h"
#include "service.h"

struct ramet_jobs;

struct ramet_jobs_options {
    int recompress_level; /* as in struct ramet_service_config */
    unsigned quiet_ms;    /* without storing, before recompression begins by itself; 0: a minute */
};

int ramet_jobs_new(struct ramet_catalog *catalog, const struct ramet_jobs_options *options, struct ramet_jobs **ret,
                   struct ramet_error *err);
/* Tells running jobs to end and lets none begin; returns at once. NULL is a no-op. */
void ramet_jobs_close(struct ramet_jobs *jobs);
/* The same, and waits. */
void ramet_jobs_free(struct ramet_jobs *jobs);

/* BUSY when one of that kind runs; one that began by itself makes way. */
int ramet_jobs_start(struct ramet_jobs *jobs, const struct ramet_job_request *request, struct ramet_error *err);
/* Ends a running one and returns when it has. None is no error. */
void ramet_jobs_stop(struct ramet_jobs *jobs, enum ramet_job_kind kind);
int ramet_jobs_get(struct ramet_jobs *jobs, enum ramet_job_kind kind, struct ramet_job_info *ret,
                   struct ramet_error *err);

/* For how long nothing was stored; 0 while held. */
uint64_t ramet_jobs_quiet_us(struct ramet_jobs *jobs);

/* While held, recompression does not begin by itself, and a run that did is told to end. Returns `jobs`. */
struct ramet_jobs *ramet_jobs_hold(struct ramet_jobs *jobs);
void ramet_jobs_release(struct ramet_jobs *jobs);
void ramet_jobs_cleanup(struct ramet_jobs **jobs); /* releases; for _cleanup_ */

#endif
