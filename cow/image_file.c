/* SPDX-License-Identifier: Apache-2.0 */
#include "image_file.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "put.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

/* --- from a file --- */

struct file_source {
    int fd;
    const char *name;
    uint64_t size_bytes;
    bool has_base; /* then holes count too: they may replace something */
};

static int file_run(void *ctx, uint64_t from, uint64_t end, uint64_t *ret_first, uint64_t *ret_count,
                    struct ramet_error *err)
{
    (void)err;
    const struct file_source *source = ctx;
    *ret_first = from;
    *ret_count = end - from;
    if (source->has_base || from == end)
        return 0;
    /* A file system that cannot tell holes gives data everywhere, or an error: then everything is read. */
    off_t data = lseek(source->fd, (off_t)(from * RAMET_PAGE_SIZE), SEEK_DATA);
    off_t hole = data < 0 ? -1 : lseek(source->fd, data, SEEK_HOLE);
    if (data < 0 && errno == ENXIO)
        *ret_count = 0;
    if (data < 0 || hole < 0)
        return 0;
    uint64_t first = (uint64_t)data / RAMET_PAGE_SIZE, past = ((uint64_t)hole + RAMET_PAGE_SIZE - 1) / RAMET_PAGE_SIZE;
    past = past < end ? past : end;
    *ret_first = first;
    *ret_count = past > first ? past - first : 0;
    return 0;
}

static int file_read(void *ctx, uint64_t first, uint64_t count, void *buf, struct ramet_error *err)
{
    const struct file_source *source = ctx;
    uint64_t offset = first * RAMET_PAGE_SIZE, left = source->size_bytes - offset;
    size_t size = (size_t)count * RAMET_PAGE_SIZE, some = left < size ? (size_t)left : size;
    memset((uint8_t *)buf + some, 0, size - some);
    return ramet_file_read(source->fd, source->name, buf, some, offset, err);
}

int ramet_image_put_file(struct ramet_store *store, struct ramet_ingest *ingest, int fd, const char *name,
                         uint64_t size_bytes, const struct ramet_page_map *base, struct ramet_page_map *ret,
                         struct ramet_error *err)
{
    struct ramet_page_map empty = {.page_count = (size_bytes + RAMET_PAGE_SIZE - 1) / RAMET_PAGE_SIZE};
    bool usable = base && base->page_count == empty.page_count;
    struct file_source file = {.fd = fd, .name = name, .size_bytes = size_bytes, .has_base = usable};
    struct ramet_page_source source = {.run = file_run, .read = file_read, .ctx = &file, .pages = empty.page_count};
    return ramet_put_pages(store, ingest, usable ? base : &empty, &source, ret, err);
}

/* --- to a file --- */

/*
 * Large images are written past the page cache where the file system can: copying into it costs as much as
 * decompressing, and nobody else would find room there. Two threads a CPU then, since half of them wait for the disk.
 */
enum { step_pages = 512, threads_max = 16, direct_min_bytes = 64 << 20 };

struct writing {
    struct ramet_image *image;
    int fd;
    const char *name;
    _Atomic uint64_t next;    /* byte of the next step to claim */
    _Atomic uint64_t written; /* bytes */
    _Atomic bool stopped;
};

struct writer {
    struct writing *writing;
    pthread_t thread;
    int status;
    struct ramet_error err;
};

static bool is_zero(const uint8_t *page, size_t size) { return page[0] == 0 && memcmp(page, page + 1, size - 1) == 0; }

/* Writes what is not zero of `size` bytes. */
static int write_runs(struct writing *writing, const uint8_t *bytes, size_t size, uint64_t offset,
                      struct ramet_error *err)
{
    int r = 0;
    for (size_t at = 0, some; at < size && r == 0; at += some) {
        some = size - at < RAMET_PAGE_SIZE ? size - at : RAMET_PAGE_SIZE;
        if (is_zero(bytes + at, some))
            continue;
        while (at + some < size) {
            size_t next = size - at - some < RAMET_PAGE_SIZE ? size - at - some : RAMET_PAGE_SIZE;
            if (is_zero(bytes + at + some, next))
                break;
            some += next;
        }
        r = ramet_file_write(writing->fd, writing->name, bytes + at, some, offset + at, err);
        atomic_fetch_add(&writing->written, some);
    }
    return r;
}

static void *write_steps(void *ctx)
{
    struct writer *writer = ctx;
    struct writing *writing = writer->writing;
    const size_t step = (size_t)step_pages * RAMET_PAGE_SIZE;
    uint64_t size = ramet_image_size(writing->image);
    _autofree_ void *memory = NULL;
    if (posix_memalign(&memory, RAMET_PAGE_SIZE, step) != 0)
        memory = NULL;
    uint8_t *buf = memory;
    if (!buf)
        writer->status = ramet_error_set(&writer->err, RAMET_NO_MEMORY, "no memory to write %s", writing->name);
    while (writer->status == 0 && !atomic_load(&writing->stopped)) {
        uint64_t from = atomic_fetch_add(&writing->next, step), data = size;
        if (from >= size)
            break;
        size_t some = size - from < step ? (size_t)(size - from) : step;
        writer->status = ramet_image_next_data(writing->image, from, &data, &writer->err);
        if (writer->status < 0 || data >= from + some)
            continue;
        writer->status = ramet_image_read(writing->image, from, buf, some, &writer->err);
        if (writer->status == 0)
            writer->status = write_runs(writing, buf, some, from, &writer->err);
    }
    if (writer->status < 0)
        atomic_store(&writing->stopped, true);
    return NULL;
}

int ramet_image_write_file(struct ramet_image *image, int fd, const char *name, uint64_t *ret_data_bytes,
                           struct ramet_error *err)
{
    struct writing writing = {.image = image, .fd = fd, .name = name};
    struct writer writers[threads_max] = {{.writing = &writing}};
    uint64_t steps = ramet_image_size(image) / RAMET_PAGE_SIZE / step_pages + 1;
    unsigned wanted = ramet_store_threads(ramet_image_store(image)), started = 1;
    int flags = fcntl(fd, F_GETFL);
    /* Whole pages only: O_DIRECT takes nothing else. */
    bool direct = ramet_image_size(image) >= direct_min_bytes && ramet_image_size(image) % RAMET_PAGE_SIZE == 0 &&
                  flags >= 0 && fcntl(fd, F_SETFL, flags | O_DIRECT) == 0;
    wanted = direct ? wanted * 2 : wanted;
    wanted = wanted < threads_max ? wanted : threads_max;
    if (ftruncate(fd, (off_t)ramet_image_size(image)) < 0)
        return ramet_error_os(err, errno, "cannot size %s", name);
    for (; started < wanted && started < steps; started++) {
        writers[started].writing = &writing;
        if (pthread_create(&writers[started].thread, NULL, write_steps, &writers[started]) != 0)
            break;
    }
    write_steps(&writers[0]);
    int r = 0;
    for (unsigned i = 0; i < started; i++) {
        if (i > 0)
            pthread_join(writers[i].thread, NULL);
        if (r == 0 && (r = writers[i].status) < 0 && err)
            *err = writers[i].err;
    }
    if (direct)
        fcntl(fd, F_SETFL, flags);
    if (r == 0)
        *ret_data_bytes = atomic_load(&writing.written);
    return r;
}
