/* SPDX-License-Identifier: Apache-2.0 */
/* Every wait in the driver ends at an absolute deadline, in microseconds of the monotonic clock. */
#ifndef RAMET_API_VMM_CLOCK_H
#define RAMET_API_VMM_CLOCK_H

#include "base/file.h" /* ramet_now_us */

#include <errno.h>
#include <stdint.h>
#include <time.h>

static inline uint64_t ramet_deadline_us(unsigned timeout_ms) { return ramet_now_us() + (uint64_t)timeout_ms * 1000; }

/* Microseconds left until the deadline, 0 when it has passed. */
static inline uint64_t ramet_left_us(uint64_t deadline_us)
{
    uint64_t now = ramet_now_us();
    return now < deadline_us ? deadline_us - now : 0;
}

static inline struct timespec ramet_timespec_us(uint64_t us)
{
    return (struct timespec){.tv_sec = (time_t)(us / 1000000), .tv_nsec = (long)(us % 1000000) * 1000};
}

static inline void ramet_sleep_us(uint64_t us)
{
    struct timespec ts = ramet_timespec_us(us);
    while (nanosleep(&ts, &ts) != 0 && errno == EINTR)
        ;
}

#endif
