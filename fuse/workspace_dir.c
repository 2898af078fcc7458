/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Listing directories. An offset is the cookie of the entry before; "." and ".." have the
 * offsets 1 and 2. Cookies stay what they are when other names come and go, so a listing can
 * be taken up anywhere, and the kernel may keep it.
 */
#include "workspace_ops.h"

#include <string.h>

enum { dot = 1, dot_dot = 2 };

static void put_dirent(char *at, const char *name, size_t name_size, uint64_t node, uint32_t type, uint64_t offset)
{
    struct fuse_dirent *entry = (struct fuse_dirent *)at;
    *entry =
        (struct fuse_dirent){.ino = node, .off = offset, .namelen = (uint32_t)name_size, .type = (type & S_IFMT) >> 12};
    memcpy(entry->name, name, name_size);
    memset(entry->name + name_size, 0, FUSE_DIRENT_SIZE(entry) - FUSE_NAME_OFFSET - name_size);
}

bool ramet_wlisting_add(struct ramet_wlisting *listing, const char *name, uint64_t node, uint32_t type, uint64_t offset,
                        const struct ramet_wstat *stat)
{
    size_t name_size = strlen(name), head = listing->plus ? sizeof(struct fuse_entry_out) : 0;
    size_t need = head + FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + name_size);
    if (listing->size - listing->used < need)
        return false;
    char *at = listing->buf + listing->used;
    struct fuse_entry_out none = {0}; /* no node: the kernel looks it up when it is needed */
    if (listing->plus && stat)
        ramet_wfill_entry(ramet_wnode_serial(node), stat, (struct fuse_entry_out *)at);
    else if (listing->plus)
        memcpy(at, &none, sizeof none);
    put_dirent(at + head, name, name_size, node, type, offset);
    listing->used += need;
    return true;
}

struct emission {
    struct ramet_wlisting listing;
    uint64_t serial;
};

static bool emit(void *ctx, const struct ramet_wentry *entry, const struct ramet_wstat *stat)
{
    struct emission *emission = ctx;
    return ramet_wlisting_add(&emission->listing, entry->name, ramet_wnode(emission->serial, entry->ino), entry->type,
                              entry->cookie, stat);
}

static int list(struct ramet_workspace *workspace, uint64_t dir, uint64_t offset, struct emission *emission,
                struct ramet_error *err)
{
    struct ramet_wlisting *listing = &emission->listing;
    uint64_t parent = 0;
    if (offset < dot)
        ramet_wlisting_add(listing, ".", ramet_wnode(emission->serial, dir), S_IFDIR, dot, NULL);
    if (offset < dot_dot) {
        int r = dir == RAMET_WORKSPACE_ROOT ? 0 : ramet_wfile_parent(workspace, dir, &parent, err);
        if (r < 0)
            return r;
        uint64_t node = dir == RAMET_WORKSPACE_ROOT ? RAMET_WNODE_ROOT : ramet_wnode(emission->serial, parent);
        ramet_wlisting_add(listing, "..", node, S_IFDIR, dot_dot, NULL);
    }
    return ramet_wfile_list(workspace, dir, offset <= dot_dot ? 0 : offset, emit, emission, listing->plus, err);
}

static void read_dir(struct ramet_fuse_request *request, bool plus)
{
    const struct fuse_read_in *in = request->body;
    uint64_t node = request->header->nodeid;
    size_t size = in->size < RAMET_FUSE_WRITE_MAX ? in->size : RAMET_FUSE_WRITE_MAX;
    RAMET_WERROR(err);
    if (ramet_wnode_virtual(node)) {
        ramet_wvirtual_list(request, node, in->offset, size, plus);
        return;
    }
    struct ramet_workspace *workspace = ramet_wnode_workspace(request, node);
    if (!workspace)
        return;
    struct emission emission = {.listing = {.buf = ramet_fuse_buffer(request), .size = size, .plus = plus},
                                .serial = ramet_wnode_serial(node)};
    if (list(workspace, ramet_wnode_ino(node), in->offset, &emission, &err) < 0)
        ramet_wreply_error(request, &err);
    else
        ramet_fuse_reply(request, emission.listing.buf, emission.listing.used);
    ramet_workspace_unref(workspace);
}

void ramet_wop_readdir(struct ramet_fuse_request *request) { read_dir(request, false); }

void ramet_wop_readdirplus(struct ramet_fuse_request *request) { read_dir(request, true); }
