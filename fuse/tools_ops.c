/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests of the kernel on tools/, each answered out of the caller's tree on whatever thread took it.
 *
 * The kernel names a file by the number it was given when it looked it up, and may open that long after another tree
 * took the place of the first, or for another user who got hold of a descriptor. So files that were looked up are kept
 * until the kernel forgets them, and one is opened only for a caller whose own tree has a file there that is the same
 * for both: for everybody, or of the same owner. Directories are looked for in the caller's tree each time.
 *
 * A file of a search is made for each lookup, with a number of its own.
 */
#include "tools_ops.h"

#include "base/cleanup.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

/* Numbers of files of searches; those of trees are below. */
#define SEARCH_INO (UINT64_C(1) << 62)

struct known {
    struct ramet_tools_node *node; /* held */
    uint64_t lookups;
};

struct tools_handle {
    struct ramet_tools_node *node; /* held */
    struct ramet_tools_node *root; /* held; of a directory, whose tree it lists */
    struct ramet_buf text;         /* of a file */
    struct ramet_tools_context *context;
    struct tools_handle *next, *previous; /* the context's lock */
};

/* --- the caller's tree --- */

static struct ramet_tools_context *context_of(fuse_req_t req) { return fuse_req_userdata(req); }

static struct ramet_tools_caller caller_of(fuse_req_t req)
{
    const struct fuse_ctx *ctx = fuse_req_ctx(req);
    return (struct ramet_tools_caller){.uid = ctx->uid, .gid = ctx->gid, .pid = ctx->pid};
}

static struct ramet_tools_node *tree_of(fuse_req_t req)
{
    const struct ramet_tools_caller caller = caller_of(req);
    return context_of(req)->source.tree(context_of(req)->source.context, &caller);
}

static void unref(struct ramet_tools_node **node) { ramet_tools_node_unref(*node); }

static void reply_error(fuse_req_t req, const struct ramet_error *err)
{
    fuse_reply_err(req, ramet_code_errno(err->code));
}

static bool may_open(const struct ramet_tools_node *root, const struct ramet_tools_node *node)
{
    const struct ramet_tools_node *dir = ramet_tools_dir_by_ino(root, node->dir_ino);
    if (!dir)
        return false;
    const struct ramet_tools_node *same = ramet_tools_child(dir, node->name);
    if (same)
        return same->owner == node->owner && same->kind == node->kind;
    return dir->kind == RAMET_TOOLS_SEARCH && node->owner == root->owner;
}

/* The node of a number for this caller, held by the caller; its error is what to reply. */
static int find(fuse_req_t req, struct ramet_tools_node *root, fuse_ino_t ino, struct ramet_tools_node **ret)
{
    struct ramet_tools_context *context = context_of(req);
    struct ramet_tools_node *node = root ? ramet_tools_dir_by_ino(root, ino) : NULL;
    uint64_t known;
    if (node) {
        *ret = ramet_tools_node_ref(node);
        return 0;
    }
    if (!root) /* that there is a mount is plain to see */
        return ino == FUSE_ROOT_ID ? EACCES : ENOENT;
    pthread_mutex_lock(&context->lock);
    if (ramet_u64map_get(&context->known, ino, &known))
        node = ramet_tools_node_ref(((struct known *)(uintptr_t)known)->node);
    pthread_mutex_unlock(&context->lock);
    if (node && may_open(root, node)) {
        *ret = node;
        return 0;
    }
    ramet_tools_node_unref(node);
    return ENOENT;
}

/* --- what the kernel knows --- */

