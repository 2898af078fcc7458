/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file system as it would be is kept in memory: each file twice, as it reads now
 * and as it is on the disk, with the blocks that differ. Content carries a version, new
 * with every change, so that a file in the target is known to be right by its version,
 * as long as it still has the modification time it was given.
 */
#include "replay.h"

#include "faults_private.h"
#include "random.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { block = 4096, mark_seconds = 1 };

struct content {
    uint8_t *bytes; /* owned; capacity of the file, zeros past size */
    size_t size;
    uint64_t version;
};

struct file {
    uint32_t number; /* in the log, 0 while it is not bound */
    unsigned names;
    size_t capacity;
    struct content now, disk;
    uint8_t *dirty; /* one byte a block: written since the last sync */
    bool lost;      /* a sync failed: now and disk differ although nothing is dirty */
};

struct name {
    char *path;        /* owned */
    struct file *file; /* NULL: a directory */
};

/* A file of the target as it was written. */
struct made {
    char *path;
    uint64_t version;
    ino_t ino;
};

struct replay {
    const struct fault_log *log;
    size_t applied;
    char target[PATH_MAX - NAME_MAX];
    struct file **files; /* all there ever were; owned */
    size_t file_count, file_capacity;
    struct name *names; /* a directory before what it holds */
    size_t name_count, name_capacity;
    struct made *made;
    size_t made_count, made_capacity;
    uint64_t last_version;
};

static void die(const char *what, const char *path)
{
    fprintf(stderr, "replay: %s %s: %s\n", what, path, strerror(errno));
    abort();
}

/* Room for one more in an array. */
static void *grow(void *array, size_t count, size_t *capacity, size_t size)
{
    if (count < *capacity)
        return array;
    *capacity = *capacity ? *capacity * 2 : 64;
    array = __real_reallocarray(array, *capacity, size);
    if (!array)
        die("no memory for", "an array");
    return array;
}

static char *copy_string(const char *s) { return strcpy(faults_calloc(1, strlen(s) + 1), s); }

/* --- files --- */

static struct file *file_new(struct replay *replay, uint32_t number)
{
    replay->files = grow(replay->files, replay->file_count, &replay->file_capacity, sizeof(struct file *));
    struct file *file = faults_calloc(1, sizeof *file);
    file->number = number;
    file->now.version = file->disk.version = ++replay->last_version;
    return replay->files[replay->file_count++] = file;
}

static struct file *file_of(struct replay *replay, uint32_t number)
{
    for (size_t i = replay->file_count; i-- > 0;)
        if (replay->files[i]->number == number)
            return replay->files[i];
    die("the log uses an unknown file in", replay->target);
    return NULL;
}

static void *grow_bytes(void *bytes, size_t old, size_t size)
{
    uint8_t *grown = faults_calloc(1, size);
    if (old)
        memcpy(grown, bytes, old);
    free(bytes);
    return grown;
}

static void reserve(struct file *file, size_t size)
{
    if (size <= file->capacity)
        return;
    size_t capacity = (size * 3 / 2 + block) / block * block;
    file->now.bytes = grow_bytes(file->now.bytes, file->capacity, capacity);
    file->disk.bytes = grow_bytes(file->disk.bytes, file->capacity, capacity);
    file->dirty = grow_bytes(file->dirty, file->capacity / block, capacity / block);
    file->capacity = capacity;
}

/* Bytes, or zeros when there are none, that read back at once and are on the disk after a sync. */
static void file_write(struct replay *replay, struct file *file, uint64_t offset, const uint8_t *bytes, size_t size)
{
    if (size == 0)
        return;
    reserve(file, offset + size);
    if (bytes)
        memcpy(file->now.bytes + offset, bytes, size);
    else
        memset(file->now.bytes + offset, 0, size);
    memset(file->dirty + offset / block, 1, (offset + size - 1) / block - offset / block + 1);
    if (offset + size > file->now.size)
        file->now.size = offset + size;
    file->now.version = ++replay->last_version;
}

static void content_resize(struct replay *replay, struct content *content, size_t size)
{
    if (size < content->size)
        memset(content->bytes + size, 0, content->size - size);
    content->size = size;
    content->version = ++replay->last_version;
}

static void file_resize(struct replay *replay, struct file *file, size_t size)
{
    bool same = file->now.version == file->disk.version;
    reserve(file, size);
    content_resize(replay, &file->now, size);
    content_resize(replay, &file->disk, size);
    if (same)
        file->disk.version = file->now.version;
}

