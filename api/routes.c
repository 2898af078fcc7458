/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dispatch. A path is known when any route's template matches it (else 404), allowed
 * when one of those has the method (else 405 naming those that do). Bodies are
 * strict: a JSON object, sent as application/json, and only where a route takes one.
 * No state, no locks.
 */
#include "routes.h"

#include "base/cleanup.h"
#include "json.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define PARAM_SIZE 512
#define PARAMS 2

/* The parameters of a path, decoded; "" where it has none. */
struct params {
    char values[PARAMS][PARAM_SIZE];
};

/* ---- matching ---- */

static bool is_param(const char *segment) { return *segment == '{'; }

/* Copies a segment, decoded. One that is empty, too long or holds a NUL is no parameter. */
static bool take_param(const char *segment, size_t size, char param[static PARAM_SIZE])
{
    if (size == 0 || size >= PARAM_SIZE)
        return false;
    memcpy(param, segment, size);
    param[size] = '\0';
    return ramet_http_decode(param) == strlen(param);
}

/* Whether `path` fits `template`; the parameters' values are copied to `params`. */
static bool match(const char *template, const char *path, struct params *params)
{
    size_t count = 0;
    *params = (struct params){0};
    while (*template == '/' && *path == '/') {
        size_t want = strcspn(++template, "/"), have = strcspn(++path, "/");
        if (is_param(template)) {
            if (count == PARAMS || !take_param(path, have, params->values[count++]))
                return false;
        } else if (want != have || memcmp(template, path, want) != 0) {
            return false;
        }
        template += want;
        path += have;
    }
    return !*template && !*path;
}

static void add_allowed(char allow[static 64], const char *method)
{
    size_t used = strlen(allow);
    snprintf(allow + used, 64 - used, "%s%s", used ? ", " : "", method);
}

/* Finds the route; on failure sets the error and the HTTP status that no error code stands for. */
static const struct ramet_route *find(const struct ramet_router *router, const struct ramet_http_request *request,
                                      struct params *params, struct ramet_http_response *response,
                                      struct ramet_error *err)
{
    for (size_t i = 0; i < router->count; i++) {
        const struct ramet_route *route = &router->routes[i];
        if (!match(route->path, request->path, params))
            continue;
        if (strcmp(route->method, request->method) == 0)
            return route;
        add_allowed(response->allow, route->method);
    }
    if (*response->allow) {
        response->status = 405;
        ramet_error_set(err, RAMET_INVALID, "%.20s is not allowed on %.200s", request->method, request->path);
        ramet_error_hint(err, "allowed: %s", response->allow);
    } else {
        ramet_error_set(err, RAMET_NOT_FOUND, "no such path: %.200s", request->path);
        ramet_error_hint(err, "GET /openapi.yaml describes every call");
    }
    return NULL;
}

/* ---- checking ---- */

static int check_query(const struct ramet_route *route, const struct ramet_http_request *request,
                       struct ramet_error *err)
{
    for (size_t i = 0; i < request->query_count; i++) {
        const char *name = request->query[i].name, *const *known = route->query;
        while (known && *known && strcmp(*known, name) != 0)
            known++;
        if (!known || !*known)
            return ramet_error_set(err, RAMET_INVALID, "unknown query parameter \"%.100s\"", name);
    }
    return 0;
}

static bool is_json(const char *content_type)
{
    static const char type[] = "application/json";
    size_t length = strcspn(content_type, "; \t");
    return length == sizeof type - 1 && strncasecmp(content_type, type, length) == 0;
}

static int read_body(const struct ramet_route *route, const struct ramet_http_request *request,
                     struct ramet_http_response *response, struct ramet_json **ret, struct ramet_error *err)
{
    if (!route->takes_body)
        return request->body_size == 0
                   ? 0
                   : ramet_error_set(err, RAMET_INVALID, "%s %s takes no body", route->method, route->path);
    if (request->body_size == 0) {
        *ret = ramet_json_object();
        return *ret ? 0 : ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a request");
    }
    if (!is_json(request->content_type)) {
        response->status = 415;
        ramet_error_set(err, RAMET_INVALID, "a body of type \"%.100s\" is not understood", request->content_type);
        return ramet_error_hint(err, "send JSON with the header 'Content-Type: application/json'");
    }
    int rc = ramet_json_parse(request->body, request->body_size, ret, err);
    if (rc == 0 && !ramet_json_is_object(*ret))
        rc = ramet_error_set(err, RAMET_INVALID, "the body must be a JSON object");
    return rc;
}

