/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Nodes of record trees. A node is a page of 4 KiB, the same in memory and in the store:
 *
 *      0  u32 magic    "RMWN"
 *      4  u8  version  1
 *      5  u8  level    0: a leaf
 *      6  u16 count    of records
 *      8  u16 heap     where record bytes begin; they end with the page
 *     10  u16 garbage  bytes of the heap that no record uses; 0 in the store
 *     12  u32          zero
 *     16  u16 offsets[count], in key order; then free space; then the heap
 *
 * A record is u16 key size, u16 value size, key, value. A key is the inode number
 * (big-endian), the type and the sub-key, so keys compare as bytes. In an inner node a
 * value is the child's chunk number, and the key a lower bound of what is below; the
 * first one is empty.
 *
 * In memory a node also has a reference count: one for each parent and head that holds
 * it. What exactly one path of nodes with a single reference leads to belongs to one
 * head, which changes it in place; all other nodes are immutable but for a child that is
 * loaded into its place, and what a checkpoint does while nobody reads (checkpoint.c).
 */
#ifndef RAMET_WORKSPACE_NODE_H
#define RAMET_WORKSPACE_NODE_H

#include "tree.h"

#include <endian.h>
#include <stdatomic.h>
#include <stdbool.h>

enum {
    RAMET_WNODE_HEADER = 16,
    RAMET_WNODE_FANOUT = 256, /* most children */
    RAMET_WNODE_LEVELS = 16,  /* a tree of more is damaged */
    RAMET_WKEY_BYTES = 9 + RAMET_WKEY_SUB_MAX,
};

struct ramet_wnode {
    _Atomic uint32_t refs;
    uint32_t settled;  /* no record at or below it names a slot of this epoch or an earlier one */
    bool dirty;        /* it has no stored form; then all above it are dirty too */
    _Atomic bool used; /* since trimming looked last */
    uint8_t level;
    ramet_chunk chunk; /* its stored form; when dirty the one it replaces, or RAMET_CHUNK_ZERO */
    ramet_chunk fresh; /* the checkpoint's: what it was stored as in checkpoint `stored_in` */
    uint64_t stored_in;
    uint8_t page[RAMET_PAGE_SIZE];
    struct ramet_wnode *_Atomic children[]; /* of an inner node, FANOUT of them; NULL: not in memory */
};

/* A key as bytes. */
struct ramet_wbytes {
    uint16_t size;
    uint8_t bytes[RAMET_WKEY_BYTES];
};
void ramet_wbytes_set(struct ramet_wbytes *bytes, const struct ramet_wkey *key);
/* False when the bytes are no key. */
bool ramet_wbytes_get(const uint8_t *bytes, size_t size, struct ramet_wkey *ret);
int ramet_wbytes_compare(const uint8_t *a, size_t a_size, const uint8_t *b, size_t b_size);

struct ramet_wrecord {
    const uint8_t *key, *value;
    uint16_t key_size, value_size;
};

static inline uint16_t ramet_load16(const uint8_t *p) { return (uint16_t)(p[0] | p[1] << 8); }
static inline void ramet_store16(uint8_t *p, size_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}
static inline unsigned ramet_wpage_count(const uint8_t *page) { return ramet_load16(page + 6); }
static inline struct ramet_wrecord ramet_wpage_record(const uint8_t *page, unsigned index)
{
    const uint8_t *at = page + ramet_load16(page + RAMET_WNODE_HEADER + 2 * index);
    uint16_t key_size = ramet_load16(at), value_size = ramet_load16(at + 2);
    return (struct ramet_wrecord){at + 4, at + 4 + key_size, key_size, value_size};
}

/* --- pages --- */

void ramet_wpage_init(uint8_t *page, uint8_t level);
/* The first record whose key is not below `key`; *ret_equal tells whether it is that one. */
unsigned ramet_wpage_find(const uint8_t *page, const struct ramet_wbytes *key, bool *ret_equal);
/* The child below which `key` belongs. */
unsigned ramet_wpage_child(const uint8_t *page, const struct ramet_wbytes *key);
/* False when there is no room. */
bool ramet_wpage_insert(uint8_t *page, unsigned index, const uint8_t *key, size_t key_size, const void *value,
                        size_t value_size);
void ramet_wpage_remove(uint8_t *page, unsigned index);
/* Bytes that records take, the offsets among them. */
size_t ramet_wpage_used(const uint8_t *page);
/* The page with its records in order and no garbage: equal records give equal pages. */
void ramet_wpage_pack(const uint8_t *page, uint8_t *ret);
/* CORRUPT unless it is a page that was stored: shape, order, sizes. `level` is what it must be, -1: any. */
int ramet_wpage_check(const uint8_t *page, int level, struct ramet_error *err);

/* --- nodes --- */

struct ramet_wnode *ramet_wnode_new(uint8_t level); /* one reference; NULL when memory ran out */
/* A copy that is dirty and references the same children. */
void ramet_wnode_copy(struct ramet_wnode *to, struct ramet_wnode *from);
static inline struct ramet_wnode *ramet_wnode_ref(struct ramet_wnode *node)
{
    atomic_fetch_add_explicit(&node->refs, 1, memory_order_relaxed);
    return node;
}
void ramet_wnode_unref(struct ramet_wnode *node); /* NULL is a no-op */
uint64_t ramet_wnode_total(void);                 /* nodes in memory, of all sets */
static inline ramet_chunk ramet_wnode_child_chunk(const struct ramet_wnode *node, unsigned index)
{
    uint64_t chunk;
    __builtin_memcpy(&chunk, ramet_wpage_record(node->page, index).value, sizeof chunk);
    return le64toh(chunk);
}
void ramet_wnode_set_child_chunk(struct ramet_wnode *node, unsigned index, ramet_chunk chunk);

#endif
