/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The chunk store: pages in, chunk numbers out.
 *
 * Writing goes through an ingest, a session of one thread. What it puts can be read,
 * and is durable, after ramet_ingest_commit.
 * What no commit made reachable is garbage that ramet_store_gc collects; while an
 * ingest is open nothing it put or found is collected.
 *
 * Thread-safety: all ramet_store_* functions; an ingest belongs to one thread.
 */
#ifndef RAMET_STORE_STORE_H
#define RAMET_STORE_STORE_H

#include "base/error.h"
#include "chunk.h"
#include "kv.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ramet_store;
struct ramet_ingest;
struct ramet_gc;

struct ramet_store_options {
    size_t cache_bytes;   /* decompressed frames kept; 0: 64 MiB */
    unsigned frame_slots; /* pages a frame, 1..16; 0: 8 */
    int locality_percent; /* of an image's pages that may be stored twice so that it reads fast; 0: 2; negative: none */
    int level;            /* of compression: 0: LZ4, 1 to 19: zstd */
    uint64_t pack_bytes;  /* at which a pack is full; 0: 256 MiB */
    unsigned threads;     /* that large images are put and written with; 0: one a CPU */
};

/* Makes the store when the directory is empty or missing. BUSY when another process has it open. */
int ramet_store_open(const char *dir, const struct ramet_store_options *options, struct ramet_store **ret,
                     struct ramet_error *err);
void ramet_store_close(struct ramet_store *store);          /* no ingest may be open */
struct ramet_kv *ramet_store_kv(struct ramet_store *store); /* borrowed; for records of the layers above */
const char *ramet_store_dir(const struct ramet_store *store);
unsigned ramet_store_threads(const struct ramet_store *store);

/* Reads whole pages: `count` of them to `buf`. Every byte was verified when it came off the disk. */
int ramet_store_read(struct ramet_store *store, const ramet_chunk *chunks, size_t count, void *buf,
                     struct ramet_error *err);
/* Reads `size` bytes at `offset` within one page. */
int ramet_store_read_part(struct ramet_store *store, ramet_chunk chunk, size_t offset, void *buf, size_t size,
                          struct ramet_error *err);

int ramet_ingest_begin(struct ramet_store *store, struct ramet_ingest **ret, struct ramet_error *err);
/*
 * Stores `count` pages and fills chunks[]. Zero pages give RAMET_CHUNK_ZERO, known pages their number. `bases` (may be
 * NULL) holds for each page the chunk it replaces, or RAMET_CHUNK_ZERO: an equal page keeps that number, one that is
 * much like it is stored as the difference. The bases must be of an image that is in use.
 */
int ramet_ingest_put(struct ramet_ingest *ingest, enum ramet_chunk_kind kind, const void *pages, size_t count,
                     const ramet_chunk *bases, ramet_chunk *chunks, struct ramet_error *err);
/* Ends `from`: what it put will be committed with `into`, whose thread calls this. */
int ramet_ingest_join(struct ramet_ingest *into, struct ramet_ingest *from, struct ramet_error *err);
/* Makes all that was put durable, and `batch` (may be NULL) with it, atomically. */
int ramet_ingest_commit(struct ramet_ingest *ingest, struct ramet_kv_batch *batch, struct ramet_error *err);
/* A batch of the layers above alone: atomic, durable when it returns. */
int ramet_store_write(struct ramet_store *store, struct ramet_kv_batch *batch, struct ramet_error *err);
void ramet_ingest_end(struct ramet_ingest *ingest); /* NULL is a no-op */
/* Bytes of frames it added; closes the frames that are still open, so call it once, at the end. */
int ramet_ingest_stored_bytes(struct ramet_ingest *ingest, uint64_t *ret, struct ramet_error *err);

/* Marks a chunk live; true when it was not marked before (its children need marking then). */
bool ramet_gc_mark(struct ramet_gc *gc, ramet_chunk chunk);

