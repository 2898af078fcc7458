/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Answers that a function writes to a file descriptor, as long as they may be: it runs on a
 * thread of its own, and the connection sends what it reads from the other end of a pipe. A
 * writer that fails ends the connection without the end of the answer, so that the client
 * knows; a client that goes away lets the writer's next write fail with EPIPE.
 */
#ifndef RAMET_API_HTTP_PRODUCE_H
#define RAMET_API_HTTP_PRODUCE_H

#include "http.h"

struct ramet_http_producer {
    int (*write)(void *context, int fd, struct ramet_error *err);
    void (*free)(void *context); /* called once, after write or instead of it */
    void *context;
    const char *what; /* static; for the log */
};

/* Fills response->stream. On failure the context is freed too. */
int ramet_http_produce(const struct ramet_http_producer *producer, struct ramet_http_response *response,
                       struct ramet_error *err);

#endif
