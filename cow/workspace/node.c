/* SPDX-License-Identifier: Apache-2.0 */
#include "node.h"

#include "base/codec.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

static const uint32_t magic = 0x4e574d52; /* "RMWN" */
enum { version = 1 };

static _Atomic uint64_t total;

/* --- keys --- */

void ramet_wbytes_set(struct ramet_wbytes *bytes, const struct ramet_wkey *key)
{
    ramet_put_be64(bytes->bytes, key->ino);
    bytes->bytes[8] = key->type;
    memcpy(bytes->bytes + 9, key->sub, key->sub_size);
    bytes->size = (uint16_t)(9 + key->sub_size);
}

bool ramet_wbytes_get(const uint8_t *bytes, size_t size, struct ramet_wkey *ret)
{
    if (size < 9 || size > RAMET_WKEY_BYTES)
        return false;
    ret->ino = ramet_get_be64(bytes);
    ret->type = bytes[8];
    ret->sub_size = (uint16_t)(size - 9);
    memcpy(ret->sub, bytes + 9, size - 9);
    return true;
}

int ramet_wbytes_compare(const uint8_t *a, size_t a_size, const uint8_t *b, size_t b_size)
{
    /* Most keys differ in the inode number or the eight bytes after it. */
    if (a_size >= 8 && b_size >= 8) {
        uint64_t x, y;
        memcpy(&x, a, 8);
        memcpy(&y, b, 8);
        if (x != y)
            return be64toh(x) < be64toh(y) ? -1 : 1;
    }
    int r = memcmp(a, b, a_size < b_size ? a_size : b_size);
    return r ? r : (a_size > b_size) - (a_size < b_size);
}

/* --- pages --- */

static size_t heap_of(const uint8_t *page) { return ramet_load16(page + 8); }

void ramet_wpage_init(uint8_t *page, uint8_t level)
{
    memset(page, 0, RAMET_PAGE_SIZE);
    ramet_put_le32(page, magic);
    page[4] = version;
    page[5] = level;
    ramet_store16(page + 8, RAMET_PAGE_SIZE);
}

