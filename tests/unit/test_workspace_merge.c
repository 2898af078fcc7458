/* SPDX-License-Identifier: Apache-2.0 */
/* Merges: each kind of change taken over, each kind of conflict found and resolved, and nothing done when it is not. */
#include "workspace_merge_fixture.h"

#include "workspace/view.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct ramet_wstat out;

/* All that theirs did comes over when ours did nothing. */
static void everything_comes_over(void **state)
{
    struct sides s = sides_split(state);
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
    sides_merge(&s, RAMET_WTAKE_NONE, "");
    expect_same(s.ours, s.theirs);
    /* Again: nothing is left to do. */
    sides_merge(&s, RAMET_WTAKE_NONE, "");
    /* The pages are shared; the files are not. */
    put_bytes(s.ours, big, 4096, "ours", 4);
    expect_bytes(t, big, page, sizeof page);
    check_ok(ramet_wfile_unlink(t, e, "big", NULL, &err));
    check_ok(ramet_wfile_unlink(t, RAMET_ROOT, "hard", NULL, &err));
    memcpy(page + 4096, "ours", 4);
    expect_bytes(s.ours, big, page, sizeof page);
    sides_end(&s);
}

static void both_sides_are_kept(void **state)
{
    struct sides s = sides_split(state);
    struct ramet_wstat attr = {.mode = 0600};
    /* One edits and the other one renames; both add to a directory; both remove. */
    set_text(s.ours, s.f, "edited");
    check_ok(ramet_wfile_rename(s.theirs, s.d, "f", RAMET_ROOT, "g", 0, &err));
    check_ok(ramet_wfile_set(s.theirs, s.f, &attr, RAMET_WSET_MODE, &out, &err));
    put_text(s.ours, s.d, "a", "ours");
    put_text(s.theirs, s.d, "b", "theirs");
    sides_merge(&s, RAMET_WTAKE_NONE, "");
    expect_text(s.ours, RAMET_ROOT, "g", "edited");
    assert_int_equal(stat_of(s.ours, s.f).mode, S_IFREG | 0600);
    expect_none(s.ours, s.d, "f");
    expect_text(s.ours, s.d, "a", "ours");
    expect_text(s.ours, s.d, "b", "theirs");
    sides_end(&s);
}

static void texts_are_merged(void **state)
{
    struct sides s = sides_split(state);
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
    sides_merge(&s, RAMET_WTAKE_NONE, "");
    expect_text(s.ours, s.d, "f", "ours\n2\n3\n4\ntheirs\n");
    sides_end(&s);
}

static void edits_conflict(void **state)
{
    struct sides s = sides_split(state);
    set_text(s.ours, s.f, "ours\n2\n3\n4\n5\n");
    set_text(s.theirs, s.f, "theirs\n2\n3\n4\n5\n");
    sides_merge(&s, RAMET_WTAKE_NONE, "both-modified d/f\n");
    sides_merge(&s, RAMET_WTAKE_OURS, "both-modified d/f\n");
    expect_text(s.ours, s.d, "f", "ours\n2\n3\n4\n5\n");
    sides_merge(&s, RAMET_WTAKE_THEIRS, "both-modified d/f\n");
    expect_text(s.ours, s.d, "f", "theirs\n2\n3\n4\n5\n");
    sides_merge(&s, RAMET_WTAKE_NONE, ""); /* equal now */
    sides_end(&s);
}

static void attributes_conflict(void **state)
{
    struct sides s = sides_split(state);
    struct ramet_wstat ours = {.mode = 0600, .uid = 1}, theirs = {.mode = 0640, .uid = 1};
    check_ok(ramet_wfile_set(s.ours, s.f, &ours, RAMET_WSET_MODE | RAMET_WSET_UID, &out, &err));
    check_ok(ramet_wfile_set(s.theirs, s.f, &theirs, RAMET_WSET_MODE | RAMET_WSET_UID, &out, &err));
    check_ok(ramet_wfile_set_xattr(s.theirs, s.f, "user.a", "b", 1, 0, &err));
    sides_merge(&s, RAMET_WTAKE_NONE, "both-modified d/f\n");
    sides_merge(&s, RAMET_WTAKE_OURS, "both-modified d/f\n");
    assert_int_equal(stat_of(s.ours, s.f).mode, S_IFREG | 0600);
    char *names;
    size_t size;
    check_ok(ramet_wfile_list_xattr(s.ours, s.f, &names, &size, &err));
    assert_int_equal(size, 7); /* what was no conflict came over */
    free(names);
    sides_merge(&s, RAMET_WTAKE_THEIRS, "both-modified d/f\n");
    assert_int_equal(stat_of(s.ours, s.f).mode, S_IFREG | 0640);
    sides_end(&s);
}

