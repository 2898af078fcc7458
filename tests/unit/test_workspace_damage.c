/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What workspaces do about damage and sudden ends: damaged pages are errors and fsck names the file, a journal that
 * lost what was synced is refused, a lost index is made anew, a killed process loses nothing that was synced, and what
 * was removed gives its space back.
 */
#include "workspace_fixture.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "store.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { file_size = 256 << 10 };

static void flip(const char *path, off_t offset)
{
    uint8_t byte;
    int fd = open(path, O_RDWR);
    assert_int_equal(pread(fd, &byte, 1, offset), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, offset), 1);
    close(fd);
}

static void open_again(struct world *world)
{
    check_ok(ramet_store_open(world->dir, NULL, &world->store, &err));
    check_ok(ramet_catalog_open(world->store, &world->catalog, &err));
    check_ok(ramet_workspaces_open(world->catalog, &world->set, &err));
    check_ok(ramet_workspace_find(world->set, "main", &world->ws, &err));
}

static void close_set(struct world *world)
{
    ramet_workspace_unref(STEAL(world->ws));
    ramet_workspaces_close(STEAL(world->set));
    ramet_catalog_close(STEAL(world->catalog));
    ramet_store_close(STEAL(world->store));
}

static uint64_t problems(struct world *world, const char *line)
{
    struct ramet_fsck_result fsck;
    check_ok(ramet_catalog_fsck(world->catalog, &fsck, &err));
    if (line && !strstr(fsck.report, line))
        fail_msg("\"%s\" is not in:\n%s", line, fsck.report);
    free(fsck.report);
    return fsck.problems;
}

static void damaged_pages_are_named(void **state)
{
    struct world *world = *state;
    char path[128], line[100];
    size_t got;
    _autofree_ uint8_t *bytes = malloc(file_size), *buf = malloc(file_size);
    test_fill(bytes, file_size);
    uint64_t dir = make_dir(world->ws, RAMET_ROOT, "d"), file = make_file(world->ws, dir, "f");
    uint64_t other = make_file(world->ws, dir, "other");
    put_bytes(world->ws, file, 0, bytes, file_size);
    put_bytes(world->ws, other, 0, "intact", 6);
    check_ok(ramet_workspaces_checkpoint(world->set, &err));
    assert_int_equal(problems(world, NULL), 0);
    snprintf(path, sizeof path, "%s/packs/00000001.pack", world->dir);
    flip(path, 5000);
    ramet_store_drop_caches(world->store);
    check_fails(ramet_wfile_read(world->ws, file, 0, buf, file_size, &got, &err), RAMET_CORRUPT);
    expect_bytes(world->ws, other, "intact", 6);
    snprintf(line, sizeof line, "workspace main: /d/f (inode %llu) is damaged", (unsigned long long)file);
    assert_int_equal(problems(world, line), 2);
    /* Written anew and collected, all is well. */
    test_fill(bytes, file_size);
    put_bytes(world->ws, file, 0, bytes, file_size);
    check_ok(ramet_workspaces_checkpoint(world->set, &err));
    struct ramet_gc_result gc;
    check_ok(ramet_catalog_gc(world->catalog, &gc, &err));
    assert_int_equal(problems(world, NULL), 0);
    expect_bytes(world->ws, file, bytes, file_size);
}

static void a_lost_index_is_made_anew(void **state)
{
    struct world *world = *state;
    char path[128];
    struct ramet_rebuild_result rebuilt;
    _autofree_ uint8_t *bytes = malloc(file_size);
    test_fill(bytes, file_size);
    uint64_t file = make_file(world->ws, RAMET_ROOT, "f");
    put_bytes(world->ws, file, 0, bytes, file_size);
    check_ok(ramet_workspace_snapshot(world->ws, "kept", NULL, &err));
    close_set(world);
    snprintf(path, sizeof path, "%s/index", world->dir);
    check_ok(ramet_dir_remove(path, &err));
    check_ok(ramet_store_rebuild(world->dir, &rebuilt, &err));
    open_again(world);
    expect_bytes(world->ws, file, bytes, file_size);
    expect_sound(world->ws);
    struct ramet_workspace *kept;
    check_ok(ramet_workspace_state_open(world->ws, "kept", &kept, &err));
    expect_bytes(kept, file, bytes, file_size);
    ramet_workspace_unref(kept);
    /* Inode numbers go on above those in use. */
    assert_true(make_file(world->ws, RAMET_ROOT, "new") > file);
}

/* The directory as a kill would leave it. */
static void copy_dir(const char *from, const char *to)
{
    char command[300];
    snprintf(command, sizeof command, "cp -r %s %s", from, to);
    assert_int_equal(system(command), 0);
}

