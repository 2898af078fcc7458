/* SPDX-License-Identifier: Apache-2.0 */
/*
 * In order: a tree with one of every kind of file; a state, a fork that changes, a rollback,
 * a merge; all of that into the store. Opened again, some of it is changed and put into the
 * store by a checkpoint. Then, in the journal only: every kind of change once more, on what
 * is stored and on what is new.
 */
#include "sample_workspaces.h"
#include "sample_must.h"

#include "workspace/files.h"
#include "workspace/merge.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>
#include <sys/xattr.h>

enum { page = RAMET_PAGE_SIZE, root = RAMET_WORKSPACE_ROOT, entries = 150, mib = 1 << 20 };

struct maker {
    struct ramet_store *store;
    struct ramet_catalog *catalog;
    struct ramet_workspaces *set;
};

static struct ramet_error err;
static const struct ramet_wowner alice = {1000, 1000}, large = {4000000001, 4000000002};

static void open_all(struct maker *maker, const char *dir)
{
    const struct ramet_store_options options = {.pack_bytes = 256 << 10, .threads = 1};
    must(ramet_store_open(dir, &options, &maker->store, &err));
    must(ramet_catalog_open(maker->store, &maker->catalog, &err));
    must(ramet_workspaces_open(maker->catalog, &maker->set, &err));
}

static void close_all(struct maker *maker)
{
    ramet_workspaces_close(maker->set);
    ramet_catalog_close(maker->catalog);
    ramet_store_close(maker->store);
}

/* --- short forms --- */

static struct ramet_workspace *find(struct maker *maker, const char *name)
{
    struct ramet_workspace *ws;
    must(ramet_workspace_find(maker->set, name, &ws, &err));
    return ws;
}

static uint64_t at(struct ramet_workspace *ws, uint64_t dir, const char *name)
{
    struct ramet_wstat stat;
    must(ramet_wfile_lookup(ws, dir, name, &stat, &err));
    return stat.ino;
}

/* What has setuid or setgid bits belongs to somebody with large numbers. */
static uint64_t make(struct ramet_workspace *ws, uint64_t dir, const char *name, uint32_t mode, uint32_t major,
                     uint32_t minor)
{
    struct ramet_wstat stat;
    must(ramet_wfile_make(ws, dir, name, mode, major, minor, mode & S_ISGID ? large : alice, &stat, &err));
    return stat.ino;
}

static uint64_t make_dir(struct ramet_workspace *ws, uint64_t dir, const char *name)
{
    return make(ws, dir, name, S_IFDIR | 0750, 0, 0);
}

static void put(struct ramet_workspace *ws, uint64_t ino, uint64_t offset, const void *bytes, size_t size)
{
    uint64_t where;
    must(ramet_wfile_write(ws, ino, offset, bytes, size, false, false, &where, &err));
}

static uint64_t put_text(struct ramet_workspace *ws, uint64_t dir, const char *name, const char *text)
{
    uint64_t ino = make(ws, dir, name, S_IFREG | 0644, 0, 0);
    put(ws, ino, 0, text, strlen(text));
    return ino;
}

/* Pages that compress, each another. */
static void put_pages(struct ramet_workspace *ws, uint64_t ino, uint64_t offset, size_t count, uint64_t seed)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t words[page / 8];
        for (size_t k = 0; k < page / 8; k++)
            words[k] = (seed + i) * UINT64_C(0x9e3779b97f4a7c15) + k / 32;
        put(ws, ino, offset + i * page, words, page);
    }
}

static void set(struct ramet_workspace *ws, uint64_t ino, struct ramet_wstat attr, unsigned which)
{
    struct ramet_wstat stat;
    must(ramet_wfile_set(ws, ino, &attr, which, &stat, &err));
}

static void link_to(struct ramet_workspace *ws, uint64_t ino, uint64_t dir, const char *name)
{
    struct ramet_wstat stat;
    must(ramet_wfile_link(ws, ino, dir, name, &stat, &err));
}

