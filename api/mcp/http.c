/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streamable HTTP. Which era a POST is of is told by its header, else by its "_meta",
 * else by its method; what both carry must be equal. No state but the sessions'.
 */
#include "http.h"

#include "base/cleanup.h"
#include "base64.h"
#include "json.h"
#include "mcp/private.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

/* ---- answers ---- */

static void answer_json(struct ramet_http_response *response, int status, struct ramet_json *message)
{
    response->status = status;
    response->content_type = "application/json";
    response->body = ramet_json_text(message);
    response->body_size = response->body ? strlen(response->body) : 0;
    ramet_json_free(message);
}

static void answer_error(struct ramet_http_response *response, const struct ramet_json *id,
                         struct ramet_jsonrpc_error *error)
{
    int status = error->http ? error->http : 200;
    answer_json(response, status, ramet_jsonrpc_failure(id, error));
}

/* ---- headers ---- */

/* Whether the header says `text`, in clear or as "=?base64?...?=". */
static bool header_says(const char *header, const char *text)
{
    static const char begin[] = "=?base64?", end[] = "?=";
    header = header ? header + strspn(header, " \t") : "";
    size_t size = strlen(header);
    while (size && (header[size - 1] == ' ' || header[size - 1] == '\t'))
        size--; /* what stands around a value is not of it */
    if (strncmp(header, begin, sizeof begin - 1) != 0 || size < sizeof begin + sizeof end - 2 ||
        memcmp(header + size - 2, end, 2) != 0)
        return size == strlen(text) && memcmp(header, text, size) == 0;
    _autofree_ char *inner = strndup(header + sizeof begin - 1, size - (sizeof begin - 1) - (sizeof end - 1));
    _autofree_ char *decoded = NULL;
    size_t decoded_size = 0;
    return inner && ramet_base64_decode(inner, &decoded, &decoded_size, NULL) == 0 && decoded_size == strlen(text) &&
           memcmp(decoded, text, decoded_size) == 0;
}

static int mismatch(struct ramet_jsonrpc_error *error, const char *header, const char *body)
{
    return ramet_jsonrpc_fail(error, RAMET_JSONRPC_HEADER_MISMATCH, 400,
                              "the header %s is missing or not \"%.80s\" as in the body", header, body);
}

/* What Mcp-Name repeats; NULL: nothing. */
static const char *name_of(const struct ramet_jsonrpc_message *message)
{
    const char *method = message->method;
    if (strcmp(method, "tools/call") == 0 || strcmp(method, "prompts/get") == 0)
        return ramet_json_str(message->params, "name", NULL);
    return strcmp(method, "resources/read") == 0 ? ramet_json_str(message->params, "uri", NULL) : NULL;
}

static int check_modern(const struct ramet_http_request *request, const struct ramet_jsonrpc_message *message,
                        struct ramet_jsonrpc_error *error)
{
    const struct ramet_json *meta = ramet_json_get(message->params, "_meta");
    const char *version = ramet_json_str(meta, META "protocolVersion", NULL), *name = name_of(message);
    const char *header = ramet_http_header(request, "MCP-Protocol-Version");
    if (version && (!header || strcmp(header, version) != 0))
        return mismatch(error, "MCP-Protocol-Version", version);
    int rc = ramet_mcp_check_meta(message, error);
    if (rc < 0)
        return rc;
    if (!header_says(ramet_http_header(request, "Mcp-Method"), message->method))
        return mismatch(error, "Mcp-Method", message->method);
    if (name && !header_says(ramet_http_header(request, "Mcp-Name"), name))
        return mismatch(error, "Mcp-Name", name);
    return 0;
}

static bool is_modern(const struct ramet_http_request *request, const struct ramet_jsonrpc_message *message)
{
    const char *header = ramet_http_header(request, "MCP-Protocol-Version");
    const struct ramet_json *meta = ramet_json_get(message->params, "_meta");
    if (ramet_json_get(meta, META "protocolVersion") || ramet_json_get(meta, META "clientCapabilities"))
        return true;
    if (header)
        return !ramet_mcp_version_known(header) && (!message->method || strcmp(message->method, "initialize") != 0);
    return message->method && strcmp(message->method, "server/discover") == 0;
}

