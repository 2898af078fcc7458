/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An MCP server for both eras: 2025-11-25 and before (initialize, sessions), and
 * 2026-07-28 (no state: what a request needs is in it). This part is the protocol; what
 * is offered is the provider's. http.c is the door, Streamable HTTP.
 *
 * A call that only answers is answered in JSON, on the connection's thread. One that
 * talks (progress, logging, questions) is answered as a stream of events, from a
 * thread of its own.
 *
 * Thread-safety: every function but new, stop and free from any thread.
 */
#ifndef RAMET_API_MCP_MCP_H
#define RAMET_API_MCP_MCP_H

#include "base/error.h"
#include "http.h"
#include "mcp/jsonrpc.h"
#include "routes.h"

#include <stdbool.h>

#define RAMET_MCP_MODERN "2026-07-28"
#define RAMET_MCP_LEGACY "2025-11-25" /* the newest before; older ones are served as asked for */

struct ramet_mcp;
struct ramet_mcp_talk; /* how a call reaches its client while it runs */

/* One request, as the provider sees it; all borrowed. */
struct ramet_mcp_call {
    const struct ramet_principal *principal;
    const struct ramet_origin *origin; /* what the audit is told */
    const char *method;
    const struct ramet_json *params;       /* an object */
    const struct ramet_json *capabilities; /* of the client */
    bool modern;
    struct ramet_mcp_talk *talk; /* NULL: the call cannot talk */
};

struct ramet_mcp_provider {
    void *context;
    const char *name, *title, *version, *instructions;
    const char *capabilities; /* JSON: {"tools": {}} */
    /*
     * Answers tools/list, tools/call, prompts/..., resources/... and completion/complete with the result's object,
     * or returns a negative value with the error filled; RAMET_JSONRPC_NO_METHOD for what it does not offer.
     */
    int (*answer)(void *context, const struct ramet_mcp_call *call, struct ramet_json **ret,
                  struct ramet_jsonrpc_error *error);
    bool (*talks)(void *context, const struct ramet_mcp_call *call); /* NULL: never */
};

/* The provider is copied, its strings borrowed. */
int ramet_mcp_new(const struct ramet_mcp_provider *provider, struct ramet_mcp **ret, struct ramet_error *err);
void ramet_mcp_stop(struct ramet_mcp *mcp); /* ends every stream that waits for something to happen */
void ramet_mcp_free(struct ramet_mcp *mcp); /* waits for calls under way; NULL is a no-op */

/* The door: POST, GET or DELETE. Errors of HTTP and of JSON-RPC are both in the answer. */
void ramet_mcp_http(struct ramet_mcp *mcp, const struct ramet_http_request *request,
                    struct ramet_http_response *response);

/* Tells who listens that a list has changed: "tools", "prompts", "resources"; or with a uri, that resource. */
void ramet_mcp_changed(struct ramet_mcp *mcp, const char *what, const char *uri);

/* ---- for providers, during a call; without a talk they do nothing ---- */

/* Says how far the call is, if its client wants to know. `message` may be NULL. */
void ramet_mcp_progress(const struct ramet_mcp_call *call, double progress, double total, const char *message);
/* `level`: "debug" ... "emergency"; sent when the client asked for that level or a lower one. */
void ramet_mcp_log(const struct ramet_mcp_call *call, const char *level, const char *text);
/* Asks the client and waits (before 2026-07-28 only): CONFLICT when it cannot do that. Takes over `params`. */
int ramet_mcp_ask(const struct ramet_mcp_call *call, const char *method, struct ramet_json *params,
                  struct ramet_json **ret, struct ramet_error *err);
/* Whether the client declared a capability: "sampling", "elicitation", "roots". */
bool ramet_mcp_can(const struct ramet_mcp_call *call, const char *capability);

#endif
