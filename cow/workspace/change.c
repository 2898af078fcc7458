/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A change gathers its puts and deletes in the form in which the journal takes them. To
 * apply a small one, the nodes it leads to are loaded and memory is set aside, then
 * nothing can fail any more. A large one is made on a copy of the tree, which takes the
 * old one's place when all went well: that costs a copy of each node it touches.
 */
#include "change.h"

#include "base/codec.h"
#include "change_private.h"
#include "epoch.h"
#include "workspace_private.h"

#include <stdlib.h>
#include <string.h>

enum { small_ops = 8 };

void ramet_wchange_free(struct ramet_wchange *change)
{
    if (!change)
        return;
    ramet_wspare_free(&change->spare);
    free(change->record);
    free(change->ops);
    free(change);
}

static void recycle(struct ramet_wchange *change)
{
    struct ramet_workspaces *set = change->workspace->set;
    if (change->record)
        change->record->size = RAMET_WJOURNAL_HEADER;
    if (change->capacity > 1024 || (change->record && change->record->capacity > 65536)) {
        ramet_wchange_free(change);
        return;
    }
    pthread_mutex_lock(&set->spare_lock);
    change->next = set->spare;
    set->spare = change;
    pthread_mutex_unlock(&set->spare_lock);
}

static struct ramet_wchange *take(struct ramet_workspaces *set)
{
    pthread_mutex_lock(&set->spare_lock);
    struct ramet_wchange *change = set->spare;
    if (change)
        set->spare = change->next;
    pthread_mutex_unlock(&set->spare_lock);
    return change ? change : calloc(1, sizeof *change);
}

int ramet_wchange_begin(struct ramet_workspace *workspace, struct ramet_wchange **ret, struct ramet_error *err)
{
    struct ramet_wchange *change = take(workspace->set);
    if (!change || !ramet_wjrecord_grow(&change->record, 16)) {
        free(change);
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a change");
    }
    change->workspace = workspace;
    change->count = 0;
    change->status = 0;
    memset(change->buckets, 0, sizeof change->buckets);
    int r = workspace->announced ? 0 : ramet_whead_announce(workspace, &change->record, err);
    if (r < 0) {
        recycle(change);
        return r;
    }
    ramet_wjrecord_put_u8(change->record, RAMET_WITEM_TREE);
    ramet_wjrecord_put_u64(change->record, workspace->serial);
    *ret = change;
    return 0;
}

void ramet_wchange_abort(struct ramet_wchange *change)
{
    if (change)
        recycle(change);
}

/* --- ops --- */

void ramet_wop_parse(const uint8_t *item, struct ramet_wparsed *ret)
{
    bool put = item[0] == RAMET_WITEM_PUT;
    const uint8_t *key = item + (put ? 5 : 3);
    ret->key.size = ramet_load16(item + 1);
    memcpy(ret->key.bytes, key, ret->key.size);
    ret->value = put ? key + ret->key.size : NULL;
    ret->size = put ? ramet_load16(item + 3) : 0;
}

static unsigned bucket_of(const struct ramet_wbytes *key)
{
    uint64_t ino, tail;
    memcpy(&ino, key->bytes, 8);
    memcpy(&tail, key->bytes + key->size - 8, 8);
    return (unsigned)(((ino * 31 + tail) * UINT64_C(0x9e3779b97f4a7c15)) >> 58);
}

static int fail(struct ramet_wchange *change, int r)
{
    change->status = r;
    return r;
}

/* Room for one more op of `size` bytes. */
static int make_room(struct ramet_wchange *change, size_t size)
{
    if (change->count == change->capacity) {
        size_t capacity = change->capacity ? change->capacity * 2 : 16;
        struct ramet_wop *grown = reallocarray(change->ops, capacity, sizeof *grown);
        if (!grown)
            return fail(change, ramet_error_set(&change->err, RAMET_NO_MEMORY, "no memory for a change"));
        change->ops = grown;
        change->capacity = capacity;
    }
    if (!ramet_wjrecord_grow(&change->record, size))
        return fail(change, ramet_error_set(&change->err, RAMET_NO_MEMORY, "no memory for a change"));
    if (change->record->size + size > RAMET_WJOURNAL_RECORD_MAX)
        return fail(change, ramet_error_set(&change->err, RAMET_TOO_LARGE, "the change has more than %d bytes",
                                            RAMET_WJOURNAL_RECORD_MAX));
    return 0;
}

static void add(struct ramet_wchange *change, const struct ramet_wbytes *key, size_t offset)
{
    unsigned bucket = bucket_of(key);
    change->ops[change->count] = (struct ramet_wop){(uint32_t)offset, change->buckets[bucket]};
    change->buckets[bucket] = (uint32_t)++change->count;
}

/* Slots of settled epochs are named by their chunks from here on: checkpoint.c relies on it. */
static void resolve(struct ramet_wchange *change, size_t offset, size_t size)
{
    struct ramet_workspace *workspace = change->workspace;
    if (!workspace->set->epoch->older)
        return;
    for (uint8_t *at = change->record->bytes + offset; size >= 8; at += 8, size -= 8)
        ramet_put_le64(at, ramet_wdata_resolve(workspace, ramet_get_le64(at)));
}

