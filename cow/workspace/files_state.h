/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the POSIX operations keep of a head in memory: its counts, the key of its name
 * hashes, and which inodes are in use. It is a member of struct ramet_workspace.
 *
 * The counts and the key are read from the INFO record when a head comes into being and
 * written to it in the change that alters them, so they survive crashes and forks exactly.
 */
#ifndef RAMET_WORKSPACE_FILES_STATE_H
#define RAMET_WORKSPACE_FILES_STATE_H

#include "base/error.h"
#include "base/u64map.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct ramet_workspace;

#define RAMET_WHASH_KEY 16

struct ramet_wfiles {
    uint64_t used_bytes, inodes;       /* the workspace's lock */
    uint8_t hash_key[RAMET_WHASH_KEY]; /* constant; the same in all forks */
    bool open;
    _Atomic bool leftovers;      /* orphans of a crash, of the head it was forked from, or large ones */
    pthread_mutex_t lock;        /* guards the two maps; taken inside the workspace's */
    struct ramet_u64map uses;    /* inode -> uses */
    struct ramet_u64map orphans; /* inodes without a name that are in use */
};

/* Fills an empty tree, and opens it: the root directory of uid:gid, mode 0755. The lock is held exclusively. */
int ramet_wfiles_make(struct ramet_workspace *workspace, uint32_t uid, uint32_t gid, struct ramet_error *err);
/*
 * A head came into being over a tree that holds something (made, forked, recovered, a state, after a rollback): reads
 * the counts. `files` is zeroed before the first time; calling it again begins anew, without uses. The lock is held
 * exclusively, or nobody else knows the workspace yet. What only leftover orphans named goes with the first change.
 */
int ramet_wfiles_open(struct ramet_workspace *workspace, struct ramet_error *err);
void ramet_wfiles_close(struct ramet_workspace *workspace);

#endif