static void file_sync(struct replay *replay, struct file *file, bool failed)
{
    for (size_t i = 0; i < file->capacity / block; i++)
        if (file->dirty[i] && !failed)
            memcpy(file->disk.bytes + i * block, file->now.bytes + i * block, block);
    if (file->capacity)
        memset(file->dirty, 0, file->capacity / block);
    file->lost |= failed;
    if (failed)
        return;
    file->disk.size = file->now.size;
    file->disk.version = file->lost ? ++replay->last_version : file->now.version;
}

/* --- names --- */

static struct name *name_find(struct replay *replay, const char *path)
{
    for (size_t i = 0; i < replay->name_count; i++)
        if (strcmp(replay->names[i].path, path) == 0)
            return &replay->names[i];
    return NULL;
}

static void name_add(struct replay *replay, const char *path, struct file *file)
{
    replay->names = grow(replay->names, replay->name_count, &replay->name_capacity, sizeof(struct name));
    replay->names[replay->name_count++] = (struct name){copy_string(path), file};
    if (file)
        file->names++;
}

static void name_remove(struct replay *replay, struct name *name)
{
    struct file *file = name->file;
    free(name->path);
    memmove(name, name + 1, (size_t)(&replay->names[--replay->name_count] - name) * sizeof *name);
    if (file && --file->names == 0) { /* it may still be written to, which nobody will see */
        free(file->now.bytes), free(file->disk.bytes), free(file->dirty);
        file->now = file->disk = (struct content){0};
        file->dirty = NULL;
        file->capacity = 0;
    }
}

/* Renames an entry, and what lies below it. They go to the end of the list: after the directory they come to lie in. */
static void name_move(struct replay *replay, const char *path, const char *path2)
{
    struct name *over = name_find(replay, path2);
    if (over)
        name_remove(replay, over);
    size_t size = strlen(path), count = replay->name_count;
    if (!name_find(replay, path))
        die("the log renames an unknown file", path);
    for (size_t i = 0, left = count; left > 0; left--) {
        struct name name = replay->names[i];
        if (strncmp(name.path, path, size) != 0 || (name.path[size] != '\0' && name.path[size] != '/')) {
            i++;
            continue;
        }
        char *moved = faults_calloc(1, strlen(path2) + strlen(name.path) - size + 1);
        strcat(strcpy(moved, path2), name.path + size);
        free(name.path);
        name.path = moved;
        memmove(&replay->names[i], &replay->names[i + 1], (count - i - 1) * sizeof name);
        replay->names[count - 1] = name;
    }
}

/* --- operations --- */

static void apply(struct replay *replay, const struct fault_op *op)
{
    struct name *name;
    bool on_file = op->file && op->kind != FAULT_OP_CREATE && op->kind != FAULT_OP_FOUND;
    struct file *file = on_file ? file_of(replay, op->file) : NULL;
    if (on_file && file->names == 0)
        return;
    switch (op->kind) {
    case FAULT_OP_CREATE: name_add(replay, op->path, file_new(replay, op->file)); break;
    case FAULT_OP_FOUND:
        if (!(name = name_find(replay, op->path)) || !name->file)
            die("the base lacks", op->path);
        name->file->number = op->file;
        break;
    case FAULT_OP_WRITE: file_write(replay, file, op->offset, op->data, op->size); break;
    case FAULT_OP_ZERO:
        if (op->offset < file->now.size)
            file_write(replay, file, op->offset, NULL,
                       op->size < file->now.size - op->offset ? op->size : file->now.size - op->offset);
        break;
    case FAULT_OP_TRUNCATE: file_resize(replay, file, op->size); break;
    case FAULT_OP_SYNC:
    case FAULT_OP_LOST:
        if (file)
            file_sync(replay, file, op->kind == FAULT_OP_LOST);
        break;
    case FAULT_OP_RENAME: name_move(replay, op->path, op->path2); break;
    case FAULT_OP_EXCHANGE:
        name_move(replay, op->path, "?");
        name_move(replay, op->path2, op->path);
        name_move(replay, "?", op->path2);
        break;
    case FAULT_OP_LINK:
        if (!(name = name_find(replay, op->path)))
            die("the log links an unknown file", op->path);
        name_add(replay, op->path2, name->file);
        break;
    case FAULT_OP_MKDIR:
        if (*op->path) /* the root itself is always there */
            name_add(replay, op->path, NULL);
        break;
    case FAULT_OP_UNLINK:
    case FAULT_OP_RMDIR:
        if (!(name = name_find(replay, op->path)))
            die("the log removes an unknown file", op->path);
        name_remove(replay, name);
        break;
    }
}

