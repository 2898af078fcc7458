/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two tables give the numbers their names; the text is written from them. A family's HELP and TYPE lines stand before
 * its first number. Names are part of the API: docs/operations.md lists them.
 */
#include "metrics.h"

#include "base/cleanup.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static const struct {
    uint64_t us;
    const char *seconds;
} bounds[RAMET_METRICS_BUCKETS] = {
    {500, "0.0005"},  {1000, "0.001"},  {2500, "0.0025"}, {5000, "0.005"},  {10000, "0.01"},
    {25000, "0.025"}, {50000, "0.05"},  {100000, "0.1"},  {250000, "0.25"}, {500000, "0.5"},
    {1000000, "1"},   {2500000, "2.5"}, {5000000, "5"},   {10000000, "10"},
};

struct name {
    const char *family, *help, *label, *label_value;
};

#define CAPTURE(step)                                                                                                  \
    {                                                                                                                  \
        "ramet_capture_seconds", "Steps of a capture, of forks and snapshots.", "step", step                           \
    }
#define CHILD(step)                                                                                                    \
    {                                                                                                                  \
        "ramet_child_seconds", "A child of a fork, a restore or rollback; running and answer: since the call began.",  \
            "step", step                                                                                               \
    }
#define CALL(call)                                                                                                     \
    {                                                                                                                  \
        "ramet_call_seconds", "Whole calls that succeeded.", "call", call                                              \
    }

/* clang-format off */
static const struct name durations[RAMET_DURATIONS] = {
    [RAMET_DURATION_PREPARE] = CAPTURE("prepare"),
    [RAMET_DURATION_PAUSE] = CAPTURE("pause"),
    [RAMET_DURATION_STOP] = CAPTURE("stop"),
    [RAMET_DURATION_STATE] = CAPTURE("state"),
    [RAMET_DURATION_SCAN] = CAPTURE("scan"),
    [RAMET_DURATION_COPY] = CAPTURE("copy"),
    [RAMET_DURATION_HOLD] = CAPTURE("hold"),
    [RAMET_DURATION_FREEZE] = CAPTURE("freeze"),
    [RAMET_DURATION_RESUME] = CAPTURE("resume"),
    [RAMET_DURATION_COLLECT] = CAPTURE("collect"),
    [RAMET_DURATION_SPAWN] = CHILD("spawn"),
    [RAMET_DURATION_LOAD] = CHILD("load"),
    [RAMET_DURATION_START] = CHILD("start"),
    [RAMET_DURATION_RUNNING] = CHILD("running"),
    [RAMET_DURATION_ANSWER] = CHILD("answer"),
    [RAMET_DURATION_FORK] = CALL("fork"),
    [RAMET_DURATION_BOOT] = CALL("boot"),
    [RAMET_DURATION_RESTORE] = CALL("restore"),
    [RAMET_DURATION_SNAPSHOT] = CALL("snapshot"),
    [RAMET_DURATION_ROLLBACK] = CALL("rollback"),
    [RAMET_DURATION_PROMOTE] = CALL("promote"),
    [RAMET_DURATION_COMMIT] = {"ramet_commit_seconds", "A snapshot in the queue, and until it is durable.", NULL, NULL},
};

#define DONE(what) {"ramet_operations_total", "Calls, failed ones included.", "operation", what}
#define FAILED(what) {"ramet_failures_total", "Failed calls; commit: snapshots not made durable.", "operation", what}
#define STARTED(how) {"ramet_restored_vms_total", "VMMs of children, restores and rollbacks: had they waited?", "vmm", how}

static const struct name counts[RAMET_COUNTS] = {
    [RAMET_COUNT_FORK] = DONE("fork"),
    [RAMET_COUNT_BOOT] = DONE("boot"),
    [RAMET_COUNT_RESTORE] = DONE("restore"),
    [RAMET_COUNT_SNAPSHOT] = DONE("snapshot"),
    [RAMET_COUNT_ROLLBACK] = DONE("rollback"),
    [RAMET_COUNT_PROMOTE] = DONE("promote"),
    [RAMET_COUNT_FORK_FAILED] = FAILED("fork"),
    [RAMET_COUNT_BOOT_FAILED] = FAILED("boot"),
    [RAMET_COUNT_RESTORE_FAILED] = FAILED("restore"),
    [RAMET_COUNT_SNAPSHOT_FAILED] = FAILED("snapshot"),
    [RAMET_COUNT_ROLLBACK_FAILED] = FAILED("rollback"),
    [RAMET_COUNT_PROMOTE_FAILED] = FAILED("promote"),
    [RAMET_COUNT_COMMIT_FAILED] = FAILED("commit"),
    [RAMET_COUNT_POOLED] = STARTED("pooled"),
    [RAMET_COUNT_SPAWNED] = STARTED("spawned"),
};
/* clang-format on */

