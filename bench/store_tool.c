/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What bench/store.py runs as "ours": the store and its catalog through the library,
 * without a daemon. Each command opens the store, does one thing, prints one JSON object
 * and closes; so a run is a whole process, as it is for the others.
 *
 *     ingest STORE NAME FILE [--parent NAME] [--image disk0]    a durable snapshot tagged NAME
 *     restore STORE NAME FILE                                   its image, synced
 *     reads STORE NAME [--count N] [--seed N] [--cold|--first]  random pages that hold data
 *     direct FILE [--count N] [--seed N] [--forget PATH]        the same of a bare file, O_DIRECT
 *     rm STORE NAME    gc STORE    stat STORE    recompress STORE [--level N]
 */
#include "base/cleanup.h"
#include "base/file.h"
#include "catalog.h"
#include "image_file.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

struct bench {
    struct ramet_store *store;
    struct ramet_catalog *catalog;
    const char *dir, *parent, *image, *forget;
    size_t count;
    uint64_t seed;
    bool cold, first;
    int level;
};

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static uint64_t next_random(uint64_t *state) /* splitmix64 */
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* --- ingest, restore, rm --- */

static int publish(struct bench *bench, struct ramet_snapshot *snapshot, const char *tag, struct ramet_error *err)
{
    int r = ramet_catalog_add(bench->catalog, snapshot, NULL, err);
    if (r == 0)
        r = ramet_catalog_commit(bench->catalog, snapshot, err);
    return r == 0 ? ramet_catalog_tag(bench->catalog, snapshot, tag, err) : r;
}

static int put_file(struct bench *bench, struct ramet_ingest *ingest, struct ramet_snapshot *snapshot,
                    const struct ramet_snapshot *parent, const char *path, struct ramet_error *err)
{
    struct ramet_image *before = parent ? ramet_snapshot_image(parent, bench->image) : NULL;
    struct ramet_page_map base;
    struct stat st;
    struct ramet_page_map map;
    struct ramet_image *image;
    uint64_t stored = 0;
    _autoclose_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return ramet_error_os(err, errno, "cannot open %s", path);
    uint64_t size = (uint64_t)st.st_size;
    int r = before ? ramet_image_map(before, &base, err) : 0;
    if (r == 0)
        r = ramet_image_put_file(bench->store, ingest, fd, path, size, before ? &base : NULL, &map, err);
    if (r == 0)
        r = ramet_image_new_stored(ramet_catalog_images(bench->catalog), size, map.root, &image, err);
    if (r == 0)
        r = ramet_snapshot_add_image(snapshot, bench->image, image, err);
    if (r == 0)
        r = ramet_ingest_stored_bytes(ingest, &stored, err);
    snapshot->memory_bytes = size;
    atomic_store(&snapshot->stored_bytes, stored);
    return r;
}

static int cmd_ingest(struct bench *bench, char **argv, struct ramet_error *err)
{
    _cleanup_(ramet_snapshot_cleanup) struct ramet_snapshot *snapshot = NULL, *parent = NULL;
    struct ramet_ingest *ingest = NULL;
    int r = ramet_name_check(argv[0], "tag", err);
    if (r == 0 && bench->parent)
        r = ramet_catalog_find(bench->catalog, bench->parent, &parent, err);
    if (r == 0)
        r = ramet_snapshot_new(bench->catalog, &snapshot, err);
    if (r == 0)
        r = ramet_ingest_begin(bench->store, &ingest, err);
    if (r < 0)
        return r;
    if (parent)
        memcpy(snapshot->parent, parent->id, sizeof snapshot->parent);
    r = put_file(bench, ingest, snapshot, parent, argv[1], err);
    if (r == 0)
        r = publish(bench, snapshot, argv[0], err);
    ramet_ingest_end(ingest);
    if (r == 0)
        printf("{\"id\": \"%s\", \"bytes\": %" PRIu64 ", \"stored_bytes\": %" PRIu64 "}\n", snapshot->id,
               snapshot->memory_bytes, atomic_load(&snapshot->stored_bytes));
    return r;
}

