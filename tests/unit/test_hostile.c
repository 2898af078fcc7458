/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest may fill its pages with anything, also with what looks like the store's own records. Stored, read, collected
 * and recompressed they are pages like any others; and when the record around them is damaged, so that walking the pack
 * comes upon them, a rebuilt index takes none for a record.
 */
#include "testing.h"

#include "base/codec.h"
#include "base/file.h"
#include "base/record.h"
#include "catalog.h"
#include "journal.h"
#include "store_private.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { page = RAMET_PAGE_SIZE, victims = 24, forged_pages = 16 };

struct fixture {
    char dir[64];
    struct ramet_store *store;
    struct ramet_catalog *catalog;
    struct ramet_snapshot *victim; /* "victim", what the forgers are after */
    uint8_t truth[victims * page];
};

static struct ramet_error err;

static void open_all(struct fixture *f)
{
    /* Plain frames of 16 pages: what a page holds lies in the pack as it is. */
    const struct ramet_store_options options = {.frame_slots = 16, .locality_percent = -1, .threads = 1};
    check_ok(ramet_store_open(f->dir, &options, &f->store, &err));
    check_ok(ramet_catalog_open(f->store, &f->catalog, &err));
}

static void close_all(struct fixture *f)
{
    ramet_catalog_close(f->catalog);
    ramet_store_close(f->store);
    f->catalog = NULL;
    f->store = NULL;
}

/* A durable snapshot of `pages` as disk0. */
static struct ramet_snapshot *store_pages(struct fixture *f, const uint8_t *pages, size_t count, const char *tag)
{
    struct ramet_snapshot *snapshot;
    struct ramet_image *zeros, *image;
    struct ramet_layer *layer;
    uint64_t *numbers = calloc(count, sizeof *numbers);
    int fd = memfd_create("pages", MFD_CLOEXEC);
    for (uint64_t i = 0; i < count; i++)
        numbers[i] = i;
    check_ok(ramet_file_write(fd, "pages", pages, count * page, 0, &err));
    check_ok(ramet_layer_new_packed(fd, numbers, count, &layer, &err));
    check_ok(ramet_image_new_stored(ramet_catalog_images(f->catalog), count * page, RAMET_CHUNK_ZERO, &zeros, &err));
    check_ok(ramet_image_new_layered(zeros, layer, &image, &err));
    ramet_image_unref(zeros);
    check_ok(ramet_snapshot_new(f->catalog, &snapshot, &err));
    check_ok(ramet_snapshot_add_image(snapshot, "disk0", image, &err));
    check_ok(ramet_catalog_add(f->catalog, snapshot, tag, &err));
    check_ok(ramet_catalog_commit(f->catalog, snapshot, &err));
    return snapshot;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    test_dir_make(f->dir);
    open_all(f);
    test_fill(f->truth, sizeof f->truth);
    f->victim = store_pages(f, f->truth, victims, "victim");
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    if (f->victim)
        ramet_snapshot_unref(f->victim);
    close_all(f);
    test_dir_remove(f->dir);
    free(f);
    return 0;
}

/* --- forgeries --- */

/* A frame record that would give every page of frame `number` other content. */
static size_t forge_frame(uint64_t number, uint64_t key, int level, uint8_t *to)
{
    struct ramet_frame *frame = ramet_frame_new(number, 0xffff, RAMET_CHUNK_DATA, 0);
    memset(frame->pages, 0xe1, 16 * page);
    size_t size = ramet_frame_encode(frame, level, key, to);
    ramet_frame_unref(frame);
    return size;
}

/* A journal record: a whole checkpoint with a tag that moved, the snapshot gone. */
static size_t forge_journal(const struct fixture *f, uint64_t key, uint8_t *to)
{
    struct ramet_buf entries = {0}, record = {0};
    ramet_journal_note(&entries, RAMET_KV_REFS, "victim", 6, "0123456789abcdef", 16);
    ramet_journal_note(&entries, RAMET_KV_SNAPSHOTS, f->victim->id, 16, NULL, 0);
    check_ok(ramet_journal_encode(&entries, RAMET_JOURNAL_BEGIN | RAMET_JOURNAL_END, key, &record, &err));
    memcpy(to, record.data, record.size);
    size_t size = record.size;
    ramet_buf_free(&entries);
    ramet_buf_free(&record);
    return size;
}

