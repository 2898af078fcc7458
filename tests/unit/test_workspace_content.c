/* SPDX-License-Identifier: Apache-2.0 */
/* What files hold: small and large, sparse, truncated, punched, copied, forked; against a flat buffer. */
#include "workspace_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct ramet_wstat out;

static struct ramet_workspace *workspace(void **state) { return ((struct world *)*state)->ws; }

static uint64_t used_bytes(struct ramet_workspace *ws)
{
    struct ramet_workspace_info info;
    ramet_workspace_info(ws, &info);
    return info.used_bytes;
}

static void set_size(struct ramet_workspace *ws, uint64_t ino, uint64_t size)
{
    struct ramet_wstat attr = {.size = size};
    check_ok(ramet_wfile_set(ws, ino, &attr, RAMET_WSET_SIZE, &out, &err));
    assert_int_equal(out.size, size);
}

/* A file grows through every form that its content can have. */
static void small_files_grow(void **state)
{
    struct ramet_workspace *ws = workspace(state);
    static const size_t sizes[] = {1, 511, 512, 513, 4095, 4096, 4097, 9000, 300000};
    uint64_t ino = make_file(ws, RAMET_ROOT, "a"), at;
    char *bytes = malloc(300000);
    size_t have = 0;
    test_fill(bytes, 300000);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        check_ok(ramet_wfile_write(ws, ino, 0, bytes + have, sizes[i] - have, true, false, &at, &err));
        assert_int_equal(at, have);
        have = sizes[i];
        expect_bytes(ws, ino, bytes, have);
        assert_int_equal(stat_of(ws, ino).blocks, have <= 512 ? 1 : (have + 4095) / 4096 * 8);
        expect_sound(ws);
    }
    set_size(ws, ino, 100);
    expect_bytes(ws, ino, bytes, 100);
    set_size(ws, ino, 0);
    assert_int_equal(used_bytes(ws), 0);
    put_bytes(ws, ino, 10, "x", 1);
    expect_bytes(ws, ino, "\0\0\0\0\0\0\0\0\0\0x", 11);
    assert_int_equal(stat_of(ws, ino).blocks, 1);
    free(bytes);
}

/* What lay behind the end before is never seen again. */
static void ends_hide_nothing(void **state)
{
    static const char zeros[10000];
    struct ramet_workspace *ws = workspace(state);
    static const size_t ends[] = {0, 5, 600, 4096, 5000};
    char bytes[10000];
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        for (int by = 0; by < 3; by++) {
            uint64_t ino = make_file(ws, RAMET_ROOT, "a");
            memset(bytes, 'x', sizeof bytes);
            put_bytes(ws, ino, 0, bytes, sizeof bytes);
            set_size(ws, ino, ends[i]);
            memcpy(bytes + ends[i], zeros, sizeof bytes - ends[i]);
            if (by == 0)
                set_size(ws, ino, sizeof bytes);
            else if (by == 1)
                put_bytes(ws, ino, sizeof bytes - 1, zeros, 1);
            else
                check_ok(ramet_wfile_allocate(ws, ino, 0, 0, sizeof bytes, &err));
            expect_bytes(ws, ino, bytes, sizeof bytes);
            check_ok(ramet_wfile_unlink(ws, RAMET_ROOT, "a", NULL, &err));
        }
    }
    expect_sound(ws);
}

static void reading_ends_at_the_end(void **state)
{
    struct ramet_workspace *ws = workspace(state);
    uint64_t ino = make_file(ws, RAMET_ROOT, "a"), dir = make_dir(ws, RAMET_ROOT, "d");
    char buf[8192];
    size_t got;
    put_bytes(ws, ino, 4096, "abc", 3);
    check_ok(ramet_wfile_read(ws, ino, 4097, buf, sizeof buf, &got, &err));
    assert_int_equal(got, 2);
    check_ok(ramet_wfile_read(ws, ino, 4099, buf, sizeof buf, &got, &err));
    assert_int_equal(got, 0);
    check_ok(ramet_wfile_read(ws, ino, UINT64_MAX, buf, sizeof buf, &got, &err));
    assert_int_equal(got, 0);
    check_errno(ramet_wfile_read(ws, dir, 0, buf, 1, &got, &err), EISDIR);
    check_errno(ramet_wfile_write(ws, dir, 0, buf, 1, false, false, NULL, &err), EISDIR);
    check_errno(ramet_wfile_write(ws, ino, INT64_MAX, buf, 1, false, false, NULL, &err), EFBIG);
    check_errno(ramet_wfile_write(ws, ino, UINT64_MAX, buf, 2, false, false, NULL, &err), EFBIG);
    struct ramet_wstat attr = {.size = UINT64_MAX};
    check_errno(ramet_wfile_set(ws, ino, &attr, RAMET_WSET_SIZE, &out, &err), EFBIG);
    put_bytes(ws, ino, INT64_MAX - 1, "x", 1);
    assert_int_equal(stat_of(ws, ino).size, INT64_MAX);
    assert_int_equal(stat_of(ws, ino).blocks, 16);
    set_size(ws, ino, 0);
    assert_int_equal(used_bytes(ws), 0);
}

