/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The clients of test_mount.c, which includes this file: functions that use the mount as any program would, each in a
 * process that serves nothing. A failed check says which and exits with 1.
 *
 * What an image holds follows from a seed and the offset alone, so that both sides know it: every fifth page is a
 * hole, the others differ in every 8 bytes.
 */
#include "store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MEMORY_SEED 1
#define DISK_SEED 2
#define MEMORY_SIZE (UINT64_C(3) * 1048576 + 1234) /* ends within a page */
#define DISK_SIZE (UINT64_C(2) * 1048576)

enum { client_page = RAMET_PAGE_SIZE };

#define need(condition)                                                                                                \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "client: %s:%d: %s (%s)\n", __func__, __LINE__, #condition, strerror(errno));              \
            _exit(1);                                                                                                  \
        }                                                                                                              \
    } while (0)

static bool pattern_is_hole(uint64_t offset) { return offset / client_page % 5 == 3; }

static uint8_t pattern_byte(uint64_t seed, uint64_t offset)
{
    uint64_t z = (seed << 48 ^ offset / 8) * UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z ^= z >> 27;
    return (uint8_t)(pattern_is_hole(offset) ? 0 : z >> offset % 8 * 8);
}

static void pattern_fill(uint64_t seed, uint64_t offset, uint8_t *buf, size_t size)
{
    for (size_t i = 0; i < size; i++)
        buf[i] = pattern_byte(seed, offset + i);
}

static bool pattern_same(uint64_t seed, uint64_t offset, const uint8_t *buf, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (buf[i] != pattern_byte(seed, offset + i))
            return false;
    return true;
}

/* --- helpers --- */

static const char *mount_dir;

static int open_at(int flags, const char *a, const char *b, const char *c)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s/%s%s%s", mount_dir, a, b, *c ? "/" : "", c);
    return open(path, flags | O_CLOEXEC);
}

static int must_open(int flags, const char *a, const char *b, const char *c)
{
    int fd = open_at(flags, a, b, c);
    need(fd >= 0);
    return fd;
}

static void say_ready_and_wait(void)
{
    char byte;
    need(write(1, "ready\n", 6) == 6);
    need(read(0, &byte, 1) >= 0);
}

static uint64_t next_random(uint64_t *state)
{
    return *state = *state * UINT64_C(6364136223846793005) + 1442695040888963407;
}

static void check_reads(int fd, uint64_t seed, uint64_t size, uint64_t random, int count)
{
    static _Thread_local uint8_t buf[70000];
    for (int i = 0; i < count; i++) {
        uint64_t at = (next_random(&random) >> 16) % size, want = (next_random(&random) >> 16) % sizeof buf;
        ssize_t expect = (ssize_t)(size - at < want ? size - at : want);
        need(pread(fd, buf, want, (off_t)at) == expect);
        need(pattern_same(seed, at, buf, (size_t)expect));
    }
}

/* --- snapshots --- */

static void read_exactly(const char *ref, const char *image)
{
    bool memory = strcmp(image, "memory") == 0;
    uint64_t seed = memory ? MEMORY_SEED : DISK_SEED, size = memory ? MEMORY_SIZE : DISK_SIZE;
    struct stat st;
    uint8_t *all = malloc(size + 1);
    int fd = must_open(O_RDONLY, "snapshots", ref, image);
    need(fstat(fd, &st) == 0 && (uint64_t)st.st_size == size && (st.st_mode & 07777) == 0400);
    need(all && read(fd, all, size + 1) == (ssize_t)size && pattern_same(seed, 0, all, size));
    need(read(fd, all, 1) == 0);
    need(pread(fd, all, 10, (off_t)size + 5) == 0);
    check_reads(fd, seed, size, (uint64_t)getpid(), 300);
    int direct = must_open(O_RDONLY | O_DIRECT, "snapshots", ref, image);
    void *aligned = aligned_alloc(client_page, client_page);
    need(pread(direct, aligned, client_page, 7 * client_page) == client_page);
    need(pattern_same(seed, 7 * client_page, aligned, client_page));
    free(aligned);
    free(all);
    close(direct);
    close(fd);
}