int ramet_call_query(const struct ramet_call *call, const char *name, const char **ret, struct ramet_error *err)
{
    for (size_t i = 0; i < call->request->query_count; i++)
        if (strcmp(call->request->query[i].name, name) == 0 && *call->request->query[i].value) {
            *ret = call->request->query[i].value;
            return 0;
        }
    return ramet_error_set(err, RAMET_INVALID, "query parameter \"%s\" is missing", name);
}

int ramet_call_query_u64(const struct ramet_call *call, const char *name, uint64_t min, uint64_t max, uint64_t *ret,
                         struct ramet_error *err)
{
    const char *text;
    char *end;
    if (ramet_call_query(call, name, &text, NULL) < 0)
        return 0;
    errno = 0;
    uint64_t value = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || errno || value < min || value > max)
        return ramet_error_set(err, RAMET_INVALID,
                               "query parameter \"%s\": \"%.30s\" is no integer from %" PRIu64 " to %" PRIu64, name,
                               text, min, max);
    *ret = value;
    return 0;
}

/* ---- answering ---- */

static int answer_json(const struct ramet_route *route, const struct ramet_json *answer,
                       struct ramet_http_response *response, struct ramet_error *err)
{
    char *text = ramet_json_text(answer);
    if (!text)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for the answer of %s", route->operation);
    response->status = route->status;
    response->content_type = "application/json";
    response->body = text;
    response->body_size = strlen(text);
    return 0;
}

static int answer_stream(const struct ramet_route *route, const struct ramet_call *call,
                         struct ramet_http_response *response, struct ramet_error *err)
{
    int rc = route->stream(call, response, err);
    if (rc == 0) {
        response->status = route->status;
        response->content_type = route->text_type;
    }
    return rc;
}

static int answer_text(const struct ramet_route *route, const struct ramet_call *call,
                       struct ramet_http_response *response, struct ramet_error *err)
{
    char *text = NULL;
    if (route->stream)
        return answer_stream(route, call, response, err);
    int rc = route->write ? route->write(call, &text, err) : 0;
    if (rc < 0)
        return rc;
    response->body = route->write ? text : strdup(route->text);
    if (!response->body)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for the answer of %s", route->operation);
    response->body_size = strlen(response->body);
    response->status = route->status;
    response->content_type = route->text_type;
    return 0;
}

/* The handler between the gate's two questions. `failure` is what is wrong with the request already, or 0. */
static int pass(const struct ramet_router *router, const struct ramet_route *route, const struct ramet_call *call,
                int failure, struct ramet_http_response *response, struct ramet_json **ret, struct ramet_error *err)
{
    const struct ramet_router_gate *gate = router->gate;
    struct ramet_ticket ticket = {0};
    struct ramet_error refused = {0};
    int rc = gate ? gate->enter(gate->context, route, call, &ticket, &refused) : 0;
    if (rc < 0) {
        *err = refused;
        response->status = 0;
        return rc;
    }
    struct ramet_call judged = *call;
    judged.param = *ticket.param ? ticket.param : call->param;
    if (failure == 0)
        failure = route->handler ? route->handler(&judged, ret, err) : answer_text(route, &judged, response, err);
    rc = gate ? gate->leave(gate->context, route, &judged, &ticket, failure < 0 ? NULL : *ret, failure < 0 ? err : NULL,
                            &refused)
              : 0;
    if (failure < 0 || rc == 0)
        return failure;
    if (response->stream.close) { /* begun, and not to be sent */
        response->stream.close(response->stream.context);
        memset(&response->stream, 0, sizeof response->stream);
    }
    *err = refused;
    return rc;
}

/* The trace id of "00-TRACE-SPAN-FLAGS", as W3C Trace Context has it. */
static const char *trace_id(const char *traceparent, char ret[static 33])
{
    *ret = '\0';
    if (traceparent && strlen(traceparent) >= 55 && traceparent[2] == '-' && traceparent[35] == '-')
        snprintf(ret, 33, "%.32s", traceparent + 3);
    return strspn(ret, "0123456789abcdef") == 32 ? ret : NULL;
}

