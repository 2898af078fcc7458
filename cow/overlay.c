/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Locks, in the order they are taken:
 *   gate  (read) held by reads, writes, discards and flushes; (write) by freeze, which
 *         only swaps pointers under it
 *   fill  held while a page becomes present: the check, the read of what lies
 *         underneath, the write and the bit are one step, so that no concurrent write
 *         to the same page is lost. Writes to present pages do not take it.
 *   log   held by a flush, from collecting the pages to clearing them
 * Bits are set after the data is in the file, so a reader that sees a bit finds data.
 *
 * A crash loses at most what was not flushed: the log names only pages whose data was
 * synced before the record was written.
 */
#include "overlay.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "overlay_log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

struct generation {
    uint64_t number;
    int fd, log_fd;
    uint64_t log_end;
    _Atomic uint64_t *present; /* a bit a page */
    _Atomic uint64_t *fresh;   /* written, not in the log yet */
    struct generation *older;  /* sealed ones that a flush still has to make durable */
};

struct ramet_overlay {
    char dir[PATH_MAX - 96];
    char name[32];
    uint64_t size_bytes, page_count;
    _Atomic uint64_t written_pages;
    pthread_rwlock_t gate;
    struct ramet_image *base;      /* gate */
    struct generation current;     /* gate */
    struct ramet_image *next_base; /* a reset that was begun; its caller's */
    struct generation next;
    pthread_mutex_t fill, log;
};

/* What a reset leaves free above the generations in use. */
static const uint64_t reset_step = UINT64_C(1) << 32;

static size_t bitmap_words(uint64_t page_count) { return (size_t)(page_count + 63) / 64; }

static void path_of(const struct ramet_overlay *overlay, uint64_t generation, const char *suffix, char path[PATH_MAX])
{
    snprintf(path, PATH_MAX, "%s/%s.%llu%s", overlay->dir, overlay->name, (unsigned long long)generation, suffix);
}

static bool is_present(const struct generation *g, uint64_t page)
{
    return atomic_load(&g->present[page / 64]) >> page % 64 & 1;
}

/* --- generations --- */

static void generation_close(struct generation *g)
{
    if (g->older) {
        generation_close(g->older);
        free(g->older);
    }
    if (g->fd >= 0)
        close(g->fd);
    if (g->log_fd >= 0)
        close(g->log_fd);
    free(g->present);
    free(g->fresh);
    *g = (struct generation){.fd = -1, .log_fd = -1};
}

/* Opens or makes a generation's files and reads its log. */
static int generation_open(struct ramet_overlay *overlay, uint64_t number, struct generation *ret,
                           struct ramet_error *err)
{
    char path[PATH_MAX];
    struct generation g = {.number = number, .fd = -1, .log_fd = -1};
    size_t words = bitmap_words(overlay->page_count);
    g.present = calloc(words, sizeof *g.present);
    g.fresh = calloc(words, sizeof *g.fresh);
    int r = g.present && g.fresh ? 0 : ramet_error_set(err, RAMET_NO_MEMORY, "no memory to open %s", overlay->name);
    path_of(overlay, number, "", path);
    if (r == 0 && (g.fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600)) < 0)
        r = ramet_error_os(err, errno, "cannot open %s", path);
    if (r == 0 && ftruncate(g.fd, (off_t)(overlay->page_count * RAMET_PAGE_SIZE)) < 0)
        r = ramet_error_os(err, errno, "cannot size %s", path);
    path_of(overlay, number, ".log", path);
    if (r == 0 && (g.log_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600)) < 0)
        r = ramet_error_os(err, errno, "cannot open %s", path);
    if (r == 0)
        r = ramet_overlay_log_read(g.log_fd, path, overlay->page_count, (uint64_t *)g.present, &g.log_end, err);
    /* Pages the log names may have been written again and not flushed: what is shown from here on must stay. */
    if (r == 0 && g.log_end > 0)
        r = ramet_file_sync(g.fd, overlay->name, err);
    if (r < 0) {
        generation_close(&g);
        return r;
    }
    *ret = g;
    return 0;
}

