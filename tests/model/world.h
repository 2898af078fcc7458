/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A model of several workspaces and what is done to them at random. One seed gives one
 * sequence of operations, with a store beside the model or without: choices depend on the
 * model alone.
 */
#ifndef RAMET_TESTS_MODEL_WORLD_H
#define RAMET_TESTS_MODEL_WORLD_H

#include "tree.h"

#include "workspace/files.h"

enum { MHEADS = 6, MSTATES = 3 };

struct mstate {
    char name[16];
    struct mtree tree;
};

struct mhead {
    char name[16], parent[16];
    struct mtree tree, base; /* base: what it was forked with */
    bool has_base;
    struct mstate states[MSTATES];
    int state_count;
    struct ramet_workspace *ws; /* NULL without a store */
};

struct mworld {
    struct mhead heads[MHEADS];
    int head_count;
    int next_id, next_name;
    uint64_t random; /* the generator's state */
    bool times;      /* compared too: not where the store lives in another process */
    /* The store, or NULL. */
    char dir[64];
    struct ramet_store *store;
    struct ramet_catalog *catalog;
    struct ramet_workspaces *set;
};

_Noreturn void fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
extern uint64_t fail_seed, fail_op; /* what fail() names */
extern _Atomic uint64_t fail_drawn; /* random bytes that the store was given */
/* A call that must succeed. */
#define must(call)                                                                                                     \
    do {                                                                                                               \
        if ((call) < 0)                                                                                                \
            fail("%s: %s (%s)", #call, err.msg, err.hint);                                                             \
    } while (0)
extern struct ramet_error err;

uint64_t mrandom(struct mworld *world);
uint64_t mbelow(struct mworld *world, uint64_t limit);

void mworld_init(struct mworld *world, uint64_t seed, const char *dir /* or NULL */);
void mworld_open(struct mworld *world, bool fresh); /* the store, and each head's workspace */
void mworld_close(struct mworld *world);
void mworld_free(struct mworld *world);
void mworld_copy(struct mworld *to, const struct mworld *from); /* the model only */

/* One random operation on the files of a head. */
void mworld_step(struct mworld *world, struct mhead *head);
/* One operation on heads: fork, remove, keep a state, roll back. */
void mworld_step_heads(struct mworld *world);

/* --- comparing (compare.c) --- */

/* Takes what the workspace holds into an empty tree; ids are inode numbers. */
void mtree_load(struct mtree *tree, struct ramet_workspace *ws);
/* NULL when they are equal, path by path; else what differs. `ids`: hard links must be the same ones. */
const char *mtree_compare(const struct mtree *model, const struct mtree *real, bool times, bool content);
/* Every workspace and state against its model. */
void mworld_check(struct mworld *world);
/* A diff of two heads says what their models say. */
void mworld_check_diff(struct mworld *world);
/* Merges a head into another one, with a strategy now and then; the model follows. */
void mworld_merge(struct mworld *world);

#endif
