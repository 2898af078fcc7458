/* SPDX-License-Identifier: Apache-2.0 */
/* Merges: each kind of change taken over, each kind of conflict found and resolved, and nothing done when it is not. */
#include "workspace_fixture.h"

#include "workspace/diff.h"
#include "workspace/merge.h"
#include "workspace/view.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct ramet_wstat out;

/* Two sides: "main", and a fork of it. */
struct sides {
    struct ramet_workspace *ours, *theirs;
    uint64_t d; /* a directory in both, with "f" in it */
    uint64_t f;
    bool orphans; /* ours has an open file without a name, which counts are of too */
    bool finds;   /* merges find their base; else it is what theirs was forked with, each time */
};

static uint64_t put_text(struct ramet_workspace *ws, uint64_t dir, const char *name, const char *text)
{
    uint64_t ino = make_file(ws, dir, name);
    put_bytes(ws, ino, 0, text, strlen(text));
    return ino;
}

static void set_text(struct ramet_workspace *ws, uint64_t ino, const char *text)
{
    struct ramet_wstat attr = {.size = strlen(text)};
    check_ok(ramet_wfile_set(ws, ino, &attr, RAMET_WSET_SIZE, &out, &err));
    put_bytes(ws, ino, 0, text, strlen(text));
}

static void expect_text(struct ramet_workspace *ws, uint64_t dir, const char *name, const char *text)
{
    expect_bytes(ws, find(ws, dir, name), text, strlen(text));
}

static void expect_none(struct ramet_workspace *ws, uint64_t dir, const char *name)
{
    check_errno(ramet_wfile_lookup(ws, dir, name, &out, &err), ENOENT);
}

static struct sides split(void **state)
{
    struct world *world = *state;
    struct sides sides = {.ours = world->ws};
    sides.d = make_dir(world->ws, RAMET_ROOT, "d");
    sides.f = put_text(world->ws, sides.d, "f", "1\n2\n3\n4\n5\n");
    check_ok(ramet_workspace_fork(world->ws, "theirs", &sides.theirs, &err));
    return sides;
}

static void end(struct sides *sides)
{
    expect_sound(sides->ours);
    expect_sound(sides->theirs);
    ramet_workspace_unref(sides->theirs);
}

static void expect_same(struct ramet_workspace *a, struct ramet_workspace *b)
{
    struct ramet_wdiff *diff;
    check_ok(ramet_wdiff_make(a, b, &diff, &err));
    if (diff->count > 0)
        fail_msg("\"%s\" differs", diff->items[0].path);
    ramet_wdiff_free(diff);
}

/* Merges; expects these conflicts, as "kind path\n" each. */
static void merge(struct sides *sides, enum ramet_wtake strategy, const char *expected)
{
    struct ramet_wmerge_options options = {.strategy = strategy};
    struct ramet_wmerge_result result;
    struct ramet_workspace *before = NULL, *base = NULL;
    char text[2048] = "";
    size_t used = 0;
    if (strategy == RAMET_WTAKE_NONE && expected[0])
        check_ok(ramet_workspace_fork(sides->ours, "before", &before, &err));
    if (!sides->finds)
        check_ok(ramet_workspace_base_open(sides->theirs, &base, &err));
    options.base = base;
    check_ok(ramet_workspace_merge(sides->ours, sides->theirs, &options, &result, &err));
    ramet_wview_close(base);
    for (size_t i = 0; i < result.conflict_count; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s %s\n",
                                 ramet_wconflict_name(result.conflicts[i].kind), result.conflicts[i].path);
    if (strcmp(text, expected) != 0)
        fail_msg("conflicts are\n%snot\n%s", text, expected);
    assert_int_equal(result.applied, strategy != RAMET_WTAKE_NONE || expected[0] == '\0');
    assert_int_equal(result.unresolved, result.applied ? 0 : result.conflict_count);
    ramet_wmerge_result_free(&result);
    if (before) { /* nothing was done */
        expect_same(before, sides->ours);
        check_ok(ramet_workspace_remove(before, &err));
        ramet_workspace_unref(before);
    }
    if (!sides->orphans)
        expect_sound(sides->ours);
}

