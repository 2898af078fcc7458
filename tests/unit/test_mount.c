/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mount, a real one: images read byte for byte, writes to them refused without a trace, branches apart from each
 * other, names that come and go, and the ends of a mount: stopped while in use, left behind by a crash, not possible.
 *
 * This process serves the mount and so never touches it. Clients are this program run anew (none of our descriptors
 * or threads), with a function's name as argument; they pass when they exit with 0. One that holds something while
 * the test goes on says "ready" and waits for a byte.
 */
#include "testing.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "catalog.h"
#include "image_file.h"
#include "mount.h"
#include "test_mount_client.c" /* one test program, in two files */
#include "working_set.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { client_limit_ms = 60000 };

struct fixture {
    char dir[64], store_dir[96], mount_dir[96];
    struct ramet_store *store;
    struct ramet_catalog *catalog;
    struct ramet_mount *mount;
};

struct client {
    pid_t pid;
    int in, out;
};

static struct ramet_error err;

/* --- clients --- */

static struct client client_start(const char *dir, const char *function, const char *a, const char *b)
{
    char *argv[] = {"test_mount", (char *)function, (char *)dir, (char *)(a ? a : ""), (char *)(b ? b : ""), NULL};
    int in[2], out[2];
    struct client client;
    posix_spawn_file_actions_t actions;
    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, in[0], 0);
    posix_spawn_file_actions_adddup2(&actions, out[1], 1);
    assert_int_equal(posix_spawn(&client.pid, "/proc/self/exe", &actions, NULL, argv, environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    close(in[0]);
    close(out[1]);
    client.in = in[1];
    client.out = out[0];
    return client;
}

static void client_wait_ready(struct client *client)
{
    struct pollfd p = {.fd = client->out, .events = POLLIN};
    char line[8];
    if (poll(&p, 1, client_limit_ms) != 1 || read(client->out, line, sizeof line) != 6)
        fail_msg("a client did not become ready");
}

/* Lets it go on and gives its wait status; SIGKILL when it hangs. */
static int client_end(struct client *client)
{
    struct pollfd p = {.fd = client->out, .events = 0}; /* hangs up when the client is gone */
    int status = 0;
    (void)!write(client->in, "", 1);
    bool hangs = poll(&p, 1, client_limit_ms) != 1;
    if (hangs)
        kill(client->pid, SIGKILL);
    close(client->in);
    close(client->out);
    waitpid(client->pid, &status, 0);
    if (hangs)
        fail_msg("a client hung");
    return status;
}

static void client_pass(struct client *client) { assert_int_equal(client_end(client), 0); }

static void client_run(const struct fixture *f, const char *function, const char *a, const char *b)
{
    struct client client = client_start(f->mount_dir, function, a, b);
    client_pass(&client);
}

/* --- the store behind the mount --- */

static void open_catalog(struct fixture *f)
{
    check_ok(ramet_store_open(f->store_dir, NULL, &f->store, &err));
    check_ok(ramet_catalog_open(f->store, &f->catalog, &err));
}

static void close_catalog(struct fixture *f)
{
    ramet_mount_stop(STEAL(f->mount));
    ramet_catalog_close(STEAL(f->catalog));
    ramet_store_close(STEAL(f->store));
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    test_dir_make(f->dir);
    snprintf(f->store_dir, sizeof f->store_dir, "%s/store", f->dir);
    snprintf(f->mount_dir, sizeof f->mount_dir, "%s/mnt", f->dir);
    open_catalog(f);
    check_ok(ramet_mount_start(f->mount_dir, f->catalog, &f->mount, &err));
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    close_catalog(f);
    umount2(f->mount_dir, MNT_DETACH); /* what a failed test left */
    test_dir_remove(f->dir);
    free(f);
    return 0;
}

/* An image of pattern_byte(seed, offset), its zero pages as holes. */
static struct ramet_image *make_image(struct fixture *f, struct ramet_ingest *ingest, uint64_t seed, uint64_t size)
{
    FILE *file = tmpfile();
    struct ramet_page_map map;
    struct ramet_image *image;
    uint8_t bytes[RAMET_PAGE_SIZE];
    assert_non_null(file);
    assert_int_equal(ftruncate(fileno(file), (off_t)size), 0);
    for (uint64_t at = 0; at < size; at += sizeof bytes) {
        size_t some = size - at < sizeof bytes ? (size_t)(size - at) : sizeof bytes;
        pattern_fill(seed, at, bytes, some);
        if (!pattern_is_hole(at))
            assert_int_equal(pwrite(fileno(file), bytes, some, (off_t)at), some);
    }
    check_ok(ramet_image_put_file(f->store, ingest, fileno(file), "pattern", size, NULL, &map, &err));
    check_ok(ramet_image_new_stored(ramet_catalog_images(f->catalog), size, map.root, &image, &err));
    fclose(file);
    return image;
}

/* A durable snapshot of the pattern's memory and disk, and the caller's reference. */
static struct ramet_snapshot *make_snapshot(struct fixture *f, const char *tag)
{
    struct ramet_snapshot *snapshot;
    struct ramet_ingest *ingest;
    check_ok(ramet_snapshot_new(f->catalog, &snapshot, &err));
    snapshot->cmdline = strdup("console=\"ttyS0\" quote=\\ tab=\t root=/dev/vda");
    snapshot->cpus = 2;
    check_ok(ramet_ingest_begin(f->store, &ingest, &err));
    check_ok(ramet_snapshot_add_image(snapshot, "memory", make_image(f, ingest, MEMORY_SEED, MEMORY_SIZE), &err));
    check_ok(ramet_snapshot_add_image(snapshot, "disk0", make_image(f, ingest, DISK_SEED, DISK_SIZE), &err));
    check_ok(ramet_ingest_commit(ingest, NULL, &err));
    ramet_ingest_end(ingest);
    check_ok(ramet_catalog_add(f->catalog, snapshot, tag, &err));
    check_ok(ramet_catalog_commit(f->catalog, snapshot, &err));
    return snapshot;
}

static void make_branch(struct fixture *f, struct ramet_snapshot *base, const char *name)
{
    struct ramet_branch_request request = {.name = name, .memory_bytes = MEMORY_SIZE, .cpus = 1};
    struct ramet_branch *branch;
    check_ok(ramet_catalog_branch_new(f->catalog, &request, base, &branch, &err));
    ramet_branch_unref(branch);
    ramet_mount_branch_changed(f->mount, name);
}

/* --- snapshots --- */

static void test_images_read_exactly(void **state)
{
    struct fixture *f = *state;
    _cleanup_(ramet_snapshot_cleanup) struct ramet_snapshot *snapshot = make_snapshot(f, "base");
    client_run(f, "read_exactly", snapshot->id, "memory");
    client_run(f, "read_exactly", "base", "disk0");
    client_run(f, "holes", "base", NULL);
    client_run(f, "manifest", "base", snapshot->id);
}

static void test_mapping_is_private(void **state)
{
    struct fixture *f = *state;
    ramet_snapshot_unref(make_snapshot(f, "base"));
    client_run(f, "map_private", "base", NULL);
}

static void test_write_is_refused(void **state)
{
    struct fixture *f = *state;
    ramet_snapshot_unref(make_snapshot(f, "base"));
    client_run(f, "write_refused", "base", NULL);
}

/* Nobody who maps the image may see what a refused write carried, not even for a moment's page cache. */
static void test_refused_write_is_not_seen(void **state)
{
    struct fixture *f = *state;
    ramet_snapshot_unref(make_snapshot(f, "base"));
    client_run(f, "refused_write_unseen", "base", NULL);
}

static void test_refused_shared_map_is_not_seen(void **state)
{
    struct fixture *f = *state;
    ramet_snapshot_unref(make_snapshot(f, "base"));
    client_run(f, "shared_map_unseen", "base", NULL);
}

static void test_readers_at_once(void **state)
{
    struct fixture *f = *state;
    ramet_snapshot_unref(make_snapshot(f, "base"));
    struct client clients[3];
    for (int i = 0; i < 3; i++)
        clients[i] = client_start(f->mount_dir, "read_threads", "base", NULL);
    for (int i = 0; i < 3; i++)
        client_pass(&clients[i]);
}

/* A snapshot not durable yet reads the same before, and after the layer gave way to the map. */
static void test_fresh_snapshot_reads_alike(void **state)
{
    struct fixture *f = *state;
    _cleanup_(ramet_snapshot_cleanup) struct ramet_snapshot *base = make_snapshot(f, "base"), *fresh = NULL;
    struct ramet_branch *branch;
    struct ramet_image *frozen;
    uint64_t generation;
    make_branch(f, base, "work");
    client_run(f, "disk_mark", "work", NULL);
    check_ok(ramet_catalog_branch_find(f->catalog, "work", &branch, &err));
    check_ok(ramet_overlay_freeze(branch->disks[0], &frozen, &generation, &err));
    check_ok(ramet_snapshot_new(f->catalog, &fresh, &err));
    check_ok(ramet_snapshot_add_image(fresh, "disk0", frozen, &err));
    check_ok(ramet_catalog_add(f->catalog, fresh, "fresh", &err));
    client_run(f, "read_marked", "fresh", NULL);
    check_ok(ramet_catalog_commit(f->catalog, fresh, &err));
    ramet_store_drop_caches(f->store);
    client_run(f, "read_marked", "fresh", NULL);
    client_run(f, "read_exactly", "base", "disk0");
    ramet_branch_unref(branch);
}

/* Flips a byte in the middle of every 4 KiB of every pack. */
static void damage_packs(const struct fixture *f)
{
    char path[512];
    snprintf(path, sizeof path, "%s/packs", f->store_dir);
    DIR *dir = opendir(path);
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir));) {
        uint8_t byte;
        if (e->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/packs/%s", f->store_dir, e->d_name);
        _autoclose_ int fd = open(path, O_RDWR | O_CLOEXEC);
        assert_true(fd >= 0);
        for (off_t at = 2048; pread(fd, &byte, 1, at) == 1; at += 4096) {
            byte ^= 0x10;
            assert_int_equal(pwrite(fd, &byte, 1, at), 1);
        }
    }
    closedir(dir);
}