/* --- what is found after a crash --- */

/* Blocks of `now` that landed on top of what is on the disk; the caller frees bytes. */
static struct content scatter(const struct file *file, const struct content *now, uint64_t *seed)
{
    struct content found = {.bytes = faults_calloc(1, file->capacity), .size = file->disk.size};
    if (file->capacity)
        memcpy(found.bytes, file->disk.bytes, file->capacity);
    for (size_t at = 0; at < now->size; at += block) {
        size_t size = now->size - at < block ? now->size - at : block;
        if (!file->dirty[at / block] || rng_below(seed, 2))
            continue;
        memcpy(found.bytes + at, now->bytes + at, size);
        if (at + size > found.size)
            found.size = at + size;
    }
    return found;
}

/* The file as the disk has it after a power cut within `op`, if that is about this file. */
static struct content torn(struct replay *replay, const struct file *file, const struct fault_op *op, uint64_t *seed)
{
    if (!op || op->kind != FAULT_OP_WRITE || op->file != file->number || op->size == 0)
        return scatter(file, &file->now, seed);
    /* A copy with the first part of the write in it. */
    struct file copy = {.capacity = file->capacity, .now = file->now, .disk = file->disk};
    copy.now.bytes = grow_bytes(NULL, 0, file->capacity + 1);
    copy.disk.bytes = grow_bytes(NULL, 0, file->capacity + 1);
    copy.dirty = grow_bytes(NULL, 0, file->capacity / block + 1);
    if (file->capacity) {
        memcpy(copy.now.bytes, file->now.bytes, file->capacity);
        memcpy(copy.disk.bytes, file->disk.bytes, file->capacity);
        memcpy(copy.dirty, file->dirty, file->capacity / block);
    }
    file_write(replay, &copy, op->offset, op->data, rng_below(seed, op->size));
    struct content found = scatter(&copy, &copy.now, seed);
    free(copy.now.bytes), free(copy.disk.bytes), free(copy.dirty);
    return found;
}

static bool is_zero(const uint8_t *bytes, size_t size) { return !bytes[0] && memcmp(bytes, bytes + 1, size - 1) == 0; }

static ino_t write_file(const char *path, const struct content *content)
{
    const struct timespec times[2] = {{.tv_sec = mark_seconds}, {.tv_sec = mark_seconds}};
    struct stat st;
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        die("cannot make", path);
    for (size_t at = 0, size; at < content->size; at += size) {
        size = content->size - at < block ? content->size - at : block;
        if (is_zero(content->bytes + at, size))
            continue;
        while (at + size < content->size && size < 64 * block && !is_zero(content->bytes + at + size, 1))
            size = content->size - at < size + block ? content->size - at : size + block;
        if (pwrite(fd, content->bytes + at, size, (off_t)at) != (ssize_t)size)
            die("cannot write", path);
    }
    if (ftruncate(fd, (off_t)content->size) < 0 || futimens(fd, times) < 0 || fstat(fd, &st) < 0)
        die("cannot finish", path);
    close(fd);
    return st.st_ino;
}

/* True when the target's file is of that version and nobody touched it since it was written. */
static bool is_made(const struct made *made, uint64_t version, const char *path)
{
    struct stat st;
    return made->version == version && stat(path, &st) == 0 && st.st_ino == made->ino &&
           st.st_mtim.tv_sec == mark_seconds && st.st_mtim.tv_nsec == 0;
}

static struct made *made_of(struct replay *replay, const char *path)
{
    for (size_t i = 0; i < replay->made_count; i++)
        if (strcmp(replay->made[i].path, path) == 0)
            return &replay->made[i];
    replay->made = grow(replay->made, replay->made_count, &replay->made_capacity, sizeof(struct made));
    replay->made[replay->made_count] = (struct made){.path = copy_string(path)};
    return &replay->made[replay->made_count++];
}

static void make_file(struct replay *replay, const struct name *name, enum replay_variant variant,
                      const struct fault_op *op, uint64_t *seed)
{
    char path[PATH_MAX];
    const struct file *file = name->file;
    struct content scattered = {0};
    const struct content *content = variant == REPLAY_KILL ? &file->now : &file->disk;
    bool touched = op && op->kind == FAULT_OP_WRITE && op->file == file->number;
    snprintf(path, sizeof path, "%s/%s", replay->target, name->path);
    if (variant == REPLAY_TORN && (touched || file->now.version != file->disk.version)) {
        scattered = torn(replay, file, op, seed);
        scattered.version = ++replay->last_version;
        content = &scattered;
    }
    struct made *made = made_of(replay, name->path);
    if (!is_made(made, content->version, path)) {
        made->ino = write_file(path, content);
        made->version = content->version;
    }
    free(scattered.bytes);
}

