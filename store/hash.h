/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The dedup hash of a page: XXH3 keyed with the store's secret. It only finds
 * candidates; content is always compared. 64 bits are kept: at 2^27 pages (512 GiB)
 * the chance of any collision is 2^54/2^65, and a collision costs one page stored
 * twice, nothing else. Builds with -DRAMET_HASH_BITS=16 prove that.
 */
#ifndef RAMET_STORE_HASH_H
#define RAMET_STORE_HASH_H

#include <stdbool.h>
#include <stdint.h>

#define RAMET_HASH_SECRET 192 /* bytes of secret; XXH3 wants at least 136 random ones */

/* Pages of different `kind` never match, even with equal content. */
uint64_t ramet_page_hash(const void *page, unsigned kind, const uint8_t secret[RAMET_HASH_SECRET]);
bool ramet_page_is_zero(const void *page);

#endif
