/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/line_reader.h"

#include "base/cleanup.h"

#include <stdlib.h>
#include <string.h>

enum { keep_bytes = 1 << 20 /* of the buffer, between lines */ };

/* A piece of a line, without its newline. */
static void add(struct ramet_line_reader *reader, const char *data, size_t size)
{
    if (size == 0)
        return;
    if (!reader->too_long && reader->size + size > reader->max) {
        reader->too_long = true;
        reader->finder = (struct ramet_id_finder){0};
        ramet_id_finder_feed(&reader->finder, reader->text, reader->size);
        reader->size = 0;
    }
    if (reader->too_long) {
        ramet_id_finder_feed(&reader->finder, data, size);
        return;
    }
    if (reader->size + size > reader->capacity) {
        size_t capacity = (reader->size + size) * 2;
        char *grown = realloc(reader->text, capacity);
        if (!grown) {
            /* As good as too large. */
            reader->max = reader->size;
            add(reader, data, size);
            return;
        }
        reader->text = grown;
        reader->capacity = capacity;
    }
    memcpy(reader->text + reader->size, data, size);
    reader->size += size;
}

static void end(struct ramet_line_reader *reader)
{
    if (!reader->too_long)
        reader->line(reader->context, reader->text, reader->size);
    else if (reader->finder.found)
        reader->lost(reader->context, reader->finder.id);
    reader->too_long = false;
    reader->size = 0;
    if (reader->capacity > keep_bytes) {
        free(STEAL(reader->text));
        reader->capacity = 0;
    }
}

void ramet_line_reader_feed(struct ramet_line_reader *reader, const char *data, size_t size)
{
    for (const char *at = data, *data_end = data + size; at < data_end;) {
        const char *newline = memchr(at, '\n', (size_t)(data_end - at));
        add(reader, at, (size_t)((newline ? newline : data_end) - at));
        if (newline)
            end(reader);
        at = newline ? newline + 1 : data_end;
    }
}

void ramet_line_reader_free(struct ramet_line_reader *reader) { free(reader->text); }
