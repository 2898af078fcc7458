/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Workspaces written by an earlier build, some of them in the journal only: they open and hold what they did, in every
 * state; and what is of a version to come is refused by name.
 */
#include "golden_fixture.h"

#include "sample_workspaces.h"

#include "base/codec.h"
#include "base/record.h"
#include "workspace/files.h"
#include "workspace/merge.h"
#include "workspace/workspace_private.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct fixture {
    struct golden golden;
    struct ramet_workspaces *set;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    golden_unpack(&f->golden, "v2-workspaces");
    *state = f;
    return 0;
}

static int try_open(struct fixture *f)
{
    int r = golden_open(&f->golden);
    return r < 0 ? r : ramet_workspaces_open(f->golden.catalog, &f->set, &err);
}

static void open_all(struct fixture *f) { check_ok(try_open(f)); }

static void close_all(struct fixture *f)
{
    ramet_workspaces_close(f->set);
    f->set = NULL;
    golden_close(&f->golden);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    close_all(f);
    golden_remove(&f->golden);
    free(f);
    return 0;
}

static void expect_content(struct fixture *f)
{
    struct sample_lines found;
    sample_workspaces_describe(f->set, &found);
    golden_expect(&f->golden, &found, false);
}

/* --- it opens and works --- */

static void they_hold_what_they_did(void **state)
{
    struct fixture *f = *state;
    struct ramet_gc_result gc;
    open_all(f);
    expect_content(f);
    golden_expect_clean(&f->golden);
    check_ok(ramet_catalog_gc(f->golden.catalog, &gc, &err));
    expect_content(f);
    close_all(f); /* all of it is in the store now */
    open_all(f);
    expect_content(f);
    golden_expect_clean(&f->golden);
}

static struct ramet_workspace *find(struct fixture *f, const char *name)
{
    struct ramet_workspace *ws;
    check_ok(ramet_workspace_find(f->set, name, &ws, &err));
    return ws;
}

/* The tree of `late` is as before, with a file more. */
static void work_goes_on(void **state)
{
    struct fixture *f = *state;
    struct ramet_wmerge_result result;
    struct ramet_workspace *fork;
    struct ramet_wstat stat;
    uint64_t where;
    size_t got;
    char buf[16];
    open_all(f);
    struct ramet_workspace *late = find(f, "late");
    check_ok(ramet_workspace_fork(late, "new", &fork, &err));
    check_ok(ramet_wfile_make(fork, RAMET_WORKSPACE_ROOT, "new-file", S_IFREG | 0600, 0, 0, (struct ramet_wowner){0},
                              &stat, &err));
    check_ok(ramet_wfile_write(fork, stat.ino, 0, "new", 3, false, false, &where, &err));
    check_ok(ramet_workspace_merge(late, fork, NULL, &result, &err));
    assert_true(result.applied);
    ramet_wmerge_result_free(&result);
    check_ok(ramet_workspace_remove(fork, &err));
    ramet_workspace_unref(fork);
    check_ok(ramet_wfile_lookup(late, RAMET_WORKSPACE_ROOT, "new-file", &stat, &err));
    ramet_workspace_unref(late);
    close_all(f);
    open_all(f);
    late = find(f, "late");
    check_ok(ramet_wfile_read(late, stat.ino, 0, buf, sizeof buf, &got, &err));
    assert_int_equal(got, 3);
    check_ok(ramet_wfile_unlink(late, RAMET_WORKSPACE_ROOT, "new-file", NULL, &err));
    ramet_workspace_unref(late);
    golden_expect_clean(&f->golden);
}

static void the_index_can_be_rebuilt(void **state)
{
    struct fixture *f = *state;
    struct ramet_rebuild_result result;
    check_ok(ramet_store_rebuild(f->golden.dir, &result, &err));
    assert_int_equal(result.damaged_bytes, 0);
    open_all(f);
    expect_content(f);
    golden_expect_clean(&f->golden);
}

