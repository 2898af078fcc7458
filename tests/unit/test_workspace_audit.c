/* SPDX-License-Identifier: Apache-2.0 */
/* Audited workspaces on a real mount: every open is told before it is answered, through whatever path it comes. */
#include "mount_fixture.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

struct fixture {
    struct mounted m;
    struct ramet_workspace *ws; /* "work", audited */

    pthread_mutex_t lock; /* guards the next ones */
    char told[4096];      /* of each open "workspace:path how uid\n" */
    _Atomic bool refuse;
};

static struct ramet_error err;

static int opening(void *context, const struct ramet_workspace_open *open, struct ramet_error *error)
{
    struct fixture *f = context;
    pthread_mutex_lock(&f->lock);
    size_t used = strlen(f->told);
    snprintf(f->told + used, sizeof f->told - used, "%s:%s %s%s%s%s %u%s\n", open->workspace,
             open->path ? open->path : "-", open->create ? "c" : "", open->read ? "r" : "", open->write ? "w" : "",
             open->execute ? "x" : "", (unsigned)open->uid, open->pid > 0 ? "" : " without a process");
    bool refuse = f->refuse;
    pthread_mutex_unlock(&f->lock);
    return refuse ? ramet_error_set(error, RAMET_UNAVAILABLE, "the audit is full") : 0;
}

static void listen_to(struct fixture *f)
{
    ramet_workspace_mount_audit(f->m.mount, &(struct ramet_workspace_auditor){.context = f, .opening = opening});
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    pthread_mutex_init(&f->lock, NULL);
    mounted_make(&f->m);
    listen_to(f);
    check_ok(ramet_workspace_create(f->m.set, "work", geteuid(), getegid(), &f->ws, &err));
    check_ok(ramet_workspace_set_audited(f->ws, true, &err));
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    ramet_workspace_unref(f->ws);
    mounted_remove(&f->m);
    pthread_mutex_destroy(&f->lock);
    free(f);
    return 0;
}

/* With its door: "audited/work/a". */
static const char *at(const struct fixture *f, const char *path) { return mounted_at(&f->m, "", path); }

/* Opens, writes `text` unless it is NULL, and closes; 0 or errno. */
static int touch(const struct fixture *f, const char *path, int flags, const char *text)
{
    int fd = open(at(f, path), flags, 0755);
    if (fd < 0)
        return errno;
    if (text)
        assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    assert_int_equal(close(fd), 0);
    return 0;
}

/* What was told since this was asked last, with the caller's uid as "me". */
static void check_told(struct fixture *f, const char *expected)
{
    char me[32], shown[sizeof f->told] = "";
    snprintf(me, sizeof me, " %u\n", (unsigned)geteuid());
    pthread_mutex_lock(&f->lock);
    for (char *line = f->told, *end; (end = strstr(line, me)); line = end + strlen(me))
        snprintf(shown + strlen(shown), sizeof shown - strlen(shown), "%.*s me\n", (int)(end - line), line);
    f->told[0] = '\0';
    pthread_mutex_unlock(&f->lock);
    assert_string_equal(shown, expected);
}

static void rename_in_set(struct fixture *f, const char *to)
{
    struct ramet_workspace_info info;
    ramet_workspace_info(f->ws, &info);
    check_ok(ramet_workspace_rename(f->ws, to, &err));
    ramet_workspace_mount_name_changed(f->m.mount, info.name);
    ramet_workspace_mount_name_changed(f->m.mount, to);
}

static void set_audited(struct fixture *f, const char *name, bool audited)
{
    _cleanup_(ramet_workspace_cleanup) struct ramet_workspace *workspace = NULL;
    check_ok(ramet_workspace_find(f->m.set, name, &workspace, &err));
    check_ok(ramet_workspace_set_audited(workspace, audited, &err));
    ramet_workspace_mount_audited_changed(f->m.mount, name);
}

static bool names_can_be_forgotten(void)
{
    struct utsname kernel;
    unsigned major = 0, minor = 0;
    assert_int_equal(uname(&kernel), 0);
    sscanf(kernel.release, "%u.%u", &major, &minor);
    return major > 6 || (major == 6 && minor >= 16);
}

static bool is_audited(struct fixture *f, const char *name, const char *state)
{
    _cleanup_(ramet_workspace_cleanup) struct ramet_workspace *workspace = NULL, *past = NULL;
    check_ok(ramet_workspace_find(f->m.set, name, &workspace, &err));
    if (!state)
        return ramet_workspace_audited(workspace);
    check_ok(ramet_workspace_state_open(workspace, state, &past, &err));
    return ramet_workspace_audited(past);
}

/* --- the opens --- */

