/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pack files. Read descriptors are kept in a small cache keyed by pack number and
 * guarded by fd_lock; a reader holds a reference while it reads, so removing or
 * evicting a pack never closes a descriptor in use. The writer's descriptor and
 * position belong to the one appending thread.
 *
 * After a failed append the position has not moved and the file is cut back, so the
 * next append starts where the failed one did. After a failed sync the kernel may have
 * dropped what was written: the pack set refuses further writes until it is reopened.
 */
#include "pack.h"

#include "base/cleanup.h"
#include "base/codec.h"
#include "base/file.h"
#include "base/log.h"
#include "base/record.h"
#include "uring.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { version = 1, fd_cache_slots = 64, reader_count = 4 };
static const uint8_t magic[8] = "RAMETPK";

struct cached_fd {
    uint32_t pack; /* 0: empty */
    int fd;
    unsigned refs;
    bool doomed; /* close when the last reference goes */
};

struct ramet_packs {
    char dir[PATH_MAX - 32];
    uint8_t store_id[RAMET_STORE_ID_SIZE];
    uint64_t pack_bytes;
    struct ramet_uring *uring;
    int fd;           /* of the pack being written, or -1 */
    uint32_t current; /* its number, 0 before the first */
    uint64_t end;     /* bytes appended to it */
    uint32_t last;    /* highest number ever used */
    bool sync_failed;

    pthread_mutex_t fd_lock; /* guards all below */
    struct cached_fd fds[fd_cache_slots];
    struct ramet_uring *readers[reader_count]; /* idle rings for reading */
    int readers_made;
};

static void path_of(const struct ramet_packs *packs, uint32_t pack, char path[PATH_MAX])
{
    snprintf(path, PATH_MAX, "%s/%08x.pack", packs->dir, pack);
}

int ramet_packs_open(const char *dir, const uint8_t store_id[RAMET_STORE_ID_SIZE], uint64_t pack_bytes,
                     struct ramet_packs **ret, struct ramet_error *err)
{
    struct ramet_packs *packs = calloc(1, sizeof *packs);
    if (!packs || !(packs->uring = ramet_uring_new())) {
        free(packs);
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to open %s", dir);
    }
    packs->fd = -1;
    packs->pack_bytes = pack_bytes;
    memcpy(packs->store_id, store_id, RAMET_STORE_ID_SIZE);
    snprintf(packs->dir, sizeof packs->dir, "%s", dir);
    pthread_mutex_init(&packs->fd_lock, NULL);
    *ret = packs;
    return 0;
}

void ramet_packs_close(struct ramet_packs *packs)
{
    if (!packs)
        return;
    for (int i = 0; i < fd_cache_slots; i++)
        if (packs->fds[i].pack)
            close(packs->fds[i].fd);
    if (packs->fd >= 0)
        close(packs->fd);
    ramet_uring_free(packs->uring);
    for (int i = 0; i < reader_count; i++)
        ramet_uring_free(packs->readers[i]);
    pthread_mutex_destroy(&packs->fd_lock);
    free(packs);
}

uint64_t ramet_packs_key(const struct ramet_packs *packs) { return ramet_get_le64(packs->store_id); }

static int compare_u32(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static int list_dir(const char *path, uint32_t **ret, size_t *ret_count, struct ramet_error *err)
{
    DIR *dir = opendir(path);
    if (!dir)
        return ramet_error_os(err, errno, "cannot list %s", path);
    uint32_t *numbers = NULL;
    size_t count = 0, capacity = 0;
    for (struct dirent *entry; (entry = readdir(dir));) {
        unsigned number;
        int used = 0;
        if (sscanf(entry->d_name, "%8x.pack%n", &number, &used) != 1 || used != 13 || entry->d_name[used])
            continue;
        if (count == capacity) {
            capacity = capacity ? capacity * 2 : 64;
            uint32_t *grown = reallocarray(numbers, capacity, sizeof *numbers);
            if (!grown) {
                free(numbers);
                closedir(dir);
                return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to list %s", path);
            }
            numbers = grown;
        }
        numbers[count++] = number;
    }
    closedir(dir);
    if (count)
        qsort(numbers, count, sizeof *numbers, compare_u32);
    *ret = numbers;
    *ret_count = count;
    return 0;
}

int ramet_packs_list(struct ramet_packs *packs, uint32_t **ret, size_t *ret_count, struct ramet_error *err)
{
    return list_dir(packs->dir, ret, ret_count, err);
}

int ramet_packs_find_id(const char *dir, uint8_t id[RAMET_STORE_ID_SIZE], struct ramet_error *err)
{
    _autofree_ uint32_t *numbers = NULL;
    size_t count = 0;
    int r = list_dir(dir, &numbers, &count, err);
    for (size_t i = 0; i < count && r == 0; i++) {
        uint8_t header[RAMET_PACK_HEADER];
        char path[PATH_MAX];
        snprintf(path, sizeof path, "%s/%08x.pack", dir, numbers[i]);
        _autoclose_ int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || ramet_file_read(fd, path, header, sizeof header, 0, NULL) < 0 ||
            memcmp(header, magic, sizeof magic) != 0 ||
            ramet_get_le64(header + 40) != ramet_checksum(header, 40, NULL, 0))
            continue;
        memcpy(id, header + 16, RAMET_STORE_ID_SIZE);
        return 0;
    }
    return r < 0 ? r : ramet_error_set(err, RAMET_NOT_FOUND, "no intact pack in %s", dir);
}

