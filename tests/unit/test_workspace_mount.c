/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: on one mount no workspace ever shows what is another's, through whatever the kernel caches; what changes behind
 * the kernel's back (rollback, promote, names) is seen at once; and nothing is left of what was deleted while open.
 *
 * A real mount, of this process: the test's thread serves nothing, so it may use it.
 */
#include "mount_fixture.h"

#include "base/cleanup.h"
#include "catalog.h"
#include "workspace/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

static struct ramet_error err;

static int setup(void **state)
{
    struct mounted *f = calloc(1, sizeof *f);
    mounted_make(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    mounted_remove(*state);
    free(*state);
    return 0;
}

/* --- files by "workspace/path" --- */

static const char *at(const struct mounted *f, const char *path) { return mounted_at(f, RAMET_WORKSPACES_PLAIN, path); }

static void put(const struct mounted *f, const char *path, const char *text)
{
    int fd = open(at(f, path), O_CREAT | O_WRONLY | O_TRUNC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    assert_int_equal(close(fd), 0);
}

static void check_text(const struct mounted *f, const char *path, const char *text)
{
    char buf[256] = "";
    int fd = open(at(f, path), O_RDONLY);
    if (fd < 0)
        fail_msg("%s: %s", path, strerror(errno));
    assert_true(read(fd, buf, sizeof buf - 1) >= 0);
    close(fd);
    assert_string_equal(buf, text);
}

static bool exists(const struct mounted *f, const char *path) { return access(at(f, path), F_OK) == 0; }

/* The names in a directory, each followed by a space, in no order; two listings of the same are equal. */
static unsigned count_names(const struct mounted *f, const char *path)
{
    unsigned count = 0;
    DIR *dir = opendir(at(f, path));
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir));)
        count += e->d_name[0] != '.';
    closedir(dir);
    return count;
}

static struct ramet_workspace *make(struct mounted *f, const char *name)
{
    struct ramet_workspace *workspace;
    check_ok(ramet_workspace_create(f->set, name, 0, 0, &workspace, &err));
    return workspace;
}

static struct ramet_workspace *fork_of(struct mounted *f, struct ramet_workspace *from, const char *name)
{
    struct ramet_workspace *workspace;
    check_ok(ramet_workspace_mount_flush(f->mount, &err));
    check_ok(ramet_workspace_fork(from, name, &workspace, &err));
    ramet_workspace_mount_name_changed(f->mount, name);
    return workspace;
}

/* --- forks on one mount --- */

static void test_page_cache(void **state)
{
    struct mounted *f = *state;
    struct ramet_workspace *a = make(f, "a");
    put(f, "a/f", "one");
    check_text(f, "a/f", "one");
    struct ramet_workspace *b = fork_of(f, a, "b");
    check_text(f, "b/f", "one");
    put(f, "a/f", "two");
    check_text(f, "b/f", "one");
    put(f, "b/f", "three");
    check_text(f, "a/f", "two");
    int fa = open(at(f, "a/f"), O_RDWR), fb = open(at(f, "b/f"), O_RDWR);
    for (int i = 0; i < 200; i++) {
        char in_a[8], in_b[8], got[8] = "";
        snprintf(in_a, sizeof in_a, "a%06d", i);
        snprintf(in_b, sizeof in_b, "b%06d", i);
        assert_int_equal(pwrite(fa, in_a, 7, i % 3 * 4096), 7);
        assert_int_equal(pwrite(fb, in_b, 7, i % 3 * 4096), 7);
        assert_int_equal(pread(fa, got, 7, i % 3 * 4096), 7);
        assert_string_equal(got, in_a);
        assert_int_equal(pread(fb, got, 7, i % 3 * 4096), 7);
        assert_string_equal(got, in_b);
    }
    close(fa), close(fb);
    ramet_workspace_unref(a), ramet_workspace_unref(b);
}

