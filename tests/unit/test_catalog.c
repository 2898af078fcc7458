/* SPDX-License-Identifier: Apache-2.0 */
/* The catalog with many members: each is found by every name it has, lists are oldest first, removed ones are gone. */
#include "testing.h"

#include "catalog.h"
#include "members.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static struct ramet_error err;

struct thing {
    char id[RAMET_CATALOG_ID_SIZE];
    uint64_t serial;
    bool in;
};

/* Random additions and removals against an array. */
static void members_equal_their_model(void **state)
{
    (void)state;
    enum { count = 500, rounds = 20000 };
    struct thing *things = calloc(count, sizeof *things);
    struct ramet_members members = {0};
    for (uint64_t i = 0; i < count; i++) {
        ramet_id_make(things[i].id);
        things[i].serial = i * i + 1; /* not in a row */
    }
    for (int round = 0; round < rounds; round++) {
        struct thing *t = &things[test_below(count)];
        assert_ptr_equal(ramet_members_by_id(&members, t->id), t->in ? t : NULL);
        assert_ptr_equal(ramet_members_by_serial(&members, t->serial), t->in ? t : NULL);
        if (t->in)
            ramet_members_remove(&members, t->id, t->serial);
        else
            check_ok(ramet_members_add(&members, t->id, t->serial, t, &err));
        t->in = !t->in;
    }
    size_t listed, at = 0;
    void **all = ramet_members_list(&members, &listed);
    for (size_t i = 0; i < count; i++)
        if (things[i].in)
            assert_ptr_equal(all[at++], &things[i]);
    assert_int_equal(listed, at);
    check_fails(ramet_members_add(&members, "0123", 7, things, &err), RAMET_CORRUPT);
    check_fails(ramet_members_add(&members, ((struct thing *)all[0])->id, 1 << 30, things, &err), RAMET_CORRUPT);
    free(all);
    ramet_members_free(&members);
    free(things);
}

enum { many = 400 };

/* Which of snapshot i and branch i are kept. */
static bool kept(unsigned i) { return i % 3 != 1; }

static void expect_all(struct ramet_catalog *catalog, char ids[many][RAMET_CATALOG_ID_SIZE])
{
    struct ramet_snapshot **snapshots, *snapshot;
    struct ramet_branch **branches, *branch;
    size_t snapshot_count, branch_count, at = 0;
    check_ok(ramet_catalog_snapshots(catalog, &snapshots, &snapshot_count, &err));
    check_ok(ramet_catalog_branches(catalog, &branches, &branch_count, &err));
    for (unsigned i = 0; i < many; i++) {
        char name[32];
        snprintf(name, sizeof name, "t%u", i);
        if (!kept(i)) {
            check_fails(ramet_catalog_find(catalog, ids[i], &snapshot, &err), RAMET_NOT_FOUND);
            check_fails(ramet_catalog_find(catalog, name, &snapshot, &err), RAMET_NOT_FOUND);
            check_fails(ramet_catalog_branch_find(catalog, name, &branch, &err), RAMET_NOT_FOUND);
            continue;
        }
        const char *refs[] = {ids[i], name};
        for (int by = 0; by < 2; by++) {
            check_ok(ramet_catalog_find(catalog, refs[by], &snapshot, &err));
            assert_ptr_equal(snapshot, snapshots[at]);
            ramet_snapshot_unref(snapshot);
        }
        check_ok(ramet_catalog_branch_find(catalog, name, &branch, &err));
        assert_ptr_equal(branch, branches[at]);
        ramet_branch_unref(branch);
        check_ok(ramet_catalog_branch_by_serial(catalog, branch->serial, &branch, &err));
        assert_string_equal(branch->name, name);
        ramet_branch_unref(branch);
        at++;
    }
    assert_int_equal(snapshot_count, at);
    assert_int_equal(branch_count, at);
    ramet_snapshots_free(snapshots, snapshot_count);
    ramet_branches_free(branches, branch_count);
}

