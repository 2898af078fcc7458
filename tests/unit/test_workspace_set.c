/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The set of workspaces against a model: pages and records written at random in heads that are forked, kept, rolled
 * back, renamed, promoted and removed, with checkpoints beside them and openings in between.
 */
#include "workspace_fixture.h"

#include "base/cleanup.h"
#include "workspace/change.h"
#include "workspace/data.h"
#include "workspace/view.h"
#include "workspace/workspace_private.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { files = 24, pages = 8, records = 300, heads_max = 10, states_max = 6, page_size = 4096 };

/* What a tree holds, as seeds; 0: nothing. */
struct content {
    uint32_t pages[files][pages], records[records];
};

struct model_head {
    char name[64], id[RAMET_CATALOG_ID_SIZE];
    struct content now, base;
    bool has_base;
    struct {
        char name[64];
        uint64_t serial;
        struct content content;
    } states[states_max];
    int state_count;
};

struct model {
    struct world *world;
    struct model_head *heads[heads_max];
    int count;
    unsigned names;
    _Atomic bool stop;
};

static void fill_page(uint8_t *page, uint32_t seed)
{
    /* Much alike, so that some are stored as differences. */
    for (size_t i = 0; i < page_size; i++)
        page[i] = (uint8_t)(i * 7 + i / 256);
    memcpy(page + seed % 4000, &seed, sizeof seed);
}

static void file_key(struct ramet_wkey *key, unsigned file)
{
    *key = (struct ramet_wkey){.ino = 100 + file, .type = RAMET_WTYPE_BLOCKS, .sub_size = 8};
}

static void record_key(struct ramet_wkey *key, unsigned record)
{
    *key = (struct ramet_wkey){.ino = 1000 + record % 50, .type = RAMET_WTYPE_XATTR, .sub_size = 20};
    memcpy(key->sub, &record, sizeof record);
}

static size_t record_value(uint8_t *value, uint32_t seed)
{
    size_t size = seed % 300 + 4;
    memset(value, (int)seed, size);
    memcpy(value, &seed, 4);
    return size;
}

static void get_refs(struct ramet_workspace *ws, unsigned file, ramet_wref refs[pages])
{
    struct ramet_wkey key;
    struct ramet_wvalue value = {0};
    file_key(&key, file);
    int r = ramet_wtree_get(ramet_workspace_tree(ws), &key, &value, &err);
    assert_true(r == 0 || r == -RAMET_NOT_FOUND);
    memset(refs, 0, pages * sizeof *refs);
    memcpy(refs, value.bytes, r == 0 ? value.size : 0);
}

static void write_pages(struct ramet_workspace *ws, struct content *content)
{
    unsigned file = (unsigned)test_below(files), first = (unsigned)test_below(pages);
    unsigned count = 1 + (unsigned)test_below(pages - first);
    ramet_wref refs[pages], before[pages];
    struct ramet_wchange *change;
    struct ramet_wkey key;
    uint8_t buf[pages * page_size];
    check_ok(ramet_workspace_lock(ws, &err));
    get_refs(ws, file, refs);
    memcpy(before, refs, sizeof refs);
    for (unsigned i = 0; i < count; i++) {
        content->pages[file][first + i] = (uint32_t)test_random() | 1;
        fill_page(buf + i * page_size, content->pages[file][first + i]);
    }
    check_ok(ramet_wdata_write(ws, refs + first, count, buf, &err));
    check_ok(ramet_wchange_begin(ws, &change, &err));
    file_key(&key, file);
    ramet_wchange_put(change, &key, refs, sizeof refs);
    check_ok(ramet_wchange_apply(change, &err));
    for (unsigned i = 0; i < pages; i++)
        if (refs[i] != before[i])
            ramet_wdata_release(ws, &before[i], 1);
    ramet_workspace_unlock(ws);
}

static void write_records(struct ramet_workspace *ws, struct content *content)
{
    struct ramet_wchange *change;
    struct ramet_wkey key;
    uint8_t value[RAMET_WVALUE_MAX];
    unsigned count = test_below(10) ? 1 + (unsigned)test_below(4) : 40;
    check_ok(ramet_workspace_lock(ws, &err));
    check_ok(ramet_wchange_begin(ws, &change, &err));
    for (unsigned i = 0; i < count; i++) {
        unsigned record = (unsigned)test_below(records);
        uint32_t seed = test_below(3) ? (uint32_t)test_random() | 1 : 0;
        record_key(&key, record);
        content->records[record] = seed;
        if (seed)
            ramet_wchange_put(change, &key, value, record_value(value, seed));
        else
            ramet_wchange_delete(change, &key);
    }
    check_ok(ramet_wchange_apply(change, &err));
    ramet_workspace_unlock(ws);
}

