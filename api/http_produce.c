/* SPDX-License-Identifier: Apache-2.0 */
#include "http_produce.h"

#include "base/cleanup.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

struct producing {
    struct ramet_http_producer producer;
    pthread_t thread;
    int in, out; /* of the pipe: the connection's end, the writer's; the writer closes its own */
    bool joined;
    int result; /* of the writer, once joined */
};

static void *run(void *arg)
{
    struct producing *p = arg;
    struct ramet_error err = {0};
    p->result = p->producer.write(p->producer.context, p->out, &err);
    if (p->result < 0)
        ramet_warn("%s: %s", p->producer.what, err.msg);
    close(p->out);
    return NULL;
}

static void join(struct producing *p)
{
    if (!p->joined)
        pthread_join(p->thread, NULL);
    p->joined = true;
}

static long read_more(void *context, char *buf, size_t max)
{
    struct producing *p = context;
    ssize_t got;
    do
        got = read(p->in, buf, max);
    while (got < 0 && errno == EINTR);
    if (got > 0)
        return (long)got;
    join(p);
    return got < 0 || p->result < 0 ? RAMET_HTTP_STREAM_FAILED : RAMET_HTTP_STREAM_END;
}

static void end(void *context)
{
    struct producing *p = context;
    close(p->in);
    join(p);
    p->producer.free(p->producer.context);
    free(p);
}

int ramet_http_produce(const struct ramet_http_producer *producer, struct ramet_http_response *response,
                       struct ramet_error *err)
{
    int ends[2], failed = ENOMEM;
    struct producing *p = calloc(1, sizeof *p);
    if (p && pipe2(ends, O_CLOEXEC) == 0) {
        fcntl(ends[1], F_SETPIPE_SZ, 1 << 20);
        *p = (struct producing){.producer = *producer, .in = ends[0], .out = ends[1]};
        failed = pthread_create(&p->thread, NULL, run, p);
        if (failed) {
            close(ends[0]);
            close(ends[1]);
        }
    } else if (p) {
        failed = errno;
    }
    if (failed) {
        producer->free(producer->context);
        free(p);
        return ramet_error_os(err, failed, "cannot begin an answer");
    }
    response->stream.context = p;
    response->stream.read = read_more;
    response->stream.close = end;
    return 0;
}