static void holes_are_found(void **state)
{
    struct ramet_workspace *ws = workspace(state);
    uint64_t ino = make_file(ws, RAMET_ROOT, "a"), at;
    char page[4096] = "x";
    check_errno(ramet_wfile_seek(ws, ino, 0, SEEK_DATA, &at, &err), ENXIO);
    put_bytes(ws, ino, 3 * 4096, page, 4096);
    put_bytes(ws, ino, 1000 * 4096 + 5, page, 1);
    static const struct {
        uint64_t from, data, hole;
    } cases[] = {{0, 3 * 4096, 0},
                 {5, 3 * 4096, 5},
                 {3 * 4096 + 5, 3 * 4096 + 5, 4 * 4096},
                 {4 * 4096, 1000 * 4096, 4 * 4096},
                 {999 * 4096, 1000 * 4096, 999 * 4096},
                 {1000 * 4096 + 1, 1000 * 4096 + 1, 1000 * 4096 + 6}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        check_ok(ramet_wfile_seek(ws, ino, cases[i].from, SEEK_DATA, &at, &err));
        assert_int_equal(at, cases[i].data);
        check_ok(ramet_wfile_seek(ws, ino, cases[i].from, SEEK_HOLE, &at, &err));
        assert_int_equal(at, cases[i].hole);
    }
    check_errno(ramet_wfile_seek(ws, ino, 1000 * 4096 + 6, SEEK_HOLE, &at, &err), ENXIO);
    check_errno(ramet_wfile_seek(ws, ino, 0, SEEK_SET, &at, &err), EINVAL);
    set_size(ws, ino, 2000 * 4096);
    check_errno(ramet_wfile_seek(ws, ino, 1001 * 4096, SEEK_DATA, &at, &err), ENXIO);
    check_ok(ramet_wfile_seek(ws, ino, 1001 * 4096, SEEK_HOLE, &at, &err));
    assert_int_equal(at, 1001 * 4096);
    check_ok(ramet_wfile_allocate(ws, ino, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4 * 4096, &err));
    check_ok(ramet_wfile_seek(ws, ino, 0, SEEK_DATA, &at, &err));
    assert_int_equal(at, 1000 * 4096);
    assert_int_equal(used_bytes(ws), 4096);
    check_ok(ramet_wfile_allocate(ws, ino, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, INT64_MAX, &err));
    assert_int_equal(used_bytes(ws), 0);
    assert_int_equal(stat_of(ws, ino).size, 2000 * 4096);
    check_errno(ramet_wfile_allocate(ws, ino, FALLOC_FL_COLLAPSE_RANGE, 0, 4096, &err), EOPNOTSUPP);
    check_errno(ramet_wfile_allocate(ws, ino, FALLOC_FL_PUNCH_HOLE, 0, 4096, &err), EOPNOTSUPP);
    check_errno(ramet_wfile_allocate(ws, ino, 0, 0, 0, &err), EINVAL);
    check_errno(ramet_wfile_allocate(ws, ino, 0, INT64_MAX, 1, &err), EFBIG);
    check_errno(ramet_wfile_allocate(ws, make_dir(ws, RAMET_ROOT, "d"), 0, 0, 1, &err), ENODEV);
}

