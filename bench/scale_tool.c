/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The programs behind scale.py and gc.py, one a subcommand, so that each is measured in a
 * process of its own:
 *
 *     build DIR FROM TO PAGES   snapshots of PAGES pages each, of the distinct pages FROM to TO
 *     open DIR                  how long opening takes, and the memory then
 *     settle DIR                waits until background work on the index has ended
 *     work DIR CHUNKS           lookups and ingests of known pages, and the memory then
 *     collect DIR               collects, removes the newest snapshot, collects again
 *     map DIR                   an image of 64 GiB: made, forked, compared, looked up
 *     catalog DIR               thousands of snapshots and branches
 *     index DIR CHUNKS          the index alone (index.c)
 *     gc-load DIR ...           gc_load.c
 */
#include "tool.h"

#include "base/codec.h"
#include "base/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

enum { entropy = 64, lookup_keys = 256 };

static double since_us(uint64_t began) { return (double)(ramet_now_us() - began); }

static uint64_t number_of(const char *text) { return strtoull(text, NULL, 0); }

static int build(const char *dir, uint64_t from, uint64_t to, uint64_t pages)
{
    struct bench_store bench = bench_open(dir);
    uint64_t *numbers = make_memory(pages * sizeof *numbers), began = ramet_now_us();
    for (uint64_t at = from; at < to; at += pages) {
        uint64_t count = to - at < pages ? to - at : pages;
        for (uint64_t i = 0; i < count; i++)
            numbers[i] = at + i;
        ramet_snapshot_unref(store_pages(&bench, numbers, count, entropy, NULL));
        printf("{\"built\": %llu}\n", (unsigned long long)(at + count));
        fflush(stdout);
    }
    emit_one("build", "pages/s", (double)(to - from) * 1e6 / since_us(began));
    began = ramet_now_us();
    bench_close(&bench);
    emit_one("close", "us", since_us(began));
    free(numbers);
    return 0;
}

static int open_only(const char *dir)
{
    uint64_t began = ramet_now_us();
    struct bench_store bench = bench_open(dir);
    emit_one("open", "us", since_us(began));
    emit_one("open.rss", "MiB", status_mib("VmRSS"));
    bench_close(&bench);
    return 0;
}

static int settle(const char *dir)
{
    struct bench_store bench = bench_open(dir);
    struct ramet_store_stat stat;
    settled_bytes(ramet_store_kv(bench.store));
    runs(ramet_store_stat(bench.store, &stat, &err));
    emit_one("index", "bytes/chunk", (double)stat.index_bytes / (double)stat.chunks);
    emit_one("chunks", "chunks", (double)stat.chunks);
    emit_one("packs", "MiB", (double)stat.pack_bytes / (1 << 20));
    bench_close(&bench);
    return 0;
}

/* Every `step`th key of the index, in random order. */
static size_t sample_keys(struct ramet_kv *kv, uint64_t step, uint8_t (*keys)[8], size_t max)
{
    struct ramet_kv_iter *iter = ramet_kv_iter_new(kv, RAMET_KV_INDEX, NULL, 0);
    const void *key, *value;
    size_t key_size, value_size, count = 0;
    for (uint64_t i = 0; count < max && ramet_kv_iter_next(iter, &key, &key_size, &value, &value_size); i++)
        if (i % step == 0)
            memcpy(keys[count++], key, 8);
    ramet_kv_iter_free(iter);
    for (size_t i = count; i > 1; i--) {
        uint8_t swap[8];
        size_t other = mix64(i) % i;
        memcpy(swap, keys[i - 1], 8);
        memcpy(keys[i - 1], keys[other], 8);
        memcpy(keys[other], swap, 8);
    }
    return count;
}

static void look_up(struct ramet_kv *kv, const char *name, uint8_t (*keys)[8], size_t count, bool expected)
{
    uint8_t values[lookup_keys][8];
    bool found[lookup_keys];
    size_t wrong = 0, done = 0;
    uint64_t began = ramet_now_us();
    for (; done + lookup_keys <= count; done += lookup_keys) {
        runs(ramet_kv_get_many_u64(kv, RAMET_KV_INDEX, keys + done, lookup_keys, values, found, &err));
        for (int i = 0; i < lookup_keys; i++)
            wrong += found[i] != expected;
    }
    emit_one(name, "keys/s", (double)done * 1e6 / since_us(began));
    if (wrong)
        fprintf(stderr, "ramet-scale-bench: %s: %zu of %zu keys are not what they should be\n", name, wrong, done);
}

