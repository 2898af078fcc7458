/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checkpoints. All heads are frozen at one instant and a new epoch begins: from then on
 * changes go to its files. Then, beside readers and writers, the frozen trees are settled
 * (settle.c), and one commit of the store makes them durable together with the epoch from
 * which to replay. After it the old epochs' files are removed.
 *
 * A crash or failure before the commit leaves the last checkpoint and the journals of all
 * epochs since, which the next opening replays and the next checkpoint settles. One after
 * it leaves files that the next opening removes.
 */
#include "base/cleanup.h"
#include "base/record.h"
#include "catalog_private.h"
#include "settle.h"

#include <stdlib.h>
#include <string.h>

struct frozen {
    struct ramet_workspace *head;    /* a reference */
    struct ramet_wnode *root, *base; /* references; NULL: not in memory */
    ramet_chunk root_chunk, base_chunk;
    bool has_base, has_record;
    struct ramet_buf record; /* begun */
};

struct checkpoint {
    struct ramet_workspaces *set;
    struct ramet_wsettle settle;
    struct frozen *frozen; /* owned */
    size_t count, capacity;
    uint64_t *serials; /* owned; of all heads, in order */
    size_t serial_count;
    uint64_t next_ino;
    struct ramet_ingest *ingest;
    struct ramet_kv_batch *batch;
};

static int no_memory(struct ramet_error *err)
{
    return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a checkpoint of workspaces");
}

/* --- freezing --- */

static struct ramet_wnode *freeze_tree(struct ramet_wtree *tree, ramet_chunk *ret_chunk)
{
    struct ramet_wnode *root = atomic_load(&tree->root);
    *ret_chunk = tree->root_chunk;
    return root ? ramet_wnode_ref(root) : NULL;
}

static void freeze_head(struct checkpoint *c, struct ramet_workspace *head)
{
    if (!head->is_view)
        c->serials[c->serial_count++] = head->serial;
    if (!head->stale || head->damaged || !head->announced)
        return;
    struct frozen *frozen = &c->frozen[c->count++];
    *frozen = (struct frozen){.head = ramet_workspace_ref(head), .has_record = !head->is_view};
    frozen->root = freeze_tree(&head->tree, &frozen->root_chunk);
    frozen->base = freeze_tree(&head->base, &frozen->base_chunk);
    frozen->has_base = head->has_base;
    if (frozen->has_record) {
        ramet_record_begin(&frozen->record);
        ramet_whead_encode(head, &frozen->record);
    }
    head->stale = false;
}

