/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: wherever the process is killed, the power goes, or a write, sync or allocation
 * fails, opening the workspaces again finds every change that was synced, of those after
 * it the first ones and none in part, and forks as they were when they were made.
 *
 * Change k of workspace "a" puts k into a counter, into one of some records and onto one
 * of eight pages. So the counter tells which changes are there, and all else must be as
 * after exactly these; a page may have been overwritten in place by a later one, but not
 * in a fork.
 *
 * usage: test_workspace_faults
 *   RAMET_TEST_SEED=N          replays a run
 *   RAMET_FAULT_POINTS=N       how many crash points and failing calls of each kind are tried
 */
#include "base/cleanup.h"
#include "base/file.h"
#include "common.h"
#include "faults.h"
#include "random.h"
#include "replay.h"
#include "workspace/change.h"
#include "workspace/data.h"
#include "workspace/workspace_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { steps = 260, forks_max = 64, records = 60, pages = 8, page_size = 4096, failures_max = 10 };
#ifdef __SANITIZE_ADDRESS__
enum { default_points = 60 };
#else
enum { default_points = 250 };
#endif

struct mark {
    size_t from, to;          /* recorded operations */
    uint64_t durable, issued; /* changes that were synced, that were made */
};

struct fork {
    char name[32];
    uint64_t version;
    int made, made_durable, removed, removed_durable; /* step, or INT_MAX */
};

struct life {
    char dir[64];
    struct ramet_store *store;
    struct ramet_catalog *catalog;
    struct ramet_workspaces *set;
    struct mark marks[steps + 1];
    int count; /* of marks */
    uint64_t version;
    struct fork forks[forks_max];
    int fork_count;
    uint64_t random;
};

static uint64_t failures;

/* --- the workspaces --- */

static int open_all(struct life *life, struct ramet_error *err)
{
    int r = ramet_store_open(life->dir, NULL, &life->store, err);
    if (r == 0)
        r = ramet_catalog_open(life->store, &life->catalog, err);
    return r < 0 ? r : ramet_workspaces_open(life->catalog, &life->set, err);
}

static void close_all(struct life *life)
{
    ramet_workspaces_close(STEAL(life->set));
    ramet_catalog_close(STEAL(life->catalog));
    ramet_store_close(STEAL(life->store));
}

static void key_of(struct ramet_wkey *key, uint64_t ino, enum ramet_wtype type)
{
    *key = (struct ramet_wkey){.ino = ino, .type = (uint8_t)type, .sub_size = 8};
}

static void fill_page(uint8_t *page, uint64_t version)
{
    memset(page, 0, page_size);
    for (size_t i = 0; i < page_size; i += 512)
        memcpy(page + i, &version, sizeof version);
}

/* Which change a page holds; UINT64_MAX: torn. */
static uint64_t page_version(const uint8_t *page)
{
    uint64_t version;
    uint8_t expected[page_size];
    memcpy(&version, page, sizeof version);
    fill_page(expected, version);
    return memcmp(page, expected, page_size) == 0 ? version : UINT64_MAX;
}

static int get_refs(struct ramet_workspace *ws, ramet_wref refs[pages], struct ramet_error *err)
{
    struct ramet_wkey key;
    struct ramet_wvalue value = {0};
    key_of(&key, 100, RAMET_WTYPE_BLOCKS);
    int r = ramet_wtree_get(ramet_workspace_tree(ws), &key, &value, err);
    memset(refs, 0, pages * sizeof *refs);
    if (r == 0)
        memcpy(refs, value.bytes, value.size);
    return r == -RAMET_NOT_FOUND ? 0 : r;
}

