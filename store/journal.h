/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The journal: what the layers above keep in RocksDB (snapshots, tags, branches) goes
 * into the packs as well, so that a lost index can be rebuilt from the packs alone.
 *
 * A journal record is a record envelope (magic "RMJR", version 1) between the frames
 * of a pack. Payload: u32 flags, u64 the store's key (frame.h says why), then entries of u8 operation (0 put, 1
 * delete), u8 family, u32 key size, u32 value size, key, value. Applied in pack order, the last entry of a key counts.
 * A checkpoint is a run of records from one flagged BEGIN to one flagged END that holds everything current: what came
 * before it no longer counts, so packs that hold only older records may go.
 *
 * A journal entry is as durable as the pack's next sync: one that removes something may
 * be lost by a power cut while the index, which has it, survives.
 */
#ifndef RAMET_STORE_JOURNAL_H
#define RAMET_STORE_JOURNAL_H

#include "base/codec.h"
#include "kv.h"

enum ramet_journal_flag { RAMET_JOURNAL_BEGIN = 1, RAMET_JOURNAL_END = 2 };

/* Wraps entries gathered by a batch (ramet_kv_batch_journal) into a record; `record` must be empty. */
int ramet_journal_encode(const struct ramet_buf *entries, uint32_t flags, uint64_t key, struct ramet_buf *record,
                         struct ramet_error *err);
/* Whether these 24 bytes begin like a journal record, its checksum unseen. */
bool ramet_journal_begins(const void *header);
/* The flags of an intact record. */
uint32_t ramet_journal_flags(const void *record);
/* The size of the record at the start of `data`, or 0 when it is no intact journal record of the store. */
size_t ramet_journal_peek(const void *data, size_t size, uint64_t key);
/* Verifies a record and puts its entries into `batch`. */
int ramet_journal_apply(const void *record, size_t size, struct ramet_kv_batch *batch, struct ramet_error *err);

/* Appends an entry to a buffer of entries; value NULL is a delete. */
void ramet_journal_note(struct ramet_buf *entries, enum ramet_kv_family family, const void *key, size_t key_size,
                        const void *value, size_t value_size);

#endif