/* Between what SEEK_DATA and SEEK_HOLE call data lie zeros only, and the pattern's holes are found. */
static void holes(const char *ref, const char *unused)
{
    (void)unused;
    int fd = must_open(O_RDONLY, "snapshots", ref, "memory");
    unsigned found = 0;
    for (off_t hole = 0, data; hole < (off_t)MEMORY_SIZE; found++) {
        data = lseek(fd, hole, SEEK_DATA);
        off_t end = data < 0 ? (off_t)MEMORY_SIZE : data;
        need(data >= 0 || errno == ENXIO);
        for (off_t at = hole; at < end; at++)
            need(pattern_byte(MEMORY_SEED, (uint64_t)at) == 0);
        if (data < 0)
            break;
        hole = lseek(fd, data, SEEK_HOLE);
        need(hole > data);
    }
    need(found > 100);
    need(lseek(fd, 3 * client_page + 100, SEEK_HOLE) == 3 * client_page + 100);
    need(lseek(fd, (off_t)MEMORY_SIZE, SEEK_DATA) < 0 && errno == ENXIO);
}

static void manifest(const char *ref, const char *id)
{
    char text[4096] = "", line[64], again[4096] = "";
    int fd = must_open(O_RDONLY, "snapshots", ref, "manifest.json");
    struct stat st;
    need(fstat(fd, &st) == 0);
    need(read(fd, text, sizeof text - 1) == st.st_size && (size_t)st.st_size == strlen(text));
    snprintf(line, sizeof line, "\"id\": \"%s\"", id);
    need(strstr(text, line));
    need(strstr(text, "console=\\\"ttyS0\\\" quote=\\\\ tab=\\u0009 root"));
    snprintf(line, sizeof line, "\"size_bytes\": %llu", (unsigned long long)MEMORY_SIZE);
    need(strstr(text, line));
    need(pread(fd, again, sizeof again, 7) == st.st_size - 7 && strcmp(again, text + 7) == 0);
}

static void map_private(const char *ref, const char *unused)
{
    (void)unused;
    size_t size = MEMORY_SIZE;
    int fd = must_open(O_RDWR, "snapshots", ref, "memory"); /* as QEMU opens it */
    uint8_t *mine = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    uint8_t *other = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
    need(mine != MAP_FAILED && other != MAP_FAILED);
    need(pattern_same(MEMORY_SEED, 0, other, size));
    for (size_t at = 0; at < size; at += client_page)
        mine[at] = (uint8_t)~pattern_byte(MEMORY_SEED, at);
    for (size_t at = 0; at < size; at++)
        need(mine[at] == (uint8_t)(at % client_page ? pattern_byte(MEMORY_SEED, at) : ~pattern_byte(MEMORY_SEED, at)));
    need(pattern_same(MEMORY_SEED, 0, other, size));
    check_reads(fd, MEMORY_SEED, size, 5, 100);
}

static void write_refused(const char *ref, const char *unused)
{
    (void)unused;
    char path[512];
    int fd = must_open(O_RDWR, "snapshots", ref, "memory");
    need(pwrite(fd, "x", 1, 0) < 0 && (errno == EROFS || errno == EACCES || errno == EPERM));
    need(ftruncate(fd, 5) < 0 && (errno == EROFS || errno == EPERM));
    need(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, client_page) < 0);
    need(open_at(O_WRONLY | O_TRUNC, "snapshots", ref, "memory") < 0); /* or the kernel takes the size for 0 */
    snprintf(path, sizeof path, "%s/snapshots/new", mount_dir);
    need(mkdir(path, 0755) < 0);
    snprintf(path, sizeof path, "%s/snapshots/%s/memory", mount_dir, ref);
    need(unlink(path) < 0);
    need(chmod(path, 0666) < 0);
    close(fd);
    read_exactly(ref, "memory");
}

/* As a guest that has the page mapped while somebody tries to write to the file. */
static void refused_write_unseen(const char *ref, const char *unused)
{
    (void)unused;
    int fd = must_open(O_RDWR, "snapshots", ref, "memory");
    uint8_t *guest = mmap(NULL, MEMORY_SIZE, PROT_READ, MAP_PRIVATE, fd, 0);
    uint8_t junk[3 * client_page];
    memset(junk, 0xa5, sizeof junk);
    need(guest != MAP_FAILED && pattern_same(MEMORY_SEED, 0, guest, MEMORY_SIZE));
    need(pwrite(fd, junk, sizeof junk, 4 * client_page) < 0);
    need(pattern_same(MEMORY_SEED, 0, guest, MEMORY_SIZE));
    check_reads(fd, MEMORY_SEED, MEMORY_SIZE, 6, 100);
    need(pwrite(fd, junk, 100, 4 * client_page + 50) < 0);
    need(pattern_same(MEMORY_SEED, 0, guest, MEMORY_SIZE));
}

