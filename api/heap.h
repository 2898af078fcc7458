/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's heap: how many arenas there are, and when what was let go in them goes back to
 * the kernel.
 *
 * Commits, collections and reads allocate frames by the thousand and let most of them go,
 * between others that stay. glibc gives back only what lies at an arena's end, so the daemon
 * stayed as large as it ever was and grew with every burst that did not fit the gaps: after
 * 20 minutes of random forks 218 MiB were resident, of which 150 were free. The keeper calls
 * malloc_trim, which gives back whole pages wherever they lie; it takes an arena's lock for
 * milliseconds, hence only in quiet moments, and only when there is something to give back.
 */
#ifndef RAMET_API_HEAP_H
#define RAMET_API_HEAP_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

/* Before other threads begin. */
void ramet_heap_limit_arenas(void);

struct ramet_heap_info {
    uint64_t allocated_bytes; /* by malloc, and in use */
    uint64_t free_bytes;      /* let go, whether or not the kernel has it back */
};
void ramet_heap_info(struct ramet_heap_info *ret);

struct ramet_heap_keeper;

struct ramet_heap_keeper_options {
    bool (*is_quiet)(void *ctx); /* whether nobody would notice a pause of milliseconds */
    void *ctx;
    unsigned tick_ms; /* how often it looks; 0: every 2 s */
};

int ramet_heap_keeper_new(const struct ramet_heap_keeper_options *options, struct ramet_heap_keeper **ret,
                          struct ramet_error *err);
void ramet_heap_keeper_free(struct ramet_heap_keeper *keeper); /* NULL is a no-op */

/* Bytes that may be let go and resident. */
#define RAMET_HEAP_KEPT (16 << 20)

#endif