static bool accepts(const struct ramet_http_request *request, const char *type)
{
    const char *accept = ramet_http_header(request, "Accept");
    return accept && (strcasestr(accept, type) || strstr(accept, "*/*"));
}

/* ---- sessions ---- */

/* Finds the session that the request names. -1: it has been answered. */
static int find_session(struct ramet_mcp *mcp, const struct ramet_http_request *request,
                        struct ramet_http_response *response, const struct ramet_json *id,
                        struct ramet_mcp_session **ret)
{
    struct ramet_jsonrpc_error error = {0};
    const char *name = ramet_http_header(request, "Mcp-Session-Id");
    *ret = name ? ramet_mcp_session_find(mcp->sessions, name, &request->principal) : NULL;
    if (!name || *ret)
        return 0;
    ramet_jsonrpc_fail(&error, RAMET_JSONRPC_INVALID_REQUEST, 404, "no such session; initialize anew");
    answer_error(response, id, &error);
    return -1;
}

static void delete_session(struct ramet_mcp *mcp, const struct ramet_http_request *request,
                           struct ramet_http_response *response)
{
    struct ramet_mcp_session *session = NULL;
    const char *version = ramet_http_header(request, "MCP-Protocol-Version");
    if ((version && strcmp(version, RAMET_MCP_MODERN) == 0) || !ramet_http_header(request, "Mcp-Session-Id")) {
        response->status = 405;
        strcpy(response->allow, "POST");
    } else if (find_session(mcp, request, response, NULL, &session) == 0) {
        ramet_mcp_session_remove(mcp->sessions, session);
        ramet_mcp_session_unref(session);
        response->status = 204;
    }
}

/* ---- POST ---- */

static struct ramet_mcp_exchange *exchange_new(struct ramet_mcp *mcp, const struct ramet_http_request *request,
                                               struct ramet_jsonrpc_message *message, bool modern)
{
    struct ramet_mcp_exchange *x = calloc(1, sizeof *x);
    const char *agent = ramet_http_header(request, "User-Agent"), *parent = ramet_http_header(request, "traceparent");
    if (!x)
        return NULL;
    x->mcp = mcp;
    x->principal = request->principal;
    x->modern = modern;
    x->message = *message;
    *message = (struct ramet_jsonrpc_message){0};
    const struct ramet_json *info = ramet_json_get(ramet_json_get(x->message.params, "_meta"), META "clientInfo");
    if (info)
        snprintf(x->client, sizeof x->client, "%s/%s", ramet_json_str(info, "name", "unknown"),
                 ramet_json_str(info, "version", ""));
    else
        snprintf(x->client, sizeof x->client, "%s", agent ? agent : "");
    if (parent && strlen(parent) >= 55)
        snprintf(x->trace, sizeof x->trace, "%.32s", parent + 3);
    ramet_jsonrpc_id_text(x->message.id, x->id, sizeof x->id);
    return x;
}

static void listen_for_changes(struct ramet_mcp_exchange *x, struct ramet_http_response *response)
{
    struct ramet_jsonrpc_error error = {0};
    struct ramet_mcp_stream *stream = ramet_mcp_stream_new();
    int rc = stream ? ramet_mcp_listen(x, stream, &error)
                    : ramet_jsonrpc_fail(&error, RAMET_JSONRPC_INTERNAL, 503, "no memory for a stream");
    if (rc < 0)
        answer_error(response, x->message.id, &error);
    else
        ramet_mcp_stream_answer(stream, response);
    ramet_mcp_stream_unref(stream);
    ramet_mcp_exchange_free(x);
}

