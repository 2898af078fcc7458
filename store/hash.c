/* SPDX-License-Identifier: Apache-2.0 */
#include "hash.h"

#include "chunk.h"

#include <string.h>
#if defined(__x86_64__)
#include <xxh_x86dispatch.h> /* picks AVX2 or AVX-512 at run time */
#else
#include <xxhash.h>
#endif

uint64_t ramet_page_hash(const void *page, unsigned kind, const uint8_t secret[RAMET_HASH_SECRET])
{
    uint64_t hash = XXH3_64bits_withSecret(page, RAMET_PAGE_SIZE, secret, RAMET_HASH_SECRET) + kind;
    return RAMET_HASH_BITS == 64 ? hash : hash & ((UINT64_C(1) << (RAMET_HASH_BITS % 64)) - 1);
}

bool ramet_page_is_zero(const void *page)
{
    const char *p = page;
    uint64_t first;
    memcpy(&first, p, sizeof first);
    /* A page equal to itself shifted by eight bytes repeats its first eight. */
    return first == 0 && memcmp(p, p + sizeof first, RAMET_PAGE_SIZE - sizeof first) == 0;
}