static void check_content(struct ramet_workspace *ws, const struct content *content)
{
    ramet_wref refs[pages];
    struct ramet_wkey key;
    struct ramet_wvalue value;
    uint8_t buf[pages * page_size], page[page_size];
    check_ok(ramet_workspace_lock_shared(ws, &err));
    for (unsigned file = 0; file < files; file++) {
        get_refs(ws, file, refs);
        check_ok(ramet_wdata_read(ws, refs, pages, buf, &err));
        for (unsigned i = 0; i < pages; i++) {
            memset(page, 0, sizeof page);
            if (content->pages[file][i])
                fill_page(page, content->pages[file][i]);
            assert_memory_equal(page, buf + i * page_size, page_size);
        }
    }
    for (unsigned i = 0; i < records; i++) {
        uint8_t expected[RAMET_WVALUE_MAX];
        record_key(&key, i);
        int r = ramet_wtree_get(ramet_workspace_tree(ws), &key, &value, &err);
        assert_int_equal(r, content->records[i] ? 0 : -RAMET_NOT_FOUND);
        if (r == 0) {
            assert_int_equal(value.size, record_value(expected, content->records[i]));
            assert_memory_equal(value.bytes, expected, value.size);
        }
    }
    ramet_workspace_unlock(ws);
}

static struct ramet_workspace *open_head(struct model *model, struct model_head *head)
{
    struct ramet_workspace *ws;
    check_ok(ramet_workspace_find(model->world->set, head->name, &ws, &err));
    return ws;
}

static void check_head(struct model *model, struct model_head *head)
{
    struct ramet_workspace *ws = open_head(model, head), *state;
    struct ramet_workspace_state *states;
    struct ramet_workspace_info info;
    size_t count;
    ramet_workspace_info(ws, &info);
    assert_string_equal(info.id, head->id);
    check_content(ws, &head->now);
    check_ok(ramet_workspace_states(ws, &states, &count, &err));
    assert_int_equal(count, head->state_count);
    free(states);
    for (int i = 0; i < head->state_count; i++) {
        check_ok(ramet_workspace_state_open(ws, head->states[i].name, &state, &err));
        check_content(state, &head->states[i].content);
        check_fails(ramet_workspace_lock(state, &err), RAMET_READ_ONLY);
        ramet_workspace_unref(state);
    }
    if (head->has_base) {
        check_ok(ramet_workspace_base_open(ws, &state, &err));
        check_content(state, &head->base);
        ramet_wview_close(state);
    } else {
        check_fails(ramet_workspace_base_open(ws, &state, &err), RAMET_NOT_FOUND);
    }
    ramet_workspace_unref(ws);
}

static void check_all(struct model *model)
{
    struct ramet_workspace **list;
    size_t count;
    check_ok(ramet_workspaces_list(model->world->set, &list, &count, &err));
    assert_int_equal(count, model->count);
    ramet_workspaces_list_free(list, count);
    for (int i = 0; i < model->count; i++)
        check_head(model, model->heads[i]);
}

/* --- steps --- */

static struct model_head *add_head(struct model *model, struct ramet_workspace *ws)
{
    struct model_head *head = calloc(1, sizeof *head);
    struct ramet_workspace_info info;
    ramet_workspace_info(ws, &info);
    memcpy(head->name, info.name, sizeof head->name);
    memcpy(head->id, info.id, sizeof head->id);
    model->heads[model->count++] = head;
    return head;
}

static void remove_at(struct model *model, int at)
{
    free(model->heads[at]);
    model->heads[at] = model->heads[--model->count];
}

static void step_fork(struct model *model, struct model_head *head, struct ramet_workspace *ws)
{
    char name[64];
    struct ramet_workspace *fork, *origin;
    const struct content *content = &head->now;
    if (model->count == heads_max)
        return;
    origin = ramet_workspace_ref(ws);
    if (head->state_count && test_below(3) == 0) {
        int i = (int)test_below((uint64_t)head->state_count);
        ramet_workspace_unref(origin);
        check_ok(ramet_workspace_state_open(ws, head->states[i].name, &origin, &err));
        content = &head->states[i].content;
    }
    snprintf(name, sizeof name, "w%u", model->names++);
    if (test_below(2)) {
        check_ok(ramet_workspace_fork(origin, name, &fork, &err));
    } else {
        const char *names[] = {name};
        check_ok(ramet_workspaces_fork(model->world->set, &origin, names, 1, &fork, &err));
    }
    struct model_head *added = add_head(model, fork);
    added->now = added->base = *content;
    added->has_base = true;
    ramet_workspace_unref(fork);
    ramet_workspace_unref(origin);
}

