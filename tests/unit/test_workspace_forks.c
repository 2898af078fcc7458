/* SPDX-License-Identifier: Apache-2.0 */
/* Two hundred forks of one workspace, written in parallel, compared, merged with conflicts, discarded; the space is
 * back. */
#include "workspace_fixture.h"

#include "store.h"
#include "workspace/cost.h"
#include "workspace/diff.h"
#include "workspace/merge.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { forks = 200, threads = 4, lines = 2 * forks, private_bytes = 300000 };

struct job {
    struct world *world;
    struct ramet_workspace **forks;
    int first;
};

/* Every tenth fork changes a line that the others of its kind change too. */
static bool conflicts(int i) { return i % 10 == 0; }

static void fill_private(int i, uint8_t *bytes)
{
    uint64_t x = (uint64_t)i * UINT64_C(0x9e3779b97f4a7c15) + 1;
    for (size_t k = 0; k < private_bytes; k++) {
        x = x * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        bytes[k] = (uint8_t)(x >> 56);
    }
}

static const char *write_fork(struct job *job, int i, uint8_t *bytes)
{
    struct ramet_workspace *fork = job->forks[i];
    struct ramet_error e;
    struct ramet_wstat stat;
    char name[32];
    uint64_t text;
    snprintf(name, sizeof name, "private-%d", i);
    fill_private(i, bytes);
    if (ramet_wfile_make(fork, RAMET_ROOT, name, S_IFREG | 0644, 0, 0, OWNER, &stat, &e) < 0 ||
        ramet_wfile_write(fork, stat.ino, 0, bytes, private_bytes, false, false, NULL, &e) < 0 ||
        ramet_wfile_lookup(fork, RAMET_ROOT, "text", &stat, &e) < 0)
        return "write";
    text = stat.ino;
    /* Lines are of ten bytes, and every second one belongs to a fork. */
    snprintf(name, sizeof name, "fork %4d\n", i);
    if (ramet_wfile_write(fork, text, (uint64_t)i * 20, name, 10, false, false, NULL, &e) < 0)
        return "text";
    if (conflicts(i) && (ramet_wfile_lookup(fork, RAMET_ROOT, "contended", &stat, &e) < 0 ||
                         ramet_wfile_write(fork, stat.ino, 0, name, 10, false, false, NULL, &e) < 0))
        return "contended";
    if (ramet_wfile_lookup(fork, RAMET_ROOT, "large", &stat, &e) < 0 ||
        ramet_wfile_write(fork, stat.ino, stat.size, name, 10, false, false, NULL, &e) < 0)
        return "large";
    struct ramet_wstat attr = {.size = stat.size};
    return ramet_wfile_set(fork, stat.ino, &attr, RAMET_WSET_SIZE, &stat, &e) < 0 ? "truncate" : NULL;
}

static void *write_forks(void *ctx)
{
    struct job *job = ctx;
    uint8_t *bytes = malloc(private_bytes);
    const char *wrong = NULL;
    char name[32];
    struct ramet_error e;
    for (int i = job->first; i < forks && !wrong; i += threads) {
        snprintf(name, sizeof name, "fork-%d", i);
        wrong = ramet_workspace_fork(job->world->ws, name, &job->forks[i], &e) < 0 ? "fork" : write_fork(job, i, bytes);
    }
    free(bytes);
    return (void *)wrong;
}

static void write_all(struct world *world, struct ramet_workspace **all)
{
    pthread_t ids[threads];
    struct job jobs[threads];
    for (int t = 0; t < threads; t++) {
        jobs[t] = (struct job){world, all, t};
        assert_int_equal(pthread_create(&ids[t], NULL, write_forks, &jobs[t]), 0);
    }
    for (int t = 0; t < threads; t++) {
        void *wrong;
        pthread_join(ids[t], &wrong);
        if (wrong)
            fail_msg("%s fails", (const char *)wrong);
    }
}

static void expect_differences(struct world *world, struct ramet_workspace *fork, int i)
{
    struct ramet_wdiff *diff;
    struct ramet_wcost cost;
    check_ok(ramet_wdiff_make(world->ws, fork, &diff, &err));
    assert_int_equal(diff->count, conflicts(i) ? 3 : 2);
    ramet_wdiff_free(diff);
    check_ok(ramet_workspace_cost(fork, NULL, &cost, &err));
    /* Its own file, a page of the text, and what is left of an append to the large one: the file it did not copy. */
    assert_in_range(cost.pages, 74, 78);
    assert_in_range(cost.records, 5, 12);
}