static void encode_header(const struct ramet_packs *packs, uint32_t pack, uint8_t header[RAMET_PACK_HEADER])
{
    memset(header, 0, RAMET_PACK_HEADER);
    memcpy(header, magic, sizeof magic);
    ramet_put_le16(header + 8, version);
    memcpy(header + 16, packs->store_id, RAMET_STORE_ID_SIZE);
    ramet_put_le32(header + 32, pack);
    ramet_put_le64(header + 40, ramet_checksum(header, 40, NULL, 0));
}

int ramet_packs_check(struct ramet_packs *packs, uint32_t pack, struct ramet_error *err)
{
    uint8_t header[RAMET_PACK_HEADER], expected[RAMET_PACK_HEADER];
    int r = ramet_packs_read_raw(packs, pack, 0, header, sizeof header, err);
    if (r < 0)
        return r;
    encode_header(packs, pack, expected);
    if (memcmp(header, expected, sizeof header) == 0)
        return 0;
    if (memcmp(header, magic, sizeof magic) == 0 && ramet_get_le16(header + 8) > version)
        return ramet_error_set(err, RAMET_UNSUPPORTED, "pack %08x: written by a newer Ramet", pack);
    return ramet_error_set(err, RAMET_CORRUPT, "pack %08x: the header is damaged or of another store", pack);
}

/* Makes the next pack file and its header; it becomes reachable when the store commits it. */
static int start_pack(struct ramet_packs *packs, struct ramet_error *err)
{
    char path[PATH_MAX];
    /* No number twice: a collection may have listed the file of a failed attempt, and remove it as an empty one. */
    uint32_t number = ++packs->last;
    path_of(packs, number, path);
    _autoclose_ int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return ramet_error_os(err, errno, "cannot make %s", path);
    uint8_t header[RAMET_PACK_HEADER];
    encode_header(packs, number, header);
    int r = ramet_file_write(fd, path, header, sizeof header, 0, err);
    if (r == 0)
        r = ramet_dir_sync(packs->dir, err);
    if (r < 0) {
        unlink(path);
        return r;
    }
    packs->fd = STEAL_FD(fd);
    packs->current = number;
    packs->end = RAMET_PACK_HEADER;
    return 0;
}

static int refuse_after_failed_sync(struct ramet_error *err)
{
    ramet_error_set(err, RAMET_IO, "an earlier sync of the store failed; it takes no more writes");
    return ramet_error_hint(err, "check the disk and the kernel log, then restart the daemon: "
                                 "everything acknowledged before is safe");
}

int ramet_packs_append(struct ramet_packs *packs, const struct iovec *records, size_t count, struct ramet_place *places,
                       struct ramet_error *err)
{
    if (packs->sync_failed)
        return refuse_after_failed_sync(err);
    int r;
    if (packs->current && packs->end >= packs->pack_bytes) {
        if ((r = ramet_packs_sync(packs, err)) < 0)
            return r;
        ramet_packs_rotate(packs, packs->last);
    }
    if (packs->fd < 0 && (r = start_pack(packs, err)) < 0)
        return r;
    char path[PATH_MAX];
    path_of(packs, packs->current, path);
    uint64_t end = packs->end;
    for (size_t i = 0; i < count; i++) {
        places[i] = (struct ramet_place){packs->current, (uint32_t)records[i].iov_len, end};
        end += records[i].iov_len;
    }
    if ((r = ramet_uring_write(packs->uring, packs->fd, path, records, count, packs->end, err)) < 0) {
        if (ftruncate(packs->fd, (off_t)packs->end) < 0)
            ramet_debug("%s: cannot cut after a failed write: %m", path);
        return r;
    }
    /* Only a hint that the disk may begin; the sync is what counts. */
    sync_file_range(packs->fd, (off_t)packs->end, (off_t)(end - packs->end), SYNC_FILE_RANGE_WRITE);
    packs->end = end;
    return 0;
}