/* All that theirs did comes over when ours did nothing. */
static void everything_comes_over(void **state)
{
    struct sides s = split(state);
    struct ramet_workspace *t = s.theirs;
    struct ramet_wstat attr = {.mode = 0700, .uid = 7};
    char page[20000] = "big";
    uint64_t e = make_dir(t, s.d, "e"), big = make_file(t, e, "big");
    put_bytes(t, big, 0, page, sizeof page);
    check_ok(ramet_wfile_set_xattr(t, big, "user.a", page, 3000, 0, &err));
    check_ok(ramet_wfile_link(t, big, RAMET_ROOT, "hard", &out, &err));
    check_ok(ramet_wfile_symlink(t, e, "link", "../f", OWNER, &out, &err));
    check_ok(ramet_wfile_make(t, e, "fifo", S_IFIFO | 0600, 0, 0, OWNER, &out, &err));
    check_ok(ramet_wfile_rename(t, s.d, "f", e, "moved", 0, &err));
    set_text(t, s.f, "changed");
    check_ok(ramet_wfile_set(t, s.f, &attr, RAMET_WSET_MODE | RAMET_WSET_UID, &out, &err));
    check_ok(ramet_wfile_set(t, RAMET_ROOT, &attr, RAMET_WSET_MODE, &out, &err));
    merge(&s, RAMET_WTAKE_NONE, "");
    expect_same(s.ours, s.theirs);
    /* Again: nothing is left to do. */
    merge(&s, RAMET_WTAKE_NONE, "");
    /* The pages are shared; the files are not. */
    put_bytes(s.ours, big, 4096, "ours", 4);
    expect_bytes(t, big, page, sizeof page);
    check_ok(ramet_wfile_unlink(t, e, "big", NULL, &err));
    check_ok(ramet_wfile_unlink(t, RAMET_ROOT, "hard", NULL, &err));
    memcpy(page + 4096, "ours", 4);
    expect_bytes(s.ours, big, page, sizeof page);
    end(&s);
}

static void both_sides_are_kept(void **state)
{
    struct sides s = split(state);
    struct ramet_wstat attr = {.mode = 0600};
    /* One edits and the other one renames; both add to a directory; both remove. */
    set_text(s.ours, s.f, "edited");
    check_ok(ramet_wfile_rename(s.theirs, s.d, "f", RAMET_ROOT, "g", 0, &err));
    check_ok(ramet_wfile_set(s.theirs, s.f, &attr, RAMET_WSET_MODE, &out, &err));
    put_text(s.ours, s.d, "a", "ours");
    put_text(s.theirs, s.d, "b", "theirs");
    merge(&s, RAMET_WTAKE_NONE, "");
    expect_text(s.ours, RAMET_ROOT, "g", "edited");
    assert_int_equal(stat_of(s.ours, s.f).mode, S_IFREG | 0600);
    expect_none(s.ours, s.d, "f");
    expect_text(s.ours, s.d, "a", "ours");
    expect_text(s.ours, s.d, "b", "theirs");
    end(&s);
}

static void texts_are_merged(void **state)
{
    struct sides s = split(state);
    struct ramet_wmerge_options options = {.whole_files = true};
    struct ramet_wmerge_result result;
    set_text(s.ours, s.f, "ours\n2\n3\n4\n5\n");
    /* As an editor saves: another file takes the name. */
    put_text(s.theirs, s.d, "tmp", "1\n2\n3\n4\ntheirs\n");
    check_ok(ramet_wfile_rename(s.theirs, s.d, "tmp", s.d, "f", 0, &err));
    check_ok(ramet_workspace_merge(s.ours, s.theirs, &options, &result, &err));
    assert_false(result.applied);
    assert_int_equal(result.conflict_count, 1);
    assert_string_equal(result.conflicts[0].path, "d/f");
    ramet_wmerge_result_free(&result);
    options = (struct ramet_wmerge_options){.dry_run = true};
    check_ok(ramet_workspace_merge(s.ours, s.theirs, &options, &result, &err));
    assert_false(result.applied);
    assert_int_equal(result.conflict_count, 0);
    ramet_wmerge_result_free(&result);
    expect_text(s.ours, s.d, "f", "ours\n2\n3\n4\n5\n");
    merge(&s, RAMET_WTAKE_NONE, "");
    expect_text(s.ours, s.d, "f", "ours\n2\n3\n4\ntheirs\n");
    end(&s);
}

