/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the service did since the daemon started: how long each step took, how often each thing was done or failed.
 * In the text format of Prometheus, version 0.0.4.
 *
 * Thread-safe and lock-free: numbers are counted with relaxed atomics. A reading taken meanwhile may have one number
 * of an observation and not yet the other; each histogram agrees with itself.
 */
#ifndef RAMET_API_METRICS_H
#define RAMET_API_METRICS_H

#include "base/error.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

/* Those of one family follow each other. */
enum ramet_duration {
    RAMET_DURATION_PREPARE, /* a capture's steps, of forks and snapshots alike */
    RAMET_DURATION_PAUSE,
    RAMET_DURATION_STOP,
    RAMET_DURATION_STATE,
    RAMET_DURATION_SCAN,
    RAMET_DURATION_COPY,
    RAMET_DURATION_HOLD,
    RAMET_DURATION_FREEZE,
    RAMET_DURATION_RESUME,
    RAMET_DURATION_COLLECT,
    RAMET_DURATION_SPAWN, /* a child's; the last two since its call began */
    RAMET_DURATION_LOAD,
    RAMET_DURATION_START,
    RAMET_DURATION_RUNNING,
    RAMET_DURATION_ANSWER,
    RAMET_DURATION_FORK, /* whole calls that succeeded */
    RAMET_DURATION_BOOT,
    RAMET_DURATION_RESTORE,
    RAMET_DURATION_SNAPSHOT,
    RAMET_DURATION_ROLLBACK,
    RAMET_DURATION_PROMOTE,
    RAMET_DURATION_COMMIT, /* of a snapshot: in the queue, and until it is durable */
    RAMET_DURATIONS
};

enum ramet_count {
    RAMET_COUNT_FORK, /* calls, failed ones included */
    RAMET_COUNT_BOOT,
    RAMET_COUNT_RESTORE,
    RAMET_COUNT_SNAPSHOT,
    RAMET_COUNT_ROLLBACK,
    RAMET_COUNT_PROMOTE,
    RAMET_COUNT_FORK_FAILED,
    RAMET_COUNT_BOOT_FAILED,
    RAMET_COUNT_RESTORE_FAILED,
    RAMET_COUNT_SNAPSHOT_FAILED,
    RAMET_COUNT_ROLLBACK_FAILED,
    RAMET_COUNT_PROMOTE_FAILED,
    RAMET_COUNT_COMMIT_FAILED,
    RAMET_COUNT_POOLED, /* children, restores and rollbacks in a VMM that waited */
    RAMET_COUNT_SPAWNED,
    RAMET_COUNTS
};

/* Upper bounds of the buckets: 0.5 ms to 10 s. */
#define RAMET_METRICS_BUCKETS 14

/* Zeroed to begin with. */
struct ramet_metrics {
    struct {
        _Atomic uint64_t buckets[RAMET_METRICS_BUCKETS + 1]; /* each alone; the last for what is slower */
        _Atomic uint64_t sum_us;
    } durations[RAMET_DURATIONS];
    _Atomic uint64_t counts[RAMET_COUNTS];
};

/* 0: the step did not happen, and is not counted. */
void ramet_metrics_observe(struct ramet_metrics *metrics, enum ramet_duration which, uint64_t us);
void ramet_metrics_count(struct ramet_metrics *metrics, enum ramet_count which);

/* What is the case now. Those of one name follow each other; help is the first one's. */
struct ramet_gauge {
    const char *name, *help;
    const char *label, *label_value; /* NULL: none */
    uint64_t value;
};

/* All of it as text, the caller's to free. */
int ramet_metrics_text(struct ramet_metrics *metrics, const struct ramet_gauge *gauges, size_t gauge_count, char **ret,
                       struct ramet_error *err);

#endif
