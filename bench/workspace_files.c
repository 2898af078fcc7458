/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What one operation on a workspace's files costs, without the mount: ramet-workspace-files-bench DIR FILES [ROUNDS].
 * JSON lines {"name", "unit", "samples"}, a sample a round. Microseconds are the calling thread's processor time, which
 * a busy machine disturbs less than the clock; rates are by the clock.
 */
#include "tool.h"
#include "workspace/diff.h"
#include "workspace/files.h"

#include "base/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { most_rounds = 100, large_mib = 256 };

static const struct ramet_wowner owner;

static double cpu_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

enum what {
    CREATE,
    STAT,
    LOOKUP,
    MISS,
    LIST,
    LIST_STAT,
    WRITE,
    OVERWRITE,
    READ,
    WRITE_LARGE,
    READ_LARGE,
    DIFF,
    UNLINK,
    WHATS
};
static const struct {
    const char *name, *unit;
} series[WHATS] = {{"create", "us"},       {"stat", "us"},
                   {"lookup", "us"},       {"lookup, missing", "us"},
                   {"list", "ms"},         {"list with attributes", "ms"},
                   {"write 4 KiB", "us"},  {"overwrite 4 KiB", "us"},
                   {"read 4 KiB", "us"},   {"write 1 MiB", "GB/s"},
                   {"read 1 MiB", "GB/s"}, {"diff of 100 changes", "ms"},
                   {"unlink", "us"}};
static double samples[WHATS][most_rounds];

static bool count_one(void *ctx, const struct ramet_wentry *entry, const struct ramet_wstat *stat)
{
    (void)entry, (void)stat;
    ++*(size_t *)ctx;
    return true;
}

static void name_of(char *name, size_t i, const char *kind) { snprintf(name, 64, "%s-%zu.c", kind, i); }

static void measure_names(struct ramet_workspace *ws, uint64_t *inos, size_t files, int round)
{
    struct ramet_wstat stat;
    char name[64];
    size_t seen = 0;
    double began = cpu_us();
    for (size_t i = 0; i < files; i++) {
        name_of(name, i, "file");
        runs(ramet_wfile_make(ws, RAMET_WORKSPACE_ROOT, name, S_IFREG | 0644, 0, 0, owner, &stat, &err));
        inos[i] = stat.ino;
    }
    samples[CREATE][round] = (cpu_us() - began) / (double)files;
    began = cpu_us();
    for (size_t i = 0; i < files; i++)
        runs(ramet_wfile_stat(ws, inos[mix64(i) % files], &stat, &err));
    samples[STAT][round] = (cpu_us() - began) / (double)files;
    for (int miss = 0; miss < 2; miss++) {
        began = cpu_us();
        for (size_t i = 0; i < files; i++) {
            name_of(name, mix64(i) % files, miss ? "none" : "file");
            if ((ramet_wfile_lookup(ws, RAMET_WORKSPACE_ROOT, name, &stat, &err) == 0) == miss)
                runs(ramet_error_set(&err, RAMET_INTERNAL, "a lookup of %s is wrong", name));
        }
        samples[miss ? MISS : LOOKUP][round] = (cpu_us() - began) / (double)files;
    }
    for (int with = 0; with < 2; with++) {
        began = cpu_us();
        runs(ramet_wfile_list(ws, RAMET_WORKSPACE_ROOT, 0, count_one, &seen, with, &err));
        samples[with ? LIST_STAT : LIST][round] = (cpu_us() - began) / 1e3;
    }
}

