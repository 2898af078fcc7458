/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: branches, snapshots and rollbacks within one process hold what a plain array would, whatever their order, with
 * and without the kernel tracking writes; they copy what changed and no more; what was committed is there afterwards,
 * read at once or page by page, and damage is never memory.
 */
#include "testing.h"

#include "base/cleanup.h"
#include "memory_private.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>

enum { PAGES = 1500, SIZE = PAGES * RAMET_PAGE_SIZE, STATE = 5000 };

static struct ramet_error err;
static char dir[64];
static struct ramet_memory_store *store;

/* What a memory should hold: each page begins with its word; 0: zeros. */
struct model {
    uint64_t words[PAGES];
};

static int open_store(void **state)
{
    test_dir_make(dir);
    check_ok(ramet_memory_open(dir, NULL, &store, &err));
    if (*state) { /* as on a kernel without it */
        ramet_cleanup_close(&store->userfault_fd);
        store->userfault_fd = -1;
    }
    return 0;
}

static int close_store(void **state)
{
    (void)state;
    ramet_memory_close(store);
    test_dir_remove(dir);
    return 0;
}

static uint64_t *word(struct ramet_memory_branch *branch, size_t page)
{
    return (uint64_t *)((uint8_t *)ramet_memory_address(branch) + page * RAMET_PAGE_SIZE);
}

static void write_page(struct ramet_memory_branch *branch, struct model *model, size_t page)
{
    model->words[page] = test_random() | 1;
    word(branch, page)[0] = model->words[page];
    word(branch, page)[511] = model->words[page];
}

static void write_pages(struct ramet_memory_branch *branch, struct model *model, size_t count)
{
    for (size_t i = 0; i < count; i++)
        write_page(branch, model, test_below(PAGES));
    size_t first = test_below(PAGES - count);
    for (size_t page = first; page < first + count; page++)
        write_page(branch, model, page);
}

static void assert_holds(struct ramet_memory_branch *branch, const struct model *model)
{
    for (size_t page = 0; page < PAGES; page++)
        if (word(branch, page)[0] != model->words[page] || word(branch, page)[511] != model->words[page])
            fail_msg("page %zu holds another word", page);
}

static void assert_image_holds(struct ramet_memory_image *image, const struct model *model)
{
    struct ramet_memory_branch *branch;
    check_ok(ramet_memory_branch(image, &branch, &err));
    assert_holds(branch, model);
    ramet_memory_branch_free(branch);
}

/* --- everything, in any order --- */

enum { slots = 6 };

struct world {
    struct ramet_memory_image *images[slots];
    struct model image_models[slots];
    uint64_t states[slots];
    struct ramet_memory_branch *branches[slots];
    struct model branch_models[slots];
};

static void take_snapshot(struct world *world, size_t branch, size_t to)
{
    uint64_t text[STATE / 8] = {test_random()};
    struct ramet_memory_image *image;
    check_ok(ramet_memory_snapshot(world->branches[branch], text, sizeof text, &image, &err));
    ramet_memory_image_unref(world->images[to]);
    world->images[to] = image;
    world->image_models[to] = world->branch_models[branch];
    world->states[to] = text[0];
}

/* Lets an image go and loads it again. */
static void store_and_load(struct world *world, size_t i)
{
    char id[RAMET_MEMORY_ID_SIZE];
    size_t size;
    if (!ramet_memory_state(world->images[i], &size))
        return;
    strcpy(id, ramet_memory_id(world->images[i]));
    check_ok(ramet_memory_commit(world->images[i], "newest", &err));
    if (test_below(2)) {
        ramet_memory_image_unref(world->images[i]);
        const char *ref = test_below(2) ? id : "newest";
        if (test_below(2))
            check_ok(ramet_memory_load(store, ref, &world->images[i], &err));
        else
            check_ok(ramet_memory_load_lazily(store, ref, &world->images[i], &err));
    }
    const uint64_t *text = ramet_memory_state(world->images[i], &size);
    assert_int_equal(size, STATE);
    assert_int_equal(text[0], world->states[i]);
}

