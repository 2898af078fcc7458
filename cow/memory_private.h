/* SPDX-License-Identifier: Apache-2.0 */
/* What memory.c and memory_branch.c share. */
#ifndef RAMET_COW_MEMORY_PRIVATE_H
#define RAMET_COW_MEMORY_PRIVATE_H

#include "catalog.h"
#include "fault_server.h"
#include "ramet_memory.h"
#include "resident.h"

#include <pthread.h>

struct ramet_memory_store {
    struct ramet_store *store;
    struct ramet_catalog *catalog;
    int pagemap_fd;   /* /proc/self/pagemap */
    int userfault_fd; /* -1: writes are not tracked */
    pthread_mutex_t lock;
    struct ramet_memory_image *images; /* lock */
    struct ramet_fault_server *server; /* lock until it is there; then constant */
};

struct ramet_memory_image {
    unsigned refs; /* store lock */
    struct ramet_memory_store *store;
    struct ramet_memory_image *next, *previous; /* store lock */
    struct ramet_resident *resident;
    void *state; /* owned */
    size_t state_bytes;
    char id[RAMET_CATALOG_ID_SIZE];
    pthread_mutex_t commit_lock;     /* one commit or removal at a time */
    struct ramet_snapshot *snapshot; /* commit lock; NULL or removed: not durable */
};

/* Takes over `resident` and `state` in every case; `snapshot` may be NULL and is referenced. */
int ramet_memory_image_new(struct ramet_memory_store *store, struct ramet_resident *resident, void *state,
                           size_t state_bytes, struct ramet_snapshot *snapshot, struct ramet_memory_image **ret,
                           struct ramet_error *err);

#endif