unsigned ramet_wpage_find(const uint8_t *page, const struct ramet_wbytes *key, bool *ret_equal)
{
    unsigned low = 0, high = ramet_wpage_count(page);
    *ret_equal = false;
    while (low < high) {
        unsigned middle = (low + high) / 2;
        struct ramet_wrecord record = ramet_wpage_record(page, middle);
        int order = ramet_wbytes_compare(record.key, record.key_size, key->bytes, key->size);
        if (order == 0) {
            *ret_equal = true;
            return middle;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

unsigned ramet_wpage_child(const uint8_t *page, const struct ramet_wbytes *key)
{
    bool equal;
    unsigned at = ramet_wpage_find(page, key, &equal);
    return equal || at == 0 ? at : at - 1;
}

size_t ramet_wpage_used(const uint8_t *page)
{
    return RAMET_PAGE_SIZE - heap_of(page) - ramet_load16(page + 10) + 2 * ramet_wpage_count(page);
}

void ramet_wpage_pack(const uint8_t *page, uint8_t *ret)
{
    unsigned count = ramet_wpage_count(page);
    size_t heap = RAMET_PAGE_SIZE;
    ramet_wpage_init(ret, page[5]);
    for (unsigned i = 0; i < count; i++) {
        struct ramet_wrecord record = ramet_wpage_record(page, i);
        size_t size = 4u + record.key_size + record.value_size;
        heap -= size;
        memcpy(ret + heap, record.key - 4, size);
        ramet_store16(ret + RAMET_WNODE_HEADER + 2 * i, heap);
    }
    ramet_store16(ret + 6, count);
    ramet_store16(ret + 8, heap);
}

bool ramet_wpage_insert(uint8_t *page, unsigned index, const uint8_t *key, size_t key_size, const void *value,
                        size_t value_size)
{
    unsigned count = ramet_wpage_count(page);
    size_t size = 4 + key_size + value_size, heap = heap_of(page), garbage = ramet_load16(page + 10);
    size_t offsets = RAMET_WNODE_HEADER + 2 * (size_t)(count + 1);
    if (offsets + size > heap) {
        if (offsets + size > heap + garbage)
            return false;
        uint8_t packed[RAMET_PAGE_SIZE];
        ramet_wpage_pack(page, packed);
        memcpy(page, packed, sizeof packed);
        heap = heap_of(page);
    }
    heap -= size;
    ramet_store16(page + heap, key_size);
    ramet_store16(page + heap + 2, value_size);
    memcpy(page + heap + 4, key, key_size);
    if (value_size)
        memcpy(page + heap + 4 + key_size, value, value_size);
    uint8_t *slot = page + RAMET_WNODE_HEADER + 2 * index;
    memmove(slot + 2, slot, 2 * (size_t)(count - index));
    ramet_store16(slot, heap);
    ramet_store16(page + 6, count + 1);
    ramet_store16(page + 8, heap);
    return true;
}

void ramet_wpage_remove(uint8_t *page, unsigned index)
{
    unsigned count = ramet_wpage_count(page);
    uint8_t *slot = page + RAMET_WNODE_HEADER + 2 * index;
    size_t offset = ramet_load16(slot), size = 4u + ramet_load16(page + offset) + ramet_load16(page + offset + 2);
    if (offset == heap_of(page))
        ramet_store16(page + 8, offset + size);
    else
        ramet_store16(page + 10, ramet_load16(page + 10) + size);
    memmove(slot, slot + 2, 2 * (size_t)(count - index - 1));
    ramet_store16(page + 6, count - 1);
}

static int bad(struct ramet_error *err, const char *what)
{
    return ramet_error_set(err, RAMET_CORRUPT, "a node of the tree is damaged: %s", what);
}

/* Records in order, each within the heap, together just the heap. */
static int check_records(const uint8_t *page, unsigned count, size_t heap, struct ramet_error *err)
{
    bool inner = page[5] > 0;
    size_t sum = 0;
    for (unsigned i = 0; i < count; i++) {
        size_t offset = ramet_load16(page + RAMET_WNODE_HEADER + 2 * i);
        if (offset < heap || offset + 4 > RAMET_PAGE_SIZE)
            return bad(err, "a record lies outside");
        struct ramet_wrecord record = ramet_wpage_record(page, i), before;
        size_t size = 4u + record.key_size + record.value_size;
        if (offset + size > RAMET_PAGE_SIZE)
            return bad(err, "a record ends outside");
        if (inner ? record.value_size != 8 || (record.key_size == 0) != (i == 0)
                  : record.key_size < 9 || record.value_size > RAMET_WVALUE_MAX)
            return bad(err, "a record has a wrong size");
        if (record.key_size > RAMET_WKEY_BYTES)
            return bad(err, "a key is too long");
        before = i ? ramet_wpage_record(page, i - 1) : record;
        if (i && ramet_wbytes_compare(before.key, before.key_size, record.key, record.key_size) >= 0)
            return bad(err, "its records are out of order");
        sum += size;
    }
    return sum == RAMET_PAGE_SIZE - heap ? 0 : bad(err, "its records overlap");
}

int ramet_wpage_check(const uint8_t *page, int level, struct ramet_error *err)
{
    unsigned count = ramet_wpage_count(page);
    size_t heap = ramet_load16(page + 8);
    if (ramet_get_le32(page) != magic)
        return bad(err, "it does not begin like one");
    if (page[4] != version)
        return ramet_error_set(err, RAMET_UNSUPPORTED, "a node of the tree has version %u, not %d", page[4], version);
    if (page[5] >= RAMET_WNODE_LEVELS || (level >= 0 && page[5] != level))
        return bad(err, "its level is wrong");
    if (ramet_load16(page + 10) || ramet_get_le32(page + 12))
        return bad(err, "reserved bytes are set");
    if (heap > RAMET_PAGE_SIZE || RAMET_WNODE_HEADER + 2 * (size_t)count > heap)
        return bad(err, "it holds more records than fit");
    if (page[5] > 0 && (count == 0 || count > RAMET_WNODE_FANOUT))
        return bad(err, "its count of children is wrong");
    return check_records(page, count, heap, err);
}

/* --- nodes --- */

static size_t size_of(uint8_t level)
{
    return sizeof(struct ramet_wnode) + (level ? RAMET_WNODE_FANOUT * sizeof(struct ramet_wnode *) : 0);
}

struct ramet_wnode *ramet_wnode_new(uint8_t level)
{
    struct ramet_wnode *node = malloc(size_of(level));
    if (!node)
        return NULL;
    memset(node, 0, offsetof(struct ramet_wnode, page));
    if (level)
        memset((void *)node->children, 0, RAMET_WNODE_FANOUT * sizeof(struct ramet_wnode *));
    atomic_init(&node->refs, 1);
    node->level = level;
    node->dirty = true;
    ramet_wpage_init(node->page, level);
    atomic_fetch_add_explicit(&total, 1, memory_order_relaxed);
    return node;
}

void ramet_wnode_copy(struct ramet_wnode *to, struct ramet_wnode *from)
{
    to->settled = from->settled;
    to->chunk = from->chunk;
    memcpy(to->page, from->page, sizeof to->page);
    unsigned count = from->level ? ramet_wpage_count(from->page) : 0;
    for (unsigned i = 0; i < count; i++) {
        struct ramet_wnode *child = atomic_load_explicit(&from->children[i], memory_order_acquire);
        atomic_store_explicit(&to->children[i], child ? ramet_wnode_ref(child) : NULL, memory_order_relaxed);
    }
}

void ramet_wnode_unref(struct ramet_wnode *node)
{
    if (!node || atomic_fetch_sub_explicit(&node->refs, 1, memory_order_acq_rel) != 1)
        return;
    unsigned count = node->level ? ramet_wpage_count(node->page) : 0;
    for (unsigned i = 0; i < count; i++)
        ramet_wnode_unref(atomic_load_explicit(&node->children[i], memory_order_relaxed));
    atomic_fetch_sub_explicit(&total, 1, memory_order_relaxed);
    free(node);
}

uint64_t ramet_wnode_total(void) { return atomic_load_explicit(&total, memory_order_relaxed); }

void ramet_wnode_set_child_chunk(struct ramet_wnode *node, unsigned index, ramet_chunk chunk)
{
    struct ramet_wrecord record = ramet_wpage_record(node->page, index);
    ramet_put_le64((uint8_t *)record.value, chunk);
}
