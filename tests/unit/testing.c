/* SPDX-License-Identifier: Apache-2.0 */
#include "testing.h"

#include "base/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void test_dir_make(char path[64])
{
    strcpy(path, "/tmp/ramet-test-XXXXXX");
    assert_non_null(mkdtemp(path));
}

void test_dir_remove(const char *path)
{
    struct ramet_error err = {0};
    check_ok(ramet_dir_remove(path, &err));
}

uint64_t test_random(void)
{
    static uint64_t state;
    if (!state) {
        const char *seed = getenv("RAMET_TEST_SEED");
        if (seed)
            state = strtoull(seed, NULL, 0);
        else
            ramet_random(&state, sizeof state);
        print_message("RAMET_TEST_SEED=%#llx\n", (unsigned long long)state);
    }
    uint64_t z = state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

uint64_t test_below(uint64_t limit) { return test_random() % limit; }

void test_fill(void *buf, size_t size)
{
    uint8_t *p = buf;
    for (size_t i = 0; i < size; i += 8) {
        uint64_t v = test_random();
        memcpy(p + i, &v, size - i < 8 ? size - i : 8);
    }
}
