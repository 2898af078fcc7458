/* SPDX-License-Identifier: Apache-2.0 */
/* Record trees: random operations, forks and comparisons of several heads that share nodes, against sorted arrays. */
#include "testing.h"

#include "base/cleanup.h"
#include "workspace/tree_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { heads = 6, records_max = 4000, steps = 60000 };

static struct ramet_error err;

struct model_record {
    struct ramet_wkey key;
    struct ramet_wbytes bytes;
    uint16_t size;
    uint64_t seed; /* of the value */
};

struct model {
    struct model_record *records;
    size_t count;
};

struct fixture {
    struct ramet_wtree trees[heads];
    struct model models[heads];
    struct ramet_wspare spare;
};

static void value_of(const struct model_record *record, uint8_t *value)
{
    for (size_t i = 0; i < record->size; i++)
        value[i] = (uint8_t)(record->seed * 31 + i * 7);
}

static size_t position(const struct model *model, const struct ramet_wbytes *key, bool *ret_found)
{
    size_t low = 0, high = model->count;
    *ret_found = false;
    while (low < high) {
        size_t middle = (low + high) / 2;
        const struct ramet_wbytes *at = &model->records[middle].bytes;
        int order = ramet_wbytes_compare(at->bytes, at->size, key->bytes, key->size);
        if (order == 0)
            *ret_found = true;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Keys of few inodes, some long, some close together. */
static void random_key(struct ramet_wkey *key, unsigned space)
{
    memset(key, 0, sizeof *key);
    uint64_t n = test_below(space);
    key->ino = 1 + n % 37;
    key->type = (uint8_t)(1 + n % 3);
    key->sub_size = n % 5 == 0 ? (uint16_t)(n % 7 == 0 ? RAMET_WKEY_SUB_MAX : 100) : (uint16_t)(n % 11 + 8);
    for (size_t i = 0; i < key->sub_size; i++)
        key->sub[i] = (uint8_t)(i < 8 ? n >> 8 * (i % 3) : n % 3);
    key->sub[key->sub_size - 1] = (uint8_t)n;
}

static void put(struct fixture *f, int head, struct model_record *record)
{
    struct model *model = &f->models[head];
    uint8_t value[RAMET_WVALUE_MAX];
    unsigned height;
    bool found;
    size_t at = position(model, &record->bytes, &found);
    if (!found && model->count == records_max)
        return;
    value_of(record, value);
    check_ok(ramet_wtree_prepare(&f->trees[head], &record->bytes, &height, &err));
    check_ok(ramet_wspare_reserve(&f->spare, RAMET_WSPARE_LEAVES, ramet_wspare_inner(height), &err));
    ramet_wtree_put(&f->trees[head], &f->spare, &record->bytes, value, record->size);
    if (!found) {
        memmove(&model->records[at + 1], &model->records[at], (model->count - at) * sizeof *record);
        model->count++;
    }
    model->records[at] = *record;
}

static void delete (struct fixture *f, int head, const struct ramet_wbytes *key)
{
    struct model *model = &f->models[head];
    unsigned height;
    bool found;
    size_t at = position(model, key, &found);
    check_ok(ramet_wtree_prepare(&f->trees[head], key, &height, &err));
    check_ok(ramet_wspare_reserve(&f->spare, RAMET_WSPARE_LEAVES, ramet_wspare_inner(height), &err));
    ramet_wtree_delete(&f->trees[head], &f->spare, key);
    ramet_wtree_shrink(&f->trees[head], key);
    if (!found)
        return;
    memmove(&model->records[at], &model->records[at + 1], (model->count - at - 1) * sizeof *model->records);
    model->count--;
}

static bool is_value(const struct model_record *record, const struct ramet_wvalue *value)
{
    uint8_t expected[RAMET_WVALUE_MAX];
    value_of(record, expected);
    return value->size == record->size && memcmp(value->bytes, expected, record->size) == 0;
}

static void check_all(struct fixture *f, int head)
{
    struct ramet_wkey key = {0};
    struct ramet_wvalue value;
    const struct model *model = &f->models[head];
    for (size_t i = 0; i < model->count; i++) {
        check_ok(ramet_wtree_next(&f->trees[head], &key, &value, &err));
        assert_int_equal(key.ino, model->records[i].key.ino);
        assert_int_equal(key.sub_size, model->records[i].key.sub_size);
        assert_memory_equal(key.sub, model->records[i].key.sub, key.sub_size);
        assert_true(is_value(&model->records[i], &value));
        /* Just after it. */
        if (key.sub_size < RAMET_WKEY_SUB_MAX)
            key.sub[key.sub_size++] = 0;
        else
            for (size_t at = RAMET_WKEY_SUB_MAX; ++key.sub[--at] == 0;)
                ;
    }
    check_fails(ramet_wtree_next(&f->trees[head], &key, &value, &err), RAMET_NOT_FOUND);
}

static void get(struct fixture *f, int head, const struct ramet_wkey *key, const struct ramet_wbytes *bytes)
{
    struct ramet_wvalue value;
    bool found;
    size_t at = position(&f->models[head], bytes, &found);
    int r = ramet_wtree_get(&f->trees[head], key, &value, &err);
    assert_int_equal(r, found ? 0 : -RAMET_NOT_FOUND);
    if (found)
        assert_true(is_value(&f->models[head].records[at], &value));
}

static void fork_head(struct fixture *f, int from, int to)
{
    if (from == to)
        return;
    ramet_wtree_drop(&f->trees[to]);
    check_ok(ramet_wtree_share(&f->trees[to], &f->trees[from], &err));
    f->models[to].count = f->models[from].count;
    memcpy(f->models[to].records, f->models[from].records, f->models[from].count * sizeof *f->models[from].records);
}

struct walk {
    const struct model *a, *b;
    size_t at_a, at_b;
};

static bool records_equal(const struct model_record *a, const struct model_record *b)
{
    return a->size == b->size && (a->size == 0 || (uint8_t)a->seed == (uint8_t)b->seed);
}

/* The next difference of the models: -1 only in a, 1 only in b, 0 in both; 2: none. */
static int next_difference(struct walk *walk)
{
    while (walk->at_a < walk->a->count || walk->at_b < walk->b->count) {
        if (walk->at_a == walk->a->count)
            return 1;
        if (walk->at_b == walk->b->count)
            return -1;
        const struct model_record *a = &walk->a->records[walk->at_a], *b = &walk->b->records[walk->at_b];
        int order = ramet_wbytes_compare(a->bytes.bytes, a->bytes.size, b->bytes.bytes, b->bytes.size);
        if (order != 0)
            return order < 0 ? -1 : 1;
        if (!records_equal(a, b))
            return 0;
        walk->at_a++;
        walk->at_b++;
    }
    return 2;
}

static int visit(void *ctx, const struct ramet_wkey *key, const struct ramet_wvalue *in_a,
                 const struct ramet_wvalue *in_b, struct ramet_error *error)
{
    (void)error;
    struct walk *walk = ctx;
    int which = next_difference(walk);
    assert_int_equal(which, in_a && in_b ? 0 : in_a ? -1 : 1);
    const struct model_record *record = in_a ? &walk->a->records[walk->at_a] : &walk->b->records[walk->at_b];
    assert_int_equal(key->ino, record->key.ino);
    assert_memory_equal(key->sub, record->key.sub, key->sub_size);
    if (in_a)
        assert_true(is_value(&walk->a->records[walk->at_a++], in_a));
    if (in_b)
        assert_true(is_value(&walk->b->records[walk->at_b++], in_b));
    return 0;
}

static void diff(struct fixture *f, int a, int b)
{
    struct walk walk = {.a = &f->models[a], .b = &f->models[b]};
    check_ok(ramet_wtree_diff(&f->trees[a], &f->trees[b], visit, &walk, &err));
    assert_int_equal(next_difference(&walk), 2);
}

/* Every page in memory holds what a stored one must. */
static void check_node(const struct ramet_wnode *node)
{
    uint8_t packed[RAMET_PAGE_SIZE];
    ramet_wpage_pack(node->page, packed);
    check_ok(ramet_wpage_check(packed, node->level, &err));
    for (unsigned i = 0; node->level && i < ramet_wpage_count(node->page); i++) {
        const struct ramet_wnode *child = atomic_load(&node->children[i]);
        assert_non_null(child);
        assert_int_equal(child->level, node->level - 1);
        if (child->dirty)
            assert_true(node->dirty);
        check_node(child);
    }
}

static void test_random_operations(void **state)
{
    struct fixture *f = *state;
    for (int step = 0; step < steps; step++) {
        struct model_record record = {.seed = test_random()};
        int head = (int)test_below(heads);
        /* Phases in which trees grow and shrink. */
        bool growing = step / 5000 % 3 != 2;
        random_key(&record.key, growing ? 6000 : 100000);
        ramet_wbytes_set(&record.bytes, &record.key);
        record.size = (uint16_t)(test_below(20) == 0 ? test_below(RAMET_WVALUE_MAX + 1) : test_below(120));
        if (!growing && f->models[head].count)
            record.bytes = f->models[head].records[test_below(f->models[head].count)].bytes;
        assert_true(ramet_wbytes_get(record.bytes.bytes, record.bytes.size, &record.key));
        uint64_t what = test_below(100);
        if (what < (growing ? 70 : 8)) {
            put(f, head, &record);
        } else if (what < 92) {
            delete (f, head, &record.bytes);
        } else if (what < 98) {
            get(f, head, &record.key, &record.bytes);
        } else if (what < 99) {
            fork_head(f, head, (int)test_below(heads));
        } else if (test_below(4) == 0) {
            diff(f, head, (int)test_below(heads));
            check_all(f, head);
        }
    }
    for (int i = 0; i < heads; i++) {
        check_all(f, i);
        check_node(atomic_load(&f->trees[i].root));
        diff(f, i, (i + 1) % heads);
    }
}

/* A file that grows by page groups leaves full nodes behind. */
static void test_appending(void **state)
{
    struct fixture *f = *state;
    struct model_record record = {.key = {.ino = 7, .type = RAMET_WTYPE_BLOCKS, .sub_size = 8}, .size = 512};
    uint64_t before = ramet_wnode_total();
    for (unsigned i = 0; i < 3500; i++) {
        record.key.sub[6] = (uint8_t)(i >> 8);
        record.key.sub[7] = (uint8_t)i;
        record.seed = i;
        ramet_wbytes_set(&record.bytes, &record.key);
        put(f, 0, &record);
    }
    check_all(f, 0);
    uint64_t used = ramet_wnode_total() - before - f->spare.leaf_count - f->spare.inner_count;
    assert_in_range(used, 500, 520); /* seven records of 541 bytes a leaf */
    while (f->models[0].count)
        delete (f, 0, &f->models[0].records[test_below(f->models[0].count)].bytes);
    check_all(f, 0);
    assert_int_equal(atomic_load(&f->trees[0].root)->level, 0);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    for (int i = 0; i < heads; i++) {
        ramet_wtree_init(&f->trees[i], NULL, RAMET_CHUNK_ZERO);
        f->models[i].records = calloc(records_max + 1, sizeof *f->models[i].records);
    }
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < heads; i++) {
        ramet_wtree_drop(&f->trees[i]);
        free(f->models[i].records);
    }
    ramet_wspare_free(&f->spare);
    assert_int_equal(ramet_wnode_total(), 0);
    free(f);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_random_operations, setup, teardown),
        cmocka_unit_test_setup_teardown(test_appending, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