static void test_damage_is_an_error(void **state)
{
    struct fixture *f = *state;
    ramet_snapshot_unref(make_snapshot(f, "base"));
    damage_packs(f);
    ramet_store_drop_caches(f->store);
    client_run(f, "damaged", "base", NULL);
}

/* --- names --- */

static void test_names_come_and_go(void **state)
{
    struct fixture *f = *state;
    client_run(f, "missing", "snapshots/base", NULL);
    _cleanup_(ramet_snapshot_cleanup) struct ramet_snapshot *one = make_snapshot(f, "base");
    client_run(f, "tag_leads_to", "base", one->id);
    _cleanup_(ramet_snapshot_cleanup) struct ramet_snapshot *two = make_snapshot(f, NULL);
    check_ok(ramet_catalog_tag(f->catalog, two, "base", &err));
    ramet_mount_snapshot_changed(f->mount, "base");
    client_run(f, "tag_leads_to", "base", two->id);
    check_ok(ramet_catalog_remove(f->catalog, one, &err));
    ramet_mount_snapshot_changed(f->mount, one->id);
    char path[96];
    snprintf(path, sizeof path, "snapshots/%s", one->id);
    client_run(f, "missing", path, NULL);
    check_ok(ramet_catalog_untag(f->catalog, "base", &err));
    ramet_mount_snapshot_changed(f->mount, "base");
    client_run(f, "missing", "snapshots/base", NULL);
    client_run(f, "read_exactly", two->id, "memory");
    client_run(f, "missing", "branches/work", NULL);
    make_branch(f, two, "work");
    client_run(f, "read_branch", "work", NULL);
}