static int put_change(struct ramet_workspace *ws, uint64_t version, struct ramet_error *err)
{
    ramet_wref refs[pages];
    struct ramet_wchange *change;
    struct ramet_wkey key;
    uint8_t page[page_size];
    int r = get_refs(ws, refs, err);
    ramet_wref before = refs[version % pages];
    fill_page(page, version);
    if (r == 0)
        r = ramet_wdata_write(ws, &refs[version % pages], 1, page, err);
    if (r == 0)
        r = ramet_wchange_begin(ws, &change, err);
    if (r < 0)
        return r;
    key_of(&key, 100, RAMET_WTYPE_BLOCKS);
    ramet_wchange_put(change, &key, refs, sizeof refs);
    key_of(&key, 200, RAMET_WTYPE_XATTR);
    ramet_wchange_put(change, &key, &version, sizeof version);
    uint8_t value[400] = {0};
    memcpy(value, &version, sizeof version);
    key_of(&key, 300 + version % records, RAMET_WTYPE_XATTR);
    ramet_wchange_put(change, &key, value, sizeof value);
    r = ramet_wchange_apply(change, err);
    if (r == 0 && before != refs[version % pages])
        ramet_wdata_release(ws, &before, 1);
    return r;
}

static int write_one(struct life *life, struct ramet_error *err)
{
    struct ramet_workspace *ws;
    int r = ramet_workspace_find(life->set, "a", &ws, err);
    if (r < 0)
        return r;
    if ((r = ramet_workspace_lock(ws, err)) == 0) {
        r = put_change(ws, life->version + 1, err);
        ramet_workspace_unlock(ws);
    }
    life->version += r == 0;
    ramet_workspace_unref(ws);
    return r;
}

/* --- the life --- */

static int fork_one(struct life *life, int step, struct ramet_error *err)
{
    struct ramet_workspace *ws, *made;
    if (life->fork_count == forks_max)
        return 0;
    struct fork *fork = &life->forks[life->fork_count];
    *fork = (struct fork){.version = life->version, .made = step};
    fork->made_durable = fork->removed = fork->removed_durable = INT32_MAX;
    snprintf(fork->name, sizeof fork->name, "f%d", life->fork_count);
    int r = ramet_workspace_find(life->set, "a", &ws, err);
    if (r < 0)
        return r;
    r = ramet_workspace_fork(ws, fork->name, &made, err);
    if (r == 0)
        ramet_workspace_unref(made);
    life->fork_count += r == 0;
    ramet_workspace_unref(ws);
    return r;
}

static int remove_one(struct life *life, int step, struct ramet_error *err)
{
    struct ramet_workspace *ws;
    int i = life->fork_count ? (int)rng_below(&life->random, (uint64_t)life->fork_count) : 0;
    if (life->fork_count == 0 || life->forks[i].removed != INT32_MAX)
        return 0;
    int r = ramet_workspace_find(life->set, life->forks[i].name, &ws, err);
    if (r < 0)
        return r;
    r = ramet_workspace_remove(ws, err);
    if (r == 0)
        life->forks[i].removed = step;
    ramet_workspace_unref(ws);
    return r;
}

/* All that was done is durable since this step. */
static void note_durable(struct life *life, int step)
{
    life->marks[step].durable = life->version;
    for (int i = 0; i < life->fork_count; i++) {
        struct fork *fork = &life->forks[i];
        if (fork->made_durable == INT32_MAX)
            fork->made_durable = step;
        if (fork->removed != INT32_MAX && fork->removed_durable == INT32_MAX)
            fork->removed_durable = step;
    }
}

static int run_step(struct life *life, int step, struct ramet_error *err)
{
    uint64_t what = rng_below(&life->random, 100);
    struct ramet_gc_result result;
    int r = 0;
    if (what < 60)
        return write_one(life, err);
    if (what < 70)
        return fork_one(life, step, err);
    if (what < 75)
        return remove_one(life, step, err);
    if (what < 92)
        r = ramet_workspaces_sync(life->set, err);
    else if (what < 97)
        r = ramet_workspaces_checkpoint(life->set, err);
    else
        return ramet_catalog_gc(life->catalog, &result, err);
    if (r == 0)
        note_durable(life, step);
    return r;
}

