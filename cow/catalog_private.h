/* SPDX-License-Identifier: Apache-2.0 */
/* What the catalog's sources share. One lock, never held across I/O. */
#ifndef RAMET_COW_CATALOG_PRIVATE_H
#define RAMET_COW_CATALOG_PRIVATE_H

#include "catalog.h"
#include "members.h"

#include <pthread.h>

struct ramet_catalog {
    struct ramet_store *store;
    struct ramet_image_set *images;
    char *branch_dir; /* owned; STORE/branches */
    _Atomic uint64_t next_serial;
    pthread_mutex_t record_lock; /* taken before lock: orders the writes of branch records and working sets, so none
                                    outlives its owner */
    pthread_mutex_t lock;        /* guards all below */
    struct ramet_members snapshots, branches; /* each object holds a reference */
    struct ramet_branch **branch_names;       /* the branches in name order; owned */
    struct ramet_tag *tags;                   /* in name order; owned */
    size_t tag_count;
    pthread_mutex_t workspaces_lock;     /* held while they are marked; guards the next one */
    struct ramet_workspaces *workspaces; /* the open set, or NULL */
};

/* catalog.c */
/* Records in `batch` which serials were given out, so that none is given out again after a restart. */
void ramet_serials_put(struct ramet_catalog *catalog, struct ramet_kv_batch *batch);

/* Takes the key of a record as an id, which becomes part of paths; -CORRUPT when it is none. `what` is for the message.
 */
int ramet_id_load(char id[RAMET_CATALOG_ID_SIZE], const void *key, size_t size, const char *what,
                  struct ramet_error *err);

/* snapshot.c */
int ramet_snapshots_load(struct ramet_catalog *catalog, struct ramet_error *err);
/* Puts the tag records of a snapshot into a batch. Takes the lock. */
void ramet_tags_put(struct ramet_catalog *catalog, const char *snapshot_id, struct ramet_kv_batch *batch);

/* working_set.c */
#define RAMET_WORKING_SET_KEY_SIZE (12 + RAMET_CATALOG_ID_SIZE)
/* The record's key; returns its length. */
size_t ramet_working_set_key(const char *id, char key[RAMET_WORKING_SET_KEY_SIZE]);

/* branch.c */
int ramet_branches_load(struct ramet_catalog *catalog, struct ramet_error *err);
/* A copy of the name that lives as long as the branch. Under the lock, or before the branch is listed. */
int ramet_branch_name_keep(struct ramet_branch *branch, const char *name, const char **ret, struct ramet_error *err);
/* Its place in the list of names. Under the lock. */
size_t ramet_branch_name_index(const struct ramet_catalog *catalog, const struct ramet_branch *branch);
/* Puts the record into `batch`, with another name and parent where they are not NULL. Under record_lock. */
int ramet_branch_record_put(struct ramet_branch *branch, const char *name, const char *parent,
                            struct ramet_kv_batch *batch, struct ramet_error *err);
/* Under record_lock, not under lock: writes the record, unless the branch was removed meanwhile, and says so in
 * *ret_gone (may be NULL): then it has none and must get none. */
int ramet_branch_write(struct ramet_branch *branch, bool *ret_gone, struct ramet_error *err);

/* tag.c */
int ramet_tags_load(struct ramet_catalog *catalog, struct ramet_error *err);
/* Sets or moves a tag in memory. Under the lock. */
int ramet_tag_set(struct ramet_catalog *catalog, const char *name, const char *snapshot_id, struct ramet_error *err);
/* Drops all tags of a snapshot from memory, and from disk in `batch` (NULL: not there). Under the lock. */
void ramet_tags_drop(struct ramet_catalog *catalog, const char *snapshot_id, struct ramet_kv_batch *batch);
/* The tagged id, copied; false when there is no such tag. Under the lock. */
bool ramet_tag_resolve(struct ramet_catalog *catalog, const char *name, char id[RAMET_CATALOG_ID_SIZE]);

#endif
