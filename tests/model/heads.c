/* SPDX-License-Identifier: Apache-2.0 */
/* Heads of the model: forks, states, rollbacks, merges; opening and closing the store beside it. */
#include "world.h"

#include "workspace/merge.h"
#include "workspace/view.h"

#include "store.h"

#include <stdio.h>
#include <string.h>

void mworld_init(struct mworld *world, uint64_t seed, const char *dir)
{
    *world = (struct mworld){.random = seed, .head_count = 1, .times = dir != NULL};
    strcpy(world->heads[0].name, "w0");
    mtree_init(&world->heads[0].tree, 0, 0);
    if (dir)
        snprintf(world->dir, sizeof world->dir, "%s", dir);
}

static void load_root_times(struct mhead *head)
{
    struct mnode *root = &head->tree.nodes[MROOT];
    struct ramet_wstat stat;
    must(ramet_wfile_stat(head->ws, RAMET_WORKSPACE_ROOT, &stat, &err));
    root->mtime_ns = stat.mtime_ns;
    root->ctime_ns = stat.ctime_ns;
    root->atime_ns = stat.atime_ns;
    root->btime_ns = stat.btime_ns;
}

void mworld_open(struct mworld *world, bool fresh)
{
    must(ramet_store_open(world->dir, NULL, &world->store, &err));
    must(ramet_catalog_open(world->store, &world->catalog, &err));
    must(ramet_workspaces_open(world->catalog, &world->set, &err));
    if (fresh) {
        must(ramet_workspace_create(world->set, "w0", 0, 0, &world->heads[0].ws, &err));
        load_root_times(&world->heads[0]);
        return;
    }
    for (int i = 0; i < world->head_count; i++)
        must(ramet_workspace_find(world->set, world->heads[i].name, &world->heads[i].ws, &err));
}

/* Nobody has anything open any more. */
static void forget_uses(struct mtree *tree)
{
    for (int i = 0; i < tree->count; i++) {
        tree->nodes[i].uses = 0;
        if (tree->nodes[i].id >= 0)
            mtree_reap(tree, i);
    }
}

void mworld_close(struct mworld *world)
{
    for (int i = 0; i < world->head_count; i++) {
        ramet_workspace_unref(world->heads[i].ws);
        world->heads[i].ws = NULL;
        forget_uses(&world->heads[i].tree);
    }
    ramet_workspaces_close(world->set);
    ramet_catalog_close(world->catalog);
    ramet_store_close(world->store);
}

static void head_free(struct mhead *head)
{
    mtree_free(&head->tree);
    mtree_free(&head->base);
    for (int i = 0; i < head->state_count; i++)
        mtree_free(&head->states[i].tree);
    *head = (struct mhead){0};
}

void mworld_free(struct mworld *world)
{
    for (int i = 0; i < world->head_count; i++)
        head_free(&world->heads[i]);
}

void mworld_copy(struct mworld *to, const struct mworld *from)
{
    *to = *from;
    to->store = NULL;
    to->catalog = NULL;
    to->set = NULL;
    for (int i = 0; i < from->head_count; i++) {
        const struct mhead *head = &from->heads[i];
        to->heads[i].ws = NULL;
        mtree_copy(&to->heads[i].tree, &head->tree);
        if (head->has_base)
            mtree_copy(&to->heads[i].base, &head->base);
        for (int k = 0; k < head->state_count; k++)
            mtree_copy(&to->heads[i].states[k].tree, &head->states[k].tree);
    }
}

/* --- operations --- */

static struct mhead *pick_head(struct mworld *world)
{
    return &world->heads[mbelow(world, (uint64_t)world->head_count)];
}

static void fork_head(struct mworld *world)
{
    struct mhead *from = pick_head(world), *to = &world->heads[world->head_count];
    if (world->head_count == MHEADS)
        return;
    *to = (struct mhead){.has_base = true};
    snprintf(to->name, sizeof to->name, "w%d", ++world->next_name);
    memcpy(to->parent, from->name, sizeof to->parent);
    if (from->ws)
        must(ramet_workspace_fork(from->ws, to->name, &to->ws, &err));
    mtree_copy(&to->tree, &from->tree);
    mtree_copy(&to->base, &from->tree);
    world->head_count++;
}

static void remove_head(struct mworld *world)
{
    struct mhead *head = pick_head(world);
    if (head == &world->heads[0])
        return;
    if (head->ws) {
        must(ramet_workspace_remove(head->ws, &err));
        ramet_workspace_unref(head->ws);
    }
    head_free(head);
    *head = world->heads[--world->head_count];
    world->heads[world->head_count] = (struct mhead){0};
}

static void keep_state(struct mworld *world)
{
    struct mhead *head = pick_head(world);
    struct mstate *state = &head->states[head->state_count];
    if (head->state_count == MSTATES)
        return;
    snprintf(state->name, sizeof state->name, "s%d", ++world->next_name);
    if (head->ws)
        must(ramet_workspace_snapshot(head->ws, state->name, NULL, &err));
    mtree_copy(&state->tree, &head->tree);
    head->state_count++;
}

