/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: wherever the process is killed or the power goes, opening the store again finds
 * all that was acknowledged, what was under way whole or not at all, and nothing wrong.
 *
 * A scenario is recorded once: every write, sync and change of a name or size, and after
 * each step that succeeded the model. Then the directory is made as it would be after a
 * crash at each of those operations, opened, checked by fsck and against the model, and
 * on some of them used further: until it is closed, or, with what a torn crash left,
 * until the next crash. What is found then is all that was acknowledged in either life, and
 * what opening had made of the step the first crash cut off: recovering from it must leave
 * nothing that a second crash could use against it.
 *
 * usage: test_crash_points
 *   RAMET_TEST_SEED=N          replays a run (RocksDB's threads may still shift a few operations)
 *   RAMET_FAULT_ALL=1          every variant of a crash at every operation, not one drawn for each
 *   RAMET_FAULT_EVERY=N        about one operation in N only; 1: the whole run, one in 3 when it is not set
 *   RAMET_FAULT_BOUNDARIES=N   how long the scenario is, in operations
 */
#include "base/cleanup.h"
#include "base/file.h"
#include "common.h"
#include "faults.h"
#include "random.h"
#include "replay.h"

#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#ifdef __SANITIZE_ADDRESS__
enum { default_every = 6 };
#else
enum { default_every = 3 };
#endif
enum { default_boundaries = 2600, failures_max = 10 };

/* The operations of one step, and what holds when it is done. */
struct mark {
    size_t from, to;
    const char *step;
    struct model after;
};

struct run {
    uint64_t seed;
    char dir[64];
    struct fault_log log;
    struct mark *marks;
    size_t mark_count;
    uint64_t target_number; /* of the directory */
    size_t points, of_variant[REPLAY_VARIANTS], used, rebuilt, crashed_again, failures;
};

/* Whether a crash right after it differs from one before: the info log is never read. */
static bool is_boundary(const struct fault_op *op)
{
    const char *name = strrchr(op->path, '/');
    return op->kind != FAULT_OP_FOUND && strncmp(name ? name + 1 : op->path, "LOG", 3) != 0;
}

/* --- recording --- */

static struct mark *mark_add(struct run *run, size_t capacity)
{
    if (run->mark_count == capacity) {
        fprintf(stderr, "the scenario takes more than %zu steps\n", capacity);
        abort();
    }
    return &run->marks[run->mark_count++];
}

/* Runs steps until there are enough boundaries. False when a step failed, though nothing was wrong. */
static bool record(struct run *run, const char *dir, uint64_t boundaries)
{
    struct scenario s;
    struct ramet_error err = {0};
    size_t capacity = boundaries * 4, counted = 0, found = 0;
    run->marks = faults_calloc(capacity, sizeof *run->marks);
    scenario_init(&s, dir, run->seed);
    faults_begin(dir);
    faults_record(&run->log);
    struct mark *mark = mark_add(run, capacity);
    const struct scenario_step opening = {.name = "opening"}, *step = &opening;
    int r = scenario_open(&s, &err);
    *mark = (struct mark){.step = opening.name, .to = faults_recorded()};
    while (r >= 0 && found < boundaries) {
        step = scenario_draw(&s);
        size_t from = faults_recorded();
        if ((r = scenario_run(&s, step, &err)) == 0) {
            mark = mark_add(run, capacity);
            *mark = (struct mark){.from = from, .to = faults_recorded(), .step = step->name, .after = s.now};
        }
        for (; counted < faults_recorded(); counted++)
            found += is_boundary(&run->log.ops[counted]);
    }
    scenario_close(&s);
    faults_end();
    if (r < 0)
        printf("FAIL %s: %s\n", step->name, err.msg);
    return r >= 0;
}

/* --- checking one point --- */

static bool check_all(struct scenario *s, const struct model *before, const struct model *after, const char *when,
                      char *problem)
{
    return check_fsck(s, problem) && check_model(s, before, after, true, when, problem);
}

/* The store goes on: a snapshot is put, a collection runs, and all of it is there after reopening. */
static bool use_further(struct scenario *s, const struct model *before, const struct model *after, char *problem)
{
    struct ramet_error err = {0};
    struct model both = *before, both_after = *after;
    if (scenario_run(s, scenario_find("import files"), &err) != 0)
        return complain(problem, "a new snapshot", err.msg);
    model_merge(&both, &s->now);
    model_merge(&both_after, &s->now);
    if (scenario_run(s, scenario_find("collect"), &err) != 0)
        return complain(problem, "collecting after the crash", err.msg);
    if (scenario_run(s, scenario_find("reopen"), &err) != 0)
        return complain(problem, "opening a second time", err.msg);
    return check_all(s, &both, &both_after, "used further", problem);
}

/* What is done with what a crash left. */
enum use {
    USE_OPEN,
    USE_FURTHER, /* opened, and gone on with */
    USE_REBUILD, /* the index is lost as well */
    USE_CRASH,   /* opened, gone on with, and crashed again */
};

/* Opens what a crash left and compares: `before` was acknowledged, the step to `after` was under way. */
static bool check_point(const char *dir, const struct model *before, const struct model *after, uint64_t seed,
                        enum use use, char *problem)
{
    struct scenario s;
    struct ramet_error err = {0};
    char index[128];
    scenario_init(&s, dir, seed);
    s.names = 1u << 20; /* none of the recorded ones */
    snprintf(index, sizeof index, "%s/index", dir);
    if (use == USE_REBUILD && (ramet_dir_remove(index, &err) < 0 || scenario_rebuild(&s, &err) < 0))
        return complain(problem, "rebuilding", err.msg);
    if (use != USE_REBUILD && scenario_open(&s, &err) < 0)
        return complain(problem, "opening", err.msg);
    bool ok = check_all(&s, before, after, use == USE_REBUILD ? "rebuilt" : "opened", problem);
    if (ok && use == USE_FURTHER)
        ok = use_further(&s, before, after, problem);
    scenario_close(&s);
    return ok;
}

/* --- a second life, which ends in a crash too --- */

static const char *const second_steps[] = {"import files", "fork snapshot", "collect", "import layers", "collect"};
enum { second_mark_count = 1 + sizeof second_steps / sizeof *second_steps };

/*
 * Lives on with what the first crash left, recorded; the marks say what the second life had acknowledged when. Opening
 * decides what became of the step that was under way: from then on `before` and `after` agree on snapshots and tags.
 * Merging the second life into models that do not would be wrong when a step under way in each life moves the same tag:
 * it may name what it did before, what the first life gave it or what the second did, and two models hold two of these.
 */
static bool live_on(const char *dir, uint64_t seed, struct fault_log *log, struct mark marks[second_mark_count],
                    struct model *before, struct model *after, char *problem)
{
    struct scenario s;
    struct ramet_error err = {0};
    scenario_init(&s, dir, seed);
    s.names = 1u << 20;
    faults_begin(dir);
    faults_record(log);
    int r = scenario_open(&s, &err);
    marks[0] = (struct mark){.step = "opening", .to = faults_recorded()};
    bool sound = r < 0 || check_model(&s, before, after, true, "opened to live on", problem);
    if (r >= 0 && sound)
        r = model_settle(s.catalog, before, after, &err);
    for (size_t i = 1; i < second_mark_count && r >= 0 && sound; i++) {
        const char *step = second_steps[i - 1];
        r = scenario_run(&s, scenario_find(step), &err);
        marks[i] = (struct mark){.step = step, .from = marks[i - 1].to, .to = faults_recorded(), .after = s.now};
    }
    scenario_close(&s);
    faults_end();
    return sound && (r >= 0 || complain(problem, "living on", err.msg));
}

/* A crash within or after the step that ends at `mark`, to which `mark[-1]` was acknowledged. */
static bool crash_again(struct replay *replay, const char *dir, const struct mark *mark, const struct model *before,
                        const struct model *after, uint64_t *seed, char *problem)
{
    static const enum replay_variant variants[] = {REPLAY_TORN, REPLAY_LOST, REPLAY_KILL};
    char found[problem_size] = "";
    enum replay_variant variant = variants[rng_below(seed, REPLAY_VARIANTS)];
    bool done = variant != REPLAY_TORN && rng_below(seed, 2);
    size_t count = done ? mark->to : mark->from + 1 + rng_below(seed, mark->to - mark->from);
    struct model both = *before, both_after = *after;
    model_merge(&both, done ? &mark->after : &mark[-1].after);
    model_merge(&both_after, &mark->after);
    replay_make(replay, count, variant, rng_next(seed));
    if (check_point(dir, &both, &both_after, *seed, USE_OPEN, found))
        return true;
    snprintf(problem, problem_size, "the second life, %s operation %zu (%s): %.500s", replay_variant_name(variant),
             count, mark->step, found);
    return false;
}

static bool check_second_life(const char *dir, const struct model *before, const struct model *after, uint64_t seed,
                              char *problem)
{
    char again[128];
    struct fault_log log = {0};
    struct mark marks[second_mark_count] = {0};
    struct model settled = *before, settled_after = *after;
    snprintf(again, sizeof again, "%s.again", dir);
    struct replay *replay = replay_new(&log, dir, again);
    bool ok = live_on(dir, seed, &log, marks, &settled, &settled_after, problem);
    for (size_t i = 1; i < second_mark_count && ok; i++)
        if (marks[i].to > marks[i].from)
            ok = crash_again(replay, again, &marks[i], &settled, &settled_after, &seed, problem);
    replay_free(replay);
    fault_log_free(&log);
    ramet_dir_remove(again, NULL);
    return ok;
}

/* --- all points --- */

/* Makes what failed once more, for a person to look at. */
static void keep(struct run *run, size_t count, enum replay_variant variant, uint64_t seed)
{
    char path[128];
    snprintf(path, sizeof path, "%s.failed", run->dir);
    struct replay *replay = replay_new(&run->log, NULL, path);
    replay_make(replay, count, variant, seed);
    replay_free(replay);
    printf("     %s is what the crash left\n", path);
}

/* The newest step that was done after `count` whole operations; `mark_count` when not even the first was. */
static size_t newest_done(const struct run *run, size_t count)
{
    size_t low = 0, high = run->mark_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (run->marks[middle].to <= count)
            low = middle + 1;
        else
            high = middle;
    }
    return low ? low - 1 : run->mark_count;
}

