/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A server that speaks JSON-RPC over Streamable HTTP: the second wrapper around libcurl (client.c is the first), whose
 * types stay in web.c.
 *
 * A call is one POST on its caller's thread; its answer is a JSON body, or an event in a stream that may hold
 * notifications and the server's own requests before it. A stream that ends before its answer is asked for again from
 * its last event, where events have ids. Certificates are verified, redirections are not followed: what we send holds
 * credentials. Bodies and events are limited to `message_max` bytes.
 *
 * Thread-safety: calls and cancel from any thread; free when none is under way.
 */
#ifndef RAMET_API_TOOLS_WEB_H
#define RAMET_API_TOOLS_WEB_H

#include "tools/rpc.h"

struct ramet_web;

struct ramet_web_options {
    const char *url;
    const char *const *headers; /* "Name: value", NULL-terminated; may be NULL */
    size_t message_max;
    void (*heard)(void *context, const struct ramet_rpc_message *notification); /* on the caller's thread */
    void *context;
};

int ramet_web_new(const struct ramet_web_options *options, struct ramet_web **ret, struct ramet_error *err);
void ramet_web_free(struct ramet_web *web); /* NULL is a no-op */
/* Ends every call that is under way or comes, with RAMET_UNAVAILABLE. */
void ramet_web_cancel(struct ramet_web *web);

/* What the protocol wants in headers. Stateless: `version`, `method` and `name` of every call. */
struct ramet_web_call {
    uint64_t id;             /* of the request; UINT64_MAX: a notification */
    const char *body;        /* the message */
    const char *version;     /* MCP-Protocol-Version, or NULL */
    const char *method;      /* Mcp-Method, or NULL */
    const char *name;        /* Mcp-Name, or NULL */
    const char *const *more; /* further "Name: value", or NULL */
    uint64_t deadline_us;
};

/*
 * RAMET_CONFLICT when the server does not know our session any more: start anew. RAMET_DENIED for 401 and 403. An error
 * of JSON-RPC is an answer, whatever HTTP status it came with; any other failing status is RAMET_UNAVAILABLE.
 * *ret_status (may be NULL) is the HTTP status, 0 when there was none.
 */
int ramet_web_call(struct ramet_web *web, const struct ramet_web_call *call, struct ramet_rpc_answer *ret,
                   int *ret_status, struct ramet_error *err);

/* The older protocol's session: the id the server gave with its last answer, sent back from then on. */
bool ramet_web_has_session(struct ramet_web *web);
void ramet_web_end_session(struct ramet_web *web, const char *version); /* tells the server and forgets it */

/*
 * The older protocol's stream of notifications: returns when it ends, 0 where the server just closed it. `version` as
 * above. RAMET_UNSUPPORTED where it offers none.
 */
int ramet_web_listen(struct ramet_web *web, const char *version, struct ramet_error *err);

/* A value as these headers hold it: as it is where that is safe, else =?base64?...?=. Owned; NULL: no memory. */
char *ramet_web_header_value(const char *value);

#endif