static size_t forge_header(uint8_t *to)
{
    memset(to, 0, RAMET_PACK_HEADER);
    memcpy(to, "RAMETPK", 8);
    ramet_put_le16(to + 8, 1);
    ramet_put_le32(to + 32, 1);
    ramet_put_le64(to + 40, ramet_checksum(to, 40, NULL, 0));
    return RAMET_PACK_HEADER;
}

/*
 * Pages of noise, so that they are stored plain, with a forgery of every kind in them: frames under all numbers in
 * use, with the keys a guest may think of, journals, a pack's header, a snapshot record, zstd frames.
 */
static uint8_t *forge_pages(const struct fixture *f)
{
    static const uint64_t keys[] = {0, UINT64_C(0x0123456789abcdef)};
    uint8_t *pages = malloc((size_t)forged_pages * page), *at = pages + 24;
    static uint8_t record[RAMET_FRAME_RECORD_MAX];
    test_fill(pages, (size_t)forged_pages * page);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        for (uint64_t number = 1; number < 4; number++) {
            size_t size = forge_frame(number, keys[i], 3, record);
            memcpy(at, record, size);
            at += size + number; /* at odd places, too */
        }
        at += forge_journal(f, keys[i], at);
    }
    at += forge_header(at);
    /* A zstd frame by itself: the payload of a record whose head went bad. */
    size_t size = forge_frame(3, 0, 19, record);
    memcpy(at, record + RAMET_FRAME_HEADER, size - RAMET_FRAME_HEADER);
    at += size;
    assert_true(at < pages + page);
    return pages;
}

static void expect_pages(struct ramet_snapshot *snapshot, const uint8_t *pages, size_t count)
{
    uint8_t *got = malloc(count * page);
    check_ok(ramet_image_read(ramet_snapshot_image(snapshot, "disk0"), 0, got, count * page, &err));
    assert_memory_equal(got, pages, count * page);
    free(got);
}

/* --- tests --- */

static void they_are_pages_like_any_others(void **state)
{
    struct fixture *f = *state;
    struct ramet_gc_result gc;
    struct ramet_recompress_result cold;
    struct ramet_rebuild_result rebuilt;
    const struct ramet_recompress_options options = {0};
    uint8_t *pages = forge_pages(f);
    ramet_snapshot_unref(store_pages(f, pages, forged_pages, "hostile"));
    ramet_snapshot_unref(f->victim);
    for (int step = 0; step < 3; step++) {
        if (step == 1) {
            check_ok(ramet_store_recompress(f->store, &options, &cold, &err));
            check_ok(ramet_catalog_gc(f->catalog, &gc, &err));
        }
        close_all(f);
        if (step == 2) {
            check_ok(ramet_store_rebuild(f->dir, &rebuilt, &err));
            assert_int_equal(rebuilt.damaged_bytes, 0);
        }
        open_all(f);
        struct ramet_snapshot *hostile;
        check_ok(ramet_catalog_find(f->catalog, "hostile", &hostile, &err));
        check_ok(ramet_catalog_find(f->catalog, "victim", &f->victim, &err));
        expect_pages(hostile, pages, forged_pages);
        expect_pages(f->victim, f->truth, victims);
        ramet_snapshot_unref(hostile);
        if (step < 2)
            ramet_snapshot_unref(f->victim);
    }
    free(pages);
}

/* Where the frame with the first forged page lies. */
static struct ramet_place place_of_forged(struct fixture *f)
{
    struct ramet_snapshot *hostile;
    struct ramet_page_map map;
    struct ramet_place_record record;
    ramet_chunk chunk;
    check_ok(ramet_catalog_find(f->catalog, "hostile", &hostile, &err));
    check_ok(ramet_image_map(ramet_snapshot_image(hostile, "disk0"), &map, &err));
    check_ok(ramet_page_map_lookup(f->store, &map, 0, 1, &chunk, &err));
    check_ok(ramet_store_place(f->store, ramet_chunk_frame(chunk), &record, &err));
    ramet_snapshot_unref(hostile);
    return record.place;
}

