/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which pages of a file are read first, and in which order, while somebody wants to know.
 * Private to fuse/. Thread-safe; one lock, taken for moments, and by nobody while nothing
 * is recorded.
 */
#ifndef RAMET_FUSE_RECORDINGS_H
#define RAMET_FUSE_RECORDINGS_H

#include "working_set.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

struct ramet_recordings {
    pthread_mutex_t lock;    /* guards the list and what is in it */
    _Atomic unsigned active; /* recordings in the list */
    struct recording *first;
};

void ramet_recordings_init(struct ramet_recordings *recordings);
void ramet_recordings_free(struct ramet_recordings *recordings);
/* BUSY when the file is being recorded. */
int ramet_recordings_begin(struct ramet_recordings *recordings, uint64_t ino, uint64_t page_count,
                           struct ramet_error *err);
/* Gives what was read; what its bounds had no room for is left out. NOT_FOUND when nothing was begun. */
int ramet_recordings_end(struct ramet_recordings *recordings, uint64_t ino, struct ramet_working_set *ret,
                         struct ramet_error *err);
/* A range of a file is being read. */
void ramet_recordings_note(struct ramet_recordings *recordings, uint64_t ino, uint64_t offset, size_t size);

#endif
