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
#include "put.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

enum { read_batch = 256 };

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

int ramet_image_new_whole(struct ramet_image_set *set, int fd, uint64_t size_bytes, struct ramet_image **ret,
                          struct ramet_error *err)
{
    uint64_t count = pages_of(size_bytes);
    uint64_t *pages = calloc(count + 1, sizeof *pages);
    int r = 0;
    if (!pages)
        r = ramet_error_set(err, RAMET_NO_MEMORY, "no memory for an image");
    else if (ftruncate(fd, (off_t)(count * RAMET_PAGE_SIZE)) < 0)
        r = ramet_error_os(err, errno, "cannot size an image's memory");
    if (r < 0) {
        close(fd);
        free(pages);
        return r;
    }
    for (uint64_t i = 0; i < count; i++)
        pages[i] = i;
    struct ramet_image *zeros = NULL;
    struct ramet_layer *layer = NULL;
    r = ramet_layer_new_packed(fd, pages, count, &layer, err);
    if (r == 0)
        r = ramet_image_new_stored(set, size_bytes, RAMET_CHUNK_ZERO, &zeros, err);
    if (r == 0)
        r = ramet_image_new_layered(zeros, STEAL(layer), ret, err);
    ramet_layer_unref(layer);
    ramet_image_unref(zeros);
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

struct ramet_store *ramet_image_store(const struct ramet_image *image) { return image->set->store; }

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
    ramet_chunk chunks[read_batch];
    int r = 0;
    for (uint64_t done = 0; done < count && r == 0; done += read_batch) {
        size_t some = count - done < read_batch ? (size_t)(count - done) : read_batch;
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

int ramet_image_read_list(struct ramet_image *image, const uint64_t *pages, size_t count, void *buf,
                          struct ramet_error *err)
{
    struct ramet_page_map map;
    bool stored = ramet_image_map(image, &map, NULL) == 0;
    _autofree_ ramet_chunk *chunks = calloc(count + 1, sizeof *chunks);
    uint8_t *to = buf;
    int r = chunks ? 0 : ramet_error_set(err, RAMET_NO_MEMORY, "no memory to read %zu pages", count);
    for (size_t i = 0, run; i < count && r == 0; i += run) {
        for (run = 1; i + run < count && pages[i + run] == pages[i] + run;)
            run++;
        if (pages[i] >= pages_of(image->size_bytes) || run > pages_of(image->size_bytes) - pages[i])
            r = ramet_error_set(err, RAMET_INVALID, "page %llu lies outside the image", (unsigned long long)pages[i]);
        else
            r = stored ? ramet_page_map_lookup(image->set->store, &map, pages[i], run, &chunks[i], err)
                       : read_pages(image, pages[i], run, to + i * RAMET_PAGE_SIZE, err);
    }
    return r == 0 && stored ? ramet_store_read(image->set->store, chunks, count, buf, err) : r;
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

/* Layers, newest first: a page comes from the newest that holds it. */
struct layers {
    struct backing **chain;
    size_t count;
};

static int layers_run(void *ctx, uint64_t from, uint64_t end, uint64_t *ret_first, uint64_t *ret_count,
                      struct ramet_error *err)
{
    (void)err;
    const struct layers *layers = ctx;
    uint64_t first = end, next;
    for (size_t i = 0; i < layers->count; i++)
        if ((next = ramet_layer_next(layers->chain[i]->layer, from)) < first)
            first = next;
    uint64_t past = first;
    for (bool has = first < end; has && past < end;) {
        has = false;
        for (size_t i = 0; i < layers->count && !has; i++)
            has = ramet_layer_has(layers->chain[i]->layer, past);
        past += has;
    }
    *ret_first = first;
    *ret_count = past - first;
    return 0;
}

static int layers_read(void *ctx, uint64_t first, uint64_t count, void *buf, struct ramet_error *err)
{
    const struct layers *layers = ctx;
    uint8_t *to = buf;
    int r = 0;
    for (uint64_t done = 0, some = 0; done < count && r == 0; done += some, to += some * RAMET_PAGE_SIZE) {
        uint64_t page = first + done;
        bool has = false;
        size_t i = 0;
        /* Down to a layer that has the page, no further than the next page of one above. */
        for (some = count - done; i < layers->count; i++) {
            some = ramet_layer_run(layers->chain[i]->layer, page, some, &has);
            if (has)
                break;
        }
        r = has ? ramet_layer_read(layers->chain[i]->layer, page, some, to, err)
                : ramet_error_set(err, RAMET_INTERNAL, "page %llu is in no layer", (unsigned long long)page);
    }
    return r;
}

int ramet_image_put(struct ramet_image *image, struct ramet_ingest *ingest, struct ramet_page_map *ret,
                    struct ramet_error *err)
{
    enum { depth_max = 256 };
    struct backing *chain[depth_max];
    size_t depth = take_chain(image, chain, depth_max);
    struct layers layers = {.chain = chain, .count = depth - 1};
    struct ramet_page_source source = {.run = layers_run, .read = layers_read, .ctx = &layers};
    for (size_t i = 0; i < layers.count; i++)
        source.pages += ramet_layer_count(chain[i]->layer);
    int r;
    if (chain[depth - 1]->layer)
        r = ramet_error_set(err, RAMET_INTERNAL, "more than %d snapshots wait to become durable", depth_max);
    else
        r = ramet_put_pages(image->set->store, ingest, &chain[depth - 1]->map, &source, ret, err);
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