static void make(struct ramet_catalog *catalog, unsigned i, char id[RAMET_CATALOG_ID_SIZE])
{
    struct ramet_snapshot *snapshot;
    struct ramet_branch *branch;
    char name[32];
    snprintf(name, sizeof name, "t%u", i);
    check_ok(ramet_snapshot_new(catalog, &snapshot, &err));
    check_ok(ramet_catalog_add(catalog, snapshot, name, &err));
    check_ok(ramet_catalog_commit(catalog, snapshot, &err));
    struct ramet_branch_request request = {.name = name};
    check_ok(ramet_catalog_branch_new(catalog, &request, snapshot, &branch, &err));
    strcpy(id, snapshot->id);
    if (!kept(i)) {
        check_ok(ramet_catalog_branch_remove(catalog, branch, &err));
        check_ok(ramet_catalog_remove(catalog, snapshot, &err));
    }
    ramet_branch_unref(branch);
    ramet_snapshot_unref(snapshot);
}

static void many_are_found_and_listed_in_order(void **state)
{
    (void)state;
    static char ids[many][RAMET_CATALOG_ID_SIZE];
    char dir[64];
    struct ramet_store *store;
    struct ramet_catalog *catalog;
    test_dir_make(dir);
    for (int opening = 0; opening < 2; opening++) {
        check_ok(ramet_store_open(dir, NULL, &store, &err));
        check_ok(ramet_catalog_open(store, &catalog, &err));
        for (unsigned i = 0; opening == 0 && i < many; i++)
            make(catalog, i, ids[i]);
        expect_all(catalog, ids);
        ramet_catalog_close(catalog);
        ramet_store_close(store);
    }
    test_dir_remove(dir);
}

enum { disk_pages = 8 };

/* A durable snapshot whose disk's first page is `fill`. */
static struct ramet_snapshot *disk_snapshot(struct ramet_catalog *catalog, uint8_t fill)
{
    struct ramet_snapshot *snapshot;
    struct ramet_image *image;
    uint8_t page[RAMET_PAGE_SIZE];
    int fd = memfd_create("disk", MFD_CLOEXEC);
    memset(page, fill, sizeof page);
    assert_int_equal(ftruncate(fd, disk_pages * RAMET_PAGE_SIZE), 0);
    assert_int_equal(pwrite(fd, page, sizeof page, 0), sizeof page);
    check_ok(ramet_image_new_whole(ramet_catalog_images(catalog), fd, disk_pages * RAMET_PAGE_SIZE, &image, &err));
    check_ok(ramet_snapshot_new(catalog, &snapshot, &err));
    check_ok(ramet_snapshot_add_image(snapshot, "disk0", image, &err));
    check_ok(ramet_catalog_add(catalog, snapshot, NULL, &err));
    check_ok(ramet_catalog_commit(catalog, snapshot, &err));
    return snapshot;
}

static void write_byte(struct ramet_branch *branch, uint64_t offset, uint8_t byte)
{
    check_ok(ramet_overlay_write(branch->disks[0], offset, &byte, 1, &err));
    check_ok(ramet_overlay_flush(branch->disks[0], &err));
}

static void expect_disk(struct ramet_branch *branch, uint8_t first, uint8_t second)
{
    uint8_t byte;
    check_ok(ramet_overlay_read(branch->disks[0], 0, &byte, 1, &err));
    assert_int_equal(byte, first);
    check_ok(ramet_overlay_read(branch->disks[0], RAMET_PAGE_SIZE, &byte, 1, &err));
    assert_int_equal(byte, second);
}

/*
 * After a rollback the disk is the target's, what is written from then on lies over it, also after reopening, and a
 * snapshot of the life before that becomes durable late does not move the branch.
 */
