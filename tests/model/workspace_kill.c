/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process that works on workspaces is killed at a random moment, and what the next one finds is compared with the
 * model:
 *
 *     workspace_kill [--rounds N] [--seed FIRST]
 *
 * All names, attributes and sizes, of all workspaces and states, must be as they were after one and the same operation:
 * at or after the last sync that returned, at or before the last one that began. A byte of a file may be newer than
 * that, as it was at any moment up to the kill, since pages are overwritten in place.
 */
#include "world.h"

#include "base/cleanup.h"
#include "base/file.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { most_ops = 20000 };

struct progress {
    _Atomic uint64_t started, synced; /* operations */
};

/* One operation, the same for a model with a store and without. */
static bool step(struct mworld *world)
{
    uint64_t what = mbelow(world, 1000);
    if (what < 960)
        mworld_step(world, &world->heads[mbelow(world, (uint64_t)world->head_count)]);
    else if (what < 985)
        mworld_step_heads(world);
    else if (what < 995) {
        if (world->set)
            must(ramet_workspaces_sync(world->set, &err));
        return true;
    } else if (what < 997 && world->set) {
        must(ramet_workspaces_checkpoint(world->set, &err));
    }
    return false;
}

static void work(uint64_t seed, const char *dir, struct progress *progress)
{
    struct mworld world;
    mworld_init(&world, seed, dir);
    world.times = false;
    mworld_open(&world, true);
    must(ramet_workspaces_sync(world.set, &err));
    for (uint64_t op = 0; op < most_ops; op++) {
        fail_op = op;
        atomic_store(&progress->started, op + 1);
        if (step(&world))
            atomic_store(&progress->synced, op + 1);
    }
    pause();
}

/* --- what is found --- */

static struct mhead *named(struct mworld *world, const char *name)
{
    for (int i = 0; i < world->head_count; i++)
        if (strcmp(world->heads[i].name, name) == 0)
            return &world->heads[i];
    return NULL;
}

/* All that was found, as a world of its own. */
static void load_world(struct mworld *real, const char *dir)
{
    struct ramet_workspace **list;
    size_t count, state_count;
    mworld_init(real, 0, dir);
    mtree_free(&real->heads[0].tree);
    real->head_count = 0;
    mworld_open(real, false);
    must(ramet_workspaces_list(real->set, &list, &count, &err));
    if (count > MHEADS)
        fail("%zu workspaces were found", count);
    for (size_t i = 0; i < count; i++) {
        struct mhead *head = &real->heads[real->head_count++];
        struct ramet_workspace_info info;
        struct ramet_workspace_state *states;
        ramet_workspace_info(list[i], &info);
        *head = (struct mhead){.ws = ramet_workspace_ref(list[i])};
        snprintf(head->name, sizeof head->name, "%.15s", info.name);
        mtree_load(&head->tree, head->ws);
        must(ramet_workspace_states(head->ws, &states, &state_count, &err));
        for (size_t k = 0; k < state_count; k++) {
            struct ramet_workspace *state;
            /* Of a rollback that the model cleaned up behind at once. */
            if (states[k].name[0] != 's' || k >= MSTATES)
                continue;
            struct mstate *to = &head->states[head->state_count++];
            snprintf(to->name, sizeof to->name, "%.15s", states[k].name);
            must(ramet_workspace_state_open(head->ws, states[k].name, &state, &err));
            mtree_load(&to->tree, state);
            ramet_workspace_unref(state);
        }
        free(states);
    }
    ramet_workspaces_list_free(list, count);
}

static const char *compare_states(const struct mhead *model, const struct mhead *real)
{
    if (model->state_count != real->state_count)
        return "number of states";
    for (int i = 0; i < model->state_count; i++) {
        const char *wrong = "a state is missing";
        for (int k = 0; k < real->state_count && wrong; k++)
            if (strcmp(model->states[i].name, real->states[k].name) == 0)
                wrong = mtree_compare(&model->states[i].tree, &real->states[k].tree, false, false);
        if (wrong)
            return wrong;
    }
    return NULL;
}

static const char *compare_worlds(struct mworld *model, struct mworld *real)
{
    if (model->head_count != real->head_count)
        return "number of workspaces";
    for (int i = 0; i < model->head_count; i++) {
        struct mhead *head = &model->heads[i], *other = named(real, head->name);
        const char *wrong = other ? mtree_compare(&head->tree, &other->tree, false, false) : "a workspace is missing";
        if (!wrong)
            wrong = compare_states(head, other);
        if (wrong)
            return wrong;
    }
    return NULL;
}

static const struct mnode *node_of(const struct mtree *tree, int id)
{
    for (int i = 1; i < tree->count; i++)
        if (tree->nodes[i].id == id)
            return &tree->nodes[i];
    return NULL;
}

