/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: background jobs run one of a kind at a time, stop when told, and recompression keeps out of everyone's way. */
#include "testing.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "jobs.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum { page_count = 4096, quiet_ms = 50 };

struct fixture {
    char dir[64];
    struct ramet_store *store;
    struct ramet_catalog *catalog;
    struct ramet_jobs *jobs;
};

static struct ramet_error err;

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    test_dir_make(f->dir);
    check_ok(ramet_store_open(f->dir, NULL, &f->store, &err));
    check_ok(ramet_catalog_open(f->store, &f->catalog, &err));
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    ramet_jobs_free(f->jobs);
    ramet_catalog_close(f->catalog);
    ramet_store_close(f->store);
    test_dir_remove(f->dir);
    free(f);
    return 0;
}

static void begin_jobs(struct fixture *f, int level)
{
    const struct ramet_jobs_options options = {.recompress_level = level, .quiet_ms = quiet_ms};
    check_ok(ramet_jobs_new(f->catalog, &options, &f->jobs, &err));
}

/* Pages made of the same few thousand words, as text is: the harder one looks the better they compress. */
static void fill_store(struct fixture *f)
{
    _autofree_ uint8_t *pages = calloc(page_count, RAMET_PAGE_SIZE);
    _autofree_ ramet_chunk *chunks = calloc(page_count, sizeof *chunks);
    struct ramet_ingest *ingest;
    uint8_t words[2048][8];
    test_fill(words, sizeof words);
    for (size_t i = 0; i < (size_t)page_count * RAMET_PAGE_SIZE; i += sizeof words[0])
        memcpy(pages + i, words[test_below(2048)], sizeof words[0]);
    check_ok(ramet_ingest_begin(f->store, &ingest, &err));
    check_ok(ramet_ingest_put(ingest, RAMET_CHUNK_DATA, pages, page_count, NULL, chunks, &err));
    check_ok(ramet_ingest_commit(ingest, NULL, &err));
    ramet_ingest_end(ingest);
}

static struct ramet_job_info get(struct fixture *f, enum ramet_job_kind kind)
{
    struct ramet_job_info info;
    check_ok(ramet_jobs_get(f->jobs, kind, &info, &err));
    free(STEAL(info.report));
    return info;
}

static void pause_ms(long ms) { nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL); }

/* Asks until the job is in that state, for a minute. */
static struct ramet_job_info await_state(struct fixture *f, enum ramet_job_kind kind, enum ramet_job_state state)
{
    struct ramet_job_info info = get(f, kind);
    for (int i = 0; i < 6000 && info.state != state; i++, info = get(f, kind))
        pause_ms(10);
    if (info.state != state)
        fail_msg("%s, not %s", ramet_job_state_name(info.state), ramet_job_state_name(state));
    return info;
}

static bool all_cold(struct fixture *f)
{
    struct ramet_store_stat stat;
    check_ok(ramet_store_stat(f->store, &stat, &err));
    return stat.cold_frames == stat.frames;
}

static void a_scrub_is_alone_and_stops_when_told(void **state)
{
    struct fixture *f = *state;
    struct ramet_job_request request = {.kind = RAMET_JOB_SCRUB, .bytes_per_second = 1 << 20};
    fill_store(f);
    begin_jobs(f, RAMET_RECOMPRESS_OFF);
    assert_int_equal(get(f, RAMET_JOB_SCRUB).state, RAMET_JOB_NONE);
    check_ok(ramet_jobs_start(f->jobs, &request, &err));
    check_fails(ramet_jobs_start(f->jobs, &request, &err), RAMET_BUSY);
    assert_non_null(strstr(err.hint, "scrub --status"));
    ramet_jobs_stop(f->jobs, RAMET_JOB_SCRUB);
    struct ramet_job_info stopped = get(f, RAMET_JOB_SCRUB);
    assert_int_equal(stopped.state, RAMET_JOB_STOPPED);
    ramet_jobs_stop(f->jobs, RAMET_JOB_SCRUB); /* nothing runs: no error */
    request.bytes_per_second = 0;
    check_ok(ramet_jobs_start(f->jobs, &request, &err));
    struct ramet_job_info whole = await_state(f, RAMET_JOB_SCRUB, RAMET_JOB_FINISHED);
    assert_int_equal(whole.chunks, page_count);
    assert_int_equal(whole.done_frames, whole.total_frames);
    assert_true(whole.frames > stopped.frames);
    request.bytes_per_second = 1 << 16; /* the end of the test stops it within a second */
    check_ok(ramet_jobs_start(f->jobs, &request, &err));
}

static void recompression_waits_for_quiet_and_makes_way(void **state)
{
    struct fixture *f = *state;
    begin_jobs(f, 19);
    ramet_jobs_hold(f->jobs);
    fill_store(f);
    pause_ms(4 * quiet_ms); /* in which nothing may happen */
    assert_int_equal(get(f, RAMET_JOB_RECOMPRESS).state, RAMET_JOB_NONE);
    ramet_jobs_release(f->jobs);
    struct ramet_job_info info = await_state(f, RAMET_JOB_RECOMPRESS, RAMET_JOB_RUNNING);
    assert_true(info.request.automatic);
    ramet_jobs_hold(f->jobs);
    await_state(f, RAMET_JOB_RECOMPRESS, RAMET_JOB_STOPPED);
    assert_false(all_cold(f));
    ramet_jobs_release(f->jobs);
    await_state(f, RAMET_JOB_RECOMPRESS, RAMET_JOB_RUNNING);
    const struct ramet_job_request request = {.kind = RAMET_JOB_RECOMPRESS, .level = 3, .threads = 2};
    check_ok(ramet_jobs_start(f->jobs, &request, &err)); /* one that was asked for goes first */
    info = await_state(f, RAMET_JOB_RECOMPRESS, RAMET_JOB_FINISHED);
    assert_false(info.request.automatic);
    assert_true(info.after_bytes < info.before_bytes);
    assert_true(all_cold(f));
    ramet_jobs_release(ramet_jobs_hold(f->jobs)); /* nothing came: it looks and leaves it at that */
    pause_ms(4 * quiet_ms);
    assert_false(get(f, RAMET_JOB_RECOMPRESS).request.automatic);
}

static void what_an_earlier_daemon_left_is_recompressed(void **state)
{
    struct fixture *f = *state;
    fill_store(f);
    begin_jobs(f, 1);
    struct ramet_job_info info = await_state(f, RAMET_JOB_RECOMPRESS, RAMET_JOB_FINISHED);
    assert_true(info.request.automatic);
    assert_true(all_cold(f));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_scrub_is_alone_and_stops_when_told, setup, teardown),
        cmocka_unit_test_setup_teardown(recompression_waits_for_quiet_and_makes_way, setup, teardown),
        cmocka_unit_test_setup_teardown(what_an_earlier_daemon_left_is_recompressed, setup, teardown),
    };
    return cmocka_run_group_tests_name("jobs", tests, NULL, NULL);
}
