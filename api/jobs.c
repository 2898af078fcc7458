/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One lock guards everything but `stop`; it is not held while a job works. A job's thread
 * waits for a request or, for recompression, until the store has been quiet long enough.
 * A scrub keeps where it stands in the index (scrub.c), recompression in the frames it
 * has done: what a stop or a crash interrupts goes on with the next run.
 */
#include "jobs.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { lines_max = 100, default_quiet_ms = 60000 };

struct job {
    struct ramet_jobs *jobs;
    pthread_t thread;
    bool has_thread;
    _Atomic bool stop;
    struct ramet_job_info info; /* without report and, while it runs, duration_us */
    struct ramet_buf report;    /* lines, without a NUL */
    uint64_t lines;             /* in it */
    uint64_t began_us;
};

struct ramet_jobs {
    struct ramet_catalog *catalog;
    struct ramet_jobs_options options;
    pthread_mutex_t lock; /* guards all below, but for the jobs' threads and `stop` */
    pthread_cond_t changed;
    struct job jobs[RAMET_JOB_KINDS];
    unsigned holders;
    bool grown; /* frames may have come since recompression last looked */
    uint64_t quiet_since_us;
    bool closing;
};

const char *ramet_job_state_name(enum ramet_job_state state)
{
    static const char *const names[] = {"none", "running", "finished", "stopped", "failed"};
    return names[state];
}

static const char *name_of(enum ramet_job_kind kind) { return kind == RAMET_JOB_SCRUB ? "scrub" : "recompression"; }

/* --- scrub --- */

/* Appends a line to the report while there is room. Under the lock. */
static void add_line(struct job *job, const char *line, size_t size)
{
    if (job->lines++ >= lines_max)
        return;
    ramet_buf_put(&job->report, line, size);
    ramet_buf_put_u8(&job->report, '\n');
}

static void on_problem(void *ctx, uint64_t frame, const char *line)
{
    struct job *job = ctx;
    (void)frame;
    pthread_mutex_lock(&job->jobs->lock);
    bool told = job->lines < lines_max;
    add_line(job, line, strlen(line));
    pthread_mutex_unlock(&job->jobs->lock);
    if (told)
        ramet_warn("scrub: %s", line);
}

static void show_scrub(struct job *job, const struct ramet_scrub_state *state)
{
    pthread_mutex_lock(&job->jobs->lock);
    job->info.done_frames = state->finished ? state->end_frame : state->next_frame;
    job->info.total_frames = state->end_frame;
    job->info.frames = state->frames;
    job->info.chunks = state->chunks;
    job->info.bytes = state->bytes;
    job->info.problems = state->problems;
    pthread_mutex_unlock(&job->jobs->lock);
}

static bool on_progress(void *ctx, const struct ramet_scrub_state *state)
{
    struct job *job = ctx;
    if (state)
        show_scrub(job, state);
    return atomic_load(&job->stop);
}

/* The final report says what to do, so it takes the place of the lines so far. */
static void set_report(struct job *job, const char *report)
{
    char more[64];
    pthread_mutex_lock(&job->jobs->lock);
    job->report.size = 0;
    job->lines = 0;
    for (const char *end; (end = strchr(report, '\n')); report = end + 1)
        add_line(job, report, (size_t)(end - report));
    if (job->lines > lines_max) {
        int size =
            snprintf(more, sizeof more, "%" PRIu64 " more lines; see 'ramet store fsck'\n", job->lines - lines_max);
        ramet_buf_put(&job->report, more, (size_t)size);
    }
    pthread_mutex_unlock(&job->jobs->lock);
}

