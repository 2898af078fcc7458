/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the soak's sources share: the model, which lives in memory shared between the program and the workers it kills,
 * and the calls of each part.
 *
 * The model holds, for every page of every branch, snapshot and disk, the *version* that was written there; what a page
 * holds follows from (seed, page, version), so that 200 branches of 32 MiB are known in a few megabytes.
 *
 * There are two *worlds*, each a thread with branches, images and disks of its own in the same store: collections,
 * commits and recompression of one run beside everything the other does.
 */
#ifndef RAMET_TESTS_SOAK_H
#define RAMET_TESTS_SOAK_H

#include "memory_private.h"
#include "random.h"

#include <stdatomic.h>
#include <stdnoreturn.h>

enum { soak_worlds = 2, soak_images_max = 10, soak_kept_max = 12, soak_disks_max = 8 };
enum { soak_pages = 8192, soak_disk_pages = 1024 };
enum { soak_memory_bytes = soak_pages * RAMET_PAGE_SIZE, soak_disk_bytes = soak_disk_pages * RAMET_PAGE_SIZE };

/* Of what is in the store. A worker that is killed leaves what it was at `adding` or `removing`: there or not. */
enum soak_stage { soak_free, soak_adding, soak_there, soak_removing };

struct soak_kept {
    enum soak_stage stage;
    bool of_disk;
    char id[RAMET_CATALOG_ID_SIZE];
    uint64_t counter; /* the device state */
    uint32_t versions[soak_pages];
};

struct soak_disk {
    enum soak_stage stage;
    char name[RAMET_CATALOG_NAME_SIZE];
    char id[RAMET_CATALOG_ID_SIZE], parent[RAMET_CATALOG_ID_SIZE]; /* the parent may be gone */
    struct soak_disk *place;              /* its parent, while it is being promoted to its place; else NULL */
    char bases[2][RAMET_CATALOG_ID_SIZE]; /* it lies over one of them: before and after the step under way */
    uint32_t versions[soak_disk_pages];
    bool loose[soak_disk_pages]; /* written and not flushed: a kill may leave anything there */
};

struct soak_world {
    uint64_t random, names;
    uint32_t family; /* of versions, the newest */
    struct soak_kept kept[soak_kept_max];
    struct soak_disk disks[soak_disks_max];
};

enum { soak_step_count = 21 };

struct soak_model {
    uint64_t seed;
    const char *dir;
    unsigned branches;      /* live ones, of both worlds */
    bool tight;             /* sanitizers are off: memory is measured */
    atomic_bool stop, last; /* the session under way shall end cleanly; and no other begin */
    atomic_bool working;    /* it has begun to draw steps */
    struct soak_world worlds[soak_worlds];
    /* Figures for the report. */
    _Atomic uint64_t steps[soak_step_count], pages_written, pages_checked, sessions;
};

/* A branch or an image in the worker's own memory: gone with it. */
struct soak_branch {
    struct ramet_memory_branch *memory;
    uint32_t *now, *then; /* versions as they are; as of the last snapshot or rollback */
};
struct soak_image {
    struct ramet_memory_image *memory;
    uint64_t counter;
    uint32_t *versions;
};

/* One opening of the store by a worker; `world` is the one whose thread this is. */
struct soak {
    struct soak_model *model;
    struct soak_world *world;
    struct ramet_memory_store *store;
    struct soak_branch *branches;
    size_t branch_count;
    struct soak_image images[soak_images_max];
};

static inline uint64_t soak_below(struct soak *s, uint64_t limit) { return rng_below(&s->world->random, limit); }

/* Ends the process with what is wrong, and how to see it again. */
noreturn void soak_fail(const struct soak_model *model, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Fails with the error's text when `call`, which must use `&err`, is negative. */
#define soak_ok(model, call)                                                                                           \
    do {                                                                                                               \
        if ((call) < 0)                                                                                                \
            soak_fail(model, "%s: %s (%s)", #call, err.msg, err.hint);                                                 \
    } while (0)

/* --- soak_model.c --- */

void soak_page(const struct soak_model *model, uint64_t page, uint32_t version, uint8_t bytes[RAMET_PAGE_SIZE]);
/* What the page is written with next: zeros, something new, or nearly what it is. */
uint32_t soak_version(struct soak *s, uint32_t now);
void soak_check(struct soak *s, const char *what, uint64_t page, uint32_t version, const uint8_t *bytes);
/* An unused place for a snapshot, or NULL. */
struct soak_kept *soak_place(struct soak *s);
/* One that is in the store, drawn; or NULL. */
struct soak_kept *soak_draw_kept(struct soak *s, bool of_disk);
/* Whether a disk of the world lies over it. */
bool soak_is_base(const struct soak_world *world, const char *id);
/* Takes a snapshot out of the store. */
void soak_remove(struct soak *s, struct soak_kept *kept);

/* --- soak_memory.c --- */

/* Images, some of them loaded from the store and checked, and all branches. */
void soak_memory_begin(struct soak *s);
void soak_memory_check(struct soak *s); /* every page of every branch */
void soak_memory_end(struct soak *s);
/* Loads a snapshot and checks every page of it. */
void soak_memory_check_kept(struct soak *s, const struct soak_kept *kept);

void soak_write(struct soak *s);
void soak_snapshot(struct soak *s);
void soak_fork(struct soak *s);
void soak_roll_back(struct soak *s);
void soak_roll_back_last(struct soak *s);
void soak_promote(struct soak *s);
void soak_keep(struct soak *s);
void soak_load(struct soak *s);
void soak_drop(struct soak *s);
void soak_remove_memory(struct soak *s);

/* --- soak_disk.c --- */

/* Every disk of the world is there and holds what was flushed; what was not is written anew. */
void soak_disk_begin(struct soak *s);
/* After a kill in the middle of a promotion: whether it is done. */
void soak_disk_settle_promotion(struct soak *s, struct soak_disk *disk);
void soak_disk_check(struct soak *s);
void soak_disk_check_kept(struct soak *s, const struct soak_kept *kept);
void soak_disk_remove(struct soak *s, struct soak_disk *disk);

void soak_disk_write(struct soak *s);
void soak_disk_discard(struct soak *s);
void soak_disk_flush(struct soak *s);
void soak_disk_snapshot(struct soak *s);
void soak_disk_fork(struct soak *s);
void soak_disk_roll_back(struct soak *s);
void soak_disk_promote(struct soak *s);
void soak_disk_drop(struct soak *s);
void soak_disk_remove_kept(struct soak *s);

/* --- soak_worker.c --- */

/* Opens the store, works until told to stop, checks everything and closes. */
void soak_session(struct soak_model *model);
/* Takes everything out of the store, checking it on the way; fails when bytes or files are left. */
void soak_empty(struct soak_model *model);
const char *soak_step_name(size_t step);

/* --- soak_leaks.c --- */

struct soak_usage {
    size_t descriptors, mappings;
    uint64_t resident_bytes;
};
struct soak_usage soak_usage(void);
/* Bytes of files below a directory, and how many there are. */
uint64_t soak_files(const char *dir, size_t *ret_count);
/*
 * A control group (version 2 or 1) of the calling process's own with this much memory; false where none can be made.
 * Workers enter it; the caller takes it away and gets the most memory ever used in it, 0 when that is not known.
 */
bool soak_limit_make(uint64_t bytes);
void soak_limit_enter(void);
uint64_t soak_limit_remove(void);

#endif