/* Until a step fails or all are done. A step that failed may have been done or not. */
static int live(struct life *life, struct ramet_error *err)
{
    struct ramet_workspace *ws;
    int r = 0;
    life->marks[0].to = faults_recorded();
    for (int step = 1; step <= steps && r == 0; step++) {
        struct mark *mark = &life->marks[step];
        *mark = (struct mark){.from = faults_recorded(), .durable = life->marks[step - 1].durable};
        if (step == 1) {
            r = ramet_workspace_create(life->set, "a", 0, 0, &ws, err);
            if (r == 0) {
                ramet_workspace_unref(ws);
                r = ramet_workspaces_sync(life->set, err);
            }
        } else {
            r = run_step(life, step, err);
        }
        mark->issued = life->version + (r < 0);
        mark->to = faults_recorded();
        life->count = step;
    }
    return r;
}

/* --- checking --- */

static bool wrong(const char *when, const char *fmt, uint64_t a, uint64_t b)
{
    char text[200];
    snprintf(text, sizeof text, fmt, (unsigned long long)a, (unsigned long long)b);
    printf("FAIL %s: %s\n", when, text);
    failures++;
    return false;
}

/* The newest change up to `version` that is the same modulo `of`. */
static uint64_t newest(uint64_t version, uint64_t slot, uint64_t of)
{
    if (version < slot || version == 0)
        return 0;
    uint64_t found = version - (version - slot) % of;
    return found;
}

/* The workspace is as after changes up to its counter; *ret is that. */
static bool check_one(struct ramet_workspace *ws, uint64_t issued, bool in_place, const char *when, uint64_t *ret)
{
    struct ramet_error err = {0};
    struct ramet_wkey key;
    struct ramet_wvalue value;
    ramet_wref refs[pages];
    uint8_t buf[pages * page_size];
    uint64_t version = 0;
    if (ramet_workspace_lock_shared(ws, &err) < 0) {
        printf("FAIL %s: %s\n", when, err.msg);
        return wrong(when, "a workspace cannot be read", 0, 0);
    }
    key_of(&key, 200, RAMET_WTYPE_XATTR);
    if (ramet_wtree_get(ramet_workspace_tree(ws), &key, &value, &err) == 0)
        memcpy(&version, value.bytes, sizeof version);
    int r = get_refs(ws, refs, &err);
    if (r == 0)
        r = ramet_wdata_read(ws, refs, pages, buf, &err);
    bool ok = r == 0 || wrong(err.msg, "pages cannot be read", 0, 0);
    for (uint64_t i = 0; i < pages && ok; i++) {
        uint64_t held = page_version(buf + i * page_size), expected = newest(version, i, pages);
        uint64_t next = newest(issued + 1, i, pages); /* may have been on its way into the page */
        bool later =
            in_place && next > version && (held == UINT64_MAX || (held > version && held <= next && held % pages == i));
        if (held != expected && !later)
            ok = wrong(when, "a page holds change %llu, not %llu", held, expected);
    }
    for (uint64_t i = 0; i < records && ok; i++) {
        uint64_t expected = newest(version, i, records), held = 0;
        key_of(&key, 300 + i, RAMET_WTYPE_XATTR);
        if (ramet_wtree_get(ramet_workspace_tree(ws), &key, &value, &err) == 0)
            memcpy(&held, value.bytes, sizeof held);
        if (held != expected)
            ok = wrong(when, "a record holds change %llu, not %llu", held, expected);
    }
    ramet_workspace_unlock(ws);
    *ret = version;
    return ok;
}

static bool check_fork(struct life *life, const struct fork *fork, int done, const char *when)
{
    struct ramet_error err = {0};
    struct ramet_workspace *ws;
    uint64_t version = 0;
    bool there = ramet_workspace_find(life->set, fork->name, &ws, &err) == 0;
    bool must = fork->made_durable <= done && fork->removed > done + 1;
    bool may = fork->made <= done + 1 && fork->removed_durable > done;
    if (there != must && there != may)
        return wrong(when, there ? "a fork is there that was removed or not made" : "a fork that was synced is missing",
                     0, 0);
    if (!there)
        return true;
    bool ok =
        check_one(ws, 0, false, when, &version) &&
        (version == fork->version || wrong(when, "a fork is as after change %llu, not %llu", version, fork->version));
    ramet_workspace_unref(ws);
    return ok;
}