static int scrub(struct job *job, const struct ramet_job_request *request, bool *ret_finished, struct ramet_error *err)
{
    const struct ramet_scrub_options options = {.bytes_per_second = request->bytes_per_second,
                                                .resume = true,
                                                .problem = on_problem,
                                                .progress = on_progress,
                                                .ctx = job};
    struct ramet_catalog *catalog = job->jobs->catalog;
    struct ramet_scrub_state state;
    _autofree_ char *report = NULL;
    int r = request->restart ? ramet_store_scrub_restart(ramet_catalog_store(catalog), err) : 0;
    if (r == 0)
        r = ramet_catalog_scrub(catalog, &options, &state, &report, err);
    if (r < 0)
        return r;
    show_scrub(job, &state);
    set_report(job, report);
    *ret_finished = state.finished;
    ramet_info("scrub: %" PRIu64 " frames read, %" PRIu64 " problems%s", state.frames, state.problems,
               state.finished ? "" : "; stopped");
    return 0;
}

/* --- recompression --- */

/* Frames that are stored as in haste. */
static int count_left(struct ramet_jobs *jobs, uint64_t *ret, struct ramet_error *err)
{
    struct ramet_store_stat stat;
    int r = ramet_store_stat(ramet_catalog_store(jobs->catalog), &stat, err);
    if (r == 0)
        *ret = stat.frames - stat.cold_frames;
    return r;
}

static bool wants_stop(void *ctx) { return atomic_load(&((struct job *)ctx)->stop); }

static int recompress(struct job *job, const struct ramet_job_request *request, bool *ret_finished,
                      struct ramet_error *err)
{
    const struct ramet_recompress_options options = {.level = request->level,
                                                     .threads = request->threads,
                                                     .idle = request->automatic,
                                                     .stop = wants_stop,
                                                     .ctx = job};
    struct ramet_jobs *jobs = job->jobs;
    struct ramet_recompress_result result;
    uint64_t total = 0;
    int r = count_left(jobs, &total, err);
    if (r < 0)
        return r;
    pthread_mutex_lock(&jobs->lock);
    job->info.total_frames = total;
    pthread_mutex_unlock(&jobs->lock);
    r = ramet_store_recompress(ramet_catalog_store(jobs->catalog), &options, &result, err);
    if (r < 0)
        return r;
    pthread_mutex_lock(&jobs->lock);
    job->info.done_frames = result.frames;
    job->info.before_bytes = result.before_bytes;
    job->info.after_bytes = result.after_bytes;
    pthread_mutex_unlock(&jobs->lock);
    *ret_finished = !atomic_load(&job->stop);
    ramet_info("recompression: %" PRIu64 " frames, %" PRIu64 " bytes became %" PRIu64 "%s", result.frames,
               result.before_bytes, result.after_bytes, *ret_finished ? "" : "; stopped");
    return 0;
}

/* --- a job's life --- */

/* Under the lock. */
static void begin(struct job *job, const struct ramet_job_request *request)
{
    job->info = (struct ramet_job_info){.state = RAMET_JOB_RUNNING, .request = *request, .started_ms = ramet_now_ms()};
    job->report.size = 0;
    job->lines = 0;
    job->began_us = ramet_now_us();
    atomic_store(&job->stop, false);
}

/* Under the lock. */
static void end(struct job *job, int r, bool finished, const struct ramet_error *err)
{
    job->info.state = r < 0 ? RAMET_JOB_FAILED : finished ? RAMET_JOB_FINISHED : RAMET_JOB_STOPPED;
    job->info.duration_us = ramet_now_us() - job->began_us;
    if (r < 0) {
        job->info.code = err->code;
        snprintf(job->info.reason, sizeof job->info.reason, "%s", err->msg);
        ramet_warn("%s: %s", name_of(job->info.request.kind), err->msg);
    }
    pthread_cond_broadcast(&job->jobs->changed);
}

/* When recompression may begin by itself; 0: not as things are. Under the lock. */
static uint64_t automatic_due(const struct job *job)
{
    const struct ramet_jobs *jobs = job->jobs;
    bool may = job == &jobs->jobs[RAMET_JOB_RECOMPRESS] && jobs->options.recompress_level != RAMET_RECOMPRESS_OFF;
    return may && jobs->grown && !jobs->holders ? jobs->quiet_since_us + jobs->options.quiet_ms * UINT64_C(1000) : 0;
}