static void answer_request(struct ramet_mcp_exchange *x, const struct ramet_http_request *request,
                           struct ramet_http_response *response)
{
    struct ramet_error err = {0};
    int status = 200;
    if (x->session && !request->connection)
        x->client[0] = '\0';
    if (x->modern && strcmp(x->message.method, "subscriptions/listen") == 0) {
        listen_for_changes(x, response);
        return;
    }
    if (accepts(request, "text/event-stream") && ramet_mcp_talks(x)) {
        if (ramet_mcp_talk_start(x, response, &err) == 0)
            return;
        struct ramet_jsonrpc_error error = {.code = RAMET_JSONRPC_INTERNAL, .http = 503};
        snprintf(error.message, sizeof error.message, "%s", err.msg);
        answer_error(response, x->message.id, &error);
    } else {
        bool begins = !x->modern && strcmp(x->message.method, "initialize") == 0;
        struct ramet_json *answer = ramet_mcp_answer(x, &status);
        if (begins && x->session)
            ramet_http_add_header(response, "Mcp-Session-Id", ramet_mcp_session_id(x->session));
        answer_json(response, status, answer);
    }
    ramet_mcp_exchange_free(x);
}

/* A message of the legacy era: its session, if it names one, and whether its version can be spoken. */
static int check_legacy(struct ramet_mcp *mcp, const struct ramet_http_request *request,
                        struct ramet_http_response *response, const struct ramet_jsonrpc_message *message,
                        struct ramet_mcp_session **ret_session)
{
    const char *version = ramet_http_header(request, "MCP-Protocol-Version");
    struct ramet_jsonrpc_error error = {0};
    bool begins = message->method && strcmp(message->method, "initialize") == 0;
    if (version && !begins && !ramet_mcp_version_known(version)) {
        ramet_jsonrpc_fail(&error, RAMET_JSONRPC_INVALID_REQUEST, 400,
                           "MCP-Protocol-Version \"%.40s\" is not supported", version);
        answer_error(response, message->id, &error);
        return -1;
    }
    return begins ? 0 : find_session(mcp, request, response, message->id, ret_session);
}

static void post_message(struct ramet_mcp *mcp, const struct ramet_http_request *request,
                         struct ramet_http_response *response, struct ramet_jsonrpc_message *message)
{
    struct ramet_jsonrpc_error error = {0};
    struct ramet_mcp_session *session = NULL;
    bool modern = message->kind != RAMET_JSONRPC_RESPONSE && is_modern(request, message);
    if (modern && message->kind == RAMET_JSONRPC_REQUEST && check_modern(request, message, &error) < 0) {
        answer_error(response, message->id, &error);
        return;
    }
    if (!modern && check_legacy(mcp, request, response, message, &session) < 0)
        return;
    if (message->kind != RAMET_JSONRPC_REQUEST) {
        if (session && message->kind == RAMET_JSONRPC_RESPONSE)
            ramet_mcp_session_response(session, message->id, message->result);
        ramet_mcp_session_unref(session);
        response->status = 202;
        return;
    }
    struct ramet_mcp_exchange *x = exchange_new(mcp, request, message, modern);
    if (!x) {
        ramet_mcp_session_unref(session);
        response->status = 503;
        return;
    }
    x->session = session;
    if (session && !*x->client)
        snprintf(x->client, sizeof x->client, "%s", ramet_mcp_session_client(session));
    answer_request(x, request, response);
}

static void post(struct ramet_mcp *mcp, const struct ramet_http_request *request, struct ramet_http_response *response)
{
    struct ramet_jsonrpc_message message;
    struct ramet_jsonrpc_error error = {0};
    static const char type[] = "application/json";
    size_t size = strcspn(request->content_type, "; \t");
    if (size != sizeof type - 1 || strncasecmp(request->content_type, type, size) != 0) {
        ramet_jsonrpc_fail(&error, RAMET_JSONRPC_INVALID_REQUEST, 415,
                           "send JSON with the header 'Content-Type: application/json'");
        answer_error(response, NULL, &error);
        return;
    }
    if (ramet_jsonrpc_parse(request->body, request->body_size, &message, &error) < 0)
        answer_error(response, message.id, &error);
    else
        post_message(mcp, request, response, &message);
    ramet_jsonrpc_clear(&message);
}

void ramet_mcp_http(struct ramet_mcp *mcp, const struct ramet_http_request *request,
                    struct ramet_http_response *response)
{
    if (strcmp(request->method, "POST") == 0) {
        post(mcp, request, response);
    } else if (strcmp(request->method, "DELETE") == 0) {
        delete_session(mcp, request, response);
    } else { /* GET: nothing is said that is no answer */
        response->status = 405;
        strcpy(response->allow, "POST, DELETE");
    }
}
