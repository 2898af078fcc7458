/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plans, the log, and which files are watched. One lock guards all of it and is held
 * while a watched call is carried out; allocations are counted without it.
 *
 * Files are told apart by device and inode number, from the call that opened them on:
 * the few calls that make or remove names keep the table right when the file system
 * gives a number out again.
 */
#include "faults_private.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct {
    pthread_mutex_t lock; /* guards all below but the atomics */
    _Atomic bool watching;
    char root[256];
    size_t root_size;
    struct fault_file *files; /* by no order */
    size_t file_count, file_capacity;
    uint32_t last_number;
    struct fault_plan plan;
    bool armed, struck, dead;
    uint64_t seen; /* calls of the plan's class */
    struct fault_log *log;

    _Atomic bool alloc_armed, alloc_struck;
    _Atomic uint64_t alloc_seen;
} faults = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void out_of_memory(void)
{
    fputs("faults: no memory\n", stderr);
    abort();
}

void *faults_calloc(size_t count, size_t size)
{
    void *p = __real_calloc(count ? count : 1, size ? size : 1);
    if (!p)
        out_of_memory();
    return p;
}

static char *copy_string(const char *s)
{
    size_t size = strlen(s) + 1;
    return memcpy(faults_calloc(1, size), s, size);
}

/* --- plans --- */

void faults_begin(const char *root)
{
    faults.root_size = (size_t)snprintf(faults.root, sizeof faults.root, "%s", root);
    if (root[0] != '/' || faults.root_size >= sizeof faults.root) {
        fprintf(stderr, "faults: %s is no usable root\n", root);
        abort();
    }
    atomic_store(&faults.watching, true);
}

void faults_end(void)
{
    faults_disarm();
    atomic_store(&faults.watching, false);
    pthread_mutex_lock(&faults.lock);
    for (size_t i = 0; i < faults.file_count; i++)
        free(faults.files[i].name);
    faults.file_count = 0;
    faults.last_number = 0;
    faults.log = NULL;
    pthread_mutex_unlock(&faults.lock);
}

void faults_arm(const struct fault_plan *plan)
{
    pthread_mutex_lock(&faults.lock);
    faults.plan = *plan;
    faults.seen = 0;
    faults.struck = faults.dead = false;
    faults.armed = plan->class != FAULT_ALLOC;
    pthread_mutex_unlock(&faults.lock);
    atomic_store(&faults.alloc_seen, 0);
    atomic_store(&faults.alloc_struck, false);
    atomic_store(&faults.alloc_armed, plan->class == FAULT_ALLOC);
}

bool faults_disarm(void)
{
    pthread_mutex_lock(&faults.lock);
    bool struck = faults.struck || atomic_load(&faults.alloc_struck);
    faults.armed = faults.dead = faults.struck = false;
    pthread_mutex_unlock(&faults.lock);
    atomic_store(&faults.alloc_armed, false);
    return struck;
}

bool faults_enter(void)
{
    if (!atomic_load_explicit(&faults.watching, memory_order_relaxed))
        return false;
    pthread_mutex_lock(&faults.lock);
    return true;
}

void faults_leave(void)
{
    int saved = errno;
    pthread_mutex_unlock(&faults.lock);
    errno = saved;
}

static bool due(uint64_t seen) { return seen == faults.plan.nth || (faults.plan.onwards && seen > faults.plan.nth); }

enum fault_verdict faults_judge(enum fault_class class)
{
    if (faults.dead) {
        errno = EIO;
        return VERDICT_FAIL;
    }
    if (!faults.armed || faults.plan.class != class || !due(++faults.seen))
        return VERDICT_PASS;
    faults.struck = true;
    switch (faults.plan.effect) {
    case FAULT_SHORT: return VERDICT_HALF;
    case FAULT_TORN:
        faults.dead = true;
        errno = EIO;
        return VERDICT_TEAR;
    default: errno = faults.plan.os_errno; return VERDICT_FAIL;
    }
}

/* --- allocations --- */

static bool alloc_fails(void)
{
    if (!atomic_load_explicit(&faults.alloc_armed, memory_order_relaxed) ||
        !due(atomic_fetch_add(&faults.alloc_seen, 1) + 1))
        return false;
    atomic_store(&faults.alloc_struck, true);
    errno = ENOMEM;
    return true;
}

/* The linker sends the static libraries' calls here. */
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *p, size_t size);
void *__wrap_reallocarray(void *p, size_t count, size_t size);

void *__wrap_malloc(size_t size) { return alloc_fails() ? NULL : __real_malloc(size); }
void *__wrap_calloc(size_t count, size_t size) { return alloc_fails() ? NULL : __real_calloc(count, size); }
void *__wrap_realloc(void *p, size_t size) { return alloc_fails() ? NULL : __real_realloc(p, size); }
void *__wrap_reallocarray(void *p, size_t count, size_t size)
{
    return alloc_fails() ? NULL : __real_reallocarray(p, count, size);
}

/* --- which files --- */

const char *faults_below(const char *path)
{
    if (strncmp(path, faults.root, faults.root_size) != 0)
        return NULL;
    path += faults.root_size;
    if (*path != '/' && *path != '\0')
        return NULL;
    while (*path == '/')
        path++;
    return path;
}

static struct fault_file *find(const struct stat *st)
{
    for (size_t i = faults.file_count; i-- > 0;)
        if (faults.files[i].ino == st->st_ino && faults.files[i].dev == st->st_dev)
            return &faults.files[i];
    return NULL;
}

struct fault_file *faults_by_fd(int fd)
{
    struct stat st;
    int saved = errno;
    struct fault_file *file = faults.file_count && fstat(fd, &st) == 0 ? find(&st) : NULL;
    errno = saved;
    return file;
}

