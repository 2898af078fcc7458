/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lines out of a stream of bytes. One beyond the limit is thrown away as it comes; the id that it answers, where that
 * can be made out, is told instead. One thread at a time.
 */
#ifndef RAMET_API_TOOLS_LINE_READER_H
#define RAMET_API_TOOLS_LINE_READER_H

#include "tools/rpc.h"

struct ramet_line_reader {
    /* Set by the user; the text is borrowed, without its newline and without NUL. */
    size_t max; /* bytes of a line */
    void (*line)(void *context, const char *text, size_t size);
    void (*lost)(void *context, uint64_t id);
    void *context;

    /* Zero at first. */
    char *text; /* the line so far */
    size_t size, capacity;
    bool too_long;
    struct ramet_id_finder finder;
};

void ramet_line_reader_feed(struct ramet_line_reader *reader, const char *data, size_t size);
void ramet_line_reader_free(struct ramet_line_reader *reader);

#endif
