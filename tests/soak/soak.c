/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: hundreds of branches live through days of forks, rollbacks, promotions, removals and kills, under a memory
 * limit, and hold at every instant what a model says; nothing that was durable is lost, and nothing leaks: no
 * descriptor, mapping or memory from one opening of the store to the next, no byte or file in a store that was emptied.
 *
 *     soak [--seed N] [--seconds N] [--branches N] [--limit-mib N]
 *
 * This program never opens the store. Workers do, forked from it one after another: most are killed at a random
 * instant, the others open and close the store a few times. The model is in shared memory (soak.h). The seed replays
 * what is drawn; when a worker is killed, and how its threads run beside each other, is the machine's.
 */
#include "soak.h"

#include "base/file.h"
#include "base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { sessions_max = 4, grown_mappings = 32, grown_bytes = 48 << 20 };

struct options {
    uint64_t seed;
    unsigned seconds, branches, limit_mib;
};

noreturn void soak_fail(const struct soak_model *model, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    flockfile(stdout);
    printf("FAIL: ");
    vprintf(fmt, ap);
    printf("\n      --seed %" PRIu64 ", the store is left in %s\n", model->seed, model->dir);
    fflush(stdout);
    va_end(ap);
    soak_limit_remove(); /* as far as it is ours: a worker leaves it to the program */
    _exit(1);
}

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* --- workers --- */

/* The first session makes threads and buffers that stay; what later ones add is a leak. */
static void check_leaks(const struct soak_model *model, const struct soak_usage *first, const struct soak_usage *later)
{
    if (later->descriptors > first->descriptors)
        soak_fail(model, "%zu descriptors, then %zu", first->descriptors, later->descriptors);
    if (model->tight && later->mappings > first->mappings + grown_mappings)
        soak_fail(model, "%zu mappings, then %zu", first->mappings, later->mappings);
    if (model->tight && later->resident_bytes > first->resident_bytes + grown_bytes)
        soak_fail(model, "%" PRIu64 " bytes resident, then %" PRIu64, first->resident_bytes, later->resident_bytes);
}

/* Lives until it is killed or told to end. */
static void work(struct soak_model *model)
{
    struct soak_usage first = {0}, usage;
    unsigned sessions = 0;
    for (bool last = false; !last; model->sessions++) {
        soak_session(model);
        last = model->last;
        usage = soak_usage();
        if (sessions++ == 0)
            first = usage;
        check_leaks(model, &first, &usage);
        model->working = model->stop = false;
    }
    printf("%u sessions of one worker: descriptors %zu, then %zu; mappings %zu, then %zu; MiB %" PRIu64
           ", then %" PRIu64 "\n",
           sessions, first.descriptors, usage.descriptors, first.mappings, usage.mappings, first.resident_bytes >> 20,
           usage.resident_bytes >> 20);
}

/* An end that the program did not ask for is a failure, and so is being killed for the memory limit. */
static void reap(const struct soak_model *model, pid_t pid, bool killed)
{
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (WIFSIGNALED(status) && !(killed && WTERMSIG(status) == SIGKILL))
        soak_fail(model, "a worker died of signal %d", WTERMSIG(status));
    if (WIFEXITED(status) && WEXITSTATUS(status) != 0) {
        soak_limit_remove();
        exit(1); /* it has said why */
    }
}

static bool has_ended(pid_t pid)
{
    siginfo_t info = {0};
    return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == pid;
}

/* Waits until `flag` is set or the worker has ended. */
static void wait_for(pid_t pid, const atomic_bool *flag)
{
    while (!*flag && !has_ended(pid))
        usleep(2000);
}

/* Sleeps, but not beyond the worker's end. */
static void sleep_beside(pid_t pid, uint64_t ms)
{
    for (uint64_t end = now_ms() + ms; now_ms() < end && !has_ended(pid);)
        usleep(2000);
}

static pid_t start(struct soak_model *model, void (*run)(struct soak_model *model))
{
    model->working = model->stop = model->last = false;
    fflush(stdout);
    pid_t pid = fork();
    if (pid < 0)
        soak_fail(model, "fork: %s", strerror(errno));
    if (pid > 0)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    soak_limit_enter();
    run(model);
    exit(0);
}

