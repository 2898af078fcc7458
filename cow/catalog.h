/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The catalog: every snapshot, tag and branch of a store.
 *
 * A snapshot is visible from ramet_catalog_add on, first resident in memory, then
 * durable once ramet_catalog_commit returns. A snapshot that never became durable is
 * gone after a restart, with no trace.
 *
 * Objects are reference-counted; lookups return references of the caller's. Fields
 * without a note are constant after creation. Thread-safe.
 */
#ifndef RAMET_COW_CATALOG_H
#define RAMET_COW_CATALOG_H

#include "image.h"
#include "overlay.h"

#include <stdatomic.h>

#define RAMET_CATALOG_NAME_SIZE 64
#define RAMET_CATALOG_ID_SIZE 17 /* 16 hex digits and NUL */
#define RAMET_SNAPSHOT_IMAGES_MAX 16
#define RAMET_BRANCH_DISKS_MAX 4

struct ramet_catalog;

/* A named image of a snapshot: "memory", "disk0", "state", "kernel", "initrd". */
struct ramet_snapshot_image {
    char name[16];
    struct ramet_image *image; /* owned by the snapshot */
};

struct ramet_snapshot {
    _Atomic unsigned refs;
    uint64_t serial; /* never reused; inode numbers come from it */
    char id[RAMET_CATALOG_ID_SIZE];
    char parent[RAMET_CATALOG_ID_SIZE];  /* or "" */
    char sandbox[RAMET_CATALOG_ID_SIZE]; /* taken of, or "" */
    char sandbox_name[RAMET_CATALOG_NAME_SIZE];
    int64_t created_ms;
    uint64_t memory_bytes; /* of the machine, also where no memory image is held */
    uint32_t cpus;
    char *cmdline; /* owned; kernel command line of a boot, or NULL */
    uint64_t captured_pages;
    struct ramet_snapshot_image images[RAMET_SNAPSHOT_IMAGES_MAX];
    size_t image_count;
    _Atomic uint64_t stored_bytes; /* frames its commit added */
    _Atomic bool durable;
    _Atomic bool removed;
    struct ramet_catalog *catalog;
};

struct ramet_branch_name;

/* A branch: the disks and the record of one sandbox. */
struct ramet_branch {
    _Atomic unsigned refs;
    uint64_t serial;
    char id[RAMET_CATALOG_ID_SIZE];
    const char *_Atomic name; /* changed by a promotion; a text once read lives as long as the branch */
    int64_t created_ms;
    uint64_t memory_bytes;
    uint32_t cpus;
    struct ramet_overlay *disks[RAMET_BRANCH_DISKS_MAX]; /* owned; disk0 and on */
    size_t disk_count;
    bool recorded; /* record_lock; it has a record */
    /* Guarded by the catalog lock; read them with ramet_branch_parent and ramet_branch_bases. */
    struct ramet_branch_name *names;                   /* all it ever had, newest first; owned */
    char parent[RAMET_CATALOG_ID_SIZE];                /* branch it was forked from, or "" */
    char base[RAMET_CATALOG_ID_SIZE];                  /* snapshot its disks lie over */
    char last_snapshot[RAMET_CATALOG_ID_SIZE];         /* newest durable snapshot to restore it from */
    uint64_t first_generation[RAMET_BRANCH_DISKS_MAX]; /* of each disk over `base` */
    uint64_t rollback_serial; /* snapshots with lower serials were taken of it before it was rolled back */
    struct ramet_catalog *catalog;
};

int ramet_catalog_open(struct ramet_store *store, struct ramet_catalog **ret, struct ramet_error *err);
void ramet_catalog_close(struct ramet_catalog *catalog);
struct ramet_store *ramet_catalog_store(struct ramet_catalog *catalog);
struct ramet_image_set *ramet_catalog_images(struct ramet_catalog *catalog);

/* 0 or RAMET_INVALID: [a-z0-9][a-z0-9._-]*, at most 63 bytes, not like an id (16 hex digits). `what` is for the
 * message. */
int ramet_name_check(const char *name, const char *what, struct ramet_error *err);
void ramet_id_make(char id[RAMET_CATALOG_ID_SIZE]);
/* "disk0" and on: the name of a disk's image and of its file on the mount. */
#define RAMET_DISK_NAME_SIZE 16
void ramet_disk_name(char name[RAMET_DISK_NAME_SIZE], size_t index);

/* --- snapshots --- */