static void step_snapshot(struct model_head *head, struct ramet_workspace *ws)
{
    struct ramet_workspace_state state;
    if (head->state_count == states_max) {
        check_ok(ramet_workspace_state_remove(ws, head->states[0].name, &err));
        memmove(&head->states[0], &head->states[1], sizeof head->states - sizeof head->states[0]);
        head->state_count--;
    }
    check_ok(ramet_workspace_snapshot(ws, NULL, &state, &err));
    memcpy(head->states[head->state_count].name, state.name, sizeof state.name);
    head->states[head->state_count].serial = state.serial;
    head->states[head->state_count++].content = head->now;
}

static void step_rollback(struct model_head *head, struct ramet_workspace *ws)
{
    struct ramet_workspace_state before;
    struct ramet_workspace_info info, after;
    if (head->state_count == 0 || head->state_count == states_max)
        return;
    int i = (int)test_below((uint64_t)head->state_count);
    ramet_workspace_info(ws, &info);
    check_ok(ramet_workspace_rollback(ws, head->states[i].name, &before, &err));
    check_fails(ramet_workspace_lock(ws, &err), RAMET_NOT_FOUND);
    memcpy(head->states[head->state_count].name, before.name, sizeof before.name);
    head->states[head->state_count].serial = before.serial;
    head->states[head->state_count++].content = head->now;
    head->now = head->states[i].content;
    struct ramet_workspace *next;
    check_ok(ramet_workspace_find(ws->set, head->name, &next, &err));
    ramet_workspace_info(next, &after);
    assert_true(after.serial > info.serial);
    ramet_workspace_unref(next);
}

static void step_promote(struct model *model, struct model_head *head, struct ramet_workspace *ws)
{
    struct ramet_workspace_info info;
    int parent = -1;
    ramet_workspace_info(ws, &info);
    for (int i = 0; i < model->count; i++)
        if (strcmp(model->heads[i]->id, info.parent) == 0)
            parent = i;
    if (parent < 0) {
        check_fails(ramet_workspace_promote(ws, &err), RAMET_CONFLICT);
        return;
    }
    struct model_head *old = model->heads[parent];
    if (old->state_count + head->state_count > states_max)
        return;
    check_ok(ramet_workspace_promote(ws, &err));
    memcpy(head->name, old->name, sizeof head->name);
    for (int i = 0; i < old->state_count; i++)
        head->states[head->state_count++] = old->states[i];
    remove_at(model, parent);
    /* Names that both had were changed: take them as they are. */
    struct ramet_workspace_state *states;
    size_t count;
    check_ok(ramet_workspace_states(ws, &states, &count, &err));
    assert_int_equal(count, head->state_count);
    for (int i = 0; i < head->state_count; i++)
        for (size_t k = 0; k < count; k++)
            if (states[k].serial == head->states[i].serial)
                memcpy(head->states[i].name, states[k].name, sizeof head->states[i].name);
    free(states);
}

static void step_rename(struct model *model, struct model_head *head, struct ramet_workspace *ws)
{
    const struct model_head *other = model->heads[test_below((uint64_t)model->count)];
    if (other != head)
        check_fails(ramet_workspace_rename(ws, other->name, &err), RAMET_EXISTS);
    snprintf(head->name, sizeof head->name, "r%u", model->names++);
    check_ok(ramet_workspace_rename(ws, head->name, &err));
}

static void step(struct model *model)
{
    int at = (int)test_below((uint64_t)model->count);
    struct model_head *head = model->heads[at];
    struct ramet_workspace *ws = open_head(model, head);
    uint64_t what = test_below(1000);
    if (what < 500)
        write_pages(ws, &head->now);
    else if (what < 900)
        write_records(ws, &head->now);
    else if (what < 930)
        step_fork(model, head, ws);
    else if (what < 950)
        step_snapshot(head, ws);
    else if (what < 960)
        step_rollback(head, ws);
    else if (what < 965)
        step_promote(model, head, ws);
    else if (what < 970)
        step_rename(model, head, ws);
    else if (what < 975 && model->count > 2) {
        check_ok(ramet_workspace_remove(ws, &err));
        check_fails(ramet_workspace_lock(ws, &err), RAMET_NOT_FOUND);
        remove_at(model, at);
    } else if (what < 985)
        check_ok(ramet_workspaces_sync(model->world->set, &err));
    ramet_workspace_unref(ws);
}