/* Gives an image that shows the generation, as it is now, over `base`. Nobody may write to it any more. */
static int generation_seal(const struct generation *g, struct ramet_image *base, uint64_t page_count,
                           struct ramet_image **ret, struct ramet_error *err)
{
    struct ramet_layer *layer;
    size_t size = bitmap_words(page_count) * sizeof(uint64_t);
    uint64_t *bitmap = malloc(size);
    int fd = fcntl(g->fd, F_DUPFD_CLOEXEC, 0);
    if (!bitmap || fd < 0) {
        free(bitmap);
        ramet_cleanup_close(&fd);
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory or descriptor to freeze a disk");
    }
    memcpy(bitmap, (const uint64_t *)g->present, size);
    int r = ramet_layer_new_spread(fd, bitmap, page_count, &layer, err);
    return r < 0 ? r : ramet_image_new_layered(base, layer, ret, err);
}

static bool generation_exists(const struct ramet_overlay *overlay, uint64_t number)
{
    char path[PATH_MAX];
    path_of(overlay, number, "", path);
    return access(path, F_OK) == 0;
}

/* Seals every generation on disk but the newest under it. */
static int recover(struct ramet_overlay *overlay, uint64_t first, struct ramet_error *err)
{
    int r = generation_open(overlay, first, &overlay->current, err);
    while (r == 0 && generation_exists(overlay, overlay->current.number + 1)) {
        uint64_t next = overlay->current.number + 1;
        struct ramet_image *sealed;
        if ((r = generation_seal(&overlay->current, overlay->base, overlay->page_count, &sealed, err)) < 0)
            break;
        ramet_image_unref(overlay->base);
        overlay->base = sealed;
        generation_close(&overlay->current);
        r = generation_open(overlay, next, &overlay->current, err);
    }
    return r;
}

int ramet_overlay_open(const char *dir, const char *name, struct ramet_image *base, uint64_t first_generation,
                       struct ramet_overlay **ret, struct ramet_error *err)
{
    struct ramet_overlay *overlay = calloc(1, sizeof *overlay);
    if (!overlay)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to open %s", name);
    snprintf(overlay->dir, sizeof overlay->dir, "%s", dir);
    snprintf(overlay->name, sizeof overlay->name, "%s", name);
    overlay->size_bytes = ramet_image_size(base);
    overlay->page_count = (overlay->size_bytes + RAMET_PAGE_SIZE - 1) / RAMET_PAGE_SIZE;
    overlay->base = ramet_image_ref(base);
    overlay->current = overlay->next = (struct generation){.fd = -1, .log_fd = -1};
    pthread_rwlock_init(&overlay->gate, NULL);
    pthread_mutex_init(&overlay->fill, NULL);
    pthread_mutex_init(&overlay->log, NULL);
    int r = recover(overlay, first_generation, err);
    if (r < 0) {
        ramet_overlay_close(overlay);
        return r;
    }
    for (size_t i = 0; i < bitmap_words(overlay->page_count); i++)
        overlay->written_pages += (uint64_t)__builtin_popcountll(overlay->current.present[i]);
    *ret = overlay;
    return 0;
}

void ramet_overlay_close(struct ramet_overlay *overlay)
{
    if (!overlay)
        return;
    generation_close(&overlay->current);
    generation_close(&overlay->next);
    ramet_image_unref(overlay->base);
    ramet_image_unref(overlay->next_base);
    pthread_rwlock_destroy(&overlay->gate);
    pthread_mutex_destroy(&overlay->fill);
    pthread_mutex_destroy(&overlay->log);
    free(overlay);
}

uint64_t ramet_overlay_size(const struct ramet_overlay *overlay) { return overlay->size_bytes; }

uint64_t ramet_overlay_written_bytes(struct ramet_overlay *overlay)
{
    return atomic_load(&overlay->written_pages) * RAMET_PAGE_SIZE;
}

static int check_range(const struct ramet_overlay *overlay, uint64_t offset, uint64_t size, struct ramet_error *err)
{
    if (offset > overlay->size_bytes || size > overlay->size_bytes - offset)
        return ramet_error_set(err, RAMET_INVALID, "%llu bytes at %llu lie outside %s of %llu bytes",
                               (unsigned long long)size, (unsigned long long)offset, overlay->name,
                               (unsigned long long)overlay->size_bytes);
    return 0;
}

