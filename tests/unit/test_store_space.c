/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What keeps a store small: differences to the page replaced, frames written again without
 * their dead pages, recompression, and an index that can be made anew from the packs.
 */
#include "testing.h"

#include "base/file.h"
#include "store.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { page = RAMET_PAGE_SIZE, count = 400 };

struct fixture {
    char dir[64];
    struct ramet_store *store;
    uint8_t *pages;               /* `count` incompressible pages */
    ramet_chunk chunks[count];    /* where they are stored */
    uint8_t *changed;             /* the same with 16 bytes changed in each */
    ramet_chunk differing[count]; /* stored against `chunks` */
};

static struct ramet_error err;

static void put(struct fixture *f, const void *pages, size_t n, const ramet_chunk *bases, ramet_chunk *chunks,
                uint64_t *ret_stored)
{
    struct ramet_ingest *ingest;
    check_ok(ramet_ingest_begin(f->store, &ingest, &err));
    check_ok(ramet_ingest_put(ingest, RAMET_CHUNK_DATA, pages, n, bases, chunks, &err));
    check_ok(ramet_ingest_stored_bytes(ingest, ret_stored, &err));
    check_ok(ramet_ingest_commit(ingest, NULL, &err));
    ramet_ingest_end(ingest);
}

static void expect(struct fixture *f, const void *pages, size_t n, const ramet_chunk *chunks)
{
    uint8_t *got = malloc(n * page);
    check_ok(ramet_store_read(f->store, chunks, n, got, &err));
    assert_memory_equal(got, pages, n * page);
    free(got);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    uint64_t stored;
    test_dir_make(f->dir);
    check_ok(ramet_store_open(f->dir, NULL, &f->store, &err));
    f->pages = malloc((size_t)count * page);
    f->changed = malloc((size_t)count * page);
    test_fill(f->pages, (size_t)count * page);
    memcpy(f->changed, f->pages, (size_t)count * page);
    for (size_t i = 0; i < count; i++)
        test_fill(f->changed + i * page + test_below(page - 16), 16);
    put(f, f->pages, count, NULL, f->chunks, &stored);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    ramet_store_close(f->store);
    test_dir_remove(f->dir);
    free(f->pages);
    free(f->changed);
    free(f);
    return 0;
}

static void reopen(struct fixture *f)
{
    ramet_store_close(f->store);
    f->store = NULL;
    check_ok(ramet_store_open(f->dir, NULL, &f->store, &err));
}

struct keep {
    const ramet_chunk *chunks;
    size_t n;
};

static int mark_kept(void *ctx, struct ramet_gc *gc, struct ramet_error *e)
{
    const struct keep *keep = ctx;
    (void)e;
    for (size_t i = 0; i < keep->n; i++)
        ramet_gc_mark(gc, keep->chunks[i]);
    return 0;
}

static struct ramet_gc_result collect(struct fixture *f, const ramet_chunk *chunks, size_t n)
{
    struct keep keep = {chunks, n};
    struct ramet_gc_result result;
    check_ok(ramet_store_gc(f->store, mark_kept, &keep, &result, &err));
    return result;
}

static void fail_on_problem(void *ctx, uint64_t frame, const char *line)
{
    (void)ctx, (void)frame;
    fail_msg("%s", line);
}

static void expect_sound(struct fixture *f)
{
    const struct ramet_scrub_options options = {.problem = fail_on_problem};
    struct ramet_scrub_state state;
    check_ok(ramet_store_scrub(f->store, &options, &state, &err));
    assert_true(state.finished);
}

/* Incompressible pages of which 16 bytes changed cost some hundred bytes, not four thousand. */
static void a_page_like_its_base_is_stored_as_the_difference(void **state)
{
    struct fixture *f = *state;
    uint64_t stored = 0;
    put(f, f->changed, count, f->chunks, f->differing, &stored);
    assert_in_range(stored, 1, count * 200);
    expect(f, f->changed, count, f->differing);
    reopen(f);
    expect(f, f->changed, count, f->differing);
    expect(f, f->pages, count, f->chunks);
}

static void an_equal_page_keeps_the_number_of_its_base(void **state)
{
    struct fixture *f = *state;
    uint64_t stored = 1;
    put(f, f->pages, count, f->chunks, f->differing, &stored);
    assert_int_equal(stored, 0);
    assert_memory_equal(f->chunks, f->differing, sizeof f->chunks);
}

