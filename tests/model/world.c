/* SPDX-License-Identifier: Apache-2.0 */
#include "world.h"

#include "base/cleanup.h"
#include "store.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/xattr.h>

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#define RENAME_EXCHANGE 2
#endif

enum { names = 12, most_size = 150000 };

struct ramet_error err;
uint64_t fail_seed, fail_op;
_Atomic uint64_t fail_drawn;

void fail(const char *fmt, ...)
{
    va_list ap;
    fprintf(stderr, "workspace_model: seed %llu, operation %llu: ", (unsigned long long)fail_seed,
            (unsigned long long)fail_op);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    abort();
}

/* splitmix64 (Steele, Lea, Flood 2014) */
uint64_t mrandom(struct mworld *world)
{
    uint64_t z = world->random += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/*
 * In place of libc's, so that the keys of hashes, and with them the order in which names are found, are those of the
 * seed too: what a merge left is taken into the model in that order.
 */
ssize_t getrandom(void *buf, size_t size, unsigned flags)
{
    (void)flags;
    for (size_t i = 0; i < size; i++) {
        struct mworld from = {.random = fail_seed + (atomic_fetch_add(&fail_drawn, 1) << 32)};
        ((uint8_t *)buf)[i] = (uint8_t)mrandom(&from);
    }
    return (ssize_t)size;
}

uint64_t mbelow(struct mworld *world, uint64_t limit) { return mrandom(world) % limit; }

/* --- what an operation shall say, and what it says --- */

/* What the call gave must be what the model wants. */
static bool went(const char *what, int r, int wanted)
{
    if (wanted == 0 && r < 0)
        fail("%s fails: %s", what, err.msg);
    if (wanted != 0 && (r >= 0 || err.os_errno != wanted))
        fail("%s gives %d, errno %d (%s), not %s", what, r, err.os_errno, r < 0 ? err.msg : "", strerror(wanted));
    return wanted == 0;
}

/* Runs the call where there is a store. True when it succeeded, as the model wants it to. */
#define expect(head, wanted, call) ((head)->ws ? (err.os_errno = 0, went(#call, (call), wanted)) : (wanted) == 0)

static uint64_t ino_of(const struct mhead *head, int node)
{
    return node == MROOT ? RAMET_WORKSPACE_ROOT : head->tree.nodes[node].ino;
}

/* Takes over the times that the operation set. */
static void settle(struct mworld *world, struct mhead *head, int node)
{
    struct mnode *n = &head->tree.nodes[node];
    struct ramet_wstat stat;
    if (!head->ws || !mnode_alive(n))
        return;
    must(ramet_wfile_stat(head->ws, ino_of(head, node), &stat, &err));
    if (world->times && stat.ctime_ns < n->ctime_ns)
        fail("ctime goes back");
    n->mtime_ns = stat.mtime_ns;
    n->ctime_ns = stat.ctime_ns;
    n->atime_ns = stat.atime_ns;
    n->btime_ns = stat.btime_ns;
}

/* --- choosing --- */

static int pick_dir(struct mworld *world, const struct mhead *head)
{
    for (int tries = 0; tries < 20; tries++) {
        int at = (int)mbelow(world, (uint64_t)head->tree.count);
        if (head->tree.nodes[at].id >= 0 && head->tree.nodes[at].nlink > 0 && S_ISDIR(head->tree.nodes[at].mode))
            return at;
    }
    return MROOT;
}

/* Any node that lives, MROOT if chance has none. */
static int pick_node(struct mworld *world, const struct mhead *head, uint32_t type)
{
    for (int tries = 0; tries < 30; tries++) {
        int at = (int)mbelow(world, (uint64_t)head->tree.count);
        const struct mnode *node = &head->tree.nodes[at];
        if (node->id >= 0 && mnode_alive(node) && (!type || (node->mode & S_IFMT) == type))
            return at;
    }
    return MROOT;
}

static void pick_name(struct mworld *world, char name[24]) { sprintf(name, "n%d", (int)mbelow(world, names)); }

static struct mblob *random_blob(struct mworld *world, size_t size)
{
    struct mblob *blob = mblob_new(NULL, size);
    uint64_t fill = mrandom(world);
    if (mbelow(world, 3)) { /* text */
        for (size_t i = 0; i < size; i++)
            blob->bytes[i] = i % 8 == 7 ? '\n' : (uint8_t)('a' + ((fill >> (i % 13)) + i / 8 * (fill >> 60)) % 26);
        return blob;
    }
    for (size_t i = 0; i < size; i++) {
        fill = fill * UINT64_C(6364136223846793005) + 1;
        blob->bytes[i] = (uint8_t)(fill >> 56);
    }
    return blob;
}

static size_t pick_size(struct mworld *world)
{
    switch (mbelow(world, 6)) {
    case 0: return mbelow(world, 600);
    case 1: return 4096 * mbelow(world, 20);
    case 2: return mbelow(world, 60000);
    default: return mbelow(world, 9000);
    }
}

/* --- operations on names --- */

static void make(struct mworld *world, struct mhead *head)
{
    static const uint32_t kinds[] = {S_IFREG, S_IFREG, S_IFREG, S_IFDIR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFLNK};
    uint32_t kind = kinds[mbelow(world, 8)], mode = kind | (uint32_t)mbelow(world, 01000);
    struct ramet_wowner owner = {(uint32_t)mbelow(world, 3), (uint32_t)mbelow(world, 3)};
    int dir = pick_dir(world, head), id = ++world->next_id;
    struct ramet_wstat stat = {0};
    struct mblob *target = NULL;
    char name[24], text[1200];
    pick_name(world, name);
    int wanted = mtree_find(&head->tree, dir, name) != MNONE ? EEXIST : 0;
    if (kind == S_IFDIR && mbelow(world, 4) == 0)
        mode |= S_ISGID;
    if (kind == S_IFLNK) {
        size_t size = 1 + mbelow(world, sizeof text - 1);
        memset(text, 'a' + (int)mbelow(world, 26), size);
        text[size - (size == sizeof text)] = '\0';
        target = mblob_new(text, strlen(text));
        mode = S_IFLNK | 0777;
    }
    bool made =
        target
            ? expect(head, wanted, ramet_wfile_symlink(head->ws, ino_of(head, dir), name, text, owner, &stat, &err))
            : expect(head, wanted, ramet_wfile_make(head->ws, ino_of(head, dir), name, mode, 0, 0, owner, &stat, &err));
    if (!made) {
        mblob_unref(target);
        return;
    }
    int node = mtree_make(&head->tree, dir, name, mode, owner.uid, owner.gid, id);
    head->tree.nodes[node].ino = stat.ino;
    if (target)
        mnode_set_data(&head->tree.nodes[node], target);
    settle(world, head, node);
    settle(world, head, dir);
}

static void unlink_one(struct mworld *world, struct mhead *head)
{
    int dir = pick_dir(world, head);
    struct mtree *tree = &head->tree;
    char name[24];
    pick_name(world, name);
    int node = mtree_find(tree, dir, name), wanted = 0;
    bool rmdir = node != MNONE ? S_ISDIR(tree->nodes[node].mode) : mbelow(world, 2);
    if (mbelow(world, 10) == 0)
        rmdir = !rmdir;
    if (node == MNONE)
        wanted = ENOENT;
    else if (rmdir != !!S_ISDIR(tree->nodes[node].mode))
        wanted = rmdir ? ENOTDIR : EISDIR;
    else if (rmdir && tree->nodes[node].entry_count > 0)
        wanted = ENOTEMPTY;
    uint64_t in = ino_of(head, dir);
    if (!(rmdir ? expect(head, wanted, ramet_wfile_rmdir(head->ws, in, name, NULL, &err))
                : expect(head, wanted, ramet_wfile_unlink(head->ws, in, name, NULL, &err))))
        return;
    mtree_unlink(tree, dir, name);
    if (rmdir)
        tree->nodes[node].nlink = 0;
    settle(world, head, node);
    settle(world, head, dir);
    mtree_reap(tree, node);
}

static void link_one(struct mworld *world, struct mhead *head)
{
    int dir = pick_dir(world, head), node = pick_node(world, head, 0);
    struct ramet_wstat stat;
    char name[24];
    pick_name(world, name);
    if (node == MROOT)
        return;
    int wanted = S_ISDIR(head->tree.nodes[node].mode)          ? EPERM
                 : mtree_find(&head->tree, dir, name) != MNONE ? EEXIST
                                                               : 0;
    if (!expect(head, wanted, ramet_wfile_link(head->ws, ino_of(head, node), ino_of(head, dir), name, &stat, &err)))
        return;
    mtree_link(&head->tree, dir, name, node);
    settle(world, head, node);
    settle(world, head, dir);
}

static int rename_error(const struct mtree *tree, int from, int from_node, int to, int to_node, unsigned flags)
{
    if (from_node == MNONE)
        return ENOENT;
    if (flags == RENAME_NOREPLACE && to_node != MNONE)
        return EEXIST;
    if (flags == RENAME_EXCHANGE && to_node == MNONE)
        return ENOENT;
    if (from_node == to_node)
        return 0;
    bool dir = S_ISDIR(tree->nodes[from_node].mode), to_dir = to_node != MNONE && S_ISDIR(tree->nodes[to_node].mode);
    if (dir && mtree_is_below(tree, to, from_node))
        return EINVAL;
    if (flags == RENAME_EXCHANGE)
        return to_dir && mtree_is_below(tree, from, to_node) ? EINVAL : 0;
    if (to_node == MNONE)
        return 0;
    if (dir != to_dir)
        return dir ? ENOTDIR : EISDIR;
    return dir && tree->nodes[to_node].entry_count > 0 ? ENOTEMPTY : 0;
}

static void rename_one(struct mworld *world, struct mhead *head)
{
    struct mtree *tree = &head->tree;
    int from = pick_dir(world, head), to = mbelow(world, 2) ? from : pick_dir(world, head);
    unsigned flags = mbelow(world, 2) ? 0 : (unsigned)mbelow(world, 3);
    char name[24], new_name[24];
    pick_name(world, name);
    pick_name(world, new_name);
    int node = mtree_find(tree, from, name), other = mtree_find(tree, to, new_name);
    int wanted = rename_error(tree, from, node, to, other, flags);
    if (!expect(head, wanted,
                ramet_wfile_rename(head->ws, ino_of(head, from), name, ino_of(head, to), new_name, flags, &err)))
        return;
    if (node == other)
        return;
    /* Unlinking counts file links; they come back with linking. */
    mtree_unlink(tree, from, name);
    if (other != MNONE) {
        mtree_unlink(tree, to, new_name);
        if (flags == RENAME_EXCHANGE)
            mtree_link(tree, from, name, other);
        else if (S_ISDIR(tree->nodes[other].mode))
            tree->nodes[other].nlink = 0;
    }
    mtree_link(tree, to, new_name, node);
    settle(world, head, node);
    settle(world, head, from);
    settle(world, head, to);
    if (other != MNONE) {
        settle(world, head, other);
        mtree_reap(tree, other);
    }
}

/* --- operations on files --- */

static int pick_file(struct mworld *world, const struct mhead *head)
{
    int node = pick_node(world, head, S_IFREG);
    return S_ISREG(head->tree.nodes[node].mode) ? node : MNONE;
}

static void kill_priv(struct mnode *node)
{
    node->mode &= ~(uint32_t)S_ISUID;
    if (node->mode & S_IXGRP)
        node->mode &= ~(uint32_t)S_ISGID;
}

static void write_one(struct mworld *world, struct mhead *head)
{
    int at = pick_file(world, head);
    if (at == MNONE)
        return;
    struct mnode *node = &head->tree.nodes[at];
    bool append = mbelow(world, 4) == 0;
    size_t offset = mbelow(world, 3) ? mbelow(world, node->data->size + 1) : mbelow(world, most_size);
    struct mblob *bytes = random_blob(world, pick_size(world));
    if (append)
        offset = node->data->size;
    bool kill = mbelow(world, 2);
    expect(head, 0,
           ramet_wfile_write(head->ws, ino_of(head, at), append ? 77 : offset, bytes->bytes, bytes->size, append, kill,
                             NULL, &err));
    if (bytes->size > 0)
        memcpy(mnode_grow(node, offset + bytes->size)->bytes + offset, bytes->bytes, bytes->size);
    if (kill && bytes->size > 0)
        kill_priv(node);
    mblob_unref(bytes);
    settle(world, head, at);
}

static void set_size(struct mnode *node, size_t size)
{
    size_t old = node->data->size;
    struct mblob *blob = mblob_new(NULL, size);
    memcpy(blob->bytes, node->data->bytes, size < old ? size : old);
    mnode_set_data(node, blob);
}

static void truncate_one(struct mworld *world, struct mhead *head)
{
    int at = pick_file(world, head);
    struct ramet_wstat attr = {.size = mbelow(world, 3) ? pick_size(world) : mbelow(world, 700)};
    if (at == MNONE)
        return;
    expect(head, 0, ramet_wfile_set(head->ws, ino_of(head, at), &attr, RAMET_WSET_SIZE, NULL, &err));
    set_size(&head->tree.nodes[at], attr.size);
    settle(world, head, at);
}

static void punch_one(struct mworld *world, struct mhead *head)
{
    int at = pick_file(world, head);
    size_t offset = mbelow(world, 30000), size = 1 + pick_size(world);
    bool punch = mbelow(world, 2);
    int mode = punch ? FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE : FALLOC_FL_ZERO_RANGE;
    if (at == MNONE)
        return;
    struct mnode *node = &head->tree.nodes[at];
    expect(head, 0, ramet_wfile_allocate(head->ws, ino_of(head, at), mode, offset, size, &err));
    if (!punch && offset + size > node->data->size)
        set_size(node, offset + size);
    struct mblob *blob = mnode_grow(node, 0);
    if (offset < blob->size)
        memset(blob->bytes + offset, 0, size < blob->size - offset ? size : blob->size - offset);
    settle(world, head, at);
}

static void copy_one(struct mworld *world, struct mhead *head)
{
    int from = pick_file(world, head), to = pick_file(world, head);
    uint64_t done = 0;
    if (from == MNONE || to == MNONE || from == to)
        return;
    struct mnode *source = &head->tree.nodes[from], *target = &head->tree.nodes[to];
    size_t offset = mbelow(world, source->data->size + 1), at = mbelow(world, 60000), size = pick_size(world) * 2;
    if (mbelow(world, 3)) /* pages that can be shared */
        at = at / 4096 * 4096 + offset % 4096;
    size_t there = source->data->size - offset, some = size < there ? size : there;
    expect(head, 0, ramet_wfile_copy(head->ws, ino_of(head, from), offset, ino_of(head, to), at, size, &done, &err));
    if (head->ws && done != some)
        fail("copied %llu bytes, not %zu", (unsigned long long)done, some);
    if (some > 0)
        memcpy(mnode_grow(target, at + some)->bytes + at, source->data->bytes + offset, some);
    settle(world, head, to);
}

static void set_attributes(struct mworld *world, struct mhead *head)
{
    int at = pick_node(world, head, 0);
    struct mnode *node = &head->tree.nodes[at];
    struct ramet_wstat attr = {.mode = (uint32_t)mbelow(world, 010000),
                               .uid = (uint32_t)mbelow(world, 4),
                               .gid = (uint32_t)mbelow(world, 4),
                               .mtime_ns = (int64_t)mrandom(world)};
    unsigned set = (unsigned)mbelow(world, 8) | (mbelow(world, 2) ? RAMET_WSET_MTIME : 0);
    if (S_ISLNK(node->mode))
        set &= ~(unsigned)RAMET_WSET_MODE;
    expect(head, 0, ramet_wfile_set(head->ws, ino_of(head, at), &attr, set, NULL, &err));
    if (set & (RAMET_WSET_UID | RAMET_WSET_GID) && !S_ISDIR(node->mode))
        kill_priv(node);
    if (set & RAMET_WSET_MODE)
        node->mode = (node->mode & S_IFMT) | attr.mode;
    if (set & RAMET_WSET_UID)
        node->uid = attr.uid;
    if (set & RAMET_WSET_GID)
        node->gid = attr.gid;
    settle(world, head, at);
}

static void set_xattr(struct mworld *world, struct mhead *head)
{
    int at = pick_node(world, head, 0), flags = (int)mbelow(world, 3);
    struct mnode *node = &head->tree.nodes[at];
    struct mblob *value = random_blob(world, mbelow(world, 8) ? mbelow(world, 100) : mbelow(world, 5000));
    char name[24];
    sprintf(name, "user.x%d", (int)mbelow(world, 4));
    struct mxattr *old = mnode_xattr(node, name);
    int wanted = old && flags == XATTR_CREATE ? EEXIST : !old && flags == XATTR_REPLACE ? ENODATA : 0;
    if (!expect(head, wanted,
                ramet_wfile_set_xattr(head->ws, ino_of(head, at), name, value->bytes, value->size, flags, &err))) {
        mblob_unref(value);
        return;
    }
    if (!old) {
        node->xattrs = realloc(node->xattrs, (size_t)(node->xattr_count + 1) * sizeof *node->xattrs);
        old = &node->xattrs[node->xattr_count++];
        memset(old, 0, sizeof *old);
        memcpy(old->name, name, sizeof name);
    }
    mblob_unref(old->value);
    old->value = value;
    settle(world, head, at);
}

static void remove_xattr(struct mworld *world, struct mhead *head)
{
    int at = pick_node(world, head, 0);
    struct mnode *node = &head->tree.nodes[at];
    char name[24];
    sprintf(name, "user.x%d", (int)mbelow(world, 4));
    struct mxattr *old = mnode_xattr(node, name);
    if (!expect(head, old ? 0 : ENODATA, ramet_wfile_remove_xattr(head->ws, ino_of(head, at), name, &err)))
        return;
    mblob_unref(old->value);
    *old = node->xattrs[--node->xattr_count];
    settle(world, head, at);
}

static void open_or_close(struct mworld *world, struct mhead *head)
{
    int at = pick_node(world, head, 0);
    struct mnode *node = &head->tree.nodes[at];
    if (at == MROOT)
        return;
    if (node->uses > 0 && (node->nlink == 0 || mbelow(world, 2))) {
        if (head->ws)
            ramet_wfile_unuse(head->ws, ino_of(head, at), 1);
        node->uses--;
        mtree_reap(&head->tree, at);
    } else {
        if (head->ws)
            ramet_wfile_use(head->ws, ino_of(head, at));
        node->uses++;
    }
}

static void read_one(struct mworld *world, struct mhead *head)
{
    int at = pick_file(world, head);
    size_t offset = mbelow(world, most_size), size = pick_size(world), got;
    if (at == MNONE || !head->ws)
        return;
    const struct mblob *data = head->tree.nodes[at].data;
    _autofree_ uint8_t *buf = malloc(size + 1);
    size_t there = offset < data->size ? data->size - offset : 0, some = size < there ? size : there;
    must(ramet_wfile_read(head->ws, ino_of(head, at), offset, buf, size, &got, &err));
    if (got != some || memcmp(buf, data->bytes + (some ? offset : 0), some) != 0)
        fail("a read of %zu bytes at %zu gives %zu bytes, not %zu, or others", size, offset, got, some);
}

void mworld_step(struct mworld *world, struct mhead *head)
{
    static void (*const steps[])(struct mworld *, struct mhead *) = {
        make,           make,       make,         make,          make,       make,       unlink_one,
        unlink_one,     unlink_one, link_one,     rename_one,    rename_one, rename_one, write_one,
        write_one,      write_one,  write_one,    truncate_one,  punch_one,  copy_one,   copy_one,
        set_attributes, set_xattr,  remove_xattr, open_or_close, read_one};
    steps[mbelow(world, sizeof steps / sizeof *steps)](world, head);
}
