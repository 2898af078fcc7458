/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A store written by an earlier build (make_store.c) still opens, reads as it did, and can be worked on; one that
 * parts of are of a version to come is refused by name.
 */
#include "golden_fixture.h"

#include "base/codec.h"
#include "base/record.h"
#include "store_private.h"
#include "walk.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { page = RAMET_PAGE_SIZE };

static int setup(void **state)
{
    struct golden *golden = calloc(1, sizeof *golden);
    golden_unpack(golden, "v2");
    *state = golden;
    return 0;
}

static int teardown(void **state)
{
    struct golden *golden = *state;
    golden_close(golden);
    golden_remove(golden);
    free(golden);
    return 0;
}

static size_t expect_content(struct golden *golden, bool errors_allowed)
{
    struct sample_lines found;
    sample_describe(golden->catalog, &found);
    return golden_expect(golden, &found, errors_allowed);
}

/* --- it opens and works --- */

static void it_reads_as_it_did(void **state)
{
    struct golden *f = *state;
    struct ramet_gc_result gc;
    check_ok(golden_open(f));
    expect_content(f, false);
    golden_expect_clean(f);
    check_ok(ramet_catalog_gc(f->catalog, &gc, &err));
    assert_int_equal(gc.dead_chunks, 0);
    golden_close(f);
    check_ok(golden_open(f));
    expect_content(f, false);
}

static void what_is_new_goes_beside_what_is_old(void **state)
{
    struct golden *f = *state;
    struct ramet_snapshot *base;
    struct ramet_ingest *ingest;
    uint8_t pages[20][page], got[sizeof pages];
    ramet_chunk chunks[20], known;
    check_ok(golden_open(f));
    test_fill(pages, sizeof pages);
    check_ok(ramet_catalog_find(f->catalog, "base", &base, &err));
    /* Page 3 of the memory is one that is stored. */
    check_ok(ramet_image_read(ramet_snapshot_image(base, "memory"), 3 * page, pages[7], page, &err));
    check_ok(ramet_ingest_begin(f->store, &ingest, &err));
    check_ok(ramet_ingest_put(ingest, RAMET_CHUNK_DATA, pages, 20, NULL, chunks, &err));
    check_ok(ramet_ingest_commit(ingest, NULL, &err));
    ramet_ingest_end(ingest);
    struct ramet_page_map map;
    check_ok(ramet_image_map(ramet_snapshot_image(base, "memory"), &map, &err));
    check_ok(ramet_page_map_lookup(f->store, &map, 3, 1, &known, &err));
    assert_int_equal(chunks[7], known);
    ramet_snapshot_unref(base);
    golden_close(f);
    check_ok(golden_open(f));
    check_ok(ramet_store_read(f->store, chunks, 20, got, &err));
    assert_memory_equal(got, pages, sizeof pages);
    expect_content(f, false);
    golden_expect_clean(f);
}

static void the_index_can_be_rebuilt(void **state)
{
    struct golden *f = *state;
    struct ramet_rebuild_result result;
    struct ramet_gc_result gc;
    check_ok(ramet_store_rebuild(f->dir, &result, &err));
    assert_int_equal(result.damaged_bytes, 0);
    check_ok(golden_open(f));
    expect_content(f, false);
    check_ok(ramet_catalog_gc(f->catalog, &gc, &err));
    expect_content(f, false);
    golden_expect_clean(f);
}

/* --- what it is made of --- */

struct inventory {
    unsigned data, nodes, deltas, cold, trimmed, plain_journals, checkpoints, packs;
    uint64_t hole_bytes;      /* between records and after them */
    struct ramet_place frame; /* the first one */
};

