/* SPDX-License-Identifier: Apache-2.0 */
/* The chunk store: what goes in comes out, equal pages are stored once, nothing uncommitted survives, nothing corrupt
 * is served. */
#include "testing.h"

#include "base/file.h"
#include "store.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { page = RAMET_PAGE_SIZE };

struct fixture {
    char dir[64];
    struct ramet_store *store;
};

static struct ramet_error err;

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    test_dir_make(f->dir);
    check_ok(ramet_store_open(f->dir, NULL, &f->store, &err));
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    ramet_store_close(f->store);
    test_dir_remove(f->dir);
    free(f);
    return 0;
}

static void reopen(struct fixture *f)
{
    ramet_store_close(f->store);
    f->store = NULL;
    check_ok(ramet_store_open(f->dir, NULL, &f->store, &err));
}

static void put(struct fixture *f, const void *pages, size_t count, ramet_chunk *chunks)
{
    struct ramet_ingest *ingest;
    check_ok(ramet_ingest_begin(f->store, &ingest, &err));
    check_ok(ramet_ingest_put(ingest, RAMET_CHUNK_DATA, pages, count, NULL, chunks, &err));
    check_ok(ramet_ingest_commit(ingest, NULL, &err));
    ramet_ingest_end(ingest);
}

static void expect(struct fixture *f, const void *pages, size_t count, const ramet_chunk *chunks)
{
    uint8_t *got = malloc(count * page);
    check_ok(ramet_store_read(f->store, chunks, count, got, &err));
    assert_memory_equal(got, pages, count * page);
    free(got);
}

/* Colliding hashes cost dedup, nothing else: then only content is compared. */
static void expect_deduplicated(const ramet_chunk *a, const ramet_chunk *b, size_t count)
{
#ifndef RAMET_COLLIDING
    assert_memory_equal(a, b, count * sizeof *a);
#else
    (void)a, (void)b, (void)count;
#endif
}

/* Half random pages, half compressible ones; every seventh zero. */
static uint8_t *make_pages(size_t count)
{
    uint8_t *pages = calloc(count, page);
    for (size_t i = 0; i < count; i++)
        if (i % 7)
            test_fill(pages + i * page, i % 2 ? page : 64);
    return pages;
}

static void pages_come_back_after_reopening(void **state)
{
    struct fixture *f = *state;
    enum { count = 3000 };
    uint8_t *pages = make_pages(count);
    ramet_chunk chunks[count];
    put(f, pages, count, chunks);
    expect(f, pages, count, chunks);
    reopen(f);
    expect(f, pages, count, chunks);
    for (size_t i = 0; i < count; i += 7)
        assert_int_equal(chunks[i], RAMET_CHUNK_ZERO);
    free(pages);
}

static void equal_pages_get_one_number(void **state)
{
    struct fixture *f = *state;
    uint8_t *pages = make_pages(100);
    ramet_chunk first[100], again[100], doubled[2];
    put(f, pages, 100, first);
    put(f, pages, 100, again);
    expect_deduplicated(first, again, 100);
    expect(f, pages, 100, again);
    reopen(f);
    put(f, pages, 100, again);
    expect_deduplicated(first, again, 100);
    expect(f, pages, 100, again);
    uint8_t two[2][page];
    test_fill(two[0], page);
    memcpy(two[1], two[0], page);
    put(f, two, 2, doubled);
    assert_int_equal(doubled[0], doubled[1]);
    free(pages);
}

static void what_is_not_committed_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    struct ramet_ingest *ingest;
    struct ramet_store_stat stat;
    ramet_chunk chunks[500];
    uint8_t *pages = make_pages(500);
    check_ok(ramet_ingest_begin(f->store, &ingest, &err));
    check_ok(ramet_ingest_put(ingest, RAMET_CHUNK_DATA, pages, 500, NULL, chunks, &err));
    ramet_ingest_end(ingest);
    reopen(f);
    check_ok(ramet_store_stat(f->store, &stat, &err));
    assert_int_equal(stat.chunks, 0);
    put(f, pages, 500, chunks);
    expect(f, pages, 500, chunks);
    free(pages);
}

/* One commit that fills several packs: all of them are kept. */
static void a_commit_may_fill_several_packs(void **state)
{
    struct fixture *f = *state;
    enum { count = 9000 };
    struct ramet_store_options options = {.pack_bytes = 2 << 20};
    struct ramet_store_stat stat;
    uint8_t *pages = malloc((size_t)count * page);
    ramet_chunk *chunks = calloc(count, sizeof *chunks);
    test_fill(pages, (size_t)count * page);
    ramet_store_close(f->store);
    check_ok(ramet_store_open(f->dir, &options, &f->store, &err));
    put(f, pages, count, chunks);
    reopen(f);
    expect(f, pages, count, chunks);
    check_ok(ramet_store_stat(f->store, &stat, &err));
    assert_true(stat.packs > 2);
    free(pages);
    free(chunks);
}