static void *checkpoints(void *ctx)
{
    struct model *model = ctx;
    struct ramet_error own = {0};
    struct ramet_gc_result result;
    for (unsigned i = 0; !atomic_load(&model->stop); i++) {
        if (ramet_workspaces_checkpoint(model->world->set, &own) < 0)
            fail_msg("checkpoint: %s", own.msg);
        if (i % 4 == 3 && ramet_catalog_gc(model->world->catalog, &result, &own) < 0)
            fail_msg("gc: %s", own.msg);
        ramet_wmaintain_trim(model->world->set);
    }
    return NULL;
}

static void run(struct model *model, int count, bool beside)
{
    pthread_t thread;
    atomic_store(&model->stop, false);
    if (beside)
        assert_int_equal(pthread_create(&thread, NULL, checkpoints, model), 0);
    for (int i = 0; i < count; i++) {
        step(model);
        if (!beside && test_below(300) == 0)
            check_ok(ramet_workspaces_checkpoint(model->world->set, &err));
        if (test_below(200) == 0)
            ramet_wmaintain_trim(model->world->set);
        struct ramet_gc_result result;
        if (!beside && test_below(400) == 0)
            check_ok(ramet_catalog_gc(model->world->catalog, &result, &err));
        if (test_below(500) == 0)
            check_all(model);
    }
    atomic_store(&model->stop, true);
    if (beside)
        pthread_join(thread, NULL);
    check_all(model);
}

static struct model *model_new(struct world *world)
{
    struct model *model = calloc(1, sizeof *model);
    model->world = world;
    add_head(model, world->ws);
    return model;
}

static void model_free(struct model *model)
{
    while (model->count)
        remove_at(model, 0);
    free(model);
}

/* The fixture's own head is of no interest. */
static void reopen(struct model *model)
{
    struct world *world = model->world;
    ramet_workspace_unref(STEAL(world->ws));
    ramet_workspaces_close(world->set);
    ramet_catalog_close(world->catalog);
    ramet_store_close(world->store);
    check_ok(ramet_store_open(world->dir, NULL, &world->store, &err));
    check_ok(ramet_catalog_open(world->store, &world->catalog, &err));
    check_ok(ramet_workspaces_open(world->catalog, &world->set, &err));
}

static void against_the_model(void **state)
{
    struct model *model = model_new(*state);
#ifdef __SANITIZE_THREAD__
    enum { rounds = 2, count = 120 };
#else
    enum { rounds = 4, count = 1500 };
#endif
    for (int round = 0; round < rounds; round++) {
        run(model, count, round % 2);
        reopen(model);
        check_all(model);
    }
    model_free(model);
}

/* --- many forks at once --- */

#ifdef __SANITIZE_THREAD__
enum { fork_threads = 2, forks_each = 6, fork_writes = 20 };
#else
enum { fork_threads = 4, forks_each = 50, fork_writes = 60 };
#endif

struct forker {
    struct ramet_workspace *origin;
    unsigned number;
    char problem[200];
};

static bool must(struct forker *forker, int r, const struct ramet_error *error)
{
    if (r < 0)
        snprintf(forker->problem, sizeof forker->problem, "%.190s", error->msg);
    return r >= 0;
}

static bool write_own(struct forker *forker, struct ramet_workspace *ws, uint32_t seed)
{
    ramet_wref ref = 0, before;
    struct ramet_wchange *change;
    struct ramet_wkey key;
    struct ramet_wvalue value;
    struct ramet_error own = {0};
    uint8_t page[page_size];
    fill_page(page, seed);
    if (!must(forker, ramet_workspace_lock(ws, &own), &own))
        return false;
    file_key(&key, 900 + seed % 7);
    if (ramet_wtree_get(ramet_workspace_tree(ws), &key, &value, NULL) == 0)
        memcpy(&ref, value.bytes, sizeof ref);
    before = ref;
    bool ok = must(forker, ramet_wdata_write(ws, &ref, 1, page, &own), &own) &&
              must(forker, ramet_wchange_begin(ws, &change, &own), &own);
    if (ok) {
        ramet_wchange_put(change, &key, &ref, sizeof ref);
        ok = must(forker, ramet_wchange_apply(change, &own), &own);
    }
    if (ok && before != ref)
        ramet_wdata_release(ws, &before, 1);
    ramet_workspace_unlock(ws);
    return ok;
}

