/* SPDX-License-Identifier: Apache-2.0 */
/* Streams of random numbers that a seed replays, as many as a test needs (testing.h has one): splitmix64. */
#ifndef RAMET_TESTS_RANDOM_H
#define RAMET_TESTS_RANDOM_H

#include <stdint.h>

static inline uint64_t mix(uint64_t z)
{
    z += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static inline uint64_t rng_next(uint64_t *state) { return mix((*state)++ * UINT64_C(0x9e3779b97f4a7c15)); }
static inline uint64_t rng_below(uint64_t *state, uint64_t limit) { return rng_next(state) % limit; }

#endif