/* Begins when there is something to do. Under the lock, which it drops meanwhile. */
static void begin_automatic(struct job *job)
{
    struct ramet_jobs *jobs = job->jobs;
    const struct ramet_job_request request = {
        .kind = RAMET_JOB_RECOMPRESS, .level = jobs->options.recompress_level, .threads = 1, .automatic = true};
    uint64_t left = 0;
    jobs->grown = false;
    pthread_mutex_unlock(&jobs->lock);
    int r = count_left(jobs, &left, NULL);
    pthread_mutex_lock(&jobs->lock);
    if (r < 0 || left == 0 || jobs->closing || job->info.state == RAMET_JOB_RUNNING)
        return;
    if (jobs->holders)
        jobs->grown = true;
    else
        begin(job, &request);
}

/* Waits until the job is to run; false when it never will again. Under the lock. */
static bool await(struct job *job)
{
    struct ramet_jobs *jobs = job->jobs;
    while (!jobs->closing && job->info.state != RAMET_JOB_RUNNING) {
        uint64_t due = automatic_due(job);
        const struct timespec until = {(time_t)(due / 1000000), (long)(due % 1000000) * 1000};
        if (due == 0)
            pthread_cond_wait(&jobs->changed, &jobs->lock);
        else if (due > ramet_now_us())
            pthread_cond_timedwait(&jobs->changed, &jobs->lock, &until);
        else
            begin_automatic(job);
    }
    return !jobs->closing;
}

static void *work(void *arg)
{
    struct job *job = arg;
    pthread_mutex_lock(&job->jobs->lock);
    while (await(job)) {
        const struct ramet_job_request request = job->info.request;
        struct ramet_error err = {0};
        bool finished = false;
        pthread_mutex_unlock(&job->jobs->lock);
        int r = request.kind == RAMET_JOB_SCRUB ? scrub(job, &request, &finished, &err)
                                                : recompress(job, &request, &finished, &err);
        pthread_mutex_lock(&job->jobs->lock);
        end(job, r, finished, &err);
    }
    pthread_mutex_unlock(&job->jobs->lock);
    return NULL;
}

/* --- all jobs --- */