/* The first of the contenders wins; the others are told, and merged when it is said how. */
static void merge_fork(struct world *world, struct ramet_workspace *fork, int i)
{
    struct ramet_wresolution resolution = {"contended", RAMET_WTAKE_OURS};
    struct ramet_wmerge_options options = {0};
    struct ramet_wmerge_result result;
    check_ok(ramet_workspace_merge(world->ws, fork, &options, &result, &err));
    assert_int_equal(result.applied, !conflicts(i) || i == 0);
    if (!result.applied) {
        assert_int_equal(result.conflict_count, 1);
        assert_string_equal(result.conflicts[0].path, "contended");
        ramet_wmerge_result_free(&result);
        options = (struct ramet_wmerge_options){.resolutions = &resolution, .resolution_count = 1};
        check_ok(ramet_workspace_merge(world->ws, fork, &options, &result, &err));
        assert_true(result.applied);
    }
    ramet_wmerge_result_free(&result);
}

static void expect_merged(struct world *world)
{
    uint8_t *bytes = malloc(private_bytes);
    char *text = malloc(10 * lines + 1), name[32];
    for (int i = 0; i < forks; i++) {
        snprintf(name, sizeof name, "private-%d", i);
        fill_private(i, bytes);
        expect_bytes(world->ws, find(world->ws, RAMET_ROOT, name), bytes, private_bytes);
        snprintf(text + i * 20, 21, "fork %4d\nline %4d\n", i, 2 * i + 1);
    }
    size_t got;
    char *buf = malloc(10 * lines);
    check_ok(ramet_wfile_read(world->ws, find(world->ws, RAMET_ROOT, "text"), 0, buf, 10 * lines, &got, &err));
    assert_memory_equal(buf, text, 20 * forks);
    check_ok(ramet_wfile_read(world->ws, find(world->ws, RAMET_ROOT, "contended"), 0, buf, 10, &got, &err));
    assert_memory_equal(buf, "fork    0\n", 10);
    free(buf);
    free(text);
    free(bytes);
    expect_sound(world->ws);
}

static uint64_t live_bytes(struct world *world)
{
    struct ramet_gc_result result;
    uint64_t packs, index;
    for (int round = 0; round < 2; round++) {
        check_ok(ramet_workspaces_checkpoint(world->set, &err));
        check_ok(ramet_catalog_gc(world->catalog, &result, &err));
    }
    ramet_store_disk_bytes(world->store, &packs, &index);
    return packs;
}

static void two_hundred_forks(void **state)
{
    struct world *world = *state;
    struct ramet_workspace *all[forks];
    uint8_t *large = malloc(8 << 20);
    uint64_t text = make_file(world->ws, RAMET_ROOT, "text"), big = make_file(world->ws, RAMET_ROOT, "large");
    char line[32], name[32];
    for (int i = 0; i < lines; i++) {
        snprintf(line, sizeof line, "line %4d\n", i);
        put_bytes(world->ws, text, (uint64_t)i * 10, line, 10);
    }
    put_bytes(world->ws, make_file(world->ws, RAMET_ROOT, "contended"), 0, "nobody yet\n", 11);
    test_fill(large, 8 << 20);
    put_bytes(world->ws, big, 0, large, 8 << 20);
    uint64_t before = live_bytes(world);
    write_all(world, all);
    for (int i = 0; i < forks; i++)
        expect_differences(world, all[i], i);
    for (int i = 0; i < forks; i++)
        merge_fork(world, all[i], i);
    expect_merged(world);
    expect_bytes(world->ws, big, large, 8 << 20);
    uint64_t merged = live_bytes(world);
    assert_true(merged >= before + (uint64_t)forks * private_bytes * 9 / 10); /* random bytes */
    for (int i = 0; i < forks; i++) {
        check_ok(ramet_workspace_remove(all[i], &err));
        ramet_workspace_unref(all[i]);
        snprintf(name, sizeof name, "private-%d", i);
        check_ok(ramet_wfile_unlink(world->ws, RAMET_ROOT, name, NULL, &err));
    }
    uint64_t after = live_bytes(world);
    if (after > before + (merged - before) / 10)
        fail_msg("%llu bytes before, %llu with all forks, %llu after", (unsigned long long)before,
                 (unsigned long long)merged, (unsigned long long)after);
    expect_sound(world->ws);
    world_reopen(world);
    expect_bytes(world->ws, find(world->ws, RAMET_ROOT, "large"), large, 8 << 20);
    free(large);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(two_hundred_forks, world_setup, world_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