/* --- reading and writing --- */

/* Bytes from `offset` on whose pages are alike in being present, at most `size`. */
static size_t alike(const struct generation *g, uint64_t offset, size_t size, bool *ret_present)
{
    uint64_t page = offset / RAMET_PAGE_SIZE, last = (offset + size - 1) / RAMET_PAGE_SIZE;
    *ret_present = is_present(g, page);
    while (page < last && is_present(g, page + 1) == *ret_present)
        page++;
    uint64_t end = (page + 1) * RAMET_PAGE_SIZE;
    return end - offset < size ? (size_t)(end - offset) : size;
}

int ramet_overlay_read(struct ramet_overlay *overlay, uint64_t offset, void *buf, size_t size, struct ramet_error *err)
{
    uint8_t *to = buf;
    int r = check_range(overlay, offset, size, err);
    pthread_rwlock_rdlock(&overlay->gate);
    while (size > 0 && r == 0) {
        bool present;
        size_t some = alike(&overlay->current, offset, size, &present);
        r = present ? ramet_file_read(overlay->current.fd, overlay->name, to, some, offset, err)
                    : ramet_image_read(overlay->base, offset, to, some, err);
        offset += some, to += some, size -= some;
    }
    pthread_rwlock_unlock(&overlay->gate);
    return r;
}

static void mark_page(struct ramet_overlay *overlay, uint64_t page)
{
    struct generation *g = &overlay->current;
    uint64_t bit = UINT64_C(1) << page % 64;
    atomic_fetch_or(&g->fresh[page / 64], bit);
    if (!(atomic_fetch_or(&g->present[page / 64], bit) & bit))
        atomic_fetch_add(&overlay->written_pages, 1);
}

/* Writes part of a page that may not be present yet, together with what surrounds it. Under fill. */
static int fill_page(struct ramet_overlay *overlay, uint64_t offset, const void *buf, size_t size,
                     struct ramet_error *err)
{
    uint8_t bytes[RAMET_PAGE_SIZE] = {0};
    uint64_t start = offset / RAMET_PAGE_SIZE * RAMET_PAGE_SIZE, left = overlay->size_bytes - start;
    size_t whole = left < RAMET_PAGE_SIZE ? (size_t)left : RAMET_PAGE_SIZE;
    int r = ramet_image_read(overlay->base, start, bytes, whole, err);
    if (r < 0)
        return r;
    if (buf)
        memcpy(bytes + (offset - start), buf, size);
    else
        memset(bytes + (offset - start), 0, size);
    return ramet_file_write(overlay->current.fd, overlay->name, bytes, sizeof bytes, start, err);
}

/* Writes within one page, or whole pages of which none was present; NULL writes zeros within one page. */
static int write_absent(struct ramet_overlay *overlay, uint64_t offset, const void *buf, size_t size,
                        struct ramet_error *err)
{
    uint64_t first = offset / RAMET_PAGE_SIZE, last = (offset + size - 1) / RAMET_PAGE_SIZE;
    bool whole = offset % RAMET_PAGE_SIZE == 0 && size % RAMET_PAGE_SIZE == 0;
    static const uint8_t zeros[RAMET_PAGE_SIZE];
    int r;
    pthread_mutex_lock(&overlay->fill);
    if (whole || is_present(&overlay->current, first))
        r = ramet_file_write(overlay->current.fd, overlay->name, buf ? buf : zeros, size, offset, err);
    else
        r = fill_page(overlay, offset, buf, size, err);
    for (uint64_t page = first; page <= last && r == 0; page++)
        mark_page(overlay, page);
    pthread_mutex_unlock(&overlay->fill);
    return r;
}

/* Up to where a write of absent pages may go in one step: the rest of a page, or whole pages. */
static size_t absent_step(uint64_t offset, size_t size)
{
    size_t inside = offset % RAMET_PAGE_SIZE, room = RAMET_PAGE_SIZE - inside;
    if (inside || size < RAMET_PAGE_SIZE)
        return size < room ? size : room;
    return size - size % RAMET_PAGE_SIZE;
}