static void test_branch_name_comes_back(void **state)
{
    struct fixture *f = *state;
    _cleanup_(ramet_snapshot_cleanup) struct ramet_snapshot *snapshot = make_snapshot(f, "base");
    struct ramet_branch *branch;
    make_branch(f, snapshot, "work");
    client_run(f, "disk_mark", "work", NULL);
    check_ok(ramet_catalog_branch_find(f->catalog, "work", &branch, &err));
    check_ok(ramet_catalog_branch_remove(f->catalog, branch, &err));
    ramet_mount_branch_changed(f->mount, "work");
    ramet_branch_unref(branch);
    client_run(f, "missing", "branches/work", NULL);
    make_branch(f, snapshot, "work");
    client_run(f, "read_branch", "work", NULL);
}

static void test_many_names_listed_once(void **state)
{
    struct fixture *f = *state;
    _cleanup_(ramet_snapshot_cleanup) struct ramet_snapshot *snapshot = make_snapshot(f, NULL);
    for (int i = 0; i < 300; i++) {
        char tag[16];
        snprintf(tag, sizeof tag, "t%03d", i);
        check_ok(ramet_catalog_tag(f->catalog, snapshot, tag, &err));
    }
    client_run(f, "list_tags", "300", NULL);
}

static void test_removed_stays_readable(void **state)
{
    struct fixture *f = *state;
    struct ramet_snapshot *snapshot = make_snapshot(f, "base");
    struct client client = client_start(f->mount_dir, "hold_removed", snapshot->id, NULL);
    client_wait_ready(&client);
    check_ok(ramet_catalog_remove(f->catalog, snapshot, &err));
    ramet_mount_snapshot_changed(f->mount, snapshot->id);
    ramet_snapshot_unref(snapshot);
    struct ramet_gc_result gc;
    check_ok(ramet_catalog_gc(f->catalog, &gc, &err));
    ramet_store_drop_caches(f->store);
    client_pass(&client);
}