/* The kernel may show a shared mapping's stores until it writes them back; from then on nobody may see them. */
static void shared_map_unseen(const char *ref, const char *unused)
{
    (void)unused;
    int fd = must_open(O_RDWR, "snapshots", ref, "memory");
    uint8_t *shared = mmap(NULL, MEMORY_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (shared == MAP_FAILED)
        return; /* refusing it altogether is as good */
    memset(shared + 4 * client_page, 0xa5, client_page);
    msync(shared, MEMORY_SIZE, MS_SYNC);
    munmap(shared, MEMORY_SIZE);
    bool clean = false;
    for (int i = 0; i < 100 && !clean; i++) {
        uint8_t bytes[client_page];
        need(pread(fd, bytes, sizeof bytes, 4 * client_page) == sizeof bytes);
        clean = pattern_same(MEMORY_SEED, 4 * client_page, bytes, sizeof bytes);
        poll(NULL, 0, 10);
    }
    need(clean);
}

static void *reader(void *arg)
{
    uint64_t random = (uintptr_t)arg ^ (uint64_t)getpid() << 8;
    const char *ref = "base";
    int memory = must_open(O_RDONLY, "snapshots", ref, "memory");
    int disk = must_open(O_RDONLY, "snapshots", ref, "disk0");
    for (int i = 0; i < 10; i++) {
        check_reads(memory, MEMORY_SEED, MEMORY_SIZE, random + (uint64_t)i, 20);
        check_reads(disk, DISK_SEED, DISK_SIZE, random + (uint64_t)i, 20);
    }
    return NULL;
}

static void read_threads(const char *ref, const char *unused)
{
    (void)ref, (void)unused;
    pthread_t threads[6];
    for (uintptr_t i = 0; i < 6; i++)
        need(pthread_create(&threads[i], NULL, reader, (void *)i) == 0);
    for (int i = 0; i < 6; i++)
        pthread_join(threads[i], NULL);
}

/* Each read gives the right bytes or EIO, and some give EIO. */
static void damaged(const char *ref, const char *unused)
{
    (void)unused;
    unsigned failed = 0;
    const char *images[] = {"memory", "disk0"};
    for (int i = 0; i < 2; i++) {
        int fd = open_at(O_RDONLY | O_DIRECT, "snapshots", ref, images[i]);
        uint8_t *bytes = aligned_alloc(client_page, client_page);
        need(fd >= 0 && bytes);
        for (uint64_t at = 0; at + client_page <= DISK_SIZE; at += client_page) {
            ssize_t n = pread(fd, bytes, client_page, (off_t)at);
            need(n == client_page || (n < 0 && errno == EIO));
            need(n < 0 || pattern_same(i ? DISK_SEED : MEMORY_SEED, at, bytes, client_page));
            failed += n < 0;
        }
        free(bytes);
    }
    need(failed > 0);
}

/* --- names --- */

static void missing(const char *path, const char *unused)
{
    (void)unused;
    struct stat st;
    char whole[512];
    snprintf(whole, sizeof whole, "%s/%s", mount_dir, path);
    need(stat(whole, &st) < 0 && errno == ENOENT);
}

static void tag_leads_to(const char *tag, const char *id)
{
    char path[512], target[64] = "";
    struct stat st;
    snprintf(path, sizeof path, "%s/snapshots/%s", mount_dir, tag);
    need(lstat(path, &st) == 0 && S_ISLNK(st.st_mode) && (size_t)st.st_size == strlen(id));
    need(readlink(path, target, sizeof target - 1) > 0 && strcmp(target, id) == 0);
    manifest(tag, id);
}

static void list_tags(const char *count, const char *unused)
{
    (void)unused;
    char path[512], seen[1000] = {0};
    int names = 0;
    snprintf(path, sizeof path, "%s/snapshots", mount_dir);
    DIR *dir = opendir(path);
    need(dir);
    for (struct dirent *e; (e = readdir(dir));) {
        if (e->d_name[0] != 't')
            continue;
        int number = atoi(e->d_name + 1);
        need(e->d_type == DT_LNK && number < atoi(count) && !seen[number]);
        seen[number] = 1;
        names++;
    }
    closedir(dir);
    need(names == atoi(count));
}

static void hold_removed(const char *id, const char *unused)
{
    (void)unused;
    int fd = must_open(O_RDONLY, "snapshots", id, "memory");
    uint8_t *map = mmap(NULL, MEMORY_SIZE, PROT_READ, MAP_PRIVATE, fd, 0);
    char path[64];
    need(map != MAP_FAILED && map[0] == pattern_byte(MEMORY_SEED, 0));
    say_ready_and_wait();
    snprintf(path, sizeof path, "snapshots/%s", id);
    missing(path, NULL);
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    need(pattern_same(MEMORY_SEED, 0, map, MEMORY_SIZE));
    check_reads(fd, MEMORY_SEED, MEMORY_SIZE, 9, 100);
}

/* --- branches --- */

static void read_branch(const char *branch, const char *unused)
{
    (void)unused;
    uint8_t *all = malloc(DISK_SIZE + 1);
    struct stat st;
    int fd = must_open(O_RDONLY, "branches", branch, "disk0");
    need(fstat(fd, &st) == 0 && st.st_size == DISK_SIZE && (st.st_mode & 07777) == 0600);
    need(read(fd, all, DISK_SIZE + 1) == DISK_SIZE && pattern_same(DISK_SEED, 0, all, DISK_SIZE));
    free(all);
}

static void disk_mark(const char *branch, const char *unused)
{
    (void)unused;
    int fd = must_open(O_RDWR, "branches", branch, "disk0");
    need(pwrite(fd, "mark", 4, 5 * client_page + 7) == 4 && fsync(fd) == 0);
}

static void read_marked(const char *ref, const char *unused)
{
    (void)unused;
    uint8_t all[8 * client_page];
    int fd = must_open(O_RDONLY, "snapshots", ref, "disk0");
    const size_t mark = 5 * client_page + 7;
    need(pread(fd, all, sizeof all, 0) == sizeof all && memcmp(all + mark, "mark", 4) == 0);
    need(pattern_same(DISK_SEED, 0, all, mark));
    need(pattern_same(DISK_SEED, mark + 4, all + mark + 4, sizeof all - mark - 4));
}

/* Random writes, punches and reads, buffered and direct, against a model. */
static void disk_io(const char *branch, const char *unused)
{
    (void)unused;
    int fd = must_open(O_RDWR, "branches", branch, "disk0"),
        direct = must_open(O_RDWR | O_DIRECT, "branches", branch, "disk0");
    uint8_t *model = malloc(DISK_SIZE), *all = malloc(DISK_SIZE), *block = aligned_alloc(client_page, 16 * client_page);
    uint64_t random = 11;
    pattern_fill(DISK_SEED, 0, model, DISK_SIZE);
    for (int i = 0; i < 400; i++) {
        bool whole = i % 4 == 3;
        uint64_t at = (next_random(&random) >> 16) % (DISK_SIZE - 16 * client_page);
        size_t size = 1 + (size_t)((next_random(&random) >> 16) % (16 * client_page - 1));
        if (whole) {
            at -= at % client_page;
            size = (size + client_page - 1) / client_page * client_page;
        }
        memset(block, i + 1, size);
        if (i % 7 == 6) {
            int mode = i % 2 ? FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE : FALLOC_FL_ZERO_RANGE;
            need(fallocate(fd, mode, (off_t)at, (off_t)size) == 0);
            memset(model + at, 0, size);
        } else {
            need(pwrite(whole ? direct : fd, block, size, (off_t)at) == (ssize_t)size);
            memcpy(model + at, block, size);
        }
        need(i % 50 || fsync(fd) == 0);
    }
    need(pread(fd, all, DISK_SIZE, 0) == DISK_SIZE && memcmp(all, model, DISK_SIZE) == 0);
    need(fdatasync(direct) == 0);
    for (size_t at = 0; at < DISK_SIZE; at += 16 * client_page)
        need(pread(direct, block, 16 * client_page, (off_t)at) == 16 * client_page &&
             !memcmp(block, model + at, 16 * client_page));
    free(model);
    free(all);
    free(block);
}

/* The size is fixed, whatever is tried. */
static void disk_limits(const char *branch, const char *unused)
{
    (void)unused;
    struct stat st;
    int fd = must_open(O_RDWR, "branches", branch, "disk0");
    need(ftruncate(fd, DISK_SIZE / 2) < 0 && (errno == EPERM || errno == EINVAL));
    need(ftruncate(fd, DISK_SIZE * 2) < 0 && (errno == EPERM || errno == EINVAL));
    need(ftruncate(fd, DISK_SIZE) == 0);
    need(open_at(O_RDWR | O_TRUNC, "branches", branch, "disk0") < 0);
    need(pwrite(fd, "xx", 2, DISK_SIZE) < 0);
    need(pwrite(fd, "xx", 2, DISK_SIZE - 1) <= 1);
    need(fallocate(fd, 0, 0, DISK_SIZE * 2) < 0);
    need(fallocate(fd, FALLOC_FL_ZERO_RANGE, DISK_SIZE - client_page, 2 * client_page) < 0);
    need(fstat(fd, &st) == 0 && st.st_size == DISK_SIZE);
    need(pread(fd, &st, 1, DISK_SIZE) == 0);
}

static void branches_apart(const char *left, const char *right)
{
    uint8_t *model[2] = {malloc(DISK_SIZE), malloc(DISK_SIZE)}, *all = malloc(DISK_SIZE), block[9000];
    int fds[2] = {must_open(O_RDWR, "branches", left, "disk0"), must_open(O_RDWR, "branches", right, "disk0")};
    uint64_t random = 12;
    for (int side = 0; side < 2; side++)
        pattern_fill(DISK_SEED, 0, model[side], DISK_SIZE);
    for (int i = 0; i < 300; i++) {
        int side = (int)(next_random(&random) >> 40 & 1);
        uint64_t at = (next_random(&random) >> 16) % (DISK_SIZE - sizeof block);
        size_t size = 1 + (size_t)((next_random(&random) >> 16) % (sizeof block - 1));
        memset(block, side ? 0xbb : 0xaa, size);
        need(pwrite(fds[side], block, size, (off_t)at) == (ssize_t)size);
        memcpy(model[side] + at, block, size);
    }
    for (int side = 0; side < 2; side++) {
        need(pread(fds[side], all, DISK_SIZE, 0) == DISK_SIZE && memcmp(all, model[side], DISK_SIZE) == 0);
        free(model[side]);
    }
    free(all);
}

/* --- the ends of a mount --- */

static void end_well(int signal_number)
{
    (void)signal_number;
    _exit(0);
}

/* After the mount stopped, an untouched page is an error (SIGBUS), not a hang. */
static void hold_mapped(const char *ref, const char *unused)
{
    (void)unused;
    int fd = must_open(O_RDONLY, "snapshots", ref, "memory");
    volatile uint8_t *map = mmap(NULL, MEMORY_SIZE, PROT_READ, MAP_PRIVATE, fd, 0);
    need(map != MAP_FAILED);
    need(madvise((void *)map, MEMORY_SIZE, MADV_RANDOM) == 0 && map[0] == pattern_byte(MEMORY_SEED, 0));
    say_ready_and_wait();
    char byte;
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    need(pread(fd, &byte, 1, 512 * client_page) < 0);
    signal(SIGBUS, end_well);
    (void)map[600 * client_page];
    need(!"a page came from a mount that is gone");
}

static int client_main(const char *function, const char *dir, const char *a, const char *b)
{
    static const struct {
        const char *name;
        void (*run)(const char *, const char *);
    } functions[] = {
#define CLIENT(name) {#name, name}
        CLIENT(read_exactly),      CLIENT(holes),         CLIENT(manifest),
        CLIENT(map_private),       CLIENT(write_refused), CLIENT(refused_write_unseen),
        CLIENT(shared_map_unseen), CLIENT(read_threads),  CLIENT(damaged),
        CLIENT(missing),           CLIENT(tag_leads_to),  CLIENT(list_tags),
        CLIENT(hold_removed),      CLIENT(read_branch),   CLIENT(disk_mark),
        CLIENT(read_marked),       CLIENT(disk_io),       CLIENT(disk_limits),
        CLIENT(branches_apart),    CLIENT(hold_mapped),
    };
    mount_dir = dir;
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
        if (strcmp(functions[i].name, function) == 0) {
            functions[i].run(a, b);
            return 0;
        }
    fprintf(stderr, "client: no function %s\n", function);
    return 1;
}