/* After `done` steps, the next one perhaps under way. */
static bool check(struct life *opened, const struct life *lived, int done, const char *when)
{
    struct ramet_error err = {0};
    struct ramet_workspace *ws;
    uint64_t version = 0;
    uint64_t issued = lived->marks[done < lived->count ? done + 1 : done].issued;
    if (ramet_workspace_find(opened->set, "a", &ws, &err) < 0)
        return done == 0 || wrong(when, "the workspace is missing", 0, 0);
    bool ok = check_one(ws, issued, true, when, &version);
    ramet_workspace_unref(ws);
    if (ok && version < lived->marks[done].durable)
        ok = wrong(when, "change %llu is the last one, %llu was synced", version, lived->marks[done].durable);
    if (ok && version > issued)
        ok = wrong(when, "change %llu is there, only %llu were made", version, issued);
    for (int i = 0; i < lived->fork_count && ok; i++)
        ok = check_fork(opened, &lived->forks[i], done, when);
    opened->version = version;
    return ok;
}

/* It goes on: a change, a checkpoint, and all is there after opening again. */
static bool use_further(struct life *opened, uint64_t issued, const char *when)
{
    struct ramet_error err = {0};
    struct ramet_gc_result result;
    int r = write_one(opened, &err);
    if (r == 0)
        r = ramet_workspaces_checkpoint(opened->set, &err);
    if (r == 0)
        r = ramet_catalog_gc(opened->catalog, &result, &err);
    uint64_t made = opened->version, version = 0;
    close_all(opened);
    if (r == 0)
        r = open_all(opened, &err);
    struct ramet_workspace *ws = NULL;
    if (r == 0)
        r = ramet_workspace_find(opened->set, "a", &ws, &err);
    if (r < 0)
        return wrong(err.msg, "used further", 0, 0);
    bool ok = check_one(ws, issued > made ? issued : made, true, when, &version) &&
              (version == made || wrong(when, "used further: change %llu, not %llu", version, made));
    ramet_workspace_unref(ws);
    return ok;
}

static void make_dir(char dir[64])
{
    snprintf(dir, 64, "%s/ramet-fault-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (!mkdtemp(dir)) {
        perror(dir);
        exit(1);
    }
}

/* --- crashes --- */

static void try_point(struct replay *replay, const struct fault_log *log, const struct life *lived, const char *target,
                      size_t at, uint64_t seed)
{
    struct life opened = {0};
    struct ramet_error err = {0};
    char when[100];
    enum replay_variant variant = (enum replay_variant)(seed % REPLAY_VARIANTS);
    int done = 0;
    /* A power cut in the middle of an operation: it did not return. */
    while (done < lived->count && lived->marks[done + 1].to <= at - (variant == REPLAY_TORN))
        done++;
    snprintf(opened.dir, sizeof opened.dir, "%s", target);
    snprintf(when, sizeof when, "operation %zu, step %d, %s", at, done, replay_variant_name(variant));
    replay_make(replay, at, variant, seed);
    int r = open_all(&opened, &err);
    if (r < 0) {
        printf("%s: %s\n", when, err.msg);
        wrong(when, "cannot be opened", 0, 0);
    } else if (!check(&opened, lived, done, when)) {
        fault_op_describe(&log->ops[at - 1], when, sizeof when);
        printf("  in the middle of: %s\n", when);
    } else if (done > 0 && seed / 8 % 4 == 0) {
        use_further(&opened, lived->version + 1, when);
    }
    close_all(&opened);
}