int ramet_packs_sync(struct ramet_packs *packs, struct ramet_error *err)
{
    if (packs->sync_failed)
        return refuse_after_failed_sync(err);
    if (packs->fd < 0)
        return 0;
    char path[PATH_MAX];
    path_of(packs, packs->current, path);
    int r = ramet_uring_sync(packs->uring, packs->fd, path, err);
    packs->sync_failed = r < 0;
    return r;
}

uint32_t ramet_packs_current(const struct ramet_packs *packs, uint64_t *ret_size)
{
    *ret_size = packs->end;
    return packs->current;
}

void ramet_packs_rotate(struct ramet_packs *packs, uint32_t after)
{
    if (packs->fd >= 0)
        close(packs->fd);
    packs->fd = -1;
    packs->current = 0;
    packs->end = 0;
    packs->last = after > packs->last ? after : packs->last;
}

int ramet_packs_continue(struct ramet_packs *packs, uint32_t pack, uint64_t size, struct ramet_error *err)
{
    char path[PATH_MAX];
    path_of(packs, pack, path);
    ramet_packs_rotate(packs, pack);
    packs->fd = open(path, O_RDWR | O_CLOEXEC);
    if (packs->fd < 0)
        return ramet_error_os(err, errno, "cannot open %s for writing", path);
    packs->current = pack;
    packs->end = size;
    return 0;
}

/* Borrows a read descriptor; give it back with fd_put. Returns the cache slot or a negative code. */
static int fd_get(struct ramet_packs *packs, uint32_t pack, struct ramet_error *err)
{
    char path[PATH_MAX];
    int found = -1, r = 0;
    pthread_mutex_lock(&packs->fd_lock);
    for (int i = 0; i < fd_cache_slots && found < 0; i++)
        if (packs->fds[i].pack == pack && !packs->fds[i].doomed)
            found = i;
    for (int i = 0; i < fd_cache_slots && found < 0; i++)
        if (packs->fds[(pack + i) % fd_cache_slots].refs == 0)
            found = (int)((pack + i) % fd_cache_slots);
    if (found < 0) {
        r = ramet_error_set(err, RAMET_BUSY, "more than %d packs are being read at once", fd_cache_slots);
    } else if (packs->fds[found].pack != pack) {
        struct cached_fd *slot = &packs->fds[found];
        if (slot->pack)
            close(slot->fd);
        path_of(packs, pack, path);
        *slot = (struct cached_fd){.pack = pack, .fd = open(path, O_RDONLY | O_CLOEXEC)};
        if (slot->fd < 0) {
            slot->pack = 0;
            r = ramet_error_os(err, errno, "cannot open %s", path);
        } else {
            /* Frames are read whole, and many at once where that helps: the kernel need not guess. */
            posix_fadvise(slot->fd, 0, 0, POSIX_FADV_RANDOM);
        }
    }
    if (r == 0)
        packs->fds[found].refs++;
    pthread_mutex_unlock(&packs->fd_lock);
    return r < 0 ? r : found;
}

static void fd_put(struct ramet_packs *packs, int slot)
{
    struct cached_fd *cached = &packs->fds[slot];
    pthread_mutex_lock(&packs->fd_lock);
    if (--cached->refs == 0 && cached->doomed) {
        close(cached->fd);
        *cached = (struct cached_fd){0};
    }
    pthread_mutex_unlock(&packs->fd_lock);
}

int ramet_packs_read_raw(struct ramet_packs *packs, uint32_t pack, uint64_t offset, void *buf, size_t size,
                         struct ramet_error *err)
{
    int slot = fd_get(packs, pack, err);
    if (slot < 0)
        return slot;
    char name[32];
    snprintf(name, sizeof name, "pack %08x", pack);
    int r = ramet_file_read(packs->fds[slot].fd, name, buf, size, offset, err);
    fd_put(packs, slot);
    return r;
}

/* A ring nobody reads with at the moment, or NULL: then the caller reads without one. */
static struct ramet_uring *reader_take(struct ramet_packs *packs)
{
    struct ramet_uring *uring = NULL;
    pthread_mutex_lock(&packs->fd_lock);
    for (int i = 0; i < reader_count && !uring; i++)
        uring = STEAL(packs->readers[i]);
    bool more = !uring && packs->readers_made < reader_count;
    packs->readers_made += more;
    pthread_mutex_unlock(&packs->fd_lock);
    return more ? ramet_uring_new() : uring;
}

