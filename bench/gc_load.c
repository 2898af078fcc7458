/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gc-load DIR FRESH SNAPSHOTS PAGES SECONDS: a collection under load.
 *
 * SNAPSHOTS images of PAGES pages are stored in DIR. Of each, two fifths are what all of
 * them hold, a fifth comes from one earlier image, two fifths are its own, in runs of 1 to
 * 16 pages. Every tenth survives. Readers take random pages of the survivors and a writer
 * stores new snapshots: for SECONDS alone, while the others are removed and collected, and
 * for SECONDS again. Nothing else differs between the three.
 *
 * What the removed ones did not share is measured by storing just that in FRESH.
 */
#include "tool.h"

#include "base/file.h"
#include "base/u64map.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    entropy = 2048, /* pages shrink to about half, as a guest's do */
    keep_every = 10,
    readers = 2,
    read_pause_us = 500,
    write_pages = 2048,
    write_pause_us = 100000,
    samples_max = 1 << 18,
};
enum phase { before, during, after, phase_count, stop = phase_count };
static const char *const phase_names[phase_count] = {"before", "during", "after"};

struct plan {
    size_t snapshots, pages;
    uint64_t **numbers; /* by snapshot: which distinct page each of its pages is */
    struct ramet_snapshot **stored;
};

struct load {
    struct bench_store *bench;
    const struct plan *plan;
    _Atomic int phase;
    _Atomic uint64_t written_bytes[phase_count], stored_bytes;
};

struct reader {
    struct load *load;
    uint64_t seed;
    double *us[phase_count];
    size_t count[phase_count];
};

static bool survives(size_t snapshot) { return snapshot % keep_every == 0; }

static void make_plan(struct plan *plan, struct bench_store *bench)
{
    uint64_t seed = 0;
    plan->numbers = make_memory(plan->snapshots * sizeof *plan->numbers);
    plan->stored = make_memory(plan->snapshots * sizeof *plan->stored);
    for (size_t s = 0; s < plan->snapshots; s++) {
        uint64_t *numbers = plan->numbers[s] = make_memory(plan->pages * sizeof *numbers);
        for (size_t p = 0, run; p < plan->pages; p += run) {
            uint64_t dice = mix64(seed++);
            size_t earlier = s ? (dice >> 8) % s : 0, from = dice >> 32;
            run = 1 + (dice >> 4) % 16;
            for (size_t i = p; i < p + run && i < plan->pages; i++)
                numbers[i] = dice % 5 < 2             ? i
                             : dice % 5 == 2 && s > 0 ? plan->numbers[earlier][(from + i) % plan->pages]
                                                      : (s + 1) * plan->pages + i;
        }
        plan->stored[s] = store_pages(bench, numbers, plan->pages, entropy, NULL);
    }
}

static void *read_on(void *arg)
{
    struct reader *reader = arg;
    const struct plan *plan = reader->load->plan;
    size_t kept = (plan->snapshots + keep_every - 1) / keep_every;
    int phase;
    while ((phase = atomic_load(&reader->load->phase)) != stop) {
        uint8_t page[RAMET_PAGE_SIZE];
        uint64_t dice = mix64(reader->seed++), where = dice % plan->pages;
        struct ramet_snapshot *snapshot = plan->stored[(dice >> 32) % kept * keep_every];
        struct ramet_image *image = ramet_snapshot_image(snapshot, "memory");
        uint64_t began = ramet_now_us();
        runs(ramet_image_read(image, where * RAMET_PAGE_SIZE, page, sizeof page, &err));
        double us = (double)(ramet_now_us() - began);
        size_t *count = &reader->count[phase];
        if (phase == atomic_load(&reader->load->phase) && *count < samples_max)
            reader->us[phase][(*count)++] = us;
        usleep((useconds_t)(read_pause_us / 2 + (dice >> 40) % read_pause_us));
    }
    return NULL;
}

static void *write_on(void *arg)
{
    struct load *load = arg;
    uint64_t numbers[write_pages], next = UINT64_C(1) << 48;
    int phase;
    while ((phase = atomic_load(&load->phase)) != stop) {
        for (size_t i = 0; i < write_pages; i++)
            numbers[i] = i / 8 % 2 && i < load->plan->pages ? i : next++;
        struct ramet_snapshot *snapshot = store_pages(load->bench, numbers, write_pages, entropy, NULL);
        atomic_fetch_add(&load->stored_bytes, atomic_load(&snapshot->stored_bytes));
        atomic_fetch_add(&load->written_bytes[phase], (uint64_t)write_pages * RAMET_PAGE_SIZE);
        ramet_snapshot_unref(snapshot);
        usleep(write_pause_us);
    }
    return NULL;
}

