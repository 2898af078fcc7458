/* SPDX-License-Identifier: Apache-2.0 */
/*
 * In order: packs of 96 KiB; a base with compressible and random pages; a branch with
 * flushed and frozen generations; a snapshot of it, stored as differences; everything cold;
 * then hot snapshots, of which some are removed and collected, so that frames are trimmed
 * and packs move; a checkpoint; a hole that stays; tags moved; a branch removed.
 */
#include "sample.h"
#include "sample_must.h"

#include "base/cleanup.h"
#include "base/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { page = RAMET_PAGE_SIZE, memory_pages = 600, disk_pages = 160, noise_bytes = 3 * page - 1000 };

struct maker {
    const char *dir;
    struct ramet_store *store;
    struct ramet_catalog *catalog;
    uint64_t random;
};

static struct ramet_error err;

static uint64_t next_random(struct maker *maker) /* splitmix64 */
{
    uint64_t z = maker->random += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* --- pages --- */

typedef void (*fill_page)(struct maker *maker, uint64_t *words);

/* Compresses well. */
static void pattern(struct maker *maker, uint64_t *words)
{
    uint64_t some[4];
    for (int i = 0; i < 4; i++)
        some[i] = next_random(maker);
    for (int i = 0; i < page / 8; i++)
        words[i] = some[i % 4];
}

/* A little of what was there changes: stored as a difference. */
static void touch(struct maker *maker, uint64_t *words)
{
    for (int i = 0; i < 6; i++)
        words[next_random(maker) % (page / 8)] = next_random(maker);
}

static void noise(struct maker *maker, uint64_t *words)
{
    for (int i = 0; i < page / 8; i++)
        words[i] = next_random(maker);
}

/* The image with pages first, first + step, ... changed; owned. Releases `base`. */
static struct ramet_image *changed(struct maker *maker, struct ramet_image *base, uint64_t first, uint64_t step,
                                   size_t count, fill_page fill)
{
    _autofree_ uint64_t *numbers = calloc(count, sizeof *numbers);
    int fd = memfd_create("sample", MFD_CLOEXEC);
    struct ramet_layer *layer;
    struct ramet_image *image;
    must_hold(numbers && fd >= 0);
    for (size_t i = 0; i < count; i++) {
        uint64_t words[page / 8] = {0}, offset = (first + i * step) * page, left = ramet_image_size(base) - offset;
        numbers[i] = first + i * step;
        must(ramet_image_read(base, offset, words, left < page ? (size_t)left : page, &err));
        fill(maker, words);
        must(ramet_file_write(fd, "sample", words, page, i * page, &err));
    }
    must(ramet_layer_new_packed(fd, STEAL(numbers), count, &layer, &err));
    must(ramet_image_new_layered(base, layer, &image, &err));
    ramet_image_unref(base);
    return image;
}

static struct ramet_image *zeros(struct maker *maker, uint64_t size_bytes)
{
    struct ramet_image *image;
    must(ramet_image_new_stored(ramet_catalog_images(maker->catalog), size_bytes, RAMET_CHUNK_ZERO, &image, &err));
    return image;
}

/* A reference to an image of a snapshot. */
static struct ramet_image *image_of(struct ramet_snapshot *snapshot, const char *name)
{
    struct ramet_image *image = ramet_snapshot_image(snapshot, name);
    must_hold(image);
    return ramet_image_ref(image);
}

/* --- steps --- */

static void open_all(struct maker *maker)
{
    const struct ramet_store_options options = {.pack_bytes = 96 << 10, .threads = 1};
    must(ramet_store_open(maker->dir, &options, &maker->store, &err));
    must(ramet_catalog_open(maker->store, &maker->catalog, &err));
}

static void close_all(struct maker *maker)
{
    ramet_catalog_close(maker->catalog);
    ramet_store_close(maker->store);
}

/* Takes over the images. */
static struct ramet_snapshot *keep(struct maker *maker, const char *tag, const struct ramet_snapshot *parent,
                                   struct ramet_image *memory, struct ramet_image *disk)
{
    struct ramet_snapshot *snapshot;
    must(ramet_snapshot_new(maker->catalog, &snapshot, &err));
    snprintf(snapshot->parent, sizeof snapshot->parent, "%s", parent ? parent->id : "");
    snprintf(snapshot->sandbox_name, sizeof snapshot->sandbox_name, "sandbox-of-%s", tag);
    snapshot->memory_bytes = (uint64_t)memory_pages * page;
    snapshot->cpus = 2;
    snapshot->cmdline = strdup("console=ttyS0 root=/dev/vda rw");
    snapshot->captured_pages = memory_pages;
    must(ramet_snapshot_add_image(snapshot, "memory", memory, &err));
    must(ramet_snapshot_add_image(snapshot, "disk0", disk, &err));
    must(ramet_snapshot_add_image(snapshot, "state", changed(maker, zeros(maker, noise_bytes), 0, 1, 3, noise), &err));
    must(ramet_snapshot_add_image(snapshot, "initrd", zeros(maker, 0), &err));
    must(ramet_catalog_add(maker->catalog, snapshot, tag, &err));
    must(ramet_catalog_commit(maker->catalog, snapshot, &err));
    return snapshot;
}

static void write_pages(struct maker *maker, struct ramet_overlay *disk, uint64_t first, uint64_t step, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t words[page / 8];
        pattern(maker, words);
        /* Half of them only in part: the rest of the page comes from below. */
        must(ramet_overlay_write(disk, (first + i * step) * page, words, i % 2 ? page : 100, &err));
    }
    must(ramet_overlay_flush(disk, &err));
}

