/* SPDX-License-Identifier: Apache-2.0 */
/* What was let go between blocks that stay goes back to the kernel, in quiet moments only; what is in use is told. */
#include "testing.h"

#include "heap.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* One block in 32 stays, so that no arena ends in what was let go. */
enum { block_bytes = 32 << 10, blocks = 4096, kept = 32, tick_ms = 5 };

static _Atomic bool quiet;

static bool is_quiet(void *ctx)
{
    (void)ctx;
    return atomic_load(&quiet);
}

static uint64_t resident(void)
{
    unsigned long pages = 0;
    FILE *statm = fopen("/proc/self/statm", "re");
    assert_int_equal(fscanf(statm, "%*u %lu", &pages), 1);
    fclose(statm);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void free_some(void **all, bool rest)
{
    for (size_t i = 0; i < blocks; i++)
        if ((i % kept == 0) == rest)
            free(all[i]);
}

static bool shrinks_below(uint64_t bytes, unsigned tries)
{
    while (resident() >= bytes && tries-- > 0)
        usleep(tick_ms * 1000);
    return resident() < bytes;
}

static void memory_goes_back_when_it_is_quiet(void **state)
{
    static void *all[blocks];
    const struct ramet_heap_keeper_options options = {.is_quiet = is_quiet, .tick_ms = tick_ms};
    struct ramet_heap_keeper *keeper;
    struct ramet_error err = {0};
    struct ramet_heap_info before, full, after;
    (void)state;
    check_ok(ramet_heap_keeper_new(&options, &keeper, &err));
    ramet_heap_info(&before);
    uint64_t empty = resident();
    for (size_t i = 0; i < blocks; i++) {
        all[i] = malloc(block_bytes);
        memset(all[i], 1, block_bytes);
    }
    ramet_heap_info(&full);
    assert_in_range(full.allocated_bytes - before.allocated_bytes, (uint64_t)blocks * block_bytes, UINT32_MAX);
    free_some(all, false);
    ramet_heap_info(&after);
    assert_true(after.allocated_bytes < before.allocated_bytes + (8u << 20));
    assert_true(after.free_bytes > (uint64_t)blocks * block_bytes * 9 / 10);
    uint64_t bound = empty + RAMET_HEAP_KEPT + (4u << 20);
    assert_false(shrinks_below(bound, 40)); /* somebody would notice */
    atomic_store(&quiet, true);
    assert_true(shrinks_below(bound, 2000));
    ramet_heap_keeper_free(keeper);
    free_some(all, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(memory_goes_back_when_it_is_quiet)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