static int count_frame(void *ctx, const struct ramet_place *place, const struct ramet_frame *frame,
                       struct ramet_error *e)
{
    struct inventory *inventory = ctx;
    (void)e;
    if (inventory->data + inventory->nodes == 0)
        inventory->frame = *place;
    inventory->hole_bytes -= place->size;
    inventory->data += frame->kind == RAMET_CHUNK_DATA;
    inventory->nodes += frame->kind == RAMET_CHUNK_NODE;
    inventory->deltas += (frame->flags & RAMET_FRAME_DELTA) != 0;
    inventory->cold += (frame->flags & RAMET_FRAME_COLD) != 0;
    inventory->trimmed += (frame->slots & (frame->slots + 1)) != 0;
    return 0;
}

static int count_journal(void *ctx, const struct ramet_place *place, const void *record, struct ramet_error *e)
{
    struct inventory *inventory = ctx;
    (void)e;
    inventory->hole_bytes -= place->size;
    inventory->plain_journals += ramet_get_le32((const uint8_t *)record + RAMET_RECORD_HEADER) == 0;
    inventory->checkpoints += ramet_get_le32((const uint8_t *)record + RAMET_RECORD_HEADER) == 1;
    return 0;
}

/* Walks the packs of a closed store. Returns the key of its records. */
static uint64_t take_inventory(struct golden *f, struct inventory *ret)
{
    char dir[128];
    uint8_t id[RAMET_STORE_ID_SIZE];
    struct ramet_packs *packs;
    uint32_t *numbers;
    size_t count;
    const struct ramet_walk walk = {.frame = count_frame, .journal = count_journal, .ctx = ret};
    *ret = (struct inventory){0};
    snprintf(dir, sizeof dir, "%s/packs", f->dir);
    check_ok(ramet_packs_find_id(dir, id, &err));
    check_ok(ramet_packs_open(dir, id, 1 << 20, &packs, &err));
    check_ok(ramet_packs_list(packs, &numbers, &count, &err));
    for (size_t i = 0; i < count; i++) {
        uint64_t end, size;
        check_ok(ramet_pack_walk(packs, numbers[i], &walk, &end, &err));
        check_ok(ramet_packs_size(packs, numbers[i], &size, &err));
        ret->hole_bytes += size - RAMET_PACK_HEADER;
        ret->packs++;
    }
    uint64_t key = ramet_packs_key(packs);
    free(numbers);
    ramet_packs_close(packs);
    return key;
}

static void it_has_one_of_everything(void **state)
{
    struct inventory has;
    take_inventory(*state, &has);
    assert_true(has.packs > 1 && has.data && has.nodes && has.deltas && has.cold && has.cold < has.data + has.nodes);
    assert_true(has.trimmed && has.plain_journals && has.checkpoints && has.hole_bytes > 10 * page);
}

/* --- versions to come --- */

static void patch_file(const char *path, uint16_t version, uint16_t flags)
{
    uint8_t bytes[4096];
    int fd = open(path, O_RDWR | O_CLOEXEC);
    ssize_t size = pread(fd, bytes, sizeof bytes, 0);
    assert_in_range(size, RAMET_RECORD_HEADER, sizeof bytes - 1);
    /* In a log, its first record. */
    size_t record = RAMET_RECORD_HEADER + (size_t)ramet_get_le32(bytes + 8);
    golden_set_record(bytes, record, version, flags);
    assert_int_equal(pwrite(fd, bytes, record, 0), record);
    close(fd);
}

static void a_superblock_to_come_is_refused(void **state)
{
    struct golden *f = *state;
    struct ramet_rebuild_result result;
    char path[128];
    snprintf(path, sizeof path, "%s/store", f->dir);
    patch_file(path, golden_future, 0);
    golden_expect_refusal(f, golden_open(f), RAMET_UNSUPPORTED, "/store");
    check_fails(ramet_store_rebuild(f->dir, &result, &err), RAMET_UNSUPPORTED);
    patch_file(path, 2, 1);
    golden_expect_refusal(f, golden_open(f), RAMET_UNSUPPORTED, "/store");
}

static void records_to_come_are_refused(void **state)
{
    struct golden *f = *state;
    char id[32];
    golden_patch_family(f, RAMET_KV_SNAPSHOTS, golden_raise_version, id);
    golden_expect_refusal(f, golden_open(f), RAMET_UNSUPPORTED, id);
    golden_patch_family(f, RAMET_KV_SNAPSHOTS, golden_raise_flag, id);
    golden_expect_refusal(f, golden_open(f), RAMET_UNSUPPORTED, id);
}

