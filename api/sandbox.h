/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One sandbox: a branch and the VM that runs on it. Private to the service.
 *
 * Locks, in the order they may be taken:
 *   op       one of pause, resume, capture, rollback, promotion or removal at a time; held throughout; a parent's
 *            before a child's
 *   clock    held while the guest's clock is set, and by those who stop the guest (clocks.c)
 *   vm_lock  read: use `vm`; write: set or free it
 *   service lock (service_private.h)  state, reason, lineage, the list of sandboxes
 */
#ifndef RAMET_API_SANDBOX_H
#define RAMET_API_SANDBOX_H

#include "catalog.h"
#include "service.h"
#include "vmm/vmm.h"

#include <pthread.h>
#include <stdatomic.h>

struct ramet_sandbox {
    _Atomic unsigned refs;
    struct ramet_service *service;
    struct ramet_branch
        *branch; /* owned reference; its id and name are the sandbox's, and a promotion changes its name */
    pthread_mutex_t op;
    pthread_mutex_t clock;
    bool clock_due; /* clock; the guest's clock is behind since it was captured or paused */
    pthread_rwlock_t vm_lock;
    struct ramet_vm *vm;             /* vm_lock; NULL once it is gone */
    struct ramet_warmup *warmup;     /* op; owned; NULL: none, or done with */
    struct ramet_image *memory_base; /* op; owned reference; what its memory maps privately */
    struct ramet_image *memory_now;  /* op; owned; its memory as last captured, NULL: the next capture takes all */
    struct ramet_snapshot *still;    /* op; owned; taken while paused, and it has not run since; or NULL */
    /* service lock: */
    struct ramet_snapshot *base; /* owned reference; what it started from, NULL when lost */
    enum ramet_sandbox_state state;
    char reason[256];
    char lineage[RAMET_ID_SIZE]; /* newest snapshot taken of it, else its base: parent of the next */
    unsigned forks;              /* calls under way whose children are not all there */
    /* the lock of clocks.c: */
    struct ramet_sandbox *clock_next;
    bool clock_queued;
    unsigned clock_tries;
};

/* What a sandbox is to be. Strings are borrowed. */
struct ramet_sandbox_plan {
    const char *name;
    const char *parent; /* id of the sandbox it is forked from, or NULL */
    const char *last_snapshot;
    struct ramet_snapshot *base;
    uint64_t memory_bytes;
    unsigned cpus;
    unsigned wait_ms;
    bool no_answer_wait;
    bool start_paused; /* a restore: its guest waits for ramet_sandbox_release */
    uint64_t began_us; /* when the call began, for timings */
};

/*
 * Makes the branch and starts the VM on it; the sandbox is listed as starting. *ret is a reference of the
 * caller's. On failure nothing is left.
 */
int ramet_sandbox_start(struct ramet_service *service, const struct ramet_sandbox_plan *plan,
                        struct ramet_sandbox **ret, struct ramet_child_timing *ret_timing, struct ramet_error *err);
/*
 * The same in steps: begin makes the branch and lists the sandbox; launch starts the VM. In between, or beside the
 * launch of one that starts paused, comes ramet_catalog_branches_record: until that no guest may run. When launch fails
 * the caller removes the sandbox.
 */
int ramet_sandbox_begin(struct ramet_service *service, const struct ramet_sandbox_plan *plan,
                        struct ramet_sandbox **ret, struct ramet_child_timing *ret_timing, struct ramet_error *err);
int ramet_sandbox_launch(struct ramet_sandbox *sandbox, const struct ramet_sandbox_plan *plan,
                         struct ramet_child_timing *timing, struct ramet_error *err);
/*
 * sandbox_vm.c. Starts a VM on the branch as it is, beside one that may run there already and stands still. *ret_memory
 * is what it maps; both are the caller's.
 */
int ramet_sandbox_vm_new(struct ramet_sandbox *sandbox, const struct ramet_sandbox_plan *plan, struct ramet_vm **ret,
                         struct ramet_image **ret_memory, struct ramet_error *err);
/* Lets the guest of one that was started with plan->start_paused run. When it fails the caller removes the sandbox. */
int ramet_sandbox_release(struct ramet_sandbox *sandbox, const struct ramet_sandbox_plan *plan,
                          struct ramet_child_timing *timing, struct ramet_error *err);
/* Waits for the guest agent, unless plan->no_answer_wait; the sandbox is then listed as running. Fails as release. */
int ramet_sandbox_await(struct ramet_sandbox *sandbox, const struct ramet_sandbox_plan *plan,
                        struct ramet_child_timing *timing, struct ramet_error *err);
/* Lists a branch whose VM did not survive the daemon. */
int ramet_sandbox_lost(struct ramet_service *service, struct ramet_branch *branch, struct ramet_error *err);
/* Ends its VM; it stays, stopped. Under op. */
void ramet_sandbox_stop(struct ramet_sandbox *sandbox, const char *reason);
/* Takes it off the list and ends its VM; false when it was not listed. Under op. */
bool ramet_sandbox_retire(struct ramet_sandbox *sandbox, const char *reason);
/* Ends the VM, forgets the branch. */
int ramet_sandbox_remove(struct ramet_sandbox *sandbox, struct ramet_error *err);
/* Ends the VM only; its branch is listed as lost after a restart. */
void ramet_sandbox_end(struct ramet_sandbox *sandbox);

/*
 * sandbox_snapshot.c. Captures and publishes: the whole of a snapshot but for its durability. *ret is a reference
 * of the caller's. enqueue makes it durable in its turn, and the next one of this sandbox grow from it;
 * withdraw takes back one that did not become durable.
 */
int ramet_sandbox_snapshot(struct ramet_sandbox *sandbox, const char *tag, struct ramet_snapshot **ret,
                           uint64_t generations[RAMET_BRANCH_DISKS_MAX], struct ramet_fork_timing *ret_timing,
                           struct ramet_error *err);
int ramet_sandbox_enqueue(struct ramet_sandbox *sandbox, struct ramet_snapshot *snapshot, const uint64_t *generations,
                          struct ramet_error *err);
void ramet_sandbox_withdraw(struct ramet_sandbox *sandbox, struct ramet_snapshot *snapshot);

/* By id or name; a reference of the caller's. */
int ramet_sandbox_find(struct ramet_service *service, const char *ref, struct ramet_sandbox **ret,
                       struct ramet_error *err);
/* All, oldest first, each a reference of the caller's; free the array after the references. */
int ramet_sandbox_list(struct ramet_service *service, struct ramet_sandbox ***ret, size_t *ret_count,
                       struct ramet_error *err);
void ramet_sandbox_unref(struct ramet_sandbox *sandbox); /* NULL is a no-op */
void ramet_sandbox_cleanup(struct ramet_sandbox **sandbox);

bool ramet_sandbox_is_listed(const struct ramet_sandbox *sandbox); /* not removed yet */
/* cost: what its VMM's memory cost is taken from, being known; NULL: it is measured. */
void ramet_sandbox_info_get(struct ramet_sandbox *sandbox, const struct ramet_sandbox_info *cost,
                            struct ramet_sandbox_info *ret);
void ramet_sandbox_set_state(struct ramet_sandbox *sandbox, enum ramet_sandbox_state state, const char *reason);
/* The VM to use, with vm_lock held for reading (give it back with ramet_sandbox_vm_put), or CONFLICT saying why not. */
int ramet_sandbox_vm_get(struct ramet_sandbox *sandbox, struct ramet_vm **ret, struct ramet_error *err);
void ramet_sandbox_vm_put(struct ramet_sandbox *sandbox);

#endif