static void test_dentry_cache(void **state)
{
    struct mounted *f = *state;
    struct ramet_workspace *a = make(f, "a");
    put(f, "a/both", "x");
    struct ramet_workspace *b = fork_of(f, a, "b");
    assert_true(exists(f, "a/both") && exists(f, "b/both") && !exists(f, "a/new") && !exists(f, "b/new"));
    put(f, "a/new", "a's");
    assert_false(exists(f, "b/new"));
    assert_int_equal(unlink(at(f, "b/both")), 0);
    assert_true(exists(f, "a/both") && !exists(f, "b/both"));
    put(f, "b/new", "b's");
    check_text(f, "a/new", "a's");
    assert_int_equal(rename(at(f, "a/new"), at(f, "a/old")), 0);
    assert_true(exists(f, "b/new") && !exists(f, "b/old") && !exists(f, "a/new"));
    struct stat sa, sb;
    assert_int_equal(stat(at(f, "a"), &sa), 0);
    assert_int_equal(stat(at(f, "b"), &sb), 0);
    assert_true(sa.st_ino != sb.st_ino);
    ramet_workspace_unref(a), ramet_workspace_unref(b);
}

static void test_readdir(void **state)
{
    struct mounted *f = *state;
    struct ramet_workspace *a = make(f, "a");
    char name[64];
    assert_int_equal(mkdir(at(f, "a/d"), 0755), 0);
    for (int i = 0; i < 500; i++) {
        snprintf(name, sizeof name, "a/d/f%d", i);
        put(f, name, "x");
    }
    assert_int_equal(count_names(f, "a/d"), 500);
    struct ramet_workspace *b = fork_of(f, a, "b");
    assert_int_equal(count_names(f, "b/d"), 500);
    put(f, "a/d/one-more", "x");
    assert_int_equal(count_names(f, "b/d"), 500);
    assert_int_equal(count_names(f, "a/d"), 501);
    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof name, "b/d/f%d", i);
        assert_int_equal(unlink(at(f, name)), 0);
    }
    assert_int_equal(count_names(f, "b/d"), 400);
    assert_int_equal(count_names(f, "a/d"), 501);
    assert_int_equal(count_names(f, ""), 2);
    ramet_workspace_unref(a), ramet_workspace_unref(b);
}

static void test_mmap(void **state)
{
    struct mounted *f = *state;
    struct ramet_workspace *a = make(f, "a");
    char page[4096];
    memset(page, 'a', sizeof page);
    int fa = open(at(f, "a/f"), O_CREAT | O_RDWR, 0644);
    assert_int_equal(write(fa, page, sizeof page), sizeof page);
    char *ma = mmap(NULL, sizeof page, PROT_READ | PROT_WRITE, MAP_SHARED, fa, 0);
    assert_true(ma != MAP_FAILED);
    ma[0] = '1'; /* only the kernel has this: a fork holds it nevertheless */
    struct ramet_workspace *b = fork_of(f, a, "b");
    int fb = open(at(f, "b/f"), O_RDWR);
    char *mb = mmap(NULL, sizeof page, PROT_READ | PROT_WRITE, MAP_SHARED, fb, 0);
    assert_true(mb != MAP_FAILED && mb[0] == '1' && mb[1] == 'a');
    ma[0] = '2';
    assert_int_equal(mb[0], '1');
    mb[0] = '3';
    assert_int_equal(ma[0], '2');
    assert_int_equal(msync(ma, sizeof page, MS_SYNC) + msync(mb, sizeof page, MS_SYNC), 0);
    struct ramet_workspace *c = fork_of(f, b, "c");
    int fc = open(at(f, "c/f"), O_RDONLY);
    assert_int_equal(pread(fc, page, 1, 0), 1);
    assert_int_equal(page[0], '3');
    munmap(ma, sizeof page), munmap(mb, sizeof page);
    close(fa), close(fb), close(fc);
    ramet_workspace_unref(a), ramet_workspace_unref(b), ramet_workspace_unref(c);
}

static void test_between_workspaces(void **state)
{
    struct mounted *f = *state;
    struct ramet_workspace *a = make(f, "a"), *b = make(f, "b");
    put(f, "a/f", "content");
    assert_int_equal(rename(at(f, "a/f"), at(f, "b/f")), -1);
    assert_int_equal(errno, EXDEV);
    assert_int_equal(link(at(f, "a/f"), at(f, "b/f")), -1);
    assert_int_equal(errno, EXDEV);
    int from = open(at(f, "a/f"), O_RDONLY), to = open(at(f, "b/f"), O_CREAT | O_WRONLY, 0644);
    assert_int_equal(copy_file_range(from, NULL, to, NULL, 100, 0), 7); /* the kernel copies */
    close(from), close(to);
    check_text(f, "b/f", "content");
    assert_int_equal(mkdir(at(f, "new"), 0755), -1);
    assert_int_equal(errno, EROFS);
    ramet_workspace_unref(a), ramet_workspace_unref(b);
}

