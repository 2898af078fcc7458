/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The small operations of the workspace bench, in one process: ramet-workspace-load DIR FILES BYTES SECONDS.
 *
 * In a fresh directory below DIR it makes FILES files of 1 KiB (create, write, close), writes 10 bytes at a time and
 * asks for the attributes after each, opens, reads and closes every file twice (the second time counts), removes them;
 * then on one file of BYTES: reads it all twice (the second time counts), and reads and writes 4 KiB at random places
 * for SECONDS each. Prints one JSON object: microseconds an operation, GB/s, operations a second.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { small = 1024, page = 4096, large = 1 << 20 };

static char buf[1 << 20];

static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void need(int good, const char *what)
{
    if (good)
        return;
    perror(what);
    exit(1);
}

static const char *name_of(unsigned i)
{
    static char name[32];
    snprintf(name, sizeof name, "file-%u", i);
    return name;
}

static double create(unsigned files)
{
    double began = now_us();
    for (unsigned i = 0; i < files; i++) {
        int fd = open(name_of(i), O_CREAT | O_WRONLY | O_TRUNC, 0644);
        need(fd >= 0 && write(fd, buf, small) == small && close(fd) == 0, "create");
    }
    return (now_us() - began) / files;
}

/* Only the fstat counts. */
static double stat_after_write(unsigned files)
{
    struct stat st;
    double sum = 0;
    int fd = open(name_of(0), O_RDWR);
    for (unsigned i = 0; i < files; i++) {
        need(pwrite(fd, buf, 10, i * 10) == 10, "write");
        double began = now_us();
        need(fstat(fd, &st) == 0, "fstat");
        sum += now_us() - began;
    }
    close(fd);
    return sum / files;
}

static double open_read_close(unsigned files)
{
    double began = now_us();
    for (unsigned i = 1; i < files; i++) {
        int fd = open(name_of(i), O_RDONLY);
        need(fd >= 0 && read(fd, buf, small) == small && close(fd) == 0, "read");
    }
    return (now_us() - began) / (files - 1);
}

static double remove_all(unsigned files)
{
    double began = now_us();
    for (unsigned i = 0; i < files; i++)
        need(unlink(name_of(i)) == 0, "unlink");
    return (now_us() - began) / files;
}

static void fill(int fd, uint64_t bytes)
{
    for (size_t i = 0; i < sizeof buf; i++)
        buf[i] = (char)rand();
    for (uint64_t at = 0; at < bytes; at += large)
        need(pwrite(fd, buf, large, (off_t)at) == large, "write");
}

static double read_all(int fd, uint64_t bytes)
{
    double began = now_us();
    for (uint64_t at = 0; at < bytes; at += large)
        need(pread(fd, buf, large, (off_t)at) == large, "read");
    return (double)bytes / 1e3 / (now_us() - began);
}

static double at_random(int fd, uint64_t bytes, double seconds, int writes)
{
    double began = now_us(), end = began + seconds * 1e6, now = began;
    unsigned count = 0;
    for (; now < end; now = now_us())
        for (int i = 0; i < 64; i++, count++) {
            off_t at = (off_t)((uint64_t)rand() % (bytes / page) * page);
            need((writes ? pwrite(fd, buf, page, at) : pread(fd, buf, page, at)) == page, "random");
        }
    return count / (now - began) * 1e6;
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: %s DIR FILES BYTES SECONDS\n", argv[0]);
        return 2;
    }
    unsigned files = (unsigned)atoi(argv[2]);
    uint64_t bytes = strtoull(argv[3], NULL, 10) / large * large;
    double seconds = atof(argv[4]);
    need(chdir(argv[1]) == 0 && mkdir("load", 0755) == 0 && chdir("load") == 0, argv[1]);
    printf("{\"create\": %.3f, ", create(files));
    printf("\"stat_after_write\": %.3f, ", stat_after_write(files));
    open_read_close(files);
    printf("\"open_read_close\": %.3f, ", open_read_close(files));
    printf("\"unlink\": %.3f, ", remove_all(files));
    int fd = open("large", O_CREAT | O_RDWR, 0644);
    need(fd >= 0, "large");
    fill(fd, bytes);
    read_all(fd, bytes);
    printf("\"sequential_read\": %.3f, ", read_all(fd, bytes));
    printf("\"random_read\": %.0f, ", at_random(fd, bytes, seconds, 0));
    printf("\"random_write\": %.0f}\n", at_random(fd, bytes, seconds, 1));
    close(fd);
    need(unlink("large") == 0 && chdir("..") == 0 && rmdir("load") == 0, "clean up");
    return 0;
}
