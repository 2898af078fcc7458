/* SPDX-License-Identifier: Apache-2.0 */
/* Copy-on-write: maps, images, overlays, snapshots and branches against plain arrays. */
#include "testing.h"

#include "base/file.h"
#include "catalog.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { page = RAMET_PAGE_SIZE, disk_pages = 1200, disk_bytes = disk_pages * page };

struct fixture {
    char dir[64];
    struct ramet_store *store;
    struct ramet_catalog *catalog;
};

static struct ramet_error err;

static void open_all(struct fixture *f)
{
    check_ok(ramet_store_open(f->dir, NULL, &f->store, &err));
    check_ok(ramet_catalog_open(f->store, &f->catalog, &err));
}

static void close_all(struct fixture *f)
{
    ramet_catalog_close(f->catalog);
    ramet_store_close(f->store);
    f->catalog = NULL;
    f->store = NULL;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    test_dir_make(f->dir);
    open_all(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    close_all(f);
    test_dir_remove(f->dir);
    free(f);
    return 0;
}

/* A durable snapshot of `model`, called `tag`, as disk0. */
static struct ramet_snapshot *make_snapshot(struct fixture *f, const uint8_t *model, const char *tag)
{
    struct ramet_snapshot *snapshot;
    struct ramet_image *zeros, *image;
    struct ramet_layer *layer;
    uint64_t *pages = calloc(disk_pages, sizeof *pages);
    int fd = memfd_create("model", 0);
    for (uint64_t i = 0; i < disk_pages; i++)
        pages[i] = i;
    check_ok(ramet_file_write(fd, "model", model, disk_bytes, 0, &err));
    check_ok(ramet_layer_new_packed(fd, pages, disk_pages, &layer, &err));
    check_ok(ramet_image_new_stored(ramet_catalog_images(f->catalog), disk_bytes, RAMET_CHUNK_ZERO, &zeros, &err));
    check_ok(ramet_image_new_layered(zeros, layer, &image, &err));
    ramet_image_unref(zeros);
    check_ok(ramet_snapshot_new(f->catalog, &snapshot, &err));
    check_ok(ramet_snapshot_add_image(snapshot, "disk0", image, &err));
    check_ok(ramet_catalog_add(f->catalog, snapshot, tag, &err));
    check_ok(ramet_catalog_commit(f->catalog, snapshot, &err));
    return snapshot;
}

static void expect_image(struct ramet_image *image, const uint8_t *model)
{
    uint8_t *got = malloc(disk_bytes);
    check_ok(ramet_image_read(image, 0, got, disk_bytes, &err));
    assert_memory_equal(got, model, disk_bytes);
    free(got);
}

static void expect_disk(struct ramet_overlay *disk, const uint8_t *model)
{
    uint8_t *got = malloc(disk_bytes);
    check_ok(ramet_overlay_read(disk, 0, got, disk_bytes, &err));
    assert_memory_equal(got, model, disk_bytes);
    free(got);
}

static uint8_t *sparse_model(void)
{
    uint8_t *model = calloc(1, disk_bytes);
    for (int i = 0; i < disk_pages; i += 3)
        test_fill(model + (size_t)i * page, page);
    return model;
}

/* A random write or discard, applied to disk and model alike. */
static void scribble(struct ramet_overlay *disk, uint8_t *model)
{
    static uint8_t bytes[5 * page];
    uint64_t size = 1 + test_below(test_below(2) ? 200 : sizeof bytes), offset = test_below(disk_bytes - size);
    if (test_below(8) == 0) {
        check_ok(ramet_overlay_discard(disk, offset, size, &err));
        memset(model + offset, 0, size);
        return;
    }
    test_fill(bytes, size);
    check_ok(ramet_overlay_write(disk, offset, bytes, size, &err));
    memcpy(model + offset, bytes, size);
}

static void a_map_equals_its_model(void **state)
{
    struct fixture *f = *state;
    enum { map_pages = 512 * 512 * 3 + 7, rounds = 6, changes_each = 300 };
    struct ramet_page_map map = {.page_count = map_pages}, previous;
    ramet_chunk *model = calloc(map_pages, sizeof *model), got[700];
    for (int round = 0; round < rounds; round++) {
        struct ramet_page_change changes[changes_each];
        struct ramet_ingest *ingest;
        uint64_t at = test_below(1000), changed;
        for (int i = 0; i < changes_each; i++, at += 1 + test_below(map_pages / changes_each - 10)) {
            changes[i] = (struct ramet_page_change){at, test_below(4) ? 16 + test_below(1000) : 0};
            model[at] = changes[i].chunk;
        }
        previous = map;
        check_ok(ramet_ingest_begin(f->store, &ingest, &err));
        check_ok(ramet_page_map_update(ingest, f->store, &map, changes, changes_each, &map, &err));
        check_ok(ramet_ingest_commit(ingest, NULL, &err));
        ramet_ingest_end(ingest);
        check_ok(ramet_page_map_diff(f->store, &previous, &map, &changed, &err));
        assert_in_range(changed, 1, changes_each);
        for (int i = 0; i < 50; i++) {
            uint64_t first = test_below(map_pages - 700);
            check_ok(ramet_page_map_lookup(f->store, &map, first, 700, got, &err));
            assert_memory_equal(got, model + first, sizeof got);
        }
    }
    uint64_t count, expected = 0, next;
    for (uint64_t i = 0; i < map_pages; i++)
        expected += model[i] != 0;
    check_ok(ramet_page_map_count(f->store, &map, &count, &err));
    assert_int_equal(count, expected);
    for (uint64_t i = 0; i < 50; i++) {
        uint64_t from = test_below(map_pages), want = from;
        while (want < map_pages && !model[want])
            want++;
        check_ok(ramet_page_map_next_data(f->store, &map, from, &next, &err));
        assert_int_equal(next, want);
    }
    check_fails(ramet_page_map_lookup(f->store, &map, map_pages - 1, 2, got, &err), RAMET_INVALID);
    free(model);
}

static void a_snapshot_survives_reopening_and_its_removal_frees_it(void **state)
{
    struct fixture *f = *state;
    uint8_t *model = sparse_model();
    struct ramet_snapshot *snapshot = make_snapshot(f, model, "base");
    struct ramet_gc_result gc;
    struct ramet_fsck_result fsck;
    expect_image(ramet_snapshot_image(snapshot, "disk0"), model);
    ramet_snapshot_unref(snapshot);
    close_all(f);
    open_all(f);
    check_ok(ramet_catalog_find(f->catalog, "base", &snapshot, &err));
    expect_image(ramet_snapshot_image(snapshot, "disk0"), model);
    check_ok(ramet_catalog_gc(f->catalog, &gc, &err));
    assert_int_equal(gc.dead_chunks, 0);
    check_ok(ramet_catalog_remove(f->catalog, snapshot, &err));
    check_fails(ramet_catalog_find(f->catalog, "base", &(struct ramet_snapshot *){0}, &err), RAMET_NOT_FOUND);
    /* While someone holds it, it is readable and nothing of it is freed. */
    check_ok(ramet_catalog_gc(f->catalog, &gc, &err));
    expect_image(ramet_snapshot_image(snapshot, "disk0"), model);
    ramet_snapshot_unref(snapshot);
    check_ok(ramet_catalog_gc(f->catalog, &gc, &err));
    assert_int_equal(gc.live_chunks, 0);
    check_ok(ramet_catalog_fsck(f->catalog, &fsck, &err));
    assert_int_equal(fsck.problems, 0);
    free(fsck.report);
    free(model);
}

static void an_uncommitted_snapshot_leaves_no_trace(void **state)
{
    struct fixture *f = *state;
    struct ramet_snapshot *snapshot;
    check_ok(ramet_snapshot_new(f->catalog, &snapshot, &err));
    check_ok(ramet_catalog_add(f->catalog, snapshot, "soon", &err));
    check_ok(ramet_catalog_tag(f->catalog, snapshot, "also", &err));
    ramet_snapshot_unref(snapshot);
    close_all(f);
    open_all(f);
    check_fails(ramet_catalog_find(f->catalog, "soon", &snapshot, &err), RAMET_NOT_FOUND);
    check_fails(ramet_catalog_find(f->catalog, "also", &snapshot, &err), RAMET_NOT_FOUND);
}

/* Two branches of one snapshot, written at random, frozen now and then: each equals its own model. */
static void branches_diverge_and_freezes_stand_still(void **state)
{
    struct fixture *f = *state;
    uint8_t *base = sparse_model(), *models[2], *frozen_model = malloc(disk_bytes);
    struct ramet_snapshot *snapshot = make_snapshot(f, base, "base");
    struct ramet_branch *branches[2];
    for (int i = 0; i < 2; i++) {
        struct ramet_branch_request request = {.name = i ? "b" : "a", .memory_bytes = 1, .cpus = 1};
        check_ok(ramet_catalog_branch_new(f->catalog, &request, snapshot, &branches[i], &err));
        models[i] = malloc(disk_bytes);
        memcpy(models[i], base, disk_bytes);
    }
    for (int round = 0; round < 8; round++) {
        struct ramet_image *frozen;
        uint64_t generation;
        for (int n = 0; n < 60; n++) {
            int i = (int)test_below(2);
            scribble(branches[i]->disks[0], models[i]);
        }
        memcpy(frozen_model, models[0], disk_bytes);
        check_ok(ramet_overlay_freeze(branches[0]->disks[0], &frozen, &generation, &err));
        for (int n = 0; n < 20; n++)
            scribble(branches[0]->disks[0], models[0]);
        expect_image(frozen, frozen_model);
        for (int i = 0; i < 2; i++)
            expect_disk(branches[i]->disks[0], models[i]);
        ramet_image_unref(frozen);
    }
    expect_image(ramet_snapshot_image(snapshot, "disk0"), base);
    for (int i = 0; i < 2; i++) {
        ramet_branch_unref(branches[i]);
        free(models[i]);
    }
    ramet_snapshot_unref(snapshot);
    free(base);
    free(frozen_model);
}

static void a_taken_name_is_refused(void **state)
{
    struct fixture *f = *state;
    uint8_t *model = sparse_model();
    struct ramet_snapshot *snapshot = make_snapshot(f, model, NULL);
    struct ramet_branch *branch, *again;
    struct ramet_branch_request request = {.name = "one"};
    check_ok(ramet_catalog_branch_new(f->catalog, &request, snapshot, &branch, &err));
    check_fails(ramet_catalog_branch_new(f->catalog, &request, snapshot, &again, &err), RAMET_EXISTS);
    request.name = "Not a name";
    check_fails(ramet_catalog_branch_new(f->catalog, &request, snapshot, &again, &err), RAMET_INVALID);
    request.name = "0123456789abcdef";
    check_fails(ramet_catalog_branch_new(f->catalog, &request, snapshot, &again, &err), RAMET_INVALID);
    ramet_branch_unref(branch);
    ramet_snapshot_unref(snapshot);
    free(model);
}

/* What was flushed before a crash is there after it, over several generations. */
static void flushed_writes_survive_a_crash(void **state)
{
#ifdef __SANITIZE_THREAD__
    skip(); /* the sanitizer cannot follow a fork of a process with threads */
#endif
    struct fixture *f = *state;
    uint8_t *model = sparse_model();
    struct ramet_snapshot *snapshot = make_snapshot(f, model, "base");
    ramet_snapshot_unref(snapshot);
    close_all(f);
    uint8_t *shared = mmap(NULL, disk_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    memcpy(shared, model, disk_bytes);
    pid_t child = fork();
    if (child == 0) {
        struct ramet_branch *branch;
        struct ramet_image *frozen;
        struct ramet_branch_request request = {.name = "crash"};
        uint64_t generation;
        open_all(f);
        check_ok(ramet_catalog_find(f->catalog, "base", &snapshot, &err));
        check_ok(ramet_catalog_branch_new(f->catalog, &request, snapshot, &branch, &err));
        for (int round = 0; round < 5; round++) {
            for (int n = 0; n < 40; n++)
                scribble(branch->disks[0], shared);
            if (round % 2) /* frozen before it is flushed: the flush must reach the sealed generation too */
                check_ok(ramet_overlay_freeze(branch->disks[0], &frozen, &generation, &err));
        }
        check_ok(ramet_overlay_flush(branch->disks[0], &err));
        _exit(0); /* no closing, no further flush */
    }
    int status;
    waitpid(child, &status, 0);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    struct ramet_branch *branch;
    open_all(f);
    check_ok(ramet_catalog_branch_find(f->catalog, "crash", &branch, &err));
    expect_disk(branch->disks[0], shared);
    ramet_branch_unref(branch);
    munmap(shared, disk_bytes);
    free(model);
}

static void fsck_names_the_snapshot_that_is_hit(void **state)
{
    struct fixture *f = *state;
    uint8_t *model = sparse_model(), byte;
    struct ramet_snapshot *snapshot = make_snapshot(f, model, "hit");
    struct ramet_fsck_result fsck;
    char path[128], id[RAMET_CATALOG_ID_SIZE];
    memcpy(id, snapshot->id, sizeof id);
    ramet_snapshot_unref(snapshot);
    close_all(f);
    snprintf(path, sizeof path, "%s/packs/00000001.pack", f->dir);
    int fd = open(path, O_RDWR);
    assert_int_equal(pread(fd, &byte, 1, 5000), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, 5000), 1);
    close(fd);
    open_all(f);
    check_ok(ramet_catalog_fsck(f->catalog, &fsck, &err));
    assert_true(fsck.problems >= 2);
    assert_non_null(strstr(fsck.report, "pack 00000001 at "));
    assert_non_null(strstr(fsck.report, id));
    free(fsck.report);
    free(model);
}

/* --- at once --- */

struct crowd {
    struct fixture *fixture;
    const uint8_t *base;
    struct ramet_snapshot *snapshot;
    atomic_bool done;
    pthread_mutex_t dice; /* the tests' generator is not thread-safe */
};

static bool image_equals(struct ramet_image *image, const uint8_t *model)
{
    uint8_t *got = malloc(disk_bytes);
    bool equal = ramet_image_read(image, 0, got, disk_bytes, NULL) == 0 && memcmp(got, model, disk_bytes) == 0;
    free(got);
    return equal;
}

/* Snapshots that share most pages with the base come, are checked and go. NULL when all were right. */
static void *come_and_go(void *arg)
{
    struct crowd *crowd = arg;
    uint8_t *model = malloc(disk_bytes);
    const char *problem = NULL;
    while (!atomic_load(&crowd->done) && !problem) {
        memcpy(model, crowd->base, disk_bytes);
        pthread_mutex_lock(&crowd->dice);
        for (int i = 0; i < 40; i++)
            test_fill(model + test_below(disk_pages) * page, 64);
        struct ramet_snapshot *snapshot = make_snapshot(crowd->fixture, model, NULL);
        pthread_mutex_unlock(&crowd->dice);
        if (!image_equals(ramet_snapshot_image(snapshot, "disk0"), model))
            problem = "a fresh snapshot is not what was put";
        if (ramet_catalog_remove(crowd->fixture->catalog, snapshot, NULL) < 0)
            problem = "a snapshot could not be removed";
        if (!image_equals(ramet_snapshot_image(snapshot, "disk0"), model))
            problem = "a removed snapshot that is still held lost pages";
        ramet_snapshot_unref(snapshot);
    }
    free(model);
    return (void *)problem;
}

static void *read_base(void *arg)
{
    struct crowd *crowd = arg;
    while (!atomic_load(&crowd->done)) {
        ramet_store_drop_caches(crowd->fixture->store);
        if (!image_equals(ramet_snapshot_image(crowd->snapshot, "disk0"), crowd->base))
            return "the base changed";
    }
    return NULL;
}

static void *collect(void *arg)
{
    struct crowd *crowd = arg;
    struct ramet_gc_result result;
    while (!atomic_load(&crowd->done))
        if (ramet_catalog_gc(crowd->fixture->catalog, &result, NULL) < 0)
            return "a collection failed";
    return NULL;
}

/* Ingests, reads, removals and collections beside one another: nothing in use is lost, nothing is left over. */
static void collecting_runs_beside_everything(void **state)
{
    struct fixture *f = *state;
    uint8_t *base = sparse_model();
    struct crowd crowd = {.fixture = f, .base = base, .snapshot = make_snapshot(f, base, "base")};
    void *(*const work[])(void *) = {come_and_go, come_and_go, read_base, collect};
    pthread_t threads[4];
    struct ramet_gc_result result;
    struct ramet_fsck_result fsck;
    pthread_mutex_init(&crowd.dice, NULL);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, work[i], &crowd), 0);
    sleep(3); /* how long they run, not something awaited */
    atomic_store(&crowd.done, true);
    for (int i = 0; i < 4; i++) {
        void *problem;
        pthread_join(threads[i], &problem);
        if (problem)
            fail_msg("%s", (const char *)problem);
    }
    check_ok(ramet_catalog_fsck(f->catalog, &fsck, &err));
    assert_string_equal(fsck.report, "");
    free(fsck.report);
    check_ok(ramet_catalog_remove(f->catalog, crowd.snapshot, &err));
    ramet_snapshot_unref(crowd.snapshot);
    check_ok(ramet_catalog_gc(f->catalog, &result, &err));
    assert_int_equal(result.live_chunks, 0);
    pthread_mutex_destroy(&crowd.dice);
    free(base);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_map_equals_its_model, setup, teardown),
        cmocka_unit_test_setup_teardown(a_snapshot_survives_reopening_and_its_removal_frees_it, setup, teardown),
        cmocka_unit_test_setup_teardown(an_uncommitted_snapshot_leaves_no_trace, setup, teardown),
        cmocka_unit_test_setup_teardown(branches_diverge_and_freezes_stand_still, setup, teardown),
        cmocka_unit_test_setup_teardown(a_taken_name_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(flushed_writes_survive_a_crash, setup, teardown),
        cmocka_unit_test_setup_teardown(fsck_names_the_snapshot_that_is_hit, setup, teardown),
        cmocka_unit_test_setup_teardown(collecting_runs_beside_everything, setup, teardown),
    };
    return cmocka_run_group_tests_name("cow", tests, NULL, NULL);
}