static int cmd_restore(struct bench *bench, char **argv, struct ramet_error *err)
{
    _cleanup_(ramet_snapshot_cleanup) struct ramet_snapshot *snapshot = NULL;
    uint64_t bytes = 0;
    int r = ramet_catalog_find(bench->catalog, argv[0], &snapshot, err);
    if (r < 0)
        return r;
    _autoclose_ int fd = open(argv[1], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return ramet_error_os(err, errno, "cannot make %s", argv[1]);
    r = ramet_image_write_file(snapshot->images[0].image, fd, argv[1], &bytes, err);
    if (r == 0)
        r = ramet_file_sync(fd, argv[1], err);
    if (r == 0)
        printf("{\"data_bytes\": %" PRIu64 "}\n", bytes);
    return r;
}

static int cmd_rm(struct bench *bench, char **argv, struct ramet_error *err)
{
    _cleanup_(ramet_snapshot_cleanup) struct ramet_snapshot *snapshot = NULL;
    int r = ramet_catalog_find(bench->catalog, argv[0], &snapshot, err);
    if (r == 0)
        r = ramet_catalog_remove(bench->catalog, snapshot, err);
    if (r == 0)
        printf("{\"id\": \"%s\"}\n", snapshot->id);
    return r;
}

/* --- reads --- */

/* What is read at random: an image, or a file when there is none. */
struct source {
    struct ramet_image *image;
    int fd;
    const char *name;
    uint64_t size;
};

static int source_read(const struct source *source, uint64_t at, uint8_t *page, struct ramet_error *err)
{
    if (source->image)
        return ramet_image_read(source->image, at, page, RAMET_PAGE_SIZE, err);
    if (pread(source->fd, page, RAMET_PAGE_SIZE, (off_t)at) != RAMET_PAGE_SIZE)
        return ramet_error_os(err, errno, "cannot read %s", source->name);
    return 0;
}

static int source_next_data(const struct source *source, uint64_t at, uint64_t *ret, struct ramet_error *err)
{
    if (source->image)
        return ramet_image_next_data(source->image, at, ret, err);
    off_t found = lseek(source->fd, (off_t)at, SEEK_DATA);
    if (found < 0 && errno != ENXIO)
        return ramet_error_os(err, errno, "cannot seek in %s", source->name);
    *ret = found < 0 ? source->size : (uint64_t)found;
    return 0;
}

static int forget_file(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)ftw;
    _autoclose_ int fd = type == FTW_F ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd >= 0)
        posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    return 0;
}

/* Up to bench->count offsets of pages that hold data, in random order; owned by the caller. */
static int pick_pages(const struct bench *bench, const struct source *source, uint64_t **ret, size_t *ret_count,
                      struct ramet_error *err)
{
    uint64_t at = 0, state = bench->seed;
    size_t count = 0;
    _autofree_ uint64_t *pages = malloc((source->size / RAMET_PAGE_SIZE + 1) * sizeof *pages);
    if (!pages)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a list of pages");
    for (;; at += RAMET_PAGE_SIZE) {
        int r = source_next_data(source, at, &at, err);
        if (r < 0)
            return r;
        if (at + RAMET_PAGE_SIZE > source->size)
            break;
        pages[count++] = at;
    }
    size_t picked = count < bench->count ? count : bench->count;
    for (size_t i = 0; i < picked; i++) {
        size_t j = i + next_random(&state) % (count - i);
        uint64_t page = pages[j];
        pages[j] = pages[i];
        pages[i] = page;
    }
    *ret_count = picked;
    *ret = STEAL(pages);
    return 0;
}

/*
 * Warm: each page was read once before. First: what was decoded is forgotten, then each page is read once; map nodes
 * stay decoded from their first use on, as they do for a program that goes on reading. Cold: as first, and before
 * every read the files of `forget` leave the page cache (they are synced, nothing holds them there).
 */
static int sample_reads(const struct bench *bench, const struct source *source, const uint64_t *pages, size_t count,
                        uint64_t *samples, struct ramet_error *err)
{
    static _Alignas(RAMET_PAGE_SIZE) uint8_t page[RAMET_PAGE_SIZE];
    int r = 0;
    bool warm = !bench->first && !bench->forget;
    if (!warm && source->image)
        ramet_store_drop_caches(bench->store);
    for (size_t i = 0; i < count && r == 0 && warm; i++)
        r = source_read(source, pages[i], page, err);
    for (size_t i = 0; i < count && r == 0; i++) {
        if (bench->forget)
            nftw(bench->forget, forget_file, 16, FTW_PHYS);
        uint64_t began = now_ns();
        r = source_read(source, pages[i], page, err);
        samples[i] = now_ns() - began;
    }
    return r;
}

static int read_source(const struct bench *bench, const struct source *source, struct ramet_error *err)
{
    _autofree_ uint64_t *pages = NULL;
    size_t count = 0;
    int r = pick_pages(bench, source, &pages, &count, err);
    if (r < 0)
        return r;
    _autofree_ uint64_t *samples = calloc(count + 1, sizeof *samples);
    if (!samples)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for samples");
    if ((r = sample_reads(bench, source, pages, count, samples, err)) < 0)
        return r;
    printf("{\"samples_ns\": [");
    for (size_t i = 0; i < count; i++)
        printf("%s%" PRIu64, i ? ", " : "", samples[i]);
    printf("]}\n");
    return 0;
}

static int cmd_reads(struct bench *bench, char **argv, struct ramet_error *err)
{
    _cleanup_(ramet_snapshot_cleanup) struct ramet_snapshot *snapshot = NULL;
    int r = ramet_catalog_find(bench->catalog, argv[0], &snapshot, err);
    if (r < 0)
        return r;
    struct ramet_image *image = snapshot->images[0].image;
    const struct source source = {.image = image, .fd = -1, .name = argv[0], .size = ramet_image_size(image)};
    if (bench->cold)
        bench->forget = bench->dir;
    return read_source(bench, &source, err);
}

