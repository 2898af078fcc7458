/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ingest: compare with the base, hash, look up, compare, compress.
 *
 * A page equal to the one it replaces keeps that chunk. A page whose hash is known is
 * compared byte for byte with the stored content before its number is used; a hash that
 * lies costs a page stored twice. New pages gather in an open frame of this ingest, one
 * for data and one for map nodes, and are handed to commit.c when the frame is full. A
 * new page that is much like its base goes there as the XOR of the two.
 */
#include "base/cleanup.h"
#include "base/codec.h"
#include "frame.h"
#include "store_private.h"

#include <stdlib.h>
#include <string.h>

/*
 * A difference is kept when at most half of the 512 words changed: on memory images of Debian guests 128 to 400 words
 * give the same size within 0.1 %, so it is kept where reading gains nothing from not needing the base.
 */
enum { batch_pages = 32, delta_words_max = 256, lone_distance = 16 };

int ramet_ingest_begin(struct ramet_store *store, struct ramet_ingest **ret, struct ramet_error *err)
{
    int r = ramet_kv_writable(store->kv, err); /* pending frames would pile up */
    if (r < 0)
        return r;
    struct ramet_ingest *ingest = calloc(1, sizeof *ingest);
    if (!ingest)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for an ingest");
    ingest->store = store;
    pthread_mutex_lock(&store->session_lock);
    ingest->generation = store->generation;
    ingest->next = store->sessions;
    if (ingest->next)
        ingest->next->previous = ingest;
    store->sessions = ingest;
    pthread_mutex_unlock(&store->session_lock);
    *ret = ingest;
    return 0;
}

void ramet_ingest_end(struct ramet_ingest *ingest)
{
    if (!ingest)
        return;
    struct ramet_store *store = ingest->store;
    pthread_mutex_lock(&store->session_lock);
    *(ingest->previous ? &ingest->previous->next : &store->sessions) = ingest->next;
    if (ingest->next)
        ingest->next->previous = ingest->previous;
    pthread_cond_broadcast(&store->session_ended);
    pthread_mutex_unlock(&store->session_lock);
    for (size_t i = 0; i < sizeof ingest->open / sizeof *ingest->open; i++)
        ramet_frame_unref(ingest->open[i].frame);
    free(ingest);
    ramet_pending_discard(store);
}

/* Compresses an open frame and hands it over; the open frame is empty afterwards. */
static int seal(struct ramet_ingest *ingest, enum ramet_chunk_kind kind, struct ramet_error *err)
{
    struct ramet_store *store = ingest->store;
    struct ramet_open_frame *open = &ingest->open[kind];
    if (open->count == 0)
        return 0;
    struct ramet_pending *pending = calloc(1, sizeof *pending);
    if (!pending)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to store a frame");
    ramet_frame_close(open->frame, open->count, open->delta ? open->bases : NULL);
    pending->record_size =
        ramet_frame_encode(open->frame, store->options.level, ramet_packs_key(store->packs), ingest->record);
    if (!(pending->record = malloc(pending->record_size))) {
        free(pending);
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to store a frame");
    }
    memcpy(pending->record, ingest->record, pending->record_size);
    memcpy(pending->hashes, open->hashes, sizeof pending->hashes);
    /* It will be cached, where it counts as what it holds: most frames of a small commit hold a page or two. */
    pending->frame = ramet_frame_shrink(STEAL(open->frame));
    pending->number = pending->frame->number;
    pending->slots = pending->frame->slots;
    pending->flags = pending->frame->flags;
    ingest->stored_bytes += pending->record_size;
    open->count = 0;
    open->delta = false;
    return ramet_pending_add(store, pending, err);
}

/* 64-bit words in which two pages differ. */
static unsigned words_differing(const uint8_t *a, const uint8_t *b)
{
    unsigned count = 0;
    for (size_t i = 0; i < RAMET_PAGE_SIZE; i += sizeof(uint64_t)) {
        uint64_t x, y;
        memcpy(&x, a + i, sizeof x);
        memcpy(&y, b + i, sizeof y);
        count += x != y;
    }
    return count;
}

