/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: whichever read, write, sync, change of a name or allocation fails under a step
 * of the scenario, the step succeeds or says what failed, the process goes on and serves
 * all that was acknowledged, and after reopening without faults nothing is wrong.
 *
 * One store is prepared. For each step of the table and each kind of fault, the first
 * call fails, then the second, and so on until the step ends without meeting its fault;
 * each time from the prepared store. After a failed sync the power also goes, taking
 * what that sync was to make durable.
 *
 * usage: test_store_faults [STEP [FAULT]]
 *   RAMET_TEST_SEED=N    replays a run
 *   RAMET_FAULT_ALL=1    every call; else calls are left out the further up they are and the longer it takes
 *   RAMET_FAULT_EVERY=N  about one call in N
 */
#include "base/cleanup.h"
#include "base/file.h"
#include "common.h"
#include "faults.h"
#include "random.h"
#include "replay.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#ifdef __SANITIZE_ADDRESS__
enum { default_every = 20 };
#else
enum { default_every = 1 };
#endif
enum { failures_max = 20, tick_s = 10, patience_ticks = 12 };

static const struct fault {
    const char *name;
    struct fault_plan plan;
} faults[] = {
    {"reads fail from", {FAULT_READ, FAULT_FAIL, 0, EIO, true}},
    {"EIO for read", {FAULT_READ, FAULT_FAIL, 0, EIO, false}},
    {"half of read", {FAULT_READ, FAULT_SHORT, 0, 0, false}},
    {"EIO for write", {FAULT_WRITE, FAULT_FAIL, 0, EIO, false}},
    {"ENOSPC for write", {FAULT_WRITE, FAULT_FAIL, 0, ENOSPC, false}},
    {"ENOSPC from write", {FAULT_WRITE, FAULT_FAIL, 0, ENOSPC, true}},
    {"half of write", {FAULT_WRITE, FAULT_SHORT, 0, 0, false}},
    {"power goes at write", {FAULT_WRITE, FAULT_TORN, 0, 0, false}},
    {"EIO for sync", {FAULT_SYNC, FAULT_FAIL, 0, EIO, false}},
    {"EIO from sync", {FAULT_SYNC, FAULT_FAIL, 0, EIO, true}},
    {"EIO for change of a name", {FAULT_META, FAULT_FAIL, 0, EIO, false}},
    {"ENOSPC from change of a name", {FAULT_META, FAULT_FAIL, 0, ENOSPC, true}},
    {"no memory for allocation", {FAULT_ALLOC, FAULT_FAIL, 0, 0, false}},
    {"no memory from allocation", {FAULT_ALLOC, FAULT_FAIL, 0, 0, true}},
};
enum { fault_count = sizeof faults / sizeof *faults };

struct run {
    uint64_t seed;
    char dir[64], work[80], base[80], lost[80];
    struct scenario prepared; /* closed */
    struct replay *restore;   /* fills `work` from `base` */
    uint64_t work_number;     /* of the directory */
    size_t cases, failed_steps, failures;
    uint64_t slowest_us; /* case of the step */
};

static char current[256]; /* the case under way, for when it crashes or hangs */
static volatile sig_atomic_t ticks;

static void tell(int signal_number)
{
    (void)!write(STDOUT_FILENO, current, strlen(current));
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

/* Counts time in which the process could run: however long it was stopped for, that is one tick. */
static void tick(int signal_number)
{
    if (++ticks == patience_ticks)
        tell(signal_number);
}

static void watch(void)
{
    const struct sigaction action = {.sa_handler = tick, .sa_flags = SA_RESTART};
    const struct itimerval every = {.it_interval.tv_sec = tick_s, .it_value.tv_sec = tick_s};
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &every, NULL);
}

/* --- one case --- */

/* An error has to have a code, which is what was returned, and a message. */
static bool check_error(int r, const struct ramet_error *err, char *problem)
{
    if (r >= 0 || (err->msg[0] && err->code == -r))
        return true;
    snprintf(problem, problem_size, "it returned %d with code %d and message \"%s\"", r, err->code, err->msg);
    return false;
}

/* Opens a directory without faults: nothing may be wrong. */
static bool check_reopened(const char *dir, const struct model *before, const struct model *after, const char *when,
                           char *problem)
{
    struct scenario s;
    struct ramet_error err = {0};
    scenario_init(&s, dir, 0);
    if (scenario_open(&s, &err) < 0)
        return complain(problem, when, err.msg);
    bool ok = check_fsck(&s, problem) && check_model(&s, before, after, true, when, problem);
    scenario_close(&s);
    return ok;
}

