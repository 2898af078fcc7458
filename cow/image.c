/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What backs an image is a separate, immutable, reference-counted object. A reader
 * takes a reference under the image's lock and reads without it; settling swaps the
 * pointer, and the old backing goes when its last reader is done. Locks: the set's
 * lock guards the list of images, an image's lock its backing pointer; neither is held
 * across I/O, and the set's may be held while taking an image's.
 */
#include "image.h"

#include "base/cleanup.h"
#include "base/file.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

enum { put_batch = 256 };

struct backing {
    _Atomic unsigned refs;
    struct ramet_layer *layer; /* NULL: stored */
    struct ramet_image *base;  /* under the layer */
    struct ramet_page_map map; /* when stored, or mapped */
    _Atomic bool mapped;       /* layered although durable: the store must keep what the map holds */
};

struct ramet_image {
    _Atomic unsigned refs;
    struct ramet_image_set *set;
    struct ramet_image *next, *previous; /* set lock */
    uint64_t size_bytes;
    pthread_mutex_t lock;
    struct backing *backing; /* lock */
};

struct ramet_image_set {
    struct ramet_store *store;
    pthread_mutex_t lock;
    struct ramet_image *first;
};

static uint64_t pages_of(uint64_t size_bytes) { return (size_bytes + RAMET_PAGE_SIZE - 1) / RAMET_PAGE_SIZE; }

struct ramet_image_set *ramet_image_set_new(struct ramet_store *store)
{
    struct ramet_image_set *set = calloc(1, sizeof *set);
    if (!set)
        return NULL;
    set->store = store;
    pthread_mutex_init(&set->lock, NULL);
    return set;
}

void ramet_image_set_free(struct ramet_image_set *set)
{
    if (!set)
        return;
    pthread_mutex_destroy(&set->lock);
    free(set);
}

static void backing_unref(struct backing *backing)
{
    if (atomic_fetch_sub(&backing->refs, 1) != 1)
        return;
    ramet_layer_unref(backing->layer);
    ramet_image_unref(backing->base);
    free(backing);
}

static struct backing *backing_get(struct ramet_image *image)
{
    pthread_mutex_lock(&image->lock);
    struct backing *backing = image->backing;
    atomic_fetch_add(&backing->refs, 1);
    pthread_mutex_unlock(&image->lock);
    return backing;
}

static int image_new(struct ramet_image_set *set, uint64_t size_bytes, const struct backing *form,
                     struct ramet_image **ret, struct ramet_error *err)
{
    struct ramet_image *image = calloc(1, sizeof *image);
    struct backing *backing = calloc(1, sizeof *backing);
    if (!image || !backing) {
        free(image);
        free(backing);
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for an image");
    }
    backing->layer = form->layer;
    backing->base = form->base;
    backing->map = form->map;
    atomic_init(&backing->refs, 1);
    image->backing = backing;
    image->set = set;
    image->size_bytes = size_bytes;
    atomic_init(&image->refs, 1);
    pthread_mutex_init(&image->lock, NULL);
    pthread_mutex_lock(&set->lock);
    image->next = set->first;
    if (image->next)
        image->next->previous = image;
    set->first = image;
    pthread_mutex_unlock(&set->lock);
    *ret = image;
    return 0;
}

int ramet_image_new_stored(struct ramet_image_set *set, uint64_t size_bytes, ramet_chunk root, struct ramet_image **ret,
                           struct ramet_error *err)
{
    struct backing form = {.map = {.root = root, .page_count = pages_of(size_bytes)}};
    return image_new(set, size_bytes, &form, ret, err);
}

int ramet_image_new_layered(struct ramet_image *base, struct ramet_layer *layer, struct ramet_image **ret,
                            struct ramet_error *err)
{
    struct backing form = {.layer = layer, .base = ramet_image_ref(base)};
    int r = image_new(base->set, base->size_bytes, &form, ret, err);
    if (r < 0) {
        ramet_layer_unref(layer);
        ramet_image_unref(base);
    }
    return r;
}

struct ramet_image *ramet_image_ref(struct ramet_image *image)
{
    atomic_fetch_add(&image->refs, 1);
    return image;
}

void ramet_image_unref(struct ramet_image *image)
{
    if (!image || atomic_fetch_sub(&image->refs, 1) != 1)
        return;
    struct ramet_image_set *set = image->set;
    pthread_mutex_lock(&set->lock);
    *(image->previous ? &image->previous->next : &set->first) = image->next;
    if (image->next)
        image->next->previous = image->previous;
    pthread_mutex_unlock(&set->lock);
    backing_unref(image->backing);
    pthread_mutex_destroy(&image->lock);
    free(image);
}