/* The page of the last write of each kind is there. */
static bool check_own(struct forker *forker, struct ramet_workspace *ws, uint32_t first)
{
    struct ramet_error own = {0};
    struct ramet_wkey key;
    struct ramet_wvalue value;
    uint8_t page[page_size], expected[page_size];
    bool ok = must(forker, ramet_workspace_lock_shared(ws, &own), &own);
    for (uint32_t seed = first + fork_writes - 7; ok && seed < first + fork_writes; seed++) {
        ramet_wref ref;
        file_key(&key, 900 + seed % 7);
        ok = must(forker, ramet_wtree_get(ramet_workspace_tree(ws), &key, &value, &own), &own);
        memcpy(&ref, value.bytes, sizeof ref);
        ok = ok && must(forker, ramet_wdata_read(ws, &ref, 1, page, &own), &own);
        fill_page(expected, seed);
        if (ok && memcmp(page, expected, page_size) != 0) {
            snprintf(forker->problem, sizeof forker->problem, "a fork shows another one's page");
            ok = false;
        }
    }
    ramet_workspace_unlock(ws);
    return ok;
}

static void *fork_and_write(void *ctx)
{
    struct forker *forker = ctx;
    struct ramet_workspace *forks[forks_each] = {NULL};
    struct ramet_error own = {0};
    bool ok = true;
    for (unsigned i = 0; i < forks_each && ok; i++) {
        char name[32];
        snprintf(name, sizeof name, "fork-%u-%u", forker->number, i);
        ok = must(forker, ramet_workspace_fork(forker->origin, name, &forks[i], &own), &own);
    }
    for (uint32_t k = 0; k < fork_writes && ok; k++)
        for (uint32_t i = 0; i < forks_each && ok; i++)
            ok = write_own(forker, forks[i], (forker->number * forks_each + i) * 1000 + k);
    for (uint32_t i = 0; i < forks_each; i++) {
        ok = ok && check_own(forker, forks[i], (forker->number * forks_each + i) * 1000);
        if (forks[i])
            ok = must(forker, ramet_workspace_remove(forks[i], &own), &own) && ok;
        ramet_workspace_unref(forks[i]);
    }
    return NULL;
}

static void forks_written_at_once(void **state)
{
    struct world *world = *state;
    struct model *model = model_new(world);
    struct forker forkers[fork_threads];
    pthread_t threads[fork_threads], beside;
    struct ramet_gc_result gc;
    struct ramet_store_stat before, after;
    for (int i = 0; i < 200; i++) {
        write_pages(world->ws, &model->heads[0]->now);
        write_records(world->ws, &model->heads[0]->now);
    }
    check_ok(ramet_workspaces_checkpoint(world->set, &err));
    check_ok(ramet_catalog_gc(world->catalog, &gc, &err));
    check_ok(ramet_store_stat(world->store, &before, &err));
    assert_int_equal(pthread_create(&beside, NULL, checkpoints, model), 0);
    for (unsigned i = 0; i < fork_threads; i++) {
        forkers[i] = (struct forker){.origin = world->ws, .number = i};
        assert_int_equal(pthread_create(&threads[i], NULL, fork_and_write, &forkers[i]), 0);
    }
    for (unsigned i = 0; i < fork_threads; i++) {
        pthread_join(threads[i], NULL);
        if (forkers[i].problem[0])
            print_message("%s\n", forkers[i].problem);
    }
    atomic_store(&model->stop, true);
    pthread_join(beside, NULL);
    for (unsigned i = 0; i < fork_threads; i++)
        assert_string_equal(forkers[i].problem, "");
    check_all(model);
    check_ok(ramet_workspaces_checkpoint(world->set, &err));
    check_ok(ramet_catalog_gc(world->catalog, &gc, &err));
    check_ok(ramet_store_stat(world->store, &after, &err));
    assert_in_range(after.chunks, 0, before.chunks + 8);
    model_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(against_the_model, world_setup, world_teardown),
        cmocka_unit_test_setup_teardown(forks_written_at_once, world_setup, world_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
