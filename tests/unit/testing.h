/* SPDX-License-Identifier: Apache-2.0 */
/* What the unit tests share: cmocka, a temporary directory, a seeded generator, error checks. */
#ifndef RAMET_TESTS_TESTING_H
#define RAMET_TESTS_TESTING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/error.h"

/* Makes "/tmp/ramet-test-XXXXXX"; test_dir_remove takes it and all in it away. */
void test_dir_make(char path[64]);
void test_dir_remove(const char *path);

/* splitmix64 (Steele, Lea, Flood 2014). RAMET_TEST_SEED replays a run; the seed is printed on first use. */
uint64_t test_random(void);
uint64_t test_below(uint64_t limit);
void test_fill(void *buf, size_t size);

/* Fails with the error's text when `call`, which must use `&err`, is not 0. */
#define check_ok(call)                                                                                                 \
    do {                                                                                                               \
        int check_r_ = (call);                                                                                         \
        if (check_r_ != 0)                                                                                             \
            fail_msg("%s: %d: %s (%s)", #call, check_r_, err.msg, err.hint);                                           \
    } while (0)

#define check_fails(call, code)                                                                                        \
    do {                                                                                                               \
        int check_r_ = (call);                                                                                         \
        if (check_r_ != -(code))                                                                                       \
            fail_msg("%s: %d, not %d (%s)", #call, check_r_, -(code), err.msg);                                        \
    } while (0)

#endif