/* Counts a lookup of a file; false when memory ran out. */
static bool remember(struct ramet_tools_context *context, struct ramet_tools_node *node)
{
    uint64_t at;
    struct known *known = NULL;
    pthread_mutex_lock(&context->lock);
    if (ramet_u64map_get(&context->known, node->ino, &at)) {
        known = (struct known *)(uintptr_t)at;
    } else if ((known = calloc(1, sizeof *known))) {
        if (ramet_u64map_put(&context->known, node->ino, (uintptr_t)known))
            known->node = ramet_tools_node_ref(node);
        else
            free(STEAL(known));
    }
    if (known)
        known->lookups++;
    pthread_mutex_unlock(&context->lock);
    return known;
}

static void forget(struct ramet_tools_context *context, uint64_t ino, uint64_t count)
{
    struct known *gone = NULL;
    uint64_t at;
    pthread_mutex_lock(&context->lock);
    if (ramet_u64map_get(&context->known, ino, &at)) {
        struct known *known = (struct known *)(uintptr_t)at;
        known->lookups -= count < known->lookups ? count : known->lookups;
        if (known->lookups == 0) {
            ramet_u64map_remove(&context->known, ino);
            gone = known;
        }
    }
    pthread_mutex_unlock(&context->lock);
    if (gone)
        ramet_tools_node_unref(gone->node);
    free(gone);
}

void ramet_tools_context_init(struct ramet_tools_context *context, const struct ramet_tools_source *source)
{
    *context = (struct ramet_tools_context){.source = *source, .last_search = SEARCH_INO};
    pthread_mutex_init(&context->lock, NULL);
}

static void handle_free(struct tools_handle *handle)
{
    struct ramet_tools_context *context = handle->context;
    pthread_mutex_lock(&context->lock);
    *(handle->previous ? &handle->previous->next : &context->handles) = handle->next;
    if (handle->next)
        handle->next->previous = handle->previous;
    pthread_mutex_unlock(&context->lock);
    ramet_tools_node_unref(handle->node);
    ramet_tools_node_unref(handle->root);
    ramet_buf_free(&handle->text);
    free(handle);
}

void ramet_tools_context_free(struct ramet_tools_context *context)
{
    uint64_t ino, at;
    while (context->handles)
        handle_free(context->handles);
    for (size_t i = 0; ramet_u64map_next(&context->known, &i, &ino, &at);) {
        ramet_tools_node_unref(((struct known *)(uintptr_t)at)->node);
        free((struct known *)(uintptr_t)at);
    }
    ramet_u64map_free(&context->known);
    pthread_mutex_destroy(&context->lock);
}

/* --- names and attributes --- */

static int fill_attr(struct ramet_tools_node *node, struct stat *st, struct ramet_error *err)
{
    uint64_t size = 0;
    bool dir = ramet_tools_is_dir(node);
    int r = dir ? 0 : ramet_tools_node_size(node, &size, err);
    struct timespec when = {.tv_sec = node->mtime_ms / 1000, .tv_nsec = node->mtime_ms % 1000 * 1000000};
    *st = (struct stat){.st_ino = node->ino,
                        .st_mode = dir ? S_IFDIR | 0555 : S_IFREG | (node->executable ? 0555 : 0444),
                        .st_nlink = dir ? 2 : 1,
                        .st_uid = getuid(),
                        .st_gid = getgid(),
                        .st_size = (off_t)size,
                        .st_blocks = (blkcnt_t)((size + 511) / 512),
                        .st_blksize = 4096,
                        .st_atim = when,
                        .st_mtim = when,
                        .st_ctim = when};
    return r;
}

/* A file of a search, under a number of its own. */
static struct ramet_tools_node *search_file(struct ramet_tools_context *context, const struct ramet_tools_node *root,
                                            const struct ramet_tools_node *dir, const char *query)
{
    pthread_mutex_lock(&context->lock);
    uint64_t ino = ++context->last_search;
    pthread_mutex_unlock(&context->lock);
    struct ramet_tools_node *node = ramet_tools_node_new(query, RAMET_TOOLS_FILE, ino, dir->text);
    if (node) {
        node->dir_ino = dir->ino;
        node->owner = root->owner;
        node->which = dir->which;
        node->form = dir->form;
        node->mtime_ms = root->mtime_ms;
    }
    return node;
}

