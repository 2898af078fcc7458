/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A node of a workspace's tree: what passes the check can be searched, changed and packed, and packs to the same
 * records. The first byte's lowest bit is not used: nodes have no checksum of their own.
 */
#include "fuzz.h"

#include "workspace/node.h"
#include "workspace/stored.h"

#include <string.h>

static void see_page(void *ctx, uint64_t ino, uint64_t page, ramet_chunk chunk)
{
    (void)ino;
    (void)page;
    uint64_t *sum = ctx;
    *sum += chunk;
}

static void check_equal(const uint8_t *a, const uint8_t *b)
{
    FUZZ_CHECK(ramet_wpage_count(a) == ramet_wpage_count(b));
    for (unsigned i = 0; i < ramet_wpage_count(a); i++) {
        struct ramet_wrecord x = ramet_wpage_record(a, i), y = ramet_wpage_record(b, i);
        FUZZ_CHECK(x.key_size == y.key_size && x.value_size == y.value_size);
        FUZZ_CHECK(memcmp(x.key, y.key, x.key_size) == 0 && memcmp(x.value, y.value, x.value_size) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t page[RAMET_PAGE_SIZE] = {0}, packed[RAMET_PAGE_SIZE];
    struct ramet_error err = {0};
    if (size < 1 || size - 1 > sizeof page)
        return 0;
    memcpy(page, data + 1, size - 1);
    int r = ramet_wpage_check(page, -1, &err);
    FUZZ_CHECK(r == 0 || (err.code == -r && err.msg[0]));
    if (r < 0)
        return 0;
    ramet_wpage_pack(page, packed);
    FUZZ_CHECK(ramet_wpage_check(packed, page[5], NULL) == 0);
    check_equal(page, packed);
    uint64_t sum = 0;
    const struct ramet_wvisitor visitor = {.page = see_page, .ctx = &sum};
    if (page[5] == 0)
        ramet_wstored_leaf(page, &visitor);
    for (unsigned i = 0; i < ramet_wpage_count(page); i++) {
        struct ramet_wrecord record = ramet_wpage_record(page, i);
        struct ramet_wbytes key = {.size = record.key_size};
        struct ramet_wkey decoded;
        bool equal;
        memcpy(key.bytes, record.key, key.size);
        FUZZ_CHECK(ramet_wpage_find(page, &key, &equal) == i && equal);
        FUZZ_CHECK(page[5] > 0 || ramet_wbytes_get(record.key, record.key_size, &decoded));
    }
    /* Taken out one by one and put back. */
    while (ramet_wpage_count(page)) {
        unsigned at = (unsigned)(sum++ % ramet_wpage_count(page));
        ramet_wpage_remove(page, at);
    }
    for (unsigned i = 0; i < ramet_wpage_count(packed); i++) {
        struct ramet_wrecord record = ramet_wpage_record(packed, i);
        FUZZ_CHECK(ramet_wpage_insert(page, i, record.key, record.key_size, record.value, record.value_size));
    }
    check_equal(page, packed);
    return 0;
}
