/* SPDX-License-Identifier: Apache-2.0 */
/* What was merged last is the base of the next merge: over rounds, rollbacks and forks. */
#include "workspace_merge_fixture.h"

#include <stdlib.h>

/* A second merge brings what changed since the first: what ours decided in between stays. */
static void the_base_advances(void **state)
{
    struct world *world = *state;
    struct sides s = sides_split(state);
    struct ramet_workspace_state *states;
    size_t count;
    uint64_t other = put_text(s.theirs, RAMET_ROOT, "other", "theirs\n");
    s.finds = true;
    set_text(s.theirs, s.f, "theirs\n");
    set_text(s.ours, s.f, "ours\n");
    sides_merge(&s, RAMET_WTAKE_NONE, "both-modified d/f\n");
    sides_merge(&s, RAMET_WTAKE_OURS, "both-modified d/f\n");
    check_ok(ramet_workspace_states(s.theirs, &states, &count, &err));
    assert_int_equal(count, 1); /* one that is refused keeps nothing */
    free(states);
    uint64_t mine = find(s.ours, RAMET_ROOT, "other");
    set_text(s.ours, mine, "not theirs\n");
    for (int round = 0; round < 3; round++) {
        put_text(s.theirs, RAMET_ROOT, round == 0 ? "new-0" : round == 1 ? "new-1" : "new-2", "x");
        sides_merge(&s, RAMET_WTAKE_NONE, "");
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
    sides_merge(&back, RAMET_WTAKE_NONE, "");
    expect_same(s.ours, s.theirs);
    set_text(s.theirs, other, "once more\n");
    sides_merge(&s, RAMET_WTAKE_NONE, "");
    expect_text(s.ours, RAMET_ROOT, "other", "once more\n");
    sides_end(&s);
}

/* A rollback of either side to before the merge takes the base back with it. */
static void rollbacks_take_the_base_back(void **state)
{
    struct world *world = *state;
    struct sides s = sides_split(state);
    s.finds = true;
    check_ok(ramet_workspace_snapshot(s.ours, "before", NULL, &err));
    check_ok(ramet_workspace_snapshot(s.theirs, "begin", NULL, &err));
    put_text(s.theirs, RAMET_ROOT, "came", "over");
    sides_merge(&s, RAMET_WTAKE_NONE, "");
    expect_text(s.ours, RAMET_ROOT, "came", "over");
    check_ok(ramet_workspace_rollback(s.ours, "before", NULL, &err));
    ramet_workspace_unref(world->ws);
    check_ok(ramet_workspace_find(world->set, "main", &world->ws, &err));
    s.ours = world->ws;
    expect_none(s.ours, RAMET_ROOT, "came");
    sides_merge(&s, RAMET_WTAKE_NONE, ""); /* it is as if it had never been */
    expect_text(s.ours, RAMET_ROOT, "came", "over");
    /* Theirs goes back: that is no change of theirs that ours would have to follow. */
    check_ok(ramet_workspace_rollback(s.theirs, "begin", NULL, &err));
    ramet_workspace_unref(s.theirs);
    check_ok(ramet_workspace_find(world->set, "theirs", &s.theirs, &err));
    sides_merge(&s, RAMET_WTAKE_NONE, "");
    expect_text(s.ours, RAMET_ROOT, "came", "over");
    sides_end(&s);
}

/* A fork has what its parent merged; a state that was removed leaves the fork's own base. */
static void forks_know_what_was_merged(void **state)
{
    struct sides s = sides_split(state);
    struct ramet_workspace_state *states;
    struct ramet_workspace *heir;
    size_t count;
    s.finds = true;
    set_text(s.theirs, s.f, "theirs\n");
    sides_merge(&s, RAMET_WTAKE_NONE, "");
    check_ok(ramet_workspace_fork(s.ours, "heir", &heir, &err));
    struct sides t = {.ours = heir, .theirs = s.theirs, .finds = true};
    set_text(heir, s.f, "heir\n");
    sides_merge(&t, RAMET_WTAKE_NONE, "");
    expect_text(heir, s.d, "f", "heir\n");
    check_ok(ramet_workspace_states(s.theirs, &states, &count, &err));
    assert_int_equal(count, 2); /* one for each that it was merged into */
    for (size_t i = 0; i < count; i++)
        check_ok(ramet_workspace_state_remove(s.theirs, states[i].name, &err));
    free(states);
    sides_merge(&t, RAMET_WTAKE_NONE, "both-modified d/f\n");
    ramet_workspace_unref(heir);
    sides_end(&s);
}

#define case_of(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        case_of(the_base_advances),
        case_of(rollbacks_take_the_base_back),
        case_of(forks_know_what_was_merged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