static int compare_serials(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Room for all heads there are now and some more. */
static int make_room(struct checkpoint *c, struct ramet_error *err)
{
    pthread_mutex_lock(&c->set->names);
    c->capacity = c->set->head_count + c->set->state_count + 256;
    pthread_mutex_unlock(&c->set->names);
    free(c->frozen);
    free(c->serials);
    c->frozen = calloc(c->capacity, sizeof *c->frozen);
    c->serials = calloc(c->capacity, sizeof *c->serials);
    return c->frozen && c->serials ? 0 : no_memory(err);
}

/* All heads at one instant, and a new epoch. */
static int freeze(struct checkpoint *c, struct ramet_wepoch *next, struct ramet_error *err)
{
    struct ramet_workspaces *set = c->set;
    bool fits = false;
    int r = 0;
    while (r == 0 && !fits) {
        if ((r = make_room(c, err)) < 0)
            return r;
        pthread_rwlock_wrlock(&set->gate);
        pthread_mutex_lock(&set->names);
        fits = set->head_count + set->state_count <= c->capacity;
        struct ramet_wepoch *last = set->epoch;
        if (fits)
            r = ramet_wset_begin_epoch(set, next, err);
        if (fits && r == 0) {
            c->settle.epoch = last;
            for (size_t i = 0; i < set->head_count; i++)
                freeze_head(c, set->heads[i]);
            for (size_t i = 0; i < set->state_count; i++)
                freeze_head(c, set->states[i]);
            c->next_ino = atomic_load(&set->next_ino);
        }
        pthread_mutex_unlock(&set->names);
        pthread_rwlock_unlock(&set->gate);
    }
    qsort(c->serials, c->serial_count, sizeof *c->serials, compare_serials);
    return r;
}

/* --- storing --- */

static int store_trees(struct checkpoint *c, struct ramet_error *err)
{
    int r = ramet_wsettle_begin(&c->settle, err);
    for (size_t i = 0; i < c->count && r == 0; i++) {
        struct frozen *frozen = &c->frozen[i];
        if (frozen->root)
            r = ramet_wsettle_gather(&c->settle, frozen->root, err);
        if (r == 0 && frozen->base)
            r = ramet_wsettle_gather(&c->settle, frozen->base, err);
    }
    if (r == 0)
        r = ramet_wsettle_pages(&c->settle, c->ingest, err);
    for (size_t i = 0; i < c->count && r == 0; i++) {
        struct frozen *frozen = &c->frozen[i];
        if (frozen->root)
            r = ramet_wsettle_node(&c->settle, c->ingest, frozen->root, &frozen->root_chunk, err);
        if (r == 0 && frozen->base)
            r = ramet_wsettle_node(&c->settle, c->ingest, frozen->base, &frozen->base_chunk, err);
        if (r < 0)
            ramet_error_prefix(err, "workspace \"%s\"", frozen->head->name);
    }
    return r;
}

/* --- records --- */

static int put_heads(struct checkpoint *c, struct ramet_error *err)
{
    int r = 0;
    for (size_t i = 0; i < c->count && r == 0; i++) {
        struct frozen *frozen = &c->frozen[i];
        uint8_t key[8];
        if (!frozen->has_record)
            continue;
        ramet_buf_put_u64(&frozen->record, frozen->root_chunk);
        ramet_buf_put_u8(&frozen->record, frozen->has_base);
        ramet_buf_put_u64(&frozen->record, frozen->base_chunk);
        r = ramet_record_end(&frozen->record, RAMET_WRECORD_MAGIC, RAMET_WRECORD_VERSION, err);
        ramet_put_be64(key, frozen->head->serial);
        if (r == 0)
            ramet_kv_put(c->batch, RAMET_KV_WORKSPACES, key, sizeof key, frozen->record.data, frozen->record.size);
    }
    return r;
}

/* Records of heads that are not there any more go. */
static int delete_heads(struct checkpoint *c, struct ramet_error *err)
{
    struct ramet_kv_iter *iter = ramet_kv_iter_new(ramet_store_kv(c->set->store), RAMET_KV_WORKSPACES, NULL, 0);
    size_t key_size, size;
    const void *key, *value;
    if (!iter)
        return no_memory(err);
    while (ramet_kv_iter_next(iter, &key, &key_size, &value, &size)) {
        uint64_t serial = key_size == 8 ? ramet_get_be64(key) : 0;
        if (key_size == 8 && !bsearch(&serial, c->serials, c->serial_count, sizeof serial, compare_serials))
            ramet_kv_delete(c->batch, RAMET_KV_WORKSPACES, key, key_size);
    }
    int r = ramet_kv_iter_status(iter, err);
    ramet_kv_iter_free(iter);
    return r;
}

static int put_set(struct checkpoint *c, struct ramet_error *err)
{
    _cleanup_(ramet_buf_free) struct ramet_buf buf = {0};
    ramet_record_begin(&buf);
    ramet_buf_put_u32(&buf, c->settle.epoch->number + 1);
    ramet_buf_put_u64(&buf, c->next_ino);
    ramet_buf_put_u64(&buf, atomic_load(&c->set->catalog->next_serial));
    int r = ramet_record_end(&buf, RAMET_WSET_MAGIC, RAMET_WRECORD_VERSION, err);
    if (r < 0)
        return r;
    ramet_kv_put(c->batch, RAMET_KV_WORKSPACES, RAMET_WSET_KEY, strlen(RAMET_WSET_KEY), buf.data, buf.size);
    ramet_serials_put(c->set->catalog, c->batch);
    return 0;
}

static int commit(struct checkpoint *c, struct ramet_error *err)
{
    int r = store_trees(c, err);
    if (r == 0)
        r = put_heads(c, err);
    if (r == 0)
        r = delete_heads(c, err);
    if (r == 0)
        r = put_set(c, err);
    return r < 0 ? r : ramet_ingest_commit(c->ingest, c->batch, err);
}

/* --- afterwards --- */

/* The checkpoint holds all that was queued for the old epochs: it is durable, and their files are not needed. */
static void publish(struct checkpoint *c)
{
    struct ramet_workspaces *set = c->set;
    struct ramet_wepoch *epoch;
    pthread_mutex_lock(&set->commit.lock);
    pthread_rwlock_wrlock(&set->gate);
    for (epoch = c->settle.epoch; epoch; epoch = epoch->older)
        epoch->settled = true;
    pthread_rwlock_unlock(&set->gate);
    ramet_wset_settled(set, c->settle.epoch);
    pthread_mutex_unlock(&set->commit.lock);
    for (epoch = c->settle.epoch; epoch; epoch = epoch->older)
        ramet_wepoch_remove_files(epoch);
}

static void thaw(struct checkpoint *c, bool failed)
{
    if (failed) { /* all of it is tried again */
        pthread_rwlock_wrlock(&c->set->gate);
        for (size_t i = 0; i < c->count; i++)
            c->frozen[i].head->stale = true;
        for (struct ramet_wepoch *epoch = c->settle.epoch; epoch; epoch = epoch->older)
            free(STEAL(epoch->table));
        pthread_rwlock_unlock(&c->set->gate);
    }
    for (size_t i = 0; i < c->count; i++) {
        ramet_wnode_unref(c->frozen[i].root);
        ramet_wnode_unref(c->frozen[i].base);
        ramet_workspace_unref(c->frozen[i].head);
        ramet_buf_free(&c->frozen[i].record);
    }
    free(c->frozen);
    free(c->serials);
    ramet_wsettle_end(&c->settle);
    ramet_ingest_end(c->ingest);
    ramet_kv_batch_free(c->batch);
}

static int run(struct checkpoint *c, struct ramet_error *err)
{
    struct ramet_workspaces *set = c->set;
    struct ramet_wepoch *next;
    c->settle.set = set;
    c->settle.stamp = set->stamp += 2;
    int r = ramet_wepoch_open(set->dir, set->epoch->number + 1, true, &next, err);
    if (r < 0)
        return r;
    c->batch = ramet_kv_batch_new(ramet_store_kv(set->store));
    r = c->batch ? ramet_ingest_begin(set->store, &c->ingest, err) : no_memory(err);
    if (r == 0)
        r = freeze(c, next, err);
    if (r < 0) {
        ramet_wepoch_remove_files(next);
        ramet_wepoch_close(next);
        return r;
    }
    r = commit(c, err);
    if (r < 0)
        return r;
    publish(c);
    ramet_wsettle_patch(&c->settle);
    ramet_wsettle_forget(&c->settle);
    return 0;
}

/* Whether anything changed since the last one. */
static bool is_needed(struct ramet_workspaces *set)
{
    pthread_mutex_lock(&set->commit.queue);
    bool needed = set->commit.sequence > set->epoch->begin_sequence || set->epoch->older;
    pthread_mutex_unlock(&set->commit.queue);
    return needed;
}

int ramet_workspaces_checkpoint(struct ramet_workspaces *set, struct ramet_error *err)
{
    struct checkpoint c = {.set = set};
    pthread_mutex_lock(&set->maintenance);
    int r = ramet_wset_writable(set, err);
    if (r == 0 && is_needed(set)) {
        r = run(&c, err);
        thaw(&c, r < 0);
    }
    pthread_mutex_unlock(&set->maintenance);
    return r;
}
