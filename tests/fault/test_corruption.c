/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One byte of a store changes at random, anywhere: superblock, packs, RocksDB's tables, log, manifest and the rest,
 * overlay logs. Then everything is read. What comes back is what was stored, or an error that says what is hit: never
 * other data, nothing missing without a word, no crash, no hang.
 *
 *     test_corruption [ROUNDS [FIRST [NAME]]]     RAMET_TEST_SEED replays a run; only files with NAME in their path
 *
 * Two stores take turns: one closed properly, one of a killed process. Now and then a collection runs over the damaged
 * store, after which the same must hold; and where the damage to the index kept the store from opening, the index is
 * rebuilt, after which everything must be there.
 *
 * Left out: the overlays' data files. They are a branch's scratch and have no checksum: a page in them may be written
 * again at any time without a flush, so what is there after a crash is legitimately newer than any sum taken at a
 * flush (docs/format.md).
 */
#include "sample.h"
#include "tree.h"

#include "base/log.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { rounds_default = 600, rounds_a_child = 50, seconds_a_round = 60, sample_seed = 7 };

/* Shared with the child that runs a block of rounds, so that a crash can be laid at a round's door. */
struct progress {
    uint64_t round;
    char what[256];
    char step[32];
    uint64_t violations, refused, read_errors, intact, rebuilt, collected;
};

struct run {
    uint64_t seed;
    char dir[64];
    struct tree stores[2]; /* closed, killed */
    struct progress *progress;
};

/* What one round does. */
struct damage {
    uint64_t random;
    const struct tree *store;
    const struct tree_file *file;
    size_t offset;
    uint8_t value;
};

static uint64_t next_random(uint64_t *state) /* splitmix64 */
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static bool begins(const char *name, const char *with) { return strncmp(name, with, strlen(with)) == 0; }

/* --- damage --- */

static const char *only = "";

static bool is_eligible(const struct tree_file *file)
{
    size_t size = strlen(file->name);
    bool log = size > 4 && strcmp(file->name + size - 4, ".log") == 0;
    return file->size > 0 && strstr(file->name, only) && (!begins(file->name, "branches/") || log);
}

/* Half the time any byte of the store alike, half the time any file alike. */
static void choose(struct damage *damage)
{
    uint64_t total = 0, count = 0;
    bool by_file = next_random(&damage->random) % 2;
    for (size_t i = 0; i < damage->store->file_count; i++)
        if (is_eligible(&damage->store->files[i]))
            total += damage->store->files[i].size, count++;
    uint64_t left = next_random(&damage->random) % (by_file ? count : total);
    for (size_t i = 0; i < damage->store->file_count; i++) {
        damage->file = &damage->store->files[i];
        uint64_t weight = !is_eligible(damage->file) ? 0 : by_file ? 1 : damage->file->size;
        if (left < weight)
            break;
        left -= weight;
    }
    damage->offset = by_file ? next_random(&damage->random) % damage->file->size : left;
    uint8_t old = damage->file->bytes[damage->offset];
    uint64_t choice = next_random(&damage->random);
    damage->value = (uint8_t)(old ^ 1u << choice / 2 % 8);
    while (choice % 2 && (damage->value = (uint8_t)next_random(&damage->random)) == old)
        ;
}

static void apply(const struct run *run, const struct damage *damage)
{
    char path[256];
    tree_restore(run->dir, damage->store);
    snprintf(path, sizeof path, "%s/%s", run->dir, damage->file->name);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || pwrite(fd, &damage->value, 1, (off_t)damage->offset) != 1)
        abort();
    close(fd);
}

/* --- judging --- */

/* The first of a round is told, all are counted. */
static void violation(const struct run *run, const char *kind, const char *subject, const char *detail)
{
    static uint64_t told = UINT64_MAX;
    run->progress->violations++;
    if (told == run->progress->round)
        return;
    told = run->progress->round;
    fprintf(stderr, "VIOLATION in round %" PRIu64 " (%s; %s): %s: %s: %s\n", run->progress->round, run->progress->what,
            run->progress->step, kind, subject, detail);
}

/* An error must have a code that says "damaged", and words that say where. */
static void judge_error(const struct run *run, const struct damage *damage, const char *subject, int status,
                        const struct ramet_error *err)
{
    const char *file = damage->file->name;
    const char *names = begins(file, "packs/")      ? "pack "
                        : begins(file, "index/")    ? "index"
                        : begins(file, "branches/") ? ".log"
                                                    : "/store";
    if (status != -RAMET_CORRUPT && status != -RAMET_IO && status != -RAMET_UNSUPPORTED && status != -RAMET_INVALID)
        violation(run, "an odd code", subject, ramet_code_name(status));
    if (err->code != -status || !strstr(err->msg, names))
        violation(run, "an error that does not say what is hit", subject, err->msg);
}