uint64_t ramet_image_size(const struct ramet_image *image) { return image->size_bytes; }

int ramet_image_map(struct ramet_image *image, struct ramet_page_map *ret, struct ramet_error *err)
{
    struct backing *backing = backing_get(image);
    bool stored = !backing->layer;
    if (stored)
        *ret = backing->map;
    backing_unref(backing);
    return stored ? 0 : ramet_error_set(err, RAMET_CONFLICT, "the image is not durable yet");
}

uint64_t ramet_image_resident_pages(struct ramet_image *image)
{
    struct backing *backing = backing_get(image);
    uint64_t pages = backing->layer ? ramet_layer_count(backing->layer) + ramet_image_resident_pages(backing->base) : 0;
    backing_unref(backing);
    return pages;
}

/* --- reading --- */

static int read_stored(struct ramet_store *store, const struct ramet_page_map *map, uint64_t page, uint64_t count,
                       uint8_t *buf, struct ramet_error *err)
{
    ramet_chunk chunks[put_batch];
    int r = 0;
    for (uint64_t done = 0; done < count && r == 0; done += put_batch) {
        size_t some = count - done < put_batch ? (size_t)(count - done) : put_batch;
        r = ramet_page_map_lookup(store, map, page + done, some, chunks, err);
        if (r == 0)
            r = ramet_store_read(store, chunks, some, buf + done * RAMET_PAGE_SIZE, err);
    }
    return r;
}

static int read_pages(struct ramet_image *image, uint64_t page, uint64_t count, uint8_t *buf, struct ramet_error *err)
{
    struct backing *backing = backing_get(image);
    int r = 0;
    if (!backing->layer)
        r = read_stored(image->set->store, &backing->map, page, count, buf, err);
    while (backing->layer && count > 0 && r == 0) {
        bool has;
        uint64_t run = ramet_layer_run(backing->layer, page, count, &has);
        r = has ? ramet_layer_read(backing->layer, page, run, buf, err)
                : read_pages(backing->base, page, run, buf, err);
        page += run, count -= run, buf += run * RAMET_PAGE_SIZE;
    }
    backing_unref(backing);
    return r;
}

/* Reads a part of one page. */
static int read_partial(struct ramet_image *image, uint64_t offset, void *buf, size_t size, struct ramet_error *err)
{
    uint8_t page[RAMET_PAGE_SIZE];
    int r = read_pages(image, offset / RAMET_PAGE_SIZE, 1, page, err);
    if (r == 0)
        memcpy(buf, page + offset % RAMET_PAGE_SIZE, size);
    return r;
}

int ramet_image_read(struct ramet_image *image, uint64_t offset, void *buf, size_t size, struct ramet_error *err)
{
    if (offset > image->size_bytes || size > image->size_bytes - offset)
        return ramet_error_set(err, RAMET_INVALID, "%zu bytes at %llu lie outside an image of %llu bytes", size,
                               (unsigned long long)offset, (unsigned long long)image->size_bytes);
    uint8_t *to = buf;
    int r = 0;
    while (size > 0 && r == 0) {
        size_t inside = offset % RAMET_PAGE_SIZE, some = RAMET_PAGE_SIZE - inside;
        if (inside || size < RAMET_PAGE_SIZE) {
            some = some < size ? some : size;
            r = read_partial(image, offset, to, some, err);
        } else {
            some = size - size % RAMET_PAGE_SIZE;
            r = read_pages(image, offset / RAMET_PAGE_SIZE, some / RAMET_PAGE_SIZE, to, err);
        }
        offset += some, to += some, size -= some;
    }
    return r;
}

static int next_data_page(struct ramet_image *image, uint64_t page, uint64_t *ret, struct ramet_error *err)
{
    struct backing *backing = backing_get(image);
    int r;
    if (!backing->layer) {
        r = ramet_page_map_next_data(image->set->store, &backing->map, page, ret, err);
    } else {
        uint64_t above = ramet_layer_next(backing->layer, page), below = 0;
        r = next_data_page(backing->base, page, &below, err);
        *ret = above < below ? above : below;
    }
    backing_unref(backing);
    return r;
}

int ramet_image_next_data(struct ramet_image *image, uint64_t offset, uint64_t *ret, struct ramet_error *err)
{
    uint64_t page = 0;
    int r = next_data_page(image, offset / RAMET_PAGE_SIZE, &page, err);
    if (r < 0)
        return r;
    uint64_t found = page * RAMET_PAGE_SIZE;
    found = found > offset ? found : offset;
    *ret = found < image->size_bytes ? found : image->size_bytes;
    return 0;
}

/* --- storing --- */

