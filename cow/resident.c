/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Three ways to give a branch the pages by which a state differs from its root were
 * weighed. Mapping them piecewise over the root's mapping shares them, but takes two areas
 * a run, and a process may have 65530: gone after a handful of branches. Catching first
 * touches (userfaultfd) sends the root's pages through a thread too. Copying costs 1 us and
 * 4 KiB a page and branch. So they are copied, and once the copies made amount to a whole
 * memory, one is made, as a root of its own: never more than twice the work of having known
 * how many branches there would be.
 *
 * Chains: each state holds its layer, its base, and a list of all pages that differ from
 * the root with the layer each lies in, so that nobody walks the chain. A chain keeps pages
 * that later states replaced; ramet_resident_under ends that.
 *
 * Lock: `lock` guards `whole`, `making` and `copied`; never held across I/O.
 */
#include "resident.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "image_file.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

enum { depth_max = 100, spare_pages = 16384, buffer_pages = 256 };
enum { fill_pages = 16 /* two frames of the store: what is decompressed for one page is mostly used */ };

struct entry {
    uint64_t page;
    struct ramet_layer *layer; /* held by the chain */
};

struct ramet_resident {
    _Atomic unsigned refs;
    struct ramet_image *image;
    int fd;                      /* a root's; -1 */
    uint8_t *filled;             /* a lazy root's: blocks of fill_pages that its file has */
    struct ramet_resident *base; /* NULL: a root */
    struct ramet_layer *layer;   /* over base */
    struct entry *entries;       /* ascending */
    size_t count;
    uint64_t chain_pages; /* in all layers down to the root */
    unsigned depth;
    pthread_mutex_t lock;
    struct ramet_resident *whole; /* the same content as a root, or NULL */
    bool making;
    uint64_t copied; /* pages that branches were given */
};

static int resident_new(struct ramet_image *image, struct ramet_resident **ret, struct ramet_error *err)
{
    struct ramet_resident *resident = calloc(1, sizeof *resident);
    if (!resident)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a resident image");
    atomic_init(&resident->refs, 1);
    resident->image = ramet_image_ref(image);
    resident->fd = -1;
    pthread_mutex_init(&resident->lock, NULL);
    *ret = resident;
    return 0;
}

struct ramet_resident *ramet_resident_ref(struct ramet_resident *resident)
{
    atomic_fetch_add(&resident->refs, 1);
    return resident;
}

/* A loop, not a recursion: chains are long. */
void ramet_resident_unref(struct ramet_resident *resident)
{
    while (resident && atomic_fetch_sub(&resident->refs, 1) == 1) {
        struct ramet_resident *base = resident->base;
        ramet_resident_unref(resident->whole);
        ramet_image_unref(resident->image);
        ramet_layer_unref(resident->layer);
        ramet_cleanup_close(&resident->fd);
        pthread_mutex_destroy(&resident->lock);
        free(resident->filled);
        free(resident->entries);
        free(resident);
        resident = base;
    }
}

static void unref_cleanup(struct ramet_resident **resident) { ramet_resident_unref(*resident); }

/* --- roots --- */

static int seal(int fd, struct ramet_error *err)
{
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
        return ramet_error_os(err, errno, "cannot seal a resident image");
    return 0;
}