static void symlink_to(struct ramet_workspace *ws, uint64_t dir, const char *name, const char *target)
{
    struct ramet_wstat stat;
    must(ramet_wfile_symlink(ws, dir, name, target, alice, &stat, &err));
}

static void merge(struct ramet_workspace *ours, struct ramet_workspace *theirs)
{
    struct ramet_wmerge_result result;
    must(ramet_workspace_merge(ours, theirs, NULL, &result, &err));
    must_hold(result.applied && result.conflict_count == 0 && result.names > 0);
    ramet_wmerge_result_free(&result);
}

static struct ramet_workspace *fork_of(struct ramet_workspace *ws, const char *name)
{
    struct ramet_workspace *fork;
    must(ramet_workspace_fork(ws, name, &fork, &err));
    return fork;
}

/* --- what a tree may have --- */

static void make_files(struct ramet_workspace *ws)
{
    char long_target[701] = "";
    memset(long_target, 't', sizeof long_target - 1);
    uint64_t small = put_text(ws, root, "small", "Few enough bytes to lie in the record of the file.\n");
    make(ws, root, "empty", S_IFREG | 0600, 0, 0);
    uint64_t big = make(ws, root, "big", S_IFREG | 0640, 0, 0);
    put_pages(ws, big, 0, 3, 1);
    put_pages(ws, big, 60 * page, 8, 100); /* in two groups */
    put(ws, big, mib + 100, "an island", 9);
    set(ws, big, (struct ramet_wstat){.size = 5 * mib + 7}, RAMET_WSET_SIZE);
    uint64_t docs = make_dir(ws, root, "docs"), deep = make_dir(ws, make_dir(ws, docs, "a"), "b");
    link_to(ws, small, docs, "small-too");
    link_to(ws, small, deep, "small-three");
    symlink_to(ws, root, "link", "docs/small-too");
    symlink_to(ws, docs, "long-link", long_target);
    make(ws, root, "null", S_IFCHR | 0666, 1, 3);
    make(ws, docs, "disk", S_IFBLK | 0660, 259, 70000);
    make(ws, docs, "pipe", S_IFIFO | 0600, 0, 0);
    make(ws, docs, "socket", S_IFSOCK | 0755, 0, 0);
    make(ws, docs, "set-bits", S_IFREG | S_ISUID | S_ISGID | 0711, 0, 0);
    make(ws, root, "shared", S_IFDIR | S_ISGID | S_ISVTX | 0777, 0, 0);
    /* Before 1970, and far after 2106. */
    const struct ramet_wstat times = {.atime_ns = -1, .mtime_ns = INT64_C(7258118400123456789)};
    set(ws, put_text(ws, docs, "times", "t"), times, RAMET_WSET_ATIME | RAMET_WSET_MTIME);
}

static void make_attributes(struct ramet_workspace *ws)
{
    /* A posix_acl_xattr of version 2: user::rw-, user:1001:r--, group::r--, mask::r--, other::--- */
    static const uint8_t acl[] = {2, 0,   0,   0,   1,   0,   6,  0, 255, 255, 255, 255, 2,   0,  4,
                                  0, 233, 3,   0,   0,   4,   0,  4, 0,   255, 255, 255, 255, 16, 0,
                                  4, 0,   255, 255, 255, 255, 32, 0, 0,   0,   255, 255, 255, 255};
    uint8_t value[3000];
    for (size_t i = 0; i < sizeof value; i++)
        value[i] = (uint8_t)(i % 253);
    uint64_t small = at(ws, root, "small"), docs = at(ws, root, "docs");
    must(ramet_wfile_set_xattr(ws, small, "system.posix_acl_access", acl, sizeof acl, 0, &err));
    must(ramet_wfile_set_xattr(ws, docs, "user.note", "a word", 6, XATTR_CREATE, &err));
    must(ramet_wfile_set_xattr(ws, docs, "user.none", "", 0, 0, &err));
    must(ramet_wfile_set_xattr(ws, docs, "user.large", value, sizeof value, 0, &err)); /* in three parts */
}

