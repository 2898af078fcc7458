/* SPDX-License-Identifier: Apache-2.0 */
/* Working sets: what goes in comes out, within bounds; a damaged one is told, unused and replaced; none outlives its
 * snapshot. */
#include "testing.h"

#include "base/cleanup.h"
#include "catalog.h"
#include "working_set.h"

#include <stdio.h>
#include <string.h>

enum { pages = 1000 };

static struct ramet_error err;

struct fixture {
    char dir[64];
    struct ramet_store *store;
    struct ramet_catalog *catalog;
    struct ramet_snapshot *snapshot;
};

static void open_all(struct fixture *f)
{
    char path[80];
    snprintf(path, sizeof path, "%s/store", f->dir);
    check_ok(ramet_store_open(path, NULL, &f->store, &err));
    check_ok(ramet_catalog_open(f->store, &f->catalog, &err));
}

static void close_all(struct fixture *f)
{
    ramet_snapshot_unref(STEAL(f->snapshot));
    ramet_catalog_close(STEAL(f->catalog));
    ramet_store_close(STEAL(f->store));
}

/* A durable snapshot of a memory of zeros. */
static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct ramet_image *memory;
    test_dir_make(f->dir);
    open_all(f);
    check_ok(ramet_snapshot_new(f->catalog, &f->snapshot, &err));
    check_ok(ramet_image_new_stored(ramet_catalog_images(f->catalog), pages * RAMET_PAGE_SIZE, RAMET_CHUNK_ZERO,
                                    &memory, &err));
    check_ok(ramet_snapshot_add_image(f->snapshot, "memory", memory, &err));
    check_ok(ramet_catalog_add(f->catalog, f->snapshot, NULL, &err));
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

static void put(struct fixture *f, uint64_t first, uint64_t step, size_t count)
{
    struct ramet_working_set set = {.recorded_ms = 1234};
    for (size_t i = 0; i < count; i++)
        check_ok(ramet_working_set_add(&set, first + i * step, &err));
    check_ok(ramet_catalog_working_set_put(f->catalog, f->snapshot, &set, &err));
    ramet_working_set_free(&set);
}

static void comes_back_in_order(void **state)
{
    struct fixture *f = *state;
    static const uint64_t order[] = {700, 701, 702, 5, 999, 6};
    struct ramet_working_set set = {.recorded_ms = 77}, found;
    char id[RAMET_CATALOG_ID_SIZE];
    memcpy(id, f->snapshot->id, sizeof id);
    check_fails(ramet_catalog_working_set_put(f->catalog, f->snapshot, &set, &err), RAMET_NOT_FOUND); /* not durable */
    check_ok(ramet_catalog_commit(f->catalog, f->snapshot, &err));
    check_fails(ramet_catalog_working_set_get(f->catalog, f->snapshot, &found, &err), RAMET_NOT_FOUND);
    for (size_t i = 0; i < sizeof order / sizeof *order; i++)
        check_ok(ramet_working_set_add(&set, order[i], &err));
    check_ok(ramet_catalog_working_set_put(f->catalog, f->snapshot, &set, &err));
    ramet_working_set_free(&set);
    close_all(f);
    open_all(f);
    check_ok(ramet_catalog_find(f->catalog, id, &f->snapshot, &err));
    check_ok(ramet_catalog_working_set_get(f->catalog, f->snapshot, &found, &err));
    assert_int_equal(found.recorded_ms, 77);
    assert_int_equal(found.page_count, 6);
    assert_int_equal(found.run_count, 4);
    size_t at = 0;
    for (size_t i = 0; i < found.run_count; i++)
        for (uint32_t j = 0; j < found.runs[i].count; j++)
            assert_int_equal(found.runs[i].first + j, order[at++]);
    ramet_working_set_free(&found);
}

static void is_bounded(void **state)
{
    (void)state;
    struct ramet_working_set set = {0};
    for (uint64_t i = 0; i < RAMET_WORKING_SET_RUNS; i++)
        check_ok(ramet_working_set_add(&set, i * 2, &err));
    check_fails(ramet_working_set_add(&set, 1 << 30, &err), RAMET_TOO_LARGE);
    ramet_working_set_free(&set);
    for (uint64_t i = 0; i < RAMET_WORKING_SET_PAGES; i++)
        check_ok(ramet_working_set_add(&set, i, &err));
    check_fails(ramet_working_set_add(&set, RAMET_WORKING_SET_PAGES, &err), RAMET_TOO_LARGE);
    ramet_working_set_free(&set);
    check_fails(ramet_working_set_add(&set, UINT64_C(1) << 32, &err), RAMET_TOO_LARGE);
}

static void key_of(const struct fixture *f, char key[64]) { snprintf(key, 64, "working-set/%s", f->snapshot->id); }