static void reader_give_back(struct ramet_packs *packs, struct ramet_uring *uring)
{
    pthread_mutex_lock(&packs->fd_lock);
    for (int i = 0; i < reader_count && uring; i++)
        if (!packs->readers[i])
            packs->readers[i] = STEAL(uring);
    pthread_mutex_unlock(&packs->fd_lock);
}

void ramet_packs_read_many(struct ramet_packs *packs, struct ramet_pack_read *reads, size_t count)
{
    struct ramet_uring *uring = reader_take(packs);
    while (count > 0) {
        struct ramet_uring_read some[RAMET_URING_READS_MAX];
        int slots[RAMET_URING_READS_MAX];
        size_t n = count < RAMET_URING_READS_MAX ? count : RAMET_URING_READS_MAX;
        for (size_t i = 0; i < n; i++) {
            slots[i] = fd_get(packs, reads[i].pack, NULL);
            some[i] = (struct ramet_uring_read){.fd = slots[i] < 0 ? -1 : packs->fds[slots[i]].fd,
                                                .buf = reads[i].buf,
                                                .size = reads[i].size,
                                                .offset = reads[i].offset};
        }
        ramet_uring_read(uring, some, n);
        for (size_t i = 0; i < n; i++) {
            reads[i].failed = some[i].failed;
            if (slots[i] >= 0)
                fd_put(packs, slots[i]);
        }
        reads += n, count -= n;
    }
    if (uring)
        reader_give_back(packs, uring);
}

int ramet_packs_read(struct ramet_packs *packs, const struct ramet_place *place, void *buf, struct ramet_error *err)
{
    return ramet_packs_read_raw(packs, place->pack, place->offset, buf, place->size, err);
}

int ramet_packs_size(struct ramet_packs *packs, uint32_t pack, uint64_t *ret_size, struct ramet_error *err)
{
    char path[PATH_MAX];
    struct stat st;
    path_of(packs, pack, path);
    if (stat(path, &st) < 0)
        return ramet_error_os(err, errno, "cannot find %s", path);
    *ret_size = (uint64_t)st.st_size;
    return 0;
}

int ramet_packs_cut(struct ramet_packs *packs, uint32_t pack, uint64_t size, struct ramet_error *err)
{
    char path[PATH_MAX];
    path_of(packs, pack, path);
    if (truncate(path, (off_t)size) < 0)
        return ramet_error_os(err, errno, "cannot cut %s to %llu bytes", path, (unsigned long long)size);
    return 0;
}

int ramet_packs_mend(struct ramet_packs *packs, uint32_t pack, struct ramet_error *err)
{
    char path[PATH_MAX];
    uint8_t header[RAMET_PACK_HEADER];
    path_of(packs, pack, path);
    encode_header(packs, pack, header);
    _autoclose_ int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return ramet_error_os(err, errno, "cannot open %s", path);
    int r = ramet_file_write(fd, path, header, sizeof header, 0, err);
    return r < 0 ? r : ramet_file_sync(fd, path, err);
}

void ramet_packs_punch(struct ramet_packs *packs, const struct ramet_place *place)
{
    char path[PATH_MAX];
    path_of(packs, place->pack, path);
    _autoclose_ int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 ||
        fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)place->offset, (off_t)place->size) < 0)
        ramet_debug("%s: no hole punched: %m", path);
}

int ramet_packs_remove(struct ramet_packs *packs, uint32_t pack, struct ramet_error *err)
{
    char path[PATH_MAX];
    path_of(packs, pack, path);
    if (unlink(path) < 0 && errno != ENOENT)
        return ramet_error_os(err, errno, "cannot remove %s", path);
    pthread_mutex_lock(&packs->fd_lock);
    for (int i = 0; i < fd_cache_slots; i++) {
        struct cached_fd *slot = &packs->fds[i];
        if (slot->pack != pack)
            continue;
        if (slot->refs)
            slot->doomed = true;
        else {
            close(slot->fd);
            *slot = (struct cached_fd){0};
        }
    }
    pthread_mutex_unlock(&packs->fd_lock);
    return 0;
}

uint64_t ramet_packs_allocated(struct ramet_packs *packs, uint32_t pack)
{
    char path[PATH_MAX];
    struct stat st;
    path_of(packs, pack, path);
    return stat(path, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}

uint64_t ramet_packs_disk_bytes(struct ramet_packs *packs, uint32_t *ret_count)
{
    _autofree_ uint32_t *numbers = NULL;
    size_t count = 0;
    uint64_t bytes = 0;
    if (ramet_packs_list(packs, &numbers, &count, NULL) < 0)
        count = 0;
    for (size_t i = 0; i < count; i++)
        bytes += ramet_packs_allocated(packs, numbers[i]);
    *ret_count = (uint32_t)count;
    return bytes;
}