static void step(struct world *world)
{
    size_t branch = test_below(slots), image = test_below(slots);
    switch (test_below(8)) {
    case 0:
        ramet_memory_branch_free(world->branches[branch]);
        check_ok(ramet_memory_branch(world->images[image], &world->branches[branch], &err));
        world->branch_models[branch] = world->image_models[image];
        break;
    case 1:
    case 2: take_snapshot(world, branch, image); break;
    case 3:
        check_ok(ramet_memory_rollback(world->branches[branch], world->images[image], &err));
        world->branch_models[branch] = world->image_models[image];
        break;
    case 4: /* there and, what was written meanwhile, back again */
        take_snapshot(world, branch, image);
        struct model then = world->branch_models[branch];
        write_pages(world->branches[branch], &world->branch_models[branch], 1 + test_below(40));
        check_ok(ramet_memory_rollback(world->branches[branch], NULL, &err));
        world->branch_models[branch] = then;
        break;
    case 5: store_and_load(world, image); break;
    default: write_pages(world->branches[branch], &world->branch_models[branch], 1 + test_below(100));
    }
    assert_holds(world->branches[branch], &world->branch_models[branch]);
    assert_image_holds(world->images[image], &world->image_models[image]);
}

static void test_any_order(void **state)
{
    (void)state;
    struct world *world = calloc(1, sizeof *world);
    check_ok(ramet_memory_create(store, SIZE, &world->images[0], &err));
    for (size_t i = 0; i < slots; i++) {
        if (i > 0)
            world->images[i] = ramet_memory_image_ref(world->images[0]);
        check_ok(ramet_memory_branch(world->images[0], &world->branches[i], &err));
    }
    for (int i = 0; i < 600; i++)
        step(world);
    for (size_t i = 0; i < slots; i++) {
        assert_holds(world->branches[i], &world->branch_models[i]);
        ramet_memory_branch_free(world->branches[i]);
        ramet_memory_image_unref(world->images[i]);
    }
    free(world);
}

/* --- what it costs --- */

/* Pages that the image's own snapshot copied. */
static uint64_t copied(const struct ramet_memory_image *image, const struct ramet_memory_image *before)
{
    return ramet_image_resident_pages(ramet_resident_image(image->resident)) -
           ramet_image_resident_pages(ramet_resident_image(before->resident));
}

static void test_snapshots_copy_what_changed(void **state)
{
    (void)state;
    struct ramet_memory_image *images[4];
    struct ramet_memory_branch *branch, *child;
    struct model model = {0};
    if (store->userfault_fd < 0)
        skip();
    check_ok(ramet_memory_create(store, SIZE, &images[0], &err));
    check_ok(ramet_memory_branch(images[0], &branch, &err));
    for (size_t page = 0; page < 1000; page++)
        write_page(branch, &model, page);
    check_ok(ramet_memory_snapshot(branch, NULL, 0, &images[1], &err));
    assert_int_equal(copied(images[1], images[0]), 1000);
    write_page(branch, &model, 500);
    write_page(branch, &model, 1200);
    check_ok(ramet_memory_snapshot(branch, NULL, 0, &images[2], &err));
    assert_int_equal(copied(images[2], images[1]), 2);
    /* A child has the pages of its image; they are no change of its own. A rollback makes none either. */
    check_ok(ramet_memory_branch(images[2], &child, &err));
    write_page(child, &model, 7);
    check_ok(ramet_memory_rollback(child, NULL, &err));
    check_ok(ramet_memory_snapshot(child, NULL, 0, &images[3], &err));
    assert_int_equal(copied(images[3], images[2]), 0);
    ramet_memory_branch_free(child);
    ramet_memory_branch_free(branch);
    for (size_t i = 0; i < 4; i++)
        ramet_memory_image_unref(images[i]);
}

/* A branch that is snapshotted for ever keeps no page for ever that was replaced and let go. */
static void test_long_chains_end(void **state)
{
    (void)state;
    struct ramet_memory_image *image, *next;
    struct ramet_memory_branch *branch;
    struct model model = {0};
    check_ok(ramet_memory_create(store, SIZE, &image, &err));
    check_ok(ramet_memory_branch(image, &branch, &err));
    for (int i = 0; i < 300; i++) {
        write_pages(branch, &model, 100);
        check_ok(ramet_memory_snapshot(branch, NULL, 0, &next, &err));
        ramet_memory_image_unref(image);
        image = next;
        assert_true(ramet_image_resident_pages(ramet_resident_image(image->resident)) < 16384 + 5 * PAGES);
    }
    assert_image_holds(image, &model);
    check_ok(ramet_memory_commit(image, NULL, &err));
    ramet_memory_branch_free(branch);
    ramet_memory_image_unref(image);
}

