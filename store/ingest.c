/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ingest: hash, look up, compare, compress.
 *
 * A page whose hash is known is compared byte for byte with the stored content before
 * its number is used; a hash that lies costs a page stored twice. New pages gather in
 * an open frame of this ingest, one for data and one for map nodes, and are handed to
 * commit.c when the frame is full.
 */
#include "base/cleanup.h"
#include "base/codec.h"
#include "frame.h"
#include "store_private.h"

#include <stdlib.h>
#include <string.h>

enum { batch_pages = 256 };

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
    free(ingest);
    ramet_pending_discard(store);
}

/* Compresses an open frame and hands it over; the open frame is empty afterwards. */
static int seal(struct ramet_ingest *ingest, struct ramet_open_frame *open, struct ramet_error *err)
{
    struct ramet_store *store = ingest->store;
    if (open->slots == 0)
        return 0;
    size_t plain = (size_t)open->slots * RAMET_PAGE_SIZE;
    struct ramet_pending *frame = calloc(1, sizeof *frame);
    uint8_t *record = malloc(RAMET_FRAME_RECORD_MAX), *pages = malloc(plain);
    if (!frame || !record || !pages) {
        free(frame), free(record), free(pages);
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to store a frame");
    }
    *frame = (struct ramet_pending){.number = open->number, .slots = open->slots, .pages = pages, .record = record};
    memcpy(frame->hashes, open->hashes, sizeof frame->hashes);
    memcpy(pages, open->pages, plain);
    int r = ramet_frame_encode(open->number, pages, open->slots, store->options.zstd_level, record, &frame->record_size,
                               err);
    if (r < 0) {
        free(frame), free(record), free(pages);
        return r;
    }
    uint8_t *fitted = realloc(record, frame->record_size);
    frame->record = fitted ? fitted : record;
    ingest->stored_bytes += frame->record_size;
    open->slots = 0;
    return ramet_pending_add(store, frame, err);
}

/* Adds a page that is not stored yet. */
static int add_page(struct ramet_ingest *ingest, enum ramet_chunk_kind kind, const void *page, uint64_t hash,
                    ramet_chunk *ret, struct ramet_error *err)
{
    struct ramet_open_frame *open = &ingest->open[kind];
    if (open->slots == 0)
        open->number = atomic_fetch_add(&ingest->store->next_frame, 1);
    memcpy(open->pages + (size_t)open->slots * RAMET_PAGE_SIZE, page, RAMET_PAGE_SIZE);
    open->hashes[open->slots] = hash;
    *ret = ramet_chunk_make(open->number, open->slots++);
    atomic_fetch_add_explicit(&ingest->store->dedup_misses, 1, memory_order_relaxed);
    return open->slots == ingest->store->options.frame_slots ? seal(ingest, open, err) : 0;
}

/* Looks for the page among those of this ingest's open frame. */
static bool find_open(const struct ramet_open_frame *open, const void *page, uint64_t hash, ramet_chunk *ret)
{
    for (unsigned i = 0; i < open->slots; i++)
        if (open->hashes[i] == hash && memcmp(open->pages + (size_t)i * RAMET_PAGE_SIZE, page, RAMET_PAGE_SIZE) == 0) {
            *ret = ramet_chunk_make(open->number, i);
            return true;
        }
    return false;
}

/* True when `chunk` may be used for the page: alive, readable, and equal to it. A damaged one is passed over. */
static bool verify_candidate(struct ramet_store *store, enum ramet_chunk_kind kind, ramet_chunk chunk, const void *page)
{
    struct ramet_gc *gc = atomic_load(&store->gc);
    if (gc && !ramet_gc_retain(gc, kind, chunk))
        return false;
    uint8_t stored[RAMET_PAGE_SIZE];
    return ramet_store_read(store, &chunk, 1, stored, NULL) == 0 && memcmp(stored, page, sizeof stored) == 0;
}

static int put_page(struct ramet_ingest *ingest, enum ramet_chunk_kind kind, const void *page, uint64_t hash,
                    ramet_chunk indexed, ramet_chunk *ret, struct ramet_error *err)
{
    struct ramet_store *store = ingest->store;
    ramet_chunk candidate = indexed;
    if (find_open(&ingest->open[kind], page, hash, ret))
        return 0;
    if ((ramet_pending_find(store, hash, &candidate) || candidate != RAMET_CHUNK_ZERO) &&
        verify_candidate(store, kind, candidate, page)) {
        atomic_fetch_add_explicit(&store->dedup_hits, 1, memory_order_relaxed);
        *ret = candidate;
        return 0;
    }
    return add_page(ingest, kind, page, hash, ret, err);
}

static int put_batch(struct ramet_ingest *ingest, enum ramet_chunk_kind kind, const uint8_t *pages, size_t count,
                     ramet_chunk *chunks, struct ramet_error *err)
{
    uint64_t hashes[batch_pages];
    uint8_t keys[batch_pages][8], values[batch_pages][8];
    bool found[batch_pages];
    size_t where[batch_pages], wanted = 0;
    for (size_t i = 0; i < count; i++) {
        const uint8_t *page = pages + i * RAMET_PAGE_SIZE;
        chunks[i] = RAMET_CHUNK_ZERO;
        if (ramet_page_is_zero(page))
            continue;
        hashes[wanted] = ramet_page_hash(page, kind, ingest->store->secret);
        ramet_put_be64(keys[wanted], hashes[wanted]);
        where[wanted++] = i;
    }
    int r = wanted ? ramet_kv_get_many_u64(ingest->store->kv, RAMET_KV_INDEX, keys, wanted, values, found, err) : 0;
    for (size_t i = 0; i < wanted && r == 0; i++)
        r = put_page(ingest, kind, pages + where[i] * RAMET_PAGE_SIZE, hashes[i],
                     found[i] ? ramet_get_le64(values[i]) : RAMET_CHUNK_ZERO, &chunks[where[i]], err);
    return r;
}

int ramet_ingest_put(struct ramet_ingest *ingest, enum ramet_chunk_kind kind, const void *pages, size_t count,
                     ramet_chunk *chunks, struct ramet_error *err)
{
    int r = 0;
    for (size_t done = 0; done < count && r == 0; done += batch_pages) {
        size_t some = count - done < batch_pages ? count - done : batch_pages;
        r = put_batch(ingest, kind, (const uint8_t *)pages + done * RAMET_PAGE_SIZE, some, chunks + done, err);
    }
    return r;
}

static int seal_all(struct ramet_ingest *ingest, struct ramet_error *err)
{
    int r = seal(ingest, &ingest->open[RAMET_CHUNK_DATA], err);
    return r < 0 ? r : seal(ingest, &ingest->open[RAMET_CHUNK_NODE], err);
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
