/* SPDX-License-Identifier: Apache-2.0 */
/* Content: holes, ranges, mappings, appends, sizes. */
#include "posix.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { page = 4096 };

static int all(const char *buf, size_t size, char c)
{
    for (size_t i = 0; i < size; i++)
        if (buf[i] != c)
            return 0;
    return 1;
}

static int range_is(int fd, off_t at, size_t size, char c)
{
    char *buf = malloc(size);
    int good = buf && pread(fd, buf, size, at) == (ssize_t)size && all(buf, size, c);
    free(buf);
    return good;
}

static int fill(int fd, off_t at, size_t size, char c)
{
    char *buf = malloc(size);
    int good = buf != NULL;
    if (good)
        memset(buf, c, size);
    good = good && pwrite(fd, buf, size, at) == (ssize_t)size;
    free(buf);
    return good;
}

void posix_sparse(void)
{
    struct stat st;
    int fd = open("f", O_CREAT | O_RDWR, 0644);
    CHECK(fill(fd, 0, page, 'a') && fill(fd, 256 * page, page, 'b') && ftruncate(fd, 512 * page) == 0);
    CHECK(fstat(fd, &st) == 0 && st.st_size == 512 * page && st.st_blocks < 512 && st.st_blocks >= 16);
    CHECK(lseek(fd, 0, SEEK_DATA) == 0 && lseek(fd, 0, SEEK_HOLE) == page);
    CHECK(lseek(fd, page, SEEK_DATA) == 256 * page && lseek(fd, 256 * page, SEEK_HOLE) == 257 * page);
    CHECK(lseek(fd, 257 * page, SEEK_DATA) < 0 && errno == ENXIO);
    CHECK(lseek(fd, 300 * page, SEEK_HOLE) == 300 * page && lseek(fd, 512 * page, SEEK_HOLE) < 0 && errno == ENXIO);
    CHECK(range_is(fd, 100 * page, 3 * page, 0) && range_is(fd, 256 * page, page, 'b'));
    close(fd);
}

void posix_allocation(void)
{
    struct stat st;
    int fd = open("f", O_CREAT | O_RDWR, 0644);
    CHECK(fallocate(fd, 0, 0, 10 * page) == 0 && fstat(fd, &st) == 0 && st.st_size == 10 * page);
    CHECK(range_is(fd, 0, 10 * page, 0) && fill(fd, 0, 10 * page, 'x'));
    CHECK(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 100 * page) == 0 && fstat(fd, &st) == 0 && st.st_size == 10 * page);
    CHECK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 2 * page + 100, 3 * page) == 0);
    CHECK(range_is(fd, 0, 2 * page + 100, 'x') && range_is(fd, 2 * page + 100, 3 * page, 0));
    CHECK(range_is(fd, 5 * page + 100, 5 * page - 100, 'x'));
    CHECK(fallocate(fd, FALLOC_FL_ZERO_RANGE, 8 * page + 1, 4 * page) == 0 && fstat(fd, &st) == 0);
    CHECK(st.st_size == 12 * page + 1 && range_is(fd, 8 * page + 1, 4 * page, 0) && range_is(fd, 8 * page, 1, 'x'));
    CHECK(fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, page) < 0);
    /* What a mapping showed before, it does not show after. */
    char *map = mmap(NULL, page, PROT_READ, MAP_SHARED, fd, 7 * page);
    CHECK(map != MAP_FAILED && map[0] == 'x');
    CHECK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 7 * page, page) == 0 && map[0] == 0);
    munmap(map, page);
    close(fd);
}

void posix_copy_range(void)
{
    int from = open("from", O_CREAT | O_RDWR, 0644), to = open("to", O_CREAT | O_RDWR, 0644);
    off_t in = 0, out = page;
    CHECK(fill(from, 0, 40 * page, 'c') && fill(to, 0, 2 * page, 't'));
    CHECK(range_is(to, page, page, 't')); /* cached by the kernel */
    CHECK(copy_file_range(from, &in, to, &out, 30 * page, 0) == 30 * page && in == 30 * page && out == 31 * page);
    CHECK(range_is(to, 0, page, 't') && range_is(to, page, 30 * page, 'c'));
    CHECK(fill(from, 0, 40 * page, 'd') && range_is(to, page, 30 * page, 'c'));
    CHECK(fill(to, 5 * page, page, 'e') && range_is(from, 4 * page, page, 'd'));
    in = 39 * page + 10, out = 100;
    CHECK(copy_file_range(from, &in, to, &out, 10 * page, 0) == page - 10 && range_is(to, 100, page - 10, 'd'));
    in = 0, out = 10;
    CHECK(copy_file_range(from, &in, from, &out, page, 0) < 0 && errno == EINVAL);
    close(from), close(to);
}

