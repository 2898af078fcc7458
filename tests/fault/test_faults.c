/* SPDX-License-Identifier: Apache-2.0 */
/* The fault layer itself: calls fail as planned, and a replay has what a crash would leave and nothing else. */
#include "testing.h"

#include "faults.h"
#include "replay.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct fixture {
    char dir[64], live[80], found[80];
    struct fault_log log;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    test_dir_make(f->dir);
    snprintf(f->live, sizeof f->live, "%s/live", f->dir);
    snprintf(f->found, sizeof f->found, "%s/found", f->dir);
    faults_begin(f->live);
    faults_record(&f->log);
    assert_int_equal(mkdir(f->live, 0700), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    faults_end();
    fault_log_free(&f->log);
    test_dir_remove(f->dir);
    free(f);
    return 0;
}

static int open_live(struct fixture *f, const char *name)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", f->live, name);
    int fd = open(path, O_RDWR | O_CREAT, 0600);
    assert_true(fd >= 0);
    return fd;
}

/* The found file holds exactly `text`, or is not there (NULL). */
static void expect_found(struct fixture *f, const char *name, const char *text)
{
    char path[128], got[64] = "";
    snprintf(path, sizeof path, "%s/%s", f->found, name);
    int fd = open(path, O_RDONLY);
    assert_int_equal(fd >= 0, text != NULL);
    if (!text)
        return;
    assert_int_equal(read(fd, got, sizeof got - 1), strlen(text));
    assert_string_equal(got, text);
    close(fd);
}

static void the_nth_call_fails_and_others_do_not(void **state)
{
    struct fixture *f = *state;
    struct fault_plan plan = {FAULT_WRITE, FAULT_FAIL, 2, ENOSPC, false};
    char got[8];
    int fd = open_live(f, "a");
    faults_arm(&plan);
    assert_int_equal(write(fd, "one", 3), 3);
    assert_int_equal(write(fd, "two", 3), -1);
    assert_int_equal(errno, ENOSPC);
    assert_int_equal(write(fd, "two", 3), 3);
    assert_true(faults_disarm());
    plan = (struct fault_plan){FAULT_WRITE, FAULT_SHORT, 1, 0, false};
    faults_arm(&plan);
    assert_int_equal(pwrite(fd, "12345678", 8, 0), 4);
    assert_int_equal(pread(fd, got, 8, 0), 6);
    assert_memory_equal(got, "1234wo", 6);
    assert_true(faults_disarm());
    plan = (struct fault_plan){FAULT_WRITE, FAULT_TORN, 1, 0, false};
    faults_arm(&plan);
    assert_int_equal(pwrite(fd, "abcd", 4, 0), -1);
    assert_int_equal(pread(fd, got, 8, 0), -1);
    assert_int_equal(fsync(fd), -1);
    faults_disarm();
    assert_int_equal(pread(fd, got, 8, 0), 6);
    assert_memory_equal(got, "ab34wo", 6);
    plan = (struct fault_plan){FAULT_READ, FAULT_FAIL, 5, EIO, false};
    faults_arm(&plan);
    assert_false(faults_disarm());
    close(fd);
}

static void allocations_of_linked_code_fail(void **state)
{
    struct fault_plan plan = {.class = FAULT_ALLOC, .nth = 1};
    char text[] = "some text";
    (void)state;
    faults_arm(&plan);
    void *volatile first = malloc(sizeof text), *volatile second = malloc(sizeof text);
    assert_true(faults_disarm());
    assert_null(first);
    assert_non_null(second);
    free(second);
}

static void a_kill_keeps_what_was_written_a_power_cut_what_was_synced(void **state)
{
    struct fixture *f = *state;
    int fd = open_live(f, "a");
    assert_int_equal(write(fd, "synced", 6), 6);
    assert_int_equal(fdatasync(fd), 0);
    size_t synced = faults_recorded();
    assert_int_equal(write(fd, " more", 5), 5);
    assert_int_equal(pwrite(fd, "S", 1, 0), 1);
    size_t written = faults_recorded();
    char from[128], to[128];
    snprintf(from, sizeof from, "%s/a", f->live);
    snprintf(to, sizeof to, "%s/b", f->live);
    assert_int_equal(rename(from, to), 0);
    faults_end();
    struct replay *replay = replay_new(&f->log, NULL, f->found);
    replay_make(replay, synced - 1, REPLAY_LOST, 0);
    expect_found(f, "a", "");
    replay_make(replay, synced, REPLAY_LOST, 0);
    expect_found(f, "a", "synced");
    replay_make(replay, written, REPLAY_LOST, 0);
    expect_found(f, "a", "synced");
    replay_make(replay, written, REPLAY_KILL, 0);
    expect_found(f, "a", "Synced more");
    replay_make(replay, f->log.count, REPLAY_KILL, 0);
    expect_found(f, "a", NULL);
    expect_found(f, "b", "Synced more");
    replay_free(replay);
    close(fd);
}