/* Gathers pages to put, in ascending order, and the changes they make to a map. */
struct putter {
    struct ramet_ingest *ingest;
    struct ramet_page_change *changes; /* owned */
    size_t count, capacity;
    uint8_t *pages; /* owned; put_batch of them */
    size_t held;    /* pages gathered whose chunk is not known yet */
};

static int putter_init(struct putter *putter, struct ramet_ingest *ingest, struct ramet_error *err)
{
    *putter = (struct putter){.ingest = ingest, .pages = malloc((size_t)put_batch * RAMET_PAGE_SIZE)};
    return putter->pages ? 0 : ramet_error_set(err, RAMET_NO_MEMORY, "no memory to store an image");
}

static void putter_free(struct putter *putter)
{
    free(putter->changes);
    free(putter->pages);
}

static int putter_flush(struct putter *putter, struct ramet_error *err)
{
    ramet_chunk chunks[put_batch];
    int r = ramet_ingest_put(putter->ingest, RAMET_CHUNK_DATA, putter->pages, putter->held, chunks, err);
    for (size_t i = 0; i < putter->held && r == 0; i++)
        putter->changes[putter->count - putter->held + i].chunk = chunks[i];
    putter->held = 0;
    return r;
}

/* Room for one more page; *ret is where its 4096 bytes go. */
static int putter_next(struct putter *putter, uint64_t page, uint8_t **ret, struct ramet_error *err)
{
    int r = putter->held == put_batch ? putter_flush(putter, err) : 0;
    if (r < 0)
        return r;
    if (putter->count == putter->capacity) {
        size_t capacity = putter->capacity ? putter->capacity * 2 : 1024;
        struct ramet_page_change *grown = reallocarray(putter->changes, capacity, sizeof *grown);
        if (!grown)
            return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to store an image");
        putter->changes = grown;
        putter->capacity = capacity;
    }
    putter->changes[putter->count++].page = page;
    *ret = putter->pages + putter->held++ * RAMET_PAGE_SIZE;
    return 0;
}

/* References the backings from the image down to its stored one, newest first. */
static size_t take_chain(struct ramet_image *image, struct backing **chain, size_t max)
{
    size_t depth = 0;
    while (depth < max) {
        chain[depth] = backing_get(image);
        if (!chain[depth++]->layer)
            break;
        image = chain[depth - 1]->base;
    }
    return depth;
}

/* Puts every page any layer of the chain holds, each from the newest that does. */
static int put_layers(struct backing **chain, size_t layers, struct putter *putter, struct ramet_error *err)
{
    int r = 0;
    for (uint64_t page = 0; r == 0; page++) {
        struct ramet_layer *newest = NULL;
        uint64_t first = UINT64_MAX;
        uint8_t *bytes = NULL;
        for (size_t i = 0; i < layers; i++) {
            uint64_t next = ramet_layer_next(chain[i]->layer, page);
            if (next < first) {
                first = next;
                newest = chain[i]->layer;
            }
        }
        if (!newest)
            break;
        page = first;
        r = putter_next(putter, page, &bytes, err);
        if (r == 0)
            r = ramet_layer_read(newest, page, 1, bytes, err);
    }
    return r < 0 ? r : putter_flush(putter, err);
}

int ramet_image_put(struct ramet_image *image, struct ramet_ingest *ingest, struct ramet_page_map *ret,
                    struct ramet_error *err)
{
    enum { depth_max = 256 };
    struct backing *chain[depth_max];
    struct putter putter;
    size_t depth = take_chain(image, chain, depth_max);
    int r = chain[depth - 1]->layer
                ? ramet_error_set(err, RAMET_INTERNAL, "more than %d snapshots wait to become durable", depth_max)
                : putter_init(&putter, ingest, err);
    if (r == 0) {
        r = put_layers(chain, depth - 1, &putter, err);
        if (r == 0)
            r = ramet_page_map_update(ingest, image->set->store, &chain[depth - 1]->map, putter.changes, putter.count,
                                      ret, err);
        putter_free(&putter);
    }
    while (depth > 0)
        backing_unref(chain[--depth]);
    return r;
}

void ramet_image_settle(struct ramet_image *image, const struct ramet_page_map *map)
{
    struct backing *backing = calloc(1, sizeof *backing);
    if (!backing) { /* it stays layered, which only costs memory */
        pthread_mutex_lock(&image->lock);
        if (image->backing->layer && !atomic_load(&image->backing->mapped)) {
            image->backing->map = *map;
            atomic_store(&image->backing->mapped, true);
        }
        pthread_mutex_unlock(&image->lock);
        return;
    }
    backing->map = *map;
    atomic_init(&backing->refs, 1);
    pthread_mutex_lock(&image->lock);
    struct backing *old = image->backing;
    image->backing = backing;
    pthread_mutex_unlock(&image->lock);
    backing_unref(old);
}