/* Every line is as it was, or an error; none is missing or new. Returns how many are errors. */
static size_t judge_lines(const struct run *run, const struct damage *damage, const struct sample_lines *expected,
                          const struct sample_lines *found, bool intact)
{
    size_t errors = 0;
    for (size_t i = 0; i < expected->count; i++) {
        const struct sample_line *want = &expected->lines[i], *got = sample_find(found, want->name);
        if (!got)
            violation(run, "missing", want->name, want->value);
        else if (got->status < 0) {
            errors++;
            judge_error(run, damage, want->name, got->status, &got->err);
            if (intact)
                violation(run, "an error where nothing is damaged", want->name, got->err.msg);
        } else if (strcmp(got->value, want->value) != 0)
            violation(run, "other data", want->name, got->value);
    }
    if (found->count > expected->count)
        violation(run, "more than was stored", found->lines[found->count - 1].name, "");
    return errors;
}

struct opened {
    struct ramet_store *store;
    struct ramet_catalog *catalog;
};

static int open_store(const struct run *run, struct opened *ret, struct ramet_error *err)
{
    const struct ramet_store_options options = {.threads = 1, .cache_bytes = 4 << 20};
    *ret = (struct opened){0};
    int r = ramet_store_open(run->dir, &options, &ret->store, err);
    return r < 0 ? r : ramet_catalog_open(ret->store, &ret->catalog, err);
}

static void close_store(struct opened *opened)
{
    ramet_catalog_close(opened->catalog);
    ramet_store_close(opened->store);
}

/* fsck must see what a read saw; a collection may change nothing. */
static void judge_collection(const struct run *run, const struct damage *damage, const struct opened *opened,
                             const struct sample_lines *expected, size_t errors)
{
    struct ramet_error err = {0};
    struct ramet_fsck_result fsck = {0};
    struct ramet_gc_result gc;
    struct sample_lines found;
    snprintf(run->progress->step, sizeof run->progress->step, "fsck");
    int r = ramet_catalog_fsck(opened->catalog, &fsck, &err);
    if (r < 0)
        judge_error(run, damage, "fsck", r, &err);
    else if (errors && !fsck.problems)
        violation(run, "fsck found nothing", damage->file->name, "");
    free(fsck.report);
    snprintf(run->progress->step, sizeof run->progress->step, "collection");
    r = ramet_catalog_gc(opened->catalog, &gc, &err);
    if (r < 0)
        judge_error(run, damage, "collection", r, &err);
    ramet_store_drop_caches(opened->store);
    sample_describe(opened->catalog, &found);
    if (judge_lines(run, damage, expected, &found, false) > errors)
        violation(run, "more is damaged than before", damage->file->name, "");
    sample_lines_free(&found);
    run->progress->collected++;
}

static void judge_rebuild(const struct run *run, const struct damage *damage, const struct sample_lines *expected)
{
    struct ramet_error err = {0};
    struct ramet_rebuild_result result;
    struct opened opened = {0};
    snprintf(run->progress->step, sizeof run->progress->step, "rebuild");
    int r = ramet_store_rebuild(run->dir, &result, &err);
    if (r == 0)
        r = open_store(run, &opened, &err);
    if (r < 0)
        violation(run, "no rebuilding", damage->file->name, err.msg);
    else {
        struct sample_lines found;
        sample_describe(opened.catalog, &found);
        judge_lines(run, damage, expected, &found, true);
        sample_lines_free(&found);
    }
    close_store(&opened);
    run->progress->rebuilt++;
}

static void judge(const struct run *run, struct damage *damage, const struct sample_lines *expected)
{
    struct ramet_error err = {0};
    struct sample_lines found;
    struct opened opened;
    snprintf(run->progress->step, sizeof run->progress->step, "opening");
    int r = open_store(run, &opened, &err);
    if (r < 0) {
        judge_error(run, damage, "opening", r, &err);
        run->progress->refused++;
        close_store(&opened);
        if (begins(damage->file->name, "index/") && next_random(&damage->random) % 4 == 0)
            judge_rebuild(run, damage, expected);
        return;
    }
    snprintf(run->progress->step, sizeof run->progress->step, "reading");
    sample_describe(opened.catalog, &found);
    size_t errors = judge_lines(run, damage, expected, &found, false);
    sample_lines_free(&found);
    run->progress->read_errors += errors > 0;
    run->progress->intact += errors == 0;
    if (next_random(&damage->random) % 8 == 0)
        judge_collection(run, damage, &opened, expected, errors);
    close_store(&opened);
}

