/* SPDX-License-Identifier: Apache-2.0 */
/* Between the calls taken over (faults_calls.c) and what decides about them (faults.c). */
#ifndef RAMET_TESTS_FAULTS_PRIVATE_H
#define RAMET_TESTS_FAULTS_PRIVATE_H

#include "faults.h"

#include <sys/stat.h>

enum fault_verdict {
    VERDICT_PASS,
    VERDICT_FAIL, /* errno is set */
    VERDICT_HALF, /* do half and return its size */
    VERDICT_TEAR, /* do half and fail; errno is set */
};

/* A file or directory below the root, known by its identity: descriptors may be duplicated. */
struct fault_file {
    dev_t dev;
    ino_t ino;
    uint32_t number; /* 0: a directory */
    char *name;      /* below the root */
};

/* True, and the lock is taken, when anything is watched. */
bool faults_enter(void);
void faults_leave(void); /* keeps errno */

/* All below: between enter and leave. */

enum fault_verdict faults_judge(enum fault_class class);
/* What lies below the root of an absolute path; NULL when it is elsewhere. */
const char *faults_below(const char *path);
/* NULL when the descriptor is of no file below the root. */
struct fault_file *faults_by_fd(int fd);
/* The file that `fd` or, if that is -1, `path` names, which lies below the root; `created` when it was not there. */
struct fault_file *faults_meet(int fd, const char *path, bool created);
/* Forgets `path`, which is about to go, if it is its last name. */
void faults_forget(const char *path);
void faults_renamed(const char *path, const char *path2, bool exchanged);
/* Appends to the log, if there is one, and takes over `data`. */
void faults_note(enum fault_op_kind kind, const struct fault_file *file, uint64_t offset, uint64_t size, void *data);
void faults_note_paths(enum fault_op_kind kind, const char *path, const char *path2);

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *p, size_t size);
void *__real_reallocarray(void *p, size_t count, size_t size);

#endif
