/* SPDX-License-Identifier: Apache-2.0 */
#include "settle.h"

#include "base/cleanup.h"
#include "base/codec.h"
#include "base/file.h"

#include <stdlib.h>
#include <string.h>

enum { piece_pages = 64, threads_max = 4, pages_per_thread = 4096, patch_batch = 64 };
/* In a table: a page that was gathered and is not stored yet. */
static const ramet_chunk gathered = UINT64_MAX;

static int no_memory(struct ramet_error *err)
{
    return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a checkpoint of workspaces");
}

/* --- slots and tables --- */

int ramet_wsettle_begin(struct ramet_wsettle *settle, struct ramet_error *err)
{
    for (struct ramet_wepoch *epoch = settle->epoch; epoch; epoch = epoch->older)
        if (!epoch->settled && !(epoch->table = calloc(epoch->next_slot + 1, sizeof *epoch->table)))
            return no_memory(err);
    return 0;
}

/* The entry of a staged page's slot; NULL when it is of no epoch that is or was settled. */
static ramet_chunk *entry_of(const struct ramet_wsettle *settle, ramet_wref ref)
{
    for (struct ramet_wepoch *epoch = settle->epoch; epoch; epoch = epoch->older)
        if (epoch->number == ramet_wref_epoch(ref))
            return epoch->table && ramet_wref_slot(ref) < epoch->next_slot ? &epoch->table[ramet_wref_slot(ref)] : NULL;
    return NULL;
}

/* Calls for each reference in a leaf's records of pages. */
static int each_ref(uint8_t *page,
                    int (*visit)(void *ctx, struct ramet_wrecord *record, size_t index, uint8_t *ref,
                                 struct ramet_error *err),
                    void *ctx, struct ramet_error *err)
{
    unsigned count = ramet_wpage_count(page);
    int r = 0;
    for (unsigned i = 0; i < count && r == 0; i++) {
        struct ramet_wrecord record = ramet_wpage_record(page, i);
        if (record.key[8] != RAMET_WTYPE_BLOCKS)
            continue;
        for (size_t k = 0; k + 8 <= record.value_size && r == 0; k += 8)
            r = visit(ctx, &record, k / 8, (uint8_t *)record.value + k, err);
    }
    return r;
}

static int resolve(void *ctx, struct ramet_wrecord *record, size_t index, uint8_t *at, struct ramet_error *err)
{
    (void)record;
    (void)index;
    const struct ramet_wsettle *settle = ctx;
    ramet_wref ref = ramet_get_le64(at);
    if (!ramet_wref_is_staged(ref) || ramet_wref_epoch(ref) > settle->epoch->number)
        return 0;
    ramet_chunk *entry = entry_of(settle, ref);
    if (!entry || *entry == gathered)
        return ramet_error_set(err, RAMET_CORRUPT, "page %u of epoch %u is missing", ramet_wref_slot(ref),
                               ramet_wref_epoch(ref));
    ramet_put_le64(at, *entry);
    return 0;
}

/* --- gathering --- */

struct leaf {
    struct ramet_wsettle *settle;
    struct ramet_wnode *node;
    bool loaded; /* `before` was looked for */
    bool found;
    uint8_t before[RAMET_PAGE_SIZE]; /* the stored leaf that this one replaces */
};

/* What the page was in the leaf that is replaced: only a hint for storing it as a difference. */
static ramet_chunk base_of(struct leaf *leaf, const struct ramet_wrecord *record, size_t index)
{
    if (!leaf->loaded && leaf->node->chunk != RAMET_CHUNK_ZERO)
        leaf->found = ramet_wpage_load(leaf->settle->set->store, leaf->node->chunk, 0, leaf->before, NULL) == 0;
    leaf->loaded = true;
    if (!leaf->found)
        return RAMET_CHUNK_ZERO;
    struct ramet_wbytes key = {.size = record->key_size};
    bool equal;
    memcpy(key.bytes, record->key, key.size);
    unsigned at = ramet_wpage_find(leaf->before, &key, &equal);
    struct ramet_wrecord before = {0};
    if (equal)
        before = ramet_wpage_record(leaf->before, at);
    return 8 * index + 8 <= before.value_size ? ramet_get_le64(before.value + 8 * index) : RAMET_CHUNK_ZERO;
}