/* One byte of the record around them goes bad, in its head or before the first forgery; then the index is lost. */
static void in_a_damaged_pack_none_is_taken_for_a_record(void **state)
{
    struct fixture *f = *state;
    static const uint64_t offsets[] = {0, 4, 8, 20, 24, 40};
    uint8_t *pages = forge_pages(f);
    ramet_snapshot_unref(store_pages(f, pages, forged_pages, "hostile"));
    struct ramet_place place = place_of_forged(f);
    assert_true(place.size >= forged_pages * page); /* plain */
    ramet_snapshot_unref(f->victim);
    for (size_t i = 0; i < sizeof offsets / sizeof *offsets; i++) {
        struct ramet_rebuild_result result;
        struct ramet_snapshot *hostile;
        uint8_t byte, got[page];
        char path[128];
        close_all(f);
        snprintf(path, sizeof path, "%s/packs/%08x.pack", f->dir, place.pack);
        int fd = open(path, O_RDWR | O_CLOEXEC);
        off_t at = (off_t)(place.offset + offsets[i]);
        assert_int_equal(pread(fd, &byte, 1, at), 1);
        byte ^= 0x40;
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
        check_ok(ramet_store_rebuild(f->dir, &result, &err));
        assert_int_equal(result.damaged_bytes, place.size);
        open_all(f);
        check_ok(ramet_catalog_find(f->catalog, "victim", &f->victim, &err));
        expect_pages(f->victim, f->truth, victims);
        check_ok(ramet_catalog_find(f->catalog, "hostile", &hostile, &err));
        check_fails(ramet_image_read(ramet_snapshot_image(hostile, "disk0"), 0, got, page, &err), RAMET_CORRUPT);
        ramet_snapshot_unref(hostile);
        ramet_snapshot_unref(f->victim);
        byte ^= 0x40;
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
        close(fd);
    }
    close_all(f);
    open_all(f);
    check_ok(ramet_catalog_find(f->catalog, "victim", &f->victim, &err));
    free(pages);
}

/* The pack's own header lost, and the superblock with it: the id is not taken from a page. */
static void a_forged_header_gives_no_store_its_id(void **state)
{
    struct fixture *f = *state;
    uint8_t *pages = calloc(2, page);
    char path[128];
    struct ramet_rebuild_result result;
    forge_header(pages);
    test_fill(pages + RAMET_PACK_HEADER, 2 * page - RAMET_PACK_HEADER);
    ramet_snapshot_unref(store_pages(f, pages, 2, "hostile"));
    ramet_snapshot_unref(f->victim);
    close_all(f);
    snprintf(path, sizeof path, "%s/store", f->dir);
    assert_int_equal(unlink(path), 0);
    check_fails(ramet_store_open(f->dir, NULL, &f->store, &err), RAMET_CORRUPT);
    check_ok(ramet_store_rebuild(f->dir, &result, &err));
    assert_int_equal(result.damaged_bytes, 0);
    open_all(f);
    check_ok(ramet_catalog_find(f->catalog, "victim", &f->victim, &err));
    expect_pages(f->victim, f->truth, victims);
    free(pages);
}

/* The test is not blind: with the store's own key a forgery is believed. */
static void with_the_key_it_would_be_believed(void **state)
{
    struct fixture *f = *state;
    uint8_t *pages = malloc((size_t)forged_pages * page);
    struct ramet_rebuild_result result;
    struct ramet_snapshot *found;
    char path[128];
    static uint8_t record[RAMET_FRAME_RECORD_MAX];
    test_fill(pages, (size_t)forged_pages * page);
    uint64_t key = ramet_packs_key(f->store->packs);
    memcpy(pages + 2 * page, record, forge_frame(1, key, 3, record));
    forge_journal(f, key, pages + 5 * page + 7);
    ramet_snapshot_unref(store_pages(f, pages, forged_pages, "hostile"));
    struct ramet_place place = place_of_forged(f);
    ramet_snapshot_unref(f->victim);
    f->victim = NULL;
    close_all(f);
    snprintf(path, sizeof path, "%s/packs/%08x.pack", f->dir, place.pack);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(pwrite(fd, "\0", 1, (off_t)place.offset), 1);
    close(fd);
    check_ok(ramet_store_rebuild(f->dir, &result, &err));
    assert_in_range(result.damaged_bytes, 1, place.size - 1);
    open_all(f);
    check_fails(ramet_catalog_find(f->catalog, "victim", &found, &err), RAMET_NOT_FOUND);
    free(pages);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(they_are_pages_like_any_others, setup, teardown),
        cmocka_unit_test_setup_teardown(in_a_damaged_pack_none_is_taken_for_a_record, setup, teardown),
        cmocka_unit_test_setup_teardown(a_forged_header_gives_no_store_its_id, setup, teardown),
        cmocka_unit_test_setup_teardown(with_the_key_it_would_be_believed, setup, teardown),
    };
    return cmocka_run_group_tests_name("hostile", tests, NULL, NULL);
}