static struct ramet_branch *fork_branch(struct maker *maker, const char *name, struct ramet_snapshot *base)
{
    struct ramet_branch *branch;
    const struct ramet_branch_request request = {.name = name, .memory_bytes = base->memory_bytes, .cpus = 2};
    must(ramet_catalog_branch_new(maker->catalog, &request, base, &branch, &err));
    return branch;
}

static void make_base(struct maker *maker)
{
    struct ramet_image *memory = zeros(maker, (uint64_t)memory_pages * page);
    struct ramet_image *disk = zeros(maker, (uint64_t)disk_pages * page);
    memory = changed(maker, memory, 3, 3, 190, pattern);
    memory = changed(maker, memory, 580, 1, 5, noise);
    struct ramet_snapshot *base = keep(maker, "base", NULL, memory, changed(maker, disk, 0, 2, 60, pattern));
    must(ramet_catalog_tag(maker->catalog, base, "latest", &err));
    ramet_branch_unref(fork_branch(maker, "quiet", base));
    ramet_snapshot_unref(base);
}

/* A branch that wrote, was frozen, wrote on, and lies over the snapshot that was taken of it. */
static void make_second(struct maker *maker)
{
    _cleanup_(ramet_snapshot_cleanup) struct ramet_snapshot *base = NULL;
    struct ramet_image *frozen;
    uint64_t generation;
    must(ramet_catalog_find(maker->catalog, "base", &base, &err));
    struct ramet_branch *branch = fork_branch(maker, "busy", base);
    write_pages(maker, branch->disks[0], 5, 7, 12);
    must(ramet_overlay_freeze(branch->disks[0], &frozen, &generation, &err));
    struct ramet_snapshot *second =
        keep(maker, "second", base, changed(maker, image_of(base, "memory"), 6, 9, 40, touch), frozen);
    must(ramet_catalog_branch_update(maker->catalog, branch, second, &generation, &err));
    must(ramet_catalog_tag(maker->catalog, second, "latest", &err));
    write_pages(maker, branch->disks[0], 1, 11, 10);
    must(ramet_overlay_freeze(branch->disks[0], &frozen, &generation, &err));
    ramet_image_unref(frozen);
    write_pages(maker, branch->disks[0], 2, 13, 8);
    write_pages(maker, branch->disks[0], 30, 1, 6);
    ramet_branch_unref(branch);
    ramet_snapshot_unref(second);
}