/*
 * XORs the page's base into `page` and gives it, when that makes it smaller; else RAMET_CHUNK_ZERO. A base that is
 * itself a difference is passed on to its own: one read deep, whatever the history.
 */
static ramet_chunk subtract_base(struct ramet_ingest *ingest, ramet_chunk base, uint8_t *page)
{
    struct ramet_store *store = ingest->store;
    uint8_t content[RAMET_PAGE_SIZE];
    for (int depth = 0; depth < 2; depth++) {
        _cleanup_(ramet_frame_cleanup) struct ramet_frame *frame = NULL;
        ramet_chunk deeper;
        if (ramet_store_frame(store, ramet_chunk_frame(base), false, &frame, NULL) < 0)
            return RAMET_CHUNK_ZERO;
        const uint8_t *held = ramet_frame_page(frame, ramet_chunk_slot(base), &deeper);
        if (!held)
            return RAMET_CHUNK_ZERO;
        if (deeper == RAMET_CHUNK_ZERO) {
            memcpy(content, held, sizeof content);
            break;
        }
        base = deeper;
    }
    if (words_differing(content, page) > delta_words_max || !ramet_gc_retain(store, RAMET_GC_BASE, base))
        return RAMET_CHUNK_ZERO;
    for (size_t i = 0; i < sizeof content; i++)
        page[i] ^= content[i];
    return base;
}

/* Adds a page that is not stored yet. */
static int add_page(struct ramet_ingest *ingest, enum ramet_chunk_kind kind, const void *page, uint64_t hash,
                    ramet_chunk base, ramet_chunk *ret, struct ramet_error *err)
{
    struct ramet_open_frame *open = &ingest->open[kind];
    unsigned slots = ingest->store->options.frame_slots;
    if (open->count == slots) { /* sealing it failed before */
        int r = seal(ingest, kind, err);
        if (r < 0)
            return r;
    }
    if (!open->frame) {
        uint64_t number = atomic_fetch_add(&ingest->store->next_frame, 1);
        open->frame = ramet_frame_new(number, (uint16_t)((1u << slots) - 1), (uint8_t)kind, RAMET_FRAME_DELTA);
        if (!open->frame)
            return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to store a frame");
    }
    uint8_t *held = open->frame->pages + (size_t)open->count * RAMET_PAGE_SIZE;
    memcpy(held, page, RAMET_PAGE_SIZE);
    open->hashes[open->count] = hash;
    open->bases[open->count] = base == RAMET_CHUNK_ZERO ? base : subtract_base(ingest, base, held);
    open->delta |= open->bases[open->count] != RAMET_CHUNK_ZERO;
    *ret = ramet_chunk_make(open->frame->number, open->count++);
    atomic_fetch_add_explicit(&ingest->store->dedup_misses, 1, memory_order_relaxed);
    return open->count == slots ? seal(ingest, kind, err) : 0;
}

/* Looks for the page among those of this ingest's open frame. */
static bool find_open(const struct ramet_open_frame *open, const void *page, uint64_t hash, ramet_chunk *ret)
{
    for (unsigned i = 0; i < open->count; i++)
        if (open->hashes[i] == hash && open->bases[i] == RAMET_CHUNK_ZERO &&
            memcmp(open->frame->pages + (size_t)i * RAMET_PAGE_SIZE, page, RAMET_PAGE_SIZE) == 0) {
            *ret = ramet_chunk_make(open->frame->number, i);
            return true;
        }
    return false;
}

/* True when `chunk` may be used for the page: alive, readable, and equal to it. A damaged one is passed over. */
static bool is_usable(struct ramet_store *store, enum ramet_chunk_kind kind, ramet_chunk chunk, const void *page)
{
    ramet_chunk base;
    return ramet_gc_retain(store, kind == RAMET_CHUNK_NODE ? RAMET_GC_NODE : RAMET_GC_DATA, chunk) &&
           ramet_store_holds(store, chunk, page, &base) &&
           (base == RAMET_CHUNK_ZERO || ramet_gc_retain(store, RAMET_GC_BASE, base));
}

