/* SPDX-License-Identifier: Apache-2.0 */
#include "workspace_merge_fixture.h"

#include "workspace/diff.h"
#include "workspace/view.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static struct ramet_wstat out;

uint64_t put_text(struct ramet_workspace *ws, uint64_t dir, const char *name, const char *text)
{
    uint64_t ino = make_file(ws, dir, name);
    put_bytes(ws, ino, 0, text, strlen(text));
    return ino;
}

void set_text(struct ramet_workspace *ws, uint64_t ino, const char *text)
{
    struct ramet_wstat attr = {.size = strlen(text)};
    check_ok(ramet_wfile_set(ws, ino, &attr, RAMET_WSET_SIZE, &out, &err));
    put_bytes(ws, ino, 0, text, strlen(text));
}

void expect_text(struct ramet_workspace *ws, uint64_t dir, const char *name, const char *text)
{
    expect_bytes(ws, find(ws, dir, name), text, strlen(text));
}

void expect_none(struct ramet_workspace *ws, uint64_t dir, const char *name)
{
    check_errno(ramet_wfile_lookup(ws, dir, name, &out, &err), ENOENT);
}

struct sides sides_split(void **state)
{
    struct world *world = *state;
    struct sides sides = {.ours = world->ws};
    sides.d = make_dir(world->ws, RAMET_ROOT, "d");
    sides.f = put_text(world->ws, sides.d, "f", "1\n2\n3\n4\n5\n");
    check_ok(ramet_workspace_fork(world->ws, "theirs", &sides.theirs, &err));
    return sides;
}

void sides_end(struct sides *sides)
{
    expect_sound(sides->ours);
    expect_sound(sides->theirs);
    ramet_workspace_unref(sides->theirs);
}

void expect_same(struct ramet_workspace *a, struct ramet_workspace *b)
{
    struct ramet_wdiff *diff;
    check_ok(ramet_wdiff_make(a, b, &diff, &err));
    if (diff->count > 0)
        fail_msg("\"%s\" differs", diff->items[0].path);
    ramet_wdiff_free(diff);
}

void sides_merge(struct sides *sides, enum ramet_wtake strategy, const char *expected)
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
