/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Jobs are kept in a list: waiting ones first come first served, failed ones until
 * their snapshot is removed. A finished job is freed at once: a snapshot says itself
 * that it is durable. The lock guards the list and is not held while committing.
 */
#include "commit_queue.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "jobs.h"
#include "metrics.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

struct job {
    struct job *next;
    struct ramet_snapshot *snapshot; /* owned reference */
    struct ramet_branch *taken_of;   /* owned reference or NULL */
    uint64_t generations[RAMET_BRANCH_DISKS_MAX];
    uint64_t added_us;
    bool failed;
    struct ramet_error err;
};

struct ramet_commit_queue {
    struct ramet_catalog *catalog;
    struct ramet_jobs *background; /* held for each job from its arrival to its end */
    struct ramet_metrics *metrics;
    pthread_t thread;
    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t changed;
    struct job *jobs;
    bool closing;
};

static void job_free(struct job *job)
{
    ramet_snapshot_unref(job->snapshot);
    ramet_branch_unref(job->taken_of);
    free(job);
}

static struct job *next_waiting(const struct ramet_commit_queue *queue)
{
    struct job *job = queue->jobs;
    while (job && job->failed)
        job = job->next;
    return job;
}

static struct job *find(const struct ramet_commit_queue *queue, const struct ramet_snapshot *snapshot)
{
    struct job *job = queue->jobs;
    while (job && job->snapshot != snapshot)
        job = job->next;
    return job;
}

static void unlink_job(struct ramet_commit_queue *queue, struct job *job)
{
    struct job **at = &queue->jobs;
    while (*at != job)
        at = &(*at)->next;
    *at = job->next;
}

/* Gives every branch that grew from the snapshot the right to be restored from it. */
static void update_branches(struct ramet_commit_queue *queue, const struct job *job)
{
    struct ramet_error err = {0};
    struct ramet_branch **branches = NULL;
    size_t count = 0;
    int r = ramet_catalog_branches_over(queue->catalog, job->snapshot->id, &branches, &count, &err);
    for (size_t i = 0; i < count && r == 0; i++)
        if (branches[i] != job->taken_of)
            r = ramet_catalog_branch_update(queue->catalog, branches[i], job->snapshot, NULL, &err);
    if (r == 0 && job->taken_of)
        r = ramet_catalog_branch_update(queue->catalog, job->taken_of, job->snapshot, job->generations, &err);
    ramet_branches_free(branches, count);
    if (r < 0)
        ramet_warn("snapshot %s is durable, but a branch record was not updated: %s", job->snapshot->id, err.msg);
}

static void run_job(struct ramet_commit_queue *queue, struct job *job)
{
    struct ramet_error err = {0};
    int r = ramet_catalog_commit(queue->catalog, job->snapshot, &err);
    if (r == 0)
        ramet_metrics_observe(queue->metrics, RAMET_DURATION_COMMIT, ramet_now_us() - job->added_us);
    else
        ramet_metrics_count(queue->metrics, RAMET_COUNT_COMMIT_FAILED);
    if (r == 0)
        update_branches(queue, job);
    else
        ramet_warn("%s", err.msg);
    pthread_mutex_lock(&queue->lock);
    job->failed = r < 0;
    job->err = err;
    if (!job->failed)
        unlink_job(queue, job);
    pthread_cond_broadcast(&queue->changed);
    pthread_mutex_unlock(&queue->lock);
    ramet_jobs_release(queue->background);
    if (r == 0)
        job_free(job);
}

static void *run(void *arg)
{
    struct ramet_commit_queue *queue = arg;
    pthread_mutex_lock(&queue->lock);
    for (;;) {
        struct job *job = next_waiting(queue);
        if (!job && queue->closing)
            break;
        if (!job) {
            pthread_cond_wait(&queue->changed, &queue->lock);
            continue;
        }
        pthread_mutex_unlock(&queue->lock);
        run_job(queue, job);
        pthread_mutex_lock(&queue->lock);
    }
    pthread_mutex_unlock(&queue->lock);
    return NULL;
}