static void try_crashes(uint64_t seed, uint64_t points)
{
    struct life *lived = faults_calloc(1, sizeof *lived);
    struct fault_log log = {0};
    struct ramet_error err = {0};
    char target[80];
    make_dir(lived->dir);
    lived->random = seed;
    faults_begin(lived->dir);
    faults_record(&log);
    int r = open_all(lived, &err);
    if (r == 0)
        r = live(lived, &err);
    close_all(lived);
    faults_end();
    if (r < 0)
        wrong(err.msg, "a step failed without a fault", 0, 0);
    snprintf(target, sizeof target, "%s.crash", lived->dir);
    struct replay *replay = replay_new(&log, NULL, target);
    size_t from = lived->marks[0].to, step = (log.count - from) / points + 1, tried = 0;
    for (size_t at = from + 1; at <= log.count && failures < failures_max;
         at += 1 + rng_below(&lived->random, 2 * step))
        try_point(replay, &log, lived, target, at, rng_next(&lived->random)), tried++;
    printf("%zu crashes at %zu operations, %d steps, %llu changes\n", tried, log.count, lived->count,
           (unsigned long long)lived->version);
    replay_free(replay);
    fault_log_free(&log);
    ramet_dir_remove(target, NULL);
    ramet_dir_remove(lived->dir, NULL);
    free(lived);
}

/* --- failing calls --- */

/* One life in which the nth call of a class fails; false when there are not so many. */
static bool try_fault(uint64_t seed, struct fault_plan plan)
{
    static const char *const names[] = {"read", "write", "sync", "meta", "allocation"};
    struct life *lived = faults_calloc(1, sizeof *lived);
    struct ramet_error err = {0};
    char when[100];
    make_dir(lived->dir);
    snprintf(when, sizeof when, "%s %llu fails%s", names[plan.class], (unsigned long long)plan.nth,
             plan.onwards ? ", and all after it" : "");
    lived->random = seed;
    faults_begin(lived->dir);
    int r = open_all(lived, &err);
    if (r < 0)
        wrong(err.msg, "cannot be made", 0, 0);
    faults_arm(&plan);
    if (r == 0)
        r = live(lived, &err);
    bool struck = faults_disarm();
    close_all(lived);
    faults_end();
    struct life opened = {0};
    memcpy(opened.dir, lived->dir, sizeof opened.dir);
    if (open_all(&opened, &err) < 0) {
        printf("%s: %s\n", when, err.msg);
        wrong(when, "cannot be opened", 0, 0);
    } else {
        check(&opened, lived, r < 0 ? lived->count - 1 : lived->count, when);
    }
    close_all(&opened);
    ramet_dir_remove(lived->dir, NULL);
    free(lived);
    return struck;
}

static void try_faults(uint64_t seed, uint64_t points)
{
    static const struct fault_plan plans[] = {
        {.class = FAULT_WRITE, .effect = FAULT_FAIL, .os_errno = ENOSPC},
        {.class = FAULT_WRITE, .effect = FAULT_FAIL, .os_errno = ENOSPC, .onwards = true},
        {.class = FAULT_WRITE, .effect = FAULT_SHORT},
        {.class = FAULT_SYNC, .effect = FAULT_FAIL, .os_errno = EIO},
        {.class = FAULT_META, .effect = FAULT_FAIL, .os_errno = ENOSPC},
        {.class = FAULT_READ, .effect = FAULT_FAIL, .os_errno = EIO},
        {.class = FAULT_ALLOC, .effect = FAULT_FAIL},
    };
    uint64_t random = seed;
    for (size_t p = 0; p < sizeof plans / sizeof *plans; p++) {
        struct fault_plan plan = plans[p];
        uint64_t struck = 0;
        plan.nth = 1;
        for (uint64_t i = 0; i < points / 10 && failures < failures_max; i++) {
            if (!try_fault(seed, plan))
                break;
            struck++;
            plan.nth += 1 + rng_below(&random, plan.class == FAULT_ALLOC ? 60 : 12);
        }
        printf("%llu lives with a failing call of kind %zu\n", (unsigned long long)struck, p);
    }
}

int main(void)
{
    char dir[64];
    uint64_t seed = test_begin(dir), points = number_from("RAMET_FAULT_POINTS", default_points);
    ramet_dir_remove(dir, NULL);
    try_crashes(seed, points);
    try_faults(seed, points);
    return failures ? 1 : 0;
}