/* A snapshot with a fresh id and serial and no images, not visible yet; one reference. */
int ramet_snapshot_new(struct ramet_catalog *catalog, struct ramet_snapshot **ret, struct ramet_error *err);
/* Takes over `image` in every case. */
int ramet_snapshot_add_image(struct ramet_snapshot *snapshot, const char *name, struct ramet_image *image,
                             struct ramet_error *err);
struct ramet_image *ramet_snapshot_image(const struct ramet_snapshot *snapshot,
                                         const char *name); /* borrowed or NULL */
struct ramet_snapshot *ramet_snapshot_ref(struct ramet_snapshot *snapshot);
void ramet_snapshot_unref(struct ramet_snapshot *snapshot);
void ramet_snapshot_cleanup(struct ramet_snapshot **snapshot); /* for _cleanup_ */

/* Makes it visible; the catalog takes a reference of its own. `tag` may be NULL; it moves if it names another. */
int ramet_catalog_add(struct ramet_catalog *catalog, struct ramet_snapshot *snapshot, const char *tag,
                      struct ramet_error *err);
/* Puts its images into the store and its record with them, durably, then settles the images. */
int ramet_catalog_commit(struct ramet_catalog *catalog, struct ramet_snapshot *snapshot, struct ramet_error *err);
/* Removes the record and its tags durably; the object lives on while it is referenced. */
int ramet_catalog_remove(struct ramet_catalog *catalog, struct ramet_snapshot *snapshot, struct ramet_error *err);
/* By id or tag; a reference of the caller's. NOT_FOUND names the ref. */
int ramet_catalog_find(struct ramet_catalog *catalog, const char *ref, struct ramet_snapshot **ret,
                       struct ramet_error *err);
int ramet_catalog_snapshot_by_serial(struct ramet_catalog *catalog, uint64_t serial, struct ramet_snapshot **ret,
                                     struct ramet_error *err);
/* All, oldest first; each a reference of the caller's; the array is freed with ramet_snapshots_free. */
int ramet_catalog_snapshots(struct ramet_catalog *catalog, struct ramet_snapshot ***ret, size_t *ret_count,
                            struct ramet_error *err);
size_t ramet_catalog_snapshot_count(struct ramet_catalog *catalog);
void ramet_snapshots_free(struct ramet_snapshot **snapshots, size_t count);

/* Tags of a snapshot durable or not yet; a tag of one that is not is written with its commit. */
int ramet_catalog_tag(struct ramet_catalog *catalog, struct ramet_snapshot *snapshot, const char *tag,
                      struct ramet_error *err);
int ramet_catalog_untag(struct ramet_catalog *catalog, const char *tag, struct ramet_error *err);
struct ramet_tag {
    char name[RAMET_CATALOG_NAME_SIZE];
    char snapshot[RAMET_CATALOG_ID_SIZE];
};
/* All tags in name order; owned by the caller (free). */
int ramet_catalog_tags(struct ramet_catalog *catalog, struct ramet_tag **ret, size_t *ret_count,
                       struct ramet_error *err);

/* --- branches --- */

struct ramet_branch_request {
    const char *name;          /* free and valid, or EXISTS / INVALID */
    const char *parent;        /* or NULL */
    const char *last_snapshot; /* to restore from while `base` is not durable; NULL: none */
    uint64_t memory_bytes;
    uint32_t cpus;
};
/* A durable record and empty overlays over the snapshot's disks; one reference of the caller's. */
int ramet_catalog_branch_new(struct ramet_catalog *catalog, const struct ramet_branch_request *request,
                             struct ramet_snapshot *base, struct ramet_branch **ret, struct ramet_error *err);
/*
 * The same in two steps, for many at once: until the second has succeeded with it, a branch is listed and has overlays,
 * but a crash leaves nothing of it, so nobody may write to it. `branches_record` is one batch; a branch that was
 * removed meanwhile gets no record. One that will have none is removed by the caller.
 */
int ramet_catalog_branch_begin(struct ramet_catalog *catalog, const struct ramet_branch_request *request,
                               struct ramet_snapshot *base, struct ramet_branch **ret, struct ramet_error *err);
int ramet_catalog_branches_record(struct ramet_catalog *catalog, struct ramet_branch *const *branches, size_t count,
                                  struct ramet_error *err);
/* By id or name. A branch whose base did not survive a crash has no disks. */
int ramet_catalog_branch_find(struct ramet_catalog *catalog, const char *ref, struct ramet_branch **ret,
                              struct ramet_error *err);