/* --- branches --- */

static void test_branch_disk(void **state)
{
    struct fixture *f = *state;
    _cleanup_(ramet_snapshot_cleanup) struct ramet_snapshot *snapshot = make_snapshot(f, "base");
    make_branch(f, snapshot, "work");
    client_run(f, "disk_io", "work", NULL);
    client_run(f, "disk_limits", "work", NULL);
    client_run(f, "read_exactly", "base", "disk0");
}

static void test_branches_are_apart(void **state)
{
    struct fixture *f = *state;
    _cleanup_(ramet_snapshot_cleanup) struct ramet_snapshot *snapshot = make_snapshot(f, "base");
    make_branch(f, snapshot, "left");
    make_branch(f, snapshot, "right");
    client_run(f, "branches_apart", "left", "right");
    client_run(f, "read_exactly", "base", "disk0");
}

/* --- the ends of a mount --- */

static void test_stop_while_mapped(void **state)
{
    struct fixture *f = *state;
    ramet_snapshot_unref(make_snapshot(f, "base"));
    struct client client = client_start(f->mount_dir, "hold_mapped", "base", NULL);
    client_wait_ready(&client);
    uint64_t start = ramet_now_us();
    alarm(20); /* ends this test program, loudly, when stop hangs */
    ramet_mount_stop(STEAL(f->mount));
    alarm(0);
    print_message("stop while mapped: %.1f ms\n", (double)(ramet_now_us() - start) / 1000);
    client_pass(&client);
    check_ok(ramet_mount_start(f->mount_dir, f->catalog, &f->mount, &err));
    client_run(f, "read_exactly", "base", "memory");
}

static void test_stale_mount_is_recovered(void **state)
{
    struct fixture *f = *state;
    ramet_snapshot_unref(make_snapshot(f, "base"));
    close_catalog(f);
    struct client server = client_start(f->mount_dir, "serve", f->store_dir, NULL);
    client_wait_ready(&server);
    client_run(f, "read_exactly", "base", "memory");
    kill(server.pid, SIGKILL);
    assert_true(WIFSIGNALED(client_end(&server)));
    open_catalog(f);
    check_ok(ramet_mount_start(f->mount_dir, f->catalog, &f->mount, &err));
    client_run(f, "read_exactly", "base", "memory");
}

static void test_busy_directories_are_refused(void **state)
{
    struct fixture *f = *state;
    struct ramet_mount *second = NULL;
    char path[128];
    check_fails(ramet_mount_start(f->mount_dir, f->catalog, &second, &err), RAMET_BUSY);
    assert_true(err.hint[0] != '\0');
    snprintf(path, sizeof path, "%s/full", f->dir);
    check_ok(ramet_dir_make(path, 0755, &err));
    snprintf(path, sizeof path, "%s/full/file", f->dir);
    fclose(fopen(path, "we"));
    *strrchr(path, '/') = '\0';
    check_fails(ramet_mount_start(path, f->catalog, &second, &err), RAMET_BUSY);
    assert_true(err.hint[0] != '\0');
    assert_null(second);
}