static void edits_conflict(void **state)
{
    struct sides s = split(state);
    set_text(s.ours, s.f, "ours\n2\n3\n4\n5\n");
    set_text(s.theirs, s.f, "theirs\n2\n3\n4\n5\n");
    merge(&s, RAMET_WTAKE_NONE, "both-modified d/f\n");
    merge(&s, RAMET_WTAKE_OURS, "both-modified d/f\n");
    expect_text(s.ours, s.d, "f", "ours\n2\n3\n4\n5\n");
    merge(&s, RAMET_WTAKE_THEIRS, "both-modified d/f\n");
    expect_text(s.ours, s.d, "f", "theirs\n2\n3\n4\n5\n");
    merge(&s, RAMET_WTAKE_NONE, ""); /* equal now */
    end(&s);
}

static void attributes_conflict(void **state)
{
    struct sides s = split(state);
    struct ramet_wstat ours = {.mode = 0600, .uid = 1}, theirs = {.mode = 0640, .uid = 1};
    check_ok(ramet_wfile_set(s.ours, s.f, &ours, RAMET_WSET_MODE | RAMET_WSET_UID, &out, &err));
    check_ok(ramet_wfile_set(s.theirs, s.f, &theirs, RAMET_WSET_MODE | RAMET_WSET_UID, &out, &err));
    check_ok(ramet_wfile_set_xattr(s.theirs, s.f, "user.a", "b", 1, 0, &err));
    merge(&s, RAMET_WTAKE_NONE, "both-modified d/f\n");
    merge(&s, RAMET_WTAKE_OURS, "both-modified d/f\n");
    assert_int_equal(stat_of(s.ours, s.f).mode, S_IFREG | 0600);
    char *names;
    size_t size;
    check_ok(ramet_wfile_list_xattr(s.ours, s.f, &names, &size, &err));
    assert_int_equal(size, 7); /* what was no conflict came over */
    free(names);
    merge(&s, RAMET_WTAKE_THEIRS, "both-modified d/f\n");
    assert_int_equal(stat_of(s.ours, s.f).mode, S_IFREG | 0640);
    end(&s);
}

static void removals_conflict(void **state)
{
    struct sides s = split(state);
    set_text(s.ours, s.f, "ours");
    check_ok(ramet_wfile_unlink(s.theirs, s.d, "f", NULL, &err));
    merge(&s, RAMET_WTAKE_NONE, "delete-modify d/f\n");
    merge(&s, RAMET_WTAKE_OURS, "delete-modify d/f\n");
    expect_text(s.ours, s.d, "f", "ours");
    merge(&s, RAMET_WTAKE_THEIRS, "delete-modify d/f\n");
    expect_none(s.ours, s.d, "f");
    end(&s);
}

static void changes_of_the_removed_conflict(void **state)
{
    struct sides s = split(state);
    set_text(s.theirs, s.f, "theirs");
    check_ok(ramet_wfile_rename(s.theirs, s.d, "f", RAMET_ROOT, "g", 0, &err));
    s.orphans = true;
    ramet_wfile_use(s.ours, s.f); /* its number is still taken when it comes back */
    check_ok(ramet_wfile_unlink(s.ours, s.d, "f", NULL, &err));
    merge(&s, RAMET_WTAKE_NONE, "modify-delete g\n");
    merge(&s, RAMET_WTAKE_OURS, "modify-delete g\n");
    expect_none(s.ours, RAMET_ROOT, "g");
    struct ramet_wmerge_options options = {.strategy = RAMET_WTAKE_THEIRS};
    struct ramet_wmerge_result result;
    check_ok(ramet_workspace_merge(s.ours, s.theirs, &options, &result, &err));
    ramet_wmerge_result_free(&result);
    expect_text(s.ours, RAMET_ROOT, "g", "theirs");
    expect_none(s.ours, s.d, "f");
    ramet_wfile_unuse(s.ours, s.f, 1);
    end(&s);
}

