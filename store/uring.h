/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Batched file writes: the one wrapper around liburing. Where io_uring is denied
 * (seccomp, kernel.io_uring_disabled, or RAMET_NO_URING in the environment) the same
 * calls use pwritev and fdatasync.
 *
 * Thread-safety: one caller at a time per writer.
 */
#ifndef RAMET_STORE_URING_H
#define RAMET_STORE_URING_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

struct ramet_uring;

struct ramet_uring *ramet_uring_new(void); /* NULL when memory ran out */
void ramet_uring_free(struct ramet_uring *uring);

/* Writes all vectors one after the other from `offset`; returns when every byte was taken. */
int ramet_uring_write(struct ramet_uring *uring, int fd, const char *name, const struct iovec *vectors, size_t count,
                      uint64_t offset, struct ramet_error *err);

/* Reads in flight together. A read that comes short or fails is marked; one with fd -1 fails. `uring` may be NULL. */
#define RAMET_URING_READS_MAX 32
struct ramet_uring_read {
    int fd;
    void *buf;
    size_t size;
    uint64_t offset;
    bool failed;
};
void ramet_uring_read(struct ramet_uring *uring, struct ramet_uring_read *reads, size_t count);
int ramet_uring_sync(struct ramet_uring *uring, int fd, const char *name, struct ramet_error *err);

#endif