int ramet_overlay_write(struct ramet_overlay *overlay, uint64_t offset, const void *buf, size_t size,
                        struct ramet_error *err)
{
    const uint8_t *from = buf;
    int r = check_range(overlay, offset, size, err);
    pthread_rwlock_rdlock(&overlay->gate);
    while (size > 0 && r == 0) {
        bool present;
        size_t some = alike(&overlay->current, offset, size, &present);
        if (present) {
            r = ramet_file_write(overlay->current.fd, overlay->name, from, some, offset, err);
            for (uint64_t page = offset / RAMET_PAGE_SIZE; page <= (offset + some - 1) / RAMET_PAGE_SIZE; page++)
                mark_page(overlay, page);
        } else {
            some = absent_step(offset, some);
            r = write_absent(overlay, offset, from, some, err);
        }
        offset += some, from += some, size -= some;
    }
    pthread_rwlock_unlock(&overlay->gate);
    return r;
}

/* Makes whole pages present as holes of the data file. */
static int discard_pages(struct ramet_overlay *overlay, uint64_t offset, uint64_t size, struct ramet_error *err)
{
    int r = 0;
    pthread_mutex_lock(&overlay->fill);
    if (fallocate(overlay->current.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)size) < 0)
        r = ramet_error_os(err, errno, "%s: cannot discard", overlay->name);
    for (uint64_t page = offset / RAMET_PAGE_SIZE; page < (offset + size) / RAMET_PAGE_SIZE && r == 0; page++)
        mark_page(overlay, page);
    pthread_mutex_unlock(&overlay->fill);
    return r;
}

int ramet_overlay_discard(struct ramet_overlay *overlay, uint64_t offset, uint64_t size, struct ramet_error *err)
{
    int r = check_range(overlay, offset, size, err);
    pthread_rwlock_rdlock(&overlay->gate);
    while (size > 0 && r == 0) {
        uint64_t inside = offset % RAMET_PAGE_SIZE, some;
        if (inside || size < RAMET_PAGE_SIZE) {
            uint64_t room = RAMET_PAGE_SIZE - inside;
            some = size < room ? size : room;
            r = write_absent(overlay, offset, NULL, (size_t)some, err);
        } else {
            some = size - size % RAMET_PAGE_SIZE;
            r = discard_pages(overlay, offset, some, err);
        }
        offset += some, size -= some;
    }
    pthread_rwlock_unlock(&overlay->gate);
    return r;
}

/* --- durability --- */

/* Takes the fresh bits out into `taken`; true when there were any. */
static bool take_fresh(struct generation *g, uint64_t *taken, size_t words)
{
    bool any = false;
    for (size_t i = 0; i < words; i++) {
        taken[i] = atomic_exchange(&g->fresh[i], 0);
        any |= taken[i] != 0;
    }
    return any;
}

static int flush_generation(struct ramet_overlay *overlay, struct generation *g, struct ramet_error *err)
{
    char path[PATH_MAX];
    size_t words = bitmap_words(overlay->page_count);
    _autofree_ uint64_t *taken = malloc(words * sizeof *taken);
    if (!taken)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to flush %s", overlay->name);
    if (!take_fresh(g, taken, words))
        return 0;
    path_of(overlay, g->number, ".log", path);
    int r = ramet_file_sync(g->fd, overlay->name, err);
    if (r == 0)
        r = ramet_overlay_log_append(g->log_fd, path, overlay->page_count, taken, &g->log_end, err);
    for (size_t i = 0; i < words && r < 0; i++)
        atomic_fetch_or(&g->fresh[i], taken[i]);
    return r;
}

int ramet_overlay_flush(struct ramet_overlay *overlay, struct ramet_error *err)
{
    pthread_rwlock_rdlock(&overlay->gate);
    pthread_mutex_lock(&overlay->log);
    struct generation *current = &overlay->current;
    int r = 0;
    while (current->older && (r = flush_generation(overlay, current->older, err)) == 0) {
        struct generation *done = current->older;
        current->older = STEAL(done->older);
        generation_close(done);
        free(done);
    }
    if (r == 0)
        r = flush_generation(overlay, current, err);
    pthread_mutex_unlock(&overlay->log);
    pthread_rwlock_unlock(&overlay->gate);
    return r;
}