static void removals_conflict(void **state)
{
    struct sides s = sides_split(state);
    set_text(s.ours, s.f, "ours");
    check_ok(ramet_wfile_unlink(s.theirs, s.d, "f", NULL, &err));
    sides_merge(&s, RAMET_WTAKE_NONE, "delete-modify d/f\n");
    sides_merge(&s, RAMET_WTAKE_OURS, "delete-modify d/f\n");
    expect_text(s.ours, s.d, "f", "ours");
    sides_merge(&s, RAMET_WTAKE_THEIRS, "delete-modify d/f\n");
    expect_none(s.ours, s.d, "f");
    sides_end(&s);
}

static void changes_of_the_removed_conflict(void **state)
{
    struct sides s = sides_split(state);
    set_text(s.theirs, s.f, "theirs");
    check_ok(ramet_wfile_rename(s.theirs, s.d, "f", RAMET_ROOT, "g", 0, &err));
    s.orphans = true;
    ramet_wfile_use(s.ours, s.f); /* its number is still taken when it comes back */
    check_ok(ramet_wfile_unlink(s.ours, s.d, "f", NULL, &err));
    sides_merge(&s, RAMET_WTAKE_NONE, "modify-delete g\n");
    sides_merge(&s, RAMET_WTAKE_OURS, "modify-delete g\n");
    expect_none(s.ours, RAMET_ROOT, "g");
    struct ramet_wmerge_options options = {.strategy = RAMET_WTAKE_THEIRS};
    struct ramet_wmerge_result result;
    check_ok(ramet_workspace_merge(s.ours, s.theirs, &options, &result, &err));
    ramet_wmerge_result_free(&result);
    expect_text(s.ours, RAMET_ROOT, "g", "theirs");
    expect_none(s.ours, s.d, "f");
    ramet_wfile_unuse(s.ours, s.f, 1);
    sides_end(&s);
}

static void additions_conflict(void **state)
{
    struct sides s = sides_split(state);
    put_text(s.ours, s.d, "same", "same");
    put_text(s.theirs, s.d, "same", "same");
    put_text(s.ours, s.d, "new", "ours");
    put_text(s.theirs, s.d, "new", "theirs");
    put_text(s.ours, make_dir(s.ours, s.d, "x"), "inner", "ours");
    put_text(s.theirs, s.d, "x", "file");
    sides_merge(&s, RAMET_WTAKE_NONE, "both-added d/new\ntype d/x\n");
    sides_merge(&s, RAMET_WTAKE_OURS, "both-added d/new\ntype d/x\n");
    expect_text(s.ours, s.d, "new", "ours");
    sides_merge(&s, RAMET_WTAKE_THEIRS, "both-added d/new\ntype d/x\n");
    expect_text(s.ours, s.d, "new", "theirs");
    expect_text(s.ours, s.d, "x", "file");
    sides_end(&s);
}

static void each_conflict_its_own_way(void **state)
{
    struct sides s = sides_split(state);
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
    sides_end(&s);
}

/* Directories of one name that both made become one, at every depth. */
static void directories_join(void **state)
{
    struct sides s = sides_split(state);
    uint64_t a = make_dir(s.ours, RAMET_ROOT, "new"), b = make_dir(s.theirs, RAMET_ROOT, "new");
    uint64_t a2 = make_dir(s.ours, a, "sub"), b2 = make_dir(s.theirs, b, "sub");
    put_text(s.ours, a2, "ours", "o");
    put_text(s.theirs, b2, "theirs", "t");
    put_text(s.theirs, make_dir(s.theirs, b2, "only"), "x", "x");
    sides_merge(&s, RAMET_WTAKE_NONE, "");
    expect_text(s.ours, a2, "ours", "o");
    expect_text(s.ours, a2, "theirs", "t");
    expect_text(s.ours, find(s.ours, a2, "only"), "x", "x");
    sides_end(&s);
}

static void directories_conflict(void **state)
{
    struct sides s = sides_split(state);
    check_ok(ramet_wfile_unlink(s.theirs, s.d, "f", NULL, &err));
    check_ok(ramet_wfile_rmdir(s.theirs, RAMET_ROOT, "d", NULL, &err));
    put_text(s.ours, make_dir(s.ours, s.d, "sub"), "new", "n");
    sides_merge(&s, RAMET_WTAKE_NONE, "directory d\n");
    sides_merge(&s, RAMET_WTAKE_OURS, "directory d\n");
    expect_none(s.ours, s.d, "f");
    expect_text(s.ours, find(s.ours, s.d, "sub"), "new", "n");
    sides_merge(&s, RAMET_WTAKE_THEIRS, "directory d\n");
    expect_none(s.ours, RAMET_ROOT, "d");
    sides_end(&s);
}

