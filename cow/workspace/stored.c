/* SPDX-License-Identifier: Apache-2.0 */
#include "stored.h"

#include "base/cleanup.h"
#include "base/codec.h"
#include "base/record.h"
#include "files.h"
#include "records.h"
#include "workspace_private.h"

#include <stdlib.h>
#include <string.h>

enum { path_depth = 64 };

/* --- walking --- */

void ramet_wstored_leaf(const uint8_t *page, const struct ramet_wvisitor *visitor)
{
    for (unsigned i = 0; i < ramet_wpage_count(page); i++) {
        struct ramet_wrecord record = ramet_wpage_record(page, i);
        if (record.key_size != 17 || record.key[8] != RAMET_WTYPE_BLOCKS)
            continue;
        uint64_t ino = ramet_get_be64(record.key), first = ramet_get_be64(record.key + 9) * RAMET_WGROUP;
        for (size_t k = 0; k + 8 <= record.value_size; k += 8) {
            ramet_wref ref = ramet_get_le64(record.value + k);
            if (ref != RAMET_WREF_HOLE && !(ref & RAMET_WREF_STAGED))
                visitor->page(visitor->ctx, ino, first + k / 8, ref);
        }
    }
}

static int walk(struct ramet_store *store, ramet_chunk node, int level, const struct ramet_wvisitor *visitor,
                struct ramet_error *err)
{
    if (node == RAMET_CHUNK_ZERO || !visitor->node(visitor->ctx, node))
        return 0;
    _autofree_ uint8_t *page = malloc(RAMET_PAGE_SIZE);
    int r = page ? ramet_wpage_load(store, node, level, page, err)
                 : ramet_error_set(err, RAMET_NO_MEMORY, "no memory to walk a tree");
    if (r == 0 && page[5] == 0)
        ramet_wstored_leaf(page, visitor);
    for (unsigned i = 0; r == 0 && page[5] > 0 && i < ramet_wpage_count(page); i++)
        r = walk(store, ramet_get_le64(ramet_wpage_record(page, i).value), page[5] - 1, visitor, err);
    return r;
}

int ramet_wstored_walk(struct ramet_store *store, ramet_chunk node, const struct ramet_wvisitor *visitor,
                       struct ramet_error *err)
{
    return walk(store, node, -1, visitor, err);
}

/* --- records --- */

static int decode(const void *value, size_t size, struct ramet_wstored *ret, struct ramet_error *err)
{
    struct ramet_reader reader;
    uint16_t version;
    _autofree_ struct ramet_workspace *head = calloc(1, sizeof *head);
    int r = head ? 0 : ramet_error_set(err, RAMET_NO_MEMORY, "no memory to read workspaces");
    if (r == 0)
        r = ramet_record_open(value, size, RAMET_WRECORD_MAGIC, RAMET_WRECORD_VERSION, "the record of a workspace",
                              &reader, &version, err);
    if (r == 0)
        r = ramet_whead_decode(&reader, head, err);
    if (r < 0)
        return r;
    memcpy(ret->name, head->name, sizeof ret->name);
    memcpy(ret->id, head->id, sizeof ret->id);
    ret->is_state = head->is_state;
    ret->serial = head->serial;
    ret->root = ramet_reader_u64(&reader);
    bool has_base = ramet_reader_u8(&reader);
    ret->base = ramet_reader_u64(&reader);
    ret->base = has_base ? ret->base : RAMET_CHUNK_ZERO;
    return reader.failed ? ramet_error_set(err, RAMET_CORRUPT, "the record of workspace \"%s\" is damaged", ret->name)
                         : 0;
}

int ramet_wstored_each(struct ramet_store *store,
                       int (*each)(void *ctx, const struct ramet_wstored *stored, struct ramet_error *err), void *ctx,
                       struct ramet_error *err)
{
    struct ramet_kv_iter *iter = ramet_kv_iter_new(ramet_store_kv(store), RAMET_KV_WORKSPACES, NULL, 0);
    size_t key_size, size;
    const void *key, *value;
    int r = iter ? 0 : ramet_error_set(err, RAMET_NO_MEMORY, "no memory to read workspaces");
    while (r == 0 && ramet_kv_iter_next(iter, &key, &key_size, &value, &size)) {
        struct ramet_wstored stored;
        if (key_size != 8)
            continue; /* the set's own */
        r = decode(value, size, &stored, err);
        if (r == 0)
            r = each(ctx, &stored, err);
    }
    if (r == 0)
        r = ramet_kv_iter_status(iter, err);
    ramet_kv_iter_free(iter);
    return r;
}

/* --- paths --- */

static bool get_inode(struct ramet_wtree *tree, uint64_t ino, struct ramet_winode *ret)
{
    struct ramet_wkey key;
    struct ramet_wvalue value;
    ramet_wkey_inode(&key, ino);
    return ramet_wtree_get(tree, &key, &value, NULL) == 0 && ramet_winode_decode(&value, ino, ret, NULL) == 0;
}

/* The name in `dir` that leads to this inode, by the cookie. */
static bool get_name(struct ramet_wtree *tree, const struct ramet_winode *inode, uint64_t ino, char name[256])
{
    struct ramet_wkey key;
    struct ramet_wvalue value;
    uint64_t hash = inode->cookie >> RAMET_WNONCE_BITS;
    ramet_wkey_entry(&key, inode->parent, hash, NULL, 0);
    while (ramet_wtree_next(tree, &key, &value, NULL) == 0 && key.ino == inode->parent &&
           key.type == RAMET_WTYPE_ENTRY && ramet_wkey_hash(&key) == hash) {
        struct ramet_wname entry;
        size_t size;
        const char *text = ramet_wkey_entry_name(&key, &size);
        if (ramet_wname_decode(&value, inode->parent, &entry, NULL) == 0 && entry.ino == ino && size < 256) {
            memcpy(name, text, size);
            name[size] = '\0';
            return true;
        }
        if (key.sub_size == RAMET_WKEY_SUB_MAX)
            return false;
        key.sub[key.sub_size++] = 0;
    }
    return false;
}

bool ramet_wstored_path(struct ramet_store *store, ramet_chunk root, uint64_t ino, char *path, size_t size)
{
    struct ramet_wtree tree;
    _autofree_ struct ramet_winode *inode = malloc(sizeof *inode);
    size_t at = size - 1;
    bool ok = inode != NULL;
    ramet_wtree_init(&tree, store, root);
    path[at] = '\0';
    for (int depth = 0; ok && ino != RAMET_WORKSPACE_ROOT; depth++) {
        char name[256];
        ok = depth < path_depth && get_inode(&tree, ino, inode) && get_name(&tree, inode, ino, name);
        size_t length = ok ? strlen(name) : 0;
        ok = ok && length + 1 <= at;
        if (!ok)
            break;
        at -= length;
        memcpy(path + at, name, length);
        path[--at] = '/';
        ino = inode->parent;
    }
    ramet_wtree_drop(&tree);
    if (ok && at == size - 1)
        path[--at] = '/';
    memmove(path, path + at, size - at);
    return ok;
}
