/* SPDX-License-Identifier: Apache-2.0 */
/* Calls whose body or answer is not held in memory, on exchanges. No state. */
#include "base/cleanup.h"
#include "client_exchange.h"
#include "wire.h"

#include <stdlib.h>
#include <string.h>

enum { answer_most = 1 << 20 }; /* of an answer that is kept: JSON */

/* Counts as the whole of a call; `status` is known when the first header line has come. */
struct stream {
    long (*read)(void *context, char *buf, size_t max);
    bool (*write)(void *context, const char *bytes, size_t size); /* NULL: answers are kept */
    void *context;
    int status;
    bool gave_up; /* the caller's function did */
    char *answer;
    size_t size;
};

static void see_header(void *context, const char *line)
{
    struct stream *stream = context;
    if (strncmp(line, "HTTP/", 5) == 0 && strchr(line, ' '))
        stream->status = atoi(strchr(line, ' ')); /* the last one: 100 comes before it */
}

static bool keep(struct stream *stream, const char *bytes, size_t size)
{
    char *grown = size > answer_most - stream->size ? NULL : realloc(stream->answer, stream->size + size + 1);
    if (!grown)
        return false;
    stream->answer = grown;
    memcpy(grown + stream->size, bytes, size);
    stream->size += size;
    grown[stream->size] = '\0';
    return true;
}

static bool see_data(void *context, const char *bytes, size_t size)
{
    struct stream *stream = context;
    if (!stream->write || stream->status < 200 || stream->status > 299)
        return keep(stream, bytes, size);
    bool more = stream->write(stream->context, bytes, size);
    stream->gave_up |= !more;
    return more;
}

static long give_data(void *context, char *buf, size_t max)
{
    struct stream *stream = context;
    long size = stream->read(stream->context, buf, max);
    stream->gave_up |= size < 0;
    return size;
}

static int run(struct ramet_client *client, const char *method, const char *path, struct stream *stream,
               struct ramet_error *err)
{
    static const char *const headers[] = {"Content-Type: application/x-tar", NULL};
    const struct ramet_client_exchange exchange = {.method = method,
                                                   .path = path,
                                                   .headers = stream->read ? headers : NULL,
                                                   .read = stream->read ? give_data : NULL,
                                                   .context = stream,
                                                   .header = see_header,
                                                   .data = see_data};
    int status = 0, rc = ramet_client_exchange(client, &exchange, &status, err);
    if (stream->gave_up)
        rc = ramet_error_set(err, RAMET_INVALID, "the caller broke the call off");
    if (rc == 0 && (status < 200 || status > 299))
        rc = ramet_wire_error_read(stream->answer ? stream->answer : "", stream->size, status, err);
    return rc;
}

int ramet_client_send(struct ramet_client *client, const char *method, const char *path,
                      long (*read)(void *context, char *buf, size_t max), void *context, char **ret_answer,
                      struct ramet_error *err)
{
    struct stream stream = {.read = read, .context = context};
    int rc = run(client, method, path, &stream, err);
    if (rc == 0 && ret_answer)
        *ret_answer = STEAL(stream.answer);
    free(stream.answer);
    return rc;
}

int ramet_client_receive(struct ramet_client *client, const char *path,
                         bool (*write)(void *context, const char *bytes, size_t size), void *context,
                         struct ramet_error *err)
{
    struct stream stream = {.write = write, .context = context};
    int rc = run(client, "GET", path, &stream, err);
    free(stream.answer);
    return rc;
}