/* Stores in a store of its own what only removed snapshots hold, each page once; MiB of its packs. */
static double unshared_mib(const struct plan *plan, const char *dir)
{
    struct ramet_u64map known = {0};
    struct bench_store fresh = bench_open(dir);
    uint64_t *numbers = make_memory(plan->pages * sizeof *numbers);
    for (int round = 0; round < 2; round++)
        for (size_t s = 0; s < plan->snapshots; s++) {
            size_t count = 0;
            if (survives(s) != (round == 0))
                continue;
            for (size_t p = 0; p < plan->pages; p++) {
                uint64_t number = plan->numbers[s][p], seen;
                if (ramet_u64map_get(&known, number, &seen))
                    continue;
                if (!ramet_u64map_put(&known, number, 1))
                    runs(ramet_error_set(&err, RAMET_NO_MEMORY, "no memory"));
                numbers[count++] = number;
            }
            if (round == 1 && count)
                ramet_snapshot_unref(store_pages(&fresh, numbers, count, entropy, NULL));
        }
    ramet_u64map_free(&known);
    free(numbers);
    bench_close(&fresh);
    return pack_mib(dir);
}

static void remove_and_collect(struct load *load, struct ramet_gc_result *ret)
{
    const struct plan *plan = load->plan;
    for (size_t s = 0; s < plan->snapshots; s++)
        if (!survives(s)) {
            runs(ramet_catalog_remove(load->bench->catalog, plan->stored[s], &err));
            ramet_snapshot_unref(plan->stored[s]);
        }
    atomic_store(&load->phase, during);
    runs(ramet_catalog_gc(load->bench->catalog, ret, &err));
    atomic_store(&load->phase, after);
}

static void report(struct load *load, struct reader *all, double seconds, const struct ramet_gc_result *gc)
{
    double *us = make_memory((size_t)readers * samples_max * sizeof *us);
    for (int phase = 0; phase < phase_count; phase++) {
        char name[64];
        size_t count = 0;
        for (int i = 0; i < readers; i++) {
            memcpy(us + count, all[i].us[phase], all[i].count[phase] * sizeof *us);
            count += all[i].count[phase];
        }
        snprintf(name, sizeof name, "read.%s", phase_names[phase]);
        emit(name, "us", us, count);
        snprintf(name, sizeof name, "write.%s", phase_names[phase]);
        emit_one(name, "MiB/s",
                 (double)atomic_load(&load->written_bytes[phase]) / (1 << 20) /
                     (phase == during ? (double)gc->duration_us / 1e6 : seconds));
    }
    free(us);
    emit_one("gc", "us", (double)gc->duration_us);
    emit_one("gc.dead", "chunks", (double)gc->dead_chunks);
    emit_one("gc.live", "chunks", (double)gc->live_chunks);
}

int gc_load(int argc, char **argv)
{
    if (argc != 7) {
        fprintf(stderr, "usage: gc-load DIR FRESH SNAPSHOTS PAGES SECONDS\n");
        return 2;
    }
    const char *dir = argv[2];
    struct plan plan = {.snapshots = strtoul(argv[4], NULL, 0), .pages = strtoul(argv[5], NULL, 0)};
    double seconds = strtod(argv[6], NULL);
    struct bench_store bench = bench_open(dir);
    struct load load = {.bench = &bench, .plan = &plan};
    struct reader all[readers] = {0};
    struct ramet_gc_result gc = {0};
    pthread_t threads[readers + 1];
    make_plan(&plan, &bench);
    double full = pack_mib(dir);
    for (int i = 0; i < readers; i++) {
        all[i] = (struct reader){.load = &load, .seed = (uint64_t)(i + 1) << 56};
        for (int phase = 0; phase < phase_count; phase++)
            all[i].us[phase] = make_memory(samples_max * sizeof(double));
        pthread_create(&threads[i], NULL, read_on, &all[i]);
    }
    pthread_create(&threads[readers], NULL, write_on, &load);
    usleep((useconds_t)(seconds * 1e6));
    remove_and_collect(&load, &gc);
    usleep((useconds_t)(seconds * 1e6));
    atomic_store(&load.phase, stop);
    for (int i = 0; i <= readers; i++)
        pthread_join(threads[i], NULL);
    report(&load, all, seconds, &gc);
    emit_one("packs.full", "MiB", full);
    emit_one("returned", "MiB", full + (double)atomic_load(&load.stored_bytes) / (1 << 20) - pack_mib(dir));
    for (size_t s = 0; s < plan.snapshots; s += keep_every)
        ramet_snapshot_unref(plan.stored[s]);
    bench_close(&bench);
    emit_one("unshared", "MiB", unshared_mib(&plan, argv[3]));
    for (int i = 0; i < readers; i++)
        for (int phase = 0; phase < phase_count; phase++)
            free(all[i].us[phase]);
    for (size_t s = 0; s < plan.snapshots; s++)
        free(plan.numbers[s]);
    free(plan.numbers);
    free(plan.stored);
    return 0;
}