static void a_branch_is_rolled_back(void **state)
{
    (void)state;
    char dir[64], base[RAMET_CATALOG_ID_SIZE], last[RAMET_CATALOG_ID_SIZE];
    struct ramet_store *store;
    struct ramet_catalog *catalog;
    struct ramet_branch *branch;
    struct ramet_image *frozen;
    uint64_t generation;
    test_dir_make(dir);
    check_ok(ramet_store_open(dir, NULL, &store, &err));
    check_ok(ramet_catalog_open(store, &catalog, &err));
    struct ramet_snapshot *one = disk_snapshot(catalog, 1), *two = disk_snapshot(catalog, 2), *late;
    check_ok(ramet_catalog_branch_new(catalog, &(struct ramet_branch_request){.name = "b"}, one, &branch, &err));
    write_byte(branch, RAMET_PAGE_SIZE, 11);
    check_ok(ramet_overlay_freeze(branch->disks[0], &frozen, &generation, &err));
    check_ok(ramet_snapshot_new(catalog, &late, &err));
    check_ok(ramet_snapshot_add_image(late, "disk0", frozen, &err));
    check_ok(ramet_catalog_add(catalog, late, NULL, &err));
    write_byte(branch, RAMET_PAGE_SIZE, 12);
    check_ok(ramet_catalog_branch_rollback(catalog, branch, two, &err));
    expect_disk(branch, 2, 0);
    check_ok(ramet_catalog_commit(catalog, late, &err));
    check_ok(ramet_catalog_branch_update(catalog, branch, late, &generation, &err));
    write_byte(branch, RAMET_PAGE_SIZE, 13);
    ramet_branch_bases(branch, base, last);
    assert_string_equal(base, two->id);
    assert_string_equal(last, two->id);
    check_ok(ramet_catalog_branch_rollback(catalog, branch, late, &err));
    expect_disk(branch, 1, 11);
    write_byte(branch, 0, 14);
    const char *ids[] = {strdup(late->id), strdup(branch->id)};
    ramet_branch_unref(branch);
    ramet_snapshot_unref(one), ramet_snapshot_unref(two), ramet_snapshot_unref(late);
    ramet_catalog_close(catalog);
    ramet_store_close(store);

    check_ok(ramet_store_open(dir, NULL, &store, &err));
    check_ok(ramet_catalog_open(store, &catalog, &err));
    check_ok(ramet_catalog_branch_find(catalog, "b", &branch, &err));
    expect_disk(branch, 14, 11);
    ramet_branch_bases(branch, base, last);
    assert_string_equal(base, ids[0]);
    assert_string_equal(branch->id, ids[1]);
    ramet_branch_unref(branch);
    ramet_catalog_close(catalog);
    ramet_store_close(store);
    free((void *)ids[0]), free((void *)ids[1]);
    test_dir_remove(dir);
}

/* A snapshot without its disk, or with one of another size, is refused, and the branch is as before. */
static void a_rollback_to_another_machine_is_refused(void **state)
{
    (void)state;
    char dir[64];
    struct ramet_store *store;
    struct ramet_catalog *catalog;
    struct ramet_branch *branch;
    struct ramet_image *small;
    struct ramet_snapshot *others[2];
    test_dir_make(dir);
    check_ok(ramet_store_open(dir, NULL, &store, &err));
    check_ok(ramet_catalog_open(store, &catalog, &err));
    struct ramet_snapshot *one = disk_snapshot(catalog, 1);
    check_ok(ramet_catalog_branch_new(catalog, &(struct ramet_branch_request){.name = "b"}, one, &branch, &err));
    write_byte(branch, RAMET_PAGE_SIZE, 11);
    check_ok(ramet_image_new_stored(ramet_catalog_images(catalog), RAMET_PAGE_SIZE, RAMET_CHUNK_ZERO, &small, &err));
    for (int i = 0; i < 2; i++) {
        check_ok(ramet_snapshot_new(catalog, &others[i], &err));
        if (i == 1)
            check_ok(ramet_snapshot_add_image(others[i], "disk0", small, &err));
        check_fails(ramet_catalog_branch_rollback(catalog, branch, others[i], &err), RAMET_CONFLICT);
        expect_disk(branch, 1, 11);
        ramet_snapshot_unref(others[i]);
    }
    check_ok(ramet_catalog_branch_remove(catalog, branch, &err));
    check_fails(ramet_catalog_branch_rollback(catalog, branch, one, &err), RAMET_NOT_FOUND);
    ramet_branch_unref(branch);
    ramet_snapshot_unref(one);
    ramet_catalog_close(catalog);
    ramet_store_close(store);
    test_dir_remove(dir);
}

