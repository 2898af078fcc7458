/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The thread that keeps workspaces in shape: checkpoints when much is staged, the journal
 * is long or nothing happens, memory of nodes given back, trees of removed heads freed.
 */
#ifndef RAMET_WORKSPACE_MAINTAIN_H
#define RAMET_WORKSPACE_MAINTAIN_H

#include "tree_private.h"

#include <pthread.h>

struct ramet_workspaces;

struct ramet_wmaintain {
    uint64_t staged_max, journal_max; /* bytes at which a checkpoint begins */
    uint64_t nodes_max;               /* in memory; clean ones beyond go */
    unsigned idle_seconds;            /* without a change, after which one begins */
    pthread_mutex_t lock;             /* guards the next ones */
    pthread_cond_t wake;
    struct ramet_wnode *graves; /* roots to free, linked through `fresh` */
    bool stop, started;
    pthread_t thread;
};

void ramet_wmaintain_init(struct ramet_wmaintain *maintain);
void ramet_wmaintain_destroy(struct ramet_wmaintain *maintain); /* frees what is left */
int ramet_wmaintain_start(struct ramet_workspaces *set, struct ramet_error *err);
void ramet_wmaintain_stop(struct ramet_workspaces *set);
/* Frees a tree behind the caller's back; the tree is empty then. */
void ramet_wmaintain_bury(struct ramet_wmaintain *maintain, struct ramet_wtree *tree);
/* Takes clean leaves that were not used since the last call out of memory. */
void ramet_wmaintain_trim(struct ramet_workspaces *set);

#endif