/* Goes on in the same process: a collection and a snapshot, each of which may be refused. */
static bool go_on(struct scenario *s, struct model *before, struct model *after, char *problem)
{
    struct scenario more = *s;
    struct ramet_error err = {0};
    more.now = (struct model){0};
    int r = scenario_run(&more, scenario_find("collect"), &err);
    if (!check_error(r, &err, problem))
        return false;
    err = (struct ramet_error){0};
    r = scenario_run(&more, scenario_find("import files"), &err);
    model_merge(before, &more.now);
    model_merge(after, &more.next);
    return check_error(r, &err, problem) && check_model(s, before, after, true, "going on", problem);
}

/* Runs the step under the plan, in `work`. False when something is wrong; *ret_struck tells whether the plan met. */
static bool run_case(struct run *run, const struct scenario_step *step, const struct fault_plan *plan, bool going_on,
                     bool *ret_struck, char *problem)
{
    struct scenario s = run->prepared;
    struct ramet_error err = {0};
    struct fault_log log = {0};
    replay_make(run->restore, 0, REPLAY_KILL, 0);
    faults_begin(run->work);
    faults_record(&log);
    if (scenario_open(&s, &err) < 0)
        return complain(problem, "opening the prepared store", err.msg);
    s.random = run->prepared.random;
    faults_arm(plan);
    int r = scenario_run(&s, step, &err);
    *ret_struck = faults_disarm();
    run->failed_steps += r < 0;
    struct model before = s.now, after = r < 0 ? s.next : s.now;
    bool ok = check_error(r, &err, problem);
    if (ok && s.catalog) {
        ramet_store_drop_caches(s.store);
        ok = check_model(&s, &before, &after, r < 0, "right after it", problem);
        if (ok && going_on)
            ok = go_on(&s, &before, &after, problem);
    }
    scenario_close(&s);
    faults_end();
    ok = ok && check_reopened(run->work, &before, &after, "reopened", problem);
    if (ok && plan->class == FAULT_SYNC) {
        struct replay *replay = replay_new(&log, run->base, run->lost);
        replay_make(replay, log.count, REPLAY_LOST, 0);
        replay_free(replay);
        ok = check_reopened(run->lost, &before, &after, "after a power cut", problem);
        ramet_dir_remove(run->lost, NULL);
    }
    fault_log_free(&log);
    return ok;
}

/* --- all cases --- */

/* The first calls each, then fewer and fewer, or on average one in `every`; few once `slow`. */
static uint64_t next_nth(uint64_t nth, uint64_t every, bool slow, uint64_t drawn)
{
    enum { each_until = 10 };
    if (number_from("RAMET_FAULT_ALL", 0))
        return nth + 1;
    if (slow)
        return nth + 1 + nth + drawn % (nth + 1);
    if (every > 1)
        return nth + 1 + drawn % (2 * every - 1);
    return nth < each_until ? nth + 1 : nth + 1 + drawn % (nth / 4);
}

/* A failing background job of RocksDB's waits for seconds before it goes on: too long to try it at every call. */
static void run_fault(struct run *run, const struct scenario_step *step, const struct fault *fault)
{
    enum { slow_us = 400000 };
    uint64_t every = number_from("RAMET_FAULT_EVERY", default_every), began = ramet_now_us();
    uint64_t seed = mix(run->seed ^ mix((uint64_t)(step - scenario_steps) * fault_count + (uint64_t)(fault - faults)));
    bool struck = true;
    for (uint64_t nth = 1 + seed % every; struck && run->failures < failures_max;
         nth = next_nth(nth, every, ramet_now_us() - began > slow_us, seed)) {
        char problem[problem_size] = "";
        struct fault_plan plan = fault->plan;
        bool going_on = (seed = mix(seed)) >> 40 & 1;
        plan.nth = nth;
        snprintf(current, sizeof current, "died or hung: %s, %s %" PRIu64 "\n", step->name, fault->name, nth);
        ticks = 0;
        run->cases++;
        uint64_t case_began = ramet_now_us();
        bool ok = run_case(run, step, &plan, going_on, &struck, problem);
        uint64_t took = ramet_now_us() - case_began;
        run->slowest_us = took > run->slowest_us ? took : run->slowest_us;
        if (ok)
            continue;
        stop_if_replaced(run->work, run->work_number);
        run->failures++;
        printf("FAIL %s, %s %" PRIu64 "%s: %s\n", step->name, fault->name, nth, going_on ? " (and going on)" : "",
               problem);
    }
}