/* Many branches of a later state end up sharing one memory, and it is the same memory. */
static void test_many_branches_share(void **state)
{
    (void)state;
    struct ramet_memory_image *zeros, *image, *later;
    struct ramet_memory_branch *branch, *child;
    struct model model = {0}, childs;
    check_ok(ramet_memory_create(store, SIZE, &zeros, &err));
    check_ok(ramet_memory_branch(zeros, &branch, &err));
    write_pages(branch, &model, 300);
    check_ok(ramet_memory_snapshot(branch, NULL, 0, &image, &err));
    for (int i = 0; i < 20; i++)
        assert_image_holds(image, &model);
    check_ok(ramet_memory_branch(image, &child, &err));
    struct ramet_resident *mapped = ramet_resident_for_branch(image->resident);
    assert_int_equal(ramet_resident_changed(mapped), 0);
    ramet_resident_unref(mapped);
    /* From there on, and across roots. */
    childs = model;
    write_pages(child, &childs, 50);
    check_ok(ramet_memory_snapshot(child, NULL, 0, &later, &err));
    assert_image_holds(later, &childs);
    check_ok(ramet_memory_rollback(child, zeros, &err));
    assert_holds(child, &(struct model){0});
    check_ok(ramet_memory_rollback(child, image, &err));
    assert_holds(child, &model);
    check_ok(ramet_memory_rollback(branch, later, &err));
    assert_holds(branch, &childs);
    check_ok(ramet_memory_commit(later, "later", &err));
    ramet_memory_branch_free(child);
    ramet_memory_branch_free(branch);
    ramet_memory_image_unref(later);
    ramet_memory_image_unref(image);
    ramet_memory_image_unref(zeros);
    check_ok(ramet_memory_load(store, "later", &later, &err));
    assert_image_holds(later, &childs);
    ramet_memory_image_unref(later);
}

/* --- durability, errors --- */

static void test_committed_is_there_after(void **state)
{
    (void)state;
    struct ramet_memory_image *image, *again, *lost;
    struct ramet_memory_branch *branch;
    struct model model = {0};
    char lost_id[RAMET_MEMORY_ID_SIZE];
    size_t size;
    check_ok(ramet_memory_create(store, SIZE, &image, &err));
    check_ok(ramet_memory_branch(image, &branch, &err));
    ramet_memory_image_unref(image);
    write_pages(branch, &model, 200);
    check_ok(ramet_memory_snapshot(branch, "state", 6, &image, &err));
    check_ok(ramet_memory_snapshot(branch, NULL, 0, &lost, &err));
    strcpy(lost_id, ramet_memory_id(lost));
    check_ok(ramet_memory_commit(image, "kept", &err));
    check_ok(ramet_memory_commit(image, "also", &err));
    check_ok(ramet_memory_load(store, "also", &again, &err));
    assert_ptr_equal(again, image); /* resident once */
    ramet_memory_branch_free(branch);
    ramet_memory_image_unref(again);
    ramet_memory_image_unref(lost);
    ramet_memory_image_unref(image);
    ramet_memory_close(store);

    check_ok(ramet_memory_open(dir, NULL, &store, &err));
    check_fails(ramet_memory_load(store, lost_id, &image, &err), RAMET_NOT_FOUND);
    check_ok(ramet_memory_load(store, "kept", &image, &err));
    assert_string_equal(ramet_memory_state(image, &size), "state");
    assert_int_equal(size, 6);
    assert_image_holds(image, &model);
    check_ok(ramet_memory_remove(store, "kept", &err));
    check_fails(ramet_memory_load(store, "also", &again, &err), RAMET_NOT_FOUND);
    assert_image_holds(image, &model);
    /* In use it may become durable again. */
    check_ok(ramet_memory_commit(image, "back", &err));
    ramet_memory_image_unref(image);
    ramet_memory_close(store);
    check_ok(ramet_memory_open(dir, NULL, &store, &err));
    check_ok(ramet_memory_load(store, "back", &image, &err));
    assert_image_holds(image, &model);
    ramet_memory_image_unref(image);
}