int ramet_commit_queue_new(struct ramet_catalog *catalog, struct ramet_jobs *background, struct ramet_metrics *metrics,
                           struct ramet_commit_queue **ret, struct ramet_error *err)
{
    struct ramet_commit_queue *queue = calloc(1, sizeof *queue);
    if (!queue)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for the commit queue");
    queue->catalog = catalog;
    queue->background = background;
    queue->metrics = metrics;
    pthread_mutex_init(&queue->lock, NULL);
    pthread_cond_init(&queue->changed, NULL);
    int r = pthread_create(&queue->thread, NULL, run, queue);
    if (r != 0) {
        free(queue);
        return ramet_error_os(err, r, "cannot start the commit thread");
    }
    *ret = queue;
    return 0;
}

void ramet_commit_queue_free(struct ramet_commit_queue *queue)
{
    if (!queue)
        return;
    pthread_mutex_lock(&queue->lock);
    queue->closing = true;
    pthread_cond_broadcast(&queue->changed);
    pthread_mutex_unlock(&queue->lock);
    pthread_join(queue->thread, NULL);
    while (queue->jobs) {
        struct job *job = queue->jobs;
        queue->jobs = job->next;
        job_free(job);
    }
    pthread_mutex_destroy(&queue->lock);
    pthread_cond_destroy(&queue->changed);
    free(queue);
}

int ramet_commit_queue_add(struct ramet_commit_queue *queue, struct ramet_snapshot *snapshot,
                           struct ramet_branch *taken_of, const uint64_t *generations, struct ramet_error *err)
{
    struct job *job = calloc(1, sizeof *job);
    if (!job)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to queue snapshot %s", snapshot->id);
    job->snapshot = ramet_snapshot_ref(snapshot);
    job->added_us = ramet_now_us();
    if (taken_of) {
        atomic_fetch_add(&taken_of->refs, 1);
        job->taken_of = taken_of;
        memcpy(job->generations, generations, taken_of->disk_count * sizeof *generations);
    }
    ramet_jobs_hold(queue->background);
    pthread_mutex_lock(&queue->lock);
    struct job **at = &queue->jobs;
    while (*at)
        at = &(*at)->next;
    *at = job;
    pthread_cond_broadcast(&queue->changed);
    pthread_mutex_unlock(&queue->lock);
    return 0;
}

int ramet_commit_queue_wait(struct ramet_commit_queue *queue, struct ramet_snapshot *snapshot, struct ramet_error *err)
{
    int r = 0;
    pthread_mutex_lock(&queue->lock);
    struct job *job;
    while ((job = find(queue, snapshot)) && !job->failed)
        pthread_cond_wait(&queue->changed, &queue->lock);
    if (job) {
        if (err)
            *err = job->err;
        r = -job->err.code;
    }
    pthread_mutex_unlock(&queue->lock);
    return r;
}

bool ramet_commit_queue_failure(struct ramet_commit_queue *queue, const struct ramet_snapshot *snapshot, char *msg,
                                size_t size)
{
    pthread_mutex_lock(&queue->lock);
    struct job *job = find(queue, snapshot);
    bool failed = job && job->failed;
    if (failed)
        snprintf(msg, size, "%s", job->err.msg);
    pthread_mutex_unlock(&queue->lock);
    return failed;
}

void ramet_commit_queue_forget(struct ramet_commit_queue *queue, const struct ramet_snapshot *snapshot)
{
    pthread_mutex_lock(&queue->lock);
    struct job *job = find(queue, snapshot);
    if (job && job->failed)
        unlink_job(queue, job);
    else
        job = NULL;
    pthread_mutex_unlock(&queue->lock);
    if (job)
        job_free(job);
}

size_t ramet_commit_queue_length(struct ramet_commit_queue *queue)
{
    size_t length = 0;
    pthread_mutex_lock(&queue->lock);
    for (const struct job *job = queue->jobs; job; job = job->next)
        length += !job->failed;
    pthread_mutex_unlock(&queue->lock);
    return length;
}
