/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Server-sent events (the text/event-stream of HTML), as they come in. An event's data is at most `data_max` bytes;
 * what is beyond makes the event one that is too large, told as such, and its bytes are not kept.
 * Not thread-safe: one parser belongs to one stream.
 */
#ifndef RAMET_API_TOOLS_SSE_H
#define RAMET_API_TOOLS_SSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RAMET_SSE_ID_SIZE 256

struct ramet_sse {
    size_t data_max;
    char *line, *data; /* of the event so far; owned */
    size_t line_size, line_capacity, data_size, data_capacity;
    bool has_data, too_large, after_cr, started;
    char id[RAMET_SSE_ID_SIZE]; /* of the last event that had one, "" when none had */
    unsigned retry_ms;          /* what the server asks for, 0 when it does not */
    bool no_memory;
};

/* One event with data; `too_large`: without it, as "". Returning false ends the feeding. */
typedef bool ramet_sse_event(void *context, const char *data, size_t size, bool too_large);

/* `sse` zeroed but for data_max. False when the handler ended it, or when memory ran out. */
bool ramet_sse_feed(struct ramet_sse *sse, const char *bytes, size_t size, ramet_sse_event *event, void *context);
void ramet_sse_free(struct ramet_sse *sse);

#endif