static void additions_conflict(void **state)
{
    struct sides s = split(state);
    put_text(s.ours, s.d, "same", "same");
    put_text(s.theirs, s.d, "same", "same");
    put_text(s.ours, s.d, "new", "ours");
    put_text(s.theirs, s.d, "new", "theirs");
    put_text(s.ours, make_dir(s.ours, s.d, "x"), "inner", "ours");
    put_text(s.theirs, s.d, "x", "file");
    merge(&s, RAMET_WTAKE_NONE, "both-added d/new\ntype d/x\n");
    merge(&s, RAMET_WTAKE_OURS, "both-added d/new\ntype d/x\n");
    expect_text(s.ours, s.d, "new", "ours");
    merge(&s, RAMET_WTAKE_THEIRS, "both-added d/new\ntype d/x\n");
    expect_text(s.ours, s.d, "new", "theirs");
    expect_text(s.ours, s.d, "x", "file");
    end(&s);
}

static void each_conflict_its_own_way(void **state)
{
    struct sides s = split(state);
    static const struct ramet_wresolution resolutions[] = {{"d/f", RAMET_WTAKE_THEIRS}, {"d/new", RAMET_WTAKE_OURS}};
    struct ramet_wmerge_options options = {.resolutions = resolutions, .resolution_count = 1};
    struct ramet_wmerge_result result;
    put_text(s.ours, s.d, "new", "ours");
    put_text(s.theirs, s.d, "new", "theirs");
    set_text(s.ours, s.f, "ours");
    set_text(s.theirs, s.f, "theirs");
    put_text(s.theirs, s.d, "quiet", "q");
    check_ok(ramet_workspace_merge(s.ours, s.theirs, &options, &result, &err));
    assert_false(result.applied);
    assert_int_equal(result.unresolved, 1);
    ramet_wmerge_result_free(&result);
    expect_none(s.ours, s.d, "quiet");
    options.resolution_count = 2;
    check_ok(ramet_workspace_merge(s.ours, s.theirs, &options, &result, &err));
    assert_true(result.applied);
    ramet_wmerge_result_free(&result);
    expect_text(s.ours, s.d, "new", "ours");
    expect_text(s.ours, s.d, "f", "theirs");
    expect_text(s.ours, s.d, "quiet", "q");
    end(&s);
}

/* Directories of one name that both made become one, at every depth. */
static void directories_join(void **state)
{
    struct sides s = split(state);
    uint64_t a = make_dir(s.ours, RAMET_ROOT, "new"), b = make_dir(s.theirs, RAMET_ROOT, "new");
    uint64_t a2 = make_dir(s.ours, a, "sub"), b2 = make_dir(s.theirs, b, "sub");
    put_text(s.ours, a2, "ours", "o");
    put_text(s.theirs, b2, "theirs", "t");
    put_text(s.theirs, make_dir(s.theirs, b2, "only"), "x", "x");
    merge(&s, RAMET_WTAKE_NONE, "");
    expect_text(s.ours, a2, "ours", "o");
    expect_text(s.ours, a2, "theirs", "t");
    expect_text(s.ours, find(s.ours, a2, "only"), "x", "x");
    end(&s);
}

static void directories_conflict(void **state)
{
    struct sides s = split(state);
    check_ok(ramet_wfile_unlink(s.theirs, s.d, "f", NULL, &err));
    check_ok(ramet_wfile_rmdir(s.theirs, RAMET_ROOT, "d", NULL, &err));
    put_text(s.ours, make_dir(s.ours, s.d, "sub"), "new", "n");
    merge(&s, RAMET_WTAKE_NONE, "directory d\n");
    merge(&s, RAMET_WTAKE_OURS, "directory d\n");
    expect_none(s.ours, s.d, "f");
    expect_text(s.ours, find(s.ours, s.d, "sub"), "new", "n");
    merge(&s, RAMET_WTAKE_THEIRS, "directory d\n");
    expect_none(s.ours, RAMET_ROOT, "d");
    end(&s);
}

