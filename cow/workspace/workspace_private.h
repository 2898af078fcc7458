/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the sources of workspaces share.
 *
 * Locks, in the order they may be taken:
 *   maintenance   one checkpoint, collection or trimming at a time
 *   commit.lock   writing the journal, and taking epochs out of the list
 *   gate          (read) held with every workspace's lock; (write) alone, for moments:
 *                 freezing all heads at one instant, forking several, and touching nodes
 *                 that readers look at
 *   lock          of a workspace: (read) to read its tree and pages, (write) to change them
 *   names         the set's list of workspaces
 *   an epoch's slots; commit.queue: records that wait to be written
 *
 * A lock is held across the reading of pages and nodes, never while anything is made
 * durable. No thread takes two workspaces' locks: what looks at two trees shares one with
 * a head of its own first (ramet_workspace_fork, or a state).
 */
#ifndef RAMET_WORKSPACE_PRIVATE_H
#define RAMET_WORKSPACE_PRIVATE_H

#include "base/codec.h"
#include "change.h"
#include "data.h"
#include "files_state.h"
#include "journal.h"
#include "maintain.h"
#include "tree_private.h"
#include "workspace.h"

#include <pthread.h>
#include <stdatomic.h>

struct ramet_wepoch;

/* A head: a workspace, or one state of its history. */
struct ramet_workspace {
    _Atomic unsigned refs;
    struct ramet_workspaces *set;
    uint64_t serial;
    int64_t created_ms;
    char id[RAMET_CATALOG_ID_SIZE]; /* of a state: its workspace's. names lock, and the gate for writing */
    bool is_state;                  /* read-only */
    bool is_view;                   /* a state without name, record and journal, listed among the states (view.h) */
    uint32_t uid, gid;

    pthread_rwlock_t lock; /* guards the next ones */
    struct ramet_wtree tree;
    struct ramet_wtree base; /* the tree it was forked with, if it was: constant. Merging goes by it */
    bool has_base;
    uint64_t owner; /* of staged pages that only this head sees; another one after each fork. Never reused */
    bool removed;
    bool announced; /* the journal knows it */
    bool damaged;   /* its tree could not be brought up to date: every call gives the error */
    char damage[400];
    struct ramet_wfiles files;

    /* names lock */
    char name[RAMET_CATALOG_NAME_SIZE];
    char parent[RAMET_CATALOG_ID_SIZE], sandbox[RAMET_CATALOG_ID_SIZE];
    _Atomic uint64_t quota_bytes, quota_inodes; /* read without it too */
    _Atomic bool audited;                       /* likewise; of a state: its workspace's */
    bool stale; /* its record in the store is not the current one: gate and lock, or gate for writing */
};

struct ramet_wchange;

struct ramet_workspaces {
    struct ramet_catalog *catalog;
    struct ramet_store *store;
    char *dir; /* owned; STORE/workspaces */
    _Atomic uint64_t next_owner, next_ino;

    pthread_mutex_t maintenance; /* guards the next one */
    uint64_t stamp;              /* given to nodes by the last walk over all trees */
    pthread_rwlock_t gate;
    struct ramet_wepoch *epoch; /* gate; the current one, and through `older` those it follows */

    pthread_mutex_t names;                    /* guards the next ones */
    struct ramet_workspace **heads, **states; /* owned; workspaces in name order, states by serial; each a reference */
    size_t head_count, head_capacity, state_count, state_capacity;
    struct ramet_u64map serials; /* serial -> either */

    struct ramet_wcommit commit;
    struct ramet_wmaintain maintain;

    pthread_mutex_t spare_lock;
    struct ramet_wchange *spare; /* idle changes, kept for their memory */
};

/*
 * Exclusively; NOT_FOUND when it was removed, READ_ONLY of a state, and what ended writing if something did. Waits when
 * much is not durable yet.
 */
int ramet_workspace_lock(struct ramet_workspace *workspace, struct ramet_error *err);
/* Shared; NOT_FOUND when it was removed. */
int ramet_workspace_lock_shared(struct ramet_workspace *workspace, struct ramet_error *err);
void ramet_workspace_unlock(struct ramet_workspace *workspace);
/* The tree; the lock is held. */
static inline struct ramet_wtree *ramet_workspace_tree(struct ramet_workspace *workspace) { return &workspace->tree; }
/* A fresh inode number, above RAMET_WORKSPACE_ROOT; NO_SPACE when there are none. */
int ramet_workspace_next_ino(struct ramet_workspace *workspace, uint64_t *ret, struct ramet_error *err);

/* Reads what the store has and replays the journals: the set is as it was, in a new epoch. */
int ramet_wset_recover(struct ramet_workspaces *set, struct ramet_error *err);

/* --- heads --- */

/* A head that nobody knows yet, with one reference, an empty tree, a serial and an id. */
int ramet_whead_new(struct ramet_workspaces *set, struct ramet_workspace **ret, struct ramet_error *err);
/* Makes it known by name and serial; the set takes a reference of its own. EXISTS. Under names. */
int ramet_whead_link(struct ramet_workspace *workspace, struct ramet_error *err);
/* Under names; gives its reference back when the set had one. */
void ramet_whead_unlink(struct ramet_workspace *workspace);
/* What `to`, which nobody knows yet, is made of: the tree of `from`, which no longer owns the pages it wrote. The gate
 * is held, and from's lock or the gate for writing. */
int ramet_whead_branch_off(struct ramet_workspace *from, struct ramet_workspace *to, struct ramet_error *err);
/* Its states are audited as it is. Under names, or nobody knows the set. */
void ramet_whead_audit_states(struct ramet_workspace *workspace);
/* By name; borrowed or NULL. Under names. */
struct ramet_workspace *ramet_whead_named(struct ramet_workspaces *set, const char *name);
/* What a head is, but for its tree, as bytes of a record. Under names. */
void ramet_whead_encode(const struct ramet_workspace *workspace, struct ramet_buf *buf);
/*
 * The item of a head in a record. `from`: the serial of the head whose tree it takes; 0: none; its own: all it has
 * stays. `base_from`: of the head whose base it takes; 0: what it takes is its base. Under names.
 */
int ramet_whead_note(struct ramet_workspace *workspace, uint64_t from, uint64_t base_from,
                     struct ramet_wjrecord **record, struct ramet_error *err);
int ramet_whead_note_drop(uint64_t serial, struct ramet_wjrecord **record, struct ramet_error *err);
/* The first item of a head that takes its tree from nowhere. Takes names. */
int ramet_whead_announce(struct ramet_workspace *workspace, struct ramet_wjrecord **record, struct ramet_error *err);

/* Takes a record's bytes; *workspace is new. CORRUPT when they are none. */
int ramet_whead_decode(struct ramet_reader *reader, struct ramet_workspace *workspace, struct ramet_error *err);

/* --- records in the store (checkpoint.c writes them, recover.c reads them) --- */

enum {
    RAMET_WRECORD_MAGIC = 0x4b574d52 /* "RMWK" */,
    RAMET_WSET_MAGIC = 0x45574d52 /* "RMWE" */,
    RAMET_WRECORD_VERSION = 1
};
#define RAMET_WSET_KEY "set"

#endif