static void a_branch_to_come_is_refused(void **state)
{
    struct golden *f = *state;
    char id[32];
    golden_patch_family(f, RAMET_KV_BRANCHES, golden_raise_flag, id);
    golden_expect_refusal(f, golden_open(f), RAMET_UNSUPPORTED, id);
}

static void an_overlay_log_to_come_is_refused(void **state)
{
    struct golden *f = *state;
    struct ramet_branch *branch;
    char path[256];
    check_ok(golden_open(f));
    check_ok(ramet_catalog_branch_find(f->catalog, "late", &branch, &err));
    snprintf(path, sizeof path, "%s/branches/%s/disk0.0.log", f->dir, branch->id);
    ramet_branch_unref(branch);
    golden_close(f);
    patch_file(path, golden_future, 0);
    golden_expect_refusal(f, golden_open(f), RAMET_UNSUPPORTED, "disk0.0.log");
}

/* One frame of another version, or with a flag nobody knows: what needs it is an error, the rest is there. */
static void frames_to_come_are_not_read(void **state)
{
    struct golden *f = *state;
    static const struct {
        size_t offset;
        uint8_t value;
    } changes[] = {{4, golden_future}, {5, 0x7f}, {6, 2}, {7, 0x80}};
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        char path[128];
        struct inventory has;
        uint8_t record[RAMET_FRAME_RECORD_MAX], whole[RAMET_FRAME_RECORD_MAX], head[32];
        uint64_t key = take_inventory(f, &has);
        snprintf(path, sizeof path, "%s/packs/%08x.pack", f->dir, has.frame.pack);
        int fd = open(path, O_RDWR | O_CLOEXEC);
        assert_int_equal(pread(fd, record, has.frame.size, (off_t)has.frame.offset), has.frame.size);
        memcpy(whole, record, has.frame.size);
        record[changes[i].offset] = changes[i].value;
        memcpy(head, record, 24);
        ramet_put_le64(head + 24, key);
        ramet_put_le64(record + 24,
                       ramet_checksum(head, 32, record + RAMET_FRAME_HEADER, has.frame.size - RAMET_FRAME_HEADER));
        assert_int_equal(pwrite(fd, record, has.frame.size, (off_t)has.frame.offset), has.frame.size);
        check_ok(golden_open(f));
        assert_true(expect_content(f, true) > 0);
        golden_close(f);
        assert_int_equal(pwrite(fd, whole, has.frame.size, (off_t)has.frame.offset), has.frame.size);
        close(fd);
    }
    check_ok(golden_open(f));
    expect_content(f, false);
}

static void raise_byte(uint8_t *value, size_t size)
{
    (void)size;
    value[0] = golden_future;
}

static void a_place_to_come_is_not_read(void **state)
{
    struct golden *f = *state;
    char key[32];
    struct ramet_fsck_result fsck;
    golden_patch_family(f, RAMET_KV_FRAMES, raise_byte, key);
    check_ok(golden_open(f));
    check_ok(ramet_catalog_fsck(f->catalog, &fsck, &err));
    assert_non_null(strstr(fsck.report, "place record"));
    free(fsck.report);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(it_has_one_of_everything, setup, teardown),
        cmocka_unit_test_setup_teardown(it_reads_as_it_did, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_new_goes_beside_what_is_old, setup, teardown),
        cmocka_unit_test_setup_teardown(the_index_can_be_rebuilt, setup, teardown),
        cmocka_unit_test_setup_teardown(a_superblock_to_come_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(records_to_come_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_branch_to_come_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(an_overlay_log_to_come_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(frames_to_come_are_not_read, setup, teardown),
        cmocka_unit_test_setup_teardown(a_place_to_come_is_not_read, setup, teardown),
    };
    return cmocka_run_group_tests_name("golden", tests, NULL, NULL);
}
