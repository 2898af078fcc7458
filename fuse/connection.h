/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A FUSE connection that speaks the kernel's protocol itself. libfuse mounts, we read and
 * answer: Debian's libfuse 3.14 knows neither the requests (O_TMPFILE, statx) nor the flags
 * (HANDLE_KILLPRIV_V2, zero-message opens of a chosen kind) that make workspaces quick, and
 * keeps a list of requests under a lock.
 *
 * One thread reads while the mount is quiet: the next request finds it warm, on the CPU
 * where it was. A second begins when requests queue up, or when a handler says that it is
 * going to wait; it goes back to sleep when there is nothing left to read.
 *
 * Thread-safe. Handlers run on the connection's threads and must not touch the mount; the
 * notifications must come from other threads, since the kernel may wait for answers first.
 */
#ifndef RAMET_FUSE_CONNECTION_H
#define RAMET_FUSE_CONNECTION_H

#include "base/error.h"

#include <linux/fuse.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ramet_fuse;
struct ramet_fuse_thread;

#define RAMET_FUSE_WRITE_MAX (1u << 20) /* bytes of a WRITE, a READ and a READDIR at most */

struct ramet_fuse_request {
    void *context;
    const struct fuse_in_header *header;
    const void *body; /* after the header; names end with NUL */
    size_t size;      /* of the body */
    struct ramet_fuse_thread *thread;
};

typedef void ramet_fuse_handler(struct ramet_fuse_request *request);
struct ramet_fuse_operation {
    ramet_fuse_handler *run; /* NULL: ENOSYS, and the kernel does not ask again */
    size_t size;             /* least size of the body */
    bool waits;              /* for the disk: another thread reads meanwhile */
};
#define RAMET_FUSE_OPCODES 64

struct ramet_fuse_options {
    const char *name;                              /* of the file system: "ramet-workspaces" */
    const struct ramet_fuse_operation *operations; /* RAMET_FUSE_OPCODES, by opcode */
    uint64_t flags;                                /* of INIT that are asked for, where the kernel has them */
    void *context;
};

/* Mounts on an empty directory and serves; returns when the first request has been answered. */
int ramet_fuse_start(const char *dir, const struct ramet_fuse_options *options, struct ramet_fuse **ret,
                     struct ramet_error *err);
/* Unmounts (lazily when still in use) and ends the threads. NULL is a no-op. */
void ramet_fuse_stop(struct ramet_fuse *fuse);

/*
 * Has the kernel send the pages that programs changed through shared mappings, and returns when they were handled, as
 * was every other request made before. Not from a handler.
 */
int ramet_fuse_flush(struct ramet_fuse *fuse, struct ramet_error *err);

/* --- for handlers: exactly one answer a request, forgets none --- */

void ramet_fuse_reply(struct ramet_fuse_request *request, const void *data, size_t size);
void ramet_fuse_reply_error(struct ramet_fuse_request *request, int os_errno); /* 0: done */
/* Room for an answer of up to RAMET_FUSE_WRITE_MAX, until the handler returns. */
void *ramet_fuse_buffer(struct ramet_fuse_request *request);
/* Another thread reads from now on: this one is going to wait. */
void ramet_fuse_waits(struct ramet_fuse_request *request);

/* --- notifications; 0, or -errno (ENOENT: the kernel does not know it) --- */

int ramet_fuse_inval_entry(struct ramet_fuse *fuse, uint64_t parent, const char *name);
/* All names that the kernel knows are asked for again before they are used. Before Linux 6.16: -EINVAL, nothing is
 * done. */
int ramet_fuse_inval_names(struct ramet_fuse *fuse);
int ramet_fuse_inval_inode(struct ramet_fuse *fuse, uint64_t node, int64_t offset /* -1: attributes only */,
                           int64_t size /* 0: all */);

#endif
