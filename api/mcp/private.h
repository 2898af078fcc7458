/* SPDX-License-Identifier: Apache-2.0 */
/* Between the sources of the MCP server. */
#ifndef RAMET_API_MCP_PRIVATE_H
#define RAMET_API_MCP_PRIVATE_H

#include "mcp/mcp.h"
#include "mcp/sessions.h"
#include "mcp/stream.h"

#include <pthread.h>

#define META "io.modelcontextprotocol/"

struct listener;

struct ramet_mcp {
    struct ramet_mcp_provider provider;
    struct ramet_mcp_sessions *sessions;
    struct ramet_json *capabilities;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t idle;
    unsigned workers;
    struct listener *listeners;
    bool stopping;
};

/* One message on its way to its answer. Owned whole, so that it can move to another thread. */
struct ramet_mcp_exchange {
    struct ramet_mcp *mcp;
    struct ramet_jsonrpc_message message;
    struct ramet_principal principal;
    struct ramet_mcp_session *session; /* owned reference, or NULL */
    bool modern;
    char client[128], trace[33], id[64];
    struct ramet_origin origin; /* points into this struct, and to the message */
    struct ramet_mcp_call call;
};

/* server.c: the answer to a request; never NULL but when memory is short. *ret_http is its status. */
struct ramet_json *ramet_mcp_answer(struct ramet_mcp_exchange *x, int *ret_http);
bool ramet_mcp_talks(struct ramet_mcp_exchange *x);
/* Checks what the request carries of itself in the modern era. */
int ramet_mcp_check_meta(const struct ramet_jsonrpc_message *message, struct ramet_jsonrpc_error *error);
bool ramet_mcp_version_known(const char *version); /* of the legacy era */

/* listen.c: subscriptions/listen */
int ramet_mcp_listen(struct ramet_mcp_exchange *x, struct ramet_mcp_stream *stream, struct ramet_jsonrpc_error *error);
void ramet_mcp_unlisten_all(struct ramet_mcp *mcp);

/* talk.c */
int ramet_mcp_level(const char *name); /* of logging, 0 (debug) to 7; -1: none */
struct ramet_mcp_talk {
    struct ramet_mcp_stream *stream;   /* borrowed */
    struct ramet_mcp_session *session; /* borrowed, or NULL */
};
/* Runs the exchange on a thread of its own, which takes it over, as a stream in the answer. */
int ramet_mcp_talk_start(struct ramet_mcp_exchange *x, struct ramet_http_response *response, struct ramet_error *err);

void ramet_mcp_exchange_free(struct ramet_mcp_exchange *x);

#endif