/* Copies share pages: nothing new is stored for them, and neither file's later writes reach the other. */
static void copies_share(void **state)
{
    struct ramet_workspace *ws = workspace(state);
    enum { size = 300 * 4096 + 77 };
    uint64_t a = make_file(ws, RAMET_ROOT, "a"), b = make_file(ws, RAMET_ROOT, "b"), done;
    char *bytes = malloc(size), *changed = malloc(size);
    test_fill(bytes, size);
    put_bytes(ws, a, 0, bytes, size);
    check_ok(ramet_wfile_copy(ws, a, 0, b, 0, UINT64_C(1) << 40, &done, &err));
    assert_int_equal(done, size);
    expect_bytes(ws, b, bytes, size);
    memcpy(changed, bytes, size);
    memcpy(changed + 5000, "changed", 7);
    put_bytes(ws, b, 5000, "changed", 7);
    expect_bytes(ws, b, changed, size);
    expect_bytes(ws, a, bytes, size);
    put_bytes(ws, a, 9000, "other", 5);
    expect_bytes(ws, b, changed, size);
    /* What both named is not used again while one does. */
    check_ok(ramet_wfile_unlink(ws, RAMET_ROOT, "a", NULL, &err));
    uint64_t c = make_file(ws, RAMET_ROOT, "c");
    put_bytes(ws, c, 0, bytes, size);
    check_ok(ramet_workspaces_sync(((struct world *)*state)->set, &err));
    put_bytes(ws, c, 0, changed, size);
    expect_bytes(ws, b, changed, size);
    check_errno(ramet_wfile_copy(ws, b, 0, b, 4096, 2 * 4096, &done, &err), EINVAL);
    check_ok(ramet_wfile_copy(ws, b, size, c, 0, 10, &done, &err));
    assert_int_equal(done, 0);
    expect_sound(ws);
    free(bytes);
    free(changed);
}

/* --- against a flat buffer --- */

enum { most = 600000 };
struct flat {
    uint64_t ino;
    size_t size;
    uint8_t bytes[most];
};

static void flat_write(struct ramet_workspace *ws, struct flat *flat, const uint8_t *random)
{
    size_t offset = test_below(2) ? test_below(most) : test_below(flat->size + 1), size;
    size = 1 + test_below(test_below(2) ? 5000 : 200000);
    if (size > most - offset)
        size = most - offset;
    if (size == 0)
        return;
    put_bytes(ws, flat->ino, offset, random, size);
    memcpy(flat->bytes + offset, random, size);
    if (offset + size > flat->size)
        flat->size = offset + size;
}

static void flat_size(struct ramet_workspace *ws, struct flat *flat)
{
    size_t size = test_below(4) ? test_below(most) : test_below(600);
    set_size(ws, flat->ino, size);
    if (size < flat->size)
        memset(flat->bytes + size, 0, flat->size - size);
    flat->size = size;
}

static void flat_punch(struct ramet_workspace *ws, struct flat *flat)
{
    bool punch = test_below(2), keep = punch || test_below(2);
    size_t offset = test_below(most - 1), size = 1 + test_below(most - offset - 1);
    int mode = punch ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE;
    check_ok(ramet_wfile_allocate(ws, flat->ino, mode | (keep ? FALLOC_FL_KEEP_SIZE : 0), offset, size, &err));
    memset(flat->bytes + offset, 0, size);
    if (!keep && offset + size > flat->size)
        flat->size = offset + size;
}

static void flat_copy(struct ramet_workspace *ws, struct flat *from, struct flat *to)
{
    size_t from_offset = test_below(most), to_offset = test_below(most), size = 1 + test_below(most);
    uint64_t done = 0;
    if (test_below(3))
        to_offset = to_offset / 4096 * 4096 + from_offset % 4096;
    if (from_offset > most || to_offset >= most)
        return;
    if (size > most - to_offset)
        size = most - to_offset;
    size_t there = from_offset < from->size ? from->size - from_offset : 0;
    size_t expected = size < there ? size : there;
    int r = ramet_wfile_copy(ws, from->ino, from_offset, to->ino, to_offset, size, &done, &err);
    if (from == to && from_offset < to_offset + expected && to_offset < from_offset + expected) {
        assert_true(r < 0 && err.os_errno == EINVAL);
        return;
    }
    check_ok(r);
    assert_int_equal(done, expected);
    memmove(to->bytes + to_offset, from->bytes + from_offset, expected);
    if (expected > 0 && to_offset + expected > to->size)
        to->size = to_offset + expected;
}

/* Data is what SEEK_DATA finds, and holes hold zeros. */
static void expect_holes(struct ramet_workspace *ws, const struct flat *flat)
{
    uint64_t at = 0, data;
    while (at < flat->size) {
        int r = ramet_wfile_seek(ws, flat->ino, at, SEEK_DATA, &data, &err);
        if (r < 0) {
            assert_int_equal(err.os_errno, ENXIO);
            data = flat->size;
        }
        for (uint64_t i = at; i < data; i++)
            assert_int_equal(flat->bytes[i], 0);
        if (data == flat->size)
            break;
        check_ok(ramet_wfile_seek(ws, flat->ino, data, SEEK_HOLE, &at, &err));
        assert_true(at > data);
    }
}