static int reply_node(fuse_req_t req, struct ramet_tools_node *node, struct ramet_error *err)
{
    struct fuse_entry_param entry = {.ino = node->ino, .generation = 1};
    int r = fill_attr(node, &entry.attr, err);
    if (r < 0)
        return r;
    if (!ramet_tools_is_dir(node) && !remember(context_of(req), node))
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to look up %s", node->name);
    if (fuse_reply_entry(req, &entry) < 0 && !ramet_tools_is_dir(node))
        forget(context_of(req), node->ino, 1);
    return 0;
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct ramet_tools_context *context = context_of(req);
    struct ramet_error err = {0};
    _cleanup_(unref) struct ramet_tools_node *root = tree_of(req);
    struct ramet_tools_node *dir = root ? ramet_tools_dir_by_ino(root, parent) : NULL;
    struct ramet_tools_node *found = dir ? ramet_tools_child(dir, name) : NULL;
    _cleanup_(unref) struct ramet_tools_node *node = found ? ramet_tools_node_ref(found) : NULL;
    if (!node && dir && dir->kind == RAMET_TOOLS_SEARCH && !(node = search_file(context, root, dir, name))) {
        fuse_reply_err(req, ENOMEM);
        return;
    }
    if (!node) {
        const struct ramet_tools_caller caller = caller_of(req);
        context->source.missed(context->source.context, &caller, dir, name);
        fuse_reply_err(req, ENOENT);
        return;
    }
    if (reply_node(req, node, &err) < 0)
        reply_error(req, &err);
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t count)
{
    forget(context_of(req), ino, count);
    fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *all)
{
    for (size_t i = 0; i < count; i++)
        forget(context_of(req), all[i].ino, all[i].nlookup);
    fuse_reply_none(req);
}

static struct tools_handle *handle_of(const struct fuse_file_info *fi)
{
    return (struct tools_handle *)(uintptr_t)fi->fh;
}

/* Of a descriptor: what it was opened on. The root has attributes for everybody: it is where the mount is. */
static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct ramet_error err = {0};
    struct stat st;
    _cleanup_(unref) struct ramet_tools_node *root = NULL, *node = NULL;
    if (fi && fi->fh) {
        node = ramet_tools_node_ref(handle_of(fi)->node);
    } else {
        root = tree_of(req);
        int error = find(req, root, ino, &node);
        if (error && ino != FUSE_ROOT_ID) {
            fuse_reply_err(req, error);
            return;
        }
    }
    if (!node) {
        st = (struct stat){.st_ino = FUSE_ROOT_ID, .st_mode = S_IFDIR | 0555, .st_nlink = 2};
        fuse_reply_attr(req, &st, 0);
        return;
    }
    if (fill_attr(node, &st, &err) < 0)
        reply_error(req, &err);
    else
        fuse_reply_attr(req, &st, 0);
}

/* --- open files and directories --- */

/* Takes over the node and the root. NULL when memory ran out. */
static struct tools_handle *handle_new(struct ramet_tools_context *context, struct ramet_tools_node *node,
                                       struct ramet_tools_node *root)
{
    struct tools_handle *handle = calloc(1, sizeof *handle);
    if (!handle) {
        ramet_tools_node_unref(node);
        ramet_tools_node_unref(root);
        return NULL;
    }
    handle->node = node;
    handle->root = root;
    handle->context = context;
    pthread_mutex_lock(&context->lock);
    handle->next = context->handles;
    if (handle->next)
        handle->next->previous = handle;
    context->handles = handle;
    pthread_mutex_unlock(&context->lock);
    return handle;
}

