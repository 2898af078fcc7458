/* SPDX-License-Identifier: Apache-2.0 */
/* Archives and directories: everything that goes out comes back, GNU tar agrees, and no archive leads out of its place.
 */
#include "workspace_fixture.h"

#include "workspace/diff.h"
#include "workspace/tar.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct ramet_wstat out;
static struct ramet_warchive_sums sums;

static void fill(struct ramet_workspace *ws)
{
    struct ramet_wstat attr = {.mode = 04755, .mtime_ns = 1234567890123456789, .atime_ns = 1234567890987654321};
    uint64_t d = make_dir(ws, RAMET_ROOT, "dir"), f = make_file(ws, d, "file"), sparse = make_file(ws, d, "sparse");
    char page[20000], name[256];
    memset(page, 'p', sizeof page);
    put_bytes(ws, f, 0, page, sizeof page);
    put_bytes(ws, sparse, 1 << 20, page, 4096);
    attr.size = 3 << 20;
    check_ok(ramet_wfile_set(ws, sparse, &attr, RAMET_WSET_SIZE, &out, &err));
    put_bytes(ws, make_file(ws, d, "small"), 0, "small", 5);
    make_file(ws, d, "empty");
    check_ok(ramet_wfile_link(ws, f, RAMET_ROOT, "hard", &out, &err));
    check_ok(ramet_wfile_set_xattr(ws, f, "user.test", "va\0lue", 6, 0, &err));
    memset(name, 'n', 255), name[255] = '\0';
    put_bytes(ws, make_file(ws, d, name), 0, "long", 4);
    memset(page, 't', 300), page[300] = '\0';
    check_ok(ramet_wfile_symlink(ws, d, "link", page, OWNER, &out, &err));
    make(ws, d, "fifo", S_IFIFO | 0640);
    check_ok(ramet_wfile_make(ws, d, "device", S_IFCHR | 0600, 1, 3, OWNER, &out, &err));
    check_ok(ramet_wfile_set(ws, f, &attr, RAMET_WSET_MODE | RAMET_WSET_MTIME | RAMET_WSET_ATIME, &out, &err));
    attr.mtime_ns = -1500000000;
    check_ok(ramet_wfile_set(ws, d, &attr, RAMET_WSET_MTIME | RAMET_WSET_ATIME, &out, &err));
}

static void expect_equal(struct ramet_workspace *a, struct ramet_workspace *b)
{
    struct ramet_wdiff *diff;
    char words[128];
    check_ok(ramet_wdiff_make(a, b, &diff, &err));
    for (size_t i = 0; i < diff->count; i++) {
        ramet_wdiff_words(diff->items[i].what, words, sizeof words);
        fail_msg("\"%s\": %s", diff->items[i].path, words);
    }
    ramet_wdiff_free(diff);
    static const char *const names[] = {"file", "sparse", "fifo"};
    uint64_t d = find(a, RAMET_ROOT, "dir"), e = find(b, RAMET_ROOT, "dir");
    for (size_t i = 0; i < 3; i++) {
        struct ramet_wstat x = stat_of(a, find(a, d, names[i])), y = stat_of(b, find(b, e, names[i]));
        assert_int_equal(x.mtime_ns, y.mtime_ns);
        assert_int_equal(x.blocks, y.blocks);
        assert_int_equal(x.nlink, y.nlink);
    }
    assert_int_equal(stat_of(a, d).mtime_ns, stat_of(b, e).mtime_ns);
    assert_int_equal(find(b, e, "file"), find(b, RAMET_ROOT, "hard"));
    expect_sound(b);
}

static struct ramet_workspace *other(struct world *world)
{
    struct ramet_workspace *ws;
    check_ok(ramet_workspace_create(world->set, "other", 1000, 1000, &ws, &err));
    return ws;
}

static int temporary(void)
{
    char path[] = "/tmp/ramet-test-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    unlink(path);
    return fd;
}

static void archives_hold_everything(void **state)
{
    struct world *world = *state;
    struct ramet_workspace *b = other(world);
    int fd = temporary();
    fill(world->ws);
    make(world->ws, RAMET_ROOT, "socket", S_IFSOCK | 0600);
    check_ok(ramet_workspace_export_tar(world->ws, "", fd, &sums, &err));
    assert_int_equal(sums.skipped, 1);
    assert_true(lseek(fd, 0, SEEK_END) < 200000); /* the hole is not in it */
    check_ok(ramet_wfile_unlink(world->ws, RAMET_ROOT, "socket", NULL, &err));
    for (int round = 0; round < 2; round++) { /* over itself, too */
        lseek(fd, 0, SEEK_SET);
        check_ok(ramet_workspace_import_tar(b, "", fd, NULL, &sums, &err));
        expect_equal(world->ws, b);
    }
    close(fd);
    ramet_workspace_unref(b);
}