static void removed_directories_come_back(void **state)
{
    struct sides s = split(state);
    put_text(s.theirs, make_dir(s.theirs, s.d, "sub"), "new", "n");
    check_ok(ramet_wfile_unlink(s.ours, s.d, "f", NULL, &err));
    check_ok(ramet_wfile_rmdir(s.ours, RAMET_ROOT, "d", NULL, &err));
    merge(&s, RAMET_WTAKE_NONE, "directory d\n");
    merge(&s, RAMET_WTAKE_OURS, "directory d\n");
    expect_none(s.ours, RAMET_ROOT, "d");
    merge(&s, RAMET_WTAKE_THEIRS, "directory d\n");
    uint64_t d = find(s.ours, RAMET_ROOT, "d");
    expect_text(s.ours, find(s.ours, d, "sub"), "new", "n");
    expect_none(s.ours, d, "f");
    end(&s);
}

static void renames_conflict(void **state)
{
    struct sides s = split(state);
    check_ok(ramet_wfile_rename(s.ours, s.d, "f", s.d, "ours", 0, &err));
    check_ok(ramet_wfile_rename(s.theirs, s.d, "f", s.d, "theirs", 0, &err));
    merge(&s, RAMET_WTAKE_NONE, "rename d/ours\n");
    merge(&s, RAMET_WTAKE_OURS, "rename d/ours\n");
    assert_int_equal(find(s.ours, s.d, "ours"), s.f);
    expect_none(s.ours, s.d, "theirs");
    merge(&s, RAMET_WTAKE_THEIRS, "rename d/ours\n");
    assert_int_equal(find(s.ours, s.d, "theirs"), s.f);
    expect_none(s.ours, s.d, "ours");
    end(&s);
}

static void directories_into_one_another(void **state)
{
    struct world *world = *state;
    struct sides s = {.ours = world->ws};
    uint64_t a = make_dir(s.ours, RAMET_ROOT, "a"), b = make_dir(s.ours, RAMET_ROOT, "b"), parent;
    put_text(s.ours, a, "fa", "a");
    put_text(s.ours, b, "fb", "b");
    check_ok(ramet_workspace_fork(world->ws, "theirs", &s.theirs, &err));
    check_ok(ramet_wfile_rename(s.ours, RAMET_ROOT, "a", b, "a", 0, &err));
    check_ok(ramet_wfile_rename(s.theirs, RAMET_ROOT, "b", a, "b", 0, &err));
    struct ramet_wmerge_options options = {0};
    struct ramet_wmerge_result result;
    check_ok(ramet_workspace_merge(s.ours, s.theirs, &options, &result, &err));
    assert_false(result.applied);
    assert_int_equal(result.conflicts[0].kind, RAMET_WCONFLICT_RENAME);
    ramet_wmerge_result_free(&result);
    check_ok(ramet_workspace_base_open(s.theirs, &options.base, &err));
    for (int by = 0; by < 2; by++) {
        options.strategy = by == 0 ? RAMET_WTAKE_OURS : RAMET_WTAKE_THEIRS;
        check_ok(ramet_workspace_merge(s.ours, s.theirs, &options, &result, &err));
        assert_true(result.applied);
        ramet_wmerge_result_free(&result);
        expect_sound(s.ours);
        check_ok(ramet_wfile_parent(s.ours, by == 0 ? a : b, &parent, &err));
        assert_int_equal(parent, by == 0 ? b : a);
    }
    ramet_wview_close(options.base);
    end(&s);
}