/* --- history --- */

static void test_history(void **state)
{
    struct mounted *f = *state;
    struct ramet_workspace_state kept;
    struct ramet_workspace *a = make(f, "a");
    put(f, "a/f", "old");
    check_ok(ramet_workspace_snapshot(a, "first", &kept, &err));
    ramet_workspace_mount_state_changed(f->mount, a, "first");
    put(f, "a/f", "new");
    check_text(f, "a/.ramet/history/first/f", "old");
    int fd = open(at(f, "a/.ramet/history/first/f"), O_WRONLY);
    assert_true(fd < 0 || (write(fd, "x", 1) < 0 && errno == EROFS));
    close(fd);
    assert_int_equal(unlink(at(f, "a/.ramet/history/first/f")), -1);
    assert_int_equal(errno, EROFS);
    assert_int_equal(count_names(f, "a"), 1);
    assert_int_equal(count_names(f, "a/.ramet"), 1);
    assert_int_equal(count_names(f, "a/.ramet/history"), 1);
    assert_int_equal(mkdir(at(f, "a/.ramet"), 0755), -1);
    assert_int_equal(rmdir(at(f, "a/.ramet")), -1);
    assert_int_equal(rename(at(f, "a/f"), at(f, "a/.ramet")), -1);
    assert_false(exists(f, "a/.ramet/history/none"));
    ramet_workspace_unref(a);
}

static void test_rollback(void **state)
{
    struct mounted *f = *state;
    struct ramet_workspace_state kept, before;
    struct ramet_workspace *a = make(f, "a");
    char buf[8];
    put(f, "a/f", "old");
    put(f, "a/gone-later", "x");
    check_ok(ramet_workspace_snapshot(a, "first", &kept, &err));
    put(f, "a/f", "new");
    put(f, "a/added", "x");
    assert_int_equal(unlink(at(f, "a/gone-later")), 0);
    int open_before = open(at(f, "a/f"), O_RDWR | O_DIRECT);
    check_ok(ramet_workspace_rollback(a, "first", &before, &err));
    ramet_workspace_mount_name_changed(f->mount, "a");
    check_text(f, "a/f", "old");
    assert_true(exists(f, "a/gone-later") && !exists(f, "a/added"));
    assert_int_equal(count_names(f, "a"), 2);
    assert_int_equal(pread(open_before, buf, 4, 0), -1);
    assert_int_equal(errno, ESTALE);
    close(open_before);
    char path[256];
    snprintf(path, sizeof path, "a/.ramet/history/%s/f", before.name);
    check_text(f, path, "new");
    ramet_workspace_unref(a);
    mounted_close(f);
    mounted_open(f); /* the journal says the same */
    check_text(f, "a/f", "old");
    check_text(f, path, "new");
}

static void test_promote_and_remove(void **state)
{
    struct mounted *f = *state;
    struct ramet_workspace *a = make(f, "a");
    put(f, "a/f", "parent");
    struct ramet_workspace *b = fork_of(f, a, "b");
    put(f, "b/f", "child");
    check_text(f, "a/f", "parent");
    check_ok(ramet_workspace_promote(b, &err));
    ramet_workspace_mount_name_changed(f->mount, "b");
    ramet_workspace_mount_name_changed(f->mount, "a");
    check_text(f, "a/f", "child");
    assert_false(exists(f, "b"));
    ramet_workspace_unref(a), ramet_workspace_unref(b);
    mounted_close(f);
    mounted_open(f);
    check_text(f, "a/f", "child");
    assert_false(exists(f, "b"));
    check_ok(ramet_workspace_find(f->set, "a", &b, &err));
    int fd = open(at(f, "a/f"), O_RDONLY | O_DIRECT);
    check_ok(ramet_workspace_remove(b, &err));
    ramet_workspace_mount_name_changed(f->mount, "a");
    assert_false(exists(f, "a"));
    char buf[8];
    assert_int_equal(pread(fd, buf, 4, 0), -1);
    close(fd);
    ramet_workspace_unref(b);
    struct ramet_workspace *again = make(f, "a");
    ramet_workspace_mount_name_changed(f->mount, "a");
    assert_int_equal(count_names(f, "a"), 0);
    ramet_workspace_unref(again);
}