/* --- rounds --- */

static void describe_whole(const struct run *run, const struct tree *store, struct sample_lines *ret)
{
    struct ramet_error err = {0};
    struct opened opened;
    tree_restore(run->dir, store);
    if (open_store(run, &opened, &err) < 0) {
        fprintf(stderr, "the undamaged store does not open: %s\n", err.msg);
        exit(1);
    }
    sample_describe(opened.catalog, ret);
    close_store(&opened);
}

static void run_rounds(const struct run *run, uint64_t first, uint64_t count)
{
    struct sample_lines expected[2];
    for (int i = 0; i < 2; i++)
        describe_whole(run, &run->stores[i], &expected[i]);
    for (uint64_t round = first; round < first + count; round++) {
        struct damage damage = {.random = run->seed + round, .store = &run->stores[round % 2]};
        next_random(&damage.random);
        choose(&damage);
        run->progress->round = round;
        snprintf(run->progress->what, sizeof run->progress->what, "%s store, %s, byte %zu of %zu: %02x to %02x",
                 round % 2 ? "killed" : "closed", damage.file->name, damage.offset, damage.file->size,
                 damage.file->bytes[damage.offset], damage.value);
        apply(run, &damage);
        alarm(seconds_a_round); /* a hang ends the child */
        judge(run, &damage, &expected[round % 2]);
        alarm(0);
    }
    for (int i = 0; i < 2; i++)
        sample_lines_free(&expected[i]);
}

/* In a child, since this process must stay without threads, and outlive a crash. */
static bool run_child(struct run *run, uint64_t first, uint64_t count)
{
    int status;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        ramet_log_set_level(RAMET_LOG_ERROR);
        run_rounds(run, first, count);
        exit(0);
    }
    waitpid(child, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return true;
    violation(run, "the process ended", strsignal(WIFSIGNALED(status) ? WTERMSIG(status) : 0), "");
    return false;
}

static void make_store(struct run *run, int killed)
{
    int status;
    tree_remove(run->dir);
    pid_t child = fork();
    if (child == 0) {
        sample_make(run->dir, sample_seed, !killed);
        _exit(0);
    }
    waitpid(child, &status, 0);
    if (status != 0)
        exit(1);
    tree_load(run->dir, &run->stores[killed]);
}

int main(int argc, char **argv)
{
    const char *seed = getenv("RAMET_TEST_SEED"), *wanted = getenv("RAMET_CORRUPTIONS");
    uint64_t rounds = argc > 1 ? strtoull(argv[1], NULL, 0) : wanted ? strtoull(wanted, NULL, 0) : rounds_default;
    uint64_t first = argc > 2 ? strtoull(argv[2], NULL, 0) : 0;
    struct stat st;
    struct run run = {0};
    only = argc > 3 ? argv[3] : only;
    run.progress = mmap(NULL, sizeof *run.progress, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (run.progress == MAP_FAILED || (!seed && getrandom(&run.seed, sizeof run.seed, 0) != sizeof run.seed))
        abort();
    run.seed = seed ? strtoull(seed, NULL, 0) : run.seed;
    snprintf(run.dir, sizeof run.dir, "%s/ramet-corruption-XXXXXX", stat("/dev/shm", &st) == 0 ? "/dev/shm" : "/tmp");
    if (!mkdtemp(run.dir))
        abort();
    printf("RAMET_TEST_SEED=%#" PRIx64 " rounds %" PRIu64 " from %" PRIu64 "\n", run.seed, rounds, first);
    make_store(&run, 0);
    make_store(&run, 1);
    for (uint64_t done = 0, some; done < rounds; done += some) {
        some = rounds - done < rounds_a_child ? rounds - done : rounds_a_child;
        if (!run_child(&run, first + done, some))
            some = run.progress->round + 1 - first - done;
    }
    tree_remove(run.dir);
    const struct progress *p = run.progress;
    printf("refused %" PRIu64 ", read with errors %" PRIu64 ", intact %" PRIu64 ", rebuilt %" PRIu64
           ", collected %" PRIu64 ", violations %" PRIu64 "\n",
           p->refused, p->read_errors, p->intact, p->rebuilt, p->collected, p->violations);
    for (int i = 0; i < 2; i++)
        tree_free(&run.stores[i]);
    return p->violations ? 1 : 0;
}