/* A change of a directory's place and one inside it: both. */
static void moved_directories_take_changes(void **state)
{
    struct sides s = split(state);
    check_ok(ramet_wfile_rename(s.theirs, RAMET_ROOT, "d", RAMET_ROOT, "moved", 0, &err));
    set_text(s.ours, s.f, "ours");
    put_text(s.ours, s.d, "added", "a");
    merge(&s, RAMET_WTAKE_NONE, "");
    expect_none(s.ours, RAMET_ROOT, "d");
    uint64_t d = find(s.ours, RAMET_ROOT, "moved");
    expect_text(s.ours, d, "f", "ours");
    expect_text(s.ours, d, "added", "a");
    end(&s);
}

static void ancestors_are_found(void **state)
{
    struct world *world = *state;
    struct ramet_workspace *a, *b, *a2, *other, *base;
    struct ramet_wmerge_result result;
    uint64_t d = make_dir(world->ws, RAMET_ROOT, "d");
    check_ok(ramet_workspace_fork(world->ws, "a", &a, &err));
    put_text(world->ws, d, "between", "x");
    check_ok(ramet_workspace_fork(world->ws, "b", &b, &err));
    check_ok(ramet_workspace_fork(a, "a2", &a2, &err));
    put_text(a2, d, "from-a2", "a2");
    put_text(b, d, "from-b", "b");
    check_ok(ramet_workspace_merge(a2, b, NULL, &result, &err)); /* cousins */
    assert_true(result.applied);
    ramet_wmerge_result_free(&result);
    expect_text(a2, d, "from-a2", "a2");
    expect_text(a2, d, "from-b", "b");
    expect_text(a2, d, "between", "x");
    check_ok(ramet_workspace_merge(world->ws, a2, NULL, &result, &err)); /* into the grandparent */
    assert_true(result.applied);
    ramet_wmerge_result_free(&result);
    check_ok(ramet_workspace_merge(a, world->ws, NULL, &result, &err)); /* and back */
    ramet_wmerge_result_free(&result);
    expect_same(a, world->ws);
    check_ok(ramet_workspace_create(world->set, "other", 0, 0, &other, &err));
    check_fails(ramet_workspace_merge(world->ws, other, NULL, &result, &err), RAMET_NOT_FOUND);
    check_fails(ramet_workspace_merge(world->ws, world->ws, NULL, &result, &err), RAMET_INVALID);
    /* A base that is named. */
    check_ok(ramet_workspace_create(world->set, "empty", 0, 0, &base, &err));
    struct ramet_wmerge_options options = {.base = base, .strategy = RAMET_WTAKE_THEIRS};
    put_text(other, RAMET_ROOT, "unrelated", "u");
    check_ok(ramet_workspace_merge(world->ws, other, &options, &result, &err));
    assert_true(result.applied);
    ramet_wmerge_result_free(&result);
    expect_text(world->ws, RAMET_ROOT, "unrelated", "u");
    expect_sound(world->ws);
    struct ramet_workspace *all[] = {a, b, a2, other, base};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        ramet_workspace_unref(all[i]);
}

/* What came over once and was changed since, with a base that is named again: it knows nothing of it, so it is asked
 * about, never passed over. */
static void changes_after_a_merge_conflict(void **state)
{
    struct sides s = split(state);
    struct ramet_wstat attr = {.mode = 0700};
    uint64_t new = put_text(s.theirs, s.d, "new", "first"), dir = make_dir(s.theirs, s.d, "e");
    merge(&s, RAMET_WTAKE_NONE, "");
    set_text(s.theirs, new, "second");
    check_ok(ramet_wfile_set(s.theirs, dir, &attr, RAMET_WSET_MODE, &out, &err));
    merge(&s, RAMET_WTAKE_NONE, "both-modified d/new\nboth-modified d/e\n");
    merge(&s, RAMET_WTAKE_OURS, "both-modified d/new\nboth-modified d/e\n");
    expect_text(s.ours, s.d, "new", "first");
    merge(&s, RAMET_WTAKE_THEIRS, "both-modified d/new\nboth-modified d/e\n");
    expect_same(s.ours, s.theirs);
    merge(&s, RAMET_WTAKE_NONE, "");
    end(&s);
}