static void visit(struct run *run, struct replay *replay, const char *target, size_t count, enum replay_variant variant)
{
    static const struct model nothing;
    char problem[problem_size] = "", what[512];
    uint64_t seed = mix(run->seed + count * REPLAY_VARIANTS + variant);
    /* An operation torn in its middle is no reason to acknowledge anything. */
    size_t done = newest_done(run, variant == REPLAY_TORN ? count - 1 : count);
    size_t under_way = done == run->mark_count ? 0 : done + 1;
    const struct model *before = under_way ? &run->marks[done].after : &nothing, *after = before;
    const char *step = "between steps";
    if (under_way < run->mark_count && run->marks[under_way].from < count) {
        after = &run->marks[under_way].after;
        step = run->marks[under_way].step;
    }
    /* Until the packs are synced again, a power cut may take from them what the index has. */
    bool rebuild = variant == REPLAY_KILL && under_way > 0 && seed % 8 == 1;
    bool crash = variant == REPLAY_TORN && seed % 4 == 2;
    enum use use = rebuild ? USE_REBUILD : crash ? USE_CRASH : seed % 4 == 0 ? USE_FURTHER : USE_OPEN;
    replay_make(replay, count, variant, seed);
    run->points++;
    run->of_variant[variant]++;
    run->used += use == USE_FURTHER;
    run->rebuilt += use == USE_REBUILD;
    run->crashed_again += use == USE_CRASH;
    if (use == USE_CRASH ? check_second_life(target, before, after, seed, problem)
                         : check_point(target, before, after, seed, use, problem))
        return;
    stop_if_replaced(target, run->target_number);
    fault_op_describe(&run->log.ops[count - 1], what, sizeof what);
    printf("FAIL %s operation %zu of %zu, the %s (%s): %s\n", replay_variant_name(variant), count, run->log.count, what,
           step, problem);
    if (run->failures++ == 0)
        keep(run, count, variant, seed);
}