static void a_page_unlike_its_base_is_stored_whole(void **state)
{
    struct fixture *f = *state;
    uint64_t stored = 0;
    uint8_t *other = malloc((size_t)count * page);
    struct ramet_store_stat stat;
    test_fill(other, (size_t)count * page);
    put(f, other, count, f->chunks, f->differing, &stored);
    check_ok(ramet_store_stat(f->store, &stat, &err));
    assert_int_equal(stat.delta_frames, 0);
    expect(f, other, count, f->differing);
    free(other);
}

/* A difference to a difference is taken to the first base, so that its base may go. */
static void differences_are_one_base_deep(void **state)
{
    struct fixture *f = *state;
    uint64_t stored = 0;
    ramet_chunk third[count];
    put(f, f->changed, count, f->chunks, f->differing, &stored);
    for (size_t i = 0; i < count; i++)
        test_fill(f->changed + i * page, 8);
    put(f, f->changed, count, f->differing, third, &stored);
    assert_in_range(stored, 1, count * 200);
    collect(f, third, count);
    reopen(f);
    expect(f, f->changed, count, third);
    uint8_t byte;
    check_fails(ramet_store_read_part(f->store, f->differing[0], 0, &byte, 1, &err), RAMET_CORRUPT);
    expect_sound(f);
}

static void a_collection_keeps_the_bases_of_what_lives(void **state)
{
    struct fixture *f = *state;
    uint64_t stored = 0;
    put(f, f->changed, count, f->chunks, f->differing, &stored);
    collect(f, f->differing, count); /* nobody marks the bases themselves */
    reopen(f);
    expect(f, f->changed, count, f->differing);
    collect(f, f->chunks, count);
    expect(f, f->pages, count, f->chunks);
    expect_sound(f);
}

/* Of every frame half the pages die: they are gone from the disk, the others keep their numbers. */
static void dead_pages_leave_their_frames(void **state)
{
    struct fixture *f = *state;
    ramet_chunk kept[count / 2], again[count];
    struct ramet_store_stat before, after;
    uint64_t stored = 0;
    for (size_t i = 0; i < count / 2; i++)
        kept[i] = f->chunks[2 * i];
    check_ok(ramet_store_stat(f->store, &before, &err));
    struct ramet_gc_result result = collect(f, kept, count / 2);
    assert_true(result.trimmed_frames > 0);
    check_ok(ramet_store_stat(f->store, &after, &err));
    assert_in_range(after.pack_bytes, 0, before.pack_bytes * 6 / 10);
    assert_int_equal(after.chunks, count / 2);
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < count / 2; i++)
            expect(f, f->pages + 2 * i * page, 1, &kept[i]);
        /* A page that died is stored anew; its old number is never given for it. */
        put(f, f->pages, count, NULL, again, &stored);
        expect(f, f->pages, count, again);
        reopen(f);
    }
    expect_sound(f);
}

static void recompression_saves_space_and_changes_nothing(void **state)
{
    struct fixture *f = *state;
    enum { lines = count * page / 32 };
    uint8_t *text = malloc((size_t)count * page + 1), *got = malloc((size_t)count * page);
    uint64_t stored = 0;
    const struct ramet_recompress_options options = {.threads = 2};
    struct ramet_recompress_result result, again;
    struct ramet_store_stat stat;
    for (size_t i = 0; i < lines; i++)
        snprintf((char *)text + i * 32, 33, "%08x word and more of them ", (unsigned)test_below(1 << 20));
    put(f, text, count, NULL, f->differing, &stored);
    put(f, f->changed, count, f->chunks, f->chunks, &stored);
    check_ok(ramet_store_recompress(f->store, &options, &result, &err));
    assert_true(result.after_bytes < result.before_bytes);
    check_ok(ramet_store_stat(f->store, &stat, &err));
    assert_int_equal(stat.cold_frames, stat.frames);
    expect(f, text, count, f->differing);
    reopen(f);
    expect(f, text, count, f->differing);
    expect(f, f->changed, count, f->chunks);
    check_ok(ramet_store_recompress(f->store, &options, &again, &err));
    assert_int_equal(again.frames, 0);
    expect_sound(f);
    free(text);
    free(got);
}