static int gather_ref(void *ctx, struct ramet_wrecord *record, size_t index, uint8_t *at, struct ramet_error *err)
{
    struct leaf *leaf = ctx;
    struct ramet_wsettle *settle = leaf->settle;
    ramet_wref ref = ramet_get_le64(at);
    ramet_chunk *entry = ramet_wref_is_staged(ref) ? entry_of(settle, ref) : NULL;
    if (!entry || *entry != RAMET_CHUNK_ZERO)
        return 0;
    if (settle->page_count == settle->page_capacity) {
        size_t capacity = settle->page_capacity ? settle->page_capacity * 2 : 1024;
        struct ramet_wpage *grown = reallocarray(settle->pages, capacity, sizeof *grown);
        if (!grown)
            return no_memory(err);
        settle->pages = grown;
        settle->page_capacity = capacity;
    }
    settle->pages[settle->page_count++] = (struct ramet_wpage){ref, base_of(leaf, record, index)};
    *entry = gathered;
    return 0;
}

int ramet_wsettle_gather(struct ramet_wsettle *settle, struct ramet_wnode *node, struct ramet_error *err)
{
    if (!node->dirty || node->stored_in == settle->stamp)
        return 0;
    node->stored_in = settle->stamp;
    if (node->level == 0) {
        struct leaf leaf = {.settle = settle, .node = node};
        return each_ref(node->page, gather_ref, &leaf, err);
    }
    int r = 0;
    for (unsigned i = 0; i < ramet_wpage_count(node->page) && r == 0; i++) {
        struct ramet_wnode *child = atomic_load_explicit(&node->children[i], memory_order_acquire);
        r = child ? ramet_wsettle_gather(settle, child, err) : 0;
    }
    return r;
}

/* --- pages --- */

struct job {
    struct ramet_wsettle *settle;
    _Atomic size_t next;
    _Atomic bool stopped;
};

struct worker {
    struct job *job;
    struct ramet_ingest *ingest;
    pthread_t thread;
    int status;
    struct ramet_error err;
};

static struct ramet_wepoch *epoch_of(const struct ramet_wsettle *settle, ramet_wref ref)
{
    struct ramet_wepoch *epoch = settle->epoch;
    while (epoch->number != ramet_wref_epoch(ref))
        epoch = epoch->older;
    return epoch;
}

static int read_pages(struct worker *worker, const struct ramet_wpage *pages, size_t count, uint8_t *buf)
{
    int r = 0;
    for (size_t i = 0, run; i < count && r == 0; i += run) {
        const struct ramet_wepoch *epoch = epoch_of(worker->job->settle, pages[i].ref);
        for (run = 1; i + run < count && pages[i + run].ref == pages[i].ref + run;)
            run++;
        r = ramet_file_read(epoch->pages_fd, epoch->pages_path, buf + i * RAMET_PAGE_SIZE, run * RAMET_PAGE_SIZE,
                            (uint64_t)ramet_wref_slot(pages[i].ref) * RAMET_PAGE_SIZE, &worker->err);
    }
    return r;
}

static int put_piece(struct worker *worker, const struct ramet_wpage *pages, size_t count, uint8_t *buf)
{
    ramet_chunk bases[piece_pages], chunks[piece_pages];
    for (size_t i = 0; i < count; i++)
        bases[i] = ramet_wref_is_staged(pages[i].base) ? RAMET_CHUNK_ZERO : pages[i].base;
    int r = read_pages(worker, pages, count, buf);
    if (r == 0)
        r = ramet_ingest_put(worker->ingest, RAMET_CHUNK_DATA, buf, count, bases, chunks, &worker->err);
    for (size_t i = 0; i < count && r == 0; i++)
        *entry_of(worker->job->settle, pages[i].ref) = chunks[i];
    return r;
}

