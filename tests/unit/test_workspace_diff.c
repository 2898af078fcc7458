/* SPDX-License-Identifier: Apache-2.0 */
/* Differences of texts and of workspaces, and the patches they print, which git and patch must take. */
#include "workspace_fixture.h"

#include "base/codec.h"
#include "workspace/diff.h"
#include "workspace/lines.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct ramet_wstat out;

/* --- lines --- */

/* A text of up to `most` lines of few different contents. */
static char *random_text(size_t most, unsigned kinds)
{
    size_t lines = test_below(most + 1);
    char *text = malloc(lines * 12 + 1), *at = text;
    for (size_t i = 0; i < lines; i++)
        at += sprintf(at, "line %u\n", (unsigned)test_below(kinds));
    if (lines > 0 && test_below(4) == 0)
        *--at = '\0'; /* no newline at the end */
    *at = '\0';
    return text;
}

static char *edited_text(const char *text, unsigned edits)
{
    char *copy = malloc(strlen(text) + edits * 40u + 1), *to = copy;
    for (const char *at = text; *at;) {
        const char *end = strchr(at, '\n');
        size_t size = end ? (size_t)(end - at) + 1 : strlen(at);
        unsigned what = edits > 0 && test_below(8) == 0 ? 1 + (unsigned)test_below(3) : 0;
        if (what)
            edits--;
        if (what == 1 || what == 2)
            to += sprintf(to, "new %u\n", (unsigned)test_below(1000));
        if (what == 0 || what == 1) {
            memcpy(to, at, size);
            to += size;
        }
        at += size;
    }
    *to = '\0';
    return copy;
}

static void apply_hunks(const struct ramet_lines *a, const struct ramet_lines *b, const struct ramet_hunks *hunks,
                        struct ramet_buf *result)
{
    size_t at = 0;
    for (size_t i = 0; i < hunks->count; i++) {
        const struct ramet_hunk *hunk = &hunks->items[i];
        assert_true(hunk->a >= at && hunk->a + hunk->a_count <= a->count && hunk->b + hunk->b_count <= b->count);
        for (; at < hunk->a; at++)
            ramet_buf_put(result, a->items[at].text, a->items[at].size);
        at += hunk->a_count;
        for (size_t k = 0; k < hunk->b_count; k++)
            ramet_buf_put(result, b->items[hunk->b + k].text, b->items[hunk->b + k].size);
    }
    for (; at < a->count; at++)
        ramet_buf_put(result, a->items[at].text, a->items[at].size);
}

/* Applying what the difference says to the first text gives the second; shortest, by the table of all prefixes. */
static size_t longest_common(const struct ramet_lines *a, const struct ramet_lines *b)
{
    size_t width = b->count + 1, *table = calloc((a->count + 1) * width, sizeof *table);
    for (size_t i = a->count; i-- > 0;)
        for (size_t k = b->count; k-- > 0;) {
            size_t down = table[(i + 1) * width + k], right = table[i * width + k + 1];
            table[i * width + k] = ramet_line_equal(&a->items[i], &b->items[k]) ? table[(i + 1) * width + k + 1] + 1
                                   : down > right                               ? down
                                                                                : right;
        }
    size_t longest = table[0];
    free(table);
    return longest;
}

static void differences_apply(void **state)
{
    (void)state;
    for (int round = 0; round < 3000; round++) {
        char *x = random_text(round % 50 ? 20 : 3000, 1 + (unsigned)test_below(20));
        char *y = test_below(2) ? random_text(20, 6) : edited_text(x, 1 + (unsigned)test_below(10));
        struct ramet_lines a, b;
        struct ramet_hunks hunks;
        struct ramet_buf result = {0};
        size_t kept = 0;
        check_ok(ramet_lines_split(x, strlen(x), &a, &err));
        check_ok(ramet_lines_split(y, strlen(y), &b, &err));
        check_ok(ramet_lines_diff(&a, &b, &hunks, &err));
        apply_hunks(&a, &b, &hunks, &result);
        assert_int_equal(result.size, strlen(y));
        if (result.size > 0)
            assert_memory_equal(result.data, y, result.size);
        kept = a.count;
        for (size_t i = 0; i < hunks.count; i++)
            kept -= hunks.items[i].a_count;
        if (a.count <= 20)
            assert_int_equal(kept, longest_common(&a, &b));
        ramet_buf_free(&result);
        ramet_lines_free(&a);
        ramet_lines_free(&b);
        free(hunks.items);
        free(x);
        free(y);
    }
}

static void expect_merge(const char *base, const char *ours, const char *theirs, const char *expected)
{
    struct ramet_lines a, b, c;
    struct ramet_buf merged = {0};
    bool clean;
    check_ok(ramet_lines_split(base, strlen(base), &a, &err));
    check_ok(ramet_lines_split(ours, strlen(ours), &b, &err));
    check_ok(ramet_lines_split(theirs, strlen(theirs), &c, &err));
    check_ok(ramet_lines_merge(&a, &b, &c, &merged, &clean, &err));
    assert_int_equal(clean, expected != NULL);
    if (expected) {
        assert_int_equal(merged.size, strlen(expected));
        assert_memory_equal(merged.data ? (char *)merged.data : "", expected, merged.size);
    }
    ramet_buf_free(&merged);
    ramet_lines_free(&a);
    ramet_lines_free(&b);
    ramet_lines_free(&c);
}