/* Removes from a directory of the target what should not be there. */
static void remove_strays(struct replay *replay, const char *below)
{
    char path[PATH_MAX], full[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", replay->target, below);
    DIR *dir = opendir(path);
    if (!dir)
        die("cannot list", path);
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (snprintf(path, sizeof path, "%s%s%s", below, *below ? "/" : "", entry->d_name) >= (int)sizeof path ||
            snprintf(full, sizeof full, "%s/%s", replay->target, path) >= (int)sizeof full)
            die("too long:", entry->d_name);
        const struct name *name = name_find(replay, path);
        bool is_dir = entry->d_type == DT_DIR;
        if (is_dir)
            remove_strays(replay, path);
        bool wanted = name && (name->file == NULL) == is_dir;
        if (!wanted && remove(full) < 0)
            die("cannot remove", full);
    }
    closedir(dir);
}

void replay_make(struct replay *replay, size_t count, enum replay_variant variant, uint64_t seed)
{
    char path[PATH_MAX];
    size_t whole = variant == REPLAY_TORN && count > 0 ? count - 1 : count;
    if (whole < replay->applied || count > replay->log->count)
        die("crash points must ascend in", replay->target);
    for (; replay->applied < whole; replay->applied++)
        apply(replay, &replay->log->ops[replay->applied]);
    const struct fault_op *op = whole < count ? &replay->log->ops[whole] : NULL;
    remove_strays(replay, "");
    for (size_t i = 0; i < replay->name_count; i++) {
        const struct name *name = &replay->names[i];
        snprintf(path, sizeof path, "%s/%s", replay->target, name->path);
        if (name->file)
            make_file(replay, name, variant, op, &seed);
        else if (mkdir(path, 0700) < 0 && errno != EEXIST)
            die("cannot make", path);
    }
}

/* --- from and to --- */

static void read_base(struct replay *replay, const char *base, const char *below)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", base, below);
    DIR *dir = opendir(path);
    if (!dir)
        die("cannot list", path);
    for (struct dirent *entry; (entry = readdir(dir));) {
        char full[PATH_MAX];
        struct stat st;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (snprintf(path, sizeof path, "%s%s%s", below, *below ? "/" : "", entry->d_name) >= (int)sizeof path ||
            snprintf(full, sizeof full, "%s/%s", base, path) >= (int)sizeof full)
            die("too long:", entry->d_name);
        int fd = open(full, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0)
            die("cannot read", full);
        if (S_ISDIR(st.st_mode)) {
            name_add(replay, path, NULL);
            read_base(replay, base, path);
        } else {
            struct file *file = file_new(replay, 0);
            name_add(replay, path, file);
            file_resize(replay, file, (size_t)st.st_size);
            if (st.st_size && pread(fd, file->now.bytes, (size_t)st.st_size, 0) != st.st_size)
                die("cannot read", full);
            if (st.st_size)
                memcpy(file->disk.bytes, file->now.bytes, (size_t)st.st_size);
        }
        close(fd);
    }
    closedir(dir);
}

struct replay *replay_new(const struct fault_log *log, const char *base, const char *target)
{
    struct replay *replay = faults_calloc(1, sizeof *replay);
    replay->log = log;
    snprintf(replay->target, sizeof replay->target, "%s", target);
    if (mkdir(target, 0700) < 0 && errno != EEXIST)
        die("cannot make", target);
    if (base)
        read_base(replay, base, "");
    return replay;
}

void replay_free(struct replay *replay)
{
    for (size_t i = 0; i < replay->file_count; i++) {
        struct file *file = replay->files[i];
        free(file->now.bytes), free(file->disk.bytes), free(file->dirty), free(file);
    }
    for (size_t i = 0; i < replay->name_count; i++)
        free(replay->names[i].path);
    for (size_t i = 0; i < replay->made_count; i++)
        free(replay->made[i].path);
    free(replay->files), free(replay->names), free(replay->made), free(replay);
}

const char *replay_variant_name(enum replay_variant variant)
{
    static const char *const names[] = {"killed after", "power cut after", "power cut within"};
    return names[variant];
}