/* --- what was deleted while open --- */

static uint64_t inodes_of(struct ramet_workspace *workspace)
{
    struct ramet_workspace_info info;
    ramet_workspace_info(workspace, &info);
    return info.inodes;
}

static void test_orphans(void **state)
{
    struct mounted *f = *state;
    struct ramet_workspace *a = make(f, "a");
    uint64_t before = inodes_of(a);
    char buf[8] = "";
    put(f, "a/f", "orphan");
    int fd = open(at(f, "a/f"), O_RDWR), hidden = open(at(f, "a"), O_TMPFILE | O_RDWR, 0600);
    assert_true(fd >= 0 && hidden >= 0);
    assert_int_equal(unlink(at(f, "a/f")), 0);
    assert_int_equal(pread(fd, buf, 6, 0), 6);
    assert_string_equal(buf, "orphan");
    struct ramet_workspace *b = fork_of(f, a, "b");
    assert_int_equal(count_names(f, "b"), 0);
    close(fd), close(hidden);
    for (int i = 0; i < 500 && inodes_of(a) != before; i++)
        usleep(10000); /* the kernel forgets in its own time */
    assert_int_equal(inodes_of(a), before);
    ramet_workspace_unref(a), ramet_workspace_unref(b);
}

static void test_reopen(void **state)
{
    struct mounted *f = *state;
    struct ramet_workspace *a = make(f, "a");
    put(f, "a/f", "kept");
    int fd = open(at(f, "a/f"), O_RDONLY);
    assert_int_equal(fsync(fd), 0);
    ramet_workspace_unref(a);
    mounted_close(f); /* with a file open */
    char c;
    assert_int_equal(pread(fd, &c, 1, 4096), -1);
    close(fd);
    mounted_open(f);
    check_text(f, "a/f", "kept");
}

static void test_quota(void **state)
{
    struct mounted *f = *state;
    struct ramet_workspace *a = make(f, "a");
    struct statvfs st;
    static char megabyte[1 << 20];
    test_fill(megabyte, sizeof megabyte);
    check_ok(ramet_workspace_set_quota(a, 4 << 20, 10, &err));
    assert_int_equal(statvfs(at(f, "a"), &st), 0);
    assert_int_equal(st.f_blocks * st.f_frsize, 4 << 20);
    int fd = open(at(f, "a/f"), O_CREAT | O_WRONLY, 0644);
    for (int i = 0; i < 3; i++)
        assert_int_equal(write(fd, megabyte, sizeof megabyte), sizeof megabyte);
    ssize_t r = write(fd, megabyte, sizeof megabyte);
    r = r == sizeof megabyte ? write(fd, megabyte, sizeof megabyte) : r;
    assert_true(r < (ssize_t)sizeof megabyte && (r >= 0 || errno == EDQUOT || errno == ENOSPC));
    close(fd);
    char name[32];
    int made = 0;
    for (; made < 20; made++) {
        snprintf(name, sizeof name, "a/n%d", made);
        if (mkdir(at(f, name), 0755) < 0)
            break;
    }
    assert_true(made < 10 && (errno == EDQUOT || errno == ENOSPC));
    ramet_workspace_unref(a);
}

/* --- the checks of tests/conformance/posix.c --- */

static void test_posix(void **state)
{
    struct mounted *f = *state;
    struct ramet_workspace *a = make(f, "a");
    int status = -1;
    pid_t child = fork();
    if (child == 0) {
        execl(RAMET_POSIX, RAMET_POSIX, at(f, "a"), NULL);
        _exit(255);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    ramet_workspace_unref(a);
}

#define MOUNTED(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        MOUNTED(test_page_cache), MOUNTED(test_dentry_cache), MOUNTED(test_readdir),
        MOUNTED(test_mmap),       MOUNTED(test_orphans),      MOUNTED(test_between_workspaces),
        MOUNTED(test_history),    MOUNTED(test_rollback),     MOUNTED(test_promote_and_remove),
        MOUNTED(test_reopen),     MOUNTED(test_quota),        MOUNTED(test_posix),
    };
    if (access("/dev/fuse", R_OK | W_OK) != 0 || geteuid() != 0) {
        printf("SKIP: /dev/fuse is missing, or this is not root\n");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
