/* SPDX-License-Identifier: Apache-2.0 */
/* What of files outlives a daemon and a fork: content, counts, and what nobody has open any more does not. */
#include "workspace_fixture.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct ramet_wstat out;

/* Files that were open and nameless when the daemon ended, or when the head was forked, go with the next change. */
static void nobody_keeps_orphans(void **state)
{
    struct world *world = *state;
    struct ramet_workspace *fork;
    uint64_t a = make_file(world->ws, RAMET_ROOT, "a");
    ramet_wfile_use(world->ws, a);
    put_bytes(world->ws, a, 0, "0123456789", 10);
    check_ok(ramet_wfile_unlink(world->ws, RAMET_ROOT, "a", NULL, &err));
    check_ok(ramet_workspace_fork(world->ws, "fork", &fork, &err));
    make_file(fork, RAMET_ROOT, "b");
    check_errno(ramet_wfile_stat(fork, a, &out, &err), ESTALE);
    expect_sound(fork);
    expect_bytes(world->ws, a, "0123456789", 10);
    ramet_workspace_unref(fork);
    world_reopen(world);
    make_file(world->ws, RAMET_ROOT, "b");
    check_errno(ramet_wfile_stat(world->ws, a, &out, &err), ESTALE);
    expect_sound(world->ws);
}

/* The counts of what is used survive, and the quota with them. */
static void counts_are_kept(void **state)
{
    struct world *world = *state;
    struct ramet_wspace space;
    char buf[8192] = "x";
    check_ok(ramet_workspace_set_quota(world->ws, 5 * 4096, 3, &err));
    put_bytes(world->ws, make_file(world->ws, RAMET_ROOT, "a"), 0, buf, 8192);
    world_reopen(world);
    check_ok(ramet_wfile_space(world->ws, &space, &err));
    assert_int_equal(space.free_bytes, 3 * 4096);
    assert_int_equal(space.free_inodes, 1);
    uint64_t b = make_file(world->ws, RAMET_ROOT, "b");
    check_errno(ramet_wfile_make(world->ws, RAMET_ROOT, "c", S_IFREG, 0, 0, OWNER, &out, &err), EDQUOT);
    put_bytes(world->ws, b, 0, buf, 8192);
    check_errno(ramet_wfile_write(world->ws, b, 3 * 4096 - 1, buf, 4098, false, false, NULL, &err), EDQUOT);
    expect_sound(world->ws);
}

/* What happens in one is not seen in the other. */
static void forks_are_apart(void **state)
{
    struct world *world = *state;
    struct ramet_workspace *fork;
    uint64_t a = make_file(world->ws, RAMET_ROOT, "a"), d = make_dir(world->ws, RAMET_ROOT, "d");
    put_bytes(world->ws, a, 0, "before", 6);
    check_ok(ramet_workspace_fork(world->ws, "fork", &fork, &err));
    put_bytes(world->ws, a, 0, "parent", 6);
    put_bytes(fork, a, 0, "branch", 6);
    uint64_t here = make_file(fork, d, "here"), there = make_file(world->ws, d, "here");
    assert_int_not_equal(here, there);
    check_errno(ramet_wfile_stat(world->ws, here, &out, &err), ESTALE);
    expect_bytes(world->ws, a, "parent", 6);
    expect_bytes(fork, a, "branch", 6);
    expect_sound(fork);
    check_ok(ramet_workspace_remove(fork, &err));
    check_errno(ramet_wfile_stat(fork, a, &out, &err), ESTALE);
    ramet_workspace_unref(fork);
    world_reopen(world);
    expect_bytes(world->ws, a, "parent", 6);
}

#define case_of(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        case_of(nobody_keeps_orphans),
        case_of(counts_are_kept),
        case_of(forks_are_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