/* A page to look up: what put_batch gathers. */
struct wanted {
    size_t at; /* index in the batch */
    uint64_t hash;
    ramet_chunk candidate;
};

static int put_page(struct ramet_ingest *ingest, enum ramet_chunk_kind kind, const void *page,
                    const struct wanted *wanted, ramet_chunk base, ramet_chunk *ret, struct ramet_error *err)
{
    struct ramet_store *store = ingest->store;
    ramet_chunk candidate = wanted->candidate;
    if (find_open(&ingest->open[kind], page, wanted->hash, ret))
        return 0;
    if ((ramet_pending_find(store, wanted->hash, &candidate) || candidate != RAMET_CHUNK_ZERO) &&
        is_usable(store, kind, candidate, page)) {
        atomic_fetch_add_explicit(&store->dedup_hits, 1, memory_order_relaxed);
        *ret = candidate;
        return 0;
    }
    return add_page(ingest, kind, page, wanted->hash, base, ret, err);
}

/* Asks the index for all of them at once. */
static int look_up(struct ramet_store *store, struct wanted *wanted, size_t count, struct ramet_error *err)
{
    uint8_t keys[batch_pages][8], values[batch_pages][8];
    bool found[batch_pages];
    if (count == 0)
        return 0;
    for (size_t i = 0; i < count; i++)
        ramet_put_be64(keys[i], wanted[i].hash);
    int r = ramet_kv_get_many_u64(store->kv, RAMET_KV_INDEX, keys, count, values, found, err);
    for (size_t i = 0; i < count && r == 0; i++)
        wanted[i].candidate = found[i] ? ramet_get_le64(values[i]) : RAMET_CHUNK_ZERO;
    return r;
}

/* Whether no page close by in the batch is in the same frame. Those at the batch's ends may have neighbours beyond. */
static bool is_lone(const struct wanted *wanted, size_t count, size_t i)
{
    size_t from = i > lone_distance ? i - lone_distance : 0, to = i + lone_distance < count ? i + lone_distance : count;
    if (i < lone_distance / 2 || i + lone_distance / 2 >= count)
        return false;
    for (size_t k = from; k < to; k++)
        if (k != i && ramet_chunk_frame(wanted[k].candidate) == ramet_chunk_frame(wanted[i].candidate))
            return false;
    return true;
}

/*
 * Reading an image back costs a read a frame, so a frame that serves a single page here is expensive. A small part of
 * the pages is therefore stored again among its neighbours, and the index points there from then on.
 */
static void gather_lone(struct ramet_ingest *ingest, struct wanted *wanted, size_t count)
{
    int percent = ingest->store->options.locality_percent;
    ingest->locality_credit += percent > 0 ? count * (unsigned)percent : 0;
    for (size_t i = 0; i < count && ingest->locality_credit >= 100; i++)
        if (wanted[i].candidate != RAMET_CHUNK_ZERO && is_lone(wanted, count, i)) {
            wanted[i].candidate = RAMET_CHUNK_ZERO;
            ingest->locality_credit -= 100;
        }
}

/* Looks the gathered pages up and stores the new ones; the last one's number tells what may come next. */
static int resolve(struct ramet_ingest *ingest, enum ramet_chunk_kind kind, const uint8_t *pages, struct wanted *wanted,
                   size_t count, const ramet_chunk *bases, ramet_chunk *chunks, struct ramet_error *err)
{
    int r = look_up(ingest->store, wanted, count, err);
    if (r == 0 && kind == RAMET_CHUNK_DATA)
        gather_lone(ingest, wanted, count);
    for (size_t i = 0; i < count && r == 0; i++) {
        size_t at = wanted[i].at;
        r = put_page(ingest, kind, pages + at * RAMET_PAGE_SIZE, &wanted[i], bases ? bases[at] : RAMET_CHUNK_ZERO,
                     &chunks[at], err);
        ingest->expected =
            kind == RAMET_CHUNK_DATA && chunks[at] == wanted[i].candidate ? chunks[at] : RAMET_CHUNK_ZERO;
    }
    return r;
}

