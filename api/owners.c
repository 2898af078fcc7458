/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A sorted array under `lock`; the file is appended to under `file_lock`, which is
 * taken first and alone held across I/O.
 */
#include "owners.h"

#include "base/cleanup.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>

#define ID_SIZE 64

struct owned {
    char id[ID_SIZE];
    char *owner;
};

struct ramet_owners {
    char *path;
    int fd;
    uint64_t size;
    pthread_mutex_t file_lock, lock;
    struct owned *list;
    size_t count, capacity;
};

/* Under the lock: where the id is, or belongs. */
static size_t place(const struct ramet_owners *owners, const char *id)
{
    size_t low = 0, high = owners->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (strcmp(owners->list[middle].id, id) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct owned *find(const struct ramet_owners *owners, const char *id)
{
    size_t at = place(owners, id);
    return at < owners->count && strcmp(owners->list[at].id, id) == 0 ? &owners->list[at] : NULL;
}

static int no_memory(struct ramet_error *err)
{
    return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for an owner");
}

/* Under the lock. */
static int put(struct ramet_owners *owners, const char *id, const char *owner, struct ramet_error *err)
{
    struct owned *known = find(owners, id);
    char *copy = strdup(owner);
    if (!copy)
        return no_memory(err);
    if (known) {
        free(known->owner);
        known->owner = copy;
        return 0;
    }
    if (owners->count == owners->capacity) {
        size_t capacity = owners->capacity * 2 + 64;
        struct owned *grown = realloc(owners->list, capacity * sizeof *grown);
        if (!grown) {
            free(copy);
            return no_memory(err);
        }
        owners->list = grown;
        owners->capacity = capacity;
    }
    size_t at = place(owners, id);
    memmove(&owners->list[at + 1], &owners->list[at], (owners->count++ - at) * sizeof *owners->list);
    strcpy(owners->list[at].id, id);
    owners->list[at].owner = copy;
    return 0;
}

static void drop(struct ramet_owners *owners, const char *id)
{
    struct owned *known = find(owners, id);
    if (!known)
        return;
    free(known->owner);
    size_t at = (size_t)(known - owners->list);
    memmove(known, known + 1, (--owners->count - at) * sizeof *known);
}

/* ---- the file ---- */

static bool is_id(const char *id, size_t size)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    return size > 0 && size < ID_SIZE && strspn(id, plain) >= size;
}

/* Takes in the lines of the file; one without its newline was torn. */
static int read_lines(struct ramet_owners *owners, char *text, struct ramet_error *err)
{
    int rc = 0;
    for (char *line = text, *end; rc == 0 && (end = strchr(line, '\n')); line = end + 1) {
        *end = '\0';
        size_t size = strcspn(line, " ");
        if (!is_id(line, size))
            continue;
        char *owner = line[size] ? line + size + 1 : NULL;
        line[size] = '\0';
        if (owner && *owner && strlen(owner) < RAMET_PRINCIPAL_TEXT)
            rc = put(owners, line, owner, err);
        else
            drop(owners, line);
    }
    return rc;
}

static int load(struct ramet_owners *owners, struct ramet_error *err)
{
    struct stat st;
    _autoclose_ int fd = open(owners->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : ramet_error_os(err, errno, "cannot open \"%.300s\"", owners->path);
    if (fstat(fd, &st) != 0)
        return ramet_error_os(err, errno, "cannot look at \"%.300s\"", owners->path);
    _autofree_ char *text = calloc(1, (size_t)st.st_size + 1);
    if (!text)
        return no_memory(err);
    int rc = ramet_file_read(fd, owners->path, text, (size_t)st.st_size, 0, err);
    return rc < 0 ? rc : read_lines(owners, text, err);
}

static int write_anew(struct ramet_owners *owners, struct ramet_error *err)
{
    _autofree_ char *beside = NULL, *text = NULL;
    size_t size = 0;
    if (asprintf(&beside, "%s.new", owners->path) < 0)
        return no_memory(err);
    FILE *out = open_memstream(&text, &size);
    for (size_t i = 0; out && i < owners->count; i++)
        fprintf(out, "%s %s\n", owners->list[i].id, owners->list[i].owner);
    if (!out || fclose(out) != 0)
        return no_memory(err);
    owners->fd = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (owners->fd < 0)
        return ramet_error_os(err, errno, "cannot open \"%.300s\"", beside);
    owners->size = size;
    int rc = ramet_file_write(owners->fd, beside, text, size, 0, err);
    if (rc == 0)
        rc = ramet_file_sync(owners->fd, beside, err);
    if (rc == 0 && rename(beside, owners->path) != 0)
        rc = ramet_error_os(err, errno, "cannot publish \"%.300s\"", owners->path);
    return rc;
}

int ramet_owners_open(const char *path, struct ramet_owners **ret, struct ramet_error *err)
{
    struct ramet_owners *owners = calloc(1, sizeof *owners);
    if (owners)
        owners->path = strdup(path);
    if (!owners || !owners->path) {
        free(owners);
        return no_memory(err);
    }
    owners->fd = -1;
    pthread_mutex_init(&owners->file_lock, NULL);
    pthread_mutex_init(&owners->lock, NULL);
    int rc = load(owners, err);
    if (rc == 0)
        rc = write_anew(owners, err);
    if (rc < 0) {
        ramet_owners_close(owners);
        return rc;
    }
    *ret = owners;
    return 0;
}

void ramet_owners_close(struct ramet_owners *owners)
{
    if (!owners)
        return;
    for (size_t i = 0; i < owners->count; i++)
        free(owners->list[i].owner);
    free(owners->list);
    if (owners->fd >= 0)
        close(owners->fd);
    pthread_mutex_destroy(&owners->lock);
    pthread_mutex_destroy(&owners->file_lock);
    free(owners->path);
    free(owners);
}

/* A line that did not get on disk whole is written over by the next. */
static int append(struct ramet_owners *owners, const char *id, const char *owner, struct ramet_error *err)
{
    char line[ID_SIZE + RAMET_PRINCIPAL_TEXT + 3];
    int size = snprintf(line, sizeof line, "%s%s%s\n", id, owner ? " " : "", owner ? owner : "");
    pthread_mutex_lock(&owners->file_lock);
    int rc = ramet_file_write(owners->fd, owners->path, line, (size_t)size, owners->size, err);
    if (rc == 0)
        rc = ramet_file_sync(owners->fd, owners->path, err);
    if (rc == 0)
        owners->size += (uint64_t)size;
    pthread_mutex_unlock(&owners->file_lock);
    return rc;
}

int ramet_owners_set(struct ramet_owners *owners, const char *id, const char *owner, struct ramet_error *err)
{
    if (!is_id(id, strlen(id)) || strlen(owner) >= RAMET_PRINCIPAL_TEXT)
        return ramet_error_set(err, RAMET_INVALID, "\"%.80s\" is no id of anything owned", id);
    int rc = append(owners, id, owner, err);
    if (rc < 0)
        return rc;
    pthread_mutex_lock(&owners->lock);
    rc = put(owners, id, owner, err);
    pthread_mutex_unlock(&owners->lock);
    return rc;
}

void ramet_owners_get(struct ramet_owners *owners, const char *id, char ret[static RAMET_PRINCIPAL_TEXT])
{
    pthread_mutex_lock(&owners->lock);
    const struct owned *known = find(owners, id);
    strcpy(ret, known ? known->owner : "");
    pthread_mutex_unlock(&owners->lock);
}

void ramet_owners_forget(struct ramet_owners *owners, const char *id)
{
    pthread_mutex_lock(&owners->lock);
    bool known = find(owners, id) != NULL;
    drop(owners, id);
    pthread_mutex_unlock(&owners->lock);
    if (known)
        append(owners, id, NULL, NULL);
}

/* By number, since the list moves under us; one that was added meanwhile exists. */
void ramet_owners_prune(struct ramet_owners *owners, bool (*exists)(void *context, const char *id), void *context)
{
    for (size_t i = 0;; i++) {
        char id[ID_SIZE] = "";
        pthread_mutex_lock(&owners->lock);
        if (i < owners->count)
            strcpy(id, owners->list[i].id);
        pthread_mutex_unlock(&owners->lock);
        if (!*id)
            return;
        if (!exists(context, id)) {
            ramet_owners_forget(owners, id);
            i--;
        }
    }
}