/* A crash between starting a pack and the commit that would name it: writing goes on after what is committed. */
static void a_pack_no_commit_named_leaves_the_last_one_whole(void **state)
{
    struct fixture *f = *state;
    uint8_t *pages = make_pages(80);
    ramet_chunk chunks[80];
    char path[128];
    put(f, pages, 40, chunks);
    ramet_store_close(f->store);
    snprintf(path, sizeof path, "%s/packs/00000002.pack", f->dir);
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    assert_int_equal(write(fd, pages, page), page);
    close(fd);
    check_ok(ramet_store_open(f->dir, NULL, &f->store, &err));
    put(f, pages + 40 * page, 40, chunks + 40);
    reopen(f);
    expect(f, pages, 80, chunks);
    free(pages);
}

static void flip(const char *path, off_t offset)
{
    uint8_t byte;
    int fd = open(path, O_RDWR);
    assert_int_equal(pread(fd, &byte, 1, offset), 1);
    byte ^= 0x10;
    assert_int_equal(pwrite(fd, &byte, 1, offset), 1);
    close(fd);
}

static void a_flipped_byte_is_reported_and_never_served(void **state)
{
    struct fixture *f = *state;
    enum { count = 40 };
    uint8_t *pages = make_pages(count), got[page];
    ramet_chunk chunks[count];
    char path[128];
    struct stat st;
    put(f, pages, count, chunks);
    snprintf(path, sizeof path, "%s/packs/00000001.pack", f->dir);
    assert_int_equal(stat(path, &st), 0);
    for (int round = 0; round < 200; round++) {
        off_t at = (off_t)test_below((uint64_t)st.st_size);
        flip(path, at);
        reopen(f);
        for (size_t i = 0; i < count; i++) {
            int r = ramet_store_read(f->store, &chunks[i], 1, got, &err);
            if (r == 0)
                assert_memory_equal(got, pages + i * page, page);
            else {
                assert_int_equal(r, -RAMET_CORRUPT);
                assert_non_null(strstr(err.msg, "pack 00000001"));
            }
        }
        flip(path, at);
    }
    free(pages);
}

struct problems {
    unsigned count;
    char last[700];
};

static void note_problem(void *ctx, uint64_t frame, const char *line)
{
    struct problems *p = ctx;
    (void)frame;
    p->count++;
    snprintf(p->last, sizeof p->last, "%s", line);
}

static void verify_names_the_damaged_frame(void **state)
{
    struct fixture *f = *state;
    uint8_t *pages = make_pages(40);
    ramet_chunk chunks[40];
    char path[128];
    struct problems problems = {0};
    struct ramet_scrub_state result;
    const struct ramet_scrub_options options = {.problem = note_problem, .ctx = &problems};
    put(f, pages, 40, chunks);
    check_ok(ramet_store_scrub(f->store, &options, &result, &err));
    assert_int_equal(problems.count, 0);
    snprintf(path, sizeof path, "%s/packs/00000001.pack", f->dir);
    flip(path, 64 + 40);
    check_ok(ramet_store_scrub(f->store, &options, &result, &err));
    assert_int_equal(problems.count, 1);
    assert_non_null(strstr(problems.last, "pack 00000001 at 64"));
    free(pages);
}

static void a_second_process_is_told_who_holds_the_store(void **state)
{
    struct fixture *f = *state;
    struct ramet_store *other;
    char pid[32];
    check_fails(ramet_store_open(f->dir, NULL, &other, &err), RAMET_BUSY);
    snprintf(pid, sizeof pid, "process %d", (int)getpid());
    assert_non_null(strstr(err.msg, pid));
}

struct keep {
    const ramet_chunk *chunks;
    size_t count;
};

static int mark_kept(void *ctx, struct ramet_gc *gc, struct ramet_error *e)
{
    const struct keep *keep = ctx;
    (void)e;
    for (size_t i = 0; i < keep->count; i++)
        ramet_gc_mark(gc, keep->chunks[i]);
    return 0;
}

static void collecting_frees_the_unmarked_and_keeps_the_rest(void **state)
{
    struct fixture *f = *state;
    enum { count = 4000 };
    uint8_t *dead = make_pages(count), *live = make_pages(count);
    ramet_chunk dead_chunks[count], live_chunks[count], again[count];
    struct ramet_gc_result result;
    struct ramet_store_stat before, after;
    put(f, dead, count, dead_chunks);
    put(f, live, count, live_chunks);
    check_ok(ramet_store_stat(f->store, &before, &err));
    struct keep keep = {live_chunks, count};
    check_ok(ramet_store_gc(f->store, mark_kept, &keep, &result, &err));
    check_ok(ramet_store_stat(f->store, &after, &err));
    expect(f, live, count, live_chunks);
    assert_in_range(after.pack_bytes, 0, before.pack_bytes * 6 / 10);
    reopen(f);
    expect(f, live, count, live_chunks);
    /* What was freed can be stored again and does not find its ghost. */
    put(f, dead, count, again);
    expect(f, dead, count, again);
    free(dead);
    free(live);
}