static int answer(const struct ramet_router *router, const struct ramet_http_request *request,
                  struct ramet_http_response *response, struct ramet_error *err)
{
    struct params params;
    char trace[33];
    int status = 0;
    _cleanup_(ramet_json_cleanup) struct ramet_json *body = NULL;
    _cleanup_(ramet_json_cleanup) struct ramet_json *result = NULL;
    const struct ramet_route *route = find(router, request, &params, response, err);
    if (!route)
        return -err->code;
    *response->allow = '\0';
    int rc = check_query(route, request, err);
    if (rc == 0 && !route->raw && !route->streams_body)
        rc = read_body(route, request, response, &body, err);
    const struct ramet_origin origin = {.client = ramet_http_header(request, "User-Agent"),
                                        .trace = trace_id(ramet_http_header(request, "traceparent"), trace)};
    const struct ramet_call call = {.context = router->context,
                                    .principal = &request->principal,
                                    .origin = &origin,
                                    .param = params.values[0],
                                    .param2 = params.values[1],
                                    .body = body,
                                    .request = request,
                                    .ret_status = &status};
    if (route->raw)
        return rc < 0 ? rc : route->raw(&call, response, err);
    rc = pass(router, route, &call, rc, response, &result, err);
    if (rc == 0 && status)
        response->status = status;
    return rc < 0 || !route->handler ? rc : answer_json(route, result, response, err);
}

void ramet_router_handle(void *router, const struct ramet_http_request *request, struct ramet_http_response *response)
{
    struct ramet_error err = {0};
    if (answer(router, request, response, &err) < 0)
        ramet_http_answer_error(response, response->status, &err);
}

int ramet_router_admit(void *router, struct ramet_http_request *request, struct ramet_http_response *response,
                       struct ramet_error *err)
{
    const struct ramet_router_gate *gate = ((const struct ramet_router *)router)->gate;
    struct ramet_http_response unsaid = {0};
    struct ramet_error unheard = {0};
    struct params params;
    int rc = gate ? gate->admit(gate->context, request, response, err)
                  : ramet_http_admit_owner(NULL, request, response, err);
    const struct ramet_route *route = rc == 0 ? find(router, request, &params, &unsaid, &unheard) : NULL;
    request->streams_body = route && route->streams_body;
    return rc;
}

/* ---- calls from within ---- */

const struct ramet_route *ramet_router_find(const struct ramet_router *router, const char *operation)
{
    for (size_t i = 0; i < router->count; i++)
        if (strcmp(router->routes[i].operation, operation) == 0)
            return &router->routes[i];
    return NULL;
}

int ramet_router_call(const struct ramet_router *router, const struct ramet_inner_call *inner, struct ramet_json **ret,
                      struct ramet_error *err)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *none = ramet_json_object();
    _cleanup_(ramet_json_cleanup) struct ramet_json *result = NULL;
    const struct ramet_route *route = ramet_router_find(router, inner->operation);
    struct ramet_http_response response = {0};
    if (!route || !route->handler)
        return ramet_error_set(err, RAMET_INTERNAL, "no operation \"%s\"", inner->operation);
    struct ramet_http_request request = {
        .method = route->method, .path = route->path, .content_type = "", .body = "", .principal = *inner->principal};
    for (size_t i = 0; i < 2 && inner->query[i].name; i++) {
        request.query[request.query_count].name = inner->query[i].name;
        request.query[request.query_count++].value = inner->query[i].value;
    }
    const struct ramet_call call = {.context = router->context,
                                    .principal = inner->principal,
                                    .origin = inner->origin,
                                    .param = inner->param ? inner->param : "",
                                    .param2 = "",
                                    .body = !route->takes_body ? NULL
                                            : inner->body      ? inner->body
                                                               : none,
                                    .request = &request};
    int rc = pass(router, route, &call, 0, &response, &result, err);
    if (rc == 0)
        *ret = STEAL(result);
    return rc;
}

void ramet_router_print(const struct ramet_router *router, FILE *out)
{
    for (size_t i = 0; i < router->count; i++)
        fprintf(out, "%s %s %s\n", router->routes[i].method, router->routes[i].path, router->routes[i].operation);
}