/* Ingests `count` pages that are all stored; from `first` on in their order, or scattered. */
static void ingest_known(struct bench_store *bench, const char *name, uint64_t chunks, uint64_t count, bool scattered)
{
    uint8_t *pages = make_memory((size_t)lookup_keys * RAMET_PAGE_SIZE);
    ramet_chunk found[lookup_keys];
    struct ramet_ingest *ingest;
    struct ramet_store_stat before, after;
    uint64_t spent = 0, first = chunks / 2;
    runs(ramet_store_stat(bench->store, &before, &err));
    runs(ramet_ingest_begin(bench->store, &ingest, &err));
    for (uint64_t done = 0; done < count; done += lookup_keys) {
        for (uint64_t i = 0; i < lookup_keys; i++)
            fill_page(pages + i * RAMET_PAGE_SIZE, scattered ? mix64(done + i) % chunks : (first + done + i) % chunks,
                      entropy);
        uint64_t began = ramet_now_us();
        runs(ramet_ingest_put(ingest, RAMET_CHUNK_DATA, pages, lookup_keys, NULL, found, &err));
        spent += ramet_now_us() - began;
    }
    ramet_ingest_end(ingest);
    runs(ramet_store_stat(bench->store, &after, &err));
    emit_one(name, "pages/s", (double)count * 1e6 / (double)spent);
    if (after.dedup_misses != before.dedup_misses)
        fprintf(stderr, "ramet-scale-bench: %s: %llu pages were not known\n", name,
                (unsigned long long)(after.dedup_misses - before.dedup_misses));
    free(pages);
}

static int work(const char *dir, uint64_t chunks)
{
    enum { keys_max = 1 << 18 };
    struct bench_store bench = bench_open(dir);
    struct ramet_kv *kv = ramet_store_kv(bench.store);
    uint8_t(*keys)[8] = make_memory(keys_max * 8);
    uint64_t began = ramet_now_us();
    size_t count = sample_keys(kv, chunks / keys_max + 1, keys, keys_max);
    emit_one("index.walk", "us", since_us(began));
    look_up(kv, "lookup.hit", keys, count, true);
    for (size_t i = 0; i < keys_max; i++)
        ramet_put_be64(keys[i], mix64(i + (UINT64_C(1) << 50)));
    look_up(kv, "lookup.miss", keys, keys_max, false);
    free(keys);
    ingest_known(&bench, "known.in_order", chunks, 1 << 17, false);
    ingest_known(&bench, "known.scattered", chunks, 1 << 17, true);
    emit_one("work.rss", "MiB", status_mib("VmRSS"));
    bench_close(&bench);
    return 0;
}

static int collect(const char *dir)
{
    struct bench_store bench = bench_open(dir);
    struct ramet_snapshot **snapshots;
    struct ramet_gc_result result;
    size_t count;
    runs(ramet_catalog_gc(bench.catalog, &result, &err)); /* nothing to free; caches are full afterwards */
    emit_one("gc.nothing", "us", (double)result.duration_us);
    runs(ramet_catalog_snapshots(bench.catalog, &snapshots, &count, &err));
    runs(ramet_catalog_remove(bench.catalog, snapshots[count - 1], &err));
    ramet_snapshots_free(snapshots, count);
    double packs = pack_mib(dir), rss = status_mib("VmRSS");
    reset_peak();
    runs(ramet_catalog_gc(bench.catalog, &result, &err));
    emit_one("gc", "us", (double)result.duration_us);
    emit_one("gc.rss_added", "MiB", status_mib("VmHWM") - rss);
    emit_one("gc.dead", "chunks", (double)result.dead_chunks);
    emit_one("gc.returned", "MiB", packs - pack_mib(dir));
    bench_close(&bench);
    return 0;
}

/* An image over `base` that differs in page `page`. Takes over nothing. */
static struct ramet_image *change_page(struct ramet_image *base, uint64_t page, uint64_t content)
{
    uint8_t bytes[RAMET_PAGE_SIZE];
    uint64_t *pages = make_memory(sizeof *pages);
    struct ramet_layer *layer;
    struct ramet_image *image;
    int fd = memfd_create("page", MFD_CLOEXEC);
    pages[0] = page;
    fill_page(bytes, content, entropy);
    runs(ramet_file_write(fd, "page", bytes, sizeof bytes, 0, &err));
    runs(ramet_layer_new_packed(fd, pages, 1, &layer, &err));
    runs(ramet_image_new_layered(base, layer, &image, &err));
    return image;
}

/* A durable snapshot of `image`, which is taken over. */
static struct ramet_snapshot *store_image(struct bench_store *bench, const char *name, struct ramet_image *image,
                                          const char *tag)
{
    struct ramet_snapshot *snapshot;
    runs(ramet_snapshot_new(bench->catalog, &snapshot, &err));
    runs(ramet_snapshot_add_image(snapshot, name, image, &err));
    runs(ramet_catalog_add(bench->catalog, snapshot, tag, &err));
    runs(ramet_catalog_commit(bench->catalog, snapshot, &err));
    return snapshot;
}