/* Starts the next generation and lays the current one, sealed, under it. Under the gate, for writing. */
static int next_generation(struct ramet_overlay *overlay, struct ramet_error *err)
{
    struct generation next;
    struct ramet_image *sealed;
    struct generation *older = malloc(sizeof *older);
    if (!older)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to freeze %s", overlay->name);
    int r = generation_open(overlay, overlay->current.number + 1, &next, err);
    if (r == 0 && (r = generation_seal(&overlay->current, overlay->base, overlay->page_count, &sealed, err)) < 0)
        generation_close(&next);
    if (r < 0) {
        free(older);
        return r;
    }
    ramet_image_unref(overlay->base);
    overlay->base = sealed;
    *older = overlay->current;
    next.older = older;
    overlay->current = next;
    atomic_store(&overlay->written_pages, 0);
    return 0;
}

int ramet_overlay_freeze(struct ramet_overlay *overlay, struct ramet_image **ret, uint64_t *ret_generation,
                         struct ramet_error *err)
{
    pthread_rwlock_wrlock(&overlay->gate);
    int r = atomic_load(&overlay->written_pages) > 0 ? next_generation(overlay, err) : 0;
    if (r == 0) {
        *ret = ramet_image_ref(overlay->base);
        *ret_generation = overlay->current.number;
    }
    pthread_rwlock_unlock(&overlay->gate);
    return r;
}

/* False when there was no data file. */
static bool remove_files(const struct ramet_overlay *overlay, uint64_t generation)
{
    char path[PATH_MAX];
    path_of(overlay, generation, ".log", path);
    unlink(path);
    path_of(overlay, generation, "", path);
    return unlink(path) == 0;
}

void ramet_overlay_trim(struct ramet_overlay *overlay, uint64_t first_generation)
{
    pthread_rwlock_rdlock(&overlay->gate);
    pthread_mutex_lock(&overlay->log);
    for (struct generation *g = &overlay->current; g->older; g = g->older)
        if (g->older->number < first_generation) {
            generation_close(g->older);
            free(STEAL(g->older));
            break;
        }
    pthread_mutex_unlock(&overlay->log);
    pthread_rwlock_unlock(&overlay->gate);
    for (uint64_t g = first_generation; g-- > 0;)
        if (!remove_files(overlay, g))
            break; /* older ones are gone already */
}

/* --- a new beginning --- */

int ramet_overlay_reset_begin(struct ramet_overlay *overlay, struct ramet_image *base, uint64_t *ret_generation,
                              struct ramet_error *err)
{
    if (ramet_image_size(base) != overlay->size_bytes)
        return ramet_error_set(err, RAMET_CONFLICT, "%s has %llu bytes, in the snapshot %llu", overlay->name,
                               (unsigned long long)overlay->size_bytes, (unsigned long long)ramet_image_size(base));
    pthread_rwlock_rdlock(&overlay->gate);
    uint64_t number = (overlay->current.number / reset_step + 1) * reset_step;
    pthread_rwlock_unlock(&overlay->gate);
    remove_files(overlay, number);
    int r = generation_open(overlay, number, &overlay->next, err);
    if (r < 0) {
        remove_files(overlay, number);
        return r;
    }
    overlay->next_base = ramet_image_ref(base);
    *ret_generation = number;
    return 0;
}

void ramet_overlay_reset_commit(struct ramet_overlay *overlay)
{
    pthread_rwlock_wrlock(&overlay->gate);
    struct generation old = overlay->current;
    struct ramet_image *old_base = overlay->base;
    overlay->current = overlay->next;
    overlay->base = STEAL(overlay->next_base);
    overlay->next = (struct generation){.fd = -1, .log_fd = -1};
    atomic_store(&overlay->written_pages, 0);
    pthread_rwlock_unlock(&overlay->gate);
    uint64_t end = old.number + 1;
    generation_close(&old);
    ramet_image_unref(old_base);
    ramet_overlay_trim(overlay, end);
}

void ramet_overlay_reset_abort(struct ramet_overlay *overlay)
{
    if (!overlay->next_base)
        return;
    ramet_image_unref(STEAL(overlay->next_base));
    remove_files(overlay, overlay->next.number);
    generation_close(&overlay->next);
}