/* Looks for a state of the generator with which the step does something. */
static bool find_work(struct run *run, const struct scenario_step *step)
{
    char problem[problem_size] = "";
    for (uint64_t i = 0; i < 50; i++) {
        struct scenario s = run->prepared;
        struct ramet_error err = {0};
        replay_make(run->restore, 0, REPLAY_KILL, 0);
        if (scenario_open(&s, &err) < 0) {
            complain(problem, "opening the prepared store", err.msg);
            break;
        }
        uint64_t random = s.random = mix(run->seed + i);
        int r = scenario_run(&s, step, &err);
        scenario_close(&s);
        if (r == 0) {
            run->prepared.random = random;
            return true;
        }
        if (r < 0) {
            complain(problem, "without faults", err.msg);
            break;
        }
    }
    printf("FAIL %s: %s\n", step->name, *problem ? problem : "it never has anything to do");
    run->failures++;
    return false;
}

/* A store with something for each step: snapshots to fork and remove, dead frames, branches with work in them. */
static bool prepare(struct run *run)
{
    static const char *const steps[] = {
        "import layers", "import files",  "fork snapshot", "fork snapshot",   "remove snapshot", "fork twice",
        "tag",           "branch new",    "branch write",  "branch flush",    "branch write",    "branch child",
        "branch write",  "import layers", "fork snapshot", "branch snapshot", "remove snapshot", "remove snapshot",
        "branch write",  "tag",
    };
    struct ramet_error err = {0};
    scenario_init(&run->prepared, run->base, run->seed);
    int r = scenario_open(&run->prepared, &err);
    for (size_t i = 0; i < sizeof steps / sizeof *steps && r >= 0; i++)
        r = scenario_run(&run->prepared, scenario_find(steps[i]), &err);
    scenario_close(&run->prepared);
    /* Branches lose what was not flushed: take in what is there. */
    if (r >= 0)
        r = scenario_open(&run->prepared, &err);
    if (r >= 0)
        r = scenario_run(&run->prepared, scenario_find("reopen"), &err);
    scenario_close(&run->prepared);
    if (r < 0)
        printf("FAIL preparing: %s\n", err.msg);
    snprintf(run->prepared.dir, sizeof run->prepared.dir, "%s", run->work);
    return r >= 0;
}

int main(int argc, char **argv)
{
    static const struct fault_log nothing;
    struct run run = {0};
    watch();
    signal(SIGABRT, tell);
    signal(SIGSEGV, tell);
    run.seed = test_begin(run.dir);
    snprintf(run.base, sizeof run.base, "%s/base", run.dir);
    snprintf(run.work, sizeof run.work, "%s/work", run.dir);
    snprintf(run.lost, sizeof run.lost, "%s/lost", run.dir);
    uint64_t began = ramet_now_us();
    if (!prepare(&run))
        return 1;
    run.restore = replay_new(&nothing, run.base, run.work);
    run.work_number = dir_number(run.work);
    for (size_t i = 0; i < scenario_step_count; i++) {
        if (argc > 1 && strcmp(argv[1], scenario_steps[i].name) != 0)
            continue;
        size_t cases = run.cases;
        uint64_t step_began = ramet_now_us();
        run.slowest_us = 0;
        if (!find_work(&run, &scenario_steps[i]))
            continue;
        for (size_t j = 0; j < fault_count; j++)
            if (argc <= 2 || strcmp(argv[2], faults[j].name) == 0)
                run_fault(&run, &scenario_steps[i], &faults[j]);
        printf("%s: %zu cases in %.1f s, the slowest in %.1f s\n", scenario_steps[i].name, run.cases - cases,
               (double)(ramet_now_us() - step_began) / 1e6, (double)run.slowest_us / 1e6);
    }
    replay_free(run.restore);
    ramet_dir_remove(run.dir, NULL);
    scenario_free_models();
    printf("%zu cases in %.1f s; %zu steps failed, as they may\n", run.cases, (double)(ramet_now_us() - began) / 1e6,
           run.failed_steps);
    printf("%zu passed, %zu failed\n", run.cases - run.failures, run.failures);
    return run.failures > 0;
}