/* An image of `pages` pages, whose content is all that the store's images hold, again and again. */
static struct ramet_image *make_large(struct bench_store *bench, uint64_t pages)
{
    struct ramet_snapshot **snapshots;
    size_t count;
    struct ramet_page_change *changes = make_memory(pages * sizeof *changes);
    struct ramet_page_map map = {.page_count = pages};
    struct ramet_ingest *ingest;
    struct ramet_image *image;
    runs(ramet_catalog_snapshots(bench->catalog, &snapshots, &count, &err));
    uint64_t filled = 0;
    for (size_t s = 0; filled < pages; s = (s + 1) % count) {
        struct ramet_page_map from;
        runs(ramet_image_map(ramet_snapshot_image(snapshots[s], "memory"), &from, &err));
        for (uint64_t at = 0; at < from.page_count && filled < pages;) {
            ramet_chunk chunks[512];
            uint64_t some = from.page_count - at < 512 ? from.page_count - at : 512;
            some = some < pages - filled ? some : pages - filled;
            runs(ramet_page_map_lookup(bench->store, &from, at, some, chunks, &err));
            for (uint64_t i = 0; i < some; i++)
                changes[filled + i] = (struct ramet_page_change){filled + i, chunks[i]};
            at += some, filled += some;
        }
    }
    ramet_snapshots_free(snapshots, count);
    uint64_t began = ramet_now_us();
    runs(ramet_ingest_begin(bench->store, &ingest, &err));
    runs(ramet_page_map_update(ingest, bench->store, &map, changes, pages, &map, &err));
    runs(ramet_ingest_commit(ingest, NULL, &err));
    emit_one("map.make", "us", since_us(began));
    free(changes);
    runs(ramet_image_new_stored(ramet_catalog_images(bench->catalog), pages * RAMET_PAGE_SIZE, map.root, &image, &err));
    ramet_ingest_end(ingest);
    return image;
}

static int large_map(const char *dir)
{
    enum { forks = 20, lookups = 2000 };
    const uint64_t pages = UINT64_C(64) << 18; /* 64 GiB */
    struct bench_store bench = bench_open(dir);
    struct ramet_image *image = make_large(&bench, pages);
    struct ramet_page_map map, changed = {0};
    double fork_us[forks], diff_us[forks], cold_us[forks], look_us[lookups];
    runs(ramet_image_map(image, &map, &err));
    for (int i = 0; i < forks; i++) {
        uint64_t began = ramet_now_us(), differing;
        struct ramet_image *fork = change_page(image, mix64(i) % pages, UINT64_C(1) << 49 | i);
        struct ramet_snapshot *snapshot = store_image(&bench, "memory", fork, NULL);
        fork_us[i] = since_us(began);
        runs(ramet_image_map(fork, &changed, &err));
        began = ramet_now_us();
        runs(ramet_page_map_diff(bench.store, &map, &changed, &differing, &err));
        diff_us[i] = since_us(began);
        ramet_chunk chunk;
        ramet_store_drop_caches(bench.store);
        began = ramet_now_us();
        runs(ramet_page_map_lookup(bench.store, &changed, mix64(i + 1000) % pages, 1, &chunk, &err));
        cold_us[i] = since_us(began);
        runs(ramet_catalog_remove(bench.catalog, snapshot, &err));
        ramet_snapshot_unref(snapshot);
        if (differing != 1)
            fprintf(stderr, "ramet-scale-bench: %llu pages differ, not 1\n", (unsigned long long)differing);
    }
    for (int i = 0; i < lookups; i++) {
        ramet_chunk chunk;
        uint64_t began = ramet_now_us();
        runs(ramet_page_map_lookup(bench.store, &map, mix64(i) % pages, 1, &chunk, &err));
        look_us[i] = since_us(began);
    }
    emit("map.fork", "us", fork_us, forks);
    emit("map.diff", "us", diff_us, forks);
    emit("map.lookup_cold", "us", cold_us, forks);
    emit("map.lookup", "us", look_us, lookups);
    ramet_image_unref(image);
    bench_close(&bench);
    return 0;
}

/* --- many snapshots and branches --- */

static void find_all(struct bench_store *bench, unsigned snapshots, unsigned branches)
{
    char name[32];
    uint64_t began = ramet_now_us();
    for (unsigned i = 0; i < snapshots; i++) {
        struct ramet_snapshot *snapshot;
        snprintf(name, sizeof name, "s%u", i);
        runs(ramet_catalog_find(bench->catalog, name, &snapshot, &err));
        uint64_t serial = snapshot->serial;
        ramet_snapshot_unref(snapshot);
        runs(ramet_catalog_snapshot_by_serial(bench->catalog, serial, &snapshot, &err));
        ramet_snapshot_unref(snapshot);
    }
    emit_one("snapshot.find", "us", since_us(began) / snapshots);
    began = ramet_now_us();
    for (unsigned i = 0; i < branches; i++) {
        struct ramet_branch *branch;
        snprintf(name, sizeof name, "b%u", i);
        runs(ramet_catalog_branch_find(bench->catalog, name, &branch, &err));
        ramet_branch_unref(branch);
    }
    emit_one("branch.find", "us", since_us(began) / branches);
    began = ramet_now_us();
    struct ramet_snapshot **all;
    size_t count;
    runs(ramet_catalog_snapshots(bench->catalog, &all, &count, &err));
    ramet_snapshots_free(all, count);
    emit_one("snapshot.list", "us", since_us(began));
}

