/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What ramet-scale-bench and ramet-branch-bench share. Results are lines of JSON on standard
 * output, {"name", "unit", "samples"}, which the scripts gather; any failure ends the
 * program with its message.
 */
#ifndef RAMET_BENCH_TOOL_H
#define RAMET_BENCH_TOOL_H

#include "catalog.h"

extern _Thread_local struct ramet_error err; /* of the call that runs() is given */

/* Ends the program when the call failed. */
void runs(int r);
void *make_memory(size_t size);
void emit(const char *name, const char *unit, const double *samples, size_t count);
void emit_one(const char *name, const char *unit, double sample);

struct bench_store {
    struct ramet_store *store;
    struct ramet_catalog *catalog;
};
struct bench_store bench_open(const char *dir);
void bench_close(struct bench_store *bench);

uint64_t mix64(uint64_t n); /* splitmix64 of n: the same for the same n */
/* Page `n` of an endless row of distinct ones: `entropy` bytes of its own, over and over. */
void fill_page(uint8_t *page, uint64_t n, size_t entropy);
/* A durable snapshot of one image "memory" of the pages numbers[0..count). One reference of the caller's. */
struct ramet_snapshot *store_pages(struct bench_store *bench, const uint64_t *numbers, size_t count, size_t entropy,
                                   const char *tag);

double status_mib(const char *field); /* of /proc/self/status: "VmRSS", "VmHWM" */
void reset_peak(void);                /* VmHWM begins anew */
double pack_mib(const char *dir);     /* blocks of the packs */

/* The index's bytes once background work on it has ended. */
uint64_t settled_bytes(struct ramet_kv *kv);

int gc_load(int argc, char **argv);                /* gc_load.c */
int index_alone(const char *dir, uint64_t chunks); /* index.c */

#endif
