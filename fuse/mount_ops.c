/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests of the kernel, each answered on whatever thread took it. No state but the list
 * of handles, whose lock is never held across a call: an open file's handle holds a
 * reference on its object, a directory's its listing.
 *
 * Snapshot files are immutable, so the kernel keeps their pages across opens. A branch's
 * disk is written through: write(2) returns after the overlay took the bytes. Opening a
 * snapshot's file for writing is allowed where the mode is (to root), because some VMMs map
 * memory files privately through a read-write descriptor. Such a descriptor bypasses the
 * page cache: a refused write would otherwise stay visible there to everyone, and a shared
 * writable mapping, which the kernel refuses this way, would even be kept.
 */
#include "mount_ops.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "tree.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

struct handle {
    struct ramet_node node;
    char *manifest;              /* owned */
    struct ramet_entry *entries; /* owned; directories */
    size_t entry_count;
    struct ramet_mount_context *context;
    struct handle *next, *previous; /* the context's lock */
};

static struct ramet_catalog *catalog_of(fuse_req_t req)
{
    struct ramet_mount_context *context = fuse_req_userdata(req);
    return context->catalog;
}

static struct handle *handle_of(const struct fuse_file_info *fi) { return (struct handle *)(uintptr_t)fi->fh; }

/* At most 5 lines a second: a guest that reads damaged memory asks again and again. */
static bool may_log(void)
{
    static _Atomic uint64_t second;
    static _Atomic unsigned lines;
    uint64_t now = ramet_now_us() / 1000000;
    if (atomic_exchange(&second, now) != now)
        atomic_store(&lines, 0);
    return atomic_fetch_add(&lines, 1) < 5;
}

/* Answers with the error's errno; damage and I/O errors are also logged, since errno cannot name what is hit. */
static void reply_error(fuse_req_t req, const struct ramet_error *err)
{
    if ((err->code == RAMET_CORRUPT || err->code == RAMET_IO) && may_log())
        ramet_warn("mount: %s", err->msg);
    fuse_reply_err(req, ramet_code_errno(err->code));
}

static void handle_free(struct handle *handle)
{
    struct ramet_mount_context *context = handle->context;
    pthread_mutex_lock(&context->lock);
    *(handle->previous ? &handle->previous->next : &context->handles) = handle->next;
    if (handle->next)
        handle->next->previous = handle->previous;
    pthread_mutex_unlock(&context->lock);
    ramet_node_release(&handle->node);
    free(handle->manifest);
    free(handle->entries);
    free(handle);
}

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
    (void)userdata;
    conn->max_write = 1 << 20;
    conn->max_readahead = 1 << 20;
    conn->want |= conn->capable & (FUSE_CAP_ASYNC_READ | FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_READDIRPLUS |
                                   FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
    conn->want &= ~(unsigned)(FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_WRITEBACK_CACHE);
}

static void fill_entry(const struct ramet_node *node, struct fuse_entry_param *entry)
{
    *entry = (struct fuse_entry_param){.ino = node->ino, .generation = 1};
    ramet_node_attr(node, &entry->attr, &entry->attr_timeout);
    entry->entry_timeout = entry->attr_timeout;
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct ramet_error err = {0};
    struct ramet_node dir = {0}, node = {0};
    struct fuse_entry_param entry;
    int r = ramet_tree_find(catalog_of(req), parent, &dir, &err);
    if (r == 0)
        r = ramet_tree_lookup(catalog_of(req), &dir, name, &node, &err);
    ramet_node_release(&dir);
    if (r < 0) {
        reply_error(req, &err);
        return;
    }
    fill_entry(&node, &entry);
    ramet_node_release(&node);
    fuse_reply_entry(req, &entry);
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t count)
{
    (void)ino, (void)count; /* nothing is remembered per inode */
    fuse_reply_none(req);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct ramet_error err = {0};
    struct ramet_node node = {0};
    struct stat st;
    double timeout_s;
    if (fi && fi->fh) {
        ramet_node_attr(&handle_of(fi)->node, &st, &timeout_s);
        fuse_reply_attr(req, &st, timeout_s);
        return;
    }
    if (ramet_tree_find(catalog_of(req), ino, &node, &err) < 0) {
        reply_error(req, &err);
        return;
    }
    ramet_node_attr(&node, &st, &timeout_s);
    ramet_node_release(&node);
    fuse_reply_attr(req, &st, timeout_s);
}

/* Times and modes are fixed; a size may be set to what it is. */
static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set, struct fuse_file_info *fi)
{
    struct ramet_error err = {0};
    struct ramet_node node = {0};
    struct stat st;
    double timeout_s;
    (void)fi;
    if (ramet_tree_find(catalog_of(req), ino, &node, &err) < 0) {
        reply_error(req, &err);
        return;
    }
    ramet_node_attr(&node, &st, &timeout_s);
    bool writable = ramet_node_disk(&node);
    ramet_node_release(&node);
    if (!writable)
        fuse_reply_err(req, EROFS);
    else if (to_set & (FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID) ||
             (to_set & FUSE_SET_ATTR_SIZE && attr->st_size != st.st_size))
        fuse_reply_err(req, EPERM);
    else
        fuse_reply_attr(req, &st, timeout_s);
}