/* As root GNU tar makes all of it; what it archives comes back as it was. */
static void gnu_tar_agrees(void **state)
{
    struct world *world = *state;
    struct ramet_workspace *b = other(world);
    char dir[64], path[128], command[512];
    if (geteuid() != 0)
        skip();
    test_dir_make(dir);
    fill(world->ws);
    snprintf(path, sizeof path, "%s/a.tar", dir);
    int fd = open(path, O_RDWR | O_CREAT, 0600);
    check_ok(ramet_workspace_export_tar(world->ws, "", fd, &sums, &err));
    close(fd);
    snprintf(command, sizeof command,
             "cd %s && mkdir x && tar --xattrs -xpf a.tar -C x && tar --format=pax --xattrs --sparse -czf b.tar -C x .",
             dir);
    assert_int_equal(system(command), 0);
    snprintf(path, sizeof path, "%s/b.tar", dir);
    fd = open(path, O_RDONLY);
    check_ok(ramet_workspace_import_tar(b, "", fd, NULL, &sums, &err));
    close(fd);
    expect_equal(world->ws, b);
    test_dir_remove(dir);
    ramet_workspace_unref(b);
}

static void directories_go_both_ways(void **state)
{
    struct world *world = *state;
    struct ramet_workspace *b = other(world);
    char dir[64], path[128];
    if (geteuid() != 0)
        skip();
    test_dir_make(dir);
    fill(world->ws);
    snprintf(path, sizeof path, "%s/tree", dir);
    check_ok(ramet_workspace_export_dir(world->ws, path, &sums, &err));
    check_fails(ramet_workspace_export_dir(world->ws, path, &sums, &err), RAMET_EXISTS);
    check_ok(ramet_workspace_import_dir(b, "", path, &sums, &err));
    expect_equal(world->ws, b);
    check_ok(ramet_workspace_import_dir(b, "below/here", path, &sums, &err));
    uint64_t here = find(b, find(b, RAMET_ROOT, "below"), "here");
    expect_bytes(b, find(b, find(b, here, "dir"), "small"), "small", 5);
    test_dir_remove(dir);
    ramet_workspace_unref(b);
}

/* Neither ".." nor a symlink of the archive's own leads out; rubbish is refused. */
static void archives_stay_inside(void **state)
{
    struct world *world = *state;
    char dir[64], command[600], path[128];
    static const char *const wrong[] = {"../out", "a/../../out"};
    test_dir_make(dir);
    for (size_t i = 0; i < 4; i++) {
        if (i < 2)
            snprintf(command, sizeof command, "cd %s && touch f && tar -cPf x.tar --transform='s,^f$,%s,' f", dir,
                     wrong[i]);
        else if (i == 2)
            snprintf(command, sizeof command,
                     "cd %s && ln -s /etc link && touch f && tar -cf x.tar link && "
                     "tar -rPf x.tar --transform='s,^f$,link/f,' f",
                     dir);
        else
            snprintf(command, sizeof command, "cd %s && head -c 100000 /dev/urandom > x.tar", dir);
        assert_int_equal(system(command), 0);
        snprintf(path, sizeof path, "%s/x.tar", dir);
        int fd = open(path, O_RDONLY);
        check_fails(ramet_workspace_import_tar(world->ws, "in", fd, NULL, &sums, &err), RAMET_INVALID);
        close(fd);
    }
    snprintf(command, sizeof command, "cd %s && tar -cPf x.tar --transform='s,^f$,/abs/f,' f", dir);
    assert_int_equal(system(command), 0);
    int fd = open(path, O_RDONLY);
    check_ok(ramet_workspace_import_tar(world->ws, "in", fd, NULL, &sums, &err));
    close(fd);
    find(world->ws, find(world->ws, find(world->ws, RAMET_ROOT, "in"), "abs"), "f");
    expect_sound(world->ws);
    test_dir_remove(dir);
}

#define case_of(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        case_of(archives_hold_everything),
        case_of(gnu_tar_agrees),
        case_of(directories_go_both_ways),
        case_of(archives_stay_inside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