static void the_index_can_be_made_from_the_packs(void **state)
{
    struct fixture *f = *state;
    uint64_t stored = 0;
    ramet_chunk again[count];
    char index[128];
    struct ramet_rebuild_result result;
    put(f, f->changed, count, f->chunks, f->differing, &stored);
    ramet_store_close(f->store);
    snprintf(index, sizeof index, "%s/index", f->dir);
    check_ok(ramet_dir_remove(index, &err));
    check_fails(ramet_store_open(f->dir, NULL, &f->store, &err), RAMET_CORRUPT);
    assert_non_null(strstr(err.hint, "--rebuild"));
    check_ok(ramet_store_rebuild(f->dir, &result, &err));
    assert_int_equal(result.damaged_bytes, 0);
    check_ok(ramet_store_open(f->dir, NULL, &f->store, &err));
    expect(f, f->pages, count, f->chunks);
    expect(f, f->changed, count, f->differing);
    /* Hashes are back as well. */
    put(f, f->changed, count, NULL, again, &stored);
    assert_int_equal(stored, 0);
    assert_memory_equal(again, f->differing, sizeof again);
    expect_sound(f);
}

/* A scrub that was stopped goes on where it stood, also in another process. */
static bool stop_half_way(void *ctx, const struct ramet_scrub_state *state)
{
    (void)ctx;
    return state->next_frame > state->end_frame / 2;
}

static void a_scrub_goes_on_where_it_stood(void **state)
{
    struct fixture *f = *state;
    struct ramet_scrub_options options = {.resume = true, .problem = fail_on_problem, .progress = stop_half_way};
    struct ramet_scrub_state first, second;
    struct ramet_store_stat stat;
    check_ok(ramet_store_stat(f->store, &stat, &err));
    check_ok(ramet_store_scrub(f->store, &options, &first, &err));
    assert_false(first.finished);
    assert_in_range(first.frames, 1, stat.frames - 1);
    reopen(f);
    options.progress = NULL;
    check_ok(ramet_store_scrub(f->store, &options, &second, &err));
    assert_true(second.finished);
    assert_int_equal(second.frames, stat.frames); /* of both together: none twice, none missed */
}

/* What was committed is cached. A frame of one page counts as one, and takes no more: there was room for sixteen. */
static void the_cache_takes_what_it_counts(void **state)
{
    struct fixture *f = *state;
    uint64_t frames[2], index, stored;
    uint8_t *pages = malloc((size_t)count * page);
    ramet_chunk chunk;
    test_fill(pages, (size_t)count * page);
    ramet_store_drop_caches(f->store);
    ramet_store_memory_bytes(f->store, &frames[0], &index);
    size_t before = mallinfo2().uordblks;
    for (size_t i = 0; i < count; i++)
        put(f, pages + i * page, 1, NULL, &chunk, &stored);
    size_t after = mallinfo2().uordblks;
    ramet_store_memory_bytes(f->store, &frames[1], &index);
    assert_int_equal(frames[0], 0);
    assert_in_range(frames[1], (uint64_t)count * page, (uint64_t)count * (page + 200));
    if (after > before + frames[1] + (4u << 20)) /* the index grows, too */
        fail_msg("%zu KiB are taken for %zu", (after - before) >> 10, (size_t)frames[1] >> 10);
    free(pages);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_page_like_its_base_is_stored_as_the_difference, setup, teardown),
        cmocka_unit_test_setup_teardown(an_equal_page_keeps_the_number_of_its_base, setup, teardown),
        cmocka_unit_test_setup_teardown(a_page_unlike_its_base_is_stored_whole, setup, teardown),
        cmocka_unit_test_setup_teardown(differences_are_one_base_deep, setup, teardown),
        cmocka_unit_test_setup_teardown(a_collection_keeps_the_bases_of_what_lives, setup, teardown),
        cmocka_unit_test_setup_teardown(dead_pages_leave_their_frames, setup, teardown),
        cmocka_unit_test_setup_teardown(recompression_saves_space_and_changes_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(the_index_can_be_made_from_the_packs, setup, teardown),
        cmocka_unit_test_setup_teardown(a_scrub_goes_on_where_it_stood, setup, teardown),
        cmocka_unit_test_setup_teardown(the_cache_takes_what_it_counts, setup, teardown),
    };
    return cmocka_run_group_tests_name("store_space", tests, NULL, NULL);
}