/* --- pages on demand --- */

/* A stored snapshot whose pages are all data, "full". */
static void store_full(struct model *model)
{
    struct ramet_memory_image *image;
    struct ramet_memory_branch *branch;
    check_ok(ramet_memory_create(store, SIZE, &image, &err));
    check_ok(ramet_memory_branch(image, &branch, &err));
    ramet_memory_image_unref(image);
    test_fill(ramet_memory_address(branch), SIZE);
    for (size_t page = 0; page < PAGES; page++)
        write_page(branch, model, page);
    check_ok(ramet_memory_snapshot(branch, NULL, 0, &image, &err));
    check_ok(ramet_memory_commit(image, "full", &err));
    ramet_memory_branch_free(branch);
    ramet_memory_image_unref(image);
    ramet_memory_close(store);
}

static uint64_t file_pages(const struct ramet_memory_image *image)
{
    struct stat st;
    assert_int_equal(fstat(ramet_resident_fd(image->resident), &st), 0);
    return (uint64_t)st.st_blocks * 512 / RAMET_PAGE_SIZE;
}

static bool serves(void)
{
    struct ramet_fault_server *server;
    if (ramet_fault_server_new(&server, &err) < 0)
        return false;
    ramet_fault_server_free(server);
    return true;
}

static void test_lazy_reads_what_is_touched(void **state)
{
    (void)state;
    struct ramet_memory_image *image, *later;
    struct ramet_memory_branch *a, *b;
    struct model model, childs;
    if (!serves()) {
        print_message("SKIPPED: %s\n", err.msg);
        skip();
    }
    store_full(&model);
    check_ok(ramet_memory_open(dir, NULL, &store, &err));
    check_ok(ramet_memory_load_lazily(store, "full", &image, &err));
    check_ok(ramet_memory_branch(image, &a, &err));
    check_ok(ramet_memory_branch(image, &b, &err));
    assert_int_equal(file_pages(image), 0);
    assert_int_equal(word(a, 700)[0], model.words[700]);
    uint64_t some = file_pages(image);
    assert_in_range(some, 1, 64);
    assert_int_equal(word(b, 700)[511], model.words[700]);
    assert_int_equal(file_pages(image), some); /* it was there */
    /* Written before it was read; a system call touches it first. */
    childs = model;
    write_page(a, &childs, 10);
    int pipes[2];
    assert_int_equal(pipe(pipes), 0);
    assert_int_equal(write(pipes[1], word(a, 20), 8), 8);
    close(pipes[0]);
    close(pipes[1]);
    check_ok(ramet_memory_snapshot(a, NULL, 0, &later, &err));
    assert_int_equal(copied(later, image), 1);
    assert_image_holds(later, &childs);
    assert_holds(b, &model);
    check_ok(ramet_memory_rollback(a, image, &err));
    assert_holds(a, &model);
    ramet_memory_branch_free(a);
    ramet_memory_branch_free(b);
    ramet_memory_image_unref(later);
    ramet_memory_image_unref(image);
}

/* Flips a byte in the middle of each pack. */
static void damage_packs(void)
{
    char path[512];
    snprintf(path, sizeof path, "%s/packs", dir);
    DIR *packs = opendir(path);
    assert_non_null(packs);
    for (struct dirent *entry; (entry = readdir(packs));) {
        struct stat st;
        uint8_t byte;
        _autoclose_ int fd = openat(dirfd(packs), entry->d_name, O_RDWR | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0 || st.st_size < 100000)
            continue;
        assert_int_equal(pread(fd, &byte, 1, st.st_size / 2), 1);
        byte ^= 1;
        assert_int_equal(pwrite(fd, &byte, 1, st.st_size / 2), 1);
    }
    closedir(packs);
}

static sigjmp_buf touched;

static void on_sigbus(int signal)
{
    (void)signal;
    siglongjmp(touched, 1);
}

