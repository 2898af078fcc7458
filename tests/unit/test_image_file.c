/* SPDX-License-Identifier: Apache-2.0 */
/* Images from sparse files and back, on several threads: the same bytes, the same holes, and cheap over a parent. */
#include "testing.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "catalog.h"
#include "image_file.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { page = RAMET_PAGE_SIZE, mib = 1 << 20, size = 72 * mib };

struct fixture {
    char dir[64];
    struct ramet_store *store;
    struct ramet_catalog *catalog;
    uint8_t *bytes; /* what the file holds */
    int fd;
};

static struct ramet_error err;

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    const struct ramet_store_options options = {.threads = 4};
    char path[80];
    test_dir_make(f->dir);
    check_ok(ramet_store_open(f->dir, &options, &f->store, &err));
    check_ok(ramet_catalog_open(f->store, &f->catalog, &err));
    snprintf(path, sizeof path, "%s/file", f->dir);
    f->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(f->fd >= 0);
    f->bytes = calloc(1, size);
    assert_int_equal(ftruncate(f->fd, size), 0);
    /* Runs of data of any length at any place, among them one across a leaf and the last page. */
    for (int i = 0; i < 60; i++) {
        size_t run = (1 + test_below(300)) * page, at = test_below(size / page - run / page) * page;
        at = i == 0 ? 2 * mib - run / 2 / page * page : i == 1 ? size - run : at;
        test_fill(f->bytes + at, i % 2 ? run : run / 8);
        assert_int_equal(pwrite(f->fd, f->bytes + at, run, (off_t)at), run);
    }
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    close(f->fd);
    free(f->bytes);
    ramet_catalog_close(f->catalog);
    ramet_store_close(f->store);
    test_dir_remove(f->dir);
    free(f);
    return 0;
}

/* Puts the file, checks that the image holds the bytes, and gives the map and what it added. */
static uint64_t put_and_compare(struct fixture *f, const struct ramet_page_map *base, struct ramet_page_map *map)
{
    struct ramet_ingest *ingest;
    struct ramet_image *image;
    uint64_t stored = 0;
    check_ok(ramet_ingest_begin(f->store, &ingest, &err));
    check_ok(ramet_image_put_file(f->store, ingest, f->fd, "file", size, base, map, &err));
    check_ok(ramet_ingest_stored_bytes(ingest, &stored, &err));
    check_ok(ramet_ingest_commit(ingest, NULL, &err));
    ramet_ingest_end(ingest);
    check_ok(ramet_image_new_stored(ramet_catalog_images(f->catalog), size, map->root, &image, &err));
    uint8_t *got = malloc(size);
    check_ok(ramet_image_read(image, 0, got, size, &err));
    assert_memory_equal(got, f->bytes, size);
    free(got);
    ramet_image_unref(image);
    return stored;
}

static void a_file_comes_back_with_its_holes(void **state)
{
    struct fixture *f = *state;
    struct ramet_page_map map;
    struct ramet_image *image;
    struct stat in, out;
    uint64_t written = 0;
    char path[80];
    put_and_compare(f, NULL, &map);
    check_ok(ramet_image_new_stored(ramet_catalog_images(f->catalog), size, map.root, &image, &err));
    snprintf(path, sizeof path, "%s/restored", f->dir);
    _autoclose_ int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    check_ok(ramet_image_write_file(image, fd, path, &written, &err));
    ramet_image_unref(image);
    uint8_t *got = malloc(size);
    check_ok(ramet_file_read(fd, path, got, size, 0, &err));
    assert_memory_equal(got, f->bytes, size);
    free(got);
    assert_int_equal(fsync(f->fd) | fsync(fd), 0);
    assert_int_equal(fstat(f->fd, &in) | fstat(fd, &out), 0);
    assert_int_equal(out.st_size, size);
    assert_true(out.st_blocks <= in.st_blocks + 64);
}

/* Some pages change a little, some wholly, some become holes, some holes become data. */
static void a_later_state_costs_what_changed(void **state)
{
    struct fixture *f = *state;
    struct ramet_page_map first, second, third;
    uint64_t stored = put_and_compare(f, NULL, &first);
    for (int i = 0; i < 200; i++) {
        size_t at = test_below(size / page) * page;
        if (i % 4 == 0)
            test_fill(f->bytes + at, page);
        else if (i % 4 == 1)
            memset(f->bytes + at, 0, page);
        else
            test_fill(f->bytes + at + test_below(page - 8), 8);
        assert_int_equal(pwrite(f->fd, f->bytes + at, page, (off_t)at), page);
    }
    uint64_t added = put_and_compare(f, &first, &second);
    assert_true(added < 50 * page + 150 * 400 + 36 * 400);
    assert_true(added < stored / 4);
    assert_int_equal(put_and_compare(f, &second, &third), 0);
    assert_int_equal(second.root, third.root);
}

/* Without a parent every page is found by its hash all the same. */
static void a_known_file_costs_nothing_without_a_parent(void **state)
{
    struct fixture *f = *state;
    struct ramet_page_map first, second;
    uint64_t stored = put_and_compare(f, NULL, &first), added = put_and_compare(f, NULL, &second);
    /* But for the pages that are gathered near their neighbours, 2 %, and the map that names them. */
    assert_true(added < stored / 20 + 36 * page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_file_comes_back_with_its_holes, setup, teardown),
        cmocka_unit_test_setup_teardown(a_later_state_costs_what_changed, setup, teardown),
        cmocka_unit_test_setup_teardown(a_known_file_costs_nothing_without_a_parent, setup, teardown),
    };
    return cmocka_run_group_tests_name("image_file", tests, NULL, NULL);
}