/* Sessions one after another in one worker, each with a clean end. */
static void live(struct soak_model *model, uint64_t *random, uint64_t end_ms)
{
    pid_t pid = start(model, work);
    for (unsigned i = 0; i < sessions_max && !model->last; i++) {
        uint64_t before = model->sessions;
        wait_for(pid, &model->working);
        sleep_beside(pid, 1000 + rng_below(random, 3000));
        model->last = i + 1 == sessions_max || (i > 0 && now_ms() > end_ms);
        model->stop = true;
        while (model->sessions == before && !has_ended(pid))
            usleep(2000);
    }
    reap(model, pid, false);
}

/* Mostly while it works, sometimes while it opens the store. */
static void die(struct soak_model *model, uint64_t *random)
{
    pid_t pid = start(model, work);
    if (rng_below(random, 6))
        wait_for(pid, &model->working);
    sleep_beside(pid, rng_below(random, 3000));
    kill(pid, SIGKILL);
    reap(model, pid, true);
}

/* --- the program --- */

static struct options parse(int argc, char **argv)
{
    struct options options = {.seconds = 30, .branches = 200, .limit_mib = 2048};
    ramet_random(&options.seed, sizeof options.seed);
    options.seed >>= 1;
    for (int i = 1; i + 1 < argc; i += 2) {
        uint64_t number = strtoull(argv[i + 1], NULL, 0);
        if (strcmp(argv[i], "--seed") == 0)
            options.seed = number;
        else if (strcmp(argv[i], "--seconds") == 0)
            options.seconds = (unsigned)number;
        else if (strcmp(argv[i], "--branches") == 0)
            options.branches = (unsigned)number;
        else if (strcmp(argv[i], "--limit-mib") == 0)
            options.limit_mib = (unsigned)number;
    }
    return options;
}

static struct soak_model *model_new(const struct options *options, const char *dir)
{
    struct soak_model *model = mmap(NULL, sizeof *model, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (model == MAP_FAILED)
        exit(1);
    model->seed = options->seed;
    model->dir = dir;
    model->branches = options->branches;
#ifndef __SANITIZE_ADDRESS__
    model->tight = true;
#endif
    for (size_t i = 0; i < soak_worlds; i++)
        model->worlds[i].random = mix(options->seed + i);
    return model;
}

static void report(const struct soak_model *model, unsigned workers, unsigned kills, uint64_t ms)
{
    uint64_t total = 0;
    for (size_t i = 0; i < soak_step_count; i++)
        total += model->steps[i];
    printf("%" PRIu64 " steps in %" PRIu64 " s by %u workers, of which %u were killed; %" PRIu64
           " pages written, %" PRIu64 " compared\n",
           total, ms / 1000, workers, kills, model->pages_written, model->pages_checked);
    for (size_t i = 0; i < soak_step_count; i++)
        printf("%s%s %" PRIu64, i ? ", " : "", soak_step_name(i), model->steps[i]);
    printf("\n");
}

int main(int argc, char **argv)
{
    const struct options options = parse(argc, argv);
    char dir[64];
    struct ramet_error err = {0};
    uint64_t random = options.seed, begin = now_ms();
    unsigned workers = 0, kills = 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    ramet_log_set_level(RAMET_LOG_ERROR);
    /* A kill takes no power away: a disk's syncs would only be waited for. */
    snprintf(dir, sizeof dir, "%s/ramet-soak-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (!mkdtemp(dir)) {
        perror(dir);
        return 1;
    }
    const struct soak_usage before = soak_usage();
    struct soak_model *model = model_new(&options, dir);
    bool limited = soak_limit_make((uint64_t)options.limit_mib << 20);
    printf("--seed %" PRIu64 ": %u branches of %d MiB, %s%u MiB\n", options.seed, options.branches,
           soak_memory_bytes >> 20, limited ? "memory limited to " : "no control group to limit memory to ",
           options.limit_mib);
    for (uint64_t end = begin + options.seconds * UINT64_C(1000); now_ms() < end; workers++) {
        if (workers % 5 == 2)
            live(model, &random, end);
        else
            die(model, &random);
        kills += workers % 5 != 2;
    }
    reap(model, start(model, soak_empty), false);
    report(model, workers, kills, now_ms() - begin);
    uint64_t most = soak_limit_remove();
    if (most)
        printf("most memory in use: %" PRIu64 " MiB\n", most >> 20);
    munmap(model, sizeof *model);
    if (soak_usage().descriptors != before.descriptors || waitpid(-1, NULL, WNOHANG) != -1 || errno != ECHILD) {
        printf("FAIL: descriptors or processes are left\n");
        return 1;
    }
    return ramet_dir_remove(dir, &err) < 0;
}
