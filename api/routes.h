/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From an HTTP request to a handler and back: a table of routes and the one place
 * that matches paths, checks bodies and renders errors. It knows nothing of the
 * service; the context travels through.
 *
 * Thread-safety: a router is never written after start.
 */
#ifndef RAMET_API_ROUTES_H
#define RAMET_API_ROUTES_H

#include "base/error.h"
#include "http.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct ramet_gate;
struct ramet_json;
struct ramet_mcp;
struct ramet_service;
struct ramet_tools_shelf;

/* What is told of a call in the audit besides who made it. NULL where nothing is known. */
struct ramet_origin {
    const char *client, *session, *trace;              /* what it calls itself; MCP session; trace id */
    const char *method, *tool, *protocol, *request_id; /* of an MCP request */
};

/* What a handler gets, all borrowed for the length of its call. */
struct ramet_call {
    void *context;
    const struct ramet_principal *principal;
    const struct ramet_origin *origin; /* NULL: nothing is known */
    const char *param;                 /* the path's first {parameter}, decoded; "" when it has none */
    const char *param2;                /* the second */
    const struct ramet_json *body;     /* an object, {} when none was sent; NULL where the route takes none */
    const struct ramet_http_request *request;
    int *ret_status; /* set by a writer of texts whose answer has another HTTP status than the route's; NULL: cannot */
};

/* Returns 0 and the answer, taken over by the router, or an error. */
typedef int ramet_route_handler(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err);

/* The same for an answer that is not JSON: *ret is malloc'ed. */
typedef int ramet_route_text(const struct ramet_call *call, char **ret, struct ramet_error *err);

/* The same for an answer of any length: fills response->stream (http_produce.h). */
typedef int ramet_route_stream(const struct ramet_call *call, struct ramet_http_response *response,
                               struct ramet_error *err);

struct ramet_route {
    const char *method;
    const char *path;      /* "/v1/sandboxes/{sandbox}/fork"; at most two {parameters}, whole segments */
    const char *operation; /* operationId in openapi.yaml */
    ramet_route_handler *handler;
    int status;               /* HTTP status of a success */
    bool takes_body;          /* a JSON object */
    const char *const *query; /* NULL, or the NULL-terminated names it understands */
    const char *text;         /* instead of a handler: a fixed answer */
    ramet_route_text *write;  /* instead of a handler: makes a text */
    const char *text_type;    /* of either */
    /* Instead of a handler: reads the request and makes the answer itself, and asks the gate for what it does. */
    int (*raw)(const struct ramet_call *call, struct ramet_http_response *response, struct ramet_error *err);
    ramet_route_stream *stream; /* instead of a handler; its type is text_type */
    bool streams_body;          /* the handler reads request->body_fd; there is no JSON */
};

/* What the gate keeps of a call between its beginning and its end. */
struct ramet_ticket {
    uint64_t seq, begun_us;
    bool told; /* its beginning is in the audit */
    char arguments[65], object[160];
    char param[64]; /* what stands for the call's param: the id of what it named when that was judged; "": it itself */
};

/*
 * Who may call what, asked for every route (gate.h). `enter` lets a call through or
 * returns the error; for one that was let through `leave` is called with its answer,
 * of which it may take away what the caller may not see, or with its error.
 */
struct ramet_router_gate {
    void *context;
    ramet_http_admit *admit;
    int (*enter)(void *context, const struct ramet_route *route, const struct ramet_call *call,
                 struct ramet_ticket *ticket, struct ramet_error *err);
    int (*leave)(void *context, const struct ramet_route *route, const struct ramet_call *call,
                 const struct ramet_ticket *ticket, struct ramet_json *answer, const struct ramet_error *failure,
                 struct ramet_error *err);
};

struct ramet_router {
    const struct ramet_route *routes;
    size_t count;
    void *context;
    const struct ramet_router_gate *gate; /* NULL: root and the daemon's user, everything */
};

/* A ramet_http_admit and a ramet_http_handler; `router` is a struct ramet_router. */
int ramet_router_admit(void *router, struct ramet_http_request *request, struct ramet_http_response *response,
                       struct ramet_error *err);
void ramet_router_handle(void *router, const struct ramet_http_request *request, struct ramet_http_response *response);

/* A call that does not come as a request of its own: through the same gate to the same handler. */
struct ramet_inner_call {
    const char *operation;
    const struct ramet_principal *principal;
    const struct ramet_origin *origin;
    const char *param;             /* NULL: none */
    const struct ramet_json *body; /* NULL: none */
    struct {
        const char *name, *value;
    } query[2]; /* NULL names: none */
};
int ramet_router_call(const struct ramet_router *router, const struct ramet_inner_call *inner, struct ramet_json **ret,
                      struct ramet_error *err);
const struct ramet_route *ramet_router_find(const struct ramet_router *router, const char *operation); /* or NULL */

/* One line a route: METHOD PATH operationId. */
void ramet_router_print(const struct ramet_router *router, FILE *out);

/* Value of a query parameter; RAMET_INVALID when it is absent or empty. */
int ramet_call_query(const struct ramet_call *call, const char *name, const char **ret, struct ramet_error *err);
/* A whole number; *ret stays as it is when the parameter is absent or empty. INVALID outside of min to max. */
int ramet_call_query_u64(const struct ramet_call *call, const char *name, uint64_t min, uint64_t max, uint64_t *ret,
                         struct ramet_error *err);

/* ---- the daemon's own table (routes_table.c) ---- */

/* Context of the daemon's routes. Strings are borrowed. */
struct ramet_routes_context {
    struct ramet_service *service;
    struct ramet_gate *gate;
    struct ramet_mcp *mcp;
    struct ramet_tools_shelf *shelf;
    const char *store_dir, *mount_dir, *run_dir, *socket_path;
};

/* A router over every route of openapi.yaml. */
struct ramet_router ramet_routes(struct ramet_routes_context *context);

#endif