/* --- what it is made of --- */

enum { kinds = RAMET_WITEM_BEGIN + 1, types = RAMET_WTYPE_MERGED + 1 };

/* How many there are of each kind of item and of each type of record. */
struct inventory {
    unsigned items[kinds], puts[types], deletes[types], stored[types], staged_pages;
    unsigned heads, states, levels;
};

/* The only journal that has records; returns its descriptor. */
static int open_journal(struct fixture *f, uint8_t **ret, size_t *ret_size)
{
    char dir[128];
    int found = -1;
    snprintf(dir, sizeof dir, "%s/workspaces", f->golden.dir);
    DIR *stream = opendir(dir);
    assert_non_null(stream);
    for (struct dirent *entry; (entry = readdir(stream));) {
        struct stat st;
        if (!strstr(entry->d_name, ".journal"))
            continue;
        assert_int_equal(found, -1);
        found = openat(dirfd(stream), entry->d_name, O_RDWR | O_CLOEXEC);
        assert_int_equal(fstat(found, &st), 0);
        *ret_size = (size_t)st.st_size;
        *ret = malloc(*ret_size);
        assert_int_equal(pread(found, *ret, *ret_size, 0), *ret_size);
    }
    closedir(stream);
    assert_int_not_equal(found, -1);
    return found;
}

static void count_op(struct inventory *has, struct ramet_reader *reader, bool put)
{
    const uint8_t *sizes = ramet_reader_bytes(reader, put ? 4 : 2);
    assert_non_null(sizes);
    size_t key_size = ramet_get_le16(sizes), size = put ? ramet_get_le16(sizes + 2) : 0;
    const uint8_t *key = ramet_reader_bytes(reader, key_size), *value = ramet_reader_bytes(reader, size);
    assert_true(key && value && key_size >= 9 && key[8] < types);
    (put ? has->puts : has->deletes)[key[8]]++;
    for (size_t i = 0; key[8] == RAMET_WTYPE_BLOCKS && i + 8 <= size; i += 8)
        has->staged_pages += (ramet_get_le64(value + i) & RAMET_WREF_STAGED) != 0;
}

static void skip_item(struct ramet_reader *reader, uint8_t kind)
{
    uint32_t size = kind == RAMET_WITEM_BEGIN ? 4 : 8;
    if (kind == RAMET_WITEM_HEAD) {
        ramet_reader_bytes(reader, 16);
        size = ramet_reader_u32(reader);
    }
    ramet_reader_bytes(reader, size);
}

static void count_items(struct inventory *has, const uint8_t *items, size_t size)
{
    struct ramet_reader reader = {.data = items, .size = size};
    while (reader.at < reader.size && !reader.failed) {
        uint8_t kind = ramet_reader_u8(&reader);
        assert_true(kind < kinds);
        has->items[kind]++;
        if (kind == RAMET_WITEM_PUT || kind == RAMET_WITEM_DELETE)
            count_op(has, &reader, kind == RAMET_WITEM_PUT);
        else
            skip_item(&reader, kind);
    }
    assert_false(reader.failed);
}

static int count_stored(void *ctx, const struct ramet_wkey *key, const struct ramet_wvalue *value,
                        struct ramet_error *e)
{
    struct inventory *has = ctx;
    (void)value, (void)e;
    has->stored[key->type]++;
    return 0;
}

/* What is there without the journal. */
static void count_trees(struct fixture *f, struct inventory *has)
{
    const struct ramet_wkey first = {0};
    has->heads = (unsigned)f->set->head_count;
    has->states = (unsigned)f->set->state_count;
    for (size_t i = 0; i < f->set->head_count + f->set->state_count; i++) {
        struct ramet_workspace *head =
            i < f->set->head_count ? f->set->heads[i] : f->set->states[i - f->set->head_count];
        check_ok(ramet_wtree_walk(&head->tree, &first, count_stored, has, &err));
        struct ramet_wnode *node = atomic_load(&head->tree.root);
        has->levels = node && node->level > has->levels ? node->level : has->levels;
    }
}