/* A replacement that came over with a merge, and has another name since on one side only, is one file, not two. */
static void a_replacement_that_came_over_is_one_file(void **state)
{
    for (int linked_by_theirs = 0; linked_by_theirs < 2; linked_by_theirs++) {
        struct sides s = split(state);
        check_ok(ramet_wfile_unlink(s.ours, s.d, "f", NULL, &err));
        check_ok(ramet_wfile_unlink(s.theirs, s.d, "f", NULL, &err));
        uint64_t new = put_text(s.theirs, s.d, "f", "new");
        merge(&s, RAMET_WTAKE_THEIRS, "modify-delete d/f\n");
        assert_int_equal(find(s.ours, s.d, "f"), new);
        check_ok(ramet_wfile_link(linked_by_theirs ? s.theirs : s.ours, new, RAMET_ROOT, "hard", &out, &err));
        merge(&s, RAMET_WTAKE_NONE, "");
        check_ok(ramet_wfile_stat(s.ours, new, &out, &err));
        assert_int_equal(out.nlink, 2);
        expect_text(s.ours, RAMET_ROOT, "hard", "new");
        check_ok(ramet_wfile_unlink(s.ours, RAMET_ROOT, "hard", NULL, &err));
        check_ok(ramet_wfile_unlink(s.ours, s.d, "f", NULL, &err));
        check_ok(ramet_wfile_rmdir(s.ours, RAMET_ROOT, "d", NULL, &err));
        check_ok(ramet_workspace_remove(s.theirs, &err));
        ramet_workspace_unref(s.theirs);
    }
}

static void quota_holds_for_merges(void **state)
{
    struct sides s = split(state);
    struct ramet_wmerge_result result;
    char page[8192] = "x";
    check_ok(ramet_workspace_set_quota(s.ours, 4096, 0, &err));
    put_bytes(s.theirs, make_file(s.theirs, s.d, "big"), 0, page, sizeof page);
    check_errno(ramet_workspace_merge(s.ours, s.theirs, NULL, &result, &err), EDQUOT);
    expect_none(s.ours, s.d, "big");
    end(&s);
}

/* A second merge brings what changed since the first: what ours decided in between stays. */
static void the_base_advances(void **state)
{
    struct world *world = *state;
    struct sides s = split(state);
    struct ramet_workspace_state *states;
    size_t count;
    uint64_t other = put_text(s.theirs, RAMET_ROOT, "other", "theirs\n");
    s.finds = true;
    set_text(s.theirs, s.f, "theirs\n");
    set_text(s.ours, s.f, "ours\n");
    merge(&s, RAMET_WTAKE_NONE, "both-modified d/f\n");
    merge(&s, RAMET_WTAKE_OURS, "both-modified d/f\n");
    check_ok(ramet_workspace_states(s.theirs, &states, &count, &err));
    assert_int_equal(count, 1); /* one that is refused keeps nothing */
    free(states);
    uint64_t mine = find(s.ours, RAMET_ROOT, "other");
    set_text(s.ours, mine, "not theirs\n");
    for (int round = 0; round < 3; round++) {
        put_text(s.theirs, RAMET_ROOT, round == 0 ? "new-0" : round == 1 ? "new-1" : "new-2", "x");
        merge(&s, RAMET_WTAKE_NONE, "");
        expect_text(s.ours, s.d, "f", "ours\n");
        expect_text(s.ours, RAMET_ROOT, "other", "not theirs\n");
        expect_text(s.ours, RAMET_ROOT, round == 0 ? "new-0" : round == 1 ? "new-1" : "new-2", "x");
        if (round == 0) { /* also when the store was closed in between */
            ramet_workspace_unref(s.theirs);
            world_reopen(world);
            s.ours = world->ws;
            check_ok(ramet_workspace_find(world->set, "theirs", &s.theirs, &err));
        }
        if (round == 1)
            check_ok(ramet_workspaces_checkpoint(world->set, &err));
    }
    check_ok(ramet_workspace_states(s.theirs, &states, &count, &err));
    assert_int_equal(count, 1);
    free(states);
    /* And back: theirs takes what ours decided, and nothing conflicts. */
    struct sides back = {.ours = s.theirs, .theirs = s.ours, .finds = true};
    merge(&back, RAMET_WTAKE_NONE, "");
    expect_same(s.ours, s.theirs);
    set_text(s.theirs, other, "once more\n");
    merge(&s, RAMET_WTAKE_NONE, "");
    expect_text(s.ours, RAMET_ROOT, "other", "once more\n");
    end(&s);
}