static void every_open_is_told_with_what_it_is_for(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(mkdir(at(f, "audited/work/d"), 0755), 0);
    assert_int_equal(touch(f, "audited/work/d/a", O_CREAT | O_WRONLY, "one"), 0);
    check_told(f, "work:d/a cw me\n");
    assert_int_equal(touch(f, "audited/work/d/a", O_RDONLY, NULL), 0);
    assert_int_equal(touch(f, "audited/work/d/a", O_RDONLY, NULL), 0);
    check_told(f, "work:d/a r me\nwork:d/a r me\n");
    assert_int_equal(touch(f, "audited/work/d/a", O_RDWR | O_TRUNC, "#!/bin/true\n"), 0);
    check_told(f, "work:d/a rw me\n");
    assert_int_equal(touch(f, "audited/work", O_TMPFILE | O_RDWR, "x"), 0);
    check_told(f, "work:(unnamed) crw me\n");
    assert_int_equal(rename(at(f, "audited/work/d"), at(f, "audited/work/e")), 0);
    assert_int_equal(touch(f, "audited/work/e/a", O_RDONLY, NULL), 0);
    check_told(f, "work:e/a r me\n");
    struct stat st;
    assert_int_equal(stat(at(f, "audited/work/e/a"), &st), 0);
    assert_int_equal(open(at(f, "audited/work/none"), O_RDONLY), -1);
    assert_int_equal(touch(f, "audited/work/e", O_RDONLY | O_DIRECTORY, NULL), 0);
    check_told(f, ""); /* nothing was opened, or no file */
}

static void execution_is_told(void **state)
{
    struct fixture *f = *state;
    char line[PATH_MAX + 300];
    snprintf(line, sizeof line, "cp /bin/true %s", at(f, "audited/work/true"));
    assert_int_equal(system(line), 0);
    check_told(f, "work:true cw me\n");
    assert_int_equal(system(at(f, "audited/work/true")), 0);
    check_told(f, "work:true rx me\n");
}

static void a_removed_file_is_told_without_a_name(void **state)
{
    struct fixture *f = *state;
    char again[64];
    int fd = open(at(f, "audited/work/a"), O_CREAT | O_RDWR, 0644);
    assert_true(fd >= 0);
    assert_int_equal(unlink(at(f, "audited/work/a")), 0);
    snprintf(again, sizeof again, "/proc/self/fd/%d", fd);
    int second = open(again, O_RDONLY);
    assert_true(second >= 0);
    close(second);
    close(fd);
    check_told(f, "work:a crw me\nwork:- r me\n");
}

static void the_symlink_leads_there_and_follows_the_name(void **state)
{
    struct fixture *f = *state;
    char target[256] = "";
    assert_int_equal(touch(f, "workspaces/work/a", O_CREAT | O_WRONLY, "one"), 0);
    check_told(f, "work:a cw me\n");
    assert_true(readlink(at(f, "workspaces/work"), target, sizeof target - 1) > 0);
    assert_string_equal(target, "../audited/work");
    rename_in_set(f, "other");
    assert_int_equal(touch(f, "workspaces/other/a", O_RDONLY, NULL), 0);
    assert_int_equal(touch(f, "workspaces/work/a", O_RDONLY, NULL), ENOENT);
    check_told(f, "other:a r me\n");
    assert_int_equal(unlink(at(f, "workspaces/other")), -1); /* it is no file of anybody's */
    assert_int_equal(errno, EROFS);
}

static void what_cannot_be_told_is_not_opened_and_not_made(void **state)
{
    struct fixture *f = *state;
    struct stat st;
    assert_int_equal(touch(f, "audited/work/a", O_CREAT | O_WRONLY, "one"), 0);
    f->refuse = true;
    assert_int_not_equal(touch(f, "audited/work/a", O_RDONLY, NULL), 0);
    assert_int_not_equal(touch(f, "audited/work/b", O_CREAT | O_WRONLY, NULL), 0);
    assert_int_equal(stat(at(f, "audited/work/b"), &st), -1);
    f->refuse = false;
    assert_int_equal(touch(f, "audited/work/a", O_RDONLY, NULL), 0);
    ramet_workspace_mount_audit(f->m.mount, NULL);
    assert_int_not_equal(touch(f, "audited/work/a", O_RDONLY, NULL), 0);
}

/* --- changing doors --- */

static void nothing_open_before_passes_by_the_audit(void **state)
{
    struct fixture *f = *state;
    char byte;
    set_audited(f, "work", false);
    assert_int_equal(touch(f, "workspaces/work/a", O_CREAT | O_WRONLY, "one"), 0);
    int dir = open(at(f, "workspaces/work"), O_PATH | O_DIRECTORY), fd = open(at(f, "workspaces/work/a"), O_RDWR);
    assert_true(dir >= 0 && fd >= 0);
    assert_int_equal(touch(f, "audited/work/a", O_RDONLY, NULL), ENOENT);
    check_told(f, "");
    set_audited(f, "work", true);
    if (names_can_be_forgotten())
        assert_int_equal(openat(dir, "a", O_RDONLY), -1); /* the old tree of directories leads nowhere */
    assert_int_equal(write(fd, "x", 1), -1);
    assert_int_equal(errno, ESTALE);
    assert_int_equal(touch(f, "workspaces/work/a", O_RDONLY, NULL), 0);
    check_told(f, "work:a r me\n");
    close(fd);
    fd = open(at(f, "audited/work/a"), O_RDONLY);
    set_audited(f, "work", false);
    assert_int_equal(read(fd, &byte, 1), -1);
    assert_int_equal(errno, ESTALE);
    close(fd);
    close(dir);
}

