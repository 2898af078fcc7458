/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A batch is cut into runs of `run_vectors` vectors, one request each, kept in flight
 * together. A short write is finished with plain pwrite; the first failure is
 * remembered and reported after every request of the batch has come back, so that no
 * request outlives the buffers it points to.
 */
#include "uring.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdbool.h>
#include <stdlib.h>

enum { depth = 32, run_vectors = 128 };

struct ramet_uring {
    struct io_uring ring;
    bool active; /* there is a ring */
    bool broken; /* it is not used any more */
};

struct run {
    const struct iovec *vectors;
    unsigned count;
    uint64_t offset;
    size_t size;
};

struct ramet_uring *ramet_uring_new(void)
{
    struct ramet_uring *uring = calloc(1, sizeof *uring);
    if (uring)
        uring->active = !getenv("RAMET_NO_URING") && io_uring_queue_init(depth, &uring->ring, 0) == 0;
    return uring;
}

void ramet_uring_free(struct ramet_uring *uring)
{
    if (!uring)
        return;
    if (uring->active)
        io_uring_queue_exit(&uring->ring);
    free(uring);
}

static struct run next_run(const struct iovec *vectors, size_t count, uint64_t offset)
{
    struct run run = {.vectors = vectors, .offset = offset};
    run.count = (unsigned)(count < run_vectors ? count : run_vectors);
    for (unsigned i = 0; i < run.count; i++)
        run.size += vectors[i].iov_len;
    return run;
}

/* Writes what is left of a run after its first `done` bytes. */
static int finish_run(int fd, const char *name, const struct run *run, size_t done, struct ramet_error *err)
{
    uint64_t at = run->offset;
    for (unsigned i = 0; i < run->count; i++) {
        size_t size = run->vectors[i].iov_len, skip = done < size ? done : size;
        int r = ramet_file_write(fd, name, (const char *)run->vectors[i].iov_base + skip, size - skip, at + skip, err);
        if (r < 0)
            return r;
        done -= skip;
        at += size;
    }
    return 0;
}

/* Takes one completion in; `res` is bytes written or -errno. */
static int complete_run(int fd, const char *name, const struct run *run, int res, struct ramet_error *err)
{
    if (res < 0 && res != -EINTR && res != -EAGAIN)
        return ramet_error_os(err, -res, "%s: cannot write %zu bytes at %llu", name, run->size,
                              (unsigned long long)run->offset);
    size_t done = res > 0 ? (size_t)res : 0;
    return done < run->size ? finish_run(fd, name, run, done, err) : 0;
}

static int write_in_flight(struct ramet_uring *uring, int fd, const char *name, const struct iovec *vectors,
                           size_t count, uint64_t offset, struct ramet_error *err)
{
    struct run runs[depth];
    unsigned in_flight = 0;
    int result = 0;
    while (count > 0 && result == 0) {
        while (count > 0 && in_flight < depth) {
            struct run *run = &runs[in_flight++];
            *run = next_run(vectors, count, offset);
            struct io_uring_sqe *sqe = io_uring_get_sqe(&uring->ring);
            io_uring_prep_writev(sqe, fd, run->vectors, run->count, run->offset);
            io_uring_sqe_set_data(sqe, run);
            vectors += run->count;
            count -= run->count;
            offset += run->size;
        }
        int r = io_uring_submit(&uring->ring);
        if (r < 0)
            return ramet_error_os(err, -r, "%s: cannot submit writes", name);
        for (; in_flight > 0; in_flight--) {
            struct io_uring_cqe *cqe;
            while ((r = io_uring_wait_cqe(&uring->ring, &cqe)) == -EINTR)
                ;
            if (r < 0)
                return ramet_error_os(err, -r, "%s: cannot wait for writes", name);
            r = complete_run(fd, name, io_uring_cqe_get_data(cqe), cqe->res, result ? NULL : err);
            io_uring_cqe_seen(&uring->ring, cqe);
            result = result ? result : r;
        }
    }
    return result;
}

int ramet_uring_write(struct ramet_uring *uring, int fd, const char *name, const struct iovec *vectors, size_t count,
                      uint64_t offset, struct ramet_error *err)
{
    if (uring->active)
        return write_in_flight(uring, fd, name, vectors, count, offset, err);
    while (count > 0) {
        struct run run = next_run(vectors, count, offset);
        ssize_t n = pwritev(fd, run.vectors, (int)run.count, (off_t)run.offset);
        int r = complete_run(fd, name, &run, n < 0 ? -errno : (int)n, err);
        if (r < 0)
            return r;
        vectors += run.count;
        count -= run.count;
        offset += run.size;
    }
    return 0;
}

/* Reads what is left of a read after its first `done` bytes. */
static void finish_read(struct ramet_uring_read *read, size_t done)
{
    read->failed = read->fd < 0 || ramet_file_read(read->fd, "", (uint8_t *)read->buf + done, read->size - done,
                                                   read->offset + done, NULL) < 0;
}

/* Without a ring: the kernel is told of all before the first is waited for. */
static void read_plain(struct ramet_uring_read *reads, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (reads[i].fd >= 0)
            posix_fadvise(reads[i].fd, (off_t)reads[i].offset, (off_t)reads[i].size, POSIX_FADV_WILLNEED);
    for (size_t i = 0; i < count; i++)
        finish_read(&reads[i], 0);
}

void ramet_uring_read(struct ramet_uring *uring, struct ramet_uring_read *reads, size_t count)
{
    if (!uring || !uring->active || uring->broken) {
        read_plain(reads, count);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        struct io_uring_sqe *sqe = io_uring_get_sqe(&uring->ring);
        io_uring_prep_read(sqe, reads[i].fd, reads[i].buf, (unsigned)reads[i].size, reads[i].offset);
        io_uring_sqe_set_data(sqe, &reads[i]);
    }
    int submitted = io_uring_submit(&uring->ring);
    /* What was prepared and not taken would go out with the next batch, into buffers that are gone. */
    if (submitted < (int)count)
        uring->broken = true;
    for (size_t i = 0; i < count; i++)
        reads[i].failed = true; /* until it comes back */
    for (int i = 0; i < submitted; i++) {
        struct io_uring_cqe *cqe;
        int r;
        while ((r = io_uring_wait_cqe(&uring->ring, &cqe)) == -EINTR)
            ;
        if (r < 0)
            break;
        struct ramet_uring_read *read = io_uring_cqe_get_data(cqe);
        size_t done = cqe->res > 0 ? (size_t)cqe->res : 0;
        io_uring_cqe_seen(&uring->ring, cqe);
        finish_read(read, done);
    }
}

int ramet_uring_sync(struct ramet_uring *uring, int fd, const char *name, struct ramet_error *err)
{
    if (!uring->active)
        return ramet_file_sync(fd, name, err);
    struct io_uring_sqe *sqe = io_uring_get_sqe(&uring->ring);
    io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
    struct io_uring_cqe *cqe;
    int r = io_uring_submit(&uring->ring);
    while (r >= 0 && (r = io_uring_wait_cqe(&uring->ring, &cqe)) == -EINTR)
        ;
    if (r >= 0) {
        r = cqe->res;
        io_uring_cqe_seen(&uring->ring, cqe);
    }
    return r < 0 ? ramet_error_os(err, -r, "%s: cannot sync", name) : 0;
}