static void expect_branch(struct ramet_catalog *catalog, const char *name, const char *id, const char *parent)
{
    struct ramet_branch *branch;
    char found[RAMET_CATALOG_ID_SIZE];
    check_ok(ramet_catalog_branch_find(catalog, name, &branch, &err));
    ramet_branch_parent(branch, found);
    assert_string_equal(branch->id, id);
    assert_string_equal(branch->name, name);
    assert_string_equal(found, parent);
    ramet_branch_unref(branch);
}

/*
 * "c" takes the place of "b" below "a": name and parent, with b's other child "d" below it and its own child "e". All
 * is so after reopening, "b" and the old name are gone, and its disk is what it was. Then it takes that of "a", and a
 * branch without a parent takes nobody's.
 */
static void a_branch_takes_its_parents_place(void **state)
{
    (void)state;
    enum { a, b, c, d, e, branches };
    static const char *const names[] = {"a", "b", "c", "d", "e"};
    static const int parents[] = {-1, a, b, b, c};
    char dir[64], ids[branches][RAMET_CATALOG_ID_SIZE], path[128];
    struct ramet_store *store;
    struct ramet_catalog *catalog;
    struct ramet_branch *made[branches], *gone, *branch;
    test_dir_make(dir);
    check_ok(ramet_store_open(dir, NULL, &store, &err));
    check_ok(ramet_catalog_open(store, &catalog, &err));
    struct ramet_snapshot *base = disk_snapshot(catalog, 1);
    for (int i = 0; i < branches; i++) {
        const struct ramet_branch_request request = {.name = names[i],
                                                     .parent = parents[i] < 0 ? NULL : ids[parents[i]]};
        check_ok(ramet_catalog_branch_new(catalog, &request, base, &made[i], &err));
        strcpy(ids[i], made[i]->id);
        write_byte(made[i], RAMET_PAGE_SIZE, (uint8_t)(10 + i));
    }
    const char *old_name = made[c]->name;
    check_ok(ramet_catalog_branch_promote(catalog, made[c], &gone, &err));
    assert_ptr_equal(gone, made[b]);
    assert_string_equal(old_name, "c");
    write_byte(gone, 0, 77); /* who has it open may use it until it is let go */
    snprintf(path, sizeof path, "%s/branches/%s", dir, gone->id);
    assert_int_equal(access(path, F_OK), 0);
    check_ok(ramet_branch_files_remove(gone, &err));
    assert_int_not_equal(access(path, F_OK), 0);
    check_fails(ramet_catalog_branch_promote(catalog, gone, &branch, &err), RAMET_NOT_FOUND);
    ramet_branch_unref(gone);
    for (int i = 0; i < branches; i++)
        ramet_branch_unref(made[i]);
    ramet_snapshot_unref(base);
    for (int opening = 0; opening < 2; opening++) {
        if (opening == 1) {
            ramet_catalog_close(catalog);
            ramet_store_close(store);
            check_ok(ramet_store_open(dir, NULL, &store, &err));
            check_ok(ramet_catalog_open(store, &catalog, &err));
        }
        expect_branch(catalog, "a", ids[a], "");
        expect_branch(catalog, "b", ids[c], ids[a]);
        expect_branch(catalog, "d", ids[d], ids[c]);
        expect_branch(catalog, "e", ids[e], ids[c]);
        check_fails(ramet_catalog_branch_find(catalog, "c", &branch, &err), RAMET_NOT_FOUND);
        check_fails(ramet_catalog_branch_find(catalog, ids[b], &branch, &err), RAMET_NOT_FOUND);
        check_ok(ramet_catalog_branch_find(catalog, "b", &branch, &err));
        expect_disk(branch, 1, 10 + c);
        ramet_branch_unref(branch);
    }
    check_ok(ramet_catalog_branch_find(catalog, "b", &branch, &err));
    check_ok(ramet_catalog_branch_promote(catalog, branch, &gone, &err));
    assert_string_equal(gone->id, ids[a]);
    ramet_branch_unref(gone);
    expect_branch(catalog, "a", ids[c], "");
    check_fails(ramet_catalog_branch_promote(catalog, branch, &gone, &err), RAMET_CONFLICT);
    expect_branch(catalog, "a", ids[c], "");
    check_ok(ramet_catalog_branch_remove(catalog, branch, &err));
    ramet_branch_unref(branch);
    check_ok(ramet_catalog_branch_find(catalog, "d", &branch, &err));
    check_fails(ramet_catalog_branch_promote(catalog, branch, &gone, &err), RAMET_CONFLICT);
    ramet_branch_unref(branch);
    ramet_catalog_close(catalog);
    ramet_store_close(store);
    test_dir_remove(dir);
}