static void lines_merge(void **state)
{
    (void)state;
    expect_merge("a\nb\nc\nd\ne\n", "A\nb\nc\nd\ne\n", "a\nb\nc\nd\nE\n", "A\nb\nc\nd\nE\n");
    expect_merge("a\nb\nc\n", "a\nx\nb\nc\n", "a\nb\n", "a\nx\nb\n");
    expect_merge("a\nb\nc\n", "a\nB\nc\n", "a\nB\nc\n", "a\nB\nc\n");
    expect_merge("a\nb\nc\n", "a\nB\nc\n", "a\nX\nc\n", NULL);
    expect_merge("a\nb\nc\n", "a\nB\nc\n", "a\nb\nX\n", NULL); /* side by side */
    expect_merge("a\n", "a\nb\n", "a\nc\n", NULL);
    expect_merge("", "a\n", "", "a\n");
    expect_merge("a\nb", "a\nb", "x\na\nb", "x\na\nb");
    expect_merge("a\nb\nc\n", "", "a\nb\nc\n", "");
    expect_merge("a\nb\nc\n", "", "a\nb\nC\n", NULL);
}

/* --- workspaces --- */

static void expect_diff(struct ramet_workspace *a, struct ramet_workspace *b, const char *expected)
{
    struct ramet_wdiff *diff;
    char text[4096] = "", words[128];
    size_t used = 0;
    check_ok(ramet_wdiff_make(a, b, &diff, &err));
    for (size_t i = 0; i < diff->count; i++) {
        ramet_wdiff_words(diff->items[i].what, words, sizeof words);
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%s%s: %s\n",
                                 diff->items[i].old_path ? diff->items[i].old_path : "",
                                 diff->items[i].old_path ? " > " : "", diff->items[i].path, words);
    }
    ramet_wdiff_free(diff);
    if (strcmp(text, expected) != 0)
        fail_msg("differences are\n%snot\n%s", text, expected);
}

static struct ramet_workspace *fork_of(struct ramet_workspace *ws)
{
    struct ramet_workspace *fork;
    check_ok(ramet_workspace_fork(ws, "fork", &fork, &err));
    return fork;
}

static uint64_t put_text(struct ramet_workspace *ws, uint64_t dir, const char *name, const char *text)
{
    uint64_t ino = make_file(ws, dir, name);
    put_bytes(ws, ino, 0, text, strlen(text));
    return ino;
}

static void set_mode(struct ramet_workspace *ws, uint64_t ino, uint32_t mode)
{
    struct ramet_wstat attr = {.mode = mode};
    check_ok(ramet_wfile_set(ws, ino, &attr, RAMET_WSET_MODE, &out, &err));
}

static void each_kind_of_difference(void **state)
{
    struct world *world = *state;
    struct ramet_workspace *a = world->ws;
    uint64_t d = make_dir(a, RAMET_ROOT, "d"), e = make_dir(a, d, "e"), ino;
    char page[20000] = "x";
    put_text(a, d, "same", "same");
    uint64_t content = put_text(a, d, "content", "one"), mode = put_text(a, e, "mode", "m");
    uint64_t big = make_file(a, e, "big"), xattr = put_text(a, e, "xattr", "x"), hard = put_text(a, e, "hard", "h");
    put_bytes(a, big, 0, page, sizeof page);
    check_ok(ramet_wfile_link(a, hard, d, "hard2", &out, &err));
    put_text(a, e, "gone", "g");
    put_text(a, e, "old", "o");
    put_text(a, d, "saved", "before");
    put_text(a, d, "rewritten", "the same again");
    put_text(a, d, "over", "target");
    put_text(a, d, "mover", "source");
    put_text(a, RAMET_ROOT, "type", "t");
    put_text(a, make_dir(a, RAMET_ROOT, "removed"), "inner", "i");
    struct ramet_workspace *b = fork_of(a);
    expect_diff(a, b, "");
    put_bytes(b, content, 0, "two", 3);
    set_mode(b, mode, 0600);
    page[5000] = 'y';
    put_bytes(b, big, 0, page, sizeof page);
    check_ok(ramet_wfile_set_xattr(b, xattr, "user.a", "b", 1, 0, &err));
    put_bytes(b, hard, 0, "H", 1);
    check_ok(ramet_wfile_unlink(b, e, "gone", NULL, &err));
    check_ok(ramet_wfile_rename(b, e, "old", d, "new", 0, &err));
    put_text(b, d, "tmp", "after!");
    check_ok(ramet_wfile_rename(b, d, "tmp", d, "saved", 0, &err));
    check_ok(ramet_wfile_unlink(b, d, "rewritten", NULL, &err));
    put_text(b, d, "rewritten", "the same again");
    check_ok(ramet_wfile_rename(b, d, "mover", d, "over", 0, &err));
    check_ok(ramet_wfile_unlink(b, RAMET_ROOT, "type", NULL, &err));
    make_dir(b, RAMET_ROOT, "type");
    uint64_t removed = find(b, RAMET_ROOT, "removed");
    check_ok(ramet_wfile_unlink(b, removed, "inner", NULL, &err));
    check_ok(ramet_wfile_rmdir(b, RAMET_ROOT, "removed", &ino, &err));
    put_text(b, make_dir(b, RAMET_ROOT, "added"), "inner", "i");
    expect_diff(a, b,
                "added: added\n"
                "added/inner: added\n"
                "d/content: content\n"
                "d/e/big: content\n"
                "d/e/gone: removed\n"
                "d/e/hard: content\n"
                "d/e/mode: mode\n"
                "d/e/xattr: xattr\n"
                "d/hard2: content\n"
                "d/mover: removed\n"
                "d/e/old > d/new: renamed\n"
                "d/over: content\n"
                "d/saved: content\n"
                "removed: removed\n"
                "removed/inner: removed\n"
                "type: type\n");
    /* There and back again. */
    put_bytes(b, content, 0, "one", 3);
    page[5000] = 0;
    put_bytes(b, big, 0, page, sizeof page);
    check_ok(ramet_wfile_remove_xattr(b, xattr, "user.a", &err));
    set_mode(b, mode, 0644);
    check_ok(ramet_wfile_rename(b, RAMET_ROOT, "d", RAMET_ROOT, "moved", 0, &err));
    set_mode(b, RAMET_ROOT, 0700);
    expect_diff(a, b,
                ": mode\n"
                "added: added\n"
                "added/inner: added\n"
                "d/e/gone: removed\n"
                "d/mover: removed\n"
                "d > moved: renamed\n"
                "d/e/hard > moved/e/hard: content\n"
                "d/hard2 > moved/hard2: content\n"
                "d/e/old > moved/new: renamed\n"
                "d/over > moved/over: content\n"
                "d/saved > moved/saved: content\n"
                "removed: removed\n"
                "removed/inner: removed\n"
                "type: type\n");
    ramet_workspace_unref(b);
}