void ramet_wchange_put(struct ramet_wchange *change, const struct ramet_wkey *key, const void *value, size_t size)
{
    struct ramet_wbytes bytes;
    if (change->status < 0)
        return;
    if (size > RAMET_WVALUE_MAX || key->sub_size > RAMET_WKEY_SUB_MAX) {
        fail(change, ramet_error_set(&change->err, RAMET_INVALID, "a record of %zu bytes does not fit", size));
        return;
    }
    ramet_wbytes_set(&bytes, key);
    if (make_room(change, 5u + bytes.size + size) < 0)
        return;
    struct ramet_wjrecord *record = change->record;
    size_t offset = record->size;
    ramet_wjrecord_put_u8(record, RAMET_WITEM_PUT);
    ramet_wjrecord_put_u16(record, bytes.size);
    ramet_wjrecord_put_u16(record, size);
    ramet_wjrecord_put(record, bytes.bytes, bytes.size);
    size_t at = record->size;
    if (size)
        ramet_wjrecord_put(record, value, size);
    if (key->type == RAMET_WTYPE_BLOCKS)
        resolve(change, at, size);
    add(change, &bytes, offset);
}

void ramet_wchange_delete(struct ramet_wchange *change, const struct ramet_wkey *key)
{
    struct ramet_wbytes bytes;
    if (change->status < 0)
        return;
    ramet_wbytes_set(&bytes, key);
    if (make_room(change, 3u + bytes.size) < 0)
        return;
    size_t offset = change->record->size;
    ramet_wjrecord_put_u8(change->record, RAMET_WITEM_DELETE);
    ramet_wjrecord_put_u16(change->record, bytes.size);
    ramet_wjrecord_put(change->record, bytes.bytes, bytes.size);
    add(change, &bytes, offset);
}

int ramet_wchange_get(struct ramet_wchange *change, const struct ramet_wkey *key, struct ramet_wvalue *ret,
                      struct ramet_error *err)
{
    struct ramet_wbytes bytes;
    struct ramet_wparsed op;
    ramet_wbytes_set(&bytes, key);
    for (uint32_t i = change->buckets[bucket_of(&bytes)]; i; i = change->ops[i - 1].next) {
        ramet_wop_parse(change->record->bytes + change->ops[i - 1].offset, &op);
        if (op.key.size != bytes.size || memcmp(op.key.bytes, bytes.bytes, bytes.size) != 0)
            continue;
        if (!op.value)
            return -RAMET_NOT_FOUND;
        ret->size = (uint16_t)op.size;
        memcpy(ret->bytes, op.value, op.size);
        return 0;
    }
    return ramet_wtree_get(&change->workspace->tree, key, ret, err);
}

/* --- applying --- */

static void perform_op(struct ramet_wtree *tree, struct ramet_wspare *spare, const struct ramet_wparsed *op)
{
    if (op->value)
        ramet_wtree_put(tree, spare, &op->key, op->value, op->size);
    else
        ramet_wtree_delete(tree, spare, &op->key);
}

/* One op that may fail before it does anything. */
static int try_op(struct ramet_wtree *tree, struct ramet_wspare *spare, const struct ramet_wparsed *op,
                  struct ramet_error *err)
{
    unsigned height;
    int r = ramet_wtree_prepare(tree, &op->key, &height, err);
    if (r == 0)
        r = ramet_wspare_reserve(spare, RAMET_WSPARE_LEAVES, ramet_wspare_inner(height), err);
    if (r == 0)
        perform_op(tree, spare, op);
    return r;
}

static int perform_large(struct ramet_wchange *change, struct ramet_wtree *tree, struct ramet_error *err)
{
    struct ramet_wparsed op;
    struct ramet_wnode *before;
    int r = ramet_wtree_root(tree, &before, err);
    if (r < 0)
        return r;
    ramet_wnode_ref(before); /* from here on the tree is changed on copies */
    for (size_t i = 0; i < change->count && r == 0; i++) {
        ramet_wop_parse(change->record->bytes + change->ops[i].offset, &op);
        r = try_op(tree, &change->spare, &op, err);
    }
    if (r < 0) {
        ramet_wnode_unref(atomic_exchange(&tree->root, before));
        return r;
    }
    ramet_wnode_unref(before);
    return 0;
}

static int perform_small(struct ramet_wchange *change, struct ramet_wtree *tree, struct ramet_error *err)
{
    struct ramet_wparsed op;
    unsigned height = 0, count = (unsigned)change->count;
    int r = 0;
    for (size_t i = 0; i < count && r == 0; i++) {
        ramet_wop_parse(change->record->bytes + change->ops[i].offset, &op);
        r = ramet_wtree_prepare(tree, &op.key, &height, err);
    }
    /* The tree may grow by two levels on the way. */
    if (r == 0)
        r = ramet_wspare_reserve(&change->spare, count * RAMET_WSPARE_LEAVES, count * ramet_wspare_inner(height + 2),
                                 err);
    for (size_t i = 0; i < count && r == 0; i++) {
        ramet_wop_parse(change->record->bytes + change->ops[i].offset, &op);
        perform_op(tree, &change->spare, &op);
    }
    return r;
}

int ramet_wchange_perform(struct ramet_wchange *change, struct ramet_wtree *tree, struct ramet_error *err)
{
    int r = change->count <= small_ops ? perform_small(change, tree, err) : perform_large(change, tree, err);
    for (size_t i = 0; i < change->count && r == 0; i++) {
        struct ramet_wparsed op;
        ramet_wop_parse(change->record->bytes + change->ops[i].offset, &op);
        if (!op.value)
            ramet_wtree_shrink(tree, &op.key);
    }
    return r;
}

int ramet_wchange_apply(struct ramet_wchange *change, struct ramet_error *err)
{
    struct ramet_workspace *workspace = change->workspace;
    int r = change->status;
    if (r < 0 && err)
        *err = change->err;
    if (r == 0 && change->count > 0)
        r = ramet_wchange_perform(change, &workspace->tree, err);
    if (r == 0 && change->count > 0) {
        workspace->announced = true;
        workspace->stale = true;
        ramet_wset_queue(workspace->set, change->record);
        change->record = NULL;
    }
    recycle(change);
    return r < 0 ? ramet_error_prefix(err, "workspace \"%s\"", workspace->name) : 0;
}
