/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the core of workspaces costs, without files and mount: a change of three records,
 * reading one, a fork, and making a small change durable, at several sizes of the tree.
 *
 * usage: ramet-workspace-bench DIR [RECORDS]...   JSON lines: {"records", "name", "us", "cpu_us", "n"}; cpu_us is the
 * calling thread's own time, which counts on a busy machine too
 */
#include "base/cleanup.h"
#include "base/file.h"
#include "workspace/change.h"
#include "workspace/data.h"
#include "workspace/workspace_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static struct ramet_error err;

static void must(int r)
{
    if (r >= 0)
        return;
    fprintf(stderr, "%s\n", err.msg);
    exit(1);
}

struct watch {
    uint64_t us, cpu_ns;
};

static struct watch now(void)
{
    struct timespec cpu;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu);
    return (struct watch){ramet_now_us(), (uint64_t)cpu.tv_sec * 1000000000 + (uint64_t)cpu.tv_nsec};
}

static void print(unsigned long records, const char *name, struct watch began, unsigned n)
{
    struct watch end = now();
    printf("{\"records\": %lu, \"name\": \"%s\", \"us\": %.3f, \"cpu_us\": %.3f, \"n\": %u}\n", records, name,
           (double)(end.us - began.us) / n, (double)(end.cpu_ns - began.cpu_ns) / 1000 / n, n);
}

static uint64_t next(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    return z ^ z >> 31;
}

/* As making a file does: an inode, an entry of a directory, the directory's inode. */
static void create_like(struct ramet_workspace *ws, uint64_t ino, uint64_t *state)
{
    struct ramet_wchange *change;
    struct ramet_wkey key = {.ino = ino, .type = RAMET_WTYPE_INODE};
    uint8_t value[120] = {0};
    must(ramet_workspace_lock(ws, &err));
    must(ramet_wchange_begin(ws, &change, &err));
    ramet_wchange_put(change, &key, value, 90);
    key = (struct ramet_wkey){.ino = 100 + ino / 200, .type = RAMET_WTYPE_ENTRY, .sub_size = 20};
    uint64_t hash = next(state);
    memcpy(key.sub, &hash, sizeof hash);
    ramet_wchange_put(change, &key, value, 12);
    key = (struct ramet_wkey){.ino = 100 + ino / 200, .type = RAMET_WTYPE_INODE};
    ramet_wchange_put(change, &key, value, 90);
    must(ramet_wchange_apply(change, &err));
    ramet_workspace_unlock(ws);
}

static void measure_forks(struct ramet_workspace *ws, unsigned long records)
{
    enum { forks = 500 };
    struct ramet_workspace *made[forks];
    char name[32];
    struct watch began = now();
    for (unsigned i = 0; i < forks; i++) {
        snprintf(name, sizeof name, "f%lu-%u", records, i);
        must(ramet_workspace_fork(ws, name, &made[i], &err));
    }
    print(records, "fork", began, forks);
    began = now();
    for (unsigned i = 0; i < forks; i++) {
        must(ramet_workspace_remove(made[i], &err));
        ramet_workspace_unref(made[i]);
    }
    print(records, "remove a fork", began, forks);
}

static void measure_syncs(struct ramet_workspaces *set, struct ramet_workspace *ws, unsigned long records,
                          uint64_t *state)
{
    enum { syncs = 100 };
    struct watch began = now();
    for (unsigned i = 0; i < syncs; i++) {
        create_like(ws, 50000000 + i, state);
        must(ramet_workspaces_sync(set, &err));
    }
    print(records, "change and sync", began, syncs);
}

static void measure(struct ramet_workspaces *set, unsigned long records)
{
    enum { reads = 200000 };
    struct ramet_workspace *ws;
    char name[32];
    uint64_t state = 1, first = 1000000;
    unsigned files = (unsigned)(records / 2);
    snprintf(name, sizeof name, "w%lu", records);
    must(ramet_workspace_create(set, name, 0, 0, &ws, &err));
    struct watch began = now();
    for (unsigned i = 0; i < files; i++)
        create_like(ws, first + i, &state);
    print(records, "change of 3 records", began, files);
    began = now();
    for (unsigned i = 0; i < reads; i++) {
        struct ramet_wkey key = {.ino = first + next(&state) % files, .type = RAMET_WTYPE_INODE};
        struct ramet_wvalue value;
        must(ramet_workspace_lock_shared(ws, &err));
        must(ramet_wtree_get(ramet_workspace_tree(ws), &key, &value, &err));
        ramet_workspace_unlock(ws);
    }
    print(records, "get", began, reads);
    measure_forks(ws, records);
    measure_syncs(set, ws, records, &state);
    began = now();
    must(ramet_workspaces_checkpoint(set, &err));
    print(records, "checkpoint", began, 1);
    ramet_workspace_unref(ws);
}

int main(int argc, char **argv)
{
    static char *const sizes[] = {"2000", "40000", "400000", NULL};
    struct ramet_store *store;
    struct ramet_catalog *catalog;
    struct ramet_workspaces *set;
    if (argc < 2) {
        fprintf(stderr, "usage: %s DIR [RECORDS]...\n", argv[0]);
        return 2;
    }
    must(ramet_store_open(argv[1], NULL, &store, &err));
    must(ramet_catalog_open(store, &catalog, &err));
    must(ramet_workspaces_open(catalog, &set, &err));
    for (char *const *size = argc > 2 ? argv + 2 : sizes; *size; size++)
        measure(set, strtoul(*size, NULL, 10));
    ramet_workspaces_close(set);
    ramet_catalog_close(catalog);
    ramet_store_close(store);
    return 0;
}