/* Run by test_stale_mount_is_recovered as a process of its own. */
static int serve(const char *dir, const char *store_dir)
{
    struct fixture f = {0};
    char byte;
    if (ramet_store_open(store_dir, NULL, &f.store, &err) < 0 || ramet_catalog_open(f.store, &f.catalog, &err) < 0 ||
        ramet_mount_start(dir, f.catalog, &f.mount, &err) < 0) {
        fprintf(stderr, "serve: %s\n", err.msg);
        return 1;
    }
    (void)!write(1, "ready\n", 6);
    (void)!read(0, &byte, 1);
    close_catalog(&f);
    return 0;
}

/* What is read is recorded, once; what was put into the page cache is read without asking us. */
static void test_reads_are_recorded_and_spared(void **state)
{
    enum { whole_pages = MEMORY_SIZE / RAMET_PAGE_SIZE };
    struct fixture *f = *state;
    _cleanup_(ramet_snapshot_cleanup) struct ramet_snapshot *read = make_snapshot(f, "read"),
                                                            *put = make_snapshot(f, "put");
    struct ramet_working_set set;
    char path[PATH_MAX];
    struct stat st;
    check_fails(ramet_mount_record_end(f->mount, read, &set, &err), RAMET_NOT_FOUND);
    check_ok(ramet_mount_record_begin(f->mount, read, &err));
    check_fails(ramet_mount_record_begin(f->mount, read, &err), RAMET_BUSY);
    client_run(f, "read_exactly", read->id, "memory");
    check_ok(ramet_mount_record_end(f->mount, read, &set, &err));
    assert_int_equal(set.page_count, whole_pages);
    ramet_working_set_free(&set);

    snprintf(path, sizeof path, "%s/snapshots/%s/memory", f->mount_dir, put->id);
    uint8_t page[RAMET_PAGE_SIZE];
    check_fails(ramet_mount_put_memory(f->mount, put, 0, page, sizeof page, &err), RAMET_NOT_FOUND); /* not looked up */
    assert_int_equal(stat(path, &st), 0);
    check_ok(ramet_mount_record_begin(f->mount, put, &err));
    for (uint64_t at = 0; at < whole_pages * RAMET_PAGE_SIZE; at += sizeof page) {
        check_ok(ramet_image_read(ramet_snapshot_image(put, "memory"), at, page, sizeof page, &err));
        check_ok(ramet_mount_put_memory(f->mount, put, at, page, sizeof page, &err));
    }
    client_run(f, "read_exactly", put->id, "memory");
    check_ok(ramet_mount_record_end(f->mount, put, &set, &err));
    assert_int_equal(set.page_count, 1); /* the client's read past the cache */
    assert_int_equal(set.runs[0].first, 7);
    ramet_working_set_free(&set);
    check_ok(ramet_mount_record_begin(f->mount, put, &err)); /* left for the mount's end */
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(test_images_read_exactly),
        TEST(test_mapping_is_private),
        TEST(test_write_is_refused),
        TEST(test_refused_write_is_not_seen),
        TEST(test_refused_shared_map_is_not_seen),
        TEST(test_readers_at_once),
        TEST(test_reads_are_recorded_and_spared),
        TEST(test_fresh_snapshot_reads_alike),
        TEST(test_damage_is_an_error),
        TEST(test_names_come_and_go),
        TEST(test_branch_name_comes_back),
        TEST(test_many_names_listed_once),
        TEST(test_removed_stays_readable),
        TEST(test_branch_disk),
        TEST(test_branches_are_apart),
        TEST(test_stop_while_mapped),
        TEST(test_stale_mount_is_recovered),
        TEST(test_busy_directories_are_refused),
    };
    if (argc == 5)
        return strcmp(argv[1], "serve") == 0 ? serve(argv[2], argv[3])
                                             : client_main(argv[1], argv[2], argv[3], argv[4]);
    if (access("/dev/fuse", R_OK | W_OK) < 0 || geteuid() != 0) {
        fprintf(stderr, "SKIPPED: the mount's tests need root and /dev/fuse\n");
        return 77;
    }
    signal(SIGPIPE, SIG_IGN);
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