static int cmd_direct(struct bench *bench, char **argv, struct ramet_error *err)
{
    (void)argv;
    struct stat st;
    _autoclose_ int fd = open(bench->dir, O_RDONLY | O_DIRECT | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return ramet_error_os(err, errno, "cannot open %s", bench->dir);
    const struct source source = {.fd = fd, .name = bench->dir, .size = (uint64_t)st.st_size};
    return read_source(bench, &source, err);
}

/* --- gc, recompress, stat --- */

static int cmd_recompress(struct bench *bench, char **argv, struct ramet_error *err)
{
    (void)argv;
    struct ramet_recompress_options options = {.level = bench->level, .threads = ramet_store_threads(bench->store)};
    struct ramet_recompress_result result;
    int r = ramet_store_recompress(bench->store, &options, &result, err);
    if (r == 0)
        printf("{\"frames\": %" PRIu64 ", \"before_bytes\": %" PRIu64 ", \"after_bytes\": %" PRIu64
               ", \"duration_us\": %" PRIu64 "}\n",
               result.frames, result.before_bytes, result.after_bytes, result.duration_us);
    return r;
}

static int cmd_gc(struct bench *bench, char **argv, struct ramet_error *err)
{
    (void)argv;
    struct ramet_gc_result gc;
    int r = ramet_catalog_gc(bench->catalog, &gc, err);
    if (r == 0)
        printf("{\"live_chunks\": %" PRIu64 ", \"dead_chunks\": %" PRIu64 ", \"freed_bytes\": %" PRIu64
               ", \"packs_removed\": %" PRIu64 ", \"duration_us\": %" PRIu64 "}\n",
               gc.live_chunks, gc.dead_chunks, gc.freed_bytes, gc.packs_removed, gc.duration_us);
    return r;
}

static int cmd_stat(struct bench *bench, char **argv, struct ramet_error *err)
{
    (void)argv;
    struct ramet_store_stat stat;
    int r = ramet_store_stat(bench->store, &stat, err);
    if (r == 0)
        printf("{\"chunks\": %" PRIu64 ", \"frames\": %" PRIu64 ", \"packs\": %" PRIu64 ", \"pack_bytes\": %" PRIu64
               ", \"index_bytes\": %" PRIu64 "}\n",
               stat.chunks, stat.frames, stat.packs, stat.pack_bytes, stat.index_bytes);
    return r;
}

/* --- the command line --- */

static const struct command {
    const char *name;
    int args; /* the store or the file among them */
    int (*run)(struct bench *bench, char **argv, struct ramet_error *err);
} commands[] = {{"ingest", 3, cmd_ingest}, {"restore", 3, cmd_restore}, {"reads", 2, cmd_reads},
                {"rm", 2, cmd_rm},         {"gc", 1, cmd_gc},           {"recompress", 1, cmd_recompress},
                {"stat", 1, cmd_stat},     {"direct", 1, cmd_direct}};

static const struct command *parse(struct bench *bench, int argc, char **argv)
{
    static const struct option options[] = {{"parent", required_argument, NULL, 'p'},
                                            {"image", required_argument, NULL, 'i'},
                                            {"count", required_argument, NULL, 'n'},
                                            {"seed", required_argument, NULL, 's'},
                                            {"cold", no_argument, NULL, 'c'},
                                            {"first", no_argument, NULL, '1'},
                                            {"forget", required_argument, NULL, 'f'},
                                            {"level", required_argument, NULL, 'l'},
                                            {0}};
    *bench = (struct bench){.image = "memory", .count = 1000, .seed = 1};
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;)
        switch (o) {
        case 'p': bench->parent = optarg; break;
        case 'i': bench->image = optarg; break;
        case 'n': bench->count = strtoull(optarg, NULL, 10); break;
        case 's': bench->seed = strtoull(optarg, NULL, 10); break;
        case 'c': bench->cold = true; break;
        case '1': bench->first = true; break;
        case 'f': bench->forget = optarg; break;
        case 'l': bench->level = atoi(optarg); break;
        default: return NULL;
        }
    for (size_t i = 0; i < sizeof commands / sizeof *commands && optind < argc; i++)
        if (strcmp(commands[i].name, argv[optind]) == 0 && argc - optind - 1 == commands[i].args) {
            bench->dir = argv[optind + 1];
            return &commands[i];
        }
    return NULL;
}

int main(int argc, char **argv)
{
    struct bench bench;
    struct ramet_error err = {0};
    const struct command *command = parse(&bench, argc, argv);
    if (!command) {
        fprintf(stderr, "usage: ramet-store-bench COMMAND ...; the head of bench/store_tool.c lists them\n");
        return 2;
    }
    int r = 0;
    if (command->run != cmd_direct) {
        r = ramet_store_open(bench.dir, NULL, &bench.store, &err);
        if (r == 0)
            r = ramet_catalog_open(bench.store, &bench.catalog, &err);
    }
    if (r == 0)
        r = command->run(&bench, argv + optind + 2, &err);
    if (bench.catalog)
        ramet_catalog_close(bench.catalog);
    ramet_store_close(bench.store);
    if (r < 0)
        fprintf(stderr, "ramet-store-bench: %s%s%s\n", err.msg, *err.hint ? "; " : "", err.hint);
    return r < 0 ? ramet_code_exit(r) : 0;
}
