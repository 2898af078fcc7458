/* SPDX-License-Identifier: Apache-2.0 */
#include "maintain.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "epoch.h"
#include "workspace_private.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

enum { retry_seconds = 30 };

void ramet_wmaintain_init(struct ramet_wmaintain *maintain)
{
    pthread_condattr_t monotonic;
    *maintain = (struct ramet_wmaintain){
        .staged_max = UINT64_C(1) << 30, .journal_max = 64 << 20, .nodes_max = 64 << 10, .idle_seconds = 10};
    pthread_mutex_init(&maintain->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&maintain->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

/* --- freeing --- */

void ramet_wmaintain_bury(struct ramet_wmaintain *maintain, struct ramet_wtree *tree)
{
    struct ramet_wnode *root = atomic_exchange(&tree->root, NULL);
    if (!root || root->level == 0 || atomic_load(&root->refs) > 1) {
        ramet_wnode_unref(root);
        return;
    }
    pthread_mutex_lock(&maintain->lock);
    root->fresh = (uintptr_t)maintain->graves;
    maintain->graves = root;
    pthread_mutex_unlock(&maintain->lock);
}

static void free_graves(struct ramet_wmaintain *maintain)
{
    pthread_mutex_lock(&maintain->lock);
    struct ramet_wnode *root = maintain->graves;
    maintain->graves = NULL;
    pthread_mutex_unlock(&maintain->lock);
    while (root) {
        struct ramet_wnode *next = (struct ramet_wnode *)(uintptr_t)root->fresh;
        ramet_wnode_unref(root);
        root = next;
    }
}

void ramet_wmaintain_destroy(struct ramet_wmaintain *maintain)
{
    free_graves(maintain);
    pthread_cond_destroy(&maintain->wake);
    pthread_mutex_destroy(&maintain->lock);
}

/* --- trimming --- */

/* Takes the children out that may go. The gate is held for writing. */
static void trim_children(struct ramet_wnode *node)
{
    for (unsigned i = 0; i < ramet_wpage_count(node->page); i++) {
        struct ramet_wnode *child = atomic_load(&node->children[i]);
        if (!child || child->dirty || atomic_exchange(&child->used, false))
            continue;
        ramet_wnode_set_child_chunk(node, i, child->chunk);
        atomic_store(&node->children[i], NULL);
        ramet_wnode_unref(child);
    }
}

/* One node above leaves, at or after *cursor, which becomes the bound of the next; false when there is none. */
static bool trim_some(struct ramet_wtree *tree, struct ramet_wbytes *cursor)
{
    struct ramet_wnode *node = atomic_load(&tree->root);
    struct ramet_wbytes next = {0};
    bool more = false;
    while (node && node->level) {
        unsigned at = ramet_wpage_child(node->page, cursor);
        if (node->level > 1 && at + 1 < ramet_wpage_count(node->page)) {
            struct ramet_wrecord record = ramet_wpage_record(node->page, at + 1);
            next.size = record.key_size;
            memcpy(next.bytes, record.key, record.key_size);
            more = true;
        }
        if (node->level == 1)
            trim_children(node);
        node = node->level > 1 ? atomic_load(&node->children[at]) : NULL;
    }
    *cursor = next;
    return more;
}

static void trim_tree(struct ramet_workspaces *set, struct ramet_wtree *tree)
{
    struct ramet_wbytes cursor = {0};
    for (bool more = true; more;) {
        pthread_rwlock_wrlock(&set->gate);
        more = trim_some(tree, &cursor);
        pthread_rwlock_unlock(&set->gate);
    }
}

/* All heads, each a reference; owned. */
static struct ramet_workspace **list_all(struct ramet_workspaces *set, size_t *ret_count)
{
    pthread_mutex_lock(&set->names);
    size_t count = set->head_count + set->state_count;
    struct ramet_workspace **all = calloc(count + 1, sizeof *all);
    for (size_t i = 0; all && i < count; i++)
        all[i] = ramet_workspace_ref(i < set->head_count ? set->heads[i] : set->states[i - set->head_count]);
    pthread_mutex_unlock(&set->names);
    *ret_count = all ? count : 0;
    return all;
}

void ramet_wmaintain_trim(struct ramet_workspaces *set)
{
    size_t count;
    pthread_mutex_lock(&set->maintenance);
    struct ramet_workspace **all = list_all(set, &count);
    for (size_t i = 0; i < count; i++) {
        trim_tree(set, &all[i]->tree);
        trim_tree(set, &all[i]->base);
        ramet_workspace_unref(all[i]);
    }
    free(all);
    pthread_mutex_unlock(&set->maintenance);
}

/* --- the thread --- */

struct watch {
    uint64_t sequence, changed_us, retry_us;
};

/* Whether a checkpoint should begin now. */
static bool is_due(struct ramet_workspaces *set, struct watch *watch)
{
    const struct ramet_wmaintain *maintain = &set->maintain;
    uint64_t now = ramet_now_us();
    pthread_mutex_lock(&set->commit.queue);
    struct ramet_wepoch *epoch = set->epoch;
    uint64_t sequence = set->commit.sequence;
    bool dirty = sequence > epoch->begin_sequence || epoch->older;
    uint64_t staged = atomic_load(&epoch->next_slot) * RAMET_PAGE_SIZE, journal = atomic_load(&epoch->journal.end);
    pthread_mutex_unlock(&set->commit.queue);
    if (sequence != watch->sequence) {
        watch->sequence = sequence;
        watch->changed_us = now;
    }
    bool idle = now - watch->changed_us >= maintain->idle_seconds * UINT64_C(1000000);
    return dirty && now >= watch->retry_us &&
           (idle || staged >= maintain->staged_max || journal >= maintain->journal_max);
}

static void tick(struct ramet_workspaces *set, struct watch *watch)
{
    struct ramet_error err = {0};
    free_graves(&set->maintain);
    if (is_due(set, watch) && ramet_workspaces_checkpoint(set, &err) < 0) {
        ramet_warn("workspaces were not put into the store, the journal grows: %s", err.msg);
        watch->retry_us = ramet_now_us() + retry_seconds * UINT64_C(1000000);
    }
    if (ramet_wnode_total() > set->maintain.nodes_max)
        ramet_wmaintain_trim(set);
}

static bool pause_for_a_second(struct ramet_wmaintain *maintain)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec++;
    pthread_mutex_lock(&maintain->lock);
    while (!maintain->stop && pthread_cond_timedwait(&maintain->wake, &maintain->lock, &until) == 0)
        ;
    bool stop = maintain->stop;
    pthread_mutex_unlock(&maintain->lock);
    return !stop;
}

static void *run(void *ctx)
{
    struct ramet_workspaces *set = ctx;
    struct watch watch = {.changed_us = ramet_now_us()};
    /* Those who wait for an answer come first; the threads of a checkpoint inherit it. */
    setpriority(PRIO_PROCESS, 0, 10);
    while (pause_for_a_second(&set->maintain))
        tick(set, &watch);
    return NULL;
}

int ramet_wmaintain_start(struct ramet_workspaces *set, struct ramet_error *err)
{
    int error = pthread_create(&set->maintain.thread, NULL, run, set);
    if (error)
        return ramet_error_os(err, error, "cannot start the thread that maintains workspaces");
    set->maintain.started = true;
    return 0;
}

void ramet_wmaintain_stop(struct ramet_workspaces *set)
{
    struct ramet_wmaintain *maintain = &set->maintain;
    if (!maintain->started)
        return;
    pthread_mutex_lock(&maintain->lock);
    maintain->stop = true;
    pthread_cond_signal(&maintain->wake);
    pthread_mutex_unlock(&maintain->lock);
    pthread_join(maintain->thread, NULL);
    maintain->started = false;
}