static void *work(void *ctx)
{
    struct worker *worker = ctx;
    struct job *job = worker->job;
    struct ramet_wsettle *settle = job->settle;
    _autofree_ uint8_t *buf = malloc((size_t)piece_pages * RAMET_PAGE_SIZE);
    if (!buf)
        worker->status = no_memory(&worker->err);
    while (worker->status == 0 && !atomic_load(&job->stopped)) {
        size_t from = atomic_fetch_add(&job->next, piece_pages);
        if (from >= settle->page_count)
            break;
        size_t count = settle->page_count - from < piece_pages ? settle->page_count - from : piece_pages;
        worker->status = put_piece(worker, settle->pages + from, count, buf);
    }
    if (worker->status < 0)
        atomic_store(&job->stopped, true);
    return NULL;
}

int ramet_wsettle_pages(struct ramet_wsettle *settle, struct ramet_ingest *ingest, struct ramet_error *err)
{
    struct job job = {.settle = settle};
    struct worker workers[threads_max] = {{.job = &job, .ingest = ingest}};
    unsigned threads = ramet_store_threads(settle->set->store), started = 1;
    size_t wanted = settle->page_count / pages_per_thread + 1;
    threads = threads < threads_max ? threads : threads_max;
    for (; started < threads && started < wanted; started++) {
        struct worker *worker = &workers[started];
        worker->job = &job;
        /* One thread less is no error. */
        if (ramet_ingest_begin(settle->set->store, &worker->ingest, NULL) < 0)
            break;
        if (pthread_create(&worker->thread, NULL, work, worker) != 0) {
            ramet_ingest_end(worker->ingest);
            break;
        }
    }
    work(&workers[0]);
    int r = 0;
    for (unsigned i = 0; i < started; i++) {
        if (i > 0)
            pthread_join(workers[i].thread, NULL);
        if (r == 0 && (r = workers[i].status) < 0 && err)
            *err = workers[i].err;
        int joined = i > 0 ? ramet_ingest_join(ingest, workers[i].ingest, r == 0 ? err : NULL) : 0;
        r = r < 0 ? r : joined;
    }
    return r;
}

/* --- nodes --- */

static int note_node(struct ramet_wsettle *settle, struct ramet_wnode *node, struct ramet_error *err)
{
    if (settle->node_count == settle->node_capacity) {
        size_t capacity = settle->node_capacity ? settle->node_capacity * 2 : 1024;
        struct ramet_wnode **grown = reallocarray(settle->nodes, capacity, sizeof *grown);
        if (!grown)
            return no_memory(err);
        settle->nodes = grown;
        settle->node_capacity = capacity;
    }
    settle->nodes[settle->node_count++] = node;
    return 0;
}

static int settle_children(struct ramet_wsettle *settle, struct ramet_ingest *ingest, struct ramet_wnode *node,
                           uint8_t *packed, struct ramet_error *err)
{
    int r = 0;
    for (unsigned i = 0; i < ramet_wpage_count(node->page) && r == 0; i++) {
        struct ramet_wnode *child = atomic_load_explicit(&node->children[i], memory_order_acquire);
        ramet_chunk chunk;
        if (!child)
            continue;
        r = ramet_wsettle_node(settle, ingest, child, &chunk, err);
        if (r == 0)
            ramet_put_le64((uint8_t *)ramet_wpage_record(packed, i).value, chunk);
    }
    return r;
}

int ramet_wsettle_node(struct ramet_wsettle *settle, struct ramet_ingest *ingest, struct ramet_wnode *node,
                       ramet_chunk *ret, struct ramet_error *err)
{
    if (!node->dirty || node->stored_in == settle->stamp + 1) {
        *ret = node->dirty ? node->fresh : node->chunk;
        return 0;
    }
    uint8_t packed[RAMET_PAGE_SIZE];
    ramet_wpage_pack(node->page, packed);
    int r = node->level ? settle_children(settle, ingest, node, packed, err) : each_ref(packed, resolve, settle, err);
    if (r == 0)
        r = ramet_ingest_put(ingest, RAMET_CHUNK_NODE, packed, 1, &node->chunk, &node->fresh, err);
    if (r == 0)
        r = note_node(settle, node, err);
    if (r < 0)
        return r;
    node->stored_in = settle->stamp + 1;
    *ret = node->fresh;
    return 0;
}