static void files_equal_flat_buffers(void **state)
{
    struct world *world = *state;
    struct ramet_workspace *fork = NULL;
    enum { files = 3, rounds = 600 };
    struct flat *flats = calloc(files, sizeof *flats), *kept = NULL;
    uint8_t *random = malloc(most);
    char name[] = "a";
    for (int i = 0; i < files; i++, name[0]++)
        flats[i].ino = make_file(world->ws, RAMET_ROOT, name);
    for (int round = 0; round < rounds; round++) {
        struct flat *flat = &flats[test_below(files)];
        test_fill(random, 4096);
        for (size_t i = 4096; i < most; i += 4096)
            memcpy(random + i, random, i + 4096 <= most ? 4096 : most - i);
        switch (test_below(6)) {
        case 0:
        case 1: flat_write(world->ws, flat, random); break;
        case 2: flat_size(world->ws, flat); break;
        case 3: flat_punch(world->ws, flat); break;
        case 4: flat_copy(world->ws, flat, &flats[test_below(files)]); break;
        default: expect_bytes(world->ws, flat->ino, flat->bytes, flat->size); expect_holes(world->ws, flat);
        }
        if (round % 150 == 50) {
            check_ok(ramet_workspace_fork(world->ws, "fork", &fork, &err));
            kept = malloc(files * sizeof *kept);
            memcpy(kept, flats, files * sizeof *kept);
        }
        if (round % 150 == 70)
            check_ok(ramet_workspaces_checkpoint(world->set, &err));
        if (round % 150 == 100) {
            for (int i = 0; i < files; i++)
                expect_bytes(fork, kept[i].ino, kept[i].bytes, kept[i].size);
            expect_sound(fork);
            check_ok(ramet_workspace_remove(fork, &err));
            ramet_workspace_unref(fork);
            free(kept);
        }
        if (round % 150 == 120)
            world_reopen(world);
    }
    expect_sound(world->ws);
    free(flats);
    free(random);
}

/* A file of 256 MiB appended to in a fork: what it costs is one record of pages and one page, not the file. */
static void large_files_go(void **state)
{
    struct world *world = *state;
    enum { block = 1 << 20, blocks = 600 }; /* more than goes in one change */
    uint64_t ino = make_file(world->ws, RAMET_ROOT, "a");
    uint8_t *bytes = calloc(1, block);
    for (uint64_t i = 0; i < blocks; i++) {
        memcpy(bytes, &i, sizeof i);
        put_bytes(world->ws, ino, i * block, bytes, block);
    }
    assert_int_equal(used_bytes(world->ws), (uint64_t)block * blocks);
    check_ok(ramet_wfile_unlink(world->ws, RAMET_ROOT, "a", NULL, &err));
    check_errno(ramet_wfile_stat(world->ws, ino, &out, &err), ESTALE);
    expect_sound(world->ws);
    free(bytes);
}

/* --- threads --- */

struct reader {
    struct ramet_workspace *ws;
    uint64_t ino;
    _Atomic bool *stop;
    uint64_t reads;
};

/* A page is written whole: a reader sees one value all over it, and a size that fits. */
static void *read_pages(void *ctx)
{
    struct reader *reader = ctx;
    uint8_t page[4096];
    struct ramet_error e;
    size_t got;
    while (!*reader->stop) {
        if (ramet_wfile_read(reader->ws, reader->ino, 8192, page, sizeof page, &got, &e) < 0 || got != sizeof page)
            return "read";
        for (size_t i = 1; i < sizeof page; i++)
            if (page[i] != page[0])
                return "torn";
        reader->reads++;
    }
    return NULL;
}

static void readers_beside_writers(void **state)
{
    struct ramet_workspace *ws = workspace(state);
    _Atomic bool stop = false;
    struct reader readers[2];
    pthread_t threads[2];
    uint8_t pages[5 * 4096] = {0};
    void *wrong;
    uint64_t ino = make_file(ws, RAMET_ROOT, "a");
    put_bytes(ws, ino, 0, pages, sizeof pages);
    for (int i = 0; i < 2; i++) {
        readers[i] = (struct reader){ws, ino, &stop, 0};
        assert_int_equal(pthread_create(&threads[i], NULL, read_pages, &readers[i]), 0);
    }
    for (int round = 0; round < 2000; round++) {
        memset(pages, round, sizeof pages);
        put_bytes(ws, ino, 0, pages, sizeof pages);
    }
    stop = true;
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], &wrong);
        assert_null(wrong);
    }
}

#define case_of(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        case_of(small_files_grow), case_of(ends_hide_nothing),      case_of(reading_ends_at_the_end),
        case_of(holes_are_found),  case_of(copies_share),           case_of(files_equal_flat_buffers),
        case_of(large_files_go),   case_of(readers_beside_writers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