void ramet_metrics_observe(struct ramet_metrics *metrics, enum ramet_duration which, uint64_t us)
{
    size_t bucket = 0;
    if (us == 0)
        return;
    while (bucket < RAMET_METRICS_BUCKETS && us > bounds[bucket].us)
        bucket++;
    atomic_fetch_add_explicit(&metrics->durations[which].buckets[bucket], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&metrics->durations[which].sum_us, us, memory_order_relaxed);
}

void ramet_metrics_count(struct ramet_metrics *metrics, enum ramet_count which)
{
    atomic_fetch_add_explicit(&metrics->counts[which], 1, memory_order_relaxed);
}

/* HELP and TYPE, unless the number before was of the same family. */
static void write_head(FILE *out, const char **last, const char *family, const char *help, const char *type)
{
    if (!*last || strcmp(*last, family) != 0)
        fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", family, help, family, type);
    *last = family;
}

/* {label="value"}, or nothing. */
static void write_labels(FILE *out, const char *label, const char *value)
{
    if (label)
        fprintf(out, "{%s=\"%s\"}", label, value);
}

static void write_histogram(FILE *out, struct ramet_metrics *metrics, enum ramet_duration which)
{
    const struct name *name = &durations[which];
    uint64_t count = 0, sum_us = atomic_load_explicit(&metrics->durations[which].sum_us, memory_order_relaxed);
    for (size_t i = 0; i <= RAMET_METRICS_BUCKETS; i++) {
        count += atomic_load_explicit(&metrics->durations[which].buckets[i], memory_order_relaxed);
        fprintf(out, "%s_bucket{", name->family);
        if (name->label)
            fprintf(out, "%s=\"%s\",", name->label, name->label_value);
        fprintf(out, "le=\"%s\"} %" PRIu64 "\n", i < RAMET_METRICS_BUCKETS ? bounds[i].seconds : "+Inf", count);
    }
    fprintf(out, "%s_sum", name->family);
    write_labels(out, name->label, name->label_value);
    fprintf(out, " %" PRIu64 ".%06" PRIu64 "\n%s_count", sum_us / 1000000, sum_us % 1000000, name->family);
    write_labels(out, name->label, name->label_value);
    fprintf(out, " %" PRIu64 "\n", count);
}

static void write_all(FILE *out, struct ramet_metrics *metrics, const struct ramet_gauge *gauges, size_t gauge_count)
{
    const char *last = NULL;
    for (size_t i = 0; i < RAMET_DURATIONS; i++) {
        write_head(out, &last, durations[i].family, durations[i].help, "histogram");
        write_histogram(out, metrics, (enum ramet_duration)i);
    }
    for (size_t i = 0; i < RAMET_COUNTS; i++) {
        write_head(out, &last, counts[i].family, counts[i].help, "counter");
        fputs(counts[i].family, out);
        write_labels(out, counts[i].label, counts[i].label_value);
        fprintf(out, " %" PRIu64 "\n", atomic_load_explicit(&metrics->counts[i], memory_order_relaxed));
    }
    for (size_t i = 0; i < gauge_count; i++) {
        write_head(out, &last, gauges[i].name, gauges[i].help, "gauge");
        fputs(gauges[i].name, out);
        write_labels(out, gauges[i].label, gauges[i].label_value);
        fprintf(out, " %" PRIu64 "\n", gauges[i].value);
    }
}

int ramet_metrics_text(struct ramet_metrics *metrics, const struct ramet_gauge *gauges, size_t gauge_count, char **ret,
                       struct ramet_error *err)
{
    _autofree_ char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for metrics");
    write_all(out, metrics, gauges, gauge_count);
    bool failed = ferror(out);
    if (fclose(out) != 0 || failed)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for metrics");
    *ret = STEAL(text);
    return 0;
}
