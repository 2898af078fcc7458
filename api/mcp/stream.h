/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Server-sent events from whoever has something to say to one HTTP answer. Writers
 * queue whole messages; the connection's thread takes their bytes. While nothing
 * comes a comment is sent now and then, so that a client that has gone is noticed.
 *
 * A stream ends when it was told to and all is sent; its reader may leave before,
 * after which writing does nothing. Counted: each side holds a reference.
 */
#ifndef RAMET_API_MCP_STREAM_H
#define RAMET_API_MCP_STREAM_H

#include "http.h"

#include <stdbool.h>

struct ramet_json;
struct ramet_mcp_stream;

struct ramet_mcp_stream *ramet_mcp_stream_new(void); /* with one reference; NULL: no memory */
struct ramet_mcp_stream *ramet_mcp_stream_ref(struct ramet_mcp_stream *stream);
void ramet_mcp_stream_unref(struct ramet_mcp_stream *stream); /* NULL is a no-op */

/* Queues a message, which is taken over. False: nobody reads any more, or memory is short. */
bool ramet_mcp_stream_send(struct ramet_mcp_stream *stream, struct ramet_json *message);
void ramet_mcp_stream_end(struct ramet_mcp_stream *stream);
bool ramet_mcp_stream_gone(struct ramet_mcp_stream *stream); /* its reader has left */

/* Makes it the body of an answer, with a reference of its own. */
void ramet_mcp_stream_answer(struct ramet_mcp_stream *stream, struct ramet_http_response *response);

#endif