static void measure_content(struct ramet_workspace *ws, const uint64_t *inos, size_t files, uint8_t *buf, int round)
{
    static const enum what small[] = {WRITE, OVERWRITE, READ}, large[] = {WRITE_LARGE, READ_LARGE};
    size_t got;
    for (int k = 0; k < 3; k++) {
        double began = cpu_us();
        for (size_t i = 0; i < files; i++)
            runs(k < 2 ? ramet_wfile_write(ws, inos[i], 0, buf + i % 4096, 4096, false, true, NULL, &err)
                       : ramet_wfile_read(ws, inos[i], 0, buf, 4096, &got, &err));
        samples[small[k]][round] = (cpu_us() - began) / (double)files;
    }
    for (int k = 0; k < 2; k++) {
        uint64_t began = ramet_now_us();
        for (uint64_t i = 0; i < large_mib; i++)
            runs(k == 0 ? ramet_wfile_write(ws, inos[0], i << 20, buf, 1 << 20, false, true, NULL, &err)
                        : ramet_wfile_read(ws, inos[0], i << 20, buf, 1 << 20, &got, &err));
        samples[large[k]][round] = large_mib * 1048.576 / (double)(ramet_now_us() - began);
    }
}

static void measure_diff(struct ramet_workspace *ws, const uint64_t *inos, size_t files, int round)
{
    struct ramet_workspace *fork;
    struct ramet_wdiff *diff;
    runs(ramet_workspace_fork(ws, "fork", &fork, &err));
    for (size_t i = 0; i < 100; i++)
        runs(ramet_wfile_write(fork, inos[1 + i * (files - 1) / 100], 0, "changed", 7, false, true, NULL, &err));
    double began = cpu_us();
    runs(ramet_wdiff_make(ws, fork, &diff, &err));
    samples[DIFF][round] = (cpu_us() - began) / 1e3;
    if (diff->count != 100)
        runs(ramet_error_set(&err, RAMET_INTERNAL, "%zu differences, not 100", diff->count));
    ramet_wdiff_free(diff);
    runs(ramet_workspace_remove(fork, &err));
    ramet_workspace_unref(fork);
}

static void measure(struct ramet_workspaces *set, size_t files, uint64_t *inos, uint8_t *buf, int round)
{
    struct ramet_workspace *ws;
    char name[64];
    snprintf(name, sizeof name, "round-%d", round);
    runs(ramet_workspace_create(set, name, 0, 0, &ws, &err));
    measure_names(ws, inos, files, round);
    measure_content(ws, inos, files, buf, round);
    measure_diff(ws, inos, files, round);
    double began = cpu_us();
    for (size_t i = 0; i < files; i++) {
        name_of(name, i, "file");
        runs(ramet_wfile_unlink(ws, RAMET_WORKSPACE_ROOT, name, NULL, &err));
    }
    samples[UNLINK][round] = (cpu_us() - began) / (double)files;
    runs(ramet_workspace_remove(ws, &err));
    ramet_workspace_unref(ws);
    runs(ramet_workspaces_checkpoint(set, &err));
}

int main(int argc, char **argv)
{
    struct ramet_workspaces *set;
    if (argc < 3) {
        fprintf(stderr, "usage: %s DIR FILES [ROUNDS]\n", argv[0]);
        return 2;
    }
    size_t files = strtoul(argv[2], NULL, 10);
    int rounds = argc > 3 ? atoi(argv[3]) : 5;
    rounds = rounds < 1 ? 1 : rounds > most_rounds ? most_rounds : rounds;
    files = files < 200 ? 200 : files;
    struct bench_store bench = bench_open(argv[1]);
    uint64_t *inos = make_memory(files * sizeof *inos);
    uint8_t *buf = make_memory((1 << 20) + 4096);
    for (size_t i = 0; i < (1 << 20); i++)
        buf[i] = (uint8_t)mix64(i);
    runs(ramet_workspaces_open(bench.catalog, &set, &err));
    for (int round = 0; round < rounds; round++)
        measure(set, files, inos, buf, round);
    for (int i = 0; i < WHATS; i++)
        emit(series[i].name, series[i].unit, samples[i], (size_t)rounds);
    ramet_workspaces_close(set);
    bench_close(&bench);
    free(inos);
    free(buf);
    return 0;
}