static void a_journal_that_lost_synced_changes_is_refused(void **state)
{
    struct world *world = *state;
    struct world copy = {0};
    char path[160];
    for (int i = 0; i < 20; i++) {
        char name[16];
        snprintf(name, sizeof name, "f%d", i);
        make_file(world->ws, RAMET_ROOT, name);
        check_ok(ramet_workspaces_sync(world->set, &err));
    }
    snprintf(copy.dir, sizeof copy.dir, "%.50s.copy", world->dir);
    copy_dir(world->dir, copy.dir);
    open_again(&copy);
    assert_true(find(copy.ws, RAMET_ROOT, "f19") > 0);
    close_set(&copy);
    check_ok(ramet_dir_remove(copy.dir, &err));

    copy_dir(world->dir, copy.dir);
    snprintf(path, sizeof path, "%s/workspaces/00000001.journal", copy.dir);
    flip(path, 2000);
    check_ok(ramet_store_open(copy.dir, NULL, &copy.store, &err));
    check_ok(ramet_catalog_open(copy.store, &copy.catalog, &err));
    check_fails(ramet_workspaces_open(copy.catalog, &copy.set, &err), RAMET_CORRUPT);
    assert_non_null(strstr(err.msg, "00000001.journal"));
    ramet_catalog_close(copy.catalog);
    ramet_store_close(copy.store);
    check_ok(ramet_dir_remove(copy.dir, &err));
}

static void removed_workspaces_give_space_back(void **state)
{
    struct world *world = *state;
    struct ramet_workspace *fork;
    struct ramet_gc_result gc;
    struct ramet_store_stat before, after;
    _autofree_ uint8_t *bytes = malloc(file_size);
    check_ok(ramet_workspaces_checkpoint(world->set, &err));
    check_ok(ramet_catalog_gc(world->catalog, &gc, &err));
    check_ok(ramet_store_stat(world->store, &before, &err));
    check_ok(ramet_workspace_fork(world->ws, "fork", &fork, &err));
    for (int i = 0; i < 16; i++) {
        char name[16];
        snprintf(name, sizeof name, "f%d", i);
        test_fill(bytes, file_size);
        put_bytes(fork, make_file(fork, RAMET_ROOT, name), 0, bytes, file_size);
    }
    check_ok(ramet_workspace_snapshot(fork, "kept", NULL, &err));
    check_ok(ramet_workspaces_checkpoint(world->set, &err));
    check_ok(ramet_store_stat(world->store, &after, &err));
    assert_true(after.chunks >= before.chunks + 16 * file_size / 4096);
    check_ok(ramet_workspace_remove(fork, &err));
    ramet_workspace_unref(fork);
    check_ok(ramet_workspaces_checkpoint(world->set, &err));
    check_ok(ramet_catalog_gc(world->catalog, &gc, &err));
    check_ok(ramet_store_stat(world->store, &after, &err));
    assert_in_range(after.chunks, 0, before.chunks + 2);
    expect_sound(world->ws);
}

/* Writes numbers to a file, each synced, then told. */
static void count(struct world *world, int told)
{
    alarm(60);
    open_again(world);
    uint64_t file = find(world->ws, RAMET_ROOT, "count");
    for (uint64_t number = 1;; number++) {
        uint64_t page[512] = {number}, at;
        page[511] = number;
        check_ok(ramet_wfile_write(world->ws, file, (number % 100) * sizeof page, page, sizeof page, false, false, &at,
                                   &err));
        check_ok(ramet_workspaces_sync(world->set, &err));
        if (write(told, &number, sizeof number) != sizeof number)
            _exit(1);
        if (number % 37 == 0)
            check_ok(ramet_workspaces_checkpoint(world->set, &err));
    }
}

static void a_kill_loses_nothing_that_was_synced(void **state)
{
    struct world *world = *state;
    uint64_t file = make_file(world->ws, RAMET_ROOT, "count");
    for (int round = 0; round < 5; round++) {
        int pipes[2];
        uint64_t last = 0, until = 20 + test_below(120), page[512];
        size_t got;
        close_set(world);
        assert_int_equal(pipe(pipes), 0);
        pid_t child = fork();
        if (child == 0)
            count(world, pipes[1]);
        close(pipes[1]);
        while (last < until && read(pipes[0], &last, sizeof last) == sizeof last)
            ;
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        for (uint64_t more; read(pipes[0], &more, sizeof more) == sizeof more;)
            last = more;
        close(pipes[0]);
        assert_true(last >= until);
        open_again(world);
        for (uint64_t number = last > 90 ? last - 90 : 1; number <= last; number++) {
            check_ok(ramet_wfile_read(world->ws, file, number % 100 * sizeof page, page, sizeof page, &got, &err));
            assert_int_equal(got, sizeof page);
            assert_int_equal(page[0], page[511]);
            assert_int_equal(page[0], number);
        }
        expect_sound(world->ws);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(damaged_pages_are_named, world_setup, world_teardown),
        cmocka_unit_test_setup_teardown(a_lost_index_is_made_anew, world_setup, world_teardown),
        cmocka_unit_test_setup_teardown(a_journal_that_lost_synced_changes_is_refused, world_setup, world_teardown),
        cmocka_unit_test_setup_teardown(removed_workspaces_give_space_back, world_setup, world_teardown),
        cmocka_unit_test_setup_teardown(a_kill_loses_nothing_that_was_synced, world_setup, world_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