/* The chunk stored after this one: what one image holds in a row, another often does too. */
static ramet_chunk successor(const struct ramet_store *store, ramet_chunk chunk)
{
    return ramet_chunk_slot(chunk) + 1 < store->options.frame_slots ? chunk + 1
                                                                    : ramet_chunk_make(ramet_chunk_frame(chunk) + 1, 0);
}

/* Tries what needs no hash: the page replaced, then the page after the one found last. */
static bool find_unhashed(struct ramet_ingest *ingest, enum ramet_chunk_kind kind, const uint8_t *page,
                          ramet_chunk base, ramet_chunk *ret)
{
    struct ramet_store *store = ingest->store;
    if (base != RAMET_CHUNK_ZERO && is_usable(store, kind, base, page)) {
        *ret = base;
        return true;
    }
    if (kind != RAMET_CHUNK_DATA || ingest->expected == RAMET_CHUNK_ZERO)
        return false;
    ramet_chunk next = successor(store, ingest->expected);
    bool found = is_usable(store, kind, next, page);
    ingest->expected = found ? next : RAMET_CHUNK_ZERO;
    if (found)
        *ret = next;
    return found;
}

int ramet_ingest_put(struct ramet_ingest *ingest, enum ramet_chunk_kind kind, const void *pages, size_t count,
                     const ramet_chunk *bases, ramet_chunk *chunks, struct ramet_error *err)
{
    struct ramet_store *store = ingest->store;
    struct wanted wanted[batch_pages];
    size_t missing = 0, found = 0;
    int r = 0;
    for (size_t i = 0; i < count && r == 0; i++) {
        const uint8_t *page = (const uint8_t *)pages + i * RAMET_PAGE_SIZE;
        chunks[i] = RAMET_CHUNK_ZERO;
        if (ramet_page_is_zero(page))
            continue;
        if (find_unhashed(ingest, kind, page, bases ? bases[i] : RAMET_CHUNK_ZERO, &chunks[i])) {
            found++;
            continue;
        }
        wanted[missing++] = (struct wanted){.at = i, .hash = ramet_page_hash(page, kind, store->secret)};
        if (missing == batch_pages) {
            r = resolve(ingest, kind, pages, wanted, missing, bases, chunks, err);
            missing = 0;
        }
    }
    if (r == 0)
        r = resolve(ingest, kind, pages, wanted, missing, bases, chunks, err);
    atomic_fetch_add_explicit(&store->dedup_hits, found, memory_order_relaxed);
    return r;
}

static int seal_all(struct ramet_ingest *ingest, struct ramet_error *err)
{
    int r = seal(ingest, RAMET_CHUNK_DATA, err);
    return r < 0 ? r : seal(ingest, RAMET_CHUNK_NODE, err);
}

int ramet_ingest_join(struct ramet_ingest *into, struct ramet_ingest *from, struct ramet_error *err)
{
    int r = seal_all(from, err);
    into->stored_bytes += from->stored_bytes;
    ramet_ingest_end(from);
    return r;
}

int ramet_ingest_stored_bytes(struct ramet_ingest *ingest, uint64_t *ret, struct ramet_error *err)
{
    int r = seal_all(ingest, err);
    if (r == 0)
        *ret = ingest->stored_bytes;
    return r;
}

int ramet_ingest_commit(struct ramet_ingest *ingest, struct ramet_kv_batch *batch, struct ramet_error *err)
{
    int r = seal_all(ingest, err);
    return r < 0 ? r : ramet_commit(ingest->store, batch, err);
}