static void test_lazy_damage_is_an_error(void **state)
{
    (void)state;
    struct ramet_memory_image *image, *later = NULL;
    struct ramet_memory_branch *branch;
    struct model model;
    volatile size_t damaged = 0;
    struct sigaction old, action = {.sa_handler = on_sigbus};
    if (!serves()) {
        print_message("SKIPPED: %s\n", err.msg);
        skip();
    }
    store_full(&model);
    damage_packs();
    check_ok(ramet_memory_open(dir, NULL, &store, &err));
    check_fails(ramet_memory_load(store, "full", &image, &err), RAMET_CORRUPT);
    check_ok(ramet_memory_load_lazily(store, "full", &image, &err));
    check_ok(ramet_memory_branch(image, &branch, &err));
    assert_int_equal(sigaction(SIGBUS, &action, &old), 0);
    for (volatile size_t page = 0; page < PAGES; page++) {
        if (sigsetjmp(touched, 1) == 0) {
            assert_int_equal(word(branch, page)[0], model.words[page]);
            assert_int_equal(ramet_memory_fault(store, word(branch, page), &err), 0);
        } else {
            damaged++;
            check_fails(ramet_memory_fault(store, word(branch, page) + 9, &err), RAMET_CORRUPT);
        }
    }
    assert_in_range(damaged, 1, 64);
    /* Of such memory there is no snapshot: it would not be the guest's. */
    check_fails(ramet_memory_snapshot(branch, NULL, 0, &later, &err), RAMET_CORRUPT);
    assert_null(later);
    /* Nor does a rollback make zeros of it. */
    check_ok(ramet_memory_rollback(branch, NULL, &err));
    volatile size_t again = 0;
    for (volatile size_t page = 0; page < PAGES; page++) {
        if (sigsetjmp(touched, 1) == 0)
            assert_int_equal(word(branch, page)[0], model.words[page]);
        else
            again++;
    }
    assert_int_equal(again, damaged);
    sigaction(SIGBUS, &old, NULL);
    ramet_memory_branch_free(branch);
    ramet_memory_image_unref(image);
}

static void test_errors(void **state)
{
    (void)state;
    struct ramet_memory_image *image, *small, *none = NULL;
    struct ramet_memory_branch *branch;
    struct ramet_memory_store *second;
    check_fails(ramet_memory_create(store, 0, &none, &err), RAMET_INVALID);
    check_fails(ramet_memory_create(store, 4097, &none, &err), RAMET_INVALID);
    check_fails(ramet_memory_load(store, "nobody", &none, &err), RAMET_NOT_FOUND);
    check_fails(ramet_memory_remove(store, "nobody", &err), RAMET_NOT_FOUND);
    check_fails(ramet_memory_open(dir, NULL, &second, &err), RAMET_BUSY);
    check_ok(ramet_memory_create(store, SIZE, &image, &err));
    check_ok(ramet_memory_create(store, SIZE / 2, &small, &err));
    check_ok(ramet_memory_branch(image, &branch, &err));
    check_fails(ramet_memory_rollback(branch, small, &err), RAMET_INVALID);
    check_fails(ramet_memory_commit(image, "not a name", &err), RAMET_INVALID);
    check_ok(ramet_memory_commit(image, "a-name", &err));
    assert_null(none);
    ramet_memory_branch_free(branch);
    ramet_memory_image_unref(small);
    ramet_memory_image_unref(image);
}

int main(void)
{
    static int untracked;
#define both(test)                                                                                                     \
    cmocka_unit_test_setup_teardown(test, open_store, close_store),                                                    \
    {                                                                                                                  \
#test " untracked", test, open_store, close_store, &untracked                                                  \
    }
    const struct CMUnitTest tests[] = {
        both(test_any_order),
        cmocka_unit_test_setup_teardown(test_snapshots_copy_what_changed, open_store, close_store),
        both(test_long_chains_end),
        both(test_many_branches_share),
        both(test_committed_is_there_after),
        cmocka_unit_test_setup_teardown(test_lazy_reads_what_is_touched, open_store, close_store),
        cmocka_unit_test_setup_teardown(test_lazy_damage_is_an_error, open_store, close_store),
        cmocka_unit_test_setup_teardown(test_errors, open_store, close_store),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