struct ramet_gc_result {
    uint64_t live_chunks, dead_chunks, freed_bytes, trimmed_frames, moved_frames, packs_removed, duration_us;
};
/*
 * Frees what `mark` does not reach. `mark` must mark every chunk of every snapshot and
 * of every map that is in use; it runs beside readers and ingests.
 */
int ramet_store_gc(struct ramet_store *store, int (*mark)(void *ctx, struct ramet_gc *gc, struct ramet_error *err),
                   void *ctx, struct ramet_gc_result *ret, struct ramet_error *err);

struct ramet_recompress_options {
    int level;        /* zstd; 0: 15 */
    unsigned threads; /* 0: one */
    bool idle;        /* only with CPU time nobody else wants */
    /* Asked between batches; true ends early, which is no error. NULL: never. */
    bool (*stop)(void *ctx);
    void *ctx;
};
struct ramet_recompress_result {
    uint64_t frames, before_bytes, after_bytes, duration_us;
};
/*
 * Compresses every frame that was stored in haste anew, into packs of their own. Reads, ingests and forks go on; a
 * collection waits for a batch. What it did before it was stopped or killed stays done.
 */
int ramet_store_recompress(struct ramet_store *store, const struct ramet_recompress_options *options,
                           struct ramet_recompress_result *ret, struct ramet_error *err);

struct ramet_rebuild_result {
    uint64_t packs, frames, journal_records, damaged_bytes; /* damaged: bytes in packs that are no record */
};
/*
 * Makes the index of a store nobody has open anew from its packs; the old one is kept beside it. What was collected may
 * be back as garbage: collect afterwards.
 */
int ramet_store_rebuild(const char *dir, struct ramet_rebuild_result *ret, struct ramet_error *err);

struct ramet_scrub_state {
    uint64_t next_frame, end_frame; /* where it stands, of how many */
    uint64_t frames, chunks, bytes, problems;
    bool finished;
};
struct ramet_scrub_options {
    uint64_t bytes_per_second; /* read at most; 0: as fast as it goes */
    bool resume; /* go on where the last scrub with `resume` ended early, and remember where this one does */
    /* Called for each damaged record, with a line that names pack and offset; `frame` is 0 when it is no frame's. */
    void (*problem)(void *ctx, uint64_t frame, const char *line);
    bool (*progress)(void *ctx, const struct ramet_scrub_state *state); /* true ends early; may be NULL */
    void *ctx;
};
/* Reads every frame and verifies it, beside everything else. Damage is no error of the call. */
int ramet_store_scrub(struct ramet_store *store, const struct ramet_scrub_options *options,
                      struct ramet_scrub_state *ret, struct ramet_error *err);
/* Writes damaged pack headers and the journal anew: what a scrub or fsck cannot lose and so can mend. */
int ramet_store_repair(struct ramet_store *store, uint64_t *ret_headers, struct ramet_error *err);
/* Makes the next scrub with `resume` begin at the start. */
int ramet_store_scrub_restart(struct ramet_store *store, struct ramet_error *err);

struct ramet_store_stat {
    uint64_t chunks, frames, delta_frames, cold_frames, packs, pack_bytes, index_bytes; /* bytes on disk */
    uint64_t dedup_hits, dedup_misses, cache_hits, cache_misses;
};
int ramet_store_stat(struct ramet_store *store, struct ramet_store_stat *ret, struct ramet_error *err);
/* Of packs and index; no walk over what they hold, as for stat. */
void ramet_store_disk_bytes(struct ramet_store *store, uint64_t *ret_pack_bytes, uint64_t *ret_index_bytes);
/* Of caches: decompressed frames, and what the index keeps. */
void ramet_store_memory_bytes(struct ramet_store *store, uint64_t *ret_frame_bytes, uint64_t *ret_index_bytes);
void ramet_store_drop_caches(struct ramet_store *store); /* for cold measurements */

#endif