/* Snapshots that share frames with some that go. */
static void make_hot(struct maker *maker)
{
    _cleanup_(ramet_snapshot_cleanup) struct ramet_snapshot *second = NULL;
    must(ramet_catalog_find(maker->catalog, "second", &second, &err));
    struct ramet_image *memory = image_of(second, "memory"), *disk = image_of(second, "disk0");
    for (int i = 0; i < 4; i++) {
        static const char *const tags[] = {"gone-1", "third", "gone-2", "fourth"};
        /* The next replaces every second page of this one: a frame keeps slots with gaps between. */
        memory = changed(maker, memory, 10 + (uint64_t)i / 2, i % 2 ? 10 : 5, i % 2 ? 15 : 30, pattern);
        disk = changed(maker, disk, 1 + (uint64_t)i, 12, 12, i % 2 ? touch : pattern);
        struct ramet_snapshot *snapshot = keep(maker, tags[i], second, memory, disk);
        memory = image_of(snapshot, "memory");
        disk = image_of(snapshot, "disk0");
        /* Something between them in the packs that will be gone. */
        ramet_snapshot_unref(keep(maker, i % 2 ? "gone-3" : "gone-4", NULL,
                                  changed(maker, zeros(maker, (uint64_t)memory_pages * page), 0, 2, 20, noise),
                                  zeros(maker, page)));
        ramet_snapshot_unref(snapshot);
    }
    ramet_image_unref(memory);
    ramet_image_unref(disk);
}

/* Removes the snapshots that are to go, and what only they needed. */
static struct ramet_gc_result remove_gone(struct maker *maker)
{
    struct ramet_snapshot **all;
    struct ramet_gc_result result;
    size_t count;
    must(ramet_catalog_snapshots(maker->catalog, &all, &count, &err));
    for (size_t i = 0; i < count; i++)
        if (strncmp(all[i]->sandbox_name, "sandbox-of-gone", 15) == 0)
            must(ramet_catalog_remove(maker->catalog, all[i], &err));
    ramet_snapshots_free(all, count);
    must(ramet_catalog_gc(maker->catalog, &result, &err));
    return result;
}

/* Most of what is there is alive when the one between goes: its place becomes a hole. */
static void make_hole(struct maker *maker)
{
    ramet_snapshot_unref(
        keep(maker, "gone-5", NULL, changed(maker, zeros(maker, 40 * page), 0, 1, 12, noise), zeros(maker, page)));
    ramet_snapshot_unref(keep(maker, "fifth", NULL, changed(maker, zeros(maker, 40 * page), 0, 1, 5, noise),
                              changed(maker, zeros(maker, 20 * page), 0, 1, 17, pattern)));
    struct ramet_gc_result gc = remove_gone(maker);
    must_hold(gc.freed_bytes > 10 * page && gc.packs_removed == 0);
}

/* Tags and branches in the journal and in the write-ahead log, nothing in a table yet. */
static void make_last(struct maker *maker)
{
    _cleanup_(ramet_snapshot_cleanup) struct ramet_snapshot *fourth = NULL;
    must(ramet_catalog_find(maker->catalog, "fourth", &fourth, &err));
    must(ramet_catalog_tag(maker->catalog, fourth, "latest", &err));
    must(ramet_catalog_tag(maker->catalog, fourth, "soon-untagged", &err));
    must(ramet_catalog_untag(maker->catalog, "soon-untagged", &err));
    struct ramet_branch *branch = fork_branch(maker, "short-lived", fourth);
    write_pages(maker, branch->disks[0], 0, 1, 4);
    must(ramet_catalog_branch_remove(maker->catalog, branch, &err));
    ramet_branch_unref(branch);
    branch = fork_branch(maker, "late", fourth);
    write_pages(maker, branch->disks[0], 3, 5, 9);
    ramet_branch_unref(branch);
}

void sample_make(const char *dir, uint64_t seed, bool close)
{
    struct maker maker = {.dir = dir, .random = seed};
    struct ramet_gc_result gc;
    struct ramet_recompress_result cold;
    struct ramet_store_stat stat;
    const struct ramet_recompress_options harder = {.level = 12};
    uint64_t headers;
    open_all(&maker);
    make_base(&maker);
    make_second(&maker);
    must(ramet_store_recompress(maker.store, &harder, &cold, &err));
    close_all(&maker);
    open_all(&maker);
    make_hot(&maker);
    gc = remove_gone(&maker);
    must_hold(gc.trimmed_frames > 0 && gc.packs_removed > 0);
    must(ramet_store_repair(maker.store, &headers, &err)); /* a checkpoint */
    make_hole(&maker);
    make_last(&maker);
    must(ramet_store_stat(maker.store, &stat, &err));
    must_hold(stat.packs > 1 && stat.delta_frames > 0 && stat.cold_frames > 0 && stat.cold_frames < stat.frames);
    if (close)
        close_all(&maker);
}
