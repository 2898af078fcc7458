/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: damage is found and named with all that it hits and with a remedy; what can be mended is; an index can go. */
#include "testing.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "catalog.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { page = RAMET_PAGE_SIZE, disk_pages = 64, disk_bytes = disk_pages * page };

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
    ramet_catalog_close(STEAL(f->catalog));
    ramet_store_close(STEAL(f->store));
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

/* A durable snapshot: `model` as disk0, over the parent's where there is one. */
static struct ramet_snapshot *make_snapshot(struct fixture *f, const uint8_t *model, struct ramet_snapshot *parent,
                                            const char *tag)
{
    struct ramet_snapshot *snapshot;
    struct ramet_image *base, *image;
    struct ramet_layer *layer;
    uint64_t *pages = calloc(disk_pages, sizeof *pages);
    int fd = memfd_create("model", 0);
    for (uint64_t i = 0; i < disk_pages; i++)
        pages[i] = i;
    check_ok(ramet_file_write(fd, "model", model, disk_bytes, 0, &err));
    check_ok(ramet_layer_new_packed(fd, pages, disk_pages, &layer, &err));
    if (parent)
        base = ramet_image_ref(ramet_snapshot_image(parent, "disk0"));
    else
        check_ok(ramet_image_new_stored(ramet_catalog_images(f->catalog), disk_bytes, RAMET_CHUNK_ZERO, &base, &err));
    check_ok(ramet_image_new_layered(base, layer, &image, &err));
    ramet_image_unref(base);
    check_ok(ramet_snapshot_new(f->catalog, &snapshot, &err));
    if (parent)
        memcpy(snapshot->parent, parent->id, sizeof snapshot->parent);
    check_ok(ramet_snapshot_add_image(snapshot, "disk0", image, &err));
    check_ok(ramet_catalog_add(f->catalog, snapshot, tag, &err));
    check_ok(ramet_catalog_commit(f->catalog, snapshot, &err));
    return snapshot;
}

static uint8_t *random_model(void)
{
    uint8_t *model = malloc(disk_bytes);
    test_fill(model, disk_bytes);
    return model;
}

/* A later state: the last words of every page differ. */
static uint8_t *changed(const uint8_t *model)
{
    uint8_t *later = malloc(disk_bytes);
    memcpy(later, model, disk_bytes);
    for (int i = 0; i < disk_pages; i++)
        test_fill(later + (i + 1) * page - 64, 64);
    return later;
}

static void flip(struct fixture *f, unsigned pack, off_t offset)
{
    char path[128];
    uint8_t byte;
    snprintf(path, sizeof path, "%s/packs/%08x.pack", f->dir, pack);
    int fd = open(path, O_RDWR);
    assert_int_equal(pread(fd, &byte, 1, offset), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, offset), 1);
    close(fd);
    ramet_store_drop_caches(f->store);
}

static void expect_report(struct fixture *f, uint64_t problems, const char *const *lines)
{
    struct ramet_fsck_result fsck;
    check_ok(ramet_catalog_fsck(f->catalog, &fsck, &err));
    for (; *lines; lines++)
        if (!strstr(fsck.report, *lines))
            fail_msg("\"%s\" is not in:\n%s", *lines, fsck.report);
    if (fsck.problems != problems)
        fail_msg("%d problems, not %d:\n%s", (int)fsck.problems, (int)problems, fsck.report);
    free(fsck.report);
}
#define EXPECT(f, problems, ...) expect_report(f, problems, (const char *const[]){__VA_ARGS__ __VA_OPT__(, ) NULL})

/* The child's pages are differences to the parent's: damage there hits both, also when the parent has gone. */
static void damage_of_a_base_is_named(void **state)
{
    struct fixture *f = *state;
    _autofree_ uint8_t *model = random_model(), *later = changed(model);
    struct ramet_snapshot *root = make_snapshot(f, model, NULL, "root"), *child = make_snapshot(f, later, root, "leaf");
    char line[2][128];
    struct ramet_store_stat stat;
    check_ok(ramet_store_stat(f->store, &stat, &err));
    assert_true(stat.delta_frames >= disk_pages / RAMET_FRAME_SLOTS);
    EXPECT(f, 0);
    flip(f, 1, 5000);
    for (int i = 0; i < 2; i++)
        snprintf(line[i], sizeof line[i], "snapshot %s (%s): image disk0 is damaged; 'ramet rm --snapshot %s'",
                 (i ? child : root)->id, i ? "leaf" : "root", i ? "leaf" : "root");
    EXPECT(f, 4, "pack 00000001 at 64 ", "the base of frame ", line[0], line[1], "then 'ramet store gc' frees it");
    check_ok(ramet_catalog_remove(f->catalog, root, &err));
    ramet_snapshot_unref(root);
    EXPECT(f, 3, "pack 00000001 at 64 ", "the base of frame ", line[1]);
    ramet_snapshot_unref(child);
}

static void an_intact_ancestor_is_named(void **state)
{
    struct fixture *f = *state;
    _autofree_ uint8_t *model = random_model(), *other = random_model();
    struct ramet_snapshot *root = make_snapshot(f, model, NULL, "root"), *child = make_snapshot(f, other, root, NULL);
    struct stat st;
    char path[128];
    snprintf(path, sizeof path, "%s/packs/00000001.pack", f->dir);
    assert_int_equal(stat(path, &st), 0);
    flip(f, 1, st.st_size * 3 / 4); /* in what the child brought */
    EXPECT(f, 2, child->id, "; root, which it grew from, is intact");
    check_ok(ramet_catalog_remove(f->catalog, child, &err));
    ramet_snapshot_unref(child);
    EXPECT(f, 1, "nothing needs it: 'ramet store gc' frees it");
    struct ramet_gc_result gc;
    check_ok(ramet_catalog_gc(f->catalog, &gc, &err));
    EXPECT(f, 0);
    ramet_snapshot_unref(root);
}

