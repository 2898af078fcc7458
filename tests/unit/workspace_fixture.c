/* SPDX-License-Identifier: Apache-2.0 */
#include "workspace_fixture.h"

#include "base/cleanup.h"
#include "store.h"

#include <stdlib.h>
#include <string.h>

struct ramet_error err;

static void open_all(struct world *world)
{
    check_ok(ramet_store_open(world->dir, NULL, &world->store, &err));
    check_ok(ramet_catalog_open(world->store, &world->catalog, &err));
    check_ok(ramet_workspaces_open(world->catalog, &world->set, &err));
}

static void close_all(struct world *world)
{
    ramet_workspace_unref(STEAL(world->ws));
    ramet_workspaces_close(world->set);
    ramet_catalog_close(world->catalog);
    ramet_store_close(world->store);
}

int world_setup(void **state)
{
    struct world *world = calloc(1, sizeof *world);
    test_dir_make(world->dir);
    open_all(world);
    check_ok(ramet_workspace_create(world->set, "main", 1000, 1000, &world->ws, &err));
    *state = world;
    return 0;
}

int world_teardown(void **state)
{
    struct world *world = *state;
    close_all(world);
    test_dir_remove(world->dir);
    free(world);
    return 0;
}

void world_reopen(struct world *world)
{
    close_all(world);
    open_all(world);
    check_ok(ramet_workspace_find(world->set, "main", &world->ws, &err));
}

uint64_t make(struct ramet_workspace *ws, uint64_t dir, const char *name, uint32_t mode)
{
    struct ramet_wstat stat;
    check_ok(ramet_wfile_make(ws, dir, name, mode, 0, 0, OWNER, &stat, &err));
    assert_int_equal(find(ws, dir, name), stat.ino);
    return stat.ino;
}

uint64_t make_file(struct ramet_workspace *ws, uint64_t dir, const char *name)
{
    return make(ws, dir, name, S_IFREG | 0644);
}

uint64_t make_dir(struct ramet_workspace *ws, uint64_t dir, const char *name)
{
    return make(ws, dir, name, S_IFDIR | 0755);
}

uint64_t find(struct ramet_workspace *ws, uint64_t dir, const char *name)
{
    struct ramet_wstat stat;
    check_ok(ramet_wfile_lookup(ws, dir, name, &stat, &err));
    return stat.ino;
}

struct ramet_wstat stat_of(struct ramet_workspace *ws, uint64_t ino)
{
    struct ramet_wstat stat;
    check_ok(ramet_wfile_stat(ws, ino, &stat, &err));
    assert_int_equal(stat.ino, ino);
    return stat;
}

void put_bytes(struct ramet_workspace *ws, uint64_t ino, uint64_t offset, const void *bytes, size_t size)
{
    uint64_t at;
    check_ok(ramet_wfile_write(ws, ino, offset, bytes, size, false, false, &at, &err));
    assert_int_equal(at, offset);
}

void expect_bytes(struct ramet_workspace *ws, uint64_t ino, const void *bytes, size_t size)
{
    size_t got;
    char *buf = malloc(size + 100);
    assert_int_equal(stat_of(ws, ino).size, size);
    check_ok(ramet_wfile_read(ws, ino, 0, buf, size + 100, &got, &err));
    assert_int_equal(got, size);
    assert_memory_equal(buf, bytes, size);
    free(buf);
}

/* --- soundness --- */

struct seen {
    uint64_t ino;
    uint32_t names, nlink;
};

struct sum {
    struct ramet_workspace *ws;
    struct seen *seen;
    size_t count;
    uint64_t blocks;
};

static void add_inode(struct sum *sum, const struct ramet_wstat *stat)
{
    for (size_t i = 0; i < sum->count; i++)
        if (sum->seen[i].ino == stat->ino) {
            sum->seen[i].names++;
            return;
        }
    sum->seen = realloc(sum->seen, (sum->count + 1) * sizeof *sum->seen);
    sum->seen[sum->count++] = (struct seen){stat->ino, 1, stat->nlink};
    sum->blocks += stat->blocks;
}

struct subdirs {
    struct sum *sum;
    uint64_t *items;
    uint32_t count;
};

static bool add_entry(void *ctx, const struct ramet_wentry *entry, const struct ramet_wstat *stat)
{
    struct subdirs *subdirs = ctx;
    assert_int_equal(entry->ino, stat->ino);
    assert_int_equal(entry->type, stat->mode & S_IFMT);
    assert_true(entry->cookie > 0 && entry->cookie <= INT64_MAX);
    add_inode(subdirs->sum, stat);
    if (S_ISDIR(stat->mode)) {
        subdirs->items = realloc(subdirs->items, (subdirs->count + 1) * sizeof *subdirs->items);
        subdirs->items[subdirs->count++] = stat->ino;
    }
    return true;
}

static void sum_dir(struct sum *sum, uint64_t dir, uint64_t parent)
{
    uint64_t up;
    struct subdirs subdirs = {.sum = sum};
    check_ok(ramet_wfile_parent(sum->ws, dir, &up, &err));
    assert_int_equal(parent, up);
    check_ok(ramet_wfile_list(sum->ws, dir, 0, add_entry, &subdirs, true, &err));
    assert_int_equal(stat_of(sum->ws, dir).nlink, 2 + subdirs.count);
    for (uint32_t i = 0; i < subdirs.count; i++)
        sum_dir(sum, subdirs.items[i], dir);
    free(subdirs.items);
}

void expect_sound(struct ramet_workspace *ws)
{
    struct sum sum = {.ws = ws};
    struct ramet_workspace_info info;
    struct ramet_wstat root = stat_of(ws, RAMET_ROOT);
    sum.blocks = root.blocks;
    sum_dir(&sum, RAMET_ROOT, RAMET_ROOT);
    for (size_t i = 0; i < sum.count; i++)
        if (!S_ISDIR(stat_of(ws, sum.seen[i].ino).mode))
            assert_int_equal(sum.seen[i].names, sum.seen[i].nlink);
    ramet_workspace_info(ws, &info);
    assert_int_equal(info.inodes, sum.count + 1);
    assert_int_equal(info.used_bytes, sum.blocks * 512);
    free(sum.seen);
}
