/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The journal of an epoch: records of changes, in the order in which they were made.
 *
 *      0  u32 magic     "RMWJ"
 *      4  u32 size      of the whole record
 *      8  u64 sequence  one more than the record before, also across epochs
 *     16  u64 checksum  of bytes 0..15 and what follows
 *     24  items: u8 kind, then
 *           1 tree    u64 serial: the tree that what follows changes
 *           2 put     u16 key size, u16 value size, key, value
 *           3 delete  u16 key size, key
 *           4 head    u64 serial of the head whose tree it begins with (0: none, its own: it stays), u32 size, head
 * record 5 drop    u64 serial
 *
 * A record is one change: it counts whole or not at all.
 */
#ifndef RAMET_WORKSPACE_JOURNAL_H
#define RAMET_WORKSPACE_JOURNAL_H

#include "base/error.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { RAMET_WJOURNAL_HEADER = 24, RAMET_WJOURNAL_RECORD_MAX = 256 << 20 };
enum ramet_witem { RAMET_WITEM_TREE = 1, RAMET_WITEM_PUT, RAMET_WITEM_DELETE, RAMET_WITEM_HEAD, RAMET_WITEM_DROP };

struct ramet_workspaces;

/* A record being made, then waiting to be written. */
struct ramet_wjrecord {
    struct ramet_wjrecord *next;
    uint64_t sequence;
    size_t size, capacity; /* of bytes[] */
    uint8_t bytes[];
};

/* Room for `size` more bytes; *record may be NULL at first, and moves. False when memory ran out. */
bool ramet_wjrecord_grow(struct ramet_wjrecord **record, size_t size);
void ramet_wjrecord_put(struct ramet_wjrecord *record, const void *bytes, size_t size); /* there is room */
void ramet_wjrecord_put_u8(struct ramet_wjrecord *record, uint8_t v);
void ramet_wjrecord_put_u16(struct ramet_wjrecord *record, size_t v);
void ramet_wjrecord_put_u32(struct ramet_wjrecord *record, uint32_t v);
void ramet_wjrecord_put_u64(struct ramet_wjrecord *record, uint64_t v);

/* Part of an epoch: what waits, and how far the file is written. */
struct ramet_wjournal {
    struct ramet_wjrecord *first, *last; /* queue lock */
    uint64_t end, zeroed;                /* commit lock: bytes written, bytes the file has */
};

#endif