static void there_is_one_of_everything(void **state)
{
    struct fixture *f = *state;
    struct inventory has = {0};
    uint8_t *journal;
    size_t size, whole;
    uint64_t sequence, durable;
    int fd = open_journal(f, &journal, &size);
    for (size_t at = 0; (whole = ramet_wjrecord_check(journal + at, size - at, &sequence, &durable)); at += whole)
        count_items(&has, journal + at + RAMET_WJOURNAL_HEADER, whole - RAMET_WJOURNAL_HEADER);
    free(journal);
    assert_int_equal(ftruncate(fd, 0), 0);
    close(fd);
    open_all(f);
    count_trees(f, &has);
    for (int kind = RAMET_WITEM_TREE; kind < kinds; kind++)
        if (has.items[kind] == 0)
            fail_msg("the journal has no item of kind %d", kind);
    for (int type = RAMET_WTYPE_INODE; type < types; type++) {
        bool lasts = type != RAMET_WTYPE_ORPHAN; /* that one is of the journal alone */
        if (has.puts[type] == 0 || (lasts && has.stored[type] == 0))
            fail_msg("type %d: %u in the journal, %u stored", type, has.puts[type], has.stored[type]);
    }
    assert_true(has.deletes[RAMET_WTYPE_ENTRY] && has.deletes[RAMET_WTYPE_XATTR] && has.deletes[RAMET_WTYPE_NAME]);
    assert_true(has.staged_pages > 0 && has.heads > 3 && has.states > 2 && has.levels > 0);
}

/* --- versions to come --- */

static void records_to_come_are_refused(void **state)
{
    struct fixture *f = *state;
    char key[32];
    golden_patch_family(&f->golden, RAMET_KV_WORKSPACES, golden_raise_version, key);
    assert_int_equal(try_open(f), -RAMET_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "workspace"));
    golden_close(&f->golden);
    golden_patch_family(&f->golden, RAMET_KV_WORKSPACES, golden_raise_flag, key);
    assert_int_equal(try_open(f), -RAMET_UNSUPPORTED);
}

/* An item that nobody knows, in a record that is whole: nothing is guessed, nothing is cut. */
static void an_item_to_come_is_refused(void **state)
{
    struct fixture *f = *state;
    uint8_t *journal;
    size_t size;
    uint64_t sequence, durable;
    int fd = open_journal(f, &journal, &size);
    size_t first = ramet_wjrecord_check(journal, size, &sequence, &durable);
    uint8_t *second = journal + first;
    size_t whole = ramet_wjrecord_check(second, size - first, &sequence, &durable);
    assert_true(whole > RAMET_WJOURNAL_HEADER);
    second[RAMET_WJOURNAL_HEADER] = golden_future;
    ramet_put_le64(second + 24,
                   ramet_checksum(second, 24, second + RAMET_WJOURNAL_HEADER, whole - RAMET_WJOURNAL_HEADER));
    assert_int_equal(pwrite(fd, second, whole, (off_t)first), whole);
    assert_int_equal(try_open(f), -RAMET_CORRUPT);
    assert_non_null(strstr(err.msg, "unknown kind"));
    assert_non_null(strstr(err.msg, ".journal"));
    assert_int_equal(pread(fd, journal, size, 0), size);
    close(fd);
    free(journal);
}

#define case_of(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        case_of(there_is_one_of_everything), case_of(they_hold_what_they_did),     case_of(work_goes_on),
        case_of(the_index_can_be_rebuilt),   case_of(records_to_come_are_refused), case_of(an_item_to_come_is_refused),
    };
    return cmocka_run_group_tests_name("golden_workspaces", tests, NULL, NULL);
}