static void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
    struct ramet_error err = {0};
    struct ramet_node node = {0};
    if (ramet_tree_find(catalog_of(req), ino, &node, &err) < 0) {
        reply_error(req, &err);
        return;
    }
    if (node.snapshot)
        fuse_reply_readlink(req, node.snapshot->id);
    else
        fuse_reply_err(req, EINVAL);
    ramet_node_release(&node);
}

static struct handle *handle_new(fuse_req_t req, fuse_ino_t ino, struct ramet_error *err)
{
    struct handle *handle = calloc(1, sizeof *handle);
    if (!handle) {
        ramet_error_set(err, RAMET_NO_MEMORY, "no memory to open a file");
        return NULL;
    }
    if (ramet_tree_find(catalog_of(req), ino, &handle->node, err) < 0) {
        free(handle);
        return NULL;
    }
    handle->context = fuse_req_userdata(req);
    pthread_mutex_lock(&handle->context->lock);
    handle->next = handle->context->handles;
    if (handle->next)
        handle->next->previous = handle;
    handle->context->handles = handle;
    pthread_mutex_unlock(&handle->context->lock);
    return handle;
}

void ramet_mount_release_handles(struct ramet_mount_context *context)
{
    while (context->handles)
        handle_free(context->handles);
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct ramet_error err = {0};
    struct handle *handle = handle_new(req, ino, &err);
    if (!handle) {
        reply_error(req, &err);
        return;
    }
    bool manifest = handle->node.snapshot && (ino & 0xff) == RAMET_PART_MANIFEST;
    if (manifest && !(handle->manifest = ramet_manifest_text(handle->node.snapshot))) {
        handle_free(handle);
        fuse_reply_err(req, ENOMEM);
        return;
    }
    if (fi->flags & O_TRUNC) {
        fuse_reply_err(req, handle->node.branch ? EPERM : EROFS);
        handle_free(handle);
        return;
    }
    fi->fh = (uintptr_t)handle;
    fi->direct_io = handle->node.snapshot && (fi->flags & O_ACCMODE) != O_RDONLY;
    fi->keep_cache = !fi->direct_io; /* writes go through here; mount.c tells of a rollback: no page is ever stale */
    fi->noflush = 1;
    if (fuse_reply_open(req, fi) < 0)
        handle_free(handle);
}

static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    (void)ino;
    handle_free(handle_of(fi));
    fuse_reply_err(req, 0);
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
    struct handle *handle = handle_of(fi);
    struct ramet_image *image = ramet_node_image(&handle->node);
    struct ramet_overlay *disk = ramet_node_disk(&handle->node);
    struct ramet_error err = {0};
    (void)ino;
    uint64_t offset = (uint64_t)off;
    uint64_t end = image ? ramet_image_size(image) : disk ? ramet_overlay_size(disk) : strlen(handle->manifest);
    size = offset >= end ? 0 : end - offset < size ? (size_t)(end - offset) : size;
    if (handle->manifest) {
        fuse_reply_buf(req, handle->manifest + (size ? offset : 0), size);
        return;
    }
    ramet_recordings_note(&handle->context->recordings, handle->node.ino, offset, size);
    _autofree_ char *buf = malloc(size ? size : 1);
    if (!buf) {
        fuse_reply_err(req, ENOMEM);
        return;
    }
    int r =
        image ? ramet_image_read(image, offset, buf, size, &err) : ramet_overlay_read(disk, offset, buf, size, &err);
    if (r < 0)
        reply_error(req, &err);
    else
        fuse_reply_buf(req, buf, size);
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off, struct fuse_file_info *fi)
{
    struct ramet_overlay *disk = ramet_node_disk(&handle_of(fi)->node);
    struct ramet_error err = {0};
    (void)ino;
    if (!disk)
        fuse_reply_err(req, EROFS);
    else if (ramet_overlay_write(disk, (uint64_t)off, buf, size, &err) < 0)
        reply_error(req, &err);
    else
        fuse_reply_write(req, size);
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
    struct ramet_overlay *disk = ramet_node_disk(&handle_of(fi)->node);
    struct ramet_error err = {0};
    (void)ino, (void)datasync;
    if (disk && ramet_overlay_flush(disk, &err) < 0)
        reply_error(req, &err);
    else
        fuse_reply_err(req, 0);
}

static void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
                         struct fuse_file_info *fi)
{
    struct ramet_overlay *disk = ramet_node_disk(&handle_of(fi)->node);
    struct ramet_error err = {0};
    (void)ino;
    bool zeroes =
        mode == (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE) || (mode & ~FALLOC_FL_KEEP_SIZE) == FALLOC_FL_ZERO_RANGE;
    if (!disk)
        fuse_reply_err(req, EROFS);
    else if (!zeroes)
        fuse_reply_err(req, EOPNOTSUPP);
    else if (ramet_overlay_discard(disk, (uint64_t)offset, (uint64_t)length, &err) < 0)
        reply_error(req, &err);
    else
        fuse_reply_err(req, 0);
}