static void removed_directories_come_back(void **state)
{
    struct sides s = sides_split(state);
    put_text(s.theirs, make_dir(s.theirs, s.d, "sub"), "new", "n");
    check_ok(ramet_wfile_unlink(s.ours, s.d, "f", NULL, &err));
    check_ok(ramet_wfile_rmdir(s.ours, RAMET_ROOT, "d", NULL, &err));
    sides_merge(&s, RAMET_WTAKE_NONE, "directory d\n");
    sides_merge(&s, RAMET_WTAKE_OURS, "directory d\n");
    expect_none(s.ours, RAMET_ROOT, "d");
    sides_merge(&s, RAMET_WTAKE_THEIRS, "directory d\n");
    uint64_t d = find(s.ours, RAMET_ROOT, "d");
    expect_text(s.ours, find(s.ours, d, "sub"), "new", "n");
    expect_none(s.ours, d, "f");
    sides_end(&s);
}

static void renames_conflict(void **state)
{
    struct sides s = sides_split(state);
    check_ok(ramet_wfile_rename(s.ours, s.d, "f", s.d, "ours", 0, &err));
    check_ok(ramet_wfile_rename(s.theirs, s.d, "f", s.d, "theirs", 0, &err));
    sides_merge(&s, RAMET_WTAKE_NONE, "rename d/ours\n");
    sides_merge(&s, RAMET_WTAKE_OURS, "rename d/ours\n");
    assert_int_equal(find(s.ours, s.d, "ours"), s.f);
    expect_none(s.ours, s.d, "theirs");
    sides_merge(&s, RAMET_WTAKE_THEIRS, "rename d/ours\n");
    assert_int_equal(find(s.ours, s.d, "theirs"), s.f);
    expect_none(s.ours, s.d, "ours");
    sides_end(&s);
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
    sides_end(&s);
}

/* A change of a directory's place and one inside it: both. */
static void moved_directories_take_changes(void **state)
{
    struct sides s = sides_split(state);
    check_ok(ramet_wfile_rename(s.theirs, RAMET_ROOT, "d", RAMET_ROOT, "moved", 0, &err));
    set_text(s.ours, s.f, "ours");
    put_text(s.ours, s.d, "added", "a");
    sides_merge(&s, RAMET_WTAKE_NONE, "");
    expect_none(s.ours, RAMET_ROOT, "d");
    uint64_t d = find(s.ours, RAMET_ROOT, "moved");
    expect_text(s.ours, d, "f", "ours");
    expect_text(s.ours, d, "added", "a");
    sides_end(&s);
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
    struct sides s = sides_split(state);
    struct ramet_wstat attr = {.mode = 0700};
    uint64_t new = put_text(s.theirs, s.d, "new", "first"), dir = make_dir(s.theirs, s.d, "e");
    sides_merge(&s, RAMET_WTAKE_NONE, "");
    set_text(s.theirs, new, "second");
    check_ok(ramet_wfile_set(s.theirs, dir, &attr, RAMET_WSET_MODE, &out, &err));
    sides_merge(&s, RAMET_WTAKE_NONE, "both-modified d/new\nboth-modified d/e\n");
    sides_merge(&s, RAMET_WTAKE_OURS, "both-modified d/new\nboth-modified d/e\n");
    expect_text(s.ours, s.d, "new", "first");
    sides_merge(&s, RAMET_WTAKE_THEIRS, "both-modified d/new\nboth-modified d/e\n");
    expect_same(s.ours, s.theirs);
    sides_merge(&s, RAMET_WTAKE_NONE, "");
    sides_end(&s);
}

/* A replacement that came over with a merge, and has another name since on one side only, is one file, not two. */
static void a_replacement_that_came_over_is_one_file(void **state)
{
    for (int linked_by_theirs = 0; linked_by_theirs < 2; linked_by_theirs++) {
        struct sides s = sides_split(state);
        check_ok(ramet_wfile_unlink(s.ours, s.d, "f", NULL, &err));
        check_ok(ramet_wfile_unlink(s.theirs, s.d, "f", NULL, &err));
        uint64_t new = put_text(s.theirs, s.d, "f", "new");
        sides_merge(&s, RAMET_WTAKE_THEIRS, "modify-delete d/f\n");
        assert_int_equal(find(s.ours, s.d, "f"), new);
        check_ok(ramet_wfile_link(linked_by_theirs ? s.theirs : s.ours, new, RAMET_ROOT, "hard", &out, &err));
        sides_merge(&s, RAMET_WTAKE_NONE, "");
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
    struct sides s = sides_split(state);
    struct ramet_wmerge_result result;
    char page[8192] = "x";
    check_ok(ramet_workspace_set_quota(s.ours, 4096, 0, &err));
    put_bytes(s.theirs, make_file(s.theirs, s.d, "big"), 0, page, sizeof page);
    check_errno(ramet_workspace_merge(s.ours, s.theirs, NULL, &result, &err), EDQUOT);
    expect_none(s.ours, s.d, "big");
    sides_end(&s);
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
