/* SPDX-License-Identifier: Apache-2.0 */
/* The key-value tables: batches of any size, reopening, a kill in the middle of a large batch. */
#include "testing.h"

#include "base/codec.h"
#include "kv.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static struct ramet_error err;

/* A batch of `count` entries of the index, key n to value n * 3, and a record that says how many. */
static int write_entries(struct ramet_kv *kv, uint64_t from, uint64_t count)
{
    struct ramet_kv_batch *batch = ramet_kv_batch_new(kv);
    uint8_t key[8], value[8];
    for (uint64_t i = 0; i < count; i++) {
        uint64_t n = (from + (i * 7919) % count) * UINT64_C(0x9e3779b97f4a7c15); /* in no order */
        ramet_put_be64(key, n);
        ramet_put_le64(value, n * 3);
        ramet_kv_put(batch, RAMET_KV_INDEX, key, sizeof key, value, sizeof value);
    }
    ramet_put_le64(value, from + count);
    ramet_kv_put(batch, RAMET_KV_META, "count", 5, value, sizeof value);
    int r = ramet_kv_write(kv, batch, true, &err);
    ramet_kv_batch_free(batch);
    return r;
}

static uint64_t recorded(struct ramet_kv *kv)
{
    void *value;
    size_t size;
    if (ramet_kv_get(kv, RAMET_KV_META, "count", 5, &value, &size, &err) == -RAMET_NOT_FOUND)
        return 0;
    uint64_t count = ramet_get_le64(value);
    free(value);
    return count;
}

static void expect_entries(struct ramet_kv *kv, uint64_t count)
{
    uint8_t keys[64][8], values[64][8];
    bool found[64];
    for (uint64_t n = 32 * test_below(4); n < count; n += 32 * 4) { /* a quarter, another one each time */
        for (uint64_t i = 0; i < 64; i++)                           /* the second half is not there */
            ramet_put_be64(keys[i], i < 32 ? (n + i) * UINT64_C(0x9e3779b97f4a7c15) : n + i);
        check_ok(ramet_kv_get_many_u64(kv, RAMET_KV_INDEX, keys, 64, values, found, &err));
        for (uint64_t i = 0; i < 32 && n + i < count; i++) {
            assert_true(found[i]);
            assert_int_equal(ramet_get_le64(values[i]), ramet_get_be64(keys[i]) * 3);
        }
        assert_false(found[63]);
    }
}

static void a_batch_of_many_slices_is_whole(void **state)
{
    (void)state;
    enum { count = 300000 };
    char dir[64];
    struct ramet_kv *kv;
    test_dir_make(dir);
    check_ok(ramet_kv_open(dir, &kv, &err));
    check_ok(write_entries(kv, 0, count));
    expect_entries(kv, count);
    ramet_kv_close(kv);
    check_ok(ramet_kv_open(dir, &kv, &err));
    expect_entries(kv, count);
    const void *key, *value;
    size_t key_size, value_size, walked = 0;
    struct ramet_kv_iter *iter = ramet_kv_iter_new(kv, RAMET_KV_INDEX, NULL, 0);
    for (uint64_t last = 0; ramet_kv_iter_next(iter, &key, &key_size, &value, &value_size); walked++) {
        assert_true(walked == 0 || ramet_get_be64(key) > last);
        last = ramet_get_be64(key);
    }
    check_ok(ramet_kv_iter_status(iter, &err));
    assert_int_equal(walked, count);
    ramet_kv_iter_free(iter);
    ramet_kv_close(kv);
    test_dir_remove(dir);
}

/* What a batch says beside its entries is there only when all of them are. */
static void a_killed_writer_leaves_no_half_batch(void **state)
{
    (void)state;
    enum { count = 200000, rounds = 6 };
    char dir[64];
    struct ramet_kv *kv;
    test_dir_make(dir);
    for (int round = 0; round < rounds; round++) {
        pid_t child = fork();
        if (child == 0) {
            if (ramet_kv_open(dir, &kv, NULL) < 0)
                _exit(1);
            for (uint64_t from = recorded(kv); write_entries(kv, from, count) == 0; from += count)
                ;
            _exit(1);
        }
        usleep(100000 + (useconds_t)test_below(400000));
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        check_ok(ramet_kv_open(dir, &kv, &err));
        expect_entries(kv, recorded(kv));
        ramet_kv_close(kv);
    }
    test_dir_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_batch_of_many_slices_is_whole),
        cmocka_unit_test(a_killed_writer_leaves_no_half_batch),
    };
    return cmocka_run_group_tests_name("kv", tests, NULL, NULL);
}