static void remove_state(struct mworld *world)
{
    struct mhead *head = pick_head(world);
    if (head->state_count == 0)
        return;
    struct mstate *state = &head->states[mbelow(world, (uint64_t)head->state_count)];
    if (head->ws)
        must(ramet_workspace_state_remove(head->ws, state->name, &err));
    mtree_free(&state->tree);
    *state = head->states[--head->state_count];
}

static void roll_back(struct mworld *world)
{
    struct mhead *head = pick_head(world);
    if (head->state_count == 0)
        return;
    struct mstate *state = &head->states[mbelow(world, (uint64_t)head->state_count)];
    if (head->ws) {
        struct ramet_workspace_state before;
        must(ramet_workspace_rollback(head->ws, state->name, &before, &err));
        ramet_workspace_unref(head->ws);
        must(ramet_workspace_find(world->set, head->name, &head->ws, &err));
        must(ramet_workspace_state_remove(head->ws, before.name, &err));
    }
    mtree_free(&head->tree);
    mtree_copy(&head->tree, &state->tree);
}

void mworld_step_heads(struct mworld *world)
{
    static void (*const steps[])(struct mworld *) = {fork_head,  fork_head,  fork_head,    remove_head,
                                                     keep_state, keep_state, remove_state, roll_back};
    steps[mbelow(world, sizeof steps / sizeof *steps)](world);
}

/* --- merging --- */

static struct mhead *head_named(struct mworld *world, const char *name)
{
    for (int i = 0; i < world->head_count; i++)
        if (strcmp(world->heads[i].name, name) == 0)
            return &world->heads[i];
    return NULL;
}

/*
 * What can be told without a second merge: where one side did nothing the other one's tree comes out; else the result
 * is sound, a strategy leaves no conflict open, and without one a conflict changes nothing.
 */
void mworld_merge(struct mworld *world)
{
    struct mhead *theirs = pick_head(world), *ours = head_named(world, theirs->parent);
    struct ramet_wmerge_options options = {.strategy = (enum ramet_wtake)mbelow(world, 3),
                                           .whole_files = mbelow(world, 2)};
    struct ramet_wmerge_result result;
    struct mtree real, before;
    if (!ours || !theirs->has_base || !theirs->ws)
        return;
    if (mbelow(world, 3) == 0) { /* the other way round */
        struct mhead *held = ours;
        ours = theirs;
        theirs = held;
    }
    const struct mtree *base = ours->has_base && strcmp(ours->parent, theirs->name) == 0 ? &ours->base : &theirs->base;
    bool ours_still = !mtree_compare(base, &ours->tree, false, true);
    bool theirs_still = !mtree_compare(base, &theirs->tree, false, true);
    mtree_copy(&before, &ours->tree);
    /* Named, since what the result is compared with goes by forks; tests/unit/test_workspace_merge.c has the others. */
    must(ramet_workspace_base_open(base == &ours->base ? ours->ws : theirs->ws, &options.base, &err));
    int r = ramet_workspace_merge(ours->ws, theirs->ws, &options, &result, &err);
    ramet_wview_close(options.base);
    if (r == -RAMET_CONFLICT && options.strategy != RAMET_WTAKE_NONE) { /* renames that contradict each other */
        result = (struct ramet_wmerge_result){0};
        r = 0;
    }
    if (r < 0)
        fail("merge of %s into %s: %s (%s)", theirs->name, ours->name, err.msg, err.hint);
    mtree_load(&real, ours->ws);
    const char *differs = NULL;
    if (!result.applied || theirs_still)
        differs = mtree_compare(&before, &real, false, true);
    else if (ours_still)
        differs = mtree_compare(&theirs->tree, &real, false, true);
    if (differs)
        fail("merge of %s into %s (strategy %d, applied %d): %s", theirs->name, ours->name, options.strategy,
             result.applied, differs);
    if (!result.applied && result.conflict_count == 0 && r == 0 && options.strategy == RAMET_WTAKE_NONE)
        fail("a merge without conflicts was not applied");
    if ((ours_still || theirs_still) && result.conflict_count > 0)
        fail("a conflict with a side that did nothing: %s", result.conflicts[0].path);
    ramet_wmerge_result_free(&result);
    mtree_free(&before);
    /* The model goes on with what came out; nothing is in use there. */
    for (int i = 0; i < ours->tree.count; i++)
        if (ours->tree.nodes[i].id >= 0 && ours->tree.nodes[i].uses > 0)
            ramet_wfile_unuse(ours->ws, i == MROOT ? RAMET_WORKSPACE_ROOT : ours->tree.nodes[i].ino,
                              ours->tree.nodes[i].uses);
    mtree_free(&ours->tree);
    ours->tree = real;
}