static void make_snapshots(struct bench_store *bench, struct ramet_image *base, unsigned from, unsigned to, double *us)
{
    for (unsigned i = from; i < to; i++) {
        char tag[32];
        snprintf(tag, sizeof tag, "s%u", i);
        uint64_t began = ramet_now_us(), pages = ramet_image_size(base) / RAMET_PAGE_SIZE;
        ramet_snapshot_unref(store_image(bench, "disk0", change_page(base, i % pages, (1 << 20) + i), tag));
        us[i - from] = since_us(began);
    }
}

static int many(const char *dir)
{
    enum { snapshots = 3000, branches = 1000, removals = 10000, disk_pages = 16384 };
    struct bench_store bench = bench_open(dir);
    uint64_t *numbers = make_memory(disk_pages * sizeof *numbers), began;
    double *us = make_memory(removals * sizeof *us);
    for (uint64_t i = 0; i < disk_pages; i++)
        numbers[i] = i;
    struct ramet_snapshot *first = store_pages(&bench, numbers, disk_pages, entropy, "base"), *snapshot;
    struct ramet_image *base = ramet_image_ref(ramet_snapshot_image(first, "memory"));
    ramet_snapshot_unref(first);
    make_snapshots(&bench, base, 0, snapshots, us);
    emit("snapshot.create", "us", us, snapshots);
    for (unsigned i = 0; i < branches; i++) {
        char name[32], tag[32];
        struct ramet_branch *branch;
        snprintf(name, sizeof name, "b%u", i);
        snprintf(tag, sizeof tag, "s%u", i);
        runs(ramet_catalog_find(bench.catalog, tag, &snapshot, &err));
        began = ramet_now_us();
        runs(ramet_catalog_branch_new(bench.catalog, &(struct ramet_branch_request){.name = name}, snapshot, &branch,
                                      &err));
        us[i] = since_us(began);
        ramet_branch_unref(branch);
        ramet_snapshot_unref(snapshot);
    }
    emit("branch.create", "us", us, branches);
    find_all(&bench, snapshots, branches);
    ramet_image_unref(base);
    bench_close(&bench);
    began = ramet_now_us();
    bench = bench_open(dir);
    emit_one("catalog.open", "us", since_us(began));
    runs(ramet_catalog_find(bench.catalog, "base", &first, &err));
    make_snapshots(&bench, ramet_snapshot_image(first, "memory"), snapshots, removals, us);
    ramet_snapshot_unref(first);
    for (unsigned i = 0; i < removals; i++) {
        char tag[32];
        snprintf(tag, sizeof tag, "s%u", i);
        runs(ramet_catalog_find(bench.catalog, tag, &snapshot, &err));
        began = ramet_now_us();
        runs(ramet_catalog_remove(bench.catalog, snapshot, &err));
        us[i] = since_us(began);
        ramet_snapshot_unref(snapshot);
    }
    emit("snapshot.remove", "us", us, removals);
    free(us);
    free(numbers);
    bench_close(&bench);
    return 0;
}

static void allow_many_files(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

int main(int argc, char **argv)
{
    const char *command = argc > 2 ? argv[1] : "", *dir = argc > 2 ? argv[2] : "";
    allow_many_files();
    if (strcmp(command, "build") == 0 && argc == 6)
        return build(dir, number_of(argv[3]), number_of(argv[4]), number_of(argv[5]));
    if (strcmp(command, "open") == 0)
        return open_only(dir);
    if (strcmp(command, "settle") == 0)
        return settle(dir);
    if (strcmp(command, "work") == 0 && argc == 4)
        return work(dir, number_of(argv[3]));
    if (strcmp(command, "collect") == 0)
        return collect(dir);
    if (strcmp(command, "map") == 0)
        return large_map(dir);
    if (strcmp(command, "index") == 0 && argc == 4)
        return index_alone(dir, number_of(argv[3]));
    if (strcmp(command, "catalog") == 0)
        return many(dir);
    if (strcmp(command, "gc-load") == 0)
        return gc_load(argc, argv);
    fprintf(stderr, "usage: see the head of bench/scale_tool.c\n");
    return 2;
}