static void make_many(struct ramet_workspace *ws)
{
    uint64_t many = make_dir(ws, root, "many");
    for (int i = 0; i < entries; i++) {
        char name[32];
        snprintf(name, sizeof name, "entry-%03d", i);
        put_text(ws, many, name, name);
    }
}

/* --- into the store --- */

static void make_first(struct maker *maker)
{
    struct ramet_workspace *ws, *other;
    must(ramet_workspace_create(maker->set, "main", alice.uid, alice.gid, &ws, &err));
    must(ramet_workspace_set_quota(ws, 64 * mib, 5000, &err));
    make_files(ws);
    make_attributes(ws);
    make_many(ws);
    must(ramet_workspace_snapshot(ws, "kept", NULL, &err));
    struct ramet_workspace *fork = fork_of(ws, "fork");
    put_text(fork, at(fork, root, "docs"), "of-the-fork", "It comes over with the merge.\n");
    put(fork, at(fork, root, "big"), 61 * page + 5, "forked", 6);
    must(ramet_wfile_unlink(ws, root, "empty", NULL, &err));
    put_text(ws, root, "to-be-undone", "Only what the rollback kept has it.\n");
    must(ramet_workspace_rollback(ws, "kept", NULL, &err));
    ramet_workspace_unref(ws);
    ws = find(maker, "main");
    merge(ws, fork);
    must(ramet_workspace_create(maker->set, "of-a-sandbox", 0, 5, &other, &err));
    must(ramet_workspace_attach(other, "0123456789abcdef", &err));
    put_text(other, root, "file", "x");
    ramet_workspace_unref(other);
    must(ramet_workspace_create(maker->set, "removed-first", 0, 0, &other, &err));
    must(ramet_workspace_remove(other, &err));
    ramet_workspace_unref(other);
    ramet_workspace_unref(fork);
    ramet_workspace_unref(ws);
}

/* On what is stored; then a checkpoint while it is open. */
static void make_second(struct maker *maker)
{
    struct ramet_workspace *ws = find(maker, "main"), *other;
    put(ws, at(ws, root, "big"), 2 * page + 10, "second", 6);
    for (int i = 0; i < entries; i += 7) {
        char name[32];
        snprintf(name, sizeof name, "entry-%03d", i);
        must(ramet_wfile_unlink(ws, at(ws, root, "many"), name, NULL, &err));
    }
    for (int i = 0; i < 3; i++) {
        static const char *const names[] = {"old-name", "child", "removed-later"};
        must(ramet_workspace_create(maker->set, names[i], 0, 0, &other, &err));
        put_text(other, root, "content", names[i]);
        if (i == 1) {
            must(ramet_workspace_snapshot(other, "of-the-parent", NULL, &err));
            ramet_workspace_unref(fork_of(other, "grandchild"));
        }
        ramet_workspace_unref(other);
    }
    ramet_workspace_unref(ws);
    must(ramet_workspaces_checkpoint(maker->set, &err));
}

/* --- in the journal --- */