/* What the patch says, patch(1) makes of the first tree the second. */
static void patches_apply(void **state)
{
    struct world *world = *state;
    struct ramet_workspace *a = world->ws;
    struct ramet_wdiff_stat stat;
    struct ramet_wdiff *diff;
    char dir[64], command[512], path[128], text[2000] = "", *patch = NULL;
    size_t size = 0, used = 0;
    for (int i = 0; i < 60; i++)
        used += (size_t)sprintf(text + used, "line %d\n", i);
    uint64_t f = put_text(a, RAMET_ROOT, "f", text), g = put_text(a, RAMET_ROOT, "g", "no newline");
    put_text(a, RAMET_ROOT, "gone", "gone\n");
    struct ramet_workspace *b = fork_of(a);
    put_bytes(b, f, 0, "LINE", 4);
    put_bytes(b, f, used - 8, "LINE", 4);
    put_bytes(b, f, used, "more\n", 5);
    put_bytes(b, g, 3, "N", 1);
    check_ok(ramet_wfile_unlink(b, RAMET_ROOT, "gone", NULL, &err));
    put_text(b, make_dir(b, RAMET_ROOT, "dir"), "added", "one\ntwo");
    test_dir_make(dir);
    check_ok(ramet_wdiff_make(a, b, &diff, &err));
    FILE *stream = open_memstream(&patch, &size);
    check_ok(ramet_wdiff_print_patch(diff, stream, &err));
    fclose(stream);
    check_ok(ramet_wdiff_print_stat(diff, NULL, &stat, &err));
    assert_int_equal(stat.added, 2);
    assert_int_equal(stat.removed, 1);
    assert_int_equal(stat.changed, 2);
    assert_int_equal(stat.lines_added, 3 + 1 + 2);
    assert_int_equal(stat.lines_removed, 2 + 1 + 1);
    ramet_wdiff_free(diff);
    const struct {
        const char *name, *text;
    } files[] = {{"f", text}, {"g", "no newline"}, {"gone", "gone\n"}, {"patch", patch}};
    for (size_t i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, files[i].name);
        FILE *file = fopen(path, "w");
        fputs(files[i].text, file);
        fclose(file);
    }
    snprintf(command, sizeof command, "cd %s && git apply --unsafe-paths patch && ! test -e gone", dir);
    assert_int_equal(system(command), 0);
    static const char *const names[] = {"f", "g", "dir/added"};
    for (size_t i = 0; i < 3; i++) {
        char got[4096];
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        FILE *file = fopen(path, "r");
        assert_non_null(file);
        size_t got_size = fread(got, 1, sizeof got, file);
        fclose(file);
        uint64_t ino = i == 2 ? find(b, find(b, RAMET_ROOT, "dir"), "added") : find(b, RAMET_ROOT, names[i]);
        expect_bytes(b, ino, got, got_size);
    }
    free(patch);
    test_dir_remove(dir);
    ramet_workspace_unref(b);
}

#define case_of(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(differences_apply),
        cmocka_unit_test(lines_merge),
        case_of(each_kind_of_difference),
        case_of(patches_apply),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