int ramet_jobs_new(struct ramet_catalog *catalog, const struct ramet_jobs_options *options, struct ramet_jobs **ret,
                   struct ramet_error *err)
{
    struct ramet_jobs *jobs = calloc(1, sizeof *jobs);
    pthread_condattr_t monotonic;
    if (!jobs)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for background jobs");
    jobs->catalog = catalog;
    jobs->options = *options;
    jobs->options.quiet_ms = options->quiet_ms ? options->quiet_ms : default_quiet_ms;
    jobs->grown = true; /* what an earlier daemon left */
    jobs->quiet_since_us = ramet_now_us();
    pthread_mutex_init(&jobs->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&jobs->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    int r = 0;
    for (size_t i = 0; i < RAMET_JOB_KINDS; i++)
        jobs->jobs[i].jobs = jobs;
    for (size_t i = 0; i < RAMET_JOB_KINDS && r == 0; i++) {
        r = pthread_create(&jobs->jobs[i].thread, NULL, work, &jobs->jobs[i]);
        jobs->jobs[i].has_thread = r == 0;
    }
    if (r != 0) {
        ramet_jobs_free(jobs);
        return ramet_error_os(err, r, "cannot start a thread for background jobs");
    }
    *ret = jobs;
    return 0;
}

void ramet_jobs_close(struct ramet_jobs *jobs)
{
    if (!jobs)
        return;
    pthread_mutex_lock(&jobs->lock);
    jobs->closing = true;
    for (size_t i = 0; i < RAMET_JOB_KINDS; i++)
        atomic_store(&jobs->jobs[i].stop, true);
    pthread_cond_broadcast(&jobs->changed);
    pthread_mutex_unlock(&jobs->lock);
}

void ramet_jobs_free(struct ramet_jobs *jobs)
{
    if (!jobs)
        return;
    ramet_jobs_close(jobs);
    for (size_t i = 0; i < RAMET_JOB_KINDS; i++) {
        if (jobs->jobs[i].has_thread)
            pthread_join(jobs->jobs[i].thread, NULL);
        ramet_buf_free(&jobs->jobs[i].report);
    }
    pthread_mutex_destroy(&jobs->lock);
    pthread_cond_destroy(&jobs->changed);
    free(jobs);
}

/* Tells it to end and waits. Under the lock. */
static void end_running(struct job *job)
{
    while (job->info.state == RAMET_JOB_RUNNING && !job->jobs->closing) {
        atomic_store(&job->stop, true);
        pthread_cond_wait(&job->jobs->changed, &job->jobs->lock);
    }
}

int ramet_jobs_start(struct ramet_jobs *jobs, const struct ramet_job_request *request, struct ramet_error *err)
{
    struct job *job = &jobs->jobs[request->kind];
    const char *command = request->kind == RAMET_JOB_SCRUB ? "scrub" : "recompress";
    int r = 0;
    pthread_mutex_lock(&jobs->lock);
    if (job->info.request.automatic)
        end_running(job);
    if (jobs->closing) {
        r = ramet_error_set(err, RAMET_UNAVAILABLE, "the daemon is stopping");
    } else if (job->info.state == RAMET_JOB_RUNNING) {
        ramet_error_set(err, RAMET_BUSY, "a %s of this store runs already", name_of(request->kind));
        r = ramet_error_hint(err, "'ramet store %s --status' shows it, '--stop' ends it", command);
    } else {
        begin(job, request);
        pthread_cond_broadcast(&jobs->changed);
    }
    pthread_mutex_unlock(&jobs->lock);
    return r;
}

void ramet_jobs_stop(struct ramet_jobs *jobs, enum ramet_job_kind kind)
{
    pthread_mutex_lock(&jobs->lock);
    end_running(&jobs->jobs[kind]);
    pthread_mutex_unlock(&jobs->lock);
}

int ramet_jobs_get(struct ramet_jobs *jobs, enum ramet_job_kind kind, struct ramet_job_info *ret,
                   struct ramet_error *err)
{
    struct job *job = &jobs->jobs[kind];
    uint64_t left;
    pthread_mutex_lock(&jobs->lock);
    struct ramet_job_info info = job->info;
    bool running = info.state == RAMET_JOB_RUNNING;
    info.request.kind = kind;
    if (running)
        info.duration_us = ramet_now_us() - job->began_us;
    info.report = strndup(job->report.size ? (const char *)job->report.data : "", job->report.size);
    pthread_mutex_unlock(&jobs->lock);
    if (!info.report)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to tell of a job");
    /* What is done is what is not left: frames that came meanwhile count against it. */
    if (running && kind == RAMET_JOB_RECOMPRESS && count_left(jobs, &left, NULL) == 0)
        info.done_frames = info.total_frames > left ? info.total_frames - left : 0;
    *ret = info;
    return 0;
}

uint64_t ramet_jobs_quiet_us(struct ramet_jobs *jobs)
{
    pthread_mutex_lock(&jobs->lock);
    uint64_t quiet_us = jobs->holders ? 0 : ramet_now_us() - jobs->quiet_since_us;
    pthread_mutex_unlock(&jobs->lock);
    return quiet_us;
}

struct ramet_jobs *ramet_jobs_hold(struct ramet_jobs *jobs)
{
    struct job *job = &jobs->jobs[RAMET_JOB_RECOMPRESS];
    pthread_mutex_lock(&jobs->lock);
    jobs->holders++;
    if (job->info.state == RAMET_JOB_RUNNING && job->info.request.automatic)
        atomic_store(&job->stop, true);
    pthread_mutex_unlock(&jobs->lock);
    return jobs;
}

void ramet_jobs_release(struct ramet_jobs *jobs)
{
    pthread_mutex_lock(&jobs->lock);
    jobs->holders--;
    jobs->grown = true;
    jobs->quiet_since_us = ramet_now_us();
    pthread_cond_broadcast(&jobs->changed);
    pthread_mutex_unlock(&jobs->lock);
}

void ramet_jobs_cleanup(struct ramet_jobs **jobs) { ramet_jobs_release(*jobs); }