/* Finds what is to be opened and asks whether it may be; replies when not. */
static struct tools_handle *open_node(fuse_req_t req, fuse_ino_t ino, bool dir)
{
    struct ramet_tools_context *context = context_of(req);
    struct ramet_error err = {0};
    const struct ramet_tools_caller caller = caller_of(req);
    _cleanup_(unref) struct ramet_tools_node *root = tree_of(req), *node = NULL;
    int error = find(req, root, ino, &node);
    if (error == 0 && ramet_tools_is_dir(node) != dir)
        error = dir ? ENOTDIR : EISDIR;
    if (error == 0 && context->source.opening(context->source.context, &caller, node, &err) < 0)
        error = ramet_code_errno(err.code);
    if (error) {
        fuse_reply_err(req, error);
        return NULL;
    }
    struct tools_handle *handle = handle_new(context, STEAL(node), dir ? STEAL(root) : NULL);
    if (!handle)
        fuse_reply_err(req, ENOMEM);
    return handle;
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct ramet_error err = {0};
    struct tools_handle *handle = open_node(req, ino, false);
    if (!handle)
        return;
    if (ramet_tools_node_text(handle->node, &handle->text, &err) < 0) {
        handle_free(handle);
        reply_error(req, &err);
        return;
    }
    fi->fh = (uintptr_t)handle;
    fi->direct_io = handle->node->kind == RAMET_TOOLS_LIVE;
    fi->keep_cache = !fi->direct_io; /* a number stands for one text */
    fi->noflush = 1;
    if (fuse_reply_open(req, fi) < 0)
        handle_free(handle);
}

/* A copy: once the kernel has the reply, another thread may release the handle. */
static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
    const struct ramet_buf *text = &handle_of(fi)->text;
    (void)ino;
    size_t start = (uint64_t)off < text->size ? (size_t)off : text->size;
    size = text->size - start < size ? text->size - start : size;
    _autofree_ char *buf = malloc(size + 1);
    if (!buf) {
        fuse_reply_err(req, ENOMEM);
        return;
    }
    if (size)
        memcpy(buf, text->data + start, size);
    fuse_reply_buf(req, buf, size);
}

static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    (void)ino;
    handle_free(handle_of(fi));
    fuse_reply_err(req, 0);
}

static void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct tools_handle *handle = open_node(req, ino, true);
    if (!handle)
        return;
    fi->fh = (uintptr_t)handle;
    if (fuse_reply_open(req, fi) < 0)
        handle_free(handle);
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
    const struct ramet_tools_node *dir = handle_of(fi)->node;
    size_t used = 0;
    _autofree_ char *buf = malloc(size);
    (void)ino;
    if (!buf) {
        fuse_reply_err(req, ENOMEM);
        return;
    }
    for (size_t i = (size_t)off; i < dir->count; i++) {
        const struct ramet_tools_node *child = dir->children[i];
        struct stat st = {.st_ino = child->ino, .st_mode = ramet_tools_is_dir(child) ? S_IFDIR : S_IFREG};
        size_t need = fuse_add_direntry(req, buf + used, size - used, child->name, &st, (off_t)i + 1);
        if (need > size - used)
            break;
        used += need;
    }
    fuse_reply_buf(req, buf, used);
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
    const struct statvfs st = {.f_bsize = 4096, .f_frsize = 4096, .f_namemax = 255};
    (void)ino;
    fuse_reply_statfs(req, &st);
}

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
    (void)userdata;
    conn->want |= conn->capable & (FUSE_CAP_ASYNC_READ | FUSE_CAP_PARALLEL_DIROPS);
    conn->want &= ~(unsigned)(FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO);
}

const struct fuse_lowlevel_ops ramet_tools_ops = {
    .init = op_init,
    .lookup = op_lookup,
    .forget = op_forget,
    .forget_multi = op_forget_multi,
    .getattr = op_getattr,
    .open = op_open,
    .read = op_read,
    .release = op_release,
    .opendir = op_opendir,
    .readdir = op_readdir,
    .releasedir = op_release,
    .statfs = op_statfs,
};