static void change_files(struct ramet_workspace *ws)
{
    uint64_t docs = at(ws, root, "docs"), many = at(ws, root, "many"), small = at(ws, root, "small");
    uint64_t big = at(ws, root, "big"), used = put_text(ws, root, "orphan", "Nobody has it open any more.\n");
    put_text(ws, docs, "journaled", "In the journal only.\n");
    put_pages(ws, make(ws, root, "staged", S_IFREG | 0600, 0, 0), 10 * page, 5, 500);
    put(ws, big, 63 * page + 4000, "over the end of a page that is stored", 37);
    must(ramet_wfile_allocate(ws, big, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, page, page, &err));
    set(ws, big, (struct ramet_wstat){.size = 4 * mib + 1}, RAMET_WSET_SIZE);
    put(ws, at(ws, docs, "times"), 0, "T", 1);
    must(ramet_wfile_unlink(ws, docs, "small-too", NULL, &err));
    link_to(ws, small, many, "small-again");
    must(ramet_wfile_rename(ws, docs, "a", many, "moved", 0, &err));
    must(ramet_wfile_rename(ws, docs, "pipe", docs, "socket", RENAME_EXCHANGE, &err));
    must(ramet_wfile_rmdir(ws, root, "shared", NULL, &err));
    must(ramet_wfile_remove_xattr(ws, docs, "user.large", &err));
    must(ramet_wfile_set_xattr(ws, docs, "user.note", "other words", 11, XATTR_REPLACE, &err));
    must(ramet_wfile_set_xattr(ws, root, "user.on-the-root", "r", 1, 0, &err));
    set(ws, docs, (struct ramet_wstat){.mode = 0555, .uid = 7, .gid = 8},
        RAMET_WSET_MODE | RAMET_WSET_UID | RAMET_WSET_GID);
    symlink_to(ws, docs, "late-link", "../late");
    make(ws, docs, "late-device", S_IFCHR | 0600, 4095, 1048575);
    for (int i = 0; i < 20; i++) {
        char name[32];
        snprintf(name, sizeof name, "late-%02d", i);
        put_text(ws, many, name, "late");
    }
    ramet_wfile_use(ws, used);
    must(ramet_wfile_unlink(ws, root, "orphan", NULL, &err));
}

static void change_heads(struct maker *maker)
{
    struct ramet_workspace *ws = find(maker, "main"), *fork = find(maker, "fork"), *other;
    must(ramet_workspace_snapshot(ws, "late-state", NULL, &err));
    must(ramet_workspace_snapshot(ws, "gone", NULL, &err));
    must(ramet_workspace_state_remove(ws, "gone", &err));
    must(ramet_workspace_set_quota(ws, 32 * mib, 3000, &err));
    put_text(fork, root, "late-of-the-fork", "The second merge brings this.\n");
    merge(ws, fork);
    struct ramet_workspace *late = fork_of(fork, "late");
    put_pages(late, at(late, root, "big"), 2 * mib, 2, 900);
    must(ramet_workspace_rollback(fork, "kept-by-fork", NULL, &err));
    must(ramet_workspace_create(maker->set, "made-late", 3, 4, &other, &err));
    put_text(other, root, "late", "l");
    ramet_workspace_unref(other);
    other = find(maker, "old-name");
    must(ramet_workspace_rename(other, "new-name", &err));
    ramet_workspace_unref(other);
    other = find(maker, "of-a-sandbox");
    must(ramet_workspace_attach(other, "fedcba9876543210", &err));
    ramet_workspace_unref(other);
    other = find(maker, "grandchild");
    put_text(other, root, "promoted", "p");
    must(ramet_workspace_promote(other, &err));
    ramet_workspace_unref(other);
    other = find(maker, "removed-later");
    must(ramet_workspace_remove(other, &err));
    ramet_workspace_unref(other);
    ramet_workspace_unref(late);
    ramet_workspace_unref(fork);
    ramet_workspace_unref(ws);
}

void sample_workspaces_make(const char *dir, struct sample_lines *ret)
{
    struct maker maker = {0};
    open_all(&maker, dir);
    make_first(&maker);
    close_all(&maker);
    open_all(&maker, dir);
    struct ramet_workspace *fork = find(&maker, "fork");
    must(ramet_workspace_snapshot(fork, "kept-by-fork", NULL, &err));
    ramet_workspace_unref(fork);
    make_second(&maker);
    struct ramet_workspace *ws = find(&maker, "main");
    change_files(ws);
    ramet_workspace_unref(ws);
    change_heads(&maker);
    must(ramet_workspaces_sync(maker.set, &err));
    sample_workspaces_describe(maker.set, ret);
}