static void drop(struct fault_file *file)
{
    free(file->name);
    *file = faults.files[--faults.file_count];
}

struct fault_file *faults_meet(int fd, const char *path, bool created)
{
    struct stat st;
    if ((fd >= 0 ? fstat(fd, &st) : stat(path, &st)) < 0)
        return NULL;
    struct fault_file *file = find(&st);
    if (file && !created)
        return file;
    if (file) /* its number was given out again */
        drop(file);
    if (faults.file_count == faults.file_capacity) {
        faults.file_capacity = faults.file_capacity ? faults.file_capacity * 2 : 64;
        faults.files = __real_reallocarray(faults.files, faults.file_capacity, sizeof *faults.files);
        if (!faults.files)
            out_of_memory();
    }
    file = &faults.files[faults.file_count++];
    *file = (struct fault_file){.dev = st.st_dev, .ino = st.st_ino, .name = copy_string(faults_below(path))};
    if (!S_ISDIR(st.st_mode)) {
        file->number = ++faults.last_number;
        faults_note(created ? FAULT_OP_CREATE : FAULT_OP_FOUND, file, 0, 0, NULL);
    }
    return file;
}

void faults_forget(const char *path)
{
    struct stat st;
    struct fault_file *file = lstat(path, &st) == 0 ? find(&st) : NULL;
    if (file && (S_ISDIR(st.st_mode) || st.st_nlink == 1))
        drop(file);
}

/* The name, which is `path` or lies below it, with that part replaced; NULL when it does not. */
static char *moved(const char *name, const char *path, const char *path2)
{
    size_t size = strlen(path);
    if (strncmp(name, path, size) != 0 || (name[size] != '\0' && name[size] != '/'))
        return NULL;
    char *made = faults_calloc(1, strlen(path2) + strlen(name) - size + 1);
    return strcat(strcpy(made, path2), name + size);
}

void faults_renamed(const char *path, const char *path2, bool exchanged)
{
    const char *from = faults_below(path), *to = faults_below(path2);
    for (size_t i = 0; i < faults.file_count; i++) {
        char *name = moved(faults.files[i].name, from, to);
        if (!name && exchanged)
            name = moved(faults.files[i].name, to, from);
        if (!name)
            continue;
        free(faults.files[i].name);
        faults.files[i].name = name;
    }
    faults_note_paths(exchanged ? FAULT_OP_EXCHANGE : FAULT_OP_RENAME, path, path2);
}

/* --- the log --- */

static struct fault_op *append(enum fault_op_kind kind)
{
    struct fault_log *log = faults.log;
    if (log->count == log->capacity) {
        log->capacity = log->capacity ? log->capacity * 2 : 1024;
        log->ops = __real_reallocarray(log->ops, log->capacity, sizeof *log->ops);
        if (!log->ops)
            out_of_memory();
    }
    struct fault_op *op = &log->ops[log->count++];
    *op = (struct fault_op){.kind = kind};
    return op;
}

void faults_note(enum fault_op_kind kind, const struct fault_file *file, uint64_t offset, uint64_t size, void *data)
{
    if (!faults.log) {
        free(data);
        return;
    }
    struct fault_op *op = append(kind);
    op->file = file->number;
    op->offset = offset;
    op->size = size;
    op->data = data;
    op->path = copy_string(file->name);
}

void faults_note_paths(enum fault_op_kind kind, const char *path, const char *path2)
{
    if (!faults.log)
        return;
    struct fault_op *op = append(kind);
    op->path = copy_string(faults_below(path));
    op->path2 = path2 ? copy_string(faults_below(path2)) : NULL;
}

void faults_record(struct fault_log *log)
{
    pthread_mutex_lock(&faults.lock);
    faults.log = log;
    pthread_mutex_unlock(&faults.lock);
}

size_t faults_recorded(void)
{
    pthread_mutex_lock(&faults.lock);
    size_t count = faults.log ? faults.log->count : 0;
    pthread_mutex_unlock(&faults.lock);
    return count;
}

void fault_log_free(struct fault_log *log)
{
    for (size_t i = 0; i < log->count; i++) {
        free(log->ops[i].data);
        free(log->ops[i].path);
        free(log->ops[i].path2);
    }
    free(log->ops);
    *log = (struct fault_log){0};
}

void fault_op_describe(const struct fault_op *op, char *buf, size_t size)
{
    static const char *const names[] = {
        [FAULT_OP_FOUND] = "opening of",    [FAULT_OP_CREATE] = "creation of",  [FAULT_OP_WRITE] = "write",
        [FAULT_OP_ZERO] = "hole",           [FAULT_OP_TRUNCATE] = "truncation", [FAULT_OP_SYNC] = "sync of",
        [FAULT_OP_LOST] = "failed sync of", [FAULT_OP_RENAME] = "renaming of",  [FAULT_OP_EXCHANGE] = "exchange of",
        [FAULT_OP_LINK] = "linking of",     [FAULT_OP_UNLINK] = "unlinking of", [FAULT_OP_MKDIR] = "mkdir of",
        [FAULT_OP_RMDIR] = "rmdir of",
    };
    const char *name = names[op->kind];
    if (op->kind == FAULT_OP_WRITE || op->kind == FAULT_OP_ZERO)
        snprintf(buf, size, "%s of %" PRIu64 " bytes at %" PRIu64 " of %s", name, op->size, op->offset, op->path);
    else if (op->kind == FAULT_OP_TRUNCATE)
        snprintf(buf, size, "%s to %" PRIu64 " bytes of %s", name, op->size, op->path);
    else
        snprintf(buf, size, "%s %s%s%s", name, *op->path ? op->path : ".", op->path2 ? " to " : "",
                 op->path2 ? op->path2 : "");
}
