/* SPDX-License-Identifier: Apache-2.0 */
#include "tool.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

_Thread_local struct ramet_error err;

void runs(int r)
{
    if (r == 0)
        return;
    fprintf(stderr, "bench: %s\n", err.msg);
    exit(1);
}

void *make_memory(size_t size)
{
    void *p = calloc(1, size);
    if (!p) {
        fprintf(stderr, "bench: no memory\n");
        exit(1);
    }
    return p;
}

void emit(const char *name, const char *unit, const double *samples, size_t count)
{
    printf("{\"name\": \"%s\", \"unit\": \"%s\", \"samples\": [", name, unit);
    for (size_t i = 0; i < count; i++)
        printf("%s%.6g", i ? ", " : "", samples[i]);
    printf("]}\n");
    fflush(stdout);
}

void emit_one(const char *name, const char *unit, double sample) { emit(name, unit, &sample, 1); }

struct bench_store bench_open(const char *dir)
{
    struct bench_store bench;
    runs(ramet_store_open(dir, NULL, &bench.store, &err));
    runs(ramet_catalog_open(bench.store, &bench.catalog, &err));
    return bench;
}

void bench_close(struct bench_store *bench)
{
    ramet_catalog_close(bench->catalog);
    ramet_store_close(bench->store);
}

uint64_t mix64(uint64_t n)
{
    uint64_t z = (n + 1) * UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

void fill_page(uint8_t *page, uint64_t n, size_t entropy)
{
    for (size_t i = 0; i < entropy; i += 8) {
        uint64_t v = mix64(n * 512 + i / 8);
        memcpy(page + i, &v, sizeof v);
    }
    for (size_t i = entropy; i < RAMET_PAGE_SIZE; i += entropy)
        memcpy(page + i, page, RAMET_PAGE_SIZE - i < entropy ? RAMET_PAGE_SIZE - i : entropy);
}

struct ramet_snapshot *store_pages(struct bench_store *bench, const uint64_t *numbers, size_t count, size_t entropy,
                                   const char *tag)
{
    enum { batch = 256 };
    uint8_t *pages = make_memory((size_t)batch * RAMET_PAGE_SIZE);
    struct ramet_page_change *changes = make_memory(count * sizeof *changes);
    struct ramet_page_map map = {.page_count = count};
    struct ramet_ingest *ingest;
    struct ramet_image *image;
    struct ramet_snapshot *snapshot;
    runs(ramet_ingest_begin(bench->store, &ingest, &err));
    for (size_t done = 0; done < count; done += batch) {
        ramet_chunk chunks[batch];
        size_t some = count - done < batch ? count - done : batch;
        for (size_t i = 0; i < some; i++)
            fill_page(pages + i * RAMET_PAGE_SIZE, numbers[done + i], entropy);
        runs(ramet_ingest_put(ingest, RAMET_CHUNK_DATA, pages, some, NULL, chunks, &err));
        for (size_t i = 0; i < some; i++)
            changes[done + i] = (struct ramet_page_change){done + i, chunks[i]};
    }
    runs(ramet_page_map_update(ingest, bench->store, &map, changes, count, &map, &err));
    uint64_t stored;
    runs(ramet_ingest_stored_bytes(ingest, &stored, &err));
    runs(ramet_ingest_commit(ingest, NULL, &err));
    uint64_t size = count * RAMET_PAGE_SIZE;
    runs(ramet_image_new_stored(ramet_catalog_images(bench->catalog), size, map.root, &image, &err));
    runs(ramet_snapshot_new(bench->catalog, &snapshot, &err));
    snapshot->stored_bytes = stored;
    runs(ramet_snapshot_add_image(snapshot, "memory", image, &err));
    runs(ramet_catalog_add(bench->catalog, snapshot, tag, &err));
    runs(ramet_catalog_commit(bench->catalog, snapshot, &err));
    ramet_ingest_end(ingest);
    free(changes);
    free(pages);
    return snapshot;
}

double status_mib(const char *field)
{
    char line[256];
    double kib = 0;
    FILE *file = fopen("/proc/self/status", "r");
    while (file && fgets(line, sizeof line, file))
        if (strncmp(line, field, strlen(field)) == 0 && line[strlen(field)] == ':')
            kib = strtod(line + strlen(field) + 1, NULL);
    if (file)
        fclose(file);
    return kib / 1024;
}

void reset_peak(void)
{
    int fd = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, "5", 1) != 1)
        fprintf(stderr, "bench: the peak of memory is that since the start\n");
    if (fd >= 0)
        close(fd);
}

double pack_mib(const char *dir)
{
    char path[PATH_MAX];
    uint64_t blocks = 0;
    snprintf(path, sizeof path, "%s/packs", dir);
    DIR *packs = opendir(path);
    for (struct dirent *entry; packs && (entry = readdir(packs));) {
        struct stat st;
        if (fstatat(dirfd(packs), entry->d_name, &st, 0) == 0 && S_ISREG(st.st_mode))
            blocks += (uint64_t)st.st_blocks;
    }
    if (packs)
        closedir(packs);
    return (double)blocks / 2048;
}

/* RocksDB tells when it is idle only through its own API: the directory has been still for three seconds. */
uint64_t settled_bytes(struct ramet_kv *kv)
{
    uint64_t last = 0, bytes = 0;
    for (int still = 0; still < 30; last = bytes) {
        usleep(100000);
        bytes = ramet_kv_disk_bytes(kv);
        still = bytes == last ? still + 1 : 0;
    }
    return bytes;
}