void posix_shared_mapping(void)
{
    int fd = open("f", O_CREAT | O_RDWR, 0644);
    CHECK(ftruncate(fd, 4 * page) == 0);
    char *map = mmap(NULL, 4 * page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(map != MAP_FAILED);
    memset(map + page, 'm', page);
    CHECK(range_is(fd, page, page, 'm') && fill(fd, 2 * page, 10, 'w') && all(map + 2 * page, 10, 'w'));
    CHECK(msync(map, 4 * page, MS_SYNC) == 0);
    pid_t child = fork();
    if (child == 0) {
        map[0] = 'c';
        _exit(0);
    }
    waitpid(child, NULL, 0);
    CHECK(map[0] == 'c' && range_is(fd, 0, 1, 'c'));
    CHECK(munmap(map, 4 * page) == 0 && close(fd) == 0);
    fd = open("f", O_RDONLY);
    CHECK(range_is(fd, page, page, 'm') && range_is(fd, 3 * page, page, 0));
    close(fd);
    char *private = NULL;
    fd = open("f", O_RDONLY);
    private = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, page);
    CHECK(private != MAP_FAILED);
    private[0] = 'p';
    CHECK(range_is(fd, page, page, 'm'));
    munmap(private, page);
    close(fd);
}

/* Lines of two processes, none torn or lost. */
void posix_appending(void)
{
    enum { lines = 500, length = 50 };
    char line[length + 1];
    CHECK(posix_put("log", ""));
    pid_t children[2];
    for (int i = 0; i < 2; i++)
        if ((children[i] = fork()) == 0) {
            int fd = open("log", O_WRONLY | O_APPEND);
            memset(line, 'a' + i, length - 1);
            line[length - 1] = '\n';
            for (int k = 0; k < lines; k++)
                if (write(fd, line, length) != length)
                    _exit(1);
            _exit(0);
        }
    for (int i = 0; i < 2; i++) {
        int status = 0;
        CHECK(waitpid(children[i], &status, 0) == children[i] && status == 0);
    }
    int fd = open("log", O_RDONLY), count[2] = {0, 0};
    while (read(fd, line, length) == length)
        for (int i = 0; i < 2; i++)
            count[i] += all(line, length - 1, (char)('a' + i)) && line[length - 1] == '\n';
    CHECK(count[0] == lines && count[1] == lines);
    close(fd);
}

void posix_direct(void)
{
    void *buf = NULL;
    int fd = open("f", O_CREAT | O_RDWR | O_DIRECT, 0644);
    CHECK(fd >= 0 && posix_memalign(&buf, page, 8 * page) == 0);
    memset(buf, 'd', 8 * page);
    CHECK(pwrite(fd, buf, 8 * page, 0) == 8 * page);
    int cached = open("f", O_RDWR);
    CHECK(range_is(cached, 0, 8 * page, 'd') && fill(cached, page, page, 'e'));
    CHECK(pread(fd, buf, 8 * page, 0) == 8 * page && all((char *)buf + page, page, 'e'));
    memset(buf, 'f', page);
    CHECK(pwrite(fd, buf, page, 2 * page) == page && range_is(cached, 2 * page, page, 'f'));
    free(buf);
    close(fd), close(cached);
}

void posix_sizes(void)
{
    struct stat st;
    int fd = open("f", O_CREAT | O_RDWR, 0644);
    CHECK(fill(fd, 0, page + 100, 'z') && ftruncate(fd, 50) == 0 && ftruncate(fd, 2 * page) == 0);
    CHECK(range_is(fd, 0, 50, 'z') && range_is(fd, 50, 2 * page - 50, 0));
    off_t far = (off_t)1 << 40;
    CHECK(pwrite(fd, "far", 3, far) == 3 && fstat(fd, &st) == 0 && st.st_size == far + 3 &&
          range_is(fd, far - 10, 10, 0));
    ssize_t last = pwrite(fd, "x", 1, INT64_MAX - 1); /* the end of all offsets, where a file may be so large */
    CHECK(last == 1 ? fstat(fd, &st) == 0 && st.st_size == INT64_MAX : errno == EFBIG);
    CHECK(ftruncate(fd, 0) == 0 && fstat(fd, &st) == 0 && st.st_size == 0 && st.st_blocks == 0);
    CHECK(truncate("f", 3) == 0 && range_is(fd, 0, 3, 0));
    close(fd);
    fd = open("f", O_RDWR | O_TRUNC);
    CHECK(fstat(fd, &st) == 0 && st.st_size == 0);
    close(fd);
}
