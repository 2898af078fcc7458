/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON texts of strangers without a tree: checked whole, members found as spans of the text, in memory that does not
 * depend on what is in it. So a message passes through byte for byte, however large or odd.
 *
 * Strict RFC 8259 in UTF-8, nested RAMET_SCAN_DEPTH deep at most. Pure functions.
 */
#ifndef RAMET_API_TOOLS_SCAN_H
#define RAMET_API_TOOLS_SCAN_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RAMET_SCAN_DEPTH 512

/* Part of a text; `at` NULL: absent. */
struct ramet_span {
    const char *at;
    size_t size;
};

/*
 * `text` must be one JSON object. ret_values[i] becomes the value of the member names[i] (ends with NULL), absent
 * where there is none; of several the last. RAMET_INVALID names the byte that is wrong.
 */
int ramet_scan_object(const char *text, size_t size, const char *const *names, struct ramet_span *ret_values,
                      struct ramet_error *err);

/* The same part of a copy `to` of the text `from`. */
static inline struct ramet_span ramet_span_moved(struct ramet_span span, const char *from, const char *to)
{
    return (struct ramet_span){span.at ? to + (span.at - from) : NULL, span.size};
}

bool ramet_span_is(struct ramet_span span, const char *text);
/* What a span of a JSON string says, as far as it fits and with its escapes left as they are; "" for anything else. */
void ramet_span_string(struct ramet_span span, char *to, size_t size);
/* A non-negative integer below 2^63; false for anything else. */
bool ramet_span_u64(struct ramet_span span, uint64_t *ret);

/*
 * Finds the id of a message too large to keep, fed piece by piece: the member "id" of the outermost object, when it
 * is a non-negative integer. Zeroed to begin with.
 */
struct ramet_id_finder {
    unsigned depth;
    bool in_string, escaped, is_key, match, in_id, found;
    unsigned key_at;
    uint64_t id;
};
void ramet_id_finder_feed(struct ramet_id_finder *finder, const char *data, size_t size);

#endif
