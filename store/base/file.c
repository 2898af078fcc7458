/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

int ramet_file_read(int fd, const char *name, void *buf, size_t size, uint64_t offset, struct ramet_error *err)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = pread(fd, (char *)buf + done, size - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return ramet_error_os(err, errno, "%s: cannot read %zu bytes at %llu", name, size,
                                  (unsigned long long)offset);
        if (n == 0)
            return ramet_error_set(err, RAMET_CORRUPT, "%s ends at %llu, within %zu bytes expected at %llu", name,
                                   (unsigned long long)(offset + done), size, (unsigned long long)offset);
        done += (size_t)n;
    }
    return 0;
}

int ramet_file_write(int fd, const char *name, const void *buf, size_t size, uint64_t offset, struct ramet_error *err)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = pwrite(fd, (const char *)buf + done, size - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return ramet_error_os(err, errno, "%s: cannot write %zu bytes at %llu", name, size,
                                  (unsigned long long)offset);
        done += (size_t)n;
    }
    return 0;
}

int ramet_file_sync(int fd, const char *name, struct ramet_error *err)
{
    if (fdatasync(fd) < 0)
        return ramet_error_os(err, errno, "%s: cannot sync", name);
    return 0;
}

int ramet_file_read_all(const char *path, size_t max, char **ret, size_t *ret_size, struct ramet_error *err)
{
    struct stat st;
    _autoclose_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return ramet_error_os(err, errno, "cannot read %.300s", path);
    if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size > max)
        return ramet_error_set(err, RAMET_TOO_LARGE, "%.300s is no file of at most %zu bytes", path, max);
    _autofree_ char *data = malloc((size_t)st.st_size + 1);
    if (!data)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for %.300s", path);
    int rc = ramet_file_read(fd, path, data, (size_t)st.st_size, 0, err);
    if (rc < 0)
        return rc;
    data[st.st_size] = '\0';
    *ret_size = (size_t)st.st_size;
    *ret = STEAL(data);
    return 0;
}

static int write_synced(const char *path, const void *data, size_t size, mode_t mode, struct ramet_error *err)
{
    unlink(path); /* what a crash left may have another mode */
    _autoclose_ int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fd < 0)
        return ramet_error_os(err, errno, "cannot make %.300s", path);
    int rc = ramet_file_write(fd, path, data, size, 0, err);
    if (rc == 0 && fsync(fd) < 0)
        rc = ramet_error_os(err, errno, "cannot sync %.300s", path);
    return rc;
}

int ramet_file_replace(const char *path, const void *data, size_t size, mode_t mode, struct ramet_error *err)
{
    char temporary[PATH_MAX], parent[PATH_MAX];
    const char *slash = strrchr(path, '/');
    if (!slash || snprintf(temporary, sizeof temporary, "%s.tmp", path) >= PATH_MAX)
        return ramet_error_set(err, RAMET_INVALID, "%.300s is no usable file name", path);
    snprintf(parent, sizeof parent, "%.*s", slash == path ? 1 : (int)(slash - path), path);
    int rc = write_synced(temporary, data, size, mode, err);
    if (rc == 0 && rename(temporary, path) < 0)
        rc = ramet_error_os(err, errno, "cannot rename %.300s", temporary);
    if (rc < 0) {
        unlink(temporary);
        return rc;
    }
    return ramet_dir_sync(parent, err);
}

int ramet_dir_make(const char *path, mode_t mode, struct ramet_error *err)
{
    char part[PATH_MAX];
    size_t size = strlen(path);
    if (size == 0 || size >= sizeof part)
        return ramet_error_set(err, RAMET_INVALID, "\"%s\" is no usable directory name", path);
    memcpy(part, path, size + 1);
    for (size_t i = 1; i <= size; i++) {
        if (part[i] != '/' && part[i] != '\0')
            continue;
        char saved = part[i];
        part[i] = '\0';
        if (mkdir(part, mode) < 0 && errno != EEXIST)
            return ramet_error_os(err, errno, "cannot make directory %s", part);
        part[i] = saved;
    }
    struct stat st;
    if (stat(path, &st) < 0)
        return ramet_error_os(err, errno, "cannot use directory %s", path);
    if (!S_ISDIR(st.st_mode))
        return ramet_error_set(err, RAMET_INVALID, "%s is in the way: it is not a directory", path);
    return 0;
}

int ramet_dir_sync(const char *path, struct ramet_error *err)
{
    _autoclose_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) < 0)
        return ramet_error_os(err, errno, "cannot sync directory %s", path);
    return 0;
}

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    (void)st, (void)kind, (void)ftw;
    return remove(path);
}

int ramet_dir_remove(const char *path, struct ramet_error *err)
{
    if (nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT) != 0 && errno != ENOENT)
        return ramet_error_os(err, errno, "cannot remove %s", path);
    return 0;
}

uint64_t ramet_now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

int64_t ramet_now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void ramet_random(void *buf, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = getrandom((char *)buf + done, size - done, 0);
        if (n > 0)
            done += (size_t)n;
        else if (errno != EINTR)
            abort();
    }
}