/* A parent's record goes only when a crash leaves what the branch lies over. */
static void a_branch_over_what_is_not_durable_is_not_promoted(void **state)
{
    (void)state;
    char dir[64];
    struct ramet_store *store;
    struct ramet_catalog *catalog;
    struct ramet_branch *parent, *child, *gone;
    struct ramet_snapshot *late;
    struct ramet_image *frozen;
    uint64_t generation;
    test_dir_make(dir);
    check_ok(ramet_store_open(dir, NULL, &store, &err));
    check_ok(ramet_catalog_open(store, &catalog, &err));
    struct ramet_snapshot *base = disk_snapshot(catalog, 1);
    check_ok(ramet_catalog_branch_new(catalog, &(struct ramet_branch_request){.name = "web"}, base, &parent, &err));
    write_byte(parent, 0, 5);
    check_ok(ramet_overlay_freeze(parent->disks[0], &frozen, &generation, &err));
    check_ok(ramet_snapshot_new(catalog, &late, &err));
    check_ok(ramet_snapshot_add_image(late, "disk0", frozen, &err));
    check_ok(ramet_catalog_add(catalog, late, NULL, &err));
    const struct ramet_branch_request request = {.name = "child", .parent = parent->id};
    check_ok(ramet_catalog_branch_new(catalog, &request, late, &child, &err));
    check_fails(ramet_catalog_branch_promote(catalog, child, &gone, &err), RAMET_CONFLICT);
    expect_branch(catalog, "web", parent->id, "");
    expect_branch(catalog, "child", child->id, parent->id);
    check_ok(ramet_catalog_commit(catalog, late, &err));
    check_ok(ramet_catalog_branch_promote(catalog, child, &gone, &err));
    expect_branch(catalog, "web", child->id, "");
    ramet_branch_unref(gone), ramet_branch_unref(parent), ramet_branch_unref(child);
    ramet_snapshot_unref(base), ramet_snapshot_unref(late);
    ramet_catalog_close(catalog);
    ramet_store_close(store);
    test_dir_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_equal_their_model),
        cmocka_unit_test(many_are_found_and_listed_in_order),
        cmocka_unit_test(a_branch_is_rolled_back),
        cmocka_unit_test(a_rollback_to_another_machine_is_refused),
        cmocka_unit_test(a_branch_takes_its_parents_place),
        cmocka_unit_test(a_branch_over_what_is_not_durable_is_not_promoted),
    };
    return cmocka_run_group_tests_name("catalog", tests, NULL, NULL);
}