/* Several packs' worth, most of it dead: whole packs go, frames move, numbers stay. */
static void compaction_moves_frames_and_keeps_numbers(void **state)
{
    struct fixture *f = *state;
    enum { count = 2000, rounds = 4 };
    ramet_chunk chunks[rounds][count];
    uint8_t *pages[rounds];
    struct ramet_gc_result result;
    struct ramet_store_options options = {.frame_slots = 1};
    ramet_store_close(f->store);
    check_ok(ramet_store_open(f->dir, &options, &f->store, &err));
    for (int i = 0; i < rounds; i++) {
        pages[i] = calloc(count, page);
        test_fill(pages[i], (size_t)count * page);
        put(f, pages[i], count, chunks[i]);
    }
    ramet_chunk kept[rounds * count / 4];
    for (int i = 0, k = 0; i < rounds; i++)
        for (int j = 0; j < count; j += 4)
            kept[k++] = chunks[i][j];
    struct keep keep = {kept, rounds * count / 4};
    check_ok(ramet_store_gc(f->store, mark_kept, &keep, &result, &err));
    assert_int_equal(result.live_chunks, keep.count);
    reopen(f);
    for (int i = 0; i < rounds; i++) {
        for (int j = 0; j < count; j += 4)
            expect(f, pages[i] + (size_t)j * page, 1, &chunks[i][j]);
        free(pages[i]);
    }
}

static void nothing_needs_io_uring(void **state)
{
    setenv("RAMET_NO_URING", "1", 1);
    pages_come_back_after_reopening(state);
    unsetenv("RAMET_NO_URING");
}

/* A child commits batches and reports each one; it is killed at a random moment. What it reported must be there. */
static void a_killed_writer_keeps_what_it_acknowledged(void **state)
{
    struct fixture *f = *state;
    enum { batch = 64, rounds = 12 };
    for (int round = 0; round < rounds; round++) {
        int report[2];
        ramet_store_close(f->store);
        f->store = NULL;
        assert_int_equal(pipe(report), 0);
        uint64_t seed = test_random();
        pid_t child = fork();
        if (child == 0) {
            struct ramet_store *store;
            struct ramet_ingest *ingest;
            if (ramet_store_open(f->dir, NULL, &store, NULL) < 0)
                _exit(1);
            for (uint64_t n = 0;; n++) {
                uint8_t pages[batch][page];
                ramet_chunk chunks[batch];
                for (size_t i = 0; i < sizeof pages; i += 8) {
                    uint64_t v = (seed + n * sizeof pages + i) * UINT64_C(0x9e3779b97f4a7c15);
                    memcpy((uint8_t *)pages + i, &v, 8);
                }
                if (ramet_ingest_begin(store, &ingest, NULL) < 0 ||
                    ramet_ingest_put(ingest, RAMET_CHUNK_DATA, pages, batch, NULL, chunks, NULL) < 0 ||
                    ramet_ingest_commit(ingest, NULL, NULL) < 0 ||
                    write(report[1], chunks, sizeof chunks) != sizeof chunks)
                    _exit(1);
                ramet_ingest_end(ingest);
            }
        }
        close(report[1]);
        usleep(30000 + (useconds_t)test_below(60000));
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        check_ok(ramet_store_open(f->dir, NULL, &f->store, &err));
        ramet_chunk chunks[batch];
        for (uint64_t n = 0; read(report[0], chunks, sizeof chunks) == sizeof chunks; n++) {
            uint8_t pages[batch][page];
            for (size_t i = 0; i < sizeof pages; i += 8) {
                uint64_t v = (seed + n * sizeof pages + i) * UINT64_C(0x9e3779b97f4a7c15);
                memcpy((uint8_t *)pages + i, &v, 8);
            }
            expect(f, pages, batch, chunks);
        }
        close(report[0]);
    }
    struct problems problems = {0};
    struct ramet_scrub_state result;
    const struct ramet_scrub_options options = {.problem = note_problem, .ctx = &problems};
    check_ok(ramet_store_scrub(f->store, &options, &result, &err));
    assert_int_equal(problems.count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(pages_come_back_after_reopening, setup, teardown),
        cmocka_unit_test_setup_teardown(equal_pages_get_one_number, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_not_committed_leaves_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(a_commit_may_fill_several_packs, setup, teardown),
        cmocka_unit_test_setup_teardown(a_pack_no_commit_named_leaves_the_last_one_whole, setup, teardown),
        cmocka_unit_test_setup_teardown(a_flipped_byte_is_reported_and_never_served, setup, teardown),
        cmocka_unit_test_setup_teardown(verify_names_the_damaged_frame, setup, teardown),
        cmocka_unit_test_setup_teardown(a_second_process_is_told_who_holds_the_store, setup, teardown),
        cmocka_unit_test_setup_teardown(collecting_frees_the_unmarked_and_keeps_the_rest, setup, teardown),
        cmocka_unit_test_setup_teardown(compaction_moves_frames_and_keeps_numbers, setup, teardown),
        cmocka_unit_test_setup_teardown(nothing_needs_io_uring, setup, teardown),
        cmocka_unit_test_setup_teardown(a_killed_writer_keeps_what_it_acknowledged, setup, teardown),
    };
    return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