int ramet_catalog_branch_by_serial(struct ramet_catalog *catalog, uint64_t serial, struct ramet_branch **ret,
                                   struct ramet_error *err);
int ramet_catalog_branches(struct ramet_catalog *catalog, struct ramet_branch ***ret, size_t *ret_count,
                           struct ramet_error *err); /* oldest first; ramet_branches_free */
/* Those that lie over the snapshot, in no order. */
int ramet_catalog_branches_over(struct ramet_catalog *catalog, const char *snapshot_id, struct ramet_branch ***ret,
                                size_t *ret_count, struct ramet_error *err);
void ramet_branches_free(struct ramet_branch **branches, size_t count);
/*
 * `snapshot`, now durable, holds the branch's disks as frozen when `generations` (one a disk)
 * began: the branch lies over it from here on and older overlay files go. With NULL only
 * last_snapshot changes.
 */
int ramet_catalog_branch_update(struct ramet_catalog *catalog, struct ramet_branch *branch,
                                struct ramet_snapshot *snapshot, const uint64_t *generations, struct ramet_error *err);
/*
 * Gives the branch new, empty overlays over the disks of `snapshot`, durably: a crash leaves it as it was or rolled
 * back, as does a failure. What was written to its disks since goes. Snapshots of it that are not durable yet no longer
 * move it. The snapshot is durable and has as many disks, of the same sizes, or CONFLICT. One at a time for each
 * branch.
 */
int ramet_catalog_branch_rollback(struct ramet_catalog *catalog, struct ramet_branch *branch,
                                  struct ramet_snapshot *snapshot, struct ramet_error *err);
/* Whether a snapshot that was taken of the branch is of a life that it was rolled back from. */
bool ramet_branch_left(struct ramet_branch *branch, const struct ramet_snapshot *snapshot);
/*
 * The branch takes the name and the parent of the one it was forked from, which goes; the others forked from that one
 * count as forked from this one. Durable at once; a crash, like a failure, leaves all as it was or all as it is then.
 * CONFLICT when it has no parent or that is gone, or when its base is not durable. *ret_parent, a reference of the
 * caller's, is the one that went: its disks can be used until it is let go, its files stay until
 * ramet_branch_files_remove.
 */
int ramet_catalog_branch_promote(struct ramet_catalog *catalog, struct ramet_branch *branch,
                                 struct ramet_branch **ret_parent, struct ramet_error *err);
/* Of a branch that is no longer on record. What a crash leaves of them the next opening removes. */
int ramet_branch_files_remove(struct ramet_branch *branch, struct ramet_error *err);
/* A copy of the id of the branch it was forked from, or "". */
void ramet_branch_parent(struct ramet_branch *branch, char parent[RAMET_CATALOG_ID_SIZE]);
/* Copies of `base` and `last_snapshot`; either may be NULL. */
void ramet_branch_bases(struct ramet_branch *branch, char base[RAMET_CATALOG_ID_SIZE],
                        char last_snapshot[RAMET_CATALOG_ID_SIZE]);
/* Forgets the branch and removes its files. */
int ramet_catalog_branch_remove(struct ramet_catalog *catalog, struct ramet_branch *branch, struct ramet_error *err);
void ramet_branch_unref(struct ramet_branch *branch);
void ramet_branch_cleanup(struct ramet_branch **branch);

/* --- the whole --- */

int ramet_catalog_gc(struct ramet_catalog *catalog, struct ramet_gc_result *ret, struct ramet_error *err);
struct ramet_fsck_result {
    uint64_t snapshots, frames, chunks, problems;
    /* A line a problem: what is damaged, where, which snapshots need it, what can be done. Owned. Beyond 1000 damaged
     * frames the rest are one line. */
    char *report;
};
int ramet_catalog_fsck(struct ramet_catalog *catalog, struct ramet_fsck_result *ret, struct ramet_error *err);
/*
 * A scrub that names what is hit as fsck does, in *ret_report (owned), once it has come to its end. In `options`
 * `problem` may be NULL; `progress` gets a NULL state while snapshots are walked.
 */
int ramet_catalog_scrub(struct ramet_catalog *catalog, const struct ramet_scrub_options *options,
                        struct ramet_scrub_state *ret, char **ret_report, struct ramet_error *err);
/*
 * For a rebuilt index, before the catalog is opened, which removes them: moves the directories below branches/ that no
 * record names to lost+branches/. *ret_count is how many.
 */
int ramet_branches_set_aside(struct ramet_store *store, uint64_t *ret_count, struct ramet_error *err);

#endif