/* Each byte is what the file held at the matching moment or at a later one. */
static void check_bytes(const struct mnode *node, const struct mnode *real, struct mworld *worlds, size_t count,
                        const char *head)
{
    const struct mblob *found = real->data;
    _autofree_ bool *known = calloc(found->size + 1, 1);
    for (size_t w = 0; w < count; w++) {
        struct mhead *then = named(&worlds[w], head);
        const struct mnode *version = then ? node_of(&then->tree, node->id) : NULL;
        for (size_t i = 0; version && i < found->size && i < version->data->size; i++)
            known[i] |= found->bytes[i] == version->data->bytes[i];
    }
    for (size_t i = 0; i < found->size; i++)
        if (!known[i])
            fail("byte %zu of file %d in %s is none that it ever was since", i, node->id, head);
}

static void check_dir(const struct mtree *model, const struct mtree *real, int dir, int real_dir, struct mworld *worlds,
                      size_t count, const char *head)
{
    for (int i = 0; i < model->nodes[dir].entry_count; i++) {
        const struct mentry *entry = &model->nodes[dir].entries[i];
        int other = mtree_find(real, real_dir, entry->name);
        if (S_ISDIR(model->nodes[entry->node].mode))
            check_dir(model, real, entry->node, other, worlds, count, head);
        else
            check_bytes(&model->nodes[entry->node], &real->nodes[other], worlds, count, head);
    }
}

static void check(uint64_t seed, const char *dir, uint64_t synced, uint64_t started)
{
    struct mworld model, real, *worlds = calloc(started - synced + 1, sizeof *worlds);
    size_t count = 0, match = SIZE_MAX;
    const char *wrong = NULL;
    char first_wrong[256] = "";
    mworld_init(&model, seed, NULL);
    for (uint64_t op = 0;; op++) {
        if (op >= synced)
            mworld_copy(&worlds[count++], &model);
        if (op == started)
            break;
        step(&model);
    }
    load_world(&real, dir);
    for (size_t i = 0; i < count && match == SIZE_MAX; i++) {
        wrong = compare_worlds(&worlds[i], &real);
        if (!wrong)
            match = i;
        else if (i == 0)
            snprintf(first_wrong, sizeof first_wrong, "%s", wrong);
    }
    if (match == SIZE_MAX)
        fail("what was found is none of operations %llu to %llu; against the first: %s, the last: %s",
             (unsigned long long)synced, (unsigned long long)started, first_wrong, wrong);
    for (int i = 0; i < worlds[match].head_count; i++) {
        struct mhead *head = &worlds[match].heads[i], *found = named(&real, head->name);
        check_dir(&head->tree, &found->tree, MROOT, MROOT, worlds + match, count - match, head->name);
    }
    mworld_close(&real);
    mworld_free(&real);
    mworld_free(&model);
    for (size_t i = 0; i < count; i++)
        mworld_free(&worlds[i]);
    free(worlds);
}

/* --- rounds --- */

/* In a process of its own; how it ended. */
static int child(void (*run)(uint64_t seed, const char *dir, struct progress *progress), uint64_t seed, const char *dir,
                 struct progress *progress, useconds_t kill_after)
{
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        run(seed, dir, progress);
        _exit(0);
    }
    if (kill_after > 0) {
        while (atomic_load(&progress->started) == 0 && waitpid(pid, &status, WNOHANG) == 0)
            usleep(500);
        usleep(kill_after);
        kill(pid, SIGKILL);
    }
    waitpid(pid, &status, 0);
    return status;
}

static void check_in_child(uint64_t seed, const char *dir, struct progress *progress)
{
    check(seed, dir, atomic_load(&progress->synced), atomic_load(&progress->started));
    check(seed, dir, atomic_load(&progress->synced), atomic_load(&progress->started)); /* the same again */
}

int main(int argc, char **argv)
{
    uint64_t rounds = 20, first = (uint64_t)time(NULL), ops = 0;
    struct progress *progress = mmap(NULL, sizeof *progress, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (int i = 1; i + 1 < argc; i += 2) {
        uint64_t value = strtoull(argv[i + 1], NULL, 0);
        if (strcmp(argv[i], "--rounds") == 0)
            rounds = value;
        else if (strcmp(argv[i], "--seed") == 0)
            first = value;
    }
    printf("workspace_kill: seed %llu\n", (unsigned long long)first);
    for (uint64_t round = 0; round < rounds; round++) {
        struct mworld chance = {.random = first + round};
        char dir[] = "/tmp/ramet-model-XXXXXX";
        fail_seed = first + round;
        *progress = (struct progress){0};
        if (progress == MAP_FAILED || !mkdtemp(dir))
            return 1;
        useconds_t after = (useconds_t)(1000 + mbelow(&chance, mbelow(&chance, 2) ? 50000 : 1500000));
        int status = child(work, first + round, dir, progress, after);
        if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
            fail("the working process ended by itself");
        ops += atomic_load(&progress->started);
        if (child(check_in_child, first + round, dir, progress, 0) != 0)
            fail("after %llu operations, %llu of them synced", (unsigned long long)atomic_load(&progress->started),
                 (unsigned long long)atomic_load(&progress->synced));
        must(ramet_dir_remove(dir, &err));
    }
    printf("%llu kills among %llu operations: everything synced was there, everything found was consistent\n",
           (unsigned long long)rounds, (unsigned long long)ops);
    return 0;
}