/* --- afterwards --- */

/* The gate is held for writing. */
static void forget_slots(struct ramet_wsettle *settle, struct ramet_wnode *node)
{
    if (node->level == 0)
        each_ref(node->page, resolve, settle, NULL);
    node->settled = settle->epoch->number;
}

void ramet_wsettle_patch(struct ramet_wsettle *settle)
{
    for (size_t i = 0; i < settle->node_count;) {
        pthread_rwlock_wrlock(&settle->set->gate);
        for (size_t end = i + patch_batch; i < end && i < settle->node_count; i++) {
            struct ramet_wnode *node = settle->nodes[i];
            forget_slots(settle, node);
            node->chunk = node->fresh;
            node->dirty = false;
        }
        pthread_rwlock_unlock(&settle->set->gate);
    }
}

/* Looks at up to *budget leaves; false when there may be more. */
static bool forget_below(struct ramet_wsettle *settle, struct ramet_wnode *node, int *budget)
{
    if (!node || !node->dirty || node->settled >= settle->epoch->number)
        return true;
    if (node->level == 0 && --*budget < 0)
        return false;
    for (unsigned i = 0; node->level && i < ramet_wpage_count(node->page); i++)
        if (!forget_below(settle, atomic_load(&node->children[i]), budget))
            return false;
    forget_slots(settle, node);
    return true;
}

/* Under names. */
static bool forget_heads(struct ramet_wsettle *settle, struct ramet_workspace **heads, size_t count, int *budget)
{
    for (size_t i = 0; i < count; i++)
        if (!forget_below(settle, atomic_load(&heads[i]->tree.root), budget) ||
            !forget_below(settle, atomic_load(&heads[i]->base.root), budget))
            return false;
    return true;
}

/*
 * A slot that was forgotten does not come back: what a change puts is resolved first
 * (change.c), and nodes are copied, split and joined with their mark. So when a pass over
 * all heads finds nothing, no tree names one.
 */
static bool forget_some(struct ramet_wsettle *settle)
{
    struct ramet_workspaces *set = settle->set;
    int budget = patch_batch;
    pthread_mutex_lock(&set->names);
    bool done = forget_heads(settle, set->heads, set->head_count, &budget) &&
                forget_heads(settle, set->states, set->state_count, &budget);
    pthread_mutex_unlock(&set->names);
    return done;
}

/* Takes the epochs out of the list when no tree names them; else looks at some. commit.lock is held if `last`. */
static bool forget_step(struct ramet_wsettle *settle, bool last)
{
    struct ramet_workspaces *set = settle->set;
    pthread_rwlock_wrlock(&set->gate);
    bool done = forget_some(settle);
    if (done && last) {
        struct ramet_wepoch *newer = set->epoch;
        while (newer->older != settle->epoch)
            newer = newer->older;
        pthread_mutex_lock(&set->commit.queue);
        newer->older = NULL;
        pthread_mutex_unlock(&set->commit.queue);
    }
    pthread_rwlock_unlock(&set->gate);
    return done;
}

void ramet_wsettle_forget(struct ramet_wsettle *settle)
{
    struct ramet_workspaces *set = settle->set;
    while (!forget_step(settle, false))
        ;
    /* Syncs wait from here on, for what was changed in the meantime. */
    pthread_mutex_lock(&set->commit.lock);
    while (!forget_step(settle, true))
        ;
    pthread_mutex_unlock(&set->commit.lock);
    while (settle->epoch) {
        struct ramet_wepoch *epoch = settle->epoch;
        settle->epoch = epoch->older;
        ramet_wepoch_close(epoch);
    }
}

void ramet_wsettle_end(struct ramet_wsettle *settle)
{
    free(settle->pages);
    free(settle->nodes);
}
