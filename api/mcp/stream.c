/* SPDX-License-Identifier: Apache-2.0 */
/* `lock` guards all fields; the reader sleeps on `more`. */
#include "mcp/stream.h"

#include "base/cleanup.h"
#include "json.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#define QUIET_S 5             /* until a comment is sent */
#define QUEUE_MAX (16u << 20) /* bytes a reader may be behind before it is given up */

struct ramet_mcp_stream {
    atomic_uint refs;
    pthread_mutex_t lock;
    pthread_cond_t more;
    char *bytes; /* not taken yet */
    size_t size, capacity;
    bool ended, gone;
};

struct ramet_mcp_stream *ramet_mcp_stream_new(void)
{
    struct ramet_mcp_stream *stream = calloc(1, sizeof *stream);
    pthread_condattr_t attr;
    if (!stream)
        return NULL;
    atomic_init(&stream->refs, 1);
    pthread_mutex_init(&stream->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&stream->more, &attr);
    pthread_condattr_destroy(&attr);
    return stream;
}

struct ramet_mcp_stream *ramet_mcp_stream_ref(struct ramet_mcp_stream *stream)
{
    atomic_fetch_add(&stream->refs, 1);
    return stream;
}

void ramet_mcp_stream_unref(struct ramet_mcp_stream *stream)
{
    if (!stream || atomic_fetch_sub(&stream->refs, 1) != 1)
        return;
    pthread_cond_destroy(&stream->more);
    pthread_mutex_destroy(&stream->lock);
    free(stream->bytes);
    free(stream);
}

/* Under the lock. */
static bool append(struct ramet_mcp_stream *stream, const char *bytes, size_t size)
{
    if (stream->size + size > QUEUE_MAX)
        return false;
    if (stream->size + size > stream->capacity) {
        size_t capacity = (stream->size + size) * 2;
        char *grown = realloc(stream->bytes, capacity);
        if (!grown)
            return false;
        stream->bytes = grown;
        stream->capacity = capacity;
    }
    memcpy(stream->bytes + stream->size, bytes, size);
    stream->size += size;
    return true;
}

bool ramet_mcp_stream_send(struct ramet_mcp_stream *stream, struct ramet_json *message)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *owned = message;
    _autofree_ char *text = ramet_json_text(owned), *event = NULL;
    int size = text ? asprintf(&event, "event: message\ndata: %s\n\n", text) : -1;
    if (size < 0)
        return false;
    pthread_mutex_lock(&stream->lock);
    bool taken = !stream->gone && !stream->ended && append(stream, event, (size_t)size);
    stream->ended = stream->ended || (!stream->gone && !taken); /* a message is missing: better none than the rest */
    pthread_cond_signal(&stream->more);
    pthread_mutex_unlock(&stream->lock);
    return taken;
}

void ramet_mcp_stream_end(struct ramet_mcp_stream *stream)
{
    pthread_mutex_lock(&stream->lock);
    stream->ended = true;
    pthread_cond_signal(&stream->more);
    pthread_mutex_unlock(&stream->lock);
}

bool ramet_mcp_stream_gone(struct ramet_mcp_stream *stream)
{
    pthread_mutex_lock(&stream->lock);
    bool gone = stream->gone;
    pthread_mutex_unlock(&stream->lock);
    return gone;
}

/* ---- the reader ---- */

static long read_stream(void *context, char *buf, size_t max)
{
    struct ramet_mcp_stream *stream = context;
    static const char comment[] = ":\n\n";
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += QUIET_S;
    int rc = 0;
    long size;
    pthread_mutex_lock(&stream->lock);
    while (!stream->size && !stream->ended && rc == 0)
        rc = pthread_cond_timedwait(&stream->more, &stream->lock, &until);
    if (stream->size) {
        size = (long)(stream->size < max ? stream->size : max);
        memcpy(buf, stream->bytes, (size_t)size);
        stream->size -= (size_t)size;
        memmove(stream->bytes, stream->bytes + size, stream->size);
    } else if (stream->ended || max < sizeof comment - 1) {
        size = -1;
    } else {
        size = sizeof comment - 1;
        memcpy(buf, comment, sizeof comment - 1);
    }
    pthread_mutex_unlock(&stream->lock);
    return size;
}

static void leave(void *context)
{
    struct ramet_mcp_stream *stream = context;
    pthread_mutex_lock(&stream->lock);
    stream->gone = true;
    pthread_mutex_unlock(&stream->lock);
    ramet_mcp_stream_unref(stream);
}

void ramet_mcp_stream_answer(struct ramet_mcp_stream *stream, struct ramet_http_response *response)
{
    response->status = 200;
    response->content_type = "text/event-stream";
    ramet_http_add_header(response, "Cache-Control", "no-cache");
    response->stream.read = read_stream;
    response->stream.close = leave;
    response->stream.context = ramet_mcp_stream_ref(stream);
}
