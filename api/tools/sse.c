/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/sse.h"

#include "base/cleanup.h"

#include <string.h>

enum { field_max = 4 << 10 }; /* of a line that is no data */

void ramet_sse_free(struct ramet_sse *sse)
{
    free(STEAL(sse->line));
    free(STEAL(sse->data));
}

/* Appends within the limit; false when it does not fit or memory ran out. */
static bool append(struct ramet_sse *sse, char **to, size_t *size, size_t *capacity, const char *bytes, size_t count,
                   size_t limit)
{
    if (*size + count > limit)
        return false;
    if (count == 0)
        return true;
    if (*size + count > *capacity) {
        size_t wanted = (*size + count) * 2;
        char *grown = realloc(*to, wanted);
        if (!grown) {
            sse->no_memory = true;
            return false;
        }
        *to = grown;
        *capacity = wanted;
    }
    memcpy(*to + *size, bytes, count);
    *size += count;
    return true;
}

static void data_line(struct ramet_sse *sse, const char *value, size_t size)
{
    bool good =
        (!sse->has_data || append(sse, &sse->data, &sse->data_size, &sse->data_capacity, "\n", 1, sse->data_max));
    good = good && append(sse, &sse->data, &sse->data_size, &sse->data_capacity, value, size, sse->data_max);
    sse->has_data = true;
    sse->too_large |= !good;
}

static void field(struct ramet_sse *sse, const char *line, size_t size)
{
    const char *colon = memchr(line, ':', size);
    size_t name = colon ? (size_t)(colon - line) : size;
    const char *value = colon ? colon + 1 : line + size;
    if (value < line + size && *value == ' ')
        value++;
    size_t value_size = (size_t)(line + size - value);
    if (name == 4 && memcmp(line, "data", 4) == 0) {
        data_line(sse, value, value_size);
    } else if (name == 2 && memcmp(line, "id", 2) == 0 && value_size < sizeof sse->id &&
               !memchr(value, '\0', value_size)) {
        memcpy(sse->id, value, value_size);
        sse->id[value_size] = '\0';
    } else if (name == 5 && memcmp(line, "retry", 5) == 0 && value_size > 0 && value_size < 8) {
        unsigned ms = 0;
        for (size_t i = 0; i < value_size; i++) {
            if (value[i] < '0' || value[i] > '9')
                return;
            ms = ms * 10 + (unsigned)(value[i] - '0');
        }
        sse->retry_ms = ms;
    }
}

static bool end_event(struct ramet_sse *sse, ramet_sse_event *event, void *context)
{
    bool has_data = sse->has_data, too_large = sse->too_large;
    size_t size = sse->data_size;
    sse->has_data = sse->too_large = false;
    sse->data_size = 0;
    return !has_data || event(context, too_large || !sse->data ? "" : sse->data, too_large ? 0 : size, too_large);
}

static bool end_line(struct ramet_sse *sse, ramet_sse_event *event, void *context)
{
    const char *line = sse->line ? sse->line : "";
    size_t size = sse->line_size;
    sse->line_size = 0;
    if (!sse->started && size >= 3 && memcmp(line, "\xef\xbb\xbf", 3) == 0) {
        line += 3;
        size -= 3;
    }
    sse->started = true;
    if (size == 0)
        return end_event(sse, event, context);
    if (*line != ':')
        field(sse, line, size);
    return true;
}

/* A piece of a line. What is too long for the line's buffer makes the event too large; its rest is not kept. */
static void add(struct ramet_sse *sse, const char *bytes, size_t size)
{
    if (!append(sse, &sse->line, &sse->line_size, &sse->line_capacity, bytes, size, sse->data_max + field_max))
        sse->has_data = sse->too_large = true;
}

bool ramet_sse_feed(struct ramet_sse *sse, const char *bytes, size_t size, ramet_sse_event *event, void *context)
{
    const char *at = bytes, *end = bytes + size;
    while (at < end) {
        if (sse->after_cr && *at == '\n') {
            sse->after_cr = false;
            at++;
            continue;
        }
        sse->after_cr = false;
        const char *stop = at;
        while (stop < end && *stop != '\n' && *stop != '\r')
            stop++;
        add(sse, at, (size_t)(stop - at));
        if (sse->no_memory)
            return false;
        if (stop < end) {
            sse->after_cr = *stop == '\r';
            if (!end_line(sse, event, context))
                return false;
            stop++;
        }
        at = stop;
    }
    return true;
}