/* Flips a bit of the record. */
static void damage(struct fixture *f, size_t offset)
{
    char key[64];
    _autofree_ uint8_t *value = NULL;
    size_t size;
    struct ramet_kv *kv = ramet_store_kv(f->store);
    _cleanup_(ramet_kv_batch_cleanup) struct ramet_kv_batch *batch = ramet_kv_batch_new(kv);
    key_of(f, key);
    check_ok(ramet_kv_get(kv, RAMET_KV_META, key, strlen(key), (void **)&value, &size, &err));
    value[offset % size] ^= 4;
    ramet_kv_put(batch, RAMET_KV_META, key, strlen(key), value, size);
    check_ok(ramet_kv_write(kv, batch, true, &err));
}

static void expect_problems(struct fixture *f, uint64_t count)
{
    struct ramet_fsck_result result;
    check_ok(ramet_catalog_fsck(f->catalog, &result, &err));
    assert_int_equal(result.problems, count);
    assert_int_equal(!!strstr(result.report, "records it anew"), count);
    free(result.report);
}

static void damage_is_told_and_replaced(void **state)
{
    struct fixture *f = *state;
    struct ramet_working_set found = {.page_count = 3};
    check_ok(ramet_catalog_commit(f->catalog, f->snapshot, &err));
    for (size_t offset = 0; offset < 40; offset++) {
        put(f, 1, 3, 100);
        expect_problems(f, 0);
        damage(f, offset);
        int r = ramet_catalog_working_set_get(f->catalog, f->snapshot, &found, &err);
        assert_true(r == -RAMET_CORRUPT || r == -RAMET_UNSUPPORTED);
        assert_int_equal(found.page_count, 3);
        expect_problems(f, r == -RAMET_CORRUPT);
    }
    put(f, 990, 1, 11); /* one page too far for this memory */
    check_fails(ramet_catalog_working_set_get(f->catalog, f->snapshot, &found, &err), RAMET_CORRUPT);
}

static void goes_with_its_snapshot(void **state)
{
    struct fixture *f = *state;
    struct ramet_working_set set = {0}, found;
    char key[64];
    void *value;
    size_t size;
    check_ok(ramet_catalog_commit(f->catalog, f->snapshot, &err));
    put(f, 0, 1, 10);
    check_ok(ramet_catalog_remove(f->catalog, f->snapshot, &err));
    check_fails(ramet_catalog_working_set_get(f->catalog, f->snapshot, &found, &err), RAMET_NOT_FOUND);
    check_fails(ramet_catalog_working_set_put(f->catalog, f->snapshot, &set, &err), RAMET_NOT_FOUND);
    key_of(f, key);
    check_fails(ramet_kv_get(ramet_store_kv(f->store), RAMET_KV_META, key, strlen(key), &value, &size, &err),
                RAMET_NOT_FOUND);
}

/* Pages in any order, from an image in the store and from one that is not there yet. */
static void lists_read_as_pages_do(void **state)
{
    struct fixture *f = *state;
    static const uint64_t list[] = {7, 8, 2, 999, 0, 3};
    uint8_t bytes[6 * RAMET_PAGE_SIZE], zeros[RAMET_PAGE_SIZE] = {0}, filled[RAMET_PAGE_SIZE];
    struct ramet_page_map map = {.page_count = pages};
    struct ramet_page_change changes[4];
    struct ramet_ingest *ingest;
    struct ramet_image *image;
    uint64_t outside = pages;
    check_ok(ramet_ingest_begin(f->store, &ingest, &err));
    for (uint64_t i = 0; i < 4; i++) {
        memset(filled, (int)i + 1, sizeof filled);
        changes[i].page = i * 4 - (i > 0); /* 0, 3, 7, 11 */
        check_ok(ramet_ingest_put(ingest, RAMET_CHUNK_DATA, filled, 1, NULL, &changes[i].chunk, &err));
    }
    check_ok(ramet_page_map_update(ingest, f->store, &map, changes, 4, &map, &err));
    check_ok(ramet_ingest_commit(ingest, NULL, &err));
    ramet_ingest_end(ingest);
    check_ok(ramet_image_new_stored(ramet_catalog_images(f->catalog), pages * RAMET_PAGE_SIZE, map.root, &image, &err));
    check_ok(ramet_image_read_list(image, list, 6, bytes, &err));
    for (size_t i = 0; i < 6; i++) {
        memset(filled, list[i] == 7 ? 3 : list[i] == 0 ? 1 : 2, sizeof filled);
        bool data = list[i] == 7 || list[i] == 0 || list[i] == 3;
        assert_memory_equal(bytes + i * RAMET_PAGE_SIZE, data ? filled : zeros, RAMET_PAGE_SIZE);
    }
    check_fails(ramet_image_read_list(image, &outside, 1, bytes, &err), RAMET_INVALID);
    ramet_image_unref(image);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(comes_back_in_order, setup, teardown),
        cmocka_unit_test(is_bounded),
        cmocka_unit_test_setup_teardown(damage_is_told_and_replaced, setup, teardown),
        cmocka_unit_test_setup_teardown(goes_with_its_snapshot, setup, teardown),
        cmocka_unit_test_setup_teardown(lists_read_as_pages_do, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