/* A rollback of either side to before the merge takes the base back with it. */
static void rollbacks_take_the_base_back(void **state)
{
    struct world *world = *state;
    struct sides s = split(state);
    s.finds = true;
    check_ok(ramet_workspace_snapshot(s.ours, "before", NULL, &err));
    check_ok(ramet_workspace_snapshot(s.theirs, "begin", NULL, &err));
    put_text(s.theirs, RAMET_ROOT, "came", "over");
    merge(&s, RAMET_WTAKE_NONE, "");
    expect_text(s.ours, RAMET_ROOT, "came", "over");
    check_ok(ramet_workspace_rollback(s.ours, "before", NULL, &err));
    ramet_workspace_unref(world->ws);
    check_ok(ramet_workspace_find(world->set, "main", &world->ws, &err));
    s.ours = world->ws;
    expect_none(s.ours, RAMET_ROOT, "came");
    merge(&s, RAMET_WTAKE_NONE, ""); /* it is as if it had never been */
    expect_text(s.ours, RAMET_ROOT, "came", "over");
    /* Theirs goes back: that is no change of theirs that ours would have to follow. */
    check_ok(ramet_workspace_rollback(s.theirs, "begin", NULL, &err));
    ramet_workspace_unref(s.theirs);
    check_ok(ramet_workspace_find(world->set, "theirs", &s.theirs, &err));
    merge(&s, RAMET_WTAKE_NONE, "");
    expect_text(s.ours, RAMET_ROOT, "came", "over");
    end(&s);
}

/* A fork has what its parent merged; a state that was removed leaves the fork's own base. */
static void forks_know_what_was_merged(void **state)
{
    struct world *world = *state;
    struct sides s = split(state);
    struct ramet_workspace_state *states;
    struct ramet_workspace *heir;
    size_t count;
    s.finds = true;
    set_text(s.theirs, s.f, "theirs\n");
    merge(&s, RAMET_WTAKE_NONE, "");
    check_ok(ramet_workspace_fork(s.ours, "heir", &heir, &err));
    struct sides t = {.ours = heir, .theirs = s.theirs, .finds = true};
    set_text(heir, s.f, "heir\n");
    merge(&t, RAMET_WTAKE_NONE, "");
    expect_text(heir, s.d, "f", "heir\n");
    check_ok(ramet_workspace_states(s.theirs, &states, &count, &err));
    assert_int_equal(count, 2); /* one for each that it was merged into */
    for (size_t i = 0; i < count; i++)
        check_ok(ramet_workspace_state_remove(s.theirs, states[i].name, &err));
    free(states);
    merge(&t, RAMET_WTAKE_NONE, "both-modified d/f\n");
    ramet_workspace_unref(heir);
    (void)world;
    end(&s);
}

#define case_of(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        case_of(everything_comes_over),
        case_of(both_sides_are_kept),
        case_of(texts_are_merged),
        case_of(edits_conflict),
        case_of(attributes_conflict),
        case_of(removals_conflict),
        case_of(changes_of_the_removed_conflict),
        case_of(additions_conflict),
        case_of(each_conflict_its_own_way),
        case_of(directories_join),
        case_of(directories_conflict),
        case_of(removed_directories_come_back),
        case_of(renames_conflict),
        case_of(directories_into_one_another),
        case_of(moved_directories_take_changes),
        case_of(ancestors_are_found),
        case_of(changes_after_a_merge_conflict),
        case_of(a_replacement_that_came_over_is_one_file),
        case_of(quota_holds_for_merges),
        case_of(the_base_advances),
        case_of(rollbacks_take_the_base_back),
        case_of(forks_know_what_was_merged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