int ramet_image_put_file(struct ramet_store *store, struct ramet_ingest *ingest, int fd, const char *name,
                         uint64_t size_bytes, struct ramet_page_map *ret, struct ramet_error *err)
{
    struct ramet_page_map empty = {.page_count = pages_of(size_bytes)};
    struct putter putter;
    int r = putter_init(&putter, ingest, err);
    for (uint64_t offset = 0; r == 0 && offset < size_bytes;) {
        off_t data = lseek(fd, (off_t)offset, SEEK_DATA);
        if (data < 0 && errno == ENXIO)
            break;
        offset = data < 0 ? offset : (uint64_t)data / RAMET_PAGE_SIZE * RAMET_PAGE_SIZE;
        off_t hole = data < 0 ? -1 : lseek(fd, data, SEEK_HOLE);
        uint64_t end = hole < 0 ? size_bytes : (uint64_t)hole;
        for (; r == 0 && offset < end && offset < size_bytes; offset += RAMET_PAGE_SIZE) {
            uint8_t *bytes = NULL;
            uint64_t left = size_bytes - offset;
            size_t some = left < RAMET_PAGE_SIZE ? (size_t)left : RAMET_PAGE_SIZE;
            if ((r = putter_next(&putter, offset / RAMET_PAGE_SIZE, &bytes, err)) < 0)
                break;
            memset(bytes + some, 0, RAMET_PAGE_SIZE - some);
            r = ramet_file_read(fd, name, bytes, some, offset, err);
        }
    }
    if (r == 0)
        r = putter_flush(&putter, err);
    if (r == 0)
        r = ramet_page_map_update(ingest, store, &empty, putter.changes, putter.count, ret, err);
    putter_free(&putter);
    return r;
}

int ramet_image_write_file(struct ramet_image *image, int fd, const char *name, uint64_t *ret_data_bytes,
                           struct ramet_error *err)
{
    enum { step = 1 << 20 };
    _autofree_ uint8_t *buf = malloc(step);
    uint64_t offset = 0, written = 0;
    if (!buf)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to write %s", name);
    if (ftruncate(fd, (off_t)image->size_bytes) < 0)
        return ramet_error_os(err, errno, "cannot size %s", name);
    for (;;) {
        int r = ramet_image_next_data(image, offset, &offset, err);
        if (r < 0)
            return r;
        if (offset >= image->size_bytes)
            break;
        uint64_t left = image->size_bytes - offset;
        size_t size = left < step ? (size_t)left : step;
        if ((r = ramet_image_read(image, offset, buf, size, err)) < 0 ||
            (r = ramet_file_write(fd, name, buf, size, offset, err)) < 0)
            return r;
        written += size;
        offset += size;
    }
    *ret_data_bytes = written;
    return 0;
}

/* --- garbage collection --- */

static bool mark_chunk(void *ctx, ramet_chunk chunk, bool is_node) { return ramet_gc_mark(ctx, chunk) && is_node; }

/* References every image of the set, so that they can be walked without its lock. */
static struct ramet_image **list_images(struct ramet_image_set *set, size_t *ret_count)
{
    size_t count = 0;
    pthread_mutex_lock(&set->lock);
    for (struct ramet_image *i = set->first; i; i = i->next)
        count++;
    struct ramet_image **images = calloc(count + 1, sizeof *images);
    *ret_count = 0;
    for (struct ramet_image *i = set->first; images && i; i = i->next) {
        /* One whose last reference is just going is leaving the list: it is not needed. */
        unsigned refs = atomic_load(&i->refs);
        while (refs > 0 && !atomic_compare_exchange_weak(&i->refs, &refs, refs + 1))
            ;
        if (refs > 0)
            images[(*ret_count)++] = i;
    }
    pthread_mutex_unlock(&set->lock);
    return images;
}

int ramet_image_set_mark(struct ramet_image_set *set, struct ramet_gc *gc, struct ramet_error *err)
{
    size_t count;
    struct ramet_image **images = list_images(set, &count);
    if (!images)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to mark");
    int r = 0;
    for (size_t i = 0; i < count; i++) {
        struct backing *backing = backing_get(images[i]);
        if (r == 0 && (!backing->layer || atomic_load(&backing->mapped)))
            r = ramet_page_map_walk(set->store, &backing->map, mark_chunk, gc, err);
        backing_unref(backing);
        ramet_image_unref(images[i]);
    }
    free(images);
    return r;
}
