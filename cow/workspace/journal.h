/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The journal of an epoch: records of changes, in the order in which they were made.
 *
 *      0  u32 magic     "RMWJ"
 *      4  u32 size      of the whole record
 *      8  u64 sequence  one more than the record before, also across epochs
 *     16  u64 durable   every record up to this sequence was durable when this one was written
 *     24  u64 checksum  of bytes 0..23 and what follows
 *     32  items: u8 kind, then
 *           1 tree    u64 serial: the tree that what follows changes
 *           2 put     u16 key size, u16 value size, key, value
 *           3 delete  u16 key size, key
 *           4 head    u64 serial of the head whose tree it takes (0: none, its own: all it has stays),
 *                     u64 serial of the head whose base it takes (0: what it takes is its base), u32 size, head record
 *           5 drop    u64 serial
 *           6 begin   u32 epoch: the first record of its journal
 *
 * A record is one change: it counts whole or not at all. What follows the last record is
 * zeros, or torn.
 *
 * A group commit syncs the staged pages, then writes what was queued, then syncs the
 * journal. A write that fails leaves everything queued; after a sync that failed nothing
 * is taken any more until the workspaces are opened again. The file is filled with zeros
 * ahead of its end, so that a sync finds no metadata to write.
 */
#ifndef RAMET_WORKSPACE_JOURNAL_H
#define RAMET_WORKSPACE_JOURNAL_H

#include "base/error.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { RAMET_WJOURNAL_HEADER = 32, RAMET_WJOURNAL_RECORD_MAX = 256 << 20 };
enum ramet_witem {
    RAMET_WITEM_TREE = 1,
    RAMET_WITEM_PUT,
    RAMET_WITEM_DELETE,
    RAMET_WITEM_HEAD,
    RAMET_WITEM_DROP,
    RAMET_WITEM_BEGIN
};

struct ramet_wepoch;
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
    _Atomic uint64_t end;                /* commit lock to change: where the next record goes */
    uint64_t zeroed;                     /* commit lock: how far the file is filled */
};

/* The state of group commit, part of the set. */
struct ramet_wcommit {
    pthread_mutex_t lock;     /* one commit at a time */
    _Atomic uint64_t durable; /* sequence up to which all is durable */
    _Atomic bool failed;
    struct ramet_error failure; /* constant once failed */

    pthread_mutex_t queue; /* guards the next ones and what waits in the epochs' journals */
    pthread_cond_t wake;
    uint64_t sequence; /* of the newest record */
    bool idle, stop;   /* the thread waits for work; is to end */
    _Atomic uint64_t queued_bytes;
    pthread_t thread;
    bool started;
};

/* Fills in what is known when it is written. */
void ramet_wjrecord_seal(struct ramet_wjrecord *record, uint64_t durable);
/* The size of the intact record at the start of `data`, or 0; its sequence and durable. */
size_t ramet_wjrecord_check(const uint8_t *data, size_t size, uint64_t *ret_sequence, uint64_t *ret_durable);

/* Hands a record over, in order; it becomes durable with the next group commit. */
void ramet_wset_queue(struct ramet_workspaces *set, struct ramet_wjrecord *record);
/* All up to `sequence` is durable when it returns. No lock is held. */
int ramet_wset_commit(struct ramet_workspaces *set, uint64_t sequence, struct ramet_error *err);
uint64_t ramet_wset_sequence(struct ramet_workspaces *set); /* of the newest record */
/* What ended writing, or 0. */
int ramet_wset_writable(struct ramet_workspaces *set, struct ramet_error *err);
/* The thread that commits within a second. */
int ramet_wset_commit_start(struct ramet_workspaces *set, struct ramet_error *err);
void ramet_wset_commit_stop(struct ramet_workspaces *set);
/* Makes `epoch` the one that is written to; its journal begins. The gate is held for writing, or nobody knows the set.
 */
int ramet_wset_begin_epoch(struct ramet_workspaces *set, struct ramet_wepoch *epoch, struct ramet_error *err);

/* The checkpoint that holds all changes of these epochs is durable: what is queued for them goes. commit.lock is held.
 */
void ramet_wset_settled(struct ramet_workspaces *set, struct ramet_wepoch *epoch);

#endif
