/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bodies that are too large to be held: the handler runs on a thread of its own beside the
 * connection's, and reads from a pipe what the connection puts into it. Nothing is kept, so
 * a slow handler slows its client.
 *
 * A handler that ends early has its answer sent when the client has sent all: what it did
 * not read is dropped. It must ask ramet_http_body_whole when the pipe has ended, before it
 * does anything that lasts: a client that goes away ends the pipe too.
 */
#ifndef RAMET_API_HTTP_UPLOAD_H
#define RAMET_API_HTTP_UPLOAD_H

#include "http.h"

struct ramet_http_upload;

/* `request` is borrowed until end or abort; body_fd is set in it. */
int ramet_http_upload_start(ramet_http_handler *handler, void *context, struct ramet_http_request *request,
                            struct ramet_http_upload **ret, struct ramet_error *err);
/* A piece of the body; waits while the handler is behind. */
void ramet_http_upload_put(struct ramet_http_upload *upload, const char *data, size_t size);
/* The body is whole: waits for the handler and gives its answer. */
void ramet_http_upload_end(struct ramet_http_upload *upload, struct ramet_http_response *ret);
/* Frees it; one that has not ended is cut off and waited for. NULL is a no-op. */
void ramet_http_upload_free(struct ramet_http_upload *upload);

#endif