static void visit_all(struct run *run, const char *target)
{
    static const enum replay_variant order[] = {REPLAY_TORN, REPLAY_LOST, REPLAY_KILL}; /* replays only go forward */
    uint64_t every = number_from("RAMET_FAULT_EVERY", default_every);
    bool all = number_from("RAMET_FAULT_ALL", 0);
    struct replay *replay = replay_new(&run->log, NULL, target);
    run->target_number = dir_number(target);
    for (size_t count = 1; count <= run->log.count && run->failures < failures_max; count++) {
        uint64_t drawn = mix(run->seed ^ mix(count));
        if (!is_boundary(&run->log.ops[count - 1]) || (!all && drawn / REPLAY_VARIANTS % every))
            continue;
        for (size_t i = 0; i < REPLAY_VARIANTS; i++)
            if (all || order[i] == drawn % REPLAY_VARIANTS)
                visit(run, replay, target, count, order[i]);
    }
    replay_free(replay);
}

/* --- is the recording complete? --- */

static const char *compared, *compared_with;
static bool differs;

static int compare_entry(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    char other[512];
    struct stat other_st;
    struct ramet_error err = {0};
    (void)kind;
    if (strncmp(path + ftw->base, "LOG", 3) == 0 || S_ISDIR(st->st_mode))
        return 0;
    snprintf(other, sizeof other, "%s%s", compared_with, path + strlen(compared));
    _autoclose_ int a = open(path, O_RDONLY | O_CLOEXEC), b = open(other, O_RDONLY | O_CLOEXEC);
    bool same = a >= 0 && b >= 0 && fstat(b, &other_st) == 0 && st->st_size == other_st.st_size;
    size_t size = (size_t)st->st_size;
    _autofree_ uint8_t *bytes = faults_calloc(2, size);
    same = same && ramet_file_read(a, path, bytes, size, 0, &err) == 0 &&
           ramet_file_read(b, other, bytes + size, size, 0, &err) == 0 && memcmp(bytes, bytes + size, size) == 0;
    if (!same)
        printf("FAIL the replay of all operations differs in %s\n", path);
    differs |= !same;
    return 0;
}

