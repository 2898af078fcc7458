/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packs: append-only files of frame records, "packs/00000001.pack" and on.
 *
 * A pack opens with a header of 64 bytes:
 *     0  8 bytes "RAMETPK\0"     8  u16 version, 1    10  u16 reserved, zero
 *    12  u32 incompatible flags, zero    16  16 bytes store id
 *    32  u32 pack number    36  u32 reserved    40  u64 XXH3-64 of bytes 0..39    48..63 zero
 * and records follow without gaps. Holes may be punched where records died.
 *
 * What was appended is durable after ramet_packs_sync. How far a pack is committed
 * is the store's to remember; ramet_packs_cut removes what lies beyond.
 *
 * Thread-safety: read may be called from any thread at any time; append, sync, cut,
 * punch and remove by one thread at a time (the store's commit lock).
 */
#ifndef RAMET_STORE_PACK_H
#define RAMET_STORE_PACK_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#define RAMET_STORE_ID_SIZE 16

struct ramet_packs;

struct ramet_place {
    uint32_t pack;
    uint32_t size; /* bytes of the record */
    uint64_t offset;
};

/* A pack that has reached `pack_bytes` is followed by the next. */
int ramet_packs_open(const char *dir, const uint8_t store_id[RAMET_STORE_ID_SIZE], uint64_t pack_bytes,
                     struct ramet_packs **ret, struct ramet_error *err);
void ramet_packs_close(struct ramet_packs *packs);
/* The store id that the first intact pack header in `dir` names; NOT_FOUND when there is none. */
int ramet_packs_find_id(const char *dir, uint8_t id[RAMET_STORE_ID_SIZE], struct ramet_error *err);
uint64_t ramet_packs_key(const struct ramet_packs *packs); /* of records: half of the store id */

/* Numbers of all pack files, ascending; owned by the caller. */
int ramet_packs_list(struct ramet_packs *packs, uint32_t **ret, size_t *ret_count, struct ramet_error *err);

/* Appends records one after the other and fills `places`. On failure nothing was appended. */
int ramet_packs_append(struct ramet_packs *packs, const struct iovec *records, size_t count, struct ramet_place *places,
                       struct ramet_error *err);
int ramet_packs_sync(struct ramet_packs *packs, struct ramet_error *err);

/* The pack written to last and the bytes appended to it so far; 0 when none was written to. */
uint32_t ramet_packs_current(const struct ramet_packs *packs, uint64_t *ret_size);
/* Starts a new pack with the next append. Numbers go up from `after`. */
void ramet_packs_rotate(struct ramet_packs *packs, uint32_t after);
/* Goes on appending to a pack of `size` bytes. */
int ramet_packs_continue(struct ramet_packs *packs, uint32_t pack, uint64_t size, struct ramet_error *err);

int ramet_packs_read(struct ramet_packs *packs, const struct ramet_place *place, void *buf, struct ramet_error *err);
/* Reads all of these, in flight together; each tells on its own whether it failed. */
struct ramet_pack_read {
    uint32_t pack;
    uint64_t offset;
    size_t size;
    uint8_t *buf;
    bool failed;
};
void ramet_packs_read_many(struct ramet_packs *packs, struct ramet_pack_read *reads, size_t count);
/* Bytes of a pack file, -NOT_FOUND when there is none. */
int ramet_packs_size(struct ramet_packs *packs, uint32_t pack, uint64_t *ret_size, struct ramet_error *err);
/* Reads any bytes of a pack, for walking it. */
int ramet_packs_read_raw(struct ramet_packs *packs, uint32_t pack, uint64_t offset, void *buf, size_t size,
                         struct ramet_error *err);
/* Checks a pack's header. */
int ramet_packs_check(struct ramet_packs *packs, uint32_t pack, struct ramet_error *err);

/* Writes a pack's header anew, durably. */
int ramet_packs_mend(struct ramet_packs *packs, uint32_t pack, struct ramet_error *err);
int ramet_packs_cut(struct ramet_packs *packs, uint32_t pack, uint64_t size, struct ramet_error *err);
/* Gives the place's space back to the file system; a file system that cannot is no error. */
void ramet_packs_punch(struct ramet_packs *packs, const struct ramet_place *place);
int ramet_packs_remove(struct ramet_packs *packs, uint32_t pack, struct ramet_error *err);

/* Space a pack really takes; 0 when there is no such pack. */
uint64_t ramet_packs_allocated(struct ramet_packs *packs, uint32_t pack);
uint64_t ramet_packs_disk_bytes(struct ramet_packs *packs, uint32_t *ret_count); /* blocks really used */

#define RAMET_PACK_HEADER 64
/* A pack still written to is left alone while it is smaller. */
#define RAMET_PACK_WORTH_COMPACTING (1 << 20)

#endif
