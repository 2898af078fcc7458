/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: whichever allocation fails under a call of ramet_memory.h, the call fails or does all it should; a branch whose
 * snapshot failed is as before, one whose rollback failed is right after the next. (What the disk may do to a commit is
 * tried on the catalog, by test_store_faults.c.)
 */
#include "testing.h"

#include "faults.h"
#include "ramet_memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PAGES = 600, PAGE = 4096, SIZE = PAGES * PAGE };

static struct ramet_error err;
static char dir[64];
static struct ramet_memory_store *store;

/* What a memory should hold: each page begins with its number. */
struct model {
    uint64_t words[PAGES];
};

static bool struck;

static void calm(void) { struck = faults_disarm(); }

/* A parent that was snapshotted twice, and went on writing. */
struct life {
    struct ramet_memory_image *empty, *first, *second;
    struct ramet_memory_branch *parent;
    struct model first_model, second_model, now;
};

static uint64_t *word(struct ramet_memory_branch *branch, size_t page)
{
    return (uint64_t *)((uint8_t *)ramet_memory_address(branch) + page * PAGE);
}

static void write_pages(struct ramet_memory_branch *branch, struct model *model)
{
    for (int i = 0; i < 80; i++) {
        size_t page = test_below(PAGES);
        *word(branch, page) = model->words[page] = test_random();
    }
}

static void assert_holds(struct ramet_memory_branch *branch, const struct model *model)
{
    for (size_t page = 0; page < PAGES; page++)
        assert_int_equal(*word(branch, page), model->words[page]);
}

static void assert_image_holds(struct ramet_memory_image *image, const struct model *model)
{
    struct ramet_memory_branch *branch;
    check_ok(ramet_memory_branch(image, &branch, &err));
    assert_holds(branch, model);
    ramet_memory_branch_free(branch);
}

static void begin(struct life *life)
{
    *life = (struct life){0};
    check_ok(ramet_memory_create(store, SIZE, &life->empty, &err));
    check_ok(ramet_memory_branch(life->empty, &life->parent, &err));
    write_pages(life->parent, &life->now);
    check_ok(ramet_memory_snapshot(life->parent, "one", 4, &life->first, &err));
    life->first_model = life->now;
    write_pages(life->parent, &life->now);
    check_ok(ramet_memory_snapshot(life->parent, "two", 4, &life->second, &err));
    life->second_model = life->now;
    write_pages(life->parent, &life->now);
}

static void end(struct life *life)
{
    assert_image_holds(life->first, &life->first_model);
    assert_image_holds(life->second, &life->second_model);
    ramet_memory_branch_free(life->parent);
    ramet_memory_image_unref(life->second);
    ramet_memory_image_unref(life->first);
    ramet_memory_image_unref(life->empty);
}

/* --- the calls; each gives its status, the checks come after the faults --- */

static int snapshot(struct life *life)
{
    struct ramet_memory_image *image;
    int r = ramet_memory_snapshot(life->parent, "now", 4, &image, &err);
    calm();
    assert_holds(life->parent, &life->now);
    if (r < 0)
        check_ok(ramet_memory_snapshot(life->parent, "now", 4, &image, &err));
    assert_image_holds(image, &life->now);
    ramet_memory_image_unref(image);
    return r;
}

static int branch(struct life *life)
{
    struct ramet_memory_branch *child;
    int r = ramet_memory_branch(life->second, &child, &err);
    calm();
    if (r == 0) {
        assert_holds(child, &life->second_model);
        ramet_memory_branch_free(child);
    }
    return r;
}

static int rollback(struct life *life)
{
    struct ramet_memory_image *image;
    int r = ramet_memory_rollback(life->parent, life->first, &err);
    calm();
    if (r < 0) {
        if (ramet_memory_snapshot(life->parent, NULL, 0, &image, &err) == 0) { /* it had not begun */
            assert_image_holds(image, &life->now);
            ramet_memory_image_unref(image);
        }
        check_ok(ramet_memory_rollback(life->parent, life->first, &err));
    }
    assert_holds(life->parent, &life->first_model);
    return r;
}

static int commit(struct life *life)
{
    char id[RAMET_MEMORY_ID_SIZE];
    struct ramet_memory_image *image;
    int r = ramet_memory_commit(life->second, NULL, &err);
    calm();
    strcpy(id, ramet_memory_id(life->second));
    if (r < 0)
        check_fails(ramet_memory_load(store, id, &image, &err), RAMET_NOT_FOUND);
    return r;
}

static int load_stored(bool lazily)
{
    struct ramet_memory_image *image;
    struct ramet_memory_branch *child;
    int r = lazily ? ramet_memory_load_lazily(store, "stored", &image, &err)
                   : ramet_memory_load(store, "stored", &image, &err);
    calm();
    if (r < 0)
        return r;
    check_ok(ramet_memory_branch(image, &child, &err));
    for (size_t page = 0; page < PAGES; page++)
        assert_int_equal(*word(child, page), page * page);
    ramet_memory_branch_free(child);
    ramet_memory_image_unref(image);
    return 0;
}

static int load(struct life *life)
{
    (void)life;
    return load_stored(false);
}

static int load_lazily(struct life *life)
{
    (void)life;
    return load_stored(true);
}

/* Each nth failure in turn, until there are no more of them. */
static void try_all(const char *name, int (*call)(struct life *life))
{
    unsigned failed = 0, nth = 1;
    for (struck = true; struck; nth++) {
        struct life life;
        begin(&life);
        struct fault_plan plan = {FAULT_ALLOC, FAULT_FAIL, nth, 0, false};
        faults_arm(&plan);
        int r = call(&life);
        failed += r < 0;
        end(&life);
    }
    print_message("%s: %u points, the call failed at %u\n", name, nth - 2, failed);
}

static void store_one(void)
{
    struct ramet_memory_image *image;
    struct ramet_memory_branch *first;
    check_ok(ramet_memory_create(store, SIZE, &image, &err));
    check_ok(ramet_memory_branch(image, &first, &err));
    ramet_memory_image_unref(image);
    for (size_t page = 0; page < PAGES; page++)
        *word(first, page) = page * page;
    check_ok(ramet_memory_snapshot(first, NULL, 0, &image, &err));
    check_ok(ramet_memory_commit(image, "stored", &err));
    ramet_memory_branch_free(first);
    ramet_memory_image_unref(image);
}

static void test_no_memory(void **state)
{
    (void)state;
    try_all("snapshot", snapshot);
    try_all("branch", branch);
    try_all("rollback", rollback);
    try_all("commit", commit);
    try_all("load", load);
    try_all("load lazily", load_lazily);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_no_memory)};
    setenv("RAMET_NO_URING", "1", 1);
    test_dir_make(dir);
    if (ramet_memory_open(dir, &(struct ramet_memory_options){.threads = 1}, &store, &err) < 0) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    store_one();
    faults_begin(dir);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    faults_end();
    ramet_memory_close(store);
    test_dir_remove(dir);
    return failed;
}