static int root_new(struct ramet_image *image, struct ramet_resident **ret, struct ramet_error *err)
{
    _cleanup_(unref_cleanup) struct ramet_resident *root = NULL;
    if (ramet_image_size(image) == 0 || ramet_image_size(image) % RAMET_PAGE_SIZE)
        return ramet_error_set(err, RAMET_INVALID, "memory of %llu bytes is not a whole number of pages",
                               (unsigned long long)ramet_image_size(image));
    int r = resident_new(image, &root, err);
    if (r < 0)
        return r;
    root->fd = memfd_create("ramet-memory", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (root->fd < 0 || ftruncate(root->fd, (off_t)ramet_image_size(image)) < 0)
        return ramet_error_os(err, errno, "memory for a resident image");
    *ret = STEAL(root);
    return 0;
}

int ramet_resident_load(struct ramet_image *image, struct ramet_resident **ret, struct ramet_error *err)
{
    _cleanup_(unref_cleanup) struct ramet_resident *root = NULL;
    uint64_t data_bytes;
    int r = root_new(image, &root, err);
    if (r == 0)
        r = ramet_image_write_file(image, root->fd, "resident memory", &data_bytes, err);
    if (r == 0)
        r = seal(root->fd, err);
    if (r == 0)
        *ret = STEAL(root);
    return r;
}

int ramet_resident_lazy(struct ramet_image *image, struct ramet_resident **ret, struct ramet_error *err)
{
    _cleanup_(unref_cleanup) struct ramet_resident *root = NULL;
    int r = root_new(image, &root, err);
    if (r < 0)
        return r;
    root->filled = calloc(ramet_image_size(image) / RAMET_PAGE_SIZE / fill_pages + 1, 1);
    if (!root->filled)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a resident image");
    if (fcntl(root->fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
        return ramet_error_os(err, errno, "cannot seal a resident image");
    *ret = STEAL(root);
    return 0;
}

bool ramet_resident_is_lazy(const struct ramet_resident *resident)
{
    while (resident->base)
        resident = resident->base;
    return resident->filled != NULL;
}

static int fill(struct ramet_resident *root, uint64_t page, uint64_t count, struct ramet_error *err)
{
    uint8_t buf[fill_pages * RAMET_PAGE_SIZE];
    uint64_t offset = page * RAMET_PAGE_SIZE, left = ramet_resident_size(root) - offset;
    size_t size = left < count * RAMET_PAGE_SIZE ? (size_t)left : (size_t)count * RAMET_PAGE_SIZE;
    int r = ramet_image_read(root->image, offset, buf, size, err);
    return r < 0 ? r : ramet_file_write(root->fd, "resident memory", buf, size, offset, err);
}

int ramet_resident_fill(struct ramet_resident *resident, uint64_t page, struct ramet_error *err)
{
    struct ramet_resident *root = ramet_resident_root(resident);
    uint64_t block = page / fill_pages;
    if (root->filled[block])
        return 0;
    int r = fill(root, block * fill_pages, fill_pages, err);
    if (r == 0)
        root->filled[block] = 1;
    return r < 0 ? fill(root, page, 1, err) : 0;
}

/* Pages its root's file holds. */
static uint64_t root_pages(const struct ramet_resident *resident)
{
    struct stat st;
    return fstat(ramet_resident_fd(resident), &st) == 0 ? (uint64_t)st.st_blocks * 512 / RAMET_PAGE_SIZE : UINT64_MAX;
}

static int copy_root(int from, int to, struct ramet_error *err)
{
    for (off_t data = 0, hole = 0; (data = lseek(from, hole, SEEK_DATA)) >= 0;) {
        hole = lseek(from, data, SEEK_HOLE);
        for (off_t in = data, out = data; in < hole;) {
            ssize_t n = copy_file_range(from, &in, to, &out, (size_t)(hole - in), 0);
            if (n <= 0)
                return ramet_error_os(err, n < 0 ? errno : EIO, "copying a resident image");
        }
    }
    return errno == ENXIO ? 0 : ramet_error_os(err, errno, "copying a resident image");
}

static int copy_changed(const struct ramet_resident *resident, int to, struct ramet_error *err)
{
    _autofree_ void *buf = malloc((size_t)buffer_pages * RAMET_PAGE_SIZE);
    int r = buf ? 0 : ramet_error_set(err, RAMET_NO_MEMORY, "no memory to copy a resident image");
    for (size_t i = 0; i < resident->count && r == 0;) {
        uint64_t page = resident->entries[i].page;
        struct ramet_layer *layer;
        uint64_t n = ramet_resident_find(resident, page, buffer_pages, &layer);
        r = ramet_layer_read(layer, page, n, buf, err);
        if (r == 0)
            r = ramet_file_write(to, "resident memory", buf, n * RAMET_PAGE_SIZE, page * RAMET_PAGE_SIZE, err);
        i += n;
    }
    return r;
}

static int make_whole(struct ramet_resident *resident, struct ramet_resident **ret, struct ramet_error *err)
{
    _cleanup_(unref_cleanup) struct ramet_resident *whole = NULL;
    int r = root_new(resident->image, &whole, err);
    if (r == 0)
        r = copy_root(ramet_resident_fd(resident), whole->fd, err);
    if (r == 0)
        r = copy_changed(resident, whole->fd, err);
    if (r == 0)
        r = seal(whole->fd, err);
    if (r == 0)
        *ret = STEAL(whole);
    return r;
}

/* True when this branch is the one that makes the whole. */
static bool whole_is_due(struct ramet_resident *resident)
{
    bool due = !resident->whole && !ramet_resident_is_lazy(resident) && !resident->making &&
               resident->copied >= root_pages(resident);
    resident->making |= due;
    resident->copied += resident->count;
    return due;
}

struct ramet_resident *ramet_resident_for_branch(struct ramet_resident *resident)
{
    if (!resident->base)
        return ramet_resident_ref(resident);
    struct ramet_resident *made = NULL;
    struct ramet_error err = {0};
    pthread_mutex_lock(&resident->lock);
    bool due = whole_is_due(resident);
    pthread_mutex_unlock(&resident->lock);
    if (due && make_whole(resident, &made, &err) < 0) /* then copying goes on; no further try */
        ramet_debug("%s; branches go on copying", err.msg);
    pthread_mutex_lock(&resident->lock);
    if (made)
        resident->whole = made;
    struct ramet_resident *ret = resident->whole ? resident->whole : resident;
    pthread_mutex_unlock(&resident->lock);
    return ramet_resident_ref(ret);
}

/* --- later states --- */

static size_t entry_at(const struct ramet_resident *resident, uint64_t page)
{
    size_t low = 0, high = resident->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (resident->entries[middle].page < page)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The base's entries with `pages` (ascending) in `layer` over them. */
static int merge_entries(struct ramet_resident *resident, const uint64_t *pages, size_t count, struct ramet_error *err)
{
    const struct ramet_resident *base = resident->base;
    resident->entries = calloc(base->count + count + 1, sizeof *resident->entries);
    if (!resident->entries)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to list changed pages");
    size_t old = 0, new = 0, n = 0;
    while (old < base->count || new < count) {
        if (new == count || (old < base->count && base->entries[old].page < pages[new])) {
            resident->entries[n++] = base->entries[old++];
            continue;
        }
        old += old < base->count && base->entries[old].page == pages[new];
        resident->entries[n++] = (struct entry){.page = pages[new ++], .layer = resident->layer};
    }
    resident->count = n;
    return 0;
}

int ramet_resident_derive(struct ramet_resident *base, const struct ramet_page_runs *runs, int fd,
                          struct ramet_resident **ret, struct ramet_error *err)
{
    _cleanup_(unref_cleanup) struct ramet_resident *resident = NULL;
    struct ramet_image *image = NULL;
    struct ramet_layer *layer = NULL;
    uint64_t *pages = NULL;
    int r = ramet_page_runs_list(runs, &pages, err);
    if (r < 0) {
        close(fd);
        return r;
    }
    r = ramet_layer_new_packed(fd, pages, runs->page_count, &layer, err);
    if (r == 0)
        r = ramet_image_new_layered(base->image, ramet_layer_ref(layer), &image, err);
    if (r == 0)
        r = resident_new(image, &resident, err);
    ramet_image_unref(image);
    if (r < 0) {
        ramet_layer_unref(layer);
        return r;
    }
    resident->base = ramet_resident_ref(base);
    resident->layer = layer;
    resident->chain_pages = base->chain_pages + runs->page_count;
    resident->depth = base->depth + 1;
    r = merge_entries(resident, pages, runs->page_count, err);
    if (r == 0)
        *ret = STEAL(resident);
    return r;
}

struct ramet_image *ramet_resident_image(const struct ramet_resident *resident) { return resident->image; }

uint64_t ramet_resident_size(const struct ramet_resident *resident) { return ramet_image_size(resident->image); }

struct ramet_resident *ramet_resident_root(struct ramet_resident *resident)
{
    while (resident->base)
        resident = resident->base;
    return resident;
}

int ramet_resident_fd(const struct ramet_resident *resident)
{
    while (resident->base)
        resident = resident->base;
    return resident->fd;
}

struct ramet_resident *ramet_resident_on_root(struct ramet_resident *resident, const struct ramet_resident *root)
{
    if (ramet_resident_root(resident) == root)
        return resident;
    pthread_mutex_lock(&resident->lock);
    struct ramet_resident *whole = resident->whole;
    pthread_mutex_unlock(&resident->lock);
    return whole == root ? whole : NULL;
}

size_t ramet_resident_changed(const struct ramet_resident *resident) { return resident->count; }

uint64_t ramet_resident_find(const struct ramet_resident *resident, uint64_t page, uint64_t limit,
                             struct ramet_layer **ret_layer)
{
    size_t at = entry_at(resident, page);
    const struct entry *entry = resident->entries + at, *end = resident->entries + resident->count;
    uint64_t n = 1;
    *ret_layer = NULL;
    if (entry == end || entry->page >= page + limit)
        return limit;
    if (entry->page != page)
        return entry->page - page;
    *ret_layer = entry->layer;
    while (n < limit && entry + n < end && entry[n].page == page + n && entry[n].layer == entry->layer)
        n++;
    return n;
}

/* *runs and the pages of all entries. */
static int unite(const struct ramet_resident *resident, struct ramet_page_runs *runs, struct ramet_error *err)
{
    _cleanup_(ramet_page_runs_free) struct ramet_page_runs all = {0};
    size_t run = 0, at = 0;
    int r = 0;
    while (r == 0 && (run < runs->count || at < resident->count)) {
        if (at < resident->count && (run == runs->count || resident->entries[at].page < runs->items[run].page)) {
            r = ramet_page_runs_add(&all, resident->entries[at++].page, 1, err);
            continue;
        }
        uint64_t end = runs->items[run].page + runs->items[run].count;
        r = ramet_page_runs_add(&all, runs->items[run].page, runs->items[run].count, err);
        for (run++; at < resident->count && resident->entries[at].page < end; at++)
            continue;
    }
    if (r < 0)
        return r;
    struct ramet_page_runs old = *runs;
    *runs = all;
    all = old; /* freed */
    return 0;
}

int ramet_resident_under(struct ramet_resident *resident, struct ramet_page_runs *runs, struct ramet_resident **ret,
                         struct ramet_error *err)
{
    uint64_t seen = resident->count + runs->page_count; /* or fewer */
    bool heavy = resident->depth >= depth_max || resident->chain_pages + runs->page_count > 2 * seen + spare_pages;
    int r = heavy ? unite(resident, runs, err) : 0;
    if (r == 0)
        *ret = heavy ? ramet_resident_root(resident) : resident;
    return r;
}

int ramet_resident_differ(const struct ramet_resident *a, const struct ramet_resident *b, struct ramet_page_runs *runs,
                          struct ramet_error *err)
{
    struct ramet_resident differing = {0};
    if (a == b)
        return 0;
    differing.entries = calloc(a->count + b->count + 1, sizeof *differing.entries);
    if (!differing.entries)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to list changed pages");
    size_t i = 0, k = 0;
    while (i < a->count || k < b->count) {
        bool both = i < a->count && k < b->count && a->entries[i].page == b->entries[k].page;
        bool first = k == b->count || (i < a->count && a->entries[i].page <= b->entries[k].page);
        const struct entry *entry = first ? &a->entries[i] : &b->entries[k];
        if (!both || a->entries[i].layer != b->entries[k].layer)
            differing.entries[differing.count++] = *entry;
        i += first;
        k += !first || both;
    }
    int r = unite(&differing, runs, err);
    free(differing.entries);
    return r;
}