/* Of two blocks each lands or does not, and a write is cut anywhere. */
static void a_torn_write_leaves_any_part(void **state)
{
    struct fixture *f = *state;
    enum { block = 4096, tries = 200 };
    char old[2 * block], new[2 * block], got[2 * block], path[128];
    unsigned outcomes = 0, cut = 0;
    int fd = open_live(f, "a");
    memset(old, 'o', sizeof old);
    memset(new, 'n', sizeof new);
    assert_int_equal(write(fd, old, sizeof old), sizeof old);
    assert_int_equal(fsync(fd), 0);
    assert_int_equal(pwrite(fd, new, sizeof new, 0), sizeof new);
    faults_end();
    snprintf(path, sizeof path, "%s/a", f->found);
    struct replay *replay = replay_new(&f->log, NULL, f->found);
    for (uint64_t seed = 0; seed < tries; seed++) {
        replay_make(replay, f->log.count, REPLAY_TORN, seed);
        int found = open(path, O_RDONLY);
        assert_int_equal(read(found, got, sizeof got), sizeof got);
        close(found);
        outcomes |= 1u << ((got[0] == 'n') + 2 * (got[block] == 'n'));
        for (size_t i = 0; i < 2; i++)
            cut += got[i * block] == 'n' && got[i * block + block - 1] == 'o';
    }
    replay_free(replay);
    assert_int_equal(outcomes, 15);
    assert_in_range(cut, 1, tries);
    close(fd);
}

/* As Linux does it: the pages count as clean afterwards, and the next sync knows nothing of them. */
static void a_failed_sync_loses_what_it_was_for(void **state)
{
    struct fixture *f = *state;
    struct fault_plan plan = {FAULT_SYNC, FAULT_FAIL, 1, EIO, false};
    int fd = open_live(f, "a");
    assert_int_equal(write(fd, "old", 3), 3);
    assert_int_equal(fsync(fd), 0);
    assert_int_equal(pwrite(fd, "new", 3, 0), 3);
    faults_arm(&plan);
    assert_int_equal(fsync(fd), -1);
    assert_true(faults_disarm());
    assert_int_equal(fsync(fd), 0);
    faults_end();
    struct replay *replay = replay_new(&f->log, NULL, f->found);
    replay_make(replay, f->log.count, REPLAY_LOST, 0);
    expect_found(f, "a", "old");
    replay_make(replay, f->log.count, REPLAY_KILL, 0);
    expect_found(f, "a", "new");
    replay_free(replay);
    close(fd);
}

/* What the opened store does to a replayed directory is undone by the next replay. */
static void a_replay_restores_what_others_changed(void **state)
{
    struct fixture *f = *state;
    char path[128], stray[128];
    int fd = open_live(f, "a");
    assert_int_equal(write(fd, "right", 5), 5);
    close(fd);
    faults_end();
    snprintf(path, sizeof path, "%s/a", f->found);
    snprintf(stray, sizeof stray, "%s/stray", f->found);
    struct replay *replay = replay_new(&f->log, NULL, f->found);
    for (int change = 0; change < 5; change++) {
        replay_make(replay, f->log.count, REPLAY_KILL, 0);
        expect_found(f, "a", "right");
        expect_found(f, "stray", NULL);
        fd = open(path, O_RDWR);
        if (change == 0)
            assert_int_equal(pwrite(fd, "W", 1, 0), 1);
        else if (change == 1)
            assert_int_equal(ftruncate(fd, 2), 0);
        else if (change == 2)
            assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 2), 0);
        else if (change == 3)
            assert_int_equal(rename(path, stray), 0);
        close(fd);
    }
    replay_free(replay);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_nth_call_fails_and_others_do_not, setup, teardown),
        cmocka_unit_test_setup_teardown(allocations_of_linked_code_fail, setup, teardown),
        cmocka_unit_test_setup_teardown(a_kill_keeps_what_was_written_a_power_cut_what_was_synced, setup, teardown),
        cmocka_unit_test_setup_teardown(a_torn_write_leaves_any_part, setup, teardown),
        cmocka_unit_test_setup_teardown(a_failed_sync_loses_what_it_was_for, setup, teardown),
        cmocka_unit_test_setup_teardown(a_replay_restores_what_others_changed, setup, teardown),
    };
    return cmocka_run_group_tests_name("faults", tests, NULL, NULL);
}