static void mappings_of_audited_files_are_in_a_fork(void **state)
{
    struct fixture *f = *state;
    struct ramet_workspace *fork = NULL;
    char byte = 0;
    assert_int_equal(touch(f, "audited/work/a", O_CREAT | O_WRONLY, "one"), 0);
    int fd = open(at(f, "audited/work/a"), O_RDWR);
    char *map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_true(map != MAP_FAILED);
    map[0] = 'X';
    check_ok(ramet_workspace_mount_flush(f->m.mount, &err));
    check_ok(ramet_workspace_fork(f->ws, "fork", &fork, &err));
    ramet_workspace_mount_name_changed(f->m.mount, "fork");
    ramet_workspace_unref(fork);
    munmap(map, 4096);
    close(fd);
    check_told(f, "work:a cw me\nwork:a rw me\n");
    fd = open(at(f, "audited/fork/a"), O_RDONLY);
    assert_int_equal(read(fd, &byte, 1), 1);
    close(fd);
    assert_int_equal(byte, 'X');
    check_told(f, "fork:a r me\n");
}

/* --- who inherits it --- */

static void forks_states_and_successors_are_audited(void **state)
{
    struct fixture *f = *state;
    struct ramet_workspace *plain = NULL, *child = NULL;
    check_ok(ramet_workspace_snapshot(f->ws, "s1", NULL, &err));
    assert_true(is_audited(f, "work", "s1"));
    assert_int_equal(touch(f, "audited/work/a", O_CREAT | O_WRONLY, "one"), 0);
    check_ok(ramet_workspace_snapshot(f->ws, "s2", NULL, &err));
    ramet_workspace_mount_state_changed(f->m.mount, f->ws, "s2");
    assert_int_equal(touch(f, "audited/work/.ramet/history/s2/a", O_RDONLY, NULL), 0);
    check_told(f, "work:a cw me\nwork:.ramet/history/s2/a r me\n");

    check_ok(ramet_workspace_rollback(f->ws, "s1", NULL, &err));
    assert_true(is_audited(f, "work", NULL));

    check_ok(ramet_workspace_create(f->m.set, "plain", geteuid(), getegid(), &plain, &err));
    check_ok(ramet_workspace_fork(plain, "child", &child, &err));
    check_ok(ramet_workspace_snapshot(child, "own", NULL, &err));
    assert_false(is_audited(f, "child", NULL));
    check_ok(ramet_workspace_set_audited(plain, true, &err));
    assert_false(is_audited(f, "child", NULL));
    check_ok(ramet_workspace_promote(child, &err)); /* it takes the place of an audited one */
    assert_true(is_audited(f, "plain", NULL));
    assert_true(is_audited(f, "plain", "own"));
    ramet_workspace_unref(child);
    ramet_workspace_unref(plain);
}

static void check_after_reopening(struct fixture *f, bool checkpoint)
{
    if (checkpoint)
        check_ok(ramet_workspaces_checkpoint(f->m.set, &err));
    ramet_workspace_unref(STEAL(f->ws));
    mounted_close(&f->m);
    mounted_open(&f->m);
    listen_to(f);
    assert_true(is_audited(f, "work", NULL));
    assert_true(is_audited(f, "work", "s"));
    assert_false(is_audited(f, "off", NULL));
    assert_false(is_audited(f, "off", "s"));
}

static void it_is_kept(void **state)
{
    struct fixture *f = *state;
    struct ramet_workspace *off = NULL;
    check_ok(ramet_workspace_snapshot(f->ws, "s", NULL, &err));
    check_ok(ramet_workspace_fork(f->ws, "off", &off, &err));
    check_ok(ramet_workspace_snapshot(off, "s", NULL, &err));
    check_ok(ramet_workspace_set_audited(off, false, &err));
    ramet_workspace_unref(off);
    check_after_reopening(f, false); /* from the journal */
    check_after_reopening(f, true);  /* from the store */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_open_is_told_with_what_it_is_for, setup, teardown),
        cmocka_unit_test_setup_teardown(execution_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(a_removed_file_is_told_without_a_name, setup, teardown),
        cmocka_unit_test_setup_teardown(the_symlink_leads_there_and_follows_the_name, setup, teardown),
        cmocka_unit_test_setup_teardown(what_cannot_be_told_is_not_opened_and_not_made, setup, teardown),
        cmocka_unit_test_setup_teardown(nothing_open_before_passes_by_the_audit, setup, teardown),
        cmocka_unit_test_setup_teardown(mappings_of_audited_files_are_in_a_fork, setup, teardown),
        cmocka_unit_test_setup_teardown(forks_states_and_successors_are_audited, setup, teardown),
        cmocka_unit_test_setup_teardown(it_is_kept, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