static bool same_files(const char *a, const char *b)
{
    const char *dirs[2] = {a, b};
    differs = false;
    for (int i = 0; i < 2; i++) {
        compared = dirs[i];
        compared_with = dirs[!i];
        nftw(dirs[i], compare_entry, 16, FTW_PHYS);
    }
    return !differs;
}

/* A call that changes files and is not taken over would make every other check here worthless. */
static bool recording_is_complete(struct run *run, const char *live, const char *target)
{
    struct replay *replay = replay_new(&run->log, NULL, target);
    replay_make(replay, run->log.count, REPLAY_KILL, 0);
    replay_free(replay);
    return same_files(live, target);
}

int main(void)
{
    struct run run = {0};
    char live[80], target[80];
    struct ramet_error err = {0};
    run.seed = test_begin(run.dir);
    snprintf(live, sizeof live, "%s/live", run.dir);
    snprintf(target, sizeof target, "%s/crash", run.dir);
    uint64_t began = ramet_now_us();
    bool recorded = record(&run, live, number_from("RAMET_FAULT_BOUNDARIES", default_boundaries));
    printf("%zu operations of %zu steps recorded in %.1f s\n", run.log.count, run.mark_count,
           (double)(ramet_now_us() - began) / 1e6);
    recorded = recorded && recording_is_complete(&run, live, target);
    began = ramet_now_us();
    visit_all(&run, target);
    printf("%zu points in %.1f s: %zu kills, %zu power cuts, %zu power cuts with torn writes; %zu used further, "
           "%zu crashed again, %zu rebuilt\n",
           run.points, (double)(ramet_now_us() - began) / 1e6, run.of_variant[REPLAY_KILL], run.of_variant[REPLAY_LOST],
           run.of_variant[REPLAY_TORN], run.used, run.crashed_again, run.rebuilt);
    ramet_dir_remove(run.dir, &err);
    fault_log_free(&run.log);
    scenario_free_models();
    free(run.marks);
    printf("%zu passed, %zu failed\n", run.points - run.failures, run.failures + !recorded);
    return run.failures || !recorded;
}