static void a_header_is_mended(void **state)
{
    struct fixture *f = *state;
    _autofree_ uint8_t *model = random_model();
    uint64_t headers;
    ramet_snapshot_unref(make_snapshot(f, model, NULL, "root"));
    flip(f, 1, 20);
    EXPECT(f, 1, "pack 00000001", "'ramet store fsck --repair' writes it anew");
    check_ok(ramet_store_repair(f->store, &headers, &err));
    assert_int_equal(headers, 1);
    EXPECT(f, 0);
}

struct counted {
    unsigned problems, calls;
    bool stop;
};

static void count_problem(void *ctx, uint64_t frame, const char *line)
{
    (void)frame, (void)line;
    ((struct counted *)ctx)->problems++;
}

static bool count_call(void *ctx, const struct ramet_scrub_state *state)
{
    struct counted *counted = ctx;
    (void)state;
    counted->calls++;
    return counted->stop;
}

static void a_scrub_goes_on_where_it_stood_and_names_what_is_hit(void **state)
{
    struct fixture *f = *state;
    _autofree_ uint8_t *model = random_model();
    struct counted counted = {.stop = true};
    const struct ramet_scrub_options options = {
        .resume = true, .problem = count_problem, .progress = count_call, .ctx = &counted};
    struct ramet_scrub_state first, second;
    char *report;
    ramet_snapshot_unref(make_snapshot(f, model, NULL, "root"));
    flip(f, 1, 5000); /* in the first frame */
    check_ok(ramet_catalog_scrub(f->catalog, &options, &first, &report, &err));
    assert_false(first.finished);
    assert_int_equal(first.frames, 1);
    assert_int_equal(counted.problems, 1);
    assert_null(strstr(report, "snapshot"));
    free(report);
    close_all(f);
    open_all(f);
    counted = (struct counted){0};
    check_ok(ramet_catalog_scrub(f->catalog, &options, &second, &report, &err));
    assert_true(second.finished);
    assert_int_equal(second.problems, 1); /* from before; nothing new */
    assert_int_equal(counted.problems, 0);
    assert_non_null(strstr(report, "(root): image disk0 is damaged"));
    free(report);
}

static void a_rebuilt_index_has_everything_and_no_serial_comes_twice(void **state)
{
    struct fixture *f = *state;
    _autofree_ uint8_t *model = random_model();
    const struct ramet_branch_request request = {.name = "web", .memory_bytes = 1 << 20, .cpus = 1};
    struct ramet_rebuild_result result;
    struct ramet_snapshot *root = make_snapshot(f, model, NULL, "root");
    struct ramet_branch *branch;
    char index[128], stray[128], saved[128];
    uint64_t moved, serial;
    ramet_catalog_remove(f->catalog, root, &err); /* its serial leaves a gap below the others */
    ramet_snapshot_unref(root);
    root = make_snapshot(f, model, NULL, "root");
    check_ok(ramet_catalog_branch_new(f->catalog, &request, root, &branch, &err));
    serial = branch->serial;
    ramet_branch_unref(branch);
    ramet_snapshot_unref(root);
    close_all(f);
    snprintf(index, sizeof index, "%s/index", f->dir);
    snprintf(stray, sizeof stray, "%s/branches/0123456789abcdef", f->dir);
    check_ok(ramet_dir_remove(index, &err));
    check_fails(ramet_store_open(f->dir, NULL, &f->store, &err), RAMET_CORRUPT);
    check_ok(ramet_store_rebuild(f->dir, &result, &err));
    for (int i = 0; i < 2; i++) {
        assert_int_equal(mkdir(stray, 0700), 0);
        check_ok(ramet_store_open(f->dir, NULL, &f->store, &err));
        check_ok(ramet_branches_set_aside(f->store, &moved, &err));
        assert_int_equal(moved, 1);
        snprintf(saved, sizeof saved, "%s/lost+branches/0123456789abcdef%s", f->dir, i ? ".1" : "");
        assert_int_equal(access(saved, F_OK), 0);
        snprintf(saved, sizeof saved, "%s/lost+branches/0123456789abcdef/disk0.0", f->dir);
        close(open(saved, O_WRONLY | O_CREAT, 0600));
        ramet_store_close(STEAL(f->store));
    }
    open_all(f);
    EXPECT(f, 0);
    check_ok(ramet_catalog_find(f->catalog, "root", &root, &err));
    check_ok(ramet_catalog_branch_find(f->catalog, "web", &branch, &err));
    assert_int_equal(branch->serial, serial);
    ramet_branch_unref(branch);
    ramet_snapshot_unref(root);
    check_ok(ramet_snapshot_new(f->catalog, &root, &err));
    assert_true(root->serial > serial);
    ramet_snapshot_unref(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(damage_of_a_base_is_named, setup, teardown),
        cmocka_unit_test_setup_teardown(an_intact_ancestor_is_named, setup, teardown),
        cmocka_unit_test_setup_teardown(a_header_is_mended, setup, teardown),
        cmocka_unit_test_setup_teardown(a_scrub_goes_on_where_it_stood_and_names_what_is_hit, setup, teardown),
        cmocka_unit_test_setup_teardown(a_rebuilt_index_has_everything_and_no_serial_comes_twice, setup, teardown),
    };
    return cmocka_run_group_tests_name("damage", tests, NULL, NULL);
}
