/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log beside an overlay's data file: which pages are durable in it. A flush
 * appends one record naming the pages written since the last; reading stops at the
 * first record that is torn.
 *
 * A record that went bad later must not pass for a torn one, or flushed pages would be
 * gone without a word. So once a record is durable another, empty, is put behind it, which
 * the next flush overwrites: where an intact record follows, a bad one was acknowledged.
 * Not thread-safe.
 */
#ifndef RAMET_COW_OVERLAY_LOG_H
#define RAMET_COW_OVERLAY_LOG_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

static inline bool ramet_bit_get(const uint64_t *bitmap, uint64_t bit) { return bitmap[bit / 64] >> bit % 64 & 1; }
static inline void ramet_bit_set(uint64_t *bitmap, uint64_t bit) { bitmap[bit / 64] |= UINT64_C(1) << bit % 64; }

/*
 * Sets the bit of every page the log names; *ret_end is where the next record goes. RAMET_CORRUPT when an acknowledged
 * record is damaged.
 */
int ramet_overlay_log_read(int fd, const char *name, uint64_t page_count, uint64_t *bitmap, uint64_t *ret_end,
                           struct ramet_error *err);
/* Appends the pages whose bit is set in `fresh`, durably, and moves *end. */
int ramet_overlay_log_append(int fd, const char *name, uint64_t page_count, const uint64_t *fresh, uint64_t *end,
                             struct ramet_error *err);

#endif