/* Data and holes of images in whole pages; a branch's disk is all data. */
static void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi)
{
    struct handle *handle = handle_of(fi);
    struct ramet_image *image = ramet_node_image(&handle->node);
    struct ramet_error err = {0};
    struct stat st;
    double timeout_s;
    uint64_t found = (uint64_t)off;
    (void)ino;
    ramet_node_attr(&handle->node, &st, &timeout_s);
    if (off >= st.st_size || (whence != SEEK_DATA && whence != SEEK_HOLE)) {
        fuse_reply_err(req, off >= st.st_size ? ENXIO : EINVAL);
        return;
    }
    int r = 0;
    if (whence == SEEK_DATA) {
        r = image ? ramet_image_next_data(image, found, &found, &err) : 0;
    } else {
        for (uint64_t data = found; image && r == 0 && found < (uint64_t)st.st_size; found += RAMET_PAGE_SIZE)
            if ((r = ramet_image_next_data(image, found, &data, &err)) == 0 && data > found)
                break;
        if (!image || found > (uint64_t)st.st_size)
            found = (uint64_t)st.st_size;
    }
    if (r < 0)
        reply_error(req, &err);
    else if (whence == SEEK_DATA && found >= (uint64_t)st.st_size)
        fuse_reply_err(req, ENXIO);
    else
        fuse_reply_lseek(req, (off_t)found);
}

static void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct ramet_error err = {0};
    struct handle *handle = handle_new(req, ino, &err);
    if (!handle || ramet_tree_list(catalog_of(req), &handle->node, &handle->entries, &handle->entry_count, &err) < 0) {
        if (handle)
            handle_free(handle);
        reply_error(req, &err);
        return;
    }
    fi->fh = (uintptr_t)handle;
    if (fuse_reply_open(req, fi) < 0)
        handle_free(handle);
}

/* Adds one name; 0 when it did not fit. Names without an object behind them any more are passed over as plain. */
static size_t add_name(fuse_req_t req, const struct ramet_entry *name, char *buf, size_t size, off_t next, bool plus)
{
    struct fuse_entry_param entry = {.attr = {.st_ino = name->ino, .st_mode = name->type}};
    struct ramet_node node = {0};
    if (!plus)
        return fuse_add_direntry(req, buf, size, name->name, &entry.attr, next);
    if (ramet_tree_find(catalog_of(req), name->ino, &node, NULL) == 0) {
        fill_entry(&node, &entry);
        ramet_node_release(&node);
    }
    return fuse_add_direntry_plus(req, buf, size, name->name, &entry, next);
}

static void read_names(fuse_req_t req, size_t size, off_t off, struct fuse_file_info *fi, bool plus)
{
    struct handle *handle = handle_of(fi);
    size_t used = 0;
    _autofree_ char *buf = malloc(size);
    if (!buf) {
        fuse_reply_err(req, ENOMEM);
        return;
    }
    for (size_t i = (size_t)off; i < handle->entry_count; i++) {
        size_t need = add_name(req, &handle->entries[i], buf + used, size - used, (off_t)i + 1, plus);
        if (need > size - used)
            break;
        used += need;
    }
    fuse_reply_buf(req, buf, used);
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
    (void)ino;
    read_names(req, size, off, fi, false);
}

static void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
    (void)ino;
    read_names(req, size, off, fi, true);
}

/* Names are made and removed through the service: the mount shows them. */
static void op_refuse_name(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    (void)parent, (void)name;
    fuse_reply_err(req, EROFS);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
    (void)mode;
    op_refuse_name(req, parent, name);
}

static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
    (void)mode, (void)fi;
    op_refuse_name(req, parent, name);
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t to, const char *new_name,
                      unsigned flags)
{
    (void)to, (void)new_name, (void)flags;
    op_refuse_name(req, parent, name);
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
    struct statvfs st = {0};
    (void)ino;
    if (statvfs(ramet_store_dir(ramet_catalog_store(catalog_of(req))), &st) < 0)
        fuse_reply_err(req, errno);
    else
        fuse_reply_statfs(req, &st);
}

const struct fuse_lowlevel_ops ramet_mount_ops = {
    .init = op_init,
    .lookup = op_lookup,
    .forget = op_forget,
    .getattr = op_getattr,
    .setattr = op_setattr,
    .readlink = op_readlink,
    .open = op_open,
    .release = op_release,
    .read = op_read,
    .write = op_write,
    .fsync = op_fsync,
    .fallocate = op_fallocate,
    .lseek = op_lseek,
    .opendir = op_opendir,
    .releasedir = op_release,
    .readdir = op_readdir,
    .readdirplus = op_readdirplus,
    .statfs = op_statfs,
    .unlink = op_refuse_name,
    .rmdir = op_refuse_name,
    .mkdir = op_mkdir,
    .create = op_create,
    .rename = op_rename,
};
